"""eval.py: what did training really teach?

The study of "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?"
(2504.13837): draw n samples of each problem from a base model and from trained ones, on the same prompts, grade them,
and ask

    what is solved in k tries?           pass@k with intervals, the paired difference, where the curves cross (passk.py)
    how often is a problem solved?       the paper's histogram of accuracies
    which problems can only one solve?   the 2 x 2 table of coverage
    how far is one try from many?        the sampling-efficiency gap; and what a vote of k gets, for comparison
    could the base have said it?         perplexity (perplexity.py)
    is it that words vary less?          --match-entropy: compare again, at the base's entropy
    were the right ones lucky?           on the toy, valid chains; else --review, for a person to read

    python eval.py toy runs/toy-correct-seed0 --samples 256
    python eval.py Qwen/Qwen2.5-7B hkust-nlp/Qwen-2.5-7B-SimpleRL-Zoo --data math500 --recipe limit-of-rlvr

writes samples.jsonl.gz (every sample; samples.py), passk.json (what was counted), report.json (all that is computed
from it), pictures, and report.html, one page with everything, into --out. The same command goes on after a kill.

Differs from the paper: temperature 1 and top-p 1 by default, as in training (the paper's 0.6 and 0.95: --recipe). The
answer is what stands in the last box; the released evaluator falls back to the last number of the text, which at large
k rewards luck.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

import data
import passk
import pictures
import report
import samples
from data import BadInput, Problem
from models import resolve_device
from perplexity import TEACHER, matching_temperature, mean_entropy, perplexities, teacher_responses
from samples import Entry, prepare

# The paper's sampling (its section 3.1). With it go, but on the toy, 16,384 tokens and all problems of a set; the
# prompt is its qwen-boxed, the default for a chat tokenizer.
RECIPES = {"limit-of-rlvr": {"samples": 256, "temperature": 0.6, "top_p": 0.95}}
FIRST, RIGHT = 6, 2  # to look at: the first samples of each problem and model, and if they come later, right ones
PICTURES = {"passk.png": pictures.pass_at_k, "histogram.png": pictures.histogram}
PICTURES |= {"coverage.png": pictures.coverage, "perplexity.png": pictures.perplexity}
FILES = (samples.SAMPLES, samples.STUDY, "passk.json", "report.json", "report.html", "review.md", *PICTURES)


# --- from samples to numbers ----------------------------------------------------------------------------------------


def tally(labels: list[str], problems: list[Problem], settings, out: Path) -> dict[str, dict]:
    """Go through all samples once. For each model: counts of correct, valid and truncated samples [problems], answers
    and verdicts by problem, sums of entropy and tokens, and the records to score and to look at."""
    kinds = ["correct", "valid", "truncated"] if settings.data == "toy" else ["correct", "truncated"]
    found = {}
    for label in labels:
        counts = {kind: np.zeros(len(problems), dtype=int) for kind in kinds}
        found[label] = {"counts": counts, "answers": defaultdict(list), "right": defaultdict(list), "kept": []}
        found[label] |= {"entropy": 0.0, "tokens": 0}
    for record in samples.read_samples(out):
        if record["model"] not in found:  # of a model that the study also has, and that this command does not name
            continue
        mine, i = found[record["model"]], record["problem"]
        rights = sum(mine["right"][i])
        if record["sample"] < max(FIRST, settings.perplexity) or (record["correct"] and rights < RIGHT):
            mine["kept"].append(record)
        for kind in kinds:
            mine["counts"][kind][i] += record[kind]
        mine["answers"][i].append(record["answer"])
        mine["right"][i].append(record["correct"])
        mine["entropy"] += record["entropy"] * len(record["tokens"])
        mine["tokens"] += len(record["tokens"])
    return found


def analysed(entries: list[Entry], found: dict[str, dict], settings) -> dict:
    """What report.json holds, but for the perplexities. Models that are not the base are compared with it."""
    n, base = settings.samples, entries[0].label
    ks, P = passk.powers_of_two(n), len(next(iter(found[base]["counts"].values())))
    names = ("data", "samples", "temperature", "top_p", "max_new_tokens", "seed", "rows", "dtype")
    content = {name: getattr(settings, name) for name in names} | {"problems": P, "k": ks, "models": {}, "compared": {}}
    kinds, curves = [kind for kind in found[base]["counts"] if kind != "truncated"], {}
    for label, _, temperature in entries:
        mine = found[label]
        result = {"template": settings.template, "temperature": temperature}
        result |= {f"counts_{kind}": counts.tolist() for kind, counts in mine["counts"].items()}
        for kind in kinds:
            curves[label, kind] = passk.problem_curves(n, mine["counts"][kind], ks)  # [P, len(ks)]
            result[f"pass_at_k_{kind}"] = curves[label, kind].mean(axis=0).tolist()
            if P > 1:
                result[f"interval_{kind}"] = passk.interval(curves[label, kind]).tolist()
            result[f"histogram_{kind}"] = passk.accuracy_histogram(n, mine["counts"][kind]).tolist()
        votes = [passk.majority_at_k(mine["answers"][i], mine["right"][i], ks, seed=i) for i in range(P)]
        result["majority_at_k"] = np.mean(votes, axis=0).tolist()
        answered = sum(answer is not None for answers in mine["answers"].values() for answer in answers)
        result |= {"answered": answered / (P * n), "truncated": mine["counts"]["truncated"].sum() / (P * n)}
        result |= {"entropy": mine["entropy"] / mine["tokens"], "completion_tokens": mine["tokens"] / (P * n)}
        content["models"][label] = result
        if label == base:
            continue
        content["compared"][label] = pair = {}
        for kind in kinds:
            difference = curves[label, kind] - curves[base, kind]
            pair[f"difference_{kind}"] = difference.mean(axis=0).tolist()
            if P > 1:
                pair[f"difference_interval_{kind}"] = passk.interval(difference).tolist()
                cross = passk.crossing(curves[base, kind], curves[label, kind], ks)
                # An interval that goes beyond the largest k ends in null.
                pair[f"crossing_{kind}"] = cross and [None if np.isinf(value) else value for value in cross]
            pair[f"coverage_{kind}"] = passk.coverage(found[base]["counts"][kind], mine["counts"][kind])
            many, one = (content["models"][m][f"pass_at_k_{kind}"] for m in (base, label))
            pair[f"sampling_efficiency_gap_{kind}"] = passk.sampling_efficiency_gap(many[-1], one[0])
    return content


def measured_perplexities(entries: list[Entry], found: dict[str, dict], problems: list[Problem], settings) -> list:
    """The table of perplexity.py, over the first --perplexity samples of each problem; [] if that is 0.

    The records that are there to look at are scored too, and left out of the table.
    """
    if not settings.perplexity:
        return []
    written = {entry.label: found[entry.label]["kept"] for entry in entries}
    if teacher := teacher_responses(settings.teacher, problems, settings.perplexity):
        written[TEACHER] = teacher
    models = [(entry.label, entry.model) for entry in entries]
    return perplexities(models, written, problems, settings)


# --- the study ------------------------------------------------------------------------------------------------------


def entries_of(problems: list[Problem], settings, out: Path) -> list[Entry]:
    """The lines of the study: each model, and with --match-entropy each trained one again, at the temperature at which
    its entropy is the base's. Temperatures that were found are kept in study.json."""
    entries = [Entry(model, model, settings.temperature) for model in settings.models]
    if not settings.match_entropy:
        return entries
    study, base = samples.read_study(out), settings.models[0]
    held = study["matched"].setdefault(base, {})
    missing = [model for model in settings.models[1:] if model not in held]
    if missing:
        target = mean_entropy(prepare(base, problems, settings), settings.temperature, settings)
    for model in missing:
        held[model] = matching_temperature(prepare(model, problems, settings), target, settings)
        samples.write_study(out, study, settings)
    return entries + [Entry(f"{model} at T={held[model]:g}", model, held[model]) for model in settings.models[1:]]


def forget(out: Path) -> None:
    """Delete a study, and nothing else that is in its folder."""
    shutil.rmtree(out / samples.PARTS, ignore_errors=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)


def opened(problems: list[Problem], settings, out: Path) -> None:
    """Make --out the folder of this study, or find that it is already. Raises BadInput, before anything is changed."""
    # All are tried: a misspelt last name must not cost the first one's hours.
    tried = {}
    for model in () if settings.regrade else settings.models:
        tried[model] = samples.fingerprint(prepare(model, problems, settings).policy)
    wanted = samples.identity(problems, settings)
    study = samples.read_study(out)
    if settings.overwrite or (settings.replace and study.get("settings") != wanted):
        forget(out)
        study = {}
    samples.check_study(out, wanted, tried)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be made a folder ({error.strerror})") from None
    study = {"settings": wanted, "matched": {}} | study
    samples.write_study(out, study | {"models": study.get("models", {}) | tried}, settings)


def run(settings: argparse.Namespace) -> dict | None:
    """The whole study as the flags say; returns what report.json holds, or None if there is nothing to report yet (with
    --shard). Raises BadInput before anything is written."""
    complete(settings)
    problems = data.load_problems(settings.data, "test", settings.limit)
    data.check_code_execution(problems, settings.allow_code_execution)
    if settings.teacher:
        teacher_responses(settings.teacher, problems, 1)
    out = Path(settings.out)
    if settings.regrade:
        if not (out / samples.SAMPLES).exists():
            raise BadInput(f"--regrade: {out} has no {samples.SAMPLES}; leave the flag out to sample")
        settings.template = settings.template or samples.read_study(out)["settings"]["template"]
    opened(problems, settings, out)
    entries = entries_of(problems, settings, out)
    if settings.regrade:
        if missing := {entry.label for entry in entries} - samples.sampled_already(out):
            raise BadInput(f"--regrade: {out} has no samples of {', '.join(sorted(missing))}; leave the flag out")
        changed, total = samples.regrade(problems, settings, out)
        print(f"Graded again: {changed} of {total} verdicts changed.")
    if not samples.draw(entries, problems, settings, out):
        return None
    found = tally([entry.label for entry in entries], problems, settings, out)
    content = analysed(entries, found, settings)
    content["perplexity"] = measured_perplexities(entries, found, problems, settings)
    # Six digits are what the samples can bear, and half of the file.
    content = json.loads(json.dumps(content), parse_float=lambda digits: round(float(digits), 6))
    write(content, found, problems, settings, out)
    return content


def write(content: dict, found: dict[str, dict], problems: list[Problem], settings, out: Path) -> None:
    """The files of a finished study: beside their place first, so that nothing half-written looks finished."""
    with tempfile.TemporaryDirectory(dir=out) as folder:
        new = Path(folder)
        needs = {"coverage.png": "compared", "perplexity.png": "perplexity"}
        for name, draw in PICTURES.items():
            if content[needs.get(name, "models")]:
                draw(content, new / name)
            else:
                (out / name).unlink(missing_ok=True)  # of a study with more models
        if settings.review:
            counts = {label: mine["counts"]["correct"] for label, mine in found.items()}
            text = report.review(settings.review, counts, settings.samples, problems, samples.read_samples(out))
            (new / "review.md").write_text(text, encoding="utf-8")
        kept = [record for mine in found.values() for record in mine["kept"]]
        (new / "report.html").write_text(report.page(content, problems, kept, new), encoding="utf-8")
        (new / "report.json").write_text(json.dumps(content, indent=1))
        counted = {name: value for name, value in content.items() if name not in ("compared", "perplexity")}
        shown = ("pass_at_k", "counts", "template", "temperature")
        counted["models"] = {
            label: {name: value for name, value in result.items() if name.startswith(shown)}
            for label, result in content["models"].items()
        }
        (new / "passk.json").write_text(json.dumps(counted, indent=1))
        for path in sorted(new.iterdir()):
            os.replace(path, out / path.name)


# --- the command line -----------------------------------------------------------------------------------------------


def shard(text: str) -> tuple[int, int]:
    """ "2/4" as (2, 4)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: give I/N with 1 <= I <= N, such as 2/4")
    return int(match[1]), int(match[2])


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what argparse does not check, `complete` does."""
    parser = argparse.ArgumentParser(
        prog="eval.py",
        description="Compare models by what they solve.",
        usage="python eval.py MODEL [MODEL ...] [flags]",
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="toy, a folder with a saved model (a run folder), or a hub id; base first",
    )
    parser.add_argument("--recipe", choices=RECIPES, help="the paper's sampling; any flag given beside it wins")
    parser.add_argument(
        "--data",
        default="toy",
        help="toy, gsm8k, math, math500 (their test split) or a .jsonl / .jsonl.gz file; default toy",
    )
    parser.add_argument(
        "--template",
        help="prompt template, the same for all models; default qwen-boxed if the base has a chat tokenizer, else "
        "plain. It moves base scores a lot",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=64,
        help="n, samples per problem; pass@k is known up to k = n (paper: 128 to 1,024); default 64",
    )
    parser.add_argument("--limit", type=int, help="the first so many problems; default 180, with --recipe all")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="paper 0.6; default 1.0, as in training; 0 is greedy"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="paper 0.95; default 1.0")
    parser.add_argument(
        "--max-new-tokens", type=int, help="tokens; default 80 on the toy, else 1,024, with --recipe the paper's 16,384"
    )
    parser.add_argument(
        "--rows", type=int, default=384, help="completions sampled at once; less needs less memory; default 384"
    )
    parser.add_argument(
        "--match-entropy",
        action="store_true",
        help="compare also at the temperature at which a trained model's mean token entropy is the base's",
    )
    parser.add_argument(
        "--perplexity",
        type=int,
        default=16,
        help="responses per problem and model whose perplexity is measured (paper 16 or 32), 0 for none; default 16",
    )
    parser.add_argument(
        "--teacher", help="a .jsonl with columns problem and response, whose perplexity under the base is measured too"
    )
    parser.add_argument(
        "--review",
        type=int,
        default=0,
        metavar="N",
        help="write each model's N hardest solved problems, with all correct completions, to review.md; default 0",
    )
    parser.add_argument(
        "--shard", type=shard, default=(1, 1), metavar="I/N", help="sample only part I of N, on one of several machines"
    )
    parser.add_argument("--regrade", action="store_true", help="grade the samples in --out again, without sampling")
    parser.add_argument("--overwrite", action="store_true", help="delete the study in --out and start again")
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
    parser.set_defaults(replace=False)  # train.py says True: in a run folder another study is an old one
    if recipe := parser.parse_args(argv).recipe:
        parser.set_defaults(**RECIPES[recipe])
    return parser.parse_args(argv)


def complete(settings: argparse.Namespace) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    if len(set(settings.models)) < len(settings.models):
        raise BadInput("MODEL: the same model is named twice; name each once")
    if settings.limit is None and (settings.recipe is None or settings.data == "toy"):
        settings.limit = 180
    if settings.max_new_tokens is None:
        settings.max_new_tokens = 80 if settings.data == "toy" else 16_384 if settings.recipe else 1024
    for name in ("samples", "limit", "rows", "max_new_tokens"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name.replace('_', '-')} {value}: must be at least 1")
    for name in ("perplexity", "review", "seed"):
        if getattr(settings, name) < 0:
            raise BadInput(f"--{name} {getattr(settings, name)}: must not be negative")
    if not settings.temperature >= 0 or not 0 < settings.top_p <= 1:
        raise BadInput("--temperature must be at least 0, and --top-p above 0 and at most 1")
    if settings.temperature == 0 and settings.samples > 1:
        raise BadInput(
            "--temperature 0 gives the same completion every time: use --samples 1, or a temperature above 0"
        )
    if settings.match_entropy and (len(settings.models) < 2 or settings.temperature == 0):
        raise BadInput("--match-entropy: needs a base, a trained model and a --temperature above 0")
    if settings.regrade and (settings.overwrite or settings.shard[1] > 1):
        raise BadInput("--regrade: keeps the samples as they are; leave out --overwrite and --shard")
    if settings.dtype == "auto" and settings.data == "toy":
        settings.dtype = "float32"  # too small to gain from less
    settings.device, settings.compute = resolve_device(settings.device, settings.dtype)
    settings.dtype = str(settings.compute).removeprefix("torch.")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    settings = parse(argv)
    try:
        content = run(settings)
    except BadInput as error:
        print(f"eval.py: {error}", file=sys.stderr)
        return 2
    if content is None:
        print(
            f"Shard {'/'.join(map(str, settings.shard))} is sampled, in {settings.out}. Copy parts/ and study.json of"
        )
        print("all shards into one folder, and run the same command on it without --shard.")
        return 0
    print(report.as_text(report.tables(content)))
    print(f"In {settings.out}: report.html (open it), report.json, passk.json, pictures, samples.jsonl.gz.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
