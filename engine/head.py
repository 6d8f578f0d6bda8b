"""head.py: log-probabilities without ever holding all logits.

The plain path of grpo.token_logps makes the logits of all tokens at once, [T, V]. For a vocabulary of 151,936 that is
gigabytes. Here the vocabulary goes by in blocks; tests compare the numbers and gradients with the plain path.
"""

import math
from collections.abc import Iterator

import torch

from engine.packing import row_batches, states_before
from engine.sampling import float32_product
from rewards import self_certainty
from running import processes


def block_size(device: torch.device) -> int:
    """Logits in one block: 32 MB in float32, on a GPU 512 MB."""
    return 2**27 if device.type == "cuda" else 2**23


def fits_one_block(hidden: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the logits of hidden [T, H] and a head [V, H] fit one block, and need no care with their precision.

    bfloat16 logits would be rounded: see engine/sampling.py.
    """
    return weight.dtype == torch.float32 and len(hidden) * len(weight) <= block_size(hidden.device)


class HeadLogps(torch.autograd.Function):
    """log softmax(W h / temperature) at the targets, for T hidden states at once, and their self-certainty.

    With z = W h / temperature and g the gradient of the loss with respect to each log-probability,

        log p(y) = z_y - logsumexp(z)                  dL/dz_j = g (1[j = y] - p_j)

    Of the other logits, both need only their logsumexp. So the forward pass sums blocks of logits up and forgets them,
    and the backward pass makes them again. Memory holds [T, block] instead of several [T, V], and every row of W and of
    its gradient is touched once. (Blocks of tokens instead would write all of W's gradient each time.) The price is a
    fourth matrix product beside three. For V = 151,936, H = 1,536, T = 4,096 in float32 on a CPU it took 0.94 of the
    time of log_softmax, with a peak of 1.0 GB instead of 10.0 (0.93 GB is the gradient of W itself):
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


def head_logps(head, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, with_certainty: bool = False):
    """(log-probabilities of the targets, self-certainty or None) of hidden states [T, H] of a linear head: [T] each."""
    if len(targets) == 0:  # nothing to cut into blocks
        empty = torch.zeros(0, device=hidden.device)
        return empty, empty if with_certainty else None
    return HeadLogps.apply(hidden.to(head.weight.dtype), head.weight, head.bias, targets, temperature, with_certainty)


@torch.no_grad()
def score(policy, token_ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probability, self-certainty) of each completion token under a model, at temperature 1: [N, S] each, nats.

    One pass for both, where grpo.token_logps gives the first alone, with its gradient. 0 off the mask.
    """
    inputs, targets = states_before(policy.base_model, token_ids, mask), token_ids[mask.bool()]  # [T, H], [T]
    head = policy.get_output_embeddings()
    if fits_one_block(inputs, head.weight):
        logits = head(inputs)  # [T, V]
        values = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0], self_certainty(logits)
    else:
        values = head_logps(head, inputs, targets, temperature=1.0, with_certainty=True)
    return tuple(torch.zeros(mask.shape, device=mask.device).masked_scatter(mask.bool(), x) for x in values)


def annotate(annotator, rollouts, micro_tokens: int) -> torch.Tensor:
    """The self-certainty of each token of generate.Rollouts under another model, [N, S], in micro-batches.

    With the frozen starting model it is Intuitor's offline annotator (its Figure 7), which a policy learns to exploit.
    """
    certainty = torch.zeros_like(rollouts.self_certainty)
    for batch, width in row_batches(rollouts, micro_tokens):
        certainty[batch, :width] = score(annotator, rollouts.token_ids[batch, :width], rollouts.mask[batch, :width])[1]
    processes.total(certainty)
    return certainty


def micro_batches(lengths: torch.Tensor, budget: int) -> list[torch.Tensor]:
    """Rows in batches of at most `budget` tokens with padding, but at least one row.

    lengths: [N], prompt and completion together. Rows of similar length share a batch, so little of it is padding.
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
