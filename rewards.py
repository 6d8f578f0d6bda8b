"""rewards.py: what gets rewarded?

A reward is a function from what was sampled (`Sampled`) to one number per rollout, [B, G]. REWARDS names them for
`train.py --reward`. This far there are two: the true reward, and the intrinsic one of Intuitor ("Learning to Reason
without External Rewards", 2505.19590), which needs no answer key at all.
"""

import math
from dataclasses import dataclass

import torch

import verify


@dataclass
class Sampled:
    """One step's rollouts as text, graded once. N = B*G, row b*G + g is rollout g of problem b."""

    problems: list  # B data.Problem
    rollouts: object  # generate.Rollouts
    texts: list[str]  # N completions without special tokens; never the prompt, whose own \boxed{} would be graded
    answers: list[str | None]  # N
    right: list[bool]  # N

    def groups(self, values) -> torch.Tensor:
        """N numbers as [B, G] float32."""
        return torch.as_tensor(values, dtype=torch.float32).reshape(len(self.problems), -1)


def read(problems: list, rollouts, tokenizer) -> Sampled:
    """Decode the completions, extract their answers and grade them against the golds of their problems."""
    texts = tokenizer.batch_decode(rollouts.completions(), skip_special_tokens=True)
    group = len(texts) // len(problems)
    golds = [problem for problem in problems for _ in range(group)]
    right = verify.grade(texts, [p.answer for p in golds], [p.kind for p in golds])
    return Sampled(problems, rollouts, texts, [verify.extract_answer(text) for text in texts], right)


# --- self-certainty -------------------------------------------------------------------------------------------------


def self_certainty(logits: torch.Tensor) -> torch.Tensor:
    """KL(U || p) of each next-token distribution p, in nats: logits [..., V] -> [...]. Intuitor eq. 4.

        KL(U || p) = 1/V sum_j log((1/V) / p_j) = logsumexp(z) - mean(z) - log V     for logits z

    U is uniform over all V columns. 0 for a uniform p; it grows without bound as tokens are ruled out. Adding a
    constant to the logits changes nothing. Float32 whatever comes in, and raw logits, not divided by the sampling
    temperature. (The released open-r1 code leaves log V out, which cancels in the group mean, and reads the positions
    one too late; the equation is followed here.)
    """
    logits = logits.float()
    return logits.logsumexp(-1) - logits.mean(-1) - math.log(logits.shape[-1])


def sequence_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of per-token values over each row's completion, [N, S] -> [N]; 0 for an empty completion."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp_min(1)


# --- rewards by name ------------------------------------------------------------------------------------------------


def correct(sampled: Sampled) -> torch.Tensor:
    """1 if the answer is right, else 0: [B, G]. The reward of GRPO with an answer key."""
    return sampled.groups(sampled.right)


def certain(sampled: Sampled) -> torch.Tensor:
    """Intuitor eq. 4: the mean self-certainty of each completion, end token included, as its policy wrote it: [B,
    G]."""
    rollouts = sampled.rollouts
    return sampled.groups(sequence_mean(rollouts.self_certainty, rollouts.mask).cpu())


REWARDS = {"correct": correct, "self_certainty": certain}
