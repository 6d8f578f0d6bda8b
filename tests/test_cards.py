"""running/cards.py, and the table of docs/memory.md: what fits is computed from shapes as it would be from models."""

import sys
from pathlib import Path

import pytest
import torch
import transformers

from engine import memory
from recipes import RECIPES
from running import cards

DOCS = (Path(__file__).parent.parent / "docs" / "memory.md").read_text(encoding="utf-8")


def test_the_shapes_are_those_of_qwen():
    """Their numbers of parameters, in billions, as their model cards have them: 0.49, 1.54, 3.09, 7.61, 14.7."""
    numbers = [sum(p.numel() for p in cards.shape_of(size).parameters()) / 1e9 for size in cards.SIZES]
    assert numbers == pytest.approx([0.49, 1.54, 3.09, 7.61, 14.77], abs=0.01)


def test_shapes_alone_have_the_plan_of_the_model(monkeypatch):
    monkeypatch.setitem(cards.SIZES, "tiny", (32, 48, 5, 4, 2, 90, False))
    model = transformers.Qwen2ForCausalLM(cards.config_of("tiny")).to(torch.bfloat16).eval()
    numbers = {"prompts_per_step": 4, "rollouts_per_prompt": 3, "max_new_tokens": 20, "temperature": 0.9, "rows": 7}
    numbers |= {"micro_tokens": 500, "reference": True, "gradient_checkpointing": True, "device": torch.device("cuda")}
    expected = memory.memory_plan(model, 10, **numbers)
    assert memory.memory_plan(cards.shape_of("tiny"), 10, measured=cards.measured("tiny", 0), **numbers) == expected


def test_a_line_of_the_table_by_hand():
    """grpo-1.5b on 80 GB: as many rows at once as nine tenths of the card hold."""
    assert "| grpo-1.5b, intuitor-1.5b: 202.7 GB | 24 GB |" in DOCS and "|  | 80 GB | `--rows 61` | 72.0 GB |" in DOCS
    flags, size = cards.what_fits("grpo-1.5b", 80)
    assert flags == {"rows": 61} and cards.in_words((flags, size)) == ("`--rows 61`", "72.0 GB")
    plan, n, V, H = cards.plan_of("grpo-1.5b", {}, rows=61), 1.5437e9, 151_936, 1536
    assert plan["weights"] == plan["reference"] == pytest.approx(2 * n, rel=1e-4)
    assert plan["gradients and optimiser"] == pytest.approx(16 * n, rel=1e-4)
    # Keys and values of 28 layers, 2 heads of 128, 2 bytes; 2,100 + 3,072 tokens, rounded up to a multiple of 256.
    assert plan["keys and values"] == 61 * 5376 * (2 * 28 * 2 * 128 * 2)
    # What autograd keeps in a layer, in numbers: gate, up, silu and their product 4 * 8960, and some ten of the stream.
    # Attention has four rows of 32 for the 80 tokens read: queries, keys, values, and what it mixes.
    layer = 2 * (4 * 8960 + 10 * H + 4 * 32 / 80 * (2 * H + 2 * 256))
    assert plan["training pass"] == pytest.approx(8192 * 28 * layer + 3 * 4 * 2**27 + 3 * V * H * 2, rel=0.05)
    assert size == sum(plan.values()) < 72.01e9 < sum(cards.plan_of("grpo-1.5b", {}, rows=62).values())
    assert sum(cards.plan_of("grpo-1.5b", {}).values()) == pytest.approx(202.7e9, rel=3e-4)


@pytest.mark.slow  # a minute
def test_the_whole_table_is_what_the_command_prints(capsys):
    pytest.importorskip("peft")
    assert "\n".join(cards.table()) in DOCS


def test_every_recipe_of_the_papers_is_in_the_table():
    for name, recipe in RECIPES.items():
        assert (name in DOCS) == recipe.get("model", "").startswith("Qwen"), name


def test_with_adapters_the_table_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    for function in vars(cards).values():  # what was counted before is kept
        getattr(function, "cache_clear", int)()
    with pytest.raises(ValueError, match="pip install peft"):
        cards.what_fits("grpo-1.5b", 24)
