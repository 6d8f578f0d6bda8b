"""answers.py: do two answers say the same?

What can be decided by reading alone: numbers, fractions and percentages exactly, answers in words, the letter of an
option, Python literals, and expressions of the countdown game. Nothing is ever given to `eval`: numbers are read by
regular expressions, values by ast.literal_eval, expressions by walking a parsed tree of which every node is on a list.
"""

import ast
import json
import operator
import re
import unicodedata
import warnings
from collections import Counter
from fractions import Fraction

LONGEST_ANSWER = 1000  # characters; no gold of MATH or GSM8K is longer than 160, and longer text is no answer


# --- math -----------------------------------------------------------------------------------------------------------

# Symbols of Unicode that people and models write, and their commands.
SYMBOLS = {
    "\u2212": "-",
    "\u2013": "-",
    "\u2044": "/",
    "\u221e": "\\infty ",
    "\u03c0": "\\pi ",
    "\u2205": "\\emptyset ",
}
SYMBOLS |= {"\u00b7": "\\cdot ", "\u00d7": "\\times ", "\u00f7": "\\div ", "\u00b0": "^\\circ ", "\u00ba": "^\\circ "}
SYMBOLS |= {"\u2264": "\\le ", "\u2265": "\\ge ", "\u222a": "\\cup ", "\u00bd": "\\frac12 ", "\u00bc": "\\frac14 "}
SYMBOLS |= {
    power: f"^{{{i}}}" for i, power in enumerate("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
}


def plain(answer: str) -> str:
    """An answer in ASCII and LaTeX, without a full stop at its end."""
    text = re.sub("\u221a\\s*(\\w+|\\([^()]*\\))", r"\\sqrt{\1}", answer)
    # First of all the powers: for NFKC, which mends full-width digits, a raised 2 is a 2.
    text = unicodedata.normalize("NFKC", "".join(SYMBOLS.get(character, character) for character in text))
    return re.sub(r"(?:\s|[.,;]|\\\\)+$", "", text)


NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)?(\.\d+)?")
FRACTION = re.compile(r"([-+]?)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac(\d)(\d)|(\d+)/(\d+))")
# Currency signs, small spaces, the ending of an ordinal, a full stop.
ORDINAL = r"\^\s*\{?\s*\\(?:text|mathrm|textrm)\s*\{(?:st|nd|rd|th)\}\s*\}?"
FILLING = re.compile(rf"\\text\{{\s*\\\$\s*\}}|\\[,!;: ]|^\\?\$\s*|\s*\\?\$$|{ORDINAL}|\.$")
PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*percent\s*\}|percent)$")
BASED = re.compile(r"(\w+?)_\{?(\d+)\}?")  # 1200_7
JUXTAPOSED = re.compile(r"\d\s*(?:\\q?quad|\$\$|\s)\s*\[?\d|\d[x_]\d|\\approx|\\sim\b")
STYLED = re.compile(r"\\(?:text|textbf|mathrm|textrm|mathbf|mbox)\s*\{([^{}]*)\}|[$]")
# Words behind a number: a unit, unless they may change its value.
NAMED = (
    r"(?:\\(?:text|mathrm|textrm|textbf|mbox)\s*\{[^{}]*\}|(?<=[\s~\d])(?:[a-zA-Z]{3,}|cm|mm|km|kg|ft|in|m|g|s|h))\.?"
)
UNIT = re.compile(rf"(?:(?:\s|~|\\[,;: ])*{NAMED}(?:\s*\^\s*\{{?[23]\}}?)?(?:/(?:[a-zA-Z]+(?:\^\{{?[23]\}}?)?))?)+$")
SHARES = "hundred|thousand|million|billion|trillion|dozen|percent|half|halves|thirds?|quarters?|score"
NO_UNIT = re.compile(
    rf"(?<![a-z])(?:{SHARES}|and|or|squared|cubed|plus|minus|times|over|factorial|base|mod|modulo|sqrt|pi|inf|[iexk!])(?![a-z])",
    re.IGNORECASE,
)


def measured(answer: str) -> tuple[str, str]:
    """(number, unit) of an answer: ("18", "dollars"); the unit is "" if there is none that leaves the number alone."""
    text = answer.strip().strip("*").strip()
    unit = UNIT.search(text) if len(text) <= LONGEST_ANSWER else None
    if unit is None or NO_UNIT.search(unit[0]) or not values(text[: unit.start()]):
        return text, ""
    return text[: unit.start()], re.sub(r"square|cubic|sq\b|[^a-z/]|s\b", "", STYLED.sub(r"\1", unit[0]).lower())


def number(answer: str) -> Fraction | None:
    """The exact value of a plain number or fraction (`-1,234.50`, `3/4`, `\\frac{3}{4}`, `\\$5`), else None."""
    if len(answer) > LONGEST_ANSWER:
        return None
    text = plain(answer).strip()
    text = FILLING.sub("", text.replace("{,}", ","))
    if len(text) > 100:  # Fraction of a million digits takes minutes
        return None
    if (match := FRACTION.fullmatch(text)) is not None:
        top, bottom = (int(part) for part in match.groups()[1:] if part is not None)
        return None if bottom == 0 else Fraction(top if match[1] != "-" else -top, bottom)
    match = NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return None
    return Fraction(f"{match[1]}{re.sub('[, ]', '', match[2] or '0')}{match[3] or ''}")


def values(answer: str) -> set[Fraction]:
    """The numbers that an answer may mean, none if it is no number. 28 % is 0.28, or 28 where percent are meant."""
    if len(answer) > LONGEST_ANSWER:
        return set()
    if (percent := PERCENT.search(answer)) is not None:
        value = number(answer[: percent.start()])
        return set() if value is None else {value, value / 100}
    value = number(answer)
    return set() if value is None else {value}


def words(answer: str) -> str:
    """An answer as text, without its LaTeX style: `\\text{No solution.}` is "no solution"."""
    text = " ".join(STYLED.sub(r"\1", answer).replace("~", " ").strip().rstrip(".").split())
    text = re.sub(r" ?, ?", ",", text)
    return text.lower() if re.search(r"[a-zA-Z]{3}", text) else text


def math_equal(answer: str, gold: str) -> bool | None:
    """True if two mathematical answers are the same, False if not, None if only math-verify can say.

    Numbers, fractions and percentages are decided here, exactly. A unit behind a number counts for nothing if the gold
    has none; a gold that is an option's letter is met by the option.
    """
    if answer == gold:
        return True
    if len(answer) > LONGEST_ANSWER:
        return False
    (size, unit), (gold_size, gold_unit) = measured(answer), measured(gold)
    a, b = values(size), values(gold_size)
    if a and b:
        if unit and gold_unit and not (unit.startswith(gold_unit) or gold_unit.startswith(unit)):
            return False  # metres are not centimetres; "m" may be either of metres and miles
        return bool(a & b) and not (len(a) == len(b) == 2 and a != b)
    if b and (part := UNIT.search(size)) and NO_UNIT.search(part[0]) and values(size[: part.start()]):
        return False  # "18 and a half"; math-verify would leave the words out
    if words(answer) == words(gold) != "":
        return True
    based = [BASED.fullmatch(text.strip("$ ")) for text in (answer, gold)]
    if based[0]:  # math-verify does not see the base
        return based[1] is not None and based[0].groups() == based[1].groups()
    if JUXTAPOSED.search(answer) and not JUXTAPOSED.search(gold):
        return False  # math-verify adds "2 \\quad 3" up, as a mixed number, and reads 5 in "5 \\approx 6"
    if letter(gold) and letter(answer):
        return letter(answer) == letter(gold)
    return None


def number_equal(answer: str, gold: str) -> bool:
    """True if both are plain numbers and equal: no expression is worked out, so `\\boxed{7+8}` is not 15."""
    a = number(answer)
    return a is not None and a == number(gold)


# --- choice, literal, countdown --------------------------------------------------------------------------------------


def letter(answer: str) -> str | None:
    """The letter of an option, A to J: `B`, `(B)`, `\\text{(B)}`, `B) 12`, `B. twelve`; else None."""
    text = STYLED.sub(r"\1", answer).strip()
    match = re.fullmatch(r"\(?([A-J])(?:\)?|[).:]\s(.*)|\)(.*))\.?", text[:LONGEST_ANSWER], re.DOTALL)
    if match is None or re.search(r"\b[A-J]\b", (match[2] or "") + (match[3] or "")):
        return None  # two letters are no choice
    return match[1]


def choice_equal(answer: str, gold: str) -> bool:
    """True if the answer names the gold's option."""
    return letter(answer) is not None and letter(answer) == letter(gold)


def literal(answer: str):
    """The Python value that an answer writes down. Raises ValueError if it writes none."""
    if len(answer) > 10 * LONGEST_ANSWER:
        raise ValueError("too long for a value")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python will not know some day
        try:
            return ast.literal_eval(STYLED.sub(r"\1", answer).strip(" \t\n`"))
        except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(f"not a value: {type(error).__name__}") from None


def same(a, b) -> bool:
    """Equal, and of the same type all the way down: True is not 1, and 1 is not 1.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):  # the order of its keys does not matter
        return len(a) == len(b) and all(any(same(x, y) for y in b.items()) for x in a.items())
    if isinstance(a, set):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return a == b


def literal_equal(answer: str, gold: str) -> bool:
    """True if the answer is a Python literal of the gold's type and value."""
    try:
        return same(literal(answer), literal(gold))
    except ValueError:
        return False


SIGNS = {"\\times": "*", "\\cdot": "*", "\u00d7": "*", "\\div": "/", "\u00f7": "/", "\u2212": "-"}
SIGNS |= {"\\left": "", "\\right": "", "[": "(", "]": ")"}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def worked(node: ast.AST, used: list[int]) -> Fraction:
    """The exact value of a parsed expression of whole numbers and + - * /; its numbers are added to `used`.

    ValueError for any other node: no powers, no calls, no names.
    """
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -worked(node.operand, used)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](worked(node.left, used), worked(node.right, used))
    raise ValueError(f"{type(node).__name__} has no place in a countdown")


def countdown_equal(answer: str, gold: str) -> bool:
    """True if the expression makes the target and uses each number once. gold: {"target": 24, "nums": [1, 2, 3]}."""
    puzzle = json.loads(gold)
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", answer[:LONGEST_ANSWER].strip(" $"))
    for sign, written in SIGNS.items():
        text = text.replace(sign, written)
    uses = []
    for side in text.rstrip(".").split("="):  # "1 + 2 = 3", or "3 = 1 + 2"; each side must come to the target
        used: list[int] = []
        try:
            value = worked(ast.parse(side.strip(), mode="eval").body, used)
        except (ValueError, SyntaxError, ZeroDivisionError, RecursionError, MemoryError):
            return False
        if value != puzzle["target"]:
            return False
        uses.append(Counter(used))
    return Counter(puzzle["nums"]) in uses
