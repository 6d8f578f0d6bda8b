"""files.py: files that are whole at any moment, and the one way to say that an input cannot be used."""

import gzip
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from running.processes import once

SUMS = "checksums.json"  # in the folder of a model: {name: checksum} of its files


class BadInput(ValueError):
    """What the user gave cannot be used. The message is one line that names the flag or file and the way out."""


def in_a_line(error: BaseException) -> str:
    """What an exception of somebody else's code says, in one line of bounded length."""
    said = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)
    said = " ".join(said.split()).rstrip(".") or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]} ..."


def read_lines(path: Path, flag: str) -> Iterator[tuple[int, dict]]:
    """(line number from 1, object) of a user's .jsonl or .jsonl.gz file; a byte order mark, as Windows writes it, is
    skipped. Raises BadInput with the flag, the file and the line."""
    number = 1
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as lines:
            for line in lines:  # as bytes: a text file decodes ahead, and would blame an earlier line
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    row = json.loads(text)
                    if not isinstance(row, dict):
                        raise ValueError(f"of type {type(row).__name__}, not an object")
                    yield number, row
                number += 1
    except FileNotFoundError:
        raise BadInput(f"{flag} {path}: no such file; check the path") from None
    # not JSON, not UTF-8, not gzip, cut off, brackets in thousands
    except (ValueError, EOFError, OSError, zlib.error, RecursionError) as error:
        said = f"{flag} {path}, line {number}: {in_a_line(error)}"
        raise BadInput(f"{said}; give one JSON object a line, in UTF-8") from None


def read_jsonl(path: Path, flag: str) -> Iterator[dict]:
    """The objects that read_lines gives, without their lines."""
    return (row for _, row in read_lines(path, flag))


@once
def append_log(path: Path, *rows: dict) -> None:
    """Add rows to a log of a run, and close it: a killed run has all of its lines but the last step's."""
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def read_log(path: Path) -> list[dict]:
    """The rows of a log of a run. A last line that a crash cut off is left out. Raises ValueError for another file."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("not one JSON object a line")
    return rows


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that it is whole at any moment: beside its place first, then moved there."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """The same for bytes."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    os.replace(new, path)


@contextmanager
def writes_into(name: str, way_out: str) -> Iterator[None]:
    """Raise BadInput, in one line, where a disk is full or forbids to write. name: a flag and its folder.

    Not every library says what the system told it: torch.save speaks of a position in the file.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        place = f" {error.filename}" if getattr(error, "filename", None) else ""
        raise BadInput(f"{name}: cannot write{place} ({why}); {way_out}") from None
    except RuntimeError as error:
        if "inline_container" not in str(error):  # torch's writer of files
            raise
        raise BadInput(f"{name}: cannot write (is the disk full?); {way_out}") from None


# --- checksums ------------------------------------------------------------------------------------------------------


def checksum(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file, or of its first `size` bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        # Small blocks: one of 16 MB, freed, makes glibc keep all that are smaller in its heap, and the process grows.
        while block := file.read(2**20 if size is None else min(2**20, size)):
            digest.update(block)
            size = None if size is None else size - len(block)
    return digest.hexdigest()


def write_sums(folder: Path) -> None:
    """Note the checksums of all files in a folder."""
    if sums := {path.name: checksum(path) for path in sorted(folder.iterdir()) if path.is_file()}:
        replace_text(folder / SUMS, json.dumps(sums, indent=1))


def check_sums(folder: Path, flag: str, way_out: str) -> None:
    """Raise BadInput if a file of a model is not as it was written; a folder without checksums is believed."""
    if not (folder / SUMS).is_file():
        return
    try:
        noted = json.loads((folder / SUMS).read_text())
        damaged = [name for name, noted_sum in noted.items() if checksum(folder / name) != noted_sum]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        damaged = [str(getattr(error, "filename", None) or folder / SUMS)]
    if damaged:
        raise BadInput(f"{flag} {folder}: {Path(damaged[0]).name} is not as it was written; {way_out}")


# --- models ---------------------------------------------------------------------------------------------------------


@once
def save_whole(folder: Path, model, tokenizer, texts: dict[str, str] | None = None, replace: bool = False) -> None:
    """Save both into a new folder, which is there as a whole, with checksums, or not at all. OSError if it is there.

    texts: further files by name. replace: delete what is there before, and what a kill left of it.
    """
    for path in folder.parent.glob(f"{folder.name}*") if replace else ():
        if path.name == folder.name or path.name.startswith(f"{folder.name}-unfinished-"):
            shutil.rmtree(path)
    unfinished = folder.with_name(f"{folder.name}-unfinished-{os.getpid()}")
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        for name, text in (texts or {}).items():
            (unfinished / name).write_text(text, encoding="utf-8")
        write_sums(unfinished)
        os.replace(unfinished, folder)
    except Exception:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


@once
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
        try:
            with writes_into(str(target), "make room, and start again"):
                save_whole(target, model, tokenizer)
        except BadInput:
            if not target.exists():  # else another process made the same model meanwhile
                raise
    check_sums(target, "--model", "delete the folder, and it is made again")
    return target
