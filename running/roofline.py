"""roofline.py: how far are decoding and training from what this machine could do at best?"""

import torch

from engine.masters import adamw
from generate import generate, stream
from grpo import update
from running.timing import seconds


def machine_limits(device: str, dtype: torch.dtype, repeats: int = 10) -> dict[str, float]:
    """What this machine reaches in its best case: matrix products (FLOP/s) and copies (bytes/s read and written)."""
    size = 8192 if device != "cpu" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(2**30 if device != "cpu" else 2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = min(seconds(lambda: torch.mm(a, b), device) for _ in range(repeats))
    copy = min(seconds(lambda: target.copy_(source), device) for _ in range(repeats))
    return {"flops": 2 * size**3 / product, "bandwidth": 2 * len(source) / copy}


def seconds_at_the_limits(
    policy, limits: dict[str, float], B: int, group: int, prompt: float, T: int
) -> tuple[float, float]:
    """(decoding, training): N = B * group rows, prompts of that mean length, T tokens each, at machine_limits.

    A decoding step of n rows with c tokens of context reads the weights W once, or multiplies them at full speed,
    whichever takes longer, and reads all keys and values once:

        max(bytes(W) / bandwidth, 2 n |W| / flops) + n c bytes(kv) / bandwidth

    Training: 6 operations per weight and token, the head's for completion tokens only, plus attention's. A prompt is
    read once, and of a completion all tokens but the last.
    """
    N = B * group
    config, head = policy.config, policy.get_output_embeddings().weight.numel()
    total = sum(p.numel() for p in policy.parameters())
    body = total - policy.get_input_embeddings().weight.numel() - (0 if config.tie_word_embeddings else head)
    kv_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    head_dim = config.hidden_size // config.num_attention_heads
    kv = 2 * config.num_hidden_layers * kv_heads * head_dim * policy.dtype.itemsize  # bytes of a token
    weights = max((body + head) * policy.dtype.itemsize / limits["bandwidth"], 2 * N * (body + head) / limits["flops"])
    decoding = (T - 1) * (weights + N * (prompt + T / 2) * kv / limits["bandwidth"])
    operations = 6 * (body * (B * prompt + N * (T - 1)) + head * N * T)
    pairs = B * prompt**2 / 2 + N * (T - 1) * (prompt + (T - 1) / 2)  # a token and one that it looks at
    operations += 3 * 4 * config.num_hidden_layers * config.hidden_size * pairs
    return decoding, operations / limits["flops"]


def shares_of_the_limits(policy, prompts: list, group: int, T: int, micro_tokens: int, device: str) -> dict:
    """Decoding and the training pass as shares of the machine's limits; each of a prompt's rows has T tokens."""
    limits, N = machine_limits(device, policy.dtype), len(prompts) * group
    rollouts = generate(policy, prompts, group, T, generator=stream(0))  # also the warm-up
    decoding = seconds(lambda: generate(policy, prompts, group, T, generator=stream(0)), device)
    prefilling = min(
        seconds(lambda: generate(policy, prompts, group, 1, generator=stream(0)), device) for _ in range(2)
    )
    decode_seconds = decoding - prefilling
    prompt = rollouts.prompt_lengths.float().mean().item()
    fastest_decoding, fastest_training = seconds_at_the_limits(policy, limits, len(prompts), group, prompt, T)
    optimizer, advantages = adamw(policy, lr=0.0), torch.ones(len(prompts), group)

    def train() -> None:
        update(policy, None, optimizer, rollouts, advantages, micro_tokens=micro_tokens)

    train()
    train_seconds = min(seconds(train, device) for _ in range(2))
    return {
        "rows": N,
        "machine": limits,
        "decode_seconds": decode_seconds,
        "decode_tokens_per_second": N * (T - 1) / decode_seconds,
        "decode_of_roofline": fastest_decoding / decode_seconds,
        "train_seconds": train_seconds,
        "train_of_peak": fastest_training / train_seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.startswith("cuda") else None,
    }
