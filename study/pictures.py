"""pictures.py: what does a study, or a run, look like?

Markers, line styles and hatching tell the models apart without colour, and in small print. Each function of a study
takes `content`, what report.json holds, writes a PNG, and returns the same as SVG; `learning` draws a training run.
"""

import gc
import io
import math
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from passk import BINS
from running.files import replace_bytes
from running.logs import parted, window
from running.processes import once

plt.switch_backend("Agg")  # pictures go into files; no screen is needed
plt.rcParams["text.parse_math"] = False  # the name of a model may hold a dollar

# The base is pale, the first trained model dark. The tenth model looks like the first.
COLORS = ("#9ecae1", "#08519c", "#fdae6b", "#31a354", "#756bb1", "#636363", "#e377c2", "#bcbd22", "#8c564b")
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo", "||", "**")
MARKERS = "osD^v*Xp<"
# What is drawn of a training run: a column of metrics.jsonl -> the title of its panel. (loss: of distill.py's runs.)
TRACES = {"accuracy": "accuracy", "reward_mean": "reward", "entropy": "entropy"}
TRACES |= {"eval_accuracy": "held out: pass@1", "eval_pass@16": "held out: pass@16", "loss": "loss"}
POINTS = 500  # of a curve of a training run: about one for each pixel of its panel
CALLED = {"zero_std_groups": "groups alike", "pairwise_accuracy": "right is paid more"}  # in learning.png


def short_names(labels) -> dict[str, str]:
    """Each model's label -> its name in legends and tables: the last part of its path, if they differ in it."""
    last = {label: label.rstrip("/").rpartition("/")[2] for label in labels}
    return last if len(set(last.values())) == len(last) else {label: label for label in last}


def save(figure, path: Path) -> str:
    """Write the PNG, free the figure's memory, and return the figure as SVG. The same figure gives the same text.

    The SVG has no background, and its letters are text: it takes the page's colour and font, and is found by a search.
    Its ids hold a hash of what they name and of the file's name: two pictures on a page have none in common.
    """
    raster, drawn = io.BytesIO(), io.StringIO()
    figure.savefig(raster, dpi=130, format="png")
    replace_bytes(path, raster.getvalue())
    with plt.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    return drawn.getvalue()


def pass_at_k(content: dict, path: Path) -> str:
    """Every model's curve: solid for correct answers, dashed for those with a valid chain.

    The bands are the intervals of the base and the first trained model; more bands would hide each other.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.9), layout="constrained")
    draw_curves(axes, content["k"], content["models"], content.get("chance"), 5)
    for i, result in enumerate(list(content["models"].values())[:2]):
        if "interval_correct" in result:
            axes.fill_between(content["k"], *result["interval_correct"], color=line_color(i), alpha=0.12, linewidth=0)
    axes.set_xticks(content["k"], [str(k) for k in content["k"]])
    axes.set(xlabel="k (tries)", ylabel="pass@k")
    axes.set_title(f"{content['problems']} problems, {content['samples']} samples each")
    legend_above(figure, axes)
    return save(figure, path)


def legend_above(figure, axes) -> None:
    """The names of the lines of `axes` above the picture, where they hide no line."""
    lines, names = axes.get_legend_handles_labels()
    columns = 1 if max(map(len, names)) > 50 else 2
    figure.legend(lines, names, fontsize=9, ncols=columns, loc="outside upper center", frameon=False)


def line_color(i: int) -> str:
    """The colour of the i-th model's lines."""
    return COLORS[i % 9] if i else "#3182bd"  # the base's own is too pale for a line


def draw_curves(axes, ks: list[int], models: dict[str, dict], chance: dict | None, size: float) -> None:
    """The curves of some models, and of blind tries: a thin dotted line, behind them. size: of the markers."""
    called = short_names(models)
    for i, (label, result) in enumerate(models.items()):
        look = {"color": line_color(i), "marker": MARKERS[i % 9], "markersize": size}
        name = called[label] + (": correct answer" if "pass_at_k_valid" in result else "")
        axes.plot(ks, result["pass_at_k_correct"], "-", label=name, **look)
        if "pass_at_k_valid" in result:
            name = f"{called[label]}: correct, valid chain"
            axes.plot(ks, result["pass_at_k_valid"], "--", label=name, markerfacecolor="white", **look)
    if chance:
        axes.plot(ks, chance["pass_at_k"], ":", color="0.45", linewidth=1.3, label=chance["name"], zorder=1)
    axes.set_xscale("log", base=2)  # a doubling of the tries is one step to the right
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)  # a curve at 0 or 1 is seen too
    axes.grid(alpha=0.3)


def by_group(content: dict, path: Path) -> str:
    """The curves of pass@k on each group of problems apart, three panels in a row."""
    groups, ks = content["groups"], content["k"]
    rows = -(-len(groups) // 3)
    size = {"figsize": (6.4, 1.0 + 1.9 * rows), "layout": "constrained"}
    figure, grid = plt.subplots(rows, 3, sharex=True, sharey=True, squeeze=False, **size)
    for axes in grid.flat[len(groups) :]:
        axes.axis("off")
    for axes, (name, group) in zip(grid.flat, groups.items(), strict=False):
        chance = {"name": content["chance"]["name"], "pass_at_k": group["chance"]}
        draw_curves(axes, ks, group["models"], chance, 3.5)
        axes.set_xticks(ks[::2], [str(k) for k in ks[::2]])  # a panel has no room for all
        axes.set_title(f"{name} ({len(group['problems'])})", fontsize=10)
    figure.supxlabel("k (tries)", fontsize=10)
    figure.supylabel("pass@k", fontsize=10)
    legend_above(figure, grid[0, 0])
    return save(figure, path)


def histogram(content: dict, path: Path) -> str:
    """How many problems are solved never, seldom, always: the paper's Figure 5, a bar for each model in each bin."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    models, places, called = content["models"], np.arange(len(BINS)), short_names(content["models"])
    width = 0.86 / len(models)
    for i, (label, result) in enumerate(models.items()):  # side by side, their middle over the tick
        look = {"color": COLORS[i % 9], "hatch": HATCHES[i % 9], "edgecolor": "black", "linewidth": 0.6}
        offset = (i - (len(models) - 1) / 2) * width
        axes.bar(places + offset, result["histogram_correct"], width, label=called[label], **look)
    # The bins of passk.BINS in short: exactly 0, then in tenths, then all but 1, then exactly 1.
    axes.set_xticks(places, ["0", *(f"to .{i}" for i in range(1, 10)), "to <1", "1"], fontsize=9)
    axes.set(xlabel=f"share of the {content['samples']} samples that is correct", ylabel="problems")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=9, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return save(figure, path)


def coverage(content: dict, path: Path) -> str:
    """A bar for each model that is compared with the base: problems solved at least once, by whom."""
    called = short_names(content["models"])
    bars = [(called[label], pair["coverage_correct"]) for label, pair in content["compared"].items()]
    bars += [
        (f"{called[label]},\nvalid chains", pair["coverage_valid"])
        for label, pair in content["compared"].items()
        if "coverage_valid" in pair
    ]
    figure, axes = plt.subplots(figsize=(6.4, 1.3 + 0.6 * len(bars)), layout="constrained")
    looks = {
        "both": ("#08519c", ""),
        "base_only": ("#9ecae1", "//"),
        "trained_only": ("#fdae6b", "xx"),
        "neither": ("white", ""),
    }
    for row, (_, cells) in enumerate(bars):
        left = 0
        for cell, (color, hatch) in looks.items():
            number = len(cells[cell])
            label = cell.replace("_", " ") if row == 0 else None
            axes.barh(row, number, left=left, color=color, hatch=hatch, edgecolor="black", linewidth=0.6, label=label)
            # The number stands in its part of the bar, on white: hatching would hide it.
            if number >= 0.03 * content["problems"]:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
                axes.text(left + number / 2, row, str(number), ha="center", va="center", fontsize=10, bbox=box)
            elif number:  # the part is narrower than its number: write above it, to the left of where it ends
                right = left + number - 0.008 * content["problems"]  # clear of the frame
                axes.text(right, row - 0.42, str(number), ha="right", va="bottom", fontsize=9)
            left += number
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, content["problems"]), xlabel=f"problems solved in {content['samples']} tries by")
    axes.legend(fontsize=9, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False)
    return save(figure, path)


def perplexity(content: dict, path: Path) -> str:
    """A box plot for each writer and reader, over the problems' medians; the whiskers end at 5 % and 95 %."""
    rows, called = content["perplexity"], short_names(content["models"])
    figure, axes = plt.subplots(figsize=(6.4, 1.2 + 0.55 * len(rows)), layout="constrained")
    boxes = axes.boxplot(
        [list(row["problems"].values()) for row in rows],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.6,
        patch_artist=True,
        medianprops={"color": "black", "linewidth": 2},
    )
    for i, box in enumerate(boxes["boxes"]):  # the first reader is the base: its boxes are blue
        box.set(facecolor="#9ecae1" if rows[i]["reader"] == rows[0]["reader"] else "#fdae6b")
    names = ["\nunder ".join(called.get(row[who], row[who]) for who in ("writer", "reader")) for row in rows]
    axes.set_yticks(range(1, len(rows) + 1), names, fontsize=9)
    axes.invert_yaxis()
    # A log scale's own ticks are powers of ten; most perplexities of a model's own words lie below the second one.
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [t for t in (1, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000) if low <= t <= high]
    while len(ticks) > 1 and np.log(ticks[1] / ticks[0]) < 0.06 * np.log(high / low):
        ticks.pop(1)  # its number would overlap the first one's
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set(xlabel="perplexity of a response, median of each problem")
    axes.grid(axis="x", alpha=0.3)
    return save(figure, path)


def training(content: dict, path: Path) -> str:
    """How the models of the study were trained: a panel for each metric, with a line for each run over its steps."""
    runs, called = content["runs"], short_names(content["models"])
    shown = [name for name in TRACES if any(name in run["traces"] for run in runs.values())]
    rows = -(-len(shown) // 3)
    size = {"figsize": (6.4, 0.6 + 2.1 * rows), "layout": "constrained"}
    figure, grid = plt.subplots(rows, min(3, len(shown)), squeeze=False, **size)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, shown, strict=False):
        for i, label in enumerate(content["models"]):  # a model has the colour that it has in the other pictures
            if label in runs and name in runs[label]["traces"]:
                steps, values = runs[label]["traces"][name]
                marker = MARKERS[i % 9] if len(steps) < 20 else None
                axes.plot(steps, values, marker=marker, markersize=3.5, color=line_color(i), label=called[label])
        axes.set_title(TRACES[name], fontsize=10)
        axes.grid(alpha=0.3)
    names = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.supxlabel("step", fontsize=10)
    figure.legend(names.values(), names, fontsize=9, ncols=2, loc="outside upper center", frameon=False)
    return save(figure, path)


# File name -> the function that draws it.
PICTURES = {
    "passk.png": pass_at_k,
    "groups.png": by_group,
    "histogram.png": histogram,
    "coverage.png": coverage,
    "perplexity.png": perplexity,
    "training.png": training,
}


# --- a training run -------------------------------------------------------------------------------------------------


@once
def learning(rows: list[dict], path: Path) -> None:
    """A training run in four panels over its steps, while it trains and after. rows: those of metrics.jsonl.

    The first panel has what is paid and what is right: pale each step, dark the mean of the last `window` steps. Where
    they part, the reward is being hacked, and the panel says so. The file is whole at any moment. Of a long run some
    POINTS evenly spaced steps are drawn, so that a picture does not take longer the longer the run is.
    """
    gc.collect()  # the last figure is full of cycles, which Python seldom looks for: dozens would add up to 100 MB
    # Fixed margins: constrained layout would double the time, and a run that is watched waits for its picture.
    figure, panels = plt.subplots(2, 2, figsize=(9, 5.6), sharex=True)
    figure.subplots_adjust(left=0.07, right=0.99, bottom=0.09, top=0.91, wspace=0.16, hspace=0.27)
    paid_and_right(panels[0, 0], rows)
    curves = {
        "shares that tell early": ("answered", "truncated", "zero_std_groups", "pairwise_accuracy"),
        "tokens per completion": ("completion_tokens",),
        "nats per token": ("entropy", "kl"),
    }
    drawn = thinned(rows)
    steps = [row["step"] for row in drawn]
    for axes, (label, names) in zip(panels.flat[1:], curves.items(), strict=True):
        for name, line in zip(names, ("-", "--", "-.", ":"), strict=False):
            # null: kl without a reference model, pairwise_accuracy where no group has a right and a wrong completion
            values = [np.nan if row[name] is None else row[name] for row in drawn]
            if not np.isnan(values).all():
                axes.plot(steps, values, line, label=CALLED.get(name, name.replace("_", " ")))
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0, top=1.02 if label.startswith("share") else None)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)  # hides no curve
    for axes in panels[1]:
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
    unfinished = path.with_name(f"{path.name}.new")
    figure.savefig(unfinished, format="png", dpi=130)
    plt.close(figure)
    os.replace(unfinished, path)


def thinned(values):
    """Every n-th value, the last one among them: POINTS at most."""
    step = math.ceil(len(values) / POINTS)
    return values[::-step][::-1]


def means(values: list[float], size: int) -> np.ndarray:
    """The mean of the last `size` values at each step of `thinned`; of fewer at the beginning. A NaN is left out."""
    padded = np.concatenate([np.full(size - 1, np.nan), values])
    windows = thinned(np.lib.stride_tricks.sliding_window_view(padded, size))  # [points, size]
    known = (~np.isnan(windows)).sum(axis=1)
    return np.where(known, np.nansum(windows, axis=1) / np.maximum(known, 1), np.nan)


def paid_and_right(axes, rows: list[dict]) -> None:
    """The panel of reward and accuracy, and with --eval-every of pass@1 and pass@16 on held-out problems.

    A reward that leaves 0 .. 1 is stretched to it, and the legend says from what.
    """
    steps, reward = [row["step"] for row in rows], [row["reward_mean"] for row in rows]
    low, high, name = 0.0, 1.0, "reward"
    if min(reward) < 0 or max(reward) > 1:
        low, high = min(reward), max(reward)
        name, high = f"reward (0 is {low:.3g}, 1 is {high:.3g})", high if high > low else low + 1
    right = [np.nan if row["accuracy"] is None else row["accuracy"] for row in rows]  # null: no answers are known
    curves = {} if np.isnan(right).all() else {"accuracy": right}
    curves |= {name: [(value - low) / (high - low) for value in reward]}
    for label, values in curves.items():
        look = ("-", "#08519c") if label == "accuracy" else ("--", "#e6550d")
        axes.plot(thinned(steps), thinned(values), color=look[1], alpha=0.25, linewidth=1)
        axes.plot(thinned(steps), means(values, window(len(rows))), look[0], color=look[1], linewidth=2, label=label)
    looks = [row for row in rows if "eval_accuracy" in row]  # --eval-every
    for key, marker in (("eval_accuracy", "o"), ("eval_pass@16", "s")) if looks else ():
        values = [row[key] for row in looks]
        axes.plot([row["step"] for row in looks], values, marker=marker, markersize=4, label=TRACES[key])
    axes.set_ylabel("reward and accuracy")
    axes.set_ylim(-0.02, 1.02)
    if found := parted(rows):
        text = f"hacked? reward up, accuracy down since step {found['since']}"
        look = {"color": "#a50f15", "fontsize": 9, "ha": "center"}
        axes.text(0.5, 1.14, text, **look, transform=axes.transAxes)  # above the legend
