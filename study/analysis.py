"""analysis.py: what do the samples of a study say?

`tally` counts them, and `analysed` puts the counts through passk.py: what report.json holds, and report.py shows.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

import passk
from data import BadInput, Problem
from study import samples
from study.samples import Entry

FIRST, RIGHT = 6, 2  # to look at: the first samples of each problem and model, and if they come later, right ones


def tally(labels: list[str], problems: list[Problem], settings, out: Path) -> dict[str, dict]:
    """Go through all samples once. For each model: counts of correct, valid and truncated samples [problems], answers
    and verdicts by problem, sums of entropy and tokens, and the records to score and to look at."""
    kinds = ["correct", "valid", "truncated"] if settings.data == "toy" else ["correct", "truncated"]
    found = {}
    for label in labels:
        counts = {kind: np.zeros(len(problems), dtype=int) for kind in kinds}
        found[label] = {"counts": counts, "answers": defaultdict(list), "right": defaultdict(list), "kept": []}
        found[label] |= {"entropy": 0.0, "tokens": 0, "answered": 0}
    for record in samples.read_samples(out):
        if record["model"] not in found:  # of a model that the study also has, and that this command does not name
            continue
        mine, i = found[record["model"]], record["problem"]
        mine["entropy"] += record["entropy"] * len(record["tokens"])
        mine["tokens"] += len(record["tokens"])
        mine["answered"] += record["answer"] is not None
        # Programs are not voted on, and would fill the memory.
        mine["answers"][i].append(None if problems[i].kind == "code" else record["answer"])
        mine["right"][i].append(record["correct"])
        new_right = record["correct"] and mine["counts"]["correct"][i] < RIGHT
        if record["sample"] < max(FIRST, settings.perplexity) or new_right:
            record["tokens"] = np.array(record["tokens"], dtype=np.int32)  # a list takes ten times as much memory
            mine["kept"].append(record)
        for kind in kinds:
            mine["counts"][kind][i] += record[kind]
    for label, mine in found.items():
        if any(len(mine["right"][i]) != settings.samples for i in range(len(problems))):
            raise BadInput(f"--out {out}: not all samples of {label} are there; sample again with --overwrite")
    return found


def analysed(entries: list[Entry], found: dict[str, dict], problems: list[Problem], settings) -> dict:
    """What report.json holds, but for the perplexities. Models that are not the base are compared with it."""
    n, base, P = settings.samples, entries[0].label, len(problems)
    ks, many = passk.powers_of_two(n), min(256, n)  # the paper's gap is that of 256 tries
    names = ("data", "template", "samples", "temperature", "top_p", "max_new_tokens", "seed", "rows", "dtype")
    content = {name: getattr(settings, name) for name in names} | {"problems": P, "k": ks, "models": {}, "compared": {}}
    kinds, curves = [kind for kind in found[base]["counts"] if kind != "truncated"], {}
    for label, _, temperature in entries:
        mine = found[label]
        result = {"template": settings.template, "temperature": temperature}
        result |= {f"counts_{kind}": counts.tolist() for kind, counts in mine["counts"].items()}
        for kind in kinds:
            curves[label, kind] = passk.problem_curves(n, mine["counts"][kind], ks)  # [P, len(ks)]
            result[f"pass_at_k_{kind}"] = curves[label, kind].mean(axis=0).tolist()
            if P > 1:
                result[f"interval_{kind}"] = passk.interval(curves[label, kind]).tolist()
            result[f"histogram_{kind}"] = passk.accuracy_histogram(n, mine["counts"][kind]).tolist()
        if all(problem.kind != "code" for problem in problems):
            votes = [passk.majority_at_k(mine["answers"][i], mine["right"][i], ks, seed=i) for i in range(P)]
            result["majority_at_k"] = np.mean(votes, axis=0).tolist()
        result |= {"answered": mine["answered"] / (P * n), "truncated": mine["counts"]["truncated"].sum() / (P * n)}
        result |= {"entropy": mine["entropy"] / mine["tokens"], "completion_tokens": mine["tokens"] / (P * n)}
        content["models"][label] = result
        if label == base:
            continue
        content["compared"][label] = pair = {}
        for kind in kinds:
            difference = curves[label, kind] - curves[base, kind]
            pair[f"difference_{kind}"] = difference.mean(axis=0).tolist()
            if P > 1:
                pair[f"difference_interval_{kind}"] = passk.interval(difference).tolist()
                cross = passk.crossing(curves[base, kind], curves[label, kind], ks)
                # An interval that goes beyond the largest k ends in null.
                pair[f"crossing_{kind}"] = cross and [None if np.isinf(value) else value for value in cross]
            pair[f"coverage_{kind}"] = passk.coverage(found[base]["counts"][kind], mine["counts"][kind])
            solvable = passk.curve(n, found[base]["counts"][kind], [many])[0]
            gap = passk.sampling_efficiency_gap(solvable, curves[label, kind][:, 0].mean())
            pair[f"sampling_efficiency_gap_{kind}"] = gap
    return content
