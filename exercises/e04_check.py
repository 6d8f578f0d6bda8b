"""The check of exercise 4: two groups by hand."""

import torch

from exercises.checking import same


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
    }
    same(f(rewards), expected, "rewards [[1, 0, 0, 1], [8, 4, 4, 4]]", mistakes)
    same(f(rewards[:, :2] * 0 + 1), torch.zeros(2, 2), "all rewards 1", tolerance=1e-6)
