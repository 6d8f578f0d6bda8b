"""grpo.py: advantages, log-probabilities, KL, clipping and averaging, by hand or by brute force."""

import copy
import inspect
import math

import pytest
import torch
from conftest import VOCABULARY, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import grpo
from engine import head as engine_head
from engine.head import HeadLogps, micro_batches, score
from engine.masters import adamw
from generate import generate, stream
from grpo import (
    group_advantages,
    kl,
    loss_weights,
    optimizer_step,
    policy_loss,
    token_logps,
    update,
)

# --- advantages -----------------------------------------------------------------------------------------------------


def test_each_group_is_divided_by_its_own_deviation():
    # deviations 1 and 10: divided by that of the batch, the first group would hardly count
    advantages = group_advantages(torch.tensor([[0.0, 2.0, 1.0], [0.0, 20.0, 10.0]]), eps=0.0)
    assert torch.allclose(advantages, torch.tensor([[-1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]), atol=1e-6)


def test_one_right_in_four_has_known_advantages():
    # mean 1/4, standard deviation with Bessel's correction 1/2
    expected = torch.tensor([[-0.5, -0.5, -0.5, 1.5]])
    assert torch.allclose(group_advantages(torch.tensor([[0.0, 0, 0, 1]]), eps=0.0), expected, atol=1e-6)
    assert torch.allclose(
        group_advantages(torch.tensor([[0.0, 0, 0, 1]]), scale="none"), torch.tensor([[-0.25, -0.25, -0.25, 0.75]])
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_a_group_of_equal_rewards_gets_exact_zeros(value):
    # twelve times 0.1 has a float32 mean that is not 0.1: divided by a tiny deviation, rounding would become a gradient
    for eps in (1e-4, 1e-8):
        assert (group_advantages(torch.full((1, 12), value), eps=eps) == 0).all()


def test_the_scale_holds_for_several_rewards_too():
    rewards = {"a": torch.tensor([[0.0, 4.0]]), "b": torch.tensor([[2.0, 0.0]])}
    mixed = grpo.combined_advantages(rewards, {"a": 1.0, "b": 0.5}, scale="none")
    assert mixed.tolist() == [[-2 + 0.5, 2 - 0.5]]


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="G >= 2"):
        group_advantages(torch.ones(4, 1))


def test_advantages_compare_within_a_prompt_only():
    rewards = torch.tensor([[0.0, 1, 0, 1], [10.0, 11, 10, 11]])
    advantages = group_advantages(rewards)
    assert torch.allclose(advantages[0], advantages[1], atol=1e-5)  # the level of a prompt does not matter
    assert torch.allclose(advantages.mean(dim=1), torch.zeros(2), atol=1e-6)
    assert torch.equal(group_advantages(rewards.flip(0)), advantages.flip(0))


def test_grpo_ignores_shift_and_scale_of_rewards_and_dr_grpo_only_shift():
    rewards = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    moved = 5 * rewards + 3
    assert torch.allclose(group_advantages(moved, eps=0.0), group_advantages(rewards, eps=0.0), atol=1e-4)
    centred = group_advantages(rewards, scale="none")
    assert torch.allclose(group_advantages(rewards + 3, scale="none"), centred, atol=1e-5)
    assert torch.allclose(group_advantages(moved, scale="none"), 5 * centred, atol=1e-4)


# --- log-probabilities ----------------------------------------------------------------------------------------------


def sequences(lengths=((3, 5), (7, 2), (1, 6))):
    """Random right-padded rows of (prompt, completion) lengths, and their mask."""
    generator = torch.Generator().manual_seed(1)
    width = max(sum(pair) for pair in lengths)
    token_ids = torch.randint(0, VOCABULARY, (len(lengths), width), generator=generator)
    mask = torch.zeros_like(token_ids)
    for row, (prompt, completion) in enumerate(lengths):
        mask[row, prompt : prompt + completion] = 1
    return token_ids, mask


def in_blocks(monkeypatch, size):
    """Let the head go through the vocabulary in blocks of `size`."""

    def blocks(hidden, weight):
        return (slice(first, first + size) for first in range(0, len(weight), size))

    monkeypatch.setattr(HeadLogps, "blocks", staticmethod(blocks))


def only_in_blocks(monkeypatch):
    """Let no logits fit one block, so that the engine computes them."""
    for module in (grpo, engine_head):
        monkeypatch.setattr(module, "fits_one_block", lambda *_: False)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("block", [None, 1, 9, 100])  # None: the plain path
def test_token_logps_equal_a_loop_over_single_rows_and_positions(policy, temperature, block, monkeypatch):
    token_ids, mask = sequences()
    if block:
        only_in_blocks(monkeypatch)
        in_blocks(monkeypatch, block)
    logps, (certain_logps, certainty) = (
        token_logps(policy, token_ids, mask, temperature),
        score(policy, token_ids, mask),
    )
    for row in range(len(token_ids)):
        for t in range(token_ids.shape[1]):
            if not mask[row, t]:
                assert logps[row, t] == 0
                continue
            logits = policy(input_ids=token_ids[row : row + 1, :t]).logits[0, -1]  # of what stands before t, unpadded
            expected = (logits / temperature).log_softmax(-1)[token_ids[row, t]]
            assert logps[row, t].item() == pytest.approx(expected.item(), abs=1e-5)
            plain = logits.log_softmax(-1)  # score is at temperature 1
            assert certain_logps[row, t].item() == pytest.approx(plain[token_ids[row, t]].item(), abs=1e-5)
            divergence = -math.log(VOCABULARY) - plain.mean()  # KL(U || p)
            assert certainty[row, t].item() == pytest.approx(divergence.item(), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_plain_path_and_the_blocks_have_the_same_gradients(policy, temperature, monkeypatch):
    token_ids, mask = sequences()
    upstream = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))

    def gradients():
        loss = (token_logps(policy, token_ids, mask, temperature) * upstream).sum()
        return torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)

    plain = gradients()
    only_in_blocks(monkeypatch)
    in_blocks(monkeypatch, 7)
    for ours, expected in zip(gradients(), plain, strict=True):
        assert (ours is None) == (expected is None)
        if ours is not None:
            assert torch.allclose(ours, expected, atol=1e-5)


def test_a_toy_step_runs_the_plain_path_and_a_large_vocabulary_the_blocks(qwen2, monkeypatch):
    monkeypatch.setattr(HeadLogps, "apply", lambda *_: pytest.fail("the toy's logits fit one block"))
    token_ids, mask = sequences()
    token_logps(qwen2, token_ids, mask)
    monkeypatch.undo()
    monkeypatch.setattr(torch.Tensor, "log_softmax", lambda *_: pytest.fail("all logits at once"))
    large = tiny_model("qwen2")
    large.resize_token_embeddings(2**23 // 10, mean_resizing=False)  # 13 tokens of it are more than one block
    token_logps(large, token_ids, mask)


def test_padding_that_looks_like_an_end_token_changes_no_mask(policy):
    # the mask says what counts: an end token in the prompt is read, one that was sampled is scored
    token_ids, mask = sequences()
    token_ids[:, 2], token_ids[0, 7] = 1, 1
    logps = token_logps(policy, token_ids, mask)
    assert torch.equal(logps != 0, mask.bool())


def test_what_stands_in_the_padding_does_not_matter(policy):
    token_ids, mask = sequences()
    other = token_ids.clone()
    for row, end in enumerate((8, 9, 7)):
        other[row, end:] = (other[row, end:] + 5) % VOCABULARY
    assert torch.allclose(token_logps(policy, other, mask), token_logps(policy, token_ids, mask), atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [False, True])
def test_the_head_in_blocks_gives_the_gradient_of_the_whole(temperature, bias, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    sizes = {"hidden": (12, 8), "weight": (50, 8), "bias": (50,)}
    leaves = {name: torch.randn(shape, generator=generator, requires_grad=True) for name, shape in sizes.items()}
    targets = torch.randint(50, (12,), generator=generator)
    targets[3] = targets[4]  # two tokens that add to the same row of the head
    upstream = torch.randn(12, generator=generator)

    def gradients(logps):
        used = [leaf for name, leaf in leaves.items() if bias or name != "bias"]
        return torch.autograd.grad((logps * upstream).sum(), used)

    logits = torch.nn.functional.linear(leaves["hidden"], leaves["weight"], leaves["bias"] if bias else None)
    plain = gradients((logits / temperature).log_softmax(-1).gather(-1, targets[:, None])[:, 0])
    for block in (1, 7, 50, 1000):
        in_blocks(monkeypatch, block)
        logps, _ = HeadLogps.apply(
            leaves["hidden"], leaves["weight"], leaves["bias"] if bias else None, targets, temperature, False
        )
        for ours, expected in zip(gradients(logps), plain, strict=True):
            assert ((ours - expected).norm() / expected.norm()).item() < 1e-5


@pytest.mark.parametrize("peak", [0.0, 8.0, 16.0])
def test_in_bfloat16_sure_tokens_have_as_good_a_gradient_as_others(peak, monkeypatch):
    """With p near 1 the gradient is g (1 - p): a difference that bfloat16 does not hold. Against float64."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(50, (64,), generator=generator)
    weight = torch.randn(50, 32, generator=generator) / 32**0.5
    hidden = torch.randn(64, 32, generator=generator) + peak * weight[targets]
    upstream = torch.randn(64, generator=generator)
    leaves = [x.bfloat16().requires_grad_() for x in (hidden, weight)]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    in_blocks(monkeypatch, 20)
    logps, _ = HeadLogps.apply(*leaves, None, targets, 1.0, False)
    (logps * upstream).sum().backward()
    expected = (exact[0] @ exact[1].t()).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    (expected * upstream).sum().backward()
    assert torch.allclose(logps.double(), expected, atol=1e-5)
    for ours, right in zip(leaves, exact, strict=True):
        assert ((ours.grad.double() - right.grad).norm() / right.grad.norm()).item() < 0.005


def test_no_tensor_with_positions_and_vocabulary_is_ever_made():
    # 1,000 completion tokens and a vocabulary of 50,000: 200 MB of logits in one piece. Whatever an operation makes is
    # seen here; the largest should be blocks of logits, 32 MB.
    model = tiny_model("qwen2")
    model.resize_token_embeddings(50_000, mean_resizing=False)
    token_ids = torch.zeros(10, 101, dtype=torch.long)
    mask = torch.ones_like(token_ids)
    mask[:, 0] = 0
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            seen.extend(x.numel() for x in tree_leaves(made) if isinstance(x, torch.Tensor))
            return made

    with Watch():
        token_logps(model, token_ids, mask).sum().backward()
    assert max(seen) <= 2**23
    assert max(seen) > 50_000 * 32  # the logits were seen


def test_half_precision_models_give_float32_log_probabilities(qwen2):
    token_ids, mask = sequences()
    assert token_logps(qwen2.bfloat16(), token_ids, mask).dtype == torch.float32


# --- KL -------------------------------------------------------------------------------------------------------------


def test_k1_and_k3_have_the_kl_as_expectation_and_k3_is_never_negative():
    p, q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.5, 0.3])
    exact = (p * (p / q).log()).sum()  # KL(p || q), with samples from p
    for kind in ("k1", "k3"):
        assert torch.allclose((p * kl(p.log(), q.log(), kind)).sum(), exact, atol=1e-6)
    # with its arguments swapped the estimate is of another number
    assert not torch.allclose((p * kl(q.log(), p.log(), "k3")).sum(), exact, atol=0.05)
    assert (kl(p.log(), q.log(), "k3") > 0).all()
    assert (kl(p.log(), q.log(), "k2") > 0).all()
    for kind in ("k1", "k2", "k3"):
        assert (kl(p.log(), p.log(), kind) == 0).all()


def test_as_losses_the_estimators_differ_in_their_gradients():
    # over a categorical with logits z, expectation under p held fixed, as in a policy gradient's samples
    z, q = torch.tensor([0.5, -0.2, 0.1], requires_grad=True), torch.tensor([0.2, 0.5, 0.3])
    p = z.softmax(-1)

    def gradient(value):
        return torch.autograd.grad(value, z, retain_graph=True)[0]

    reverse = gradient((p * (p / q).log()).sum())  # of KL(p || q)
    forward = gradient((q * (q / p).log()).sum())  # of KL(q || p)
    by_kind = {kind: gradient((p.detach() * kl(p.log(), q.log(), kind)).sum()) for kind in ("k1", "k2", "k3")}
    assert torch.allclose(by_kind["k1"], torch.zeros(3), atol=1e-6)
    assert torch.allclose(by_kind["k2"], reverse, atol=1e-6)
    assert torch.allclose(by_kind["k3"], forward, atol=1e-6)


def test_k3_stays_finite_for_a_gap_of_50_nats_either_way():
    gap = torch.tensor([-50.0, 50.0])
    assert kl(gap, torch.zeros(2)).isfinite().all()


def test_every_estimator_can_be_the_penalty(qwen2):
    reference, seen = tiny_model("gpt2"), {}
    rollouts = rolled_out(qwen2)
    for kind in ("k1", "k2", "k3"):
        frozen = torch.optim.SGD(qwen2.parameters(), lr=0.0)
        zeros = torch.zeros(3, 4)
        seen[kind] = update(qwen2, reference, frozen, rollouts, zeros, kl_weight=0.1, kl_estimator=kind)
    x = token_logps(reference, rollouts.token_ids, rollouts.mask) - rollouts.logps
    expected = {"k1": -x, "k2": x.square() / 2, "k3": x.exp() - x - 1}
    for kind, values in expected.items():
        mean = (values * rollouts.mask).sum() / rollouts.mask.sum()
        assert seen[kind]["kl"] == pytest.approx(mean.item(), rel=1e-4)
        per_row = (values * rollouts.mask).sum(1) / rollouts.mask.sum(1)
        assert seen[kind]["loss"] == pytest.approx(0.1 * per_row.mean().item(), rel=1e-4)


def test_unknown_names_are_refused():
    for call in (
        lambda: kl(torch.zeros(1), torch.zeros(1), "k4"),
        lambda: loss_weights(torch.ones(1, 2), "mean"),
        lambda: loss_weights(torch.ones(1, 2), "constant"),
        lambda: group_advantages(torch.ones(2, 2), scale="max"),
    ):
        with pytest.raises(ValueError, match=r"'|max_new_tokens"):
            call()


# --- the clipped objective ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advantage", "ratio", "gradient_flows"),
    [(1, 0.5, True), (1, 1.0, True), (1, 1.5, False), (-1, 0.5, False), (-1, 1.0, True), (-1, 1.5, True)],
)
def test_the_clip_removes_the_gradient_only_where_it_would_go_further_out(advantage, ratio, gradient_flows):
    logps = torch.tensor([[ratio]]).log().requires_grad_()
    loss, metrics = policy_loss(logps, torch.zeros(1, 1), torch.tensor([[float(advantage)]]), torch.ones(1, 1))
    loss.backward()
    assert (logps.grad.item() != 0) == gradient_flows
    assert metrics["clip_fraction"] == float(not gradient_flows)
    if gradient_flows:  # a step against the gradient makes a good token likelier and a bad one less likely
        assert (logps.grad.item() < 0) == (advantage > 0)


def test_on_policy_the_loss_is_0_and_its_gradient_is_reinforce():
    mask = torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    logps = (torch.rand(2, 3, generator=torch.Generator().manual_seed(0)) - 2).requires_grad_()
    advantages = torch.tensor([[1.0, -1.0]])
    loss, metrics = policy_loss(logps, logps.detach(), advantages, mask)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-7)
    # the gradient of - mean_i A_i mean_t log pi: -1/N * A_i / |o_i|
    assert torch.allclose(logps.grad, torch.tensor([[-0.25, -0.25, 0], [1 / 6, 1 / 6, 1 / 6]]), atol=1e-6)
    assert metrics == {"clip_fraction": 0.0, "ratio_change": 0.0}


def test_padding_is_not_counted_in_the_clip_fraction():
    logps = torch.tensor([[1.0, 0.0, 9.0, 9.0]])
    _, metrics = policy_loss(logps, torch.zeros(1, 4), torch.tensor([[1.0]]), torch.tensor([[1, 1, 0, 0]]))
    assert metrics["clip_fraction"] == 0.5


def test_the_penalty_pulls_towards_the_reference():
    logps = torch.tensor([[-1.0]], requires_grad=True)
    penalty = 0.1 * kl(logps, torch.tensor([[-3.0]]))
    loss, _ = policy_loss(logps, logps.detach(), torch.zeros(1, 1), torch.ones(1, 1), penalty=penalty)
    loss.backward()
    assert logps.grad.item() > 0  # descent lowers log pi, which is above that of the reference
    assert loss.item() == pytest.approx(0.1 * (math.exp(-2) + 1), abs=1e-6)  # k3 at x = -2


def test_the_clip_is_symmetric_about_1_and_not_in_the_logarithm():
    # a ratio of 0.82 lies inside 1 - 0.2 and outside of 1 / 1.2 = 0.833
    for ratio, clip, clipped in ((0.82, 0.2, False), (0.79, 0.2, True), (1.19, 0.2, False), (1.21, 0.2, True)):
        logps = torch.tensor([[ratio]]).log().requires_grad_()
        advantage = torch.tensor([[1.0 if ratio > 1 else -1.0]])
        loss, metrics = policy_loss(logps, torch.zeros(1, 1), advantage, torch.ones(1, 1), clip=clip)
        loss.backward()
        assert metrics["clip_fraction"] == (logps.grad.item() == 0) == clipped
    assert inspect.signature(policy_loss).parameters["clip"].default == 0.2
    assert inspect.signature(update).parameters["clip"].default == 0.2


def test_the_number_of_advantages_must_fit_the_rows():
    with pytest.raises(ValueError, match="one advantage per row"):
        policy_loss(torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(2, 3), torch.ones(4, 3))


# --- averaging ------------------------------------------------------------------------------------------------------


def test_the_weight_of_a_token_under_each_average():
    mask = torch.zeros(2, 8)
    mask[0, :2] = 1
    mask[1, :] = 1  # completions of 2 and of 8 tokens
    for average, short, long in (("sequence", 1 / 4, 1 / 16), ("token", 1 / 10, 1 / 10), ("constant", 1 / 32, 1 / 32)):
        weights = loss_weights(mask, average, max_new_tokens=16)
        assert weights[0, 0].item() == pytest.approx(short)
        assert weights[1, 0].item() == pytest.approx(long)
        assert weights[0, 2:].sum() == 0


def test_an_empty_completion_gives_a_finite_loss_and_no_gradient():
    for average in ("sequence", "token", "constant"):
        logps = torch.zeros(1, 3, requires_grad=True)
        weights = loss_weights(torch.zeros(1, 3), average, max_new_tokens=3)
        loss, _ = policy_loss(logps, logps.detach(), torch.ones(1), torch.zeros(1, 3), weights)
        loss.backward()
        assert loss.isfinite()
        assert (logps.grad == 0).all()


def rolled_out(policy, seed=0, group=4, temperature=1.0):
    prompts = [[3, 4, 5], [6, 7, 8, 9, 10, 11, 12], [2]]
    return generate(policy, prompts, group, 12, temperature, eos_ids=(1, 2), generator=stream(seed))


ADVANTAGES = torch.tensor([[1.0, -1, 2, -2], [0.5, 0.5, -1, 0], [3.0, -1, -1, -1]])


@pytest.mark.parametrize("average", ["sequence", "token", "constant"])
def test_cutting_a_step_into_micro_batches_changes_nothing(average):
    weights, logged = [], []
    for micro_tokens in (10_000, 60, 1):  # one batch, a few, one row each
        policy = tiny_model("qwen2")
        reference = tiny_model("gpt2")
        optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
        metrics = update(
            policy,
            reference,
            optimizer,
            rolled_out(policy),
            ADVANTAGES,
            loss_average=average,
            max_new_tokens=12,
            micro_tokens=micro_tokens,
            kl_weight=0.1,
        )
        weights.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
        logged.append(metrics)
    for other, metrics in zip(weights[1:], logged[1:], strict=True):
        assert torch.allclose(other, weights[0], atol=2e-6)
        assert metrics == pytest.approx(logged[0], rel=1e-4, abs=1e-6)


def test_micro_batches_hold_every_row_once_and_keep_to_the_budget():
    lengths = torch.tensor([5, 30, 7, 12, 30, 6, 90])
    batches = micro_batches(lengths, 60)
    assert sorted(torch.cat(batches).tolist()) == list(range(7))
    assert all(len(rows) * lengths[rows].max() <= 60 or len(rows) == 1 for rows in batches)
    assert len(batches) == 3  # [90], [30, 30], [12, 7, 6, 5]


# --- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampling_and_training_see_the_same_log_probabilities(policy, temperature):
    rollouts = rolled_out(policy, temperature=temperature)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    metrics = update(policy, None, optimizer, rollouts, ADVANTAGES, temperature=temperature)
    assert metrics["sampling_gap"] < 1e-5
    assert metrics["kl"] is None


@pytest.mark.parametrize("average", ["sequence", "token", "constant"])
def test_rows_without_an_advantage_are_skipped_and_that_changes_nothing(average, monkeypatch):
    advantages = torch.tensor([[0.0, 0, 0, 0], [0.5, 0.5, -1, 0], [0.0, 0, 0, 0]])
    gradients, passed = [], []
    for zero in (0.0, 1e-30):  # the second is as good as zero, and not skipped
        policy = tiny_model("qwen2")
        before = torch.cat([p.detach().flatten() for p in policy.parameters()])
        rollouts = rolled_out(policy)
        monkeypatch.setattr(
            "grpo.token_logps", lambda p, ids, *rest: (passed.append(len(ids)), token_logps(p, ids, *rest))[1]
        )
        optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
        update(
            policy,
            None,
            optimizer,
            rollouts,
            advantages.masked_fill(advantages == 0, zero),
            loss_average=average,
            max_new_tokens=12,
        )
        gradients.append(torch.cat([p.detach().flatten() for p in policy.parameters()]) - before)
    assert passed == [3, 12]
    assert gradients[0].abs().max() > 1e-3
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_a_step_without_any_advantage_moves_the_weights_by_the_momentum_alone():
    policies = [tiny_model("qwen2"), tiny_model("qwen2")]
    rollouts = rolled_out(policies[0])
    for policy, zero in zip(policies, (0.0, 1e-30), strict=True):
        optimizer = adamw(policy, lr=1e-3)
        update(policy, None, optimizer, rollouts, ADVANTAGES)
        metrics = update(policy, None, optimizer, rollouts, torch.full((3, 4), zero))
    assert metrics["grad_norm"] < 1e-6
    for one, other in zip(policies[0].parameters(), policies[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    empty = update(policies[0], None, optimizer, rollouts, torch.zeros(3, 4))
    assert empty["sampling_gap"] is None  # nothing was compared: not a clean bill


def test_a_bfloat16_policy_learns_by_steps_that_bfloat16_cannot_hold():
    # At lr 1e-5 a step is a thousandth of the resolution at a weight of 1; 200 of them add up to 2e-3.
    policy = tiny_model("qwen2").bfloat16()
    before = [p.detach().clone() for p in policy.parameters()]
    optimizer = adamw(policy, lr=1e-5)
    masters = optimizer.param_groups[0]["params"]
    for _ in range(200):
        for p in policy.parameters():
            (p.sum() * 0.5).backward()  # in two micro-batches
            (p.sum() * 0.5).backward()
        assert all(master.grad.dtype == torch.float32 and (master.grad == 1).all() for master in masters)
        optimizer.step()
        optimizer.zero_grad()
    for p, master, old in zip(policy.parameters(), masters, before, strict=True):
        assert torch.equal(p, master.bfloat16())
        assert torch.allclose(master, old.float() - 200 * 1e-5, atol=2e-5)


def test_a_float32_policy_is_its_own_master(qwen2):
    masters = adamw(qwen2, lr=1e-5).param_groups[0]["params"]
    assert all(master is p for master, p in zip(masters, qwen2.parameters(), strict=True))


def test_a_bfloat16_policy_samples_what_it_trains():
    policy = tiny_model("qwen2").bfloat16()
    optimizer = adamw(policy, lr=1e-3)
    metrics = update(policy, None, optimizer, rolled_out(policy), ADVANTAGES, updates_per_step=2)
    assert 0 < metrics["sampling_gap"] < 0.05
    assert 0 < metrics["ratio_change"] < 1


def test_the_first_update_has_ratio_1_and_the_second_has_not(qwen2):
    rollouts = rolled_out(qwen2)
    one = update(copy.deepcopy(qwen2), None, torch.optim.SGD([torch.zeros(1)], lr=1.0), rollouts, ADVANTAGES)
    assert one["ratio_change"] == 0.0
    assert one["clip_fraction"] == 0.0
    optimizer = torch.optim.SGD(qwen2.parameters(), lr=1.0)
    two = update(qwen2, None, optimizer, rollouts, ADVANTAGES, updates_per_step=2)
    assert two["ratio_change"] > 0.01
    assert two["clip_fraction"] > 0


def test_metrics_of_micro_batches_are_those_of_the_step():
    logged = []
    for micro_tokens in (10_000, 60, 1):
        policy = tiny_model("qwen2")
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        flags = {"clip": 0.05, "updates_per_step": 2, "kl_weight": 0.01, "micro_tokens": micro_tokens}
        logged.append(update(policy, tiny_model("gpt2"), optimizer, rolled_out(policy), ADVANTAGES, **flags))
    assert logged[0]["clip_fraction"] > 0.05 < logged[0]["ratio_change"]
    for metrics in logged[1:]:
        assert metrics == pytest.approx(logged[0], rel=1e-3, abs=1e-5)


def test_an_update_averages_as_it_is_told():
    # without advantages the loss is the penalty alone, averaged over tokens in one of three ways
    policy, reference = tiny_model("qwen2"), tiny_model("gpt2")
    rollouts, frozen = rolled_out(policy), torch.optim.SGD(policy.parameters(), lr=0.0)
    x = token_logps(reference, rollouts.token_ids, rollouts.mask) - rollouts.logps
    k3, lengths = ((x.exp() - x - 1) * rollouts.mask).sum(1), rollouts.mask.sum(1)  # [N] each
    expected = {"sequence": (k3 / lengths).mean(), "token": k3.sum() / lengths.sum(), "constant": k3.mean() / 12}
    for average, value in expected.items():
        flags = {"kl_weight": 0.5, "loss_average": average, "max_new_tokens": 12}
        measured = update(policy, reference, frozen, rollouts, torch.zeros(3, 4), **flags)
        assert measured["loss"] == pytest.approx(0.5 * value.item(), rel=1e-4)


def test_the_clip_given_to_an_update_is_the_one_that_clips():
    fractions = []
    for clip in (1e-4, 0.9):
        policy = tiny_model("qwen2")
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        rollouts = rolled_out(policy)
        measured = update(policy, None, optimizer, rollouts, ADVANTAGES, clip=clip, updates_per_step=2)
        fractions.append(measured["clip_fraction"])
    assert fractions[0] > 0.1
    assert fractions[1] < fractions[0] / 5


def test_with_advantages_0_the_kl_penalty_brings_the_policy_back_to_the_reference():
    policy, reference = tiny_model("qwen2"), tiny_model("qwen2")
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    before = [p.clone() for p in reference.parameters()]
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.05)
    seen = [
        update(policy, reference, optimizer, rolled_out(policy, seed, 40), torch.zeros(3, 40), kl_weight=1.0)["kl"]
        for seed in range(12)
    ]
    assert sum(seen[-4:]) < 0.7 * sum(seen[:4])
    assert all(torch.equal(p, old) for p, old in zip(reference.parameters(), before, strict=True))  # never updated


def test_the_reference_is_scored_at_the_temperature_of_the_policy():
    # a policy that is its own reference is at distance 0, whatever the temperature
    policy, reference = tiny_model("qwen2"), tiny_model("qwen2")
    rollouts = rolled_out(policy, temperature=0.5)
    frozen = torch.optim.SGD(policy.parameters(), lr=0.0)
    metrics = update(policy, reference, frozen, rollouts, ADVANTAGES, temperature=0.5, kl_weight=0.1)
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["sampling_gap"] < 1e-5


def test_the_gradient_is_clipped_to_norm_1_and_logged_before():
    weights = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    for gradient, step in (([3.0, 4.0], [0.6, 0.8]), ([0.3, 0.4], [0.3, 0.4])):
        with torch.no_grad():
            weights.zero_()
        weights.grad = torch.tensor(gradient)
        assert optimizer_step(optimizer) == pytest.approx(math.hypot(*gradient))
        assert torch.allclose(weights.detach(), -torch.tensor(step), atol=1e-5)
        assert weights.grad is None


def test_self_certainty_is_a_grade_without_a_gradient(qwen2):
    """A step on advantages made from certainty moves the weights exactly as the same advantages from anywhere else."""
    rollouts = rolled_out(qwen2)
    assert not rollouts.self_certainty.requires_grad
    token_ids, mask = sequences()
    assert not score(qwen2, token_ids, mask)[1].requires_grad
    logps = token_logps(qwen2, rollouts.token_ids, rollouts.mask)
    per_row = (logps * rollouts.mask).sum(1) / rollouts.mask.sum(1)
    expected = torch.autograd.grad(-(ADVANTAGES.flatten() * per_row).mean(), list(qwen2.parameters()))  # REINFORCE
    before = [p.detach().clone() for p in qwen2.parameters()]
    norm = torch.cat([g.flatten() for g in expected]).norm()
    update(qwen2, None, torch.optim.SGD(qwen2.parameters(), lr=1.0), rollouts, ADVANTAGES)
    for p, old, gradient in zip(qwen2.parameters(), before, expected, strict=True):
        assert torch.allclose(old - p, gradient / norm.clamp_min(1), atol=1e-5)


def test_rollouts_and_advantages_are_left_as_they_were(qwen2):
    rollouts, advantages = rolled_out(qwen2), ADVANTAGES.clone()
    copied = copy.deepcopy(rollouts)
    update(qwen2, None, torch.optim.SGD(qwen2.parameters(), lr=1.0), rollouts, advantages, updates_per_step=2)
    assert torch.equal(advantages, ADVANTAGES)
    for name, value in vars(copied).items():
        assert torch.equal(getattr(rollouts, name), value), name
