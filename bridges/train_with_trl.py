"""train_with_trl.py: train a toy, or any model, with TRL's GRPOTrainer and one of our rewards.

    python -m bridges.train_with_trl --reward self_certainty
    torchrun --nproc-per-node 2 -m bridges.train_with_trl --reward plurality

It is a start for a script of your own rather than a second train.py: trl.GRPOConfig has many more settings, and here
is what makes it the same algorithm as ours. (`accelerate launch` starts the processes of several GPUs. On a CPU it
starts one, whatever it is told; torchrun starts all.)
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from bridges.trl_rewards import NAMES, Reward
from data import TEMPLATES, Problem, load_problems
from running import flags
from running.files import BadInput
from running.flags import flag
from running.models import load_model, own_data
from running.stopping import program


@dataclass
class Settings:
    """The flags; the defaults are those of train.py for the toy. What is not here is TRL's default, or train.py's."""

    model: str = flag("toy", "toy, a folder or a hub id")
    data: str | None = flag(None, "gsm8k, math ... or a file; toys have their own")
    template: str = flag("plain", "how a problem becomes a prompt", choices=tuple(TEMPLATES))
    reward: str = flag("self_certainty", "what is paid for", choices=NAMES)
    flip: float = flag(0.0, "probability that the answer key errs, a whole prompt at a time", least=0, most=1)
    steps: int = flag(60, "of training", least=1)
    prompts: int = flag(16, "problems a step, over all processes", least=1)
    group: int = flag(16, "completions of each", least=2)
    max_new_tokens: int = flag(80, "of one completion", least=1)
    lr: float = flag(3e-4, "learning rate (real models: 1e-6)", above=0, most=1)
    kl: float = flag(0.005, "weight of the KL penalty (Intuitor 0.005)", least=0)
    seed: int = flag(0, "of every random draw", least=0)
    out: str | None = flag(None, "folder for the trained model; default runs/trl-REWARD")


def parse(argv: list[str] | None) -> Settings:
    """The command line. Raises BadInput."""
    settings = flags.parse(Settings, argv, "bridges.train_with_trl", "Train by TRL with the papers' rewards.")[0]
    flags.check(settings)
    settings.data = settings.data or own_data(settings.model)
    settings.out = settings.out or f"runs/trl-{settings.reward}"
    if settings.data is None:
        raise BadInput(f"--model {settings.model}: needs --data: gsm8k, math, OWNER/NAME of the hub, or a file")
    if settings.flip and settings.reward != "correct":
        raise BadInput(
            f"--flip: --reward {settings.reward} reads no answer key; leave it out, or give --reward correct"
        )
    # An empty one is of TRL's trainer: of a run that was stopped, or of the first process of this one.
    if os.path.lexists(settings.out) and not (os.path.isdir(settings.out) and not os.listdir(settings.out)):
        raise BadInput(f"--out {settings.out}: is there already; give another, or move it away")
    return settings


def train(settings: Settings) -> list[dict]:
    """Train, write the model, and return what TRL logged, a dictionary for each step."""
    try:
        import trl
    except ImportError:
        raise BadInput("bridges.train_with_trl: needs TRL; pip install trl") from None
    from datasets import Dataset

    processes, rows = int(os.environ.get("WORLD_SIZE", 1)), settings.prompts * settings.group  # set by accelerate
    if rows % processes:
        raise BadInput(f"--prompts {settings.prompts}: {rows} completions do not share out among {processes} processes")
    policy, tokenizer = load_model(settings.model, "cpu", torch.float32)  # the trainer moves it
    problems = load_problems(settings.data, "train", answers=settings.reward == "correct")
    pay = Reward(settings.reward, problems[0].kind, settings.flip, seed=settings.seed)
    config = trl.GRPOConfig(
        settings.out,
        max_steps=settings.steps,
        num_generations=settings.group,
        per_device_train_batch_size=rows // processes,  # one generation and one update a step
        max_completion_length=settings.max_new_tokens,
        learning_rate=settings.lr,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=5,
        beta=settings.kl,
        loss_type="grpo",
        top_k=0,  # a model may bring another, and then the samples are not the policy's
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        seed=settings.seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    table = [{"prompt": prompt_of(problem, settings.template), "answer": problem.answer} for problem in problems]
    columns = Dataset.from_list(table)
    trainer = trl.GRPOTrainer(policy, pay, args=config, train_dataset=columns, processing_class=tokenizer)
    pay.trainer = trainer
    trainer.train()
    trainer.save_model(settings.out)  # with the tokenizer: a folder for eval.py
    return [row for row in trainer.state.log_history if "reward" in row]


def prompt_of(problem: Problem, template: str) -> str | list[dict]:
    """A problem as TRL takes it: a text, or messages for the tokenizer's chat template."""
    pattern = TEMPLATES[template]
    if problem.chat or isinstance(pattern, str):
        return problem.given if problem.chat else pattern.replace("{problem}", problem.prompt)
    return [{"role": role, "content": text.replace("{problem}", problem.prompt)} for role, text in pattern]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        settings = parse(argv)
        rows = train(settings)
    except BadInput as error:
        print(f"train_with_trl.py: {error}", file=sys.stderr)
        return 2
    if int(os.environ.get("RANK", 0)) == 0:
        for name in ("reward", "accuracy", "completions/mean_length"):
            if name in rows[0]:  # no accuracy without answers
                print(f"{name}: {rows[0][name]:.3f} in the first step, {rows[-1][name]:.3f} in the last")
        print(f"Compare both: python eval.py {settings.model} {Path(settings.out)} --data {settings.data}")
    return 0


if __name__ == "__main__":
    sys.exit(program(main, "nothing was saved"))
