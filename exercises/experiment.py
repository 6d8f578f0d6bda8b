"""experiment.py: what the four experiments share: a prediction first, then the runs, then both side by side."""

import json
from pathlib import Path

from exercises.checking import Missing

AGAIN = " (--resume goes on with a training that was interrupted)"


def predicted(exercise) -> dict:
    """The prediction. Raises Missing where it is not complete."""
    missing = [name for name, value in exercise.PREDICTION.items() if value is None]
    if missing:
        raise Missing(f"write down what you expect first: PREDICTION has nothing for {', '.join(missing)}")
    return exercise.PREDICTION


def metrics(run: str) -> list[dict]:
    """The lines of metrics.jsonl of a run. Raises Missing where the run is not there or not finished."""
    file = Path("runs") / run / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    if len(rows) < 60:
        raise Missing(f"runs/{run} has {len(rows)} of 60 steps: run its command in the docstring{AGAIN}")
    return rows


def report(folder: str) -> dict:
    """report.json of a study. Raises Missing where it is not there."""
    file = Path("runs") / folder / "report.json"
    if not file.is_file():
        raise Missing(f"{file} is not there: run the commands in the docstring{AGAIN}")
    return json.loads(file.read_text())


def mean_of(rows: list[dict], name: str) -> float:
    """The mean of a metric over these steps."""
    return sum(row[name] for row in rows) / len(rows)


def side_by_side(prediction: dict, found: dict) -> str:
    """Both as a table for the terminal."""
    width = max(map(len, prediction))

    def show(value) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [f"{'':<{width}}  predicted   happened"]
    lines += [f"{name:<{width}}  {show(prediction[name]):<10}  {show(found[name])}" for name in prediction]
    return "\n".join(lines)
