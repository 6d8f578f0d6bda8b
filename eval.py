"""eval.py: what can the model solve, and in how many tries?

The study of "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?"
(2504.13837): draw n samples for each problem from each model, grade them, and compare pass@k. At k = 1 training helps;
at large k the paper finds the base model ahead, because training makes likely what was possible, and some of what was
possible impossible.

    python eval.py toy runs/toy-correct-seed0 --samples 64

writes samples.jsonl.gz (every sample), passk.json and passk.png into --out. On the toy there is a second curve that
counts only correct answers with a valid chain of reasoning: an answer that was guessed is not a problem that was
solved.

Differs from the paper: temperature 1 and top-p 1 by default, the distribution that was trained (the paper: 0.6 and
0.95).
"""

import argparse
import gzip
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import toy
from data import BadInput, Problem, default_template, encode_prompts, end_tokens, load_model, load_problems
from generate import generate, stream
from passk import curve, powers_of_two
from verify import extract_answer, grade


def resolve_device(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """The flags --device and --dtype, `auto` decided: bfloat16 on a GPU, float32 on a CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and device not in ("cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))):
        raise BadInput(f"--device {device}: unknown; choose auto, cpu, cuda or cuda:N")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"--device {device}: torch finds no CUDA device on this machine; use --device cpu")
    names = {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "auto": torch.float32 if device == "cpu" else torch.bfloat16,
    }
    if dtype not in names:
        raise BadInput(f"--dtype {dtype}: choose from {', '.join(names)}")
    return device, names[dtype]


def context_room(policy, max_new_tokens: int) -> int:
    """How many tokens a prompt may have beside its completion."""
    return getattr(policy.config, "max_position_embeddings", 10**9) - max_new_tokens


def prepare(model: str, problems: list[Problem], settings: argparse.Namespace):
    """(policy, tokenizer, prompts) of one model. Raises BadInput."""
    policy, tokenizer = load_model(model, settings.device)
    template = settings.template or default_template(tokenizer)
    room = context_room(policy, settings.max_new_tokens)
    return policy, tokenizer, encode_prompts(problems, tokenizer, template, room)


def sample(model: str, problems: list[Problem], settings: argparse.Namespace):
    """Yield one record per sample. The same seed and --rows give every model the same random numbers."""
    policy, tokenizer, prompts = prepare(model, problems, settings)
    eos_ids = end_tokens(policy, tokenizer)
    group = min(settings.samples, settings.rows)
    at_once = max(1, settings.rows // group)  # problems in one call
    bar = tqdm(total=len(problems) * settings.samples, desc=model, unit="sample")
    for first in range(0, len(problems), at_once):
        part = range(first, min(first + at_once, len(problems)))
        for begin in range(0, settings.samples, group):
            count = min(group, settings.samples - begin)
            generator = stream(settings.seed, "samples", first, begin)
            with torch.autocast(policy.device.type, torch.bfloat16, enabled=settings.compute == torch.bfloat16):
                rollouts = generate(
                    policy,
                    [prompts[i] for i in part],
                    count,
                    settings.max_new_tokens,
                    settings.temperature,
                    settings.top_p,
                    eos_ids,
                    generator,
                )
            tokens = rollouts.completions()
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            owners = [i for i in part for _ in range(count)]
            right = grade(texts, [problems[i].answer for i in owners], [problems[i].kind for i in owners])
            for row, i in enumerate(owners):
                record = {"model": model, "problem": i, "sample": begin + row % count}
                record |= {"tokens": tokens[row], "text": texts[row], "answer": extract_answer(texts[row])}
                record |= {"correct": right[row], "truncated": bool(rollouts.truncated[row])}
                if settings.data == "toy":
                    record["valid"] = right[row] and toy.valid_chain(texts[row], problems[i])
                yield record
            bar.update(len(owners))
    bar.close()


def study(models: list[str], problems: list[Problem], settings: argparse.Namespace, out: Path) -> dict:
    """Sample from every model, write the three files into `out`, and return what passk.json holds."""
    for model in models:
        prepare(model, problems, settings)  # so that a misspelt last name does not cost the first model's hours
    ks = powers_of_two(settings.samples)
    kinds = ["correct", "valid"] if settings.data == "toy" else ["correct"]
    results = {}
    out.mkdir(parents=True, exist_ok=True)
    # Written beside their place and moved at the end, so that an interrupted study leaves nothing that looks finished.
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        with gzip.open(Path(unfinished) / "samples.jsonl.gz", "wt", encoding="utf-8") as lines:
            for model in models:
                counts = {kind: np.zeros(len(problems), dtype=int) for kind in (*kinds, "truncated")}
                for record in sample(model, problems, settings):
                    lines.write(json.dumps(record) + "\n")
                    for kind, count in counts.items():
                        count[record["problem"]] += record[kind]
                results[model] = {
                    f"pass_at_k_{kind}": curve(settings.samples, counts[kind], ks).tolist() for kind in kinds
                }
                results[model] |= {f"counts_{kind}": count.tolist() for kind, count in counts.items()}
        names = ("data", "template", "samples", "temperature", "top_p", "max_new_tokens", "seed")
        content = {name: getattr(settings, name) for name in names}
        content |= {"problems": len(problems), "k": ks, "models": results}
        (Path(unfinished) / "passk.json").write_text(json.dumps(content, indent=1))
        picture(content, Path(unfinished) / "passk.png")
        for name in ("samples.jsonl.gz", "passk.json", "passk.png"):
            os.replace(Path(unfinished) / name, out / name)
    return content


def table(content: dict) -> str:
    """pass@k of every model, one line each (two on the toy)."""
    width = max(len(name) for name in content["models"])
    lines = [
        f"pass@k on {content['problems']} problems, {content['samples']} samples each, T = {content['temperature']:g}"
    ]
    lines.append(" " * (width + 24) + "".join(f"{f'k={k}':>7}" for k in content["k"]))
    for key, label in (("pass_at_k_correct", "correct answer"), ("pass_at_k_valid", "correct, valid chain")):
        for name, result in content["models"].items():
            if key in result:
                lines.append(f"{name:<{width}}  {label:<22}" + "".join(f"{value:7.3f}" for value in result[key]))
    return "\n".join(lines)


def picture(content: dict, path: Path) -> None:
    """Every model's curve: solid for correct answers, dashed for those with a valid chain."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for i, (name, result) in enumerate(content["models"].items()):
        look = {"color": f"C{i}", "marker": "osD^v*"[i % 6]}  # markers tell the models apart without colour
        axes.plot(content["k"], result["pass_at_k_correct"], "-", label=f"{name}: correct answer", **look)
        if "pass_at_k_valid" in result:
            label = f"{name}: correct, valid chain"
            axes.plot(content["k"], result["pass_at_k_valid"], "--", label=label, markerfacecolor="white", **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(content["k"], [str(k) for k in content["k"]])
    axes.set(
        xlabel="k (tries)",
        ylabel="pass@k",
        ylim=(0, 1.02),
        title=f"{content['problems']} problems, {content['samples']} samples each",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what argparse does not check, `complete` does."""
    parser = argparse.ArgumentParser(
        prog="eval.py", description="Compare models by pass@k.", usage="python eval.py MODEL [MODEL ...] [flags]"
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="toy, a folder with a saved model (a run folder), or a hub id; base first",
    )
    parser.add_argument(
        "--data",
        default="toy",
        help="toy, gsm8k, math, math500 (their test split) or a .jsonl / .jsonl.gz file; default toy",
    )
    parser.add_argument(
        "--template",
        help="prompt template; default qwen-boxed for a chat tokenizer, else plain. It moves base scores a lot",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=64,
        help="n, samples per problem; pass@k is known up to k = n (paper: 128 to 1,024); default 64",
    )
    parser.add_argument("--limit", type=int, default=180, help="the first so many problems; default 180")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="paper 0.6; default 1.0, as in training; 0 is greedy"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="paper 0.95; default 1.0")
    parser.add_argument("--max-new-tokens", type=int, help="tokens; paper 16,384; default 80 on the toy, else 1,024")
    parser.add_argument(
        "--rows", type=int, default=384, help="completions sampled at once; less needs less memory; default 384"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument(
        "--dtype",
        default="auto",
        help="what is computed in: float32 or bfloat16; default bfloat16 on a GPU, float32 on a CPU",
    )
    parser.add_argument("--out", default="runs/eval", help="folder for the results; default runs/eval")
    return parser.parse_args(argv)


def complete(settings: argparse.Namespace) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    if len(set(settings.models)) < len(settings.models):
        raise BadInput("MODEL: the same model is named twice; name each once")
    for name in ("samples", "limit", "rows"):
        if getattr(settings, name) < 1:
            raise BadInput(f"--{name} {getattr(settings, name)}: must be at least 1")
    if settings.max_new_tokens is None:
        settings.max_new_tokens = 80 if settings.data == "toy" else 1024
    if settings.max_new_tokens < 1:
        raise BadInput(f"--max-new-tokens {settings.max_new_tokens}: must be at least 1")
    if settings.temperature < 0 or not 0 < settings.top_p <= 1:
        raise BadInput("--temperature must be at least 0, and --top-p above 0 and at most 1")
    if settings.temperature == 0 and settings.samples > 1:
        raise BadInput(
            "--temperature 0 gives the same completion every time: use --samples 1, or a temperature above 0"
        )
    settings.device, settings.compute = resolve_device(settings.device, settings.dtype)


def run(settings: argparse.Namespace) -> dict:
    """The whole study as the flags say; returns what passk.json holds. Raises BadInput before anything is written."""
    complete(settings)
    problems = load_problems(settings.data, "test", settings.limit)
    return study(settings.models, problems, settings, Path(settings.out))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    settings = parse(argv)
    try:
        content = run(settings)
    except BadInput as error:
        print(f"eval.py: {error}", file=sys.stderr)
        return 2
    print(table(content))
    print(f"In {settings.out}: samples.jsonl.gz, passk.json, passk.png.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
