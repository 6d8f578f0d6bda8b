"""sandbox.py: does a program that a model wrote pass its tests, and what if it is not harmless?

`passes(program, tests)` starts this very file as a process of its own, which runs the two in a child. What holds them:

* `python -I`, a session of its own, an empty folder that is deleted, an environment without any of ours, and standard
  input, output and errors that lead nowhere.
* Limits on processor time, memory, file size, open files and processes; a limit on the time on the clock, after which
  every process that came out of the program is killed, also those that it detached.
* Where the system allows it (Linux, mostly), namespaces of its own: no network, no privileges, no signals to other
  processes, and nothing outlives the program.
* A one-time token has to be handed back behind the last test. A program that ends early, by `sys.exit(0)` or
  `os._exit(0)`, has not passed.

**What does not hold them.** A program may read every file that you may read, and write where you may write: the folder
is empty, but it is no wall. Where there are no namespaces it has the network too, can kill its guard, and if you are
root, no limit on processes binds it. Tests run beside the program in one interpreter, so one that is written to cheat
can: it returns objects that claim to be equal to anything, or looks for the token in the frames of the interpreter. All
this keeps accidents and a model's usual mistakes away from your machine, and not an attacker: for that take a virtual
machine that holds nothing. So nothing is run unless --allow-code-execution is given.

No torch in this file: a guard runs it, and must start quickly.
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
LIMITS = {  # of each process in the sandbox
    resource.RLIMIT_CPU: SECONDS,  # seconds
    resource.RLIMIT_AS: 2 * 2**30,  # bytes of address space
    resource.RLIMIT_FSIZE: 2**20,  # bytes in one file
    resource.RLIMIT_NOFILE: 64,
    resource.RLIMIT_CORE: 0,
}
PROCESSES = 32  # of one user, its threads among them
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000  # flags of unshare(2)
SUBREAPER = 36  # option of prctl(2): orphans become children of this process


def passes(program: str, tests: str) -> bool:
    """True if the program, and then the tests behind it in the same module, run to their end without an error."""
    folder = tempfile.mkdtemp(prefix="program-")
    command = [sys.executable, "-I", __file__]
    environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        told, _ = process.communicate(json.dumps([program, tests, SECONDS]).encode(), timeout=SECONDS + 5)
    except subprocess.TimeoutExpired:  # the guard has been stopped
        told = b""
    finally:
        with contextlib.suppress(ProcessLookupError):  # the usual end: there is nobody left
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
    """Run the program and its tests in a child, kill what is left of them, and tell whether they passed."""
    program, tests, seconds = json.loads(sys.stdin.buffer.read())
    system = ctypes.CDLL(None, use_errno=True)
    if hasattr(system, "prctl"):
        system.prctl(SUBREAPER, 1, 0, 0, 0)
    if hasattr(system, "unshare"):
        if os.getuid() == 0:
            # The limit on processes holds for every user but root, and counts those of the real user; files are opened
            # by the effective one, who stays: an interpreter in root's folder must still find its modules.
            os.setresuid(60_000 + os.getpid() % 5_000, 0, 0)
        # Refused on some systems, and then the child has the limits alone.
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
    with contextlib.suppress(BlockingIOError):  # nothing in the pipe, and somebody still holds its other end
        handed = os.read(reader, 1000)
    sys.stdout.write("passed" if handed == token else "failed")


def kill_descendants() -> None:
    """Kill every child of this process until there is none. What the program detached has become one (SUBREAPER)."""
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
    """In the child: limit it, run the program and its tests, and hand the token over. Never returns."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    for limit, value in {**LIMITS, resource.RLIMIT_NPROC: PROCESSES}.items():
        hard = resource.getrlimit(limit)[1]  # nobody may go beyond the limits of this machine
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # some systems lack one
            resource.setrlimit(limit, (value, value))
    try:
        sys.modules["program"] = module = types.ModuleType("program")  # dataclasses look for the module of a class
        scope = module.__dict__
        exec(compile(program, "program", "exec"), scope)
        exec(compile(tests, "tests", "exec"), scope)
        os.write(writer, token)
    finally:
        os._exit(0)


if __name__ == "__main__":
    guard()
