"""verify.py: is this answer right?

The answer of a completion is what stands in its last `\\boxed{}` (or behind `####`, GSM8K's mark), outside any
unfinished thought. What counts as equal to the gold depends on the kind of the problem, CHECKERS at the end:

    math        a mathematical expression: numbers, fractions and percentages exactly, the rest by math-verify
    number      a plain number, exactly; no expression is worked out
    choice      the letter of an option (MMLU-Pro)
    literal     a Python value of the same type (CRUXEval, output prediction)
    countdown   an expression that makes the target out of the numbers, each used once
    code        a program that passes its tests (HumanEval, MBPP); run only if that is allowed

A completion may hold anything. Whatever it is, the verdict is True or False, in limited time, and nothing of it is ever
given to `eval`: numbers are read by regular expressions, values by ast.literal_eval, expressions by walking a parsed
tree of which every node is on a list, LaTeX by math-verify in processes that can be killed (workers.py), and programs
run in a process of their own with limits (sandbox.py).

No torch in this file, nor in those two.
"""

import ast
import json
import operator
import re
import warnings
from collections import Counter
from fractions import Fraction

import sandbox
import workers

LONGEST_ANSWER = 1000  # characters; no gold of MATH or GSM8K is longer than 160, and longer text is no answer


# --- what is the answer? --------------------------------------------------------------------------------------------

# What may stand between two boxes that are one answer: $\\boxed{1}$ and $\\boxed{9}$
BETWEEN = re.compile(r"(?:\s|\$|\\[\[\]()]|\\q?quad|\\[,;: ]|,|and|or|[a-zA-Z]\s?=|\\text\{\s*(?:and|or)\s*\}){0,40}")


def extract_answer(completion: str, kind: str = "math") -> str | None:
    """The text of the answer, or None if the completion gives none.

    The last `\\boxed{...}` whose braces balance, or the last few if only "and" or a comma stands between them; without
    any, the rest of the line behind the last `####`. Only what follows the last `</think>` is read, and nothing if a
    `<think>` stays open after it. An empty box is no answer.

    A choice may also be announced ("the answer is (B)", as MMLU-Pro asks for), a literal stand between [ANSWER] and
    [/ANSWER] (CRUXEval), and a program is the last block between ``` marks, or without any the whole response.
    """
    response = completion.rpartition("</think>")[2]
    if "<think>" in response:
        return None
    if kind == "code":
        blocks = re.findall(r"^```([^\n`]*)\n(.*?)(?:^```|\Z)", response, re.DOTALL | re.MULTILINE)
        # What stands behind the program is often its output, or an example of its use.
        defining = [block for _, block in blocks if re.search(r"^(?:def|class) ", block, re.MULTILINE)]
        tagged = [block for tag, block in blocks if "py" in tag.lower()]
        return ([response] + [b for _, b in blocks][-1:] + tagged[-1:] + defining[-1:])[-1].strip("\n") or None
    answer = boxed(response)
    if answer is None and kind == "choice":
        found = re.findall(r"[aA]nswer(?: is|:)[\s*:$]{0,9}(?:option )?\(?([A-J])\b(?! [a-z])", response)
        return found[-1] if found else None
    if answer is None and kind == "literal":
        answer = response.rpartition("[ANSWER]")[2].partition("[/ANSWER]")[0] if "[ANSWER]" in response else None
    if answer is None and "####" in response:
        answer = response.rpartition("####")[2].strip().split("\n")[0]
    return (answer or "").strip() or None


def boxed(text: str) -> str | None:
    """The content of the last balanced `\\boxed{...}`, or None; of several that are one answer, joined by commas.

    Linear in the length of the text, whatever it holds.
    """
    # One pass: a stack of open braces, each remembering whether a box begins there. "Last" is the box that starts last.
    box_starts = {match.end() - 1: match.start() for match in re.finditer(r"\\boxed\s{0,9}\{", text)}
    stack, found = [], []  # found: (start of its \\boxed, its brace, its end)
    for brace in re.finditer(r"\\\\|\\?[{}]", text):
        if len(brace[0]) == 2 and brace.start() + 1 not in box_starts:
            continue  # \{ and \} are printed braces, not groups; nor is a line break \\ the beginning of one
        position = brace.end() - 1
        if text[position] == "{":
            stack.append(position)
        elif stack:
            start = stack.pop()
            if start in box_starts:
                found.append((box_starts[start], start, position))
    if not found:
        # "\\boxed 7": LaTeX boxes what comes next
        bare = re.findall(r"\\boxed\s{1,9}([^\s{}$\\]{1,99})", text)
        return bare[-1].rstrip(".") if bare else None
    found.sort()
    parts = [found[-1]]
    for box in reversed(found[:-1]):
        if not BETWEEN.fullmatch(text, box[2] + 1, parts[0][0]):  # nor does it match where one box holds the other
            break
        parts.insert(0, box)
    contents = [text[brace + 1 : end] for _, brace, end in parts]
    # Boxes that say the same thing twice are one.
    return contents[-1] if len(set(contents)) == 1 else ", ".join(contents)


# --- math -----------------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)?(\.\d+)?")
FRACTION = re.compile(r"([-+]?)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac(\d)(\d)|(\d+)/(\d+))")
# Currency signs, small spaces, the ending of an ordinal, a full stop.
ORDINAL = r"\^\s*\{?\s*\\(?:text|mathrm|textrm)\s*\{(?:st|nd|rd|th)\}\s*\}?"
FILLING = re.compile(rf"\\text\{{\s*\\\$\s*\}}|\\[,!;: ]|^\\?\$\s*|\s*\\?\$$|{ORDINAL}|\.$")
PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*percent\s*\}|percent)$")
BASED = re.compile(r"(\w+?)_\{?(\d+)\}?")  # 1200_7
JUXTAPOSED = re.compile(r"\d\s*(?:\\q?quad|\$\$|\s)\s*\[?\d|\d[x_]\d|\\approx|\\sim\b")
STYLED = re.compile(r"\\(?:text|textbf|mathrm|textrm|mathbf|mbox)\s*\{([^{}]*)\}|[$]")
# Words behind a number: a unit, unless they change its value.
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
    text = workers.plain(answer).strip()
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
    text = STYLED.sub(r"\1", answer).replace("~", " ").strip().rstrip(".").lower()
    return "".join(text.split())


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


# --- choice, literal, countdown, code -------------------------------------------------------------------------------


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
    for sign, plain in SIGNS.items():
        text = text.replace(sign, plain)
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


def program(answer: str, gold: str) -> tuple[str, str]:
    """(program, tests) of a response, for sandbox.passes. gold is one of

    {"tests": asserts}                                              MBPP
    {"tests": asserts, "prompt": code, "entry_point": its name}     HumanEval: the prompt is a program's beginning
    {"printed": [[what it reads, what it must print], ...]}         code_contests; compared word by word
    """
    problem = json.loads(gold)
    if "printed" in problem:
        return "", PRINTED.format(program=answer, cases=problem["printed"])
    prompt, name = problem.get("prompt", ""), problem.get("entry_point", "")
    if not prompt:
        return answer, problem["tests"]
    if re.search(rf"^(?:async )?def {re.escape(name)}\b", answer, re.MULTILINE):
        # A whole function: the prompt goes before it, for its imports and helpers; `pass` ends the prompt's own.
        return f"{prompt}\n    pass\n\n{answer}", problem["tests"]
    # The body that the prompt lacks: it ends with the first line that is not indented.
    return prompt + re.split(r"\n(?=[^\s])", answer)[0], problem["tests"]


PRINTED = """
import io, sys
for given, wanted in {cases!r}:
    sys.stdin, sys.stdout = (io.TextIOWrapper(io.BytesIO(text.encode())) for text in (given, ""))
    try:
        exec(compile({program!r}, "program", "exec"), {{"__name__": "__main__"}})
    except SystemExit:
        pass
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue().decode().split() == wanted.split()
"""


# --- is it right? ---------------------------------------------------------------------------------------------------

# kind of a problem -> function of (answer, gold); None is what has to be asked of math-verify
CHECKERS = {
    "math": math_equal,
    "number": number_equal,
    "choice": choice_equal,
    "literal": literal_equal,
    "countdown": countdown_equal,
    "code": None,
}


def usable(gold: str, kind: str) -> bool:
    """Whether an answer could meet this gold at all. May raise ValueError, TypeError or AttributeError if not."""
    if kind == "code":
        return isinstance(json.loads(gold or "0"), dict)
    if kind == "countdown":
        return {"target", "nums"} <= json.loads(gold).keys()
    return bool(gold) and (kind == "math" or CHECKERS[kind](gold, gold))


def decide(triples: list[tuple[str, str, str]], allow_code_execution: bool = False) -> list[bool]:
    """Is the answer right? For triples (answer, gold, kind); what needs another process is asked for all at once."""
    verdicts: dict[tuple, bool | None] = {}
    for answer, gold, kind in triples:
        if kind not in CHECKERS:
            raise ValueError(f"no checker for problems of kind {kind!r}; there is {', '.join(CHECKERS)}")
        if (answer, gold, kind) not in verdicts:
            verdicts[answer, gold, kind] = None if kind == "code" else CHECKERS[kind](answer, gold)
    for kind, ask in (("math", ask_math_verify), ("code", ask_sandbox)):
        open_ones = [triple for triple, verdict in verdicts.items() if verdict is None and triple[2] == kind]
        if open_ones and kind == "code" and not allow_code_execution:
            raise ValueError(
                "grading code runs what a model wrote: read sandbox.py, then pass allow_code_execution=True"
            )
        verdicts.update(zip(open_ones, ask([(answer, gold) for answer, gold, _ in open_ones]), strict=True))
    return [bool(verdicts[triple]) for triple in triples]


def ask_math_verify(pairs: list[tuple[str, str]]) -> list[bool]:
    return workers.ask_all(pairs)


def ask_sandbox(pairs: list[tuple[str, str]]) -> list[bool]:
    return sandbox.passes_all([program(answer, gold) for answer, gold in pairs])


def is_correct(completion: str, answer: str, kind: str = "math", allow_code_execution: bool = False) -> bool:
    """True if the completion's extracted answer equals the gold `answer`. ValueError for a kind without a checker, and
    for kind "code" unless it is allowed."""
    return grade([completion], [answer], [kind], allow_code_execution)[0]


def grade(
    completions: list[str], answers: list[str], kinds: list[str], allow_code_execution: bool = False
) -> list[bool]:
    """is_correct for each triple; the same triple is decided once. Nothing a completion can hold raises or hangs."""
    given = [extract_answer(text, kind) for text, kind in zip(completions, kinds, strict=True)]
    asked = [(a, gold, kind) for a, gold, kind in zip(given, answers, kinds, strict=True) if a is not None]
    verdicts = iter(decide(asked, allow_code_execution))
    return [a is not None and next(verdicts) for a in given]


def classes(answers: list[str | None], kind: str = "math") -> list[int | None]:
    """Number the classes of equal answers from 0 on, in the order of their first member; None stays None.

    An answer that math-verify cannot read, not even as equal to itself, is equal to its own text alone: so a text that
    keeps it busy costs one time limit, and not one for each comparison.
    """
    different = list(dict.fromkeys(answer for answer in answers if answer is not None))
    if kind == "code":
        return [None if answer is None else different.index(answer) for answer in answers]
    readable = {}
    if kind == "math":
        hard = [answer for answer in different if not values(measured(answer)[0])]
        known = [len(answer) <= LONGEST_ANSWER for answer in hard]
        told = iter(workers.ask_all([(answer, answer) for answer, short in zip(hard, known, strict=True) if short]))
        readable = {answer: short and next(told) for answer, short in zip(hard, known, strict=True)}
    members: list[str] = []  # the first of each class
    found: dict[str | None, int | None] = {None: None}
    for answer in different:
        close = [m for m in members if readable.get(answer, True) and readable.get(m, True)]
        # Either may have the unit that counts for nothing beside the other.
        equal = decide([(answer, member, kind) for member in close])
        first = next((member for member, yes in zip(close, equal, strict=True) if yes), None)
        if first is None:
            members.append(answer)
        found[answer] = members.index(answer if first is None else first)
    return [found[answer] for answer in answers]
