"""train.py as a user runs it, on a toy base model taught for a few seconds."""

import ast
import dataclasses
import inspect
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import bench
import data
import distill
import eval as evaluation
import grpo
import rewards
import toy
import train
from bridges import train_with_trl
from engine import head, memory
from generate import generate, stream
from running import stopping, toy_reward_model
from running.flags import shown
from running.folder import alone
from running.logs import pairwise_accuracy
from running.models import add_lora
from running.reward_models import load_reward_model, reward_model_scores
from study import certainty, compare, pictures, reproduce, samples, seeds

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def arguments(base, tmp_path):
    """The flags of a run of four small steps on a file of chains of one operation."""
    file = tmp_path / "problems.jsonl"
    problems = [(p, a) for p, a in toy.make_problems("train", 400) if len(toy.steps(p)) == 1]
    file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in problems))
    flags = f"--model {base} --data {file} --run {tmp_path / 'run'} --max-new-tokens 30 --lr 1e-3 --eval-samples 0"
    return shlex.split(f"{flags} --prompts-per-step 4 --rollouts-per-prompt 8 --steps 4")


def metrics(arguments) -> list[dict]:
    folder = Path(arguments[arguments.index("--run") + 1])
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder) -> torch.Tensor:
    return torch.cat([p.flatten() for p in AutoModelForCausalLM.from_pretrained(folder).parameters()])


# --- it learns ------------------------------------------------------------------------------------------------------


def accuracies(arguments, monkeypatch, reward, steps: int) -> tuple[float, float]:
    """Those of the first and the last three steps."""
    monkeypatch.setitem(rewards.REWARDS, "correct", reward)
    assert train.main([*arguments, "--steps", str(steps), "--prompts-per-step", "16"]) == 0
    rows = metrics(arguments)
    return sum(row["accuracy"] for row in rows[:3]) / 3, sum(row["accuracy"] for row in rows[-3:]) / 3


def test_a_short_run_learns(arguments, monkeypatch):
    before, after = accuracies(arguments, monkeypatch, lambda graded, verdicts: verdicts, steps=16)
    assert before < 0.5
    assert after > before + 0.3


def test_and_with_the_reward_turned_round_it_does_not(arguments, monkeypatch):
    before, after = accuracies(arguments, monkeypatch, lambda graded, verdicts: 1 - verdicts, steps=8)
    assert after < before / 2


# --- the run folder -------------------------------------------------------------------------------------------------

METRICS = [
    *("step", "reward_mean", "reward_std", "accuracy", "answered", "self_certainty", "kl", "entropy"),
    *(
        "completion_tokens",
        "truncated",
        "zero_std_groups",
        "pairwise_accuracy",
        "unique_answers",
        "clip_fraction",
        "grad_norm",
        "loss",
        "lr",
    ),
    *("seconds_generate", "seconds_reward", "seconds_train", "tokens_per_second", "ratio_change", "sampling_gap"),
]


DRAW_LEARNING = pictures.learning


def test_a_run_leaves_its_settings_metrics_samples_pictures_and_a_model_that_loads(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "learning", DRAW_LEARNING)
    assert train.main(arguments) == 0
    run = tmp_path / "run"
    config = json.loads((run / "config.json").read_text())
    settings = config["minreason"]
    assert (config["minreason_defaults"]["steps"], config["model_type"]) == (60, "qwen2")
    assert (settings["steps"], settings["lr"], settings["template"], settings["kl"]) == (4, 1e-3, "plain", 0.005)
    rows = metrics(arguments)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert all(set(METRICS) == set(row) for row in rows)
    assert rows[0]["kl"] == 0  # the policy is still the reference
    assert rows[3]["kl"] > 0
    assert all(row["ratio_change"] == row["clip_fraction"] == 0 for row in rows)  # on policy
    assert all(row["sampling_gap"] < 1e-5 for row in rows)
    assert [row["lr"] for row in rows] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4])  # five steps of warm-up
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert {"prompt", "completion", "gold", "correct", "reward"} <= set(samples[0])
    assert (run / "learning.png").stat().st_size > 10_000
    assert AutoTokenizer.from_pretrained(run)("7+8=")["input_ids"] == toy.make_tokenizer()("7+8=")["input_ids"]
    assert not torch.equal(weights(run), weights(arguments[1]))
    assert not list(run.glob("*.new"))


def test_a_run_is_drawn_and_shown_every_ten_steps_and_at_its_end(arguments, tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(pictures, "learning", lambda rows, path: drawn.append((path, [row["step"] for row in rows])))
    assert train.main([*arguments, "--steps", "12"]) == 0
    said = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert said == ["0", "10", "11"]
    picture = tmp_path / "run" / "learning.png"
    assert drawn == [(picture, list(range(n))) for n in (1, 11, 12)]
    drawn.clear()
    assert train.main([*arguments, "--steps", "14", "--resume"]) == 0
    assert drawn == [(picture, list(range(14)))]  # with the steps before


def test_a_run_resumed_is_bit_for_bit_the_run_never_interrupted(arguments, tmp_path, monkeypatch):
    assert train.main(arguments) == 0
    whole, expected = weights(tmp_path / "run"), metrics(arguments)

    class Killed(Exception):
        pass

    def killed_in_step_3(rows, warned):
        if rows[-1]["step"] == 3:
            raise Killed  # after the third step was logged: its line must not stay twice

    with monkeypatch.context() as patch:
        patch.setattr(train, "warn", killed_in_step_3)
        with pytest.raises(Killed):
            train.main([*arguments, "--save-every", "2", "--overwrite"])
    assert len(metrics(arguments)) == 4
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["steps"] == 2  # behind step 1; 3 was not saved
    assert train.main([*arguments, "--resume"]) == 0
    assert torch.equal(weights(tmp_path / "run"), whole)
    timeless = [{k: v for k, v in row.items() if "second" not in k} for row in metrics(arguments)]
    assert timeless == [{k: v for k, v in row.items() if "second" not in k} for row in expected]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_run_behind_its_step_and_nothing_is_lost(arguments, tmp_path, monkeypatch, capsys, number):
    assert train.main(arguments) == 0
    whole, expected = weights(tmp_path / "run"), metrics(arguments)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def struck_in_step_1(rows, warned):
        if rows[-1]["step"] == 1:
            os.kill(os.getpid(), number)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(train, "warn", struck_in_step_1)
        assert train.main([*arguments, "--overwrite"]) == 128 + number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("train.py: stopped before step 2") and said.endswith(f"--run {tmp_path / 'run'} --resume")
    assert [row["step"] for row in metrics(arguments)] == [0, 1]
    assert train.main([*arguments, "--resume"]) == 0
    assert torch.equal(weights(tmp_path / "run"), whole)
    assert [row["accuracy"] for row in metrics(arguments)] == [row["accuracy"] for row in expected]


def test_a_second_process_in_the_same_folder_is_refused_and_the_first_loses_nothing(arguments, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main(arguments) == 0
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    study = ["toy", str(run), "--samples", "2", "--limit", "2", "--out", str(run)]
    distilled = ["--teacher", "self", "--run", str(run), "--overwrite"]
    with alone(run, "--run"):
        for program, argv in ((train, [*arguments, "--overwrite"]), (distill, distilled), (evaluation, study)):
            capsys.readouterr()
            assert program.main(argv) == 2
            said = capsys.readouterr().err.strip().splitlines()[-1]
            assert f"{run}: another process is at work in it" in said
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    with alone(run, "--run"):  # it ends with the block
        pass
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "new" / "run", "--run"):
        1 / 0  # noqa: B018
    assert not (tmp_path / "new").exists()


def test_a_second_ctrl_c_ends_it_at_once(arguments, monkeypatch, capsys):
    def struck_twice(rows, warned):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    monkeypatch.setattr(train, "warn", struck_twice)
    monkeypatch.setattr("sys.argv", ["some/where/train.py"])
    capsys.readouterr()
    assert stopping.program(lambda: train.main(arguments), "sing") == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "train.py: stopped; sing"
    assert stopping.program(lambda: 7, "sing") == 7


def test_ctrl_c_while_the_model_is_saved_is_not_forgotten(arguments, tmp_path, monkeypatch, capsys):
    """The model is saved whole, and no study begins."""
    save = train.save_model

    def struck_while_saving(*parts):
        os.kill(os.getpid(), signal.SIGINT)
        save(*parts)

    monkeypatch.setattr(train, "save_model", struck_while_saving)
    monkeypatch.setattr(train, "before_and_after", None)
    assert train.main([*arguments, "--eval-samples", "2", "--eval-limit", "2", "--eval-data", "toy"]) == 130
    assert "go on by" in capsys.readouterr().err.strip().splitlines()[-1]
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_run_killed_after_its_last_step_can_still_be_finished(arguments, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def killed(*_):
        raise Killed

    for place in ("save_model", "before_and_after"):  # before the model is there, and before the study is
        study = ["--eval-data", "toy", "--eval-samples", "2", "--eval-limit", "6", "--steps", "2"]
        with monkeypatch.context() as patch:
            patch.setattr(train, place, killed)
            with pytest.raises(Killed):
                train.main([*arguments, *study, "--overwrite"])
        with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
            file.write('{"step": 2, "accu')  # and a line cut off
        assert train.main([*arguments, *study, "--resume"]) == 0
        assert [row["step"] for row in metrics(arguments)] == [0, 1]
        assert weights(tmp_path / "run").isfinite().all()
        assert (tmp_path / "run" / "passk.json").exists()


def test_a_run_in_bfloat16_keeps_float32_weights_samples_what_it_trains_and_goes_on_bit_for_bit(arguments, tmp_path):
    half = [*arguments, "--dtype", "bfloat16", "--updates-per-step", "2", "--steps", "3"]
    assert train.main(half) == 0
    whole = weights(tmp_path / "run")
    assert whole.dtype == torch.float32
    assert not torch.equal(whole, whole.bfloat16().float())  # the masters, and not what sampled
    assert all(0 < row["sampling_gap"] < 0.05 for row in metrics(arguments))
    assert train.main([*half, "--steps", "1", "--overwrite"]) == 0
    assert train.main([*half, "--resume"]) == 0  # from float32 weights: those of the policy are rounded
    assert torch.equal(weights(tmp_path / "run"), whole)


def test_checkpointed_layers_give_the_same_run(arguments, tmp_path):
    arguments = [*arguments, "--steps", "2"]
    assert train.main(arguments) == 0
    whole = weights(tmp_path / "run")
    assert train.main([*arguments, "--gradient-checkpointing", "--overwrite"]) == 0
    assert torch.allclose(weights(tmp_path / "run"), whole, atol=1e-6)


def test_fewer_rows_at_once_give_the_same_run(arguments, tmp_path, monkeypatch):
    asked, drawn, whole = [], [], train.generate

    def watched(*args, slots, **kwargs):
        rollouts = whole(*args, slots=slots, **kwargs)
        asked.append(slots)
        drawn.append(rollouts.completions())
        return rollouts

    monkeypatch.setattr(train, "generate", watched)
    looks = ["--eval-data", arguments[3], "--eval-limit", "3", "--eval-every", "1"]
    flags = [*arguments, *looks, "--algorithm", "remax", "--steps", "2"]  # a greedy completion beside the others
    assert train.main(flags) == 0
    assert train.main([*flags, "--rows", "5", "--overwrite"]) == 0
    half = len(drawn) // 2
    assert half == 2 * 4  # each step: two looks of two problems and one, rollouts, greedy ones
    assert asked == [None] * half + [5] * half
    assert drawn[half:] == drawn[:half]


def test_rows_that_were_chosen_are_recorded_and_a_resumed_run_may_have_others(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "rows_that_fit", lambda plan_of, most, room: most // 2)
    plans = iter([{"sampling": 1e12}, {"sampling": 1.0}, {"sampling": 1.0}])
    monkeypatch.setattr(memory, "memory_plan", lambda *_, **flags: next(plans))
    assert train.main([*arguments, "--steps", "1"]) == 0
    assert "sampled 16 at a time" in capsys.readouterr().out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["minreason"]["rows"] == 16 and config["minreason_defaults"]["rows"] is None
    assert train.main([*arguments, "--steps", "2", "--resume", "--rows", "3"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["minreason"]["rows"] == 3


def test_the_name_of_an_architecture_comes_into_the_folder_last(arguments, tmp_path, monkeypatch):
    # a folder whose config.json names one counts as finished
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (moved.append(Path(target)), replace(source, target))[1])
    assert train.main([*arguments, "--steps", "1"]) == 0
    saved = [path.name for path in moved if path.parent == tmp_path / "run"]
    assert saved[-1] == "config.json"
    assert {"model.safetensors", "tokenizer.json"} <= set(saved[:-1])


def test_lora_trains_adapters_alone_and_leaves_a_plain_model(arguments, base, tmp_path):
    pytest.importorskip("peft")
    flags = [*arguments, "--lora", "2", "--lr", "1e-2", "--kl", "0.1"]
    assert train.main(flags) == 0
    rows = metrics(arguments)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)  # adapters start as nothing
    assert rows[-1]["kl"] > 1e-4  # and the reference has stayed what it was
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (base, tmp_path / "run"))
    changed = 0
    for (name, old), (other, new) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert name == other
        rank = torch.linalg.matrix_rank(new - old, atol=1e-4) if old.ndim == 2 else (new != old).any()
        assert rank <= (2 if "proj" in name else 0)
        changed += int(rank > 0)
    assert changed > 5
    whole = weights(tmp_path / "run")
    assert train.main([*flags, "--steps", "2", "--overwrite"]) == 0
    assert train.main(["--run", str(tmp_path / "run"), "--resume", "--steps", "4"]) == 0
    assert torch.equal(weights(tmp_path / "run"), whole)


def test_adapters_have_an_alpha_of_twice_their_rank_and_are_drawn_from_the_seed(base):
    pytest.importorskip("peft")
    drawn = []
    for seed in (1, 1, 2):
        policy = AutoModelForCausalLM.from_pretrained(base)
        before = torch.get_rng_state()
        add_lora(policy, 4, seed)
        assert torch.equal(torch.get_rng_state(), before)  # nobody else's stream is moved
        layers = [module for module in policy.modules() if hasattr(module, "lora_A")]
        assert len(layers) == 7 * policy.config.num_hidden_layers
        assert {layer.scaling["default"] for layer in layers} == {2.0}  # alpha / rank
        drawn.append(torch.cat([layer.lora_A["default"].weight.flatten() for layer in layers]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_layers_checkpoint_while_training_and_not_while_sampling(arguments, monkeypatch):
    seen = {"generate": set(), "update": set(), "reference": set()}
    for name in ("generate", "update"):
        whole = getattr(train, name)

        def watched(policy, *args, whole=whole, name=name, **kwargs):
            def note(layer, *_):
                seen[name].add(layer.training)

            hooks = [layer.register_forward_pre_hook(note) for layer in policy.base_model.layers]
            if name == "update":
                notes = args[0].base_model.layers[0]
                hooks.append(notes.register_forward_pre_hook(lambda layer, _: seen["reference"].add(layer.training)))
            result = whole(policy, *args, **kwargs)
            for hook in hooks:
                hook.remove()
            return result

        monkeypatch.setattr(train, name, watched)
    assert train.main([*arguments, "--gradient-checkpointing"]) == 0
    assert seen["generate"] == seen["reference"] == {False}
    assert True in seen["update"]  # and when a layer is computed again it is asked as part of the backward pass


def test_a_state_of_another_version_is_refused(arguments, tmp_path, capsys):
    assert train.main([*arguments, "--steps", "1"]) == 0
    torch.save({"steps": 1, "policy": {}, "optimizer": {}}, tmp_path / "run" / "state.pt")
    assert train.main([*arguments, "--resume"]) == 2
    assert "another version" in capsys.readouterr().err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["minreason"]["colour"] = "blue"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert train.main([*arguments, "--resume"]) == 2
    assert "another version" in capsys.readouterr().err


def test_a_study_that_would_not_fit_is_refused(arguments, base, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(samples, "free_memory", lambda device: 1000)
    flags = ["--data", arguments[3], "--samples", "2", "--max-new-tokens", "30", "--out", str(tmp_path / "out")]
    assert evaluation.main([str(base), *flags]) == 2
    assert "--rows" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_lora_without_peft_says_what_to_install(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert train.main([*arguments, "--lora", "2"]) == 2
    assert "pip install peft" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_that_would_not_fit_is_refused_before_it_starts(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    assert train.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("Memory: about")
    assert "--micro-tokens" in shown.err
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_sampled_from_is_refused(arguments, base, tmp_path, capsys):
    windowed = tmp_path / "windowed"
    shutil.copytree(base, windowed)
    config = json.loads((windowed / "config.json").read_text())
    config |= {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}
    config["layer_types"] = ["sliding_attention"] * config["num_hidden_layers"]
    (windowed / "config.json").write_text(json.dumps(config))
    assert train.main([*arguments, "--model", str(windowed)]) == 2
    assert "sees 16 tokens" in capsys.readouterr().err
    assert evaluation.main([str(windowed), "--data", arguments[3], "--samples", "2", "--max-new-tokens", "30"]) == 2
    assert "sees 16 tokens" in capsys.readouterr().err


def test_a_longer_run_killed_before_its_study_can_still_be_finished(arguments, tmp_path, monkeypatch):
    # the shorter run was finished: neither its model nor its study may pass for those of the longer one
    study = ["--eval-data", "toy", "--eval-samples", "2", "--eval-limit", "6"]
    run, more = tmp_path / "run", ["--run", str(tmp_path / "run"), "--resume", "--steps", "2"]
    assert train.main([*arguments, *study, "--steps", "1"]) == 0
    shorter = weights(run)
    for place in ("save_model", "before_and_after"):
        with monkeypatch.context() as patch:
            patch.setattr(train, place, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                train.main(more)
        assert not (run / "passk.json").exists()
    assert train.main(more) == 0
    assert not torch.equal(weights(run), shorter)
    assert (run / "passk.json").exists()
    assert train.main(more) == 2  # and now it is finished


def test_a_longer_run_goes_on_from_a_finished_one(arguments, tmp_path):
    assert train.main([*arguments, "--steps", "1"]) == 0
    assert train.main(["--run", str(tmp_path / "run"), "--resume", "--steps", "3"]) == 0
    resumed = weights(tmp_path / "run")
    assert train.main([*arguments, "--steps", "3", "--overwrite"]) == 0
    assert torch.equal(resumed, weights(tmp_path / "run"))


def test_a_second_update_moves_the_ratio_and_micro_batches_do_not_matter(arguments):
    twice = [*arguments, "--updates-per-step", "2", "--clip", "0.01", "--steps", "2"]
    assert train.main(twice) == 0
    rows = metrics(arguments)
    assert all(row["ratio_change"] > 0 for row in rows)
    assert max(row["clip_fraction"] for row in rows) > 0
    assert train.main([*twice, "--micro-tokens", "100", "--overwrite"]) == 0
    for row, cut in zip(rows, metrics(arguments), strict=True):
        assert cut["loss"] == pytest.approx(row["loss"], abs=1e-4)


def test_without_a_kl_penalty_there_is_no_reference_and_no_kl(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(
        train,
        "update",
        lambda policy, ref, *rest, **flags: (seen.append(ref), grpo.update(policy, ref, *rest, **flags))[1],
    )
    flags = ["--kl", "0", "--loss-average", "token", "--reward", "self_certainty", "--steps", "2"]
    assert train.main([*arguments, *flags]) == 0
    assert metrics(arguments)[0]["kl"] is None
    assert seen == [None] * 2


def test_prompts_are_drawn_in_shuffled_epochs():
    drawn, other = ([i for step in range(5) for i in train.prompts_of_step(step, 10, 4, seed)] for seed in (1, 0))
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert drawn != other


def test_each_step_and_each_seed_draws_its_own_random_numbers(arguments, monkeypatch):
    seeds = []

    def noting(*prompts, generator, **sampling):
        seeds.append(generator.initial_seed())
        return generate(*prompts, generator=generator, **sampling)

    monkeypatch.setattr(train, "generate", noting)
    assert train.main([*arguments, "--steps", "3"]) == 0
    assert train.main([*arguments, "--steps", "3", "--overwrite", "--seed", "1"]) == 0
    assert len(set(seeds)) == 6


def test_a_step_passes_each_flag_to_what_it_is_for(arguments, monkeypatch):
    seen = {}
    for name in ("generate", "update", "advantages_of"):
        whole, names = getattr(train, name), inspect.signature(getattr(train, name))

        def watched(*args, whole=whole, names=names, name=name, **kwargs):
            seen[name] = names.bind(*args, **kwargs).arguments
            return whole(*args, **kwargs)

        monkeypatch.setattr(train, name, watched)
    given = {"temperature": 0.7, "clip": 0.3, "kl_estimator": "k2", "loss_average": "constant", "updates_per_step": 2}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    more = ["--kl", "0.25", "--advantage", "mean", "--clip-high", "0.4", "--micro-tokens", "77", "--steps", "1"]
    assert train.main([*arguments, *flags, *more]) == 0
    sampled, learned = seen["generate"], seen["update"]
    assert (sampled["rollouts_per_prompt"], sampled["max_new_tokens"], sampled["temperature"]) == (8, 30, 0.7)
    assert "top_p" not in sampled
    assert sampled["eos_ids"] == [toy.make_tokenizer().eos_token_id]
    assert {name: learned[name] for name in given} == given
    assert (learned["kl_weight"], learned["max_new_tokens"], learned["micro_tokens"]) == (0.25, 30, 77)
    assert seen["advantages_of"]["kind"] == "mean" and learned["clip_high"] == 0.4
    assert learned["ref_policy"] is not learned["policy"]
    assert not any(p.requires_grad for p in learned["ref_policy"].parameters())
    (row,) = metrics(arguments)
    assert row["sampling_gap"] < 1e-5  # sampled and trained at the same temperature


def test_the_reference_stays_the_starting_model(arguments, base, monkeypatch):
    references = []

    def watched(policy, ref_policy, *rest, **flags):
        measured = grpo.update(policy, ref_policy, *rest, **flags)
        references.append(torch.cat([p.flatten() for p in ref_policy.parameters()]))
        return measured

    monkeypatch.setattr(train, "update", watched)
    assert train.main(arguments) == 0
    assert all(torch.equal(reference, weights(base)) for reference in references)


# --- rewards --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def reward_model(base, tmp_path_factory):
    """A reward model of the toy, out of the small base model, which looks at 100 pairs instead of 500."""
    folder, pairs = tmp_path_factory.mktemp("reward-model"), toy_reward_model.pairs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_reward_model, "pairs", lambda rng, number, split: pairs(rng, min(number, 100), split))
        for part in toy_reward_model.train_reward_model(base, 0.65, 0, most=100):
            part.save_pretrained(folder)
    return folder


def check_of_itself(model, tokenizer, accuracy: float, number: int) -> None:
    """Good enough at the first `number` pairs; what it says of itself is the share of the next four times as many."""

    def ranked(pairs) -> torch.Tensor:
        texts = [text for pair in pairs for text in pair]
        return reward_model_scores(model, tokenizer, [""] * len(texts), texts).reshape(-1, 2)  # right, wrong

    rng = random.Random(1)
    looked_at, *fresh = (toy_reward_model.pairs(rng, number, "test") for _ in range(5))
    assert accuracy <= pairwise_accuracy(ranked(looked_at), torch.tensor([[True, False]] * number)) < accuracy + 0.2
    later = ranked([pair for pairs in fresh for pair in pairs])
    assert model.config.pairwise_accuracy == pytest.approx((later[:, 0] > later[:, 1]).float().mean().item(), abs=1e-3)
    assert model.config.problem_type == "regression"


def test_a_reward_model_is_trained_to_the_accuracy_that_was_asked_for(base, reward_model):
    check_of_itself(*load_reward_model(str(reward_model)), 0.65, 100)
    with pytest.raises(ValueError, match="no further"):
        toy_reward_model.train_reward_model(base, 0.99, 0, most=1)


@pytest.mark.slow
def test_a_reward_model_looks_at_500_pairs_and_at_2000_new_ones(base):
    check_of_itself(*toy_reward_model.train_reward_model(base, 0.55, 0), 0.55, 500)


def test_several_rewards_are_paid_at_once_each_by_its_weight(arguments, reward_model):
    weights = {name: 0.5 + i / 10 for i, name in enumerate(rewards.REWARDS)}
    names = [f"{name}={weight:.1f}" for name, weight in weights.items()]
    flags = ["--flip", "0.3", "--reward-model", str(reward_model), "--steps", "2"]
    assert train.main([*arguments, "--reward", *names, *flags]) == 0
    for row in metrics(arguments):
        total = sum(weight * row[f"reward_{name}"] for name, weight in weights.items())
        assert row["reward_mean"] == pytest.approx(total, abs=1e-3)
        assert row["zero_std_groups"] < 1


@pytest.mark.parametrize("name", rewards.REWARDS)
def test_every_reward_can_be_had_alone(arguments, reward_model, name):
    flags = ["--reward-model", str(reward_model)] if name in ("reward_model", "calibrate") else []
    assert train.main([*arguments, "--reward", f"{name}=0.5", *flags, "--steps", "1"]) == 0
    (row,) = metrics(arguments)
    assert row["reward_std"] > 0
    assert f"reward_{name}" not in row  # the total says it
    config = json.loads((Path(arguments[arguments.index("--run") + 1]) / "config.json").read_text())
    assert config["minreason"]["reward"] == f"{name}=0.5"


def test_flips_are_noise_in_the_reward_and_not_in_the_accuracy(arguments):
    flags = ["--steps", "1", "--prompts-per-step", "12", "--overwrite"]
    assert train.main([*arguments, *flags]) == 0
    (clean,) = metrics(arguments)
    assert train.main([*arguments, *flags, "--flip", "1"]) == 0
    (turned,) = metrics(arguments)
    assert (clean["accuracy"], clean["answered"]) == (turned["accuracy"], turned["answered"])
    assert clean["reward_mean"] == pytest.approx(clean["accuracy"])
    assert turned["reward_mean"] == pytest.approx(clean["answered"] - clean["accuracy"])  # no answer, no flip
    assert clean["pairwise_accuracy"] == 1
    assert turned["pairwise_accuracy"] < 0.5


def test_a_run_with_noise_resumed_is_the_run_never_interrupted(arguments, tmp_path):
    noisy = [*arguments, "--flip", "0.4", "--reward", "correct", "random=0.5", "--steps", "3"]
    assert train.main(noisy) == 0
    whole = weights(tmp_path / "run")
    assert train.main([*noisy, "--steps", "1", "--overwrite"]) == 0
    assert train.main([*noisy, "--resume"]) == 0
    assert torch.equal(weights(tmp_path / "run"), whole)


def test_a_cosine_ends_where_it_was_told_to(arguments, tmp_path, capsys):
    assert train.main([*arguments, "--schedule", "cosine", "--warmup", "1"]) == 0
    assert [row["lr"] for row in metrics(arguments)] == pytest.approx([1e-3, 1e-3, 7.5e-4, 2.5e-4])
    assert train.main(["--run", str(tmp_path / "run"), "--resume", "--steps", "8"]) == 2
    assert "--steps" in capsys.readouterr().err


def test_the_offline_annotator_stays_what_it_was(arguments, monkeypatch):
    seen = []

    def watched(annotator, rollouts, micro_tokens):
        certainty = head.annotate(annotator, rollouts, micro_tokens)
        seen.append((weights_of(annotator), (certainty - rollouts.self_certainty).abs().max().item()))
        return certainty

    weights_of = lambda model: torch.cat([p.flatten() for p in model.parameters()])  # noqa: E731
    monkeypatch.setattr(train, "annotate", watched)
    offline = [*arguments, "--reward", "self_certainty", "--annotator", "offline", "--kl", "0", "--steps", "2"]
    assert train.main(offline) == 0
    assert metrics(arguments)[0]["kl"] is None  # there is a reference, but no penalty
    assert all(torch.equal(seen[0][0], other) for other, _ in seen[1:])
    assert seen[0][1] < 1e-4 < seen[-1][1]  # at first it is the policy, and then no more
    # What it says is what is rewarded.
    monkeypatch.setattr(train, "annotate", lambda annotator, rollouts, _: 3.0 * rollouts.mask)
    assert train.main([*offline, "--overwrite"]) == 0
    assert {(row["reward_mean"], row["reward_std"]) for row in metrics(arguments)} == {(3.0, 0.0)}
    monkeypatch.undo()
    monkeypatch.setattr(train, "annotate", lambda *_: pytest.fail("online is the policy's own"))
    assert train.main([*arguments, "--reward", "self_certainty", "--steps", "1", "--overwrite"]) == 0


def test_programs_are_run_only_if_that_is_allowed(arguments, tmp_path, capsys):
    file = tmp_path / "code.jsonl"
    rows = [{"prompt": f"def f{i}():\n", "entry_point": f"f{i}", "test": "def check(f): f()"} for i in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = [*arguments, "--data", str(file), "--steps", "1", "--rollouts-per-prompt", "2"]
    assert train.main(code) == 2
    assert "--allow-code-execution" in capsys.readouterr().err
    assert evaluation.main([arguments[1], "--data", str(file), "--samples", "1", "--max-new-tokens", "9"]) == 2
    assert "--allow-code-execution" in capsys.readouterr().err
    assert train.main([*arguments, "--eval-data", str(file), "--eval-samples", "1"]) == 2  # held-out ones too
    assert "--allow-code-execution" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert train.main([*code, "--allow-code-execution"]) == 0
    assert metrics(code)[0]["accuracy"] == 0


def test_a_reward_model_that_is_none_is_refused(arguments, base, tmp_path, capsys):
    for name, said in (("no/such/one", "--reward-model no/such/one"), (str(tmp_path), "cannot")):
        assert train.main([*arguments, "--reward", "reward_model", "--reward-model", name]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert said in error[0] or name in error[0]
    assert not (tmp_path / "run").exists()


def test_truncation_and_a_reward_that_cannot_vary_are_said_loudly(arguments, capsys):
    assert train.main([*arguments, "--max-new-tokens", "2"]) == 0
    said = capsys.readouterr().err
    assert said.count("WARNING") == 2  # once each, not every step
    assert "truncated" in said
    assert "does not vary" in said


# --- bad input: one line, exit code 2, nothing written --------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--model no/such/folder", "--model no/such/folder"),
        ("--data nosuch.jsonl", "--data nosuch.jsonl"),
        ("--template nosuch", "--template nosuch"),
        ("--template intuitor", "chat template"),
        ("--reward nosuch", "--reward nosuch"),
        ("--loss-average nosuch", "--loss-average nosuch"),
        ("--rollouts-per-prompt 1", "--rollouts-per-prompt"),
        ("--max-new-tokens 0", "--max-new-tokens 0"),
        ("--max-new-tokens 510", "context"),
        ("--steps 0", "--steps 0"),
        ("--temperature 0", "--temperature 0"),
        ("--kl -1", "--kl -1"),
        ("--seed -1", "--seed -1"),
        ("--prompts-per-step 1000", "--prompts-per-step 1000"),
        ("--device cuda:99", "--device cuda:99"),
        ("--dtype float8", "--dtype float8"),
        ("--model toy", "reads problems of toy only"),
        ("--resume", "--resume"),
        ("--resume --overwrite", "--overwrite"),
        ("--eval-data nosuch.jsonl --eval-samples 1", "nosuch.jsonl"),
        ("--lr nan", "--lr nan"),
    ],
)
def test_bad_input_to_train(arguments, tmp_path, capsys, flags, said):
    assert train.main([*arguments, *shlex.split(flags)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert said in error[0]
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made_is_refused(arguments, capsys):
    assert train.main([*arguments, "--run", f"{arguments[3]}/run"]) == 2  # below the file of problems
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_folder_with_a_run_or_with_anything_else_is_left_alone(arguments, tmp_path, capsys):
    assert train.main(arguments) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for flags in ([], ["--resume"], ["--resume", "--steps", "9", "--lr", "1e-5"]):
        capsys.readouterr()
        assert train.main([*arguments, *flags]) == 2
        said = capsys.readouterr().err
        assert "--resume" in said
        assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert train.main([*arguments, "--run", str(tmp_path), "--overwrite"]) == 2
    assert "not a run" in capsys.readouterr().err
    assert (tmp_path / "problems.jsonl").exists()


# --- before and after ------------------------------------------------------------------------------------------------


def test_the_model_that_is_trained_is_never_written_over(arguments, base, capsys):
    before = {path: path.read_bytes() for path in base.iterdir()}
    assert train.main([*arguments, "--run", str(base), "--overwrite"]) == 2
    assert "--model" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in base.iterdir()} == before


def test_before_and_after_are_compared_in_the_run_folder(arguments, tmp_path, capsys):
    flags = ["--eval-data", "toy", "--eval-samples", "4", "--eval-limit", "6"]
    assert train.main([*arguments, *flags]) == 0
    models = json.loads((tmp_path / "run" / "passk.json").read_text())["models"]
    assert list(models) == [arguments[1], str(tmp_path / "run")]
    assert "k=4" in capsys.readouterr().out
    run = json.loads((tmp_path / "run" / "report.json").read_text())["runs"][str(tmp_path / "run")]
    assert run["traces"]["accuracy"] == [[0, 1, 2, 3], [round(row["accuracy"], 6) for row in metrics(arguments)]]
    assert (run["settings"]["steps"], run["defaults"]["steps"]) == (4, 60)


def test_a_greedy_study_is_the_likeliest_completion_of_every_problem(arguments, tmp_path, capsys):
    arguments = arguments[: arguments.index("--eval-samples")] + ["--eval-data", "toy", "--steps", "2"]
    assert train.main([*arguments, "--eval", "greedy", "--eval-limit", "12"]) == 0
    said = capsys.readouterr().out
    assert "12 problems, one greedy completion each" in said
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (found["problems"], found["k"], found["temperature"]) == (12, [1], 0)
    run = ["--run", str(tmp_path / "run"), "--resume", "--steps", "3"]
    assert train.main([*run, "--eval-samples", "4"]) == 2
    assert "no effect with --eval greedy" in capsys.readouterr().err
    assert train.main([*run, "--eval", "samples", "--eval-samples", "4", "--eval-limit", "6"]) == 0
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (found["problems"], found["k"], found["temperature"]) == (6, [1, 2, 4], 1)


# --- the README -----------------------------------------------------------------------------------------------------


def test_every_command_in_the_readme_and_docs_parses_and_every_metric_is_explained():
    text = "\n".join(path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
    programs = {"train.py": train, "eval.py": evaluation, "bench.py": bench, "distill.py": distill}
    programs |= {f"-m study.{module.__name__[6:]}": module for module in (certainty, compare, reproduce, seeds)}
    programs |= {"-m bridges.train_with_trl": train_with_trl}
    of_ours = r"train\.py|eval\.py|bench\.py|distill\.py|-m (?:study|bridges\.train)[\w.]+"
    commands = [
        (program, flags)
        for program, flags in re.findall(rf"python ({of_ours})((?:[^\n`&|#]|\n    )*)", text)
        if "--help" not in flags
    ]
    assert {program for program, _ in commands} == set(programs)
    for program, flags in commands:
        given = shlex.split(flags.replace("\\\n", " ").replace("$seed", "0").partition(";")[0])
        programs[program].parse(given)
    known = {
        "--help",
        "--resume",
        "--overwrite",
        "--dry-run",
        "--list",
        "--stored",
        "--all",
        "--panel",
        "--no-deps",
    }  # the last one is pip's
    known |= {
        "--nproc-per-node",
        "--shutdown-timeout",
        "--tasks",
        "--log",
        "--output",
    }  # of torchrun and of lm_eval, up to an underscore
    programs_with_settings = (train, evaluation, bench, distill, reproduce, train_with_trl)
    for settings in (program.Settings for program in programs_with_settings):
        known |= {shown(f.name) for f in dataclasses.fields(settings)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known
    of_some_runs = ("groups_resampled", "value_loss", "explained_variance", "eval_accuracy", "eval_pass@16")
    for name in (*METRICS, *of_some_runs):
        assert f"`{name}`" in text


def test_settings_stay_in_the_programs():
    """Below train.py, eval.py and the flags, functions take the numbers that they use."""
    folders = ("", "verify", "engine", "running", "study")
    for path in (path for folder in folders for path in sorted((ROOT / folder).glob("*.py"))):
        if path.name in ("train.py", "eval.py", "distill.py", "bench.py", "flags.py", "train_flags.py", "dry_run.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
                assert "settings" not in names, f"{path}: {node.name}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert not modules & {"train", "eval", "distill", "bench"}, f"{path} imports a program"


def test_looks_at_held_out_problems_while_training(arguments, base, tmp_path):
    """A look is pass@1 and pass@16 of the policy before that step, and the checkpoint is that policy."""
    held_out = arguments[arguments.index("--data") + 1]
    looks = ["--eval-data", held_out, "--eval-limit", "6", "--eval-every", "2", "--keep-checkpoints"]
    assert train.main([*arguments, *looks]) == 0
    rows = metrics(arguments)
    assert ["eval_accuracy" in row for row in rows] == [True, False, True, False]
    problems = data.load_problems(held_out, "test", 6)
    for number in (0, 2):
        policy, tokenizer = train.models.load_model(str(tmp_path / "run" / f"checkpoint-{number}"))
        right = []
        for first in (0, 2, 4):  # two problems at a time: 32 rows, as in a step
            asked = problems[first : first + 2]
            prompts = [data.encode_prompt(problem, tokenizer, "plain") for problem in asked]
            eos = train.models.end_tokens(policy, tokenizer)
            rollouts = generate(policy, prompts, 16, 30, eos_ids=eos, generator=stream(0, "held-out", first))
            texts = [tokenizer.decode(row, skip_special_tokens=True) for row in rollouts.completions()]
            right += [f"\\boxed{{{asked[i // 16].answer}}}" in text for i, text in enumerate(texts)]
        counts = [sum(right[i : i + 16]) for i in range(0, 96, 16)]
        assert 5 < sum(counts) < 91
        assert rows[number]["eval_accuracy"] == pytest.approx(sum(counts) / 96)
        assert rows[number]["eval_pass@16"] == pytest.approx(sum(count > 0 for count in counts) / 6)
    assert rows[0]["grad_norm"] > 0  # so that the policy after the first step is another one
    before = [weight.clone() for weight in train.models.load_model(str(base))[0].parameters()]
    kept = [train.models.load_model(str(tmp_path / "run" / f"checkpoint-{n}"))[0].parameters() for n in (0, 2)]
    assert [all(map(torch.equal, before, weights)) for weights in kept] == [True, False]
