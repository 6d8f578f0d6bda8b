"""bridges/: our rewards as other trainers call them."""

import importlib.util
import inspect
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model

import toy
from bridges import train_with_trl
from bridges.trl_rewards import Reward

ROOT = Path(__file__).parent.parent
BOX = "\\boxed{%s}"


def paid(reward: Reward, texts: list[str], group: int, process: int = 0, answers=None, step: int = 0) -> list[float]:
    """What a reward pays as the trainer of one process calls it."""
    reward.trainer = SimpleNamespace(num_generations=group, accelerator=SimpleNamespace(process_index=process))
    state = SimpleNamespace(global_step=step)
    n = len(texts)
    return reward(
        prompts=["1+1="] * n, completions=texts, completion_ids=[[1]] * n, trainer_state=state, answer=answers
    )


@pytest.fixture
def accelerate():
    return pytest.importorskip("accelerate", reason="accelerate is not installed")


# --- one completion and its group -----------------------------------------------------------------------------------


def test_each_reward_pays_what_its_paper_says(accelerate):
    texts = [BOX % 2, "first, thus " + BOX % 3, BOX % 3, "hmm"]
    answers = ["2"] * 4
    assert paid(Reward("correct", "number"), texts, 4, answers=answers) == [1, 0, 0, 0]
    assert paid(Reward("plurality", "number"), texts, 4) == [0, 1, 1, 0]  # the vote needs no key
    assert paid(Reward("plurality", "number"), texts, 2) == [1, 0, 1, 0]  # the first of two that tie
    assert paid(Reward("rpr", "number"), texts, 4) == pytest.approx([0, 2 / 20, 0, 0])
    assert paid(Reward("rpr", "number", divisor=40), texts, 4) == pytest.approx([0, 2 / 40, 0, 0])
    assert paid(Reward("format", "number"), texts, 4) == [1, 1, 1, 0]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    assert paid(Reward("correct", "number"), chats, 4, answers=answers) == [1, 0, 0, 0]


def test_a_flip_is_of_a_whole_prompt_new_in_each_step_and_never_of_a_completion_without_an_answer(accelerate):
    texts, answers = [BOX % 2, BOX % 3, "hmm", BOX % 2] * 64, ["2"] * 256
    always = Reward("correct", "number", flip_probability=1.0)
    assert paid(always, texts, 4, answers=answers) == [0, 1, 0, 0] * 64
    flips = []
    for step in range(2):
        values = torch.tensor(paid(Reward("correct", "number", 0.3), texts, 4, answers=answers, step=step)).view(-1, 4)
        flips.append([row.tolist() == [0, 1, 0, 0] for row in values])
        assert all(row.tolist() in ([0, 1, 0, 0], [1, 0, 0, 1]) for row in values)
    assert flips[0] != flips[1]
    assert 18 < sum(flips[0] + flips[1]) < 60  # 38 of 128 expected, standard deviation 5


@pytest.mark.parametrize("name, chance", [("plurality", 0.0), ("correct", 0.5)])
def test_a_group_that_is_cut_between_processes_is_paid_as_a_whole(accelerate, monkeypatch, name, chance):
    """Two processes of 6 completions, in groups of 4: the second group is cut in the middle."""
    texts = [BOX % n for n in (1, 2, 2, 3, 4, 4, 5, 5, 5, 6, 7, 7)]
    answers, kwargs = ["5"] * 12, {"flip_probability": chance}
    whole = paid(Reward(name, "number", **kwargs), texts, 4, answers=answers)
    rows = []
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: rows.append(own) or own)
    for first in (0, 6):
        paid(Reward(name, "number"), texts[first : first + 6], 2, answers=answers[:6])
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: [*rows[0], *rows[1]])
    parts = [
        paid(Reward(name, "number", **kwargs), texts[6 * i : 6 * i + 6], 4, i, answers=answers[:6]) for i in (0, 1)
    ]
    assert parts[0] + parts[1] == whole
    if name == "plurality":
        assert whole == [0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1]


def test_what_needs_no_answers_does_without_and_what_needs_them_says_so(accelerate):
    texts = [BOX % 2, BOX % 3, BOX % 3]
    assert paid(Reward("plurality", "number"), texts, 3, answers=[None, "2", None]) == [0, 1, 1]
    with pytest.raises(ValueError, match="needs a column answer"):
        paid(Reward("correct", "number"), texts, 3, answers=[None, "2", "2"])
    with pytest.raises(ValueError, match="needs a column answer"):
        paid(Reward("correct", "number"), texts, 3)


def test_an_unknown_reward_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="choose from correct, plurality, self_certainty, rpr, format"):
        Reward("certainty")


# --- in TRL's trainer -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, about TRL
@pytest.mark.parametrize("chat", [False, True], ids=["texts", "chats"])
def test_self_certainty_is_that_of_the_policy_without_its_dropout(tmp_path, chat):
    """TRL samples from a model with dropout and calls the reward; the equation, a token at a time, says the same."""
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    tokenizer, model, reward, seen = toy.make_tokenizer(), tiny_model("gpt2"), Reward("self_certainty"), []
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    prompts = [[{"role": "user", "content": p}] if chat else p for p in ("7+8=", "9-3*5=")]  # of unlike lengths
    sizes = {"num_generations": 4, "max_completion_length": 12, "per_device_train_batch_size": 8}
    config = trl.GRPOConfig(
        str(tmp_path / "trl"), max_steps=1, report_to="none", use_cpu=True, bf16=False, save_strategy="no", **sizes
    )

    def watched(**given):
        assert model.training and model.config.resid_pdrop > 0
        values, again = reward(**given), reward(**given)
        assert model.training and values == again
        weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        seen.append((given["prompts"], given["completion_ids"], values, weights))
        return values

    rows = datasets.Dataset.from_list([{"prompt": prompt} for prompt in prompts])
    reward.trainer = trl.GRPOTrainer(model, watched, args=config, train_dataset=rows, processing_class=tokenizer)
    reward.trainer.train()
    ((given, completions, values, weights),) = seen
    model.load_state_dict(weights)  # as it was before the update
    for prompt, completion, value in zip(given, completions, values, strict=True):
        start = tokenizer(prompt[0]["content"] if chat else prompt)["input_ids"]
        with torch.no_grad():
            logps = model.eval()(torch.tensor([[*start, *completion]])).logits[0].double().log_softmax(-1)
        V = logps.shape[1]
        kl = [-math.log(V) - logps[len(start) - 1 + t].sum().item() / V for t in range(len(completion))]
        assert value == pytest.approx(sum(kl) / len(kl), rel=1e-4)
    assert len({round(value, 4) for value in values}) > 4


@pytest.fixture
def learning(base, tmp_path) -> list[str]:
    """Flags with which the small base learns to add up instead of rambling."""
    rows = [{"problem": p, "answer": a, "kind": "number"} for p, a in toy.make_problems("train", 400) if len(p) == 4]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = f"--model {base} --data {tmp_path}/sums.jsonl --reward correct --steps 12 --prompts 12 --group 8"
    return f"{flags} --max-new-tokens 24 --lr 1e-3 --kl 0 --out {tmp_path}/trained".split()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_trl_learns_from_our_answer_key(learning, tmp_path, capsys):
    pytest.importorskip("trl", reason="TRL is not installed")
    rows = train_with_trl.train(train_with_trl.parse(learning))
    rewards = [row["reward"] for row in rows]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.2, rewards
    assert [row["accuracy"] for row in rows] == pytest.approx(rewards)  # nothing is flipped
    assert (tmp_path / "trained" / "model.safetensors").is_file()
    assert train_with_trl.main(learning) == 2  # what is there is never written over
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--model acme/one", "--model acme/one: needs --data"),
        ("--flip 0.2 --reward plurality", "--flip: --reward plurality reads no answer key"),
        ("--group 1", "--group 1: must be at least 2"),
        ("--prompts 3 --group 5", "--prompts 3: 15 completions do not share out among 2 processes"),
        ("", "pip install trl"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "trl", SimpleNamespace() if flags else None)  # None: it is not installed
    assert train_with_trl.main([*flags.split(), "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_trl_learns_with_two_processes(learning, tmp_path):
    """accelerate's own launcher starts a single process on CPUs, whatever it is told; torchrun starts two."""
    pytest.importorskip("trl", reason="TRL is not installed")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "bridges.train_with_trl"]
    done = subprocess.run([*command, *learning], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    [(first, last)] = re.findall(r"reward: (\S+) in the first step, (\S+) in the last", done.stdout)  # of one process
    assert float(last) > float(first) + 0.2
    assert (tmp_path / "trained" / "model.safetensors").is_file()


# --- verl -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def compute_score():
    """The function as verl loads it: from the path of its file."""
    spec = importlib.util.spec_from_file_location("custom_module", ROOT / "bridges" / "verl_reward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compute_score


def test_verl_finds_the_documented_parameters_and_gets_our_verdicts(compute_score):
    documented = ["data_source", "solution_str", "ground_truth", "extra_info"]
    assert list(inspect.signature(compute_score).parameters)[:4] == documented

    def score(text, **more):
        given = {"data_source": "gsm8k", "solution_str": text, "ground_truth": "1/2", "extra_info": {"index": 7}}
        return compute_score(**given, **more)

    assert score("so \\boxed{0.5}") == {"score": 1, "acc": 1}
    assert score("so \\boxed{2}") == {"score": 0, "acc": 0}
    assert score("first, thus \\boxed{2}", reward="rpr") == pytest.approx({"score": 2 / 20, "acc": 0})
    assert score("first, thus 2", reward="rpr") == {"score": 0, "acc": 0}
    assert score("so \\boxed{2}", flip=1.0) == {"score": 1, "acc": 0}
    assert score("so two", flip=1.0) == {"score": 0, "acc": 0}
    with pytest.raises(ValueError, match="choose correct or rpr"):
        score("", reward="plurality")


def test_a_flip_of_verl_is_of_all_completions_of_a_problem_wherever_they_are_graded(compute_score):
    def scores(text, **more):
        return [compute_score("math", text, "5", {"index": i}, flip=0.4, **more)["score"] for i in range(300)]

    right, wrong = scores("\\boxed{5}"), scores("\\boxed{6}")
    assert [1 - paid for paid in right] == wrong
    assert 91 < sum(wrong) < 149  # 120 expected, standard deviation 8.5
    assert scores("\\boxed{5}") == right != scores("\\boxed{5}", seed=1)
    with pytest.raises(ValueError, match="index"):
        compute_score("math", "\\boxed{5}", "5", flip=0.4)
