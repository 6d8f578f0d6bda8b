"""12. The vote (10 minutes): a reward without an answer key.

GRPO-PV (Intuitor, section 4; TTRL, 2504.16084): of the answers of one group the most frequent is taken for right.

answers: the answers of one group, as texts; None where a completion gives none. Return a list, a reward for each: 1.0
for the most frequent answer, else 0.0. None has no vote and never earns anything, so a group without answers earns
nothing. Of answers that are equally frequent the one that was given first wins.

--- hint: read on only when stuck ---
Counter.most_common(1) returns, of equal counts, what was counted first. Count without the Nones.
"""


def plurality(answers: list[str | None]) -> list[float]:
    raise NotImplementedError
