"""algorithms.py: how do the other algorithms differ from GRPO?

All of them sample, grade, and make some rollouts likelier than others. What differs is one row of this table, the flags
that `train.py --algorithm NAME` sets (ALGORITHMS; flags given beside it win):

                 advantage                         ratio, clip           average   KL penalty      from
    grpo         (r_i - mean) / std of the group   token, .8 .. 1.2      sequence  in the loss     2402.03300, eq. 3
    dr_grpo      r_i - mean of the group           token, .8 .. 1.2      constant  none            2503.20783, sec. 3
    dapo         as grpo; groups without spread    token, .8 .. 1.28     token     none            2503.14476, eq. 8
                 are replaced, length costs
    gspo         as grpo; four updates a step      sequence, .9997 ..    sequence  none            2507.18071, eq. 5
                                                   1.0004
    rloo         r_i - mean of the others          1                     sum       in the reward   2402.14740, sec. 2
    remax        r_i - r of the greedy completion  1                     sum       in the reward   2310.10505, sec. 4
    reinforce++  return of a token, whitened       token, .8 .. 1.2      token     in the reward   2501.03262
                 over the batch
    ppo          a critic's (ppo.py), whitened     token, .8 .. 1.2      token     in the reward   1707.06347

The loss with its ratio, clip and averages is grpo.policy_loss; here are the advantages, and what DAPO does to the
rewards. "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, its Figure 8) compares six
of them, all without a KL penalty.

On policy, with one update a step, every ratio is 1: then clip and ratio do nothing, and dapo, gspo and grpo differ only
in what else stands in their row.
"""

import dataclasses

import torch

from grpo import combined_advantages
from ppo import gae

ALGORITHMS = {
    "grpo": {},
    "dr_grpo": {"advantage": "mean", "loss_average": "constant", "kl": 0.0},
    "dapo": {"clip_high": 0.28, "loss_average": "token", "kl": 0.0, "resample": 3, "overlong": 0.2},
    # With one update it would be GRPO. The paper cuts the rollouts into four parts; here all are used four times.
    "gspo": {"ratio": "sequence", "clip": 3e-4, "clip_high": 4e-4, "kl": 0.0, "updates_per_step": 4},
    "rloo": {"advantage": "leave_one_out", "loss_average": "sum", "kl_in": "reward"},
    "remax": {"advantage": "greedy", "loss_average": "sum", "kl_in": "reward"},
    "reinforce++": {"advantage": "batch", "loss_average": "token", "kl_in": "reward"},
    "ppo": {"advantage": "critic", "loss_average": "token", "kl_in": "reward"},
}
ADVANTAGES = ("group", "mean", "leave_one_out", "greedy", "batch", "critic")


# --- advantages: how much better was a rollout than expected? ---------------------------------------------------------


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """RLOO (Ahmadian et al., 2402.14740, section 2): A_i = r_i - mean of the other rewards of its group. [B, G].

    Differs from GRPO: what is expected of a rollout does not contain its own reward, so that the gradient is unbiased,
    and nothing is divided by the deviation. It is Dr. GRPO's advantage times G / (G - 1). The loss has no clip (TRL
    clips the ratio of the whole completion, which is 1 here); with --updates-per-step above 1 ours clips each token's.
    """
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def against_greedy(rewards: torch.Tensor, greedy: torch.Tensor) -> torch.Tensor:
    """ReMax (Li et al., 2310.10505, section 4): A_i = r_i - r of the likeliest completion. [B, G], [B, 1] -> [B, G].

    Differs from GRPO: the comparison is one more completion of each prompt, decoded greedily. With rewards of 0 and 1
    it is a rough one: where the greedy completion is right, no rollout is better than expected.
    """
    return rewards - greedy


def whitened(values: torch.Tensor, mask: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Per-token values of mean 0 and deviation 1 over all tokens of the batch: [N, S] -> [N, S], 0 off the mask.

    REINFORCE++ (Hu et al., 2501.03262) whitens returns. Differs from GRPO: prompts are compared with each other, so
    that the rollouts of an easy prompt are mostly above 0. PPO's code whitens what comes from its critic. Values that
    differ by rounding alone teach nothing: all are 0 then.
    """
    values, mask = values.float(), mask.float()
    mean = (values * mask).sum() / mask.sum().clamp_min(1)
    deviation = (((values - mean).square() * mask).sum() / (mask.sum() - 1).clamp_min(1)).sqrt()
    return torch.where(deviation > 1e-4, (values - mean) / (deviation + eps) * mask, 0.0)


def token_rewards(rewards: torch.Tensor, mask: torch.Tensor, cost: torch.Tensor | None) -> torch.Tensor:
    """r_t, [N, S]: a rollout's reward at its last token, and at every token minus what it costs: beta times its k1.

    rewards: [B, G]; cost: [N, S], or None. So a KL penalty becomes a part of the reward, as in Ziegler et al.
    (1909.08593, eq. 2): a token is charged for itself and, by its return, for all that it leads to. Differs from GRPO,
    where the penalty of a token has a gradient of its own.
    """
    last = mask.cumsum(dim=1).eq(mask.sum(dim=1, keepdim=True)) & mask.bool()
    earned = rewards.reshape(-1, 1).to(mask.device) * last
    return earned if cost is None else earned - cost * mask


def returns(rewards: torch.Tensor) -> torch.Tensor:
    """R_t, the sum of the rewards of a token and of all behind it: [N, S] -> [N, S]. Undiscounted."""
    return rewards.flip(1).cumsum(1).flip(1)


def advantages_of(
    kind: str,
    rewards: dict[str, torch.Tensor],
    weights: dict[str, float],
    mask: torch.Tensor,
    cost: torch.Tensor | None = None,
    greedy: dict[str, torch.Tensor] | None = None,
    values: torch.Tensor | None = None,
    lam: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The advantages of a step's rollouts, [B, G], or [N, S] where tokens differ; and what a critic learns, [N, S].

    kind: one of ADVANTAGES. rewards: [B, G] by name; weights: by name; mask: [N, S]. cost: [N, S], what each token
    costs where the KL penalty is part of the reward; greedy: [B, 1] by name, what the greedy completions earn;
    values: [N, S], the critic's; lam: GAE's lambda.
    """
    if kind in ("group", "mean"):
        return combined_advantages(rewards, weights, {"group": "std", "mean": "none"}[kind]), None
    total = weighted(rewards, weights)
    if kind in ("batch", "critic"):
        earned = token_rewards(total, mask, cost)
        advantages, targets = (returns(earned), None) if kind == "batch" else gae(earned, values, mask, lam=lam)
        return whitened(advantages, mask), targets
    if cost is not None:
        total = total - (cost * mask).sum(dim=1).reshape(total.shape).to(total.device)
    return (leave_one_out(total) if kind == "leave_one_out" else against_greedy(total, weighted(greedy, weights))), None


def weighted(rewards: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    """Several rewards as one, [B, G]."""
    return sum(weights[name] * values for name, values in rewards.items())


# --- DAPO -------------------------------------------------------------------------------------------------------------


def overlong_penalty(lengths: torch.Tensor, longest: int, share: float) -> torch.Tensor:
    """What DAPO adds to the reward of a long completion (2503.14476, eq. 13): [N] -> [N], from 0 down to -1/2.

        1/2 clip(((L - C) - length) / C, -1, 0)       L = longest, C = share * L

    So the last C tokens cost more and more. The paper has L = 20,480 and C = 4,096, a fifth. Its rewards are -1 and 1,
    and its penalty is up to 1; for a reward of 0 or 1 that is a half.
    """
    return ((1 - share) * longest - lengths).div(share * longest).clamp(-1, 0) / 2


def without_spread(rewards: dict[str, torch.Tensor]) -> torch.Tensor:
    """The groups whose rollouts all earn the same, each reward for itself; they teach nothing: [B] bool.

    DAPO eq. 11, where the one reward is to be right.
    """
    return torch.stack([x.amax(dim=1) == x.amin(dim=1) for x in rewards.values()]).all(dim=0)


def replaced(graded, rewards: dict, new_graded, new_rewards: dict, where: torch.Tensor) -> tuple:
    """Graded rollouts and their rewards, with new groups in place of those marked in `where`, [B] bool."""
    order = torch.arange(len(where))
    order[where] = len(where) + torch.arange(int(where.sum()))  # numbers of groups, the new ones behind the old
    G = next(iter(rewards.values())).shape[1]
    rows = (order[:, None] * G + torch.arange(G)).flatten()  # [N]

    def choose(old: list, new: list, numbers: torch.Tensor) -> list:
        both = [*old, *new]
        return [both[i] for i in numbers]

    names = ("texts", "answers", "right")
    lists = {name: choose(getattr(graded, name), getattr(new_graded, name), rows) for name in names}
    problems = choose(graded.problems, new_graded.problems, order)
    width = max(graded.rollouts.mask.shape[1], new_graded.rollouts.mask.shape[1])
    tensors = {}
    for name, old in vars(graded.rollouts).items():
        pair = [old, getattr(new_graded.rollouts, name)]
        if old.ndim == 2:
            pair = [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in pair]
        tensors[name] = torch.cat(pair)[rows.to(old.device)]
    rollouts = dataclasses.replace(graded.rollouts, **tensors)
    merged = {name: torch.cat([values, new_rewards[name]])[order] for name, values in rewards.items()}
    return dataclasses.replace(graded, problems=problems, rollouts=rollouts, **lists), merged
