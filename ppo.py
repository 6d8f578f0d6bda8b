"""ppo.py: what does a critic add?

PPO (Schulman et al., 1707.06347) asks a second network what a rollout will earn, at each of its tokens: V_t, the value
of what stands before token t. GRPO asks the other rollouts of the group instead, once for the whole rollout.

    delta_t = r_t + gamma V_{t+1} - V_t                                     how token t changed what is expected
    A_t     = sum_l (gamma lambda)^l delta_{t+l}                            gae (Schulman et al., 1506.02438, eq. 16)
    R_t     = A_t + V_t                                                     what the critic learns to say
    L       = 1/2 mean_t max((V_t - R_t)^2, (V_t^clipped - R_t)^2)          value_loss

With gamma = lambda = 1, as "The Climb Carves Wisdom..." (2505.22653) trains, A_t is what the rollout earns from token t
on, minus V_t. A smaller lambda trusts the critic more: less noise, and the critic's errors.

The critic is a copy of the starting policy with one output in place of its vocabulary, and is trained as the policy is:
a second set of weights, gradients and moments. It knows nothing at first: --critic-warmup steps train it alone. Its
clip of 0.5 is for rewards of 0 and 1; a value that has to reach 30 is held back by it.

All per-token tensors are [N, S]. A value stands at the token that it is the value before.
"""

import copy

import torch

from engine.packing import row_batches, states_before
from grpo import optimizer_step
from running import processes


class Critic(torch.nn.Module):
    """The body of a language model, and one number for each position. Starts at 0 everywhere."""

    def __init__(self, policy):
        super().__init__()
        self.body = copy.deepcopy(policy.base_model)
        self.head = torch.nn.Linear(policy.config.get_text_config().hidden_size, 1, device=policy.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """V_t of each completion token, [N, S], 0 off the mask. token_ids, mask: [N, S], right-padded."""
        before = states_before(self.body, token_ids, mask)  # [T, H]: the state behind t - 1 has not seen token t
        values = self.head(before.float())[:, 0]  # [T]
        return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask.bool(), values)


@torch.no_grad()
def values_of(critic: Critic, rollouts, micro_tokens: int) -> torch.Tensor:
    """The critic's values of generate.Rollouts, [N, S]."""
    values = torch.zeros(rollouts.mask.shape, device=rollouts.mask.device)
    for batch, width in row_batches(rollouts, micro_tokens):
        values[batch, :width] = critic(rollouts.token_ids[batch, :width], rollouts.mask[batch, :width])
    processes.total(values)
    return values


def gae(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float = 1.0, lam: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns of each token, [N, S] each, 0 off the mask. rewards, values, mask: [N, S].

    Behind the last token nothing is expected any more, also where a completion was cut off.
    """
    advantages = torch.zeros_like(values)
    following, next_value = torch.zeros(2, len(values), device=values.device)  # of the token behind, [N] each
    for t in reversed(range(values.shape[1])):
        here = mask[:, t].bool()
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = torch.where(here, delta + gamma * lam * following, following)
        next_value = torch.where(here, values[:, t], next_value)
        advantages[:, t] = following * here
    return advantages, (advantages + values) * mask


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float
) -> torch.Tensor:
    """1/2 sum_t max((V - R)^2, (V_clipped - R)^2) over the rows given, [N, S] each. V_clipped is V kept within clip of
    old_values: as in the policy's loss, the worse of the two counts, so that one batch does not move V too far."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    worse = torch.maximum((values - returns).square(), (near - returns).square())
    return 0.5 * (worse * mask).sum()


def update_critic(
    critic: Critic,
    optimizer,
    rollouts,
    returns: torch.Tensor,
    old_values: torch.Tensor,
    *,
    clip: float = 0.5,
    updates: int = 1,
    micro_tokens: int = 8192,
) -> dict[str, float | None]:
    """Take `updates` optimiser steps towards the returns, each on its share of the rollouts; returns metrics.

    value_loss is the mean of theirs, per token. explained_variance is 1 - Var(R - V) / Var(R) over the step's tokens,
    with the values from before: 0 for a critic that says the same everywhere, 1 for a perfect one, None where all
    returns are equal.
    """
    mask, losses = rollouts.mask, []
    updates = min(updates, len(mask))
    for first in range(updates):
        rows = torch.arange(first, len(mask), updates, device=mask.device)  # some of the rollouts of each prompt
        losses.append(0.0)
        for batch, width in row_batches(rollouts, micro_tokens, rows):
            part = [x[batch, :width] for x in (old_values, returns, mask)]
            loss = value_loss(critic(rollouts.token_ids[batch, :width], part[2]), *part, clip) / mask[rows].sum()
            loss.backward()
            losses[-1] += loss.item()
        optimizer_step(optimizer)
    spread, left = (x[mask.bool()].var().item() for x in (returns, returns - old_values))
    explained = 1 - left / spread if spread > 1e-8 else None  # below it, returns differ by rounding
    return {**processes.added({"value_loss": sum(losses) / updates}), "explained_variance": explained}
