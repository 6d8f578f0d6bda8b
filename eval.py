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
from pathlib import Path

import data
from data import BadInput, Problem
from running.models import resolve_device
from running.old_settings import shown
from study import pictures, report, samples
from study.analysis import analysed, tally
from study.perplexity import TEACHER, matching_temperature, mean_entropy, perplexities, teacher_responses
from study.samples import Entry, prepare

# The paper's sampling (its section 3; n is 128 to 1,024 there). With it go, but on the toy, 16,384 tokens and all
# problems of a set; the prompt is its qwen-boxed, the default for a chat tokenizer.
RECIPES = {"limit-of-rlvr": {"samples": 256, "temperature": 0.6, "top_p": 0.95}}
PICTURES = {"passk.png": pictures.pass_at_k, "histogram.png": pictures.histogram}
PICTURES |= {"coverage.png": pictures.coverage, "perplexity.png": pictures.perplexity}
# report.json comes last: where it is, the study is finished.
FILES = (samples.SAMPLES, samples.STUDY, *PICTURES, "review.md", "passk.json", "report.html", "report.json")
UNFINISHED = "unfinished"


# --- the study ------------------------------------------------------------------------------------------------------


def measured_perplexities(
    entries: list[Entry], found: dict[str, dict], problems: list[Problem], settings, out: Path
) -> list:
    """The table of perplexity.py, over the first --perplexity samples of each problem; [] if that is 0.

    Without models, for --regrade, the table of the report that is there.
    """
    if settings.regrade:
        labels = {entry.label for entry in entries} | {TEACHER}
        old = json.loads((out / "report.json").read_text())["perplexity"] if (out / "report.json").is_file() else []
        return [row for row in old if row["writer"] in labels and row["reader"] in settings.models]
    if not settings.perplexity:
        return []
    written = {entry.label: found[entry.label]["kept"] for entry in entries}
    if teacher := teacher_responses(problems, settings):
        written[TEACHER] = teacher
    for record in (record for records in written.values() for record in records):
        record["look"] = False
    for record in report.to_look_at([record for entry in entries for record in written[entry.label]]):
        record["look"] = True
    return perplexities(entries, written, problems, settings)


def entries_of(problems: list[Problem], settings, out: Path) -> list[Entry]:
    """The lines of the study: each model, and with --match-entropy each trained one again, at the temperature at which
    its entropy is the base's. Temperatures that were found are kept in study.json."""
    entries = [Entry(model, model, settings.temperature) for model in settings.models]
    if not settings.match_entropy:
        return entries
    study, base = samples.read_study(out), settings.models[0]
    held = study["matched"].setdefault(base, {})
    missing = [model for model in settings.models[1:] if model not in held]
    if missing and settings.regrade:
        raise BadInput(f"--match-entropy: {out} has no samples at another temperature; leave out --regrade")
    if missing:
        target = mean_entropy(prepare(base, problems, settings), settings.temperature, settings)
    for model in missing:
        held[model] = matching_temperature(prepare(model, problems, settings), target, settings)
        samples.write_study(out, study, settings)
    # One whose entropy is the base's already is compared with it as it is.
    again = [model for model in settings.models[1:] if held[model] != settings.temperature]
    return entries + [Entry(f"{model} at T={held[model]:g}", model, held[model]) for model in again]


def forget(out: Path) -> None:
    """Delete a study, and nothing else that is in its folder."""
    for folder in (samples.PARTS, UNFINISHED):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name in FILES:
        for path in out.glob(f"{name}*"):  # with what a kill left of it
            path.unlink()


def try_models(problems: list[Problem], settings) -> dict[str, str]:
    """Load every model once, so that a misspelt last name does not cost the first one's hours: fingerprints by name."""
    found, texts = {}, {}
    for model in settings.models:
        ready = prepare(model, problems, settings)
        found[model], texts[model] = samples.fingerprint(ready.policy), ready.tokenizer.decode(ready.prompts[0])
        del ready  # frees the model before the next is loaded
        if texts[model] != texts[settings.models[0]]:  # a chat template belongs to a tokenizer
            print(f"note: the prompts of {model} differ from those of {settings.models[0]}", file=sys.stderr)
    return found


def opened(problems: list[Problem], settings, out: Path) -> None:
    """Make --out the folder of this study, or find that it is already. Raises BadInput, before anything is changed."""
    study = samples.read_study(out)
    if settings.regrade:
        if not study or not (out / samples.SAMPLES).exists():
            raise BadInput(f"--regrade: {out} has no {samples.SAMPLES} with its {samples.STUDY}; leave the flag out")
        for name in ("template", "dtype"):  # which come from the base model and the device, and neither is needed
            setattr(settings, name, study["settings"][name])
    fingerprints = {} if settings.regrade else try_models(problems, settings)
    wanted = samples.identity(problems, settings)
    try:
        if not settings.overwrite:
            samples.check_study(out, wanted, fingerprints)
    except BadInput:
        if not settings.replace:
            raise
        settings.overwrite = True
    if settings.overwrite:
        forget(out)
        study = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be made a folder ({error.strerror})") from None
    study = {"settings": wanted, "matched": {}} | study
    samples.write_study(out, study | {"models": study.get("models", {}) | fingerprints}, settings)


def run(settings: argparse.Namespace) -> dict | None:
    """The whole study as the flags say; returns what report.json holds, or None if there is nothing to report yet (with
    --shard). Raises BadInput, for what can be known at the start before anything is written."""
    complete(settings)
    problems = data.load_problems(settings.data, "test", settings.limit)
    data.check_code_execution(problems, settings.allow_code_execution)
    if settings.teacher:
        teacher_responses(problems, settings)
    out = Path(settings.out)
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
    content = analysed(entries, found, problems, settings)
    content["perplexity"] = measured_perplexities(entries, found, problems, settings, out)
    # Six digits are what the samples can bear, and half of the file.
    content = json.loads(json.dumps(content), parse_float=lambda digits: round(float(digits), 6))
    write(content, found, problems, settings, out)
    return content


def write(content: dict, found: dict[str, dict], problems: list[Problem], settings, out: Path) -> None:
    """The files of a finished study: beside their place first, so that nothing half-written looks finished."""
    new = out / UNFINISHED
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    needs = {"coverage.png": "compared", "perplexity.png": "perplexity"}
    for name, draw in PICTURES.items():
        if content[needs.get(name, "models")]:
            draw(content, new / name)
    if settings.review:
        counts = {label: mine["counts"]["correct"] for label, mine in found.items()}
        text = report.review(settings.review, counts, settings.samples, problems, samples.read_samples(out))
        (new / "review.md").write_text(text, encoding="utf-8")
    kept = [record for mine in found.values() for record in mine["kept"] if record.get("look", True)]
    (new / "report.html").write_text(report.page(content, problems, kept, new), encoding="utf-8")
    (new / "report.json").write_text(json.dumps(content, indent=1))
    counted = {name: value for name, value in content.items() if name not in ("compared", "perplexity")}
    shown = ("pass_at_k", "counts", "template", "temperature")
    counted["models"] = {
        label: {name: value for name, value in result.items() if name.startswith(shown)}
        for label, result in content["models"].items()
    }
    (new / "passk.json").write_text(json.dumps(counted, indent=1))
    for name in FILES:
        if (new / name).exists():
            os.replace(new / name, out / name)
        elif name in PICTURES:  # of a study with more models
            (out / name).unlink(missing_ok=True)
    new.rmdir()


# --- the command line -----------------------------------------------------------------------------------------------


def shard(text: str) -> tuple[int, int]:
    """An argument such as 2/4 as (2, 4)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: give I/N with 1 <= I <= N, such as 2/4")
    return int(match[1]), int(match[2])


FLAGS = {  # name -> (type, default, help)
    "data": (str, "toy", "toy, gsm8k, math, math500 (their test split) or a .jsonl / .jsonl.gz file; default toy"),
    "template": (
        str,
        None,
        "of the prompts of all models; default qwen-boxed if the base has a chat template, else plain",
    ),
    "samples": (int, 64, "n, samples per problem: pass@k is known up to k = n (paper: 128 to 1,024); default 64"),
    "limit": (int, None, "the first so many problems; default 180, with --recipe all"),
    "temperature": (float, 1.0, "paper 0.6; default 1.0, as in training; 0 is greedy"),
    "top_p": (float, 1.0, "paper 0.95; default 1.0"),
    "max_new_tokens": (int, None, "tokens; default 80 on the toy, else 1,024, with --recipe the paper's 16,384"),
    "rows": (int, 384, "completions sampled at once; less needs less memory; default 384"),
    "perplexity": (
        int,
        16,
        "responses per problem and model to measure it on (paper 16 or 32), 0 for none; default 16",
    ),
    "teacher": (str, None, "a .jsonl with columns problem and response, to measure their perplexity under the base"),
    "review": (
        int,
        0,
        "write each model's so many hardest solved problems, with their right completions, to review.md",
    ),
    "seed": (int, 0, "of every random draw"),
    "device": (str, "auto", "auto, cpu, cuda, cuda:1 ..."),
    "dtype": (str, "auto", "what is computed in: float32 or bfloat16; default bfloat16 on a GPU, float32 on a CPU"),
    "out": (str, "runs/eval", "folder for the results; default runs/eval"),
}
SWITCHES = {
    "match_entropy": "compare also at the temperature at which a trained model's mean token entropy is the base's",
    "regrade": "grade the samples in --out again, without sampling",
    "overwrite": "delete the study in --out, finished or not, and start again",
    "allow_code_execution": "run the programs that models write (for problems with tests); read sandbox.py first",
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what argparse does not check, `complete` does."""
    usage = "python eval.py MODEL [MODEL ...] [flags]"
    parser = argparse.ArgumentParser(prog="eval.py", description="Compare models by what they solve.", usage=usage)
    kinds = "toy, a folder with a saved model (a run folder), or a hub id; base first"
    parser.add_argument("models", nargs="+", metavar="MODEL", help=kinds)
    parser.add_argument("--recipe", choices=RECIPES, help="the paper's sampling; any flag given beside it wins")
    for name, (kind, default, text) in FLAGS.items():
        parser.add_argument(shown(name), type=kind, default=default, metavar=kind.__name__.upper(), help=text)
    for name, text in SWITCHES.items():
        parser.add_argument(shown(name), action="store_true", help=text)
    text = "sample only part I of N, on one of several machines"
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help=text)
    parser.set_defaults(replace=False)  # train.py says True: in a run folder another study is an old one
    if recipe := parser.parse_args(argv).recipe:
        parser.set_defaults(**RECIPES[recipe])
    return parser.parse_args(argv)


def complete(settings: argparse.Namespace) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    settings.models = [
        str(Path(model)) if Path(model).is_dir() else model for model in settings.models
    ]  # no "/" at the end
    if TEACHER in settings.models:
        raise BadInput(
            f"MODEL {TEACHER}: is what the report calls the responses of --teacher; give ./{TEACHER}/. a name"
        )
    if len(set(settings.models)) < len(settings.models):
        raise BadInput("MODEL: the same model is named twice; name each once")
    if settings.limit is None and (settings.recipe is None or settings.data == "toy"):
        settings.limit = 180
    if settings.max_new_tokens is None:
        settings.max_new_tokens = 80 if settings.data == "toy" else 16_384 if settings.recipe else 1024
    for name in ("samples", "limit", "rows", "max_new_tokens"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise BadInput(f"{shown(name)} {value}: must be at least 1")
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
    sharded = settings.shard[1] > 1
    if settings.regrade and (settings.overwrite or sharded):
        raise BadInput("--regrade: keeps the samples as they are; leave out --overwrite and --shard")
    if sharded and (settings.overwrite or settings.match_entropy):
        flag = "--overwrite" if settings.overwrite else "--match-entropy"
        raise BadInput(f"{flag}: not with --shard; give it to one command on one machine, before or after")
    if settings.teacher and not settings.perplexity:
        raise BadInput("--teacher: its responses are read for their perplexity; leave out --perplexity 0")
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
