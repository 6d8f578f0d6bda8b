"""A run that is killed loses nothing: whenever it happens, what goes on ends as if nothing had happened.

Each run is killed (SIGKILL) in a process of its own, before a chosen change to its folder or in the middle of a file,
and then gone on with as its user would. Weights, samples and metrics are those of the run never disturbed, bit for bit.
"""

import json
import os
import re
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import toy
import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

VARIANTS = {  # flags -> how many kills
    "--kl 0.01": 14,
    "--flip 0.4 --flip-unit rollout": 8,
    "--updates-per-step 2 --kl 0.01": 8,
    "--algorithm ppo": 8,
    "--reward reward_model --reward-model REWARD_MODEL": 6,
    "--eval-every 2 --keep-checkpoints --eval-data toy --eval-limit 3 --eval-samples 2": 8,
    "--lora 2": 6,
}
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # audit events of Python


@pytest.fixture(scope="module")
def reward_model(base, tmp_path_factory):
    """Any model with one output."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("reward-model")
    config = AutoConfig.from_pretrained(base, num_labels=1, problem_type="regression")
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def in_a_process(flags: list[str], prepare) -> int:
    """What becomes of a training in a process of its own, as os.waitpid tells it; prepare is called there first."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        prepare()
        os._exit(train.main(flags))
    return os.waitpid(child, 0)[1]


def before_change(folder: Path, number: int, count: Path | None = None):
    """A function that has this process killed before its change number `number` to the folder.

    count: a file to write the number of changes into as they come.
    """

    def watch() -> None:
        seen = [0]

        def hook(event, arguments) -> None:
            if event not in CHANGES or not str(arguments[0]).startswith(str(folder)):
                return
            if event == "open" and (len(arguments) < 3 or not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                return
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen[0] += 1
            if count:
                count.write_text(str(seen[0]))

        sys.addaudithook(hook)

    return watch


def inside_a_file(size: int):
    """A function that has this process killed when a file of it grows beyond so many bytes."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return limit


def outcome(run: Path) -> tuple:
    """What a run leaves, but for its times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "tokens_per_second")
    rows = [{name: value for name, value in row.items() if not name.startswith(timed)} for row in rows]
    files = {"model.safetensors", "samples.jsonl", "samples.jsonl.gz", "tokenizer.json", "passk.json"}
    held = {name: (run / name).read_bytes() for name in sorted(files) if (run / name).exists()}
    checkpoints = {path.parent.name: path.read_bytes() for path in sorted(run.glob("checkpoint-*/model.safetensors"))}
    return rows, held, checkpoints


@pytest.mark.parametrize("flags", VARIANTS, ids=lambda flags: flags.split()[0].strip("-"))
def test_a_killed_run_ends_as_if_it_had_not_been(base, reward_model, tmp_path, flags):
    if "--lora" in flags:
        pytest.importorskip("peft", reason="--lora needs the package peft")
    kills, file, run = VARIANTS[flags], tmp_path / "problems.jsonl", tmp_path / "run"
    chains = [(p, a) for p, a in toy.make_problems("train", 400) if len(toy.steps(p)) == 1][:20]
    file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in chains))
    fixed = f"--model {base} --data {file} --run {run} --max-new-tokens 16 --lr 1e-3 --save-every 2 --steps 5"
    fixed += f" --prompts-per-step 2 --rollouts-per-prompt 4 {'' if 'eval' in flags else '--eval-samples 0'} "
    command = (fixed + flags.replace("REWARD_MODEL", str(reward_model))).split()

    counted = tmp_path / "count"
    assert in_a_process(command, before_change(run, -1, counted)) == 0
    expected, changes, state = outcome(run), int(counted.read_text()), (run / "state.pt").stat().st_size
    assert changes > 15
    weights = (run / "model.safetensors").stat().st_size

    # Half of the kills come before changes that are spread over the work, half in the middle of its large files.
    # (The last change is only a try to delete an empty folder.)
    places = [before_change(run, round(i * (changes - 2) / (kills // 2 - 1))) for i in range(kills // 2)]
    sizes = [*(state * (i + 1) // (kills + 1) for i in range(kills - kills // 2 - 1)), weights - 9]
    for place in [*places, *map(inside_a_file, sizes)]:
        shutil.rmtree(run, ignore_errors=True)
        assert os.WIFSIGNALED(in_a_process(command, place))
        go_on, saved = ["--run", str(run), "--resume"], (run / "state.pt").exists()
        # Killed when all was in its place, but for the deletion of an empty folder, it says that it is finished.
        done = saved and (run / "report.json").exists()
        assert train.main(go_on) == (0 if saved and not done else 2)
        if not saved:
            assert train.main([*command, "--overwrite"]) == 0
        assert outcome(run) == expected
        left = [path.name for path in run.rglob("*") if re.search(r"new$|-unfinished|saving|parts", path.name)]
        assert not left
