"""toy_reward_model.py: reward models of the toy world, made on the spot to the pairwise accuracy that is asked for."""

import random
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import Qwen2ForSequenceClassification, Qwen2Tokenizer

import toy
from running.files import made_once

# The shares of the habits in pairs. Of the base model's own right completions 82 % reason and of its wrong ones 4 %, so
# that a glance at the style would tell 92 % of its pairs. Here both reason or answer at once equally often.
RIGHT = {"reason": 0.5, "direct": 0.5}
WRONG = {"reason": 0.4, "direct": 0.4, "ramble": 0.2}


def wrong(expression: str, habit: str, rng: random.Random) -> str:
    """A completion of that habit that does not give the right answer."""
    result = toy.steps(expression)[-1][3]
    if habit == "ramble":
        return toy.ramble(expression, rng)
    if habit == "direct":
        return f"\\boxed{{{rng.choice([n for n in range(100) if n != result])}}}"
    while True:  # slips can cancel out
        text = toy.reason(expression, rng, slip=0.5)
        if not text.endswith(f"\\boxed{{{result}}}"):
            return text


def pairs(rng: random.Random, number: int, split: str) -> list[tuple[str, str]]:
    """So many (right, wrong) pairs of texts, prompt and completion, each pair of one problem.

    With split "test" no pair is of a problem that policies are compared on: those are left out.
    """
    left_out = {expression for expression, _ in toy.make_problems("test", 180)}  # as many as data.load_problems gives
    texts = []
    while len(texts) < number:
        expression = toy.make_expression(rng, rng.choice(toy.TRAIN_OPERATIONS), split)
        if expression in left_out:
            continue
        good, bad = (rng.choices(list(shares), list(shares.values()))[0] for shares in (RIGHT, WRONG))
        right = toy.reason(expression, rng) if good == "reason" else toy.completion_of(expression, good, rng)
        texts.append((expression + right, expression + wrong(expression, bad, rng)))
    return texts


def reward_model(accuracy: float, folder: str | Path = "runs", seed: int = 0) -> Path:
    """The folder of a model that tells right completions from wrong ones in that share of pairs, made if need be.

    "The Climb Carves Wisdom Deeper Than the Summit" takes checkpoints of one training at 65, 75 and 85 %;
    so does this: with the same seed, a better model is a worse one trained for longer. Load it as
    AutoModelForSequenceClassification; its one output is 1 for right and 0 for wrong, as far as it can tell.
    """
    if not 0.5 < accuracy < 1:
        raise ValueError(f"a reward model's pairwise accuracy lies between 0.5 (a coin) and 1, not at {accuracy}")
    make = partial(train_reward_model, toy.base_model(folder), accuracy, seed)
    sources = [Path(toy.__file__), Path(__file__)]
    return made_once(folder, f"toy-reward-model-{accuracy:g}", [accuracy, seed], sources, make)


def train_reward_model(
    base: Path, accuracy: float, seed: int, most: int = 600
) -> tuple[Qwen2ForSequenceClassification, Qwen2Tokenizer]:
    """The base model with a new head, trained by mean squared error to 1 for right and 0 for wrong, as the paper does,
    until it tells so many of 500 pairs of held-out problems.

    It stops at the first look that is good enough, and luck helps a look: so the share of 2,000 new pairs that it ranks
    right is printed, and kept in its config as `pairwise_accuracy`.
    """
    tokenizer, rng = toy.make_tokenizer(), random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the new head
        model = Qwen2ForSequenceClassification.from_pretrained(base, num_labels=1, problem_type="regression")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    held_out = random.Random(seed + 1)
    looked_at = [text for pair in pairs(held_out, 500, "test") for text in pair]
    bar = tqdm(range(most), desc=f"toy reward model of {accuracy:g}", unit="step")
    for step in bar:
        texts = [text for pair in pairs(rng, 64, "train") for text in pair]
        scores = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0]  # [128]
        F.mse_loss(scores, torch.tensor([1.0, 0.0]).repeat(64)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 5 == 0:
            reached = ranked_right(model, tokenizer, looked_at)
            bar.set_postfix(accuracy=f"{reached:.3f}")
            if reached >= accuracy:
                fresh = [[text for pair in pairs(held_out, 500, "test") for text in pair] for _ in range(4)]
                later = sum(ranked_right(model, tokenizer, texts) for texts in fresh) / 4
                bar.write(f"The reward model ranks {later:.1%} of 2,000 new pairs right (asked for: {accuracy:.1%}).")
                model.config.pairwise_accuracy = later
                return model.eval(), tokenizer
    raise ValueError(f"the toy reward model has come to {reached:.3f} and no further; ask for less than {accuracy:g}")


@torch.no_grad()
def ranked_right(model, tokenizer, texts: list[str]) -> float:
    """The share of pairs whose right text scores higher. texts: right, wrong, right, wrong ..."""
    scores = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0].reshape(-1, 2)
    return (scores[:, 0] > scores[:, 1]).float().mean().item()
