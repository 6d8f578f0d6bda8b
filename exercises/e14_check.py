"""The check of exercise 14: short texts by hand."""

from exercises.checking import same

PHRASES = ("wait", "first, ", "therefore", "let me check")


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.reasoning_pattern
    same(f("First, 2+2=4. Therefore 4.", PHRASES, 4, 20), 0.5, "two of four phrases",
         {"upper case hides a phrase: look in the lower-cased text": 0.0})  # fmt: skip
    same(f("wait wait wait wait", PHRASES, 4, 20), 0.25, "one phrase four times",
         {"each phrase counts once, however often it occurs": 1.0})  # fmt: skip
    same(f("wait, first, therefore, let me check", PHRASES, 2, 20), 1.0, "more phrases than the divisor",
         {"more than 1: the share of the phrases is capped at 1": 2.0})  # fmt: skip
    same(f("nothing here", PHRASES, 4, 20), 0.0, "no phrase")
    same(f("", PHRASES, 4, 2), 0.0, "an empty text")
    # Words a b a b, bigrams ab ba ab: of three positions, one different bigram (ab) occurs more than once.
    text = "wait wait wait"  # bigrams: (wait wait) twice; 1 of 2
    same(f(text, PHRASES, 1, 2), 0.5, f"{text!r} with bigrams: 1 - 1/2", {
        "the repeated n-grams were counted with all their copies; count each different one once": 0.0,
        "nothing is taken for repetition": 1.0,
    })  # fmt: skip
    text = "wait a b a b"  # bigrams: wait-a, a-b twice, b-a: one of four positions
    same(f(text, PHRASES, 1, 2), 0.75, f"{text!r} with bigrams: 1 - 1/4", {
        "one n-gram is missing: a text of W words has W - n + 1 of them": 1 - 1 / 3,
        "divided by the different n-grams; divide by all positions": 1 - 1 / 3,
        "the repeated n-grams were counted with all their copies; count each different one once": 0.5,
    })  # fmt: skip
    same(f("x x x", PHRASES, 4, 2), 0.0, "repetition without phrases", {"below 0: the reward ends at 0": -0.5})
