"""The check of exercise 12: groups by hand."""

from exercises.checking import same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.plurality
    cases = [
        (["4", "5", "4", None], [1, 0, 1, 0], {
            "a majority has more than half of the votes; a plurality is just the most frequent": [0, 0, 0, 0],
            "this is the share of the votes; the reward is 1 or 0": [0.5, 0.25, 0.5, 0],
        }),
        (["1", "2", "3", "2", "4"], [0, 1, 0, 1, 0], {
            "2 of 5 is not a majority, but the most frequent: a plurality needs no half": [0, 0, 0, 0, 0],
        }),
        ([None, None, None, "7"], [0, 0, 0, 1], {"None has no vote: it won here": [1, 1, 1, 0]}),
        ([None, None], [0, 0], {"no answer must not pay, even if all agree on it": [1, 1]}),
        (["9", "8", "9", "8"], [1, 0, 1, 0], {
            "a tie: the answer that was given first wins, and here the other one did": [0, 1, 0, 1],
            "a tie: one answer wins, not both": [1, 1, 1, 1],
        }),
    ]  # fmt: skip
    for answers, expected, mistakes in cases:
        same(f(answers), [float(x) for x in expected], f"{answers}", mistakes)
