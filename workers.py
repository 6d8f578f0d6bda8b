"""workers.py: how is a checker asked that may never answer?

math-verify, the checker of the field, hands text to a computer algebra system, which a model can keep busy for years
(`9^{9^{9^9}}`). A time limit set from inside the process does not stop that, because the interpreter's lock is held
meanwhile, and one set by a signal works in the main thread alone. So math-verify runs in worker processes that are
killed from outside, and the pair that one was killed for counts as wrong.

What math-verify alone would get wrong is mended around it: raw LaTeX, of which it reads nothing in 51 of MATH-500's 500
golds, is boxed on both sides; a text that it cannot read equals nothing, as gold or as answer; and two numbers that it
takes for equal because both round to 0 (10^{-20} and 10^{-21}) are compared once more by their ratio.

No torch in this file: a worker runs it, and must start quickly.
"""

import atexit
import contextlib
import functools
import itertools
import json
import logging
import os
import queue
import re
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from answers import ORDINAL, plain

TIME_LIMIT = 5.0  # seconds for one pair of answers
MEMORY = 4 * 2**30  # bytes of address space of a worker
OUTLIVE = 15  # seconds after which a worker that nobody kills ends itself
MOST = min(8, os.cpu_count() or 1)  # workers at a time

_idle: queue.LifoQueue = queue.LifoQueue()  # workers that wait for a question; started when there is none


class Worker:
    """A process that runs `serve`."""

    def __init__(self):
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.replies = queue.SimpleQueue()
        # A thread reads, because a pipe cannot be waited for with a time limit on every system. "" means that it ended.
        lines = itertools.chain(self.process.stdout, [""])
        threading.Thread(target=lambda: [self.replies.put(line) for line in lines], daemon=True).start()
        if self.replies.get() != "ready\n":  # the import of sympy does not count against the first pair
            raise RuntimeError("math-verify does not start: pip install -r requirements.txt")

    def ask(self, answer: str, gold: str) -> bool | None:
        """The verdict, or None if there is none in time: then the worker is dead."""
        try:
            self.process.stdin.write(json.dumps([answer, gold]) + "\n")
            self.process.stdin.flush()
            reply = self.replies.get(timeout=TIME_LIMIT)
        except (queue.Empty, OSError):
            reply = ""
        if reply == "":  # too slow, or dead (of memory, say)
            self.stop()
            return None
        return reply == "true\n"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):  # a question that was never read
            self.process.stdin.close()
        self.process.stdout.close()


def ask(pair: tuple[str, str]) -> bool:
    """math-verify's verdict on (answer, gold); False if it takes longer than TIME_LIMIT or dies."""
    try:
        worker = _idle.get_nowait()
        worker = worker if worker.process.poll() is None else Worker()  # it may have died in its sleep
    except queue.Empty:
        worker = Worker()
    verdict = worker.ask(*pair)
    if verdict is not None:
        _idle.put(worker)
    return bool(verdict)


def ask_all(pairs: list[tuple[str, str]]) -> list[bool]:
    """`ask` for each pair, several at a time."""
    if not pairs:
        return []
    with ThreadPoolExecutor(min(MOST, len(pairs))) as threads:
        return list(threads.map(ask, pairs))


@atexit.register
def stop_all() -> None:
    """Kill the workers that wait."""
    while not _idle.empty():
        _idle.get_nowait().stop()


# --- in the worker --------------------------------------------------------------------------------------------------


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
