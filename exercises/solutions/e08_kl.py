"""Exercise 8, solved."""

import torch


def kl(logps: torch.Tensor, ref_logps: torch.Tensor, kind: str = "k3") -> torch.Tensor:
    x = ref_logps - logps
    return {"k1": -x, "k2": x.square() / 2, "k3": torch.expm1(x) - x}[kind]
