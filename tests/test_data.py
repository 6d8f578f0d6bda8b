"""data.py: rows become problems, problems become prompts, and what cannot be used is refused by name."""

import gzip
import json
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

import toy
from data import (
    HUB,
    TEMPLATES,
    BadInput,
    Problem,
    check_code_execution,
    default_template,
    encode_prompt,
    encode_prompts,
    load_problems,
)
from running import models
from running.models import end_tokens, load_model
from verify import extract_answer, is_correct, sandbox


def write(path, *rows):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"problem": "p", "answer": "1"}, "p", "1"),
        ({"question": "p", "answer": "so 1+1 = <<1+1=2>>2\n#### 2"}, "p", "2"),  # GSM8K
        ({"question": "p", "answer": "#### 1\nno:\n#### 1,234 "}, "p", "1,234"),
        ({"problem": "p", "solution": "thus $\\boxed{1}$, no, $\\boxed{\\frac{3}{4}}$."}, "p", "\\frac{3}{4}"),  # MATH
        ({"problem": "p", "solution": "so $\\boxed{-\\sqrt{2}}$ or $x=\\boxed{ 3 }$, {as we said}"}, "p", "3"),
        ({"problem": "p", "solution": "$\\boxed{1} + \\boxed{2}$ and $3$"}, "p", "2"),  # no second answer
        ({"problem": "p", "solution": "so $\\boxed 5$."}, "p", "5"),
        ({"problem": "p", "solution": "so $\\boxed{1}$.", "answer": "2"}, "p", "2"),  # the column, if there is one
        ({"problem": "p", "solution": "so $\\boxed{1}$.", "answer": None}, "p", "1"),
        ({"problem": "p", "answer": 0}, "p", "0"),
        ({"prompt": "p", "answer": -2.5}, "p", "-2.5"),
        ({"problem": "\n a\n\n  b \n", "answer": "1"}, "a\n\n  b", "1"),  # blanks within the text stay
        ({"prompt": "third", "question": "second", "problem": "first", "answer": "1"}, "first", "1"),
        ({"prompt": "third", "question": "second", "problem": None, "answer": "1"}, "second", "1"),
    ],
    ids=str,
)
def test_a_file_may_name_its_columns_in_any_of_the_usual_ways(tmp_path, row, prompt, answer):
    assert load_problems(write(tmp_path / "a.jsonl", row)) == [Problem(prompt, answer, "math")]


def test_a_limit_counts_usable_rows_and_reads_no_further(tmp_path):
    good = [{"problem": f"p{i}", "answer": str(i)} for i in range(3)]
    path = write(tmp_path / "a.jsonl.gz", good[0], {"problem": "no gold", "answer": ""}, *good[1:], {"bad": "row"})
    with pytest.warns(UserWarning, match="1 of 4 rows dropped"):
        assert [p.answer for p in load_problems(path, limit=3)] == ["0", "1", "2"]
    with pytest.raises(BadInput, match="columns bad"):
        load_problems(path, limit=4)


def test_unusable_golds_are_dropped_and_counted(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {"problem": "two answers", "solution": "at $\\boxed{(0,1)}$ and $\\boxed{(8,38)}$.", "answer": "(8,38)"},
        {"problem": "empty box", "solution": "there are $\\boxed{}$ primes"},
        {"problem": "no gold", "answer": ""},
        {"problem": "unclosed", "solution": "\\boxed{1"},
        {"problem": "not a text", "solution": 12},
        {"problem": " ", "answer": "no problem"},
        {"problem": "good", "solution": "either $\\boxed{2}$ or $\\boxed{2}$"},
    )
    with pytest.warns(UserWarning, match="6 of 7 rows dropped"):
        assert [p.prompt for p in load_problems(path)] == ["good"]


def test_without_a_dropped_row_there_is_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_problems(write(tmp_path / "a.jsonl", {"problem": "p", "answer": "1"}))) == 1


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"text": "p", "answer": "1"}], "columns text, answer; needed are"),
        ([{"problem": "p"}], "needed are"),
        ([{"problem": 3, "answer": "1"}], "needed are"),
        ([], "no usable problem"),
        (["just text"], "not an object"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path, rows, match):
    path = write(tmp_path / "bad.jsonl", *rows)
    with pytest.raises(BadInput, match=match) as error:
        load_problems(path)
    assert "bad.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_formats_and_broken_lines_are_refused(tmp_path):
    (tmp_path / "broken.jsonl").write_text('{"problem": "p", "answer": "1"}\n{"problem": \n')
    (tmp_path / "table.csv").write_text("problem,answer\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "not.jsonl.gz").write_text("{}")
    for name, match in (
        ("nosuch", "no such file"),
        (tmp_path / "broken.jsonl", "line 2: Expecting value"),
        (tmp_path / "table.csv", "jsonl"),
        (tmp_path / "binary.jsonl", "utf-8"),
        (tmp_path / "not.jsonl.gz", "gzip"),
    ):
        with pytest.raises(BadInput, match=match):
            load_problems(str(name))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "tests": [1, 2]},
        {"prompt": "p", "tests": 3},
        {"public_tests": None, "description": "d"},
        {"public_tests": {"input": ["1"], "output": []}, "description": "d"},
        {"public_tests": {"input": ["1"], "output": ["1"]}},
        {"target": 3, "nums": 3},
        {"question": "p", "answer": "1", "kind": ["math"]},
        {"question": "p", "answer": "2", "kind": "countdown"},
        {"question": "p", "answer": "x", "kind": "code"},
    ],
    ids=str,
)
def test_rows_that_hold_something_else_than_they_should_are_refused(tmp_path, row):
    with pytest.raises(BadInput, match="a row has the columns"):
        load_problems(write(tmp_path / "a.jsonl", row))


def test_golds_that_no_answer_could_meet_are_dropped(tmp_path):
    pairs = (("12", "choice"), ("abc", "literal"), ("x", "number"), ("B", "choice"))
    rows = [{"question": "p", "answer": answer, "kind": kind} for answer, kind in pairs]
    with pytest.warns(UserWarning, match="3 of 4 rows"):
        assert load_problems(write(tmp_path / "a.jsonl", *rows)) == [Problem("p", "B", "choice")]


def test_an_unknown_kind_in_a_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="kind 'essay'"):
        load_problems(write(tmp_path / "a.jsonl", {"question": "p", "answer": "1", "kind": "essay"}))


# --- the toy and the hub --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "number"), [("train", 640), ("test", 180)])
def test_toy_problems_are_those_of_the_split_and_are_graded_as_numbers(split, number):
    problems = load_problems("toy", split)
    assert len(problems) == number
    assert {toy.split_of(p.prompt) for p in problems} == {split}
    assert {p.kind for p in problems} == {"number"}
    assert load_problems("toy", split, 6) == problems[:6]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("name", "hub_id", "configuration"),
    [
        ("gsm8k", "openai/gsm8k", "main"),
        ("math", "DigitalLearningGmbH/MATH-lighteval", "default"),
        ("math500", "HuggingFaceH4/MATH-500", "default"),
        ("mmlu-pro", "TIGER-Lab/MMLU-Pro", "default"),
        ("code_contests", "deepmind/code_contests", "default"),
    ],
)
def test_a_name_of_the_hub_loads_its_data_set_and_the_split_that_was_asked_for(
    monkeypatch, split, name, hub_id, configuration
):
    held = {(hub_id, configuration, split): [{"question": "p", "answer": "1"}, {"question": "q", "answer": "2"}]}
    fake = SimpleNamespace(load_dataset=lambda where, which, split: held[where, which, split])
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert load_problems(name, split, limit=1) == [Problem("p", "1", "math")]
    assert len(HUB) == 5


@pytest.mark.parametrize("error", [ConnectionError("no network"), OSError("disk full"), ValueError("no such split")])
def test_a_data_set_that_the_hub_does_not_give_is_refused_in_one_line(monkeypatch, error):
    def load_dataset(*args, **kwargs):
        raise error

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(BadInput, match=r"--data math500: cannot load HuggingFaceH4/MATH-500 \(train\).*Error$"):
        load_problems("math500", "train")


# --- rows of other data sets ----------------------------------------------------------------------------------------

HUMANEVAL = {
    "prompt": 'from math import floor\n\ndef f(x):\n    """Half of it."""\n',
    "entry_point": "f",
    "test": "def check(candidate):\n    assert candidate(5) == 2\n    assert candidate(8) == 4\n",
    "canonical_solution": "-",
}
MBPP = {
    "text": "Write g.",
    "code": "-",
    "test_setup_code": "n = 2",
    "test_list": ["assert g(2) == n", "assert g(3) == 3"],
}
CONTEST = {
    "description": "\nAdd. ",
    "public_tests": {"input": ["1 2\n", "2 2\n"], "output": ["3\n", "4\n"]},
    "source": 2,
}
CRUXEVAL = {"code": "def f(a):\n    return [a]", "input": "'x'", "output": "['x']", "id": "s0"}
MMLU = {"question": "Which? ", "options": ["a", "b", "c"], "answer": "C", "answer_index": 2}


@pytest.mark.parametrize(
    ("row", "kind", "prompt", "right", "wrong"),
    [
        (HUMANEVAL, "code", HUMANEVAL["prompt"], ["    return floor(x / 2)"], ["    return 2", "    return x / 2"]),
        (
            MBPP,
            "code",
            "Write g.\nYour code should pass these tests:\nassert g(2) == n\nassert g(3) == 3",
            ["def g(x): return x"],
            ["def g(x): return 2", "def g(x): return 3", "n = 3\ndef g(x): return 3"],
        ),
        (
            {"problem": "Write g.", "tests": "assert g() == 2"},
            "code",
            "Write g.\nYour code should pass these tests:\nassert g() == 2",
            ["```python\ndef g(): return 2\n```"],
            ["def g(): return 1"],
        ),
        (CONTEST, "code", "Add.", ["print(sum(map(int, input().split())))"], ["print(3)", "print(4)"]),
        (
            CRUXEVAL,
            "literal",
            "def f(a):\n    return [a]\n\nassert f('x') == ??\n\nWhat value makes this true?",
            ["\\boxed{['x']}", "[ANSWER]['x'][/ANSWER]"],
            ["\\boxed{'x'}"],
        ),
        (
            {"target": 6, "nums": [1, 2, 3]},
            "countdown",
            "Use each of the numbers 1, 2, 3 exactly once, with + - * / and parentheses, to make 6.",
            ["\\boxed{1+2+3}"],
            ["\\boxed{6}", "\\boxed{1+2*3}"],
        ),
        (MMLU, "choice", "Which?\nA. a\nB. b\nC. c", ["The answer is (C)."], ["\\boxed{A}"]),
        ({"question": "Which?", "answer": "B", "kind": "choice"}, "choice", "Which?", ["\\boxed{B}"], ["\\boxed{A}"]),
    ],
    ids=["humaneval", "mbpp", "tests", "contest", "cruxeval", "countdown", "mmlu", "named"],
)
def test_the_rows_of_other_data_sets_become_problems_that_right_answers_solve(
    tmp_path, monkeypatch, row, kind, prompt, right, wrong
):
    monkeypatch.setattr(sandbox, "SECONDS", 60)  # on a slow machine, too, what is right passes
    (problem,) = load_problems(write(tmp_path / "a.jsonl", row))
    assert (problem.kind, problem.prompt) == (kind, prompt)
    for completion in right:
        assert is_correct(completion, problem.answer, kind, allow_code_execution=True), completion
    for completion in wrong:
        assert not is_correct(completion, problem.answer, kind, allow_code_execution=True), completion


@pytest.mark.parametrize("row", [MBPP | {"test_list": []}, CONTEST | {"public_tests": {"input": [], "output": []}}])
def test_programs_without_tests_are_dropped(tmp_path, row):
    good = {"problem": "p", "answer": "1"}
    with pytest.warns(UserWarning, match="1 of 2 rows dropped"):
        assert load_problems(write(tmp_path / "a.jsonl", row, good)) == [Problem("p", "1", "math")]


@pytest.mark.parametrize("i", range(10))
def test_a_choice_has_up_to_ten_options_from_a_to_j(tmp_path, i):
    letter = "ABCDEFGHIJ"[i]
    row = {"question": "Which?", "options": [f"option {n}" for n in range(10)], "answer": letter}
    (problem,) = load_problems(write(tmp_path / "a.jsonl", row))
    assert problem.prompt.splitlines()[i + 1] == f"{letter}. option {i}"
    assert extract_answer(f"The answer is ({letter}).", "choice") == letter
    for completion in (f"The answer is ({letter}).", f"\\boxed{{{letter}}}", f"\\boxed{{{letter}. option {i}}}"):
        assert is_correct(completion, problem.answer, "choice")
        assert not is_correct(completion, "B" if letter == "A" else "A", "choice")


def test_programs_are_run_only_if_the_user_says_so():
    programs = [Problem("p", "1", "math"), Problem("p", "{}", "code")]
    with pytest.raises(BadInput, match="verify/sandbox.py.*--allow-code-execution"):
        check_code_execution(programs, allowed=False)
    check_code_execution(programs, allowed=True)
    check_code_execution(programs[:1], allowed=False)


# --- templates ------------------------------------------------------------------------------------------------------

CHAT = (
    "{{ '<s>' }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer_with_bos():
    """A word tokenizer that puts <s> before every text, as Llama's does."""
    words = ["<s>", "<unk>", "<user>", "<system>", "<assistant>", "hello", "</s>"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    wrapped.add_tokens(["<user>", "<system>", "<assistant>"], special_tokens=True)
    return wrapped


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_prompt_has_exactly_one_beginning_and_ends_where_the_model_starts(template):
    tokenizer = tokenizer_with_bos()
    tokenizer.chat_template = CHAT
    ids = encode_prompt(Problem("hello", "1"), tokenizer, template)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.convert_tokens_to_ids("<assistant>")) == isinstance(TEMPLATES[template], list)
    if isinstance(TEMPLATES[template], list):
        assert ids[-1] == tokenizer.convert_tokens_to_ids("<assistant>")
    assert tokenizer.convert_tokens_to_ids("hello") in ids


class Recorder:
    """A tokenizer whose chat template writes [role] before each message. It gives back the text instead of ids."""

    chat_template = "any"

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert add_generation_prompt and not tokenize
        return "".join(f"[{message['role']}]{message['content']}" for message in messages) + "[assistant]"

    def __call__(self, text, add_special_tokens=True):
        assert add_special_tokens != ("[assistant]" in text)
        return {"input_ids": text}


# Copied by hand from the papers and their code, misprints included; {x} = \boxed{8}, {problem} is the problem.
PINNED = {
    "plain": "{x} = \\boxed{8}, {problem}",
    "qa": "Q: {x} = \\boxed{8}, {problem}\nA:",
    "r1-zero": "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
    "assistant first thinks about the reasoning process in the mind and then provides the user with the answer. The "
    "reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: You must put your answer "
    "inside <answer> </answer> tags, i.e., <answer> answer here </answer>. And your final answer will be extracted "
    "automatically by the \\boxed{} tag. {x} = \\boxed{8}, {problem} Assistant: <think>",
    "qwen-boxed": "[system]You are a helpful assistant.[user]{x} = \\boxed{8}, {problem}\nPlease reason step by step, "
    "and put your final answer within \\boxed{}.[assistant]",
    "intuitor": "[system]You are a helpful AI Assistant, designed to provided well-reasoned and detailed responses. "
    "You FIRST think about the reasoning process step by step and then provide the user with the answer. Please "
    "enclose your final answer in the box: \\boxed{Your Answer}.[user]{x} = \\boxed{8}, {problem}[assistant]",
    "intuitor-boxed-stop": "[system]You are a helpful AI Assistant, designed to provided well-reasoned and detailed "
    "responses. You FIRST think about the reasoning process step by step and then provide the user with the answer. "
    "Please enclose your final answer in the box: \\boxed{Your Answer}. Please stop generation immediately after "
    "outputing the box.[user]{x} = \\boxed{8}, {problem}[assistant]",
    "intuitor-step-by-step": "[system]You are a helpful AI Assistant, designed to provided well-reasoned and detailed "
    "responses. Please provide a step-by-step solution to the following problem.[user]{x} = \\boxed{8}, {problem}"
    "[assistant]",
    "intuitor-code": "[system]You are an AI designed to help solve competitive programming problems by generating "
    "Python code.[user]{x} = \\boxed{8}, {problem}\n\nProvide a Python program that solves the above problem. Output "
    "only the code, nothing else:\n```python\n# Your code here\n```[assistant]",
    "code": "[user]{x} = \\boxed{8}, {problem}\n\nAnswer with the complete Python program between ```python and ```."
    "[assistant]",
}


def test_every_template_is_word_for_word_as_published_and_takes_the_problem_as_it_is():
    problem = Problem("{x} = \\boxed{8}, {problem}", "1")
    assert {template: encode_prompt(problem, Recorder(), template) for template in TEMPLATES} == PINNED


def test_templates_that_chat_need_a_chat_tokenizer_and_unknown_ones_are_refused():
    tokenizer = tokenizer_with_bos()
    for template in set(TEMPLATES) - {"plain", "qa", "r1-zero"}:
        with pytest.raises(BadInput, match="chat template"):
            encode_prompt(Problem("hello", "1"), tokenizer, template)
    with pytest.raises(BadInput, match="--template nosuch: unknown"):
        encode_prompt(Problem("hello", "1"), tokenizer, "nosuch")


def test_the_default_template_chats_if_the_tokenizer_can_and_programs_have_their_own():
    tokenizer = tokenizer_with_bos()
    assert {default_template(tokenizer), default_template(tokenizer, "code")} == {"plain"}
    tokenizer.chat_template = CHAT
    assert default_template(tokenizer) == default_template(tokenizer, "choice") == "qwen-boxed"
    assert default_template(tokenizer, "code") == "code"


def test_a_prompt_that_does_not_fit_the_context_is_refused():
    problems = [Problem("7+8=", "15"), Problem("7+8*3-4+1=", "42")]
    tokenizer = toy.make_tokenizer()
    prompts = encode_prompts(problems, tokenizer, "plain", room=10)
    assert [tokenizer.decode(prompt) for prompt in prompts] == ["7+8=", "7+8*3-4+1="]
    with pytest.raises(BadInput, match="a prompt has 10 tokens.*leaves 9"):
        encode_prompts(problems, tokenizer, "plain", room=9)
    with pytest.raises(BadInput, match="no token"):
        encode_prompts([Problem("Wörter", "1")], tokenizer, "plain", room=9)


# --- models ---------------------------------------------------------------------------------------------------------


def test_every_end_token_counts():
    policy, tokenizer = tiny_model("qwen2"), tokenizer_with_bos()
    policy.generation_config.eos_token_id = [3, 4]
    assert end_tokens(policy, tokenizer) == [1, 3, 4, 6]  # the config's, the generation config's, the tokenizer's
    policy.config.eos_token_id = policy.generation_config.eos_token_id = tokenizer.eos_token = None
    assert end_tokens(policy, tokenizer) == []


def test_the_end_of_a_chat_turn_ends_a_completion_where_there_are_chats():
    policy, tokenizer = tiny_model("qwen2"), tokenizer_with_bos()
    tokenizer.chat_template = CHAT
    assert end_tokens(policy, tokenizer) == [1, 6]  # a chat template with other marks
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    assert end_tokens(policy, tokenizer) == [1, 6, 7]
    tokenizer.chat_template = None
    assert end_tokens(policy, tokenizer) == [1, 6]


def test_a_local_model_is_loaded_as_it_was_saved_without_asking_the_hub(tmp_path, monkeypatch):
    saved = tiny_model("qwen2", attention_dropout=0.5)
    toy.make_tokenizer().save_pretrained(tmp_path)
    saved.save_pretrained(tmp_path)
    monkeypatch.setattr(models, "hub_answers", lambda name: pytest.fail("asked the hub"))
    policy, tokenizer = load_model(str(tmp_path))
    token_ids = torch.arange(20)[None]
    assert not policy.training
    assert torch.equal(policy(token_ids).logits, saved(token_ids).logits)
    assert tokenizer("7+8=")["input_ids"] == toy.make_tokenizer()("7+8=")["input_ids"]
    half, _ = load_model(str(tmp_path), dtype=torch.bfloat16)
    assert {weights.dtype for weights in half.parameters()} == {torch.bfloat16}
    made = []
    monkeypatch.setattr(toy, "base_model", lambda **changes: made.append(changes) or tmp_path)
    assert load_model("toy")[0].config.hidden_size == load_model("toy-weak")[0].config.hidden_size == 32
    assert made == [{"seed": 0, "world": "toy"}, {"seed": 0, "world": "toy", "steps": 250}]


def test_models_that_are_not_there_or_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(BadInput, match="--model no/such/folder: no such folder"):
        load_model("no/such/folder")
    with pytest.raises(BadInput, match="--model"):
        load_model(str(tmp_path))  # an empty folder
    toy.make_tokenizer().save_pretrained(tmp_path)
    tiny_model("qwen2").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])  # cut off
    with pytest.raises(BadInput, match="Safetensor"):
        load_model(str(tmp_path))


def test_a_model_that_does_more_to_its_logits_than_a_linear_head_is_refused(tmp_path):
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    config = Gemma2Config(vocab_size=30, num_key_value_heads=2, final_logit_softcapping=0.05, **sizes)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    toy.make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="more to its logits"):
        load_model(str(tmp_path))
