"""train.py: the loop (settings.py: flags and recipes; folder.py: what it leaves behind; plan.py: what it will need).

    python train.py                                            the toy world: a tiny model learns to reason, in minutes
    python train.py --model Qwen/Qwen2.5-1.5B --data gsm8k     the same with a real model

One step: draw prompts, sample G completions of each, reward them, turn rewards into advantages, take --updates-per-step
optimiser steps on all of them. That is GRPO as Intuitor (2505.19590) and "Does Reinforcement Learning Really
Incentivize..." (2504.13837) train: on policy, every batch sampled by the model that learns from it.

The run folder holds the trained model (load it as any checkpoint), config.json (with the settings under "minreason"),
metrics.jsonl (a line a step; the README explains each number), samples.jsonl (what the model says), learning.png, and a
before/after study on held-out problems (what eval.py writes: report.html and more). --resume goes on from state.pt.

Every random draw is a function of the seed and the step alone. So a resumed run needs no saved generator, and on a CPU
it is bit for bit the run that was never interrupted.
"""

import copy
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from tqdm import tqdm
from transformers.modeling_layers import GradientCheckpointingLayer

import data
import eval as evaluation
from data import BadInput
from engine.memory import as_text, free_memory, memory_plan
from generate import generate, stream
from grpo import adamw, annotate, combined_advantages, update
from rewards import REWARDS, Sampled, pairwise_accuracy, read, sequence_mean
from running.files import append_log, read_log
from running.folder import (
    check_folder,
    empty_folder,
    load_state,
    save_model,
    save_state,
    study_is_due,
    write_config,
)
from running.models import context_room, end_tokens, load_model, load_reward_model, resolve_device
from running.old_settings import Settings, complete, dry_run, parse, resumed, weights
from study import pictures, report

SAVE_EVERY = 20  # steps between two states that --resume can go on from
SAMPLES_EVERY, SAMPLES_SHOWN = 10, 4  # every so many steps, so many completions go into samples.jsonl


# --- the run --------------------------------------------------------------------------------------------------------


def prompts_of_step(number: int, step: int, settings: Settings) -> list[int]:
    """Which of `number` problems a step trains on: an endless row of shuffled epochs, cut into steps."""
    chosen, epoch, order = [], None, None
    for position in range(step * settings.prompts_per_step, (step + 1) * settings.prompts_per_step):
        if position // number != epoch:
            epoch = position // number
            order = torch.randperm(number, generator=stream(settings.seed, "epoch", epoch))
        chosen.append(int(order[position % number]))
    return chosen


def adapt(policy, settings: Settings):
    """Make the policy ready for --lora and --gradient-checkpointing; returns what can merge the adapters, or None."""
    adapted = None
    if settings.lora:
        try:
            import peft
        except ImportError:
            raise BadInput("--lora needs the package peft: pip install peft") from None
        flags = peft.LoraConfig(r=settings.lora, lora_alpha=2 * settings.lora, target_modules="all-linear")
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)  # peft draws the adapters from torch's own stream
            adapted = peft.get_peft_model(policy, flags)  # puts them into the policy's layers
    if settings.gradient_checkpointing:
        # transformers has renamed it; the old name warns. Nothing random is in a layer, so no state of it is kept.
        enable = getattr(policy, "activation_checkpointing_enable", policy.gradient_checkpointing_enable)
        enable({"use_reentrant": False, "preserve_rng_state": False})
        probe = torch.arange(3, device=policy.device)[None]
        with torch.no_grad():
            plain = policy.base_model(input_ids=probe).last_hidden_state
            with checkpointed(policy, settings):
                if not torch.equal(policy.base_model(input_ids=probe).last_hidden_state, plain):
                    raise BadInput("--gradient-checkpointing: would switch on this model's dropout; leave it out")
    return adapted


def decoder_layers(policy) -> list:
    """The layers of a model of transformers, all alike."""
    return [module for module in policy.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def checkpointed(policy, settings: Settings) -> Iterator[None]:
    """Within it, layers keep their input alone for the backward pass, if --gradient-checkpointing says so.

    transformers lets a layer do that in training mode; what is inside the layer stays in eval mode.
    """
    for layer in decoder_layers(policy):
        layer.training = settings.gradient_checkpointing
    yield
    for layer in decoder_layers(policy):
        layer.training = False


def prepare(settings: Settings, device: str, dtype: torch.dtype):
    """(policy, adapted, tokenizer, reward_model, problems, prompts) of a run, or BadInput."""
    problems = data.load_problems(settings.data, "train")
    number, wanted = len(problems), settings.prompts_per_step
    if number < wanted:
        raise BadInput(f"--prompts-per-step {wanted}: {settings.data} has only {number} problems; ask for fewer")
    data.check_code_execution(problems, settings.allow_code_execution)
    policy, tokenizer = load_model(settings.model, device, dtype)
    settings.template = settings.template or data.default_template(tokenizer, problems[0].kind)
    room = context_room(policy, settings.max_new_tokens)
    prompts = data.encode_prompts(problems, tokenizer, settings.template, room)
    if study_is_due(settings):  # its problems must be usable now, and not only after hours of training
        held_out = data.load_problems(settings.eval_data, "test", settings.eval_limit)
        data.check_code_execution(held_out, settings.allow_code_execution)
        data.encode_prompts(held_out, tokenizer, settings.template, room)
    try:
        adapted = adapt(policy, settings)
        needed = memory_plan(policy, settings, max(map(len, prompts)))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"--model {settings.model}: cannot be trained here: {error}") from None
    reward_model = None
    if settings.reward_model:
        reward_model = load_reward_model(settings.reward_model, device, dtype)
        needed["reward model"] = sum(p.numel() * p.element_size() for p in reward_model[0].parameters())
    print(f"Memory: {as_text(needed)}")
    room = free_memory(policy.device) + needed["weights"] + needed.get("reward model", 0)  # these are there already
    if sum(needed.values()) > room:
        raise BadInput(
            f"this needs more memory than the {room / 1e9:.1f} GB that are free: lower --micro-tokens, "
            "--prompts-per-step or --max-new-tokens, or give --gradient-checkpointing or --lora 32"
        )
    return policy, adapted, tokenizer, reward_model, problems, prompts


def frozen_copy(policy):
    """The starting model, which the KL penalty is measured from, and which is the offline annotator.

    It shares what is frozen anyway: with adapters it copies these alone, and they start as zero.
    """
    shared = {id(p): p for p in policy.parameters() if not p.requires_grad}
    return copy.deepcopy(policy, shared).requires_grad_(False)


def train(settings: Settings, resume: bool) -> None:
    """All steps of the run, and the trained model in its folder. Raises BadInput before anything is written."""
    device, dtype = resolve_device(settings.device, settings.dtype)
    policy, adapted, tokenizer, reward_model, problems, prompts = prepare(settings, device, dtype)
    needs_reference = settings.kl > 0 or settings.annotator == "offline"
    ref_policy = frozen_copy(policy) if needs_reference else None
    optimizer = adamw(policy, settings.lr)
    run, first = Path(settings.run), 0
    if resume:
        first = load_state(run, policy, optimizer, settings)
    else:
        empty_folder(run)
    # From here to save_model the folder holds an unfinished run, also where a shorter one was finished in it before.
    if first < settings.steps:
        evaluation.forget(run)
    write_config(run, {}, settings)
    size = sum(p.numel() for p in policy.parameters()) / 1e6
    print(f"{settings.model}: {size:.1f} M parameters on {device}. {settings.data}: {len(problems)} problems.")
    print(f"Run folder {run}: {settings.steps - first} steps, reward {settings.reward}, template {settings.template}")

    warned, weighted = set(), weights(settings.reward)
    # No top-p in training: tokens cut off would be sampled by one distribution and trained in another.
    sampling = {"rollouts_per_prompt": settings.rollouts_per_prompt, "max_new_tokens": settings.max_new_tokens}
    sampling |= {"temperature": settings.temperature, "eos_ids": end_tokens(policy, tokenizer)}
    for layer in decoder_layers(policy) if settings.compile else []:
        layer.compile()  # they share one compiled code
    bar = tqdm(range(first, settings.steps), initial=first, total=settings.steps, desc="train", unit="step")
    for step in bar:
        optimizer.param_groups[0]["lr"] = learning_rate(step, settings)
        chosen = prompts_of_step(len(problems), step, settings)
        generator = stream(settings.seed, "rollouts", step)
        times = [time.perf_counter()]
        # The sampler has graphs of its own, and shapes that would be compiled again and again.
        with torch.compiler.set_stance("force_eager") if settings.compile else nullcontext():
            rollouts = generate(policy, [prompts[i] for i in chosen], **sampling, generator=generator)
        times.append(time.perf_counter())
        # Texts, answers, right or wrong; and what some of the rewards need.
        sampled = read([problems[i] for i in chosen], rollouts, tokenizer, settings.allow_code_execution)
        sampled.reward_model, sampled.generator = reward_model, stream(settings.seed, "rewards", step)
        if settings.annotator == "offline":
            sampled.certainty = annotate(ref_policy, rollouts, settings.micro_tokens)
        rewards = {name: REWARDS[name](sampled, settings) for name in weighted}  # [B, G] each
        advantages = combined_advantages(rewards, weighted)  # [B, G]
        times.append(time.perf_counter())
        with checkpointed(policy, settings):
            learned = update(policy, ref_policy if settings.kl > 0 else None, optimizer, rollouts, advantages, settings)
        times.append(time.perf_counter())
        total = sum(weighted[name] * values for name, values in rewards.items())  # [B, G]
        metrics = {"step": step, **describe(sampled, total, advantages), **learned}
        metrics |= {f"reward_{name}": values.mean().item() for name, values in rewards.items() if len(rewards) > 1}
        metrics["lr"] = optimizer.param_groups[0]["lr"]
        for name, begin, end in zip(("generate", "reward", "train"), times, times[1:], strict=False):
            metrics[f"seconds_{name}"] = end - begin
        # Of the whole step, training included: what a reader waits for.
        metrics["tokens_per_second"] = rollouts.mask.sum().item() / (times[-1] - times[0])
        append_log(run / "metrics.jsonl", metrics)
        bar.set_postfix_str(
            f"reward {metrics['reward_mean']:.2f}, accuracy {metrics['accuracy']:.2f}, "
            f"length {metrics['completion_tokens']:.0f}, {metrics['tokens_per_second']:,.0f} tokens/s"
        )
        warn(metrics, warned)
        if step % SAMPLES_EVERY == 0 or step == settings.steps - 1:
            append_log(run / "samples.jsonl", *some_samples(step, sampled, total))
        if (step + 1) % SAVE_EVERY == 0 or step == settings.steps - 1:
            save_state(run, step + 1, optimizer)
    save_model(run, policy, adapted, optimizer, tokenizer, settings)


def learning_rate(step: int, settings: Settings) -> float:
    """The learning rate of a step: a linear warm-up, then constant, or half a cosine down to 0 (Intuitor)."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    passed = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * (1 + math.cos(math.pi * passed)) / 2


def describe(sampled: Sampled, rewards: torch.Tensor, advantages: torch.Tensor) -> dict:
    """The metrics of a step that come from its samples; the README's glossary says what each one tells."""
    rollouts, mask, group = sampled.rollouts, sampled.rollouts.mask, rewards.shape[1]
    # As texts: "1/2" and "0.5" count as two answers here.
    answers = [set(sampled.answers[i : i + group]) - {None} for i in range(0, rewards.numel(), group)]
    return {
        "reward_mean": rewards.mean().item(),
        "reward_std": rewards.std().item(),
        "accuracy": sum(sampled.right) / len(sampled.right),
        "answered": sum(answer is not None for answer in sampled.answers) / len(sampled.answers),
        "self_certainty": sequence_mean(rollouts.self_certainty, mask).mean().item(),
        "entropy": ((rollouts.entropy * mask).sum() / mask.sum()).item(),
        "completion_tokens": mask.sum(dim=1).float().mean().item(),
        "truncated": rollouts.truncated.float().mean().item(),
        "zero_std_groups": (advantages == 0).all(dim=1).float().mean().item(),
        "pairwise_accuracy": pairwise_accuracy(rewards, sampled.groups(sampled.right).bool()),
        "unique_answers": sum(len(different) for different in answers) / len(answers),
    }


def some_samples(step: int, sampled: Sampled, rewards: torch.Tensor) -> list[dict]:
    """The first rollout of a few problems: not selected, so that what one reads is what the model mostly says."""
    shown = []
    for b in range(min(SAMPLES_SHOWN, len(sampled.problems))):
        row, problem = b * rewards.shape[1], sampled.problems[b]
        entry = {"step": step, "prompt": problem.prompt, "completion": sampled.texts[row], "gold": problem.answer}
        entry |= {"correct": sampled.right[row], "reward": rewards[b, 0].item()}
        shown.append({**entry, "truncated": bool(sampled.rollouts.truncated[row])})
    return shown


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
        alarms["gap"] = (
            f"sampler and trainer differ by {metrics['sampling_gap']:.2f} nats a token: model not supported?"
        )
    for name in alarms.keys() - warned:
        warned.add(name)
        tqdm.write(f"WARNING, step {metrics['step']}: {alarms[name]}", file=sys.stderr)


# --- before and after -----------------------------------------------------------------------------------------------


def before_and_after(settings: Settings) -> None:
    """pass@k of the starting and the trained model on held-out problems: what eval.py prints and writes."""
    flags = evaluation.parse([settings.model, settings.run, "--data", settings.eval_data])
    flags.samples, flags.limit, flags.out = settings.eval_samples, settings.eval_limit, settings.run
    flags.replace = True
    flags.rows = settings.prompts_per_step * settings.rollouts_per_prompt  # what fitted into memory in training
    for name in ("template", "temperature", "max_new_tokens", "seed", "device", "dtype", "allow_code_execution"):
        setattr(flags, name, getattr(settings, name))
    tables = report.tables(evaluation.run(flags))
    print(report.as_text(tables[:1]))
    print(f"In {settings.run}: report.html (the whole study: open it), report.json, pictures, samples.jsonl.gz.")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        settings, given, arguments = parse(argv)
        if arguments.resume and arguments.overwrite:
            raise BadInput("--resume and --overwrite exclude each other; leave one out")
        complete(settings)
        if arguments.dry_run:
            print(dry_run(settings))
            return 0
        if arguments.resume:
            settings = resumed(settings, given)
        else:
            check_folder(Path(settings.run), arguments.overwrite)
        if "clip" in given and settings.updates_per_step == 1:
            print("note: --clip has no effect with --updates-per-step 1, where every ratio is 1", file=sys.stderr)
        train(settings, arguments.resume)
        rows = read_log(Path(settings.run) / "metrics.jsonl")
        pictures.learning(rows, Path(settings.run) / "learning.png")
        if study_is_due(settings):
            before_and_after(settings)
        else:
            print(f"Not compared on held-out problems: python eval.py {settings.model} {settings.run} --data FILE")
    except BadInput as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    first, last = rows[0]["accuracy"], rows[-1]["accuracy"]
    print(f"Accuracy on training problems: {first:.2f} in the first step, {last:.2f} in the last.")
    print(f"In {settings.run}: the model, metrics.jsonl, learning.png, samples.jsonl (read what it says).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
