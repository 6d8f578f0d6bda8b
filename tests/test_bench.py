"""bench.py: each part runs, compares like with like, and writes what it took."""

import json

import pytest

import bench


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "SIZES", {"small": (32, 48, 2, 4, 2)})
    monkeypatch.setattr(bench, "VOCABULARY", 110_000)
    flags = "--model small --repeats 1 --prompts 3 --group 2 --prompt-tokens 8 --new-tokens 5 --head-tokens 400"
    return [*flags.split(), "--device", "cpu", "--out", str(tmp_path / "bench.json")]


def test_the_parts_run_and_are_written_down(small, tmp_path, capsys):
    assert bench.main([*small, "--parts", "rollouts", "head", "limits", "step"]) == 0
    written = json.loads((tmp_path / "bench.json").read_text())
    results, shown = written["results"], capsys.readouterr().out
    assert set(results["rollouts"]["ways"]) == {"generate.py", "model.generate", "model.generate, static cache"}
    assert results["rollouts"]["tokens"] == [3 * 2 * 5]
    assert results["head"]["gradient_error"] < 1e-5
    memory = {name: way["peak_bytes"] for name, way in results["head"]["ways"].items()}
    assert memory["HeadLogps"] < memory["log_softmax"]
    assert 0 < results["limits"]["train_of_peak"] < 1
    assert 0 < results["limits"]["decode_of_roofline"] < 1
    assert "skipped" in results["step"]
    for line in ("rollouts: model.generate", "head: log_softmax", "limits: decoding", "step: skipped"):
        assert line in shown
    assert written["machine"]["torch"]


def test_the_memory_that_training_needs(small, tmp_path, capsys):
    pytest.importorskip("peft")
    assert bench.main([*small, "--parts", "memory"]) == 0
    whole, adapters = json.loads((tmp_path / "bench.json").read_text())["results"]["memory"]["plans"].values()
    assert adapters["gradients and optimiser"] < whole["gradients and optimiser"] / 10
    assert adapters["training pass"] < whole["training pass"]
    assert "memory, --lora 32" in capsys.readouterr().out


def test_ratios_are_taken_pair_by_pair():
    ways = bench.compare({"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 4.0, 20.0]})
    assert ways["theirs"]["ratio"] == 3.0
    assert ways["theirs"]["ratio_range"] == [2.0, 5.0]


def test_memory_is_what_the_work_held_at_most():
    import torch

    def work():
        torch.ones(50_000_000)  # 200 MB, and gone

    assert 150e6 < bench.peak_memory(work, "cpu") < 300e6


@pytest.mark.parametrize(
    ("flags", "said"),
    [("--model gpt5", "--model gpt5"), ("--parts speed", "--parts speed"), ("--repeats 0", "--repeats 0")],
)
def test_bad_flags_are_one_clear_line(flags, said, capsys):
    assert bench.main(flags.split()) == 2
    assert capsys.readouterr().err.startswith(f"bench.py: {said}")
