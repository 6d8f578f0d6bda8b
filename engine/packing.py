"""packing.py: a training pass that reads each token once.

A plain pass over n padded rows, body(input_ids=token_ids), reads a prompt again for each of its G rollouts, and the
padding for nothing. Here all tokens that have to be read stand behind each other in one row of T tokens:

    row 0   p p p a a a .             packed   p p p a a b b b b b q q c c c
    row 1   p p p b b b b b b         (of each completion all but the last token, which predicts nothing)
    row 2   q q c c c c . . .

Linear layers and norms do not see who belongs to whom. Only attention does: `packed_attention` takes the rows apart
again, each with its prompt in front, and puts what it has mixed back in its place.

For 96 rollouts of SmolLM2, 18 tokens of prompt and 27 of completion each, T is 56 % of what padded rows would read.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from running import processes

SHORT = 128  # columns up to which, on a CPU, attention holds its scores


class Packing(NamedTuple):
    """Where the tokens of n rows stand in one row of T."""

    token_ids: torch.Tensor  # [1, T]
    positions: torch.Tensor  # [1, T]  in their own row
    before: torch.Tensor  # [tokens]  the place in T of what predicts each completion token, row by row
    buckets: list[torch.Tensor]  # [r, S] each: the places in T of r rows of like length; padding points anywhere
    back: torch.Tensor  # [T]  the place of each token in the buckets, one behind another


def opens(token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Whether each row has another prompt than the row above it: [n], bool. token_ids, mask: [n, S]."""
    columns = torch.arange(mask.shape[1], device=mask.device)
    prompts = token_ids.where(columns < mask.argmax(dim=1, keepdim=True), -1)
    return torch.cat([mask.new_ones(1), (prompts[1:] != prompts[:-1]).any(dim=1)]).bool()


def pack(token_ids: torch.Tensor, mask: torch.Tensor) -> Packing:
    """Pack rows as in generate.Rollouts, [n, S] each. Rows of one prompt, one below the other, share it."""
    n, S = mask.shape
    column = torch.arange(S, device=mask.device)
    start, count = mask.argmax(dim=1, keepdim=True), mask.sum(dim=1, keepdim=True)  # [n, 1]: prompt, completion
    first = opens(token_ids, mask)[:, None]  # [n, 1]
    first_row = first.nonzero()[:, :1][first.cumsum(0)[:, 0] - 1]  # [n, 1]: the row whose prompt this one shares
    # Of the completion all but the last token are read, and of the prompt all, once: [n, S].
    read = (column < start + count - 1) & (first | (column >= start))
    place = (read.flatten().cumsum(0) - 1).view(n, S)  # in T, where it is read
    place = place.where(column >= start, place[first_row, column]).clamp_min(0)

    buckets, back, passed = [], torch.zeros(int(read.sum()), dtype=torch.long, device=mask.device), 0
    length = (start + count - 1).clamp_min(1)[:, 0]  # [n]
    sizes = torch.log2(length.clamp_min(8).float()).ceil()  # up to 8, 16, 32 ... tokens: at most half is padding
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]  # [r]
        width = int(length[rows].max())
        places, real = place[rows, :width], read[rows, :width]
        back[places[real]] = passed + real.flatten().nonzero()[:, 0]
        buckets.append(places)
        passed += places.numel()
    predicts = (column >= start - 1) & (column < start + count - 1)  # [n, S]
    return Packing(token_ids[read][None], column.expand(n, S)[read][None], place[predicts], buckets, back)


def states_before(body, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The hidden state that predicts each completion token, row by row: [tokens, H].

    token_ids, mask: [n, S], right-padded, as in generate.Rollouts. body: a model without its head. Differentiable. The
    same numbers as body(input_ids=token_ids).last_hidden_state[:, :-1][mask[:, 1:].bool()], up to rounding.
    """
    if not mask.any():
        return torch.zeros(0, body.config.get_text_config().hidden_size, dtype=body.dtype, device=mask.device)
    packing = pack(token_ids, mask)
    with attention(body, "packed"):
        hidden = body(
            input_ids=packing.token_ids, position_ids=packing.positions, use_cache=False, packing=packing
        ).last_hidden_state[0]  # [T, H]
    return hidden[packing.before]


@torch.compiler.disable  # with --compile: the number of buckets changes from pass to pass, and each would be compiled
def packed_attention(module, query, key, value, attention_mask, scaling=None, packing=None, **kwargs):
    """Attention of a packed row: query [1, heads, T, D], key and value [1, kv_heads, T, D] -> [1, T, heads, D].

    Here the rows come apart again, each with its prompt in front, so that it is causal attention as ever.
    """
    if packing is None:  # a plain pass, computed again for its gradient (--gradient-checkpointing)
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    check_kind(kwargs, max(places.shape[1] for places in packing.buckets))
    flat, parts = [x[0].transpose(0, 1).flatten(1) for x in (query, key, value)], []  # [T, heads * D] each
    for places in packing.buckets:
        # An embedding is a choice of rows whose gradient is summed fast, and in the same order each time.
        q, k, v = (
            F.embedding(places, x).unflatten(2, (-1, query.shape[3])).transpose(1, 2) for x in flat
        )  # [r, heads, S, D] each
        parts.append(causal_attention(q, k, v, scaling).transpose(1, 2).flatten(2).flatten(0, 1))  # [r * S, heads * D]
    mixed = torch.cat(parts).gather(0, packing.back[:, None].expand(-1, parts[0].shape[1]))  # [T, heads * D]
    return mixed.view(1, -1, *query.shape[1::2]), None


def causal_attention(query, key, value, scaling):
    """Causal attention of query [r, heads, S, D] over key and value [r, kv_heads, S, D]."""
    S = query.shape[2]
    if query.is_cpu and S <= SHORT:
        hide = torch.full((S, S), -torch.inf, dtype=query.dtype).triu(1)
        return plain_attention(query, key, value, hide, scaling)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)


def plain_attention(query, keys, values, hide, scaling):
    """softmax(q k / sqrt(D) + hide) v of query [n, heads, C, D] over keys and values [n, kv_heads, L, D].

    hide: added to the scores, [n, 1, C, L] or less. It holds all scores.

    On a CPU, where rows are short: for one token of 256 rows (decoding) it takes a quarter of the time of
    scaled_dot_product_attention, for a training pass in bfloat16 two thirds, in float32 the same.
    """
    n, heads, C, D = query.shape
    kv_heads, L = keys.shape[1:3]
    # The query heads that share a key-value head become the rows of one matrix, and nothing is copied for each of them.
    query = (query * (D**-0.5 if scaling is None else scaling)).reshape(n, kv_heads, -1, D)
    scores = (query @ keys.transpose(2, 3)).view(n, heads, C, L) + hide
    return (scores.softmax(-1).view(n, kv_heads, -1, L) @ values).view(n, heads, C, D)


def check_kind(kwargs: dict, longest: int) -> None:
    """Raise ValueError for attention that our own does not compute. kwargs: what a layer passes; longest: columns."""
    window = kwargs.get("sliding_window")
    if any(kwargs.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
        raise ValueError("its attention scores are capped, biased or have sinks")
    if window is not None and window < longest:
        raise ValueError(f"its attention sees {window} tokens, and prompt and completion have up to {longest}")


AttentionInterface.register("packed", packed_attention)


@contextmanager
def attention(model, name: str):
    """Let the model's layers call the attention registered under `name`, and put it back as it was.

    Raises ValueError if they cannot.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        if model.config._attn_implementation != name:  # transformers has only warned
            raise ValueError("its attention cannot be replaced")
        yield
    finally:
        if model.config._attn_implementation == name:
            model.set_attn_implementation(before)


def row_batches(rollouts, micro_tokens: int, rows: torch.Tensor | None = None) -> list[tuple[torch.Tensor, int]]:
    """(numbers of rows, their width) of each micro-batch of generate.Rollouts. rows: the ones wanted; default all.

    Rows of one prompt stay together, and the batches have about as many tokens each: at most micro_tokens, or a single
    row. With torchrun only this process's: what is computed from them is added up over the processes.
    """
    rows = torch.arange(len(rollouts.mask), device=rollouts.mask.device) if rows is None else rows
    if len(rows) == 0:
        return []
    mask, lengths = rollouts.mask[rows], rollouts.prompt_lengths[rows]
    alone = lengths + mask.sum(dim=1) - 1  # [n]: the tokens of a row that shares its prompt with none above
    tokens = torch.where(opens(rollouts.token_ids[rows], mask), alone, alone - lengths).tolist()
    found = packed_batches(tokens, alone.tolist(), micro_tokens, processes.size())
    mine = [rows[part] for part in found[processes.rank() :: processes.size()]]
    width = rollouts.prompt_lengths + rollouts.mask.sum(dim=1)  # [N]
    return [(part, int(width[part].max())) for part in mine]


def packed_batches(tokens: list[int], alone: list[int], budget: int, processes: int = 1) -> list[list[int]]:
    """Rows in the fewest batches of about as many tokens each, at most `budget`, or a single row.

    tokens: of each row, behind the one above it; alone: where it is the first of a batch, and has to bring its prompt.
    The number of batches is a multiple of `processes`, if there are as many rows.
    """
    number, total = processes * max(1, -(-sum(tokens) // (budget * processes))), sum(tokens)
    while True:
        batches, passed = [[] for _ in range(number)], 0
        for row, count in enumerate(tokens):
            batches[min(number - 1, int((passed + count / 2) * number / total))].append(row)
            passed += count
        batches = [batch for batch in batches if batch]
        if all(len(batch) == 1 or alone[batch[0]] + sum(tokens[i] for i in batch[1:]) <= budget for batch in batches):
            return batches
        number += processes
