"""The check of exercise 12: groups by hand."""

from exercises.checking import Wrong, same


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
        ([None, None, None, "7"], [0, 0, 0, 1], {
            "None has no vote: it won here": [1, 1, 1, 0],
            "None has no vote: it won here, and nobody was paid": [0, 0, 0, 0],
        }),
        ([None, None], [0, 0], {"no answer must not pay, even if all agree on it": [1, 1]}),
        (["9", "8", "9", "8"], [1, 0, 1, 0], {
            "a tie: the answer that was given first wins, and here the other one did": [0, 1, 0, 1],
            "a tie: one answer wins, not both": [1, 1, 1, 1],
        }),
    ]  # fmt: skip
    for first, second, third in (("5", "6", "7"), ("6", "7", "5"), ("7", "5", "6")):
        cases.append(([first, second, third], [1, 0, 0], {
            f"a tie: {winner} won, and {first} was given first; a set forgets the order": wrong
            for winner, wrong in ((second, [0, 1, 0]), (third, [0, 0, 1]))
        }))  # fmt: skip
    for answers, expected, mistakes in cases:
        try:
            found = f(answers)
        except (IndexError, ValueError):
            if any(answers):
                raise
            raise Wrong(f"{answers}: nobody has voted, and there is no winner to be found: all get 0") from None
        same(found, [float(x) for x in expected], f"{answers}", mistakes)
