"""--report-to: each tool is told what metrics.jsonl says, once, also by a run that was killed and goes on."""

import json
import shlex
import sys
from types import ModuleType, SimpleNamespace

import pytest

import toy
import train
from running import watching
from running.watching import TOOLS

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def arguments(base, tmp_path):
    file = tmp_path / "problems.jsonl"
    problems = [(p, a) for p, a in toy.make_problems("train", 200) if len(toy.steps(p)) == 1]
    file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in problems))
    flags = f"--model {base} --data {file} --run {tmp_path / 'run'} --max-new-tokens 20 --eval-samples 0 --kl 0"
    return shlex.split(f"{flags} --prompts-per-step 2 --rollouts-per-prompt 4 --steps 4 --save-every 2")


@pytest.fixture
def told(monkeypatch):
    """Stand-ins for the three packages. step -> the numbers, of the one page; a step told twice fails."""
    held, ended, asked = {}, [], []

    def told_twice(numbers: dict, step: int) -> None:
        assert not held.get(step, {}).keys() & numbers.keys(), f"step {step} comes twice"
        held.setdefault(step, {}).update(numbers)

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            asked.append({"folder": folder})
            for step in [step for step in held if step >= purge_step]:
                del held[step]

        def add_scalar(self, name, value, step):
            told_twice({name: value}, step)

        flush = staticmethod(lambda: None)
        close = staticmethod(lambda: ended.append(True))

    def init(following):
        return lambda **options: (asked.append(options), SimpleNamespace(**{following: len(held)}))[1]

    for name, following in (("wandb", "step"), ("trackio", "_next_step")):
        package = ModuleType(name)
        package.init, package.log, package.finish = init(following), told_twice, lambda: ended.append(True)
        monkeypatch.setitem(sys.modules, name, package)
    package = ModuleType("torch.utils.tensorboard")
    package.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    return SimpleNamespace(held=held, ended=ended, asked=asked)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_told_the_numbers_of_every_step_once_also_after_a_kill(name, arguments, told, tmp_path, monkeypatch):
    warn = train.warn

    def killed_in_step_3(rows, warned):
        if rows[-1]["step"] == 3:  # one step behind the last state
            raise KeyboardInterrupt
        warn(rows, warned)

    monkeypatch.setattr(train, "warn", killed_in_step_3)
    with pytest.raises(KeyboardInterrupt):
        train.main([*arguments, "--report-to", name])
    assert sorted(told.held) == [0, 1, 2, 3] and not told.ended
    monkeypatch.setattr(train, "warn", warn)
    assert train.main([*arguments, "--resume", "--steps", "6"]) == 0  # the tool is still that of the run
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted(told.held) == list(range(6))
    timed = {"seconds_generate", "seconds_reward", "seconds_train", "tokens_per_second"}  # of two runs of a step
    for row in rows:
        numbers = {key: value for key, value in row.items() if key not in {"step", *timed} and value is not None}
        assert row["kl"] is None and "accuracy" in numbers
        assert {key: value for key, value in told.held[row["step"]].items() if key not in timed} == numbers
    assert told.ended == [True]
    first, second = told.asked
    if name == "tensorboard":
        assert first == second == {"folder": str(tmp_path / "run")}
    else:
        assert first["project"] == "minreason" and first["name"].startswith("run-20") and first["resume"] == "allow"
        assert (first["config"]["steps"], second["config"]["steps"]) == (4, 6)
        assert first["name"] == second["name"] and first.get("id") == second.get("id")


def test_metrics_jsonl_is_the_same_with_a_tool(arguments, told, tmp_path):
    def numbers():
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]

    assert train.main(arguments) == 0
    alone = numbers()
    assert train.main([*arguments, "--report-to", "wandb", "--overwrite"]) == 0
    assert numbers() == alone
    (tmp_path / "run" / "events.out.tfevents.1.here.2.3").write_text("TensorBoard's")
    assert train.main([*arguments, "--overwrite"]) == 0  # what a tool wrote is the run's, and goes with it
    assert not {path.name for path in (tmp_path / "run").iterdir()} & {"watched.txt", "events.out.tfevents.1.here.2.3"}


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_is_not_installed_is_named_before_anything_is_written(
    name, arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, TOOLS[name], None)
    assert train.main([*arguments, "--report-to", name]) == 2
    assert capsys.readouterr().err == f"train.py: --report-to {name}: needs the package {name}: pip install {name}\n"
    assert not (tmp_path / "run").exists()


def test_a_tool_that_does_not_start_is_said_in_a_line_and_can_be_left_out(arguments, told, monkeypatch, capsys):
    def no_key(**options):
        raise RuntimeError("no API key\nand ten lines more")

    monkeypatch.setattr(sys.modules["wandb"], "init", no_key)
    assert train.main([*arguments, "--report-to", "wandb"]) == 2
    said = capsys.readouterr().err
    assert "--report-to wandb: it does not start (no API key); mend that, or give --report-to none\n" in said
    assert train.main([*arguments, "--overwrite"]) == 0
    assert train.main([*arguments, "--resume", "--steps", "5", "--report-to", "wandb"]) == 2
    assert train.main([*arguments, "--resume", "--steps", "5", "--report-to", "none"]) == 0


def test_a_tool_that_fails_later_ends_no_run(arguments, told, tmp_path, monkeypatch, capsys):
    def unreachable(numbers, step):
        if step == 1:
            raise OSError("no route to host")
        told.held[step] = numbers

    monkeypatch.setattr(sys.modules["trackio"], "log", unreachable)
    assert train.main([*arguments, "--report-to", "trackio"]) == 0
    assert capsys.readouterr().err.count("WARNING, step 1: trackio fails and is told no more (no route to host)") == 1
    assert list(told.held) == [0] and len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4


def test_the_real_tensorboard_reads_what_was_told(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [{"step": step, "accuracy": step / 8, "kl": None, "eval_pass@16": 1.0} for step in range(4)]
    for first, last in ((0, 3), (2, 4)):  # killed behind step 2, and the last state is that before step 2
        report, finish = watching.start("tensorboard", tmp_path, first, {})
        for row in rows[first:last]:
            report(row)
        finish()
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"accuracy", "eval_pass@16"}
    assert [(event.step, event.value) for event in read.Scalars("accuracy")] == [(i, i / 8) for i in range(4)]
