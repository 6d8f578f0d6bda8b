"""logs.py: what a step of training puts into metrics.jsonl, samples.jsonl and the terminal, and what it warns about.

docs/metrics.md says what each number means, what is normal and what is alarming.
"""

import os
import shutil
import sys
import time
import unicodedata

import torch
from tqdm import tqdm

from algorithms import without_spread
from rewards import Graded, sequence_mean
from running.own_rewards import called

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
    right = [verdict for verdict in graded.right if verdict is not None]  # of problems whose answer is known
    each = (
        {f"reward_{called(name)}": values.mean().item() for name, values in rewards.items()} if len(rewards) > 1 else {}
    )
    seconds = sum(value for name, value in measured.items() if name.startswith("seconds_"))
    return {
        "reward_mean": total.mean().item(),
        "reward_std": total.std().item(),
        **each,
        "accuracy": sum(right) / len(right) if right else None,
        "answered": sum(answer is not None for answer in graded.answers) / len(graded.answers),
        "self_certainty": sequence_mean(rollouts.self_certainty, mask).mean().item(),
        "entropy": ((rollouts.entropy * mask).sum() / mask.sum()).item(),
        "completion_tokens": mask.sum(dim=1).float().mean().item(),
        "truncated": rollouts.truncated.float().mean().item(),
        "zero_std_groups": without_spread(rewards).float().mean().item(),
        "pairwise_accuracy": pairwise_accuracy(total, graded.groups(graded.right) == 1),  # no pair without answers
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


def in_one_line(sample: dict) -> str:
    """A sample for the terminal: step, right or wrong (green or red, where there are colours), problem, completion."""
    verdict = {None: "-", True: "right", False: "wrong"}[sample["correct"]]  # None: the answer is not known
    colours = (
        sample["correct"] is not None
        and sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
    shown = f"\x1b[{32 if sample['correct'] else 31}m{verdict}\x1b[0m" if colours else verdict
    start = f"step {sample['step']:<4} {verdict}  "
    room = shutil.get_terminal_size().columns - len(start) - 3  # two blanks between the texts, and none in the corner
    problem = harmless(sample["prompt"], room // 3)
    return f"{start.replace(verdict, shown)}{problem}  {harmless(sample['completion'], room - len(problem))}"


def harmless(text: str, width: int) -> str:
    """What a model or a file says, in at most `width` columns of one line, and nothing but signs that are printed.

    A blank or a line break is a space; escape sequences and other control characters are written out. A long text loses
    its middle, as the answer stands at the end.
    """
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    coding = sys.stdout.encoding or "ascii"
    text = text.encode(coding, "backslashreplace").decode(coding)
    if any(unicodedata.east_asian_width(c) in "WF" for c in text):
        width //= 2  # such a sign takes two columns
    kept = max(0, width - len(" ... "))
    return text if len(text) <= width else f"{text[: kept - kept // 2]} ... {text[len(text) - kept // 2 :]}"


def window(steps: int) -> int:
    """How many steps a mean is taken over, after so many steps: 10, and in a run of more than 100 a tenth of them."""
    return max(10, steps // 10)


def parted(rows: list[dict]) -> dict | None:
    """Is the reward being hacked: does it rise while the accuracy falls? rows: those of metrics.jsonl so far.

    The last `window` steps are compared with those in which the accuracy was highest. Reward and accuracy part if the
    accuracy is lower now and the reward higher, both by more than three standard errors of the difference. The errors
    come from the scatter of the steps, so the rule asks for no scale of the reward and no size of the batch.

    Returns the last of the best steps as `since`, and (then, now) of both; None if they do not part. On noise alone, a
    reward and an accuracy that know nothing of each other, it errs in about 3 of 100 runs of 1,000 steps.
    """
    rows = [row for row in rows if row["accuracy"] is not None]  # the others had problems without answers alone
    size = window(len(rows))
    if len(rows) < 2 * size:
        return None
    accuracy, reward = (
        torch.tensor([row[name] for row in rows], dtype=torch.float64).unfold(0, size, 1)  # every window: [n, size]
        for name in ("accuracy", "reward_mean")
    )
    best = accuracy[:-size].mean(dim=1).argmax().item()  # of those that end before the last one begins

    def higher(a: torch.Tensor, b: torch.Tensor) -> bool:
        return bool(a.mean() - b.mean() > 3 * ((a.var() + b.var()) / size).sqrt())

    if not (higher(accuracy[best], accuracy[-1]) and higher(reward[-1], reward[best])):
        return None
    then_and_now = [(values[best].mean().item(), values[-1].mean().item()) for values in (accuracy, reward)]
    return {"since": rows[best + size - 1]["step"], "accuracy": then_and_now[0], "reward": then_and_now[1]}


def warn(rows: list[dict], warned: set[str]) -> None:
    """Say loudly, once a run each, what makes training pointless. rows: those of metrics.jsonl so far."""
    metrics, alarms = rows[-1], {}
    if found := parted(rows):
        (right, now_right), (paid, now_paid) = found["accuracy"], found["reward"]
        alarms["parted"] = (
            f"the reward rises and the accuracy falls: since step {found['since']} the one went from {paid:.2f} to "
            f"{now_paid:.2f}, the other from {right:.2f} to {now_right:.2f}. The model learns to please the reward; "
            "a larger --kl or a lower --lr holds it back"
        )
    if metrics["truncated"] > 0.2:
        alarms["truncated"] = f"{metrics['truncated']:.0%} of the completions are truncated; raise --max-new-tokens"
    if metrics["zero_std_groups"] == 1:
        right = "" if metrics["accuracy"] is None else f", {metrics['accuracy']:.0%} right"
        alarms["equal"] = (
            f"the reward does not vary within any group, so it teaches nothing ({metrics['answered']:.0%} answered"
            f"{right}): problems too hard or too easy, or a --template that asks for no box"
        )
    if (metrics["sampling_gap"] or 0) > 0.1:
        alarms["gap"] = f"sampler and trainer differ by {metrics['sampling_gap']:.2f} nats a token: unsupported model?"
    for name in alarms.keys() - warned:
        warned.add(name)
        tqdm.write(f"WARNING, step {metrics['step']}: {alarms[name]}", file=sys.stderr)


def progress(metrics: dict) -> str:
    """What the progress bar shows of a step."""
    accuracy = "-" if metrics["accuracy"] is None else f"{metrics['accuracy']:.2f}"
    text = "reward {reward_mean:.2f}, accuracy {0}, length {completion_tokens:.0f}, {tokens_per_second:,.0f} tokens/s"
    return text.format(accuracy, **metrics)
