"""bench.py: how fast is it, next to what you would use instead?

    python bench.py                                             the toy on this machine: rollouts, tail, step
    python bench.py --model runs/toy-correct-seed0 --parts step      after training, when many groups are all right
    python bench.py --model qwen2.5-0.5b --prompts 8 --group 8 --new-tokens 64 --parts rollouts
    python bench.py --model qwen2.5-1.5b --parts head

Every line compares two ways to do the same work, with the same model, in one process, in turn: A B A B ... What counts
is the ratio of a pair, because a machine's speed drifts. The table gives the median ratio and its range.

    rollouts   generate() against transformers' model.generate(num_return_sequences=G), default and static cache. Each
               row has the same number of tokens in both: on the toy, the mixed lengths that it sampled once.
    tail       a study whose lengths have a long tail (8 to 512, mean 64), in 128 slots that are refilled, against the
               same slots in batches, each of which waits for its longest row
    step       a whole GRPO step against TRL's GRPOTrainer, if that is installed (toy only)
    head       log-probabilities, self-certainty and their gradient against log_softmax of all logits: time and memory
    memory     what plan.py says that training needs: all weights, and adapters with checkpointing
    limits     decoding and training against what this machine's memory and matrix units could do at best

Sizes are built from their public configurations with random weights, so nothing is downloaded; speed does not depend on
what the weights are. Results go into results/bench-MODEL-DEVICE-PARTS.json, with the machine they came from.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers

import data
from data import BadInput
from engine.memory import as_text, memory_plan
from generate import generate, generate_rows, stream
from grpo import HeadLogps, adamw, group_advantages, update
from rewards import read, self_certainty
from running.models import context_room, end_tokens, load_model, resolve_device
from train import adapt

VOCABULARY = 151_936
SIZES = {  # Qwen2.5's config.json: hidden, intermediate, layers, heads, kv heads; all three tie head and embeddings
    "qwen2.5-0.5b": (896, 4864, 24, 14, 2),
    "qwen2.5-1.5b": (1536, 8960, 28, 12, 2),
    "qwen2.5-3b": (2048, 11008, 36, 16, 2),
}
PARTS = ("rollouts", "tail", "step", "head", "memory", "limits")


# --- measuring ------------------------------------------------------------------------------------------------------


def seconds(work, device: str) -> float:
    """How long work() takes, with all that it has started on the GPU."""
    begin = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def in_turn(ways: dict, repeats: int, device: str) -> dict:
    """Seconds of each way, run in turn after one run of each that is not counted; ratios to the first, the project's.

    A way is called with the number of the repeat. Returns what `compare` does.
    """
    times = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, work in ways.items():
            taken = seconds(lambda work=work, repeat=repeat: work(repeat), device)
            if repeat:
                times[name].append(taken)
    return compare(times)


def compare(times: dict[str, list[float]]) -> dict:
    """The times of ways that ran in turn, with their ratios to the first.

    Returns {way: {"seconds": [...], "ratio": median, "ratio_range": [lowest, highest]}}.
    """
    ours, results = next(iter(times.values())), {}
    for name, taken in times.items():
        ratios = [other / own for other, own in zip(taken, ours, strict=True)]
        spread = [min(ratios), max(ratios)]
        results[name] = {"seconds": taken, "ratio": statistics.median(ratios), "ratio_range": spread}
    return results


def peak_memory(work, device: str) -> int:
    """The most bytes that work() held beyond what was held before: of the GPU, or of the process."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, peak, over = resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    over.set()
    watcher.join()
    return peak[0] - before


# --- the parts ------------------------------------------------------------------------------------------------------


def make_model(name: str, device: str, dtype: torch.dtype, head_alone: bool):
    """(policy, tokenizer) of a folder or the toy, or (policy, None) of a size; one layer of it if `head_alone`."""
    if name not in SIZES:
        return load_model(name, device, dtype)
    hidden, intermediate, layers, heads, kv_heads = SIZES[name]
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=1 if head_alone else layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return transformers.Qwen2ForCausalLM(config).to(dtype).eval(), None


def make_prompts(policy, tokenizer, settings, repeat: int = 0) -> list[list[int]]:
    """--prompts prompts, others in each repeat: of the toy, or of random tokens, up to --prompt-tokens long."""
    if tokenizer is not None:
        problems = data.load_problems("toy", "train")
        problems = [problems[(repeat * settings.prompts + i) % len(problems)] for i in range(settings.prompts)]
        return data.encode_prompts(problems, tokenizer, "plain", context_room(policy, settings.new_tokens))
    generator, most = stream("prompts", repeat), settings.prompt_tokens
    lengths = torch.randint(most * 3 // 4, most + 1, (settings.prompts,), generator=generator).tolist()
    return [torch.randint(1000, 100_000, (length,), generator=generator).tolist() for length in lengths]


def bench_rollouts(policy, tokenizer, settings) -> dict:
    """generate() against model.generate(), every row with the same number of tokens."""
    group, device, T = settings.group, settings.device, settings.new_tokens
    works = []  # prompts and lengths of each repeat
    for repeat in range(settings.repeats + 1):
        prompts = make_prompts(policy, tokenizer, settings, repeat)
        counts = torch.full((len(prompts) * group,), T)
        if tokenizer is not None:  # of the toy: as many tokens as it writes itself
            ends = end_tokens(policy, tokenizer)
            counts = generate(policy, prompts, group, T, eos_ids=ends, generator=stream(repeat)).mask.sum(dim=1)
        works.append((prompts, counts.tolist()))

    def ours(repeat: int) -> None:
        generate(policy, works[repeat][0], group, works[repeat][1], generator=stream(repeat))

    def theirs(repeat: int, cache: str | None) -> None:
        prompts, counts = works[repeat]
        width, limits = max(map(len, prompts)), torch.tensor(counts, device=device)
        padded = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)

        class Full(transformers.StoppingCriteria):
            def __call__(self, input_ids, scores, **kwargs):
                return input_ids.shape[1] - width >= limits

        with torch.no_grad():
            policy.generate(
                input_ids=padded,
                attention_mask=seen,
                num_return_sequences=group,
                do_sample=True,
                top_k=0,  # as a user would who knows of the default
                max_new_tokens=T,
                eos_token_id=None,  # the lengths are forced
                pad_token_id=0,
                cache_implementation=cache,
                stopping_criteria=transformers.StoppingCriteriaList([Full()]),
            )

    ways = {
        "generate.py": ours,
        "model.generate": lambda repeat: theirs(repeat, None),
        "model.generate, static cache": lambda repeat: theirs(repeat, "static"),
    }
    results = in_turn(ways, settings.repeats, device)
    tokens = [sum(counts) for _, counts in works[1:]]
    for result in results.values():
        result["tokens_per_second"] = sum(tokens) / sum(result["seconds"])
    longest = [max(counts) for _, counts in works[1:]]
    return {"rows": settings.prompts * group, "tokens": tokens, "longest": longest, "ways": results}


def bench_tail(policy, tokenizer, settings) -> dict:
    """A study of 1,024 rows in 128 slots; lengths from 8 to 512 by a power law of density x^-1.5, whose mean is 64."""
    rows, slots, device = 1024, 128, settings.device
    u = torch.rand(rows, generator=stream("tail"))
    counts = ((8**-0.5 - u * (8**-0.5 - 512**-0.5)) ** -2).long().tolist()
    prompts = [make_prompts(policy, tokenizer, settings)[0]] * 8

    def refilled(repeat: int) -> None:
        for _ in generate_rows(policy, prompts, rows // 8, counts, generator=stream(0), slots=slots):
            pass

    def in_batches(repeat: int) -> None:
        for first in range(0, rows, slots):
            generate(policy, prompts[:1], slots, max(counts[first : first + slots]), generator=stream(0))

    ways = in_turn({"refilled": refilled, "in batches": in_batches}, settings.repeats, device)
    return {"rows": rows, "slots": slots, "mean": sum(counts) / rows, "longest": max(counts), "ways": ways}


def our_step(policy, tokenizer, problems, prompts, settings):
    """A function that takes one GRPO step, as train.py does, with a learning rate of 0: every step is alike."""
    optimizer = adamw(policy, lr=0.0)
    names = {"temperature": 1.0, "kl": 0.0, "clip": 0.2, "loss_average": "sequence", "updates_per_step": 1}
    names |= {"max_new_tokens": settings.new_tokens, "micro_tokens": settings.micro_tokens}
    ends = end_tokens(policy, tokenizer)
    numbers = iter(range(10**9))

    def step() -> None:
        generator = stream("step", next(numbers))
        rollouts = generate(policy, prompts, settings.group, settings.new_tokens, eos_ids=ends, generator=generator)
        sampled = read(problems, rollouts, tokenizer)
        advantages = group_advantages(sampled.groups(sampled.right))
        update(policy, None, optimizer, rollouts, advantages, SimpleNamespace(**names))

    return step


def bench_step(policy, tokenizer, settings) -> dict:
    """A whole step against TRL's GRPOTrainer: same model, prompts, group, reward, sampling; no KL penalty in either."""
    if tokenizer is None:
        return {"skipped": "needs the toy: a size has no tokenizer"}
    try:
        import trl
        from datasets import Dataset
    except ImportError:
        return {"skipped": "TRL is not installed: pip install trl"}
    problems = data.load_problems("toy", "train", settings.prompts)
    prompts = data.encode_prompts(problems, tokenizer, "plain", context_room(policy, settings.new_tokens))
    ours = our_step(copy.deepcopy(policy), tokenizer, problems, prompts, settings)
    times = {"minreason": [], f"TRL {trl.__version__}": []}

    class InTurn(transformers.TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.begin = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            theirs = time.perf_counter() - self.begin
            for name, taken in zip(times, (seconds(ours, settings.device), theirs), strict=True):
                times[name].append(taken)

    def reward(completions, answer, **kwargs):
        import verify

        return [float(right) for right in verify.grade(completions, answer, ["number"] * len(answer))]

    rows = [{"prompt": tokenizer.decode(ids), "answer": p.answer} for ids, p in zip(prompts, problems, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        flags = trl.GRPOConfig(
            output_dir=folder,
            use_cpu=settings.device == "cpu",
            per_device_train_batch_size=len(prompts) * settings.group,
            num_generations=settings.group,
            max_completion_length=settings.new_tokens,
            temperature=1.0,
            top_k=0,
            beta=0.0,
            learning_rate=0.0,
            lr_scheduler_type="constant",
            max_steps=settings.repeats + 2,
            bf16=policy.dtype == torch.bfloat16,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trl.GRPOTrainer(
            model=policy,
            reward_funcs=reward,
            args=flags,
            train_dataset=Dataset.from_list(rows * (settings.repeats + 2)),
            processing_class=tokenizer,
            callbacks=[InTurn()],
        ).train()
    return {"prompts": len(prompts), "group": settings.group, "ways": compare({k: v[2:] for k, v in times.items()})}


def bench_head(policy, tokenizer, settings) -> dict:
    """HeadLogps against the plain way, for --head-tokens hidden states: time, memory, gradients."""
    V, H = policy.get_output_embeddings().weight.shape
    dtype, generator = policy.dtype, torch.Generator(settings.device).manual_seed(0)
    shapes = {"hidden": (settings.head_tokens, H), "weight": (V, H)}
    scale = {"hidden": 1.0, "weight": 0.02}
    leaves = {
        name: (torch.randn(shape, generator=generator, device=settings.device) * scale[name]).to(dtype)
        for name, shape in shapes.items()
    }
    hidden, weight = (leaf.requires_grad_() for leaf in leaves.values())
    targets = torch.randint(V, (settings.head_tokens,), generator=generator, device=settings.device)
    upstream = torch.randn(settings.head_tokens, generator=generator, device=settings.device)

    def ours(with_certainty: bool = True) -> None:
        logps, _ = HeadLogps.apply(hidden, weight, None, targets, 1.0, with_certainty)
        (logps * upstream).sum().backward()

    def plain() -> None:
        logits = (hidden @ weight.t()).float()
        logps = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        with torch.no_grad():
            self_certainty(logits)
        (logps * upstream).sum().backward()

    def fresh(work):
        def run(repeat: int = 0) -> None:
            hidden.grad = weight.grad = None
            work()

        return run

    gradients = []
    for work in (ours, plain):
        fresh(work)()
        gradients.append((hidden.grad.float(), weight.grad.float()))
    errors = [((a - b).norm() / b.norm()).item() for a, b in zip(*gradients, strict=True)]
    del gradients
    ways = {"HeadLogps": ours, "log_softmax": plain, "HeadLogps without certainty": lambda: ours(False)}
    memory = {}
    for name, work in ways.items():
        hidden.grad = weight.grad = None  # of the way before: else what follows would seem to need less
        memory[name] = peak_memory(work, settings.device)
    results = in_turn({name: fresh(work) for name, work in ways.items()}, settings.repeats, settings.device)
    for name, result in results.items():
        result["peak_bytes"] = memory[name]
    sizes = {"tokens": settings.head_tokens, "vocabulary": V, "hidden": H}
    return {**sizes, "gradient_error": max(errors), "ways": results}


def bench_memory(policy, tokenizer, settings) -> dict:
    """Bytes by part of training on a GPU without a KL penalty: of all weights, then with --lora 32 and checkpointing.

    A model of bfloat16 (--dtype bfloat16) can be asked on a CPU.
    """
    flags = {
        "prompts_per_step": settings.prompts,
        "rollouts_per_prompt": settings.group,
        "kl": 0.0,
        "seed": 0,
        "temperature": 1.0,
    }
    flags |= {"max_new_tokens": settings.new_tokens, "micro_tokens": settings.micro_tokens}
    plans, longest = {}, max(map(len, make_prompts(policy, tokenizer, settings)))
    for name, lora in (("all weights", 0), ("--lora 32 --gradient-checkpointing", 32)):
        wanted = SimpleNamespace(
            **flags, lora=lora, gradient_checkpointing=bool(lora), annotator="online", compile=False
        )
        adapt(policy, wanted)
        plans[name] = memory_plan(policy, wanted, longest, torch.device("cuda"))
    return {"plans": plans}


def machine_limits(device: str, dtype: torch.dtype) -> dict[str, float]:
    """What this machine reaches in its best case: matrix products (FLOP/s) and copies (bytes/s read and written)."""
    size = 8192 if device != "cpu" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(2**30 if device != "cpu" else 2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = {}
    for name, work, amount in (
        ("flops", lambda: torch.mm(a, b), 2 * size**3),
        ("bandwidth", lambda: target.copy_(source), 2 * len(source)),
    ):
        best[name] = amount / min(seconds(work, device) for _ in range(10))
    return best


def bench_limits(policy, tokenizer, settings) -> dict:
    """Decoding and the training pass against the machine's limits; every row with --new-tokens tokens.

    A decoding step of n rows with c tokens of context reads the weights W once, or multiplies them at full speed,
    whichever takes longer, and reads all keys and values once:

        max(bytes(W) / bandwidth, 2 n |W| / flops) + n c bytes(kv) / bandwidth

    Training: 6 operations per weight and token, the head's for completion tokens only, plus attention's.
    """
    limits, config, device = machine_limits(settings.device, policy.dtype), policy.config, settings.device
    prompts, group, T = make_prompts(policy, tokenizer, settings), settings.group, settings.new_tokens
    N, bytes_each = len(prompts) * group, policy.dtype.itemsize
    head = policy.get_output_embeddings().weight.numel()
    total = sum(p.numel() for p in policy.parameters())
    body = total - policy.get_input_embeddings().weight.numel() - (0 if config.tie_word_embeddings else head)
    head_dim = config.hidden_size // config.num_attention_heads
    kv = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * bytes_each  # bytes of a token

    rollouts = generate(policy, prompts, group, T, generator=stream(0))  # also the warm-up
    decoding = [seconds(lambda: generate(policy, prompts, group, T, generator=stream(0)), device)]
    prefilling = [seconds(lambda: generate(policy, prompts, group, 1, generator=stream(0)), device) for _ in range(2)]
    decode_seconds = min(decoding) - min(prefilling)
    context = rollouts.prompt_lengths.float().mean().item() + T / 2
    fastest = max((body + head) * bytes_each / limits["bandwidth"], 2 * N * (body + head) / limits["flops"])
    fastest = (T - 1) * (fastest + N * context * kv / limits["bandwidth"])

    length = rollouts.prompt_lengths.float().mean().item() + T
    operations = 6 * N * (body * length + head * T)
    operations += 3 * 4 * config.num_hidden_layers * config.hidden_size * N * length**2 / 2  # causal attention
    names = {"temperature": 1.0, "kl": 0.0, "clip": 0.2, "loss_average": "sequence", "updates_per_step": 1}
    names |= {"max_new_tokens": T, "micro_tokens": settings.micro_tokens}
    optimizer = adamw(policy, lr=0.0)
    advantages = torch.ones(len(prompts), group)

    def train() -> None:
        update(policy, None, optimizer, rollouts, advantages, SimpleNamespace(**names))

    train()
    train_seconds = min(seconds(train, device) for _ in range(2))
    memory = torch.cuda.max_memory_allocated() if device != "cpu" else None
    return {
        "rows": N,
        "machine": limits,
        "decode_seconds": decode_seconds,
        "decode_tokens_per_second": N * (T - 1) / decode_seconds,
        "decode_of_roofline": fastest / decode_seconds,
        "train_seconds": train_seconds,
        "train_of_peak": operations / limits["flops"] / train_seconds,
        "peak_bytes": memory,
    }


# --- command line ---------------------------------------------------------------------------------------------------


def table(results: dict) -> str:
    """One line per way, with the median of its seconds and its ratio to the project's."""
    lines = [f"{'':<38}{'seconds':>9}{'times ours':>12}   lowest .. highest"]
    for part, result in results.items():
        if "skipped" in result:
            lines.append(f"{part}: skipped; {result['skipped']}")
        for name, way in result.get("ways", {}).items():
            low, high = way["ratio_range"]
            median = statistics.median(way["seconds"])
            line = f"{part + ': ' + name:<38}{median:>9.3f}{way['ratio']:>12.2f}   {low:.2f} .. {high:.2f}"
            lines.append(line + (f"   {way['peak_bytes'] / 1e9:.2f} GB" if "peak_bytes" in way else ""))
        if "gradient_error" in result:
            lines.append(f"head: relative error of the gradient {result['gradient_error']:.1e}")
        for name, plan in result.get("plans", {}).items():
            lines.append(f"memory, {name}: {as_text(plan)}")
        if "decode_of_roofline" in result:
            lines.append(
                f"limits: decoding {result['decode_tokens_per_second']:,.0f} tokens/s, "
                f"{result['decode_of_roofline']:.0%} of the roofline; training {result['train_of_peak']:.0%} of peak"
            )
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what argparse does not check, `complete` does."""
    parser = argparse.ArgumentParser(prog="bench.py", description="How fast is it?", usage="python bench.py [flags]")
    parser.add_argument("--model", default="toy", help=f"toy, a run folder of it, {', '.join(SIZES)}; default toy")
    parser.add_argument("--parts", nargs="+", help=f"of {' '.join(PARTS)}; default rollouts tail step, sizes: rollouts")
    parser.add_argument("--prompts", type=int, default=16, help="B; default 16")
    parser.add_argument("--group", type=int, default=16, help="G; default 16")
    parser.add_argument("--prompt-tokens", type=int, default=256, help="of the longest prompt of a size; default 256")
    parser.add_argument("--new-tokens", type=int, default=80, help="default 80")
    parser.add_argument("--head-tokens", type=int, default=4096, help="for the head; default 4096")
    parser.add_argument("--micro-tokens", type=int, help="in a training pass; default 1024 on a CPU, else 8192")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each way; default 5")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--dtype", default="auto", help="float32 or bfloat16; default bfloat16 on a GPU")
    parser.add_argument("--out", help="file for every time taken; default results/bench-MODEL-DEVICE-PARTS.json")
    return parser.parse_args(argv)


def complete(settings: argparse.Namespace) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    if settings.model not in ("toy", *SIZES) and not Path(settings.model).is_dir():
        raise BadInput(f"--model {settings.model}: unknown; choose from toy, {', '.join(SIZES)}, or a run of the toy")
    settings.parts = settings.parts or (["rollouts"] if settings.model in SIZES else ["rollouts", "tail", "step"])
    for part in settings.parts:
        if part not in PARTS:
            raise BadInput(f"--parts {part}: unknown; choose from {' '.join(PARTS)}")
    settings.device, settings.compute = resolve_device(settings.device, settings.dtype)
    settings.dtype = str(settings.compute).removeprefix("torch.")
    if settings.micro_tokens is None:
        settings.micro_tokens = 1024 if settings.device == "cpu" else 8192
    for name in ("prompts", "group", "prompt_tokens", "new_tokens", "head_tokens", "micro_tokens", "repeats"):
        if getattr(settings, name) < 1:
            raise BadInput(f"--{name.replace('_', '-')} {getattr(settings, name)}: must be at least 1")
    if settings.out is None:
        device = settings.device.partition(":")[0]
        settings.out = f"results/bench-{Path(settings.model).name}-{device}-{'-'.join(settings.parts)}.json"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    settings = parse(argv)
    try:
        complete(settings)
        out = Path(settings.out)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--out {out}: cannot be written ({error.strerror})") from None
        head_alone = settings.parts == ["head"]
        policy, tokenizer = make_model(settings.model, settings.device, settings.compute, head_alone)
        run = {"rollouts": bench_rollouts, "tail": bench_tail, "step": bench_step, "head": bench_head}
        run |= {"limits": bench_limits, "memory": bench_memory}  # the last puts adapters into the model
        results = {part: bench(policy, tokenizer, settings) for part, bench in run.items() if part in settings.parts}
    except BadInput as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 2
    on_cpu = f"{platform.machine()}, {torch.get_num_threads()} threads"
    machine = {"device": on_cpu if settings.device == "cpu" else torch.cuda.get_device_name()}
    machine |= {"torch": torch.__version__, "transformers": transformers.__version__}
    print(table(results))
    flags = {name: value for name, value in vars(settings).items() if name not in ("out", "compute")}
    out.write_text(json.dumps({"machine": machine, "flags": flags, "results": results}, indent=1) + "\n")
    print(f"In {out}: every time that was taken.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
