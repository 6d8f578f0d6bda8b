"""logs.py: what a step of training puts into metrics.jsonl and samples.jsonl, and what it warns about.

docs/metrics.md says what each number means, what is normal and what is alarming.
"""

import sys
import time

import torch
from tqdm import tqdm

from algorithms import without_spread
from rewards import Graded, sequence_mean

SAMPLES_SHOWN = 4  # completions of a step that go into samples.jsonl


def stopwatch():
    """A function that returns the seconds since it was last called, or made."""
    times = [time.perf_counter()]

    def lap() -> float:
        times.append(time.perf_counter())
        return times[-1] - times[-2]

    return lap


def describe(graded: Graded, rewards: dict, total: torch.Tensor, measured: dict) -> dict:
    """The metrics of a step. rewards: name -> [B, G]; total: their weighted sum, [B, G]; measured: by train.step."""
    rollouts, mask, group = graded.rollouts, graded.rollouts.mask, total.shape[1]
    # As texts: "1/2" and "0.5" count as two answers here.
    answers = [set(graded.answers[i : i + group]) - {None} for i in range(0, total.numel(), group)]
    each = {f"reward_{name}": values.mean().item() for name, values in rewards.items()} if len(rewards) > 1 else {}
    seconds = sum(value for name, value in measured.items() if name.startswith("seconds_"))
    return {
        "reward_mean": total.mean().item(),
        "reward_std": total.std().item(),
        **each,
        "accuracy": sum(graded.right) / len(graded.right),
        "answered": sum(answer is not None for answer in graded.answers) / len(graded.answers),
        "self_certainty": sequence_mean(rollouts.self_certainty, mask).mean().item(),
        "entropy": ((rollouts.entropy * mask).sum() / mask.sum()).item(),
        "completion_tokens": mask.sum(dim=1).float().mean().item(),
        "truncated": rollouts.truncated.float().mean().item(),
        "zero_std_groups": without_spread(rewards).float().mean().item(),
        "pairwise_accuracy": pairwise_accuracy(total, graded.groups(graded.right).bool()),
        "unique_answers": sum(len(different) for different in answers) / len(answers),
        # Over the time of the whole step, training included: what a reader waits for.
        "tokens_per_second": mask.sum().item() / seconds,
        **measured,
    }


def pairwise_accuracy(rewards: torch.Tensor, right: torch.Tensor) -> float | None:
    """Of a right and a wrong completion of the same prompt, how often does the right one earn more? Ties count half.

    rewards [B, G], right [B, G] bool. Over all such pairs; None if there is none. 1 is an answer key, 0.5 a coin, and
    below 0.5 a reward teaches to be wrong. It is what the accuracy of a reward model means.
    """
    pairs = right[:, :, None] & ~right[:, None, :]  # [B, G, G]
    if not pairs.any():
        return None
    difference = rewards[:, :, None] - rewards[:, None, :]
    return ((difference > 0).float() + 0.5 * (difference == 0).float())[pairs].mean().item()


def some_samples(step: int, graded: Graded, rewards: torch.Tensor) -> list[dict]:
    """The first rollout of a few problems: not selected, so that what one reads is what the model mostly says."""
    rows = [b * rewards.shape[1] for b in range(min(SAMPLES_SHOWN, len(graded.problems)))]
    return [
        {
            "step": step,
            "prompt": graded.problems[b].prompt,
            "completion": graded.texts[row],
            "gold": graded.problems[b].answer,
            "correct": graded.right[row],
            "reward": rewards[b, 0].item(),
            "truncated": bool(graded.rollouts.truncated[row]),
        }
        for b, row in enumerate(rows)
    ]


def warn(metrics: dict, warned: set[str]) -> None:
    """Say loudly, once a run each, what makes training pointless."""
    alarms = {}
    if metrics["truncated"] > 0.2:
        alarms["truncated"] = f"{metrics['truncated']:.0%} of the completions are truncated; raise --max-new-tokens"
    if metrics["zero_std_groups"] == 1:
        alarms["equal"] = (
            f"the reward does not vary within any group, so it teaches nothing ({metrics['answered']:.0%} answered, "
            f"{metrics['accuracy']:.0%} right): problems too hard or too easy, or a --template that asks for no box"
        )
    if (metrics["sampling_gap"] or 0) > 0.1:
        alarms["gap"] = f"sampler and trainer differ by {metrics['sampling_gap']:.2f} nats a token: unsupported model?"
    for name in alarms.keys() - warned:
        warned.add(name)
        tqdm.write(f"WARNING, step {metrics['step']}: {alarms[name]}", file=sys.stderr)


def progress(metrics: dict) -> str:
    """What the progress bar shows of a step."""
    text = (
        "reward {reward_mean:.2f}, accuracy {accuracy:.2f}, length {completion_tokens:.0f}, "
        "{tokens_per_second:,.0f} tokens/s"
    )
    return text.format(**metrics)
