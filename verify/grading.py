"""verify.py: is this answer right?

The answer of a completion is what stands in its last `\\boxed{}` (or behind `####`, GSM8K's mark), outside any
unfinished thought. What counts as equal to the gold depends on the kind of the problem, CHECKERS at the end:

    math        a mathematical expression: numbers, fractions and percentages exactly, the rest by math-verify
    number      a plain number, exactly; no expression is worked out
    choice      the letter of an option (MMLU-Pro)
    literal     a Python value of the same type (CRUXEval, output prediction)
    countdown   an expression that makes the target out of the numbers, each used once
    code        a program that passes its tests (HumanEval, MBPP); run only if that is allowed

A completion may hold anything. Whatever it is, the verdict is True or False, in limited time: what can be decided by
reading is decided in answers.py, LaTeX goes to math-verify in processes that can be killed (workers.py), and programs
run in a process of their own with limits (sandbox.py). No torch in any of these files.
"""

import json
import re

from verify import sandbox, workers
from verify.answers import (
    LONGEST_ANSWER,
    choice_equal,
    countdown_equal,
    literal_equal,
    math_equal,
    measured,
    number_equal,
    values,
)

# --- what is the answer? --------------------------------------------------------------------------------------------

# What may stand between two boxes that are one answer: $\\boxed{1}$ and $\\boxed{9}$
BETWEEN = re.compile(r"(?:\s|\$|\\[\[\]()]|\\q?quad|\\[,;: ]|,|and|or|[a-zA-Z]\s?=|\\text\{\s*(?:and|or)\s*\}){0,40}")


def extract_answer(completion: str, kind: str = "math") -> str | None:
    """The text of the answer, or None if the completion gives none.

    The last `\\boxed{...}` whose braces balance, or the last few if only "and" or a comma stands between them; without
    any, the rest of the line behind the last `####`. Only what follows the last `</think>` is read, and nothing if a
    `<think>` stays open after it (one that the prompt has opened is not seen). An empty box is no answer.

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


# --- programs ---------------------------------------------------------------------------------------------------------


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

# kind of a problem -> function of (answer, gold); where it says None, or is None, another process has to be asked
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
    for kind, ask in (("math", workers.ask_all), ("code", ask_sandbox)):
        open_ones = [triple for triple, verdict in verdicts.items() if verdict is None and triple[2] == kind]
        if open_ones and kind == "code" and not allow_code_execution:
            raise ValueError(
                "grading code runs what a model wrote: read sandbox.py, then pass allow_code_execution=True"
            )
        verdicts.update(zip(open_ones, ask([(answer, gold) for answer, gold, _ in open_ones]), strict=True))
    return [bool(verdicts[triple]) for triple in triples]


def ask_sandbox(pairs: list[tuple[str, str]]) -> list[bool]:
    """Do these programs pass the tests of their golds?"""
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
        equal = decide([(answer, member, kind) for member in close])
        first = next((member for member, yes in zip(close, equal, strict=True) if yes), None)
        if first is None:
            members.append(answer)
        found[answer] = members.index(answer if first is None else first)
    return [found[answer] for answer in answers]
