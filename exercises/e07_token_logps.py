"""7. Log-probabilities of given tokens (20 minutes): the only thing that is differentiated.

A language model reads tokens o_1 .. o_S and gives, at each position t, logits for the token *behind* it, o_{t+1}. So

    log pi(o_t | o_<t) = log_softmax(logits at t - 1)[o_t]

model(token_ids) gives logits [N, S, V]. token_ids, mask: [N, S]; the mask is 1 on the tokens of the completions.
temperature divides the logits, as it did when the tokens were sampled. Return [N, S] with the value *at the token
that it belongs to*, and 0 off the mask. Gradients must flow into the model.

--- hint: read on only when stuck ---
logits[:, :-1] predict token_ids[:, 1:]. The result for those is one column short: where does the missing one go?
"""

import torch


def token_logps(model, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    raise NotImplementedError
