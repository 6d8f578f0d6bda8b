"""train.py: the loop.

    python train.py                                            the toy world: a tiny model learns to reason, in minutes
    python train.py --model Qwen/Qwen2.5-1.5B --data gsm8k     the same with a real model

`step` is the algorithm: sample G completions of each prompt, grade them, compare each with its group, and make those
that did better likelier. That is GRPO as Intuitor (2505.19590) and "Does Reinforcement Learning Really Incentivize..."
(2504.13837) train: on policy, every batch sampled by the model that learns from it.

    problems  --data.py-->  prompts, B lists of tokens  --generate.py-->  rollouts [N, S]
      rollouts  --rewards.py-->  graded: texts, answers, right or wrong  -->  rewards [B, G]
        rewards  --grpo.py-->  advantages [B, G]  -->  loss  -->  one optimiser step

In all files B is prompts in a step, G rollouts per prompt, N = B*G rows (row b*G + g is rollout g of prompt b), S the
longest sequence, V the vocabulary and H the hidden size. Read `step` first, then the three files that it calls. All
else here is the settings above it, the loop around it, and what stops a run that cannot work before it starts.

The run folder holds the trained model (load it as any checkpoint), config.json (with the settings under "minreason"),
metrics.jsonl (a line a step; docs/metrics.md explains each number), samples.jsonl (what the model says), learning.png,
held-out.jsonl (with --eval-split), and a before/after study on held-out problems (what eval.py writes: report.html and
more). --resume goes on from state.pt.

Every random draw is a function of the seed and the step alone. So a resumed run needs no saved generator, and on a CPU
it is bit for bit the run that was never interrupted.

Several processes share a step: torchrun --nproc-per-node 2 -- train.py (running/processes.py). The update is the same.

Differs from the papers: one optimiser step per batch unless --updates-per-step says more. Defaults suit the toy; the
papers' own settings are in recipes.py.
"""

import gc
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from tqdm import tqdm

import data
import eval as evaluation
import passk
from algorithms import ADVANTAGES, ALGORITHMS, advantages_of, overlong_penalty, replaced, weighted, without_spread
from data import TEMPLATES
from engine.head import annotate
from engine.masters import adamw, learning_rate
from engine.memory import check_memory
from exercises.work import put_to_work
from generate import Rollouts, generate, stream
from grpo import kl, log_probabilities, token_mean, update
from ppo import Critic, update_critic, values_of
from rewards import REWARDS, Graded, flip, grade_rollouts, reward
from running import models, own_rewards, processes, watching
from running.data_files import write_rows
from running.dry_run import dry_run
from running.export import export
from running.files import BadInput, append_log, read_log, save_whole, writes_into
from running.flags import described, flag, pick
from running.folder import alone, check_folder, empty_folder, read_config
from running.logs import describe, in_one_line, progress, some_samples, stopwatch, warn
from running.reward_models import load_reward_model
from running.saving import begun_with, forget_model, load_state, save_model, save_state
from running.stopping import Stopped, between_steps, program
from running.train_flags import (
    check_looks,
    complete,
    held_out_path,
    idle_on_policy,
    needs_answers,
    read_command_line,
    resumed,
    reward_weights,
)
from study import pictures, report
from study.folder import WRITTEN, forget

AVERAGES = ("sequence", "token", "constant", "sum")  # of the loss: grpo.loss_weights
LOOKS = 16  # samples of a held-out problem in a look while training
SAMPLES_EVERY = 10  # steps between two looks at what the model says, and two drawings of learning.png


@dataclass
class Settings:
    """All that defines a run. Each field is a flag of the same name; `python train.py --help` prints them.

    In brackets: what the papers use. None is filled in by running/train_flags.py, which also refuses what cannot work
    (`template`: by `prepare`, which has the tokenizer).
    """

    # What most runs change. A step is B problems with G completions of each: a larger G gives each problem a better
    # comparison, a larger B more problems. A recipe is a paper's settings by name.
    recipe: str | None = flag(None, "a named set of flags, such as toy-rpr (recipes.py has all); flags you add win")
    model: str = flag("toy", "toy, toy-search, smollm2-warm, a folder, a .gguf file or a hub id (papers: Qwen2.5)")
    data: str | None = flag(None, "gsm8k, math, OWNER/NAME[:CONFIG] of the hub, or a file; toys have their own")
    reward: str = flag("correct", f"NAME or NAME=WEIGHT: {', '.join(REWARDS)}, or FILE.py:FUNCTION", nargs="+")
    steps: int = flag(60, "of training (Intuitor: 58 is one epoch of MATH)", least=1)
    prompts_per_step: int | None = flag(None, "problems a step, B; default 16, smollm2 8 (papers 64 to 256)", least=1)
    rollouts_per_prompt: int | None = flag(None, "completions of each, G; default toy 16, else 8 (papers 4 to 14)")
    max_new_tokens: int | None = flag(None, "of one; default toy 80, smollm2 48, else 512 (Intuitor 3,072)", least=1)
    lr: float | None = flag(None, "default toy 3e-4, else 1e-6; --lora x10 (papers 1e-6, 3e-6)", above=0, most=1)
    kl: float = flag(0.005, "weight of the KL penalty, 0 for none (Intuitor 0.005, 7B: 0.01)", least=0)
    seed: int = flag(0, "of every random draw", least=0)
    run: str | None = flag(None, "run folder; default runs/MODEL-REWARD-seedSEED, or runs/RECIPE-seedSEED")
    # What is rewarded: rewards.py. A flag that the chosen rewards do not read is refused: a silently ignored flag is
    # worse than an error.
    flip: float = flag(0.0, "probability that the answer key errs (noisy rewards 0.1 to 0.5)", least=0, most=1)
    flip_unit: str = flag("prompt", "flip whole prompts (the paper) or rollouts", choices=("prompt", "rollout"))
    annotator: str = flag("online", "whose certainty: the policy's, or its start's", choices=("online", "offline"))
    rpr_divisor: float = flag(20.0, "phrases for a full reasoning pattern reward (released 20, paper 40)", above=0)
    rpr_repetition: str = flag("distinct", "which n-grams count (released: distinct)", choices=("distinct", "total"))
    rpr_whole_words: bool = flag(False, "count no phrase inside a longer word (thus in enthusiasm)")
    rpr_open_ended: bool = flag(False, "for open-ended tasks: 13 phrases more; needs <think>, <answer> and no box")
    reward_model: str | None = flag(None, "a model with one output: folder, hub id, or toy-0.75 (made on the spot)")
    calibrate_threshold: float = flag(0.5, "calibrate adds to rewards below this (noisy rewards 0.5)")
    calibrate_weight: float = flag(0.1, "how much of the pattern reward calibrate adds (noisy rewards 0.1)")
    # How rewards become a gradient. An algorithm is a set of the flags below it (algorithms.py); flags you add win.
    algorithm: str = flag("grpo", "a row of the table in algorithms.py", choices=tuple(ALGORITHMS))
    advantage: str = flag("group", "what a rollout is compared with", choices=ADVANTAGES)
    ratio: str = flag("token", "of each token, or of whole completions (GSPO)", choices=("token", "sequence"))
    clip: float = flag(0.2, "ratios beyond 1 +- clip get no gradient (papers 0.2)", above=0)
    clip_high: float | None = flag(None, "another clip for ratios above 1; default --clip (DAPO 0.28)", above=0)
    loss_average: str = flag("sequence", "of tokens, as in GRPO, DAPO, Dr. GRPO, RLOO", choices=AVERAGES)
    kl_in: str = flag("loss", "where the KL penalty goes; in the reward it is k1", choices=("loss", "reward"))
    kl_estimator: str = flag("k3", "estimator of the KL penalty in the loss (GRPO k3)", choices=("k1", "k2", "k3"))
    updates_per_step: int = flag(1, "optimiser steps on the same rollouts, GRPO's mu (papers 1)", least=1)
    overlong: float = flag(0.0, "the last share of --max-new-tokens costs up to 1/2 (DAPO 0.2)", least=0, most=1)
    resample: int = flag(0, "rounds of other prompts in place of groups that are all alike (DAPO)", least=0)
    critic_lr: float | None = flag(None, "default 5 times --lr (noisy rewards 5e-6 and 1e-6)", above=0, most=1)
    critic_warmup: int = flag(0, "first steps that train the critic alone (noisy rewards 20)", least=0)
    critic_updates: int = flag(4, "of the critic in a step, each on its share of the batch (noisy rewards 4)", least=1)
    gae_lambda: float = flag(1.0, "1: return minus value; less trusts the critic more (papers 1)", least=0, most=1)
    # What else shapes a step.
    template: str | None = flag(None, "default arithmetic qa, chat models qwen-boxed, else plain", choices=TEMPLATES)
    data_split: str | None = flag(None, "of a data set of the hub or a folder; default train")
    temperature: float = flag(1.0, "of sampling (Intuitor 0.9; the other papers 1.0)", least=0.01, most=100)
    warmup: int = flag(5, "steps in which the learning rate rises from 0 (Intuitor: a tenth)", least=0)
    schedule: str = flag("constant", "of the rate after that (Intuitor cosine)", choices=("constant", "cosine"))
    lora: int = flag(0, "rank of adapters (alpha twice that) of all linear layers but the head; 0: none", least=0)
    # How it is computed: these change results by rounding only.
    gradient_checkpointing: bool = flag(False, "compute layers again in the backward pass: less memory, a third slower")
    rows: int | None = flag(None, "completions sampled at once; default all, or as many as fit into memory", least=1)
    micro_tokens: int | None = flag(None, "tokens in one pass; default 8192, on a CPU 768, toys 4096", least=1)
    compile: bool = flag(False, "torch.compile the layers for training: minutes at the start, for long runs on a GPU")
    allow_code_execution: bool = flag(False, "run programs that the model writes; read verify/sandbox.py first")
    save_every: int = flag(20, "steps between two states that --resume goes on from; Ctrl-C saves one too", least=1)
    export: str | None = flag(None, "write the run's model to share it, here or in RUN-export", nargs="?", const="auto")
    report_to: str = flag("none", "show the numbers of each step in a tool too", choices=("none", *watching.TOOLS))
    device: str = flag("auto", "auto, cpu, mps (Apple), cuda, cuda:1 ...")
    dtype: str | None = flag(None, "default bfloat16 on CUDA, else float32; the optimiser always keeps float32")
    # Before and after: the study that eval.py makes of the starting and the trained model.
    eval_data: str | None = flag(None, "held-out problems; default the test split of toy, gsm8k, math")
    eval_split: float = flag(0.0, "hold out this share of --data, in held-out.jsonl of the run", least=0, most=1)
    eval: str = flag("samples", "draw --eval-samples, or one greedy completion (papers)", choices=("samples", "greedy"))
    eval_samples: int | None = flag(
        None, "per held-out problem; default 64 on the toy, else 8; 0: no study", least=0, most=10**6
    )
    eval_limit: int | None = flag(None, "held-out problems; default 180, with --eval greedy all", least=0)
    eval_every: int = flag(0, "steps between two looks at the held-out problems while training; 0: none", least=0)
    keep_checkpoints: bool = flag(False, "keep the model of each such look, in checkpoint-STEP of the run folder")


class Parts(NamedTuple):
    """What a run trains, and what it trains with."""

    policy: torch.nn.Module
    ref_policy: torch.nn.Module | None  # the frozen starting model, if anything asks for it
    optimizer: torch.optim.Optimizer
    critic: tuple[Critic, torch.optim.Optimizer] | None  # of PPO
    tokenizer: object
    adapted: object | None  # with --lora: what can merge the adapters
    reward_model: tuple | None  # (model, tokenizer)
    reward_weights: dict[str, float]  # by name
    own_rewards: dict[str, Callable]  # those that are the user's own functions
    problems: list[data.Problem]
    prompts: list[list[int]]  # the problems as tokens
    held_out: list[tuple[data.Problem, list[int]]]  # problems, with their prompts, that are not trained on
    eos_ids: list[int]  # any of them ends a completion


# --- the algorithm --------------------------------------------------------------------------------------------------


def step(number: int, parts: Parts, s: Settings) -> tuple[Graded, dict[str, torch.Tensor], torch.Tensor, dict]:
    """One step of GRPO, or of what --algorithm names.

    Returns what was graded, each reward [B, G] by its name, the advantages, and what `update` measured, with the
    seconds of each part.
    """
    lap, key = stopwatch(), (number,)
    chosen = prompts_of_step(number, len(parts.problems), s.prompts_per_step, s.seed)  # B problems

    # 1. Sample G completions of each, from the policy as it is now: N = B*G rows.
    rollouts = sample(chosen, key, parts, s)
    seconds = {"seconds_generate": lap()}

    # 2. Grade them. A reward is a number for each rollout, [B, G]. No gradient flows through it, not even through
    #    self-certainty: it says how good a rollout was, and not how to make it better.
    graded, rewards = grade(chosen, rollouts, key, parts, s)
    trained_on, trained_rewards, measured = graded, rewards, {}
    if s.resample:
        trained_on, trained_rewards, measured = replace_alike(number, graded, rewards, parts, s)
    rollouts = trained_on.rollouts
    if s.overlong > 0:
        penalty = overlong_penalty(rollouts.mask.sum(dim=1), s.max_new_tokens, s.overlong)
        trained_rewards = {name: held + graded.groups(penalty) for name, held in trained_rewards.items()}

    # 3. Compare: how much better was each rollout than expected? In GRPO, than the others of its prompt (eq. 3): A_i,
    #    [B, G]. Some algorithms give each token an advantage of its own, [N, S]; a critic learns the returns, [N, S].
    expected = expectations(number, chosen, rollouts, parts, s)
    weights = parts.reward_weights
    advantages, returns = advantages_of(s.advantage, trained_rewards, weights, rollouts.mask, **expected)
    seconds["seconds_reward"] = lap()

    # 4. Learn. The gradient is the average of A_i grad log pi(o_i), and that of the KL penalty to the starting model.
    measured |= update(
        parts.policy, parts.ref_policy if s.kl > 0 and s.kl_in == "loss" else None, parts.optimizer,
        rollouts, advantages if number >= s.critic_warmup else torch.zeros_like(advantages),
        temperature=s.temperature, kl_weight=s.kl, kl_estimator=s.kl_estimator, clip=s.clip, clip_high=s.clip_high,
        ratio=s.ratio, loss_average=s.loss_average, max_new_tokens=s.max_new_tokens,
        updates_per_step=s.updates_per_step, micro_tokens=s.micro_tokens,
    )  # fmt: skip
    if parts.critic:
        sizes = {"updates": s.critic_updates, "micro_tokens": s.micro_tokens}
        measured |= update_critic(*parts.critic, rollouts, returns, expected["values"], **sizes)
    if "cost" in expected:  # the penalty was in the reward: k1, from before the update
        measured["kl"] = token_mean(expected["cost"], rollouts.mask) / s.kl
    seconds["seconds_train"] = lap()
    return graded, rewards, advantages, {**measured, **seconds}


def sample(chosen: list[int], key: tuple, parts: Parts, s: Settings, **changes) -> Rollouts:
    """Rollouts of the chosen problems. key: of their random numbers; changes: of what `generate` is told here."""
    # No top-p: rollouts would come from a cut-off distribution, while the loss trains the whole one.
    options = {"rollouts_per_prompt": s.rollouts_per_prompt, "temperature": s.temperature, **changes}
    options |= {"max_new_tokens": s.max_new_tokens, "eos_ids": parts.eos_ids, "slots": s.rows}
    prompts = [parts.prompts[i] for i in chosen]
    return generate(parts.policy, prompts, **options, generator=stream(s.seed, "rollouts", *key))


def grade(
    chosen: list[int], rollouts: Rollouts, key: tuple, parts: Parts, s: Settings
) -> tuple[Graded, dict[str, torch.Tensor]]:
    """The graded rollouts of the chosen problems, and their rewards, [B, G] by name."""
    problems = [parts.problems[i] for i in chosen]
    graded = grade_rollouts(problems, rollouts, parts.tokenizer, s.allow_code_execution)
    inputs = reward_inputs(key, graded, parts, s)
    inputs |= {"own": parts.own_rewards, "trainer_state": SimpleNamespace(global_step=key[0], max_steps=s.steps)}
    return graded, {name: reward(name, graded, inputs) for name in parts.reward_weights}


def replace_alike(number: int, graded: Graded, rewards: dict, parts: Parts, s: Settings) -> tuple[Graded, dict, dict]:
    """DAPO's dynamic sampling (2503.14476, section 3.2): a group whose rewards are all alike teaches nothing, so a
    group of another prompt, drawn from all, takes its place, in at most --resample rounds. Also returns what to log."""
    groups = 0
    for attempt in range(1, s.resample + 1):
        alike, key = without_spread(rewards), (number, attempt)  # [B]
        if not alike.any():
            break
        shuffled = torch.randperm(len(parts.problems), generator=stream(s.seed, "others", *key))
        others = shuffled[: alike.sum()].tolist()
        new = grade(others, sample(others, key, parts, s), key, parts, s)
        graded, rewards = replaced(graded, rewards, *new, alike)
        groups += len(others)
    return graded, rewards, {"groups_resampled": groups / s.prompts_per_step}


def expectations(number: int, chosen: list[int], rollouts: Rollouts, parts: Parts, s: Settings) -> dict:
    """What an advantage needs besides the rewards, by the names of advantages_of's parameters; nothing for GRPO."""
    found, key = {}, (number,)
    if s.kl > 0 and s.kl_in == "reward":
        # Both are computed here, as in the loss: the sampler's log-probabilities round differently.
        pair = parts.policy, parts.ref_policy
        logps = [log_probabilities(model, rollouts, s.temperature, s.micro_tokens) for model in pair]
        found["cost"] = s.kl * kl(*logps, "k1")  # [N, S]
    if s.advantage == "greedy":
        likeliest = sample(chosen, key, parts, s, rollouts_per_prompt=1, temperature=0.0)
        _, found["greedy"] = grade(chosen, likeliest, key, parts, s)  # [B, 1]
    if parts.critic:
        found |= {"values": values_of(parts.critic[0], rollouts, s.micro_tokens), "lam": s.gae_lambda}
    return found


def prompts_of_step(number: int, problems: int, prompts_per_step: int, seed: int) -> list[int]:
    """Which of the problems a step trains on: an endless row of shuffled epochs, cut into steps.

    Every problem comes once an epoch. The shuffle of an epoch depends on the seed and the epoch alone.
    """
    chosen, epoch, order = [], None, None
    for position in range(number * prompts_per_step, (number + 1) * prompts_per_step):
        if position // problems != epoch:
            epoch = position // problems
            order = torch.randperm(problems, generator=stream(seed, "epoch", epoch))
        chosen.append(int(order[position % problems]))
    return chosen


def reward_inputs(key: tuple, graded: Graded, parts: Parts, s: Settings) -> dict:
    """All that a reward can read besides what was graded, by the names of the parameters in rewards.py."""
    rollouts, right, noise = graded.rollouts, graded.groups(graded.right), stream(s.seed, "rewards", *key)
    certainty = rollouts.self_certainty  # the policy's own, captured while it sampled
    if s.annotator == "offline":  # Intuitor's Figure 7: the starting model grades
        certainty = annotate(parts.ref_policy, rollouts, s.micro_tokens)
    return {
        "certainty": certainty,
        # What the answer key says. Its noise is in the reward alone: accuracy is measured by the true answers.
        "verdicts": flip(right, s.flip, s.flip_unit, graded.answered, noise) if s.flip > 0 else right,
        "calibrate_threshold": s.calibrate_threshold,
        "calibrate_weight": s.calibrate_weight,
        "pattern_options": {
            "divisor": s.rpr_divisor, "repetition_kind": s.rpr_repetition,
            "whole_words": s.rpr_whole_words, "open_ended": s.rpr_open_ended,
        },
        "reward_model": parts.reward_model,
        "coins": noise,  # goes on behind the flips
    }  # fmt: skip


# --- the run --------------------------------------------------------------------------------------------------------


def train(settings: Settings, resume: bool, asked_to_stop=lambda: None) -> list[dict]:
    """All steps of the run, and the trained model in its folder; returns the rows of metrics.jsonl.

    Raises BadInput before anything is written, and Stopped behind a step in which asked_to_stop() named a signal.
    """
    parts, run, warned = prepare(settings), Path(settings.run), set()  # warned: each warning comes once
    begun = begun_with(parts.policy, parts.problems, parts.prompts)
    first, rows, kept = open_run(run, parts, settings, resume, begun)
    report, end_report = watching.start(settings.report_to, run, first, kept["minreason"])
    bar = tqdm(range(first, settings.steps), initial=first, total=settings.steps, desc="train", unit="step")
    for number in bar:
        parts.optimizer.param_groups[0]["lr"] = lr = learning_rate(number, **pick(settings, "lr warmup schedule steps"))
        looked = look_at_held_out(number, parts, settings)
        graded, rewards, _, measured = step(number, parts, settings)
        if not math.isfinite(measured["grad_norm"]):
            raise BadInput(f"--lr {settings.lr}: the gradient of step {number} is no number any more; try a lower one")

        # Several rewards are logged as the weighted sum that a reader has in mind; what trains are the advantages.
        total = weighted(rewards, parts.reward_weights)  # [B, G]
        rows.append({"step": number, "lr": lr, **describe(graded, rewards, total, measured), **looked})
        append_log(run / "metrics.jsonl", rows[-1])
        report(rows[-1])
        bar.set_postfix_str(progress(rows[-1]))
        warn(rows, warned)
        last = number == settings.steps - 1
        if number % SAMPLES_EVERY == 0 or last:
            samples = some_samples(number, graded, total)
            append_log(run / "samples.jsonl", *samples)
            bar.write(in_one_line(samples[0]))
            pictures.learning(rows, run / "learning.png")
        # The state comes behind the logs: what a kill between the two leaves in them is cut off by --resume.
        signal = asked_to_stop()
        if (number + 1) % settings.save_every == 0 or last or signal:
            save_state(run, number + 1, trained(parts), begun)
        if signal:
            raise Stopped(number + 1, signal)
    end_report()
    save_model(run, parts.policy, parts.adapted, parts.optimizer, parts.tokenizer, kept)
    return rows


def open_run(run: Path, parts: Parts, s: Settings, resume: bool, begun: dict) -> tuple[int, list[dict], dict]:
    """Make the folder that of an unfinished run, empty or as the last state left it.

    Returns the first step, the rows of metrics.jsonl so far, and what config.json says of the run.
    """
    first, rows, before = 0, [], None
    if resume:
        first, before = load_state(run, trained(parts), s.steps, study_is_due(s), begun), read_config(run)
        rows = read_log(run / "metrics.jsonl")
    else:
        empty_folder(run)
    if first < s.steps:  # a shorter run may have been finished, and studied, in it
        forget(run)
    kept = described(s, complete) | own_rewards.described(parts.own_rewards, before)
    forget_model(run, kept)
    write_rows(Path(held_out_path(run)), [problem.row for problem, _ in parts.held_out if problem.row])  # --eval-split
    print(f"Run folder {run}: {s.steps - first} steps, reward {s.reward}, template {s.template}")
    return first, rows, kept


def trained(parts: Parts) -> list[tuple]:
    """What is trained, each with its optimiser: the policy, and in PPO the critic."""
    return [(parts.policy, parts.optimizer)] + ([parts.critic] if parts.critic else [])


def prepare(s: Settings, loaded: tuple | None = None) -> Parts:
    """Load what the run needs. loaded: (policy, tokenizer) in place of --model's. Raises BadInput.

    Whatever can be known to fail is refused here: held-out problems that cannot be read, a prompt that does not fit the
    context, memory that is not there. It would cost hours to find out later. Nothing is written yet.
    """
    device, dtype = models.resolve_device(s.device, s.dtype)
    problems, held_out = load_data(s)
    own = own_rewards.load(reward_weights(s.reward), problems)
    data.check_code_execution(problems + held_out, s.allow_code_execution)
    if len(problems) < s.prompts_per_step:
        has = f"{s.data} has only {len(problems)} problems"
        raise BadInput(f"--prompts-per-step {s.prompts_per_step}: {has}; ask for fewer")
    policy, tokenizer = loaded or models.load_model(s.model, device, dtype)
    s.template = s.template or data.default_template(tokenizer, problems[0].kind, bool(problems[0].chat))
    prompts = models.encoded(problems, policy, tokenizer, s.template, s.max_new_tokens)
    flag = "--data" if s.eval_split else "--eval-data"
    held_out_prompts = models.encoded(held_out, policy, tokenizer, s.template, s.max_new_tokens, flag)

    reward_model = load_reward_model(s.reward_model, device, dtype) if s.reward_model else None
    critic = Critic(policy) if s.advantage == "critic" else None  # before the adapters, which are the policy's alone
    adapted = models.add_lora(policy, s.lora, s.seed) if s.lora else None
    # The starting model is kept where something asks for it: the KL penalty, or the offline annotator.
    reference = s.kl > 0 or s.annotator == "offline"
    kept = {"reference": reference, "reward_model": reward_model[0] if reward_model else None, "critic": critic}
    sizes = "prompts_per_step rollouts_per_prompt max_new_tokens temperature micro_tokens gradient_checkpointing"
    longest = max(map(len, prompts + held_out_prompts))
    s.rows = check_memory(policy, s.model, longest, rows=s.rows, **kept, **pick(s, sizes))
    ref_policy = models.frozen_copy(policy) if reference else None
    # Both change how a training pass is computed; sampling does not see them.
    if s.gradient_checkpointing:
        models.checkpoint_gradients(policy)
        if critic:
            models.checkpoint_gradients(critic.body)
    if s.compile:
        for layer in models.decoder_layers(policy):  # they share one compiled code
            layer.compile()
    size = sum(p.numel() for p in policy.parameters()) / 1e6
    print(f"{s.model}: {size:.1f} M parameters on {device}. {s.data}: {len(problems)} problems.")
    return Parts(
        policy, ref_policy, adamw(policy, s.lr), (critic, adamw(critic, s.critic_lr)) if critic else None,
        tokenizer, adapted, reward_model, reward_weights(s.reward), own,
        problems, prompts, list(zip(held_out, held_out_prompts, strict=True)), models.end_tokens(policy, tokenizer),
    )  # fmt: skip


def load_data(s: Settings) -> tuple[list[data.Problem], list[data.Problem]]:
    """The problems to train on, and the held-out ones, if something asks for them. Raises BadInput.

    Without answers nothing can be compared: the study is left out then, and --eval-every is refused.
    """
    rows = bool(s.eval_split) or any(map(own_rewards.FORM.fullmatch, reward_weights(s.reward)))
    problems = data.load_problems(s.data, s.data_split or "train", answers=needs_answers(s), rows=rows)
    if unknown := sum(problem.answer is None for problem in problems):
        print(f"{s.data}: {unknown} of {len(problems)} have no answer. Accuracy is that of the others, else null.")
    held_out = []
    if s.eval_split:
        problems, held_out = data.hold_out(problems, s.eval_split, s.seed)
    if not (study_is_due(s) or s.eval_every):
        return problems, held_out
    try:
        if s.eval_data != held_out_path(s.run):
            held_out = data.load_problems(s.eval_data, "test", s.eval_limit, "--eval-data")
        elif all(problem.answer is None for problem in held_out):
            raise data.NoAnswers("--eval-split: the problems held out have no answers")
    except data.NoAnswers as error:
        if s.eval_every:
            raise
        print(f"No study of the held-out problems. {error}")
        s.eval_data = None
    return problems, held_out


# --- held-out problems ----------------------------------------------------------------------------------------------


def look_at_held_out(number: int, parts: Parts, s: Settings) -> dict[str, float]:
    """With --eval-every: pass@1 and pass@16 on the held-out problems, before this step; and the model, kept.

    The random numbers are the same each time, so that two looks differ by the policies alone.
    """
    if not s.eval_every or number % s.eval_every:
        return {}
    right, at_once = [], max(1, s.prompts_per_step * s.rollouts_per_prompt // LOOKS)  # no more rows than in a step
    held_out = [pair for pair in parts.held_out if pair[0].answer is not None][: s.eval_limit]
    for first in range(0, len(held_out), at_once):
        problems, prompts = zip(*held_out[first : first + at_once], strict=True)
        rollouts = generate(
            parts.policy, list(prompts), LOOKS, s.max_new_tokens,
            temperature=s.temperature, eos_ids=parts.eos_ids, slots=s.rows,
            generator=stream(s.seed, "held-out", first),
        )  # fmt: skip
        graded = grade_rollouts(list(problems), rollouts, parts.tokenizer, s.allow_code_execution)
        right += graded.groups(graded.right).sum(dim=1).tolist()
    if s.keep_checkpoints:
        save_whole(Path(s.run) / f"checkpoint-{number}", parts.policy, parts.tokenizer, replace=True)
    once, often = passk.curve(LOOKS, [int(count) for count in right], [1, LOOKS]).tolist()
    return {"eval_accuracy": once, f"eval_pass@{LOOKS}": often}


def study_is_due(settings: Settings) -> bool:
    """Whether the starting and the trained model are to be compared, and there are problems to compare them on."""
    return bool(settings.eval_data) and 0 not in (settings.eval_samples, settings.eval_limit)


def before_and_after(settings: Settings) -> None:
    """pass@k of the starting and the trained model on held-out problems: what eval.py prints and writes.

    At the temperature of training, or greedily, and with the same prompts, so that the two differ in nothing but the
    weights.
    """
    greedy = settings.eval == "greedy"
    rows = settings.prompts_per_step * settings.rollouts_per_prompt
    study = evaluation.Settings(
        models=[settings.model, settings.run],
        data=settings.eval_data,
        samples=1 if greedy else settings.eval_samples,
        temperature=0.0 if greedy else settings.temperature,
        limit=settings.eval_limit,
        out=settings.run,
        rows=min(settings.rows or rows, rows),  # what fitted into memory in training
        **pick(settings, "template max_new_tokens seed device dtype allow_code_execution"),
    )
    # Of its tables the first one, pass@k; the page has all. A study of an older run is replaced.
    print(report.as_text(report.tables(evaluation.run(study, replace=True))[:1]))
    print(f"In {settings.run}: report.html (the whole study: open it), report.json, pictures, samples.jsonl.gz.")


# --- the command line -----------------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> tuple[Settings, set[str], set[str]]:
    """The settings, the names of the flags given, and the switches that are on. Raises BadInput."""
    return read_command_line(Settings, argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input, which is said in one line, or 128 + a signal."""
    processes.join()  # of torchrun, if it runs this
    try:
        settings, given, switches = parse(argv)
        complete(settings)
        if settings.export:  # of a run that is there: nothing is trained
            export(settings.run, settings.export)
            return 0
        if "resume" in switches:  # the settings are those of the run; flags may only prolong it
            settings = resumed(settings, given)
        check_looks(settings)
        if "dry_run" in switches:
            dry_run(settings, prepare)
            return 0
        if "resume" not in switches:
            check_folder(Path(settings.run), "overwrite" in switches, WRITTEN)
        if "exercises" in switches:
            yours = ", ".join(put_to_work(sys.modules[__name__]))
            print(f"Yours: {yours or 'nothing yet; python -m exercises shows what there is to do'}")
        if idle := idle_on_policy(settings):
            print(f"note: {idle}: no effect with --updates-per-step 1, where every ratio is 1", file=sys.stderr)
        disk = writes_into(f"--run {settings.run}", "make room; --resume goes on from the last state")
        with alone(Path(settings.run), "--run"), disk:
            with between_steps() as asked:
                rows = train(settings, "resume" in switches, asked)
                if signal := asked():  # while the model was being saved
                    raise Stopped(settings.steps, signal)
            if processes.leave() > 0:
                return 0
            if study_is_due(settings):
                before_and_after(settings)
            else:
                print(f"Not compared on held-out problems: python eval.py {settings.model} {settings.run} --data FILE")
    except BadInput as error:
        processes.say(f"train.py: {error}")
        return 2
    except Stopped as stopped:
        on = f"{processes.program()} train.py --run {settings.run} --resume"
        if ".py:" in settings.reward:  # code runs only if it is named
            on += f" --reward {settings.reward}"
        processes.say(f"train.py: stopped before step {stopped.step}, and nothing is lost; go on by {on}")
        return stopped.code
    first, last = rows[0]["accuracy"], rows[-1]["accuracy"]
    if first is not None and last is not None:
        print(f"Accuracy on training problems: {first:.2f} in the first step, {last:.2f} in the last.")
    print(f"In {settings.run}: the model, metrics.jsonl, learning.png, samples.jsonl (read what it says).")
    return 0


if __name__ == "__main__":
    gc.freeze()  # what was imported stays: a search for garbage (pictures.learning) need not go through it each time
    sys.exit(program(main, "--resume goes on from the last state that was saved"))
