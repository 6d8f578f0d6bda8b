"""whole_step.py: what a whole GRPO step of a model of any size takes, and where its time goes, for bench.py."""

from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from engine.masters import adamw
from engine.memory import memory_plan
from generate import generate, stream
from grpo import group_advantages, update
from running.models import frozen_copy
from running.timing import peak_memory, seconds

SHOWN = 8  # operations of a profile


def measured(
    policy, batch: list, group: int, new_tokens: int, rows: int | None, micro_tokens: int, repeats: int, device: str
) -> dict:
    """Seconds of sampling and of the update, and memory against the plan, of a step that Intuitor takes: rewarded by
    self-certainty, with a KL penalty. Completions have a quarter of new_tokens to all of them."""
    prompts, N = len(batch), len(batch) * group
    counts = torch.randint(max(1, new_tokens // 4), new_tokens + 1, (N,), generator=stream("lengths")).tolist()
    numbers = {"prompts_per_step": prompts, "rollouts_per_prompt": group, "max_new_tokens": new_tokens, "rows": rows}
    numbers |= {"micro_tokens": micro_tokens, "temperature": 1.0, "reference": True, "gradient_checkpointing": False}
    plan, times = memory_plan(policy, max(map(len, batch)), **numbers), {"generate": [], "update": []}
    found = {"rows": N, "tokens": sum(counts), "seconds": times, "planned_bytes": sum(plan.values())}

    def work() -> None:
        ref_policy, optimizer, made = frozen_copy(policy), adamw(policy, lr=0.0), {}

        def sampled(number: int) -> None:
            made["rollouts"] = generate(policy, batch, group, counts, generator=stream(number), slots=rows)

        def learnt() -> None:
            rollouts = made["rollouts"]
            rewards = (rollouts.self_certainty.sum(dim=1) / rollouts.mask.sum(dim=1)).view(prompts, group)
            arguments = policy, ref_policy, optimizer, rollouts, group_advantages(rewards)
            found["sampling_gap"] = update(*arguments, kl_weight=0.005, micro_tokens=micro_tokens)["sampling_gap"]

        for number in range(repeats):
            times["generate"].append(seconds(partial(sampled, number), device))
            times["update"].append(seconds(learnt, device))

    held = peak_memory(work, device)
    return {**found, "peak_bytes": None if held is None else held + plan["weights"]}


def shares(policy, batch: list, group: int, new_tokens: int, ends: tuple, micro_tokens: int, device: str) -> dict:
    """Of sampling and of the update (without a KL penalty) each operation's share of the time, the largest first.

    Returns {part: {operation: [share, calls]}}. Both have run once before.
    """
    optimizer, made = adamw(policy, lr=0.0), {}

    def sampling() -> None:
        made["rollouts"] = generate(policy, batch, group, new_tokens, eos_ids=ends, generator=stream(0))

    def learning() -> None:
        advantages = torch.ones(len(batch), group)
        update(policy, None, optimizer, made["rollouts"], advantages, micro_tokens=micro_tokens)

    found, on_gpu = {}, device.startswith("cuda")
    for name, work in (("generate", sampling), ("update", learning)):
        work()
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
            seconds(work, device)
        operations = seen.key_averages()
        time = {o.key: (o.self_device_time_total if on_gpu else o.self_cpu_time_total, o.count) for o in operations}
        total = sum(taken for taken, _ in time.values())
        largest = sorted(time, key=lambda key: -time[key][0])[:SHOWN]
        found[name] = {key: [time[key][0] / total, time[key][1]] for key in largest}
    return found
