"""masters.py: AdamW with float32 copies of bfloat16 weights, and the learning rate."""

import math

import torch


def trainable(policy) -> list[torch.nn.Parameter]:
    """The parameters that are trained: all, or with --lora the adapters'."""
    return [weight for weight in policy.parameters() if weight.requires_grad]


@torch.no_grad()
def write_back(policy, optimizer) -> None:
    """Round the float32 masters that the optimiser holds into the policy's parameters (see `adamw`)."""
    masters = [master for group in optimizer.param_groups for master in group["params"]]
    for weight, master in zip(trainable(policy), masters, strict=True):
        if weight is not master:
            weight.copy_(master)  # in place: the sampler's recordings hold the address


def adamw(policy, lr: float) -> torch.optim.AdamW:
    """AdamW without weight decay on what is trainable, with float32 masters of bfloat16 parameters.

    A step at a learning rate of 1e-6 is far below the resolution of bfloat16 (1/256 of a weight) and would be lost. So
    the optimiser holds float32 copies and rounds them back into the model after each step. A float32 parameter is its
    own master.
    """
    weights = trainable(policy)
    masters = [weight if weight.dtype == torch.float32 else weight.detach().float() for weight in weights]

    def hand_over(master: torch.Tensor):
        def hook(weight) -> None:
            # As soon as a gradient is complete: micro-batches add up in float32 too.
            master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
            weight.grad = None

        return hook

    for weight, master in zip(weights, masters, strict=True):
        if weight is not master:
            weight.register_post_accumulate_grad_hook(hand_over(master))
    optimizer = torch.optim.AdamW(masters, lr=lr, weight_decay=0.0, fused=True)
    optimizer.register_step_post_hook(lambda optimizer, *_: write_back(policy, optimizer))
    return optimizer


def learning_rate(step: int, *, lr: float, warmup: int, schedule: str, steps: int) -> float:
    """The learning rate of a step: a linear warm-up, then constant, or half a cosine down to 0 (Intuitor).

    A constant one does not depend on `steps`, so that a run can be prolonged.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    if schedule == "constant":
        return lr
    passed = (step - warmup) / max(1, steps - warmup)
    return lr * (1 + math.cos(math.pi * passed)) / 2
