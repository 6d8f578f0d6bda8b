"""distill.py: what does a model learn from right responses, a better model's or its own?

    python distill.py --model toy-search-5 --teacher solver     distillation: here from a program that solves them all
    python distill.py --model MODEL --teacher STRONGER          distillation from a model
    python distill.py --model MODEL --teacher FILE.jsonl        from responses that somebody collected
    python distill.py --model MODEL --teacher self              rejection sampling; with --rounds 3, expert iteration

Distillation is supervised learning: it makes given responses likelier, token by token (running/supervised.py),

    L = - average over responses of   1 / |o|  sum_t log pi(o_t | prompt, o_<t)

which is GRPO's loss (grpo.py) with every advantage 1. What differs is who wrote the response:

    GRPO                 the model, at every step          right ones get likelier, wrong ones less likely
    expert iteration     the model, at every round         right ones get likelier
    rejection sampling   the model, once                   right ones get likelier
    distillation         somebody else                     right ones get likelier

The first three can only make more frequent what the model says by itself now and then. A teacher says what the student
would not. "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, its Figure 7) finds that
reinforcement learning narrows what a model can solve in many tries, and that distillation widens it. Expert iteration
is Anthony et al. (1705.08439). STaR (2203.14465) does it with language models, starts again from the base model in
every round, and gives hints; here the student goes on learning, without hints.

The problems are those of the training split. A model's wrong and truncated responses are dropped, so a teacher need not
be perfect; a FILE is believed. The run folder holds the student and metrics.jsonl (the loss of each step, nats a
token). Compare with `python eval.py MODEL RUN`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import data
import toy
from data import TEMPLATES
from engine.masters import adamw
from engine.memory import check_memory
from generate import generate, stream
from rewards import grade_rollouts
from running import flags, models
from running.files import BadInput, append_log, writes_into
from running.flags import described, flag, pick
from running.folder import alone, check_folder, empty_folder
from running.saving import forget_model, save_model
from running.stopping import program
from running.supervised import fit, response_tokens
from running.train_flags import held_out_of
from study.folder import WRITTEN
from study.perplexity import check_fits, read_teacher


@dataclass
class Settings:
    """All that defines a run. Each field is a flag of the same name."""

    model: str = flag("toy-search-5", "the student: a toy, a folder or a hub id")
    teacher: str = flag("solver", "solver (of a toy), self, a model, or a .jsonl with columns problem and response")
    data: str | None = flag(None, "problems to learn from, as train.py's --data; toys have their own")
    template: str | None = flag(None, "of teacher and student; default as in train.py", choices=TEMPLATES)
    samples: int = flag(16, "the teacher's responses to each problem; of a file the first ones", least=1)
    temperature: float = flag(1.0, "of the teacher", above=0)
    max_new_tokens: int | None = flag(None, "of the teacher's responses; default 80 for a toy, else 512", least=1)
    rounds: int = flag(1, "of sampling and learning; with --teacher self from the student as it is then", least=1)
    epochs: int = flag(1, "how often a round learns each response", least=1)
    documents_per_step: int = flag(128, "responses in an optimiser step", least=1)
    lr: float | None = flag(None, "learning rate of AdamW, constant; default 3e-4 for a toy, else 1e-5", above=0)
    lora: int = flag(0, "rank of adapters, as train.py's; 0: none", least=0)
    gradient_checkpointing: bool = flag(False, "compute layers again in the backward pass: less memory, a third slower")
    micro_tokens: int = flag(2048, "tokens in one pass, to suit memory", least=1)
    rows: int = flag(512, "responses sampled at once, to suit memory", least=1)
    allow_code_execution: bool = flag(False, "run programs that the teacher writes; read verify/sandbox.py first")
    seed: int = flag(0, "of every random draw", least=0)
    device: str = flag("auto", "auto, cpu, mps (Apple), cuda, cuda:1 ...")
    dtype: str = flag("auto", "float32, bfloat16 or auto: bfloat16 on CUDA except for the toy, else float32")
    run: str | None = flag(None, "run folder; default runs/MODEL-from-TEACHER-seedSEED")


SWITCHES = {"overwrite": "delete the run in the run folder and start again"}


def is_written(teacher: str) -> bool:
    """Whether a teacher's responses are written by a program or are in a file: then no model is sampled."""
    return teacher == "solver" or teacher.endswith((".jsonl", ".jsonl.gz"))


def distill(s: Settings) -> None:
    """All rounds, and the student in its folder. Raises BadInput; what can be known at the start, before it writes."""
    device, dtype = models.resolve_device(s.device, s.dtype)
    problems = data.load_problems(s.data, "train")
    data.check_code_execution(problems, s.allow_code_execution)
    student, tokenizer = models.load_model(s.model, device, dtype)
    s.template = (
        s.template
        or data.TEMPLATE_OF.get(s.data)
        or data.default_template(tokenizer, problems[0].kind, bool(problems[0].chat))
    )
    prompts = encoded(problems, student, tokenizer, s)
    teacher, pairs = (student, tokenizer, prompts), None
    if is_written(s.teacher):
        pairs = written_responses(problems, s)
        check_fits(pairs if s.teacher != "solver" else [], s.teacher, student, tokenizer, prompts)
    elif s.teacher != "self":
        try:
            teacher = models.load_model(s.teacher, device, dtype)
        except BadInput as error:
            raise BadInput(str(error).replace("--model", "--teacher", 1)) from None
        teacher = (*teacher, encoded(problems, *teacher, s))  # it may read other tokens than the student
    adapted = models.add_lora(student, s.lora, s.seed) if s.lora else None
    sizes = pick(s, "max_new_tokens temperature micro_tokens gradient_checkpointing")
    at_once = 1 if pairs else max(1, s.rows // s.samples)  # prompts
    check_memory(
        student, s.model, max(map(len, prompts)), prompts_per_step=at_once, rollouts_per_prompt=s.samples,
        reference=False, rows=at_once * s.samples, **sizes,
    )  # fmt: skip
    if s.gradient_checkpointing:
        models.checkpoint_gradients(student)
    optimizer, run, kept = adamw(student, s.lr), Path(s.run), described(s, complete)
    for number in range(s.rounds):
        if not is_written(s.teacher):
            pairs = right_responses(*teacher, problems, s, number)
        if number == 0:
            empty_folder(run)
            forget_model(run, kept)
        solved = len({i for i, _ in pairs})
        print(f"Round {number}: {len(pairs):,} responses to {solved:,} of {len(problems):,} problems.")
        documents = [(prompts[i], response_tokens(text, tokenizer)) for i, text in pairs]
        sizes = pick(s, "epochs documents_per_step micro_tokens")
        losses = fit(student, documents, optimizer, seed=s.seed + number, **sizes)
        append_log(run / "metrics.jsonl", *({"round": number, "loss": loss} for loss in losses))
    kept["minreason"]["eval_data"] = held_out_of(s.data)
    save_model(run, student, adapted, optimizer, tokenizer, kept)


def encoded(problems: list, model, tokenizer, s: Settings) -> list[list[int]]:
    """The prompts as a model's tokens. Raises BadInput where one leaves no room for a response."""
    return models.encoded(problems, model, tokenizer, s.template, s.max_new_tokens)


def right_responses(
    teacher, tokenizer, prompts: list[list[int]], problems: list, s: Settings, number: int
) -> list[tuple[int, str]]:
    """The right ones of a model's `samples` responses to each problem: (number of the problem, response) pairs.

    number: the round. Raises BadInput where there are none.
    """
    eos_ids, at_once, found = models.end_tokens(teacher, tokenizer), max(1, s.rows // s.samples), []
    for first in range(0, len(problems), at_once):
        asked = problems[first : first + at_once]
        rollouts = generate(
            teacher, prompts[first : first + at_once], s.samples, s.max_new_tokens,
            temperature=s.temperature, eos_ids=eos_ids, generator=stream(s.seed, "teacher", number, first),
        )  # fmt: skip
        graded = grade_rollouts(asked, rollouts, tokenizer, s.allow_code_execution)
        kept = [row for row, right in enumerate(graded.right) if right and not rollouts.truncated[row]]
        found += [(first + row // s.samples, graded.texts[row]) for row in kept]
    if not found:
        mend = "give more --samples or --max-new-tokens, or another teacher"
        if not eos_ids:
            mend = "it has no end token; give a teacher that has one"
        raise BadInput(f"--teacher {s.teacher}: not one right response that ends; {mend}")
    return found


def written_responses(problems: list, s: Settings) -> list[tuple[int, str]]:
    """The responses of a toy's solver, or of a file: (number of the problem, response) pairs. Raises BadInput."""
    if s.teacher == "solver":
        if s.data not in toy.WORLDS:
            raise BadInput(f"--teacher solver: the toys have one, {s.data} has none; give a model or a .jsonl")
        solve, rng = toy.WORLDS[s.data].solve, Random(f"solver-{s.seed}")
        return [(i, solve(problem.prompt, rng)) for i, problem in enumerate(problems) for _ in range(s.samples)]
    return [(row["problem"], row["text"]) for row in read_teacher(Path(s.teacher), problems, s.samples)]


def complete(s: Settings) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    flags.check(s)
    world = toy.world_of(s.model)
    s.data = s.data or models.own_data(s.model)
    if s.data is None:
        raise BadInput(f"--model {s.model} needs --data: arithmetic, gsm8k, math or a .jsonl file")
    if world and s.data != world:
        raise BadInput(f"--data {s.data}: this toy model reads problems of {world} only; give another --model")
    if s.rounds > 1 and is_written(s.teacher):
        raise BadInput(f"--rounds {s.rounds}: the responses of {s.teacher} stay the same; give --epochs")
    toy_sized = world or s.data in toy.WORLDS
    s.lr = s.lr or (3e-4 if toy_sized else 1e-5)
    s.max_new_tokens = s.max_new_tokens or (80 if toy_sized else 512)
    s.dtype = "float32" if toy_sized and s.dtype == "auto" else s.dtype
    teacher = Path(s.teacher.removesuffix(".gz").removesuffix(".jsonl")).name
    s.run = s.run or f"runs/{Path(s.model).name}-from-{teacher}-seed{s.seed}"
    folder = Path(s.run).resolve()
    for name, path in (("--model", s.model), ("--teacher", s.teacher)):
        if folder in (Path(path).resolve(), *Path(path).resolve().parents):
            raise BadInput(f"--run {s.run}: holds what {name} names, which would be lost; give another folder")


def parse(argv: list[str] | None) -> tuple[Settings, set[str], set[str]]:
    """The settings, the names of the flags given, and the switches that are on."""
    return flags.parse(Settings, argv, "distill.py", "Learn from right responses.", None, SWITCHES)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        settings, _, switches = parse(argv)
        complete(settings)
        check_folder(Path(settings.run), "overwrite" in switches, WRITTEN, resume="")
        disk = writes_into(f"--run {settings.run}", "make room, and start again by --overwrite")
        with alone(Path(settings.run), "--run"), disk:
            distill(settings)
    except BadInput as error:
        print(f"distill.py: {error}", file=sys.stderr)
        return 2
    problems = "" if models.own_data(settings.model) else f" --data {held_out_of(settings.data) or 'FILE'}"
    print(f"In {settings.run}: the student. Compare: python eval.py {settings.model} {settings.run}{problems}")
    return 0


if __name__ == "__main__":
    sys.exit(program(main, "start again by --overwrite"))
