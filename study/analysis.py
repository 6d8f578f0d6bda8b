"""analysis.py: what do the samples of a study say?

`count` goes through the samples once and counts; `analyse` puts the counts through passk.py; `in_a_world` adds what
only a toy world knows. The result is what report.json holds, and what report.py shows.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import passk
from data import Problem
from running.files import BadInput
from study import folder
from study.records import checksum
from study.samples import Entry

# Records that are kept to be read: the first ones of each problem and model, and the first right ones.
FIRST, RIGHT = 6, 2
# The settings that report.json begins with.
DESCRIBED = ("data", "template", "samples", "temperature", "top_p", "max_new_tokens", "seed", "rows", "dtype")


@dataclass
class Tally:
    """What was counted of one entry's samples."""

    counts: dict[str, np.ndarray]  # "correct", "truncated", on the toy "valid" -> samples of each problem, [P]
    answers: dict[int, list] = field(default_factory=lambda: defaultdict(list))  # problem -> every sample's answer
    right: dict[int, list] = field(default_factory=lambda: defaultdict(list))  # problem -> every sample's verdict
    kept: list[dict] = field(default_factory=list)  # records to measure and to read
    entropy: float = 0.0  # nats, summed over all tokens
    tokens: int = 0
    answered: int = 0
    unknown: set[str] = field(default_factory=set)  # of tokens, truncated and entropy: some sample came without it


def count(
    entries: list[Entry], problems: list[Problem], n: int, out: Path, first: int, chains: bool
) -> dict[str, Tally]:
    """Go through all samples once: label -> Tally. Raises BadInput unless every problem has n of every entry.

    first: keep at least so many records of each problem; chains: count valid chains too (on the toy).
    """
    kinds = ["correct", "valid", "truncated"] if chains else ["correct", "truncated"]
    tallies = {entry.label: Tally({kind: np.zeros(len(problems), dtype=int) for kind in kinds}) for entry in entries}
    for record in folder.read_samples(out):
        if record["model"] not in tallies:  # of a model that this command does not name
            continue
        tally, i = tallies[record["model"]], record["problem"]
        tally.unknown |= {name for name in ("tokens", "truncated", "entropy") if record[name] is None}
        # Longer responses weigh more: the entropy is a mean over tokens, not over samples.
        length = len(record["tokens"] or ())
        tally.entropy += (record["entropy"] or 0) * length
        tally.tokens += length
        tally.answered += record["answer"] is not None
        # There is no vote on programs, and their texts would fill the memory.
        tally.answers[i].append(None if problems[i].kind == "code" else record["answer"])
        tally.right[i].append(record["correct"])
        new_right = record["correct"] and tally.counts["correct"][i] < RIGHT
        if record["sample"] < max(FIRST, first) or new_right:
            tokens = np.array(record["tokens"] or (), dtype=np.int32)  # a list takes ten times the memory
            tally.kept.append({**record, "tokens": tokens})
        for kind in kinds:
            tally.counts[kind][i] += record[kind] or False
    for label, tally in tallies.items():
        if any(len(tally.right[i]) != n for i in range(len(problems))):
            raise BadInput(f"--out {out}: not all samples of {label} are there; sample again with --overwrite")
    return tallies


def analyse(
    entries: list[Entry], tallies: dict[str, Tally], problems: list[Problem], n: int, template: str | None
) -> dict:
    """What the counts give: {"problems", "k", "models", "compared"}, by the entries' labels.

    The first entry is the base; every other one is compared with it. Curves are lists over k, intervals pairs of such
    lists. With a single problem there are no intervals: they are over problems. None: the samples do not say it.
    """
    base, ks, P = entries[0].label, passk.powers_of_two(n), len(problems)
    kinds = [kind for kind in tallies[base].counts if kind != "truncated"]
    curves = {  # of each problem, [P, len(ks)]: intervals need them
        label: {kind: passk.problem_curves(n, tally.counts[kind], ks) for kind in kinds}
        for label, tally in tallies.items()
    }
    entropies = {label: mean_entropy(tally) for label, tally in tallies.items()}
    vote = all(problem.kind != "code" for problem in problems)
    models, compared = {}, {}
    for label, _, temperature in entries:
        tally = tallies[label]
        models[label] = {
            "template": template,
            "temperature": temperature,
            **{f"counts_{kind}": held.tolist() for kind, held in tally.counts.items() if kind not in tally.unknown},
            **curves_of_one(tally, curves[label], n),
            **({"majority_at_k": votes(tally, ks, P)} if vote else {}),
            "answered": tally.answered / (P * n),
            "truncated": None if "truncated" in tally.unknown else tally.counts["truncated"].sum() / (P * n),
            "entropy": entropies[label],
            "entropy_ratio": None
            if None in (entropies[label], entropies[base])
            else entropies[label] / max(entropies[base], 1e-9),
            "completion_tokens": None if "tokens" in tally.unknown else tally.tokens / (P * n),
            "verdicts": checksum({"right": [tally.right[i] for i in range(P)]}),  # for --regrade
        }
        if label != base:
            compared[label] = {}
            for kind in kinds:
                counts = tallies[base].counts[kind], tally.counts[kind]
                compared[label] |= compare(kind, *counts, curves[base][kind], curves[label][kind], n, ks)
    return {"problems": P, "k": ks, "models": models, "compared": compared}


def mean_entropy(tally: Tally) -> float | None:
    """Nats a token; None where the samples were drawn elsewhere, and do not say it."""
    return None if tally.unknown & {"tokens", "entropy"} else tally.entropy / tally.tokens


def curves_of_one(tally: Tally, curves: dict[str, np.ndarray], n: int) -> dict:
    """pass@k, its interval and the histogram of one model. curves: kind -> [P, len(ks)]."""
    result = {}
    for kind, values in curves.items():
        result[f"pass_at_k_{kind}"] = values.mean(axis=0).tolist()
        if len(values) > 1:
            result[f"interval_{kind}"] = passk.interval(values, least=0).tolist()
        result[f"histogram_{kind}"] = passk.accuracy_histogram(n, tally.counts[kind]).tolist()
    return result


def votes(tally: Tally, ks: list[int], P: int) -> list[float]:
    """How often a vote of k samples is right, the mean over problems: [len(ks)]."""
    each = [passk.majority_at_k(tally.answers[i], tally.right[i], ks, seed=i) for i in range(P)]
    return np.mean(each, axis=0).tolist()


def compare(kind: str, base_c, trained_c, base_curves, trained_curves, n: int, ks: list[int]) -> dict:
    """A trained model against its base. base_c, trained_c: correct samples of each problem, [P]; curves: [P, len(ks)].

    All of it is paired: both models were given the same problems, so the interval is that of the difference.
    """
    difference = trained_curves - base_curves
    result = {f"difference_{kind}": difference.mean(axis=0).tolist()}
    if len(difference) > 1:
        result[f"difference_interval_{kind}"] = passk.interval(difference).tolist()
        cross = passk.crossing(base_curves, trained_curves, ks)
        # JSON knows no infinity: an interval that goes beyond the largest k ends in null.
        result[f"crossing_{kind}"] = cross and [None if np.isinf(value) else value for value in cross]
    result[f"coverage_{kind}"] = passk.coverage(base_c, trained_c)
    many = passk.curve(n, base_c, [min(256, n)])[0]  # the paper's gap is that of 256 tries
    result[f"sampling_efficiency_gap_{kind}"] = passk.sampling_efficiency_gap(many, trained_curves[:, 0].mean())
    return result


def in_a_world(
    content: dict, prompts: list[str], blind: str, chance: Callable[[str], float], group: Callable[[str], str] | None
) -> dict:
    """What is known of the problems of a toy world: {"chance": pass@k of blind tries}, and {"groups"} by difficulty.

    content: what `analyse` gives, with "samples" and "perplexity"; blind: what a blind try is called; chance: prompt ->
    the probability that one is right; group: prompt -> how hard the problem is, None where the world has no degrees.
    """
    chances, ks, groups = np.array([chance(prompt) for prompt in prompts]), content["k"], defaultdict(list)
    result = {"chance": {"name": blind, "pass_at_k": chance_curve(chances, ks)}}
    if group:
        for i, prompt in enumerate(prompts):
            groups[group(prompt)].append(i)
        result["groups"] = {
            name: {"problems": held, "chance": chance_curve(chances[held], ks), **one_group(content, held)}
            for name, held in groups.items()
        }
    return result


def chance_curve(chances, ks: list[int]) -> list[float]:
    """pass@k of blind tries, [len(ks)]: the mean over problems of 1 - (1 - p)^k. It is exact and needs no interval."""
    return (1 - (1 - np.asarray(chances)[:, None]) ** np.asarray(ks)).mean(axis=0).tolist()


def one_group(content: dict, held: list[int]) -> dict:
    """The study on some of its problems: {"models", "perplexity"}. held: their indices.

    A mean over all problems can come from a few that are unlike the others: here from those too hard to reason through.
    """
    models = {label: {} for label in content["models"]}
    for label, here in models.items():
        for kind in [kind for kind in ("correct", "valid") if f"counts_{kind}" in content["models"][label]]:
            counts = np.array(content["models"][label][f"counts_{kind}"])[held]
            here[f"pass_at_k_{kind}"] = passk.curve(content["samples"], counts, content["k"]).tolist()
            here[f"never_{kind}"] = int((counts == 0).sum())
            if label in content["compared"]:
                cells = content["compared"][label][f"coverage_{kind}"]
                for cell in ("base_only", "trained_only"):
                    here[f"{cell}_{kind}"] = len(set(cells[cell]) & set(held))
    rows = [
        {
            "writer": row["writer"],
            "reader": row["reader"],
            "median": median_of(row["problems"], held),
            "right_logp": median_of(row.get("right_logps", {}), held),  # a report of before has none
        }
        for row in content["perplexity"]
    ]
    return {"models": models, "perplexity": rows}


def median_of(values: dict, held: list[int]) -> float | None:
    """The median over those of these problems that have a value; None if none has. JSON has made texts of old keys."""
    found = [values[key] for i in held for key in (i, str(i)) if key in values]
    return float(np.median(found)) if found else None


def rounded(content: dict) -> dict:
    """What report.json holds: every number to six digits behind the point, more than n samples can tell."""
    return json.loads(json.dumps(content), parse_float=lambda digits: round(float(digits), 6))
