"""Other systems: what Windows, macOS and Apple's GPU lack is not needed. None of the three was at hand: see README."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import train
from data import Problem, check_code_execution
from engine import head, memory
from running import models, timing
from running.files import BadInput
from verify import sandbox

ROOT = Path(__file__).parent.parent

# What Windows has not, taken away once torch and the others are loaded: they have been ported, and that is their task.
WINDOWS = """
    import os, pathlib, signal, subprocess, sys
    import datasets, matplotlib.pyplot, torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM, Qwen2ForSequenceClassification
    from transformers import Qwen2Tokenizer
    torch.set_num_threads(1)
    for name in ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty"):
        sys.modules[name] = None  # an import of it is an ImportError
    subprocess.Popen.kill = subprocess.Popen.terminate  # there they are the same
    gone = {
        os: "sysconf fork forkpty killpg setsid setpgid getpgid getuid geteuid setresuid setuid nice mkfifo waitid "
            "wait3 wait4 uname O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG register_at_fork",
        signal: "alarm setitimer pause SIGALRM SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGPIPE SIGXCPU SIGXFSZ "
                "pthread_sigmask pthread_kill sigwait siginterrupt",
    }
    for module, names in gone.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    whole = pathlib.Path.exists
    pathlib.Path.exists = lambda path, **flags: not str(path).startswith(("/proc", "/sys")) and whole(path, **flags)
"""
# Every module, a step of training with its study, and a verdict that math-verify has to give.
WORK = """
    import importlib
    files = [path.relative_to(".") for path in pathlib.Path(".").rglob("*.py") if not str(path).startswith(".")]
    names = [".".join(path.with_suffix("").parts) for path in files if path.parts[0] not in ("tests", "runs")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    import verify, train
    assert verify.grade([r"\\\\boxed{\\\\frac{2}{4}}"], ["1/2"], ["math"]) == [True]
    code = train.main([*sys.argv[1:]])
    print(len(names), "modules; train.py:", code)
"""


@pytest.mark.slow  # torch and the others are imported anew
def test_nothing_that_windows_lacks_is_needed_to_train_and_to_compare(base, tmp_path):
    flags = f"--model {base} --data toy --run {tmp_path / 'run'} --steps 1 --prompts-per-step 2 --max-new-tokens 30"
    flags += " --eval-data toy --eval-samples 2 --eval-limit 2 --rollouts-per-prompt 2"
    program = textwrap.dedent(WINDOWS) + textwrap.dedent(WORK)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, *flags.split()], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    modules, _, said = done.stdout.splitlines()[-1].partition(" ")
    assert int(modules) > 80 and said == "modules; train.py: 0"
    assert (tmp_path / "run" / "report.html").is_file()


def test_no_module_imports_at_once_what_only_unix_has():
    """The same for the fast tests: such an import stands in a function, or in a try."""
    files = [path for path in ROOT.rglob("*.py") if not re.match(r"tests|runs|\.", str(path.relative_to(ROOT)))]
    assert len(files) > 80
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert not modules & {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty"}, path


@pytest.mark.parametrize(
    ("cuda", "mps", "asked", "got"),
    [
        (True, True, "auto", ("cuda", torch.bfloat16)),
        (False, True, "auto", ("mps", torch.float32)),  # bfloat16 is there on request only
        (False, False, "auto", ("cpu", torch.float32)),
        (True, True, "mps", ("mps", torch.float32)),
        (True, False, "cuda", ("cuda", torch.bfloat16)),
        (True, True, "cpu", ("cpu", torch.float32)),
        (True, False, "mps", "--device mps: torch finds no such device on this machine; use --device cpu"),
        (False, True, "cuda", "--device cuda: torch finds no such device on this machine; use --device cpu"),
        (False, True, "mps:0", "--device mps:0: unknown; choose auto, cpu, mps, cuda or cuda:N"),
    ],
)
def test_the_device_is_cuda_then_apples_gpu_then_the_cpu(monkeypatch, cuda, mps, asked, got):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if isinstance(got, str):
        with pytest.raises(BadInput) as refused:
            models.resolve_device(asked, "auto")
        assert str(refused.value) == got
    else:
        assert models.resolve_device(asked, "auto") == got
        assert models.resolve_device(asked, "bfloat16") == (got[0], torch.bfloat16)


class NoDoubles(TorchDispatchMode):
    """Refuses to make a float64 tensor, as Apple's GPU does; what is read from the files of a model is left alone."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        doubles = [x for x in tree_leaves(made) if isinstance(x, torch.Tensor) and x.dtype == torch.float64]
        assert not doubles, function
        return made


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("flags", ["--reward self_certainty --annotator offline", "--algorithm ppo --temperature 0.7"])
def test_a_step_needs_no_double_precision(base, tmp_path, flags, monkeypatch):
    monkeypatch.setattr(head, "block_size", lambda device: 100)  # the way of large vocabularies
    common = f"--model {base} --data toy --run {tmp_path / 'run'} --steps 1 --max-new-tokens 30 --eval-samples 0"
    with NoDoubles():
        assert (
            train.main([*common.split(), "--prompts-per-step", "2", "--rollouts-per-prompt", "2", *flags.split()]) == 0
        )


def test_free_memory_where_there_is_no_proc(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 300)
    assert memory.free_memory(torch.device("mps")) == 700
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path, **flags: not str(path).startswith("/proc") and exists(path))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 50, "SC_PAGE_SIZE": 4096}[name])
    assert memory.free_memory(torch.device("cpu")) == 50 * 4096  # macOS
    monkeypatch.delattr(os, "sysconf")
    assert memory.free_memory(torch.device("cpu")) == float("inf")  # Windows: nothing is refused
    assert timing.peak_memory(lambda: None, "cpu") is None
    assert timing.peak_memory(lambda: None, "mps") is None


def test_where_programs_cannot_be_run_problems_that_need_it_are_refused_at_once(monkeypatch):
    problems = [Problem("add", "{}", "code")]
    check_code_execution(problems, allowed=True)
    monkeypatch.setattr(sandbox, "AVAILABLE", False)
    check_code_execution([Problem("1+1", "2")], allowed=False)
    with pytest.raises(BadInput, match="needs Linux"):
        check_code_execution(problems, allowed=True)
