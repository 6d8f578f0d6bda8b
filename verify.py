"""verify.py: is this answer right?

The answer of a completion is what stands in its last `\\boxed{}` (or behind `####`, GSM8K's mark), outside any
unfinished thought. Numbers are compared exactly, as fractions; everything else goes to math-verify, the checker of the
field, with both sides boxed.

math-verify hands text to a computer algebra system, which a model can keep busy for years (`9^{9^{9^9}}`). A time limit
set from inside the process does not stop that, because the interpreter's lock is held meanwhile. So math-verify runs in
a worker process that is killed from outside, and the pair that it was killed for counts as wrong.

No torch in this file: the worker runs it, and must start quickly.
"""

import atexit
import itertools
import json
import logging
import queue
import re
import subprocess
import sys
import threading
from fractions import Fraction

TIME_LIMIT = 5.0  # seconds for one pair of answers in the worker
LONGEST_ANSWER = 1000  # characters; no gold of MATH or GSM8K is longer than 160, and longer text is no answer


# --- what is the answer? --------------------------------------------------------------------------------------------


def extract_answer(completion: str) -> str | None:
    """The text of the answer, or None if the completion gives none.

    The last `\\boxed{...}` whose braces balance; without any, the rest of the line behind the last `####`. Only what
    follows the last `</think>` is read, and nothing if a `<think>` stays open after it. An empty box is no answer.
    """
    response = completion.rpartition("</think>")[2]
    if "<think>" in response:
        return None
    answer = last_box(response)
    if answer is None and "####" in response:
        answer = response.rpartition("####")[2].strip().split("\n")[0]
    return (answer or "").strip() or None


def last_box(text: str) -> str | None:
    """The content of the last balanced `\\boxed{...}`, or None. Linear in the length of the text, whatever it holds."""
    # One pass: a stack of open braces, each remembering whether a box begins there. "Last" is the box that starts last.
    box_starts = {match.end() - 1 for match in re.finditer(r"\\boxed\s{0,9}\{", text)}
    stack, best = [], None
    for brace in re.finditer(r"\\?[{}]", text):
        if len(brace[0]) == 2 and brace.start() + 1 not in box_starts:
            continue  # \{ and \} are printed braces, not groups
        position = brace.end() - 1
        if text[position] == "{":
            stack.append(position)
        elif stack:
            start = stack.pop()
            if start in box_starts and (best is None or start > best[0]):
                best = (start, position)
    return None if best is None else text[best[0] + 1 : best[1]]


# --- is it right? ---------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)?(\.\d+)?")
FRACTION = re.compile(r"([-+]?)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac(\d)(\d)|(\d+)/(\d+))")


def number(answer: str) -> Fraction | None:
    """The exact value of a plain number or fraction (`-1,234.50`, `3/4`, `\\frac{3}{4}`, `\\$5`), else None."""
    text = re.sub(r"\\[,!;: ]|^\\?\$\s*|\s*\\?\$$|\.$", "", answer.strip())
    if len(text) > 100:  # Fraction of a million digits takes minutes
        return None
    if (match := FRACTION.fullmatch(text)) is not None:
        top, bottom = (int(part) for part in match.groups()[1:] if part is not None)
        return None if bottom == 0 else Fraction(top if match[1] != "-" else -top, bottom)
    match = NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return None
    return Fraction(f"{match[1]}{re.sub('[, ]', '', match[2] or '0')}{match[3] or ''}")


def math_equal(answer: str, gold: str) -> bool:
    """True if two mathematical answers are the same: exactly for numbers, by math-verify for the rest."""
    if answer == gold:
        return True
    if len(answer) > LONGEST_ANSWER:
        return False
    a, b = number(answer), number(gold)
    if a is not None and b is not None:
        return a == b
    return ask_worker(answer, gold)


def number_equal(answer: str, gold: str) -> bool:
    """True if both are plain numbers and equal: no expression is worked out, so `\\boxed{7+8}` is not 15."""
    a = number(answer)
    return a is not None and a == number(gold)


CHECKERS = {"math": math_equal, "number": number_equal}  # kind of a problem -> function of (answer, gold)


def is_correct(completion: str, answer: str, kind: str = "math") -> bool:
    """True if the completion's extracted answer equals the gold `answer`. ValueError for a kind without a checker."""
    if kind not in CHECKERS:
        raise ValueError(f"no checker for problems of kind {kind!r}; there is {', '.join(CHECKERS)}")
    given = extract_answer(completion)
    return given is not None and CHECKERS[kind](given, answer)


def grade(completions: list[str], answers: list[str], kinds: list[str]) -> list[bool]:
    """is_correct for each triple; the same triple is decided once. Nothing a completion can hold raises or hangs."""
    verdicts: dict[tuple, bool] = {}
    triples = list(zip(completions, answers, kinds, strict=True))
    for triple in triples:
        if triple not in verdicts:
            verdicts[triple] = is_correct(*triple)
    return [verdicts[triple] for triple in triples]


# --- math-verify, in a process that can be killed -------------------------------------------------------------------

_worker: tuple | None = None  # (process, queue of its output lines), started at the first answer that is not a number


def ask_worker(answer: str, gold: str) -> bool:
    """math-verify's verdict on two answers; False if it takes longer than TIME_LIMIT or dies."""
    global _worker
    if _worker is None:
        process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        replies = queue.SimpleQueue()
        # A thread reads, because a pipe cannot be waited for with a time limit on every system. "" means that it ended.
        lines = itertools.chain(process.stdout, [""])
        threading.Thread(target=lambda: [replies.put(line) for line in lines], daemon=True).start()
        _worker = (process, replies)
        # The import of sympy does not count against the first pair.
        if replies.get() != "ready\n":
            raise RuntimeError("math-verify does not start: pip install -r requirements.txt")
    process, replies = _worker
    try:
        process.stdin.write(json.dumps([answer, gold]) + "\n")
        process.stdin.flush()
        return replies.get(timeout=TIME_LIMIT) == "true\n"
    except (queue.Empty, OSError):  # too slow, or dead (of memory, say)
        stop_worker()
        return False


def stop_worker() -> None:
    """Kill the worker, if there is one; the next question starts a new one."""
    global _worker
    if _worker is not None:
        _worker[0].kill()
        _worker[0].wait()
        _worker[0].stdout.close()
        _worker = None


atexit.register(stop_worker)


def serve() -> None:
    """The worker's loop: a line of JSON [answer, gold] comes in, `true` or `false` goes out."""
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)  # math-verify warns about every text that it cannot parse
    config = [LatexExtractionConfig()]
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            # Boxed on both sides, because raw LaTeX does not parse: 51 of MATH-500's 500 golds give nothing.
            answer, gold = (parse(f"\\boxed{{{text}}}", config, parsing_timeout=None) for text in json.loads(line))
            verdict = bool(answer and gold and verify(gold, answer, timeout_seconds=None))
        except Exception:  # sympy raises nearly anything on odd input; a text that breaks the checker is not right
            verdict = False
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    serve()
