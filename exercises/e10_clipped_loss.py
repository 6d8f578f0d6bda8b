"""10. The clipped loss * (20 minutes): what stops a step that went too far, and what must not be stopped.

PPO (1707.06347), eq. 7, per token, as in GRPO (2402.03300, eq. 3). With the ratio c_nt = pi(o_nt) / pi_old(o_nt):

    L = - sum_nt w_nt min( c_nt A_n,  clip(c_nt, 1 - e, 1 + e) A_n )

logps, old_logps: [N, S], log-probabilities now and when the tokens were sampled. advantages: [N], one for each row.
weights: [N, S], how much each token counts, 0 off the mask; the average is in them already (exercise 9 makes them).
clip: e. Return one number, to be minimised.

Draw it for A = 1 and for A = -1 before you write it. Where is the gradient 0? A token with A < 0 whose ratio has
grown to 1.5 keeps its gradient: the step went the wrong way, and nothing may hide that.

--- hint: read on only when stuck ---
The minimum of the two terms, not of the two ratios: for A < 0 they differ. The sign in front is there because an
optimiser minimises.
"""

import torch


def clipped_loss(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, weights: torch.Tensor, clip: float = 0.2
) -> torch.Tensor:
    raise NotImplementedError
