"""verify.py: what counts as an answer, and what counts as right."""

import subprocess
import sys
import time

import pytest

import workers
from verify import extract_answer, grade, is_correct


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("so it is \\boxed{41}", "41"),
        ("\\boxed{1} no, \\boxed{2}", "2"),  # the last one
        ("\\boxed{2} as \\boxed{", "2"),  # an unclosed box is not a box
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),  # nested braces
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),  # printed braces
        ("\\boxed {7}", "7"),
        ("\\boxed{ 7 } and more text", "7"),
        ("\\boxed{12", None),
        ("\\boxed{}", None),
        ("\\boxed{1} then \\boxed{ }", None),  # the last word is no answer
        ("the answer is 12", None),
        ("", None),
        ("steps\n#### 1,234\nmore", "1,234"),
        ("#### 1\n#### 2", "2"),
        ("\\boxed{3}\n#### 4", "3"),  # a box goes before the mark
        ("<think>\\boxed{1}</think> \\boxed{2}", "2"),
        ("<think>\\boxed{1}</think> no box", None),
        ("<think>\\boxed{1}", None),  # the thought never ended
        ("a</think>\\boxed{2}<think>b", None),
        ("\\boxed{1}</think> then 2", None),  # the prompt opened the thought
    ],
)
def test_the_answer_of_a_completion(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    "text", ["12", "12.0", "+12", "12.", "\\$12", "$12$", "24/2", "\\frac{24}{2}", "\\dfrac{24}{2}", "1\\!2"]
)
def test_ways_to_write_the_number_12(text):
    assert is_correct(f"\\boxed{{{text}}}", "12")
    assert is_correct("\\boxed{12}", text)
    assert is_correct(f"\\boxed{{{text}}}", "12", kind="number")


@pytest.mark.parametrize(
    ("given", "gold"),
    [
        ("1000", "1,000"),
        ("-0.5", "-\\frac12"),
        (".5", "1/2"),
        ("0.1000000000000000000001", "0.1"),  # exact: a float would call them equal
        ("1,00", "100"),  # a comma in the wrong place: not a number of thousands
        ("1/0", "1"),
        ("1 1/2", "11/2"),  # nor is a space between two numbers nothing
        ("3 4", "34"),
    ],
)
def test_numbers_are_compared_exactly(given, gold):
    expected = {"1000": True, "-0.5": True, ".5": True}.get(given, False)
    assert is_correct(f"\\boxed{{{given}}}", gold, kind="number") == expected


def test_mathematical_answers_that_are_numbers_are_compared_exactly_too():
    assert not is_correct("\\boxed{0.1000000000000000000001}", "0.1")
    assert not is_correct("\\boxed{0.333333333333333333}", "1/3")
    assert is_correct("\\boxed{0.125}", "\\frac{1}{8}")


def test_the_kind_number_works_no_expression_out():
    assert not is_correct("\\boxed{7+8}", "15", kind="number")
    assert not is_correct("\\boxed{15}", "fifteen", kind="number")


@pytest.mark.parametrize(
    ("given", "gold", "expected"),
    [
        ("x = 5", "5", True),
        ("\\sqrt{8}", "2\\sqrt{2}", True),
        ("\\left(3, \\frac{\\pi}{2}\\right)", "(3,\\frac{\\pi}{2})", True),
        ("2\\sqrt{3}", "2\\sqrt{2}", False),
        ("(2, 3)", "(3, 2)", False),
        ("3", "\\text{Evelyn}", False),
        ("7", "", False),  # a gold that is nothing matches nothing
        ("1 000", "1000", True),
    ],
)
def test_what_is_not_a_number_goes_to_math_verify(given, gold, expected):
    assert is_correct(f"\\boxed{{{given}}}", gold) == expected


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="essay"):
        is_correct("\\boxed{1}", "1", kind="essay")


def test_a_batch_is_graded_in_order():
    completions = ["\\boxed{1}", "\\boxed{2}", "", "\\boxed{1}"]
    assert grade(completions, ["1", "1", "1", "2"], ["number", "math", "math", "math"]) == [True, False, False, False]


def test_nothing_a_completion_can_hold_raises_or_hangs(monkeypatch):
    monkeypatch.setattr(workers, "TIME_LIMIT", 1.0)
    adversarial = [
        "\\boxed{9^{9^{9^{9^{9}}}}}",  # keeps sympy busy for longer than anyone waits
        "\\boxed{" * 50_000,
        "{" * 1_000_000,
        "\\boxed{" + "{" * 1000 + "}" * 1000 + "}",
        "\\boxed{\x00}",
        "\\boxed{" + "9" * 100_000 + "}",
        '\\boxed{__import__("os").system("touch /tmp/owned")}',
        "\\boxed{\ud800}",
        "####" * 1000,
    ]
    started = time.perf_counter()
    assert grade(adversarial, ["\\frac{x}{7}"] * 9, ["math"] * 9) == [False] * 9
    assert time.perf_counter() - started < 30
    assert is_correct("\\boxed{\\sqrt{8}}", "2\\sqrt{2}")  # and the checker works on afterwards


def test_the_checker_does_not_need_torch():
    # worker processes run this file: it must start in a moment
    code = "import sys, verify; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
