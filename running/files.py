"""files.py: files that are whole at any moment, and the one way to say that an input cannot be used."""

import gzip
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path


class BadInput(ValueError):
    """What the user gave cannot be used. The message is one line that names the flag or file and the way out."""


def read_jsonl(path: Path, flag: str) -> Iterator[dict]:
    """The objects of a user's .jsonl or .jsonl.gz file. Raises BadInput with the flag, the file and the line."""
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"a {type(row).__name__}, not an object")
                    yield row
    except FileNotFoundError:
        raise BadInput(f"{flag} {path}: no such file; check the path") from None
    except (ValueError, EOFError, OSError, zlib.error) as error:  # not JSON, not UTF-8, not gzip, cut off
        raise BadInput(f"{flag} {path}, line {number}: {error}; give one JSON object a line, in UTF-8") from None


def append_log(path: Path, *rows: dict) -> None:
    """Add rows to a log of a run, and close it: a killed run has all of its lines but the last step's."""
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def read_log(path: Path) -> list[dict]:
    """The rows of a log of a run. A last line that a crash cut off is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that it is whole at any moment: beside its place first, then moved there."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def made_once(folder: str | Path, name: str, defined_by: list, sources: list[Path], make: Callable) -> Path:
    """The folder of a model. If it does not exist yet, `make()` gives (model, tokenizer) and both are saved there.

    The folder's name carries a hash of what defines the model and of the sources, the files with the code that makes
    it: a model made in another way is never taken for this one.
    """
    parts = [json.dumps(defined_by).encode(), *(source.read_bytes() for source in sources)]
    key = hashlib.sha256(b"".join(parts)).hexdigest()[:8]
    target = Path(folder) / f"{name}-{key}"
    if not target.exists():
        model, tokenizer = make()
        # Written beside its place and renamed when complete, so that an interrupted run leaves no half-written model.
        unfinished = target.with_name(f"{target.name}-unfinished-{os.getpid()}")
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        try:
            os.replace(unfinished, target)
        except OSError:  # another process made the same model meanwhile
            shutil.rmtree(unfinished)
            if not target.exists():
                raise
    return target
