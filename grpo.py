"""grpo.py: how do rewards become a gradient?

GRPO (DeepSeekMath, 2402.03300, eq. 3, as Intuitor writes it in its eq. 5). For a prompt with G rollouts o_1 .. o_G and
rewards r_i:

    A_i    = (r_i - mean(r)) / (std(r) + eps)                                                  group_advantages
    c_t    = exp(log pi(o_t) - log pi_old(o_t))                                                the ratio, per token
    L      = - average over tokens of [ min(c_t A_i, clip(c_t, 1-e, 1+e) A_i) - beta * k3_t ]  policy_loss
    k3_t   = exp(x) - x - 1,   x = log pi_ref(o_t) - log pi(o_t)                               kl

**What learns.** A reward is a grade: a number, whatever it was made from. No gradient flows through it, not through an
answer key and not through self-certainty either. On policy every ratio is 1, and the gradient of the loss is

    - average over tokens of A_i * grad log pi(o_t)      (plus the KL penalty's)

so a step makes the rollouts that were graded above their group's mean likelier, and the others less likely.

Of train.py's flags, e is --clip and beta is --kl. All per-token tensors are [N, S], with N = B*G rows, and have their
value at the token that it belongs to.

The other algorithms that the papers compare are these lines with other choices: algorithms.py.

Differs from the paper: eps is 1e-4 and std has Bessel's correction (as in TRL, which Intuitor used). A group of equal
rewards gets exact zeros; with a small eps, rounding alone would give advantages up to 0.9. The average over tokens is a
choice by name (`loss_weights`), because papers and their code differ in it. The gradient is clipped to norm 1.
"""

import torch

from engine.head import fits_one_block, head_logps
from engine.packing import row_batches, states_before
from running import processes


def group_advantages(rewards: torch.Tensor, scale: str = "std", eps: float = 1e-4) -> torch.Tensor:
    """Rewards relative to the other rollouts of the same prompt: [B, G] -> [B, G].

    scale "std" divides by the group's standard deviation plus eps (GRPO); "none" only subtracts the mean (Dr. GRPO,
    2503.20783). A group of equal rewards teaches nothing and gets exact zeros. Raises ValueError for G = 1, which
    leaves nothing to compare with.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"group_advantages needs rewards [B, G] with G >= 2 rollouts per prompt, got {rewards.shape}")
    if scale not in ("std", "none"):
        raise ValueError(f"scale is 'std' or 'none', not {scale!r}")
    rewards = rewards.float()
    advantages = rewards - rewards.mean(dim=1, keepdim=True)  # [B, G]
    if scale == "std":
        advantages = advantages / (rewards.std(dim=1, keepdim=True) + eps)
    # The float32 mean of twelve times 0.1 is not 0.1. Divided by a tiny std, that error would become a gradient.
    equal = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)  # [B, 1]
    return advantages.masked_fill(equal, 0.0)


def combined_advantages(
    rewards: dict[str, torch.Tensor], weights: dict[str, float], scale: str = "std"
) -> torch.Tensor:
    """Several rewards, [B, G] each: normalise each within its groups, then weight, then add: [B, G].

    Intuitor's trainer mixes rewards this way. Added first, a reward of 15 to 35 nats would drown one of 0 or 1.
    """
    return sum(weights[name] * group_advantages(values, scale) for name, values in rewards.items())


# --- log-probabilities ----------------------------------------------------------------------------------------------


def token_logps(policy, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """log pi(token | what stands before it) of every completion token: [N, S], 0 off the mask, in nats, float32.

    token_ids, mask: [N, S], right-padded. Differentiable. Only completion tokens go through the head. Where their
    logits fit one block of memory (always on the toy) the lines below are what runs. Otherwise engine/head.py computes
    the same numbers a block at a time: for 256 rows of 200 tokens and Qwen2.5's vocabulary the logits would take 31 GB.
    """
    # The hidden state of a token predicts the token behind it. The plain way to these states is
    #     hidden = policy.base_model(input_ids=token_ids).last_hidden_state  # [N, S, H]
    #     inputs = hidden[:, :-1][mask[:, 1:].bool()]                        # [T, H]
    # (without an attention mask: no token sees the padding to its right). These are the same, up to rounding, but the
    # prompt of a group is read once, and padding not at all.
    inputs = states_before(policy.base_model, token_ids, mask)  # [T, H]
    targets = token_ids[mask.bool()]  # [T]
    head = policy.get_output_embeddings()
    if fits_one_block(inputs, head.weight):
        logits = head(inputs) / temperature  # [T, V]
        logps = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]  # [T]
    else:
        logps, _ = head_logps(head, inputs, targets, temperature)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask.bool(), logps)


@torch.no_grad()
def log_probabilities(policy, rollouts, temperature: float, micro_tokens: int) -> torch.Tensor:
    """token_logps of all of generate.Rollouts, [N, S], in micro-batches, without a gradient."""
    logps = torch.zeros(rollouts.mask.shape, device=rollouts.mask.device)
    for batch, width in row_batches(rollouts, micro_tokens):
        part = rollouts.token_ids[batch, :width], rollouts.mask[batch, :width]
        logps[batch, :width] = token_logps(policy, *part, temperature)
    processes.total(logps)
    return logps


def kl(logps: torch.Tensor, ref_logps: torch.Tensor, kind: str = "k3") -> torch.Tensor:
    """A per-token estimate of KL(pi || pi_ref), in nats, from tokens sampled from pi; of its arguments' shape.

    Schulman (2020): with x = log pi_ref - log pi: k1 = -x, k2 = x^2 / 2, k3 = exp(x) - x - 1. The expectations of k1
    and k3 are the KL. k3 is never negative, varies less than k1 while the models are close, and is what GRPO uses. As
    losses they differ: the gradient of k2 is that of KL(pi || pi_ref), the gradient of k3 is that of the other
    direction, KL(pi_ref || pi), and the gradient of k1 is zero in expectation.
    """
    x = ref_logps - logps
    if kind == "k1":
        return -x
    if kind == "k2":
        return x.square() / 2
    if kind == "k3":
        return torch.expm1(x) - x
    raise ValueError(f"kind is 'k1', 'k2' or 'k3', not {kind!r}")


# --- the loss -------------------------------------------------------------------------------------------------------


def loss_weights(mask: torch.Tensor, average: str = "sequence", max_new_tokens: int | None = None) -> torch.Tensor:
    """The weight of every token in the loss of a whole step, [N, S]: papers that "average" differ by this one tensor.

    sequence  1 / (N |o_i|)        each rollout counts the same, so a token of a long one counts less   (GRPO eq. 3)
    token     1 / sum_i |o_i|      each token of the step counts the same                      (DAPO, 2503.14476)
    constant  1 / (N max_tokens)   each token counts the same, whatever the lengths of this step        (Dr. GRPO)
    sum       1 / N                log pi of the whole completion: REINFORCE               (RLOO, ReMax)

    They are computed once for all rows of the step. A micro-batch takes its rows of them, so the gradient does not
    depend on how the step was cut. A mean of micro-batch means would.
    """
    mask = mask.float()
    if average == "sequence":
        return mask / mask.sum(dim=1, keepdim=True).clamp_min(1) / len(mask)
    if average == "token":
        return mask / mask.sum().clamp_min(1)
    if average == "constant":
        if not max_new_tokens:
            raise ValueError("the constant average divides by max_new_tokens: give it")
        return mask / (len(mask) * max_new_tokens)
    if average == "sum":
        return mask / len(mask)
    raise ValueError(f"average is 'sequence', 'token', 'constant' or 'sum', not {average!r}")


def policy_loss(
    logps: torch.Tensor,
    old_logps: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor | None = None,
    penalty: torch.Tensor | None = None,
    clip: float = 0.2,
    clip_high: float | None = None,
    ratio: str = "token",
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of the rows given, to be minimised, and what to log about it.

        L = - sum_it w_it [ min(c_it A_it, clip(c_it, 1-e, 1+e_high) A_it) - penalty_it ]

    logps, old_logps, mask: [N, S]; advantages: one per row, [B, G] or [N], or one per token, [N, S]. weights: these
    rows of the step's `loss_weights`; without them, the rows are the whole step and averaged as in GRPO. penalty:
    [N, S], beta times `kl`. clip_high: e_high, another e for ratios above 1 (DAPO eq. 10); None takes e. ratio:
    "sequence" gives all tokens of a row the geometric mean of their ratios (GSPO eq. 7): a rollout is clipped as a
    whole.

    On the first update old_logps is logps.detach(): every ratio is 1, nothing is clipped, and the gradient is that of
    REINFORCE. With the `sequence` average and no penalty the loss itself is about 0.

    The metrics are means over the tokens given: clip_fraction (tokens whose gradient the clip removes: A > 0 and a
    ratio above the clip, or A < 0 and one below it) and ratio_change (|ratio - 1|).
    """
    if advantages.numel() not in (len(logps), logps.numel()):
        raise ValueError(f"one advantage per row or token: {len(logps)} rows, {advantages.numel()} advantages")
    if ratio not in ("token", "sequence"):
        raise ValueError(f"ratio is 'token' or 'sequence', not {ratio!r}")
    weights = loss_weights(mask) if weights is None else weights  # [N, S]
    advantage = advantages.reshape(len(logps), -1).to(logps.device)  # [N, 1] or [N, S]
    change = logps - old_logps  # [N, S], nats
    if ratio == "sequence":
        change = ((change * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)).expand_as(change)
    c, low, high = torch.exp(change), 1 - clip, 1 + (clip if clip_high is None else clip_high)
    # The minimum is pessimistic: it takes the clipped term only where going further would be rewarded, and never hides
    # a step that went too far.
    objective = torch.minimum(c * advantage, c.clamp(low, high) * advantage)
    if penalty is not None:
        objective = objective - penalty
    removed = ((c > high) & (advantage > 0)) | ((c < low) & (advantage < 0))
    metrics = {"clip_fraction": token_mean(removed, mask), "ratio_change": token_mean((c - 1).abs(), mask)}
    return -(objective * weights).sum(), metrics


def token_mean(values: torch.Tensor, mask: torch.Tensor) -> float:
    """The mean of [N, S] values over the mask's tokens, for the log."""
    return ((values.detach() * mask).sum() / mask.sum().clamp_min(1)).item()


# --- one step of learning -------------------------------------------------------------------------------------------


def update(
    policy,
    ref_policy,
    optimizer,
    rollouts,
    advantages: torch.Tensor,
    *,
    temperature: float = 1.0,
    kl_weight: float = 0.0,
    kl_estimator: str = "k3",
    clip: float = 0.2,
    clip_high: float | None = None,
    ratio: str = "token",
    loss_average: str = "sequence",
    max_new_tokens: int | None = None,
    updates_per_step: int = 1,
    micro_tokens: int = 8192,
) -> dict[str, float | None]:
    """Take `updates_per_step` optimiser steps on one step's rollouts; returns metrics.

    rollouts: generate.Rollouts; advantages: [B, G], or [N, S] where the tokens of a rollout differ; ref_policy: the
    frozen starting model, or None without a KL penalty; micro_tokens: tokens in one pass, to suit memory: nothing else
    depends on it.

    The metrics are of the last update, over the tokens trained on. sampling_gap, nats, is how far the sampler's
    log-probabilities are from those computed here with the same weights, on average: the cheapest detector of a wrong
    mask, position, temperature or shift. None where no row had anything to learn from.
    """
    advantages = advantages.reshape(len(rollouts.mask), -1).to(rollouts.mask.device)  # [N, 1] or [N, S]
    weights = loss_weights(rollouts.mask, loss_average, max_new_tokens)  # [N, S]
    # Without a KL penalty a row of zero advantage has no gradient, so it needs no pass.
    learns = advantages.any(dim=1) | (ref_policy is not None)  # [N]
    rows = learns.nonzero()[:, 0]
    batches = row_batches(rollouts, micro_tokens, rows)  # with torchrun this process's; the sums are the whole step's
    total = max(1, rollouts.mask[rows].sum().item())  # tokens
    old, reference, sampling_gap = {}, {}, 0.0  # log-probabilities by micro-batch, kept for later updates
    for update_number in range(updates_per_step):
        metrics = {"loss": 0.0, "clip_fraction": 0.0, "ratio_change": 0.0, "kl": None if ref_policy is None else 0.0}
        for i, (batch, width) in enumerate(batches):
            token_ids, mask = rollouts.token_ids[batch, :width], rollouts.mask[batch, :width]  # [n, width]
            share = mask.sum().item() / total  # of the step's tokens
            logps = token_logps(policy, token_ids, mask, temperature)
            if update_number == 0:
                # On policy, these very numbers are the old log-probabilities: no pass of their own. The sampler's are
                # not taken: they round differently (bfloat16, other kernels), and the ratio would not start at 1.
                old[i] = logps.detach()
                sampling_gap += token_mean((old[i] - rollouts.logps[batch, :width]).abs(), mask) * share
                if ref_policy is not None:
                    with torch.no_grad():
                        reference[i] = token_logps(ref_policy, token_ids, mask, temperature)
            penalty = None
            if ref_policy is not None:
                distance = kl(logps, reference[i], kl_estimator)  # [n, width]
                penalty = kl_weight * distance
                metrics["kl"] += token_mean(distance, mask) * share
            loss, part = policy_loss(
                logps, old[i], advantages[batch, :width], mask, weights[batch, :width], penalty, clip, clip_high, ratio
            )
            loss.backward()  # gradients of micro-batches add up to that of the step: the weights are the whole step's
            metrics["loss"] += loss.item()
            for name, value in part.items():
                metrics[name] += value * share
        norm = optimizer_step(optimizer)
    summed = processes.added({**metrics, "sampling_gap": sampling_gap if len(rows) else None})
    return {**metrics, "grad_norm": norm, **summed}


def optimizer_step(optimizer, max_norm: float = 1.0) -> float:
    """Clip the gradient to max_norm, take the step, forget the gradient. Returns the norm before clipping.

    With torchrun it is first added up over the processes, as it adds up over micro-batches: the weights of the loss are
    the whole step's.

    The optimiser is AdamW without weight decay (engine/masters.py); its step also updates a model in bfloat16.
    """
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in trained:
        if weight.grad is None:  # no row had an advantage: Adam's momentum still moves the weights
            weight.grad = torch.zeros_like(weight)
    processes.total(*(weight.grad for weight in trained))
    norm = torch.nn.utils.clip_grad_norm_(trained, max_norm).item()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
