"""Exercise 15, solved."""

import torch


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


def gae(rewards: torch.Tensor, values: torch.Tensor, gamma: float = 1.0, lam: float = 1.0) -> torch.Tensor:
    advantages, following, next_value = torch.zeros_like(values), 0.0, 0.0
    for t in reversed(range(len(values))):
        delta = rewards[t] + gamma * next_value - values[t]
        advantages[t] = following = delta + gamma * lam * following
        next_value = values[t]
    return advantages
