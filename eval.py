"""eval.py: what did training really teach?

The study of "Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?"
(2504.13837): draw n samples of each problem from a base model and from trained ones, on the same prompts, grade them,
and ask

    what is solved in k tries?           pass@k with intervals, the paired difference, where the curves cross (passk.py)
    by luck, or on hard problems only?   on the toys, pass@k of blind tries, and all of it by difficulty
    how often is a problem solved?       the paper's histogram of accuracies
    which problems can only one solve?   the 2 x 2 table of coverage
    how far is one try from many?        the sampling-efficiency gap; for comparison, what a vote of k samples gets
    could the base have said it?         perplexity, and the probability of a whole response (study/perplexity.py)
    are the words just less varied?      --match-entropy: compare again, at the base's entropy (study/entropy.py)
    were the right answers lucky?        on the toy, valid chains; elsewhere --review, for a person to read

    python eval.py toy runs/toy-correct-seed0 --samples 256
    python eval.py Qwen/Qwen2.5-7B hkust-nlp/Qwen-2.5-7B-SimpleRL-Zoo --data math500 --recipe limit-of-rlvr
    python eval.py acme/base acme/trained --data math500 --samples-file base.jsonl trained.jsonl    drawn elsewhere

It writes into --out: report.html (open it), report.json (every number), passk.json (counts and curves),
samples.jsonl.gz (every sample), study.json (what they were drawn with) and pictures. After a kill or on a full disk,
the same command resumes; what is damaged is refused, and --overwrite deletes what a study wrote, and nothing else.

Differs from the paper: temperature 1 and top-p 1 by default, as in training (the paper's 0.6 and 0.95: --recipe). The
answer is what stands in the last box; the released evaluator falls back to the last number of the text, which at large
k rewards luck.
"""

import argparse
import dataclasses
import os
import re
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import data
import toy
from running import flags, processes
from running.files import BadInput
from running.flags import flag
from running.folder import alone, read_config
from running.models import own_data, resolve_device
from running.stopping import program
from study import analysis, elsewhere, entropy, folder, page, perplexity, report, samples, training
from study.pictures import PICTURES
from study.records import Shape, is_text

# The paper's sampling (its section 3; n is 128 to 1,024 there). All problems and 16,384 tokens go with it, except on
# the toy (`fill_in`). The paper's prompt is our qwen-boxed, the default for a tokenizer with a chat template.
RECIPES = {"limit-of-rlvr": {"samples": 256, "temperature": 0.6, "top_p": 0.95}}

MOST = 1_000_000  # samples of a problem, and problems: a larger number is a slip, and would fill the memory


# --- settings -------------------------------------------------------------------------------------------------------


def shard(text: str) -> tuple[int, int]:
    """The type of --shard: 2/4, the second of four parts, becomes (2, 4)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: give I/N with 1 <= I <= N, such as 2/4")
    return int(match[1]), int(match[2])


SWITCH = {"action": "store_true"}  # a flag without a value


@dataclasses.dataclass
class Settings:
    """The flags; what they mean together is checked in `check`.

    None: `fill_in` decides, or for the template the base model. The flags that define the samples are kept in
    study.json, and a command that changes one of them is refused (study/folder.py).
    """

    # what is compared, and on which problems
    models: list[str] = flag(
        None, "toy, a run folder or a hub id; the base first", positional=True, nargs="+", metavar="MODEL"
    )
    data: str | None = flag(
        None, "toy, gsm8k, math500 ..., OWNER/NAME[:CONFIG][@SPLIT] of the hub or a file; default the base model's own"
    )
    limit: int | None = flag(
        None,
        "problems, the first ones; default 180, with --recipe, --samples-file or if greedy all",
        least=1,
        most=MOST,
    )
    template: str | None = flag(None, "for all models; default qwen-boxed if the base has a chat template, else plain")
    # how samples are drawn
    recipe: str | None = flag(None, "limit-of-rlvr: the paper's sampling; flags you add override it")
    samples: int = flag(64, "n, per problem: gives pass@k for k up to n (paper: 128 to 1,024)", least=1, most=MOST)
    temperature: float = flag(1.0, "paper: 0.6; training has 1; 0 is greedy", least=0, most=100)
    top_p: float = flag(1.0, "keep the likeliest tokens, up to this probability (paper: 0.95)", above=0, most=1)
    max_new_tokens: int | None = flag(None, "default toy 80, arithmetic 48, else 1,024; --recipe 16,384", least=1)
    seed: int = flag(0, "of all random numbers", least=0)
    samples_file: list[str] | None = flag(
        None, "samples that were drawn elsewhere, .jsonl[.gz]: study/elsewhere.py", nargs="+", metavar="FILE"
    )
    match_entropy: bool = flag(False, "compare also at the temperature that gives the base's entropy", **SWITCH)
    # what is measured and kept besides
    perplexity: int = flag(16, "responses per problem to measure it on (paper: 16 or 32); 0: none", least=0, most=1024)
    teacher: str | None = flag(None, "a .jsonl with columns problem and response: their perplexity under the base")
    review: int = flag(0, "how many of each model's hardest solved problems to write to review.md", least=0)
    out: str = flag("runs/eval", "folder for the results")
    regrade: bool = flag(False, "grade the samples in --out again, without sampling", **SWITCH)
    overwrite: bool = flag(False, "delete the study in --out and start again", **SWITCH)
    # the machine
    rows: int = flag(384, "completions sampled at once; fewer need less memory", least=1)
    device: str = flag("auto", "auto, cpu, mps (Apple), cuda, cuda:1 ...")
    dtype: str = flag("auto", "float32, bfloat16 or auto: bfloat16 on CUDA except for the toy, else float32")
    shard: tuple[int, int] = flag((1, 1), "sample part I of N, on one of N machines", type=shard, metavar="I/N")
    allow_code_execution: bool = flag(False, "run programs that models write; first read verify/sandbox.py", **SWITCH)


def parse(argv: list[str] | None) -> Settings:
    """The command line. Raises BadInput for names that cannot be; for other slips argparse ends the program."""
    groups = {"perplexity": "what is measured and kept besides", "rows": "the machine"}
    settings = flags.parse(Settings, argv, "eval.py", "Compare models by what they solve.", RECIPES, groups=groups)[0]
    check_names(settings)
    return settings


def check_names(settings: Settings) -> None:
    """Raise BadInput for a text that can be no name of anything, and for an --out that can be no folder."""
    for f in dataclasses.fields(settings):
        positional, value = f.metadata.get("positional"), getattr(settings, f.name)
        name = f.metadata["metavar"] if positional else flags.shown(f.name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not (text.strip() and is_text(text)):
                raise BadInput(f"{name} {text!r}: is no name; give another, or leave it out")
            if isinstance(text, str) and len(os.fsencode(max(text.split("/"), key=len))) > 255:
                raise BadInput(f"{name} {text[:40]}...: is too long for a name; give another")
    if os.path.lexists(settings.out) and not os.path.isdir(settings.out):
        raise BadInput(f"--out {settings.out}: is a file; give a folder")


def fill_in(settings: Settings) -> Settings:
    """The settings with the defaults that depend on other flags; the settings given are left as they are.

    The template's default is not among them: it depends on the base model's tokenizer (`open_study`).
    """
    base, recipe, limit = settings.models[0], settings.recipe is not None, settings.limit
    # An embedded model's own problems; for a run of train.py, those that it was compared on.
    name = settings.data or own_data(base) or read_config(Path(base)).get("minreason", {}).get("eval_data") or "toy"
    longest = 80 if name in toy.WORLDS else 48 if name == "arithmetic" else 16_384 if recipe else 1024
    small = name in toy.WORLDS  # too small to gain from bfloat16
    # A greedy accuracy is compared with published ones; a file brings as many problems as were asked.
    whole = not small and (recipe or settings.temperature == 0 or settings.samples_file)
    return dataclasses.replace(
        settings,
        data=name,
        models=[str(Path(model)) if Path(model).is_dir() else model for model in settings.models],  # no "/" at the end
        template=settings.template or data.TEMPLATE_OF.get(name),
        limit=180 if limit is None and not whole else limit,
        max_new_tokens=longest if settings.max_new_tokens is None else settings.max_new_tokens,
        dtype="float32" if small and settings.dtype == "auto" else settings.dtype,
    )


def check(settings: Settings) -> None:
    """Raise BadInput for settings that cannot work: single values first, then what does not go together."""
    flags.check(settings)  # ranges, from the fields above
    sharded = settings.shard[1] > 1
    if 0 < settings.temperature < 1e-5:
        raise BadInput(f"--temperature {settings.temperature}: too small to divide by; 0 is greedy, else 1e-5 or more")
    if settings.top_p < 1e-6:
        raise BadInput(f"--top-p {settings.top_p}: too small; give 1e-6 or more, or --temperature 0 for the likeliest")
    if perplexity.TEACHER in settings.models:
        raise BadInput("MODEL teacher: in the report this name means the responses of --teacher; rename the folder")
    if len(set(settings.models)) < len(settings.models):
        raise BadInput("MODEL: the same model is named twice; name each once")
    if settings.temperature == 0 and settings.samples > 1 and not settings.samples_file:
        raise BadInput("--temperature 0: n times the same completion; use --samples 1, or a temperature above 0")
    if settings.match_entropy and (len(settings.models) < 2 or settings.temperature == 0):
        raise BadInput("--match-entropy: needs a base, a trained model and a --temperature above 0")
    for name in ("match_entropy", "regrade", "seed") if settings.samples_file else ():
        if getattr(settings, name):
            raise BadInput(f"{flags.shown(name)}: not with --samples-file, by which nothing is drawn; leave it out")
    if settings.samples_file and sharded:
        raise BadInput("--shard: not with --samples-file, by which nothing is drawn; leave it out")
    if settings.regrade and (settings.overwrite or sharded):
        raise BadInput("--regrade: keeps the samples as they are; leave out --overwrite and --shard")
    # Machines may share a folder: none may delete what others wrote, and each would search for the temperature.
    if sharded and (settings.overwrite or settings.match_entropy):
        name = "--overwrite" if settings.overwrite else "--match-entropy"
        raise BadInput(f"{name}: not with --shard; give it to one command on one machine, before or after")
    # A silently ignored flag is worse than an error.
    if settings.teacher and not settings.perplexity:
        raise BadInput("--teacher: its responses are read for their perplexity; leave out --perplexity 0")


# --- the study ------------------------------------------------------------------------------------------------------


def run(settings: Settings, replace: bool = False) -> dict | None:
    """The whole study. Returns what report.json holds; None with --shard, when there is nothing to report yet.

    replace: delete another study in --out instead of refusing it (train.py: there it belongs to an older run).
    Raises BadInput: whatever can be known at the start is checked before anything is written.
    """
    settings = fill_in(settings)
    check(settings)
    # Only a toy world's reasoning can be checked by a function, and only such a world has a teacher of its own.
    world, out, number = toy.WORLDS.get(settings.data), Path(settings.out), settings.perplexity
    valid, solve = (world.valid, world.solve) if world else (None, None)
    device, dtype = resolve_device(settings.device, settings.dtype)
    problems = data.load_problems(settings.data, "test", settings.limit)
    data.check_code_execution(problems, settings.allow_code_execution)
    teacher = perplexity.teacher_responses(problems, settings.teacher, number, solve)
    settings, given = with_given(settings, problems)  # samples that another engine drew say how many they are
    n = settings.samples
    runs = training.runs_of(settings.models)

    # What the files below call, with the settings bound once: what samples look like; load a model by its name; grade.
    shape = Shape(len(problems), n, settings.max_new_tokens, settings.seed, valid is not None)
    sampling = samples.Sampling(
        n, settings.temperature, settings.top_p, settings.max_new_tokens, settings.rows, settings.seed
    )
    load = partial(samples.ready_model, problems=problems, sampling=sampling, device=device, dtype=dtype)
    grade = partial(samples.add_verdicts, problems=problems, run_code=settings.allow_code_execution, valid=valid)

    described = open_study(settings, problems, shape, teacher, load, str(dtype).removeprefix("torch."), replace, given)
    old = folder.old_report(out, number) if settings.regrade else None  # before anything is written
    load = partial(load, template=described["template"])  # every model gets the prompts that the base gets
    load = partial(elsewhere.load_if_here, load) if given else load

    # The lines of the study: each model (the base first, with which the others are compared), and with --match-entropy
    # each trained one again, at the temperature at which its words vary as much as the base's.
    entries = [samples.Entry(model, model, settings.temperature) for model in settings.models]
    if settings.match_entropy:  # the base's samples come first: they say what entropy is to be met
        if not settings.regrade:
            samples.draw_missing(entries, shape, out, sampling, load, grade)
        entries += entropy.matched_entries(entries, out, sampling, None if settings.regrade else load)

    # Sample what is missing, or take it from --samples-file. A part that is there is never sampled again: that is all
    # there is to resuming.
    if settings.regrade:
        changed, total = samples.regrade(entries, shape, out, grade)
        print(f"Graded again: {changed} of {total} verdicts changed.")
    with processes.apart():  # with torchrun: a model is loaded by those who still have parts of it to sample
        if given:
            elsewhere.keep(given, entries, shape, out, grade)
        elif not samples.draw_missing(entries, shape, out, sampling, load, grade, settings.shard):
            return None

    # Count, put the counts through passk.py, and ask the models how likely they find the responses.
    tallies = analysis.count(entries, problems, n, out, number, valid is not None)
    content = described | analysis.analyse(entries, tallies, problems, n, described["template"]) | {"runs": runs}
    shown = [record for tally in tallies.values() for record in tally.kept]  # on the page
    if settings.regrade:  # new verdicts do not change a perplexity
        content["perplexity"] = folder.old_perplexities(old, content["models"], settings.models)
    else:
        if number:  # each token of a shown record gets its values, so choose what the page has room for
            shown = page.choose(shown)
        written = {label: tally.kept for label, tally in tallies.items()}
        content["perplexity"] = perplexity.perplexities(entries, written, teacher, load, number, shown)
        content["perplexity"] += elsewhere.own_perplexities(written, number) if given else []
    if world:  # it knows what blind tries solve, and how hard a problem is
        prompts = [problem.prompt for problem in problems]
        content |= analysis.in_a_world(content, prompts, world.blind, world.chance, world.group)
    content = analysis.rounded(content)
    folder.write_report(out, content, problems, shown, settings.review, PICTURES)
    return content


def with_given(settings: Settings, problems: list) -> tuple[Settings, elsewhere.Given | None]:
    """The settings with the number of samples that --samples-file holds, and these samples. Raises BadInput."""
    if not settings.samples_file:
        return settings, None
    given = elsewhere.read(settings.samples_file, settings.models, problems, settings.max_new_tokens)
    if not settings.recipe and settings.samples not in (Settings.samples, given.number):  # a recipe brings its own
        raise BadInput(f"--samples {settings.samples}: {given.said} holds {given.number} of each problem; leave it out")
    if settings.teacher and not elsewhere.is_here(settings.models[0]):
        raise BadInput("--teacher: its responses are read by the base, which is not here; leave it out")
    return dataclasses.replace(settings, samples=given.number, seed=None), given  # no seed draws them again


def open_study(
    settings: Settings, problems: list, shape: Shape, teacher: list[dict], load, dtype: str, replace: bool, given=None
) -> dict:
    """Make --out the folder of this study, or find that it is already: then it may only gain models.

    given: the samples of --samples-file. Returns what describes the samples, the head of report.json; the template is
    decided here. Raises BadInput, before anything is changed.
    """
    out, models = Path(settings.out), ({}, {})
    if settings.regrade:  # needs no model: template and dtype are those that the samples were drawn with
        old = folder.finished_study(out)["settings"]
        template, dtype = old["template"], old["dtype"]
    else:  # loads every model once: a misspelt last name must not cost the first model's hours
        responses = [(row["problem"], row["text"]) for row in teacher if settings.teacher]

        def check_base(base: samples.Ready) -> None:
            perplexity.check_fits(responses, settings.teacher, base.policy, base.tokenizer, base.prompts)

        opened = partial(elsewhere.open_models, given) if given else samples.try_models
        template, *models = opened(settings.models, load, settings.template, check_base)
    described = {name: getattr(settings, name) for name in analysis.DESCRIBED}
    described = {**described, "template": template, "dtype": dtype}
    identity = folder.identity(described, problems)
    folder.open_folder(out, identity, shape, models, settings.overwrite, replace)
    return described


def sample_together(settings: Settings) -> bool:
    """With torchrun: sample what is missing, each process a shard of it. Returns whether this one goes on, alone."""
    for name in ("regrade", "overwrite", "match_entropy", "samples_file"):
        if getattr(settings, name):
            raise BadInput(f"{flags.shown(name)}: not with torchrun; give it to python eval.py, before or after")
    part, parts = settings.shard
    run(dataclasses.replace(settings, shard=(part + parts * processes.rank(), parts * processes.size())))
    processes.everyones(None)
    return processes.leave() == 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    processes.join()  # of torchrun, if it runs this
    try:
        settings = parse(argv)
        # Shards may share a folder: each writes parts of its own.
        with nullcontext() if settings.shard[1] > 1 else alone(Path(settings.out), "--out"):
            if processes.size() > 1 and not sample_together(settings):
                return 0
            content = run(settings)
    except (BadInput, OSError) as error:
        said = str(error)
        if isinstance(error, OSError):  # such as a disk that is full where a model is made
            said = f"{error.filename or 'a file'}: {error.strerror or error}; mend that, then the same command goes on"
        processes.say(f"eval.py: {' '.join(said.splitlines())}")  # a file's name can hold a line break
        return 2
    if content is None:
        part = "/".join(map(str, settings.shard))
        print(f"Shard {part} is sampled, in {settings.out}. Copy parts/ and study.json of")
        print("all shards into one folder, and run the same command on it without --shard.")
        return 0
    print(report.as_text(report.tables(content)))
    print(f"In {settings.out}: report.html (open it), report.json, passk.json, pictures, samples.jsonl.gz.")
    return 0


if __name__ == "__main__":
    sys.exit(program(main, "the same command goes on"))
