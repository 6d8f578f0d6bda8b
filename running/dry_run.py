"""dry_run.py: what would a run be, what would it need, and about how long would it take? Nothing is written or fetched.

In place of a toy, whose making takes minutes, stands a model of its sizes with weights as they are drawn.
"""

import contextlib
import io
import re
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import torch

import data
import toy
from engine.memory import free_memory
from running import models, rows, smollm2
from running.flags import described, shown
from running.roofline import machine_limits, seconds_at_the_limits
from running.train_flags import complete


def dry_run(settings, prepare: Callable) -> None:
    """Print what differs from the defaults, all settings, what has to be fetched, memory and time.

    prepare: train.prepare, which prints the memory and refuses what cannot work. Raises BadInput as it does.
    """
    check_names(settings)
    found = described(settings, complete)
    flags, defaults = ({name: short(value) for name, value in part.items()} for part in found.values())
    print(f"Other than the defaults for --model {settings.model} --data {settings.data}:")
    print("\n".join(f"  {shown(name)} {flags[name]} (default {defaults[name]})" for name in defaults) or "  nothing")
    # A no-break space keeps a flag and its value on one line.
    every = "  ".join(f"{shown(name)}\xa0{value}" for name, value in flags.items() if value is not None)
    wrapped = textwrap.wrap(every, shutil.get_terminal_size().columns - 3, break_on_hyphens=False)
    print("\nAll settings:", *(line.replace("\xa0", " ") for line in wrapped), sep="\n  ")
    print("\nTo be downloaded, unless it is in the cache:", *(downloads(settings) or ["nothing"]), sep="\n  ")
    print()
    if settings.data == "code_contests" and not settings.allow_code_execution:
        print("Its problems are graded by running programs: read verify/sandbox.py, then give --allow-code-execution.")
        return
    device, dtype = models.resolve_device(settings.device, settings.dtype)
    there = all(in_cache(hub_id, "dataset") for hub_id in data_sets(settings).values()) and stand_in(
        settings.model, device, dtype
    )
    if not there:
        print(by_its_name(settings, device, dtype.itemsize))
        return
    if settings.reward_model and not Path(settings.reward_model).is_dir():
        print(f"Without the reward model {settings.reward_model}, which is not here:")
        settings = replace(settings, reward_model=None)
    print(rough_time(prepare(settings, there), settings))


def check_names(settings) -> None:
    """Raise BadInput for a model or problems that neither are here nor can be on the hub."""
    models.check_name(settings.model)
    for flag, name in (("--data", settings.data), ("--eval-data", settings.eval_data)):
        if name and not rows.hub_id(name) and not name.startswith(rows.GYM):
            data.load_problems(name, limit=1, flag=flag, answers=False)


def short(value):
    """A number without the digits that rounding left in it; anything else as it is."""
    return f"{value:g}" if isinstance(value, float) else value


def downloads(settings) -> list[str]:
    """What a run fetches from the hub, or makes first, a line each."""
    found = []
    for name in (settings.model, settings.reward_model):
        if name and (toy.world_of(name) or re.match(r"toy-0?\.\d", name)):
            found.append(f"nothing for {name}: it is made here, in a minute or two")
        elif name in smollm2.NAMES:
            found.append(f"model {smollm2.HUB_ID} (0.3 GB), unless the hub does not answer: running/smollm2.py")
        elif name and not Path(name).exists():
            size = parameters(name)
            found.append(f"model {name}" + (f" (about {2 * size / 1e9:.0f} GB)" if size else ""))  # in bfloat16
    return found + [f"data set {name}: {hub_id}" for name, hub_id in data_sets(settings).items()]


def data_sets(settings) -> dict[str, str]:
    """The data sets of the hub that a run reads: name -> id."""
    ids = {name: rows.hub_id(name) for name in (settings.data, settings.eval_data) if name}
    return {name: hub_id for name, hub_id in ids.items() if hub_id}


def parameters(name: str) -> float | None:
    """How many parameters a model has, if its name says so: Qwen2.5-7B does, if roundly."""
    size = re.search(r"(\d+(?:\.\d+)?)([BM])\b", smollm2.HUB_ID if name in smollm2.NAMES else name)
    return float(size[1]) * {"B": 1e9, "M": 1e6}[size[2]] if size else None


def in_cache(hub_id: str, kind: str) -> str | None:
    """The folder of a model or a data set of the hub, if it was downloaded before."""
    try:
        return huggingface_hub.snapshot_download(hub_id, repo_type=kind, local_files_only=True)
    except (OSError, ValueError):  # it was not; or that is no name of the hub
        return None


def stand_in(name: str, device: str, dtype: torch.dtype) -> tuple | None:
    """(policy, tokenizer) with the sizes of that model, if it is here and its weights fit into memory; else None."""
    if world := toy.world_of(name):
        design = {**toy.WORLDS[world].base_model, "steps": 0}
        with contextlib.redirect_stderr(io.StringIO()):  # the progress bar of no steps
            policy, tokenizer = toy.train_base_model(design, 0, world)
        return policy.to(device, dtype), tokenizer
    if name in smollm2.NAMES:  # made already?
        folder = next(Path("runs").glob(f"{name}-" + "[0-9a-f]" * 8), None)
    else:
        folder = name if Path(name).is_dir() else in_cache(name, "model")
    if folder is None:
        return None
    size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    return models.load_model(str(folder), device, dtype) if size < free_memory(torch.device("cpu")) else None


def by_its_name(settings, device: str, itemsize: int) -> str:
    """What can be said of a step and of its memory without the model. itemsize: bytes of a weight."""
    s, size = settings, parameters(settings.model)
    lines = [
        f"A step: {s.prompts_per_step} x {s.rollouts_per_prompt} = {s.prompts_per_step * s.rollouts_per_prompt:,} "
        f"completions of at most {s.max_new_tokens:,} tokens."
    ]
    if size:
        held = {"weights": itemsize}  # bytes of a parameter, as in engine.memory.memory_plan
        if not s.lora:
            held["gradients and optimiser"] = 12 if itemsize == 4 else 16
            held |= {"reference": itemsize} if s.kl > 0 or s.annotator == "offline" else {}
        parts = ", ".join(f"{part} {count * size / 1e9:.1f} GB" for part, count in held.items())
        lines.append(f"Memory on {device}: {parts}, and more for the batch (docs/memory.md).")
    lines.append("The rest, and the time, can be said when model and data are here.")
    return "\n".join(lines)


def rough_time(parts, settings) -> str:
    """How long the run would take at the limits of this machine if every completion had all its tokens.

    That errs to both sides: completions end early, and no step reaches the limits, a toy's least of all.
    """
    s, policy = settings, parts.policy
    limits = machine_limits(policy.device.type, policy.dtype, 3)
    B, G, prompt = s.prompts_per_step, s.rollouts_per_prompt, sum(map(len, parts.prompts)) / len(parts.prompts)
    sampling, training = seconds_at_the_limits(policy, limits, B, G, prompt, s.max_new_tokens)
    # A pass of the reference has no backward pass, which is two thirds. A critic has both, and its values before.
    passes = s.updates_per_step + (1 / 3 if parts.ref_policy else 0) + (4 / 3 if parts.critic else 0)
    step = sampling + passes * training
    held_out = min(len(parts.held_out), s.eval_limit or len(parts.held_out))  # --eval-split holds out more
    responses = 2 * held_out * (1 if s.eval == "greedy" else s.eval_samples)
    study = f", and the study {spoken(sampling * responses / (B * G))}" if responses else ""
    return (
        f"Time, rough: {s.steps} steps of {spoken(step)} take {spoken(s.steps * step)}{study}. That is with all "
        f"{s.max_new_tokens:,} tokens in every completion,\nat the limits of this machine as just measured "
        f"({limits['flops'] / 1e9:,.0f} GFLOP/s, {limits['bandwidth'] / 1e9:,.0f} GB/s). Completions that end early "
        "take less,\noverhead takes more. To measure it: --steps 2 --eval-samples 0."
    )


def spoken(seconds: float) -> str:
    """A time for a reader."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
