"""pretraining.py: a small model reads freshly written documents, by next-token prediction. toy.py says which."""

import random
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import Qwen2Config, Qwen2ForCausalLM

# (random numbers, how many, how much of the training is over: 0 .. 1) -> (prompt, completion) of each document
Writer = Callable[[random.Random, int, float], list[tuple[str, str]]]


def pretrain(tokenizer, write: Writer, design: dict, seed: int, title: str) -> Qwen2ForCausalLM:
    """A new Qwen2 that has read `documents_per_step` documents in each of `steps` steps, in eval mode.

    design: sizes under the names of Qwen2Config; steps, documents_per_step; muon_lr (for the matrices of the layers)
    and adamw_lr (for the embedding and the norms). Weights and documents come from the seed; torch's own random stream
    stays where it was.
    """
    config = Qwen2Config(
        **{name: size for name, size in design.items() if name.startswith(("hidden", "intermediate", "num"))},
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = Qwen2ForCausalLM(config)
    # Muon for the matrices of the layers. On the chain world, after 500 steps, the loss is .36 nats a token; with AdamW
    # alone it is .43.
    matrices = [p for p in policy.model.layers.parameters() if p.ndim == 2]
    momenta = [torch.zeros_like(p) for p in matrices]
    others = [p for p in policy.parameters() if all(p is not m for m in matrices)]
    adamw = torch.optim.AdamW(others, weight_decay=0.0)
    rng, bar = random.Random(seed), tqdm(range(design["steps"]), desc=title, unit="step")
    for step in bar:
        rate = min(1, (step + 1) / 10) * (1 - step / design["steps"])  # ten steps of warm-up, linear decay to zero
        loss = 0.0  # summed over the tokens of the step
        for token_ids, labels in batches(tokenizer, write(rng, design["documents_per_step"], step / design["steps"])):
            logits = policy(input_ids=token_ids, use_cache=False).logits  # [n, S, V]; V is 26 or less here
            part = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)  # also makes the sum over tokens as good as a mean
        muon_step(matrices, momenta, rate * design["muon_lr"])
        adamw.param_groups[0]["lr"] = rate * design["adamw_lr"]
        adamw.step()
        policy.zero_grad()
        bar.set_postfix(loss=f"{loss / design['documents_per_step']:.2f}")
    return policy.eval()


@torch.no_grad()
def muon_step(matrices: list[torch.Tensor], momenta: list[torch.Tensor], lr: float, momentum: float = 0.95) -> None:
    """One step of Muon (Jordan et al., 2024), in float32: the update of a matrix is made nearly orthogonal.

    With M = U S V^T the momentum of the gradient, the update is about U V^T. The Newton-Schulz iteration raises all
    singular values to between 0.7 and 1.2 by matrix products alone. As torch.optim.Muon, which computes in bfloat16:
    on a processor without bfloat16 that takes most of the time of the training.
    """
    for weights, mean in zip(matrices, momenta, strict=True):
        mean.lerp_(weights.grad, 1 - momentum)
        update = weights.grad.lerp(mean, momentum)  # Nesterov
        rows, columns = update.shape
        x = update.T if rows > columns else update  # the smaller product
        x = x / x.norm().clamp_min(1e-7)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        weights.sub_(x.T if rows > columns else x, alpha=lr * max(1, rows / columns) ** 0.5)


def batches(tokenizer, documents: list[tuple[str, str]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Documents as three pairs of token_ids, labels [n, S], sorted by length: so little of them is padding.

    The end token is added. The labels leave the prompts out: they are pure chance, and nothing can be learned of them.
    """
    prompts, completions = zip(*documents, strict=True)
    completions = [text + tokenizer.eos_token for text in completions]
    pairs = zip(tokenizer(list(prompts))["input_ids"], tokenizer(completions)["input_ids"], strict=True)
    rows = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    third = len(rows) // 3
    for part in (rows[:third], rows[third : 2 * len(rows) // 3], rows[2 * len(rows) // 3 :]):
        token_ids = [torch.tensor(prompt + completion) for prompt, completion in part]
        labels = [torch.tensor([-100] * len(prompt) + completion) for prompt, completion in part]
        # 0 is <pad>; cross_entropy leaves positions with -100 out.
        yield pad_sequence(token_ids, batch_first=True), pad_sequence(labels, batch_first=True, padding_value=-100)
