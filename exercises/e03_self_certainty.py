"""3. Self-certainty * (12 minutes): how sure is a model of its next token?

Intuitor (2505.19590), eq. 4: the KL divergence from the uniform distribution U over all V tokens to the model's p,

    KL(U || p) = sum_j 1/V log( (1/V) / p_j )

logits z: [..., V], any float type, not normalised. Return [...], in nats, float32. It is 0 where all logits are equal.
Two numbers to check by hand: logits [0, -20] give 9.307, and adding 100 to every logit changes nothing.

--- hint: read on only when stuck ---
log p_j = z_j - logsumexp(z). Put it into the sum: what is left are three terms, and none of them is an exponential.
The released code leaves log V out; with it, the number is a true KL.
"""

import torch


def self_certainty(logits: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError
