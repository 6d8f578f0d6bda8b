"""The check of exercise 15: a group by hand, and the sum of GAE's definition."""

import torch

from exercises.checking import same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [6.0, 2.0, 2.0, 2.0]])
    expected = [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [4.0, -4 / 3, -4 / 3, -4 / 3]]
    mean = rewards - rewards.mean(1, keepdim=True)
    same(exercise.leave_one_out(rewards), expected, "leave_one_out", {
        "a rollout's own reward is in the mean that it is compared with (that is Dr. GRPO)": mean,
        "the sum of the others is divided by G and not by G - 1": rewards
        - (rewards.sum(1, keepdim=True) - rewards) / 4,
        "this is the mean of the others; subtract it from one's own": rewards - torch.tensor(expected),
        "the sign is turned around: what earned more must have the larger advantage": -torch.tensor(expected),
        "divided by the deviation as well; leave-one-out only subtracts": torch.tensor(expected)
        / (rewards.std(1, keepdim=True) + 1e-4),
    })  # fmt: skip
    r, v = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.2, 0.5, 0.9])
    same(exercise.gae(r, v), torch.tensor([0.8, 0.5, 0.1]), "gae with gamma = lambda = 1", {
        "these are the deltas: what follows has to be added": [0.3, 0.4, 0.1],
        "V_t is not subtracted: this is the return": [1.0, 1.0, 1.0],
        "behind the last token the value is 0, not that of the last token": [0.8 + 0.9, 0.5 + 0.9, 0.1 + 0.9],
        "behind the last token the value is 0, not that of the first token, which roll brings there": [1.0, 0.7, 0.3],
        "the order is turned around: go from the last token to the first": [0.1, 0.5, 0.8],
        "what came before is added, and not what follows: go from the last token to the first": [0.3, 0.7, 0.8],
        "V_t is added; it is subtracted": [1.2, 1.5, 1.9],
    })  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    r, v = torch.randn(6, generator=generator), torch.randn(6, generator=generator)
    gamma, lam = 0.9, 0.7
    after = [*v.tolist()[1:], 0.0]
    delta = [float(r[t]) + gamma * after[t] - float(v[t]) for t in range(6)]
    by_sum = [sum((gamma * lam) ** k * delta[t + k] for k in range(6 - t)) for t in range(6)]
    only_gamma = [sum(gamma**k * delta[t + k] for k in range(6 - t)) for t in range(6)]
    only_lam = [sum(lam**k * delta[t + k] for k in range(6 - t)) for t in range(6)]
    plain = [float(r[t]) + after[t] - float(v[t]) for t in range(6)]
    same(exercise.gae(r, v, gamma, lam), by_sum, "gae with gamma = .9, lambda = .7", {
        "lambda is not used": only_gamma,
        "in the sum, the factor is gamma lambda, not lambda alone": only_lam,
        "gamma is missing in delta": [sum((gamma * lam) ** k * plain[t + k] for k in range(6 - t)) for t in range(6)],
    })  # fmt: skip
