"""distill.py: what does a model learn from right responses, its own or a better model's?

    python distill.py --model toy-search --teacher MODEL     distillation: from a stronger model's right responses
    python distill.py --model toy-search --teacher self      rejection sampling: its own; --rounds 3: expert iteration
    python distill.py --model toy-search --teacher solver    a toy's solver, which solves every problem
    python distill.py --model toy-search --teacher FILE      a .jsonl with the columns problem and response

Distillation is supervised learning: it makes given responses likelier, token by token,

    L = - average over responses of   1 / |o|  sum_t log pi(o_t | prompt, o_<t)

which is GRPO's loss (grpo.py) with every advantage 1. What differs is who wrote the response. Reinforcement learning
and rejection sampling learn from what the model says itself, so they can only make that more frequent. A teacher says
what the student would not: "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, its Figure 7)
finds that RL narrows what a model can solve, and that distillation widens it.

The problems are those of the training split. Right responses alone are kept, so that a teacher need not be perfect; of a
FILE all are. Then `python eval.py MODEL RUN` compares the student with what it was.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import data
import toy
from generate import generate, stream
from rewards import grade_rollouts
from running import flags, models
from running.files import BadInput
from running.flags import flag, pick
from running.folder import check_folder, empty_folder, read_config, write_config
from running.warm_up import document, warm_up
from study.perplexity import read_teacher

ROWS = 512  # completions sampled at once


@dataclass
class Settings:
    """All that defines a run. Each field is a flag of the same name."""

    model: str = flag("toy-search", "the student: as train.py's --model")
    teacher: str = flag("solver", "self, solver (of a toy), a model, or a .jsonl with problem and response")
    data: str | None = flag(None, "problems to learn from, as train.py's --data; toys have their own")
    template: str | None = flag(None, "of both models; default as in train.py", choices=data.TEMPLATES)
    problems: int | None = flag(None, "of the training split, the first ones; default all", least=1)
    samples: int = flag(16, "the teacher's tries at each problem; those that are right are learned", least=1)
    temperature: float = flag(1.0, "of the teacher", above=0)
    max_new_tokens: int = flag(80, "of the teacher's responses", least=1)
    rounds: int = flag(1, "of sampling and learning; with --teacher self, from the student as it is then", least=1)
    steps: int = flag(100, "optimiser steps in a round", least=1)
    documents_per_step: int = flag(128, "responses in a step", least=1)
    lr: float = flag(3e-4, "learning rate of AdamW, constant", above=0)
    micro_tokens: int = flag(2048, "tokens in one pass, to suit memory", least=1)
    seed: int = flag(0, "of every random draw", least=0)
    device: str = flag("auto", "auto, cpu, cuda, cuda:1 ...")
    run: str | None = flag(None, "run folder; default runs/MODEL-from-TEACHER-seedSEED")


SWITCHES = {"overwrite": "delete the run in the run folder and start again"}


def right_responses(teacher, tokenizer, problems: list, s: Settings, number: int) -> list[tuple[data.Problem, str]]:
    """What a model answers rightly: (problem, response) pairs, of `samples` tries at each problem. number: the round."""
    prompts = data.encode_prompts(problems, tokenizer, s.template, models.context_room(teacher, s.max_new_tokens))
    eos_ids, at_once, found = models.end_tokens(teacher, tokenizer), max(1, ROWS // s.samples), []
    for first in range(0, len(problems), at_once):
        asked = problems[first : first + at_once]
        rollouts = generate(
            teacher, prompts[first : first + at_once], s.samples, s.max_new_tokens,
            temperature=s.temperature, eos_ids=eos_ids, generator=stream(s.seed, "teacher", number, first),
        )  # fmt: skip
        graded = grade_rollouts(asked, rollouts, tokenizer)
        for row, (text, right) in enumerate(zip(graded.texts, graded.right, strict=True)):
            if right and not rollouts.truncated[row]:
                found.append((asked[row // s.samples], text))
    return found


def given_responses(problems: list, s: Settings) -> list[tuple[data.Problem, str]]:
    """The responses of a toy's solver, or of a file. Raises BadInput."""
    if s.teacher == "solver":
        if s.data not in toy.WORLDS:
            raise BadInput(f"--teacher solver: only the toys have one, not {s.data}; give a model or a .jsonl")
        solve, rng = toy.WORLDS[s.data].solve, Random(f"solver-{s.seed}")
        return [(problem, solve(problem.prompt, rng)) for problem in problems for _ in range(s.samples)]
    rows = read_teacher(Path(s.teacher), problems, number=10**9)
    return [(problems[row["problem"]], row["text"]) for row in rows]


def distill(s: Settings) -> None:
    """All rounds; the student is saved in the run folder. Raises BadInput before anything is written."""
    device, dtype = models.resolve_device(s.device, "float32")
    problems = data.load_problems(s.data, "train", s.problems)
    policy, tokenizer = models.load_model(s.model, device, dtype)
    s.template = s.template or data.TEMPLATE_OF.get(s.data) or data.default_template(tokenizer, problems[0].kind)
    given = s.teacher == "solver" or s.teacher.endswith(".jsonl")
    pairs = given_responses(problems, s) if given else None
    teacher = (
        (policy, tokenizer) if s.teacher == "self" else None if given else models.load_model(s.teacher, device, dtype)
    )
    empty_folder(Path(s.run))
    for number in range(s.rounds):
        if not given:
            pairs = right_responses(*teacher, problems, s, number)
        if not pairs:
            raise BadInput(
                f"--teacher {s.teacher}: no right response to learn from; give more --samples or another teacher"
            )
        solved = len({problem.prompt for problem, _ in pairs})
        print(f"Round {number}: {len(pairs)} right responses to {solved} of {len(problems)} problems.")
        documents = [document(problem, text, tokenizer, s.template) for problem, text in pairs]
        warm_up(policy, documents, **pick(s, "lr steps documents_per_step micro_tokens"), seed=s.seed + number)
    policy.save_pretrained(s.run)
    tokenizer.save_pretrained(s.run)
    write_config(Path(s.run), read_config(Path(s.run)), {**asdict(s), "eval_data": s.data})


def complete(s: Settings) -> None:
    """Raise BadInput for what cannot work, and fill in what was left open."""
    flags.check(s)
    s.data = s.data or models.own_data(s.model)
    if s.data is None:
        raise BadInput(f"--model {s.model} needs --data: arithmetic, gsm8k, math or a .jsonl file")
    s.run = s.run or f"runs/{Path(s.model).name}-from-{Path(s.teacher).stem}-seed{s.seed}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        settings, _, switches = flags.parse(Settings, argv, "distill.py", "Learn from right responses.", None, SWITCHES)
        complete(settings)
        check_folder(Path(settings.run), "overwrite" in switches)
        distill(settings)
    except BadInput as error:
        print(f"distill.py: {error}", file=sys.stderr)
        return 2
    print(f"In {settings.run}: the student. Compare: python eval.py {settings.model} {settings.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
