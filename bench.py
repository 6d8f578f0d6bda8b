"""bench.py: how fast is it, next to what you would use instead?

    python bench.py                                             the toy on this machine: rollouts, tail, step
    python bench.py --model runs/toy-correct-seed0 --parts step      after training, when many groups are all right
    python bench.py --model qwen2.5-0.5b --prompts 8 --group 8 --new-tokens 64 --parts rollouts
    python bench.py --model qwen2.5-1.5b --parts head
    python bench.py --gpu                                       all that is to be known of a GPU, in nine minutes

Every line compares ways to do the same work, with the same model, in one process, in turn: A B A B ... What counts is
the ratio of a pair, because a machine's speed drifts. The table gives the median ratio and its range.

    rollouts   generate() against transformers' model.generate(num_return_sequences=G), default and static cache. Each
               row has the same number of tokens in all: on the toy, the mixed lengths that it sampled once.
    tail       a study whose lengths have a long tail (8 to 512, mean 64), in 128 slots that are refilled, against the
               same slots in batches, each of which waits for its longest row
    step       a whole GRPO step against TRL's GRPOTrainer, if that is installed (not of a size: it needs a tokenizer)
    whole      a whole GRPO step of a size: seconds, and memory against the plan
    profile    which operations the time of sampling and of the update goes to
    head       log-probabilities, self-certainty and their gradient against log_softmax of all logits: time and memory
    memory     what engine/memory.py says that training needs: all weights, and adapters with checkpointing
    agreement  samples, log-probabilities and gradients in bfloat16 against float32, and the memory plan against a step
    limits     decoding and training against what this machine's memory and matrix units could do at best

Sizes are built from their public configurations with random weights, so nothing is downloaded; speed does not depend on
what the weights are. Results go into results/bench-MODEL-DEVICE-PARTS.json, with the machine they came from.
"""

import copy
import inspect
import itertools
import json
import platform
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import transformers

import data
from engine.head import HeadLogps
from engine.masters import adamw
from engine.memory import memory_plan
from generate import generate, generate_rows, stream
from grpo import group_advantages, update
from rewards import grade_rollouts, self_certainty
from running import agreement, flags, gpu, whole_step
from running.cards import SIZES, config_of
from running.files import BadInput, replace_text
from running.flags import flag
from running.models import add_lora, context_room, end_tokens, load_model, resolve_device
from running.rivals import transformers_generate, trl_steps, trl_version
from running.roofline import shares_of_the_limits
from running.timing import compare, in_turn, peak_memory, seconds, table

# In their order: the last one puts adapters in.
PARTS = ("rollouts", "tail", "step", "whole", "profile", "head", "agreement", "limits", "memory")


@dataclass
class Settings:
    """What is measured. Each field is a flag of the same name."""

    model: str = flag("toy", f"toy, smollm2-warm, a run folder of them, {', '.join(SIZES)}")
    parts: list[str] | None = flag(
        None, f"of {' '.join(PARTS)}; default rollouts tail step; sizes: rollouts", nargs="+"
    )
    prompts: int = flag(16, "B", least=1)
    group: int = flag(16, "G", least=1)
    prompt_tokens: int = flag(256, "of the longest prompt of a size", least=1)
    new_tokens: int = flag(80, "of the longest completion", least=1)
    rows: int | None = flag(None, "sampled at once in part whole; default all", least=1)
    head_tokens: int = flag(4096, "for the head", least=1)
    micro_tokens: int | None = flag(None, "in a training pass; default 8192, on a CPU 768, toys 4096", least=1)
    repeats: int = flag(5, "counted runs of each way", least=1)
    device: str = flag("auto", "auto, cpu, mps (Apple), cuda, cuda:1 ...")
    dtype: str = flag("auto", "float32 or bfloat16; bfloat16 on CUDA")
    skip_static: bool = flag(False, "leave model.generate with a static cache out, which it compiles for minutes")
    gpu: bool = flag(False, "run the commands of running/gpu.py; without a GPU, with small sizes")
    out: str | None = flag(None, "file for every time taken; default results/bench-MODEL-DEVICE-PARTS.json")


def make_model(name: str, device: str, dtype: torch.dtype, head_alone: bool):
    """(policy, tokenizer) of a folder or the toy, or (policy, None) of a size; one layer of it if `head_alone`."""
    if name not in SIZES:
        return load_model(name, device, dtype)
    config = config_of(name, **({"num_hidden_layers": 1} if head_alone else {}))
    torch.manual_seed(0)
    with torch.device(device):
        return transformers.Qwen2ForCausalLM(config).to(dtype).eval(), None


def is_toy(policy) -> bool:
    """Whether a model is the toy or a run of it, and not SmolLM2 or a size: by its vocabulary."""
    return policy.config.vocab_size < 1000


def make_problems(policy, tokenizer, prompts: int, new_tokens: int, repeat: int = 0) -> tuple[list, list[list[int]]]:
    """Problems, others in each repeat, and their prompts: of the toy, or of arithmetic."""
    name = "toy" if is_toy(policy) else "arithmetic"
    problems = data.load_problems(name, "train")
    problems = [problems[(repeat * prompts + i) % len(problems)] for i in range(prompts)]
    room = context_room(policy, new_tokens)
    return problems, data.encode_prompts(problems, tokenizer, data.TEMPLATE_OF.get(name, "plain"), room)


def make_prompts(policy, tokenizer, prompts, prompt_tokens, new_tokens, repeat: int = 0) -> list[list[int]]:
    """Prompts, others in each repeat: of problems, or of random tokens, up to prompt_tokens long."""
    if tokenizer is not None:
        return make_problems(policy, tokenizer, prompts, new_tokens, repeat)[1]
    generator = stream("prompts", repeat)
    lengths = torch.randint(prompt_tokens * 3 // 4, prompt_tokens + 1, (prompts,), generator=generator).tolist()
    return [torch.randint(policy.config.vocab_size, (length,), generator=generator).tolist() for length in lengths]


# --- the parts: each takes the flags that it names --------------------------------------------------------------------


def bench_rollouts(
    policy, tokenizer, *, prompts, group, prompt_tokens, new_tokens, repeats, skip_static, device
) -> dict:
    """generate() against model.generate(), every row with the same number of tokens."""
    works = []  # prompts and lengths of each repeat
    for repeat in range(repeats + 1):
        batch = make_prompts(policy, tokenizer, prompts, prompt_tokens, new_tokens, repeat)
        counts = [new_tokens] * (prompts * group)
        if tokenizer is not None:  # of the toy: as many tokens as it writes itself
            ends = end_tokens(policy, tokenizer)
            sampled = generate(policy, batch, group, new_tokens, eos_ids=ends, generator=stream(repeat))
            counts = sampled.mask.sum(dim=1).tolist()
        works.append((batch, counts))

    def ours(repeat: int) -> None:
        generate(policy, works[repeat][0], group, works[repeat][1], generator=stream(repeat))

    def theirs(repeat: int, cache: str | None = None) -> None:
        transformers_generate(policy, works[repeat][0], group, works[repeat][1], cache, device)

    ways = {"generate.py": ours, "model.generate": theirs}
    if not skip_static:
        ways["model.generate, static cache"] = partial(theirs, cache="static")
    results = in_turn(ways, repeats, device)
    tokens, longest = ([how(counts) for _, counts in works[1:]] for how in (sum, max))
    for result in results.values():
        result["tokens_per_second"] = sum(tokens) / sum(result["seconds"])
    return {"rows": prompts * group, "tokens": tokens, "longest": longest, "ways": results}


def bench_tail(policy, tokenizer, *, prompt_tokens, new_tokens, repeats, device) -> dict:
    """A study of 1,024 rows in 128 slots; lengths from 8 to 512 by a power law of density x^-1.5, whose mean is 64."""
    rows, slots = 1024, 128
    u = torch.rand(rows, generator=stream("tail"))
    counts = ((8**-0.5 - u * (8**-0.5 - 512**-0.5)) ** -2).long().tolist()
    prompts = make_prompts(policy, tokenizer, 1, prompt_tokens, new_tokens) * 8

    def refilled(repeat: int) -> None:
        for _ in generate_rows(policy, prompts, rows // 8, counts, generator=stream(0), slots=slots):
            pass

    def in_batches(repeat: int) -> None:
        for first in range(0, rows, slots):
            generate(policy, prompts[:1], slots, max(counts[first : first + slots]), generator=stream(0))

    ways = in_turn({"refilled": refilled, "in batches": in_batches}, repeats, device)
    return {"rows": rows, "slots": slots, "mean": sum(counts) / rows, "longest": max(counts), "ways": ways}


def bench_step(policy, tokenizer, *, prompts, group, new_tokens, micro_tokens, repeats, device) -> dict:
    """A whole step against TRL's GRPOTrainer: same model, prompts, group, reward, sampling; no KL penalty in either.

    The learning rate is 0 in both, so that every step is alike.
    """
    if tokenizer is None:
        return {"skipped": "a size has no tokenizer"}
    if (version := trl_version()) is None:
        return {"skipped": "TRL is not installed: pip install trl"}
    problems, batch = make_problems(policy, tokenizer, prompts, new_tokens)
    our_policy, ends, numbers = copy.deepcopy(policy), end_tokens(policy, tokenizer), itertools.count()
    optimizer = adamw(our_policy, lr=0.0)

    def ours() -> None:
        generator = stream("step", next(numbers))
        rollouts = generate(our_policy, batch, group, new_tokens, eos_ids=ends, generator=generator)
        graded = grade_rollouts(problems, rollouts, tokenizer)
        advantages = group_advantages(graded.groups(graded.right))
        update(our_policy, None, optimizer, rollouts, advantages, micro_tokens=micro_tokens)

    times = {"minreason": [], f"TRL {version}": []}

    def in_turn_with(theirs: float) -> None:
        for name, taken in zip(times, (seconds(ours, device), theirs), strict=True):
            times[name].append(taken)

    trl_steps(policy, tokenizer, problems, batch, group, new_tokens, repeats + 2, device, in_turn_with)
    return {"prompts": prompts, "group": group, "ways": compare({name: taken[2:] for name, taken in times.items()})}


def bench_whole(
    policy, tokenizer, *, prompts, group, prompt_tokens, new_tokens, rows, micro_tokens, repeats, device
) -> dict:
    """A step as Intuitor takes it: seconds, and memory against the plan."""
    batch = make_prompts(policy, tokenizer, prompts, prompt_tokens, new_tokens)
    return whole_step.measured(policy, batch, group, new_tokens, rows, micro_tokens, repeats, device)


def bench_profile(policy, tokenizer, *, prompts, group, prompt_tokens, new_tokens, micro_tokens, device) -> dict:
    """Where the time of sampling and of the update goes."""
    batch = make_prompts(policy, tokenizer, prompts, prompt_tokens, new_tokens)
    ends = end_tokens(policy, tokenizer) if tokenizer is not None else ()
    return {"profile": whole_step.shares(policy, batch, group, new_tokens, ends, micro_tokens, device)}


def bench_head(policy, tokenizer, *, head_tokens, repeats, device) -> dict:
    """HeadLogps against the plain way, for head_tokens hidden states: time, memory, gradients."""
    V, H = policy.get_output_embeddings().weight.shape
    generator = torch.Generator(device).manual_seed(0)

    def leaf(rows: int, scale: float) -> torch.Tensor:
        values = torch.randn(rows, H, generator=generator, device=device) * scale
        return values.to(policy.dtype).requires_grad_()

    hidden, weight = leaf(head_tokens, 1.0), leaf(V, 0.02)
    targets = torch.randint(V, (head_tokens,), generator=generator, device=device)
    upstream = torch.randn(head_tokens, generator=generator, device=device)

    def ours(repeat: int = 0, with_certainty: bool = True) -> None:
        hidden.grad = weight.grad = None
        logps, _ = HeadLogps.apply(hidden, weight, None, targets, 1.0, with_certainty)
        (logps * upstream).sum().backward()

    def plain(repeat: int = 0) -> None:
        hidden.grad = weight.grad = None
        logits = (hidden @ weight.t()).float()
        logps = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        with torch.no_grad():
            self_certainty(logits)
        (logps * upstream).sum().backward()

    gradients = []
    for work in (ours, plain):
        work()
        gradients.append((hidden.grad.float(), weight.grad.float()))
    errors = [((a - b).norm() / b.norm()).item() for a, b in zip(*gradients, strict=True)]
    del gradients
    ways = {"HeadLogps": ours, "log_softmax": plain, "HeadLogps without certainty": partial(ours, with_certainty=False)}
    memory = {}
    for name, work in ways.items():
        hidden.grad = weight.grad = None  # of the way before: else what follows would seem to need less
        memory[name] = peak_memory(work, device)
    results = in_turn(ways, repeats, device)
    for name, result in results.items():
        result["peak_bytes"] = memory[name]
    sizes = {"tokens": head_tokens, "vocabulary": V, "hidden": H}
    return {**sizes, "gradient_error": max(errors), "ways": results}


def bench_agreement(policy, tokenizer, *, prompts, group, prompt_tokens, new_tokens, micro_tokens, device) -> dict:
    """Whether sampling and training compute what they should, and need the memory that was planned."""
    batch = make_prompts(policy, tokenizer, prompts, prompt_tokens, new_tokens)
    sizes = {"prompts": batch, "group": group, "T": new_tokens}
    found = {"passes": agreement.of_passes(policy, micro_tokens=micro_tokens, **sizes)}
    if device.startswith("cuda"):
        found["recorded"] = agreement.of_samplers(policy, **sizes)
        found["memory"] = agreement.of_the_plan(policy, micro_tokens=micro_tokens, device=device, **sizes)
    return found


def bench_limits(policy, tokenizer, *, prompts, group, prompt_tokens, new_tokens, micro_tokens, device) -> dict:
    """Decoding and the training pass against the machine's limits; every row with new_tokens tokens."""
    batch = make_prompts(policy, tokenizer, prompts, prompt_tokens, new_tokens)
    return shares_of_the_limits(policy, batch, group, new_tokens, micro_tokens, device)


def bench_memory(policy, tokenizer, *, prompts, group, prompt_tokens, new_tokens, micro_tokens) -> dict:
    """Bytes by part of training on a GPU without a KL penalty: of all weights, then with --lora 32 and checkpointing.

    A model of bfloat16 (--dtype bfloat16) can be asked on a CPU.
    """
    longest = max(map(len, make_prompts(policy, tokenizer, prompts, prompt_tokens, new_tokens)))
    numbers = {
        "prompts_per_step": prompts,
        "rollouts_per_prompt": group,
        "max_new_tokens": new_tokens,
        "temperature": 1.0,
        "micro_tokens": micro_tokens,
        "reference": False,
        "device": torch.device("cuda"),
    }
    plans = {"all weights": memory_plan(policy, longest, gradient_checkpointing=False, **numbers)}
    add_lora(policy, 32, seed=0)
    adapters = memory_plan(policy, longest, gradient_checkpointing=True, **numbers)
    return {"plans": {**plans, "--lora 32 --gradient-checkpointing": adapters}}


BENCHES = {
    "rollouts": bench_rollouts,
    "tail": bench_tail,
    "step": bench_step,
    "whole": bench_whole,
    "profile": bench_profile,
    "head": bench_head,
    "agreement": bench_agreement,
    "limits": bench_limits,
    "memory": bench_memory,
}


# --- command line ---------------------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> Settings:
    """The command line; what argparse does not check, `complete` does."""
    return flags.parse(Settings, argv, "bench.py", "How fast is it?")[0]


def complete(settings: Settings) -> torch.dtype:
    """Raise BadInput for what cannot work, and fill in what was left open. Returns what to compute in."""
    if settings.model not in ("toy", "smollm2-warm", *SIZES) and not Path(settings.model).is_dir():
        raise BadInput(
            f"--model {settings.model}: unknown; choose from toy, smollm2-warm, {', '.join(SIZES)}, or a run of them"
        )
    if settings.gpu and settings.parts:
        raise BadInput("--parts: --gpu runs parts of its own; leave one of the two out")
    settings.parts = settings.parts or (["rollouts"] if settings.model in SIZES else ["rollouts", "tail", "step"])
    for part in settings.parts:
        if part not in PARTS:
            raise BadInput(f"--parts {part}: unknown; choose from {' '.join(PARTS)}")
    flags.check(settings)
    settings.device, dtype = resolve_device(settings.device, settings.dtype)
    settings.dtype = str(dtype).removeprefix("torch.")
    if settings.out is None and not settings.gpu:
        device = settings.device.partition(":")[0]
        settings.out = f"results/bench-{Path(settings.model).name}-{device}-{'-'.join(settings.parts)}.json"
    try:
        if settings.out:
            Path(settings.out).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {settings.out}: cannot be written ({error.strerror})") from None
    return dtype


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    settings, results = parse(argv), {}
    try:
        dtype = complete(settings)
        if settings.gpu:
            return gpu.main(settings.out, settings.device)
        policy, tokenizer = make_model(settings.model, settings.device, dtype, settings.parts == ["head"])
        if settings.micro_tokens is None:  # as train.py's
            on_cpu = 4096 if is_toy(policy) else 768
            settings.micro_tokens = on_cpu if settings.device == "cpu" else 8192
        for part, bench in BENCHES.items():
            if part in settings.parts:
                read = inspect.signature(bench).parameters
                numbers = {name: value for name, value in vars(settings).items() if name in read}
                results[part] = bench(policy, tokenizer, **numbers)
    except BadInput as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 2
    on_cpu = f"{platform.machine()}, {torch.get_num_threads()} threads"
    name = {"cpu": on_cpu, "mps": f"mps, {on_cpu}"}.get(settings.device) or torch.cuda.get_device_name()
    machine = {"device": name, "torch": torch.__version__, "transformers": transformers.__version__}
    print(table(results))
    given = {name: value for name, value in vars(settings).items() if name != "out"}
    replace_text(
        Path(settings.out), json.dumps({"machine": machine, "flags": given, "results": results}, indent=1) + "\n"
    )
    print(f"In {settings.out}: every time that was taken.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
