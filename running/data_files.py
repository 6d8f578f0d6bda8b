"""data_files.py: the rows of a user's own file of problems, in the formats in which such files come.

.jsonl, .jsonl.gz   one object a line
.json               a list of objects, or one object a line
.csv                a header and a row a record; every value is the text as it is written (007 stays 007)
.parquet            by pyarrow, which the package datasets brings
a folder            in the hub's form, by datasets.load_dataset

Each function gives (place, row), where the place, "line 3", is for messages and counts from 1. They raise BadInput with
the flag, the file and the place.
"""

import csv
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

from running.files import BadInput, in_a_line, read_lines, replace_text
from running.processes import once

Rows = Iterator[tuple[str, dict]]


def kind_of_path(name: str) -> str | None:
    """ "file", "folder" or "other" (a pipe, say); None if nothing has this name."""
    try:
        mode = Path(name).expanduser().stat().st_mode
    except (OSError, ValueError, RuntimeError):  # no such file, a name too long; a zero byte in it; no such ~user
        return None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def file_rows(path: Path, flag: str) -> Rows:
    """The rows of a file, by the end of its name, in capitals or not."""
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return ((f"line {number}", row) for number, row in read_lines(path, flag))
    for ending, rows in (".json", json_rows), (".csv", csv_rows), (".parquet", parquet_rows):
        if name.endswith(ending):
            return rows(path, flag)
    raise BadInput(f"{flag} {path}: its name does not end in .jsonl, .jsonl.gz, .json, .csv or .parquet; convert it")


def json_rows(path: Path, flag: str) -> Rows:
    """The objects of a list; a file that holds no list is read as JSON lines."""
    said = f"{flag} {path}"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = json.loads(text) if text.lstrip().startswith("[") else None
    except json.JSONDecodeError as error:
        raise BadInput(f"{said}, line {error.lineno}: {in_a_line(error)}; give a list of objects") from None
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{said}: {in_a_line(error)}; give a list of objects, in UTF-8") from None
    if rows is None:
        yield from ((f"line {number}", row) for number, row in read_lines(path, flag))
        return
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise BadInput(f"{said}, row {number}: of type {type(row).__name__}, not an object; give a list of objects")
        yield f"row {number}", row


def csv_rows(path: Path, flag: str) -> Rows:
    """The records of a table with a header. An empty field is None. A place is the line in which a record ends."""
    csv.field_size_limit(2**31 - 1)  # a solution may be long; Python's own limit is 131,072
    number = 1
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise ValueError("two columns have the same name")
            for record in reader:
                number = reader.line_num
                if record and len(record) != len(header):
                    raise ValueError(f"has {len(record)} fields, and the header {len(header)}")
                if record:  # else an empty line
                    yield f"line {number}", {name: value or None for name, value in zip(header, record, strict=True)}
                number += 1
    except (ValueError, OSError, csv.Error) as error:  # not UTF-8, an open quotation mark, zero bytes
        way_out = "give a header and one record a line, with commas, in UTF-8"
        raise BadInput(f"{flag} {path}, line {number}: {in_a_line(error)}; {way_out}") from None


def parquet_rows(path: Path, flag: str) -> Rows:
    """The rows of a table, a part of it at a time."""
    import pyarrow.parquet  # here, not above: it takes a third of a second

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise BadInput(f"{flag} {path}, behind row {number}: {in_a_line(error)}; write the file again") from None


@once
def write_rows(path: Path, rows: list[dict]) -> None:
    """Write rows as JSON lines; without any, nothing. What JSON does not know, such as a date, becomes a text."""
    if rows:
        replace_text(path, "".join(json.dumps(row, default=str) + "\n" for row in rows))


def loaded_rows(name: str, configuration: str | None, split: str, said: str, way_out: str) -> Rows:
    """The rows that datasets.load_dataset gives for an id of the hub or a folder. said: the start of a message."""
    import datasets  # here, not above: it takes a second to import, and the toy and other files do without it

    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # our one line says it
    try:
        rows = datasets.load_dataset(name, configuration, split=split)
    except Exception as error:  # no network, no such data set, configuration or split, files that it cannot read
        error = error.__cause__ or error  # "an error occurred" says less than which one
        reason = f"{type(error).__name__}: {in_a_line(error)}"
        raise BadInput(f"{said} ({split}): {reason}; {way_out}") from None
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))
