"""Exercise 12, solved."""

from collections import Counter


def plurality(answers: list[str | None]) -> list[float]:
    votes = Counter(answer for answer in answers if answer is not None)
    winner = votes.most_common(1)[0][0] if votes else None
    return [float(answer is not None and answer == winner) for answer in answers]
