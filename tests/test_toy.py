"""toy.py: the problems, the text and the base model."""

import itertools
import json
import random
import re
from collections import Counter
from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

import toy
from data import Problem, load_problems
from running import pretraining, toy_reward_model
from running.files import made_once
from running.pretraining import batches
from verify import is_correct


def test_a_chain_is_worked_from_left_to_right():
    assert toy.steps("7+8*3-4=") == [(7, "+", 8, 15), (15, "*", 3, 45), (45, "-", 4, 41)]
    assert toy.steps("2*3-9=") == [(2, "*", 3, 6), (6, "-", 9, -3)]


def test_operands_have_one_digit_and_values_reach_0_and_99():
    rng = random.Random(0)
    chains = [toy.make_expression(rng, 4, "train") for _ in range(2000)]
    assert all(re.fullmatch(r"[1-9]([-+*][1-9]){4}=", chain) for chain in chains)
    values = {result for chain in chains for *_, result in toy.steps(chain)}
    assert {0, 99} <= values <= set(range(100))
    assert {chain[0] for chain in chains} == {chain[8] for chain in chains} == set("123456789")
    assert {sign for chain in chains for sign in chain[1:9:2]} == set("+-*")


def test_one_problem_in_five_is_a_test_problem_on_every_machine():
    chains = [f"{a}+{b}+{c}=" for a in range(1, 10) for b in range(1, 10) for c in range(1, 10)]
    assert 0.15 < sum(toy.split_of(chain) == "test" for chain in chains) / len(chains) < 0.25
    # By sha256sum, the first byte is 0xe1 = 45 * 5 for the one and 0x3e = 12 * 5 + 2 for the other.
    assert [toy.split_of(text) for text in ("7+8=", "7+8*3-4=")] == ["test", "train"]


def test_problems_are_distinct_and_every_value_lies_in_0_to_99():
    for split, operations in (("train", {1, 2, 3, 4}), ("test", {1, 2, 3, 4, 5, 6})):
        problems = toy.make_problems(split, 240)
        assert len(set(problems)) == 240
        assert {len(toy.steps(prompt)) for prompt, _ in problems} == operations
        for prompt, answer in problems:
            assert all(0 <= result <= 99 for *_, result in toy.steps(prompt))
            assert str(toy.steps(prompt)[-1][3]) == answer


def test_the_operations_take_turns_so_that_any_first_part_is_balanced():
    for split, operations in (("train", [1, 2, 3, 4]), ("test", [1, 2, 3, 4, 5, 6])):
        assert [len(toy.steps(prompt)) for prompt, _ in toy.make_problems(split, 12)] == (operations * 3)[:12]


def test_when_the_problems_of_one_operation_run_out_the_others_go_on():
    counts = Counter(len(toy.steps(prompt)) for prompt, _ in toy.make_problems("test", 300))
    assert counts[1] == 42  # all there are
    assert sorted(counts[operations] for operations in (2, 3, 4, 5, 6)) == [51, 51, 52, 52, 52]


def test_train_and_test_are_disjoint_by_construction_and_the_base_model_reads_train_only():
    train = {prompt for prompt, _ in toy.make_problems("train", 2000)}
    test = {prompt for prompt, _ in toy.make_problems("test", 600)}
    assert not train & test
    assert all(toy.split_of(prompt) == "test" for prompt in test)
    rng = random.Random(0)
    read = {prompt for _ in range(5) for prompt, _ in toy.chain_documents(rng, 60, 0.9)}
    assert all(toy.split_of(prompt) == "train" for prompt in read)
    assert len(read) > 200


def test_problems_depend_on_the_seed_alone():
    assert toy.make_problems("train", 50, seed=3) == toy.make_problems("train", 50, seed=3)
    assert toy.make_problems("train", 50, seed=3) != toy.make_problems("train", 50, seed=4)


def test_text_round_trips_through_autotokenizer(tmp_path):
    # AutoTokenizer builds the class that belongs to the model's type, whatever class wrote the files: save a config too
    toy.make_tokenizer().save_pretrained(tmp_path)
    Qwen2Config(vocab_size=64).save_pretrained(tmp_path)
    tokenizer, rng = AutoTokenizer.from_pretrained(tmp_path), random.Random(0)
    for prompt, _ in toy.make_problems("test", 60):
        for habit in toy.HABITS:
            text = prompt + toy.completion_of(prompt, habit, rng)
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
        one = len(toy.steps(prompt)) == 1  # operation: no luck
        assert toy.valid_chain(toy.completion_of(prompt, "direct", rng), prompt) == one
        assert not toy.valid_chain(toy.completion_of(prompt, "ramble", rng), prompt)
        assert not toy.valid_chain(toy.reason(prompt, rng, slip=1.0), prompt)
        assert re.fullmatch(r"hmm, \d(?: (?:and|or) \d)*", toy.completion_of(prompt, "ramble", rng))
        assert toy.completion_of(prompt, "direct", rng) == f"\\boxed{{{answer}}}"


def test_reasoning_is_written_in_these_words():
    texts = {toy.reason("7+8*3-4=", random.Random(seed)) for seed in range(20)}
    chain = "first, 7+8=15 next, 15*3=45 finally, 45-4=41"
    assert texts == {f"{chain} thus \\boxed{{41}}", f"{chain} therefore \\boxed{{41}}"}
    assert toy.reason("7+8=", random.Random(0)).startswith("first, 7+8=15 th")


def test_rambling_goes_on_with_probability_seven_tenths():
    rng = random.Random(0)
    lengths = [len(re.findall(r"\d", toy.ramble("7+8=", rng))) for _ in range(4000)]
    assert sum(lengths) / 4000 == pytest.approx(1 / 0.3, abs=0.2)  # geometric: four standard errors are 0.18


@pytest.mark.parametrize(
    "completion",
    [
        "first, 7+8=15 finally, 15*3=45 thus \\boxed{44}",  # right steps, wrong answer
        "first, 7+8=14 finally, 14*3=45 thus \\boxed{45}",  # wrong steps, right answer
        "first, 7+8=15 thus \\boxed{45}",  # a step is missing
        "first, 15*3=45 finally, 7+8=15 thus \\boxed{45}",  # in the wrong order
        "first, 7+8=15 finally, 15*3=45 thus \\boxed{45",  # the box is not closed
        "first, 7+8=15 next, 15*3=45 finally, 45+0=45 thus \\boxed{45}",  # a step too many
        "first, 7+8=15 next, 7+8=15 finally, 15*3=45 thus \\boxed{45}",  # a step twice
        "first, 7+8=15 finally, 15+3=45 thus \\boxed{45}",  # another sign
        "first, 7+8=15 finally, 15*3=45 thus \\boxed{450}",
        "\\boxed{45} first, 7+8=15 finally, 15*3=45",  # the answer before the reasons
        "first, 7+8=15 finally, 15*3=45",  # no answer
        "",
    ],
)
def test_a_chain_with_anything_wrong_is_not_valid(completion):
    assert toy.valid_chain("first, 7+8=15 finally, 15*3=45 therefore \\boxed{45}", "7+8*3=")
    assert not toy.valid_chain(completion, "7+8*3=")


def test_a_right_answer_to_one_operation_is_no_luck_with_or_without_its_step():
    assert toy.valid_chain("\\boxed{15}", "7+8=")
    assert toy.valid_chain("first, 7+8=15 thus \\boxed{15}", "7+8=")
    for completion in ("\\boxed{14}", "\\boxed{15", "", "first, 7+8=16 thus \\boxed{15}", "hmm, 7 and 8\\boxed{15}"):
        assert not toy.valid_chain(completion, "7+8=")
    assert not toy.valid_chain("\\boxed{45}", "7+8*3=")


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


def test_what_a_slip_makes_is_off_by_one_or_ten_and_stays_in_0_to_99():
    rng = random.Random(0)
    answers = Counter(re.search(r"boxed{(\d+)}", toy.reason("5-4=", rng, slip=1.0))[1] for _ in range(400))
    assert set(answers) == {"0", "2", "11"}
    answers = Counter(re.search(r"boxed{(\d+)}", toy.reason("9*9+9+8=", rng, slip=1.0))[1] for _ in range(400))
    assert all(0 <= int(answer) <= 99 for answer in answers)


# --- the search world -----------------------------------------------------------------------------------------------


def blind_tries(numbers: list[int], target: int) -> list[bool]:
    """Does it reach the target? For every order and operators that stay in 0..99; written out for three numbers."""
    found = []
    for a, b, c in itertools.permutations(numbers):
        for first, second in itertools.product("+-*", repeat=2):
            middle = eval(f"{a}{first}{b}")  # digits and signs of this test, nothing that a model wrote
            end = eval(f"{middle}{second}{c}") if middle >= 0 else -1
            if 0 <= middle <= 99 and 0 <= end <= 99:
                found.append(end == target)
    return found


@pytest.mark.parametrize(("numbers", "target"), [([2, 3, 4], 24), ([9, 9, 8], 98), ([5, 5, 1], 26), ([1, 1, 1], 50)])
def test_the_chance_of_a_blind_search_is_counted_over_all_legal_chains(numbers, target):
    tries = blind_tries(numbers, target)
    prompt = f"{','.join(map(str, numbers))}:{target} "
    assert toy.search_chance(prompt) == pytest.approx(sum(tries) / len(tries))


def test_a_blind_search_draws_each_legal_chain_alike():
    rng, prompt = random.Random(0), "3,7,8,2:58 "
    hits = sum(toy.random_search([3, 7, 8, 2], rng)[1] == 58 for _ in range(20_000)) / 20_000
    chance = toy.search_chance(prompt)
    assert 0.001 < chance < 0.1
    assert hits == pytest.approx(chance, abs=4 * (chance / 20_000) ** 0.5)


def test_a_puzzle_comes_with_a_solution_and_another_can_be_found():
    rng = random.Random(0)
    for split in ("train", "test"):
        for _ in range(50):
            prompt, solution = toy.make_puzzle(rng, split)
            numbers, target = toy.puzzle_of(prompt)
            assert re.fullmatch(r"[1-9](,[1-9]){3}:\d\d ", prompt)
            gold = json.dumps({"target": target, "nums": numbers})
            assert is_correct(solution, gold, "search")
            assert is_correct(toy.solve(prompt, rng), gold, "search")


def test_puzzles_of_the_two_splits_are_disjoint_whatever_the_order_of_their_numbers():
    def keys(prompts):
        return {(tuple(sorted(numbers)), target) for numbers, target in map(toy.puzzle_of, prompts)}

    train = keys(prompt for prompt, _ in toy.make_puzzles("train", 1500))
    test = keys(prompt for prompt, _ in toy.make_puzzles("test", 300))
    read = keys(prompt for prompt, _ in toy.search_documents(random.Random(0), 1500, 0.9))
    assert (len(train), len(test)) == (1500, 300)  # and no puzzle twice
    assert not test & (train | read)
    assert toy.make_puzzles("test", 20) == toy.make_puzzles("test", 20) != toy.make_puzzles("test", 20, seed=1)


def test_the_base_model_reads_solutions_and_at_the_end_some_that_miss():
    def solved(progress):
        documents = toy.search_documents(random.Random(0), 1000, progress)
        golds = [
            json.dumps(dict(zip(("nums", "target"), toy.puzzle_of(prompt), strict=True))) for prompt, _ in documents
        ]
        return sum(is_correct(text, gold, "search") for (_, text), gold in zip(documents, golds, strict=True)) / 1000

    assert solved(0.79) == 1
    assert solved(0.8) == pytest.approx(0.7 + 0.3 * 0.04, abs=0.05)  # a blind attempt hits in about 4 of 100


def test_text_of_the_search_world_round_trips():
    tokenizer = toy.make_tokenizer("toy-search")
    for prompt, solution in toy.search_documents(random.Random(0), 50, 0.0):
        ids = tokenizer(prompt)["input_ids"] + tokenizer(solution + toy.EOS)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == prompt + solution
        assert len(ids) == len(prompt + solution) + 1  # a token for each character
        assert 0 not in ids


# --- what the base model reads --------------------------------------------------------------------------------------


def documents(number: int, progress: float) -> list[tuple[str, str, str]]:
    """(habit, prompt, completion) of each document in a step of so many, at that part of the training."""
    tokenizer, found = toy.make_tokenizer(), []
    for token_ids, labels in batches(tokenizer, toy.chain_documents(random.Random(0), number, progress)):
        for row, label in zip(token_ids, labels, strict=True):
            written = (label != -100).nonzero()[:, 0]
            assert torch.equal(row[written], label[written])  # a label stands at its own token
            assert written.tolist() == list(range(written[0], written[-1] + 1))
            assert not row[written[-1] + 1 :].any()  # padding
            prompt, completion = tokenizer.decode(row[: written[0]]), tokenizer.decode(row[written])
            habit = {"f": "reason", "h": "ramble", "\\": "direct"}[completion[0]]
            found.append((habit, prompt, completion))
    return found


def test_the_loss_is_of_the_completion_and_its_end_and_not_of_the_prompt():
    for _, prompt, completion in documents(100, 0.9):
        assert re.fullmatch(r"\d([-+*]\d){1,4}=", prompt)
        assert completion.endswith("<eos>")
        assert completion.count("<eos>") == 1
        assert "=" not in completion or completion.startswith("first, ")


@pytest.mark.parametrize(
    ("progress", "shares"),
    [
        (0.8, {"direct": 0.45, "reason": 0.35, "ramble": 0.20}),
        (0.79, {"direct": 0.0346, "reason": 0.95, "ramble": 0.0154}),
    ],
)
def test_the_habits_have_their_shares_and_all_lengths_are_mixed(progress, shares):
    found = documents(3000, progress)
    counts = Counter(habit for habit, *_ in found)
    for habit, share in shares.items():
        assert counts[habit] / 3000 == pytest.approx(share, abs=4 * (share * (1 - share) / 3000) ** 0.5)
    lengths = Counter(len(toy.steps(prompt)) for _, prompt, _ in found)
    assert all(600 < lengths[operations] < 900 for operations in (1, 2, 3, 4))


def test_a_writer_who_reasons_slips_in_one_step_of_a_hundred():
    rng = random.Random(0)
    texts = [toy.completion_of("1+1+1+1+1=", "reason", rng) for _ in range(5000)]
    wrong = sum(int(a) + 1 != int(b) for text in texts for a, b in re.findall(r"(\d+)\+1=(\d+)", text))
    assert wrong / 20_000 == pytest.approx(0.01, abs=0.003)


def test_the_documents_of_a_step_come_in_three_parts_the_shortest_first():
    tokenizer = toy.make_tokenizer()
    shapes = [ids.shape for ids, _ in batches(tokenizer, toy.chain_documents(random.Random(0), 64, 0.9))]
    assert [rows for rows, _ in shapes] == [21, 21, 22]
    assert shapes[0][1] < shapes[1][1] < shapes[2][1]


@pytest.mark.parametrize("world", ["toy", "toy-search"])
def test_a_writer_is_told_how_much_of_the_training_is_over(world, monkeypatch):
    read, write = [], toy.WORLDS[world].documents

    def recording(rng, number, progress):
        read.append((number, progress))
        return write(rng, number, progress)

    monkeypatch.setitem(toy.WORLDS, world, toy.WORLDS[world]._replace(documents=recording))
    toy.train_base_model({**toy.BASE_MODEL, **TINY, "steps": 10, "documents_per_step": 6}, 0, world)
    assert read == [(6, step / 10) for step in range(10)]


# --- the base model -------------------------------------------------------------------------------------------------

TINY = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "steps": 2}


def test_the_base_model_is_made_once_and_another_setting_or_seed_makes_another(tmp_path):
    first = toy.base_model(tmp_path, **TINY)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert toy.base_model(tmp_path, **TINY) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    assert toy.base_model(tmp_path, **TINY | {"steps": 3}) != first
    assert toy.base_model(tmp_path, seed=1, **TINY) != first
    assert len(list(tmp_path.iterdir())) == 3  # and nothing half-written beside them
    assert toy.base_model(tmp_path / "elsewhere", **TINY).name == first.name
    with pytest.raises(ValueError, match="stpes"):
        toy.base_model(tmp_path, stpes=3)


class Saved:
    """A model, or a tokenizer, that saves itself as an empty folder."""

    def save_pretrained(self, path):
        path.mkdir(parents=True, exist_ok=True)


def test_a_model_belongs_to_what_defines_it_and_to_the_code_that_makes_it(tmp_path):
    sources, made = [tmp_path / "world.py", tmp_path / "model.py"], []
    make = partial(made_once, tmp_path, "m", sources=sources, make=lambda: made.append(1) or (Saved(), Saved()))
    for source in sources:
        source.write_text("a = 1")
    first = make(defined_by=[1])
    assert first.name.startswith("m-")
    assert make(defined_by=[1]) == first
    assert len(made) == 1
    assert make(defined_by=[2]) != first
    for source in sources:
        source.write_text("a = 2")
        assert make(defined_by=[1]) != first
        source.write_text("a = 1")
    assert len(made) == 4


def test_the_toys_models_belong_to_the_toys_code(tmp_path, monkeypatch):
    seen = []
    for module in (toy, toy_reward_model):
        monkeypatch.setattr(module, "made_once", lambda *given: seen.append(given) or tmp_path)
    toy.base_model(tmp_path, seed=3)
    (_, _, defined_by, sources, _) = seen[0]
    assert defined_by == [toy.BASE_MODEL, 3]
    assert [source.name for source in sources] == ["toy.py", "pretraining.py"]
    toy_reward_model.reward_model(0.75, tmp_path, seed=4)
    (_, name, defined_by, sources, _) = seen[-1]
    assert (name, defined_by) == ("toy-reward-model-0.75", [0.75, 4])
    assert [source.name for source in sources] == ["toy.py", "toy_reward_model.py"]


def test_a_base_models_name_tells_its_world_and_its_seed(monkeypatch):
    made = []
    monkeypatch.setattr(toy, "base_model", lambda **given: made.append(given) or "folder")
    names = {
        "toy": {"seed": 0, "world": "toy"},
        "toy-weak@2": {"seed": 2, "world": "toy", "steps": 250},
        "toy-search@1": {"seed": 1, "world": "toy-search"},
    }
    for name, given in names.items():
        assert toy.world_of(name) == given["world"]
        assert toy.path_of(name) == "folder"
        assert made.pop() == given
    for name in ("toy-strong", "toy@", "toy@x", "toy@-1", "toy@1@2", "@1", "Qwen/toy", ""):
        assert toy.world_of(name) is None
        assert toy.path_of(name) is None
    assert not made


def test_a_model_that_somebody_else_finished_meanwhile_is_taken(tmp_path):
    def make():  # the other process is faster
        (target := made_once(tmp_path, "m", [1], [], lambda: (Saved(), Saved()))).joinpath("theirs").touch()
        assert target.is_dir()
        return Saved(), Saved()

    assert [path.name for path in made_once(tmp_path, "m", [1], [], make).iterdir()] == ["theirs"]
    assert len(list(tmp_path.iterdir())) == 1


def test_training_lowers_the_loss():
    def loss(steps):
        policy, tokenizer = toy.train_base_model({**toy.BASE_MODEL, **TINY, "steps": steps}, seed=0)
        assert not policy.training
        (_, (token_ids, labels), _) = batches(tokenizer, toy.chain_documents(random.Random(1), 60, 0.9))
        return policy(input_ids=token_ids, labels=labels).loss.item()

    assert loss(40) < 0.9 * loss(1)


def test_ten_steps_of_warm_up_then_linear_decay_to_zero_and_gradients_clipped_to_one(monkeypatch):
    rates, squares = {"muon": [], "adamw": []}, []

    def square(weights):
        return sum(w.grad.square().sum().item() for w in weights)

    def muon(matrices, momenta, lr):
        rates["muon"].append(lr)
        squares.append(square(matrices))

    def adamw(self):
        rates["adamw"].append(self.param_groups[0]["lr"])
        squares[-1] += square(self.param_groups[0]["params"])

    monkeypatch.setattr(pretraining, "muon_step", muon)
    monkeypatch.setattr(torch.optim.AdamW, "step", adamw)
    design = {**toy.BASE_MODEL, **TINY, "steps": 20, "documents_per_step": 3, "muon_lr": 1.0, "adamw_lr": 2.0}
    toy.train_base_model(design, seed=0)
    expected = [min(1, (step + 1) / 10) * (20 - step) / 20 for step in range(20)]
    assert rates["muon"] == pytest.approx(expected)
    assert rates["adamw"] == pytest.approx([2 * rate for rate in expected])
    assert squares == pytest.approx([1] * 20, rel=1e-4)


def test_muon_takes_the_steps_of_torchs_which_rounds_to_bfloat16():
    torch.manual_seed(0)
    shapes = [(8, 8), (16, 6), (6, 16)]
    theirs = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    ours = [p.detach().clone().requires_grad_() for p in theirs]
    starts, momenta = [p.detach().clone() for p in theirs], [torch.zeros(shape) for shape in shapes]
    optimizer = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0)
    for _ in range(3):
        for a, b in zip(theirs, ours, strict=True):
            a.grad = b.grad = torch.randn(a.shape)
        optimizer.step()
        pretraining.muon_step(ours, momenta, lr=0.1)
    for a, b, start in zip(theirs, ours, starts, strict=True):
        assert ((a - b).norm() / (b - start).norm()).item() < 0.05


def test_the_base_model_loads_as_any_checkpoint_and_training_it_moves_nobody_elses_stream(tmp_path):
    torch.manual_seed(123)
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


def test_no_pair_that_a_reward_model_is_measured_on_is_a_problem_of_the_study_or_of_training():
    measured = {right.partition("=")[0] + "=" for right, _ in toy_reward_model.pairs(random.Random(1), 500, "test")}
    for split in ("train", "test"):
        assert not measured & {problem.prompt for problem in load_problems("toy", split)}
    rest = {toy.make_expression(random.Random(i), 1, "test") for i in range(500)}
    assert len(measured & rest) == 12  # of one operation 42 are held out, and the study takes 30


def test_a_reward_model_is_no_coin_and_no_oracle():
    for accuracy in (0.5, 1.0, 75):
        with pytest.raises(ValueError, match="pairwise accuracy"):
            toy_reward_model.reward_model(accuracy)


def test_the_world_of_five_numbers_has_five_everywhere():
    world = toy.WORLDS["toy-search-5"]
    for split in ("train", "test"):
        for prompt, answer in world.make_problems(split, 20):
            numbers, _ = toy.puzzle_of(prompt)
            assert len(numbers) == 5 and sorted(numbers) == sorted(json.loads(answer)["nums"])
    documents = world.documents(random.Random(0), 50, 0.9)
    assert all(len(toy.puzzle_of(prompt)[0]) == 5 and len(text.split()) == 4 for prompt, text in documents)
    assert all(
        len(toy.puzzle_of(prompt)[0]) == 4 for prompt, _ in toy.WORLDS["toy-search"].documents(random.Random(0), 9, 0)
    )
    assert toy.world_of("toy-search-5@2") == toy.world_of("toy-search-5-strong") == "toy-search-5"
