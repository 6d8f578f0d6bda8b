"""2. The mean under a mask * (8 minutes): most bugs in this field are one of these.

Rows of a batch have different lengths, so they are padded, and a mask says which positions count:

    mean_n = sum_t mask_nt values_nt / sum_t mask_nt

values: [N, S]; mask: [N, S], whole numbers 0 and 1. Return [N]. The 1s need not begin in the first column: the prompt
stands there. A row without any token gives 0, and not NaN.

Intuitor (2505.19590), eq. 4 averages the certainty of a completion this way; so does every log of a per-token value.

--- hint: read on only when stuck ---
What does values * mask hold where values is infinite or NaN? Off the mask anything may stand: torch.where is safer.
"""

import torch


def sequence_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError
