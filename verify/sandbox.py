"""sandbox.py: does a program that a model wrote pass its tests, and what if it is not harmless?

`passes(program, tests)` starts this very file as another process, the guard, and the guard runs both in a child. What
holds the program:

* `python -I`, a session of its own, an empty folder that is deleted afterwards, none of our environment variables, and
  no standard input, output or errors.
* Limits on processor time, memory, file size, open files and processes, and on the time on the clock. When that is
  over, every process that the program started is killed, also those that it detached.
* Where the system allows it (usually on Linux), namespaces of its own: no network, no privileges, no signals to other
  processes, and nothing outlives the program.
* A one-time token, which is handed back after the last test. A program that ends early, by `sys.exit(0)` or
  `os._exit(0)`, has not passed.

**What does not hold it.** A program can read every file that you can read, and write wherever you can write: the empty
folder is no wall. Without namespaces it also has the network and can kill its guard; if you are root, it can also start
any number of processes. Tests run beside the program in one interpreter, so a program that is written to cheat can do
so: it returns objects that claim to be equal to anything, or looks for the token in the frames of the interpreter. So
your machine is safe from accidents and from a model's usual mistakes, but not from an attacker. Against an attacker use
a virtual machine that holds nothing. This is why nothing runs without --allow-code-execution.

This file imports nothing but the standard library: the guard must start quickly.
"""

import contextlib
import ctypes
import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SECONDS = 5  # on the clock, for a program and its tests
LIMITS = {  # for each process in the sandbox
    resource.RLIMIT_CPU: SECONDS,  # seconds
    resource.RLIMIT_AS: 2 * 2**30,  # bytes of address space
    resource.RLIMIT_FSIZE: 2**20,  # bytes in one file
    resource.RLIMIT_NOFILE: 64,
    resource.RLIMIT_CORE: 0,
}
PROCESSES = 32  # of one user; threads count as processes
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000  # flags of unshare(2)
SUBREAPER = 36  # option of prctl(2): orphans become children of this process


def passes(program: str, tests: str) -> bool:
    """True if the program, and then the tests behind it in the same module, run to their end without an error."""
    folder = tempfile.mkdtemp(prefix="program-")
    environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [sys.executable, "-I", __file__],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # The guard keeps the time; these five seconds more are for a guard that the program has stopped.
        told, _ = process.communicate(json.dumps([program, tests, SECONDS]).encode(), timeout=SECONDS + 5)
    except subprocess.TimeoutExpired:
        told = b""
    finally:
        with contextlib.suppress(ProcessLookupError):  # usually nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
    return told == b"passed"


def passes_all(programs: list[tuple[str, str]]) -> list[bool]:
    """`passes` for each (program, tests), as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return list(threads.map(lambda pair: passes(*pair), programs))


# --- in the guard: a process between us and the program ---------------------------------------------------------------


def guard() -> None:
    """Run the program and its tests in a child, kill all that they started, and print whether they passed."""
    program, tests, seconds = json.loads(sys.stdin.buffer.read())
    system = ctypes.CDLL(None, use_errno=True)
    if hasattr(system, "prctl"):
        system.prctl(SUBREAPER, 1, 0, 0, 0)
    if hasattr(system, "unshare"):
        if os.getuid() == 0:
            # The limit on processes does not hold for root. It counts by the real user, so that one becomes somebody
            # else. Files are opened as the effective user: that stays, so that an interpreter in root's folder works.
            os.setresuid(60_000 + os.getpid() % 5_000, 0, 0)
        # Some systems refuse it; then only the limits hold the child.
        if system.unshare(NEW_USER | NEW_PROCESSES | NEW_NETWORK) != 0:
            system.unshare(NEW_PROCESSES | NEW_NETWORK)
    token = secrets.token_hex(16).encode()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        run(program, tests, token, writer)
    os.close(writer)
    os.set_blocking(reader, False)
    until, handed, ended = time.monotonic() + seconds, b"", (0, 0)
    while time.monotonic() < until and (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        time.sleep(0.005)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
    kill_descendants()
    with contextlib.suppress(BlockingIOError):  # the pipe is empty, and somebody still holds its other end
        handed = os.read(reader, 1000)
    sys.stdout.write("passed" if handed == token else "failed")


def kill_descendants() -> None:
    """Kill the children of this process until none is left; SUBREAPER made children of what the program detached."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for number in listed.read_text().split() if listed.exists() else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def run(program: str, tests: str, token: bytes, writer: int) -> None:
    """In the child: set the limits, run the program and then its tests, and hand the token over. Never returns."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    for limit, value in {**LIMITS, resource.RLIMIT_NPROC: PROCESSES}.items():
        hard = resource.getrlimit(limit)[1]  # asking for more than the machine's own limit is an error
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # a limit that this system lacks
            resource.setrlimit(limit, (value, value))
    try:
        sys.modules["program"] = module = types.ModuleType("program")  # dataclasses look up the module of a class
        scope = module.__dict__
        exec(compile(program, "program", "exec"), scope)
        exec(compile(tests, "tests", "exec"), scope)
        os.write(writer, token)
    finally:
        os._exit(0)


if __name__ == "__main__":
    guard()
