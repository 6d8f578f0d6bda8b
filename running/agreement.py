"""agreement.py: does a bfloat16 model on a GPU compute what it should? Three comparisons, and the memory plan's.

A sampler and a training pass compute the same log-probabilities with different kernels, and a recorded step runs what
was recorded. So each is held against the same weights in float32, computed the plain way.
"""

import copy
from unittest import mock

import torch

from engine import slots
from engine.masters import adamw
from engine.memory import memory_plan
from generate import generate, stream
from grpo import log_probabilities, token_logps, update
from running.timing import peak_memory


def of_samplers(policy, prompts: list, group: int, T: int) -> dict:
    """Samples of recorded steps (CUDA graphs) against steps that run as they are: one random number a token, so alike.

    equal_rows: the share of rows with the same tokens. gap: the mean difference of their log-probabilities, nats, over
    the tokens before the first that differs.
    """
    recorded = generate(policy, prompts, group, T, generator=stream(0))
    slots.release(policy)
    with mock.patch.object(slots, "can_record", lambda device: False):
        plain = generate(policy, prompts, group, T, generator=stream(0))
    slots.release(policy)
    width = min(recorded.mask.shape[1], plain.mask.shape[1])
    same = (recorded.token_ids[:, :width] == plain.token_ids[:, :width]).long().cumprod(1)  # [N, width]
    mask = same * recorded.mask[:, :width]
    gap = ((recorded.logps[:, :width] - plain.logps[:, :width]).abs() * mask).sum() / mask.sum()
    return {"equal_rows": same.all(1).float().mean().item(), "compared_tokens": int(mask.sum()), "gap": gap.item()}


def plain_logps(model, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What grpo.token_logps computes, with nothing of this project in it: no packing, no head in blocks."""
    logps = model(input_ids=token_ids).logits[:, :-1].log_softmax(-1).gather(2, token_ids[:, 1:, None])[:, :, 0]
    return torch.nn.functional.pad(logps, (1, 0)) * mask


def of_passes(policy, prompts: list, group: int, T: int, micro_tokens: int) -> dict:
    """The sampler, the training pass and its gradient, each against the same weights in float32.

    gap_*: mean difference of log-probabilities, nats a token. gradient_error: ||g - g32|| / ||g32|| of the gradient of
    the rows' mean log-probability, advantages +1 and -1 in turn.
    """
    rollouts = generate(policy, prompts, group, T, generator=stream(1))
    exact, mask = copy.deepcopy(policy).float(), rollouts.mask
    logps, truth = log_probabilities(policy, rollouts, 1.0, micro_tokens), torch.zeros(mask.shape, device=mask.device)
    with torch.no_grad():
        for i in range(len(mask)):
            truth[i] = plain_logps(exact, rollouts.token_ids[i : i + 1], mask[i : i + 1])  # [N, S]
    gaps = {"sampler": rollouts.logps - truth, "training_pass": logps - truth, "between": rollouts.logps - logps}
    gaps = {f"gap_{name}": ((value.abs() * mask).sum() / mask.sum()).item() for name, value in gaps.items()}

    gradients = []
    few = rollouts.token_ids[:8], mask[:8]  # they are enough, and fit; some of one prompt, so that they share it
    signs = (-1.0) ** torch.arange(len(few[0]), device=mask.device) / mask[:8].sum(dim=1)  # [rows]
    for model, way in ((policy, token_logps), (exact, plain_logps)):
        model.zero_grad()
        (way(model, *few) * signs[:, None]).sum().backward()
        gradients.append([weight.grad.float() for weight in model.parameters()])
        model.zero_grad()
    error = sum((a - b).square().sum() for a, b in zip(*gradients, strict=True)).sqrt()
    return {**gaps, "gradient_error": (error / sum(b.square().sum() for b in gradients[1]).sqrt()).item()}


def of_the_plan(policy, prompts: list, group: int, T: int, micro_tokens: int, device: str) -> dict:
    """The bytes that engine/memory.py plans for a step, and the most that a step held."""
    sizes = {"prompts_per_step": len(prompts), "rollouts_per_prompt": group, "max_new_tokens": T, "temperature": 1.0}
    sizes |= {"micro_tokens": micro_tokens, "reference": False, "gradient_checkpointing": False}
    plan = memory_plan(policy, max(map(len, prompts)), **sizes)

    def work() -> None:
        optimizer = adamw(policy, lr=0.0)
        for seed in range(2):
            rollouts = generate(policy, prompts, group, T, generator=stream(seed))
            update(policy, None, optimizer, rollouts, torch.ones(len(prompts), group), micro_tokens=micro_tokens)

    measured = peak_memory(work, device) + plan["weights"]
    return {"planned": {**plan, "sum": sum(plan.values())}, "measured": measured}
