"""Two-layer random models with a vocabulary of 23, of two kinds that fail differently.

GPT-2 has absolute positions: a wrong position shows at once. Qwen2 has rotary ones: a shift of all positions is
invisible to it, so that a test on Qwen2 alone would pass on broken padding.
"""

import gc

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

import eval as evaluation
import toy
from study import pictures

VOCABULARY = 23
torch.set_num_threads(1)  # for models as small as these a second thread costs more than it gives


def tiny_model(kind: str, **changes):
    torch.manual_seed(0)
    if kind == "qwen2":
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 1, **changes}
        # initializer_range: at the default 0.02 all distributions are nearly uniform, and wrong ones look right
        return Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, initializer_range=0.3, **sizes)).eval()
    sizes = {
        "n_positions": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **changes,
    }
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, initializer_range=0.3, **sizes)).eval()


def pytest_collection_finish():
    """Leave what is imported out of the searches for garbage: some test searches every few milliseconds."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter, config):
    """Say that pytest.ini leaves out the long tests, and how to run them."""
    left_out = [test for test in terminalreporter.stats.get("deselected", []) if test.get_closest_marker("slow")]
    if left_out and config.getoption("markexpr") == "not slow":
        terminalreporter.write_line(f'Long tests left out: {len(left_out)}. With them: python -m pytest -q -m ""')


@pytest.fixture(params=["qwen2", "gpt2"])
def policy(request):
    return tiny_model(request.param)


@pytest.fixture
def qwen2():
    return tiny_model("qwen2")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A small model that has read one-operation documents: it can add up, but rambles seven times in ten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "TRAIN_OPERATIONS", (1,))
        patch.setattr(toy, "HABITS", {"direct": 0.1, "reason": 0.2, "ramble": 0.7})
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        return toy.base_model(tmp_path_factory.mktemp("base"), steps=150, documents_per_step=48, **sizes)


@pytest.fixture
def no_pictures(monkeypatch):
    """Studies and runs without their pictures, which take longer to draw than a small study to sample."""

    def empty(content, path):
        path.write_bytes(b"")
        return ""  # and no SVG on the page

    monkeypatch.setattr(evaluation, "PICTURES", dict.fromkeys(evaluation.PICTURES, empty))
    monkeypatch.setattr(pictures, "learning", lambda rows, path: path.write_bytes(b""))
