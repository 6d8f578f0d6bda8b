"""The check of experiment 16: is there a prediction, and what happened?"""

from exercises import experiment


def check(exercise) -> str:
    """Prediction and result side by side. Raises Missing where one of them is missing."""
    prediction, found = experiment.predicted(exercise), {}
    for p, run in (("0", "toy-flip-0-seed0"), ("0.4", "toy-flip-40-seed0"), ("0.5", "toy-flip-50-seed0")):
        found[p] = experiment.mean_of(experiment.metrics(run)[-5:], "accuracy")
    return experiment.side_by_side(prediction, found)
