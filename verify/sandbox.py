"""sandbox.py: does a program that a model wrote pass its tests, and what if it is not harmless?

`passes(program, tests)` starts this very file as another process, the guard. For each run of the program the guard
forks a keeper, and the keeper forks the process that becomes the program. What holds the program:

* `python -I`, a session of its own, an empty folder that is deleted afterwards, none of our environment variables, and
  no standard input, output or errors but those of its test.
* Limits on processor time, memory, file size, open files and processes, and on the time on the clock. When that is
  over, every process that the program started is killed, also those that it detached.
* Where the system allows it (usually on Linux), namespaces of its own: no network, no privileges, no process but its
  own in sight or in reach of a signal, no shared memory that stays, and nothing outlives the program.
* Tests that are asserts: a one-time token, which is handed back after the last test. A program that ends early, by
  `sys.exit(0)` or `os._exit(0)`, has not passed.
* Tests that compare what is printed: the program runs once for each, as a script with real descriptors. What it must
  print never enters its processes, so that nothing but printing it passes.

**What does not hold it.** A program can read every file that you can read, and write wherever you can write: the empty
folder is no wall, and the disk may fill until it is emptied. Without namespaces it also has the network, System V
memory that stays, and sight of your other processes; it can kill its keeper and its guard, and then outlives them if it
hides from the search for its environment; and if you are root, it can start any number of processes. Asserts run beside
the program in one interpreter, so a program that is written to cheat can pass them: it changes `builtins`, returns
objects that claim to be equal to anything, or looks for the token in the frames of the interpreter. So your machine is
safe from accidents and from a model's usual mistakes, but not from an attacker. Against an attacker use a virtual
machine that holds nothing. This is why nothing runs without --allow-code-execution.

This file imports little, and nothing but the standard library: the guard must start quickly.
"""

import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import types

try:
    import resource
except ImportError:  # Windows
    resource = None

AVAILABLE = resource is not None and hasattr(os, "fork")  # can this system run programs?
SECONDS = 5  # on the clock, for all runs of a program with its tests
LIMITS = {  # for each process in the sandbox
    "CPU": SECONDS,  # seconds
    "AS": 2 * 2**30,  # bytes of address space
    "FSIZE": 2**20,  # bytes in one file
    "NOFILE": 64,
    "CORE": 0,
    "NPROC": 32,  # processes of one user; threads count as processes
}
# Flags of unshare(2)
NEW_USER, NEW_PROCESSES, NEW_NETWORK, NEW_MEMORY, NEW_MOUNTS = 0x10000000, 0x20000000, 0x40000000, 0x8000000, 0x20000
# Options of prctl(2): orphans become children of this process; no other process may look into this one; a signal when
# the parent dies; nothing that is started gains privileges; one privilege less for ever
SUBREAPER, DUMPABLE, DEATH_SIGNAL, NO_NEW_PRIVILEGES, DROP = 36, 4, 1, 38, 24


def passes(program: str, tests: str | list) -> bool:
    """True if the program, and then the tests behind it in the same module, run to their end without an error.

    Tests may also be a list of [what the program reads, what it must print]. Then it runs once for each, as a script,
    and its output is compared word by word. ValueError where the system can run no programs.
    """
    if not AVAILABLE:
        raise ValueError("grading code runs programs, and that needs Linux or another Unix: there is no fork here")
    folder = tempfile.mkdtemp(prefix="program-")
    held = os.open(folder, os.O_RDONLY)  # what the program names or links so later is not what we empty
    # A pipe could be opened again through our /proc/PID/fd, and an answer be forged; a socket cannot.
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-I", __file__],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    theirs.close()
    right = None
    try:
        with ours, contextlib.suppress(OSError, ValueError):  # the guard is dead, or stopped
            # The guard keeps the time; these five seconds more are for one that the program has stopped.
            ours.settimeout(SECONDS + 5)
            right = examined(ours, program, tests)
    finally:
        if right is not None:  # the guard ends with the last question, and nothing else is left
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if right is None:
            kill_strays(folder)
        empty(held)
        os.close(held)
        with contextlib.suppress(OSError):
            (os.rmdir if stat.S_ISDIR(os.lstat(folder).st_mode) else os.unlink)(folder)
    return bool(right)


def examined(guard: socket.socket, program: str, tests: str | list) -> bool:
    """The guard's verdict, as `passes` gives it. OSError or ValueError if the guard does not answer."""
    with guard.makefile("rb") as answers:

        def ask(*question) -> str | None:
            guard.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(answers.readline())

        if isinstance(tests, str):
            return ask(program, tests, "", 0, SECONDS) == "passed"
        for given, wanted in tests:
            printed = ask(program, None, given, 2 * len(wanted), SECONDS)  # it may be longer than what is right
            if printed is None or printed.split() != wanted.split():
                return False
        return len(tests) > 0


def passes_all(programs: list[tuple[str, str | list]]) -> list[bool]:
    """`passes` for each (program, tests), as many at a time as there are cores."""
    from concurrent.futures import ThreadPoolExecutor  # here, not above: the guard does without it

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return list(threads.map(lambda pair: passes(*pair), programs))


def kill_strays(folder: str) -> None:
    """Kill the processes that have this folder in their environment: all that a program started, if its guard died."""
    killed = os.path.isdir("/proc")
    while killed:
        killed = False
        for number in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{number}/environ", "rb") as environment:
                if folder.encode() in environment.read():
                    os.kill(int(number), signal.SIGKILL)
                    killed = True


def empty(folder: int) -> None:
    """Delete all in an open folder, for a minute at most, and never raise. Nothing recurses, however deep it is.

    Subfolders are not entered one in the other: what lies in one is moved up, beside it, until only files are left.
    """
    until, prefix, moved = time.monotonic() + 60, os.urandom(8).hex(), 0
    with contextlib.suppress(OSError):  # what cannot be deleted stays
        os.fchmod(folder, 0o700)
        while time.monotonic() < until and (names := subfolders(folder)):
            for name in names:
                inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    for deeper in subfolders(inner):
                        moved += 1
                        os.rename(deeper, f"{prefix}-{moved}", src_dir_fd=inner, dst_dir_fd=folder)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=folder)


def subfolders(folder: int) -> list[str]:
    """The names of the subfolders of an open folder, made writable. Everything else in it is deleted."""
    found = []
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            os.chmod(name, 0o700, dir_fd=folder)  # without it, nothing could be moved out of it, nor it itself
            found.append(name)
        else:
            os.unlink(name, dir_fd=folder)
    return found


# --- in the guard: a process between us and the program ---------------------------------------------------------------


def guard() -> None:
    """Have each program run that is asked for, and answer in JSON: "passed" or what it printed, or null if it failed.

    A question is a line of JSON: [program, tests, what it reads, length of its output, seconds for all questions].
    """
    system = ctypes.CDLL(None, use_errno=True)
    if hasattr(system, "prctl"):
        system.prctl(SUBREAPER, 1, 0, 0, 0)
    if os.getuid() == 0 and hasattr(os, "setresuid"):
        # The limit on processes does not hold for root. It counts by the real user, so that one becomes somebody else.
        # Files are opened as the effective user: that stays, so that an interpreter in root's folder works.
        os.setresuid(60_000 + os.getpid() % 5_000, 0, 0)
    if hasattr(system, "prctl"):
        system.prctl(DUMPABLE, 0, 0, 0, 0)  # so no program opens our descriptors or memory through /proc
    gc.freeze()  # each child ends the interpreter, which then need not look through what we had before
    started = time.monotonic()
    for line in sys.stdin.buffer:
        question = json.loads(line)
        keeper = os.fork()
        if keeper == 0:
            keep(system, *question[:4], until=started + question[4])
        _, status = os.waitpid(keeper, 0)
        kill_descendants()  # the program may have killed its keeper
        if status != 0:
            print("null", flush=True)
    os._exit(0)


def keep(system: ctypes.CDLL, program: str, tests: str | None, given: str, longest: int, until: float) -> None:
    """Run a program in a child, kill all that it started, and answer for the guard. Never returns.

    The namespaces begin here, because only the first process of one can end it, and each run needs its own.
    """
    # Some systems refuse them; then only the limits hold the child.
    flags = NEW_USER | NEW_PROCESSES | NEW_NETWORK | NEW_MEMORY | NEW_MOUNTS
    apart = hasattr(system, "unshare") and (system.unshare(flags) == 0 or system.unshare(flags & ~NEW_USER) == 0)
    token = os.urandom(16).hex().encode()
    reader, writer = os.pipe()
    # Files, because many a program reads the whole of its input by the size of the file.
    source, sink = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    source.write(given.encode(errors="surrogatepass"))
    source.seek(0)
    child = os.fork()
    if child == 0:
        os.close(reader)
        for standard, file in enumerate((source, sink)):
            os.dup2(file.fileno(), standard)
            file.close()
        hold(system, apart, max(LIMITS["FSIZE"], longest))
        if tests is None:
            os.close(writer)
            run_script(program)
        run_tests(program, tests, token, writer)
    os.close(writer)
    ended = (0, 0)
    while time.monotonic() < until and (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        time.sleep(0.0005)
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    kill_descendants()
    answer = None
    if tests is None and ended == (child, 0):
        sink.seek(0)
        answer = sink.read().decode(errors="replace")
    elif tests is not None:
        os.set_blocking(reader, False)
        with contextlib.suppress(BlockingIOError):  # the pipe is empty, and somebody still holds its other end
            answer = "passed" if os.read(reader, 1000) == token else None
    print(json.dumps(answer), flush=True)
    os._exit(0)


def kill_descendants() -> None:
    """Kill the children of this process until none is left; SUBREAPER made children of what the program detached."""
    while True:
        # Without such a file, the namespace ends what is left.
        with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as listed:
            for number in listed.read().split():
                os.kill(int(number), signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


# --- in the child: the process that becomes the program ---------------------------------------------------------------


def hold(system: ctypes.CDLL, apart: bool, longest: int) -> None:
    """Leave the group of the keeper, take what is private to the namespaces, drop all privileges and set the limits."""
    os.setsid()  # a signal to one's group does not reach the guard
    if apart:
        # No mount is seen outside. The new /proc shows the program's own processes; where it is refused, the old one
        # stays, and shows others but opens none of them.
        system.mount(None, b"/", None, ctypes.c_ulong(0x44000), None)  # MS_REC | MS_PRIVATE
        system.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None)
    if hasattr(system, "prctl"):
        # With its privileges in the namespace, it could map itself to a user without limits.
        for privilege in range(64):
            system.prctl(DROP, privilege, 0, 0, 0)
        system.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
        if os.getuid() == os.geteuid():  # otherwise, what it starts could not read its folder
            system.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        system.prctl(DUMPABLE, 1, 0, 0, 0)  # kill_strays must see its environment
        system.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    for name, value in {**LIMITS, "FSIZE": longest}.items():
        limit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(limit)[1]  # asking for more than the machine's own limit is an error
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # a limit that this system lacks
            resource.setrlimit(limit, (value, value))


def run_tests(program: str, tests: str, token: bytes, writer: int) -> None:
    """Run the program and then its tests, without input or output, and hand the token over. Never returns."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    try:
        sys.modules["program"] = module = types.ModuleType("program")  # dataclasses look up the module of a class
        scope = module.__dict__
        exec(compile(program, "program", "exec"), scope)
        exec(compile(tests, "tests", "exec"), scope)
        os.write(writer, token)
    finally:
        os._exit(0)


def run_script(program: str) -> None:
    """Run the program as `python program.py` does: what it reads and prints are the descriptors 0 and 1.

    Ends in SystemExit or the program's own error, which leave this file, too: then the interpreter waits for the
    program's threads, calls what it registered with atexit and flushes its files. That an exit code is not 0 counts
    only if an error made it so.
    """
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(standard, mode, encoding="utf-8", closefd=False) for standard, mode in enumerate("rww")
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["program.py"]
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    with contextlib.suppress(SystemExit):
        exec(compile(program, "program.py", "exec"), module.__dict__)
    sys.exit()


if __name__ == "__main__":
    guard()
