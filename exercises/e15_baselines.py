"""15. Two other ways to say how much better (20 minutes): leave-one-out, and a critic.

RLOO (2402.14740, section 2): what is expected of a rollout is the mean reward of the *others* of its group,

    A_i = r_i - 1/(G-1) sum_{j != i} r_j                         rewards [B, G] -> [B, G]

Generalised advantage estimation (1506.02438, eq. 16) is for one rollout of S tokens; token t earns r_t. Before it is
written, a critic says what it expects from there on, V_t. What the token changed is delta_t, and its advantage is a sum
over it and what follows:

    delta_t = r_t + gamma V_{t+1} - V_t             V is 0 behind the last token
    A_t     = sum_l (gamma lambda)^l delta_{t+l}                 rewards, values [S] -> [S]

With gamma = lambda = 1, as the noisy-reward paper trains, A_t is simply all that is still earned, minus V_t.

--- hint: read on only when stuck ---
Leave-one-out: the sum of the others is the sum of all minus one's own. GAE: go from the last token to the first;
A_t = delta_t + gamma lambda A_{t+1}.
"""

import torch


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


def gae(rewards: torch.Tensor, values: torch.Tensor, gamma: float = 1.0, lam: float = 1.0) -> torch.Tensor:
    raise NotImplementedError
