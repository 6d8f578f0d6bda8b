"""stopping.py: Ctrl-C and SIGTERM end a run behind the step in progress, and one line says how to go on."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


class Stopped(Exception):
    """A run has been stopped by a signal, and its state is written."""

    def __init__(self, step: int, number: int):
        """step: the next one; number: the signal's."""
        super().__init__(step, number)
        self.step, self.code = step, 128 + number  # the exit code, as shells have it: 130 for Ctrl-C, 143 for SIGTERM


@contextmanager
def between_steps() -> Iterator[Callable[[], int | None]]:
    """Yields a function that says which signal has asked to stop, None as long as none has.

    A second signal does what it would have done without this: it ends the program in the middle of the step. Outside
    of the main thread Python allows no handlers, and nothing is changed.
    """
    asked, before = [], {}

    def note(number, frame) -> None:
        asked.append(number)
        signal.signal(number, before[number])
        tqdm.write("Stopping behind this step; once more to stop at once.", file=sys.stderr)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    try:
        yield lambda: asked[0] if asked else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def program(main: Callable[[], int], go_on: str) -> int:
    """The exit code of main(); Ctrl-C ends it with one line in place of a traceback. go_on: how one goes on."""
    try:
        return main()
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: stopped; {go_on}", file=sys.stderr)
        return 130
