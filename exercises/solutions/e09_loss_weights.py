"""Exercise 9, solved."""

import torch


def loss_weights(mask: torch.Tensor, average: str, longest: int) -> torch.Tensor:
    mask, N = mask.float(), len(mask)
    if average == "sequence":
        return mask / mask.sum(dim=1, keepdim=True).clamp_min(1) / N
    if average == "token":
        return mask / mask.sum().clamp_min(1)
    return mask / (N * longest)
