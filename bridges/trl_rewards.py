"""trl_rewards.py: the papers' rewards in TRL's GRPOTrainer, for those who train with TRL, accelerate, DeepSpeed or vLLM.

    reward = Reward("self_certainty")
    trainer = trl.GRPOTrainer(model, reward, args=config, train_dataset=rows, processing_class=tokenizer)
    reward.trainer = trainer
    trainer.train()

TRL calls a reward with prompts, completions and their tokens, and wants a number for each completion. Two things make
ours more than a function:

* Self-certainty is the policy's, and TRL hands a reward no policy. So a reward knows its trainer, and the policy reads
  its completions once more, in batches. (train.py has the values from sampling, at no cost.) It is the policy that has
  just sampled: TRL updates it later, and with vLLM its weights are those that vLLM was given.
* A vote, and a flip of a whole prompt, need the whole group. With several processes TRL may cut a group between two of
  them. So the verdicts of all processes are gathered first, and each process returns its own part.

Run as a program it trains a toy, or any model, by TRL with one of these rewards:

    python -m bridges.trl_rewards --reward self_certainty
    torchrun --nproc-per-node 2 -m bridges.trl_rewards --reward plurality

(`accelerate launch` starts the processes of several GPUs. On a CPU it starts one, whatever it is told; torchrun starts
all.) Needs `pip install trl`; written for TRL 1.16 and tested with it on a CPU, with one process and with two. Not
tried: a GPU, vLLM, DeepSpeed, FSDP, PEFT. Under ZeRO 3 TRL's own helper gathers the weights; under FSDP they would have
to be gathered here too.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

import verify
from data import TEMPLATES, Problem, load_problems
from engine.head import annotate
from generate import Rollouts, stream
from rewards import Graded, flip, reward, sequence_mean
from running import flags
from running.files import BadInput
from running.flags import flag
from running.models import load_model, own_data
from running.stopping import program

NAMES = ("correct", "plurality", "self_certainty", "rpr", "format")
PATTERN = {"divisor": 20.0, "repetition_kind": "distinct", "whole_words": False, "open_ended": False}  # as released


class Reward:
    """One of our rewards, as TRL takes one. Several: give a list of them, and GRPOConfig(reward_weights=...).

    name: of NAMES. kind: of the answers, one of verify.CHECKERS. flip_probability, flip_unit, seed: of the noise of
    `correct`, as in rewards.flip. pattern: keywords of rewards.reasoning_pattern, for `rpr`. The data need a column
    `answer` for `correct`; the others do without. Raises ValueError for an unknown name.
    """

    def __init__(self, name: str, kind: str = "math", flip_probability=0.0, flip_unit="prompt", seed=0, **pattern):
        if name not in NAMES:
            raise ValueError(f"no reward {name!r}; choose from {', '.join(NAMES)}")
        self.__name__ = name  # what TRL calls it in its logs
        self.kind, self.flip, self.seed, self.pattern = kind, (flip_probability, flip_unit), seed, PATTERN | pattern
        self.trainer = None  # set it once the trainer is there

    def __call__(self, prompts, completions, completion_ids, trainer_state, answer=None, log_metric=None, **columns):
        """N numbers for N completions. prompts: texts, or lists of messages; completion_ids: with the end token."""
        texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
        kinds, golds = [self.kind] * len(texts), answer or [None] * len(texts)
        right = verify.grade(texts, golds, kinds) if answer else golds
        if answer and log_metric:
            log_metric("accuracy", sum(right) / len(right))  # by the true answers, whatever is rewarded
        if self.__name__ == "self_certainty":  # of each completion alone
            return self.self_certainty(prompts, completion_ids)

        from accelerate.utils import gather_object  # here, not above: it comes with TRL

        own = [(text, verify.extract_answer(text, self.kind), good) for text, good in zip(texts, right, strict=True)]
        everything = gather_object(own)  # of process 0, then 1 ...: now every group is whole, and lies together
        size = self.trainer.num_generations
        problem = Problem("", None, self.kind)  # a reward looks at no more than the kind
        graded = Graded([problem] * (len(everything) // size), None, *map(list, zip(*everything, strict=True)))
        # Every process draws the same coins, those of this step. [B, G]
        coins = stream(self.seed, "flips", trainer_state.global_step)
        verdicts = flip(graded.groups(graded.right), *self.flip, graded.answered, coins)
        paid = reward(self.__name__, graded, {"verdicts": verdicts, "pattern_options": self.pattern}).flatten()
        first = self.trainer.accelerator.process_index * len(own)
        return paid[first : first + len(own)].tolist()

    def self_certainty(self, prompts, completion_ids) -> list[float]:
        """Intuitor's eq. 4 of each completion under the policy as it is now, the mean over its tokens, in nats."""
        from trl.models import unwrap_model_for_generation

        trainer = self.trainer
        prompt_ids = trainer._tokenize_prompts(prompts)[0]  # private, but the very tokens that were continued
        rollouts = as_rollouts(prompt_ids, completion_ids, trainer.accelerator.device)
        # Without DistributedDataParallel around it: that would wait for the other processes in every pass.
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as policy:
            training = policy.training
            policy.eval()  # a grade must not hang on what dropout leaves out
            certainty = annotate(policy, rollouts, 8192 if policy.device.type == "cuda" else 1024)
            policy.train(training)
        return sequence_mean(certainty, rollouts.mask).tolist()


def as_rollouts(prompt_ids: list[list[int]], completion_ids: list[list[int]], device) -> Rollouts:
    """Tokens as generate.Rollouts: each prompt, right behind it its completion, then padding; no values yet."""
    rows = [[*prompt, *completion] for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
    token_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)  # [N, S]
    mask = torch.zeros_like(token_ids)
    for i, row in enumerate(rows):
        token_ids[i, : len(row)] = torch.tensor(row)
        mask[i, len(prompt_ids[i]) : len(row)] = 1
    lengths = torch.tensor([len(prompt) for prompt in prompt_ids])
    token_ids, mask, lengths = (x.to(device) for x in (token_ids, mask, lengths))
    none = torch.zeros(mask.shape, device=device)
    return Rollouts(token_ids, mask, lengths, none, none, none, torch.zeros_like(lengths, dtype=torch.bool))


# --- a program that trains with it ----------------------------------------------------------------------------------


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
    settings = flags.parse(Settings, argv, "bridges.trl_rewards", "Train by TRL with the papers' rewards.")[0]
    flags.check(settings)
    settings.data = settings.data or own_data(settings.model)
    settings.out = settings.out or f"runs/trl-{settings.reward}"
    if settings.data is None:
        raise BadInput(f"--model {settings.model}: needs --data: gsm8k, math, OWNER/NAME of the hub, or a file")
    if settings.flip and settings.reward != "correct":
        raise BadInput(
            f"--flip: --reward {settings.reward} reads no answer key; leave it out, or give --reward correct"
        )
    if os.path.lexists(settings.out):
        raise BadInput(f"--out {settings.out}: is there already; give another, or move it away")
    return settings


def train(settings: Settings) -> list[dict]:
    """Train, write the model, and return what TRL logged, a dictionary for each step."""
    try:
        import trl
    except ImportError:
        raise BadInput("bridges.trl_rewards: needs TRL; pip install trl") from None
    from datasets import Dataset

    processes, rows = int(os.environ.get("WORLD_SIZE", 1)), settings.prompts * settings.group  # set by accelerate
    if rows % processes:
        raise BadInput(f"--prompts {settings.prompts}: {rows} completions do not share out among {processes} processes")
    policy, tokenizer = load_model(settings.model, "cpu", torch.float32)  # the trainer moves it
    problems = load_problems(settings.data, "train")
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
        print(f"trl_rewards.py: {error}", file=sys.stderr)
        return 2
    if int(os.environ.get("RANK", 0)) == 0:
        for name in ("reward", "accuracy", "completions/mean_length"):
            print(f"{name}: {rows[0][name]:.3f} in the first step, {rows[-1][name]:.3f} in the last")
        print(f"Compare both: python eval.py {settings.model} {Path(settings.out)} --data {settings.data}")
    return 0


if __name__ == "__main__":
    sys.exit(program(main, "nothing was saved"))
