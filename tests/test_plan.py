"""plan.py: what a run will need is known before it starts, and a model that cannot be sampled from is refused."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from conftest import tiny_model
from transformers import Gemma2Config, Gemma2ForCausalLM

from engine import memory as plan
from generate import KEPT, Slots


def settings(**changes):
    sizes = {"prompts_per_step": 4, "rollouts_per_prompt": 8, "max_new_tokens": 20, "micro_tokens": 100, "kl": 0.0}
    sizes |= {"temperature": 1.0, "gradient_checkpointing": False, "annotator": "online"}
    return SimpleNamespace(**sizes | changes)


def test_the_bytes_of_a_cached_token(qwen2):
    assert plan.check_sampler(qwen2, 30) == 2 * 2 * 2 * 8 * 4  # keys and values, layers, kv heads, head_dim, float32
    assert plan.check_sampler(qwen2.bfloat16(), 30) == 2 * 2 * 2 * 8 * 2
    assert qwen2 not in KEPT  # nothing is left behind
    assert qwen2.config._attn_implementation == "sdpa"


def test_what_the_slots_would_serve_wrongly_is_refused(policy, monkeypatch):
    plan.check_sampler(policy, 30)
    monkeypatch.setattr(Slots, "look_ahead", lambda self, *_: setattr(self, "view", 2))  # it would see two tokens
    with pytest.raises(ValueError, match="off those of a plain pass"):
        plan.check_sampler(policy, 30)


def test_windows_and_capped_scores_are_refused():
    with pytest.raises(ValueError, match="sees 8 tokens"):
        plan.check_sampler(tiny_model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=0), 9)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8, "pad_token_id": 0}
    config = Gemma2Config(vocab_size=23, num_attention_heads=4, num_key_value_heads=2, **sizes)
    with pytest.raises(ValueError, match="capped"):
        plan.check_sampler(Gemma2ForCausalLM(config).eval(), 9)


def test_activations_are_counted_by_the_token(qwen2):
    counted = plan.activation_bytes(qwen2)
    # By hand, the large ones of each of two layers, in floats: MLP gate, up, silu(gate) and their product 4 * 48; the
    # residual stream and its norms, q, k, v, rotated q and k, attention's output.
    assert 2 * 4 * (4 * 48 + 8 * 32) < counted < 2 * 4 * (6 * 48 + 24 * 32)
    plain = plan.memory_plan(qwen2, settings(micro_tokens=1000), 10)["training pass"]
    less = plan.memory_plan(qwen2, settings(micro_tokens=1000, gradient_checkpointing=True), 10)["training pass"]
    # one of two layers, and the inputs of both
    assert plain - less == pytest.approx(1000 * (counted / 2 - 2 * 32 * 4))


def test_the_parts_of_the_plan(qwen2):
    n = sum(p.numel() for p in qwen2.parameters())
    parts = plan.memory_plan(qwen2, settings(), 10)
    assert parts["weights"] == 4 * n
    assert parts["gradients and optimiser"] == 12 * n
    assert parts["reference"] == 0
    assert parts["keys and values"] == 32 * 64 * 256  # rows, columns in steps of 64, bytes of a token
    assert plan.memory_plan(qwen2, settings(kl=0.1), 10)["reference"] == 4 * n
    half = plan.memory_plan(qwen2.bfloat16(), settings(kl=0.1), 10)
    assert (half["weights"], half["gradients and optimiser"], half["reference"]) == (2 * n, 16 * n, 2 * n)
    for p in list(qwen2.parameters())[1:]:
        p.requires_grad_(False)  # as LoRA does: what is frozen has no gradient, and the reference shares it
    first = next(qwen2.parameters()).numel()
    frozen = plan.memory_plan(qwen2, settings(kl=0.1), 10)
    assert (frozen["gradients and optimiser"], frozen["reference"]) == (16 * first, 2 * first)


def test_the_plan_as_text():
    parts = {"weights": 10e6, "keys and values": 2.5e9, "sampling": 25e6}
    assert plan.as_text(parts) == "about 2.5 GB (weights 10 MB, keys and values 2.5 GB, sampling 25 MB)"


@pytest.mark.parametrize("name", ["Falcon", "Bloom"])
def test_models_whose_attention_cannot_be_replaced_are_refused(name):
    sizes = {"Falcon": {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}}
    sizes["Bloom"] = {"n_layer": 2, "hidden_size": 32, "n_head": 4}
    config = getattr(transformers, f"{name}Config")(vocab_size=23, **sizes[name])
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with pytest.raises(ValueError, match="cannot be replaced"):
        plan.check_sampler(model, 9)


def test_free_memory_is_less_than_a_machine_has_and_more_than_nothing():
    assert 1e8 < plan.free_memory(torch.device("cpu")) < 1e14
