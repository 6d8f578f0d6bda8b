"""14. The reasoning pattern reward (15 minutes): pay for the words of reasoning, whatever they say.

"The Climb Carves Wisdom Deeper Than the Summit" (2505.22653), section 3 and its Figure 9, as released:

    RPR = max(0, min(1, number of phrases present / divisor) - repetition)
    repetition = number of different n-grams that occur more than once / number of positions of an n-gram

Both are taken from the lower-cased text. Phrases are substrings (a space in one belongs to it), and each counts once
however often it occurs. An n-gram is n words in a row; a text of fewer than n words has none, and no repetition. With
n = 2, `a b a b` has three positions, and one n-gram, `a b`, that occurs more than once: 1/3.

completion: the text; phrases: a tuple of lower-case phrases. Return a float in 0 .. 1.

--- hint: read on only when stuck ---
text.split() gives the words, and there are len(words) - n + 1 positions. Count tuples with a Counter.
"""


def reasoning_pattern(completion: str, phrases: tuple[str, ...], divisor: float = 20, n: int = 20) -> float:
    raise NotImplementedError
