"""eval.py: what can the model solve, and in how many tries?

The study of "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?"
(2504.13837): draw n samples for each problem from each model, grade them, and compare pass@k. At k = 1 training helps;
at large k the paper finds the base model ahead, because training makes likely what was possible, and some of what was
possible impossible.

    python eval.py toy runs/toy-correct-seed0 --samples 64

writes samples.jsonl.gz (every sample), passk.json and passk.png into --out. On the toy there is a second curve that
counts only correct answers with a valid chain of reasoning: a guessed answer is not a solved problem.

Differs from the paper: temperature 1 and top-p 1 by default, as in training (the paper: 0.6 and 0.95).
"""

import argparse
import gzip
import json
import os
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

import data
import toy
from data import BadInput, Problem
from generate import generate_rows, stream
from models import context_room, end_tokens, load_model, resolve_device
from passk import curve, powers_of_two
from plan import check_sampler, free_memory, sampling_bytes
from verify import extract_answer, grade

plt.switch_backend("Agg")  # pictures go into files; no screen is needed


def prepare(model: str, problems: list[Problem], settings: argparse.Namespace):
    """(policy, tokenizer, template, prompts) of one model. Raises BadInput."""
    policy, tokenizer = load_model(model, settings.device, settings.compute)
    template = settings.template or data.default_template(tokenizer, problems[0].kind)
    room = context_room(policy, settings.max_new_tokens)
    prompts = data.encode_prompts(problems, tokenizer, template, room)
    longest = max(map(len, prompts)) + settings.max_new_tokens
    try:
        token = check_sampler(policy, longest)
    except ValueError as error:
        raise BadInput(f"{model}: cannot be sampled from: {error}") from None
    rows = min(settings.rows, len(problems) * settings.samples)
    needed = sum(sampling_bytes(policy, policy.device, rows, longest, token, settings.temperature))
    free = free_memory(policy.device)
    if needed > free:
        raise BadInput(
            f"--rows {settings.rows}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} are free; give fewer"
        )
    return policy, tokenizer, template, prompts


def sample(model: str, problems: list[Problem], settings: argparse.Namespace):
    """Yield one record per sample, in the order in which samples end. The same seed draws the same random numbers for
    every model, and --rows changes nothing but time and memory."""
    policy, tokenizer, _, prompts = prepare(model, problems, settings)
    ended_rows = generate_rows(
        policy,
        prompts,
        settings.samples,
        settings.max_new_tokens,
        settings.temperature,
        settings.top_p,
        end_tokens(policy, tokenizer),
        stream(settings.seed, "samples"),
        slots=settings.rows,
    )
    bar = tqdm(total=len(problems) * settings.samples, desc=model, unit="sample")
    for ended in ended_rows:
        tokens = [row[:count] for row, count in zip(ended["tokens"].tolist(), ended["count"].tolist(), strict=True)]
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        places = [divmod(row, settings.samples) for row in ended["owner"].tolist()]  # (problem, sample)
        golds = [problems[i] for i, _ in places]
        right = grade(texts, [p.answer for p in golds], [p.kind for p in golds], settings.allow_code_execution)
        for row, (i, number) in enumerate(places):
            record = {"model": model, "problem": i, "sample": number}
            record |= {
                "tokens": tokens[row],
                "text": texts[row],
                "answer": extract_answer(texts[row], problems[i].kind),
            }
            record |= {"correct": right[row], "truncated": bool(ended["truncated"][row])}
            if settings.data == "toy":  # only here can a function check the reasoning
                record["valid"] = right[row] and toy.valid_chain(texts[row], problems[i])
            yield record
        bar.update(len(places))
    bar.close()


def study(models: list[str], problems: list[Problem], settings: argparse.Namespace, out: Path) -> dict:
    """Sample from every model, write the three files into `out`, and return what passk.json holds."""
    # All models are tried first, so that a misspelt last name does not cost the first one's hours.
    templates = {model: prepare(model, problems, settings)[2] for model in models}
    ks = powers_of_two(settings.samples)
    kinds = ["correct", "valid"] if settings.data == "toy" else ["correct"]
    results = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be made a folder ({error.strerror})") from None
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
                results[model]["template"] = templates[model]  # a base model's score means little without it
        names = ("data", "samples", "temperature", "top_p", "max_new_tokens", "seed", "rows", "dtype")
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
    """Every model's curve of pass@k: solid for correct answers, dashed for those with a valid chain."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for i, (name, result) in enumerate(content["models"].items()):
        look = {"color": f"C{i}", "marker": "osD^v*"[i % 6]}  # markers tell the models apart without colour
        axes.plot(content["k"], result["pass_at_k_correct"], "-", label=f"{name}: correct answer", **look)
        if "pass_at_k_valid" in result:
            label = f"{name}: correct, valid chain"
            axes.plot(content["k"], result["pass_at_k_valid"], "--", label=label, markerfacecolor="white", **look)
    axes.set_xscale("log", base=2)  # a doubling of the tries is one step to the right
    axes.set_xticks(content["k"], [str(k) for k in content["k"]])
    axes.set(xlabel="k (tries)", ylabel="pass@k", ylim=(0, 1.02))
    axes.set_title(f"{content['problems']} problems, {content['samples']} samples each")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def learning_picture(rows: list[dict], path: Path) -> None:
    """A run's metrics.jsonl as three panels of curves over its steps."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    curves = {
        "share of completions": ("accuracy", "answered", "truncated"),
        "tokens per completion": ("completion_tokens",),
        "nats per token": ("entropy", "kl"),
    }
    steps = [row["step"] for row in rows]
    for axes, (label, names) in zip(panels, curves.items(), strict=True):
        for name, line in zip(names, ("-", "--", ":"), strict=False):
            if rows[0][name] is not None:  # kl, without a reference
                axes.plot(steps, [row[name] for row in rows], line, label=name.replace("_", " "))
        axes.set(xlabel="step", ylabel=label)
        axes.set_ylim(bottom=0, top=1.02 if label.startswith("share") else None)
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
    parser.add_argument(
        "--allow-code-execution",
        action="store_true",
        help="run the programs that models write (needed for problems with tests); read sandbox.py first",
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
    if not settings.temperature >= 0 or not 0 < settings.top_p <= 1:
        raise BadInput("--temperature must be at least 0, and --top-p above 0 and at most 1")
    if settings.temperature == 0 and settings.samples > 1:
        raise BadInput(
            "--temperature 0 gives the same completion every time: use --samples 1, or a temperature above 0"
        )
    if settings.dtype == "auto" and settings.data == "toy":
        settings.dtype = "float32"  # too small to gain from less
    settings.device, settings.compute = resolve_device(settings.device, settings.dtype)
    settings.dtype = str(settings.compute).removeprefix("torch.")


def run(settings: argparse.Namespace) -> dict:
    """The whole study as the flags say; returns what passk.json holds. Raises BadInput before anything is written."""
    complete(settings)
    problems = data.load_problems(settings.data, "test", settings.limit)
    data.check_code_execution(problems, settings.allow_code_execution)
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
