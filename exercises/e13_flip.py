"""13. Noisy rewards (10 minutes): an answer key that errs.

"The Climb Carves Wisdom Deeper Than the Summit" (2505.22653), section 2.1: with probability p the verdicts of a
prompt are inverted, all of its group together ("question-wise"): r becomes 1 - r.

rewards: [B, G] of 0 and 1. p: the probability. generator: a torch.Generator; draw all random numbers from it, with
torch.rand(..., generator=generator). Return a new [B, G] tensor; the one given stays as it is.

What is left of the signal? A flipped group has its advantages with the sign changed, so their mean is (1 - 2p) times
the true ones: at p = 0.4 a fifth, at p = 0.5 nothing. That is why the paper's models still learn at 0.4.

--- hint: read on only when stuck ---
One random number for each prompt: [B, 1], which broadcasts over the group.
"""

import torch


def flip(rewards: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    raise NotImplementedError
