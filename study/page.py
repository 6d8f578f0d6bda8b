"""page.py: report.html, and review.md.

The page is one file that loads nothing from anywhere: the tables of report.py, the pictures, and a browser of samples
in which each token is shaded by how sure the model was of it (page.html). `review` writes what only a person can judge.
What a model wrote is data on the page, never markup.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from study.report import Table, tables

PAGE = Path(__file__).with_name("page.html")
ROOM = 3_500_000  # bytes of samples on the page, which with its pictures stays under 5 MB
LONGEST = 1_000  # characters of a problem or its answer there; an answer can be a whole test suite


# --- which samples have room ----------------------------------------------------------------------------------------


def choose(records: list[dict]) -> list[dict]:
    """The records that will have room on the page once each token has its values, about 10 bytes each."""
    fitting = {id(record) for record in in_rounds(records, ROOM, lambda record: 10 * len(record["tokens"]))}
    return [record for record in records if id(record) in fitting]


def in_rounds(records: list[dict], room: int, size: Callable[[dict], int]) -> list[dict]:
    """As many records as fit into `room`, by their size(record).

    Each round takes one more record of every model for every problem: so no problem is left out for another's sake. Of
    a problem it takes all models or none: so what is shown can be compared.
    """
    queues = {}  # problem -> model -> records that are still waiting
    for record in records:
        queues.setdefault(record["problem"], {}).setdefault(record["model"], []).append(record)
    chosen, added = [], True
    while added:
        added = False
        for queue in queues.values():
            group = [waiting.pop(0) for waiting in queue.values() if waiting]
            needed = sum(map(size, group))
            if group and needed <= room:  # what does not fit keeps no later group out
                room -= needed
                chosen += group
                added = True
    return chosen


# --- the page -------------------------------------------------------------------------------------------------------


def page(content: dict, problems: list, records: list[dict], folder: Path) -> str:
    """The text of report.html.

    content: what report.json holds; records: samples to show if they fit, with "pieces", "certainty" and "logps" where
    perplexities were measured; folder: where the pictures are.
    """
    sections = "\n".join(section(table, folder) for table in tables(content))
    samples = {}  # problem -> what the page is given of its samples
    for record in in_rounds(records, ROOM, lambda record: len(as_script(for_page(record)))):
        samples.setdefault(record["problem"], []).append(for_page(record))
    right = [result["counts_correct"] for result in content["models"].values()]
    shown = {
        "models": list(content["models"]),
        "n": content["samples"],
        "total": content["problems"],
        "shaded": any(sample["logps"] for found in samples.values() for sample in found),
        "chains": "counts_valid" in next(iter(content["models"].values())),
        "problems": [
            {
                "index": i,
                "prompt": problems[i].prompt[:LONGEST],
                "answer": problems[i].answer[:LONGEST],
                "right": [counts[i] for counts in right],
                "samples": samples[i],
            }
            for i in sorted(samples)
        ],
    }
    subtitle = (
        f"{', '.join(content['models'])}: {content['problems']} problems of {content['data']}, "
        f"{content['samples']} samples each."
    )
    values = {"SUBTITLE": html.escape(subtitle), "SECTIONS": sections, "DATA": as_script(shown)}
    filled, *rest = PAGE.read_text(encoding="utf-8").split("{{")
    for part in rest:  # in one pass, so that "{{DATA}}" in a model's text is not filled in
        name, _, after = part.partition("}}")
        filled += values[name] + after
    return filled


def for_page(record: dict) -> dict:
    """What the page is given of a record. certainty and logps: nats, a number for each piece, or none at all."""
    return {
        "model": record["model"],
        "sample": record["sample"],
        "right": record["correct"],
        "valid": record.get("valid", record["correct"]),
        "truncated": record["truncated"],
        "pieces": record.get("pieces", [record["text"]]),
        "certainty": [round(value, 2) for value in record.get("certainty", [])],
        "logps": [round(value, 2) for value in record.get("logps", [])],
    }


def as_script(value) -> str:
    """JSON for a script element: "<" is written as an escape, so that no text can end the element that holds it."""
    return json.dumps(value).replace("<", "\\u003c")


def section(table: Table, folder: Path) -> str:
    """A table as a section of the page: question, picture, notes, numbers. Every text is escaped: models have names."""
    text = html.escape
    parts = [f"<section><h2>{text(table.question)}</h2>"]
    if table.picture:
        coded = base64.b64encode((folder / table.picture).read_bytes()).decode()
        alt = f"{text(table.question)} The table below has the numbers."
        parts.append(f'<img alt="{alt}" src="data:image/png;base64,{coded}">')
    parts += [f"<p>{text(note)}</p>" for note in table.notes]
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in cells)}</tr>'
        if any(cells)
        else f'<tr class="group"><th scope="rowgroup" colspan="{len(table.columns)}">{text(name)}</th></tr>'
        for name, *cells in table.rows
    )
    # On a phone a wide table scrolls in a box of its own; tabindex lets the keyboard reach it.
    parts.append(f'<div class="wide" tabindex="0" role="region" aria-label="{text(table.question)}">')
    parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>")
    return "\n".join(parts)


# --- for a person ---------------------------------------------------------------------------------------------------


def review(number: int, content: dict, problems: list, records: Iterable[dict]) -> str:
    """The hardest problems that each model has solved, with every correct completion, for a person to read (markdown).

    number: problems per model, the ones with the fewest correct samples; records: all samples. A right answer may be a
    lucky guess, and at large k one guess is enough. So the authors read the correct responses to problems solved in
    less than 5 % of the tries (section 3.1): of 25 problems of GSM8K, the base model had a valid chain for 24.
    """
    wanted = {}  # (model, problem) -> its correct records
    for model, result in content["models"].items():
        right = result["counts_correct"]
        solved = sorted((i for i in range(len(problems)) if right[i]), key=lambda i: (right[i], i))
        wanted.update({(model, i): [] for i in solved[:number]})
    for record in records:
        if record["correct"] and (record["model"], record["problem"]) in wanted:
            wanted[record["model"], record["problem"]].append(record)
    text = ["# The hardest solved problems", "", "The answers are right. Is the reasoning?", ""]
    for (model, i), found in wanted.items():
        text += [f"## {model}, problem {i}: {len(found)} of {content['samples']} right", "", problems[i].prompt, ""]
        text += [f"Answer: {problems[i].answer}", ""]
        for record in found:
            # Longer than any row of backticks in the completion, which therefore cannot end the block.
            fence = "`" * (3 + max(map(len, re.findall("`+", record["text"])), default=0))
            mark = {True: " (valid chain)", False: " (no valid chain)"}.get(record.get("valid"), "")
            text += [f"Sample {record['sample']}{mark}:", "", fence, record["text"], fence, ""]
    return "\n".join(text)
