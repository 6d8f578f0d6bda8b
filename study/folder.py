"""folder.py: what lies in the folder of a study, and does it belong to the study that is asked for?

study.json          what the samples were drawn with: settings, a fingerprint of each model, matched temperatures
parts/              samples that are not put together yet (samples.py)
samples.jsonl.gz    every sample, one JSON object a line: model, problem, sample, seed, tokens, text, verdict ...
report.html ...     what was computed from them; report.json is written last: where it is, the study is finished
"""

import gzip
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data import Problem
from running.files import BadInput
from study import page
from study.pictures import PICTURES

SAMPLES, STUDY, PARTS = "samples.jsonl.gz", "study.json", "parts"
UNFINISHED = "unfinished"  # a folder in which the report is written, before its files are moved to their places
FILES = (SAMPLES, STUDY, *PICTURES, "review.md", "passk.json", "report.html", "report.json")
WRITTEN = (*FILES, PARTS, UNFINISHED, "*-????????-?????.jsonl.gz")  # all names that it writes, parts among them
# What must be equal for samples to belong to one study; besides them the problems. Models may be added.
IDENTITY = ("template", "samples", "temperature", "top_p", "max_new_tokens", "seed", "dtype")


# --- files of samples -----------------------------------------------------------------------------------------------


def write_records(path: Path, records: Iterable[dict]) -> None:
    """Write a .jsonl.gz, which is there as a whole or not at all. The same records give the same bytes."""
    new = f"{path}.{os.getpid()}.new"  # a name of its own, should the same command run twice
    # A gzip header can hold a time and a name; this one holds neither.
    with open(new, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        for record in records:
            lines.write((json.dumps(record) + "\n").encode())
    os.replace(new, path)


def read_records(path: Path) -> Iterator[dict]:
    """The records of a .jsonl.gz. Raises BadInput for a file that is cut off or broken."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read ({error}); copy it again, or delete it to sample it again") from None


def read_samples(out: Path) -> Iterator[dict]:
    """The records of samples.jsonl.gz, by model, problem and sample. Raises BadInput."""
    return read_records(out / SAMPLES)


def sampled_labels(out: Path) -> set[str]:
    """The labels of the models in samples.jsonl.gz. They are read from the file itself: a list could disagree."""
    return {record["model"] for record in read_samples(out)} if (out / SAMPLES).exists() else set()


# --- which study? ---------------------------------------------------------------------------------------------------


def read_study(out: Path) -> dict:
    """study.json; {} without one."""
    return json.loads((out / STUDY).read_text()) if (out / STUDY).is_file() else {}


def write_study(out: Path, study: dict, shard: int = 1) -> None:
    """Write study.json so that it is whole at any moment, also where several shards write into one folder."""
    new = out / f"{STUDY}.{shard}.new"
    new.write_text(json.dumps(study, indent=1))
    os.replace(new, out / STUDY)


def identity(described: dict, problems: list[Problem]) -> dict:
    """What must be equal for samples to belong to one study: the settings under IDENTITY, and the problems."""
    texts = json.dumps([(p.prompt, p.answer, p.kind) for p in problems])
    held = {name: described[name] for name in IDENTITY}
    return {**held, "problems": hashlib.sha256(texts.encode()).hexdigest()[:16]}


def finished_study(out: Path) -> dict:
    """study.json of a folder whose samples are all there, for --regrade. Raises BadInput."""
    study = read_study(out)
    if not study or not (out / SAMPLES).exists():
        raise BadInput(f"--regrade: {out} has no {SAMPLES} with its {STUDY}; leave the flag out")
    return study


def open_folder(
    out: Path, wanted: dict, fingerprints: dict[str, str], overwrite: bool, replace: bool, shard: int = 1
) -> None:
    """Make `out` the folder of this study, or find that it is already. Raises BadInput, before anything is changed.

    wanted: the study's `identity`; fingerprints: model -> hash of its weights, of the models that were loaded.
    overwrite: delete the study that is there. replace: delete it only if it is another one, instead of refusing it.
    """
    if not overwrite:
        try:
            check_same_study(out, wanted, fingerprints)
        except BadInput:
            if not replace:
                raise
            overwrite = True
    if overwrite:
        forget(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be made a folder ({error.strerror})") from None
    study = {"settings": wanted, "matched": {}, "models": {}, **read_study(out)}
    # A model that this command does not name stays: another command may name it again.
    write_study(out, {**study, "models": {**study["models"], **fingerprints}}, shard)


def check_same_study(out: Path, wanted: dict, fingerprints: dict[str, str]) -> None:
    """Raise BadInput if the folder holds samples that were drawn with other settings, or from a model of the same name
    with other weights."""
    study, way_out = read_study(out), "give another --out, or --overwrite to sample all again"
    if not study:
        if (out / SAMPLES).exists() or (out / PARTS).exists():
            raise BadInput(f"--out {out}: holds samples without {STUDY}; {way_out}")
        return
    for name, value in wanted.items():
        held = study["settings"].get(name)
        if held != value:
            what = f"{name} {held} there, {value} now" if name != "problems" else "other problems: --data, --limit"
            raise BadInput(f"--out {out}: holds another study ({what}); {way_out}")
    sampled = sampled_labels(out)  # a model may change as long as nothing of it is there
    for model, found in fingerprints.items():
        if model in sampled and study["models"].get(model, found) != found:
            raise BadInput(f"--out {out}: holds samples of {model} as it was before; {way_out}")


def forget(out: Path) -> None:
    """Delete a study, and nothing else that is in its folder."""
    for name in (PARTS, UNFINISHED):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in FILES:
        for path in out.glob(f"{name}*"):  # also unfinished ones that a kill left
            path.unlink()


# --- the report -----------------------------------------------------------------------------------------------------


def old_perplexities(out: Path, writers: set[str], readers: list[str], same_verdicts: bool) -> list[dict]:
    """The rows of report.json's table of perplexities with these writers and readers; [] without a report.

    Unless the verdicts are the same, without the probabilities of right responses: other ones are right now.
    """
    old = json.loads((out / "report.json").read_text())["perplexity"] if (out / "report.json").is_file() else []
    rows = [row for row in old if row["writer"] in writers and row["reader"] in readers]
    return rows if same_verdicts else [{**row, "right_logps": {}} for row in rows]


def write_report(
    out: Path,
    content: dict,
    problems: list[Problem],
    shown: list[dict],
    review: int,
    pictures: dict[str, Callable[[dict, Path], str]],
) -> None:
    """Write the files of a finished study, and only then move them to their places: a kill leaves nothing half-written.

    content: what report.json holds; shown: the records for the page; review: problems per model in review.md, 0 for no
    such file; pictures: file name -> the function that draws it and returns it as SVG.
    """
    new = out / UNFINISHED
    shutil.rmtree(new, ignore_errors=True)  # what a kill left
    new.mkdir()
    # Without it there is nothing to draw.
    needs = {"groups.png": content.get("groups"), "coverage.png": content["compared"]}
    needs["perplexity.png"] = content["perplexity"]
    needs["training.png"] = any(run["traces"] for run in content["runs"].values())
    drawn = {name: draw(content, new / name) for name, draw in pictures.items() if needs.get(name, True)}
    if review:
        text = page.review(review, content, problems, read_samples(out))
        (new / "review.md").write_text(text, encoding="utf-8")
    (new / "report.html").write_text(page.page(content, problems, shown, drawn), encoding="utf-8")
    (new / "report.json").write_text(json.dumps(content, indent=1))
    (new / "passk.json").write_text(json.dumps(only_counts(content), indent=1))
    for name in FILES:  # in their order: report.json last
        if (new / name).exists():
            os.replace(new / name, out / name)
        elif name in pictures:  # left from a report with more models
            (out / name).unlink(missing_ok=True)
    new.rmdir()


def only_counts(content: dict) -> dict:
    """What passk.json holds of the report: the settings, and each model's counts and curves."""
    kept = ("pass_at_k", "counts", "template", "temperature")
    models = {
        label: {name: value for name, value in result.items() if name.startswith(kept)}
        for label, result in content["models"].items()
    }
    return {
        **{name: value for name, value in content.items() if name not in ("compared", "perplexity", "groups", "runs")},
        "models": models,
    }
