"""samples.py: how are n samples of every problem drawn, so that no kill loses one and none is drawn twice?

A study is cut into parts: all samples of some problems, from one model. Each part is sampled and graded, written under
a temporary name and then renamed; a part that is there is never sampled again. So the same command resumes after a
kill, and several machines can share the parts (--shard). When all parts are there, they become one file.

Every sample has random numbers of its own, those of numpy's default_rng([seed, problem, sample]), and that triple is
recorded with it. So two samples are alike only if the model said the same twice. (Machines that all count their seeds
from 0 draw copies, and pass@k at large k comes out too low.) The triple does not name the model: all models are given
the same random numbers.

What a part holds depends on the settings alone. With the same --rows on the same machine, a study that was killed ten
times gives the same file, byte for byte, as one that was not; with other --rows or elsewhere, the same up to rounding.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

import data
from data import Problem
from engine.memory import check_sampler, free_memory, sampling_bytes
from generate import generate_rows
from running.files import BadInput
from running.models import encoded, end_tokens, load_model
from study.folder import SAMPLES, read_samples, read_study, sampled_labels
from study.records import PARTS, Shape, in_order, way_out, whole, write_records, writing
from verify import extract_answer, grade

# Completions in a part, though at least all of one problem. Larger parts keep the sampler busy (at the end of a part
# its rows run empty); smaller ones lose less to a kill.
PART = 1536


class Entry(NamedTuple):
    """A line of the study: a model at a temperature."""

    label: str  # the model's name; with the temperature behind it, where that is not the study's
    model: str
    temperature: float


class Sampling(NamedTuple):
    """How samples are drawn."""

    number: int  # samples of each problem
    temperature: float  # the study's; an entry may have its own
    top_p: float
    max_new_tokens: int
    rows: int  # completions sampled at once
    seed: int


class Ready(NamedTuple):
    """A model that can be sampled from."""

    policy: torch.nn.Module
    tokenizer: object
    prompts: list[list[int]]  # of all problems, token ids
    template: str  # that they were made with


# --- models ---------------------------------------------------------------------------------------------------------


def ready_model(
    model: str, problems: list[Problem], sampling: Sampling, template: str | None, device: str, dtype: torch.dtype
) -> Ready:
    """Load a model and encode the prompts; template None: the default of its tokenizer.

    Raises BadInput if it cannot be loaded or sampled from, or if sampling would need more memory than is free.
    """
    policy, tokenizer = load_model(model, device, dtype)
    template = template or data.default_template(tokenizer, problems[0].kind, bool(problems[0].chat))
    prompts = encoded(problems, policy, tokenizer, template, sampling.max_new_tokens)
    longest = max(map(len, prompts)) + sampling.max_new_tokens
    try:
        token = check_sampler(policy, longest)
    except ValueError as error:
        raise BadInput(f"{model}: cannot be sampled from: {error}") from None
    rows = min(sampling.rows, len(problems) * sampling.number)
    needed = sum(sampling_bytes(policy, policy.device, rows, longest, token, sampling.temperature))
    free = free_memory(policy.device)
    if needed > free:
        fitting = int(0.9 * rows * free / needed)
        fewer = f"give about {fitting}, or less" if fitting else "give less"
        sizes = f"needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} are free"
        raise BadInput(f"--rows {sampling.rows}: {sizes}; {fewer} --max-new-tokens")
    return Ready(policy, tokenizer, prompts, template)


def try_models(
    models: list[str], load: Callable[..., Ready], template: str | None, check_base: Callable[[Ready], None]
) -> tuple[str, dict[str, str], dict[str, int]]:
    """Load every model once: (template of all prompts, fingerprint by model, vocabulary's size by model).

    template None: the first model's default, since the base comes first. Says so on stderr where the other models'
    prompts are different text all the same: a chat template belongs to a tokenizer. check_base: is called with the
    first model. Raises BadInput if one cannot be used.
    """
    fingerprints, vocabularies, first = {}, {}, None
    for model in models:
        ready = load(model, template=template)
        template = ready.template
        fingerprints[model] = fingerprint(ready.policy)
        vocabularies[model] = ready.policy.get_input_embeddings().num_embeddings
        if first is None:
            check_base(ready)
        if not end_tokens(ready.policy, ready.tokenizer):
            print(f"note: {model} has no end token: all its samples go on to --max-new-tokens", file=sys.stderr)
        text = ready.tokenizer.decode(ready.prompts[0])
        del ready  # frees the model before the next is loaded
        first = text if first is None else first
        if text != first:
            print(f"note: the prompts of {model} differ from those of {models[0]}", file=sys.stderr)
    return template, fingerprints, vocabularies


def fingerprint(policy) -> str:
    """A hash of the weights: tells a model from another under the same name, such as a run folder that was trained
    again. The first half is of the first 64 weights of each tensor, the second of every tensor's sum, as integers."""
    firsts, sums = [], []
    for weight in policy.parameters():
        flat = weight.detach().flatten()
        firsts.append(flat[:64].float().cpu().numpy().tobytes())
        bits = flat.view({2: torch.int16, 4: torch.int32}[flat.element_size()])
        sums.append(f"{int(bits.sum(dtype=torch.int64))},".encode())  # one bit that changes changes it
    return "".join(hashlib.sha256(b"".join(parts)).hexdigest()[:16] for parts in (firsts, sums))


# --- sampling and grading -------------------------------------------------------------------------------------------


def draw_samples(ready: Ready, chosen: range, sampling: Sampling) -> Iterator[dict]:
    """Sample completions of the chosen problems, and yield one record for each as it ends.

    A record: problem, sample, seed, tokens (ids, with the end token), truncated, and entropy (of the distribution
    before top-p, nats, mean over the tokens).
    """
    places = [(i, j) for i in chosen for j in range(sampling.number)]

    def uniform(rows: list[int], T: int) -> torch.Tensor:
        """The random numbers of these rows, [rows, T]: they depend on seed, problem and sample, and on nothing else."""
        own = [np.random.default_rng([sampling.seed, *places[row]]).random(T, dtype=np.float32) for row in rows]
        return torch.from_numpy(np.stack(own))

    ended_rows = generate_rows(
        ready.policy,
        [ready.prompts[i] for i in chosen],
        sampling.number,
        sampling.max_new_tokens,
        sampling.temperature,
        sampling.top_p,
        end_tokens(ready.policy, ready.tokenizer),
        uniform,
        slots=sampling.rows,
    )
    for ended in ended_rows:
        columns = (ended[name].tolist() for name in ("owner", "count", "truncated"))
        tokens, entropies = ended["tokens"].cpu(), ended["values"][:, 1].cpu()  # [k, T + 1] each
        for row, (owner, count, truncated) in enumerate(zip(*columns, strict=True)):
            i, j = places[owner]
            yield {
                "problem": i,
                "sample": j,
                "seed": [sampling.seed, i, j],
                "tokens": tokens[row, :count].tolist(),
                "truncated": truncated,
                "entropy": round(entropies[row, :count].mean().item(), 5),
            }


def add_verdicts(
    records: list[dict], problems: list[Problem], run_code: bool, valid: Callable[[str, str], bool] | None
) -> list[dict]:
    """The records with answer, correct and, where reasoning can be checked, valid: correct, by a valid chain of it.

    run_code: whether programs may be run. valid: (completion, prompt) -> bool, of a toy world; None elsewhere.
    """
    golds = [problems[record["problem"]] for record in records]
    texts = [record["text"] for record in records]
    verdicts = grade(texts, [p.answer for p in golds], [p.kind for p in golds], run_code)
    graded = []
    for record, gold, right in zip(records, golds, verdicts, strict=True):
        verdict = {"answer": extract_answer(record["text"], gold.kind, gold.answer), "correct": right}
        if valid:
            verdict["valid"] = right and valid(record["text"], gold.prompt)
        graded.append({**record, **verdict})
    return graded


def regrade(entries: list[Entry], shape: Shape, out: Path, grade_part: Callable[[list], list]) -> tuple[int, int]:
    """Grade all samples of a study with the checker as it is now; returns (verdicts that changed, samples).

    Raises BadInput if an entry has no samples. Those of models that are not entries are graded again too.
    """
    # Whether chains are valid, which a study of an earlier version does not say, is found here.
    if missing := {entry.label for entry in entries} - sampled_labels(out, shape._replace(chains=False)):
        raise BadInput(f"--regrade: {out} has no samples of {', '.join(sorted(missing))}; leave the flag out")
    changed, total = 0, 0

    def again() -> Iterator[dict]:
        nonlocal changed, total
        records = read_samples(out)
        while batch := list(islice(records, 4096)):  # a study may not fit into memory
            graded = grade_part(batch)
            changed += sum(new["correct"] != old["correct"] for new, old in zip(graded, batch, strict=True))
            total += len(batch)
            yield from graded

    write_records(out / SAMPLES, again())
    return changed, total


# --- parts ----------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Some problems with all their samples, from one entry."""

    entry: Entry
    problems: range
    path: Path


def list_parts(entries: list[Entry], problems: int, number: int, out: Path) -> list[Part]:
    """The parts of these entries, in the order that samples.jsonl.gz has them; number: samples of each problem.

    A part's name carries a hash of all that it was drawn with, weights included. So a part that was copied from
    elsewhere, or is left from before, is never taken for another.
    """
    study, size, parts = read_study(out), max(1, PART // number), []
    for entry in entries:
        drawn_with = json.dumps([entry, study["settings"], study["models"].get(entry.model)])
        label = re.sub(r"\W+", "-", entry.label)[-40:].strip("-")  # for people
        name = f"{label}-{hashlib.sha256(drawn_with.encode()).hexdigest()[:8]}"
        for i, first in enumerate(range(0, problems, size)):
            chosen = range(first, min(first + size, problems))
            parts.append(Part(entry, chosen, out / PARTS / f"{name}-{i:05}.jsonl.gz"))
    return parts


def draw_missing(
    entries: list[Entry],
    shape: Shape,
    out: Path,
    sampling: Sampling,
    load: Callable[[str], Ready],
    grade_part: Callable[[list], list],
    shard: tuple[int, int] = (1, 1),
) -> bool:
    """Sample what is missing in samples.jsonl.gz, and merge it. Returns whether all samples are there now.

    shard (I, N): sample every N-th part from the I-th on, and leave the merging to a command without --shard, since
    two shards may end at the same time.
    """
    sampled, parts = sampled_labels(out, shape), list_parts(entries, shape.problems, shape.number, out)
    missing = [part for part in parts if part.entry.label not in sampled]
    if missing:
        with writing(out / PARTS):
            (out / PARTS).mkdir(exist_ok=True)
        own = missing[shard[0] - 1 :: shard[1]]
        check_parts([part for part in own if os.path.lexists(part.path)], shape, out)  # not behind hours of sampling
        draw_parts(own, sampling, load, grade_part)
        if shard[1] > 1:
            return False
        merge(missing, out)
    # These parts are in the file now. Those of other models stay, for the command that samples them.
    if (out / PARTS).is_dir():
        names = {part.path.name for part in parts}
        for path in (out / PARTS).iterdir():
            if re.sub(r"\.\d+\.new$", "", path.name) in names:  # also an unfinished one that a kill left
                with writing(path):
                    path.unlink(missing_ok=True)
        if not any((out / PARTS).iterdir()):
            (out / PARTS).rmdir()
    return True


def draw_parts(
    parts: list[Part], sampling: Sampling, load: Callable[[str], Ready], grade_part: Callable[[list], list]
) -> None:
    """Sample, grade and write the parts that are not there yet."""
    left = [part for part in parts if not part.path.exists()]
    total, missing = (sampling.number * sum(len(part.problems) for part in some) for some in (parts, left))
    ready, loaded = None, None
    with tqdm(total=total, initial=total - missing, unit=" samples") as bar:
        for entry, chosen, path in left:
            bar.set_description(entry.label)
            if loaded != entry.model:
                ready = None  # frees the model before the next is loaded
                ready, loaded = load(entry.model), entry.model
            records = []
            for record in draw_samples(ready, chosen, sampling._replace(temperature=entry.temperature)):
                records.append({"model": entry.label, **record})
                bar.update()
            records.sort(key=lambda record: (record["problem"], record["sample"]))  # they ended in another order
            texts = ready.tokenizer.batch_decode([r["tokens"] for r in records], skip_special_tokens=True)
            records = [{**record, "text": text} for record, text in zip(records, texts, strict=True)]
            write_records(path, grade_part(records))


def check_parts(parts: list[Part], shape: Shape, out: Path) -> None:
    """Raise BadInput for a part that is not what it should be: it may have come over a network."""
    vocabularies = read_study(out)["vocabularies"]
    for entry, chosen, path in parts:
        counts = in_order(path, shape, vocabularies, chosen.start)
        if dict(counts) != {entry.label: len(chosen) * shape.number}:
            held = " and ".join(f"{found} of {label}" for label, found in counts.items()) or "none"
            raise BadInput(f"{path}: does not hold the samples that it should ({held}); {way_out(path)}")


def merge(parts: list[Part], out: Path) -> None:
    """Add parts to samples.jsonl.gz, behind what it holds."""
    sources = [part.path for part in parts]
    if (out / SAMPLES).exists():
        sources.insert(0, out / SAMPLES)
    with whole(out / SAMPLES) as file:
        for path in sources:  # gzip files, one behind the other, are a gzip file
            with open(path, "rb") as source:
                shutil.copyfileobj(source, file)
