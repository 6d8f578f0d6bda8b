"""train_flags.py: train.py's flags: what a recipe brings, what is filled in, and what cannot work.

The class itself, with each flag's default and help, is train.Settings.
"""

import math
import re
from dataclasses import fields
from pathlib import Path

import data
import toy
from algorithms import ALGORITHMS
from recipes import RECIPES
from rewards import REWARDS, flags_of, inputs_of
from running import watching
from running.files import BadInput
from running.flags import check, parse, shown
from running.folder import STATE, config_is_whole, read_config
from running.models import own_data, resolve_device
from running.own_rewards import FORM, called
from running.rows import GYM, has_splits
from running.saving import AGAIN

SWITCHES = {
    "resume": "go on with the run in the run folder, up to --steps",
    "overwrite": "delete the run in the run folder and start again",
    "exercises": "train with your own functions, those that `python -m exercises` calls done",
    "dry_run": "print what the run would be, what it would need and roughly how long it would take, and stop",
}
GROUPS = {  # first flag -> heading in --help
    "flip": "rewards (a flag that the chosen ones do not read is refused)",
    "algorithm": "algorithm (it sets flags below it, and --kl; those you add win)",
    "template": "sampling and learning",
    "gradient_checkpointing": "memory, speed, safety and watching",
    "eval_data": "the study before and after",
}
# What is left open depends on the model: a toy, smollm2, or any other. (A toy is too small to gain from bfloat16.)
TOY = {
    "prompts_per_step": 16,
    "rollouts_per_prompt": 16,
    "max_new_tokens": 80,
    "lr": 3e-4,
    "eval_samples": 64,
    "dtype": "float32",
}
REAL = {
    "prompts_per_step": 16,
    "rollouts_per_prompt": 8,
    "max_new_tokens": 512,
    "lr": 1e-6,
    "eval_samples": 8,
    "dtype": "auto",
}
SMOLLM2 = {**REAL, "prompts_per_step": 8, "max_new_tokens": 48, "lr": 5e-6}
CRITIC = ("critic_lr", "critic_warmup", "critic_updates", "gae_lambda")  # flags
# What --resume may change: how far a run goes and how it is looked at, and how fast, but no step beyond rounding.
HOW_FAR = {"run", "steps", "report_to"}
HOW_FAR |= {"eval", "eval_data", "eval_samples", "eval_limit", "eval_every", "keep_checkpoints"}
HOW_FAST = {"device", "dtype", "rows", "micro_tokens", "gradient_checkpointing", "compile"}


def reward_weights(reward: str) -> dict[str, float]:
    """--reward as name -> weight: "correct" is {"correct": 1}, "rpr=0.5 my.py:brevity" two. Raises BadInput."""
    found = {}
    for part in reward.split():
        own = re.match(FORM.pattern + r"(?=\Z|=)", part)  # its path may hold a "=" too
        name = own[0] if own else part.partition("=")[0]
        weight = part[len(name) + 1 :] if len(part) > len(name) else "1"
        if not own and name not in REWARDS:
            known = f"{', '.join(REWARDS)} and FILE.py:FUNCTION (without blanks)"
            raise BadInput(f"--reward {part}: unknown; choose from {known}")
        try:
            value = float(weight)
        except ValueError:
            value = 0.0
        if called(name) in map(called, found) or value == 0 or not math.isfinite(value):
            raise BadInput(f"--reward {reward}: give each reward once, as NAME or NAME=WEIGHT, the weight not 0")
        found[name] = value
    if not found:
        raise BadInput("--reward: give at least one")
    return found


def needs_answers(settings) -> bool:
    """Whether a chosen reward reads what the answer key says; the others train without answers."""
    names = {name for name in reward_weights(settings.reward) if "verdicts" in inputs_of(name)}
    return bool(names - ({"calibrate"} if settings.reward_model else set()))


def held_out_path(run: str) -> str:
    """Where a run keeps what --eval-split holds out, so that eval.py can be given the same problems."""
    return str(Path(run) / "held-out.jsonl")


def idle_flags(settings) -> list[str]:
    """The flags about rewards that no reward reads, though they are not at their defaults.

    A silently ignored flag is worse than an error.
    """
    names = set(reward_weights(settings.reward))
    read = set().union(*map(flags_of, names))
    if settings.reward_model and "correct" not in names:
        read -= {"flip", "flip_unit"}  # calibrate takes the model's scores then, and no verdict
    if not settings.reward_model:
        read -= {"calibrate_threshold", "calibrate_weight"}  # what is wrong earns its RPR then
    if settings.flip == 0:
        read -= {"flip_unit"}
    about_rewards = set().union(*map(flags_of, REWARDS))
    defaults = {f.name: f.default for f in fields(settings)}
    return sorted(name for name in about_rewards - read if getattr(settings, name) != defaults[name])


def read_command_line(settings_class, argv) -> tuple:
    """(settings, names given by flags or recipe, switches that are on) of train.py. Raises BadInput.

    A recipe may be combined with another --reward: what it brings for its own reward alone is then left out.
    """
    settings, given, switches = parse(
        settings_class, argv, "train.py", "Train by reinforcement learning.", RECIPES, SWITCHES, GROUPS
    )
    if {"resume", "overwrite"} <= switches:
        raise BadInput("--resume and --overwrite exclude each other; leave one out")
    if isinstance(settings.reward, list):
        settings.reward = " ".join(settings.reward)
    apply_algorithm(settings, given)
    if settings.recipe:
        defaults = {f.name: f.default for f in fields(settings)}
        for name in set(idle_flags(settings)) - given:
            setattr(settings, name, defaults[name])
    check_eval(settings, given)
    return settings, given | set(RECIPES.get(settings.recipe, {})), switches


def apply_algorithm(settings, given: set[str]) -> None:
    """Set what the algorithm sets, but for the flags given. A recipe's flags win over the algorithm that it names, and
    not over one that was asked for beside it."""
    recipe = RECIPES.get(settings.recipe, {})
    kept = given if "algorithm" in given else given | set(recipe)
    if "clip" in given:
        kept = kept | {"clip_high"}  # otherwise an algorithm's upper clip would stand beside another lower one
    for name, value in ALGORITHMS.get(settings.algorithm, {}).items():
        if name not in kept:
            setattr(settings, name, value)
    if settings.advantage != "critic":  # a recipe's critic goes with its algorithm
        for name in set(CRITIC) & set(recipe) - given:
            setattr(settings, name, type(settings).__dataclass_fields__[name].default)


def check_eval(settings, given: set[str]) -> None:
    """Raise BadInput for a number of samples where each problem has one greedy completion."""
    if settings.eval == "greedy" and "eval_samples" in given and settings.eval_samples != 0:
        raise BadInput("--eval-samples: has no effect with --eval greedy; leave one of them out")
    if settings.eval_samples == 0 and "eval_data" in given and not settings.eval_every:
        raise BadInput("--eval-data: has no effect with --eval-samples 0; leave one out, or give --eval-every")


def complete(settings) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    check(settings)
    world, own = toy.world_of(settings.model), own_data(settings.model)
    defaults = {"data": own, **(TOY if world else SMOLLM2 if own else REAL)}
    if settings.lr is None and settings.lora:
        settings.lr = 10 * defaults["lr"]  # adapters start at zero
    for name, value in defaults.items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    if settings.eval_limit is None and settings.eval == "samples":
        settings.eval_limit = 180
    if settings.data is None:
        raise BadInput(
            f"--model {settings.model} needs --data: arithmetic, gsm8k, math, OWNER/NAME of the hub, or a file"
        )
    if world and settings.data != world:
        raise BadInput(f"--data {settings.data}: this toy model reads problems of {world} only; give another --model")
    if settings.rollouts_per_prompt < 2 and settings.advantage in ("group", "mean", "leave_one_out"):
        raise BadInput("--rollouts-per-prompt must be at least 2: a group of one has nothing to compare itself with")
    check_data(settings)
    check_rewards(settings)
    check_algorithm(settings)
    if settings.critic_lr is None and settings.advantage == "critic":
        settings.critic_lr = 5 * settings.lr / (10 if settings.lora else 1)  # the critic has no adapters
    device, _ = resolve_device(settings.device, settings.dtype)
    if settings.micro_tokens is None:
        on_cpu = 4096 if toy.world_of(settings.model) else 768  # of larger models as few as cost no time
        settings.micro_tokens = on_cpu if device == "cpu" else 8192
    if settings.eval_data is None:
        settings.eval_data = held_out_of(settings.data)
    settings.template = settings.template or data.TEMPLATE_OF.get(settings.data)
    if settings.run is None:
        rewards = "+".join(map(called, settings.reward.split()))
        made_by = settings.recipe or f"{Path(settings.model).resolve().name}-{rewards}"
        if settings.algorithm != RECIPES.get(settings.recipe, {}).get("algorithm", "grpo"):
            made_by += f"-{settings.algorithm}"
        settings.run = f"runs/{made_by}-seed{settings.seed}"
    if settings.eval_split:
        settings.eval_data = held_out_path(settings.run)
    if Path(settings.run).resolve() == Path(settings.model).resolve():
        raise BadInput(f"--run {settings.run}: is the folder of --model; give another, and keep the model")


def check_data(settings) -> None:
    """Raise BadInput for a split that the data do not have, and for one of problems that have a test split."""
    for flag in ("data", "data_split", "eval_data"):
        if getattr(settings, flag) is not None and not getattr(settings, flag).strip():
            raise BadInput(f"{shown(flag)}: is empty; give a name, or leave it out")
    name, own = settings.data, settings.data in toy.WORLDS or settings.data == "arithmetic"
    if settings.data_split and (own or "@" in name or not has_splits(name)):
        raise BadInput(f"--data-split {settings.data_split}: {name} has no such choice; leave it out")
    if settings.eval_split and settings.eval_data:
        raise BadInput("--eval-split: --eval-data names the held-out problems already; leave one of them out")
    if settings.eval_split and held_out_of(name):
        raise BadInput(f"--eval-split {settings.eval_split:g}: {name} has a test split of its own; leave it out")


def held_out_of(name: str) -> str | None:
    """The problems that a model which was trained on these is compared on; None for a file."""
    same = {name: name for name in (*toy.WORLDS, "arithmetic", "gsm8k")}
    return {**same, "math": "math500"}.get(name, name if name.startswith(GYM) else None)


def idle_on_policy(settings) -> str:
    """The flags that were changed and do nothing where each step has one update, on the policy that sampled."""
    changed = [f.name for f in fields(settings) if getattr(settings, f.name) != f.default]
    idle = {"clip", "clip_high", "ratio"} if settings.updates_per_step == 1 else set()
    return ", ".join(shown(name) for name in changed if name in idle)


def check_looks(settings) -> None:
    """Raise BadInput for looks at held-out problems, and in a tool, that cannot be had. Also of a run that goes on."""
    if settings.report_to != "none":
        watching.tool(settings.report_to)
    if settings.eval_every and (not settings.eval_data or settings.eval_limit == 0):
        raise BadInput("--eval-every: needs held-out problems; give --eval-data, and an --eval-limit above 0")
    if settings.keep_checkpoints and (settings.lora or not settings.eval_every):
        why = "adapters would have to be merged for it; leave out --lora" if settings.lora else "give --eval-every too"
        raise BadInput(f"--keep-checkpoints: {why}")


def check_algorithm(settings) -> None:
    """Raise BadInput for flags of an algorithm that do not go together, and for those that nothing reads."""
    kind, defaults = settings.advantage, {f.name: f.default for f in fields(settings)}
    if settings.kl_in == "reward" and kind in ("group", "mean"):
        raise BadInput(f"--advantage {kind}: takes no penalty in the reward; give --kl-in loss, or another --advantage")
    if settings.kl_in == "reward" and settings.kl_estimator != defaults["kl_estimator"]:
        raise BadInput("--kl-estimator: has no effect with --kl-in reward, where it is k1; leave it out")
    if settings.resample and kind not in ("group", "mean", "leave_one_out"):
        raise BadInput(f"--advantage {kind}: compares no groups, so none can be replaced; give --resample 0")
    weights = reward_weights(settings.reward)
    if settings.overlong and (len(weights) > 1 or min(weights.values()) < 0):
        raise BadInput(f"--reward {settings.reward}: the penalty for length goes with one reward; give --overlong 0")
    if kind == "greedy" and "plurality" in weights:
        raise BadInput("--reward plurality: a greedy completion has nobody to vote with; give another --advantage")
    for name in CRITIC:
        if kind != "critic" and getattr(settings, name) != defaults[name]:
            raise BadInput(f"{shown(name)}: has no effect without a critic; leave it out, or give --algorithm ppo")


def check_rewards(settings) -> None:
    """Raise BadInput for a reward that lacks something, and for a flag that no reward reads."""
    if "reward_model" in reward_weights(settings.reward) and settings.reward_model is None:
        raise BadInput("--reward reward_model needs --reward-model: a folder, a hub id, or toy-0.75 on the toy")
    if idle := idle_flags(settings):
        reason = f"with --reward {settings.reward}"
        if idle[0] == "flip_unit" and settings.flip == 0:
            reason = "without --flip"
        if idle[0].startswith("calibrate") and not settings.reward_model:
            reason = "without --reward calibrate and a --reward-model"
        raise BadInput(f"{shown(idle[0])}: has no effect {reason}; leave it out")
    accuracy = re.fullmatch(r"toy-(.*)", settings.reward_model or "")
    if accuracy and not re.fullmatch(r"0?\.[5-9]\d*", accuracy[1]):
        raise BadInput(f"--reward-model {settings.reward_model}: toy-A has an A from 0.5 (a coin) to 1; give toy-0.75")
    if accuracy and settings.data != "toy":
        raise BadInput(f"--reward-model {settings.reward_model}: knows toy problems only; give a folder or a hub id")
    if settings.rpr_open_ended and settings.data in toy.WORLDS:
        raise BadInput("--rpr-open-ended: pays for <think> and <answer>, which no toy can write; leave it out")


def resumed(settings, given: set[str]):
    """The settings of the run in the folder. Flags that change its steps are refused: a run has one learning rate."""
    saved = read_config(Path(settings.run))
    if "minreason" not in saved or not (Path(settings.run) / STATE).exists():
        lacks = STATE if "minreason" in saved else "config.json with its settings"
        raise BadInput(f"--resume: {settings.run} has no {lacks}; start the run without --resume")
    if not config_is_whole(saved):
        raise BadInput(
            f"--resume: {settings.run}/config.json is damaged, or of another version of this program; {AGAIN}"
        )
    try:
        old = type(settings)(**saved["minreason"])
    except TypeError:
        raise BadInput(f"--resume: {settings.run} was made by another version of this program; start again") from None
    code = [name for name in reward_weights(old.reward) if FORM.fullmatch(name)]
    if code and "reward" not in given:  # a folder from somebody else must not run code
        raise BadInput(f"--resume: {code[0]} is code, which runs only if you name it: add --reward {old.reward}")
    free = HOW_FAR | HOW_FAST
    if old.schedule == "cosine":  # where it ends is part of a cosine
        free = free - {"steps"}
    if "eval" in given:
        given = given | {"eval_limit"}  # whose default depends on it
    for name in given:
        if name in free:
            setattr(old, name, getattr(settings, name))
        elif getattr(old, name) != getattr(settings, name):
            held = f"{shown(name)} {getattr(old, name)}"
            raise BadInput(f"--resume: {settings.run} has {held} and keeps it; leave {shown(name)} out")
    check_eval(old, given)
    old.run = settings.run
    if old.eval_split and "eval_data" not in given:
        old.eval_data = held_out_path(old.run)
    return old
