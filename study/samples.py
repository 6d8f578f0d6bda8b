"""samples.py: how are n samples of every problem drawn, so that no kill loses one and none is drawn twice?

A study is cut into parts: some problems with all their samples, from one model. Each part is sampled by itself, graded,
written beside its place and moved there; a part that is there is never done again. So the same command goes on after a
kill, and several machines can share the parts (--shard). When all are there they become one file, samples.jsonl.gz.

Every sample has random numbers of its own, those of numpy's default_rng([seed, problem, sample]), and that triple is
recorded with it. So two samples are alike only if the model said the same twice. (Machines that all count their seeds
from 0 draw copies, and pass@k at large k believes them.) The triple does not name the model: models are compared on the
same random numbers.

What a part holds depends on the settings alone. Made with the same --rows on the same machine, the file of a study that
was killed ten times is that of an undisturbed one to the byte; otherwise it is so but for rounding.
"""

import glob
import gzip
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

import data
import toy
from data import BadInput, Problem
from engine.memory import check_sampler, free_memory, sampling_bytes
from generate import generate_rows
from running.models import context_room, end_tokens, load_model
from verify import extract_answer, grade

SAMPLES, STUDY, PARTS = "samples.jsonl.gz", "study.json", "parts"
# Completions of a part, at least those of one problem. At its end slots stand empty; a kill loses the part at hand.
PART = 1536
# What must agree for samples to belong to one study; the models may become more.
IDENTITY = ("template", "samples", "temperature", "top_p", "max_new_tokens", "seed", "dtype")


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
            f"--rows {settings.rows}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} are free; give about "
            f"{int(0.9 * rows * free / needed)}, or less --max-new-tokens"
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
        columns = (ended[name].tolist() for name in ("owner", "count", "truncated"))
        tokens, entropies = ended["tokens"].cpu(), ended["values"][:, 1].cpu()  # [k, T + 1] each
        for row, (owner, count, truncated) in enumerate(zip(*columns, strict=True)):
            i, j = places[owner]
            record = {"problem": i, "sample": j, "seed": [settings.seed, i, j]}
            record |= {"tokens": tokens[row, :count].tolist(), "truncated": truncated}
            yield record | {"entropy": round(entropies[row, :count].mean().item(), 5)}


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


class Part(NamedTuple):
    """Some problems with all their samples, from one entry."""

    entry: Entry
    problems: range
    path: Path


def all_parts(entries: list[Entry], problems: int, settings, out: Path) -> list[Part]:
    """The parts of these entries, in the order in which the file has them.

    A part's name carries a hash of what it was drawn with, weights included: one that was copied from elsewhere, or is
    left from before, is never taken for another.
    """
    study, size, parts = read_study(out), max(1, PART // settings.samples), []
    for entry in entries:
        drawn_with = json.dumps([entry, study["settings"], study["models"].get(entry.model)])
        label = re.sub(r"\W+", "-", entry.label)[-40:].strip("-")
        name = f"{label}-{hashlib.sha256(drawn_with.encode()).hexdigest()[:8]}"
        for number, first in enumerate(range(0, problems, size)):
            chosen = range(first, min(first + size, problems))
            parts.append(Part(entry, chosen, out / PARTS / f"{name}-{number:05}.jsonl.gz"))
    return parts


def write_lines(path: Path, records: Iterable[dict]) -> None:
    """Write a .jsonl.gz, which is there as a whole or not at all; the same records give the same bytes."""
    new = f"{path}.{os.getpid()}.new"  # should the same command run twice
    # No time and no name in its header.
    with open(new, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        for record in records:
            lines.write((json.dumps(record) + "\n").encode())
    os.replace(new, path)


def read_lines(path: Path) -> Iterator[dict]:
    """The records of a .jsonl.gz. Raises BadInput for one that is cut off or broken."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read ({error}); copy it again, or delete it to sample it again") from None


def read_samples(out: Path) -> Iterator[dict]:
    """The records of a finished study, by model, problem and sample. Raises BadInput."""
    return read_lines(out / SAMPLES)


def sampled_already(out: Path) -> set[str]:
    """The labels of the models in samples.jsonl.gz. (The file itself says it: no second file can disagree with it.)"""
    return {record["model"] for record in read_samples(out)} if (out / SAMPLES).exists() else set()


def draw(entries: list[Entry], problems: list[Problem], settings, out: Path) -> bool:
    """Sample what is missing and merge it into samples.jsonl.gz. With --shard sample a share of it, and leave merging
    to the command without: two shards may end at once. Returns whether samples.jsonl.gz is complete."""
    done = sampled_already(out)
    parts = all_parts(entries, len(problems), settings, out)
    missing = [part for part in parts if part.entry.label not in done]
    shard, shards = settings.shard
    if missing:
        (out / PARTS).mkdir(exist_ok=True)
        sample_parts(missing[shard - 1 :: shards], problems, settings)
        if shards > 1:
            return False
        merge(missing, settings, out)
    # Parts that are in the file now; those of other models, which another command goes on with, stay.
    for part in parts if (out / PARTS).is_dir() else ():
        for path in (out / PARTS).glob(f"{glob.escape(part.path.name)}*"):  # .new ones too, left by a kill
            path.unlink(missing_ok=True)
    if (out / PARTS).is_dir() and not any((out / PARTS).iterdir()):
        (out / PARTS).rmdir()
    return True


def sample_parts(parts: list[Part], problems: list[Problem], settings) -> None:
    """Sample, grade and write the parts that are not there yet."""
    left = [part for part in parts if not part.path.exists()]
    total, missing = (settings.samples * sum(len(part.problems) for part in some) for some in (parts, left))
    bar = tqdm(total=total, initial=total - missing, unit=" samples")
    ready, loaded = None, None
    for entry, chosen, path in left:
        bar.set_description(entry.label)
        if loaded != entry.model:
            ready = None  # frees the model before the next is loaded
            ready, loaded = prepare(entry.model, problems, settings), entry.model
        records = []
        for record in sample(ready, chosen, settings.samples, entry.temperature, settings):
            records.append({"model": entry.label, **record})
            bar.update()
        records.sort(key=lambda record: (record["problem"], record["sample"]))
        texts = ready.tokenizer.batch_decode([r["tokens"] for r in records], skip_special_tokens=True)
        records = [{**record, "text": text} for record, text in zip(records, texts, strict=True)]
        write_lines(path, graded(records, problems, settings))
    bar.close()


def merge(parts: list[Part], settings, out: Path) -> None:
    """Put parts into samples.jsonl.gz, behind what it holds: a gzip file may consist of several, end to end."""
    for entry, chosen, path in parts:  # each has come from a disk or over a network: is it what it is said to be?
        found = [(record["model"], record["problem"], record["sample"]) for record in read_lines(path)]
        if found != [(entry.label, i, j) for i in chosen for j in range(settings.samples)]:
            raise BadInput(f"{path}: does not hold the samples that it should; delete it to sample them again")
    with open(out / f"{SAMPLES}.new", "wb") as whole:
        for path in [out / SAMPLES] * (out / SAMPLES).exists() + [part.path for part in parts]:
            with open(path, "rb") as part:
                shutil.copyfileobj(part, whole)
    os.replace(out / f"{SAMPLES}.new", out / SAMPLES)


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
    held = {name: getattr(settings, name) for name in IDENTITY}
    return held | {"problems": hashlib.sha256(texts.encode()).hexdigest()[:16]}


def check_study(out: Path, wanted: dict, fingerprints: dict[str, str]) -> None:
    """Raise BadInput if the folder holds samples that were drawn with other settings, or from a model of the same name
    with other weights."""
    study, way_out = read_study(out), "give another --out, or --overwrite to sample all again"
    if not study and ((out / SAMPLES).exists() or (out / PARTS).exists()):
        raise BadInput(f"--out {out}: holds samples without {STUDY}; {way_out}")
    for name, value in wanted.items() if study else ():
        held = study["settings"].get(name)
        if held != value:
            what = f"{name} {held} there, {value} now" if name != "problems" else "other problems: --data, --limit"
            raise BadInput(f"--out {out}: holds another study ({what}); {way_out}")
    changed = [model for model, found in fingerprints.items() if study and study["models"].get(model, found) != found]
    if changed:
        # Weights that nothing was drawn from yet may change. (A matched temperature stands behind the name.)
        sampled = {label.partition(" at T=")[0] for label in sampled_already(out)}
        for model in sampled.intersection(changed):
            raise BadInput(f"--out {out}: holds samples of {model} as it was before; {way_out}")
