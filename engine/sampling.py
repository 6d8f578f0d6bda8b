"""sampling.py: the parts of choosing a token that take time where the vocabulary is large.

generate.choose uses them. None of them asks a GPU for a value, so a CUDA graph can record them.
"""

import math

import torch


def inverse_cdf_in_blocks(probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """What generate.inverse_cdf computes, in two levels: which block of about sqrt(V) columns, then where in it.

    So the rows are read once, and sums of hundreds of numbers round less than sums of thousands. (Gumbel-max, the other
    way to sample without asking the host, draws V random numbers a row: for V = 151,936 on a CPU that takes nine times
    as long as all of `choose`.)
    """
    R, V = probs.shape
    width = math.isqrt(V)
    even = V // width * width
    sums = torch.cat([probs[:, :even].unflatten(1, (-1, width)).sum(-1), probs[:, even:].sum(-1, keepdim=True)], dim=1)
    block, rest = first_above(sums, uniform[:, None].to(probs.dtype) * sums.sum(-1, keepdim=True))
    columns = block * width + torch.arange(width, device=probs.device)  # [R, width]
    inside = probs.gather(-1, columns.clamp_max(V - 1)) * (columns < V)
    return (block * width + first_above(inside, rest)[0])[:, 0]


def first_above(parts: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first column whose cumulative sum exceeds the target: [R, columns], [R, 1] -> the column [R, 1], and how much
    of the target lies inside it [R, 1]."""
    cumulative = parts.cumsum(-1)
    # Strictly below the sum, so never a column of probability 0, even where rounding is at its worst.
    target = torch.minimum(target, cumulative[:, -1:] * (1 - 2**-23))
    column = torch.searchsorted(cumulative, target, right=True)
    return column, (target - (cumulative - parts).gather(-1, column)).clamp_min(0)


def nucleus(probs: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The fewest most likely tokens of each row whose probability reaches top_p: (probabilities, tokens), [R, k].

    The probabilities descend and are 0 outside of the nucleus. The 1,024 most likely are nearly always enough, and take
    a twentieth of the time of sorting all of V = 151,936. (A GPU cannot ask whether they were enough without stopping.)
    """
    V = probs.shape[-1]
    for k in (V,) if probs.is_cuda else (min(1024, V), V):
        top, tokens = probs.topk(k)
        if k == V or (top.sum(-1) >= top_p).all():
            break
    return top * (top.cumsum(-1) - top < top_p), tokens


def float32_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b in float32, [m, k] @ [k, n], also of two bfloat16 matrices: as it was summed, not rounded afterwards.

    Logits around 20 rounded to bfloat16 are off by up to 0.06, and the probability of a token by as many percent.
    """
    if a.dtype == torch.float32:
        return a @ b
    if a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    # A CPU has no such product. But one of float32 matrices may round what it multiplies to bfloat16, where the CPU has
    # units for that: which changes nothing in numbers that are of bfloat16.
    kept, backend = torch.backends.mkldnn.matmul.fp32_precision, torch.backends.mkldnn.matmul
    backend.fp32_precision = "bf16"
    try:
        return a.float() @ b.float()
    finally:
        backend.fp32_precision = kept


def logits_of(head, hidden: torch.Tensor) -> torch.Tensor:
    """Float32 logits of a linear head, [R, H] -> [R, V].

    On a CPU 4,096 columns at a time: for 64 rows and V = 151,936 that takes three quarters of the time of one product.
    """
    blocks = [head.weight] if hidden.is_cuda else head.weight.split(4096)
    parts = [float32_product(hidden, block.t()) for block in blocks]
    logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return logits if head.bias is None else logits + head.bias.float()
