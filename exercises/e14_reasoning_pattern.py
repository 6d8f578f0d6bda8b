"""14. The reasoning pattern reward (12 minutes): pay for the words of reasoning, whatever they say.

"The Climb Carves Wisdom Deeper Than the Summit" (2505.22653), section 3 and its Figure 9, as released:

    RPR = max(0, min(1, number of phrases present / divisor) - repetition)
    repetition = n-grams of n words that occur more than once / all n-grams of the text

Phrases are looked for in the lower-cased text as substrings, and each counts once however often it occurs. "n-grams
that occur more than once" counts each different one once; "all n-grams" counts every position. A text of fewer than n
words has no repetition.

completion: the text; phrases: a tuple of lower-case phrases. Return a float in 0 .. 1.

--- hint: read on only when stuck ---
text.split() gives the words, and there are len(words) - n + 1 positions. Count tuples with a Counter.
"""


def reasoning_pattern(completion: str, phrases: tuple[str, ...], divisor: float = 20, n: int = 20) -> float:
    raise NotImplementedError
