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
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent  # where `python -m verify.math_worker` finds the package
TIME_LIMIT = 5.0  # seconds for one pair of answers
MOST = min(8, os.cpu_count() or 1)  # workers at a time

_idle: queue.LifoQueue = queue.LifoQueue()  # workers that wait for a question; started when there is none


class Worker:
    """A process that runs `serve`."""

    def __init__(self):
        command = [sys.executable, "-m", "verify.math_worker"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
