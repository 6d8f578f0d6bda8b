"""report.py: how is a study read?

`tables` puts what eval.py has computed into one table per question, for the terminal (`as_text`) and for report.html
(`page`): one file without a network or a framework, with the pictures, the tables, and a browser of samples in which
each token is shaded by how sure the model was of it. `review` writes what only a person can judge.
"""

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from passk import BINS
from study.pictures import names_of

PAGE = Path(__file__).with_name("page.html")
ROOM = 3_500_000  # bytes of samples in report.html, which with its pictures stays under 5 MB
LONGEST = 1_000  # characters of a problem or its answer there
KINDS = {"correct": "", "valid": ", valid chains"}
CELLS = {"both": "both", "base_only": "base only", "trained_only": "trained only", "neither": "neither"}


class Table(NamedTuple):
    """One question and its answer."""

    question: str
    notes: list[str]
    columns: list[str]  # the first one heads the rows' names
    rows: list[list[str]]
    picture: str | None = None  # the file that shows the same


# --- tables ---------------------------------------------------------------------------------------------------------


def signed(value: float) -> str:
    """A difference; what rounds to zero has no sign of its own."""
    return f"{round(value, 3) + 0.0:+.3f}"


def curves(content: dict) -> list[tuple[str, str, str]]:
    """(model, kind, the row's name) of every curve: correct answers of each model, then, on the toy, valid chains."""
    models, called = content["models"], names_of(content["models"])
    kinds = [kind for kind in KINDS if f"pass_at_k_{kind}" in next(iter(models.values()))]
    return [(model, kind, called[model] + KINDS[kind]) for kind in kinds for model in models]


def solved_table(content: dict) -> Table:
    """pass@k of every model."""
    note = f"pass@k: {content['problems']} problems, {content['samples']} samples each, T = {content['temperature']:g}"
    note += f", top-p {content['top_p']:g}" * (content["top_p"] < 1)
    note += f", at most {content['max_new_tokens']} tokens, template {content['template']}"
    rows = [
        [name, *(f"{value:.3f}" for value in content["models"][model][f"pass_at_k_{kind}"])]
        for model, kind, name in curves(content)
    ]
    return Table("What is solved in k tries?", [note], tries(content), rows, "passk.png")


def tries(content: dict) -> list[str]:
    """The head of a table with a column for each k."""
    return ["", *(f"k={k}" for k in content["k"])]


def at_k(k: float) -> str:
    """A number of tries between two of the grid."""
    return f"{k:.1f}" if k < 10 else f"{k:.0f}"


def difference_table(content: dict, kind: str) -> Table:
    """Each trained model's pass@k minus the base's, and where the curves cross."""
    compared, called, base = content["compared"], names_of(content["models"]), next(iter(content["models"]))
    notes = ["Trained minus base, with 95 % intervals over problems, paired."]
    for model, pair in compared.items():
        ends, found = pair[f"difference_{kind}"][-1], pair[f"crossing_{kind}"]
        if found is None:
            place = "ends where the base's does" if abs(ends) < 1e-9 else "does not cross the base's"
            notes.append(f"{called[model]}: its curve {place}, up to k = {content['samples']}.")
        else:
            k, low, high = found
            ahead, behind = (base, model) if ends < 0 else (model, base)
            low = "1 or less" if low == 1 else at_k(low)  # in that bootstrap sample it is ahead from the start
            high = f"beyond {content['samples']}" if high is None else at_k(high)
            notes.append(
                f"{called[ahead]} overtakes {called[behind]} at k = {at_k(k)} (95 % interval {low} to {high})."
            )
    rows = []
    for i, k in enumerate(content["k"]):
        cells = [(pair[f"difference_{kind}"], *pair[f"difference_interval_{kind}"]) for pair in compared.values()]
        rows.append([f"k={k}", *("{} [{}, {}]".format(*(signed(curve[i]) for curve in cell)) for cell in cells)])
    question = "Is the difference more than chance?"
    if kind == "valid":
        question = "And if lucky guesses do not count, only valid chains?"
    return Table(question, notes, ["", *(called[model] for model in compared)], rows)


def histogram_table(content: dict) -> Table:
    """The paper's 12 bins."""
    models = content["models"]
    rows = [[BINS[i], *(str(result["histogram_correct"][i]) for result in models.values())] for i in range(len(BINS))]
    note = f"Problems by the share of their {content['samples']} samples that is correct."
    return Table("How often is a problem solved?", [note], ["", *names_of(models).values()], rows, "histogram.png")


def coverage_table(content: dict) -> Table:
    """The 2 x 2 table of every trained model and the base."""
    found = [
        (content["compared"][model][f"coverage_{kind}"], name)
        for model, kind, name in curves(content)
        if model in content["compared"]
    ]
    rows = [[CELLS[cell], *(str(len(cells[cell])) for cells, _ in found)] for cell in CELLS]
    note = f"Problems solved at least once in {content['samples']} tries (which ones: report.json)."
    columns = ["solved by", *(name for _, name in found)]
    return Table("Which problems can only one of them solve?", [note], columns, rows, "coverage.png")


def gap_table(content: dict) -> Table:
    """The sampling-efficiency gap."""
    models, many, rows = content["models"], min(256, content["samples"]), []
    for model, kind, name in curves(content):
        if model in content["compared"]:
            one = models[model][f"pass_at_k_{kind}"][0]
            points = content["compared"][model][f"sampling_efficiency_gap_{kind}"]
            rows.append([name, f"{one + points / 100:.3f}", f"{one:.3f}", f"{points:.1f}"])
    note = "The sampling-efficiency gap: lower is better."
    note += " (The paper's has k = 256: with fewer samples it is smaller.)" * (many < 256)
    columns = ["", f"base pass@{many}", "its own pass@1", "gap in points"]
    return Table("How far is one try from the base's many?", [note], columns, rows)


def majority_table(content: dict) -> Table:
    """What a vote gets."""
    called = names_of(content["models"])
    rows = [
        [called[model], *(f"{v:.3f}" for v in result["majority_at_k"])] for model, result in content["models"].items()
    ]
    note = "How often the most frequent answer of k samples is right."
    return Table("And if nobody tells which answer is right?", [note], tries(content), rows)


def perplexity_table(content: dict) -> Table:
    """Quartiles of the problems' median perplexities."""
    called, rows = names_of(content["models"]), []
    for row in content["perplexity"]:
        quarters = np.quantile(list(row["problems"].values()), [0.25, 0.5, 0.75])
        name = " under ".join(called.get(row[who], row[who]) for who in ("writer", "reader"))
        rows.append([name, *(f"{value:.3f}" for value in quarters)])
    note = "Perplexity of responses, at temperature 1: quartiles of the problems' medians."
    return Table("Could the base have said it?", [note], ["", "25 %", "50 %", "75 %"], rows, "perplexity.png")


def spread_table(content: dict) -> Table:
    """Entropy and what else describes the samples."""
    forms = {"temperature": ".2f", "entropy": ".3f", "completion_tokens": ".1f", "answered": ".3f", "truncated": ".3f"}
    called = names_of(content["models"])
    rows = [
        [called[model], *(f"{result[key]:{form}}" for key, form in forms.items())]
        for model, result in content["models"].items()
    ]
    note = "Entropy of the sampling distribution, nats per token; tokens of a completion; shares of the samples."
    return Table("How spread are the words?", [note], ["", *(key.replace("_", " ") for key in forms)], rows)


def tables(content: dict) -> list[Table]:
    """The study as tables, in the order in which one would ask. content: what eval.run returns."""
    first, compared = next(iter(content["models"].values())), content["compared"]
    found = [solved_table(content)]
    if compared and content["problems"] > 1:  # an interval is over problems
        found.append(difference_table(content, "correct"))
    found.append(histogram_table(content))
    if compared:
        found += [coverage_table(content), gap_table(content)]
    if compared and content["problems"] > 1 and "pass_at_k_valid" in first:
        found.append(difference_table(content, "valid"))
    if "majority_at_k" in first:
        found.append(majority_table(content))
    if content["perplexity"]:
        found.append(perplexity_table(content))
    return [*found, spread_table(content)]


def as_text(found: list[Table]) -> str:
    """The tables for a terminal."""
    text = []
    for table in found:
        text += ["", table.question, *(f"  {note}" for note in table.notes)]
        grid = [table.columns, *table.rows]
        widths = [max(len(row[i]) for row in grid) for i in range(len(table.columns))]
        for row in grid:
            cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            text.append("  ".join(["", row[0].ljust(widths[0]), *cells]))
    return "\n".join(text[1:])


def review(number: int, counts: dict[str, list[int]], n: int, problems: list, records: Iterator[dict]) -> str:
    """The hardest problems that each model has solved, with every correct completion, for a person to read (markdown).

    counts: model -> correct samples of each problem. A right answer may be a lucky guess, and at large k one is enough.
    So the authors read the correct responses to the problems solved in less than 5 % of the tries (section 3.1): of
    25 of GSM8K, the base model had a valid chain in 24.
    """
    wanted = {}
    for label, right in counts.items():
        solved = sorted((i for i in range(len(problems)) if right[i]), key=lambda i: (right[i], i))
        wanted |= {(label, i): [] for i in solved[:number]}
    for record in records:
        if record["correct"] and (record["model"], record["problem"]) in wanted:
            wanted[record["model"], record["problem"]].append(record)
    text = ["# The hardest solved problems", "", "The answers are right. Is the reasoning?", ""]
    for (label, i), found in wanted.items():
        text += [f"## {label}, problem {i}: {len(found)} of {n} right", "", problems[i].prompt, ""]
        text += [f"Answer: {problems[i].answer}", ""]
        for record in found:
            # Longer than any row of backticks in the completion, which therefore cannot end the block.
            fence = "`" * (3 + max(map(len, re.findall("`+", record["text"])), default=0))
            mark = {True: " (valid chain)", False: " (no valid chain)"}.get(record.get("valid"), "")
            text += [f"Sample {record['sample']}{mark}:", "", fence, record["text"], fence, ""]
    return "\n".join(text)


# --- the page -------------------------------------------------------------------------------------------------------


def as_html(table: Table, folder: Path) -> str:
    """A section of the page: question, picture, notes and table."""
    text = html.escape
    parts = [f"<section><h2>{text(table.question)}</h2>"]
    if table.picture:
        coded = base64.b64encode((folder / table.picture).read_bytes()).decode()
        alt = f"{text(table.question)} The table below has the numbers."
        parts.append(f'<img alt="{alt}" src="data:image/png;base64,{coded}">')
    parts += [f"<p>{text(note)}</p>" for note in table.notes]
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>{"".join(f"<td>{text(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    # A table wider than a phone scrolls in a box of its own, which the keyboard reaches.
    parts.append(f'<div class="wide" tabindex="0" role="region" aria-label="{text(table.question)}">')
    parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>")
    return "\n".join(parts)


def in_rounds(records: list[dict], room: int, size) -> list[dict]:
    """As many records as fit into `room`, by their size(record).

    In rounds, each of which takes one more of every model for every problem; of a problem all models or none, so that
    what is shown of them can be compared.
    """
    queues, chosen, taken = {}, [], True  # queues: problem -> model -> records
    for record in records:
        queues.setdefault(record["problem"], {}).setdefault(record["model"], []).append(record)
    while taken:
        taken = False
        for queue in queues.values():
            group = [waiting.pop(0) for waiting in queue.values() if waiting]
            needed = sum(map(size, group))
            if group and needed <= room:
                room -= needed
                chosen += group
                taken = True
    return chosen


def to_look_at(records: list[dict]) -> list[dict]:
    """The records that may find room on the page: at least 10 bytes a token there."""
    return in_rounds(records, ROOM, lambda record: 10 * len(record["tokens"]))


def encoded(record: dict) -> list:
    """A record as the page has it: model, sample, [right, valid, truncated], pieces, self-certainties, log-probs."""
    numbers = [[round(value, 2) for value in record.get(name, [])] for name in ("certainty", "logps")]
    flags = [int(record["correct"]), int(record.get("valid", record["correct"])), int(record["truncated"])]
    return [record["model"], record["sample"], flags, record.get("pieces", [record["text"]]), *numbers]


def as_data(value) -> str:
    """JSON for a script element: "<" is written as an escape, so that no text can end the element that holds it."""
    return json.dumps(value).replace("<", "\\u003c")


def page(content: dict, problems: list, records: list[dict], folder: Path) -> str:
    """report.html, with the pictures that lie in `folder`. What a model wrote is data there, never markup."""
    sections = "\n".join(as_html(table, folder) for table in tables(content))
    chosen = {}
    for record in in_rounds(records, ROOM, lambda record: len(as_data(encoded(record)))):
        chosen.setdefault(record["problem"], []).append(encoded(record))
    right = {name: result["counts_correct"] for name, result in content["models"].items()}
    shown = {
        "models": list(content["models"]),
        "n": content["samples"],
        "total": content["problems"],
        "shaded": any(entry[5] for entries in chosen.values() for entry in entries),
        "chains": content["data"] == "toy",
        "problems": [
            # A gold can be a whole test suite.
            {"index": i, "prompt": problems[i].prompt[:LONGEST], "answer": problems[i].answer[:LONGEST]}
            | {"right": [counts[i] for counts in right.values()], "samples": chosen[i]}
            for i in sorted(chosen)
        ],
    }
    subtitle = f"{', '.join(content['models'])}: {content['problems']} problems of {content['data']}, "
    subtitle += f"{content['samples']} samples each."
    values = {"SUBTITLE": html.escape(subtitle), "SECTIONS": sections, "DATA": as_data(shown)}
    filled, *rest = PAGE.read_text(encoding="utf-8").split("{{")
    for part in rest:  # in one pass, so that nothing inside a value is taken for a place
        name, _, after = part.partition("}}")
        filled += values[name] + after
    return filled
