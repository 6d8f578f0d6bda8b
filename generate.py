"""generate.py: how are thousands of completions sampled fast?

`generate` continues B prompts G times each, all N = B*G rows at once, with any unmodified `AutoModelForCausalLM`:

1. Each prompt is prefilled once, right-padded and without an attention mask (causality hides the padding from what
   stands before it), and its keys and values are then repeated for its G rollouts.
2. Every decoding step computes one row of logits per rollout and takes from it the next token, its log-probability, its
   self-certainty and its entropy: no second pass, and no tensor with a vocabulary axis outlives its step.
3. Rows that have ended are dropped from the cache as soon as they are half of it.

The sampler knows temperature and top-p and nothing else. `model.generate` would quietly add what the model's
generation_config says (top_k = 50 when it says nothing), and its samples would not come from the policy in training.

What is captured: `logps` are log-probabilities at the sampling temperature, of the whole distribution (top-p only
chooses among tokens), so that grpo.token_logps gives the same numbers for the same tokens. `self_certainty` is
KL(U || p) at temperature 1, as in Intuitor (2505.19590, eq. 4): how sure the model is, however it was sampled.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from transformers import DynamicCache


@dataclass
class Rollouts:
    """N = B*G sampled sequences; row b*G + g is rollout g of prompt b. Per-token values are 0 off the mask."""

    token_ids: torch.Tensor  # [N, S]  prompt, right behind it the completion, then padding
    mask: torch.Tensor  # [N, S]  1 on the completion, up to and including its first end token
    prompt_lengths: torch.Tensor  # [N]
    logps: torch.Tensor  # [N, S]  log-probability at the sampling temperature, nats
    self_certainty: torch.Tensor  # [N, S]  KL(U || p) at temperature 1, nats
    entropy: torch.Tensor  # [N, S]  of the sampling distribution before top-p, nats
    truncated: torch.Tensor  # [N]  True where max_new_tokens came before an end token

    def completions(self) -> list[list[int]]:
        """The token ids of each row's completion, its end token included."""
        return [row[keep].tolist() for row, keep in zip(self.token_ids, self.mask.bool(), strict=True)]


def stream(*key) -> torch.Generator:
    """A generator of its own for each key, such as (seed, "rollouts", step): what is drawn depends on the key alone.

    Seeds that are counted up, or used for two purposes, would give streams that overlap.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def choose(logits: torch.Tensor, temperature: float, top_p: float, uniform: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The next token of each row, its log-probability, and its distribution's entropy and self-certainty: four [R].

    logits: [R, V]. uniform: [R], in [0, 1). Inverse-CDF sampling: row r takes the first token whose cumulative
    probability exceeds uniform[r]. One random number a token, drawn by the caller, so that a row's sample does not
    depend on the rows beside it. Temperature 0 takes the most likely token.
    """
    raw_logps = logits.log_softmax(-1)  # [R, V]
    logps = raw_logps if temperature in (0, 1) else (logits / temperature).log_softmax(-1)
    probs = logps.exp()
    entropy = -(probs * logps).sum(-1)
    # KL(U || p) = 1/V sum_j log((1/V) / p_j) = -mean_j log p_j - log V
    self_certainty = -raw_logps.mean(-1) - math.log(logits.shape[-1])
    if temperature == 0:
        token = logits.argmax(-1, keepdim=True)  # [R, 1]
    else:
        order = None
        if top_p < 1:  # the fewest most likely tokens whose probability reaches top_p (always at least one)
            probs, order = probs.sort(dim=-1, descending=True)
            probs = probs * (probs.cumsum(-1) - probs < top_p)
        cumulative = probs.cumsum(-1)
        # right=True takes the first entry strictly above, which is never a token of probability zero.
        token = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
        token = token if order is None else order.gather(-1, token)
    return token[:, 0], logps.gather(-1, token)[:, 0], entropy, self_certainty


def logits_of(head, hidden: torch.Tensor) -> torch.Tensor:
    """Float32 logits, [R, H] -> [R, V], also where the rest of the model computes in bfloat16.

    Logits around 20 rounded to bfloat16 are off by up to 0.06, and the probability of a token by as many percent.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        return head(hidden.to(head.weight.dtype)).float()


def prefill(policy, padded: torch.Tensor, lengths: torch.Tensor, copies: int) -> tuple[torch.Tensor, DynamicCache]:
    """Run B right-padded prompts once; the last hidden state and the cache of each, `copies` times: [B * copies, H]."""
    cache = DynamicCache(config=policy.config)
    output = policy.base_model(input_ids=padded, past_key_values=cache, use_cache=True)
    hidden = output.last_hidden_state[torch.arange(len(padded), device=padded.device), lengths - 1]  # [B, H]
    cache.batch_repeat_interleave(copies)
    return hidden.repeat_interleave(copies, dim=0), cache


@torch.no_grad()
def generate(
    policy,
    prompts: list,
    rollouts_per_prompt: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    eos_ids: tuple[int, ...] | list[int] = (),
    generator: torch.Generator | None = None,
) -> Rollouts:
    """Sample `rollouts_per_prompt` completions of each prompt.

    prompts: B lists (or 1-D LongTensors) of token ids, unpadded, none empty. eos_ids: any of them ends a completion.
    generator: a CPU generator (the same stream on every device); None takes torch's global one. Raises ValueError.
    """
    if not prompts or min(len(p) for p in prompts) == 0:
        raise ValueError("generate needs at least one prompt, and no empty one")
    if rollouts_per_prompt < 1 or max_new_tokens < 1:
        raise ValueError("generate needs rollouts_per_prompt >= 1 and max_new_tokens >= 1")
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError("generate needs temperature >= 0 and 0 < top_p <= 1")
    device, head = policy.device, policy.get_output_embeddings()
    lengths = torch.tensor([len(p) for p in prompts], device=device)  # [B]
    width = int(lengths.max())
    padded = torch.zeros(len(prompts), width, dtype=torch.long, device=device)  # [B, width]
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = torch.as_tensor(prompt, device=device)
    hidden, cache = prefill(
        policy, padded, lengths, rollouts_per_prompt
    )  # the state that predicts the first token: [N, H]
    padded, lengths = (x.repeat_interleave(rollouts_per_prompt, dim=0) for x in (padded, lengths))

    N, S = len(lengths), width + max_new_tokens
    token_ids = torch.zeros(N, S, dtype=torch.long, device=device)  # [N, S]
    token_ids[:, :width] = padded
    mask = torch.zeros_like(token_ids)
    logps, entropy, self_certainty = (torch.zeros(N, S, device=device) for _ in range(3))  # [N, S] each
    ended = torch.zeros(N, dtype=torch.bool, device=device)
    ends = torch.tensor(list(eos_ids), dtype=torch.long, device=device)
    uniform = torch.rand(max_new_tokens, N, generator=generator).to(device)
    rows = torch.arange(N, device=device)  # [R] the rows still in the cache; at first all N
    # visible[r, j]: may row r look at column j of the cache? Never at those between a short prompt and `width`.
    visible = (torch.arange(S, device=device) < lengths[:, None]).long()  # [R, S]
    for t in range(max_new_tokens):
        token, *values = choose(logits_of(head, hidden), temperature, top_p, uniform[t, rows])
        live = ~ended[rows]  # ended rows are computed until they are dropped, but no longer written
        at = (rows[live], lengths[rows[live]] + t)
        token_ids[at], mask[at] = token[live], 1
        for kept, value in zip((logps, entropy, self_certainty), values, strict=True):
            kept[at] = value[live]
        ended[rows] |= torch.isin(token, ends)
        remaining = torch.nonzero(~ended[rows])[:, 0]
        if len(remaining) == 0 or t == max_new_tokens - 1:
            break
        if len(remaining) <= len(rows) // 2:  # drop ended rows
            rows, visible, token = rows[remaining], visible[remaining], token[remaining]
            cache.batch_select_indices(remaining)
        # The token goes into column width + t of the cache, but its position in the text of its row is lengths + t.
        visible[:, width + t] = 1
        output = policy.base_model(
            input_ids=token[:, None],
            position_ids=(lengths[rows] + t)[:, None],
            attention_mask=visible[:, : width + t + 1],
            past_key_values=cache,
            use_cache=True,
        )
        hidden = output.last_hidden_state[:, 0]  # [R, H]

    longest = int((lengths + mask.sum(dim=1)).max())
    tensors = (x[:, :longest].contiguous() for x in (token_ids, mask, logps, self_certainty, entropy))
    token_ids, mask, logps, self_certainty, entropy = tensors
    return Rollouts(token_ids, mask, lengths, logps, self_certainty, entropy, truncated=~ended)
