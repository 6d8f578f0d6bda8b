"""The check of exercise 14: short texts by hand."""

from exercises.checking import Wrong, same

PHRASES = ("wait", "first, ", "therefore", "let me check")


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.reasoning_pattern
    same(f("First, 2+2=4. Therefore 4.", PHRASES, 5, 20), 0.4, "two phrases, divisor 5", {
        "upper case hides a phrase: look in the lower-cased text": 0.0,
        "a phrase may hold a space, or be a part of a word: look in the text, not in a list of its words": 0.2,
        "divisor is not used: this divides by 20": 0.1,
        "divided by the number of phrases; divisor is an argument": 0.5,
    })  # fmt: skip
    same(f("wait wait wait wait", PHRASES, 4, 20), 0.25, "one phrase four times",
         {"each phrase counts once, however often it occurs": 1.0})  # fmt: skip
    same(f("awaiting", PHRASES, 4, 20), 0.25, "'awaiting'",
         {"it holds 'wait': phrases are substrings, whole words or not": 0.0})  # fmt: skip
    same(f("first,2", PHRASES, 4, 20), 0.0, "'first,2'",
         {"the space at the end of 'first, ' belongs to the phrase: strip nothing": 0.25})  # fmt: skip
    same(f("wait, first, therefore, let me check", PHRASES, 2, 20), 1.0, "more phrases than the divisor",
         {"more than 1: the share of the phrases is capped at 1": 2.0})  # fmt: skip
    same(f("nothing here", PHRASES, 4, 20), 0.0, "no phrase")
    try:
        found = f("", PHRASES, 4, 2), f("wait", PHRASES, 4, 2)
    except ZeroDivisionError:
        raise Wrong("a text of fewer than n words has no n-gram: no repetition, not 0 / 0") from None
    same(found, (0.0, 0.25), "texts of no word and of one, with bigrams")
    text = "a b wait a b a b"  # bigrams: a-b three times, b-wait, wait-a, b-a: one of six positions
    same(f(text, PHRASES, 1, 2), 1 - 1 / 6, f"{text!r} with bigrams: 1 - 1/6", {
        "all copies of a repeated n-gram were counted; count each different one once": 1 - 3 / 6,
        "all copies of a repeated n-gram but the first were counted; count each different one once": 1 - 2 / 6,
        "divided by the different n-grams; divide by all positions": 1 - 1 / 4,
        "one n-gram is missing: a text of W words has W - n + 1 of them": 1 - 1 / 5,
        "nothing is taken for repetition; or n is not used": 1.0,
    })  # fmt: skip
    same(f("wait a b A B", PHRASES, 1, 2), 0.75, "'wait a b A B' with bigrams: 1 - 1/4",
         {"the n-grams too are those of the lower-cased text": 1.0})  # fmt: skip
    text = "wait therefore wait therefore"  # bigrams: one of three positions
    same(f(text, PHRASES, 1, 2), 1 - 1 / 3, f"{text!r}, divisor 1, with bigrams: min(1, 2) - 1/3",
         {"the cap of 1 is for the share of the phrases; the repetition is subtracted afterwards": 1.0})  # fmt: skip
    same(f("x x x", PHRASES, 4, 2), 0.0, "repetition without phrases", {"below 0: the reward ends at 0": -0.5})
