"""The eight algorithms: their advantages on cases worked by hand, their losses against slow loops and against TRL."""

import dataclasses
import json
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

import algorithms
import data
import ppo
import toy
import train
from algorithms import ALGORITHMS, advantages_of, leave_one_out, overlong_penalty, returns, token_rewards, whitened
from engine import memory
from generate import generate, stream
from grpo import group_advantages, log_probabilities, loss_weights, policy_loss, token_logps
from rewards import Graded

N, S, G = 6, 9, 3
SPANS = [(2, 7), (1, 9), (3, 5), (2, 3), (4, 9), (1, 4)]  # of the completions in their rows
MASK = torch.zeros(N, S, dtype=torch.long)
for row, (first, last) in enumerate(SPANS):
    MASK[row, first:last] = 1


def tensors(size: float) -> tuple[torch.Tensor, ...]:
    """(logps, old_logps, advantages) in float64; size: how far the policy has moved."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(N, S, generator=generator, dtype=torch.float64) * 2
    moved = old + size * torch.randn(N, S, generator=generator, dtype=torch.float64)
    return moved.requires_grad_(), old, torch.randn(N, generator=generator, dtype=torch.float64)


def slow_loss(logps, old, advantages, clip, clip_high, ratio, average) -> torch.Tensor:
    """The formulas of the papers, a rollout and a token at a time."""
    total, tokens = torch.zeros((), dtype=torch.float64), sum(last - first for first, last in SPANS)
    for i, (first, last) in enumerate(SPANS):
        length = last - first
        mean = sum(logps[i, t] - old[i, t] for t in range(first, last)) / length
        for t in range(first, last):
            c = torch.exp(logps[i, t] - old[i, t] if ratio == "token" else mean)
            a = advantages[i, t] if advantages.ndim == 2 else advantages[i]
            term = torch.min(c * a, torch.clamp(c, 1 - clip, 1 + clip_high) * a)
            over = {"sequence": N * length, "token": tokens, "constant": N * 20, "sum": N}[average]
            total = total - term / over
    return total


LOSSES = {  # what each algorithm's paper minimises: ratio, clip below and above 1, average; how far it has moved
    "grpo": ("token", 0.2, 0.2, "sequence", 0.3),
    "dr_grpo": ("token", 0.2, 0.2, "constant", 0.3),
    "dapo": ("token", 0.2, 0.28, "token", 0.3),
    "gspo": ("sequence", 3e-4, 4e-4, "sequence", 1.5e-3),
    "rloo": ("token", 0.2, 0.2, "sum", 0.0),
    "remax": ("token", 0.2, 0.2, "sum", 0.0),
    "reinforce++": ("token", 0.2, 0.2, "token", 0.3),
    "ppo": ("token", 0.2, 0.2, "token", 0.3),
}


def ours(logps, old, advantages, name) -> torch.Tensor:
    """The loss with the flags that ALGORITHMS gives to that algorithm, over train.py's defaults."""
    chosen = {name: getattr(train.Settings, name) for name in ("ratio", "clip", "clip_high", "loss_average")}
    chosen |= {key: value for key, value in ALGORITHMS[name].items() if key in chosen}
    weights = loss_weights(MASK, chosen.pop("loss_average"), max_new_tokens=20)
    return policy_loss(logps, old, advantages, MASK, weights.double(), **chosen)[0]


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_loss_and_its_gradient_are_those_of_a_slow_loop(name, per_token):
    ratio, clip, clip_high, average, size = LOSSES[name]
    logps, old, advantages = tensors(size)
    if per_token:
        advantages = torch.randn(N, S, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = ours(logps, old, advantages, name)
    [gradient] = torch.autograd.grad(loss, logps)
    expected = slow_loss(logps, old, advantages, clip, clip_high, ratio, average)
    [slow_gradient] = torch.autograd.grad(expected, logps)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-5, atol=1e-7)
    if size:  # a case in which the clip removes some gradients and leaves others
        removed = ((gradient == 0) & MASK.bool()).sum()
        assert 0 < removed < MASK.sum()


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gspo", "rloo"])
def test_the_gradient_is_that_of_trl(name):
    """TRL's own loss, called on a stand-in for its trainer: TRL's rows begin with the completion."""
    trainers = pytest.importorskip("trl", reason="TRL is not installed").trainer
    trainer = trainers.rloo_trainer.RLOOTrainer if name == "rloo" else trainers.grpo_trainer.GRPOTrainer
    ratio, clip, clip_high, _, size = LOSSES[name]
    logps, old, advantages = tensors(size)
    [gradient] = torch.autograd.grad(ours(logps, old, advantages, name), logps)
    moved, before = torch.zeros(2, N, S, dtype=torch.float64)
    mask = torch.zeros(N, S, dtype=torch.long)
    for i, (first, last) in enumerate(SPANS):
        mask[i, : last - first] = 1
        moved[i, : last - first], before[i, : last - first] = logps[i, first:last].detach(), old[i, first:last]
    moved.requires_grad_()
    stand_in = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **named: (moved, torch.zeros_like(moved), None),
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        importance_sampling_level=ratio,
        loss_type={"gspo": "grpo"}.get(name, name),
        max_completion_length=20,
        epsilon_low=clip,
        epsilon_high=clip_high,
        beta=0.0,
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        current_gradient_accumulation_steps=1,
        _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
    )
    inputs = {name: torch.zeros(N, 1, dtype=torch.long) for name in ("prompt_ids", "prompt_mask")}
    inputs |= {"completion_ids": mask, "completion_mask": mask, "old_per_token_logps": before}
    inputs |= {"advantages": advantages, "num_items_in_batch": mask.sum(), "old_logps": (before * mask).sum(dim=1)}
    [their_gradient] = torch.autograd.grad(trainer._compute_loss(stand_in, None, inputs), moved)
    assert (their_gradient != 0).sum() > 10
    for i, (first, last) in enumerate(SPANS):
        torch.testing.assert_close(gradient[i, first:last], their_gradient[i, : last - first], rtol=1e-5, atol=1e-7)


# --- advantages -----------------------------------------------------------------------------------------------------


def test_rloo_compares_with_the_others_of_the_group():
    rewards = torch.tensor([[1.0, 0, 0, 1], [5, 5, 5, 1]])
    expected = [[1 - 1 / 3, -2 / 3, -2 / 3, 1 - 1 / 3], [5 - 11 / 3, 5 - 11 / 3, 5 - 11 / 3, 1 - 5]]
    torch.testing.assert_close(leave_one_out(rewards), torch.tensor(expected))
    torch.testing.assert_close(leave_one_out(rewards), group_advantages(rewards, "none") * 4 / 3)


def test_remax_compares_with_the_greedy_completion():
    rewards = {"correct": torch.tensor([[1.0, 0], [1, 1]]), "length": torch.tensor([[3.0, 5], [1, 2]])}
    greedy = {"correct": torch.tensor([[1.0], [0]]), "length": torch.tensor([[4.0], [1]])}
    advantages, _ = advantages_of("greedy", rewards, {"correct": 1.0, "length": 0.5}, torch.ones(4, 3), greedy=greedy)
    torch.testing.assert_close(advantages, torch.tensor([[-0.5, -0.5], [1.0, 1.5]]))


def test_whitening_counts_tokens_and_not_rollouts():
    mask = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 1]])
    values = torch.tensor([[9.0, 1, 9, 9], [9, 0, 0, 0]])  # mean 1/4, deviation 1/2 over four tokens
    torch.testing.assert_close(whitened(values, mask), torch.tensor([[0, 1.5, 0, 0], [0, -0.5, -0.5, -0.5]]))


def test_a_reward_comes_at_the_last_token_and_every_token_pays_its_share():
    mask = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 0, 0]])
    cost = torch.tensor([[7, 0.1, 0.2, 0.3, 7], [7, 7, -0.5, 7, 7]])
    earned = token_rewards(torch.tensor([[1.0, 0.0]]), mask, cost)
    torch.testing.assert_close(earned, torch.tensor([[0, -0.1, -0.2, 0.7, 0], [0, 0, 0.5, 0, 0]]))
    expected = torch.tensor([[0.4, 0.4, 0.5, 0.7, 0], [0.5, 0.5, 0.5, 0, 0]])
    torch.testing.assert_close(returns(earned), expected)


def test_the_cost_of_a_rollout_is_that_of_all_its_tokens():
    mask = torch.tensor([[0, 1, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]])
    cost = torch.tensor([[9, 0.1, 0.2], [9, 0.4, 9], [0.1, 0.1, 0.1], [9, 9, 0.0]])
    rewards = torch.tensor([[1.0, 0], [0, 1]])
    advantages, _ = advantages_of("leave_one_out", {"correct": rewards}, {"correct": 1.0}, mask, cost=cost)
    torch.testing.assert_close(advantages, torch.tensor([[1.1, -1.1], [-1.3, 1.3]]))  # of .7, -.4 and of -.3, 1


def test_reinforce_plus_plus_is_the_whitened_return():
    mask = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 1]])
    rewards = {"correct": torch.tensor([[1.0, 0.0]])}
    advantages, targets = advantages_of("batch", rewards, {"correct": 2.0}, mask)  # a weight changes nothing
    torch.testing.assert_close(advantages, torch.tensor([[0, 1.5, 0, 0], [0, -0.5, -0.5, -0.5]]))
    assert targets is None


def test_grpo_and_dr_grpo_are_the_advantages_of_groups():
    rewards = {"correct": torch.tensor([[1.0, 0, 0], [1, 1, 0]])}
    for kind, scale in (("group", "std"), ("mean", "none")):
        advantages, _ = advantages_of(kind, rewards, {"correct": 2.0}, MASK)
        torch.testing.assert_close(advantages, 2 * group_advantages(rewards["correct"], scale))


def test_what_differs_by_rounding_alone_is_not_blown_up():
    mask = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 0]])
    assert not whitened(torch.full((2, 4), 0.7), mask).any()
    assert not whitened(torch.full((2, 4), 0.7) + 1e-6 * torch.arange(4), mask).any()


def test_ppos_advantages_are_whitened_and_its_critic_learns_the_returns():
    mask, values = MASK, torch.rand(N, S, generator=torch.Generator().manual_seed(0)) * MASK
    rewards = {"correct": torch.tensor([[1.0, 0, 1], [0, 0, 1]])}
    advantages, targets = advantages_of("critic", rewards, {"correct": 1.0}, mask, values=values, lam=0.5)
    inside = advantages[mask.bool()]
    assert inside.mean().item() == pytest.approx(0, abs=1e-5) and inside.std().item() == pytest.approx(1, abs=1e-3)
    raw, expected = ppo.gae(token_rewards(rewards["correct"], mask, None), values, mask, lam=0.5)
    torch.testing.assert_close(targets, expected)
    assert torch.corrcoef(torch.stack([inside, raw[mask.bool()]]))[0, 1].item() == pytest.approx(1)


# --- DAPO -----------------------------------------------------------------------------------------------------------


def test_the_last_fifth_of_the_length_costs_more_and_more():
    lengths = torch.tensor([1, 80, 85, 90, 100, 120])
    torch.testing.assert_close(overlong_penalty(lengths, 100, 0.2), torch.tensor([0, 0, -0.125, -0.25, -0.5, -0.5]))


def graded(texts: list[str], policy, seed: int) -> Graded:
    """Graded rollouts of a tiny model, with made-up texts: two a problem."""
    problems = [data.Problem(f"{seed}{i}", "1") for i in range(len(texts) // 2)]
    rollouts = generate(policy, [[3, 4]] * len(problems), 2, 3 + seed, generator=stream(seed))
    return Graded(problems, rollouts, texts, [text or None for text in texts], [text == "1" for text in texts])


def test_groups_that_are_all_alike_are_replaced_and_the_others_stay(qwen2):
    old = graded(["1", "2", "1", "1", "", "5"], qwen2, 0)
    new = graded(["7", "1", "8", "8"], qwen2, 4)
    rewards, new_rewards = ({"correct": x.groups(x.right)} for x in (old, new))
    alike = algorithms.without_spread(rewards)
    assert alike.tolist() == [False, True, True]
    both, merged = algorithms.replaced(old, rewards, new, new_rewards, alike)
    assert both.texts == ["1", "2", "7", "1", "8", "8"] and both.answers == both.texts
    assert [problem.prompt for problem in both.problems] == ["00", "40", "41"]
    assert both.right == [True, False, False, True, False, False]
    assert merged["correct"].tolist() == [[1, 0], [0, 1], [0, 0]]
    for i, (source, row) in enumerate([(old, 0), (old, 1), (new, 0), (new, 1), (new, 2), (new, 3)]):
        assert both.rollouts.completions()[i] == source.rollouts.completions()[row]
        count = int(source.rollouts.mask[row].sum())
        assert torch.equal(
            both.rollouts.logps[i][both.rollouts.mask[i].bool()], source.rollouts.logps[row, 2 : 2 + count]
        )
    assert old.texts == ["1", "2", "1", "1", "", "5"]


# --- PPO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.7), (1.0, 0.0)])
def test_gae_is_the_sum_of_its_definition(gamma, lam):
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(N, S, generator=generator) * MASK for _ in range(2))
    advantages, targets = ppo.gae(rewards, values, MASK, gamma, lam)
    for i, (first, last) in enumerate(SPANS):
        v = [*values[i, first:last].tolist(), 0.0]
        r = rewards[i, first:last].tolist()
        delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(last - first)]
        for t in range(last - first):
            expected = sum((gamma * lam) ** k * delta[t + k] for k in range(last - first - t))
            assert advantages[i, first + t].item() == pytest.approx(expected, abs=1e-5)
            assert targets[i, first + t].item() == pytest.approx(expected + v[t], abs=1e-5)
    assert not (advantages * (1 - MASK)).any() and not (targets * (1 - MASK)).any()


def test_with_lambda_1_the_advantage_is_the_return_minus_the_value():
    mask = torch.tensor([[0, 1, 1, 1]])
    advantages, targets = ppo.gae(torch.tensor([[0, 0.0, 0, 1]]), torch.tensor([[0, 0.2, 0.5, 0.9]]), mask)
    torch.testing.assert_close(advantages, torch.tensor([[0, 0.8, 0.5, 0.1]]))
    torch.testing.assert_close(targets, torch.tensor([[0, 1.0, 1, 1]]))


def test_a_value_far_from_the_old_one_is_judged_by_the_worse_of_two():
    mask = torch.tensor([[1, 1, 1, 0]])
    values, old = torch.tensor([[1.0, 3, 0.3, 9]]), torch.tensor([[0.0, 0, 0, 9]])
    # towards the return but clipped to .5: (.5 - 2)^2; past it: (3 - 2)^2 or (.5 - 2)^2; within the clip: (.3 - 2)^2
    loss = ppo.value_loss(values, old, torch.full((1, 4), 2.0), mask, clip=0.5)
    assert loss.item() == pytest.approx((1.5**2 + 1.5**2 + 1.7**2) / 2)


def test_a_value_has_seen_what_stands_before_its_token_and_nothing_else(policy):
    critic = ppo.Critic(policy)
    torch.nn.init.normal_(critic.head.weight)
    token_ids, mask = torch.randint(2, 20, (1, 8), generator=torch.Generator().manual_seed(0)), torch.ones(1, 8)
    mask[:, :3] = 0
    before = critic(token_ids, mask)
    changed = token_ids.clone()
    changed[0, 5] = (token_ids[0, 5] + 1) % 20
    after = critic(changed, mask)
    assert torch.equal(before[0, :6], after[0, :6]) and not before[0, :3].any()
    assert (before[0, 6:] != after[0, 6:]).all()


def test_a_critic_learns_what_is_to_be_expected_and_leaves_the_policy_alone(qwen2):
    rollouts = generate(qwen2, [[3, 4], [5]], 4, 6, eos_ids=[1], generator=stream(0))
    target = rollouts.mask * torch.tensor([1.0] * 4 + [-1.0] * 4)[:, None]  # known from the prompt
    critic, held = ppo.Critic(qwen2), {name: weight.clone() for name, weight in qwen2.state_dict().items()}
    optimizer = train.adamw(critic, 1e-2)
    metrics = []
    for _ in range(30):
        values = ppo.values_of(critic, rollouts, micro_tokens=20)
        metrics.append(ppo.update_critic(critic, optimizer, rollouts, target, values, micro_tokens=20))
    assert metrics[0]["explained_variance"] == pytest.approx(0, abs=1e-6)  # it begins at 0 everywhere
    assert metrics[0]["value_loss"] == pytest.approx(0.5) and metrics[-1]["value_loss"] < 0.05
    assert metrics[-1]["explained_variance"] > 0.9
    assert all(torch.equal(weight, held[name]) for name, weight in qwen2.state_dict().items())


def test_micro_batches_of_the_critic_change_nothing(qwen2):
    rollouts = generate(qwen2, [[3, 4], [5]], 4, 6, eos_ids=[1], generator=stream(0))
    found = []
    for micro_tokens in (10, 10_000):
        critic = ppo.Critic(qwen2)
        optimizer = train.adamw(critic, 1e-2)
        values = ppo.values_of(critic, rollouts, micro_tokens)
        target = rollouts.mask * torch.arange(8.0)[:, None]
        metrics = ppo.update_critic(critic, optimizer, rollouts, target, values, updates=2, micro_tokens=micro_tokens)
        found.append([*metrics.values(), *ppo.values_of(critic, rollouts, micro_tokens).flatten().tolist()])
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_each_update_of_the_critic_has_its_share_of_the_rollouts(qwen2):
    rollouts = generate(qwen2, [[3, 4], [5], [6]], 4, 6, eos_ids=[1], generator=stream(0))
    returns_, critics, losses = rollouts.mask * torch.arange(12.0)[:, None], [], []
    whole = rollouts, returns_
    halves = []
    for first in (0, 1):
        some = {name: values[first::2] for name, values in vars(rollouts).items()}
        halves.append((dataclasses.replace(rollouts, **some), returns_[first::2]))
    for parts, updates in (([whole], 2), (halves, 1)):
        critic = ppo.Critic(qwen2)
        optimizer = train.adamw(critic, 1e-2)
        found = [
            ppo.update_critic(critic, optimizer, part, aim, torch.zeros(aim.shape), updates=updates)["value_loss"]
            for part, aim in parts
        ]
        losses.append(sum(found) / len(found))
        critics.append(ppo.values_of(critic, rollouts, 10_000))
    assert losses[0] == pytest.approx(losses[1])
    torch.testing.assert_close(critics[0], critics[1])


# --- in train.py ----------------------------------------------------------------------------------------------------


def test_log_probabilities_of_rollouts_are_token_logps(policy):
    rollouts = generate(policy, [[3, 4], [5]], 4, 6, 0.7, eos_ids=[1], generator=stream(0))
    expected = token_logps(policy, rollouts.token_ids, rollouts.mask, 0.7)
    torch.testing.assert_close(log_probabilities(policy, rollouts, 0.7, micro_tokens=10), expected)


@pytest.fixture
def run(base, tmp_path, no_pictures):
    """A run of small steps on chains of one operation; returns its metrics."""
    file = tmp_path / "problems.jsonl"
    problems = [(p, a) for p, a in toy.make_problems("train", 400) if len(toy.steps(p)) == 1]
    file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in problems))
    flags = f"--model {base} --data {file} --prompts-per-step 4 --rollouts-per-prompt 8 --max-new-tokens 30 --lr 1e-3"
    flags += " --eval-samples 0"

    def run(flags_of_run: str, name: str = "run") -> list[dict]:
        folder = tmp_path / name
        assert train.main([*flags.split(), "--run", str(folder), *flags_of_run.split()]) == 0
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    return run


def weights_of(folder) -> dict:
    return dict(train.models.load_model(str(folder))[0].state_dict())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_a_set_of_flags_and_a_flag_beside_it_wins(name, run, tmp_path):
    rows = run(f"--algorithm {name} --steps 2 --loss-average token")
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["minreason"]
    chosen = {**ALGORITHMS[name], "algorithm": name, "loss_average": "token"}
    assert {flag: settings[flag] for flag in chosen} == chosen
    assert len(rows) == 2 and all(row["grad_norm"] >= 0 for row in rows)
    assert ("value_loss" in rows[0]) == (name == "ppo")


def test_a_penalty_in_the_reward_costs_each_token_how_far_it_has_moved(run, base, monkeypatch):
    """The weight times k1: the log-probability that the policy gives to a token, minus the starting model's."""
    costs, expected, start = [], [], train.models.load_model(str(base))[0]
    compare, update = train.advantages_of, train.update

    def comparing(*args, cost, **more):
        costs.append(cost)
        return compare(*args, cost=cost, **more)

    def updating(policy, reference, optimizer, rollouts, *rest, **flags):
        assert reference is None  # and it is not in the loss a second time
        logps = [model(rollouts.token_ids).logits[:, :-1].log_softmax(-1) for model in (policy, start)]
        moved = (logps[0] - logps[1]).gather(-1, rollouts.token_ids[:, 1:, None])[..., 0]
        expected.append(torch.nn.functional.pad(moved, (1, 0)).detach() * rollouts.mask)
        masks.append(rollouts.mask)
        return update(policy, reference, optimizer, rollouts, *rest, **flags)

    masks = []
    monkeypatch.setattr(train, "update", updating)
    with monkeypatch.context() as patch:
        patch.setattr(train, "advantages_of", comparing)
        rows = run("--algorithm rloo --steps 3 --kl 5")
    for row, cost, moved, mask in zip(rows, costs, expected, masks, strict=True):
        torch.testing.assert_close(cost * mask, 5 * moved, rtol=1e-3, atol=1e-4)
        assert row["kl"] == pytest.approx((moved.sum() / mask.sum()).item(), abs=1e-5)  # whatever the weight
    assert not expected[0].abs().max() > 1e-4 and expected[2].abs().max() > 0.05
    assert run("--algorithm rloo --steps 1 --kl 0", "free")[0]["kl"] is None


def test_dynamic_sampling_trains_on_other_groups_and_logs_what_was_sampled_first(run, monkeypatch):
    calls, replace = [], train.replace_alike

    def watched(number, graded, rewards, *rest):
        calls.append((rewards["correct"], replace(number, graded, rewards, *rest)))
        return calls[-1][1]

    monkeypatch.setattr(train, "replace_alike", watched)
    dapo, grpo = (run(f"--algorithm {name} --steps 3 --lr 1e-9", name) for name in ("dapo", "grpo"))
    assert [row["accuracy"] for row in dapo] == [row["accuracy"] for row in grpo]
    resampled = 0
    for (first, (graded, rewards, _)), row in zip(calls, dapo, strict=True):
        spread = [set(group) for group in first.tolist()], [set(group) for group in rewards["correct"].tolist()]
        alike = [[len(values) == 1 for values in groups] for groups in spread]
        # Only groups without spread go; each round asks for as many others as are left.
        assert all(after == before for after, before, gone in zip(*reversed(spread), alike[0], strict=True) if not gone)
        assert sum(alike[1]) <= sum(alike[0]) and sum(alike[0]) <= 4 * row["groups_resampled"] <= 3 * sum(alike[0])
        assert row["zero_std_groups"] == sum(alike[0]) / 4 and len(graded.texts) == 32
        resampled += row["groups_resampled"]
    assert resampled > 0 and "groups_resampled" not in grpo[0]


def test_the_flags_of_a_loss_arrive_in_it(run):
    """With two updates a step the clips matter: a tiny one above removes gradients, and one of whole rollouts too."""
    flags = "--algorithm grpo --steps 2 --updates-per-step 2"
    clipped = {
        name: run(f"{flags} {extra}", name)[-1]["clip_fraction"]
        for name, extra in {"wide": "--clip 0.9", "high": "--clip 0.9 --clip-high 1e-6"}.items()
    }
    assert clipped["wide"] == 0 < clipped["high"] < 1
    changes = [run(f"{flags} --ratio {ratio} --clip 0.9", ratio)[-1]["ratio_change"] for ratio in ("token", "sequence")]
    assert 0 < changes[1] < changes[0]  # a mean moves less than each of its parts


def test_length_costs_and_the_greedy_completion_is_greedy(run, monkeypatch):
    seen, asked, compare, generate_ = [], [], train.advantages_of, train.generate

    def watched(kind, rewards, weights, mask, **expected):
        seen.append((rewards["correct"].flatten(), mask.sum(dim=1)))
        return compare(kind, rewards, weights, mask, **expected)

    def asking(policy, prompts, rollouts_per_prompt, temperature, **options):
        asked.append((rollouts_per_prompt, temperature))
        return generate_(policy, prompts, rollouts_per_prompt, temperature=temperature, **options)

    monkeypatch.setattr(train, "advantages_of", watched)
    monkeypatch.setattr(train, "generate", asking)
    rows = run("--algorithm dapo --resample 0 --overlong 1 --max-new-tokens 20 --steps 1")
    rewards, lengths = seen[0]
    right = (rewards + lengths / 40).round()  # a penalty of length / 20, halved: up to 1/2
    assert set(right.tolist()) <= {0.0, 1.0} and lengths.float().std() > 1
    torch.testing.assert_close(rewards, right - lengths / 40)
    assert rows[0]["reward_mean"] == pytest.approx(right.mean().item())  # the log is about the reward alone
    asked.clear()
    run("--algorithm remax --steps 1", "remax")
    assert asked == [(8, 1.0), (1, 0.0)]


def test_the_critic_gets_its_own_flags(run, monkeypatch, tmp_path):
    calls, update_critic, parts_of = [], train.update_critic, []
    prepare = train.prepare

    def watched(critic, optimizer, rollouts, returns, values, **sizes):
        calls.append((optimizer.param_groups[0]["lr"], sizes["updates"]))
        return update_critic(critic, optimizer, rollouts, returns, values, **sizes)

    compared, advantages_of_ = [], train.advantages_of
    monkeypatch.setattr(train, "update_critic", watched)
    monkeypatch.setattr(train, "prepare", lambda s: parts_of.append(prepare(s)) or parts_of[-1])
    monkeypatch.setattr(train, "advantages_of", lambda *args, **more: compared.append(more) or advantages_of_(
        *args, **more))  # fmt: skip
    run("--algorithm ppo --steps 1 --critic-lr 0.02 --critic-updates 3 --gae-lambda 0.9 --kl 0")
    assert calls == [(0.02, 3)] and compared[0]["lam"] == 0.9 and "cost" not in compared[0]
    policy, critic = parts_of[0].policy, parts_of[0].critic[0]
    plans = [
        memory.memory_plan(
            policy, 5, prompts_per_step=4, rollouts_per_prompt=8, max_new_tokens=30, temperature=1.0, micro_tokens=64,
            reference=False, gradient_checkpointing=False, critic=model,
        )
        for model in (None, critic)
    ]  # fmt: skip
    weights = sum(p.numel() for p in critic.parameters())
    assert plans[1]["critic"] == 16 * weights and "critic" not in plans[0]  # weight, gradient and two moments


def test_while_the_critic_warms_up_the_policy_stays(run, tmp_path, base):
    rows = run("--algorithm ppo --steps 2 --critic-warmup 2 --kl 0")
    before, after = weights_of(base), weights_of(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert rows[0]["explained_variance"] == pytest.approx(0, abs=1e-5) and rows[1]["explained_variance"] != 0
    run("--algorithm ppo --steps 2 --critic-warmup 1 --kl 0", "other")
    assert any(not torch.equal(before[name], weight) for name, weight in weights_of(tmp_path / "other").items())


def test_a_resumed_ppo_run_has_the_critic_that_it_had(run, tmp_path):
    whole = run("--algorithm ppo --steps 3", "whole")
    run("--algorithm ppo --steps 1", "cut")
    resumed = run("--steps 3 --resume", "cut")
    timeless = [{k: v for k, v in row.items() if "second" not in k} for row in whole]
    assert [{k: v for k, v in row.items() if "second" not in k} for row in resumed] == timeless
