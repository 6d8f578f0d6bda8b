"""8. Three estimates of a KL divergence * (10 minutes): how far has the policy moved?

Schulman, "Approximating KL Divergence" (2020). From tokens that were sampled from pi, with x = log pi_ref - log pi:

    k1 = -x        k2 = x^2 / 2        k3 = exp(x) - x - 1          each estimates KL(pi || pi_ref)

The mean of k1 and of k3 is the KL; k3 is never negative and varies less while the two are close. GRPO uses k3
(DeepSeekMath, 2402.03300, eq. 4).

logps, ref_logps: tensors of the same shape, log-probabilities of the same tokens under the policy and the reference.
kind: "k1", "k2" or "k3". Return a tensor of that shape: one estimate for each token.

--- hint: read on only when stuck ---
The sign of x decides everything: a token that the policy likes more than the reference has x < 0. For a small x
torch.expm1(x) is exp(x) - 1 with all its digits.
"""

import torch


def kl(logps: torch.Tensor, ref_logps: torch.Tensor, kind: str = "k3") -> torch.Tensor:
    raise NotImplementedError
