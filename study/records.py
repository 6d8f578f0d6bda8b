"""records.py: how are the files of a study written, so that what is read back can be believed?

A file of samples is a .jsonl.gz with a record a line, by model, problem and sample. gzip keeps a checksum, so a changed
byte is seen by reading to the end. A record that no study writes, or at a place where it does not belong, is refused
with the file and the line. study.json and report.json end with a checksum of their own.
"""

import errno
import gzip
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from running.files import BadInput

PARTS = "parts"  # the folder of samples that are not put together yet


# --- writing --------------------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What is inside writes or deletes `path`. Raises BadInput where the system does not let it, as on a full disk."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason, mend = error.strerror or error, "make space" if full else "mend that"
        raise BadInput(f"cannot write {path}: {reason}; {mend}, then the same command goes on") from None


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is in its place as a whole or not at all. Raises BadInput as `writing`."""
    new = Path(f"{path}.{os.getpid()}.new")  # a name of its own, should the same command run twice
    try:
        with writing(path):
            with open(new, "wb") as file:
                yield file
            os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)  # if it came to nothing


# --- samples --------------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What the samples of a study must be like."""

    problems: int
    number: int  # samples of each problem
    max_new_tokens: int
    seed: int | None  # None: drawn elsewhere, and then what is not known of a sample is None too
    chains: bool  # on the toy: every record says whether its chain of reasoning is valid


def write_records(path: Path, records: Iterable[dict]) -> None:
    """Write a .jsonl.gz. The same records give the same bytes."""
    # A gzip header can hold a time and a name; this one holds neither.
    with whole(path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        for record in records:
            lines.write((json.dumps(record) + "\n").encode())


def read_records(path: Path) -> Iterator[dict]:
    """The records of a .jsonl.gz. Raises BadInput for a file that is cut off or broken, and for what is no record."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                number += 1
                record = json.loads(line)
                if wrong := fault(record):
                    raise ValueError(wrong)
                yield record
    except BadInput:  # of who reads it: it is a ValueError too
        raise
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read (line {max(1, number)}: {error}); {way_out(path)}") from None


def way_out(path: Path) -> str:
    """What to do about a file of samples that cannot be used."""
    return f"copy it again, or {'delete it' if path.parent.name == PARTS else 'give --overwrite'} to sample it again"


def fault(record) -> str | None:
    """What makes this no record of a sample; None if nothing does."""
    if not isinstance(record, dict):
        return f"a {type(record).__name__}, not an object"
    for name, holds in FIELDS.items():
        if name not in record and name != "valid":
            return f"no {name}"
        if name in record and not holds(record[name]):
            return f"{name} {record[name]!r:.40}"
    return None


def is_text(value) -> bool:
    """A text that can be written: JSON can hold half a character (a lone surrogate)."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def is_count(value) -> bool:
    """A whole number from 0 on; True and False are none."""
    return type(value) is int and value >= 0


def are_tokens(value) -> bool:
    """A list of token ids, with one at least: a sample has its end token, or was cut off behind some."""
    return isinstance(value, list) and set(map(type, value)) == {int} and min(value) >= 0 and max(value) < 2**31


FIELDS = {
    "model": is_text,
    "problem": is_count,
    "sample": is_count,
    # These four are None where a sample was drawn elsewhere, and nobody knows: see in_order.
    "seed": lambda value: value is None or isinstance(value, list),
    "tokens": lambda value: value is None or are_tokens(value),
    "truncated": lambda value: value is None or isinstance(value, bool),
    # Nats, below log(vocabulary). Rounding can leave a certain token a little below 0. NaN fails every comparison.
    "entropy": lambda value: value is None or (type(value) in (int, float) and -0.1 < value < 100),
    "text": is_text,
    "answer": lambda value: value is None or is_text(value),
    "correct": lambda value: isinstance(value, bool),
    "valid": lambda value: isinstance(value, bool),  # only on the toy
}


def in_order(path: Path, shape: Shape, vocabularies: dict[str, int], first: int = 0) -> Counter:
    """Read a file of samples to its end: how many each model has. Raises BadInput for one that is not at its place.

    Every model's samples come by problem and sample, without a gap, from problem `first` on. vocabularies: by model; a
    study from before they were kept has none.
    """
    counts = Counter()
    for line, record in enumerate(read_records(path), 1):
        label = record["model"]
        i, j = divmod(counts[label], shape.number)
        i += first
        counts[label] += 1
        wrong, held = None, (record["problem"], record["sample"], record["seed"])
        unknown = [name for name in ("tokens", "truncated", "entropy") if record[name] is None]
        if held != (i, j, None if shape.seed is None else [shape.seed, i, j]) or i >= shape.problems:
            wrong = f"problem {held[0]}, sample {held[1]}, seed {held[2]}, where problem {i}, sample {j} belongs"
        elif unknown and shape.seed is not None:
            wrong = f"no {unknown[0]}"
        elif len(record["tokens"] or ()) > shape.max_new_tokens:
            wrong = f"{len(record['tokens'])} tokens, more than --max-new-tokens"
        elif max(record["tokens"] or (0,)) >= vocabularies.get(model_of(label, vocabularies), 2**31):
            wrong = f"token {max(record['tokens'])}, which the model does not have"
        elif shape.chains and "valid" not in record:
            wrong = "no valid"
        if wrong:
            raise BadInput(f"{path}: does not hold the samples that it should (line {line}: {wrong}); {way_out(path)}")
    return counts


def model_of(label: str, models) -> str:
    """The model of a label, which may name a temperature behind it."""
    return label if label in models else label.rpartition(" at T=")[0]


# --- files with a checksum --------------------------------------------------------------------------------------------


def sealed(content: dict) -> str:
    """The text of a JSON file that ends with a checksum of its content: a digit that changes is seen."""
    return json.dumps({**content, "checksum": checksum(content)}, indent=1)


def checksum(content: dict) -> str:
    """A hash of what a JSON file says, however it is laid out."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def read_sealed(path: Path, mend: str) -> dict:
    """The content of a sealed JSON file, or of one from before there were checksums. Raises BadInput.

    mend: what to do about one that is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not an object")
        if content.pop("checksum", None) not in (None, checksum(content)):
            raise ValueError("its checksum is another: something in it was changed")
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); {mend}") from None
    return content
