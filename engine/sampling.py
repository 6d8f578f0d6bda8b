"""sampler.py: which token comes next?

From a row of logits to a token, and to what is worth knowing about the row: its log-probability, entropy and
self-certainty. Temperature and top-p, nothing else. Nothing here asks a GPU for a value, so a CUDA graph can record it.
"""

import math

import torch


def inverse_cdf(probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first column of each row whose cumulative sum exceeds uniform * (sum of the row): [R, V], [R] -> [R].

    In two levels: which block of about sqrt(V) columns, then where in that block. So the rows are read once, and adding
    up hundreds of numbers rounds less than adding up thousands. (Gumbel-max, the other way to sample without asking the
    host, draws V random numbers a row: on a CPU nine times as long as all of `choose`, for V = 151,936.)
    """
    R, V = probs.shape
    width = math.isqrt(V)
    even = V // width * width
    sums = torch.cat([probs[:, :even].unflatten(1, (-1, width)).sum(-1), probs[:, even:].sum(-1, keepdim=True)], dim=1)

    def first_above(parts: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[R, columns], [R, 1] -> the column, and the rest of the target inside it, [R, 1] each."""
        cumulative = parts.cumsum(-1)
        # Strictly above a target below the sum: never a column of probability 0, also where rounding is at its worst.
        target = torch.minimum(target, cumulative[:, -1:] * (1 - 2**-23))
        column = torch.searchsorted(cumulative, target, right=True)
        return column, (target - (cumulative - parts).gather(-1, column)).clamp_min(0)

    block, rest = first_above(sums, uniform[:, None].to(probs.dtype) * sums.sum(-1, keepdim=True))
    columns = block * width + torch.arange(width, device=probs.device)  # [R, width]
    inside = probs.gather(-1, columns.clamp_max(V - 1)) * (columns < V)
    return (block * width + first_above(inside, rest)[0])[:, 0]


def nucleus(probs: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The fewest most likely tokens of each row whose probability reaches top_p: (probabilities, tokens), [R, k].

    The probabilities descend and are 0 outside of the nucleus. The 1,024 most likely are nearly always enough, and are
    found in a twentieth of the time that sorting all of V = 151,936 takes. (A GPU cannot ask whether they were enough
    without stopping.)
    """
    V = probs.shape[-1]
    for k in (V,) if probs.is_cuda else (min(1024, V), V):
        top, tokens = probs.topk(k)
        if k == V or (top.sum(-1) >= top_p).all():
            break
    return top * (top.cumsum(-1) - top < top_p), tokens


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
    # KL(U || p) = 1/V sum_j log((1/V) / p_j) = logsumexp(z) - mean(z) - log V, of the logits z at temperature 1
    raw = logsumexp if scaled is logits else logits.logsumexp(-1)
    self_certainty = raw - logits.mean(-1) - math.log(logits.shape[-1])
    if temperature == 0:
        token = logits.argmax(-1)
    elif top_p < 1:
        top, tokens = nucleus(probs, top_p)
        token = tokens.gather(-1, inverse_cdf(top, uniform)[:, None])[:, 0]
    else:
        token = inverse_cdf(probs, uniform)
    return token, scaled.gather(-1, token[:, None])[:, 0] - logsumexp, entropy, self_certainty


def float32_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b in float32, [m, k] @ [k, n], also of two bfloat16 matrices: as it was summed, not rounded afterwards.

    Logits around 20 rounded to bfloat16 are off by up to 0.06, and the probability of a token by as many percent.
    """
    if a.dtype == torch.float32:
        return a @ b
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def logits_of(head, hidden: torch.Tensor) -> torch.Tensor:
    """Float32 logits of a linear head, [R, H] -> [R, V].

    On a CPU 4,096 columns at a time: for 64 rows and V = 151,936 that takes three quarters of the time of one product.
    """
    blocks = [head.weight] if hidden.is_cuda else head.weight.split(4096)
    parts = [float32_product(hidden, block.t()) for block in blocks]
    logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return logits if head.bias is None else logits + head.bias.float()
