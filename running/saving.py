"""saving.py: what --resume goes on from, and the trained model.

state.pt holds the float32 weights and the optimiser, and says what it belongs to: the logs up to that step, the
problems and the model that the run began with. A state that does not fit is refused: gone on with, it would end in
other weights without a word. state.sha256 holds the checksum of state.pt, and behind a kill also those of states that
did not get to its place.
"""

import hashlib
import os
import shutil
from pathlib import Path

import torch

from engine.masters import write_back
from running.files import SUMS, BadInput, checksum, replace_bytes, replace_text, write_sums
from running.folder import LOGS, STATE, STATE_SUMS, read_config, write_config
from running.processes import once

AGAIN = "copy it again, or start again by --overwrite"  # the way out of a damaged state


def fingerprint(policy) -> str:
    """A hash of the first 64 weights of each tensor, adapters left out: tells a model from another under its name.

    Of weights as bfloat16, so that it does not depend on the precision that they were loaded in.
    """
    frozen = [weight for weight in policy.parameters() if not weight.requires_grad]
    parts = [weight.detach().flatten()[:64].bfloat16().float().cpu() for weight in frozen or policy.parameters()]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]


def begun_with(policy, problems: list, prompts: list[list[int]]) -> dict[str, str]:
    """What a run may not change when it goes on, by the flag that names it: fingerprints."""
    texts = repr((problems, [problem.row for problem in problems], prompts)).encode()  # rewards may read any column
    return {"--model": fingerprint(policy), "--data": hashlib.sha256(texts).hexdigest()[:16]}


@once
def save_state(run: Path, steps: int, trained: list[tuple], begun: dict[str, str]) -> None:
    """What --resume needs, in one file that is replaced as a whole. trained: (model, optimiser) pairs; an optimiser
    holds the float32 weights too. begun: what `begun_with` gave."""
    logs = {name: ((run / name).stat().st_size, checksum(run / name)) for name in LOGS}
    weights = [optimizer.param_groups[0]["params"] for _, optimizer in trained]
    optimizers = [optimizer.state_dict() for _, optimizer in trained]
    state = {"steps": steps, "logs": logs, "begun": begun, "weights": weights, "optimizers": optimizers}
    new, sums = run / "state.new", run / STATE_SUMS
    try:
        torch.save(state, new)
    except Exception:
        new.unlink(missing_ok=True)  # half a state would fill the disk
        raise
    before, now = sums.read_text() if sums.exists() else "", checksum(new)
    replace_text(sums, f"{before}\n{now}")  # a kill from here on finds the checksum of whichever state is there
    os.replace(new, run / STATE)
    replace_text(sums, now)


def read_state(run: Path) -> dict:
    """The saved state. Raises BadInput if it is not there or is not what was saved; nothing in it is run."""
    path = run / STATE
    try:
        found, known = checksum(path), (run / STATE_SUMS).read_bytes().decode(errors="replace").split()
    except OSError as error:
        raise BadInput(f"--resume: cannot read {error.filename} ({error.strerror}); {AGAIN}") from None
    if found not in known:
        raise BadInput(f"--resume: {path} is not what {STATE_SUMS} says: damaged, or of another version; {AGAIN}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the checksum says; pickle, zipfile and torch raise many kinds
        raise BadInput(f"--resume: {path} is no state of a run ({type(error).__name__}); {AGAIN}") from None
    if not isinstance(state, dict) or not {"steps", "logs", "begun", "weights", "optimizers"} <= state.keys():
        raise BadInput(f"--resume: {path} is of another version of this program; start again by --overwrite")
    return state


def check_fits(run: Path, state: dict, trained: list[tuple], begun: dict[str, str]) -> None:
    """Raise BadInput for a state of another model, other problems or other logs than those that are here."""
    for flag, was in state["begun"].items():
        if begun[flag] != was:
            raise BadInput(f"--resume: what {flag} names has changed since {run} began; put it back, or start again")
    for name, (size, was) in state["logs"].items():
        path = run / name
        if not path.is_file() or path.stat().st_size < size or checksum(path, size) != was:
            raise BadInput(f"--resume: {path} is not what it was when the state was saved; {AGAIN}")
    held = [[tuple(weight.shape) for weight in weights] for weights in state["weights"]]
    wanted = [[tuple(weight.shape) for weight in optimizer.param_groups[0]["params"]] for _, optimizer in trained]
    if held != wanted or state["steps"] < 1:
        raise BadInput(f"--resume: {run / STATE} does not fit the model; {AGAIN}")


def load_state(run: Path, trained: list[tuple], steps: int, with_study: bool, begun: dict[str, str]) -> int:
    """Put the saved state into (model, optimiser) pairs; returns the steps taken. Later lines of the logs are dropped.

    steps: how many the run is to have. with_study: whether a study belongs to a finished run. Raises BadInput for a
    state that is damaged or does not fit, and for a run that is finished.
    """
    state = read_state(run)
    check_fits(run, state, trained, begun)
    finished = "model_type" in read_config(run) and (not with_study or (run / "report.json").is_file())
    if state["steps"] >= steps and finished:
        raise BadInput(f"--resume: {run} has taken its {state['steps']} steps; give --steps above that")
    for (model, optimizer), held, weights in zip(trained, state["optimizers"], state["weights"], strict=True):
        optimizer.load_state_dict(held)
        with torch.no_grad():
            for weight, saved in zip(optimizer.param_groups[0]["params"], weights, strict=True):
                weight.copy_(saved)
        write_back(model, optimizer)
    cut_back(run, state["logs"])
    return state["steps"]


@once
def cut_back(run: Path, logs: dict[str, tuple]) -> None:
    """Drop what came behind the state. logs: (size, checksum) by name."""
    for name, (size, _) in logs.items():
        with open(run / name, "rb") as log:
            replace_bytes(run / name, log.read(size))


@once
def save_model(run: Path, policy, adapted, optimizer, tokenizer, described: dict) -> None:
    """The trained model, in float32, as save_pretrained writes it, moved into the run folder when it is complete.

    adapted: the peft model, or None; its adapters are merged. config.json comes last: once it names an architecture,
    everything else is there.
    """
    policy.float()
    write_back(policy, optimizer)
    if adapted is not None:
        policy = adapted.merge_and_unload()
    new = run / "saving"
    shutil.rmtree(new, ignore_errors=True)  # what a kill left
    policy.save_pretrained(new)
    tokenizer.save_pretrained(new)
    architecture = read_config(new)
    (new / "config.json").unlink()
    write_sums(new)
    for file in new.iterdir():
        os.replace(file, run / file.name)
    new.rmdir()
    write_config(run, architecture, described)


@once
def forget_model(run: Path, described: dict) -> None:
    """Make the folder that of an unfinished run: config.json names no architecture, so that it loads as no model."""
    (run / SUMS).unlink(missing_ok=True)
    write_config(run, {}, described)
