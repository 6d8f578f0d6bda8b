"""4. Group advantages * (8 minutes): the line that makes GRPO GRPO.

DeepSeekMath (2402.03300), section 4.1; Intuitor, eq. 6. G rollouts of the same prompt, rewards r_1 .. r_G:

    A_i = (r_i - mean(r)) / (std(r) + eps)

rewards: [B, G], one row for each prompt. Return [B, G]. std has Bessel's correction (torch's default), as in TRL.

No critic is asked what a rollout should have earned: the other rollouts of its prompt say it.

--- hint: read on only when stuck ---
Every mean is over a row. keepdim=True keeps [B, 1], so that it broadcasts over the row and not over the batch.
"""

import torch


def group_advantages(rewards: torch.Tensor, eps: float = 1e-4) -> torch.Tensor:
    raise NotImplementedError
