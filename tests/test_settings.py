"""settings.py: flags, recipes, and what is refused because it could not have an effect."""

import math

import pytest

import train
from data import HUB, TEMPLATES, BadInput
from rewards import REWARDS
from running.old_settings import RECIPES, Settings, complete, parse, weights


def completed(*flags: str) -> Settings:
    settings, _, _ = parse(list(flags))
    complete(settings)
    return settings


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_complete_and_names_what_exists(name, capsys):
    settings = completed("--recipe", name)
    assert settings.recipe == name
    assert set(weights(settings.reward)) <= set(REWARDS)
    assert settings.template is None or settings.template in TEMPLATES
    assert settings.data == "toy" or settings.data in HUB
    assert settings.run == f"runs/{name}-seed0"
    assert train.main(["--recipe", name, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"--lr {settings.lr}" in said
    if not name.startswith("toy"):
        assert f"model {settings.model} (about" in said
        assert HUB[settings.data][0] in said


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # Intuitor, Table 7 and its released settings; noisy rewards, as released
        ("intuitor-1.5b", ("Qwen/Qwen2.5-1.5B", "self_certainty", 3e-6, 0.005, 128, 7, 3072, 0.9, 58)),
        ("grpo-pv-3b", ("Qwen/Qwen2.5-3B", "plurality", 3e-6, 0.005, 128, 7, 3072, 0.9, 58)),
        ("intuitor-7b", ("Qwen/Qwen2.5-7B", "self_certainty", 1e-6, 0.01, 64, 14, 3072, 0.9, 117)),
        ("intuitor-code", ("Qwen/Qwen2.5-3B", "self_certainty", 1e-6, 0.01, 64, 14, 2048, 0.9, 50)),
        ("noisy-7b", ("Qwen/Qwen2.5-7B", "correct", 1e-6, 0.0, 128, 4, 4096, 1.0, 150)),
    ],
)
def test_the_papers_settings(name, expected):
    s = completed("--recipe", name)
    sizes = (s.prompts_per_step, s.rollouts_per_prompt, s.max_new_tokens, s.temperature, s.steps)
    assert (s.model, s.reward, s.lr, s.kl, *sizes) == expected
    assert s.schedule == ("constant" if name == "noisy-7b" else "cosine")


def test_a_flag_beside_a_recipe_wins_and_one_equal_to_the_default_too():
    settings = completed("--recipe", "toy-flip-40", "--flip", "0.1", "--rollouts-per-prompt", "16")
    assert (settings.flip, settings.rollouts_per_prompt, settings.prompts_per_step) == (0.1, 16, 128)


def test_another_reward_beside_a_recipe_drops_what_it_has_no_use_for():
    settings = completed("--recipe", "noisy-7b", "--reward", "rpr")
    assert (settings.reward, settings.flip, settings.lr, settings.template) == ("rpr", 0.0, 1e-6, "r1-zero")
    settings = completed("--recipe", "toy-reward-model", "--reward", "self_certainty")
    assert (settings.reward_model, settings.kl) == (None, 0.5)
    with pytest.raises(BadInput, match="no effect"):  # but what the command line gives must have an effect
        completed("--recipe", "noisy-7b", "--reward", "rpr", "--flip", "0.2")


def test_an_unknown_recipe_is_refused():
    with pytest.raises(BadInput, match="nosuch"):
        parse(["--recipe", "nosuch"])


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--dry-run"]) == 0
    assert not list(tmp_path.iterdir())


def test_rewards_and_their_weights():
    assert weights("correct") == {"correct": 1.0}
    assert weights("rpr=0.5 length=-0.01 format") == {"rpr": 0.5, "length": -0.01, "format": 1.0}
    assert completed("--reward", "correct", "rpr=0.5").reward == "correct rpr=0.5"
    assert completed("--reward", "correct", "rpr=0.5").run == "runs/toy-correct+rpr=0.5-seed0"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--recipe nosuch", "--recipe nosuch"),
        ("--reward-model toy-0.75 --reward calibrate --model x --data gsm8k", "knows toy problems only"),
        ("--reward correct=x", "NAME=WEIGHT"),
        ("--calibrate-weight nan --reward calibrate", "--calibrate-weight nan"),
        ("--rpr-divisor inf --reward rpr", "--rpr-divisor inf"),
        ("--kl inf", "--kl inf"),
        ("--lr inf", "--lr inf"),
        ("--reward correct=0", "NAME=WEIGHT"),
        ("--reward correct=nan", "NAME=WEIGHT"),
        ("--reward correct correct", "NAME=WEIGHT"),
        ("--reward correct nosuch=1", "--reward nosuch=1"),
        ("--flip 1.5", "--flip 1.5"),
        ("--flip nan", "--flip nan"),
        ("--flip 0.4 --flip-unit token", "--flip-unit token"),
        ("--flip 0.4 --reward plurality", "no effect"),
        ("--flip 0.4 --reward calibrate --reward-model toy-0.75", "no effect"),
        ("--flip-unit rollout", "no effect"),
        ("--annotator offline", "no effect"),
        ("--annotator nosuch --reward self_certainty", "--annotator nosuch"),
        ("--rpr-divisor 2", "no effect"),
        ("--rpr-whole-words", "no effect"),
        ("--rpr-divisor 0 --reward rpr", "--rpr-divisor 0"),
        ("--rpr-repetition nosuch --reward rpr", "--rpr-repetition nosuch"),
        ("--calibrate-weight 0.5 --reward rpr", "no effect"),
        ("--reward reward_model", "--reward-model"),
        ("--reward-model toy-0.75", "no effect"),
        ("--reward reward_model --reward-model toy-best", "--reward-model toy-best"),
        ("--reward reward_model --reward-model toy-1.5", "--reward-model toy-1.5"),
        ("--schedule nosuch", "--schedule nosuch"),
        ("--model toy-weak --data gsm8k", "toy model reads toy problems only"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(flags, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "load_model", lambda *_: pytest.fail("it got as far as loading the model"))
    assert train.main(flags.split()) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "runs").exists()


def test_the_learning_rate_warms_up_and_decays_by_half_a_cosine():
    settings = Settings(lr=1.0, warmup=4, steps=12, schedule="cosine")
    rates = [train.learning_rate(step, settings) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1
    assert rates[8] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    settings.schedule = "constant"
    assert train.learning_rate(11, settings) == 1
    settings.warmup = 0
    assert train.learning_rate(0, settings) == 1
