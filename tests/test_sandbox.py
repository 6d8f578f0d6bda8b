"""sandbox.py: programs pass their tests or do not, and whatever they do leaves nothing behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verify import sandbox
from verify.sandbox import passes, passes_all


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", 1)


def test_a_program_passes_its_tests_or_does_not():
    assert passes("def f(x):\n    return x + 1", "assert f(1) == 2")
    assert not passes("def f(x):\n    return x + 1", "assert f(1) == 3")
    assert not passes("def f(x:", "")
    assert not passes("", "assert f(1) == 2")
    assert passes("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 1", "assert A().x == 1")
    assert passes("import math, collections, re, random, heapq, decimal", "assert math.floor(1.5) == 1")


def test_many_are_run_at_once_and_answered_in_order():
    assert passes_all([(f"x = {i}", "assert x % 3 == 0") for i in range(9)]) == [True, False, False] * 3
    assert passes_all([]) == []


@pytest.mark.parametrize("ending", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "quit()"])
def test_ending_early_earns_nothing(ending):
    assert not passes(ending, "assert False")
    assert not passes(f"def f():\n    {ending}", "f()")


def test_a_made_up_token_earns_nothing():
    program = (
        "import os\nfor fd in range(3, 60):\n    try: os.write(fd, b'passed')\n    except OSError: pass\nos._exit(0)"
    )
    assert not passes(program, "assert False")
    assert not passes("print('passed')", "assert False")


def namespaces() -> bool:
    """Whether this system lets an ordinary process have namespaces of its own."""
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x70000000) != 0)"
    return sys.platform == "linux" and subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Nothing binds root's processes where there are no namespaces, as sandbox.py says.
unbound = sys.platform != "linux" or (os.getuid() == 0 and not namespaces())

MISCHIEF = {
    "loop": "while True: pass",
    "sleep": "import time; time.sleep(1000)",
    "memory": "x = []\nwhile True: x.append('a' * 10**7)",
    "flood": "import sys\nwhile True: sys.stdout.write('x' * 10**6); sys.stderr.write('x' * 10**6)",
    "file": "f = open('big', 'wb')\nwhile True: f.write(b'x' * 10**6)",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "deaf": "import signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: time.sleep(1)",
    "daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\nos.wait()\nraise ValueError"
    ),
    "input": "input()",
    "recursion": "def f(): f()\nf()",
    "killer": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nraise ValueError",
    "threads": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(100,)).start()",
}


def processes_in(folder: str) -> list[str]:
    """The processes that work in a sandbox's folder, and are not just about to end."""
    time.sleep(0.3)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if folder in os.readlink(entry / "cwd"):
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kind", MISCHIEF)
def test_mischief_fails_cleanly_in_limited_time_and_nothing_is_left(kind, monkeypatch, tmp_path):
    if unbound and kind in ("forks", "threads"):
        pytest.skip("no limit on processes here")
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    started = time.perf_counter()
    assert not passes(MISCHIEF[kind], "")
    assert time.perf_counter() - started < sandbox.SECONDS + 6
    assert not processes_in(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kind", ["loop", "daemon"])
def test_without_namespaces_nothing_is_left_either(kind, monkeypatch, tmp_path):
    copy = tmp_path / "sandbox.py"
    copy.write_text(Path(sandbox.__file__).read_text().replace('hasattr(system, "unshare")', "False"))
    monkeypatch.setattr(sandbox, "__file__", str(copy))
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    assert passes("import os", "assert os.getpid() > 1")  # there are none
    assert not passes(MISCHIEF[kind], "")
    assert not processes_in(str(tmp_path))


def test_a_machine_of_lower_limits_runs_programs_too():
    code = "from verify import sandbox; print(sandbox.passes('x = 1', 'assert x == 1'))"
    command = ["bash", "-c", f'ulimit -v 1500000 -n 50; "$0" -c "{code}"', sys.executable]
    told = subprocess.run(command, cwd=Path(sandbox.__file__).parent.parent, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "True"


@pytest.mark.skipif(not namespaces(), reason="this system allows no namespaces")
def test_where_namespaces_are_allowed_there_is_no_network_and_no_process_but_ones_own():
    assert passes("import socket", "assert [name for _, name in socket.if_nameindex()] == ['lo']")
    away = "import socket, errno\ncode = socket.socket().connect_ex(('127.0.0.1', 9))"
    assert passes(away, "assert code == errno.ENETUNREACH")  # not even this machine: its loopback is down
    assert passes("import os", "assert os.getpid() == 1")


@pytest.mark.skipif(unbound, reason="no limit on processes here")
def test_no_more_processes_than_allowed():
    program = "import os, time\nn = 0\ntry:\n    for n in range(200):\n        if os.fork() == 0: time.sleep(60)\n"
    assert passes(program + "except OSError: pass", f"assert 2 < n <= {sandbox.PROCESSES}")


def test_no_file_grows_beyond_the_limit():
    program = "f, full = open('big', 'wb'), False\n"
    program += "try:\n    f.write(bytes(5 * 10**6))\n    f.flush()\nexcept OSError: full = True"
    assert passes(program, "import os\nassert full and os.path.getsize('big') <= 2**20")


def test_nothing_of_our_environment_is_seen(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "42")
    assert passes("import os", "assert 'SECRET_TOKEN' not in os.environ and os.listdir() == []")
    assert not passes("import toy", "")  # nor our modules: python -I in an empty folder
