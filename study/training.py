"""training.py: how were the models of a study made?

What train.py and distill.py leave in a run folder, as report.json holds it and as tables for the page: the settings
that differ from the defaults, and the curves of training.
"""

from pathlib import Path

import numpy as np

from running.files import BadInput, read_log
from running.flags import shown
from running.folder import read_config
from study.pictures import TRACES, short_names
from study.report import Table

ALWAYS = ("model", "teacher", "data", "template", "reward")  # settings that are told also where they are the defaults


def runs_of(models: list[str]) -> dict[str, dict]:
    """Of each model that is a run folder: {"settings", "defaults" of those that differ, "traces": name -> [steps,
    values]}. "defaults" is None for a run from before they were kept. Raises BadInput for metrics that cannot be read.
    """
    found = {}
    for model in models:
        config = read_config(Path(model))
        if "minreason" not in config:
            continue
        traces, path = {}, Path(model) / "metrics.jsonl"
        try:
            rows = read_log(path) if path.is_file() else []
        except (OSError, ValueError, RecursionError) as error:
            raise BadInput(f"{path}: cannot be read ({error}); delete it to report without the training") from None
        # The loss of reinforcement learning is about 0 at all times and tells nothing.
        names = [name for name in TRACES if name != "loss" or "accuracy" not in (rows or [{}])[0]]
        for name in names:
            points = [(row.get("step", i), row[name]) for i, row in enumerate(rows) if row.get(name) is not None]
            if not all(type(value) in (int, float) for point in points for value in point):
                raise BadInput(f"{path}: a {name} is no number; delete it to report without the training")
            if points:
                traces[name] = [list(column) for column in zip(*points, strict=True)]
        defaults = config.get("minreason_defaults")
        found[model] = {"settings": config["minreason"], "defaults": defaults, "traces": traces}
    return found


def training_table(content: dict) -> Table:
    """What every run began and ended with: means of the first and the last tenth of its steps."""
    runs, called = content["runs"], short_names(content["models"])
    traced = [name for name in TRACES if any(name in run["traces"] for run in runs.values())]
    rows = []
    for label, run in runs.items():
        taken = max((steps[-1] + 1 for steps, _ in run["traces"].values()), default=0)
        rows.append([called[label], str(taken), *(ends(run["traces"].get(name)) for name in traced)])
    notes = [
        "On the problems of training, if not held out. In the table: means of the first and last tenth of the steps."
    ]
    explained = {"reward": "reward_mean", "entropy": "entropy", "loss": "loss"}
    words = tuple(word for word, name in explained.items() if name in traced)
    columns = ["", "steps", *(TRACES[name] for name in traced)]
    return Table("How was it trained?", notes, columns, rows, "training.png", words)


def ends(trace: list | None) -> str:
    """The means of the first and the last tenth of a trace, [steps, values]; "" for a metric that a run lacks."""
    if not trace:
        return ""
    tenth = max(1, len(trace[1]) // 10)
    return f"{np.mean(trace[1][:tenth]):.3f} to {np.mean(trace[1][-tenth:]):.3f}"


def run_table(content: dict) -> Table:
    """The flags of the runs: what they were trained from, on and for, and all that are not the defaults in one."""
    runs, called = content["runs"], short_names(content["models"])
    known = {name: set() for name in ALWAYS if any(name in run["settings"] for run in runs.values())}
    for run in runs.values():
        differing = run["defaults"]
        if differing is None:
            differing = {name: None for name, value in run["settings"].items() if value is not None}
        for name, default in differing.items():
            if name != "run":
                known.setdefault(name, set()).add(written(default))
    rows = [
        [shown(name), *(written(run["settings"].get(name)) for run in runs.values()), " or ".join(sorted(defaults))]
        for name, defaults in known.items()
    ]
    notes = ["What the models were trained from, on and for, and every flag that has another value than its default."]
    if any(run["defaults"] is None for run in runs.values()):
        notes.append("A run of an earlier version is told in full: its folder does not say what the defaults were.")
    columns = ["", *(called[label] for label in runs), "default"]
    return Table("With which settings was it trained?", notes, columns, rows)


def study_table(content: dict) -> Table:
    """What the samples were drawn with."""
    # What describes a study are the single values of report.json; all else in it are lists and tables.
    named = [(name, value) for name, value in content.items() if not isinstance(value, dict | list)]
    rows = [[name.replace("_", " "), written(value)] for name, value in named]
    models = ", ".join(content["models"])
    notes = [f"Models, the base first: {models}.", "Every model gets the same problems and the base's template."]
    if content.get("seed", 0) is None:
        notes = [notes[0], "The samples were drawn elsewhere: the settings are those that the command line told."]
    return Table("With which settings was it measured?", notes, ["", "value"], rows, words=("temperature", "template"))


def written(value) -> str:
    """A setting as one reads it."""
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
