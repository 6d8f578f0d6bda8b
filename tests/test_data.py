"""data.py: rows become problems, problems become prompts, and what cannot be used is refused by name."""

import gzip
import json
import math
import os
import sys
import warnings
from types import SimpleNamespace

import datasets
import pyarrow
import pyarrow.parquet
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
    NoAnswers,
    Problem,
    check_code_execution,
    default_template,
    encode_prompt,
    encode_prompts,
    hold_out,
    load_problems,
)
from running import models
from running.models import end_tokens, load_model
from running.rows import hub_id
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
        ([{"problem": "p"}, {"problem": "q", "answer": None}], "no row has an answer"),
        ([{"problem": "p", "answer": "1"}, {"problem": 3, "answer": "1"}], "line 2: problem is of type int; give a"),
        ([{"problem": None, "answer": "1"}], "line 1: problem is null"),
        ([], "no usable problem"),
        (["just text"], "line 1: of type str, not an object"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path, rows, match):
    path = write(tmp_path / "bad.jsonl", *rows)
    with pytest.raises(BadInput, match=match) as error:
        load_problems(path)
    assert "bad.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def packed(*rows) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)


ROW = b'{"problem": "p", "answer": "1"}'
MANY = packed(*({"problem": f"p{i * i}", "answer": str(i)} for i in range(999)))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.jsonl", ROW + b'\n{"problem": \n', "line 2: Expecting value"),
        ("comma.jsonl", ROW + b"\n\n" + ROW + b",\n", "line 3: Extra data"),
        ("binary.jsonl", b"\xff\xfe\x00", "line 1: 'utf-8'"),
        ("latin.jsonl", ROW + b"\n" + ROW + b'\n{"problem": "\xe9"}', "line 3: 'utf-8'"),
        ("utf-16.jsonl", ROW.decode().encode("utf-16"), "line 1: 'utf-8'"),
        ("deep.jsonl", ROW + b"\n" + b"[" * 100_000, "line 2: maximum recursion"),
        ("deep.json", b"[" * 100_000, "maximum recursion"),
        ("not.jsonl.gz", b"{}", "line 1: Not a gzipped file"),
        ("cut.jsonl.gz", MANY[: len(MANY) // 2], "Compressed file ended"),
        ("crc.jsonl.gz", MANY[:-8] + bytes(8), "line 1000: CRC check failed"),
        ("flipped.jsonl.gz", MANY[:900] + bytes([MANY[900] ^ 255]) + MANY[901:], "line "),
        ("empty.jsonl", b"", "no usable problem"),
        ("empty.json", b"", "no usable problem"),
        ("empty.csv", b"", "no usable problem"),
        ("header.csv", b"problem,answer\n", "no usable problem"),
        ("short.csv", b"problem,answer\np,1\nq\n", "line 3: has 1 fields, and the header 2"),
        ("open.csv", b'problem,answer\np,1\n"q,1\n', "line 3: unexpected end"),
        ("twice.csv", b"problem,problem\np,1\n", "line 1: two columns"),
        ("semicolon.csv", b"problem;answer\np;1\n", "line 2: a row has the columns problem;answer"),
        ("binary.csv", b"\xff\xfe\x00", "line 1: 'utf-8'"),
        ("cut.json", b'[{"problem": "p",\n "answer": "1"}', "line 2: Expecting ','"),
        ("numbers.json", b"[1]", "row 1: of type int"),
        ("binary.json", b"\xff", "'utf-8'"),
        ("empty.parquet", b"", "behind row 0: Parquet file size is 0"),
        ("text.parquet", b"PAR1 and so on PAR1", "behind row 0"),
        ("table.txt", ROW, "does not end in .jsonl"),
        ("name.jsonl", b'{"' + b"x" * 1_000_000 + b'": 1}', "line 1: a row has the columns xxx"),
    ],
    ids=str,
)
def test_a_broken_file_is_refused_with_its_name_and_the_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as error:
        load_problems(str(tmp_path / name), flag="--eval-data")
    message = str(error.value)
    assert message.startswith(f"--eval-data {tmp_path / name}")  # and not --data
    assert said in message
    assert "\n" not in message and len(message) < 600


def test_what_is_no_file_is_called_what_it_is(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    for name, said in (
        ("nosuch", "no such file"),
        ("no/such.jsonl", "no such file"),
        (str(tmp_path / "pipe.jsonl"), "no regular file"),
        (str(tmp_path / "folder.jsonl"), "cannot load this folder"),
        ("x" * 300 + ".jsonl", "no such file"),
        ("zero\0byte.jsonl", "no such file"),
        ("~nobody-of-that-name/a.jsonl", "no such file"),
        ("", "'': no such file"),
    ):
        with pytest.raises(BadInput, match=said) as error:
            load_problems(name)
        assert len(str(error.value)) < 600
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.jsonl", {"problem": "p", "answer": "1"})
    assert load_problems("~/a.jsonl") == [Problem("p", "1")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + ROW),
        ("crlf.JSONL", b"\r\n" + ROW + b"\r\n\r\n"),
        ("packed.JSONL.GZ", gzip.compress(ROW)),
        ("list.json", b"\xef\xbb\xbf\n[" + ROW + b"]"),
        ("lines.json", ROW + b"\n"),
        ("table.csv", b"\xef\xbb\xbfproblem,answer\r\np,1\r\n\r\n"),
        ("long.jsonl", ROW[:-1] + b', "notes": "' + b"x" * 3_000_000 + b'"}'),
    ],
    ids=str,
)
def test_the_ways_in_which_systems_write_files_are_all_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert load_problems(str(tmp_path / name)) == [Problem("p", "1", "math")]


def test_a_csv_keeps_each_value_as_it_is_written(tmp_path):
    (tmp_path / "a.csv").write_text('id,question,answer\n007,"a, ""b""\nc",007\n8,d,1e3\n9,e,NA\n10,f,\n')
    with pytest.warns(UserWarning, match="1 of 4 rows"):
        found = load_problems(str(tmp_path / "a.csv"), rows=True)
    assert [(p.prompt, p.answer) for p in found] == [('a, "b"\nc', "007"), ("d", "1e3"), ("e", "NA")]
    assert found[0].row == {"id": "007", "question": 'a, "b"\nc', "answer": "007"}
    *_, last = load_problems(str(tmp_path / "a.csv"), answers=False, rows=True)
    assert last.row == {"id": "10", "question": "f", "answer": None}


def test_a_parquet_file_has_lists_and_numbers(tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    table = pyarrow.table({"prompt": [chat, chat[1:]], "answer": [2, None], "solution": [None, "\\boxed{2}"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    one, other = load_problems(str(tmp_path / "a.parquet"))
    assert one == Problem("Be brief.\n\n1+1?", "2", "math", (("system", "Be brief."), ("user", "1+1?")))
    assert other == Problem("1+1?", "2", "math", (("user", "1+1?"),))


def test_a_folder_in_the_form_of_the_hub_has_splits(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "train.jsonl", {"problem": "p", "answer": "1"}, {"problem": "q", "answer": "2"})
    write(folder / "test.jsonl", {"problem": "r", "answer": "3"})
    assert [p.prompt for p in load_problems(str(folder))] == ["p", "q"]
    assert [p.prompt for p in load_problems(str(folder), "test")] == ["r"]
    with pytest.raises(BadInput, match="cannot load this folder .nosuch.*test") as error:
        load_problems(str(folder), "nosuch")
    assert "\n" not in str(error.value)
    (folder / "train.jsonl").write_text('{"problem": "p", "answer": "1"}\n{"problem": \n')
    with pytest.raises(BadInput, match="cannot load this folder .train.*JSON parse error"):
        load_problems(str(folder))


def turns(*pairs) -> dict:
    return {"prompt": [{"role": role, "content": content} for role, content in pairs], "answer": "1"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "tests": [1, 2]}, "tests is of type list"),
        ({"prompt": "p", "tests": 3}, "tests is of type int"),
        ({"prompt": 3, "test": "t", "entry_point": "f"}, "prompt is no text"),
        ({"public_tests": None, "description": "d"}, "a row has the columns"),
        ({"public_tests": {"input": ["1"], "output": []}, "description": "d"}, "a row has the columns"),
        ({"public_tests": {"input": ["1"], "output": ["1"]}}, "a row has the columns"),
        ({"a\nb": 1}, "a row has the columns a b"),
        ({"question": "p", "answer": "1", "kind": ["math"]}, "kind is of type list"),
        ({"question": "p", "answer": "2", "kind": "countdown"}, "a row has the columns"),
        ({"question": "p", "answer": "x", "kind": "code"}, "a row has the columns"),
        ({"question": "p", "answer": [1]}, "answer is of type list; give a text or a number"),
        ({"question": "p", "answer": {"a": 1}}, "answer is of type dict"),
        ({"question": "p", "answer": math.nan}, "answer is nan"),
        ({"question": "p", "answer": math.inf}, "answer is inf"),
        ({"question": "p", "solution": ["\\boxed{1}"]}, "solution is of type list"),
        ({"code": ["c"], "input": "i", "output": "o"}, "code is of type list"),
        ({"code": "c", "input": "i", "output": math.nan}, "output is nan"),
        ({"target": "abc", "nums": [1]}, "target and nums"),
        ({"target": 3, "nums": 3}, "target and nums"),
        ({"target": 3, "nums": []}, "target and nums"),
        ({"target": 3, "nums": ["1"]}, "target and nums"),
        ({"target": 3, "nums": [math.nan]}, "target and nums"),
        ({"target": True, "nums": [1]}, "target and nums"),
        ({"question": "p", "answer": '{"target": "x", "nums": []}', "kind": "countdown"}, "target and nums"),
        ({"question": "p", "options": [], "answer": "A"}, "answer is A, and there are 0 options"),
        ({"question": "p", "options": ["a", "b"], "answer": "D"}, "answer is D, and there are 2 options"),
        ({"question": "p", "options": ["a", "b"], "answer": "c"}, "answer is c, and there are 2 options"),
        ({"question": "p", "options": [{"a": 1}, "b"], "answer": "A"}, "an option is of type dict"),
        ({"question": "half \ud800", "answer": "1"}, "half of a surrogate pair"),
        ({"question": "p", "answer": "\udfff"}, "half of a surrogate pair"),
        (turns(), "the last one is not the user's"),
        (turns(("user", "q"), ("assistant", "a")), "the last one is not the user's"),
        (turns(("boss", "q")), "role 'boss', not system, user, assistant"),
        (turns((["user"], "q")), "role ['user']"),
        (turns(("user", [{"type": "text", "text": "q"}])), "a content of type list, not a text"),
        ({"prompt": ["a"], "answer": "1"}, "message 1 of prompt is of type str, without role and content"),
        ({"prompt": [{"content": "a"}], "answer": "1"}, "without role and content"),
        ({"problem": ["a"], "answer": "1"}, "problem is of type list"),
    ],
    ids=str,
)
def test_rows_that_hold_something_else_than_they_should_are_refused_by_their_line(tmp_path, row, said):
    path = write(tmp_path / "a.jsonl", {"problem": "good", "answer": "1"}, row)
    with pytest.raises(BadInput) as error:
        load_problems(path)
    assert str(error.value).startswith(f"--data {path}, line 2: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_problems_without_answers_stay_where_no_answer_is_needed(tmp_path):
    """A gold that is there and cannot be used is dropped all the same."""
    path = write(
        tmp_path / "a.jsonl",
        {"problem": "missing"},
        {"problem": "null", "answer": None},
        {"question": "empty", "answer": " ", "solution": ""},
        {"problem": "half", "solution": "$\\boxed{1}$ and $\\boxed{2}$"},
        {"problem": "known", "answer": "1"},
    )
    with pytest.warns(UserWarning, match="1 of 5 rows"):
        found = load_problems(path, answers=False)
    assert [(p.prompt, p.answer) for p in found] == [("missing", None), ("null", None), ("empty", None), ("known", "1")]
    with pytest.warns(UserWarning, match="4 of 5 rows"):
        assert [p.prompt for p in load_problems(path)] == ["known"]
    with pytest.raises(NoAnswers):
        load_problems(write(tmp_path / "b.jsonl", {"problem": "missing"}, {"problem": "null", "answer": None}))


def test_the_golds_of_verl_are_in_its_column_reward_model(tmp_path):
    row = {"data_source": "x", "prompt": [{"role": "user", "content": "q"}], "extra_info": {"split": "train"}}
    row["reward_model"] = {"style": "rule", "ground_truth": "72"}
    assert load_problems(write(tmp_path / "a.jsonl", row)) == [Problem("q", "72", "math", (("user", "q"),))]


def test_rows_are_kept_on_request_and_problems_stay_equal_and_hashable(tmp_path):
    path = write(tmp_path / "a.jsonl", {"problem": "p", "answer": "1", "level": [3]})
    (kept,), (plain,) = load_problems(path, rows=True), load_problems(path)
    assert kept.row == {"problem": "p", "answer": "1", "level": [3]}
    assert plain.row is None
    assert len({kept, plain, Problem("p", "1", "math")}) == 1


def test_what_is_held_out_depends_on_the_seed_alone_and_is_trained_on_nowhere():
    problems = [Problem(f"p{i % 40}", str(i)) for i in range(60)]  # twenty of the prompts come twice
    train, held = hold_out(problems, 0.25, seed=1)
    assert len({p.prompt for p in held}) == 10
    assert {p.prompt for p in held} | {p.prompt for p in train} == {p.prompt for p in problems}
    assert not {p.prompt for p in held} & {p.prompt for p in train}
    assert len(train) + len(held) == 60
    prompts = {p.prompt for p in held}
    assert {p.prompt for p in hold_out(problems[::-1], 0.25, seed=1)[1]} == prompts
    assert {p.prompt for p in hold_out(problems, 0.25, seed=2)[1]} != prompts
    for share in (0.001, 0.999):
        with pytest.raises(BadInput, match="--eval-split"):
            hold_out(problems, share, seed=1)


def test_golds_that_no_answer_could_meet_are_dropped(tmp_path):
    pairs = (("12", "choice"), ("abc", "literal"), ("x", "number"), ("B", "choice"))
    rows = [{"question": "p", "answer": answer, "kind": kind} for answer, kind in pairs]
    with pytest.warns(UserWarning, match="3 of 4 rows"):
        assert load_problems(write(tmp_path / "a.jsonl", *rows)) == [Problem("p", "B", "choice")]


def test_an_unknown_kind_in_a_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="line 1: kind 'essay': choose from math"):
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


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("owner/name", ("owner/name", None, "train")),
        ("owner/name:small", ("owner/name", "small", "train")),
        ("owner/name@validation", ("owner/name", None, "validation")),
        ("owner/some-name.v2:2024-01@dev", ("owner/some-name.v2", "2024-01", "dev")),
    ],
)
def test_any_id_of_the_hub_loads_with_its_configuration_and_split(monkeypatch, name, asked):
    held = {asked: [{"question": "p", "answer": "1"}]}
    fake = SimpleNamespace(load_dataset=lambda where, which, split: held[where, which, split])
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert load_problems(name) == [Problem("p", "1", "math")]
    assert hub_id(name) == asked[0]
    with pytest.raises(BadInput, match="KeyError"):
        load_problems(name.partition("@")[0], "nosuch")


@pytest.mark.parametrize(
    "error", [ConnectionError("no network"), RuntimeError("two\nlines"), ValueError("no such split")]
)
@pytest.mark.parametrize(("name", "there"), [("math500", "HuggingFaceH4/MATH-500"), ("a/b", "a/b")])
def test_a_data_set_that_the_hub_does_not_give_is_refused_in_one_line(monkeypatch, error, name, there):
    def load_dataset(*args, **kwargs):
        raise error

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(BadInput) as refused:
        load_problems(name, "train")
    said = f"--data {name}: no file here, and cannot load {there} from the hub (train): {type(error).__name__}: "
    assert str(refused.value) == f"{said}{' '.join(str(error).split())}; check the name, the split and the network"


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
    "chat": "[user]{x} = \\boxed{8}, {problem}[assistant]",
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


def test_a_prompt_that_is_a_chat_is_continued_as_it_is():
    chat = (("system", "{problem}"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    problem = Problem("any", "1", "math", chat)
    assert encode_prompt(problem, Recorder(), "chat") == "[system]{problem}[user]a[assistant]b[user]c[assistant]"
    for template in set(TEMPLATES) - {"chat"}:  # what it would add is not added, so it must not seem to be
        with pytest.raises(BadInput, match=f"--template {template}.*give --template chat"):
            encode_prompt(problem, Recorder(), template)
    tokenizer = tokenizer_with_bos()
    with pytest.raises(BadInput, match="--eval-data: a prompt is a list of messages.*no chat template"):
        encode_prompts([problem], tokenizer, default_template(tokenizer, chat=True), 99, "--eval-data")
    tokenizer.chat_template = CHAT
    assert default_template(tokenizer, chat=True) == "chat"
    tokenizer.chat_template = "{{ raise_exception('no system, please') }}"
    with pytest.raises(BadInput, match="--data: the chat template of --model refuses a prompt .no system, please."):
        encode_prompt(problem, tokenizer, "chat")


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
