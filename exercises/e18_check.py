"""The check of experiment 18: is there a prediction, and what happened?"""

from exercises import experiment


def check(exercise) -> str:
    """Prediction and result side by side. Raises Missing where one of them is missing."""
    prediction = experiment.predicted(exercise)
    content = experiment.report("toy-search-correct-seed0")
    (_, base), (label, trained) = content["models"].items()
    found = {}
    for name, model in (("base", base), ("trained", trained)):
        found[f"{name} pass@1"], found[f"{name} pass@256"] = (model["pass_at_k_correct"][i] for i in (0, -1))
    crossing = content["compared"][label]["crossing_correct"]
    found["the base is ahead from k ="] = crossing[0] if crossing else "nowhere: one model is always ahead"
    return experiment.side_by_side(prediction, found)
