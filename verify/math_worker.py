"""math_worker.py: the process that asks math-verify. workers.py starts it, talks to it in lines, and kills it.

math-verify is the usual checker of mathematical answers. What it gets wrong is mended around it:

* It reads bare LaTeX badly, and nothing at all in 51 of MATH-500's 500 golds. So both answers are put into a box first,
  and `tidy` rewrites what it misreads even there.
* A text that it cannot read equals nothing, be it the answer or the gold.
* It takes two numbers for equal that both round to 0, such as 10^{-20} and 10^{-21}. `apart` compares their ratio.
"""

import contextlib
import functools
import json
import logging
import re
import resource
import signal
import sys

from verify.answers import ORDINAL, plain

MEMORY = 4 * 2**30  # bytes of address space
OUTLIVE = 15  # seconds on one question, after which the process ends itself; workers.py kills it long before


def tidy(answer: str) -> str:
    """An answer rewritten so that math-verify reads what its writer meant."""
    text = plain(answer).replace("\\varnothing", "\\emptyset").replace("\\lbrace", "\\{").replace("\\rbrace", "\\}")
    text = re.sub(r"\\text\s*\{\s*\\\$\s*\}|\\\$", "", text)  # $ signs
    text = re.sub(ORDINAL, "", text)  # 12^{\text{th}}
    text = re.sub(r"^\s*[a-zA-Z]\s*\\in(?![a-z])", "", text)  # x \in [0, 1]
    text = re.sub(r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)  # sqrt(5)
    text = re.sub(r"(?<![a-zA-Z\\])(?:infty|infinity)(?![a-zA-Z])", r"\\infty", text)
    return re.sub(r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi", text)


def apart(a, b) -> bool:
    """Do two parsed answers that math-verify takes for equal hold different numbers?

    It compares six decimals, we compare the ratio. We look into equations such as x = 5, tuples, intervals and sets.
    """
    a, b = (x.rhs if type(x).__name__ == "Equality" and x.lhs.is_Symbol else x for x in (a, b))
    kind = type(a).__name__
    if type(a) is type(b) and kind in ("Tuple", "Interval") and len(a.args) == len(b.args):
        return any(map(apart, a.args, b.args))
    if type(a) is type(b) and kind == "FiniteSet" and len(a.args) == len(b.args):
        # Members have no order: each needs a partner on the other side.
        return any(all(apart(x, y) for y in b.args) for x in a.args)
    if not all(getattr(x, "is_number", False) for x in (a, b)):
        return False
    a, b = a.evalf(), b.evalf()  # sympy's floats have no smallest number: 1/2006! is not 0
    return a != b and bool(abs(a - b) > 1e-6 * max(abs(a), abs(b)))


def serve() -> None:
    """The loop: a line of JSON [answer, gold] comes in on stdin, `true` or `false` goes out on stdout."""
    import math_verify

    with contextlib.suppress(ValueError, OSError):  # some systems have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)  # math-verify warns about every text that it cannot parse
    flags = {"timeout_seconds": None, "allow_set_relation_comp": True}  # -2 <= x <= 7 is [-2, 7]
    config = [math_verify.LatexExtractionConfig()]

    @functools.lru_cache(maxsize=4096)  # the same gold comes with each rollout of its group
    def parse(text: str) -> list:
        return math_verify.parse(f"\\boxed{{{tidy(text)}}}", config, parsing_timeout=None)

    print("ready", flush=True)
    for line in sys.stdin:
        # If our parent was killed, nobody kills us: then this process must end by itself. The alarm has no handler in
        # Python, so it ends the process at once, whatever sympy is busy with.
        signal.alarm(OUTLIVE)
        try:
            answer, gold = (parse(text) for text in json.loads(line))
            verdict = bool(answer and gold and math_verify.verify(gold, answer, **flags))
            verdict = verdict and not apart(answer[0], gold[0])
        except Exception:  # sympy raises nearly anything on odd input; an answer that breaks the checker is wrong
            verdict = False
        signal.alarm(0)
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    serve()
