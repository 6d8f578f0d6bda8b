"""Flags and recipes: what they mean, and what is refused because it could not have an effect."""

import json
import math
import re
import sys
from dataclasses import asdict, fields

import pytest
import torch

import toy
import train
from data import HUB, TEMPLATES
from engine import memory
from engine.masters import learning_rate
from recipes import RECIPES
from rewards import REWARDS
from running import dry_run
from running.files import BadInput
from running.flags import described
from running.train_flags import complete, idle_on_policy, resumed, reward_weights
from train import Settings, parse


def completed(*flags: str) -> Settings:
    settings, _, _ = parse(list(flags))
    complete(settings)
    return settings


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_complete_and_names_what_exists(name, capsys, monkeypatch):
    monkeypatch.setattr(dry_run, "stand_in", lambda *_: None)  # memory and time are tested below
    settings = completed("--recipe", name)
    assert settings.recipe == name
    assert set(reward_weights(settings.reward)) <= set(REWARDS)
    assert settings.template is None or settings.template in TEMPLATES
    assert settings.data in (*toy.WORLDS, "arithmetic", *HUB)
    assert settings.run == f"runs/{name}-seed0"
    assert train.main(["--recipe", name, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"--lr {settings.lr}" in said
    if name.startswith("smollm2"):
        assert "model HuggingFaceTB/SmolLM2-135M-Instruct (0.3 GB)" in said
    elif not name.startswith("toy"):
        assert f"model {settings.model} (about" in said
        assert HUB[settings.data][0] in said


def test_the_config_of_a_run_holds_its_settings_and_the_defaults_of_those_that_differ():
    def differing(*flags):
        settings = completed(*flags)
        found = described(settings, complete)
        assert found["minreason"] == asdict(settings)
        return found["minreason_defaults"]

    assert differing() == {}
    assert differing("--steps", "20", "--kl", "0.5", "--run", "x") == {"steps": 60, "kl": 0.005}
    real = ("--model", "Qwen/Qwen2.5-1.5B", "--data", "math")  # which has other defaults than the toy
    assert differing(*real) == {}
    assert differing(*real, "--lr", "3e-4", "--template", "qa") == {"lr": 1e-6}  # the tokenizer decides on the template
    assert differing("--algorithm", "dr_grpo") == {
        "algorithm": "grpo",
        "advantage": "group",
        "loss_average": "sequence",
        "kl": 0.005,
    }


# Intuitor, Table 7, its section 4 and its released settings; noisy rewards, as released. Column by column:
# model, template, data, reward, B, G, tokens, temperature, steps, lr, warm-up, schedule, KL, average
SMALL = (128, 7, 3072, 0.9, 58, 3e-6, 6, "cosine", 0.005, "token")
LARGE = (64, 14, 3072, 0.9, 117, 1e-6, 12, "cosine", 0.01, "token")
CODE = (64, 14, 2048, 0.9, 50, 1e-6, 5, "cosine", 0.01, "token")
NOISY = (128, 4, 4096, 1.0, 130, 1e-6, 0, "constant", 0.0, "token")
PAPERS = {
    "grpo-1.5b": ("Qwen/Qwen2.5-1.5B", "intuitor", "math", "correct", *SMALL),
    "intuitor-1.5b": ("Qwen/Qwen2.5-1.5B", "intuitor", "math", "self_certainty", *SMALL),
    "grpo-3b": ("Qwen/Qwen2.5-3B", "intuitor-boxed-stop", "math", "correct", *SMALL),
    "grpo-pv-3b": ("Qwen/Qwen2.5-3B", "intuitor-boxed-stop", "math", "plurality", *SMALL),
    "intuitor-3b": ("Qwen/Qwen2.5-3B", "intuitor-boxed-stop", "math", "self_certainty", *SMALL),
    "grpo-7b": ("Qwen/Qwen2.5-7B", "intuitor-step-by-step", "math", "correct", *LARGE),
    "intuitor-7b": ("Qwen/Qwen2.5-7B", "intuitor-step-by-step", "math", "self_certainty", *LARGE),
    "intuitor-14b": ("Qwen/Qwen2.5-14B", "intuitor-step-by-step", "math", "self_certainty", *LARGE),
    "intuitor-code": ("Qwen/Qwen2.5-3B", "intuitor-code", "code_contests", "self_certainty", *CODE),
    "noisy-7b": ("Qwen/Qwen2.5-7B", "r1-zero", "math", "correct", *NOISY),
    "noisy-ppo-7b": ("Qwen/Qwen2.5-7B", "r1-zero", "math", "correct", *NOISY[:4], 150, *NOISY[5:]),
    "rpr-7b": ("Qwen/Qwen2.5-7B", "r1-zero", "math", "rpr", *NOISY),
}
COLUMNS = (
    *("model", "template", "data", "reward", "prompts_per_step", "rollouts_per_prompt", "max_new_tokens"),
    *("temperature", "steps", "lr", "warmup", "schedule", "kl", "loss_average"),
)


def test_the_papers_settings_are_the_recipes():
    assert set(PAPERS) == {name for name in RECIPES if not name.startswith(("toy-", "smollm2-"))}
    for name, expected in PAPERS.items():
        settings = vars(completed("--recipe", name))
        assert tuple(settings[column] for column in COLUMNS) == expected, name
        assert settings["flip"] == (0.4 if name.startswith("noisy") else 0)
        assert (settings["rpr_divisor"], settings["updates_per_step"], settings["clip"]) == (20, 1, 0.2)
        advantage, kl_in = ("critic", "reward") if name == "noisy-ppo-7b" else ("group", "loss")
        assert (settings["advantage"], settings["kl_estimator"], settings["kl_in"]) == (advantage, "k3", kl_in)
        critic = tuple(settings[key] for key in ("critic_lr", "critic_warmup", "critic_updates", "gae_lambda"))
        assert critic == ((5e-6, 20, 4, 1) if name == "noisy-ppo-7b" else (None, 0, 4, 1))
        assert (settings["eval"], settings["eval_limit"]) == ("greedy", None)  # on all of MATH-500


# reward, flip, B, G, lr, KL, RPR's divisor, reward model: what docs/results.md was measured with
TOYS = {
    "toy-correct": ("correct", 0, 16, 16, 3e-4, 0.005, 20, None),
    "toy-flip-0": ("correct", 0, 128, 4, 3e-4, 0.005, 20, None),
    "toy-flip-40": ("correct", 0.4, 128, 4, 3e-4, 0.005, 20, None),
    "toy-flip-50": ("correct", 0.5, 128, 4, 3e-4, 0.005, 20, None),
    "toy-plurality": ("plurality", 0, 16, 16, 3e-4, 0.005, 20, None),
    "toy-rpr": ("rpr", 0, 16, 16, 1.5e-4, 0.5, 2, None),
    "toy-rpr-hacked": ("rpr", 0, 16, 16, 3e-4, 0, 2, None),
    "toy-self-certainty": ("self_certainty", 0, 16, 16, 1.5e-4, 0.5, 20, None),
    "toy-self-certainty-hacked": ("self_certainty", 0, 16, 16, 3e-4, 0, 20, None),
    "toy-random": ("random", 0, 16, 16, 3e-4, 0.005, 20, None),
    "toy-reward-model": ("reward_model", 0, 16, 16, 1.5e-4, 0.5, 20, "toy-0.75"),
    "toy-calibrate": ("calibrate", 0, 16, 16, 1.5e-4, 0.5, 2, "toy-0.75"),
    "toy-search-correct": ("correct", 0, 16, 16, 2e-4, 0, 20, None),
    "toy-search-flip-0": ("correct", 0, 128, 4, 2e-4, 0, 20, None),
    "toy-search-flip-40": ("correct", 0.4, 128, 4, 2e-4, 0, 20, None),
    "toy-search-flip-50": ("correct", 0.5, 128, 4, 2e-4, 0, 20, None),
    "toy-search-plurality": ("plurality", 0, 16, 16, 2e-4, 0, 20, None),
    "toy-search-self-certainty": ("self_certainty", 0, 16, 16, 1.5e-4, 0.5, 20, None),
    "toy-search-random": ("random", 0, 16, 16, 2e-4, 0, 20, None),
}


def test_the_toys_recipes_are_what_the_results_were_measured_with():
    assert set(TOYS) == {name for name in RECIPES if name.startswith("toy-")}
    for name, expected in TOYS.items():
        s = completed("--recipe", name)
        sizes = (s.prompts_per_step, s.rollouts_per_prompt, s.lr, s.kl, s.rpr_divisor, s.reward_model)
        assert (s.reward, s.flip, *sizes) == expected, name
        common = (s.steps, s.temperature, s.max_new_tokens, s.warmup, s.schedule, s.loss_average, s.template, s.model)
        steps, model = (80, "toy-search") if name.startswith("toy-search") else (60, "toy")
        assert common == (steps, 1.0, 80, 5, "constant", "sequence", None, model), name


def test_flags_win_over_the_algorithm_and_the_algorithm_over_the_recipe_beside_it():
    asked = completed("--recipe", "grpo-3b", "--algorithm", "dr_grpo")  # the recipe has kl .005 and the token average
    assert (asked.kl, asked.loss_average, asked.advantage, asked.lr) == (0, "constant", "mean", 3e-6)
    asked = completed("--recipe", "noisy-7b", "--algorithm", "rloo", "--loss-average", "token")
    assert (asked.loss_average, asked.kl_in, asked.kl) == ("token", "reward", 0)
    named = completed("--recipe", "noisy-ppo-7b")  # the algorithm is the recipe's own: its flags stay
    assert (named.kl, named.loss_average, named.critic_lr, named.advantage) == (0, "token", 5e-6, "critic")
    other = completed("--recipe", "noisy-ppo-7b", "--algorithm", "reinforce++")
    assert (other.critic_lr, other.critic_warmup, other.advantage) == (None, 0, "batch")
    assert completed("--algorithm", "gspo", "--clip", "0.1").clip_high is None
    assert completed("--algorithm", "gspo").clip_high == 4e-4
    assert completed("--algorithm", "ppo", "--rollouts-per-prompt", "1").rollouts_per_prompt == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "peft", None)
        assert completed("--algorithm", "ppo", "--lora", "8").critic_lr == pytest.approx(5 * 3e-4)


def test_flags_that_do_nothing_on_policy_are_noted():
    assert idle_on_policy(completed("--clip", "0.1")) == "--clip"
    assert idle_on_policy(completed("--algorithm", "dapo")) == "--clip-high"
    assert idle_on_policy(completed("--algorithm", "gspo")) == ""
    assert idle_on_policy(completed("--algorithm", "gspo", "--updates-per-step", "1")) == "--ratio, --clip, --clip-high"
    assert idle_on_policy(completed()) == ""


def test_looks_are_checked_when_a_run_goes_on(tmp_path, capsys):
    def go_on(saved: str, flags: str) -> str:
        settings = vars(completed(*saved.split(), "--run", str(tmp_path)))
        (tmp_path / "config.json").write_text(json.dumps({"minreason": settings}))
        (tmp_path / "state.pt").touch()
        assert train.main([*f"--resume --dry-run --run {tmp_path}".split(), *flags.split()]) in (0, 2)
        return capsys.readouterr().err

    assert "needs held-out problems" in go_on("--model a/b --data mine.jsonl", "--eval-every 10")
    assert "leave out --lora" in go_on("--lora 4", "--eval-every 5 --keep-checkpoints")
    assert go_on("--eval-every 20", "--keep-checkpoints") == ""


def test_an_algorithm_is_in_the_name_of_the_run_where_the_recipe_does_not_say_it():
    assert completed("--algorithm", "rloo").run == "runs/toy-correct-rloo-seed0"
    assert completed("--recipe", "toy-rpr", "--algorithm", "ppo").run == "runs/toy-rpr-ppo-seed0"
    assert completed("--recipe", "noisy-ppo-7b").run == "runs/noisy-ppo-7b-seed0"
    assert completed("--algorithm", "ppo", "--lr", "1e-4").critic_lr == pytest.approx(5e-4)


def test_defaults_of_the_toy_and_of_a_real_model():
    toy, real = completed(), completed("--model", "a/b", "--data", "gsm8k", "--device", "cpu")
    names = ("rollouts_per_prompt", "max_new_tokens", "lr", "eval_samples", "dtype", "eval_data", "micro_tokens")
    assert tuple(vars(toy)[name] for name in names) == (16, 80, 3e-4, 64, "float32", "toy", 4096)
    assert tuple(vars(real)[name] for name in names) == (8, 512, 1e-6, 8, "auto", "gsm8k", 768)
    assert completed("--model", "a/b", "--data", "math").eval_data == "math500"
    assert completed("--model", "a/b", "--data", "mine.jsonl").eval_data is None
    assert completed("--lora", "8").lr == pytest.approx(3e-3)
    assert completed("--lora", "8", "--lr", "1e-5").lr == 1e-5


def test_a_greedy_study_takes_all_problems_unless_told_otherwise():
    assert completed("--eval", "greedy").eval_limit is None
    assert completed("--eval", "greedy", "--eval-limit", "7").eval_limit == 7
    assert completed().eval_limit == completed("--recipe", "intuitor-3b", "--eval", "samples").eval_limit == 180


def test_a_resumed_run_may_be_looked_at_in_the_other_way(tmp_path):
    run = ("--run", str(tmp_path))
    (tmp_path / "state.pt").touch()
    for kind, limit, other, others in (("samples", 180, "greedy", None), ("greedy", None, "samples", 180)):
        settings = completed(*run, "--eval", kind)
        assert settings.eval_limit == limit
        (tmp_path / "config.json").write_text(json.dumps({"minreason": asdict(settings)}))
        found = resumed(completed(*run, "--eval", other), {"run", "eval"})
        assert (found.eval, found.eval_limit, found.eval_samples) == (other, others, 64)


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


@pytest.fixture
def limits(monkeypatch):
    """A machine of 10 GFLOP/s whose memory costs no time."""
    monkeypatch.setattr(dry_run, "machine_limits", lambda *_: {"flops": 1e10, "bandwidth": 1e15})


def test_a_dry_run_tells_what_differs_memory_and_time_and_writes_nothing(tmp_path, monkeypatch, capsys, limits):
    monkeypatch.chdir(tmp_path)
    flags = "--dry-run --model toy-search --recipe toy-flip-40 --steps 1000 --eval-limit 18"
    assert train.main(flags.split()) == 0
    assert not list(tmp_path.iterdir())
    said = capsys.readouterr().out
    changed = said.partition("\n\n")[0].splitlines()[1:]
    assert [line.split()[:2] for line in changed] == [
        ["--recipe", "toy-flip-40"],
        ["--steps", "1000"],
        ["--prompts-per-step", "128"],
        ["--rollouts-per-prompt", "4"],
        ["--flip", "0.4"],
        ["--eval-limit", "18"],
    ]
    assert changed[-1].endswith("(default 180)")
    assert "Memory: about" in said
    # Two operations per weight and token to sample or to score it, six to train it. A puzzle has some 12 tokens.
    weights = 3 * (128 * 128 * 2 + 128 * 64 * 2 + 128 * 256 * 3)  # of the layers; the head is small
    sampling, training = 512 * 80 * weights * 2 / 1e10, 512 * 92 * weights * 6 / 1e10
    taken = re.search(r"1000 steps of (\d+) s take (\d+) h, and the study (\d+) s", said)
    assert float(taken[1]) == pytest.approx(sampling + training * 4 / 3, rel=0.1)
    assert float(taken[2]) == pytest.approx(1000 * float(taken[1]) / 3600, abs=0.6)
    assert float(taken[3]) == pytest.approx(sampling * 2 * 18 * 64 / 512, rel=0.1)


def test_a_dry_run_of_what_is_not_here_says_what_its_name_tells(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "in_cache", lambda *_: None)
    for flags, expected in (
        ("--dtype float32", "weights 28.0 GB, gradients and optimiser 84.0 GB, reference 28.0 GB"),
        ("--dtype bfloat16 --kl 0", "weights 14.0 GB, gradients and optimiser 112.0 GB, and"),
        ("--dtype bfloat16 --lora 8 --kl 0", "weights 14.0 GB, and"),
    ):
        given = f"--dry-run --model Qwen/Qwen2.5-7B --data gsm8k --device cpu {flags}"
        assert train.main(given.split()) == 0
        said = capsys.readouterr().out
        assert f"Memory on cpu: {expected}" in said
        assert "16 x 8 = 128 completions of at most 512 tokens" in said
        assert "model Qwen/Qwen2.5-7B (about 14 GB)" in said
    assert train.main(["--dry-run", "--model", "some/model", "--data", "gsm8k"]) == 0
    assert "Memory" not in capsys.readouterr().out  # the name tells no size


def test_a_dry_run_refuses_what_a_run_would(capsys, tmp_path, monkeypatch, limits):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda _: 10**6)
    assert train.main(["--dry-run"]) == 2
    assert "more memory than the" in capsys.readouterr().err
    assert train.main(["--dry-run", "--prompts-per-step", "1000"]) == 2
    assert "has only 640 problems" in capsys.readouterr().err


def test_a_model_larger_than_memory_is_not_loaded_to_be_told_of(tmp_path, monkeypatch):
    for part in dry_run.stand_in("toy", "cpu", torch.float32):
        part.save_pretrained(tmp_path)
    assert dry_run.stand_in(str(tmp_path), "cpu", torch.float32) is not None
    monkeypatch.setattr(dry_run, "free_memory", lambda _: 10**4)
    assert dry_run.stand_in(str(tmp_path), "cpu", torch.float32) is None


def test_times_are_told_in_the_unit_that_one_would_use():
    shown = [dry_run.spoken(seconds) for seconds in (0.25, 61, 7100, 90_000, 1e6)]
    assert shown == ["0.2 s", "61 s", "118 min", "25 h", "12 days"]


@pytest.mark.parametrize("columns", [80, 120])
def test_help_begins_with_what_a_beginner_needs_and_has_every_flag_once(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as ended:
        train.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: train.py [flags]\n")  # and not all of them
    assert max(map(len, said.splitlines())) <= columns
    first, *groups = re.split(r"\n\n(?=\S)", said.partition("options:")[2])
    beginner = "recipe model data reward steps prompts-per-step rollouts-per-prompt max-new-tokens lr kl seed run"
    switches = "resume overwrite exercises dry-run"
    assert re.findall(r"^  --([a-z-]+)", first, re.MULTILINE) == [*beginner.split(), *switches.split()]
    headings = [group.partition(":\n")[0] for group in groups]
    assert [heading.split()[0] for heading in headings] == ["rewards", "algorithm", "sampling", "memory,", "the"]
    listed = re.findall(r"^  --([a-z-]+)", said, re.MULTILINE)
    assert sorted(listed) == sorted([f.name.replace("_", "-") for f in fields(Settings)] + switches.split())
    in_group = {
        heading.split()[0]: re.findall(r"^  --([a-z-]+)", group, re.MULTILINE)
        for heading, group in zip(headings, groups, strict=True)
    }
    assert in_group["rewards"][0] == "flip"
    assert {"clip", "loss-average", "gae-lambda"} <= set(in_group["algorithm"])
    assert {"lora", "template"} <= set(in_group["sampling"])
    assert {"micro-tokens", "device"} <= set(in_group["memory,"])
    assert all(name.startswith("eval") or name == "keep-checkpoints" for name in in_group["the"])


def test_rewards_and_their_weights():
    assert reward_weights("correct") == {"correct": 1.0}
    assert reward_weights("rpr=0.5 length=-0.01 format") == {"rpr": 0.5, "length": -0.01, "format": 1.0}
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
        ("--advantage max", "--advantage max"),
        ("--algorithm grop", "--algorithm grop"),
        ("--kl-in reward", "--advantage group: takes no penalty in the reward"),
        ("--algorithm rloo --advantage group", "give --kl-in loss"),
        ("--algorithm dapo --reward correct rpr --rpr-divisor 2", "give --overlong 0"),
        ("--algorithm dapo --reward entropy=-1", "give --overlong 0"),
        ("--algorithm dr_grpo --rollouts-per-prompt 1", "at least 2"),
        ("--algorithm rloo --kl-estimator k2", "where it is k1"),
        ("--algorithm dapo --advantage batch", "give --resample 0"),
        ("--algorithm remax --reward plurality", "nobody to vote with"),
        ("--eval-every 2 --eval-limit 0", "needs held-out problems"),
        ("--keep-checkpoints", "give --eval-every too"),
        ("--keep-checkpoints --eval-every 5 --lora 4", "leave out --lora"),
        ("--critic-warmup 2", "no effect without a critic"),
        ("--gae-lambda 0.9 --algorithm rloo", "no effect without a critic"),
        ("--kl-estimator k4", "--kl-estimator k4"),
        ("--clip 0", "--clip 0"),
        ("--lora -1", "--lora -1"),
        ("--updates-per-step 0", "--updates-per-step 0"),
        ("--calibrate-threshold 0.4 --reward rpr", "no effect"),
        ("--calibrate-threshold 0.4 --reward calibrate", "without --reward calibrate and a --reward-model"),
        ("--calibrate-weight 0.5 --reward calibrate", "without --reward calibrate and a --reward-model"),
        ("--rpr-open-ended --reward rpr", "no toy can write"),
        ("--eval nosuch", "--eval nosuch"),
        ("--eval greedy --eval-samples 8", "no effect with --eval greedy"),
        ("--rpr-open-ended --reward correct", "no effect"),
        ("--model toy-weak --data gsm8k", "reads problems of toy only"),
        ("--model toy-search@1 --data toy", "reads problems of toy-search only"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(flags, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.models, "load_model", lambda *_: pytest.fail("it got as far as loading the model"))
    assert train.main(flags.split()) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("model", ["toy", "toy-weak@3", "toy-search", "toy-search@1"])
def test_a_toy_model_brings_its_world_for_training_and_for_the_study(model):
    world = "toy-search" if "search" in model else "toy"
    settings = completed("--model", model)
    assert (settings.data, settings.eval_data, settings.rollouts_per_prompt) == (world, world, 16)
    assert settings.run == f"runs/{model}-correct-seed0"


def test_the_learning_rate_warms_up_and_decays_by_half_a_cosine():
    flags = {"lr": 1.0, "warmup": 4, "steps": 12}
    rates = [learning_rate(step, schedule="cosine", **flags) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1
    assert rates[8] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert learning_rate(11, schedule="constant", **flags) == 1
    assert learning_rate(0, schedule="constant", **{**flags, "warmup": 0}) == 1
