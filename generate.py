"""generate.py: how are completions sampled?

`generate` continues B prompts G times each with an unmodified `AutoModelForCausalLM`, and returns `Rollouts`. Read
`choose` first: one row of logits becomes one token. Then `generate_plain`, the decoding loop that anybody would write:
it reads every row from its start for every token. `generate` gives the same samples in a fraction of the time: it calls
the same `choose`, and engine/slots.py remembers what was read (continuous batching over a static cache). Tests compare
the two token by token.

The sampler knows temperature and top-p and nothing else. `model.generate` would quietly add what the model's
generation_config says (top_k = 50 when it says nothing), and its samples would not come from the policy in training.

What is captured on the way: `logps`, log-probabilities at the sampling temperature, of the whole distribution (top-p
only chooses among tokens), so that grpo.token_logps gives the same numbers for the same tokens; and `self_certainty`,
KL(U || p) at temperature 1, as in Intuitor (2505.19590, eq. 4): how sure the model is, however it was sampled.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from engine.sampling import inverse_cdf_in_blocks, logits_of, nucleus
from engine.slots import TokenRule, decode, gathered, put_together
from rewards import self_certainty
from running import processes


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


# --- one token ------------------------------------------------------------------------------------------------------


def inverse_cdf(probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first token of each row whose cumulative probability exceeds a random number: [R, V], [R] -> [R].

    A uniform number falls into token j's part of the unit interval with probability p_j.
    """
    if probs.shape[-1] > 4096:
        return inverse_cdf_in_blocks(probs, uniform)  # the same, faster where the vocabulary is large
    cumulative = probs.cumsum(-1)  # [R, V]
    total = cumulative[:, -1:]  # 1, but for rounding
    # Strictly below the total, so never a token of probability 0, even where rounding is at its worst.
    target = torch.minimum(uniform[:, None].to(probs.dtype) * total, total * (1 - 2**-23))
    return torch.searchsorted(cumulative, target, right=True)[:, 0]


def choose(logits: torch.Tensor, temperature: float, top_p: float, uniform: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The next token of each row, its log-probability, and its distribution's entropy and self-certainty: four [R].

    logits: [R, V]. uniform: [R], in [0, 1), one random number a token, drawn by the caller, so that a row's sample does
    not depend on the rows beside it. Temperature 0 takes the most likely token, and reports on temperature 1.
    """
    scaled = logits if temperature in (0, 1) else logits / temperature
    probs = scaled.softmax(-1)  # [R, V]; at temperature 1 the only new tensor of this size
    # The largest probability is exp(largest logit - logsumexp). So the logsumexp costs no exponentials of its own.
    logsumexp = scaled.amax(-1) - probs.amax(-1).log()  # [R]
    entropy = logsumexp - torch.bmm(probs[:, None], scaled[:, :, None])[:, 0, 0]  # -sum_j p_j log p_j
    certainty = self_certainty(logits, logsumexp if scaled is logits else None)  # Intuitor eq. 4
    if temperature == 0:
        token = logits.argmax(-1)
    elif top_p < 1:
        top, tokens = nucleus(probs, top_p)  # the fewest likeliest tokens with probability top_p: [R, k] each
        token = tokens.gather(-1, inverse_cdf(top, uniform)[:, None])[:, 0]
    else:
        token = inverse_cdf(probs, uniform)
    return token, scaled.gather(-1, token[:, None])[:, 0] - logsumexp, entropy, certainty


# --- whole completions ----------------------------------------------------------------------------------------------


@torch.no_grad()
def generate_plain(
    policy,
    prompts: list,
    rollouts_per_prompt: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    eos_ids: tuple[int, ...] | list[int] = (),
    generator: torch.Generator | None = None,
) -> Rollouts:
    """What `generate` does, by the plain decoding loop: no cache, no slots, and the same samples token by token.

    Nobody needs to call it: it is here to be read, and it is what tests hold the engine against. CPU only.
    """
    G, T, head = rollouts_per_prompt, max_new_tokens, policy.get_output_embeddings()
    rows = [torch.as_tensor(prompt) for prompt in prompts for _ in range(G)]  # rows of one prompt are adjacent
    N, every_row = len(rows), torch.arange(len(rows))
    lengths = torch.tensor([len(row) for row in rows])  # [N]
    token_ids = torch.zeros(N, int(lengths.max()) + T, dtype=torch.long)  # [N, S], right-padded
    for n, row in enumerate(rows):
        token_ids[n, : len(row)] = row
    mask = torch.zeros_like(token_ids)
    logps, entropy, certainty = (torch.zeros(token_ids.shape) for _ in range(3))  # [N, S] each
    uniform = torch.rand(N, T, generator=generator)  # a row's random numbers are its own
    live = torch.ones(N, dtype=torch.bool)
    for t in range(T):
        at = lengths + t  # [N]: the column that this step fills
        # Right padding needs no attention mask, because no token sees what stands to its right.
        hidden = policy.base_model(input_ids=token_ids, use_cache=False).last_hidden_state  # [N, S, H]
        logits = logits_of(head, hidden[every_row, at - 1])  # [N, V]: what stands before a token predicts it
        token, *values = choose(logits, temperature, top_p, uniform[:, t])
        # A row that has ended is still computed, but nothing of it is kept.
        here = every_row[live], at[live]
        token_ids[here], mask[here] = token[live], 1
        for target, value in zip((logps, entropy, certainty), values, strict=True):
            target[here] = value[live]
        live = live & ~torch.isin(token, torch.tensor(eos_ids, dtype=torch.long))  # the end token itself is kept
        if not live.any():
            break
    longest = int((lengths + mask.sum(1)).max())
    token_ids, mask, logps, certainty, entropy = (x[:, :longest] for x in (token_ids, mask, logps, certainty, entropy))
    return Rollouts(token_ids, mask, lengths, logps, certainty, entropy, truncated=live)


def generate(
    policy,
    prompts: list,
    rollouts_per_prompt: int,
    max_new_tokens: int | list[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    eos_ids: tuple[int, ...] | list[int] = (),
    generator: torch.Generator | None = None,
    slots: int | None = None,
) -> Rollouts:
    """Sample `rollouts_per_prompt` completions of each prompt, at most `slots` rows at a time (None: all).

    prompts: B lists (or 1-D LongTensors) of token ids, unpadded, none empty. max_new_tokens: one number, or one for
    each of the N rows. eos_ids: any of them ends a completion. generator: a CPU generator (the same stream on every
    device); None takes torch's global one. Raises ValueError, also for a model that the engine cannot serve.
    """
    part = processes.own(len(prompts) * rollouts_per_prompt)  # all rows; with torchrun a share of them
    sampling = max_new_tokens, temperature, top_p, eos_ids, generator, slots, part
    rows = list(generate_rows(policy, prompts, rollouts_per_prompt, *sampling))
    return Rollouts(**put_together(gathered(rows, policy.device), prompts, rollouts_per_prompt))


def generate_rows(
    policy,
    prompts: list,
    rollouts_per_prompt: int,
    max_new_tokens: int | list[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    eos_ids: tuple[int, ...] | list[int] = (),
    generator: torch.Generator | Callable | None = None,
    slots: int | None = None,
    part: range | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """Sample as `generate` does, at most `slots` rows at a time, and yield rows as they end.

    Yields dicts of k ended rows: owner [k] (row numbers), prompt_length [k], count [k], truncated [k], tokens
    [k, T + 1] and values [k, 3, T + 1] (log-probability, entropy, self-certainty), valid in the first `count` columns.
    generator: as in `generate`, or a function that gives rows random numbers of their own, (row numbers, T) ->
    [rows, T] in [0, 1). part: the rows to sample, default all. The samples do not depend on `slots` and `part`, up to
    rounding. Until it has ended, the policy's attention belongs to the engine, and the policy cannot be used for
    anything else.
    """
    rule = TokenRule(temperature, top_p, tuple(eos_ids), choose)
    return decode(policy, prompts, rollouts_per_prompt, max_new_tokens, rule, generator, slots, part)
