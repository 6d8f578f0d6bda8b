"""samples.py: how are n samples of every problem drawn, so that no kill loses one and none is drawn twice?

A study is cut into parts: some problems with all their samples, from one model. Each part is sampled by itself, graded,
written beside its place and moved there; a part that is there is never done again. So the same command goes on after a
kill, and several machines can share the parts (--shard). When all are there they become one file, samples.jsonl.gz.

Every sample has random numbers of its own: those of numpy's default_rng([seed, problem, sample]), and that triple is
recorded with it. Two samples are copies only if the model said the same twice. (Seeds that differ by a hash, or are
counted up on every machine from 0, are how copies get into released evaluations; and pass@k at large k believes them.)
The triple does not name the model: models are compared on the same random numbers.

What a part holds depends on the settings alone, and a part is computed the same way whenever it is. So the file of a
study that was killed ten times is that of an undisturbed one, to the byte.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

import data
import toy
from data import BadInput, Problem
from generate import generate_rows
from models import context_room, end_tokens, load_model
from plan import check_sampler, free_memory, sampling_bytes
from verify import extract_answer, grade

SAMPLES, STUDY, PARTS = "samples.jsonl.gz", "study.json", "parts"
# A part has about this many times as many completions as are sampled at once. At the end of a part slots stand empty;
# a kill loses at most the part at hand.
SLOTFULS = 4
# What must agree for samples to belong to one study; the models may become more.
IDENTITY = ("data", "template", "samples", "limit", "top_p", "max_new_tokens", "seed", "rows", "dtype")


class Entry(NamedTuple):
    """A line of the study: a model at a temperature."""

    label: str  # the model's name, with the temperature behind it where that is not the study's
    model: str
    temperature: float


class Ready(NamedTuple):
    """A model that can be sampled from."""

    policy: torch.nn.Module
    tokenizer: object
    prompts: list[list[int]]


# --- sampling -------------------------------------------------------------------------------------------------------


def prepare(model: str, problems: list[Problem], settings) -> Ready:
    """Load a model and encode the prompts. Raises BadInput.

    settings.template, if still open, becomes the default of this model: the base comes first, and all other models are
    given the same prompts.
    """
    policy, tokenizer = load_model(model, settings.device, settings.compute)
    settings.template = settings.template or data.default_template(tokenizer, problems[0].kind)
    room = context_room(policy, settings.max_new_tokens)
    prompts = data.encode_prompts(problems, tokenizer, settings.template, room)
    longest = max(map(len, prompts)) + settings.max_new_tokens
    try:
        token = check_sampler(policy, longest)
    except ValueError as error:
        raise BadInput(f"{model}: cannot be sampled from: {error}") from None
    rows = min(settings.rows, len(problems) * settings.samples)
    needed = sum(sampling_bytes(policy, policy.device, rows, longest, token, settings.temperature))
    free = free_memory(policy.device)
    if needed > free:
        raise BadInput(
            f"--rows {settings.rows}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} are free; give fewer"
        )
    return Ready(policy, tokenizer, prompts)


def sample(ready: Ready, chosen: range, number: int, temperature: float, settings) -> Iterator[dict]:
    """Sample `number` completions of each of the chosen problems, and yield one dict per sample as they end:
    problem, sample, seed, tokens, truncated, and entropy (the mean over its tokens, nats)."""
    places = [(i, j) for i in chosen for j in range(number)]

    def uniform(rows: list[int], T: int) -> torch.Tensor:
        own = [np.random.default_rng([settings.seed, *places[row]]).random(T, dtype=np.float32) for row in rows]
        return torch.from_numpy(np.stack(own))

    ended_rows = generate_rows(
        ready.policy,
        [ready.prompts[i] for i in chosen],
        number,
        settings.max_new_tokens,
        temperature,
        settings.top_p,
        end_tokens(ready.policy, ready.tokenizer),
        uniform,
        slots=settings.rows,
    )
    for ended in ended_rows:
        columns = (ended[name].tolist() for name in ("owner", "count", "truncated", "tokens"))
        entropies = ended["values"][:, 1].tolist()
        for owner, count, truncated, tokens, entropy in zip(*columns, entropies, strict=True):
            (i, j), mean = places[owner], sum(entropy[:count]) / count
            record = {"problem": i, "sample": j, "seed": [settings.seed, i, j], "tokens": tokens[:count]}
            yield record | {"truncated": truncated, "entropy": round(mean, 5)}


def graded(records: list[dict], problems: list[Problem], settings) -> list[dict]:
    """The records with answer and correct; on the toy, valid too: correct, with a valid chain of reasoning."""
    golds = [problems[record["problem"]] for record in records]
    kinds, texts = [p.kind for p in golds], [record["text"] for record in records]
    verdicts = grade(texts, [p.answer for p in golds], kinds, settings.allow_code_execution)
    for record, gold, right in zip(records, golds, verdicts, strict=True):
        record |= {"answer": extract_answer(record["text"], gold.kind), "correct": right}
        if settings.data == "toy":  # only here can a function check the reasoning
            record["valid"] = right and toy.valid_chain(record["text"], gold)
    return records


def fingerprint(policy) -> str:
    """Tells a model from another of the same name, such as a run folder that was trained again: a hash of the first
    weights of each of its tensors."""
    parts = [weight.detach().flatten()[:64].float().cpu().numpy().tobytes() for weight in policy.parameters()]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


# --- parts ----------------------------------------------------------------------------------------------------------


def part_path(out: Path, entry: Entry, number: int) -> Path:
    """The file of a part: readable, and for no two entries the same."""
    label = re.sub(r"\W+", "-", entry.label)[-40:].strip("-")
    return out / PARTS / f"{label}-{hashlib.sha256(entry.label.encode()).hexdigest()[:6]}-{number:05}.jsonl.gz"


def all_parts(entries: list[Entry], problems: int, settings) -> list[tuple[Entry, int, range]]:
    """(entry, number, problems) of every part, in the order in which the file has them."""
    size = max(1, SLOTFULS * settings.rows // settings.samples)
    ranges = [range(first, min(first + size, problems)) for first in range(0, problems, size)]
    return [(entry, number, chosen) for entry in entries for number, chosen in enumerate(ranges)]


def write_lines(path: Path, records: Iterator[dict]) -> None:
    """Write a .jsonl.gz, which is there as a whole or not at all; the same records give the same bytes."""
    # No time and no name in its header.
    with open(f"{path}.new", "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        for record in records:
            lines.write((json.dumps(record) + "\n").encode())
    os.replace(f"{path}.new", path)


def read_samples(out: Path) -> Iterator[dict]:
    """The records of a finished study, by model, problem and sample. Raises BadInput."""
    try:
        with gzip.open(out / SAMPLES, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(f"--out {out}: {SAMPLES} cannot be read ({error}); sample again with --overwrite") from None


def sampled_already(out: Path) -> set[str]:
    """The labels of the models in samples.jsonl.gz. (The file itself says it: no second file can disagree with it.)"""
    return {record["model"] for record in read_samples(out)} if (out / SAMPLES).exists() else set()


def draw(entries: list[Entry], problems: list[Problem], settings, out: Path) -> bool:
    """Sample what is missing, and merge the parts; with --shard only the former. Returns whether samples.jsonl.gz is
    complete."""
    missing = [entry for entry in entries if entry.label not in sampled_already(out)]
    parts = all_parts(missing, len(problems), settings)
    if not missing:
        shutil.rmtree(out / PARTS, ignore_errors=True)
        return True
    shard, shards = settings.shard
    mine = [part for i, part in enumerate(parts) if i % shards == shard - 1]
    left = [part for part in mine if not part_path(out, *part[:2]).exists()]
    rows = {id(part): len(part[2]) * settings.samples for part in mine}
    (out / PARTS).mkdir(exist_ok=True)
    bar = tqdm(total=sum(rows.values()), initial=sum(rows.values()) - sum(rows[id(part)] for part in left))
    bar.unit, ready, loaded = " samples", None, None
    for entry, number, chosen in left:
        if loaded != entry.model:
            ready = None  # frees the model before the next is loaded
            ready, loaded = prepare(entry.model, problems, settings), entry.model
        bar.set_description(entry.label)
        records = []
        for record in sample(ready, chosen, settings.samples, entry.temperature, settings):
            records.append({"model": entry.label, **record})
            bar.update()
        records.sort(key=lambda record: (record["problem"], record["sample"]))
        texts = ready.tokenizer.batch_decode([r["tokens"] for r in records], skip_special_tokens=True)
        for record, text in zip(records, texts, strict=True):
            record["text"] = text
        write_lines(part_path(out, entry, number), graded(records, problems, settings))
    bar.close()
    if shards > 1:  # whoever is the last to end does not merge: two could be
        return False
    # Members of a gzip file stand behind each other: the whole file is its parts, behind what was there before.
    with open(out / f"{SAMPLES}.new", "wb") as whole:
        before = [out / SAMPLES] if (out / SAMPLES).exists() else []
        for path in chain(before, (part_path(out, *part[:2]) for part in parts)):
            whole.write(path.read_bytes())
    os.replace(out / f"{SAMPLES}.new", out / SAMPLES)
    shutil.rmtree(out / PARTS)
    return True


def regrade(problems: list[Problem], settings, out: Path) -> tuple[int, int]:
    """Grade all samples of a study with the checker as it is now; returns (verdicts that changed, samples)."""
    changed, total = 0, 0

    def again() -> Iterator[dict]:
        nonlocal changed, total
        records = read_samples(out)
        while batch := list(islice(records, 4096)):
            before = [record["correct"] for record in batch]
            after = graded(batch, problems, settings)
            changed += sum(record["correct"] != old for record, old in zip(after, before, strict=True))
            total += len(batch)
            yield from after

    write_lines(out / SAMPLES, again())
    return changed, total


# --- which study? ---------------------------------------------------------------------------------------------------


def read_study(out: Path) -> dict:
    """study.json: what the samples in a folder were drawn with; {} without one."""
    return json.loads((out / STUDY).read_text()) if (out / STUDY).is_file() else {}


def write_study(out: Path, study: dict, settings) -> None:
    """study.json, whole at any moment, also where shards write into one folder."""
    new = out / f"{STUDY}.{settings.shard[0]}.new"
    new.write_text(json.dumps(study, indent=1))
    os.replace(new, out / STUDY)


def identity(problems: list[Problem], settings) -> dict:
    """What must be equal for samples to belong to one study."""
    texts = json.dumps([(p.prompt, p.answer, p.kind) for p in problems])
    held = {name: getattr(settings, name) for name in IDENTITY} | {"temperature": settings.temperature}
    return held | {"problems": hashlib.sha256(texts.encode()).hexdigest()[:16]}


def check_study(out: Path, wanted: dict, fingerprints: dict[str, str]) -> None:
    """Raise BadInput if the folder holds samples that were drawn with other settings, or from a model of the same name
    with other weights."""
    study = read_study(out)
    if not study and ((out / SAMPLES).exists() or (out / PARTS).exists()):
        raise BadInput(f"--out {out}: holds samples without {STUDY}; give another folder, or --overwrite")
    for name, value in wanted.items() if study else ():
        held = study["settings"].get(name)
        if held != value:
            what = f"{name} {held} there, {value} now" if name != "problems" else "other problems"
            raise BadInput(f"--out {out}: holds another study ({what}); give another folder, or --overwrite")
    for model, found in fingerprints.items() if study else ():
        if study["models"].get(model, found) != found:
            raise BadInput(f"--out {out}: holds samples of {model} as it was before; give another, or --overwrite")
