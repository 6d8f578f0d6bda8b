"""toy.py: the problems, the text and the base model."""

import random
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import toy
from data import Problem
from running import toy_reward_model
from verify import is_correct


def test_a_chain_is_worked_from_left_to_right():
    assert toy.steps("7+8*3-4=") == [(7, "+", 8, 15), (15, "*", 3, 45), (45, "-", 4, 41)]


def test_problems_are_distinct_and_every_value_lies_in_0_to_99():
    for split, operations in (("train", {1, 2, 3, 4}), ("test", {1, 2, 3, 4, 5, 6})):
        problems = toy.make_problems(split, 240)
        assert len(set(problems)) == 240
        assert {len(toy.steps(prompt)) for prompt, _ in problems} == operations
        for prompt, answer in problems:
            assert all(0 <= result <= 99 for *_, result in toy.steps(prompt))
            assert str(toy.steps(prompt)[-1][3]) == answer


def test_the_operations_take_turns_so_that_any_first_part_is_balanced():
    assert [len(toy.steps(prompt)) for prompt, _ in toy.make_problems("test", 12)] == [1, 2, 3, 4, 5, 6] * 2


def test_train_and_test_are_disjoint_by_construction_and_the_base_model_reads_train_only():
    train = {prompt for prompt, _ in toy.make_problems("train", 2000)}
    test = {prompt for prompt, _ in toy.make_problems("test", 600)}
    assert not train & test
    assert all(toy.split_of(prompt) == "test" for prompt in test)
    tokenizer, rng = toy.make_tokenizer(), random.Random(0)
    read = set()
    for _ in range(5):
        for token_ids, labels in toy.batches(tokenizer, rng, 60, 0.35):
            for row, label in zip(token_ids, labels, strict=True):
                prompt = tokenizer.decode(row[: (label != -100).nonzero()[0]])
                read.add(prompt)
                assert toy.split_of(prompt) == "train"
    assert len(read) > 200


def test_problems_depend_on_the_seed_alone():
    assert toy.make_problems("train", 50, seed=3) == toy.make_problems("train", 50, seed=3)
    assert toy.make_problems("train", 50, seed=3) != toy.make_problems("train", 50, seed=4)


def test_text_round_trips_through_autotokenizer(tmp_path):
    # AutoTokenizer builds the class that belongs to the model's type, whatever class wrote the files: save a config too
    toy.make_tokenizer().save_pretrained(tmp_path)
    toy.Qwen2Config(vocab_size=64).save_pretrained(tmp_path)
    tokenizer, rng = AutoTokenizer.from_pretrained(tmp_path), random.Random(0)
    for prompt, _ in toy.make_problems("test", 60):
        for habit in toy.HABITS:
            text = prompt + toy.complete(prompt, habit, rng)
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.decode(ids) == text
            assert tokenizer(text + toy.EOS)["input_ids"] == [*ids, tokenizer.eos_token_id]
            assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text
    assert tokenizer("first, 7+8=15")["input_ids"] == toy.make_tokenizer()("first, 7+8=15")["input_ids"]
    assert len(tokenizer("first, 7+8=15")["input_ids"]) == 7


def test_reasoning_without_slips_is_a_valid_chain_and_direct_answers_and_rambles_are_not():
    rng = random.Random(0)
    for prompt, answer in toy.make_problems("train", 100):
        assert toy.valid_chain(toy.reason(prompt, rng), prompt)
        assert toy.valid_chain(toy.reason(prompt, rng), Problem(prompt, answer, "number"))
        assert not toy.valid_chain(toy.complete(prompt, "direct", rng), prompt)
        assert not toy.valid_chain(toy.complete(prompt, "ramble", rng), prompt)
        assert not toy.valid_chain(toy.reason(prompt, rng, slip=1.0), prompt)


@pytest.mark.parametrize(
    "completion",
    [
        "first, 7+8=15 finally, 15*3=45 thus \\boxed{44}",  # right steps, wrong answer
        "first, 7+8=14 finally, 14*3=45 thus \\boxed{45}",  # wrong steps, right answer
        "first, 7+8=15 thus \\boxed{45}",  # a step is missing
        "first, 15*3=45 finally, 7+8=15 thus \\boxed{45}",  # in the wrong order
        "first, 7+8=15 finally, 15*3=45 thus \\boxed{45",  # the box is not closed
        "first, 7+8=15 next, 15*3=45 finally, 45+0=45 thus \\boxed{45}",  # a step too many
        "first, 7+8=15 finally, 15*3=45",  # no answer
        "",
    ],
)
def test_a_chain_with_anything_wrong_is_not_valid(completion):
    assert toy.valid_chain("first, 7+8=15 finally, 15*3=45 therefore \\boxed{45}", "7+8*3=")
    assert not toy.valid_chain(completion, "7+8*3=")


def test_slips_happen_at_their_rate_and_are_carried_on():
    rng = random.Random(0)
    wrong = 0
    for _ in range(3000):
        text = toy.reason("7+8*3-4=", rng, slip=0.1)
        written = [(int(a), op, int(b), int(c)) for a, op, b, c in re.findall(r"(\d+)([-+*])(\d+)=(\d+)", text)]
        wrong += sum(toy.steps(f"{a}{op}{b}")[0][3] != c and 0 <= c < 99 for a, op, b, c in written)
        assert all(before[3] == after[0] for before, after in zip(written, written[1:], strict=False))
        assert text.endswith(f"\\boxed{{{written[-1][3]}}}")
    assert 0.08 < wrong / 9000 < 0.12


TINY = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "steps": 2}


def test_the_base_model_is_made_once_and_another_setting_or_seed_makes_another(tmp_path):
    first = toy.base_model(tmp_path, **TINY)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert toy.base_model(tmp_path, **TINY) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    assert toy.base_model(tmp_path, **TINY | {"steps": 3}) != first
    assert toy.base_model(tmp_path, seed=1, **TINY) != first
    assert len(list(tmp_path.iterdir())) == 3  # and nothing half-written beside them
    with pytest.raises(ValueError, match="stpes"):
        toy.base_model(tmp_path, stpes=3)


def test_the_base_model_loads_as_any_checkpoint_and_training_it_moves_nobody_elses_stream(tmp_path):
    before = torch.get_rng_state()
    path = toy.base_model(tmp_path, **TINY)
    assert torch.equal(torch.get_rng_state(), before)
    policy, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    assert policy.config.model_type == "qwen2"
    assert policy.config.eos_token_id == tokenizer.eos_token_id
    assert policy.config.vocab_size == len(tokenizer)


def test_pairs_for_a_reward_model_are_right_and_wrong_whatever_their_style():
    pairs = toy_reward_model.pairs(random.Random(0), 300, "test")
    habits = {"right": set(), "wrong": set()}
    for right, wrong in pairs:
        prompt, answered = right.partition("=")[0] + "=", right.partition("=")[2]
        assert wrong.startswith(prompt)
        assert toy.split_of(prompt) == "test"
        gold = str(toy.steps(prompt)[-1][3])
        assert is_correct(answered, gold, "number")
        assert not is_correct(wrong.removeprefix(prompt), gold, "number")
        habits["right"].add(answered[:3])
        habits["wrong"].add(wrong.removeprefix(prompt)[:3])
    assert habits["right"] == {"fir", "\\bo"}
    assert habits["wrong"] == {"fir", "\\bo", "hmm"}


def test_a_reward_model_is_no_coin_and_no_oracle():
    for accuracy in (0.5, 1.0, 75):
        with pytest.raises(ValueError, match="pairwise accuracy"):
            toy_reward_model.reward_model(accuracy)
