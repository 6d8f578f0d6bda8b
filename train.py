"""train.py: the loop and its command line (folder.py: what it leaves behind; plan.py: what it will need).

    python train.py                                            the toy world: a tiny model learns to reason, in minutes
    python train.py --model Qwen/Qwen2.5-1.5B --data gsm8k     the same with a real model

One step: draw prompts, sample G completions of each, reward them, turn rewards into advantages, take --updates-per-step
optimiser steps on all of them. That is GRPO as Intuitor (2505.19590) and "Does Reinforcement Learning Really
Incentivize..." (2504.13837) train: on policy, every batch sampled by the model that learns from it.

The run folder holds the trained model (load it as any checkpoint), config.json (with the settings under "minreason"),
metrics.jsonl (a line a step; the README explains each number), samples.jsonl (what the model says), learning.png, and a
before/after study on held-out problems (passk.json, passk.png, samples.jsonl.gz). --resume goes on from state.pt.

Every random draw is a function of the seed and the step alone. So a resumed run needs no saved generator, and on a CPU
it is bit for bit the run that was never interrupted.

Differs from the papers: the learning rate is constant after its warm-up, where Intuitor decays it with a cosine.
"""

import argparse
import copy
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import get_args

import torch
from tqdm import tqdm
from transformers.modeling_layers import GradientCheckpointingLayer

import data
import eval as evaluation
from data import TEMPLATES, BadInput
from folder import (
    append,
    check_folder,
    load_state,
    read_config,
    read_rows,
    save_model,
    save_state,
    study_is_due,
    write_config,
)
from generate import generate, stream
from grpo import adamw, group_advantages, update
from plan import as_text, free_memory, memory_plan
from rewards import REWARDS, Sampled, read, sequence_mean

# What is left open depends on the model: --model toy, or any other. (The toy is too small to gain from bfloat16.)
TOY = {
    "data": "toy",
    "rollouts_per_prompt": 16,
    "max_new_tokens": 80,
    "lr": 3e-4,
    "eval_samples": 64,
    "dtype": "float32",
}
REAL = {"rollouts_per_prompt": 8, "max_new_tokens": 512, "lr": 1e-6, "eval_samples": 8, "dtype": "auto"}
# What --resume may change: how far and how fast a run goes and how it is looked at, but no step beyond rounding.
FREE_TO_CHANGE = {"run", "steps", "eval_data", "eval_samples", "eval_limit", "device", "dtype", "micro_tokens"}
FREE_TO_CHANGE |= {"gradient_checkpointing", "compile"}
SAVE_EVERY = 20  # steps between two states that --resume can go on from
SAMPLES_EVERY, SAMPLES_SHOWN = 10, 4  # every so many steps, so many completions go into samples.jsonl


def flag(default, text: str):
    """A field of Settings with the help text of its flag."""
    return field(default=default, metadata={"help": text})


@dataclass
class Settings:
    """All that defines a run. Each field is a flag of the same name; None is filled in by `complete`."""

    model: str = flag("toy", "toy, a folder with a saved model, or a hub id (papers: Qwen2.5-1.5B, -3B, -7B)")
    data: str | None = flag(None, "toy, gsm8k, math or a .jsonl / .jsonl.gz file; default toy with the toy model")
    template: str | None = flag(None, f"{', '.join(TEMPLATES)}; default qwen-boxed for a chat tokenizer, else plain")
    reward: str = flag("correct", " or ".join(REWARDS))
    steps: int = flag(60, "training steps (Intuitor: 58 is one epoch of MATH)")
    prompts_per_step: int = flag(16, "B (Intuitor 128; noisy rewards 128; limit of RLVR 256)")
    rollouts_per_prompt: int | None = flag(None, "G; default 16 on the toy, else 8 (Intuitor 7 or 14; limit of RLVR 8)")
    max_new_tokens: int | None = flag(None, "tokens; default 80 on the toy, else 512 (Intuitor 3,072)")
    temperature: float = flag(1.0, "of sampling (Intuitor 0.9; the other papers 1.0)")
    lr: float | None = flag(
        None, "of AdamW; default 3e-4 on the toy, else 1e-6 (Intuitor 3e-6, 7B: 1e-6); ten times that with --lora"
    )
    warmup: int = flag(5, "steps in which the learning rate rises from 0 (Intuitor: a tenth of the steps)")
    kl: float = flag(0.005, "weight of the KL penalty to the starting model, 0 for none (Intuitor 0.005, 7B: 0.01)")
    clip: float = flag(0.2, "ratios beyond 1 +- clip get no gradient (papers 0.2); needs --updates-per-step above 1")
    updates_per_step: int = flag(1, "optimiser steps on the same rollouts, GRPO's mu (papers 1)")
    micro_tokens: int | None = flag(
        None,
        "tokens in one pass, to suit memory: nothing else changes; default 8192, on a CPU 1024, which suits its caches",
    )
    loss_average: str = flag(
        "sequence", "sequence (GRPO eq. 3), token (DAPO; Intuitor's code) or constant (Dr. GRPO's)"
    )
    lora: int = flag(
        0, "rank of LoRA adapters (alpha twice that) of all linear layers but the head; 0: train all weights"
    )
    gradient_checkpointing: bool = flag(
        False, "compute layers again in the backward pass: a third more time, less memory"
    )
    compile: bool = flag(False, "torch.compile the layers for training: minutes at the start, for long runs on a GPU")
    seed: int = flag(0, "of every random draw")
    device: str = flag("auto", "auto, cpu, cuda, cuda:1 ...")
    dtype: str | None = flag(
        None, "of the model: float32, or bfloat16 (default on a GPU); trained are float32 weights either way"
    )
    run: str | None = flag(None, "run folder; default runs/MODEL-REWARD-seedSEED")
    eval_data: str | None = flag(None, "held-out problems; default the test split of toy, gsm8k, math; a file has none")
    eval_samples: int | None = flag(None, "samples per held-out problem; default 64 on the toy, else 8; 0: no study")
    eval_limit: int = flag(180, "held-out problems")


# --- settings -------------------------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> tuple[Settings, set[str], argparse.Namespace]:
    """The settings, the names of those that were given, and --resume / --overwrite."""
    # SUPPRESS leaves a flag that was not given out of the result: so a given one can be told from its default.
    parser = argparse.ArgumentParser(prog="train.py", description="Train with GRPO.", usage="python train.py [flags]")
    for f in fields(Settings):
        text = f.metadata["help"] + ("" if f.default is None else f"; default {f.default}")
        kind = (get_args(f.type) or (f.type,))[0]
        name = f"--{f.name.replace('_', '-')}"
        value = {"type": kind, "metavar": kind.__name__.upper()}
        if kind is bool:
            value = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(name, default=argparse.SUPPRESS, help=text, **value)
    parser.add_argument("--resume", action="store_true", help="go on with the run in the run folder, up to --steps")
    parser.add_argument("--overwrite", action="store_true", help="delete the run in the run folder and start again")
    arguments = parser.parse_args(argv)
    given = set(vars(arguments)) - {"resume", "overwrite"}
    return Settings(**{name: getattr(arguments, name) for name in given}), given, arguments


def complete(settings: Settings) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    if settings.lr is None and settings.lora:
        settings.lr = 10 * (TOY if settings.model == "toy" else REAL)["lr"]  # adapters start at zero
    for name, value in (TOY if settings.model == "toy" else REAL).items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    if settings.data is None:
        raise BadInput(f"--model {settings.model} needs --data: gsm8k, math or a .jsonl file")
    if settings.model == "toy" and settings.data != "toy":
        raise BadInput(f"--data {settings.data}: the toy model reads toy problems only; give another --model")
    if settings.rollouts_per_prompt < 2:
        raise BadInput("--rollouts-per-prompt must be at least 2: a group of one has nothing to compare itself with")
    device, _ = data.resolve_device(settings.device, settings.dtype)
    if settings.micro_tokens is None:
        settings.micro_tokens = 1024 if device == "cpu" else 8192
    at_least = dict.fromkeys(("steps", "prompts_per_step", "max_new_tokens", "updates_per_step", "micro_tokens"), 1)
    at_least |= dict.fromkeys(("kl", "warmup", "lora", "eval_samples", "eval_limit"), 0)
    for name, least in at_least.items():
        if not getattr(settings, name) >= least:
            raise BadInput(f"--{name.replace('_', '-')} {getattr(settings, name)}: must be at least {least}")
    for name in ("temperature", "lr", "clip"):
        if not getattr(settings, name) > 0:
            raise BadInput(f"--{name} {getattr(settings, name)}: must be above 0")
    choices = {
        "reward": REWARDS,
        "template": (None, *TEMPLATES),
        "loss_average": ("sequence", "token", "constant"),
    }
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            known = ", ".join(choice for choice in allowed if choice)
            raise BadInput(f"--{name.replace('_', '-')} {getattr(settings, name)}: unknown; choose from {known}")
    if settings.eval_data is None:
        settings.eval_data = {"toy": "toy", "gsm8k": "gsm8k", "math": "math500"}.get(settings.data)
    if settings.run is None:
        settings.run = f"runs/{Path(settings.model).resolve().name}-{settings.reward}-seed{settings.seed}"
    if Path(settings.run).resolve() == Path(settings.model).resolve():
        raise BadInput(f"--run {settings.run}: is the folder of --model; give another, and keep the model")


def resumed(settings: Settings, given: set[str]) -> Settings:
    """The settings of the run in the folder. Flags that change its steps are refused: a run has one learning rate."""
    saved = read_config(Path(settings.run))
    if "minreason" not in saved or not (Path(settings.run) / "state.pt").is_file():
        raise BadInput(f"--resume: {settings.run} holds no run with a saved state; start it without --resume")
    try:
        old = Settings(**saved["minreason"])
    except TypeError:
        raise BadInput(f"--resume: {settings.run} was made by another version of this program; start again") from None
    for name in given:
        if name in FREE_TO_CHANGE:
            setattr(old, name, getattr(settings, name))
        elif getattr(old, name) != getattr(settings, name):
            shown = f"--{name.replace('_', '-')}"
            raise BadInput(f"--resume: {settings.run} has {shown} {getattr(old, name)} and keeps it; leave {shown} out")
    old.run = settings.run
    return old


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


@contextmanager
def checkpointed(policy, settings: Settings) -> Iterator[None]:
    """Within it, layers keep their input alone for the backward pass, if --gradient-checkpointing says so.

    transformers lets a layer do that in training mode; what is inside the layer stays in eval mode.
    """
    layers = [module for module in policy.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.training = settings.gradient_checkpointing
    yield
    for layer in layers:
        layer.training = False


def prepare(settings: Settings, device: str, dtype: torch.dtype):
    """(policy, adapted, tokenizer, problems, prompts) of a run; raises BadInput for whatever of it cannot be used."""
    problems = data.load_problems(settings.data, "train")
    number, wanted = len(problems), settings.prompts_per_step
    if number < wanted:
        raise BadInput(f"--prompts-per-step {wanted}: {settings.data} has only {number} problems; ask for fewer")
    policy, tokenizer = data.load_model(settings.model, device, dtype)
    settings.template = settings.template or data.default_template(tokenizer)
    room = data.context_room(policy, settings.max_new_tokens)
    prompts = data.encode_prompts(problems, tokenizer, settings.template, room)
    if study_is_due(settings):  # its problems must be usable now, and not only after hours of training
        held_out = data.load_problems(settings.eval_data, "test", settings.eval_limit)
        data.encode_prompts(held_out, tokenizer, settings.template, room)
    try:
        adapted = adapt(policy, settings)
        needed = memory_plan(policy, settings, max(map(len, prompts)))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"--model {settings.model}: cannot be trained here: {error}") from None
    print(f"Memory: {as_text(needed)}")
    room = free_memory(policy.device) + needed["weights"]  # these are there already
    if sum(needed.values()) > room:
        raise BadInput(
            f"this needs more memory than the {room / 1e9:.1f} GB that are free: lower --micro-tokens, "
            "--prompts-per-step or --max-new-tokens, or give --gradient-checkpointing or --lora 32"
        )
    return policy, adapted, tokenizer, problems, prompts


def train(settings: Settings, resume: bool) -> None:
    """All steps of the run, and the trained model in its folder. Raises BadInput before anything is written."""
    device, dtype = data.resolve_device(settings.device, settings.dtype)
    policy, adapted, tokenizer, problems, prompts = prepare(settings, device, dtype)
    ref_policy = None
    if settings.kl > 0:
        # The KL penalty is measured from the starting model: a frozen copy, which shares what is frozen anyway. (With
        # adapters it copies these alone: they start as zero.)
        shared = {id(p): p for p in policy.parameters() if not p.requires_grad}
        ref_policy = copy.deepcopy(policy, shared).requires_grad_(False)
    optimizer = adamw(policy, settings.lr)
    run, first = Path(settings.run), 0
    if resume:
        first = load_state(run, policy, optimizer, settings)
    else:
        shutil.rmtree(run, ignore_errors=True)  # check_folder lets only an empty folder or --overwrite come so far
        try:
            run.mkdir(parents=True)
        except OSError as error:
            raise BadInput(f"--run {run}: cannot be made a folder ({error.strerror})") from None
    # From here to save_model the folder holds an unfinished run, also where a shorter one was finished in it before.
    (run / "passk.json").unlink(missing_ok=True)
    write_config(run, {}, settings)
    size = sum(p.numel() for p in policy.parameters()) / 1e6
    print(f"{settings.model}: {size:.1f} M parameters on {device}. {settings.data}: {len(problems)} problems.")
    print(f"Run folder {run}: {settings.steps - first} steps, reward {settings.reward}, template {settings.template}")

    warned = set()
    # No top-p in training: tokens cut off would be sampled by one distribution and trained in another.
    sampling = {"rollouts_per_prompt": settings.rollouts_per_prompt, "max_new_tokens": settings.max_new_tokens}
    sampling |= {"temperature": settings.temperature, "eos_ids": data.end_tokens(policy, tokenizer)}
    if settings.compile:
        for module in policy.modules():
            if isinstance(module, GradientCheckpointingLayer):  # a decoder layer; they share one compiled code
                module.compile()
    bar = tqdm(range(first, settings.steps), initial=first, total=settings.steps, desc="train", unit="step")
    for step in bar:
        optimizer.param_groups[0]["lr"] = settings.lr * min(1.0, (step + 1) / max(settings.warmup, 1))
        chosen = prompts_of_step(len(problems), step, settings)
        generator = stream(settings.seed, "rollouts", step)
        times = [time.perf_counter()]
        # The sampler has graphs of its own, and shapes that would be compiled again and again.
        with torch.compiler.set_stance("force_eager") if settings.compile else nullcontext():
            rollouts = generate(policy, [prompts[i] for i in chosen], **sampling, generator=generator)
        times.append(time.perf_counter())
        sampled = read([problems[i] for i in chosen], rollouts, tokenizer)  # texts, answers, right or wrong
        rewards = REWARDS[settings.reward](sampled)  # [B, G]
        times.append(time.perf_counter())
        with checkpointed(policy, settings):
            learned = update(policy, ref_policy, optimizer, rollouts, group_advantages(rewards), settings)
        times.append(time.perf_counter())
        metrics = {"step": step, **describe(sampled, rewards), **learned, "lr": optimizer.param_groups[0]["lr"]}
        for name, begin, end in zip(("generate", "reward", "train"), times, times[1:], strict=False):
            metrics[f"seconds_{name}"] = end - begin
        # Of the whole step, training included: what a reader waits for.
        metrics["tokens_per_second"] = rollouts.mask.sum().item() / (times[-1] - times[0])
        append(run / "metrics.jsonl", metrics)
        bar.set_postfix_str(
            f"reward {metrics['reward_mean']:.2f}, accuracy {metrics['accuracy']:.2f}, "
            f"length {metrics['completion_tokens']:.0f}, {metrics['tokens_per_second']:,.0f} tokens/s"
        )
        warn(metrics, warned)
        if step % SAMPLES_EVERY == 0 or step == settings.steps - 1:
            append(run / "samples.jsonl", *some_samples(step, sampled, rewards))
        if (step + 1) % SAVE_EVERY == 0 or step == settings.steps - 1:
            save_state(run, step + 1, optimizer)
    save_model(run, policy, adapted, optimizer, tokenizer, settings)


def describe(sampled: Sampled, rewards: torch.Tensor) -> dict:
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
        "zero_std_groups": (rewards.amax(dim=1) == rewards.amin(dim=1)).float().mean().item(),
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
    flags.rows = settings.prompts_per_step * settings.rollouts_per_prompt  # what fitted into memory in training
    for name in ("template", "temperature", "max_new_tokens", "seed", "device", "dtype"):
        setattr(flags, name, getattr(settings, name))
    print(f"{evaluation.table(evaluation.run(flags))}\nIn {settings.run}: passk.png, passk.json, samples.jsonl.gz.")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    settings, given, arguments = parse(argv)
    try:
        if arguments.resume and arguments.overwrite:
            raise BadInput("--resume and --overwrite exclude each other; leave one out")
        complete(settings)
        if arguments.resume:
            settings = resumed(settings, given)
        else:
            check_folder(Path(settings.run), arguments.overwrite)
        if "clip" in given and settings.updates_per_step == 1:
            print("note: --clip has no effect with --updates-per-step 1, where every ratio is 1", file=sys.stderr)
        train(settings, arguments.resume)
        rows = read_rows(Path(settings.run) / "metrics.jsonl")
        evaluation.learning_picture(rows, Path(settings.run) / "learning.png")
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
