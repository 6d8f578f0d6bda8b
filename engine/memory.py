"""memory.py: how much memory will a run need, and does the engine serve this model rightly?

Both are asked before the first step: running out of memory in the third hour costs more than asking, and so does
training on samples that are wrong. What can be measured is measured on the model itself: the bytes of a cached token,
and the bytes that autograd keeps for a token of a training pass.
"""

import bisect
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from engine import packing
from engine.head import block_size
from engine.masters import trainable
from engine.slots import PREFILL_TOKENS, Slots, TokenRule, attention_over_slots, can_record, release, rounded
from generate import choose
from running import processes
from running.files import BadInput

MARGIN = 0.9  # of the free memory, where rows are chosen by the plan


@torch.inference_mode()
def check_sampler(policy, longest: int) -> int:
    """Decode two tokens through the slots, compare with a plain pass; returns the bytes of a token's keys and values.

    longest: tokens of the longest row, prompt and completion. Raises ValueError where the slots cannot serve the model:
    windows shorter than that, capped scores, layers of other kinds, and on a GPU steps that cannot be recorded.
    """
    body, head, prompt = policy.base_model, policy.get_output_embeddings(), [0, 1, 2]
    held = Slots.for_policy(policy, 2, max(longest, 6), 3, TokenRule(1.0, 1.0, (), choose))
    try:
        with attention_over_slots(policy):
            uniform = torch.tensor([[0.3, 0.3, 0], [0.7, 0.7, 0]])
            held.admit(body, torch.arange(2), 2, [prompt], torch.tensor([3, 3]), uniform)
            held.look_ahead(2, 16)
            for _ in range(2):  # on a GPU the first is recorded, and the second comes from the recording
                if can_record(policy.device):
                    held.replay((2, held.view), lambda: (held.sample(head, 2), held.forward(body, 2)))
                else:
                    held.sample(head, 2)
                    held.forward(body, 2)
    except (RuntimeError, TypeError, AttributeError) as error:  # its layers want what the slots do not give
        raise ValueError(str(error).partition("\n")[0]) from error
    finally:
        release(policy)
    tokens = [[*prompt, *row] for row in held.state["tokens"][:, :2].tolist()]
    expected = (
        body(input_ids=torch.tensor(tokens, device=policy.device), use_cache=False).last_hidden_state[:, -1].float()
    )
    error = (held.state["hidden"].float() - expected).norm() / expected.norm()
    if not error <= (1e-3 if policy.dtype == torch.float32 else 0.1):
        raise ValueError(f"the sampler's hidden states are {error:.0%} off those of a plain pass")
    return sum(x.numel() * x.element_size() for pair in held.cache.values() for x in pair) // (2 * held.columns)


def activation_bytes(policy) -> float:
    """The bytes that autograd keeps for the backward pass, per token: counted in a pass over 80 tokens."""
    tokens, kept = torch.zeros(4, 33, dtype=torch.long, device=policy.device), {}
    # A prompt of 16 tokens, and behind it four completions of which 16 are read.
    mask = (torch.arange(33, device=policy.device) >= 16).long().expand(4, 33)
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), storage  # held, so that no address is used twice
        return tensor

    # Attention as a GPU computes it: a CPU, where rows are short, also keeps the scores.
    as_on_a_gpu = mock.patch.object(packing, "SHORT", 0)
    with as_on_a_gpu, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        packing.states_before(policy.base_model, tokens, mask)
    return sum(size for size, _ in kept.values()) / 80


def free_memory(device: torch.device) -> float:
    """Free bytes; on macOS all of the CPU's memory; on Windows, which is not asked, infinitely many."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held, but not in use
        return torch.cuda.mem_get_info(device)[0] + reserved
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if not hasattr(os, "sysconf"):
        return math.inf
    if not Path("/proc/meminfo").exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = 1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0])
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))  # of a container
    if limit.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free // processes.on_this_machine()


def sampling_bytes(policy, device, rows: int, longest: int, token: int, temperature: float) -> tuple[int, int]:
    """Bytes of the slots (token: what check_sampler returned), and of the logits of a step."""
    V, H = policy.get_output_embeddings().weight.shape
    logits = (2 if temperature == 1 else 4) * 4 * rows * V  # logits and probabilities, float32
    if policy.dtype != torch.float32 and device.type == "cpu":
        logits += 4 * V * H  # float32_product copies the head
    return rows * rounded(longest, device) * token, logits


def memory_plan(
    policy,
    longest_prompt: int,
    *,
    prompts_per_step: int,
    rollouts_per_prompt: int,
    max_new_tokens: int,
    temperature: float,
    micro_tokens: int,
    reference: bool,
    gradient_checkpointing: bool,
    reward_model=None,
    critic=None,
    rows: int | None = None,
    device: torch.device | None = None,
    measured: tuple[int, float] | None = None,
) -> dict[str, float]:
    """Bytes by part of a training run, on another device if one is given. Raises ValueError for an unfit model.

    reference: whether a frozen copy of the starting model is kept. reward_model, critic: models beside it, or None.
    measured: what check_sampler and activation_bytes return, if that is known. All else as train.py's flags of the same
    name.
    """
    device, longest = device or policy.device, longest_prompt + max_new_tokens
    rows = min(rows or math.inf, len(processes.own(prompts_per_step * rollouts_per_prompt)))
    token, activations = measured or (check_sampler(policy, longest), activation_bytes(policy))
    V, H = policy.get_output_embeddings().weight.shape
    slots, logits = sampling_bytes(policy, device, rows, longest, token, temperature)
    trained = trainable(policy)
    at_once, layers = max(micro_tokens, longest), policy.config.num_hidden_layers
    layer = activations / layers
    if gradient_checkpointing:  # the input of every layer, and all of the one that is computed again
        activations = layers * H * policy.dtype.itemsize + layer
    head = 3 * 4 * min(at_once * V, block_size(device))
    if policy.get_output_embeddings().weight.requires_grad:  # its gradient; with tied embeddings theirs, and the sum
        head += (3 if policy.config.tie_word_embeddings else 1) * V * H * policy.dtype.itemsize
    prompts = min(prompts_per_step, rows // rollouts_per_prompt + 2)  # of the rows, the first and last group cut
    prefill = min(PREFILL_TOKENS, prompts * longest_prompt) * layer
    plan = {
        "weights": bytes_of(policy),
        # Adam's two moments and the gradient, and a master for each weight that is not float32.
        "gradients and optimiser": sum(p.numel() * (12 if p.dtype == torch.float32 else 16) for p in trained),
        "reference": sum(p.numel() * p.element_size() for p in trained) if reference else 0,
        "keys and values": slots,
        "training pass": at_once * activations + head,
        "sampling": logits + prefill,
    }
    if reward_model is not None:
        plan["reward model"] = bytes_of(reward_model)
    if critic is not None:  # as the policy's, but for the head; its passes come behind the policy's
        plan["critic"] = sum(
            p.numel() * (p.element_size() + (12 if p.dtype == torch.float32 else 16)) for p in critic.parameters()
        )
    return plan


def bytes_of(model) -> int:
    """The bytes of a model's weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def check_memory(policy, name: str, longest_prompt: int, *, rows: int | None = None, **run) -> int | None:
    """Print what memory a run will need, part by part. name: the model's; run: as memory_plan takes it.

    Returns `rows`, or how many fit where None was given and all would not. Raises BadInput where the run needs more
    than there is, or for a model that the engine cannot serve.
    """
    all_rows = run["prompts_per_step"] * run["rollouts_per_prompt"]
    try:
        measured = check_sampler(policy, longest_prompt + run["max_new_tokens"]), activation_bytes(policy)
    except ValueError as error:
        raise BadInput(f"--model {name}: cannot be trained here: {error}") from None
    plan_of = partial(memory_plan, policy, longest_prompt, measured=measured, **run)
    plan = plan_of(rows=rows)
    there = sum(plan.get(part, 0) for part in ("weights", "reward model"))  # loaded already
    there += bytes_of(run["critic"]) if run.get("critic") else 0
    room = free_memory(policy.device) + there
    if rows is None and sum(plan.values()) > room and (rows := rows_that_fit(plan_of, all_rows, room)):
        plan = plan_of(rows=rows)
        print(f"All {all_rows:,} rows at once would not fit: sampled {rows:,} at a time (--rows {rows})")
    print(f"Memory: {as_text(plan)}")
    if sum(plan.values()) > room:
        raise BadInput(
            f"this needs more memory than the {room / 1e9:.1f} GB that are free: lower {'--rows, ' if rows else ''}"
            "--micro-tokens, --prompts-per-step or --max-new-tokens, or give --gradient-checkpointing or --lora 32"
        )
    return rows


def rows_that_fit(plan_of: Callable, most: int, room: float) -> int | None:
    """The most rows, up to `most`, whose plan fits nine tenths of the room; None if not even one does.

    A tenth stays free: the plan is a forecast, and would otherwise be filled to its last byte. plan_of: rows -> plan.
    """
    fit = bisect.bisect_right(range(1, most + 1), MARGIN * room, key=lambda rows: sum(plan_of(rows=rows).values()))
    return fit or None


def as_text(plan: dict[str, float]) -> str:
    """The plan for a reader."""

    def show(size: float) -> str:
        return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"

    return f"about {show(sum(plan.values()))} ({', '.join(f'{name} {show(size)}' for name, size in plan.items())})"
