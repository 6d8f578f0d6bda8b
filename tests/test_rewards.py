"""rewards.py: self-certainty against its definition, and what is graded."""

import math
from types import SimpleNamespace

import torch
from conftest import tiny_model

import toy
from data import Problem
from generate import Rollouts, generate
from rewards import REWARDS, read, self_certainty, sequence_mean


def test_self_certainty_is_the_kl_from_uniform_to_the_model():
    logits = 5 * torch.randn(4, 7, 50, generator=torch.Generator().manual_seed(0))
    uniform = torch.full_like(logits, 1 / 50)
    expected = (uniform * (uniform.log() - logits.log_softmax(-1))).sum(-1)
    assert torch.allclose(self_certainty(logits), expected, atol=1e-5)
    assert not torch.allclose(self_certainty(logits), -expected, atol=1e-1)


def test_self_certainty_is_0_for_a_uniform_distribution_and_ignores_a_constant():
    assert torch.allclose(self_certainty(torch.full((3, 9), 2.5)), torch.zeros(3), atol=1e-6)
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(self_certainty(logits + 100), self_certainty(logits), atol=1e-4)
    # log V is subtracted, so that the value is a KL: all on one of two tokens but for e^-20
    assert math.isclose(self_certainty(torch.tensor([0.0, -20.0])).item(), 10 - math.log(2), abs_tol=1e-5)
    assert self_certainty(logits.bfloat16()).dtype == torch.float32


def test_a_sequence_mean_counts_the_completion_only():
    values, mask = torch.tensor([[9.0, 1, 3, 9], [1, 1, 1, 1]]), torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0]])
    assert sequence_mean(values, mask).tolist() == [2.0, 0.0]


def rollouts_of(completions: list[list[int]], prompt: list[int]) -> Rollouts:
    """Rollouts with these completions, as generate would return them."""
    width = len(prompt) + max(map(len, completions))
    token_ids = torch.zeros(len(completions), width, dtype=torch.long)
    mask = torch.zeros_like(token_ids)
    for row, completion in enumerate(completions):
        end = len(prompt) + len(completion)
        token_ids[row, :end] = torch.tensor(prompt + completion)
        mask[row, len(prompt) : end] = 1
    lengths = torch.full((len(completions),), len(prompt))
    return Rollouts(
        token_ids, mask, lengths, mask.float(), mask.float(), mask.float(), torch.zeros(len(completions)) > 0
    )


def test_the_response_is_graded_and_not_the_prompt():
    tokenizer = toy.make_tokenizer()
    encode = lambda text: tokenizer(text)["input_ids"]  # noqa: E731
    # the prompt itself boxes the right answer, as papers' prompts hold an empty box
    rollouts = rollouts_of([encode("\\boxed{41}<eos>"), encode("hmm, 4<eos>")], encode("\\boxed{41}7+8*3-4="))
    sampled = read([Problem("7+8*3-4=", "41", "number")], rollouts, tokenizer)
    assert sampled.texts == ["\\boxed{41}", "hmm, 4"]
    assert sampled.answers == ["41", None]
    assert REWARDS["correct"](sampled).tolist() == [[1.0, 0.0]]


def test_each_rollout_is_graded_against_the_problem_of_its_group():
    tokenizer = toy.make_tokenizer()
    rollouts = rollouts_of([tokenizer(f"\\boxed{{{n}}}")["input_ids"] for n in (1, 2, 1, 2)], [3])
    problems = [Problem("a", "1", "number"), Problem("b", "2", "number")]
    assert REWARDS["correct"](read(problems, rollouts, tokenizer)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_self_certainty_reward_is_the_mean_over_each_completion_end_token_included():
    policy = tiny_model("qwen2")
    rollouts = generate(policy, [[3, 4], [5, 6, 7]], 3, 8, eos_ids=(1, 2), generator=torch.Generator().manual_seed(0))
    sampled = SimpleNamespace(rollouts=rollouts, groups=lambda values: values.reshape(2, 3))
    rewards = REWARDS["self_certainty"](sampled)
    for row in range(6):
        begin, end = rollouts.prompt_lengths[row], rollouts.prompt_lengths[row] + rollouts.mask[row].sum()
        with torch.no_grad():
            logits = policy(input_ids=rollouts.token_ids[row : row + 1, :end]).logits[0, begin - 1 : end - 1]
        assert torch.isclose(rewards[row // 3, row % 3], self_certainty(logits).mean(), atol=1e-5)
    assert not rewards.requires_grad
