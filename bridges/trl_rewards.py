"""trl_rewards.py: the papers' rewards in TRL's GRPOTrainer, and so with accelerate, DeepSpeed and vLLM.

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

Needs `pip install trl`; written for TRL 1.16 and tested with it on a CPU, with one process and with two. Not tried: a
GPU, vLLM, DeepSpeed, FSDP, PEFT. Under ZeRO 3 TRL's own helper gathers the weights; under FSDP they would have to be
gathered here too. `python -m bridges.train_with_trl` is a program around it.
"""

import torch

import verify
from data import Problem
from engine.head import annotate
from generate import Rollouts, stream
from rewards import Graded, flip, reward, sequence_mean

NAMES = ("correct", "plurality", "self_certainty", "rpr", "format")
PATTERN = {"divisor": 20.0, "repetition_kind": "distinct", "whole_words": False, "open_ended": False}  # as released


class Reward:
    """One of our rewards, as TRL takes one. Several: give a list of them, and GRPOConfig(reward_weights=...).

    name: of NAMES. kind: of the answers, one of verify.CHECKERS. flip_probability, flip_unit, seed: of the noise of
    `correct`, as in rewards.flip. pattern: keywords of rewards.reasoning_pattern, for `rpr`. The data need a column
    `answer` for `correct`; the others do without. Raises ValueError for an unknown name, and where answers are missing.
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
        known = answer is not None and None not in answer
        if self.__name__ == "correct" and not known:
            raise ValueError("the reward correct needs a column answer with a value in each row")
        right = verify.grade(texts, answer, [self.kind] * len(texts)) if known else [None] * len(texts)
        if known and log_metric:
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
