"""folder.py: what does a run leave behind, so that it can be read, loaded as a model, and gone on with?

config.json (the architecture, the settings under "minreason", and the defaults of those that differ), metrics.jsonl and
samples.jsonl (a line at a time), state.pt (for --resume), and at the end the model as save_pretrained writes it. Every
file is whole at any moment: it is written beside its place and moved there, or appended to by lines of which a cut one
is left out.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from engine.masters import write_back
from running.files import BadInput, read_log, replace_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def check_folder(
    run: Path, overwrite: bool, resume: str = "go on with it by --resume (and --steps beyond its own), "
) -> None:
    """Raise BadInput if the run folder holds anything that a new run must not touch. resume: how to go on with it."""
    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        return
    if "minreason" not in read_config(run):
        raise BadInput(f"--run {run}: is there already and is not a run; choose another folder")
    if not overwrite:
        raise BadInput(f"--run {run}: holds a run already; {resume}delete it by --overwrite, or give another folder")


@contextmanager
def alone(folder: Path, flag: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, against a second process. Raises BadInput if another holds it.

    The lock is the system's, on the folder itself: it leaves no file behind, and ends with the process, however that
    ends. Windows has none. What was made here and stayed empty goes again.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{flag} {folder}: cannot be made a folder ({error.strerror})") from None
    descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        hold(descriptor, f"{flag} {folder}")
        yield
    finally:
        if fcntl:
            os.close(descriptor)
        with suppress(OSError):  # the first that is not empty
            for path in made:
                path.rmdir()


def hold(descriptor: int | None, name: str) -> None:
    """Lock an open folder. name: its flag and itself, for BadInput if another process holds it."""
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"{name}: another process is at work in it; wait for its end, or give another") from None


def empty_folder(run: Path) -> None:
    """Make the run folder, without what was in it. It stays the same folder: `alone` holds it. Raises BadInput."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--run {run}: cannot be made a folder ({error.strerror})") from None
    for path in run.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def read_config(run: Path) -> dict:
    """config.json of a run folder, {} without one."""
    path = run / "config.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write_config(run: Path, architecture: dict, described: dict) -> None:
    """config.json: what `flags.described` gives, beside the architecture that save_pretrained wrote, if any.

    So the folder of a finished run loads with AutoModelForCausalLM as it is, and its config says what made it.
    """
    replace_text(run / "config.json", json.dumps({**architecture, **described}, indent=1))


def save_state(run: Path, steps: int, trained: list[tuple]) -> None:
    """What --resume needs, in one file that is replaced as a whole. trained: (model, optimiser) pairs; an optimiser
    holds the float32 weights too."""
    weights = [optimizer.param_groups[0]["params"] for _, optimizer in trained]
    optimizers = [optimizer.state_dict() for _, optimizer in trained]
    torch.save({"steps": steps, "weights": weights, "optimizers": optimizers}, run / "state.new")
    os.replace(run / "state.new", run / "state.pt")


def load_state(run: Path, trained: list[tuple], steps: int, with_study: bool) -> int:
    """Put the saved state into (model, optimiser) pairs; returns the steps taken. Later lines of the logs are dropped.

    steps: how many the run is to have. with_study: whether a study belongs to a finished run. Raises BadInput for a
    state of another version, and for a run that is finished.
    """
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)
    if "optimizers" not in state:
        raise BadInput(f"--resume: the state in {run} was saved by another version of this program; start again")
    finished = "model_type" in read_config(run) and (not with_study or (run / "report.json").is_file())
    if state["steps"] >= steps and finished:
        raise BadInput(f"--resume: {run} has taken its {state['steps']} steps; give --steps above that")
    for (model, optimizer), held, weights in zip(trained, state["optimizers"], state["weights"], strict=True):
        optimizer.load_state_dict(held)
        with torch.no_grad():
            for weight, saved in zip(optimizer.param_groups[0]["params"], weights, strict=True):
                weight.copy_(saved)
        write_back(model, optimizer)
    for name in ("metrics.jsonl", "samples.jsonl"):
        rows = [row for row in read_log(run / name) if row["step"] < state["steps"]]
        replace_text(run / name, "".join(json.dumps(row) + "\n" for row in rows))
    return state["steps"]


def save_model(run: Path, policy, adapted, optimizer, tokenizer, described: dict) -> None:
    """The trained model, in float32, as save_pretrained writes it, moved into the run folder when it is complete.

    adapted: the peft model, or None; its adapters are merged. config.json comes last: once it names an architecture,
    everything else is there.
    """
    policy.float()
    write_back(policy, optimizer)
    if adapted is not None:
        policy = adapted.merge_and_unload()
    policy.save_pretrained(run / "saving")
    tokenizer.save_pretrained(run / "saving")
    write_config(run / "saving", read_config(run / "saving"), described)
    for file in sorted((run / "saving").iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, run / file.name)
    (run / "saving").rmdir()
