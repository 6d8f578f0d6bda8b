"""grpo.py: how do rewards become a gradient?

GRPO (DeepSeekMath, 2402.03300, eq. 3, as Intuitor writes it in its eq. 5). For a prompt with G rollouts o_1 .. o_G and
rewards r_i:

    A_i    = (r_i - mean(r)) / (std(r) + eps)                                   group_advantages
    c_t    = exp(log pi(o_t) - log pi_old(o_t))                                 the ratio, per token
    L      = - average over tokens of [ min(c_t A, clip(c_t, 1-e, 1+e) A) - beta * k3_t ]      policy_loss
    k3_t   = exp(x) - x - 1,   x = log pi_ref(o_t) - log pi(o_t)                kl

A step is rewards -> advantages -> log-probabilities -> loss, each one function below, and each tensor is [N, S]
with the value at the token that it belongs to.

Differs from the paper: eps is 1e-4 and std has Bessel's correction (as in TRL, which Intuitor used); a group of equal
rewards has advantages of exactly zero, where rounding would give up to 0.9 with a small eps. The average over tokens is
a choice by name (`loss_weights`), because papers and their code differ in it.
"""

import math
from collections.abc import Iterator

import torch

from engine.sampling import float32_product


def group_advantages(rewards: torch.Tensor, scale: str = "std", eps: float = 1e-4) -> torch.Tensor:
    """Rewards relative to the other rollouts of the same prompt: [B, G] -> [B, G].

    scale "std" divides by the group's standard deviation plus eps (GRPO); "none" only subtracts the mean (Dr. GRPO,
    2503.20783). A group of equal rewards teaches nothing and gets exact zeros. Raises ValueError for G = 1: nothing to
    compare with.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"group_advantages needs rewards [B, G] with G >= 2 rollouts per prompt, got {list(rewards.shape)}"
        )
    if scale not in ("std", "none"):
        raise ValueError(f"scale is 'std' or 'none', not {scale!r}")
    rewards = rewards.float()
    advantages = rewards - rewards.mean(dim=1, keepdim=True)  # [B, G]
    if scale == "std":
        advantages = advantages / (rewards.std(dim=1, keepdim=True) + eps)
    # 0.1 twelve times has a float32 mean that is not 0.1; divided by a tiny std that rounding error would become a
    # gradient.
    equal = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
    return advantages.masked_fill(equal, 0.0)


def combined_advantages(rewards: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    """Several rewards, [B, G] each: every one is normalised within its groups, then weighted, then added: [B, G].

    As Intuitor mixes (its trainer). Normalised after adding, a reward of 15 to 35 nats would drown one of 0 or 1. For a
    single reward of weight w that is w * group_advantages(reward).
    """
    return sum(weights[name] * group_advantages(values) for name, values in rewards.items())


def block_size(device: torch.device) -> int:
    """Logits in a block of HeadLogps: 32 MB in float32, on a GPU 512 MB."""
    return 2**27 if device.type == "cuda" else 2**23


class HeadLogps(torch.autograd.Function):
    """log softmax(W h / temperature) at the targets, for T hidden states at once, and their self-certainty.

    The vocabulary goes by in blocks. With z = W h / temperature and g the gradient of the loss to each log-probability,

        log p(y) = z_y - logsumexp(z)                  dL/dz_j = g (1[j = y] - p_j)

    and both need of the other logits only their logsumexp: blocks of logits are summed up in the forward pass,
    forgotten, and made again in the backward pass. Memory holds [T, block] instead of [T, V] several times over, and
    every row of W and of its gradient is touched once. (Blocks of tokens would write all of W's gradient each time.)
    The price is one matrix product more to three. For V = 151,936, H = 1,536, T = 4,096 in float32 on a CPU that still
    took 0.94 of the time of log_softmax, and 1.0 GB at the peak instead of 10.0 (0.93 GB is the gradient of W itself):
    `python bench.py --model qwen2.5-1.5b --parts head`.
    """

    @staticmethod
    def blocks(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[slice]:
        """Slices of the vocabulary, such that [T, slice] has block_size entries at most."""
        block = max(1, block_size(hidden.device) // len(hidden))
        return (slice(first, first + block) for first in range(0, len(weight), block))

    @staticmethod
    def logits(hidden, weight, bias, block: slice) -> torch.Tensor:
        """Raw logits of a block, [T, block] float32."""
        logits = float32_product(hidden, weight[block].t())
        return logits if bias is None else logits.add_(bias[block].float())

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, temperature, with_certainty):
        """hidden [T, H], weight [V, H], bias [V] or None, targets [T] -> log-probabilities and self-certainty, [T]."""
        logsumexp = torch.full(targets.shape, -torch.inf, device=hidden.device)
        raw, total = logsumexp, torch.zeros_like(logsumexp)  # of the logits at temperature 1
        for block in HeadLogps.blocks(hidden, weight):
            logits = HeadLogps.logits(hidden, weight, bias, block)
            if with_certainty:
                total += logits.sum(-1)
                raw = torch.logaddexp(raw, logits.logsumexp(-1))
            if temperature != 1 or not with_certainty:
                logsumexp = torch.logaddexp(logsumexp, logits.div_(temperature).logsumexp(-1))
        logsumexp = raw if temperature == 1 and with_certainty else logsumexp
        at_target = (hidden.float() * weight[targets].float()).sum(-1)
        at_target = at_target if bias is None else at_target + bias[targets].float()
        ctx.save_for_backward(hidden, weight, bias, targets, logsumexp)
        ctx.temperature = temperature
        # KL(U || p) = logsumexp(z) - mean(z) - log V, as in rewards.self_certainty
        certainty = raw - total / len(weight) - math.log(len(weight)) if with_certainty else None
        if with_certainty:
            ctx.mark_non_differentiable(certainty)
        return at_target / temperature - logsumexp, certainty

    @staticmethod
    def backward(ctx, gradient, _):
        hidden, weight, bias, targets, logsumexp = ctx.saved_tensors
        scale = gradient[:, None] / ctx.temperature  # [T, 1]
        d_hidden = torch.zeros(hidden.shape, device=hidden.device)  # float32: the blocks add up in it
        d_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        d_bias = torch.empty_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for block in HeadLogps.blocks(hidden, weight):
            d_logits = HeadLogps.logits(hidden, weight, bias, block).div_(ctx.temperature).sub_(logsumexp[:, None])
            d_logits.exp_().mul_(-scale)
            # 1[j = y] joins p_j here, in float32: where p is nearly 1, the difference is what bfloat16 would lose.
            column, width = targets[:, None] - block.start, d_logits.shape[1]
            here = (column >= 0) & (column < width)
            d_logits.scatter_add_(1, column.clamp(0, width - 1), scale * here)
            if d_bias is not None:
                d_bias[block] = d_logits.sum(0)
            d_logits = d_logits.to(weight.dtype)  # in bfloat16 both products run at the speed of bfloat16
            d_hidden += float32_product(d_logits, weight[block])
            if d_weight is not None:
                torch.mm(d_logits.t(), hidden, out=d_weight[block])
        return d_hidden.to(hidden.dtype), d_weight, d_bias, None, None, None


def token_logps(policy, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """log pi(token | what stands before it) of every completion token: [N, S], 0 off the mask, differentiable.

    In nats, float32. token_ids, mask: [N, S], right-padded. No attention mask is passed: causality keeps what stands to
    the right from being seen. Only completion tokens go through the head, and never as [N, S, V] logits (31 GB for 256
    rows of 200 tokens and Qwen2.5's vocabulary): see HeadLogps.
    """
    return score(policy, token_ids, mask, temperature, with_certainty=False)[0]


def score(policy, token_ids, mask, temperature: float = 1.0, with_certainty: bool = True) -> tuple[torch.Tensor, ...]:
    """token_logps, and from the same pass the self-certainty KL(U || p) at temperature 1, detached: [N, S] each.

    It is the certainty of the model given, which need not be the one that sampled the tokens.
    """
    hidden = policy.base_model(input_ids=token_ids, use_cache=False).last_hidden_state  # [N, S, H]
    wanted = mask[:, 1:].bool()  # the hidden state at t predicts the token at t + 1
    inputs, targets = hidden[:, :-1][wanted], token_ids[:, 1:][wanted]  # [T, H], [T]
    head = policy.get_output_embeddings()
    zeros = torch.zeros(token_ids.shape, dtype=torch.float32, device=token_ids.device)  # [N, S]
    if len(targets) == 0:
        return zeros, zeros if with_certainty else None
    with torch.autocast(inputs.device.type, enabled=False):
        inputs = inputs.to(head.weight.dtype)
        values = HeadLogps.apply(inputs, head.weight, head.bias, targets, temperature, with_certainty)  # [T] each
    # Not in place: column 0, which nothing predicts, is put in front.
    return tuple(
        None if x is None else torch.cat([zeros[:, :1], zeros[:, 1:].masked_scatter(wanted, x)], dim=1) for x in values
    )


@torch.no_grad()
def annotate(annotator, rollouts, micro_tokens: int) -> torch.Tensor:
    """The self-certainty of each token of the rollouts by the model given, [N, S], in micro-batches.

    With the frozen starting model it is Intuitor's offline annotator (its Figure 7), which a policy learns to exploit.
    """
    certainty = torch.zeros_like(rollouts.self_certainty)
    lengths = rollouts.prompt_lengths + rollouts.mask.sum(dim=1)  # [N]
    for batch in micro_batches(lengths, micro_tokens):
        width = int(lengths[batch].max())
        certainty[batch, :width] = score(annotator, rollouts.token_ids[batch, :width], rollouts.mask[batch, :width])[1]
    return certainty


def kl(logps: torch.Tensor, ref_logps: torch.Tensor, kind: str = "k3") -> torch.Tensor:
    """A per-token estimate of KL(pi || pi_ref), in nats, from tokens sampled from pi; of its arguments' shape.

    Schulman (2020): with x = log pi_ref - log pi: k1 = -x, k2 = x^2 / 2, k3 = exp(x) - x - 1. The expectations of k1
    and k3 are the KL; k3 is never negative, varies less than k1 while the models are close, and is what GRPO uses. As
    losses they differ: the gradient of k2 is that of KL(pi || pi_ref), that of k3 belongs to the other direction,
    KL(pi_ref || pi), and that of k1 is zero in expectation.
    """
    x = ref_logps - logps
    if kind == "k1":
        return -x
    if kind == "k2":
        return x.square() / 2
    if kind == "k3":
        return torch.expm1(x) - x
    raise ValueError(f"kind is 'k1', 'k2' or 'k3', not {kind!r}")


def loss_weights(mask: torch.Tensor, average: str = "sequence", max_new_tokens: int | None = None) -> torch.Tensor:
    """The weight of every token in the loss of a whole step, [N, S]: papers that "average" differ by this one tensor.

    sequence  1 / (N |o_i|)        each rollout counts the same, so a token of a long one counts less   (GRPO eq. 3)
    token     1 / sum_i |o_i|      each token of the step counts the same                      (DAPO, 2503.14476)
    constant  1 / (N max_tokens)   each token counts the same, whatever the lengths of this step        (Dr. GRPO)

    They are computed once for all rows of the step. A micro-batch then takes its rows of them, and the gradient does
    not depend on how the step was cut; a mean of micro-batch means would.
    """
    mask = mask.float()
    if average == "sequence":
        return mask / mask.sum(dim=1, keepdim=True).clamp_min(1) / len(mask)
    if average == "token":
        return mask / mask.sum().clamp_min(1)
    if average == "constant":
        if not max_new_tokens:
            raise ValueError("the constant average divides by max_new_tokens: give it")
        return mask / (len(mask) * max_new_tokens)
    raise ValueError(f"average is 'sequence', 'token' or 'constant', not {average!r}")


def policy_loss(
    logps: torch.Tensor,
    old_logps: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    ref_logps: torch.Tensor | None = None,
    kl_weight: float = 0.0,
    clip: float = 0.2,
    average: str = "sequence",
    max_new_tokens: int | None = None,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The GRPO loss of the rows given, to be minimised, and what to log about it.

    logps, old_logps, ref_logps, mask: [N, S]; advantages: one per row, [B, G] or [N]. weights: the rows' part of the
    step's `loss_weights`; without them the rows are taken for the whole step. On the first update old_logps is
    logps.detach(): every ratio is 1, nothing is clipped, and the loss is about 0 while its gradient is that of
    REINFORCE.

    The metrics are means over the tokens given: clip_fraction (tokens whose gradient the clip removes: A > 0 and ratio
    above 1 + clip, or A < 0 and ratio below 1 - clip), ratio_change (|ratio - 1|), and kl if there is a reference.
    """
    if advantages.numel() != len(logps):
        raise ValueError(f"one advantage per row: {len(logps)} rows, {advantages.numel()} advantages")
    advantage = advantages.reshape(-1, 1).to(logps.device)  # [N, 1], the same for every token of a row
    if weights is None:
        weights = loss_weights(mask, average, max_new_tokens)
    ratio = torch.exp(logps - old_logps)  # [N, S]
    # The minimum is pessimistic: it takes the clipped term only where moving on would be rewarded, and never hides a
    # step too far.
    objective = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    removed = ((ratio > 1 + clip) & (advantage > 0)) | ((ratio < 1 - clip) & (advantage < 0))

    def token_mean(values: torch.Tensor) -> float:
        return ((values.detach() * mask).sum() / mask.sum().clamp_min(1)).item()

    metrics = {"clip_fraction": token_mean(removed.float()), "ratio_change": token_mean((ratio - 1).abs())}
    if ref_logps is not None:
        penalty = kl(logps, ref_logps)
        objective = objective - kl_weight * penalty
        metrics["kl"] = token_mean(penalty)
    return -(objective * weights).sum(), metrics


def micro_batches(lengths: torch.Tensor, budget: int) -> list[torch.Tensor]:
    """Rows in batches of at most `budget` tokens with padding, but at least one row.

    lengths: [N], of prompt and completion. Rows of like length go together, so that little of a batch is padding.
    """
    batches, batch = [], []
    if len(lengths) == 0:
        return []
    for row in lengths.argsort(descending=True).tolist():
        # The first row of a batch is its longest, so it says how wide the batch is.
        if batch and (len(batch) + 1) * int(lengths[batch[0]]) > budget:
            batches.append(torch.tensor(batch, device=lengths.device))
            batch = []
        batch.append(row)
    return [*batches, torch.tensor(batch, device=lengths.device)]


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
    the optimiser holds float32 copies, and each step writes them back. A float32 parameter is its own master.
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


def update(policy, ref_policy, optimizer, rollouts, advantages: torch.Tensor, settings) -> dict[str, float | None]:
    """Take settings.updates_per_step optimiser steps on one step's rollouts; returns metrics.

    rollouts: generate.Rollouts; advantages: [B, G]; ref_policy: the frozen starting model, or None without a KL
    penalty; settings: train.Settings (temperature, kl, clip, loss_average, max_new_tokens, updates_per_step,
    micro_tokens are read).

    The metrics are of the last update, over the tokens trained on. sampling_gap is the mean |difference|, in nats,
    of the log-probabilities that the sampler saw from those computed here with the same weights: the cheapest detector
    there is of a wrong mask, position, temperature or shift. It is None where nothing was trained on.
    """
    advantages = advantages.reshape(-1).to(rollouts.token_ids.device)  # [N]
    masters = [master for group in optimizer.param_groups for master in group["params"]]
    weights = loss_weights(rollouts.mask, settings.loss_average, settings.max_new_tokens)  # [N, S]
    lengths = rollouts.prompt_lengths + rollouts.mask.sum(dim=1)  # [N]
    # Without a KL penalty a row of zero advantage has no gradient, so it needs no pass.
    rows = torch.arange(len(lengths), device=lengths.device) if ref_policy is not None else advantages.nonzero()[:, 0]
    batches = [rows[part] for part in micro_batches(lengths[rows], settings.micro_tokens)]
    tokens = max(1, rollouts.mask[rows].sum().item())
    old, reference, sampling_gap = {}, {}, 0.0  # log-probabilities by micro-batch, kept for later updates
    for number in range(settings.updates_per_step):
        metrics = {"loss": 0.0, "clip_fraction": 0.0, "ratio_change": 0.0, "kl": 0.0}
        for i, batch in enumerate(batches):
            width = int(lengths[batch].max())
            token_ids, mask = rollouts.token_ids[batch, :width], rollouts.mask[batch, :width]  # [n, width]
            logps = token_logps(policy, token_ids, mask, settings.temperature)
            if number == 0:
                # On policy, these very numbers are the old log-probabilities: no pass of their own. The sampler's are
                # not taken: it rounds differently (bfloat16, other kernels), and the ratio would not start at 1.
                old[i] = logps.detach()
                sampling_gap += ((old[i] - rollouts.logps[batch, :width]).abs() * mask).sum().item() / tokens
                if ref_policy is not None:
                    with torch.no_grad():
                        reference[i] = token_logps(ref_policy, token_ids, mask, settings.temperature)
            loss, part = policy_loss(
                logps,
                old[i],
                advantages[batch],
                mask,
                reference.get(i),
                settings.kl,
                settings.clip,
                weights=weights[batch, :width],
            )
            loss.backward()  # gradients of micro-batches add up to that of the step: the weights are the whole step's
            metrics["loss"] += loss.item()
            for name, value in part.items():
                metrics[name] += value * mask.sum().item() / tokens
        for master in masters:
            if master.grad is None:  # no row had an advantage: what is left of the momentum still moves the weights
                master.grad = torch.zeros_like(master)
        metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(masters, 1.0).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    metrics["sampling_gap"] = sampling_gap if batches else None
    return {**metrics, "kl": metrics["kl"] if ref_policy is not None else None}
