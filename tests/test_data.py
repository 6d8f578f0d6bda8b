"""data.py: rows become problems, problems become prompts, and what cannot be used is refused by name."""

import gzip
import json

import pytest
from conftest import tiny_model
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import toy
from data import (
    TEMPLATES,
    BadInput,
    Problem,
    default_template,
    encode_prompt,
    encode_prompts,
    load_problems,
)
from running.models import end_tokens, load_model
from verify import is_correct

CHAT = (
    "{{ '<s>' }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write(path, *rows):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


def test_a_file_may_name_its_columns_in_any_of_the_usual_ways(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {"problem": "p1", "answer": "1"},
        {"question": "p2", "answer": "so 1+1 = <<1+1=2>>2\n#### 2"},  # GSM8K
        {"problem": "p3", "solution": "thus $\\boxed{1}$, no, $\\boxed{\\frac{3}{4}}$."},  # MATH
        {"prompt": "p4", "answer": 4},
        {"problem": "p5", "solution": "so $\\boxed 5$."},
    )
    assert [(p.prompt, p.answer) for p in load_problems(path)] == [
        ("p1", "1"),
        ("p2", "2"),
        ("p3", "\\frac{3}{4}"),
        ("p4", "4"),
        ("p5", "5"),
    ]


def test_compressed_files_and_limits(tmp_path):
    path = write(tmp_path / "a.jsonl.gz", *({"problem": f"p{i}", "answer": str(i)} for i in range(9)))
    assert [p.answer for p in load_problems(path, limit=3)] == ["0", "1", "2"]


def test_unusable_golds_are_dropped_and_counted(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {"problem": "two answers", "solution": "at $\\boxed{(0,1)}$ and $\\boxed{(8,38)}$.", "answer": "(8,38)"},
        {"problem": "empty box", "solution": "there are $\\boxed{}$ primes"},
        {"problem": "no gold", "answer": ""},
        {"problem": "unclosed", "solution": "\\boxed{1"},
        {"problem": "not a text", "solution": 12},
        {"problem": "good", "solution": "either $\\boxed{2}$ or $\\boxed{2}$"},
    )
    with pytest.warns(UserWarning, match="5 of 6 rows dropped"):
        assert [p.prompt for p in load_problems(path)] == ["good"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"text": "p", "answer": "1"}], "columns text, answer; needed are"),
        ([{"problem": "p"}], "needed are"),
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


def test_toy_problems_are_graded_as_numbers():
    assert load_problems("toy", "test", 6)[0].kind == "number"
    assert len(load_problems("toy", "test")) == 180


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
    if isinstance(TEMPLATES[template], list):
        assert ids[-1] == tokenizer.convert_tokens_to_ids("<assistant>")
    elif template == "r1-zero":
        assert TEMPLATES[template].endswith("Assistant: <think>")
    assert tokenizer.convert_tokens_to_ids("hello") in ids


class Recorder:
    """A tokenizer that gives back the text instead of ids."""

    chat_template = "any"

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert add_generation_prompt
        return " | ".join(message["content"] for message in messages)

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": text}


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_problem_is_put_in_as_it_is_braces_and_all(template):
    text = encode_prompt(Problem("if {x} = \\boxed{8}, {problem}", "1"), Recorder(), template)
    assert text.count("if {x} = \\boxed{8}, {problem}") == 1
    asks = "\\boxed{" in text.replace("if {x} = \\boxed{8}, {problem}", "")
    assert asks == (template not in ("plain", "intuitor-step-by-step", "intuitor-code", "code"))


def test_templates_that_chat_need_a_chat_tokenizer_and_unknown_ones_are_refused():
    tokenizer = tokenizer_with_bos()
    assert default_template(tokenizer) == "plain"
    with pytest.raises(BadInput, match="chat template"):
        encode_prompt(Problem("hello", "1"), tokenizer, "intuitor")
    with pytest.raises(BadInput, match="--template nosuch: unknown"):
        encode_prompt(Problem("hello", "1"), tokenizer, "nosuch")
    tokenizer.chat_template = CHAT
    assert default_template(tokenizer) == "qwen-boxed"


def test_a_prompt_that_does_not_fit_the_context_is_refused():
    problems = [Problem("7+8=", "15"), Problem("7+8*3-4+1=", "42")]
    assert len(encode_prompts(problems, toy.make_tokenizer(), "plain", room=10)) == 2
    with pytest.raises(BadInput, match="a prompt has 10 tokens.*leaves 9"):
        encode_prompts(problems, toy.make_tokenizer(), "plain", room=9)
    with pytest.raises(BadInput, match="no token"):
        encode_prompts([Problem("Wörter", "1")], toy.make_tokenizer(), "plain", room=9)


def test_every_end_token_counts():
    policy, tokenizer = tiny_model("qwen2"), tokenizer_with_bos()
    policy.generation_config.eos_token_id = [3, 4]
    assert end_tokens(policy, tokenizer) == [1, 3, 4, 6]  # the config's, the generation config's, the tokenizer's


def test_models_that_are_not_there_or_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(BadInput, match="--model no/such/folder: no such folder"):
        load_model("no/such/folder")
    with pytest.raises(BadInput, match="--model"):
        load_model(str(tmp_path))  # an empty folder
    capped = tiny_model("qwen2")
    toy.make_tokenizer().save_pretrained(tmp_path)
    capped.save_pretrained(tmp_path)
    policy, _ = load_model(str(tmp_path))
    assert not policy.training
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])  # cut off
    with pytest.raises(BadInput, match="Safetensor"):
        load_model(str(tmp_path))


def test_a_model_that_does_more_to_its_logits_than_a_linear_head_is_refused(tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

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


# --- rows of other data sets ----------------------------------------------------------------------------------------


def test_the_rows_of_other_data_sets_become_problems_that_their_own_solutions_solve(tmp_path):
    head = 'from math import floor\n\ndef f(x):\n    """Half of it."""\n'
    check = "def check(candidate):\n    assert candidate(5) == 2\n"
    lines = {
        "text": "Write g.",
        "code": "def g(): return 2",
        "test_setup_code": "n = 2",
        "test_list": ["assert g() == n"],
    }
    cases = {
        "humaneval": ({"prompt": head, "entry_point": "f", "test": check, "canonical_solution": "-"}, "code"),
        "mbpp": ({**lines, "task_id": 1, "challenge_test_list": []}, "code"),
        "tests": ({"problem": "Write g.", "tests": "assert g() == 2"}, "code"),
        "contest": (
            {"description": "Add.", "public_tests": {"input": ["1 2\n"], "output": ["3\n"]}, "source": 2},
            "code",
        ),
        "cruxeval": ({"code": "def f(a):\n    return [a]", "input": "'x'", "output": "['x']", "id": "s0"}, "literal"),
        "countdown": ({"target": 6, "nums": [1, 2, 3]}, "countdown"),
        "mmlu": ({"question": "Which?", "options": ["a", "b", "c"], "answer": "C", "answer_index": 2}, "choice"),
        "named": ({"question": "Which?", "answer": "B", "kind": "choice"}, "choice"),
    }
    right = {
        "humaneval": "    return floor(x / 2)",
        "mbpp": "def g(): return 2",
        "tests": "```python\ndef g(): return 2\n```",
        "contest": "print(sum(map(int, input().split())))",
        "cruxeval": "\\boxed{['x']}",
        "countdown": "\\boxed{1+2+3}",
        "mmlu": "The answer is (C).",
        "named": "\\boxed{B}",
    }
    for name, (row, kind) in cases.items():
        (problem,) = load_problems(write(tmp_path / f"{name}.jsonl", row))
        assert problem.kind == kind, name
        assert is_correct(right[name], problem.answer, kind, allow_code_execution=True), name
        assert not is_correct("\\boxed{0}", problem.answer, kind, allow_code_execution=True), name
        assert problem.answer not in problem.prompt or kind == "choice", name
    (shown,) = load_problems(tmp_path.joinpath("mmlu.jsonl").as_posix())
    assert shown.prompt == "Which?\nA. a\nB. b\nC. c"


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
    rows = [
        {"question": "p", "answer": a, "kind": k} for a, k in (("12", "choice"), ("abc", "literal"), ("x", "number"))
    ]
    with pytest.warns(UserWarning, match="3 of 4 rows"):
        assert (
            len(load_problems(write(tmp_path / "a.jsonl", *rows, {"question": "p", "answer": "B", "kind": "choice"})))
            == 1
        )


def test_an_unknown_kind_in_a_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="kind 'essay'"):
        load_problems(write(tmp_path / "a.jsonl", {"question": "p", "answer": "1", "kind": "essay"}))


def test_programs_have_a_template_of_their_own():
    tokenizer = tokenizer_with_bos()
    assert default_template(tokenizer, "code") == "plain"
    tokenizer.chat_template = CHAT
    assert default_template(tokenizer, "code") == "code"
    assert default_template(tokenizer, "choice") == "qwen-boxed"
