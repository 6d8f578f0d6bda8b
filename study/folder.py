"""folder.py: what lies in the folder of a study, and does it belong to the study that is asked for?

study.json          what the samples were drawn with: settings, a fingerprint of each model, matched temperatures; and
                    which files of the report are the study's: only these are ever deleted
parts/              samples that are not put together yet (samples.py)
samples.jsonl.gz    every sample, one JSON object a line: model, problem, sample, seed, tokens, text, verdict ...
report.html ...     what was computed from them; report.json is written last: where it is, the study is finished
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from data import Problem
from running.files import BadInput
from running.processes import once
from study import page
from study.pictures import PICTURES
from study.records import PARTS, Shape, in_order, read_records, read_sealed, sealed, whole, writing

SAMPLES, STUDY = "samples.jsonl.gz", "study.json"
TEACHER = "teacher"  # its label in the tables
UNFINISHED = "unfinished"  # a folder in which the report is written, before its files are moved to their places
REPORT = (*PICTURES, "review.md", "passk.json", "report.html", "report.json")  # in the order in which they are moved
UNMOVED = (*REPORT, *(f"{name}.new" for name in REPORT))  # what can be in the folder of an unfinished report
PART = re.compile(r"[\w-]*-[0-9a-f]{8}-\d{5,}\.jsonl\.gz(\.\d+\.new)?")  # the name of a part, also of one half-written
WRITTEN = (SAMPLES, STUDY, *REPORT, PARTS, UNFINISHED, "*-????????-?????.jsonl.gz")  # all names that a study writes
HALF_WRITTEN = re.compile(rf"({re.escape(SAMPLES)}|{re.escape(STUDY)})(\.\d+)?\.new")
# What must be equal for samples to belong to one study; besides them the problems. Models may be added.
IDENTITY = ("template", "samples", "temperature", "top_p", "max_new_tokens", "seed", "dtype")


def read_samples(out: Path) -> Iterator[dict]:
    """The records of samples.jsonl.gz, by model, problem and sample. Raises BadInput."""
    return read_records(out / SAMPLES)


def sampled_labels(out: Path, shape: Shape) -> set[str]:
    """The labels of the models in samples.jsonl.gz. They are read from the file itself: a list could disagree.

    Raises BadInput unless it holds all samples of each, as the study would have written them.
    """
    path = out / SAMPLES
    if not os.path.lexists(path):
        if (out / "report.json").exists():
            raise BadInput(f"{path}: is gone, and its report.json is there; copy it again, or give --overwrite")
        return set()
    counts = in_order(path, shape, read_study(out)["vocabularies"])
    for label, found in counts.items() or [("any model", 0)]:
        if found != shape.problems * shape.number:
            way_out = "copy it again, or give --overwrite to sample it again"
            raise BadInput(f"{path}: not all samples of {label} are there; {way_out}")
    return set(counts)


# --- which study? ---------------------------------------------------------------------------------------------------


def read_study(out: Path) -> dict:
    """study.json; {} without one. Raises BadInput for one that is damaged."""
    path, way_out = out / STUDY, "copy it again, or give another --out"
    if not os.path.lexists(path):
        return {}
    study = read_sealed(path, way_out)
    # A study of an earlier version knows no vocabularies, and its folder was its own.
    study = {**({} if {"vocabularies", "files"} & study.keys() else {"vocabularies": {}, "files": [*REPORT]}), **study}
    if not is_study(study):
        raise BadInput(f"{path}: is not of a study; {way_out}")
    return study


def is_study(study: dict) -> bool:
    """Whether this is what study.json holds."""
    kinds = {"settings": dict, "matched": dict, "models": dict, "vocabularies": dict, "files": list}
    if study.keys() != kinds.keys() or not all(isinstance(study[name], kind) for name, kind in kinds.items()):
        return False
    settings, matched = study["settings"], study["matched"].values()
    return (
        settings.keys() == {*IDENTITY, "problems"}
        and all(isinstance(settings[name], str) for name in ("template", "dtype", "problems"))
        and all(isinstance(found, dict) and all(type(T) in (int, float) for T in found.values()) for found in matched)
        and all(isinstance(text, str) for text in (*study["models"].values(), *study["files"]))
        and all(type(size) is int for size in study["vocabularies"].values())
    )


def write_study(out: Path, study: dict) -> None:
    """Write study.json so that it is whole at any moment, also where several shards write into one folder."""
    with whole(out / STUDY) as file:
        file.write(sealed(study).encode())


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


@once
def open_folder(
    out: Path,
    wanted: dict,
    shape: Shape,
    models: tuple[dict[str, str], dict[str, int]],
    overwrite: bool,
    replace: bool,
) -> None:
    """Make `out` the folder of this study, or find that it is already. Raises BadInput, before anything is changed.

    wanted: the study's `identity`; models: of those that were loaded, a hash of the weights and the vocabulary's size.
    overwrite: delete the study that is there. replace: delete it only if it is another one, instead of refusing it.
    """
    check_places(out, overwrite)
    new = {"settings": wanted, "matched": {}, "models": {}, "vocabularies": {}, "files": []}
    if not overwrite:
        try:
            check_same_study(out, wanted, shape, models[0])
        except BadInput:
            if not replace:
                raise
            overwrite = True
    if overwrite:
        empty(out)  # its study.json stays until the new one takes its place: a kill must not leave files of nobody
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    old = {} if overwrite else read_study(out)
    study = {**new, **old}
    # A model that this command does not name stays: another command may name it again.
    for name, found in zip(("models", "vocabularies"), models, strict=True):
        study[name] = {**study[name], **found}
    if study != old:
        write_study(out, study)


def check_places(out: Path, overwrite: bool = False) -> None:
    """Raise BadInput where something that no study of ours wrote is in the place of its files, or would be deleted."""
    # A kill while the first study.json is written leaves a half-written one alone.
    held = sorted(name for name in os.listdir(out) if not HALF_WRITTEN.fullmatch(name)) if out.is_dir() else []
    study = read_study(out)  # behind the list: another shard may begin beside this one, by its study.json
    if overwrite and held and not study:
        raise BadInput(f"--overwrite: {out} holds {held[0]} and no study; give another --out, or leave the flag out")
    for name in (SAMPLES, PARTS, UNFINISHED, *REPORT):
        path = out / name
        if name in held and not study:
            raise BadInput(f"--out {out}: holds {name} without {STUDY}; give another --out, or move it away")
        if name in held and path.is_dir() != (name in (PARTS, UNFINISHED)):
            kind = "a folder" if path.is_dir() else "no folder"
            raise BadInput(f"{path}: is {kind}, and the study's is in its place; move it away")
        if name in held and name in REPORT and name not in study["files"]:
            raise BadInput(f"{path}: is not of this study, which would write over it; move it away")
    if strange := sorted({path.name for path in (out / UNFINISHED).glob("*")} - {*UNMOVED}):
        raise BadInput(
            f"{out / UNFINISHED / strange[0]}: is not of this study, which empties this folder; move it away"
        )


def check_same_study(out: Path, wanted: dict, shape: Shape, fingerprints: dict[str, str]) -> None:
    """Raise BadInput if the folder holds samples that were drawn with other settings, or from a model of the same name
    with other weights, or that are damaged."""
    study, way_out = read_study(out), "give another --out, or --overwrite to sample all again"
    if not study:
        return
    for name, value in wanted.items():
        held = study["settings"].get(name)
        if held != value:
            what = f"{name} {held} there, {value} now" if name != "problems" else "other problems: --data, --limit"
            raise BadInput(f"--out {out}: holds another study ({what}); {way_out}")
    sampled = sampled_labels(out, shape)  # a model may change as long as nothing of it is there
    for model, found in fingerprints.items():
        if model in sampled and not found.startswith(study["models"].get(model, found)):  # shorter in earlier versions
            raise BadInput(f"--out {out}: holds samples of {model} as it was before; {way_out}")


@once
def forget(out: Path) -> None:
    """Delete a study, and nothing else in its folder. Raises BadInput where it is not sure what is the study's."""
    check_places(out)
    empty(out)
    with writing(out / STUDY):
        (out / STUDY).unlink(missing_ok=True)


def empty(out: Path) -> None:
    """Delete what a study wrote, but for study.json, which says what that is: report.json, the mark of a finished
    study, first."""
    names = [*reversed(REPORT), SAMPLES]
    mine = [out / name for name in names if name in (SAMPLES, *read_study(out).get("files", ()))]
    mine += [path for path in (out / PARTS).glob("*") if PART.fullmatch(path.name)]
    for path in mine:
        with writing(path):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something else is in it
        (out / PARTS).rmdir()
    clear(out)


# --- the report -----------------------------------------------------------------------------------------------------


def old_report(out: Path, perplexity: int) -> dict:
    """report.json as far as --regrade needs it: what it cannot measure again. Raises BadInput.

    perplexity: the setting; with 0, a report that is not there is one without perplexities.
    """
    path, way_out = out / "report.json", "leave out --regrade to measure the perplexities again"
    if not os.path.lexists(path):
        if perplexity:
            raise BadInput(f"--regrade: {path} is not there, nor its perplexities; {way_out}, or add --perplexity 0")
        return {"perplexity": [], "models": {}}
    report = read_sealed(path, way_out)
    rows, models = report.get("perplexity"), report.get("models")
    shaped = isinstance(rows, list) and isinstance(models, dict) and all(map(is_row, rows))
    if not (shaped and all(isinstance(result, dict) for result in models.values())):
        raise BadInput(f"{path}: is no report of a study; {way_out}")
    return report


def is_row(row) -> bool:
    """Whether this is a row of a report's table of perplexities."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("writer"), str)
        and isinstance(row.get("reader"), str)
        and all(
            isinstance(values, dict) and all(key.isdigit() and type(x) is float for key, x in values.items())
            for values in (row.get("problems"), row.get("right_logps", {}))
        )
    )


def old_perplexities(old: dict, models: dict, readers: list[str]) -> list[dict]:
    """The rows of the old report's table of perplexities with these models, or the teacher, as writers.

    models: of the new report. Where its verdicts are others, a row is without the probabilities of right responses:
    other ones are right now.
    """
    kept, lost = [], False
    for row in old["perplexity"]:
        writer = row["writer"]
        if row["reader"] not in readers or writer not in (*models, TEACHER):
            continue
        same = writer == TEACHER or old["models"].get(writer, {}).get("verdicts") == models[writer]["verdicts"]
        lost = lost or (not same and bool(row.get("right_logps")))
        kept.append(row if same else {**row, "right_logps": {}})
    if lost:
        print("note: how likely right responses are is left out: other ones are right now", file=sys.stderr)
    return kept


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
    such file; pictures: file name -> the function that draws it and returns it as SVG. Raises BadInput for a full disk.
    """
    new = out / UNFINISHED
    # Without it there is nothing to draw.
    needs = {"groups.png": content.get("groups"), "coverage.png": content["compared"]}
    needs["perplexity.png"] = content["perplexity"]
    needs["training.png"] = any(run["traces"] for run in content["runs"].values())
    drawn = {}
    try:
        clear(out)  # what a kill left
        with writing(new):
            new.mkdir()
        for name, draw in pictures.items():
            if needs.get(name, True):
                with writing(out / name):
                    drawn[name] = draw(content, new / name)
        texts = {"review.md": page.review(review, content, problems, read_samples(out))} if review else {}
        texts["report.html"] = page.page(content, problems, shown, drawn)
        texts["passk.json"] = json.dumps(only_counts(content), indent=1)
        texts["report.json"] = sealed(content)
        for name, text in texts.items():
            with writing(out / name):
                (new / name).write_text(text, encoding="utf-8")
        study = read_study(out)
        write_study(out, {**study, "files": [name for name in REPORT if name in {*study["files"], *drawn, *texts}]})
        for name in REPORT:  # report.json last
            with writing(out / name):
                if (new / name).exists():
                    os.replace(new / name, out / name)
                elif name in pictures:  # left from a report with more models
                    (out / name).unlink(missing_ok=True)
    finally:
        clear(out)


def clear(out: Path) -> None:
    """Delete what is half-written, of a report and of other files: of a command that was killed, or has failed."""
    with writing(out):
        for path in [path for path in out.glob("*") if HALF_WRITTEN.fullmatch(path.name)]:
            path.unlink()
        for name in UNMOVED:
            (out / UNFINISHED / name).unlink(missing_ok=True)
        if (out / UNFINISHED).exists():
            (out / UNFINISHED).rmdir()


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
