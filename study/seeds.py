"""seeds.py: what do runs with different settings have in common over their seeds?

    python -m study.seeds runs/algorithms/report.json --out runs/algorithms

Reads the report.json of a study (eval.py) of a base model and of runs that are called NAME-seed0, NAME-seed1 ..., and
takes each NAME as one. Prints a table, and writes seeds.json (what it read and what it found; it can be read in place
of a report.json), passk-seeds.png (pass@k of each NAME) and gap.png (the sampling-efficiency gaps).

A number is the mean over problems and seeds. Its interval, in brackets, is over problems: would other problems say the
same of these runs? What other seeds would say is in the column of the seeds.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import passk
from running import flags
from running.files import BadInput, read_log, writes_into
from running.flags import flag
from study.pictures import MARKERS, save
from study.records import checksum

plt.switch_backend("Agg")  # pictures go into files; no screen is needed

KEPT = ("counts_correct", "counts_valid", "entropy", "seconds", "perplexity")  # of a model's result
COLORS = ("#08519c", "#e6550d", "#31a354", "#756bb1", "#636363", "#e377c2", "#8c564b", "#17becf")


def by_name(labels: list[str]) -> dict[str, list[str]]:
    """NAME -> its labels: runs/NAME-seed0, runs/NAME-seed1 ... In the order of the labels."""
    found = {}
    for label in labels:
        run, name = Path(label).parent.name, Path(label).name
        name = f"{run}/{name}" if name.startswith("checkpoint-") else name
        name = re.sub(r" at T=.*", " at the base's entropy", name)  # each seed has a temperature of its own
        found.setdefault(re.sub(r"-seed\d+(?=$|/| at )", "", name), []).append(label)
    return found


def read(path: Path) -> dict:
    """What is needed of a report.json, or of an earlier seeds.json: {"samples", "problems", "k", "models"}.

    The first model is the base. Each has counts_correct and entropy, and where its metrics.jsonl can be read, the
    seconds that its steps took. Raises BadInput.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, not JSON
        content = None
    if not isinstance(content, dict) or not {"models", "samples", "k"} <= content.keys() or len(content["models"]) < 2:
        raise BadInput(f"{path}: not the report.json of a study of a base model and others; make one by eval.py")
    if content.pop("checksum", None) not in (None, checksum(content)):
        raise BadInput(f"{path}: its checksum is another, something in it was changed; make it again by eval.py")
    models, base = {}, next(iter(content["models"]))
    for one in content.get("perplexity") or []:  # of its responses under the base: the median of the problems' medians
        if one["reader"] == base and one["writer"] in content["models"]:
            content["models"][one["writer"]]["perplexity"] = float(np.median(list(one["problems"].values())))
    for label, result in content["models"].items():
        models[label] = {name: result[name] for name in KEPT if name in result}
        log = Path(label) / "metrics.jsonl"
        if log.is_file() and "found" not in content:  # a seeds.json has its own: other runs may have these names now
            rows = read_log(log)
            models[label]["seconds"] = sum(v for row in rows for name, v in row.items() if name.startswith("seconds_"))
    kept = {name: content[name] for name in ("data", "samples", "problems", "k", "temperature") if name in content}
    return {**kept, **({"chance": content["chance"]} if content.get("chance") else {}), "models": models}


def valid_alone(content: dict) -> dict | None:
    """The same with right answers counted only where their chain is valid (the chain world); None where none is."""
    if not all("counts_valid" in result for result in content["models"].values()):
        return None
    models = {
        label: {**result, "counts_correct": result["counts_valid"]} for label, result in content["models"].items()
    }
    return {**content, "models": models}


def mean_curves(content: dict, labels: list[str]) -> np.ndarray:
    """pass@k of each problem, the mean over these runs: [problems, len(k)]."""
    counts = [content["models"][label]["counts_correct"] for label in labels]
    return np.mean([passk.problem_curves(content["samples"], count, content["k"]) for count in counts], axis=0)


def summaries(content: dict) -> dict[str, dict]:
    """What is said of each NAME: numbers, and for gains and gaps (in points) triples with their interval."""
    base, *trained = content["models"]
    base_curves, base_counts = mean_curves(content, [base]), np.array(content["models"][base]["counts_correct"])
    found = {base: {"pass_at_1": float(base_curves[:, 0].mean()), "pass_at_n": float(base_curves[:, -1].mean())}}
    found[base] |= {"seeds": 1, **{key: content["models"][base].get(key) for key in ("entropy", "perplexity")}}
    for name, labels in by_name(trained).items():
        curves, runs = mean_curves(content, labels), [content["models"][label] for label in labels]
        each = [np.array(run["counts_correct"]) for run in runs]
        coverages = [passk.coverage(base_counts, counts) for counts in each]
        found[name] = {
            "seeds": len(labels),
            "pass_at_1": float(curves[:, 0].mean()),
            "pass_at_1_of_seeds": [float(counts.mean() / content["samples"]) for counts in each],
            "pass_at_n": float(curves[:, -1].mean()),
            "pass_at_n_of_seeds": [float((counts > 0).mean()) for counts in each],
            "gain_at_1": with_interval(curves[:, 0] - base_curves[:, 0]),
            "gain_at_n": with_interval(curves[:, -1] - base_curves[:, -1]),
            "gap": with_interval(base_curves[:, -1] - curves[:, 0]),
            "only_base": float(np.mean([len(one["base_only"]) for one in coverages])),
            "only_trained": float(np.mean([len(one["trained_only"]) for one in coverages])),
            "entropy": mean_of("entropy", runs),  # None: of samples from elsewhere that do not say it
            "seconds": mean_of("seconds", runs),
            "perplexity": mean_of("perplexity", runs),
        }
    return found


def mean_of(key: str, runs: list[dict]) -> float | None:
    """The mean over the runs; None where one lacks it."""
    return float(np.mean([run[key] for run in runs])) if all(run.get(key) is not None for run in runs) else None


def with_interval(differences: np.ndarray) -> list[float]:
    """[mean, low, high] of one difference for each problem, in points."""
    low, high = passk.interval(differences[:, None])[:, 0]
    return [100 * float(value) for value in (differences.mean(), low, high)]


def table(content: dict, found: dict[str, dict]) -> str:
    """The summaries for a reader.

    Time is that of training, relative to the first NAME's: runs of one machine can be compared. Perplexity is the
    base's, on the model's responses (limit of RLVR, section 4.1).
    """
    n = content["samples"]
    titles = ["", "pass@1", "of the seeds", f"pass@{n}", "gain at 1", f"gain at {n}", "gap"]
    titles += ["base only / this only", "entropy", "time", "perplexity"]
    first, rows = next((one["seconds"] for one in found.values() if one.get("seconds")), None), []
    for name, one in found.items():
        row = [name, f"{one['pass_at_1']:.3f}", "", f"{one['pass_at_n']:.3f}"]
        if "gap" in one:
            row[2] = " ".join(f"{value:.2f}" for value in one["pass_at_1_of_seeds"])
            gains = [one[key] for key in ("gain_at_1", "gain_at_n")]
            row += [f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]" for mean, low, high in gains]
            row += [
                "{:.1f} [{:.1f}, {:.1f}]".format(*one["gap"]),
                f"{one['only_base']:.1f} / {one['only_trained']:.1f}",
            ]
        else:
            row += ["", "", "", ""]
        row.append("" if one["entropy"] is None else f"{one['entropy']:.3f}")
        row.append(f"{one['seconds'] / first:.2f}" if one.get("seconds") and first else "")
        row.append(f"{one['perplexity']:.3f}" if one.get("perplexity") else "")
        rows.append(row)
    shown = [i for i in range(len(titles)) if not i or any(row[i] for row in rows)]  # no empty columns
    lines = ["  ".join(row[i].ljust(max(len(r[i]) for r in [titles, *rows])) for i in shown) for row in [titles, *rows]]
    return "\n".join(line.rstrip() for line in lines)


# --- pictures -------------------------------------------------------------------------------------------------------


def draw_curves(content: dict, path: Path) -> None:
    """pass@k of the base and of each NAME, and of blind tries."""
    base, *trained = content["models"]
    figure, axes = plt.subplots(figsize=(6.6, 5.2), layout="constrained")
    axes.plot(content["k"], mean_curves(content, [base]).mean(axis=0), "k-", linewidth=2.4, label=base)
    for i, (name, labels) in enumerate(by_name(trained).items()):
        look = {"color": COLORS[i % 8], "marker": MARKERS[i % 9], "markersize": 5, "linewidth": 1.3}
        axes.plot(content["k"], mean_curves(content, labels).mean(axis=0), label=f"{name} ({len(labels)})", **look)
    if "chance" in content:
        axes.plot(content["k"], content["chance"]["pass_at_k"], ":", color="0.45", label=content["chance"]["name"])
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    axes.set_xticks(content["k"], [str(k) for k in content["k"]])
    axes.set(xlabel="k (tries)", ylabel="pass@k, mean over problems and seeds", ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    figure.legend(fontsize=9, ncols=3, loc="outside upper center", frameon=False)
    save(figure, path)


def draw_gaps(content: dict, found: dict[str, dict], path: Path) -> None:
    """The sampling-efficiency gap of each NAME as a bar with its interval, and of each seed as a dot."""
    base, *names = found
    figure, axes = plt.subplots(figsize=(6.6, 0.42 * len(names) + 1.5), layout="constrained")
    many = 100 * found[base]["pass_at_n"]
    for i, name in enumerate(names):
        mean, low, high = found[name]["gap"]
        axes.barh(i, mean, xerr=[[mean - low], [high - mean]], color="#9ecae1", ecolor="0.3", capsize=3)
        seeds = [many - 100 * value for value in found[name]["pass_at_1_of_seeds"]]
        axes.plot(seeds, [i] * len(seeds), "o", color="#08519c", markersize=4, label="a seed" if i == 0 else None)
    axes.axvline(many - 100 * found[base]["pass_at_1"], color="k", linestyle="--", linewidth=1, label=f"{base} itself")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"pass@{content['samples']} of the base minus own pass@1, in points (lower is better)")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(fontsize=9, ncols=2, loc="outside upper center", frameon=False)
    save(figure, path)


# --- the command line -----------------------------------------------------------------------------------------------


@dataclass
class Settings:
    """The flags."""

    report: str = flag(None, "report.json of a study, or seeds.json", positional=True, metavar="REPORT")
    out: str | None = flag(None, "folder for what it writes; default that of REPORT")


def write(report: Path, out: Path) -> str:
    """Write seeds.json and the pictures; returns the table. Raises BadInput."""
    content = read(report)
    found, valid = summaries(content), valid_alone(content)
    more = {"found_valid": summaries(valid)} if valid else {}
    out.mkdir(parents=True, exist_ok=True)
    (out / "seeds.json").write_text(json.dumps({**content, "found": found, **more}) + "\n")
    draw_curves(content, out / "passk-seeds.png")
    draw_gaps(content, found, out / "gap.png")
    return table(content, found) + (f"\n\nValid chains only:\n{table(valid, more['found_valid'])}" if valid else "")


def parse(argv: list[str] | None) -> Settings:
    """The command line."""
    return flags.parse(Settings, argv, "study.seeds", "Runs over their seeds.")[0]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        chosen = parse(argv)
        report = Path(chosen.report)
        out = Path(chosen.out) if chosen.out else report.parent
        with writes_into(f"--out {out}", "make room, and run it again"):
            print(write(report, out))
    except BadInput as error:
        print(f"study.seeds: {error}", file=sys.stderr)
        return 2
    print(f"In {out}: seeds.json, passk-seeds.png, gap.png.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
