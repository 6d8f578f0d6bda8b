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
        assert not any(threads.map(lambda kind: passes(MISCHIEF[kind], ""), kinds))
    assert left_in(tmp_path) == []
