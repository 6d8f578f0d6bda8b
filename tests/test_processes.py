"""A run in two processes, as torchrun starts them, is the run in one: same samples, same updates, one folder."""

import json
import math
import os
import pickle
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from transformers import AutoModelForCausalLM

import toy
import train
import verify
from algorithms import ALGORITHMS
from generate import generate, stream
from running import processes
from running.files import BadInput
from running.stopping import between_steps

pytestmark = pytest.mark.usefixtures("no_pictures")
ROOT = Path(__file__).parent.parent
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13], [14, 15], [16]]
TIMES = {"seconds_generate", "seconds_reward", "seconds_train", "tokens_per_second"}
OWN = """
from pathlib import Path
def shouting(prompts, completions, **columns):
    with open(Path(__file__).with_suffix(".calls"), "a") as file:
        file.write("called\\n")
    return [float(len(text)) for text in completions]
"""


def in_two_processes(work, folder: Path) -> list:
    """What work() gives in each of two processes that have joined, with their numbers 0 and 1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = []
    for number in range(2):
        if (child := os.fork()) == 0:
            code = 1
            try:
                os.environ |= {name: str(value) for name, value in torchrun.items()}
                os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
                sys.stdout = open(folder / f"said{number}", "w")  # noqa: SIM115
                sys.stderr = open(folder / f"cried{number}", "w")  # noqa: SIM115
                processes.join()
                (folder / f"{number}").write_bytes(pickle.dumps(work()))
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            finally:
                for file in (sys.stdout, sys.stderr, processes._stderr):
                    file.flush()
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    return [pickle.loads((folder / f"{number}").read_bytes()) for number in range(2)]


def sampled(prompts=PROMPTS, group: int = 3) -> dict:
    options = {"eos_ids": (1,), "generator": stream("two")}
    return vars(generate(tiny_model("qwen2"), prompts, group, 12, **options))


def weights(folder) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in AutoModelForCausalLM.from_pretrained(folder).parameters()])


def trained(folder: Path, flags: str) -> dict:
    """The rows of metrics.jsonl and the weights of a run with these flags."""
    assert train.main(shlex.split(f"--run {folder} {flags}")) == 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"rows": rows, "weights": weights(folder)}


@pytest.fixture(scope="module")
def given(base, tmp_path_factory) -> str:
    """The flags of a small step on 20 chains of one operation. Three problems a step cannot be halved."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "own.py").write_text(OWN)
    chains = [(p, a) for p, a in toy.make_problems("train", 400) if len(toy.steps(p)) == 1][:20]
    rows = [json.dumps({"problem": p, "answer": a}) + "\n" for p, a in chains]
    (folder / "problems.jsonl").write_text("".join(rows))
    flags = f"--model {base} --data {folder / 'problems.jsonl'} --max-new-tokens 16 --lr 5e-5 --warmup 0 --steps 1"
    return (
        f"{flags} --eval-samples 0 --prompts-per-step 3 --rollouts-per-prompt 4 --micro-tokens 96 --updates-per-step 2"
    )


def everything(given: str, folder: Path) -> dict:
    """What the tests below look at, from one pair of processes."""
    processes.leave = processes.rank  # they go on together behind each run
    if processes.rank() == 1:
        verify.grade = None  # only the first may call it
    found = {"rollouts": sampled(), "one row": sampled([[5, 6]], 1)}
    found["runs"] = {name: trained(folder / name, flags_of(given, name)) for name in ALGORITHMS}
    with between_steps() as asked:
        before = asked()
        if processes.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        found["asked"] = before, asked()
    found["own"] = trained(folder / "own", f"{given} --reward {own_file(given)}:shouting")["rows"]
    found["codes"] = [train.main(shlex.split(f"{given} --run {folder / 'none'} {bad}")) for bad in BAD]
    try:
        processes.once(refuse)()
    except BadInput as error:
        found["refused"] = str(error)
    found["numbers"] = processes.rank(), processes.own(5)
    return found


def flags_of(given: str, name: str) -> str:
    """A step of an algorithm. rloo takes two: its penalty, which is in the reward, is 0 in the first."""
    return f"{given} --algorithm {name} --steps {2 if name == 'rloo' else 1}"


def own_file(given: str) -> Path:
    return Path(given.split()[3]).with_name("own.py")


BAD = ("--lr 0", "--data none.jsonl", "--prompts-per-step 21")


def refuse() -> None:
    raise BadInput(f"{processes.rank()} of {processes.size()} refuses")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(given, folder) -> list[dict]:
    return in_two_processes(lambda: everything(given, folder), folder)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_processes_take_the_steps_of_one(given, two, name, tmp_path):
    one = trained(tmp_path / "one", flags_of(given, name))
    start = weights(given.split()[1])
    assert (one["weights"] - start).abs().max() > 5e-5
    for found in two:
        assert (found["runs"][name]["weights"] - one["weights"]).abs().max() < 1e-6
    first, second = (found["runs"][name]["rows"] for found in two)
    assert first == second  # there is one log
    for row, expected in zip(first, one["rows"], strict=True):
        assert row.keys() == expected.keys()
        row, expected = (
            {k: math.nan if v is None else v for k, v in x.items() if k not in TIMES} for x in (row, expected)
        )
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)
    assert first[0]["grad_norm"] > 0.01


@pytest.mark.parametrize(("name", "prompts", "group"), [("rollouts", PROMPTS, 3), ("one row", [[5, 6]], 1)])
def test_two_processes_sample_what_one_does(two, name, prompts, group):
    one = sampled(prompts, group)
    for found in two:
        for field, value in one.items():
            assert torch.allclose(found[name][field].float(), value.float(), atol=1e-5), field
    assert one["mask"].sum() > len(prompts) * group


def test_the_first_process_writes_and_speaks(two, folder):
    said = [(folder / f"said{number}").read_text() for number in range(2)]
    assert "Run folder" in said[0]
    assert said[1] == ""
    assert (folder / "grpo" / "state.pt").exists()
    assert not (folder / "none").exists()  # of bad input nothing is left


def test_a_function_of_the_user_is_called_once_a_step(two, given):
    assert own_file(given).with_suffix(".calls").read_text() == "called\n"
    assert [row["reward_mean"] > 0 for row in two[1]["own"]] == [True]


def test_what_the_first_refuses_all_refuse(two, folder):
    assert [found["refused"] for found in two] == ["0 of 1 refuses"] * 2
    assert [found["codes"] for found in two] == [[2, 2, 2]] * 2
    lines = "".join((folder / f"cried{number}").read_text() for number in range(2)).splitlines()
    # One line in all: the store that the processes share lives as long as the pair.
    assert len([line for line in lines if line.startswith("train.py: ")]) == 1


def test_a_signal_to_one_process_stops_all_behind_the_same_step(two):
    assert [found["asked"] for found in two] == [(None, signal.SIGTERM)] * 2


def test_shares_are_of_like_size_and_leave_nothing_out(two):
    assert [found["numbers"] for found in two] == [(0, range(2)), (1, range(2, 5))]


def test_a_single_process_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(torch, "distributed", None)
    processes.join()
    values = torch.ones(2)
    processes.total(values)
    assert processes.everyones("x") == ["x"]
    assert processes.added({"a": 1.5, "b": None}) == {"a": 1.5, "b": None}
    assert processes.once(lambda: processes.size())() == 1
    assert values.tolist() == [1, 1]
    assert processes.leave() == 0


# --- torchrun itself ------------------------------------------------------------------------------------------------


def torchrun(flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--", "train.py"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *shlex.split(flags)], cwd=ROOT, env=environment, start_new_session=True, **pipes)


def workers(program: subprocess.Popen) -> dict[int, int]:
    """The process ids of what torchrun has started, by their numbers."""
    found = {}
    for pid in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split():
        names = dict(x.split("=", 1) for x in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in x)
        found[int(names["RANK"])] = int(pid)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes in /proc")
@pytest.mark.parametrize("how", ["kill 0", "kill 1", "Ctrl-C", "SIGTERM to 1"])
def test_where_one_ends_all_end_with_one_line_and_the_run_goes_on(given, tmp_path, how):
    log = tmp_path / "run" / "metrics.jsonl"
    program = torchrun(f"{given} --run {log.parent} --steps 100000 --save-every 2")
    try:
        while not log.exists() or len(log.read_text().splitlines()) < 5:
            assert program.poll() is None
            time.sleep(0.05)
        if how == "Ctrl-C":
            os.killpg(program.pid, signal.SIGINT)
        else:
            os.kill(workers(program)[int(how[-1])], signal.SIGKILL if "kill" in how else signal.SIGTERM)
        began = time.monotonic()
        said = program.communicate(timeout=60)[0].replace("\r", "\n")
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
    assert time.monotonic() - began < 30
    ours = [line.partition("train.py: ")[2] for line in said.splitlines() if "train.py: " in line]
    assert len(ours) == 1
    assert ("a process of this run ended" if "kill" in how else "nothing is lost") in ours[0]
    assert f'{ROOT / "train.py"}", line' not in said  # no traceback of ours
    done = len(log.read_text().splitlines())
    second = torchrun(f"--run {log.parent} --resume --steps {done + 4}")
    assert "In " in second.communicate(timeout=120)[0]
    assert second.returncode == 0
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(done + 4))


@pytest.mark.slow
def test_bad_input_is_said_once(given, tmp_path):
    said = torchrun(f"{given} --run {tmp_path / 'run'} --lr 0").communicate(timeout=60)[0]
    assert said.count("train.py: --lr 0") == 1
