"""What a step of training logs, each number worked by hand."""

import pytest
import torch

from data import Problem
from generate import Rollouts
from rewards import Graded
from running.logs import describe, progress, some_samples, stopwatch, warn


def hand_made() -> Graded:
    """Two problems, two rollouts each: completions of 2, 1, 3 and 2 tokens behind a prompt of 1."""
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1], [0, 1, 1, 0]])
    certainty = mask * torch.tensor([[9.0, 1, 3, 9], [9, 4, 9, 9], [9, 1, 2, 6], [9, 0, 1, 9]])
    entropy = mask * torch.tensor([[9.0, 1, 1, 9], [9, 2, 9, 9], [9, 1, 1, 1], [9, 0, 1, 9]])
    truncated = torch.tensor([False, False, True, False])
    rollouts = Rollouts(mask.clone(), mask, torch.ones(4), mask.float(), certainty, entropy, truncated)
    problems = [Problem("p", "1", "number"), Problem("q", "2", "number")]
    return Graded(problems, rollouts, ["a", "b", "c", "d"], ["1", "3", None, "3"], [True, False, False, False])


TOTAL = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
ADVANTAGES = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
MEASURED = {"loss": 0.5, "sampling_gap": 1e-6, "seconds_generate": 1.0, "seconds_reward": 0.5, "seconds_train": 2.5}


def test_every_metric_of_a_step():
    metrics = describe(hand_made(), {"correct": TOTAL}, TOTAL, MEASURED)
    expected = {
        "reward_mean": 1.0,
        "reward_std": (2 / 3) ** 0.5,
        "accuracy": 1 / 4,
        "answered": 3 / 4,
        "self_certainty": (2 + 4 + 3 + 0.5) / 4,  # the mean of each completion's mean
        "entropy": (2 + 2 + 3 + 1) / 8,  # the mean over all tokens
        "completion_tokens": 8 / 4,
        "truncated": 1 / 4,
        "zero_std_groups": 1 / 2,
        "pairwise_accuracy": 1.0,  # of the one pair with a right and a wrong rollout
        "unique_answers": (2 + 1) / 2,
        "tokens_per_second": 8 / 4,
        **MEASURED,
    }
    assert metrics == pytest.approx(expected)
    both = describe(hand_made(), {"correct": TOTAL, "length": 3 * TOTAL}, TOTAL, MEASURED)
    assert both == pytest.approx({**expected, "reward_correct": 1.0, "reward_length": 3.0})


def test_the_samples_are_the_first_rollout_of_each_problem():
    first, second = some_samples(7, hand_made(), TOTAL)
    assert first == {
        "step": 7,
        "prompt": "p",
        "completion": "a",
        "gold": "1",
        "correct": True,
        "reward": 2.0,
        "truncated": False,
    }
    assert (second["completion"], second["gold"], second["reward"], second["truncated"]) == ("c", "2", 1.0, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"truncated": 0.2, "zero_std_groups": 0.9, "sampling_gap": 0.1}, None),
        ({"sampling_gap": None}, None),
        ({"truncated": 0.21}, "21% of the completions are truncated"),
        ({"zero_std_groups": 1.0}, "does not vary"),
        ({"sampling_gap": 0.11}, "differ by 0.11 nats"),
    ],
)
def test_what_is_warned_about_once(changes, said, capsys):
    usual = {"step": 3, "truncated": 0, "zero_std_groups": 0, "sampling_gap": 0, "answered": 1, "accuracy": 1}
    warned = set()
    for _ in range(2):
        warn({**usual, **changes}, warned)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == len(warned) == (said is not None)
    assert said is None or (said in lines[0] and "step 3" in lines[0])


def test_the_progress_bar_shows_four_numbers():
    metrics = {"reward_mean": 0.5, "accuracy": 0.25, "completion_tokens": 12.4, "tokens_per_second": 1234.5}
    assert progress(metrics) == "reward 0.50, accuracy 0.25, length 12, 1,234 tokens/s"


def test_a_lap_is_the_time_since_the_last_one(monkeypatch):
    times = iter([10.0, 11.0, 13.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    lap = stopwatch()
    assert (lap(), lap()) == (1.0, 2.5)
