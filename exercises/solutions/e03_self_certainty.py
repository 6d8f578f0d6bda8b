"""Exercise 3, solved."""

import math

import torch


def self_certainty(logits: torch.Tensor) -> torch.Tensor:
    z = logits.float()
    return z.logsumexp(-1) - z.mean(-1) - math.log(z.shape[-1])
