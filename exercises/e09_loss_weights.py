"""9. Three averages of a loss (12 minutes): papers that differ by one word.

A loss is a sum over the tokens of a step, each with a weight. The weights are what "average" means:

    sequence   1 / (N |o_i|)       the mean of each rollout, then the mean over rollouts      GRPO (2402.03300, eq. 3)
    token      1 / sum_i |o_i|     the mean over all tokens of the step                       DAPO (2503.14476, eq. 8)
    constant   1 / (N L)           L the longest length allowed, whatever was written         Dr. GRPO (2503.20783)

mask: [N, S], 1 on the tokens of the completions; |o_i| is the number of them in row i. average: one of the three words.
longest: L. Return [N, S], 0 off the mask; a row without tokens is all zeros.

--- hint: read on only when stuck ---
Each of the first two sums to 1 over the whole tensor; the third does so only if every row is as long as it may be.
Once it works: under which of the three is a token of a long wrong answer punished least?
"""

import torch


def loss_weights(mask: torch.Tensor, average: str, longest: int) -> torch.Tensor:
    raise NotImplementedError
