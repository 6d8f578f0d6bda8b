"""11. Sampling by inverse CDF (20 minutes): one uniform number, one token.

Lay the probabilities of the tokens side by side: they fill the interval from 0 to 1. A uniform random number falls into
the part of token j with probability p_j.

    probs [0.2, 0.5, 0.3]:   u < 0.2 is token 0,   0.2 <= u < 0.7 token 1,   0.7 <= u token 2

probs: [R, V], each row sums to 1 but for rounding. uniform: [R], in [0, 1). Return [R], numbers of tokens. A token of
probability 0 is never drawn, wherever it stands, and no number is ever V.

generate.py samples this way so that a row's sample depends on its own random numbers alone, and not on the batch.

--- hint: read on only when stuck ---
Cumulative sums, and count how many of them are <= u. The last cumulative sum may be 0.99999994, and u above it: then
scale u by the row's total, and stay below it.
"""

import torch


def inverse_cdf(probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError
