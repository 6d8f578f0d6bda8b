"""report.py: how is a study read?

`tables` puts report.json into one table per question, for the terminal (`as_text`) and for the page (page.py). Each
function below takes `content`, what report.json holds; its models are in order, the base first.
"""

import math
from typing import NamedTuple

import numpy as np

from passk import BINS
from study.pictures import short_names

# What counts as solved: a correct answer; on the toy also only one with a valid chain of reasoning.
KINDS = {"correct": "", "valid": ", valid chains"}
CELLS = {"both": "both", "base_only": "base only", "trained_only": "trained only", "neither": "neither"}


class Table(NamedTuple):
    """One question and its answer."""

    question: str
    notes: list[str]
    columns: list[str]  # the first one heads the rows' names
    rows: list[list[str]]
    picture: str | None = None  # the file that shows the same
    words: tuple[str, ...] = ()  # of WORDS, that it is good to know here


# --- how numbers and names are written ------------------------------------------------------------------------------


def signed(value: float) -> str:
    """A difference with its sign; what rounds to zero is +0.000, never -0.000."""
    return f"{round(value, 3) + 0.0:+.3f}"


def at_k(k: float) -> str:
    """A number of tries, which may lie between two k of the curves."""
    return f"{k:.1f}" if k < 10 else f"{k:.0f}"


def one_in(logp: float | None) -> str:
    """A probability, given by its logarithm (nats), as one reads it: 1 in 7.1, 1 in 40,000, 1 in 10^12; - for None."""
    if logp is None:
        return "-"
    if -logp > math.log(1e6):
        return f"1 in 10^{-logp / math.log(10):.0f}"
    tries = float(f"{math.exp(-logp):.2g}")
    return f"1 in {tries:,.0f}" if tries >= 10 else f"1 in {tries:.2g}"


def k_columns(content: dict) -> list[str]:
    """The head of a table with a column for each k."""
    return ["", *(f"k={k}" for k in content["k"])]


def named_curves(content: dict) -> list[tuple[str, str, str]]:
    """(model, kind, name) of every curve: correct answers of each model, then, on the toy, valid chains."""
    models, called = content["models"], short_names(content["models"])
    kinds = [kind for kind in KINDS if f"pass_at_k_{kind}" in next(iter(models.values()))]
    return [(model, kind, called[model] + KINDS[kind]) for kind in kinds for model in models]


# --- one table per question -----------------------------------------------------------------------------------------


def solved_table(content: dict) -> Table:
    """pass@k of every model.

    The paper's finding: training raises pass@1 and lowers pass@256. Then the base could solve all of it before.
    """
    top_p = f", top-p {content['top_p']:g}" if content["top_p"] < 1 else ""
    drawn = f"{content['samples']} samples each, T = {content['temperature']:g}"
    if content["temperature"] == 0:
        drawn = "one greedy completion each"
    note = (
        f"pass@k: {content['problems']} problems, {drawn}"
        f"{top_p}, at most {content['max_new_tokens']} tokens, template {content['template']}"
    )
    rows = [
        [name, *(f"{value:.3f}" for value in content["models"][model][f"pass_at_k_{kind}"])]
        for model, kind, name in named_curves(content)
    ]
    words = ("pass@k", "base, trained")
    if "pass_at_k_valid" in next(iter(content["models"].values())):
        words += ("valid chain",)
    if chance := content.get("chance"):
        words += (chance["name"],)
        rows.append([chance["name"], *(f"{value:.3f}" for value in chance["pass_at_k"])])
    return Table("What is solved in k tries?", [note], k_columns(content), rows, "passk.png", words)


def difference_table(content: dict, kind: str) -> Table:
    """Each trained model's pass@k minus the base's, and where the curves cross; kind: of KINDS.

    Where an interval holds 0, other problems of this kind might say the opposite.
    """
    compared, called, n = content["compared"], short_names(content["models"]), content["samples"]
    base = next(iter(content["models"]))
    notes = ["Trained minus base, with 95 % intervals over problems, paired."]
    for model, pair in compared.items() if n > 1 else ():  # a single try is no curve
        ends, crossing = pair[f"difference_{kind}"][-1], pair[f"crossing_{kind}"]
        if crossing is None:
            place = "ends where the base's does" if abs(ends) < 1e-9 else "does not cross the base's"
            notes.append(f"{called[model]}: its curve {place}, up to k = {n}.")
            continue
        k, low, high = crossing
        ahead, behind = (base, model) if ends < 0 else (model, base)  # at the largest k
        low = "1 or less" if low == 1 else at_k(low)  # 1: in that bootstrap sample it is ahead from the start
        high = f"beyond {n}" if high is None else at_k(high)
        notes.append(f"{called[ahead]} overtakes {called[behind]} at k = {at_k(k)} (95 % interval {low} to {high}).")
    if content["problems"] < 60:
        notes.append(f"Of {content['problems']} problems the intervals are rough: see the docstring of passk.interval.")
    rows = [[f"k={k}"] for k in content["k"]]
    for pair in compared.values():
        low, high = pair[f"difference_interval_{kind}"]
        for i, value in enumerate(pair[f"difference_{kind}"]):
            rows[i].append(f"{signed(value)} [{signed(low[i])}, {signed(high[i])}]")
    question = "Is the difference more than chance?"
    if kind == "valid":
        question = "And if lucky guesses do not count, only valid chains?"
    words = ("95 % interval", "overtakes") if kind == "correct" else ("valid chain", "95 % interval", "overtakes")
    return Table(question, notes, ["", *(called[model] for model in compared)], rows, words=words)


def group_table(content: dict) -> Table:
    """The study by difficulty. A lead on problems that nobody solves by a valid chain is one of lucky guesses.

    "base says it": how likely the base is to say just the right response that this model, or the teacher, gave. Where
    that is 1 in 10^30, no number of tries will bring it.
    """
    base, *_ = called = short_names(content["models"])
    n, rows = content["samples"], []
    ends = {"k=1": 0, f"k={n}": -1}  # column -> its place in a curve
    columns = [*ends, *(f"valid {k}" for k in ends), "never", "lost", "gained", "perplexity", "base says it"]
    for name, group in content["groups"].items():
        rows.append((f"{name}: {len(group['problems'])} problems", {}))
        likely = {  # writer -> its cells
            row["writer"]: {"perplexity": f"{row['median']:.2f}", "base says it": one_in(row["right_logp"])}
            for row in group["perplexity"]
            if row["reader"] == base and row["median"]
        }
        for model, result in group["models"].items():
            cells = {k: f"{result['pass_at_k_correct'][i]:.3f}" for k, i in ends.items()}
            if "pass_at_k_valid" in result:
                cells |= {f"valid {k}": f"{result['pass_at_k_valid'][i]:.3f}" for k, i in ends.items()}
            cells["never"] = str(result["never_correct"])
            if model in content["compared"]:
                cells["lost"], cells["gained"] = str(result["base_only_correct"]), str(result["trained_only_correct"])
            rows.append((f"  {called[model]}", cells | likely.get(model, {})))
        rows += [(f"  {writer}", cells) for writer, cells in likely.items() if writer not in called]  # the teacher
        rows.append((f"  {content['chance']['name']}", {k: f"{group['chance'][i]:.3f}" for k, i in ends.items()}))
    shown = [column for column in columns if any(column in cells for _, cells in rows)]
    notes = [f"pass@k; problems never solved in {n} tries; solved by the base only: lost; by this model only: gained."]
    if "perplexity" in shown:
        notes.append("Under the base: perplexity, and how likely it says this writer's right response word for word.")
    grid = [[name, *(cells.get(column, "") for column in shown)] for name, cells in rows]
    words = ("lost, gained", "perplexity", "word for word") if "perplexity" in shown else ("lost, gained",)
    return Table("Is it the same on easy and on hard problems?", notes, ["", *shown], grid, "groups.png", words)


def histogram_table(content: dict) -> Table:
    """How many problems are in each of the paper's 12 bins (Figure 5).

    Training moves problems to 1. Those that it moves to 0 are what pass@k loses at large k.
    """
    models = content["models"]
    rows = [[BINS[i], *(str(result["histogram_correct"][i]) for result in models.values())] for i in range(len(BINS))]
    note = f"Problems by the share of their {content['samples']} samples that is correct."
    columns = ["", *short_names(models).values()]
    return Table("How often is a problem solved?", [note], columns, rows, "histogram.png")


def coverage_table(content: dict) -> Table:
    """The 2 x 2 table of every trained model and the base (v5, Table 2).

    "trained only" is what training might have taught; in the paper it is nearly empty.
    """
    found = [
        (content["compared"][model][f"coverage_{kind}"], name)
        for model, kind, name in named_curves(content)
        if model in content["compared"]
    ]
    rows = [[title, *(str(len(cells[cell])) for cells, _ in found)] for cell, title in CELLS.items()]
    note = f"Problems solved at least once in {content['samples']} tries (which ones: report.json)."
    columns = ["solved by", *(name for _, name in found)]
    return Table("Which problems can only one of them solve?", [note], columns, rows, "coverage.png", ("coverage",))


def gap_table(content: dict) -> Table:
    """The sampling-efficiency gap of every trained model (section 4.3)."""
    many, rows = min(256, content["samples"]), []
    for model, kind, name in named_curves(content):
        if model in content["compared"]:
            one = content["models"][model][f"pass_at_k_{kind}"][0]
            points = content["compared"][model][f"sampling_efficiency_gap_{kind}"]  # 100 (base pass@256 - one)
            rows.append([name, f"{one + points / 100:.3f}", f"{one:.3f}", f"{points:.1f}"])
    note = "The sampling-efficiency gap: lower is better."
    if many < 256:
        note += " (The paper's has k = 256: with fewer samples it is smaller.)"
    columns = ["", f"base pass@{many}", "its own pass@1", "gap in points"]
    return Table("How far is one try from the base's many?", [note], columns, rows, words=("sampling-efficiency gap",))


def majority_table(content: dict) -> Table:
    """What a vote of k samples gets, for comparison with pass@k."""
    called = short_names(content["models"])
    rows = [
        [called[model], *(f"{value:.3f}" for value in result["majority_at_k"])]
        for model, result in content["models"].items()
    ]
    note = "How often the most frequent answer of k samples is right."
    return Table(
        "And if nobody tells which answer is right?", [note], k_columns(content), rows, words=("majority vote",)
    )


def perplexity_table(content: dict) -> Table:
    """Quartiles over the problems' median perplexities, a row for each writer and reader (section 4.1).

    The row to look at is "trained under base": if it is as low as "base under base", the base could have said it.
    """
    called, rows = short_names(content["models"]), []
    for row in content["perplexity"]:
        quartiles = np.quantile(list(row["problems"].values()), [0.25, 0.5, 0.75])
        name = " under ".join(called.get(row[who], row[who]) for who in ("writer", "reader"))
        right = list(row.get("right_logps", {}).values())
        rows.append([name, *(f"{value:.3f}" for value in quartiles), one_in(np.median(right) if right else None)])
    notes = ["Perplexity of responses, at temperature 1: quartiles of the problems' medians."]
    notes.append("Word for word: how likely the reader says exactly that response, where it is a right one (median).")
    columns = ["", "25 %", "50 %", "75 %", "word for word"]
    words = ("perplexity", "A under B", "word for word", "teacher")
    return Table("Could the base have said it?", notes, columns, rows, "perplexity.png", words)


def variety_table(content: dict) -> Table:
    """Entropy, and what else describes the samples.

    Many truncated samples or few with an answer mean that pass@k measures the token limit or the template.
    """
    forms = {"temperature": ".3f", "entropy": ".3f", "entropy_ratio": ".3f", "completion_tokens": ".1f"}
    forms |= {"answered": ".3f", "truncated": ".3f"}
    called = short_names(content["models"])
    rows = [
        [called[model], *("-" if result[key] is None else f"{result[key]:{form}}" for key, form in forms.items())]
        for model, result in content["models"].items()
    ]
    which = "distribution at temperature 1" if content["temperature"] == 0 else "sampling distribution"
    notes = [f"Entropy of the {which}, nats per token; tokens of a completion; shares of the samples."]
    notes.append("Entropy ratio: to the base's. Where the temperature was chosen to make it 1, its error is seen here.")
    if any("-" in row for row in rows):
        notes.append("-: the samples were drawn elsewhere, and do not say it.")
    columns = ["", *(key.replace("_", " ") for key in forms)]
    words = ("entropy", "temperature", "answered", "truncated")
    return Table("How spread are the words?", notes, columns, rows, words=words)


# --- all of them ----------------------------------------------------------------------------------------------------


def tables(content: dict) -> list[Table]:
    """The study as tables, in the order in which one would ask. A table without anything to show is left out."""
    first, compared = next(iter(content["models"].values())), content["compared"]
    intervals, many = content["problems"] > 1, content["samples"] > 1  # intervals are over problems
    found = [solved_table(content)]
    if compared and intervals:
        found.append(difference_table(content, "correct"))
    if content.get("groups"):
        found.append(group_table(content))
    if many:
        found.append(histogram_table(content))
    if compared:
        found.append(coverage_table(content))
    if compared and many:
        found.append(gap_table(content))
    if compared and intervals and "pass_at_k_valid" in first:
        found.append(difference_table(content, "valid"))
    if many and "majority_at_k" in first:
        found.append(majority_table(content))
    if content["perplexity"]:
        found.append(perplexity_table(content))
    return [*found, variety_table(content)]


def as_text(found: list[Table]) -> str:
    """The tables for a terminal: names to the left, numbers to the right."""
    lines = []
    for table in found:
        lines += ["", table.question, *(f"  {note}" for note in table.notes)]
        grid = [table.columns, *table.rows]
        widths = [max(len(row[i]) for row in grid) for i in range(len(table.columns))]
        for name, *cells in grid:
            right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            lines.append("  ".join(["", name.ljust(widths[0]), *right]).rstrip())
    return "\n".join(lines[1:])
