"""compare.py: how did runs with different rewards go, side by side?

    python compare.py --panel "an answer key" toy-correct toy-flip-40 --panel "no labels" toy-plurality toy-rpr

Each name stands for its seeds: the run folders runs/NAME-seed*/ or the files results/NAME-seed*-metrics.jsonl. Prints
one table of all, and draws a panel of curves for each --panel: the mean over the seeds, and a band from the lowest to
the highest. A panel whose title ends in "reward" shows the reward too, scaled from its first to its highest value:
there one sees a reward that rises while the accuracy, dashed, falls.
"""

import argparse
import sys
from glob import glob, has_magic
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from data import BadInput
from running.files import read_log

plt.switch_backend("Agg")  # pictures go into files; no screen is needed

# What a number of the table is made of: the mean over the first 3 and over the last 5 steps of a run.
FIRST, LAST = slice(0, 3), slice(-5, None)
COLUMNS = {
    "accuracy": "accuracy",
    "reward": "reward_mean",
    "pairwise": "pairwise_accuracy",
    "entropy": "entropy",
    "tokens": "completion_tokens",
}
SMOOTH = 5  # steps that a point of a curve is the mean of


def metrics_of(name: str) -> list[list[dict]]:
    """The rows of metrics.jsonl of every seed of a run. Raises BadInput."""
    if has_magic(name) or "/" in name:
        raise BadInput(f"{name}: give the name of a run without its folder and seed, such as toy-correct")
    files = sorted(glob(f"runs/{name}-seed*/metrics.jsonl")) or sorted(glob(f"results/{name}-seed*-metrics.jsonl"))
    if not files:
        raise BadInput(f"{name}: no runs/{name}-seed*/metrics.jsonl and no results/{name}-seed*-metrics.jsonl")
    runs = [read_log(Path(file)) for file in files]
    steps = [len(rows) for rows in runs]
    if len(set(steps)) > 1 or 0 in steps or any(key not in rows[0] for rows in runs for key in COLUMNS.values()):
        raise BadInput(f"{name}: its seeds have {steps} steps, or lack a metric; compare finished runs of one length")
    return runs


def column(runs: list[list[dict]], key: str) -> np.ndarray:
    """One metric as [seeds, steps]; what a step lacks (null) is NaN."""
    return np.array([[np.nan if row[key] is None else row[key] for row in run] for run in runs], dtype=float)


def table(runs: dict[str, list[list[dict]]]) -> str:
    """A line for each run: first and last values of each column, and the range of the last accuracy over the seeds."""
    width = max(map(len, runs))
    lines = [f"{'':<{width}}  seeds" + "".join(f"{title:>16}" for title in COLUMNS) + "   accuracy of the seeds"]
    for name, seeds in runs.items():
        line = f"{name:<{width}}  {len(seeds):>5}"
        for key in COLUMNS.values():
            values = column(seeds, key)
            parts = [values[:, part][~np.isnan(values[:, part])] for part in (FIRST, LAST)]
            first, last = (f"{part.mean():.2f}" if part.size else "-" for part in parts)
            line += f"{first:>8} > {last:>5}"
        ends = column(seeds, "accuracy")[:, LAST].mean(axis=1)
        lines.append(line + "   " + " ".join(f"{end:.2f}" for end in ends))
    return "\n".join(lines)


def curve(axes, values: np.ndarray, **look) -> None:
    """The mean over the seeds of [seeds, steps], smoothed, with a band from the lowest to the highest."""
    width = min(SMOOTH, values.shape[1])
    kernel = np.ones(width) / width
    smooth = np.array([np.convolve(seed, kernel, mode="valid") for seed in values])
    steps = np.arange(smooth.shape[1]) + width // 2
    (line,) = axes.plot(steps, smooth.mean(axis=0), **look)
    axes.fill_between(steps, smooth.min(axis=0), smooth.max(axis=0), color=line.get_color(), alpha=0.15, linewidth=0)


def picture(panels: list[list[str]], runs: dict[str, list[list[dict]]], path: str) -> None:
    """One panel of curves for each [title, name, name ...]."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = (4.2 * columns, 3.9 * rows)  # inches; a third of the height is for the legends
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (title, *names) in zip(grid.flat, panels, strict=False):
        hacked = title.endswith("reward")
        for i, name in enumerate(names):
            # Line styles tell the runs apart without colour; where reward and accuracy are shown, their widths do.
            look = {"color": f"C{i}", "label": name}
            if hacked:
                reward = column(runs[name], "reward_mean")
                low, high = reward[:, :1], reward.max()
                curve(
                    axes,
                    (reward - low) / np.maximum(high - low, 1e-9),
                    **{**look, "label": f"{name}: reward"},
                    linewidth=2.2,
                )
                curve(axes, column(runs[name], "accuracy"), **{**look, "label": f"{name}: accuracy"}, linestyle="--")
            else:
                curve(axes, column(runs[name], "accuracy"), **look, linestyle=("-", "--", "-.", ":")[i % 4])
        axes.set(title=title, xlabel="step", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="compare.py", description="Runs side by side.")
    parser.add_argument(
        "--panel", nargs="+", action="append", required=True, metavar="TITLE NAME", help="a title, and runs to draw"
    )
    parser.add_argument("--out", default="compare.png", help="the picture; default compare.png")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    settings = parse(argv)
    try:
        runs = {name: metrics_of(name) for _, *names in settings.panel for name in names}
        if not runs:
            raise BadInput("--panel: give names of runs behind the title")
    except BadInput as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    print(table(runs))
    try:
        picture(settings.panel, runs, settings.out)
    except (OSError, ValueError) as error:  # no such folder, no such format
        print(f"compare.py: --out {settings.out}: {error}; give a .png", file=sys.stderr)
        return 2
    print(f"Picture: {settings.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
