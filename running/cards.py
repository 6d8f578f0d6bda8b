"""cards.py: on which card does a paper's recipe fit, and with which flags?

    python -m running.cards        the table in docs/memory.md; the rows with --lora need pip install peft

It asks the memory plan (engine/memory.py) for models of Qwen2.5's real shapes. Their weights are never made: they are
on torch's device "meta", which keeps shapes alone. What autograd keeps for a token is measured on models of one and of
two layers, and each further layer adds as much as the second. Nothing here has run on a card.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from engine.memory import activation_bytes, memory_plan, rows_that_fit
from ppo import Critic
from recipes import RECIPES
from running.flags import shown
from running.models import add_lora

# Of their config.json: hidden, intermediate, layers, heads, kv heads, vocabulary, whether embeddings and head are one
SIZES = {
    "qwen2.5-0.5b": (896, 4864, 24, 14, 2, 151_936, True),
    "qwen2.5-1.5b": (1536, 8960, 28, 12, 2, 151_936, True),
    "qwen2.5-3b": (2048, 11008, 36, 16, 2, 151_936, True),
    "qwen2.5-7b": (3584, 18944, 28, 28, 4, 152_064, False),
    "qwen2.5-14b": (5120, 13824, 48, 40, 8, 152_064, False),
}
CARDS = (24, 40, 80, 141)  # GB
# The longest problem of MATH has 2,039 tokens in SmolLM2's tokenizer (Qwen2.5's was not at hand), and a template comes
# to it. Of code_contests the same is assumed.
PROMPT = 2100
DEFAULTS = {"temperature": 1.0, "micro_tokens": 8192, "kl": 0.005, "algorithm": "grpo"}  # train.py's, on a GPU
FEWEST = 32  # rows at once: with fewer, sampling takes too long to be called a fit
# What is tried, from what costs least to what changes most. Rows are chosen by the plan each time.
CHECKPOINTS = {"gradient_checkpointing": True}
SHORT = {**CHECKPOINTS, "micro_tokens": 4096}
TRIED = ({}, CHECKPOINTS, SHORT, {**SHORT, "kl": 0.0}, {**CHECKPOINTS, "lora": 32}, {**SHORT, "lora": 32})


def config_of(size: str, **changes) -> transformers.Qwen2Config:
    """The configuration of one of SIZES. changes: of its fields."""
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = SIZES[size]
    sizes = {"vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": intermediate}
    sizes |= {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return transformers.Qwen2Config(**{**sizes, "tie_word_embeddings": tied, **changes})


def shape_of(size: str, **changes) -> transformers.Qwen2ForCausalLM:
    """A model in bfloat16 without weights. changes: of its configuration."""
    with torch.device("meta"):
        return transformers.Qwen2ForCausalLM(config_of(size, **changes)).to(torch.bfloat16).eval()


@functools.cache
def measured(size: str, lora: int) -> tuple[int, float]:
    """What engine.memory measures on a model: bytes of a token's keys and values, and of what autograd keeps of it."""
    hidden, _, layers, heads, kv_heads, *_ = SIZES[size]
    found = []
    for some in (1, 2):
        policy = shape_of(size, num_hidden_layers=some, vocab_size=64).to_empty(device="cpu")  # whatever is in memory
        if lora:
            add_lora(policy, lora, seed=0)
        found.append(activation_bytes(policy))
    keys_and_values = 2 * layers * kv_heads * hidden // heads * torch.bfloat16.itemsize
    return keys_and_values, found[0] + (layers - 1) * (found[1] - found[0])


@functools.cache
def shapes(size: str, lora: int, with_critic: bool) -> tuple:
    """(policy, critic or None), without weights."""
    policy = shape_of(size)
    critic = Critic(policy) if with_critic else None
    if lora:
        add_lora(policy, lora, seed=0)
    return policy, critic


def plan_of(recipe: str, flags: dict, rows: int | None = None) -> dict[str, float]:
    """The bytes by part that a recipe needs with these flags beside it."""
    run = {**DEFAULTS, **RECIPES[recipe], **flags}
    size, lora = Path(run["model"]).name.lower(), run.get("lora", 0)
    policy, critic = shapes(size, lora, run["algorithm"] == "ppo")
    names = ("prompts_per_step", "rollouts_per_prompt", "max_new_tokens", "temperature", "micro_tokens")
    return memory_plan(
        policy,
        PROMPT,
        **{name: run[name] for name in names},
        reference=run["kl"] > 0,
        gradient_checkpointing=run.get("gradient_checkpointing", False),
        critic=critic,
        rows=rows,
        device=torch.device("cuda"),
        measured=measured(size, lora),
    )


def what_fits(recipe: str, card: int) -> tuple[dict, float] | None:
    """(flags, bytes) of the first of TRIED with which a recipe fits on a card; None if it does with none.

    card: GB of 10^9 bytes, of which a tenth stays free, as where train.py chooses the rows.
    """
    whole = RECIPES[recipe]["prompts_per_step"] * RECIPES[recipe]["rollouts_per_prompt"]
    for flags in TRIED:
        if "kl" in flags and RECIPES[recipe]["kl"] == 0:
            continue
        rows = rows_that_fit(functools.partial(plan_of, recipe, flags), whole, card * 1e9)
        if rows and rows >= FEWEST:
            flags = flags if rows == whole else {**flags, "rows": rows}
            return flags, sum(plan_of(recipe, flags, rows).values())
    return None


def table() -> Iterator[str]:
    """The table in Markdown, a line at a time. Recipes that need the same memory share their lines."""
    alike = {}
    for name, recipe in RECIPES.items():
        if recipe.get("model", "").startswith("Qwen"):
            alike.setdefault(tuple(plan_of(name, {}).items()), []).append(name)
    yield "| recipe, and its plan as it is | card | flags beside the recipe | plan |\n|---|---|---|---|"
    for as_it_is, names in alike.items():
        cell = f"{', '.join(names)}: {sum(size for _, size in as_it_is) / 1e9:.1f} GB"
        for card in CARDS:
            yield f"| {cell} | {card} GB | {' | '.join(in_words(what_fits(names[0], card)))} |"
            cell = ""


def in_words(found: tuple[dict, float] | None) -> tuple[str, str]:
    """What `what_fits` returns, as two cells of the table."""
    if found is None:
        return "does not fit", ""
    flags, size = found
    given = " ".join(shown(name) + ("" if value is True else f" {value:g}") for name, value in flags.items())
    return f"`{given}`" if given else "none", f"{size / 1e9:.1f} GB"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
