"""compare.py: how did training runs with different rewards go, side by side?

    python -m study.compare --panel "an answer key" toy-correct toy-flip-40 --panel "no labels" toy-plurality toy-rpr

A name stands for all its seeds: the run folders runs/NAME-seed*/, or what the JSON of --source holds, which is written
beside every picture. Prints one table, and draws a panel of curves for each --panel: the mean over the seeds, and a
band from the lowest to the highest. A panel whose title ends in "reward" shows the reward too, scaled to run from 0 at
its start to 1 at the highest of its seeds: there one sees the reward rise while the accuracy, dashed, falls.
"""

import json
import re
import sys
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from running import flags
from running.files import BadInput, read_log
from running.flags import flag

plt.switch_backend("Agg")  # pictures go into files; no screen is needed

FIRST, LAST = slice(0, 3), slice(-5, None)  # the steps whose means stand in the table
COLUMNS = {  # title -> metric
    "accuracy": "accuracy",
    "reward": "reward_mean",
    "pairwise": "pairwise_accuracy",
    "entropy": "entropy",
    "tokens": "completion_tokens",
}
SMOOTH = 5  # steps: each point of a curve is a mean over so many


# --- numbers --------------------------------------------------------------------------------------------------------


def metrics_of(name: str, number: int | None = None) -> list[list[dict]]:
    """The rows of metrics.jsonl of every seed of a run, or of the seeds below a number: [seeds][steps].

    Raises BadInput for a name without runs, for seeds of different lengths, and for runs without a metric that is
    needed here.
    """
    if has_magic(name) or "/" in name:
        raise BadInput(f"{name}: give the name of a run without its folder and seed, such as toy-correct")
    files = sorted(glob(f"runs/{name}-seed*/metrics.jsonl")) or sorted(glob(f"results/{name}-seed*-metrics.jsonl"))
    if number:
        files = [file for file in files if int(re.search(r"-seed(\d+)", file)[1]) < number]
    if not files:
        raise BadInput(f"{name}: no runs/{name}-seed*/metrics.jsonl and no results/{name}-seed*-metrics.jsonl")
    runs = [read_log(Path(file)) for file in files]
    steps = [len(rows) for rows in runs]
    if len(set(steps)) > 1 or 0 in steps or any(key not in rows[0] for rows in runs for key in COLUMNS.values()):
        raise BadInput(f"{name}: its seeds have {steps} steps, or lack a metric; compare finished runs of one length")
    return runs


def stored(source: Path, name: str) -> list[list[dict]]:
    """What `metrics_of` gives, from a file that `store` wrote. Raises BadInput."""
    try:
        seeds = json.loads(source.read_text(encoding="utf-8"))["curves"][name]
        return [[dict(zip(seed, values, strict=True)) for values in zip(*seed.values(), strict=True)] for seed in seeds]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"--source {source}: holds no curves of {name}; give a .json that was written here") from None


def store(runs: dict[str, list[list[dict]]], path: Path) -> None:
    """Keep what the table and the pictures need of the runs: {"curves": {NAME: [{metric: a value a step}]}}."""

    def short(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.4g}")

    curves = {
        name: [{key: [short(row[key]) for row in rows] for key in COLUMNS.values()} for rows in seeds]
        for name, seeds in runs.items()
    }
    path.write_text(json.dumps({"curves": curves}) + "\n")


def column(runs: list[list[dict]], key: str) -> np.ndarray:
    """One metric as [seeds, steps]; where a step has none (null) it is NaN."""
    return np.array([[np.nan if row[key] is None else row[key] for row in run] for run in runs], dtype=float)


def table(runs: dict[str, list[list[dict]]]) -> str:
    """A line for each run: each column's first and last values over all seeds, and the last accuracy of each seed."""
    width = max(map(len, runs))
    lines = [f"{'':<{width}}  seeds" + "".join(f"{title:>16}" for title in COLUMNS) + "   accuracy of the seeds"]
    for name, seeds in runs.items():
        line = f"{name:<{width}}  {len(seeds):>5}"
        for key in COLUMNS.values():
            values = column(seeds, key)
            parts = [values[:, part][~np.isnan(values[:, part])] for part in (FIRST, LAST)]
            # null: pairwise_accuracy without a right and a wrong answer in one group, accuracy without answers
            first, last = (f"{part.mean():.2f}" if part.size else "-" for part in parts)
            line += f"{first:>8} > {last:>5}"
        ends = [end[~np.isnan(end)] for end in column(seeds, "accuracy")[:, LAST]]
        lines.append(line + "   " + " ".join(f"{end.mean():.2f}" if end.size else "-" for end in ends))
    return "\n".join(lines)


# --- the picture ----------------------------------------------------------------------------------------------------


def curve(axes, values: np.ndarray, **look) -> None:
    """Draw [seeds, steps], smoothed: the mean over the seeds, and a band from the lowest to the highest."""
    width = min(SMOOTH, values.shape[1])
    kernel = np.ones(width) / width
    smooth = np.array([np.convolve(seed, kernel, mode="valid") for seed in values])
    steps = np.arange(smooth.shape[1]) + width // 2  # a mean stands at the middle of its steps
    (line,) = axes.plot(steps, smooth.mean(axis=0), **look)
    axes.fill_between(steps, smooth.min(axis=0), smooth.max(axis=0), color=line.get_color(), alpha=0.15, linewidth=0)


def picture(panels: list[list[str]], runs: dict[str, list[list[dict]]], path: str, of: str = "accuracy") -> None:
    """One panel of curves for each [title, name, name ...]; of: what is drawn, one of COLUMNS."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    alone = columns == 1
    size = (6.0 if alone else 4.2 * columns, 3.9 * rows)  # inches; a third of the height is for the legends
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (title, *names) in zip(grid.flat, panels, strict=False):
        with_reward = title.endswith("reward")
        for i, name in enumerate(names):
            color, values = f"C{i}", column(runs[name], COLUMNS[of])
            if with_reward:
                reward = column(runs[name], "reward_mean")
                start, highest = reward[:, :1], reward.max()
                scaled = (reward - start) / np.maximum(highest - start, 1e-9)
                curve(axes, scaled, color=color, label=f"{name}: reward", linewidth=2.2)
                curve(axes, values, color=color, label=f"{name}: {of}", linestyle="--")
            else:  # line styles tell the runs apart without colour
                curve(axes, values, color=color, label=name, linestyle=("-", "--", "-.", ":")[i % 4])
        axes.set(title=title, xlabel="step", ylim=(None if of == "reward" else 0, 1.02 if of == "accuracy" else None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    for axes in grid[:, 0]:
        axes.set_ylabel(of)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


# --- the command line -----------------------------------------------------------------------------------------------


@dataclass
class Settings:
    """The flags."""

    panel: list[list[str]] = flag(
        None, "a title, and the runs to draw under it", type=str, nargs="+", action="append", metavar="TITLE NAME"
    )
    of: str = flag("accuracy", "what is drawn", choices=tuple(COLUMNS))
    seeds: int | None = flag(None, "of each run, from 0 on; default all that there are", least=1)
    source: str | None = flag(None, "a .json that was written beside a picture, in place of run folders")
    out: str = flag("compare.png", "the picture; a .json with its curves comes beside it")


def parse(argv: list[str] | None) -> Settings:
    """The command line."""
    return flags.parse(Settings, argv, "study.compare", "Training runs side by side.")[0]


def compare(panel: list[list[str]] | None, of: str, seeds: int | None, source: str | None, out: str) -> str:
    """Draw the picture, and keep its curves beside it; returns the table. Takes the flags. Raises BadInput."""
    names = [name for _, *names in panel or [] for name in names]
    if not names:
        raise BadInput("--panel: needed is a title and names of runs, such as --panel accuracy toy-correct")
    runs = {name: stored(Path(source), name) if source else metrics_of(name, seeds) for name in names}
    try:
        picture(panel, runs, out, of)
        if not source:
            store(runs, Path(out).with_suffix(".json"))
    except (OSError, ValueError) as error:  # no such folder, no such format
        raise BadInput(f"--out {out}: {error}; give a .png") from None
    return table(runs)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    settings = parse(argv)
    try:
        flags.check(settings)
        print(compare(**vars(settings)))
    except BadInput as error:
        print(f"study.compare: {error}", file=sys.stderr)
        return 2
    print(f"Picture: {settings.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
