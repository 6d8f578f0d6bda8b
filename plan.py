"""plan.py: can this run go through, and what memory will it take?

Asked before the first step, because a run that dies of memory in its third hour, or that trains on samples of a model
that the sampler serves wrongly, costs more than the question. What can be measured is measured on the model itself: the
bytes of a cached token, and the bytes that autograd keeps for a token of a training pass.
"""

import os
from pathlib import Path

import torch

from generate import KEPT, Slots
from grpo import block_size, trainable


@torch.no_grad()
def check_sampler(policy, longest: int) -> int:
    """Sample a token through the slots, compare with a plain pass; returns the bytes of a token's keys and values.

    longest: tokens of the longest row, prompt and completion. Raises ValueError where the slots cannot serve the model:
    windows shorter than that, capped scores, layers that take no cache from outside.
    """
    body, head, prompt = policy.base_model, policy.get_output_embeddings(), [0, 1, 2]
    before = policy.config._attn_implementation
    with torch.inference_mode():
        held = Slots.for_policy(policy, 2, max(longest, 5), 2, (1.0, 1.0, ()))
        policy.set_attn_implementation("slots")
        try:
            held.admit(body, torch.arange(2), 2, [prompt], torch.tensor([2, 2]), torch.tensor([[0.3, 0], [0.7, 0]]))
            held.sample(head, 2)
            held.look_ahead(0, 1)
            held.forward(body, 2)
        finally:
            policy.set_attn_implementation(before)
            KEPT.pop(policy, None)
    tokens = torch.tensor([[*prompt, token] for token in held.state["tokens"][:, 0].tolist()], device=policy.device)
    expected = body(input_ids=tokens, use_cache=False).last_hidden_state[:, -1].float()
    error = (held.state["hidden"].float() - expected).norm() / expected.norm()
    if error > (1e-3 if policy.dtype == torch.float32 else 0.1):
        raise ValueError(f"the sampler's hidden states are {error:.0%} off those of a plain pass")
    return sum(x.numel() * x.element_size() for pair in held.cache.values() for x in pair) // (2 * held.columns)


def activation_bytes(policy) -> float:
    """The bytes that autograd keeps for the backward pass, per token: counted in a pass over 64 tokens."""
    tokens, kept = torch.zeros(1, 64, dtype=torch.long, device=policy.device), {}
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        policy.base_model(input_ids=tokens, use_cache=False)
    return sum(size for size, _ in kept.values()) / 64


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held, but not in use
        return torch.cuda.mem_get_info(device)[0] + reserved
    if Path("/proc/meminfo").exists():
        return 1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_plan(policy, settings, longest_prompt: int) -> dict[str, float]:
    """Bytes by part of a training run; the last two alternate, so that only the larger counts. Raises ValueError.

    settings: train.Settings (rollouts, tokens, kl and micro_tokens are read).
    """
    longest = longest_prompt + settings.max_new_tokens
    rows = settings.prompts_per_step * settings.rollouts_per_prompt
    token = check_sampler(policy, longest)
    V, H = policy.get_output_embeddings().weight.shape
    all_weights = sum(p.numel() * p.element_size() for p in policy.parameters())
    trained = trainable(policy)
    # Adam's two moments and the gradient, and a master for each weight that is not float32.
    each = [p.numel() * (12 if p.dtype == torch.float32 else 16) for p in trained]
    reference = sum(p.numel() * p.element_size() for p in trained) if settings.kl > 0 else 0
    at_once = max(settings.micro_tokens, longest)
    head = 3 * 4 * min(at_once * V, block_size(policy.device))
    return {
        "weights": all_weights,
        "gradients and optimiser": sum(each),
        "reference": reference,
        "keys and values": rows * (-(-longest // 64) * 64) * token,
        "training pass": at_once * activation_bytes(policy) + head + V * H * policy.dtype.itemsize,
        "sampling": 2 * 4 * rows * V,
    }


def peak(plan: dict[str, float]) -> float:
    """Bytes at the worst moment: sampling and training take turns."""
    return sum(plan.values()) - min(plan["training pass"], plan["sampling"])


def describe(plan: dict[str, float]) -> str:
    """The plan for a reader."""

    def show(size: float) -> str:
        return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"

    return f"about {show(peak(plan))} ({', '.join(f'{name} {show(size)}' for name, size in plan.items())})"
