"""elsewhere.py: samples that another engine drew, in the form of a study.

--samples-file takes .jsonl or .jsonl.gz files, in two forms:

1. An object for each sample, as bridges/draw_with_vllm.py writes them and as samples.jsonl.gz of a study has them:

    model       one of MODEL; may be left out where there is one file for each MODEL, in their order
    problem     its number among those of --data, from 0, or its text
    sample      a number of its own among those of the same model and problem
    text        the completion, without its prompt
    tokens, logprobs, truncated, entropy      each if it is known: see below

2. The logs of lm-evaluation-harness (`--log_samples`, samples_TASK_DATE.jsonl), as of version 0.4.9: an object for each
problem with `doc_id`, `doc` and `resps`. A problem is known by its text, which is one of the values of `doc`. `resps`
holds the whole responses, more than one with `repeats` in the task; `filtered_resps` is what was cut out of them, and
is not read. A document that comes again, under another `filter`, has the same responses and counts once.

Rows of other models and problems are left out. Every MODEL must have the same number of samples of every problem.

What is not known stays so, and is left out of the report: entropy without `entropy`; tokens of a completion and
perplexity without `tokens`. A perplexity also needs its reader: a model that is here (a folder, a toy), not a mere name
or hub id. Where the writer is not here, `logprobs` (nats at temperature 1, one for each token) give its own. With all
of them, and its model here, a study made of a study's samples has the same numbers.
"""

import hashlib
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import Problem
from running.files import BadInput, read_lines
from running.models import own_data
from study.folder import SAMPLES, read_samples, sampled_labels
from study.perplexity import perplexity
from study.records import Shape, fault, is_count, is_text, write_records
from study.samples import Entry, Ready, try_models

KNOWN = ("tokens", "truncated", "entropy")  # what a sample may come without; records hold None then


class Given(NamedTuple):
    """The samples of some files, checked and in order."""

    number: int  # samples of each problem
    records: dict[str, list[dict]]  # by model: records of the study, not graded yet
    said: str  # the flag and its files, for messages


# --- reading --------------------------------------------------------------------------------------------------------


def read(files: list[str], models: list[str], problems: list[Problem], max_new_tokens: int) -> Given:
    """Read the files to their end, before anything is written. All samples are in memory then.

    Raises BadInput, with the file and the line, for what is no sample, comes twice or is longer than max_new_tokens;
    and for samples that are missing.
    """
    said = f"--samples-file {' '.join(files)}"
    found, others = {model: {} for model in models}, set()  # model -> (problem, sample) -> record
    for file, owner in zip(files, models if len(files) == len(models) else [None] * len(files), strict=True):
        for place, record in read_file(file, owner, problems):
            if record["model"] not in found:
                others.add(record["model"])
                continue
            key = (record["problem"], record["sample"])
            if key[0] is None:
                continue
            if wrong := fault({**record, "answer": None, "correct": False}):
                raise BadInput(f"{place}: {wrong}; mend the line, or leave it out")
            if key in found[record["model"]]:
                raise BadInput(f"{place}: sample {key[1]} of problem {key[0]} a second time; leave one of them out")
            if record["tokens"] and len(record["tokens"]) > max_new_tokens:
                raise BadInput(f"{place}: {len(record['tokens'])} tokens; give the --max-new-tokens of these samples")
            found[record["model"]][key] = record
    number = check_whole(found, problems, others, said)
    records = {model: [held[key] for key in sorted(held)] for model, held in found.items()}
    for held in records.values():  # samples 4 to 7 become 0 to 3
        for i, record in enumerate(held):
            record["sample"] = i % number
    return Given(number, records, said)


def read_file(file: str, owner: str | None, problems: list[Problem]) -> Iterator[tuple[str, dict]]:
    """(file and line, record) of each sample of a file; problem None: not one of these. owner: of rows without a model.

    Raises BadInput for a row of neither form.
    """
    index, seen = {problem.prompt.strip(): i for i, problem in enumerate(problems)}, {}
    for line, row in read_lines(Path(file), "--samples-file"):
        place = f"--samples-file {file}, line {line}"
        model = row.get("model", owner)
        if not is_text(model):
            raise BadInput(f"{place}: has no model; add it, or give one file for each MODEL, in their order")
        base = {"model": model, "seed": None, **dict.fromkeys(KNOWN)}
        if "resps" in row:
            doc, texts = row.get("doc"), responses(row, place)
            if seen.setdefault(row["doc_id"], texts) is not texts:
                if seen[row["doc_id"]] != texts:
                    raise BadInput(f"{place}: doc_id {row['doc_id']} again, with other responses; give each task alone")
                continue
            values = doc.values() if isinstance(doc, dict) else [doc]
            numbers = [index[value.strip()] for value in values if isinstance(value, str) and value.strip() in index]
            for j, text in enumerate(texts):
                yield place, {**base, "problem": numbers[0] if numbers else None, "sample": j, "text": text}
            continue
        problem, sample = row.get("problem"), row.get("sample")
        if not (is_count(problem) or is_text(problem)) or not is_count(sample):
            columns = ", ".join(row)[:200] or "nothing"
            raise BadInput(
                f"{place}: has {columns}; needed are problem (a number or its text), sample (a number) and text"
            )
        number = index.get(problem.strip()) if isinstance(problem, str) else problem
        number = None if number is None or number >= len(problems) else number
        given = {name: row[name] for name in (*KNOWN, "logprobs") if row.get(name) is not None}
        if "logprobs" in given and not are_logprobs(given["logprobs"], given.get("tokens")):
            raise BadInput(
                f"{place}: logprobs must be numbers from -700 to 0, one for each token; mend or leave them out"
            )
        yield place, {**base, "problem": number, "sample": sample, "text": row.get("text"), **given}


def responses(row: dict, place: str) -> list[str]:
    """The texts in a line of a harness's log. Raises BadInput for a task that is not graded by what a model writes."""
    resps = row["resps"]
    texts = resps[0] if isinstance(resps, list) and len(resps) == 1 else None
    if not isinstance(texts, list) or not texts or not all(map(is_text, texts)) or not is_count(row.get("doc_id")):
        raise BadInput(f"{place}: no doc_id with texts in resps; only tasks of output_type generate_until have them")
    return texts


def are_logprobs(values, tokens: list | None) -> bool:
    """Log-probabilities, as many as tokens, if these are known. Rounding may leave a certain one a little above 0, and
    below -700 exp overflows."""
    return (
        isinstance(values, list)
        and len(values) > 0
        and all(type(value) in (int, float) and -700 < value < 0.01 for value in values)
        and (tokens is None or len(tokens) == len(values))
    )


def check_whole(found: dict[str, dict], problems: list[Problem], others: set[str], said: str) -> int:
    """How many samples of each problem every model has. Raises BadInput unless that is one number."""
    number = None
    for model, held in found.items():
        if not held:
            has = f"it has {', '.join(sorted(others))[:200]}" if others else "no row is of a problem of --data"
            raise BadInput(f"{said}: no sample of MODEL {model}; {has}")
        counts = Counter(problem for problem, _ in held)
        number = number or Counter(counts.values()).most_common(1)[0][0]  # what most have: blame the odd one
        for i, problem in enumerate(problems):
            if counts[i] != number:
                which = f"problem {i} ({problem.prompt[:40]!r}) has {counts[i]} samples of {model}, others {number}"
                raise BadInput(f"{said}: {which}; draw the same number of each, or see --data and --limit")
    return number


# --- in place of models and of sampling -----------------------------------------------------------------------------


def is_here(model: str) -> bool:
    """Whether a model can be loaded without fetching it. A hub id is a mere name here: it may be too large to load."""
    return own_data(model) is not None or Path(model).exists()


def load_if_here(load: Callable[..., Ready], model: str, **more) -> Ready | None:
    """The model, or None for a mere name."""
    return load(model, **more) if is_here(model) else None


def open_models(given: Given, models: list[str], load, template: str | None, check_base) -> tuple[str, dict, dict]:
    """What try_models gives, for these samples: a hash of each model's samples stands for one of its weights.

    The template is the one given, or the default of the first model that is here, or "unknown". Raises BadInput for
    tokens that a model does not have.
    """
    here = [model for model in models if is_here(model)]
    for model in models:
        if model not in here:
            print(f"note: {model}: no such model here, so that nothing is measured with it", file=sys.stderr)
        elif any(record["tokens"] is None for record in given.records[model]):
            print(f"note: {model}: not all of its samples have tokens: no perplexity is measured", file=sys.stderr)
    template, _, sizes = try_models(here, load, template, check_base) if here else (template or "unknown", {}, {})
    hashes = {}
    for model, held in given.records.items():
        digest, most = hashlib.sha256(), sizes.get(model, math.inf)
        for record in held:
            digest.update(json.dumps(record).encode())
            if record["tokens"] and max(record["tokens"]) >= most:
                token = f"token {max(record['tokens'])} of problem {record['problem']}, sample {record['sample']}"
                raise BadInput(f"{given.said}: {model} has no {token}; leave tokens out, or give the model's own")
        hashes[model] = f"samples {digest.hexdigest()[:16]}"
    return template, hashes, sizes


def keep(given: Given, entries: list[Entry], shape: Shape, out: Path, grade_part: Callable[[list], list]) -> None:
    """Grade the samples of entries that are not in samples.jsonl.gz, and add them there."""
    sampled = sampled_labels(out, shape)
    new = [record for entry in entries if entry.label not in sampled for record in given.records[entry.label]]
    waiting = iter(new)
    graded = chain.from_iterable(map(grade_part, iter(lambda: list(islice(waiting, 4096)), [])))
    if new:
        write_records(out / SAMPLES, chain(read_samples(out) if sampled else (), graded))


def own_perplexities(written: dict[str, list[dict]], number: int) -> list[dict]:
    """Rows as study.perplexity.perplexities has them, of models that are not here under themselves, by `logprobs`.

    written: label -> its records, of which the first `number` of a problem count.
    """
    table = []
    for model, records in written.items():
        values, right = defaultdict(list), defaultdict(list)
        for record in () if is_here(model) else records:
            if record["sample"] < number and "logprobs" in record:
                values[record["problem"]].append(perplexity(record["logprobs"]))
            if record["correct"] and "logprobs" in record:
                right[record["problem"]].append(sum(record["logprobs"]))
        medians, right_logps = ({i: float(np.median(x)) for i, x in sorted(f.items())} for f in (values, right))
        if medians:
            table.append({"writer": model, "reader": model, "problems": medians, "right_logps": right_logps})
    return table
