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
import warnings
from collections import Counter
from fractions import Fraction

from verify.quantities import KNOWN, LONGEST_ANSWER, STYLED, factor, number, plain, quantity, tail, unit_of

# --- math: equal? -----------------------------------------------------------------------------------------------------

BASED = re.compile(r"(\w+?)_\{?(\d+)\}?")  # 1200_7: a number in base 7
NAMED = re.compile(r"^[\s$]*[a-zA-Z](?:_\{?\w+\}?)?\s*=(?!.*=)", re.DOTALL)  # the x = of x = 5
JUXTAPOSED = re.compile(r"\d\s*(?:\\q?quad|\$\$|\s)\s*\[?\d|\d[x_]\d|\\approx|\\sim\b")  # "2 \quad 3", "5 \approx 6"


def juxtaposed(text: str) -> bool:
    """Do two numbers stand side by side? Those of `\\frac 1 2` and `\\log_2 8` do not."""
    return JUXTAPOSED.search(re.sub(r"\\[dtc]?frac\s*\d\s+\d|\\log_\d", "", text)) is not None


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
    if words(answer) == words(gold) != "":
        return True
    if ("=" in answer) != ("=" in gold):
        answer, gold = (NAMED.sub("", text) for text in (answer, gold))
    (a, unit), (b, gold_unit) = quantity(answer), quantity(gold)
    if a and b and None not in (unit, gold_unit):
        names = {unit.removesuffix("?"), gold_unit.removesuffix("?")}
        unsure = unit.endswith("?") or gold_unit.endswith("?")  # only what is the same is equal
        if "?" in (unit, gold_unit) or (len(names) == 2 and (unsure or "" not in names)):
            return False  # "18 and a half"; metres are not centimetres
        return bool(a & b) and not (len(a) == len(b) == 2 and a != b)  # of two percentages, 1 % is not 100 %
    if factor(answer) not in gold:
        return False
    ends = [tail(text) for text in (answer, gold)]  # math-verify leaves words out
    if ends[0] and words(ends[0]) != words(ends[1]):
        unit, gold_unit = map(unit_of, ends)
        if unit is None or (gold_unit and unit != gold_unit):
            return False
    inside = [{KNOWN.get(word.strip()) for word in STYLED.findall(text)} - {None} for text in (answer, gold)]
    if all(inside) and inside[0] != inside[1]:  # (5 \text{ cm}, 1)
        return False
    based = [BASED.fullmatch(text.strip("$ ")) for text in (answer, gold)]
    if based[0]:  # math-verify does not see the base
        return based[1] is not None and based[0].groups() == based[1].groups()
    if juxtaposed(answer) and not juxtaposed(gold):
        return False  # math-verify adds "2 \\quad 3" up, as a mixed number, and reads 5 in "5 \\approx 6"
    if letter(gold) and letter(answer):
        return letter(answer) == letter(gold)
    return None


def number_equal(answer: str, gold: str) -> bool:
    """True if both are plain numbers and equal. No expression is worked out: `\\boxed{7+8}` is not 15."""
    a = number(answer)
    return a is not None and a == number(gold)


# --- choice, literal, countdown ---------------------------------------------------------------------------------------


OTHER = re.compile(  # names an option behind the first: "or B", "/B", "and B" at the end, "(B)", "B) 12", "B. 12"
    r"^\s*(?:or\b|and\b|nor\b|but\b|not\b|[/,&|;+]|-(?=\s*\(?[A-J]\b))|\b(?:or|and|not)\s+(?:option\s+)?\(?[A-J]\)?[\s.]*$"
    r"|\([A-J]\)|(?<![\w-])[A-J](?:\)|[.:]\s+\w)"
)


def letter(answer: str) -> str | None:
    """The letter of an option, A to J: of `B`, `(B)`, `\\text{(B)}`, `B) 12`, `B. twelve`; else None."""
    text = STYLED.sub(r"\1", answer).strip()
    if len(text) > LONGEST_ANSWER:
        return None
    match = re.fullmatch(r"\(?([A-J])(?:\)?|[).:]\s(.*)|\)(.*))\.?", text, re.DOTALL)
    if match is None or OTHER.search((match[2] or "") + (match[3] or "")):
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
            # The style is that of the whole answer: inside of a text, a $ is a $.
            text = re.sub(r"^[$\s`]*\\(?:text|texttt|mathtt|mathrm)\{(.*)\}[$\s`]*$", r"\1", answer, flags=re.DOTALL)
            return ast.literal_eval(text.strip(" \t\n`$"))
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


SIGNS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "\\left": "", "\\right": "", "[": "(", "]": ")"}
SIGNS |= dict.fromkeys("∗✕", "*")  # plain() knows the others
SIGNS |= dict.fromkeys(["\\,", "\\;", "\\:", "\\!", "\\ ", "~"], " ")
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def worked(node: ast.AST, used: list[int]) -> Fraction:
    """The exact value of a parsed expression of whole numbers and + - * /. Its numbers are added to the list `used`.

    ValueError for anything else: no powers, no calls, no names. ZeroDivisionError as ever.
    """
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = worked(node.operand, used)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](worked(node.left, used), worked(node.right, used))
    raise ValueError(f"{type(node).__name__} has no place in a countdown")


def countdown_equal(answer: str, gold: str) -> bool:
    """True if the expression makes the target and uses each number once. gold: {"target": 24, "nums": [1, 2, 3]}.

    In a chain of equations, (1+3)*6 = 4*6 = 24, every side must make the target, and one must use the numbers.
    """
    puzzle = json.loads(gold)
    if len(answer) > LONGEST_ANSWER:
        return False
    text, fractions = plain(answer.strip(" $")), 1
    while fractions:  # from the inside
        text, fractions = re.subn(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
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
