"""The check of exercise 13: what is drawn, and how much of the signal is left."""

import torch

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""

    def draw(rewards, p, seed=0):
        return exercise.flip(rewards, p, torch.Generator().manual_seed(seed))

    rewards = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    held = rewards.clone()
    same(draw(rewards, 0.0), held, "p = 0", {"everything is flipped, and nothing should be": 1 - held})
    same(draw(rewards, 1.0), 1 - held, "p = 1", {
        "p = 1 must invert everything, and nothing changed": held,
        "inverted is 1 - r, not -r": -held,
        "everything is 0: inverted is 1 - r, so that a wrong answer is paid too": held * 0,
        "everything is 1: inverted is 1 - r, so that a right answer loses its reward": held * 0 + 1,
    })  # fmt: skip
    if not torch.equal(rewards, held):
        raise Wrong("the tensor that was given has changed: return a new one")
    many = torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(20_000, 4)
    found = draw(many, 0.4)
    if not ((found == 0) | (found == 1)).all():
        raise Wrong("a reward that is neither 0 nor 1: this is the mean of many draws; draw, and invert or do not")
    flipped = found != many
    if not (flipped.all(1) | ~flipped.any(1)).all():
        raise Wrong("single rollouts were flipped: in the paper a whole prompt is, all of its group together")
    share = flipped[:, 0].float().mean().item()
    if abs(share - 0.6) < 0.02:
        raise Wrong("60 % of the prompts were flipped at p = 0.4: the comparison is turned around")
    if share in (0.0, 1.0):
        raise Wrong("all prompts were flipped together, or none: draw one random number for each prompt")
    if abs(share - 0.4) > 0.02:
        raise Wrong(f"{share:.0%} of the prompts were flipped at p = 0.4")
    again = draw(many, 0.4)
    if not torch.equal(found, again) or torch.equal(found, draw(many, 0.4, seed=1)):
        raise Wrong("the same seed must flip the same prompts, and another seed others: draw from the generator given")
    if len({(draw(many, 0.4, seed) != many)[:, 0].sum().item() for seed in range(4)}) == 1:
        raise Wrong("exactly 40 % of the prompts are flipped, every time: each prompt is drawn by itself")
    centred = many - many.mean(1, keepdim=True)
    left = ((found - found.mean(1, keepdim=True)) * centred).sum() / centred.square().sum()
    same(left, 0.2, "the mean signal left at p = 0.4 is 1 - 2p", tolerance=0.03)
