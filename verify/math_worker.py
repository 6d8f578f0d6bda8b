"""math_worker.py: the process that asks math-verify. Started by workers.py, and killed by it."""

import contextlib
import functools
import json
import logging
import re
import resource
import signal
import sys

from verify.answers import ORDINAL, plain

MEMORY = 4 * 2**30  # bytes of address space of a worker
OUTLIVE = 15  # seconds after which a worker that nobody kills ends itself


def tidy(answer: str) -> str:
    """LaTeX that math-verify reads as its writer meant it."""
    text = plain(answer).replace("\\varnothing", "\\emptyset").replace("\\lbrace", "\\{").replace("\\rbrace", "\\}")
    text = re.sub(r"\\text\s*\{\s*\\\$\s*\}|\\\$", "", text)  # $ signs
    text = re.sub(ORDINAL, "", text)  # 12^{\text{th}}
    text = re.sub(r"^\s*[a-zA-Z]\s*\\in(?![a-z])", "", text)  # x \in [0, 1]
    text = re.sub(r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)  # sqrt(5)
    text = re.sub(r"(?<![a-zA-Z\\])(?:infty|infinity)(?![a-zA-Z])", r"\\infty", text)
    return re.sub(r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi", text)


def apart(a, b) -> bool:
    """Whether two parsed answers that math-verify takes for equal hold different numbers.

    It compares six decimals, we the ratio; also of x = 5, and of the members of tuples, intervals and sets.
    """
    a, b = (x.rhs if type(x).__name__ == "Equality" and x.lhs.is_Symbol else x for x in (a, b))
    kind = type(a).__name__
    if type(a) is type(b) and kind in ("Tuple", "Interval") and len(a.args) == len(b.args):
        return any(map(apart, a.args, b.args))
    if type(a) is type(b) and kind == "FiniteSet" and len(a.args) == len(b.args):
        # Members have no order: each needs one on the other side that it is not apart from.
        return any(all(apart(x, y) for y in b.args) for x in a.args)
    if not all(getattr(x, "is_number", False) for x in (a, b)):
        return False
    a, b = a.evalf(), b.evalf()  # sympy's floats have no smallest number: 1/2006! is not 0
    return a != b and bool(abs(a - b) > 1e-6 * max(abs(a), abs(b)))


def serve() -> None:
    """The worker's loop: a line of JSON [answer, gold] comes in, `true` or `false` goes out."""
    import math_verify

    with contextlib.suppress(ValueError, OSError):  # some systems have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)  # math-verify warns about every text that it cannot parse
    flags = {"timeout_seconds": None, "allow_set_relation_comp": True}  # -2 <= x <= 7 is [-2, 7]
    config = [math_verify.LatexExtractionConfig()]

    @functools.lru_cache(maxsize=4096)  # a gold comes once for each rollout
    def parse(text: str) -> list:
        return math_verify.parse(f"\\boxed{{{tidy(text)}}}", config, parsing_timeout=None)

    print("ready", flush=True)
    for line in sys.stdin:
        # A worker whose master was killed meanwhile must not count on for ever. Unhandled, this signal ends a process
        # at once, whatever its interpreter is busy with.
        signal.alarm(OUTLIVE)
        try:
            answer, gold = (parse(text) for text in json.loads(line))
            verdict = bool(answer and gold and math_verify.verify(gold, answer, **flags))
            verdict = verdict and not apart(answer[0], gold[0])
        except Exception:  # sympy raises nearly anything on odd input; a text that breaks the checker is not right
            verdict = False
        signal.alarm(0)
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    serve()
