"""page.py: report.html, and review.md.

The page is one file that loads nothing from anywhere: the verdict, the tables of report.py with their pictures, a
browser of samples in which each token is shaded by how sure the model was of it (page.html), and how the models were
made. `review` writes what only a person can judge. What a model wrote is data on the page, never markup.
"""

import html
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from study.report import Table, tables
from study.training import run_table, study_table, training_table
from study.verdict import verdict
from study.words import WORDS

PAGE = Path(__file__).with_name("page.html")
ROOM = 3_500_000  # bytes of samples on the page, which with its pictures stays under 5 MB
LUCKY = 2  # right samples that may be luck: solved as seldom, another study would miss it one time in seven
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


def page(content: dict, problems: list, records: list[dict], pictures: dict[str, str]) -> str:
    """The text of report.html.

    content: what report.json holds; records: samples to show if they fit, with "pieces", "certainty" and "logps" where
    perplexities were measured; pictures: file name -> the picture as SVG.
    """
    found, runs = tables(content), content["runs"]
    made = [training_table(content)] if any(run["traces"] for run in runs.values()) else []
    made += [run_table(content), study_table(content)] if runs else [study_table(content)]
    number = "one sample" if content["samples"] == 1 else f"{content['samples']} samples"
    subtitle = f"{', '.join(content['models'])}: {content['problems']} problems of {content['data']}, {number} each."
    values = {
        "SUBTITLE": html.escape(subtitle),
        "VERDICT": verdict_box(content),
        "CONTENTS": contents([*found, None, *made]),
        "FOUND": "\n".join(section(table, pictures) for table in found),
        "MADE": "\n".join(section(table, pictures) for table in made),
        "WORDS": definitions(("self-certainty", "log-probability")),
        "DATA": as_script(samples_on_page(content, problems, records)),
    }
    filled, *rest = PAGE.read_text(encoding="utf-8").split("{{")
    for part in rest:  # in one pass, so that "{{DATA}}" in a model's text is not filled in
        name, _, after = part.partition("}}")
        filled += values[name] + after
    return filled


def samples_on_page(content: dict, problems: list, records: list[dict]) -> dict:
    """What the browser of samples is given: of each problem as many records as fit, and where to open."""
    samples = {}  # problem -> what the page is given of its samples
    for record in in_rounds(records, ROOM, lambda record: len(as_script(for_page(record)))):
        samples.setdefault(record["problem"], []).append(for_page(record))
    right = [result["counts_correct"] for result in content["models"].values()]
    # What is worth reading is chosen among the models as they are, which come first: not at another temperature.
    as_they_are = sum(result["temperature"] == content["temperature"] for result in content["models"].values())
    return {
        "models": list(content["models"]),
        "n": content["samples"],
        "total": content["problems"],
        "shaded": any(sample["logps"] for found in samples.values() for sample in found),
        "chains": "counts_valid" in next(iter(content["models"].values())),
        "opens": worth_reading(right[:as_they_are], content["samples"], sorted(samples)),
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


def worth_reading(right: list[list[int]], n: int, shown: list[int]) -> dict:
    """Where the browser of samples opens: {"problem", "model" (its place among the models), "why"}.

    right: each model's right samples of each problem, out of n, the base first; shown: the problems on the page. It is
    the problem that a trained model never solves and the base solves most often, unless by luck. If there is none, it
    is the one that changed most; of one model, the hardest that it solved. Of equals the first one.
    """
    base = right[0]
    pairs = [(i, j) for j in range(1, len(right)) for i in shown]
    lost = [(i, j) for i, j in pairs if base[i] > LUCKY and right[j][i] == 0]
    solved = [i for i in shown if base[i]]
    model, why = 0, ""
    if lost:
        problem, model = max(lost, key=lambda pair: base[pair[0]])
        often = f"{base[problem]} of {n} samples"
        why = f"Of the problems that training lost, the base solved this one most often: {often}."
    elif pairs:
        problem, model = max(pairs, key=lambda pair: abs(right[pair[1]][pair[0]] - base[pair[0]]))
        before, after = base[problem], right[model][problem]
        why = f"No problem changed more: {before} of {n} samples were right before, {after} after." * (before != after)
    elif solved:
        problem = min(solved, key=lambda i: base[i])
        why = f"The hardest problem that was solved: {base[problem]} of {n} samples were right."
    else:
        problem = shown[0] if shown else 0
    return {"problem": problem, "model": model, "why": why}


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


# --- its parts ------------------------------------------------------------------------------------------------------
# Every text is escaped: models have names.


def verdict_box(content: dict) -> str:
    """The verdict; with several models, each one's behind a line that opens it."""
    text, found = html.escape, verdict(content)
    parts = [f'<div class="verdict"><p class="answer">{text(found.answer)}</p>']
    if found.each:
        items = "".join(f"<li>{text(line)}</li>" for line in found.each)
        opened = " open" if len(found.each) <= 3 else ""
        parts.append(f"<details{opened}><summary>Each of them</summary><ul>{items}</ul></details>")
    return "\n".join([*parts, f"<p>{text(found.cautions)}</p>", "</div>"])


def name_of(question: str) -> str:
    """A question as the name of its section, for links: "How was it trained?" is how-was-it-trained."""
    return re.sub(r"\W+", "-", question.lower()).strip("-")


def contents(found: list[Table | None]) -> str:
    """Links to all sections; None stands for the browser of samples."""
    questions = ["What do they say?" if table is None else table.question for table in found]
    return "".join(f'<li><a href="#{name_of(title)}">{html.escape(title)}</a></li>' for title in questions)


def definitions(words: tuple[str, ...]) -> str:
    """What some words mean, behind a line that opens it; "" for no words."""
    terms = "".join(f"<dt>{html.escape(word)}</dt><dd>{html.escape(WORDS[word])}</dd>" for word in words)
    line = html.escape("; ".join(words))
    return f"<details><summary>Words: {line}</summary><dl>{terms}</dl></details>" if words else ""


def section(table: Table, pictures: dict[str, str]) -> str:
    """A table as a section of the page: question, picture, notes, numbers, words."""
    text = html.escape
    question = text(table.question)
    parts = [f'<section id="{name_of(table.question)}"><h2>{question}</h2>']
    if pictures.get(table.picture):
        parts.append(inline(pictures[table.picture], f"{question} The table below has the numbers."))
    parts += [f"<p>{text(note)}</p>" for note in table.notes]
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in table.columns)
    whole = f'colspan="{len(table.columns)}"'
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in cells)}</tr>'
        if any(cells)
        else f'<tr class="group"><th scope="rowgroup" {whole}><span>{text(name)}</span></th></tr>'
        for name, *cells in table.rows
    )
    parts.append(scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", question))
    return "\n".join([*parts, definitions(table.words), "</section>"])


def scrolling(inner: str, label: str) -> str:
    """What is too wide for a phone scrolls in a box of its own, and the page says so; tabindex: also by keyboard."""
    cue = '<p class="cue" hidden>It goes on to the right: scroll sideways \N{RIGHTWARDS ARROW}</p>'
    return f'{cue}<div class="wide" tabindex="0" role="region" aria-label="{label}">{inner}</div>'


def inline(svg: str, label: str) -> str:
    """A picture of matplotlib as an element of the page. Left out is what the page does not need: header and metadata,
    fonts and style, which are the page's own, names to which nothing refers, and space between elements."""
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.S)
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"| id="[\w.]+_\d+"| font-family: [^;"]*', "", drawn)
    drawn = re.sub(r">\s+<", "><", drawn)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


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
