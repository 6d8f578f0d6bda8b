"""bench.py: each part runs, compares like with like, and writes what it took."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bench
import train
from running import agreement, cards, gpu, roofline
from running.timing import compare, peak_memory


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setitem(bench.SIZES, "small", (32, 48, 2, 4, 2, 40_000, True))
    flags = "--model small --repeats 1 --prompts 3 --group 2 --prompt-tokens 8 --new-tokens 5 --head-tokens 400"
    return [*flags.split(), "--device", "cpu", "--out", str(tmp_path / "bench.json")]


def test_the_parts_run_and_are_written_down(small, tmp_path, capsys):
    assert bench.main([*small, "--parts", "rollouts", "head", "step"]) == 0
    written = json.loads((tmp_path / "bench.json").read_text())
    results, shown = written["results"], capsys.readouterr().out
    assert set(results["rollouts"]["ways"]) == {"generate.py", "model.generate", "model.generate, static cache"}
    assert results["rollouts"]["tokens"] == [3 * 2 * 5]
    assert results["head"]["gradient_error"] < 1e-5
    memory = {name: way["peak_bytes"] for name, way in results["head"]["ways"].items()}
    assert memory["HeadLogps"] < 0.7 * memory["log_softmax"]
    assert "skipped" in results["step"]
    for line in ("rollouts: model.generate", "head: log_softmax", "step: skipped"):
        assert line in shown
    assert written["machine"]["torch"]


def test_the_memory_that_training_needs(small, tmp_path, capsys):
    pytest.importorskip("peft")
    assert bench.main([*small, "--parts", "memory"]) == 0
    whole, adapters = json.loads((tmp_path / "bench.json").read_text())["results"]["memory"]["plans"].values()
    assert adapters["gradients and optimiser"] < whole["gradients and optimiser"] / 10
    assert adapters["training pass"] < whole["training pass"]
    assert "memory, --lora 32" in capsys.readouterr().out


def test_shares_of_the_limits_are_those_of_the_formula(small, tmp_path, monkeypatch, capsys):
    flops, bandwidth, times = 1e9, 2e9, iter([5.0, 1.0, 2.0, 3.0, 4.0])  # decode, prefill twice, train twice
    monkeypatch.setattr(roofline, "machine_limits", lambda *_: {"flops": flops, "bandwidth": bandwidth})
    monkeypatch.setattr(roofline, "seconds", lambda work, device: (work(), next(times))[1])
    assert bench.main([*small, "--parts", "limits"]) == 0
    found = json.loads((tmp_path / "bench.json").read_text())["results"]["limits"]
    N, T, H, V = 6, 5, 32, 40_000
    prompt = sum(map(len, bench.make_prompts(cards.shape_of("small"), None, 3, 8, 5))) / 3
    attention, mlp = (H * H + H) + 2 * (H * 16 + 16) + H * H, 3 * H * 48  # with the biases of q, k and v
    body, head = 2 * (attention + mlp + 2 * H) + H, V * H  # two layers with two norms each, and a last norm
    weights = max(4 * (body + head) / bandwidth, 2 * N * (body + head) / flops)
    fastest = (T - 1) * (weights + N * (prompt + T / 2) * (2 * 2 * 2 * 8 * 4) / bandwidth)
    assert found["decode_of_roofline"] == pytest.approx(fastest / (5 - 1))
    assert found["decode_tokens_per_second"] == pytest.approx(N * (T - 1) / (5 - 1))
    B, read = 3, T - 1  # each prompt is read once, and of a completion all but its last token
    operations = 6 * body * (B * prompt + N * read) + 6 * head * N * T
    operations += 3 * 4 * 2 * H * (B * prompt * prompt / 2 + N * read * prompt + N * read * read / 2)
    assert found["train_of_peak"] == pytest.approx(operations / flops / 3)
    assert "limits: decoding 6 tokens/s" in capsys.readouterr().out


def test_ratios_are_taken_pair_by_pair():
    ways = compare({"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 4.0, 20.0]})
    assert ways["theirs"]["ratio"] == 3.0
    assert ways["theirs"]["ratio_range"] == [2.0, 5.0]


def test_memory_is_what_the_work_held_at_most():
    import torch

    def work():
        held = torch.ones(50_000_000)  # 200 MB, for as long as it takes to be seen, and gone
        time.sleep(0.2)
        return held

    assert 150e6 < peak_memory(work, "cpu") < 300e6


@pytest.mark.parametrize(
    ("flags", "said"),
    [("--model gpt5", "--model gpt5"), ("--parts speed", "--parts speed"), ("--repeats 0", "--repeats 0")],
)
def test_bad_flags_are_one_clear_line(flags, said, capsys):
    assert bench.main(flags.split()) == 2
    assert capsys.readouterr().err.startswith(f"bench.py: {said}")


def test_agreement_is_zero_in_float32_and_sees_a_sampler_that_errs(small, tmp_path, monkeypatch):
    monkeypatch.setitem(bench.SIZES, "small", (32, 48, 2, 4, 2, 4000, True))

    def found(*more) -> dict:
        assert bench.main([*small, "--parts", "agreement", *more]) == 0
        return json.loads((tmp_path / "bench.json").read_text())["results"]["agreement"]["passes"]

    assert max(found("--dtype", "float32").values()) < 1e-4
    rounded = found("--dtype", "bfloat16")
    assert 1e-4 < rounded["gap_training_pass"] < 0.1 and 1e-3 < rounded["gradient_error"] < 0.2
    sample = agreement.generate

    def biased(*args, **kwargs):
        rollouts = sample(*args, **kwargs)
        return replace(rollouts, logps=rollouts.logps - 0.5)

    monkeypatch.setattr(agreement, "generate", biased)
    assert found("--dtype", "float32")["gap_sampler"] == pytest.approx(0.5, abs=1e-3)
    assert found("--dtype", "float32")["gap_training_pass"] < 1e-4


def test_two_samplers_agree_up_to_the_first_token_that_differs(qwen2, monkeypatch):
    prompts = [[1, 2, 3], [4, 5]]
    found = agreement.of_samplers(qwen2, prompts, 3, 6)
    assert found == {"equal_rows": 1.0, "compared_tokens": 2 * 3 * 6, "gap": 0.0}
    sample, calls = agreement.generate, []

    def other_second_time(*args, generator, **kwargs):
        calls.append(None)
        rollouts = sample(*args, generator=generator, **kwargs)
        if len(calls) == 2:  # from its second token on, the first row says something else
            rollouts.token_ids[0, 4:] += 1
            rollouts.logps[0] += 1.0
        return rollouts

    monkeypatch.setattr(agreement, "generate", other_second_time)
    found = agreement.of_samplers(qwen2, prompts, 3, 6)
    assert found["equal_rows"] == pytest.approx(5 / 6) and found["compared_tokens"] == 5 * 6 + 1
    assert found["gap"] == pytest.approx(1 / 31)


def test_a_whole_step_of_a_size(small, tmp_path, capsys):
    assert bench.main([*small, "--parts", "whole", "--rows", "4", "--new-tokens", "8"]) == 0
    found = json.loads((tmp_path / "bench.json").read_text())["results"]["whole"]
    assert found["rows"] == 6 and 6 * 2 <= found["tokens"] <= 6 * 8
    assert all(seconds > 0 for times in found["seconds"].values() for seconds in times)
    assert found["sampling_gap"] < 1e-4
    assert found["planned_bytes"] > 0 < found["peak_bytes"]
    assert "whole: generate " in capsys.readouterr().out


def test_the_profile_has_the_largest_operations_first(small, tmp_path, capsys):
    assert bench.main([*small, "--parts", "profile"]) == 0
    found = json.loads((tmp_path / "bench.json").read_text())["results"]["profile"]["profile"]
    for part in ("generate", "update"):
        shares = [share for share, _ in found[part].values()]
        assert shares == sorted(shares, reverse=True) and 0.3 < sum(shares) <= 1
        assert found[part]["aten::mm"][1] > 0
    assert "profile, update: " in capsys.readouterr().out


# --- bench.py --gpu -------------------------------------------------------------------------------------------------


def test_each_work_is_a_command_that_its_program_takes():
    for work in gpu.WORKS:
        program, *flags = f"{work.command} {work.rehearsal} --device cpu".split()
        if program == "train.py":
            settings, _, _ = train.parse(flags)
            assert settings.eval_samples == 0
        else:
            settings = bench.parse(flags)
            bench.complete(settings)
        assert work.limit < gpu.SECONDS
    assert len({work.name for work in gpu.WORKS}) == len(gpu.WORKS)


def test_parts_beside_gpu_are_refused(capsys):
    assert bench.main(["--gpu", "--parts", "head"]) == 2
    assert "--parts: --gpu runs parts of its own" in capsys.readouterr().err


def test_what_fails_or_hangs_leaves_the_others_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = "import json, sys; given = sys.argv[1:]; open(given[given.index('--out') + 1], 'w').write"
    Path("good.py").write_text(f"{out}(json.dumps({{'results': given}})); print('all well')")
    Path("bad.py").write_text("raise SystemExit('no room')")
    Path("hangs.py").write_text("import time; time.sleep(60)")
    Path("train.py").write_text(
        "import json, os, sys; run = sys.argv[sys.argv.index('--run') + 1]; os.makedirs(run, exist_ok=True);"
        "rows = [{'accuracy': i / 10, 'seconds_generate': i, 'seconds_train': 2 * i} for i in range(8)];"
        "open(run + '/metrics.jsonl', 'w').write(''.join(json.dumps(row) + chr(10) for row in rows))"
    )
    names = {
        "good": ("good.py --full", "--small"),
        "bad": ("bad.py", ""),
        "hangs": ("hangs.py", ""),
        "learns": ("train.py", ""),
    }
    works = [gpu.Work(name, command, 1 if name == "hangs" else 30, small) for name, (command, small) in names.items()]
    monkeypatch.setattr(gpu, "WORKS", works)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card X")
    assert bench.gpu.main(None, "cuda") == 1
    found = json.loads(Path("results/gpu-Card-X.json").read_text())["works"]
    assert [work["rc"] for work in found.values()] == [0, 1, None, 0]
    assert found["good"]["found"] == ["--full", "--device", "cuda", "--out", "runs/gpu/good.json"]
    assert found["good"]["says"] == "all well" and "no room" in found["bad"]["says"]
    learnt = {"steps": 8, "accuracy_first": 0.2, "accuracy_last": 0.5, "seconds_generate": 4, "seconds_train": 8}
    assert found["learns"]["found"] == pytest.approx(learnt)
    assert "Failed: bad, hangs" in capsys.readouterr().out
    # What an earlier run left is not taken for this one's, and behind the last second nothing is begun.
    Path("runs/gpu/bad.json").write_text('{"results": "old"}')
    monkeypatch.setattr(gpu, "WORKS", [works[1], works[0]])
    monkeypatch.setattr(gpu, "SECONDS", 0)
    assert gpu.main(None, "cuda") == 1
    found = json.loads(Path("results/gpu-Card-X.json").read_text())["works"]
    assert [(work["rc"], work["found"]) for work in found.values()] == [(None, None)] * 2
    monkeypatch.setattr(gpu, "WORKS", works[:1])
    assert gpu.main(None, "cpu") == 0  # a rehearsal
    assert json.loads(Path("runs/gpu-rehearsal.json").read_text())["works"]["good"]["found"][:2] == [
        "--full",
        "--small",
    ]
