"""Exercise 7, solved."""

import torch


def token_logps(model, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    logps = (model(token_ids)[:, :-1] / temperature).log_softmax(-1)  # [N, S-1, V], for the token behind
    values = logps.gather(-1, token_ids[:, 1:, None])[..., 0]  # [N, S-1]
    return torch.nn.functional.pad(values, (1, 0)) * mask  # the missing column is the first
