"""engine/memory.py: what a run will need is known before it starts; a model that cannot be sampled from is refused."""

import pytest
import torch
import transformers
from conftest import tiny_model
from transformers import Gemma2Config, Gemma2ForCausalLM

from engine import memory as plan
from engine import slots
from engine.slots import Slots
from running.files import BadInput


def planned(policy, **changes) -> dict:
    """The plan for four prompts of up to 10 tokens."""
    sizes = {"prompts_per_step": 4, "rollouts_per_prompt": 8, "max_new_tokens": 20, "micro_tokens": 100}
    flags = {"temperature": 1.0, "gradient_checkpointing": False, "reference": False}
    return plan.memory_plan(policy, 10, **{**sizes, **flags, **changes})


def test_the_bytes_of_a_cached_token(qwen2):
    assert plan.check_sampler(qwen2, 30) == 2 * 2 * 2 * 8 * 4  # keys and values, layers, kv heads, head_dim, float32
    assert plan.check_sampler(qwen2.bfloat16(), 30) == 2 * 2 * 2 * 8 * 2
    assert qwen2 not in slots._kept  # nothing is left behind
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
    plain = planned(qwen2, micro_tokens=1000)["training pass"]
    less = planned(qwen2, micro_tokens=1000, gradient_checkpointing=True)["training pass"]
    # one of two layers, and the inputs of both
    assert plain - less == pytest.approx(1000 * (counted / 2 - 2 * 32 * 4))


def test_the_parts_of_the_plan(qwen2):
    n = sum(p.numel() for p in qwen2.parameters())
    parts = planned(qwen2)
    assert parts["weights"] == 4 * n
    assert parts["gradients and optimiser"] == 12 * n
    assert parts["reference"] == 0
    assert parts["keys and values"] == 32 * 64 * 256  # rows, columns in steps of 64, bytes of a token
    assert planned(qwen2, reference=True)["reference"] == 4 * n
    half = planned(qwen2.bfloat16(), reference=True)
    assert (half["weights"], half["gradients and optimiser"], half["reference"]) == (2 * n, 16 * n, 2 * n)
    for p in list(qwen2.parameters())[1:]:
        p.requires_grad_(False)  # as LoRA does: what is frozen has no gradient, and the reference shares it
    first = next(qwen2.parameters()).numel()
    frozen = planned(qwen2, reference=True)
    assert (frozen["gradients and optimiser"], frozen["reference"]) == (16 * first, 2 * first)


def test_the_bytes_of_sampling(qwen2):
    cpu, V, H = torch.device("cpu"), 23, 32
    slots, logits = plan.sampling_bytes(qwen2, cpu, 10, 70, 100, 1.0)
    assert slots == 10 * 128 * 100  # rows, columns in steps of 64, bytes of a token
    assert logits == 2 * 4 * 10 * V  # logits and probabilities, float32
    assert plan.sampling_bytes(qwen2, cpu, 10, 70, 100, 0.7)[1] == 4 * 4 * 10 * V  # and what is divided, and its own
    assert (
        plan.sampling_bytes(qwen2.bfloat16(), cpu, 10, 70, 100, 1.0)[1] == 2 * 4 * 10 * V + 4 * V * H
    )  # a float32 head
    assert plan.sampling_bytes(qwen2, torch.device("cuda"), 10, 70, 100, 1.0)[0] == 10 * 256 * 100


def test_a_plan_larger_than_what_is_free_is_refused(qwen2, monkeypatch, capsys):
    flags = {"prompts_per_step": 4, "rollouts_per_prompt": 8, "max_new_tokens": 20, "micro_tokens": 100}
    flags |= {
        "temperature": 1.0,
        "gradient_checkpointing": False,
        "reference": True,
        "reward_model": tiny_model("gpt2"),
    }
    parts = plan.memory_plan(qwen2, 10, **flags)
    assert parts["reward model"] == 4 * sum(p.numel() for p in flags["reward_model"].parameters())
    missing = sum(parts.values()) - parts["weights"] - parts["reward model"]  # these are loaded already
    monkeypatch.setattr(plan, "free_memory", lambda device: missing)
    plan.check_memory(qwen2, "mine", 10, **flags)
    assert capsys.readouterr().out.startswith("Memory: about")
    monkeypatch.setattr(plan, "free_memory", lambda device: missing - 1)
    with pytest.raises(BadInput, match="--micro-tokens"):
        plan.check_memory(qwen2, "mine", 10, rows=32, **flags)
    windowed = tiny_model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=0)
    with pytest.raises(BadInput, match="--model mine: cannot be trained here"):
        plan.check_memory(windowed, "mine", 10, **flags)


def test_fewer_rows_at_once_need_fewer_keys_and_values(qwen2):
    parts, few = planned(qwen2), planned(qwen2, rows=17)
    assert parts["keys and values"] - few["keys and values"] == 15 * 64 * 256  # columns, bytes of a token
    assert parts["sampling"] - few["sampling"] == 15 * 2 * 4 * 23  # logits and probabilities, float32
    assert planned(qwen2, rows=1000) == parts  # there are only 32
    # One row: one prompt is prefilled at a time, or two where a group ends between them; each has ten tokens.
    one, layer = planned(qwen2, rows=1), plan.activation_bytes(qwen2) / 2
    assert one["sampling"] == pytest.approx(2 * 4 * 23 + 2 * 10 * layer)
    assert planned(qwen2, measured=(1, 5.0))["keys and values"] == 32 * 64  # of a token of one byte


def test_rows_are_chosen_where_all_of_them_would_not_fit(qwen2, monkeypatch, capsys):
    flags = {"prompts_per_step": 4, "rollouts_per_prompt": 8, "max_new_tokens": 20, "micro_tokens": 100}
    flags |= {"temperature": 1.0, "gradient_checkpointing": False, "reference": False}
    parts, row = planned(qwen2), 64 * 256 + 2 * 4 * 23  # bytes of a row: keys and values, logits and probabilities
    with_17 = sum(parts.values()) - 15 * row

    def chosen(room, **more):
        monkeypatch.setattr(plan, "free_memory", lambda device: room - parts["weights"])  # these are loaded already
        return plan.check_memory(qwen2, "mine", 10, **flags, **more)

    assert chosen(sum(parts.values())) is None  # all fit, though by a hair: nothing is chosen
    assert capsys.readouterr().out.count("\n") == 1
    assert chosen(with_17 / 0.9 + 1) == 17  # a tenth stays free
    assert capsys.readouterr().out.startswith("All 32 rows at once would not fit: sampled 17 at a time (--rows 17)\n")
    assert chosen(with_17 / 0.9 - 1) == 16
    assert chosen(with_17 / 0.9 + 1, rows=20) == 20  # what was asked for is kept, if it fits
    with pytest.raises(BadInput, match="lower --rows, --micro-tokens"):
        chosen(with_17, rows=20)
    with pytest.raises(BadInput, match="free: lower --micro-tokens"):
        chosen(parts["weights"] + 1000)  # not even one row


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
