"""workers.py: how does one ask a checker that may never answer?

math-verify hands text to sympy, a computer algebra system, and a model can keep that busy for years (`9^{9^{9^9}}`). A
time limit inside the process does not stop it: a thread would wait for the interpreter's lock, which sympy holds, and a
signal works in the main thread only. So math-verify runs in worker processes (math_worker.py) that are killed from
outside, and a pair of answers whose worker had to be killed counts as wrong.
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

_idle: queue.LifoQueue = queue.LifoQueue()  # workers without a question; when it is empty, a new one is started


class Worker:
    """A process that runs math_worker.serve. RuntimeError if it does not start."""

    def __init__(self):
        command = [sys.executable, "-m", "verify.math_worker"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.replies = queue.SimpleQueue()
        # A thread reads, because not every system can wait for a pipe with a time limit. "" means that the pipe ended.
        lines = itertools.chain(self.process.stdout, [""])
        threading.Thread(target=lambda: [self.replies.put(line) for line in lines], daemon=True).start()
        if self.replies.get() != "ready\n":  # so the import of sympy does not use up the first pair's time
            raise RuntimeError("math-verify does not start: pip install -r requirements.txt")

    def ask(self, answer: str, gold: str) -> bool | None:
        """math-verify's verdict, or None if it does not come in time. Then the worker is dead."""
        try:
            self.process.stdin.write(json.dumps([answer, gold]) + "\n")
            self.process.stdin.flush()
            reply = self.replies.get(timeout=TIME_LIMIT)
        except (queue.Empty, OSError):
            reply = ""
        if reply == "":  # too slow, or it died, of the limit on memory for example
            self.stop()
            return None
        return reply == "true\n"

    def stop(self) -> None:
        """Kill the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):  # the pipe still holds a question that nobody read
            self.process.stdin.close()
        self.process.stdout.close()


def ask(pair: tuple[str, str]) -> bool:
    """math-verify's verdict on (answer, gold). False if it takes longer than TIME_LIMIT or dies. Safe in threads."""
    try:
        worker = _idle.get_nowait()
        worker = worker if worker.process.poll() is None else Worker()  # the system may have killed an idle one
    except queue.Empty:
        worker = Worker()
    verdict = worker.ask(*pair)
    if verdict is not None:
        _idle.put(worker)
    return bool(verdict)


def ask_all(pairs: list[tuple[str, str]]) -> list[bool]:
    """`ask` for each pair, MOST at a time, in order."""
    if not pairs:
        return []
    with ThreadPoolExecutor(min(MOST, len(pairs))) as threads:
        return list(threads.map(ask, pairs))


@atexit.register
def stop_all() -> None:
    """Kill the idle workers: none outlives the program."""
    while not _idle.empty():
        _idle.get_nowait().stop()
