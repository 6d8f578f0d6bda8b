"""Exercise 14, solved."""

from collections import Counter


def reasoning_pattern(completion: str, phrases: tuple[str, ...], divisor: float = 20, n: int = 20) -> float:
    text, words = completion.lower(), completion.lower().split()
    present = sum(phrase in text for phrase in phrases)
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    repetition = sum(count > 1 for count in counts.values()) / max(1, sum(counts.values()))
    return max(0.0, min(1.0, present / divisor) - repetition)
