"""The check of exercise 8: numbers by hand, and the exact KL of two distributions."""

import math

import torch

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    logps, ref = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])  # x = -.5 and 1
    by_hand = {
        "k1": [0.5, -1.0],
        "k2": [0.125, 0.5],
        "k3": [math.exp(-0.5) + 0.5 - 1, math.exp(1.0) - 1.0 - 1],
    }
    turned = {"k1": [-0.5, 1.0], "k2": None, "k3": [math.exp(0.5) - 0.5 - 1, math.exp(-1.0) + 1.0 - 1]}
    for kind, expected in by_hand.items():
        mistakes = {}
        if turned[kind]:
            mistakes["the sign is turned around: x = log pi_ref - log pi, and k1 = -x"] = turned[kind]
        if kind == "k3":
            mistakes["the -1 is missing: where the two agree, k3 is 0"] = [value + 1 for value in expected]
            mistakes["x is added; it is subtracted"] = [math.exp(-0.5) - 0.5 - 1, math.exp(1.0) + 1.0 - 1]
            mistakes["1 is subtracted twice: expm1(x) is exp(x) - 1 already"] = [value - 1 for value in expected]
        else:
            mistakes["kind is not used: this is k3"] = by_hand["k3"]
        if kind == "k1":
            mistakes["one value of k1 may be negative: its mean is the KL"] = [0.5, 1.0]
            mistakes["these are logarithms already: subtract them, take no log of their quotient"] = [
                -math.log(1.5),
                math.log(2),
            ]
            mistakes["weighted by the probability: the tokens were sampled, so likely ones come more often already"] = [
                0.5 * math.exp(-1.0),
                -math.exp(-2.0),
            ]
        if kind == "k2":
            mistakes["the half is missing"] = [0.25, 1.0]
            mistakes["x was halved before the square; x^2 is halved"] = [0.0625, 0.25]
        same(exercise.kl(logps, ref, kind), expected, kind, mistakes)
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
    exact = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    for kind in ("k1", "k3"):
        mean = (p * exercise.kl(p.log(), q.log(), kind)).sum()
        same(mean, exact, f"the mean of {kind} over tokens of p must be KL(p || q)")
    near = exercise.kl(torch.tensor([-1.0], dtype=torch.float32), torch.tensor([-1.0 + 1e-4]), "k3")
    if not 4e-9 < float(near) < 6e-9:
        raise Wrong(
            f"for x = 0.0001 k3 is 5e-9, and this gives {float(near):.1e}: exp(x) - 1 - x loses all digits; "
            "torch.expm1(x) - x keeps them"
        )
    if not exercise.kl(logps.clone().requires_grad_(), ref, "k3").requires_grad:
        raise Wrong("no gradient: k3 stands in the loss, so nothing may be detached")
