"""stopping.py: Ctrl-C and SIGTERM end a run behind the step in progress, and one line says how to go on."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from running import processes


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

    Of several processes each may get a signal at another step, or none: to ask is to wait for all, and all are told the
    same. They get Ctrl-C twice, from the terminal and from torchrun, which kills them 30 s later.
    """
    asked, before = [], {}

    def note(number, frame) -> None:
        asked.append(number)
        if processes.size() > 1:
            return
        signal.signal(number, before[number])
        tqdm.write("Stopping behind this step; once more to stop at once.", file=sys.stderr)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    try:
        yield lambda: max(processes.everyones(asked[0] if asked else 0)) or None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def program(main: Callable[[], int], go_on: str) -> int:
    """The exit code of main(), which Ctrl-C and SIGTERM end with one line and no traceback. go_on: how one goes on."""

    def stop(number, frame) -> None:
        raise KeyboardInterrupt(number)

    try:
        signal.signal(signal.SIGTERM, stop)
        return main()
    except KeyboardInterrupt as stopped:
        processes.say(f"{Path(sys.argv[0]).name}: stopped; {go_on}")
        return 128 + (stopped.args[0] if stopped.args else signal.SIGINT)
    except processes.Ended:
        processes.say(f"{Path(sys.argv[0]).name}: a process of this run ended; {go_on}")
        return 1
