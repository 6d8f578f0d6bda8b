"""slots.py: the decoding loop of generate.generate_plain, as fast as the machine allows.

The N = B*G rows go through R slots, where the keys and values of what has been read and written are kept (continuous
batching over a static cache):

1. A prompt is prefilled once for all of its rollouts that are admitted together, right-padded and without an attention
   mask (causality hides the padding from what stands before it). `model.generate` prefills it G times.
2. Every slot has a length of its own, so no row waits for another: a slot that ends takes the next waiting row, and
   when none waits, the last live slot moves into the gap. Live slots stay in front, and nothing else is computed.
3. A decoding step computes one row of logits per live slot and hands it to generate.choose: no second pass, and no
   tensor with a vocabulary axis outlives its step.
4. On CUDA a whole step, model and sampling, is one recorded graph: launching some thousand small kernels from Python
   takes longer than running them. The CPU runs the same functions as they are.
"""

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from engine.packing import attention, check_kind, plain_attention
from engine.sampling import logits_of
from running import processes

STEPS_PER_CHECK = 16  # on CUDA: steps between two looks at who has ended, each of which stops the GPU
PREFILL_TOKENS = 16_384  # most prompt tokens in one pass, with padding: it bounds the memory of a prefill
_kept = weakref.WeakKeyDictionary()  # policy -> its Slots, as long as the policy lives


class TokenRule(NamedTuple):
    """How the next token is chosen, and what ends a row."""

    temperature: float
    top_p: float
    eos_ids: tuple[int, ...]
    choose: Callable  # generate.choose


def release(policy) -> None:
    """Free the slots that are kept for a policy."""
    _kept.pop(policy, None)


class Slots:
    """R rows in the making: their keys and values, and what has been sampled. Slots 0 .. live - 1 are live."""

    def __init__(self, weight: torch.Tensor, rows: int, columns: int, max_new_tokens: int, sampling: TokenRule):
        """weight: the head's, [V, H]. columns: the most tokens of a row."""
        self.columns, self.longest, self.live, self.view = columns, columns, 0, 0
        self.sampling = sampling
        self.made_for = rows, max_new_tokens, sampling, weight.dtype, weight.data_ptr()
        self.ends = torch.tensor(sampling.eos_ids, dtype=torch.long, device=weight.device)
        self.cache = {}  # layer -> (keys, values), [R, kv_heads, columns, head_dim] each; made when first written
        self.prefilled = None  # in prefill: (slots, source), slot slots[i] reads prompt source[i]
        self.written = None  # in decoding: (slots, columns) of the n tokens fed
        self.graphs, self.pool = {}, None

        def zeros(*shape, dtype=torch.long):
            return torch.zeros(rows, *shape, dtype=dtype, device=weight.device)

        self.state = {
            "owner": zeros(),  # which of the N rows the slot holds
            "prompt_length": zeros(),
            "count": zeros(),  # tokens sampled
            "limit": zeros(),  # tokens allowed
            "ended": zeros(dtype=torch.bool),
            "truncated": zeros(dtype=torch.bool),
            "hidden": zeros(weight.shape[1], dtype=weight.dtype),  # the state that predicts the next token
            "uniform": zeros(max_new_tokens + 1, dtype=torch.float32),  # the row's random numbers
            # One column more than tokens: there a slot that has ended, but is still computed, leaves what it draws.
            "tokens": zeros(max_new_tokens + 1),
            "values": zeros(3, max_new_tokens + 1, dtype=torch.float32),  # log-probability, entropy, self-certainty
        }

    def layer_cache(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The (keys, values) of a layer. Zeros at first: what is masked is still multiplied, and must not be NaN."""
        if layer not in self.cache:
            rows = len(self.state["owner"])
            self.cache[layer] = tuple(x.new_zeros(rows, x.shape[1], self.columns, x.shape[3]) for x in (key, value))
        return self.cache[layer]

    @classmethod
    def for_policy(cls, policy, rows: int, columns: int, max_new_tokens: int, sampling: TokenRule) -> "Slots":
        """The policy's slots of the call before, if they fit, else new ones.

        Reused between calls: fresh buffers cost 25 % of the toy's rollout time, and CUDA graphs hold their addresses.
        """
        weight = policy.get_output_embeddings().weight
        held = _kept.get(policy)
        wanted = rows, max_new_tokens, sampling, weight.dtype, weight.data_ptr()
        if held is None or held.made_for != wanted or held.columns < columns:
            release(policy)  # free the old ones first
            _kept[policy] = held = cls(weight, rows, rounded(columns, weight.device), max_new_tokens, sampling)
        held.live = held.view = 0
        held.longest = columns
        return held

    def look_ahead(self, steps: int, multiple: int) -> None:
        """Set how many columns the next `steps` steps attend to: up to the longest live slot's."""
        longest = (self.state["prompt_length"] + self.state["count"])[: self.live].max().item() + steps
        self.view = min(self.columns, -(-longest // multiple) * multiple)

    def admit(self, body, owners: torch.Tensor, group: int, prompts: list, limits: torch.Tensor, uniform: torch.Tensor):
        """Prefill the prompts of rows `owners` [k], each prompt once, and put the rows into the first free slots."""
        device = self.ends.device
        different, source = (owners // group).unique(return_inverse=True)
        chosen = [torch.as_tensor(prompts[i], device=device) for i in different.tolist()]
        lengths = torch.tensor([len(prompt) for prompt in chosen], device=device)
        padded = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)  # [prompts, width]
        slots, source = torch.arange(self.live, self.live + len(owners), device=device), source.to(device)
        self.prefilled = slots, source
        hidden = body(input_ids=padded, use_cache=False, slots=self).last_hidden_state  # [prompts, width, H]
        self.prefilled = None
        last = hidden[torch.arange(len(chosen), device=device), lengths - 1]  # [prompts, H]
        entries = {
            "owner": owners,
            "prompt_length": lengths[source],
            "count": 0,
            "limit": limits,
            "ended": False,
            "truncated": False,
            "hidden": last[source].to(self.state["hidden"].dtype),
        }
        for name, entry in entries.items():
            self.state[name][slots] = entry.to(device) if isinstance(entry, torch.Tensor) else entry
        self.state["uniform"][slots, :-1] = uniform.to(device)
        self.live += len(owners)
        self.view = max(self.view, padded.shape[1])

    def sample(self, head, n: int) -> None:
        """Draw the next token of slots 0 .. n - 1 from their hidden states. No host synchronisation."""
        state = {name: tensor[:n] for name, tensor in self.state.items()}
        at = state["count"][:, None].clone()  # [n, 1]
        uniform = state["uniform"].gather(1, at)[:, 0]
        temperature, top_p, _, choose = self.sampling
        token, *values = choose(logits_of(head, state["hidden"]), temperature, top_p, uniform)
        state["tokens"].scatter_(1, at, token[:, None])
        state["values"].scatter_(2, at[:, None].expand(n, 3, 1), torch.stack(values, dim=1)[:, :, None])
        live, stop = ~state["ended"], (token[:, None] == self.ends).any(dim=1)
        state["count"] += live
        full = state["count"] >= state["limit"]
        state["truncated"] |= live & full & ~stop
        state["ended"] |= stop | full

    def forward(self, body, n: int) -> None:
        """Feed the latest tokens of slots 0 .. n - 1 to the model. No host synchronisation."""
        state = {name: tensor[:n] for name, tensor in self.state.items()}
        latest = (state["count"] - 1).clamp_min(0)[:, None]  # [n, 1]
        positions = state["prompt_length"][:, None] + latest
        device, dtype = positions.device, state["hidden"].dtype
        self.written = torch.arange(n, device=device), positions[:, 0]
        # What is added to the scores, made once for all layers: -inf in columns that the slot has not written yet.
        hide = torch.zeros(n, self.view, dtype=dtype, device=device)
        hide.masked_fill_(torch.arange(self.view, device=device) > positions, -torch.inf)
        tokens = state["tokens"].gather(1, latest)
        arguments = {"input_ids": tokens, "position_ids": positions, "attention_mask": hide[:, None, None]}
        hidden = body(**arguments, use_cache=False, slots=self).last_hidden_state  # [n, 1, H]
        state["hidden"].copy_(hidden[:, 0])

    def drop_ended(self) -> dict[str, torch.Tensor] | None:
        """Take the ended slots out, and fill their gaps with the last live ones. Returns their state, or None.

        At most as many slots are copied as have ended: cheap enough for every step, so that on a CPU no ended row is
        computed at all. To select the live ones would copy all of them.
        """
        live = self.state["ended"][: self.live].logical_not()
        stay, gone = live.nonzero()[:, 0], live.logical_not().nonzero()[:, 0]
        if len(gone) == 0:
            return None
        taken = {name: tensor[gone] for name, tensor in self.state.items()}
        self.live = len(stay)
        gaps, last = gone[gone < self.live], stay[stay >= self.live]  # equally many
        for tensor in self.state.values():
            tensor[gaps] = tensor[last]
        for pair in self.cache.values():
            for kept in pair:
                kept[gaps, :, : self.view] = kept[last, :, : self.view]
        return taken

    def recorded_steps(self, body, head, steps: int) -> None:
        """Take `steps` decoding steps on a GPU, each from its recording."""
        self.look_ahead(steps, 128)
        rows = len(self.state["owner"])
        part = rows // 8 + 1
        n = min(rows, -(-self.live // part) * part)  # rounded up, so that there are few recordings
        for _ in range(steps):
            self.replay((n, self.view), lambda: (self.sample(head, n), self.forward(body, n)))

    def replay(self, key: tuple, step) -> None:
        """Run `step`, from a recording if there is one: a CUDA graph, which launches all of its kernels at once.

        The first time it runs as it is (cuBLAS and the like set themselves up), and is then recorded, which runs
        nothing. A recording holds addresses: state and cache stay where they are, and weights change in place.
        """
        if key in self.graphs:
            self.graphs[key].replay()
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        self.graphs[key] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graphs[key], pool=self.pool):
            step()
        self.pool = self.graphs[key].pool()


def slot_attention(module, query, key, value, attention_mask, scaling=None, slots=None, **kwargs):
    """Attention over the slots, of n rows and t tokens: query [n, heads, t, D], key and value [n, kv_heads, t, D].

    transformers calls it in every layer, as the attention implementation registered under the name "slots"; `slots`
    comes through the model's keyword arguments. Returns ([n, t, heads, D], None).
    """
    if slots is None:
        raise ValueError("its attention cannot be given a cache from outside")
    check_kind(kwargs, slots.longest)
    keys, values = slots.layer_cache(module.layer_idx, key, value)
    if slots.prefilled is not None:
        rows, source = slots.prefilled
        width = key.shape[2]
        keys[rows, :, :width], values[rows, :, :width] = key[source], value[source]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
        return mixed.transpose(1, 2), None
    n, heads, _, D = query.shape
    rows, columns = slots.written
    keys[rows, :, columns], values[rows, :, columns] = key[:, :, 0], value[:, :, 0]
    keys, values = keys[:n, :, : slots.view], values[:n, :, : slots.view]  # [n, kv_heads, view, D]
    if query.is_cpu or query.dtype == torch.float32:
        return plain_attention(query, keys, values, attention_mask, scaling).transpose(1, 2), None
    query = query.reshape(n, key.shape[1], -1, D)  # the heads that share keys become rows of one matrix
    mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=attention_mask, scale=scaling)
    return mixed.reshape(n, 1, heads, -1), None


AttentionInterface.register("slots", slot_attention)


@contextmanager
def attention_over_slots(policy) -> Iterator[None]:
    """Let the policy's layers call slot_attention, and put it back as it was. Raises ValueError if they cannot."""
    # Layers compiled for training stay as they are here: the shapes of decoding would be compiled again and again.
    compiled = any(module._compiled_call_impl is not None for module in policy.modules())
    with attention(policy, "slots"), torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield


def rounded(columns: int, device: torch.device) -> int:
    """The columns that slots are made with: some more than needed, so that a longer prompt seldom needs new ones."""
    multiple = 256 if can_record(device) else 64
    return -(-columns // multiple) * multiple


def can_record(device: torch.device) -> bool:
    """Whether steps are recorded and replayed on this device. (A test says yes for a CPU, to run that way there.)"""
    return device.type == "cuda"


# --- all rows -------------------------------------------------------------------------------------------------------


@torch.inference_mode()  # no_grad would do; a decoding step of the toy takes 5 to 12 % less in inference mode
def decode(
    policy,
    prompts: list,
    group: int,
    max_new_tokens,
    sampling: TokenRule,
    generator,
    slots: int | None,
    part: range | None,
) -> Iterator[dict[str, torch.Tensor]]:
    """generate.generate_rows: see there. group: rollouts of a prompt. part: the rows to sample; None: all."""
    if not prompts or min(len(p) for p in prompts) == 0:
        raise ValueError("generate needs at least one prompt, and no empty one")
    N, limits = len(prompts) * group, torch.as_tensor(max_new_tokens)
    if group < 1 or limits.numel() not in (1, N) or limits.min() < 1:
        raise ValueError(
            "generate needs rollouts_per_prompt >= 1 and max_new_tokens >= 1, one number or one for each row"
        )
    limits = limits.expand(N)
    if sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
        raise ValueError("generate needs temperature >= 0 and 0 < top_p <= 1")
    first, stop = (part.start, part.stop) if part is not None else (0, N)
    if first == stop:
        return
    T, width, rows = int(limits.max()), max(len(p) for p in prompts), min(slots or N, stop - first)
    body, head = policy.base_model, policy.get_output_embeddings()
    recorded = can_record(head.weight.device)
    if policy.device.type == "cpu":  # logits are products of float32 there: of bfloat16 weights one copy for all steps
        head = copy.deepcopy(head).float() if head.weight.dtype != torch.float32 else head
    held = Slots.for_policy(policy, rows, width + T, T, sampling)
    if first and not callable(generator):
        torch.rand(first, T, generator=generator)  # the random numbers of the rows before
    prompts_at_once = max(1, PREFILL_TOKENS // width)
    with attention_over_slots(policy):
        while first < stop or held.live:
            free = rows - held.live
            if held.live == 0 or free >= max(1, rows // 16):  # a prefill is worth while for some rows
                while first < stop and held.live < rows:
                    last = (first // group + prompts_at_once) * group
                    owners = torch.arange(first, min(first + rows - held.live, last, stop))
                    # Drawn in the order of the rows, a row's numbers do not depend on when it is admitted.
                    own = callable(generator)
                    uniform = generator(owners.tolist(), T) if own else torch.rand(len(owners), T, generator=generator)
                    held.admit(body, owners, group, prompts, limits[owners], uniform)
                    first += len(owners)
            if recorded:
                held.recorded_steps(body, head, min(STEPS_PER_CHECK, T))
            else:
                held.sample(head, held.live)
            if (ended := held.drop_ended()) is not None:
                yield ended
            if not recorded and held.live:
                held.look_ahead(0, 1)
                held.forward(body, held.live)


def gathered(parts: list[dict], device: torch.device) -> list[dict]:
    """The rows that `decode` has yielded, of all processes: with torchrun each has decoded its own."""
    if processes.size() == 1:
        return parts
    kept = ("owner", "prompt_length", "count", "truncated", "tokens", "values") if parts else ()
    mine = {name: torch.cat([part[name] for part in parts]).cpu() for name in kept}
    found = [part for part in processes.everyones(mine) if part]
    return [{name: tensor.to(device) for name, tensor in part.items()} for part in found]


def put_together(parts: list[dict], prompts: list, group: int) -> dict[str, torch.Tensor]:
    """The rows that `decode` has yielded, in their order, as the tensors of generate.Rollouts."""
    ended = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = ended["owner"].argsort()
    ended = {name: tensor[order] for name, tensor in ended.items()}
    lengths, count, T = ended["prompt_length"], ended["count"], ended["tokens"].shape[1] - 1
    keep = torch.arange(T, device=count.device) < count[:, None]  # [N, T]
    columns = lengths[:, None] + torch.arange(T, device=count.device)  # where the completion's tokens go, [N, T]
    padded = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(p) for p in prompts], batch_first=True).to(count.device)
    padded = padded.repeat_interleave(group, dim=0)  # [N, width]

    def layout(completion: torch.Tensor, prompt=None) -> torch.Tensor:
        """[N, T] -> [N, S]"""
        whole = completion.new_zeros(len(count), padded.shape[1] + T)
        if prompt is not None:
            whole[:, : prompt.shape[1]] = prompt
        return whole.scatter_(1, columns, completion.where(keep, 0))[:, : int((lengths + count).max())].contiguous()

    logps, entropy, certainty = (layout(x) for x in ended["values"][:, :, :T].unbind(dim=1))
    return {
        "token_ids": layout(ended["tokens"][:, :T], padded),
        "mask": layout(keep.long()),
        "prompt_lengths": lengths,
        "logps": logps,
        "self_certainty": certainty,
        "entropy": entropy,
        "truncated": ended["truncated"],
    }
