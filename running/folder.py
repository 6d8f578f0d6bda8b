"""folder.py: whose is a run folder, and what does it hold?

config.json (the architecture, the settings under "minreason", and the defaults of those that differ), metrics.jsonl and
samples.jsonl (a line at a time), what --resume needs (saving.py), learning.png, and at the end the model as
save_pretrained writes it, with checksums.json. Every file is whole at any moment: it is written beside its place and
moved there, or appended to by lines of which a cut one is left out.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from running.files import SUMS, BadInput, replace_text
from running.processes import once

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOGS = ("metrics.jsonl", "samples.jsonl")
STATE, STATE_SUMS = "state.pt", "state.sha256"
# What the files of a run are called, those of a saved model and of its tokenizer among them.
OURS = ("config.json", SUMS, *LOGS, "state.*", "learning.png", "held-out.jsonl", "saving", "checkpoint-*")
OURS += ("model*.safetensors*", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json")
OURS += ("vocab.*", "merges.txt", "chat_template*", "spiece.model", ".tmp??????")
# (.tmp: what a kill leaves of safetensors.) And what TensorBoard and the like write.
OURS += ("events.out.tfevents.*", "watched.txt")


def check_folder(
    run: Path,
    overwrite: bool,
    others: tuple[str, ...] = (),
    resume: str = "go on with it by --resume (and --steps beyond its own), ",
) -> None:
    """Raise BadInput if the run folder holds anything that a new run must not touch.

    others: names of files that are a run's too, such as those of its study. resume: how to go on with it. What a run
    did not write is never deleted: not even --overwrite takes a folder that holds it.
    """
    # A run that was killed before it wrote anything leaves only this.
    if not os.path.exists(run) or (run.is_dir() and all(path.name == "config.json.new" for path in run.iterdir())):
        return
    config = read_config(run)
    if config.get("minreason_checksum") != config_checksum(config):
        raise BadInput(f"--run {run}: is there already and is not a run; choose another folder")
    if not overwrite and (run / LOGS[0]).exists():  # else it ended in its first step, and there is nothing to lose
        raise BadInput(f"--run {run}: holds a run already; {resume}delete it by --overwrite, or give another folder")
    written = {*OURS, *others, *(f"{name}.*new" for name in (*OURS, *others))}
    if (run / SUMS).is_file():
        with suppress(ValueError):
            written |= set(json.loads((run / SUMS).read_text()))  # whatever a tokenizer may write
    for path in sorted(run.rglob("*")):
        if not any(fnmatch(path.name, name) for name in written):
            raise BadInput(f"--run {run}: {path} is not a run's, and --overwrite takes nothing else; move it away")


@contextmanager
def alone(folder: Path, flag: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, against a second process. Raises BadInput if another holds it.

    The lock is the system's, on the folder itself: it leaves no file behind, and ends with the process, however that
    ends. Windows has none. What was made here and stayed empty goes again.
    """
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{flag} {folder}: cannot be made a folder ({error.strerror}); give another") from None
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


@once
def hold(descriptor: int | None, name: str) -> None:
    """Lock an open folder. name: its flag and itself, for BadInput if another process holds it."""
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"{name}: another process is at work in it; wait for its end, or give another") from None


@once
def empty_folder(run: Path) -> None:
    """Make the run folder, without what was in it. It stays the same folder: `alone` holds it.

    config.json, by which a run is known, goes last: killed before, this is still a run, and --overwrite takes it.
    """
    run.mkdir(parents=True, exist_ok=True)
    for path in sorted(run.iterdir(), key=lambda path: path.name == "config.json"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


# --- config.json ----------------------------------------------------------------------------------------------------


def read_config(run: Path) -> dict:
    """config.json of a run folder, {} without one. Raises BadInput for one that is damaged."""
    path = run / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(config, dict) or not isinstance(config.get("minreason", {}), dict):
            raise ValueError("not an object")
    except (ValueError, OSError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read ({why}); copy it again, or give another folder") from None
    return config


def write_config(run: Path, architecture: dict, described: dict) -> None:
    """config.json: what `flags.described` gives, beside the architecture that save_pretrained wrote, if any.

    So the folder of a finished run loads with AutoModelForCausalLM as it is, and its config says what made it. A
    checksum of its own tells whether it is still what was written.
    """
    content = {**architecture, **described}
    content["minreason_checksum"] = config_checksum(content)
    replace_text(run / "config.json", json.dumps(content, indent=1))


def config_checksum(config: dict) -> str:
    """Of all that a config.json holds but the checksum."""
    held = {name: value for name, value in config.items() if name != "minreason_checksum"}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def config_is_whole(config: dict) -> bool:
    """Whether a config.json is what `write_config` wrote; one without a checksum is believed."""
    return config.get("minreason_checksum") in (None, config_checksum(config))
