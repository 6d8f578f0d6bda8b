"""settings.py: what defines a run? Its flags, the papers' own settings as recipes, and what cannot work.

    python train.py --recipe intuitor-3b --dry-run       what the paper ran, and what it would download
    python train.py --recipe intuitor-3b --lr 1e-6       the same but for one flag

RECIPES is a table from a name to flags, each with its source. A flag that is given beside a recipe wins.
"""

import argparse
import math
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import get_args

import data
import toy
from data import TEMPLATES, BadInput
from rewards import REWARDS
from running.folder import read_config
from running.models import resolve_device

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

# --- recipes --------------------------------------------------------------------------------------------------------

# Intuitor, appendix A.1 and Table 7, and its released settings. KL 0.005 (section 4, Table 3, released; Table 7 says
# 0.0005). The released trainer averages over tokens. Its hidden top_k of 50 is left out.
INTUITOR = {"data": "math", "max_new_tokens": 3072, "temperature": 0.9, "loss_average": "token", "schedule": "cosine"}
SMALL = {
    **INTUITOR,
    "prompts_per_step": 128,
    "rollouts_per_prompt": 7,
    "steps": 58,
    "warmup": 6,
    "lr": 3e-6,
    "kl": 0.005,
}
LARGE = {
    **INTUITOR,
    "prompts_per_step": 64,
    "rollouts_per_prompt": 14,
    "steps": 117,
    "warmup": 12,
    "lr": 1e-6,
    "kl": 0.01,
}
INTUITOR_1B = {"model": "Qwen/Qwen2.5-1.5B", "template": "intuitor", **SMALL}
INTUITOR_3B = {"model": "Qwen/Qwen2.5-3B", "template": "intuitor-boxed-stop", **SMALL}
INTUITOR_7B = {"model": "Qwen/Qwen2.5-7B", "template": "intuitor-step-by-step", **LARGE}
INTUITOR_CODE = {**LARGE, "model": "Qwen/Qwen2.5-3B", "template": "intuitor-code", "data": "code_contests"}
INTUITOR_CODE |= {"max_new_tokens": 2048, "steps": 50, "warmup": 5}
# Noisy rewards, as released: no KL, constant learning rate. There PPO with a critic on the
# 57 K problems of Open-Reasoner-Zero; here GRPO, on MATH (or what --data names).
NOISY = {"model": "Qwen/Qwen2.5-7B", "data": "math", "template": "r1-zero", "prompts_per_step": 128, "steps": 150}
NOISY |= {"rollouts_per_prompt": 4, "max_new_tokens": 4096, "lr": 1e-6, "warmup": 0, "kl": 0.0, "loss_average": "token"}
# The toy world: 60 steps of the defaults, but where the table says. Label-free rewards want a lower learning rate and a
# strong pull to the base model; without them ("hacked") the reward rises and the accuracy falls. Flips are drawn for
# each prompt, so with many prompts they average out better: the batch is the paper's own.
CAREFUL, HACKED, MANY = {"lr": 1.5e-4, "kl": 0.5}, {"kl": 0.0}, {"prompts_per_step": 128, "rollouts_per_prompt": 4}

RECIPES = {  # name -> flags; behind them where they come from, and the MATH-500 that the paper reports
    "grpo-1.5b": {"reward": "correct", **INTUITOR_1B},  # Intuitor, Table 1: .560 (base .090)
    "intuitor-1.5b": {"reward": "self_certainty", **INTUITOR_1B},  # the same: .530
    "grpo-3b": {"reward": "correct", **INTUITOR_3B},  # Table 1: .636 (base .544)
    "grpo-pv-3b": {"reward": "plurality", **INTUITOR_3B},  # the same: .636
    "intuitor-3b": {"reward": "self_certainty", **INTUITOR_3B},  # the same: .612
    "grpo-7b": {"reward": "correct", **INTUITOR_7B},  # Table 4: .750 (base .636)
    "intuitor-7b": {"reward": "self_certainty", **INTUITOR_7B},  # the same: .750
    "intuitor-14b": {"reward": "self_certainty", **INTUITOR_7B, "model": "Qwen/Qwen2.5-14B"},  # .770 (base .674)
    "intuitor-code": {"reward": "self_certainty", **INTUITOR_CODE},  # Table 1, Intuitor-Code: .572
    "noisy-7b": {"reward": "correct", "flip": 0.4, **NOISY},  # noisy rewards, section 2.1: .720 (.759 without noise)
    "rpr-7b": {"reward": "rpr", **NOISY},  # the same paper, with RPR alone: .702
    # measured here: README
    "toy-correct": {"reward": "correct"},
    "toy-flip-40": {"reward": "correct", "flip": 0.4, **MANY},
    "toy-flip-50": {"reward": "correct", "flip": 0.5, **MANY},
    "toy-plurality": {"reward": "plurality"},
    "toy-rpr": {"reward": "rpr", "rpr_divisor": 2.0, **CAREFUL},
    "toy-rpr-hacked": {"reward": "rpr", "rpr_divisor": 2.0, **HACKED},
    "toy-self-certainty": {"reward": "self_certainty", **CAREFUL},
    "toy-self-certainty-hacked": {"reward": "self_certainty", **HACKED},
    "toy-random": {"reward": "random"},
    "toy-reward-model": {"reward": "reward_model", "reward_model": "toy-0.75", **CAREFUL},
    "toy-calibrate": {"reward": "calibrate", "reward_model": "toy-0.75", "rpr_divisor": 2.0, **CAREFUL},
}


# --- flags ----------------------------------------------------------------------------------------------------------


def flag(default, text: str):
    """A field of Settings with the help text of its flag."""
    return field(default=default, metadata={"help": text})


@dataclass
class Settings:
    """All that defines a run. Each field is a flag of the same name; None is filled in by `complete`."""

    recipe: str | None = flag(None, f"flags by name, which other flags change: {', '.join(RECIPES)}")
    model: str = flag("toy", "toy, toy-weak, a folder with a saved model, or a hub id (papers: Qwen2.5-1.5B, -3B, -7B)")
    data: str | None = flag(
        None, "toy, gsm8k, math, code_contests or a .jsonl / .jsonl.gz file; default toy with the toy model"
    )
    template: str | None = flag(None, f"{', '.join(TEMPLATES)}; default qwen-boxed for a chat tokenizer, else plain")
    reward: str = flag("correct", f"NAME, or NAME=WEIGHT several times: {', '.join(REWARDS)}")
    flip: float = flag(0.0, "probability that the answer key's verdict is turned round (noisy rewards 0.1 to 0.5)")
    flip_unit: str = flag("prompt", "what is turned together: prompt (all rollouts of it, the paper) or rollout")
    annotator: str = flag("online", "whose self-certainty: online (the policy's) or offline (the starting model's)")
    rpr_divisor: float = flag(20.0, "phrases for a full reasoning pattern reward (released 20, paper 40)")
    rpr_repetition: str = flag("distinct", "how repetition is counted: distinct (released) or total")
    rpr_whole_words: bool = flag(False, "no phrase inside a word (thus in enthusiasm)")
    rpr_open_ended: bool = flag(False, "with the 13 phrases for open-ended tasks")
    reward_model: str | None = flag(
        None, "a model with one output: folder, hub id, or toy-0.75 (made on the spot, of that pairwise accuracy)"
    )
    calibrate_threshold: float = flag(0.5, "calibrate adds to rewards below this (noisy rewards 0.5)")
    calibrate_weight: float = flag(0.1, "and so much of the reasoning pattern reward (noisy rewards 0.1)")
    steps: int = flag(60, "training steps (Intuitor: 58 is one epoch of MATH)")
    prompts_per_step: int = flag(16, "B (Intuitor 128; noisy rewards 128; limit of RLVR 256)")
    rollouts_per_prompt: int | None = flag(None, "G; default 16 on the toy, else 8 (Intuitor 7 or 14; limit of RLVR 8)")
    max_new_tokens: int | None = flag(None, "tokens; default 80 on the toy, else 512 (Intuitor 3,072)")
    temperature: float = flag(1.0, "of sampling (Intuitor 0.9; the other papers 1.0)")
    lr: float | None = flag(
        None, "of AdamW; default 3e-4 on the toy, else 1e-6 (Intuitor 3e-6, 7B: 1e-6); ten times that with --lora"
    )
    warmup: int = flag(5, "steps in which the learning rate rises from 0 (Intuitor: a tenth of the steps)")
    schedule: str = flag("constant", "of the learning rate after that: constant or cosine (Intuitor), to 0 at the end")
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
    allow_code_execution: bool = flag(False, "run the programs that the model writes: needed for problems with tests")
    seed: int = flag(0, "of every random draw")
    device: str = flag("auto", "auto, cpu, cuda, cuda:1 ...")
    dtype: str | None = flag(
        None, "of the model: float32, or bfloat16 (default on a GPU); trained are float32 weights either way"
    )
    run: str | None = flag(None, "run folder; default runs/MODEL-REWARD-seedSEED, or runs/RECIPE-seedSEED")
    eval_data: str | None = flag(None, "held-out problems; default the test split of toy, gsm8k, math; a file has none")
    eval_samples: int | None = flag(None, "samples per held-out problem; default 64 on the toy, else 8; 0: no study")
    eval_limit: int = flag(180, "held-out problems")


# --- settings -------------------------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> tuple[Settings, set[str], argparse.Namespace]:
    """The settings, the names of those that a flag or the recipe gives, and --resume, --overwrite, --dry-run."""
    # SUPPRESS leaves a flag that was not given out of the result: so a given one can be told from its default.
    parser = argparse.ArgumentParser(prog="train.py", description="Train with GRPO.", usage="python train.py [flags]")
    for f in fields(Settings):
        text = f.metadata["help"] + ("" if f.default is None else f"; default {f.default}")
        kind = (get_args(f.type) or (f.type,))[0]
        value = {"type": kind, "metavar": kind.__name__.upper()}
        if kind is bool:
            value = {"action": argparse.BooleanOptionalAction}
        if f.name == "reward":
            value["nargs"] = "+"
        parser.add_argument(shown(f.name), default=argparse.SUPPRESS, help=text, **value)
    switches = {
        "resume": "go on with the run in the run folder, up to --steps",
        "overwrite": "delete the run in the run folder and start again",
        "dry_run": "print the settings and what would be downloaded, and stop",
    }
    for name, text in switches.items():
        parser.add_argument(shown(name), action="store_true", help=text)
    arguments = parser.parse_args(argv)
    given = {name: value for name, value in vars(arguments).items() if name not in switches}
    if "reward" in given:
        given["reward"] = " ".join(given["reward"])
    if "recipe" in given:
        if given["recipe"] not in RECIPES:
            raise BadInput(f"--recipe {given['recipe']}: unknown; choose from {', '.join(RECIPES)}")
        settings = Settings(**{**RECIPES[given["recipe"]], **given})
        for name in set(idle_flags(settings)) - set(given):  # another reward has no use for them
            setattr(settings, name, getattr(Settings, name))
        return settings, set(given) | set(RECIPES[settings.recipe]), arguments
    return Settings(**given), set(given), arguments


def shown(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def weights(reward: str) -> dict[str, float]:
    """--reward as name -> weight: "correct" is {"correct": 1}, "rpr=0.5 length=-0.01" two. Raises BadInput."""
    found = {}
    for part in reward.split():
        name, equals, weight = part.partition("=")
        if name not in REWARDS:
            raise BadInput(f"--reward {part}: unknown; choose from {', '.join(REWARDS)}")
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            value = 0.0
        if name in found or value == 0 or not math.isfinite(value):
            raise BadInput(f"--reward {reward}: give each reward once, as NAME or NAME=WEIGHT, the weight not 0")
        found[name] = value
    if not found:
        raise BadInput("--reward: give at least one")
    return found


def idle_flags(settings: Settings) -> list[str]:
    """The settings about rewards that no reward looks at, though they are not at their defaults.

    A flag without effect would let one believe that it had one.
    """
    names = set(weights(settings.reward))
    keyed = {"correct"} if settings.reward_model else {"correct", "calibrate"}
    read_by = {"annotator": {"self_certainty"}, "reward_model": {"reward_model", "calibrate"}, "flip": keyed}
    read_by |= dict.fromkeys(("calibrate_threshold", "calibrate_weight"), {"calibrate"})
    patterns = ("rpr_divisor", "rpr_repetition", "rpr_whole_words", "rpr_open_ended")
    read_by |= dict.fromkeys(patterns, {"rpr", "calibrate"})
    if settings.flip == 0:
        read_by["flip_unit"] = set()
    return [
        name
        for name, readers in read_by.items()
        if not readers & names and getattr(settings, name) != getattr(Settings, name)
    ]


def check_rewards(settings: Settings) -> None:
    """Raise BadInput for a reward that lacks something, and for a flag that no reward would look at."""
    names = set(weights(settings.reward))
    if not 0 <= settings.flip <= 1:
        raise BadInput(f"--flip {settings.flip}: must be between 0 and 1")
    if not settings.rpr_divisor > 0:
        raise BadInput(f"--rpr-divisor {settings.rpr_divisor}: must be above 0")
    if "reward_model" in names and settings.reward_model is None:
        raise BadInput("--reward reward_model needs --reward-model: a folder, a hub id, or toy-0.75 on the toy")
    for name in idle_flags(settings):
        raise BadInput(f"{shown(name)}: has no effect with --reward {settings.reward} (and no --flip); leave it out")
    accuracy = re.fullmatch(r"toy-(.*)", settings.reward_model or "")
    if accuracy and not re.fullmatch(r"0?\.[5-9]\d*", accuracy[1]):
        raise BadInput(f"--reward-model {settings.reward_model}: toy-A has an A from 0.5 (a coin) to 1; give toy-0.75")
    if accuracy and settings.data != "toy":
        raise BadInput(f"--reward-model {settings.reward_model}: knows toy problems only; give a folder or a hub id")


def complete(settings: Settings) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    defaults = TOY if settings.model in toy.BASES else REAL
    if settings.lr is None and settings.lora:
        settings.lr = 10 * defaults["lr"]  # adapters start at zero
    for name, value in defaults.items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    if settings.data is None:
        raise BadInput(f"--model {settings.model} needs --data: gsm8k, math or a .jsonl file")
    if settings.model in toy.BASES and settings.data != "toy":
        raise BadInput(f"--data {settings.data}: the toy model reads toy problems only; give another --model")
    if settings.rollouts_per_prompt < 2:
        raise BadInput("--rollouts-per-prompt must be at least 2: a group of one has nothing to compare itself with")
    check_rewards(settings)
    device, _ = resolve_device(settings.device, settings.dtype)
    if settings.micro_tokens is None:
        settings.micro_tokens = 1024 if device == "cpu" else 8192
    at_least = dict.fromkeys(("steps", "prompts_per_step", "max_new_tokens", "updates_per_step", "micro_tokens"), 1)
    at_least |= dict.fromkeys(("kl", "warmup", "lora", "eval_samples", "eval_limit", "seed"), 0)
    for name, least in at_least.items():
        if not getattr(settings, name) >= least:
            raise BadInput(f"{shown(name)} {getattr(settings, name)}: must be at least {least}")
    for f in fields(Settings):
        if isinstance(getattr(settings, f.name), float) and not math.isfinite(getattr(settings, f.name)):
            raise BadInput(f"{shown(f.name)} {getattr(settings, f.name)}: must be a number")
    for name in ("temperature", "lr", "clip"):
        if not getattr(settings, name) > 0:
            raise BadInput(f"--{name} {getattr(settings, name)}: must be above 0")
    choices = {
        "template": (None, *TEMPLATES),
        "loss_average": ("sequence", "token", "constant"),
        "schedule": ("constant", "cosine"),
        "flip_unit": ("prompt", "rollout"),
        "annotator": ("online", "offline"),
        "rpr_repetition": ("distinct", "total"),
    }
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            known = ", ".join(choice for choice in allowed if choice)
            raise BadInput(f"{shown(name)} {getattr(settings, name)}: unknown; choose from {known}")
    if settings.eval_data is None:
        settings.eval_data = {"toy": "toy", "gsm8k": "gsm8k", "math": "math500"}.get(settings.data)
    if settings.run is None:
        made_by = settings.recipe or f"{Path(settings.model).resolve().name}-{settings.reward.replace(' ', '+')}"
        settings.run = f"runs/{made_by}-seed{settings.seed}"
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
    free = FREE_TO_CHANGE - ({"steps"} if old.schedule == "cosine" else set())  # where it ends is part of a cosine
    for name in given:
        if name in free:
            setattr(old, name, getattr(settings, name))
        elif getattr(old, name) != getattr(settings, name):
            flag_name = shown(name)
            raise BadInput(
                f"--resume: {settings.run} has {flag_name} {getattr(old, name)} and keeps it; leave {flag_name} out"
            )
    old.run = settings.run
    return old


def dry_run(settings: Settings) -> str:
    """The settings, a flag each, and what a run with them fetches from the hub or makes first."""
    lines = [f"{shown(name)} {value}" for name, value in asdict(settings).items() if value is not None]
    fetched = []
    for name in (settings.model, settings.reward_model):
        if name in toy.BASES or (name or "").startswith("toy-"):
            fetched.append(f"nothing for {name}: it is made here, in a minute or two")
        elif name and not Path(name).is_dir():
            # Two bytes a parameter, and Qwen2.5 says its billions in its name (rounded: 7B has 7.6).
            size = re.search(r"(\d+(?:\.\d+)?)B\b", name)
            fetched.append(f"model {name}" + (f" (about {2 * float(size[1]):.0f} GB)" if size else ""))
    sets = {name: data.HUB[name][0] for name in (settings.data, settings.eval_data) if name in data.HUB}
    if settings.data == "code_contests" and not settings.allow_code_execution:
        lines.append(
            "\nIts problems are graded by running programs: read sandbox.py, then give --allow-code-execution."
        )
    fetched += [f"data set {name}: {hub_id}" for name, hub_id in sets.items()]
    return "\n".join([*lines, "", "To be downloaded, unless it is in the cache:", *(fetched or ["nothing"])])
