"""5. Groups of equal rewards (8 minutes): where rounding turns into a gradient.

A group whose rollouts all earned the same teaches nothing: its advantages are 0. In exact arithmetic that needs no
care. In float32 the mean of twelve times 0.1 is not 0.1, and the tiny difference is divided by a tiny deviation:

    rewards = torch.full((1, 12), 0.1);   (rewards - rewards.mean()) / (rewards.std() + 1e-8)     is not 0

rewards: [B, G]. Return [B, G]: what exercise 4 returns, but exact zeros in every row whose rewards are all equal, also
where eps is 1e-8.

--- hint: read on only when stuck ---
Do not ask whether the deviation is small (a row of 0.1 and 0.1000001 is not equal). Ask whether the largest and the
smallest reward of the row are the same number.
"""

import torch


def group_advantages(rewards: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    raise NotImplementedError
