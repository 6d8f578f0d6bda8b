"""answers.py: do two answers say the same?

Here is what can be decided by reading alone: numbers, fractions and percentages (exactly), answers in words, letters of
options, Python literals, and expressions of the countdown game. What is left goes to math-verify (math_worker.py).

Nothing is ever given to `eval`: regular expressions read numbers, ast.literal_eval reads values, and a countdown's
expression is parsed and worked out node by node, where only numbers, minus and + - * / are allowed.
"""

import ast
import json
import operator
import re
import unicodedata
import warnings
from collections import Counter
from fractions import Fraction

LONGEST_ANSWER = 1000  # characters. The longest gold of MATH and GSM8K has 160; a longer text is no answer.


# --- math: how people write numbers -----------------------------------------------------------------------------------

# Symbols that people and models write, and what LaTeX writes for them; a command needs the space behind it.
COMMANDS = "∞ \\infty|π \\pi|∅ \\emptyset|· \\cdot|× \\times|÷ \\div|≤ \\le|≥ \\ge|∪ \\cup|½ \\frac12|¼ \\frac14"
SYMBOLS = str.maketrans(
    {
        **{command[0]: f"{command[2:]} " for command in COMMANDS.split("|")},
        **{power: f"^{{{i}}}" for i, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        **dict.fromkeys("°º", "^\\circ "),  # the degree sign, and the ordinal that is typed for it
        **dict.fromkeys("\u2212\u2013", "-"),  # the minus sign, and the dash that is typed for it
        "\u2044": "/",
    }
)


def plain(answer: str) -> str:
    """An answer in ASCII and LaTeX, without punctuation at its end."""
    text = re.sub("√\\s*(\\w+|\\([^()]*\\))", r"\\sqrt{\1}", answer).translate(SYMBOLS)
    # NFKC mends full-width digits. It comes after the powers, because it would turn a raised 2 into a plain one.
    return re.sub(r"(?:\s|[.,;]|\\\\)+$", "", unicodedata.normalize("NFKC", text))


NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)?(\.\d+)?")  # 12, 1,234, 1 234, .5
FRACTION = re.compile(r"([-+]?)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac(\d)(\d)|(\d+)/(\d+))")
PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*percent\s*\}|percent)$")
ORDINAL = r"\^\s*\{?\s*\\(?:text|mathrm|textrm)\s*\{(?:st|nd|rd|th)\}\s*\}?"  # the "th" of 12^{\text{th}}
# What says nothing around a number: currency signs, small spaces, "th", a full stop.
FILLING = re.compile(rf"\\text\{{\s*\\\$\s*\}}|\\[,!;: ]|^\\?\$\s*|\s*\\?\$$|{ORDINAL}|\.$")
STYLED = re.compile(r"\\(?:text|textbf|mathrm|textrm|mathbf|mbox)\s*\{([^{}]*)\}|[$]")  # \text{No}: the No
# Words behind a number: \text{cm}, dollars, km/h, cm^2 ...
NAMED = (
    r"(?:\\(?:text|mathrm|textrm|textbf|mbox)\s*\{[^{}]*\}|(?<=[\s~\d])(?:[a-zA-Z]{3,}|cm|mm|km|kg|ft|in|m|g|s|h))\.?"
)
UNIT = re.compile(rf"(?:(?:\s|~|\\[,;: ])*{NAMED}(?:\s*\^\s*\{{?[23]\}}?)?(?:/(?:[a-zA-Z]+(?:\^\{{?[23]\}}?)?))?)+$")
# ... are its unit, unless they may change its value: "2 million", "5 squared", "5 \mathrm{i}".
SHARES = "hundred|thousand|million|billion|trillion|dozen|percent|half|halves|thirds?|quarters?|score"
NO_UNIT = re.compile(
    rf"(?<![a-z])(?:{SHARES}|and|or|squared|cubed|plus|minus|times|over|factorial|base|mod|modulo|sqrt|pi|inf|[iexk!])(?![a-z])",
    re.IGNORECASE,
)


def number(answer: str) -> Fraction | None:
    """The exact value of a plain number or fraction (`-1,234.50`, `3/4`, `\\frac{3}{4}`, `\\$5`), else None."""
    if len(answer) > LONGEST_ANSWER:
        return None
    text = FILLING.sub("", plain(answer).strip().replace("{,}", ","))
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
    """The numbers that an answer may mean, none if it is no number. 28 % is 0.28, or 28 where percent are asked for."""
    if len(answer) > LONGEST_ANSWER:
        return set()
    percent = PERCENT.search(answer)
    value = number(answer if percent is None else answer[: percent.start()])
    if value is None:
        return set()
    return {value} if percent is None else {value, value / 100}


def measured(answer: str) -> tuple[str, str]:
    """(number, unit) of an answer: ("18", "dollar") of "18 dollars"; (answer, "") if it is no number with a unit."""
    text = answer.strip().strip("*").strip()
    unit = UNIT.search(text) if len(text) <= LONGEST_ANSWER else None
    if unit is None or NO_UNIT.search(unit[0]) or not values(text[: unit.start()]):
        return text, ""
    # Units are compared by their letters: without powers, "square", and the s of a plural.
    return text[: unit.start()], re.sub(r"square|cubic|sq\b|[^a-z/]|s\b", "", STYLED.sub(r"\1", unit[0]).lower())


# --- math: equal? -----------------------------------------------------------------------------------------------------

BASED = re.compile(r"(\w+?)_\{?(\d+)\}?")  # 1200_7: a number in base 7
JUXTAPOSED = re.compile(r"\d\s*(?:\\q?quad|\$\$|\s)\s*\[?\d|\d[x_]\d|\\approx|\\sim\b")  # "2 \quad 3", "5 \approx 6"


def words(answer: str) -> str:
    """An answer as text, without its LaTeX style: `\\text{No solution.}` is "no solution"."""
    text = " ".join(STYLED.sub(r"\1", answer).replace("~", " ").strip().rstrip(".").split())
    text = re.sub(r" ?, ?", ",", text)
    # Capitals count in short names: the points A and a differ.
    return text.lower() if re.search(r"[a-zA-Z]{3}", text) else text


def math_equal(answer: str, gold: str) -> bool | None:
    """True if two mathematical answers are the same, False if not, None if only math-verify can say.

    Numbers, fractions and percentages are decided here, exactly. A unit does not count where the other side has none.
    A gold that is an option's letter is met by that option.
    """
    if answer == gold:
        return True
    if len(answer) > LONGEST_ANSWER:
        return False
    (size, unit), (gold_size, gold_unit) = measured(answer), measured(gold)
    a, b = values(size), values(gold_size)
    if a and b:
        if unit and gold_unit and not (unit.startswith(gold_unit) or gold_unit.startswith(unit)):
            return False  # metres are not centimetres; but "m" may be metres or miles
        return bool(a & b) and not (len(a) == len(b) == 2 and a != b)  # of two percentages, 1 % is not 100 %
    if b and (part := UNIT.search(size)) and NO_UNIT.search(part[0]) and values(size[: part.start()]):
        return False  # "18 and a half": math-verify would leave the words out
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
    """True if both are plain numbers and equal. No expression is worked out: `\\boxed{7+8}` is not 15."""
    a = number(answer)
    return a is not None and a == number(gold)


# --- choice, literal, countdown ---------------------------------------------------------------------------------------


def letter(answer: str) -> str | None:
    """The letter of an option, A to J: of `B`, `(B)`, `\\text{(B)}`, `B) 12`, `B. twelve`; else None."""
    text = STYLED.sub(r"\1", answer).strip()
    match = re.fullmatch(r"\(?([A-J])(?:\)?|[).:]\s(.*)|\)(.*))\.?", text[:LONGEST_ANSWER], re.DOTALL)
    if match is None or re.search(r"\b[A-J]\b", (match[2] or "") + (match[3] or "")):
        return None  # whoever names two options has not chosen
    return match[1]


def choice_equal(answer: str, gold: str) -> bool:
    """True if the answer names the gold's option."""
    return letter(answer) is not None and letter(answer) == letter(gold)


def literal(answer: str):
    """The Python value that an answer writes down. Raises ValueError if it writes none."""
    if len(answer) > 10 * LONGEST_ANSWER:
        raise ValueError("too long for a value")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of unknown escapes such as "\d"
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
    if isinstance(a, set):  # nor of a set's members; both quadratic, but an answer is short
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return a == b


def literal_equal(answer: str, gold: str) -> bool:
    """True if the answer is a Python literal of the gold's type and value."""
    try:
        return same(literal(answer), literal(gold))
    except ValueError:
        return False


SIGNS = {"\\times": "*", "\\cdot": "*", "×": "*", "\\div": "/", "÷": "/", "\u2212": "-", "[": "(", "]": ")"}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def worked(node: ast.AST, used: list[int]) -> Fraction:
    """The exact value of a parsed expression of whole numbers and + - * /. Its numbers are added to the list `used`.

    ValueError for anything else: no powers, no calls, no names. ZeroDivisionError as ever.
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
    """True if the expression makes the target and uses each number once. gold: {"target": 24, "nums": [1, 2, 3]}.

    In a chain of equations, (1+3)*6 = 4*6 = 24, every side must make the target, and one must use the numbers.
    """
    puzzle = json.loads(gold)
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", answer[:LONGEST_ANSWER].strip(" $"))
    text = re.sub(r"\\left|\\right", "", text)
    for sign, python in SIGNS.items():
        text = text.replace(sign, python)
    numbers = []  # one Counter for each side
    for side in text.rstrip(".").split("="):
        used: list[int] = []
        try:
            value = worked(ast.parse(side.strip(), mode="eval").body, used)
        except (ValueError, SyntaxError, ZeroDivisionError, RecursionError, MemoryError):
            return False
        if value != puzzle["target"]:
            return False
        numbers.append(Counter(used))
    return Counter(puzzle["nums"]) in numbers


# --- search -----------------------------------------------------------------------------------------------------------

VALUE = r"(0|[1-9]\d?)"
STEP = re.compile(rf"{VALUE}([-+*])([1-9])={VALUE}")  # 29*2=58: the value so far, a number of the puzzle, the new value
STEPS = re.compile(rf"{STEP.pattern}(?: {STEP.pattern})*")  # what an answer of toy.py's search world looks like


def search_equal(answer: str, gold: str) -> bool:
    """True if the steps reach the target and use each number once. gold: {"target": 58, "nums": [3, 7, 8, 2]}.

    Each step must be true, begin with the value that the step before it ended in, and stay in 0..99.
    """
    puzzle = json.loads(gold)
    left, value = Counter(puzzle["nums"]), None
    if len(answer) > LONGEST_ANSWER or not STEPS.fullmatch(answer):
        return False
    for start, sign, right, result in STEP.findall(answer):
        a, b = int(start), int(right)
        if value is None:
            left[a] -= 1
        elif a != value:
            return False
        left[b] -= 1
        value = {"+": a + b, "-": a - b, "*": a * b}[sign]
        if value != int(result):
            return False
    return value == puzzle["target"] and not any(left.values())
