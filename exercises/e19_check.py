"""The check of experiment 19: is there a prediction, and what happened?"""

from exercises import experiment


def check(exercise) -> str:
    """Prediction and result side by side. Raises Missing where one of them is missing."""
    prediction = experiment.predicted(exercise)
    compared, found = experiment.report("exercise-19")["compared"], {}
    for name, run in (("RL", "runs/exercise-19-rl"), ("distilled", "runs/exercise-19-distilled")):
        cells = compared[run]["coverage_correct"]
        found[f"{name}: gained"], found[f"{name}: lost"] = len(cells["trained_only"]), len(cells["base_only"])
    return experiment.side_by_side(prediction, found)
