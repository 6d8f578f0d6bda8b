"""sandbox.py: programs pass their tests or do not, and whatever they do leaves nothing behind.

Programs that must pass have a minute, so that a slow machine changes no verdict. Only what must fail is cut off soon.
"""

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from verify import sandbox
from verify.sandbox import passes, passes_all


@pytest.fixture(autouse=True)
def a_minute(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", 60)


@pytest.mark.parametrize(
    ("program", "tests", "expected"),
    [
        ("def f(x):\n    return x + 1", "assert f(1) == 2", True),
        ("def f(x):\n    return x + 1", "assert f(1) == 3", False),
        ("def f(x):\n    return x + 1", "assert f(1) == 2\nassert f(1) == 3", False),
        ("def f(x:", "", False),
        ("", "assert f(1) == 2", False),
        ("x = 1", "assert x ==", False),  # broken tests are not passed
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 1", "assert A().x == 1", True),
        ("import math, collections, re, random, heapq, decimal", "assert math.floor(1.5) == 1", True),
        ("print('passed')", "assert False", False),
        ("print('hello', flush=True)", "print('world', flush=True)", True),
        ("input()", "", False),
        ("def f(): f()\nf()", "", False),
    ],
)
def test_a_program_passes_its_tests_or_does_not(program, tests, expected):
    assert passes(program, tests) is expected


def test_many_are_run_at_once_and_answered_in_order():
    assert passes_all([(f"x = {i}", "assert x % 3 == 0") for i in range(6)]) == [True, False, False] * 2
    assert passes_all([]) == []


@pytest.mark.parametrize("ending", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "quit()"])
def test_ending_early_earns_nothing(ending):
    assert passes_all([(ending, "assert False"), (f"def f():\n    {ending}", "f()")]) == [False, False]


@pytest.mark.parametrize("token", [b"passed", b"0" * 16, b"0" * 32, b"0" * 64], ids=str)
def test_a_made_up_token_earns_nothing(token):
    write = f"import os\nfor fd in range(60):\n    try: os.write(fd, {token!r})\n    except OSError: pass\n"
    assert passes(write, "assert False") is False
    assert passes(f"{write}os._exit(0)", "") is False


def test_every_program_has_a_token_of_its_own(tmp_path):
    # The program finds its token in the frames of the interpreter, as sandbox.py says that it can.
    steal = "import sys\nfound = [v for v in sys._getframe(1).f_locals.values() if isinstance(v, bytes)]\n"
    steal += f"open({str(tmp_path / 'tokens')!r}, 'a').write(max(found, key=len).hex() + '\\n')"
    assert [passes(steal, ""), passes(steal, "")] == [True, True]
    first, second = (tmp_path / "tokens").read_text().split()
    assert first != second


# --- limits -----------------------------------------------------------------------------------------------------------


def namespaces() -> bool:
    """Whether this system lets an ordinary process have namespaces of its own."""
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x70000000) != 0)"
    return sys.platform == "linux" and subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Nothing binds root's processes where there are no namespaces, as sandbox.py says.
unbound = sys.platform != "linux" or (os.getuid() == 0 and not namespaces())


@pytest.mark.parametrize(
    ("limit", "value"),
    [("CPU", 5), ("AS", 2 * 2**30), ("FSIZE", 2**20), ("NOFILE", 64), ("CORE", 0), ("NPROC", 32)],
)
def test_a_program_has_these_limits_and_cannot_raise_them(limit, value):
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{limit}"))[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    assert passes("import resource", f"assert resource.getrlimit(resource.RLIMIT_{limit}) == ({value}, {value})")


def test_memory_and_files_end_at_their_limits():
    big = "try: x = bytes(3 * 2**30)\nexcept MemoryError: x = None"  # zeros, which the system hands out for nothing
    full = "f, full = open('big', 'wb'), False\n"
    full += "try:\n    f.write(bytes(5 * 10**6))\n    f.flush()\nexcept OSError: full = True"
    tests = "import os\nassert full and os.path.getsize('big') <= 2**20"
    assert passes_all([(big, "assert x is None"), (full, tests)]) == [True, True]


@pytest.mark.skipif(unbound, reason="no limit on processes here")
def test_no_more_processes_than_allowed():
    program = "import os, time\nn = 0\ntry:\n    for n in range(200):\n        if os.fork() == 0: time.sleep(60)\n"
    assert passes(program + "except OSError: pass", "assert 2 < n <= 32")


def test_a_machine_of_lower_limits_runs_programs_too():
    code = "from verify import sandbox; sandbox.SECONDS = 60; print(sandbox.passes('x = 1', 'assert x == 1'))"
    command = ["bash", "-c", f'ulimit -v 1500000 -n 50; "$0" -c "{code}"', sys.executable]
    told = subprocess.run(command, cwd=Path(sandbox.__file__).parent.parent, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "True"


@pytest.mark.skipif(not namespaces(), reason="this system allows no namespaces")
def test_where_namespaces_are_allowed_there_is_no_network_and_no_process_but_ones_own():
    away = "import socket, errno\ncode = socket.socket().connect_ex(('127.0.0.1', 9))"
    programs = [
        ("import socket", "assert [name for _, name in socket.if_nameindex()] == ['lo']"),
        (away, "assert code == errno.ENETUNREACH"),  # not even this machine: its loopback is down
        ("import os", "assert os.getpid() == 1"),
    ]
    assert passes_all(programs) == [True] * 3


def test_nothing_of_ours_is_seen(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "42")
    programs = [
        ("import os", "assert sorted(set(os.environ) - {'LC_CTYPE'}) == ['HOME', 'LANG', 'PATH', 'TMPDIR']"),
        ("import os", "assert os.listdir() == [] and os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR']"),
        ("import sys", "assert sys.stdin.read() == '' and not sys.stdout.isatty() and sys.flags.isolated"),
    ]
    assert passes_all(programs) == [True] * 3
    assert not passes("import toy", "")  # nor our modules


# --- mischief ---------------------------------------------------------------------------------------------------------

MISCHIEF = {
    "loop": "while True: pass",
    "flood": "import sys\nwhile True: sys.stdout.write('x' * 10**6); sys.stderr.write('x' * 10**6)",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "deaf": "import signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: time.sleep(1)",
    "away": "import os, time\nos.setsid()\ntime.sleep(1000)",
    "daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\nos.wait()\nraise ValueError"
    ),
    "killer": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nraise ValueError",
    "threads": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(100,)).start()",
}


# Writes to every descriptor of its own, and to those of guards and keepers. To no other process: a broken sandbox, as
# root, would let it.
EVERY_FD = """
import glob, os
for number in range(64):
    try: os.write(number, b'"passed"\\n')
    except OSError: pass
for path in glob.glob('/proc/[0-9]*/fd/*'):
    try:
        if b'sandbox.py' in open(path.rsplit('/', 2)[0] + '/cmdline', 'rb').read() and str(os.getpid()) not in path:
            os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), b'"passed"\\n')
    except OSError: pass
"""
GROUP = """
import ctypes, os, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
    time.sleep(0.1)
    os.kill(0, 9)
try: os.setsid()
except OSError: pass
time.sleep(1000)
"""
# Finds its guard as its parent's parent, where it sees it, and sends both a signal
GUARD = """
import ctypes, os, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
if os.fork() == 0:
    os.setsid()
    time.sleep(1000)
keeper = os.getppid()
if keeper > 1:
    guard = int(open(f'/proc/{keeper}/stat').read().rsplit(')', 1)[1].split()[1])
    os.kill(guard, SIGNAL), os.kill(keeper, SIGNAL)
time.sleep(1000)
"""
MISCHIEF |= {
    "forge": EVERY_FD + "raise ValueError",
    "forge and exit": EVERY_FD + "os._exit(0)",
    "group": GROUP,
    "guard": GUARD.replace("SIGNAL", "9"),
    "exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "memory": "x = []\nwhile True: x.append(bytes(10**8) + b'1')",
    "surrogate": "x = '\ud800'",
    "NUL": "x = 1\0",
    "parentheses": "(" * 100_000,
    "signs": "-" * 1_000_000 + "1",
    "flood": "import os\nfor i in range(10**5): os.write(1, bytes(10**5))\nraise ValueError",
    "argv": "import sys\nassert any('passed' in x for x in sys.argv)",
    "assert": "import builtins\nbuiltins.AssertionError = int\nassert False",
}


def left_in(folder: Path) -> list[str]:
    """What is left after a minute at most: processes that work in a folder below this one, and the folders."""
    until = time.monotonic() + 60
    while True:
        found = [path.name for path in folder.glob("program-*")]
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"{folder}/program-" in os.readlink(entry / "cwd"):
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("own_namespaces", [True, False])
def test_mischief_fails_and_leaves_nothing(own_namespaces, monkeypatch, tmp_path):
    kinds = set(MISCHIEF)
    if not own_namespaces:
        copy = tmp_path / "sandbox.py"
        copy.write_text(Path(sandbox.__file__).read_text().replace('hasattr(system, "unshare")', "False"))
        monkeypatch.setattr(sandbox, "__file__", str(copy))
        assert passes("import os", "assert os.getpid() > 1 and os.getsid(0) == os.getpid()")  # there are none
    if unbound or (os.getuid() == 0 and not own_namespaces):
        kinds -= {"forks", "threads"}
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sandbox, "SECONDS", 1)
    with ThreadPoolExecutor(len(kinds)) as threads:  # most of them wait for their end: at the same time
        right = dict(zip(kinds, threads.map(lambda kind: passes(MISCHIEF[kind], ""), kinds), strict=True))
    assert not [kind for kind in kinds if right[kind]]
    assert left_in(tmp_path) == []


# --- programs that read and print -------------------------------------------------------------------------------------

SCRIPTS = {  # each must print the number that it reads, plus 1
    "input": "print(int(input()) + 1)",
    "open(0)": "print(int(open(0).read()) + 1)",
    "os.read": "import os\nprint(int(os.read(0, 100)) + 1)",
    "fstat": "import io, os\nprint(int(io.BytesIO(os.read(0, os.fstat(0).st_size)).readline()) + 1)",
    "buffer": "import sys\nprint(int(sys.stdin.buffer.readline()) + 1)",
    "fileinput": "import fileinput\nfor line in fileinput.input(): print(int(line) + 1)",
    "/dev/stdin": "print(int(open('/dev/stdin').read()) + 1)",
    "__stdout__": "import sys\nsys.__stdout__.write(str(int(sys.__stdin__.readline()) + 1))",
    "os.write": "import os\nos.write(1, str(int(input()) + 1).encode())",
    "open(1)": "f = open(1, 'w')\nf.write(str(int(input()) + 1))",  # flushed when the interpreter ends
    "atexit": "import atexit\nx = int(input())\natexit.register(lambda: print(x + 1))",
    "thread": "import threading\nthreading.Thread(target=lambda: print(int(input()) + 1)).start()",
    "main": "if __name__ == '__main__':\n    import __main__\n    print(int(input()) + 1)\n    exit()",
    "exit 1": "import sys\nprint(int(input()) + 1)\nsys.exit(1)",
    "os._exit": "import os\nprint(int(input()) + 1, flush=True)\nos._exit(0)",
    "future": "from __future__ import annotations\ndef f(x: Nothing): print(x + 1)\nf(int(input()))",
    "child": "import subprocess\nprint(int(subprocess.run(['cat'], capture_output=True).stdout) + 1)",
    "state": "import os\nassert not os.path.exists('x')\nprint(int(input()) + 1)",
    "long": "print(int(input()) + 1)\nprint(' ' * 10**6)",
}


def test_a_script_reads_and_prints_as_it_would_alone():
    right = passes_all([(program, [["41\n", "42"], ["-1", "0\n"]]) for program in SCRIPTS.values()])
    assert not [name for name, passed in zip(SCRIPTS, right, strict=True) if not passed]


def test_every_run_of_a_script_counts():
    assert not passes(SCRIPTS["input"], [])  # nothing was asked
    assert not passes(SCRIPTS["input"], [["41\n", "42"], ["-1", "1\n"]])
    assert not passes(SCRIPTS["input"], [["41\n", "41"], ["-1", "0\n"]])


WRONG_SCRIPTS = [
    "print(42)\nraise ValueError",
    "print(42)\nimport os, sys\nsys.stdout.flush()\nos._exit(3)",
    "print(42)\nimport os, sys\nsys.stdout.flush()\nos.abort()",
    "print('4', '2')",
    "print(42, 42)",
    "print('42' + ' ' * 10**7)",  # too long to be right
    "import sys\nf = sys._getframe()\nwhile f: print(*f.f_locals.values()); f = f.f_back",  # 42 is not there
    "print(42, file=__import__('sys').stderr)",
    "print(",
    "",
]


def test_a_script_that_fails_or_prints_anything_else_is_wrong():
    right = passes_all([(program, [["", "42"]]) for program in WRONG_SCRIPTS])
    assert not [program for program, passed in zip(WRONG_SCRIPTS, right, strict=True) if passed]


@pytest.mark.slow
def test_all_runs_of_a_script_share_the_time(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", 1)
    started = time.monotonic()
    assert not passes("import time\ntime.sleep(0.3)\nprint(1)", [["", "1"]] * 1000)
    assert time.monotonic() - started < 60  # and not 300 s


# --- more of it -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("own_namespaces", [True, False])
def test_a_stopped_guard_is_given_up(own_namespaces, monkeypatch, tmp_path):
    if not own_namespaces:
        copy = tmp_path / "sandbox.py"
        copy.write_text(Path(sandbox.__file__).read_text().replace('hasattr(system, "unshare")', "False"))
        monkeypatch.setattr(sandbox, "__file__", str(copy))
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sandbox, "SECONDS", 1)
    assert not passes(GUARD.replace("SIGNAL", "19"), "")
    assert left_in(tmp_path) == []


@pytest.mark.skipif(not namespaces(), reason="this system allows no namespaces")
@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("import os", "assert [x for x in os.listdir('/proc') if x.isdigit()] == ['1']"),
        ("status = open('/proc/self/status').read()", "assert 'CapEff:\\t0000000000000000' in status"),
        ("import os\ntry: os.write(os.open('/proc/self/uid_map', 1), b'0 0 1')\nexcept OSError: ok = 1", "ok"),
        ("import ctypes", "assert ctypes.CDLL(None).unshare(0x10000000) != 0"),  # no namespace with privileges
        ("import ctypes", "assert ctypes.CDLL(None).mount(b'x', b'.', b'tmpfs', 0, None) != 0"),
        ("import os\ntry: os.setuid(0)\nexcept OSError: pass", "assert os.getuid() != 0"),
        ("import os", "assert os.getsid(0) == os.getpid()"),
        ("import ctypes\nx = ctypes.c_int()", "ctypes.CDLL(None).prctl(2, ctypes.byref(x))\nassert x.value == 9"),
    ],
)
def test_in_namespaces_of_its_own_a_program_has_no_privileges(program, tests):
    assert passes(program, tests)


@pytest.mark.skipif(not namespaces(), reason="this system allows no namespaces")
def test_shared_memory_ends_with_the_program():
    segments = Path("/proc/sysvipc/shm")
    before = segments.read_text()
    assert passes("import ctypes", "assert ctypes.CDLL(None).shmget(0, 4096, 0o1666) >= 0")
    assert segments.read_text() == before


# --- the folder -------------------------------------------------------------------------------------------------------

FOLDERS = {
    "deep": "for i in range(1500): os.mkdir('d'); os.chdir('d')",
    "deep, long names": "for i in range(1100): os.mkdir('d' * 20); os.chdir('d' * 20)",
    "deep, closed": (
        "for i in range(50): os.mkdir('d'); os.chdir('d')\n"
        "for i in range(50): os.chdir('..'); os.chmod('d', 0)\nos.chmod('.', 0)"
    ),
    "wide": "for i in range(500): open(str(i), 'w').close()",
    "bushy": "for i in range(50): os.makedirs(f'{i}/a/b'); open(f'{i}/a/b/c', 'w').close()",
    "odd": "os.mkfifo('f')\nos.symlink('/', 's')\nos.symlink('.', 't')\nopen(b'\\xff\\n', 'w').close()",
    "link": "os.rmdir(os.environ['HOME'])\nos.symlink(VICTIM, os.environ['HOME'])",
    "file": "os.rmdir(os.environ['HOME'])\nopen(os.environ['HOME'], 'w').close()",
}


LONG = [pytest.param(FOLDERS[name], marks=pytest.mark.slow, id=name) for name in ("wide", "bushy", "file", "deep")]
SHORT = [
    pytest.param(program, id=name) for name, program in FOLDERS.items() if program not in [x.values[0] for x in LONG]
]


@pytest.mark.parametrize("program", SHORT + LONG)
def test_the_folder_is_gone_whatever_the_program_made_of_it(program, monkeypatch, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o711)
    (victim / "file").touch()
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    assert passes("import os\n" + program.replace("VICTIM", repr(str(victim))), "")
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert victim.stat().st_mode & 0o777 == 0o711
    assert [path.name for path in victim.iterdir()] == ["file"]


def test_where_there_is_no_fork_programs_are_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(sandbox, "AVAILABLE", False)
    with pytest.raises(ValueError, match="Linux"):
        passes("", "")
