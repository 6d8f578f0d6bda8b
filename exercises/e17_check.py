"""The check of experiment 17: is there a prediction, and what happened?"""

from exercises import experiment


def check(exercise) -> str:
    """Prediction and result side by side. Raises Missing where one of them is missing."""
    prediction, found = experiment.predicted(exercise), {}
    for name, run in (("hacked", "toy-self-certainty-hacked-seed0"), ("with the penalty", "toy-self-certainty-seed0")):
        rows = experiment.metrics(run)
        found[f"{name}: accuracy"] = experiment.mean_of(rows[-5:], "accuracy")
        rises = experiment.mean_of(rows[-5:], "reward_mean") > experiment.mean_of(rows[:5], "reward_mean")
        found[f"{name}: reward rises"] = rises
    return experiment.side_by_side(prediction, found)
