"""grading.py: is this answer right?

The answer of a completion is what stands in its last `\\boxed{}` (or behind `####`, GSM8K's mark), outside of any
unfinished thought. What counts as equal to the gold depends on the kind of the problem (CHECKERS, at the end):

    math        a mathematical expression: numbers, fractions and percentages exactly, the rest by math-verify
    number      a plain number, exactly; no expression is worked out
    choice      the letter of an option (MMLU-Pro)
    literal     a Python value of the same type (CRUXEval: predict the output)
    countdown   an expression that makes the target out of the numbers, each used once
    search      the same, as steps from value to value (toy.py's search world)
    code        a program that passes its tests (HumanEval, MBPP, code_contests); run only if that is allowed

A completion may hold anything. Whatever it is, the verdict is True or False, in limited time. What can be decided by
reading is decided in answers.py; LaTeX goes to math-verify in processes that can be killed (workers.py); programs run
in a process of their own with limits (sandbox.py). None of these files imports torch.
"""

import json
import re

from verify import sandbox, workers
from verify.answers import (
    LONGEST_ANSWER,
    STEPS,
    choice_equal,
    countdown_equal,
    literal_equal,
    math_equal,
    number_equal,
    search_equal,
)
from verify.programs import program_of, with_tests
from verify.quantities import values

# --- what is the answer? --------------------------------------------------------------------------------------------

# What may stand between two boxes that are one answer: $\\boxed{1}$ and $\\boxed{9}$
BETWEEN = re.compile(r"(?:\s|\$|\\[\[\]()]|\\q?quad|\\[,;: ]|,|and|or|[a-zA-Z]\s?=|\\text\{\s*(?:and|or)\s*\}){0,40}")

# "The answer is (B)": the letter, and the second group if another option is named with it ("A/B", "(A) or (B)"). The
# letter must stand alone: not "A good one", not "D-glucose".
ANNOUNCED = re.compile(
    r"[aA]nswer(?: is|:)[\s*:$]{0,9}(?:option )?\(?([A-J])\b(?! [a-z]|[-'’]\w)"
    r"([)*$]{0,9}[\s(]{0,9}(?:(?:[-/|&,;+\u2013\u2014]|n?or\b|and\b|\()[\s(*$]{0,9}(?:option )?[A-J]\b(?! [a-z])))?"
)


def extract_answer(completion: str, kind: str = "math", gold: str = "") -> str | None:
    """The text of the answer, or None if the completion gives none.

    It is the last `\\boxed{...}` whose braces balance, or the last few if only "and" or a comma stands between them.
    Without a box it is the rest of the line behind the last `####`. Only what follows the last `</think>` is read, and
    nothing if a `<think>` stays open after it (one that the prompt opened is not seen). An empty box is no answer.

    A choice may also be announced ("the answer is (B)", as MMLU-Pro asks for), and a literal may stand between [ANSWER]
    and [/ANSWER] (CRUXEval). A program is a block between ``` marks, or the whole response if there is none; the gold,
    if it is given, helps to choose the block (programs.py). In the search world the steps are the answer, if the
    response is nothing but steps.
    """
    response = completion.rpartition("</think>")[2]
    if "<think>" in response:
        return None
    if kind == "code":
        return program_of(response, gold)
    if kind == "search":
        return response if len(response) <= LONGEST_ANSWER and STEPS.fullmatch(response) else None
    answer = boxed(response)
    if answer is None and kind == "choice":
        found = ANNOUNCED.findall(response)
        return found[-1][0] if found and not found[-1][1] else None
    if answer is None and kind == "literal" and "[ANSWER]" in response:
        answer = response.rpartition("[ANSWER]")[2].partition("[/ANSWER]")[0]
    if answer is None and "####" in response:
        answer = response.rpartition("####")[2].strip().split("\n")[0]
    return (answer or "").strip() or None


def boxed(text: str) -> str | None:
    """The content of the last balanced `\\boxed{...}`, or None; of several that are one answer, joined by commas.

    It takes time linear in the length of the text, whatever the text holds.
    """
    # One pass with a stack of open braces; some of them open a box. The last box is the one that starts last.
    box_starts = {match.end() - 1: match.start() for match in re.finditer(r"\\boxed\s{0,9}\{", text)}  # brace -> \boxed
    stack, found = [], []  # found: (start of its \boxed, its brace, its end)
    for brace in re.finditer(r"\\\\|\\?[{}]", text):
        if len(brace[0]) == 2 and brace.start() + 1 not in box_starts:
            continue  # \{ and \} are printed braces, not groups; the line break \\ takes no part in them
        position = brace.end() - 1
        if text[position] == "{":
            stack.append(position)
        elif stack:
            start = stack.pop()
            if start in box_starts:
                found.append((box_starts[start], start, position))
    if not found:
        # "\\boxed 7": without braces, LaTeX boxes what comes next
        bare = re.findall(r"\\boxed\s{1,9}([^\s{}$\\]{1,99})", text)
        return bare[-1].rstrip(".") if bare else None
    found.sort()
    parts = [found[-1]]
    for box in reversed(found[:-1]):
        if not BETWEEN.fullmatch(text, box[2] + 1, parts[0][0]):  # nor does it match if this box holds the next one
            break
        parts.insert(0, box)
    contents = [text[brace + 1 : end] for _, brace, end in parts]
    # Boxes that say the same thing twice are one.
    return contents[-1] if len(set(contents)) == 1 else ", ".join(contents)


# --- is it right? ---------------------------------------------------------------------------------------------------

# kind of a problem -> function of (answer, gold). None, as a verdict or as the function: another process must be asked
CHECKERS = {
    "math": math_equal,
    "number": number_equal,
    "choice": choice_equal,
    "literal": literal_equal,
    "countdown": countdown_equal,
    "search": search_equal,
    "code": None,
}


def usable(gold: str, kind: str) -> bool:
    """Could any answer meet this gold? If none could, it may also raise ValueError, TypeError or AttributeError."""
    if kind == "code":
        return isinstance(json.loads(gold or "0"), dict)
    if kind in ("countdown", "search"):
        return {"target", "nums"} <= json.loads(gold).keys()
    return bool(gold) and (kind == "math" or CHECKERS[kind](gold, gold))


def decide(triples: list[tuple[str, str, str]], allow_code_execution: bool = False) -> list[bool]:
    """Is the answer right? For each (answer, gold, kind); other processes are asked once, about all that is left."""
    verdicts: dict[tuple, bool | None] = {}
    for answer, gold, kind in triples:
        if kind not in CHECKERS:
            raise ValueError(f"no checker for problems of kind {kind!r}; there is {', '.join(CHECKERS)}")
        if (answer, gold, kind) not in verdicts:
            verdicts[answer, gold, kind] = None if kind == "code" else CHECKERS[kind](answer, gold)
    left = [triple for triple, verdict in verdicts.items() if verdict is None]
    math = [triple for triple in left if triple[2] == "math"]
    code = [triple for triple in left if triple[2] == "code"]
    if code and not allow_code_execution:
        raise ValueError(
            "grading code runs what a model wrote: read verify/sandbox.py, then pass allow_code_execution=True"
        )
    verdicts.update(zip(math, workers.ask_all([(answer, gold) for answer, gold, _ in math]), strict=True))
    verdicts.update(zip(code, sandbox.passes_all([with_tests(a, gold) for a, gold, _ in code]), strict=True))
    return [bool(verdicts[triple]) for triple in triples]


def is_correct(completion: str, answer: str, kind: str = "math", allow_code_execution: bool = False) -> bool:
    """True if the answer that the completion gives equals the gold `answer`.

    Raises ValueError for a kind without a checker, and for kind "code" unless it is allowed.
    """
    return grade([completion], [answer], [kind], allow_code_execution)[0]


def grade(
    completions: list[str], answers: list[str], kinds: list[str], allow_code_execution: bool = False
) -> list[bool]:
    """is_correct for each (completion, gold, kind), equal ones decided once. No completion makes it raise or hang."""
    given = [extract_answer(*asked) for asked in zip(completions, kinds, answers, strict=True)]
    asked = [(a, gold, kind) for a, gold, kind in zip(given, answers, kinds, strict=True) if a is not None]
    verdicts = iter(decide(asked, allow_code_execution))
    return [a is not None and next(verdicts) for a in given]


def classes(answers: list[str | None], kind: str = "math") -> list[int | None]:
    """The number of each answer's class of equal answers, counted from 0 in order of first appearance; None for None.

    An answer that math-verify cannot read, not even as equal to itself, equals its own text only. So a text that keeps
    math-verify busy costs one time limit, and not one for each comparison.
    """
    different = list(dict.fromkeys(answer for answer in answers if answer is not None))
    if kind in ("code", "countdown", "search"):  # two solutions of a puzzle or of a task are compared as text
        return [None if answer is None else different.index(answer) for answer in answers]
    readable = dict.fromkeys(different, True)
    if kind == "math":
        hard = [answer for answer in different if not values(answer)]  # not decided by reading alone
        short = [answer for answer in hard if len(answer) <= LONGEST_ANSWER]
        readable.update(dict.fromkeys(hard, False))
        readable.update(zip(short, workers.ask_all([(answer, answer) for answer in short]), strict=True))
    members: list[str] = []  # the first answer of each class
    found: dict[str | None, int | None] = {None: None}
    for answer in different:
        rivals = [member for member in members if readable[answer] and readable[member]]
        equal = decide([(answer, member, kind) for member in rivals])
        first = next((member for member, yes in zip(rivals, equal, strict=True) if yes), None)
        if first is None:
            members.append(answer)
        found[answer] = members.index(answer if first is None else first)
    return [found[answer] for answer in answers]
