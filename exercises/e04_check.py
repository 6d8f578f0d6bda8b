"""The check of exercise 4: two groups by hand."""

import torch

from exercises.checking import same, untouched


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f, rewards = exercise.group_advantages, torch.tensor([[1.0, 0.0, 0.0, 1.0], [8.0, 4.0, 4.0, 4.0]])
    # Means 1/2 and 5. Squares of the distances: 4 x 1/4 = 1 and 9 + 3 = 12; over G - 1 = 3: deviations .57735 and 2.
    a, b = 0.5 / (3**-0.5 + 1e-4), 1 / (2 + 1e-4)
    expected = torch.tensor([[a, -a, -a, a], [3 * b, -b, -b, -b]])
    over_G = torch.tensor([[1.0, -1.0, -1.0, 1.0], [3**0.5, -(3**-0.5), -(3**-0.5), -(3**-0.5)]])
    whole = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    column = (rewards - rewards.mean(0, keepdim=True)) / (rewards.std(0, keepdim=True) + 1e-4)
    mistakes = {
        "this compares with the whole batch: an easy prompt would be praised and a hard one blamed; the mean is over "
        "the rollouts of one prompt, dim=1": whole,
        "this compares rollouts of different prompts: the groups are the rows, dim=1": column,
        "nothing is divided by the deviation (that is Dr. GRPO; here it is GRPO)": rewards
        - rewards.mean(1, keepdim=True),
        "the deviation is over G and should be over G - 1 (Bessel's correction, torch's default)": over_G,
        "the mean is not subtracted: every rollout of a solved prompt would be praised": rewards
        / (rewards.std(1, keepdim=True) + 1e-4),
        "the sign is turned around: what earned more must have the larger advantage": -expected,
        "divided by the variance; the deviation is its square root": expected / torch.tensor([[3**-0.5], [2.0]]),
        "the deviation is that of the whole batch; it is taken over each row, as the mean is": (
            rewards - rewards.mean(1, keepdim=True)
        )
        / (rewards.std() + 1e-4),
        "only the mean is divided: brackets around the difference": rewards
        - rewards.mean(1, keepdim=True) / (rewards.std(1, keepdim=True) + 1e-4),
        "a rollout is compared with the others only (that is RLOO); here it is in the mean": expected * 4 / 3,
    }
    before = rewards.clone()
    found = f(rewards)
    untouched(rewards, before)
    same(found, expected, "rewards [[1, 0, 0, 1], [8, 4, 4, 4]]", mistakes)
    same(f(torch.ones(2, 2)), torch.zeros(2, 2), "all rewards 1, so 0 / (0 + eps)", tolerance=1e-6)
    half = (rewards - rewards.mean(1, keepdim=True)) / torch.tensor([[3**-0.5 + 0.5], [2.5]])
    same(f(rewards, 0.5), half, "with eps = 0.5", {
        "eps is not used": expected,
        "eps stands below the root; it is added to the deviation": half * torch.tensor([[3**-0.5 + 0.5], [2.5]])
        / torch.tensor([[1 / 3 + 0.5], [4.5]]).sqrt(),
    })  # fmt: skip
