"""verify/: what counts as an answer, and what counts as right.

Where math-verify must say yes it has a minute, so that a slow machine changes no verdict; short limits are only for
texts that keep it busy for years.
"""

import io
import json
import logging
import os
import queue
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from verify import answers, classes, extract_answer, grade, is_correct, math_worker, sandbox, workers

TOWER = "9^{9^{9^{9^{9}}}}"  # keeps sympy busy for longer than anyone waits


@pytest.fixture(autouse=True)
def a_minute(monkeypatch):
    monkeypatch.setattr(workers, "TIME_LIMIT", 60.0)
    monkeypatch.setattr(sandbox, "SECONDS", 60)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("so it is \\boxed{41}", "41"),
        ("\\boxed{1} no, \\boxed{2}", "2"),  # the last one
        ("\\boxed{1} no, \\boxed{2} and more, {3}", "2"),
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
        ("#### \n 5 \n6", "5"),
        ("\\boxed{3}\n#### 4", "3"),  # a box goes before the mark
        ("<think>\\boxed{1}</think> \\boxed{2}", "2"),
        ("<think>\\boxed{1}</think> no box", None),
        ("<think>\\boxed{1}", None),  # the thought never ended
        ("\\boxed{1}<think>or 2?", None),
        ("<think>a</think> \\boxed{1} <think>b</think> \\boxed{2}", "2"),
        ("<think>a</think> \\boxed{1} <think>b</think> so it is", None),
        ("a</think>\\boxed{2}<think>b", None),
        ("\\boxed{1}</think> then 2", None),  # the prompt opened the thought
        ("\\boxed{x = \\{1\\}}", "x = \\{1\\}"),
        ("\\boxed{a\\\\} b}", "a\\\\"),  # the line break \\\\ does not print the brace behind it
        ("{\\boxed{5}", "5"),  # a brace that nobody closes
        ("}\\boxed{5}}", "5"),
        ("\\boxed 7.", "7"),
        ("\\boxed 7 or \\boxed 8", "8"),
        ("\\boxed 7 or \\boxed{8}", "8"),
        ("\\boxed{1 \\boxed{2} 3}", "2"),  # the last one begins last
        ("\\boxed{1}, \\boxed{2}", "1, 2"),
        ("$x=\\boxed{1}$ \\text{ or } $\\boxed{2}$", "1, 2"),
        ("\\boxed{1} so \\boxed{2}, \\boxed{3}", "2, 3"),
        ("\\boxed{2} and \\boxed{2}", "2"),
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
        ("-3", "-3.0"),
        ("3", "-3"),
        ("-1/2", "1/2"),
        ("12,3456", "123456"),
        ("100000000000000000001", "100000000000000000000"),
        ("0.1000000000000000000001", "0.1"),  # exact: a float would call them equal
        ("1,00", "100"),  # a comma in the wrong place: not a number of thousands
        ("1/0", "1"),
        ("1 1/2", "11/2"),  # nor is a space between two numbers nothing
        ("3 4", "34"),
    ],
)
def test_numbers_are_compared_exactly(given, gold):
    assert is_correct(f"\\boxed{{{given}}}", gold, kind="number") == (given in ("1000", "-0.5", ".5", "-3"))


@pytest.mark.parametrize(
    ("symbols", "latex"),
    [
        ("\u22125", "-5"),  # the minus sign
        ("\u20135", "-5"),  # a dash
        ("3\u20444", "3/4"),
        ("\uff11\uff12", "12"),  # full width
        ("x⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "x^{0123456789-}"),
        ("x₀₁₂₃₄₅₆₇₈₉", "x_{0123456789}"),  # and not x0123456789
        ("1⅓", "1\\frac13"),
        ("70°", "70^\\circ"),
        ("70º", "70^\\circ"),
        ("∞", "\\infty"),
        ("2πr", "2\\pi r"),
        ("∅", "\\emptyset"),
        ("a·b×c÷d", "a\\cdot b\\times c\\div d"),
        ("1≤x≥0", "1\\le x\\ge 0"),
        ("A∪B", "A\\cup B"),
        ("½+¼", "\\frac12 +\\frac14"),
        ("√3+√(x+1)", "\\sqrt{3}+\\sqrt{(x+1)}"),
        ("x+1 ., ; \\\\", "x+1"),
    ],
)
def test_symbols_are_read_as_latex(symbols, latex):
    assert answers.plain(symbols) == latex


def test_mathematical_answers_that_are_numbers_are_compared_exactly_too():
    assert not is_correct("\\boxed{0.1000000000000000000001}", "0.1")
    assert not is_correct("\\boxed{0.333333333333333333}", "1/3")
    assert is_correct("\\boxed{0.125}", "\\frac{1}{8}")


def test_the_kind_number_works_no_expression_out():
    assert not is_correct("\\boxed{7+8}", "15", kind="number")
    assert not is_correct("\\boxed{15}", "fifteen", kind="number")
    assert not is_correct("\\boxed{fifteen}", "fifteen", kind="number")
    assert is_correct("\\boxed{1{,}234}", "1234", kind="number")
    assert answers.number("9" * 100) == 10**100 - 1
    assert answers.number("9" * 101) is None  # nobody means it, and exact arithmetic on long numbers is slow


def test_what_reading_alone_can_say_about_words():
    assert answers.words("\\text{No  solution.}") == "no solution"
    assert answers.words("$A , C$") == "A,C"
    assert answers.words("\\text{P}") == "P"  # a name, and p is another one
    assert answers.math_equal("$", "\\text{ }") is None  # nothing is not equal to nothing
    assert answers.math_equal("2 \\quad 3", "5") is False  # math-verify would add them up
    assert answers.math_equal("1\\quad 2", "1 \\quad 2 ") is None  # but if both are written so, it may say


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


@pytest.mark.parametrize(
    ("completion", "gold", "expected"),
    [
        ("$\\boxed{-2} \\quad \\text{and} \\quad \\boxed{1}$", "1,-2", True),  # two boxes that are one answer
        ("\\boxed{(2, 2)}$ and $\\boxed{(6, 2)}", "(2, 2), (6, 2)", True),
        ("\\boxed{5}. That is wrong; it is \\boxed{7}", "7", True),  # and two that are not
        ("\\boxed{5}. That is wrong; it is \\boxed{7}", "5", False),
        ("\\boxed{7} and \\boxed{7}", "7", True),
        ("\\boxed{1}, \\boxed{2}, \\boxed{3}", "3", False),  # a list is not each of its members
        ("\\boxed{\\boxed{7}}", "7", True),
        ("\\boxed 7", "7", True),
        ("\\boxed{28}", "28\\%", True),
        ("\\boxed{0.28}", "28\\%", True),
        ("\\boxed{28 percent}", "28\\%", True),
        ("\\boxed{1\\%}", "100\\%", False),
        ("\\boxed{2800}", "28\\%", False),
        ("\\boxed{18 \\text{ dollars}}", "18", True),
        ("\\boxed{18 dollars}", "\\$18", True),
        ("\\boxed{2 million}", "2", False),
        ("\\boxed{5 x}", "5", False),
        ("\\boxed{12^{\\mathrm{th}} grade}", "12", True),
        ("\\boxed{\uff15}", "5", True),
        ("\\boxed{\u22125}", "-5", True),
        ("\\boxed{1{,}234}", "1234", True),
        ("\\boxed{\\text{No solution.}}", "\\text{no solution}", True),
        ("\\boxed{\\text{west}}", "\\text{ellipse}", False),
        ("\\boxed{B) 12}", "B", True),
        ("\\boxed{\\textbf{(C)}}", "\\text{C}", True),
        ("\\boxed{D}", "\\text{C}", False),
        ("\\boxed{18+2pi}", "18+2\\pi", True),
        ("\\boxed{sqrt(5)}", "\\sqrt{5}", True),
        ("\\boxed{-2 \\le x \\le 7}", "x \\in [-2,7]", True),
        ("\\boxed{(-\\infty, 0)}", "(-\\infty, 0]", False),
        ("\\boxed{10^{-20}}", "10^{-21}", False),  # both round to 0
        ("\\boxed{\\frac{1}{2006!}}", "\\frac{1}{2004!}", False),
        ("\\boxed{3.14}", "\\pi", False),
        ("\\boxed{5²}", "25", True),
        ("\\boxed{5²}", "52", False),
        ("\\boxed{x²}", "x^2", True),
        ("\\boxed{½}", "\\frac{1}{2}", True),
        ("\\boxed{70°}", "70^\\circ", True),
        ("\\boxed{√3}", "\\sqrt{3}", True),
        ("\\boxed{(-∞, 0)}", "(-\\infty, 0)", True),
        ("\\boxed{\\sqrt{2}.}", "\\sqrt{2}", True),
        ("\\boxed{x+1,}", "x+1", True),
        ("\\boxed{5\\\\}", "5", True),  # a line break
        ("\\boxed{A,C,F}", "\\text{A,C,F}", True),
        ("\\boxed{June 20}", "\\text{June 20}", True),
        ("\\boxed{A, C, F}", "\\text{A,C,F}", True),
        ("\\boxed{3 4}", "34", False),
        ("\\boxed{June 21}", "\\text{June 20}", False),
        ("\\boxed{382  dollars}", "382 \\text{ dollars}", True),
        ("\\boxed{12 cm^2}", "12\\text{ cm}^2", True),
        ("\\boxed{60 km/h}", "60", True),
        ("\\boxed{5~\\text{cm}}", "5", True),
        ("\\boxed{12 hours}", "12\\text{ minutes}", False),
        ("\\boxed{5\\text{ cm}}", "5\\text{ m}", False),
        ("\\boxed{5 m}", "5\\text{ meters}", True),
        ("\\boxed{5\\text{ meters}}", "5 m", True),
        ("\\boxed{5\\mathrm{i}}", "5", False),
        ("\\boxed{5 squared}", "5", False),
        ("\\boxed{18 \\text{ and a half}}", "18", False),
        ("\\boxed{2 \\quad 3}", "5", False),  # no mixed number
        ("\\boxed{137 \\frac{1}{2}}", "\\frac{275}{2}", True),  # but this is one
        ("\\boxed{5 \\approx 6}", "6", False),
        ("\\boxed{5_3}", "5", False),
        ("\\boxed{x=10^{-20}}", "10^{-21}", False),
        ("\\boxed{(10^{-20},1)}", "(10^{-21},1)", False),
        ("\\boxed{\\{10^{-20}, 1\\}}", "\\{1, 10^{-21}\\}", False),
        ("\\boxed{\\{\\frac{1+\\sqrt5}{2}, 1\\}}", "\\{1, \\frac12+\\frac{\\sqrt5}{2}\\}", True),
        ("\\boxed{\\{2, 1+\\sqrt2\\}}", "\\{2, 2.41421356237\\}", True),  # sorted, their members stand crosswise
        ("\\boxed{12^{\\text{th}}+x}", "12+x", True),
        ("\\boxed{(-infty, 0)}", "(-\\infty, 0)", True),
        ("\\boxed{\\varnothing}", "\\emptyset", True),
        ("\\boxed{∅}", "\\emptyset", True),
        ("\\boxed{\\lbrace 1, 2\\rbrace}", "\\{2, 1\\}", True),
        ("\\boxed{x^2/16 + y^2/12 = 1/4}", "x^2/4 + y^2/3 = 1", True),
        ("\\boxed{-x > -1}", "x < 1", True),
        ("$x=\\boxed{5}$ or $x=\\boxed{6}$", "5,6", True),
        ("\\boxed{1200_{7}}", "1200_7", True),
        ("\\boxed{1200_5}", "1200_7", False),  # another base
        ("\\boxed{5=6}", "5", False),
        ("\\boxed{x}", "\\notlatex{", False),  # a gold that cannot be read is met by nothing
        ("\\boxed{}", "", False),
    ],
)
def test_mathematical_answers(completion, gold, expected):
    assert is_correct(completion, gold) == expected


@pytest.mark.parametrize("text", ["B", "(B)", "\\text{B}", "\\textbf{(B)}", "B.", "B) twelve", "(B) twelve", "$B$"])
def test_a_choice_is_a_letter(text):
    assert is_correct(f"so \\boxed{{{text}}}", "B", "choice")
    assert not is_correct(f"so \\boxed{{{text}}}", "C", "choice")


def test_a_choice_may_be_announced_and_must_be_made():
    assert is_correct("The answer is (D).", "D", "choice")
    assert is_correct("The answer is (A). No: the answer is **(D)**", "D", "choice")
    assert not is_correct("The answer is D, \\boxed{A}", "D", "choice")  # the box goes before it
    assert not is_correct("A, B, C or D", "D", "choice")
    assert not is_correct("\\boxed{ABD}", "A", "choice")
    assert not is_correct("\\boxed{(A) and (B)}", "A", "choice")
    assert is_correct("**Answer:** (B)", "B", "choice")
    assert not is_correct("The answer is A good one", "A", "choice")
    assert not is_correct("\\boxed{Because}", "B", "choice")
    assert not is_correct("\\boxed{12}", "34", "choice")


@pytest.mark.parametrize(
    ("given", "gold", "expected"),
    [
        ("[1, 2]", "[1,2]", True),
        ("`[1]`", "[1]", True),
        ("\\text{'abc'}", "'abc'", True),
        ("(1, 2)", "[1, 2]", False),
        ("True", "1", False),
        ("[True]", "[1]", False),  # all the way down
        ("{True}", "{1}", False),
        ("[1]", "[1, 2]", False),
        ("{1}", "{1, 2}", False),
        ("{'a': 1}", "{'a': 1, 'b': 2}", False),
        ("1.0", "1", False),
        ("'a'", '"a"', True),
        ("a", "'a'", False),
        ("{'b': 1, 'a': 2}", "{'a': 2, 'b': 1}", True),
        ("{'a': True}", "{'a': 1}", False),
        ("{1, 2}", "{2, 1}", True),
        ("'}{'", "'}{'", True),
        ("1 + 1", "2", False),  # not worked out
        ("__import__('os').getcwd()", "''", False),
        ("[" * 5000, "[]", False),
        ("-" * 9000 + "1", "1", False),
        ("9" * 9000, "9", False),
        ("{[]: 1}", "{}", False),
        ("\x00", "0", False),
    ],
)
def test_literals_have_the_type_and_the_value_of_the_gold(given, gold, expected):
    assert is_correct(f"[ANSWER]{given}[/ANSWER]", gold, "literal") == expected


def test_a_boxed_literal_is_read_too():
    assert is_correct("\\boxed{{'a': [1, 2]}}", "{'a': [1, 2]}", "literal")
    assert extract_answer("[ANSWER] 1 [/ANSWER] then [ANSWER] 2 [/ANSWER]", "literal") == "2"


@pytest.mark.parametrize(
    ("expression", "target", "numbers"),
    [
        ("5//2", 2, [5, 2]),
        ("5**2", 25, [5, 2]),
        ("5^2", 7, [5, 2]),
        ("5%2", 1, [5, 2]),
        ("5<<2", 20, [5, 2]),
        ("5|2", 7, [5, 2]),
        ("+5+2", 3, [5, 2]),
        ("+7", -7, [7]),
        ("~5+8", 2, [5, 8]),
        ("5.0*2", 10, [5, 2]),
        ("True+2", 3, [1, 2]),
        ("max(5,2)", 5, [5, 2]),
        ("5*2*1", 10, [5, 2]),  # a number too many
        ("5*2", 10, [5, 2, 1]),  # one too few
        ("5*2+5-5", 10, [5, 2]),
        ("11", 11, [1, 1]),
        ("-7", 7, [7]),
    ],
)
def test_a_countdown_allows_plus_minus_times_and_divided_by_alone(expression, target, numbers):
    assert not is_correct(f"\\boxed{{{expression}}}", json.dumps({"target": target, "nums": numbers}), "countdown")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(4 + 2) * 4", True),
        ("(4+2)*4 = 24", True),
        ("(4+2) \\times 4", True),
        ("\\left(4 + 2\\right) \\cdot 4", True),
        ("24 = (4+2)*4", True),
        ("(4+2)*4 = 6*4 = 24", True),
        ("-4*(-4-2)", True),
        ("[4+2]*4.", True),
        ("(4+2)*4 = 25", False),
        ("4*4 + 4*2", False),  # a number twice
        ("4*4+8", False),
        ("(4+2)*4*1", False),
        ("24", False),
        ("4**2+4*2", False),  # powers are not on the list
        ("42-4*4.5", False),
        ("4//1", False),
        ("(4+2)*4 if 1 else 2", False),
        ("__import__('os').system('touch owned')", False),
        ("4/(2-2)*4", False),
        ("(" * 900 + "4", False),
        ("9**9**9**9", False),
        ("", False),
    ],
)
def test_a_countdown_uses_each_number_once(expression, expected):
    assert is_correct(f"\\boxed{{{expression}}}", '{"target": 24, "nums": [4, 4, 2]}', "countdown") == expected


SEARCH = '{"target": 58, "nums": [3, 7, 8, 2]}'


@pytest.mark.parametrize("steps", ["3*7=21 21+8=29 29*2=58", "7*3=21 21+8=29 29*2=58"])
def test_a_search_is_right_if_its_steps_reach_the_target_with_each_number_once(steps):
    assert is_correct(steps, SEARCH, "search")


@pytest.mark.parametrize(
    "steps",
    [
        "8*7=56 56+2=58",  # a number is left over
        "3*7=21 21+8=29 29*2=58 58+1=59 59-1=58",  # numbers that are not there
        "3*7=21 21+8=29 29*2=57",  # not the target
        "3*7=21 21+8=29 29+2=58",  # the last step is wrong
        "3*7=20 20+8=28 28*2=56",  # a wrong step on the way
        "3*7=21 8+21=29 29*2=58",  # does not go on from the value
        "3*7=21 22+8=30 29*2=58",  # nor this
        "7*8=56 2*3=6 56+2=58",  # two chains
        "2*8=16 16*3=48 48+7=55 55+3=58",  # 3 twice
        "03*7=21 21+8=29 29*2=58",
        "3*7=21  21+8=29 29*2=58",
        "3*7=21 21+8=29 29*2=58 ",
        "so: 3*7=21 21+8=29 29*2=58",
        "\\boxed{58}",
        "58",
        "",
    ],
)
def test_a_search_with_anything_wrong_is_wrong(steps):
    assert not is_correct(steps, SEARCH, "search")


def test_no_value_of_a_search_leaves_0_to_99():
    assert not is_correct("9*9=81 81+9=90 90+9=99 99+9=108 108-9=99", '{"target": 99, "nums": [9,9,9,9,9,9]}', "search")
    assert not is_correct("2-3=-1 -1+9=8", '{"target": 8, "nums": [2, 3, 9]}', "search")
    assert is_correct("9*9=81 81+9=90 90+9=99", '{"target": 99, "nums": [9, 9, 9, 9]}', "search")


def test_the_answer_of_a_search_is_its_steps_and_nothing_else_answers():
    assert extract_answer("3*7=21 21+8=29", "search") == "3*7=21 21+8=29"
    for text in ("", "58", "3*7=21 21+", "3*7=21, 21+8=29", "3*7=21\n", "1*1=1 " * 300 + "1*1=1"):
        assert extract_answer(text, "search") is None


def test_solutions_of_a_puzzle_are_told_apart_by_their_text():
    assert classes(["1*2=2", None, "2*1=2", "1*2=2"], "search") == [0, None, 1, 0]
    assert classes(["1+2", "2+1", None], "countdown") == [0, 1, None]


def test_a_countdown_is_exact():
    gold = '{"target": 24, "nums": [8, 3, 8, 3]}'
    assert is_correct("\\boxed{8/(3-8/3)}", gold, "countdown")
    assert is_correct("\\boxed{8 \\div (3-\\frac{8}{3})}", gold, "countdown")
    assert not is_correct("\\boxed{8/(3-2.6666666666666667)}", gold, "countdown")


def test_code_is_not_run_unless_that_is_allowed():
    with pytest.raises(ValueError, match="allow_code_execution"):
        is_correct("```python\nx = 1\n```", '{"tests": "assert x == 1"}', "code")
    assert is_correct("```python\nx = 1\n```", '{"tests": "assert x == 1"}', "code", allow_code_execution=True)
    assert not is_correct("```python\nx = 2\n```", '{"tests": "assert x == 1"}', "code", allow_code_execution=True)


def test_a_program_is_the_last_block_or_the_whole_response():
    assert extract_answer("```python\na\n```\nor\n```python\nb = 1\n```\nDone.", "code") == "b = 1"
    assert extract_answer("```python\na\n```\nprints\n```\n4\n```", "code") == "a"  # what it prints is no program
    used = "```python\ndef f(): pass\n```\nUse it so:\n```python\nprint(f())\n```"
    assert extract_answer(used, "code") == "def f(): pass"
    assert extract_answer("```\na\n```\n```\nb\n```", "code") == "b"
    assert extract_answer('```py\ndef f():\n    """Like ```this```."""\n```', "code").endswith('"""Like ```this```."""')
    assert extract_answer("```python\nstill wri", "code") == "still wri"
    assert extract_answer("    return 1\n", "code") == "    return 1"
    assert extract_answer("<think>```python\na\n```", "code") is None


PROMPT = 'import math\n\ndef helper():\n    return 1\n\ndef f(x):\n    """Add."""\n'
ADDS = "a, b = map(int, input().split())\nif __name__ == '__main__':\n    print(a + b, 'yes')\n    exit()"


@pytest.mark.parametrize(
    ("completion", "gold", "expected"),
    [
        ("    return x + helper()\n\nprint(undefined)", PROMPT, True),  # what follows the body is left out
        ("    y = x\n# a comment\n    return y + 1\n\nprint(undefined)", PROMPT, True),
        ("    y = max(\n1,\n0)\n    return x + y\nprint(undefined)", PROMPT, True),
        ("    y = '''\na'''\n    return x + len(y) - 1\nprint(undefined)", PROMPT, True),
        ("    y = (\nprint(undefined)", PROMPT, False),
        ("from __future__ import (\n  annotations)\ndef f(x: Nothing):\n    return x + 1", PROMPT, True),
        ("f = lambda x: x + 1", PROMPT, True),
        ("    return x", PROMPT, False),
        ("def f(x):\n    return x + helper() * math.floor(1.5)", PROMPT, True),  # the whole function
        ("def g(x):\n    return x\n\ndef f(x):\n    return g(x) + 1", PROMPT, True),
        ("def f(x):\n    return x + 1", "def f(x):\n    # Add.", True),  # its own beginning is no function yet
        ("def g(x):\n    return x + 1", PROMPT, False),
        (f"```python\n{ADDS}\n```", [["1 2\n", "3 yes"], ["5 5", "10\nyes\n"]], True),
        (ADDS, [["1 2\n", "3 yes"], ["5 5", "11 yes"]], False),  # every case counts,
        (ADDS, [["1 2\n", "3 no"]], False),  # every word,
        (ADDS, [["1 2\n", "3"]], False),  # and no word more
        ("import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())", [["1 2\n", "1 2"]], True),
    ],
)
def test_a_body_a_whole_function_and_a_program_that_prints_are_run_as_their_data_set_means_it(
    completion, gold, expected
):
    test = (
        {"prompt": gold, "entry_point": "f", "tests": "assert f(2) == 3"}
        if isinstance(gold, str)
        else {"printed": gold}
    )
    assert is_correct(completion, json.dumps(test), "code", allow_code_execution=True) is expected


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="essay"):
        is_correct("\\boxed{1}", "1", kind="essay")


def test_a_batch_is_graded_in_order_and_each_kind_its_own_way():
    completions = ["\\boxed{1}", "\\boxed{2}", "", "\\boxed{1}", "\\boxed{A}", "\\boxed{1+1}", "\\boxed{x+1}"]
    kinds = ["number", "math", "math", "math", "choice", "literal", "math"]
    golds = ["1", "1", "1", "2", "A", "2", "1+x"]
    assert grade(completions, golds, kinds) == [True, False, False, False, True, False, True]
    assert grade(["\\boxed{7+8}"] * 2, ["15"] * 2, ["math", "number"]) == [True, False]


def test_the_same_question_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(workers, "ask_all", lambda pairs: asked.extend(pairs) or [True] * len(pairs))
    completions = ["\\boxed{x+1}", "\\boxed{1+x}", "", "\\boxed{x+1}", "\\boxed{x+1}"]
    assert grade(completions, ["1+x"] * 4 + ["x"], ["math"] * 5) == [True, True, False, True, True]
    assert asked == [("x+1", "1+x"), ("x+1", "x")]
    with pytest.raises(ValueError, match="zip"):
        grade(["\\boxed{1}"], ["1", "2"], ["math"])


def test_classes_of_equal_answers():
    assert classes(["1/2", None, "0.5", "x+1", "2", "1+x", "x+1"]) == [0, None, 0, 1, 2, 1, 1]
    assert classes(["2", "1", "2", "3", "1"]) == [0, 1, 0, 2, 1]
    assert classes(["B", "(B)", "A"], "choice") == [0, 0, 1]
    assert classes(["[1]", "[1 ]", "[True]"], "literal") == [0, 0, 1]
    assert classes(["x = 1", None, "x = 2", "x = 1"], "code") == [0, None, 1, 0]  # as text; nothing is run
    assert classes([]) == []
    assert classes([None]) == [None]
    assert classes(["18 dollars", "18"]) == classes(["18", "18 dollars"]) == [0, 0]
    assert classes(["1" + " " * 1_000_000 + "x", "2", "9" * 5000]) == [0, 1, 2]


def test_an_answer_that_keeps_the_checker_busy_costs_one_time_limit_in_a_vote(monkeypatch):
    asked = []

    def ask_all(pairs):
        asked.extend(pairs)
        return [TOWER not in pair and sorted(pair[0]) == sorted(pair[1]) for pair in pairs]

    monkeypatch.setattr(workers, "ask_all", ask_all)
    long = "x+" * 1000 + "x"
    assert classes([TOWER, "x+1", "x+2", long, "x+3", TOWER, "1+x", long]) == [0, 1, 2, 3, 4, 0, 1, 3]
    assert [pair for pair in asked if TOWER in pair] == [(TOWER, TOWER)]
    assert not [pair for pair in asked if long in pair]  # too long for an answer


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody_idle(monkeypatch):
    """No worker waits at first; those that wait in the end are stopped."""
    idle = type(workers._idle)()
    monkeypatch.setattr(workers, "_idle", idle)
    yield idle
    while not idle.empty():
        idle.get().stop()


def test_a_worker_serves_again_until_it_is_too_slow_and_then_another_one_does(monkeypatch, nobody_idle):
    assert workers.ask(("x+1", "1+x")) is True
    (first,) = nobody_idle.queue
    assert workers.ask(("x+1", "x")) is False
    assert list(nobody_idle.queue) == [first]  # a "no" does not cost a worker
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.1)
    assert workers.ask((TOWER, "7")) is False
    assert first.process.poll() == -signal.SIGKILL  # not by its own alarm, which comes later
    assert nobody_idle.empty()
    monkeypatch.setattr(workers, "TIME_LIMIT", 60.0)
    assert workers.ask(("x+1", "1+x")) is True


def test_a_worker_that_died_while_it_waited_is_replaced(nobody_idle):
    worker = workers.Worker()
    nobody_idle.put(worker)
    worker.process.kill()
    worker.process.wait()
    assert worker.ask("x+1", "1+x") is None  # and does not raise
    assert workers.ask(("x+1", "1+x")) is True


def test_a_worker_is_asked_about_the_answer_first_and_then_the_gold():
    worker = object.__new__(workers.Worker)
    worker.process, worker.replies = SimpleNamespace(stdin=io.StringIO()), queue.SimpleQueue()
    worker.replies.put("true\n")
    assert worker.ask("a", "b") is True
    assert worker.process.stdin.getvalue() == '["a", "b"]\n'


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("x \\in [0, 1]", "[0, 1]"),
        ("y \\int x", "y \\int x"),
        ("sqrt(5)+2pi", "\\sqrt{5}+2\\pi"),
        ("\\sqrt{5} spin \\pi", "\\sqrt{5} spin \\pi"),
        ("infinity", "\\infty"),
        ("\\text{ \\$}5 + \\$6", "5 + 6"),
    ],
)
def test_what_math_verify_misreads_is_rewritten(answer, expected):
    assert math_worker.tidy(answer).strip() == expected


def test_questions_are_answered_in_order():
    pairs = [(f"x+{i}", f"{i % 3}+x") for i in range(6)]
    assert workers.ask_all(pairs) == [True, True, True, False, False, False]


def test_what_the_checker_cannot_decide_is_wrong_and_every_question_has_an_alarm(monkeypatch, capsys):
    def parse(text, config, parsing_timeout):
        return {"\\boxed{nothing}": [], "\\boxed{one}": [1], "\\boxed{two}": [2]}[text]  # KeyError for any other

    def verify(gold, answer, **flags):
        asked.append((gold, answer))
        return True

    asked = []
    fake = SimpleNamespace(parse=parse, LatexExtractionConfig=list, verify=verify)
    alarms, limits = [], []
    monkeypatch.setitem(sys.modules, "math_verify", fake)
    monkeypatch.setattr(logging, "disable", lambda level: None)
    monkeypatch.setattr(math_worker.signal, "alarm", alarms.append)
    monkeypatch.setattr(math_worker.resource, "setrlimit", lambda *args: limits.append(args))
    pairs = [["one", "one"], ["error", "one"], ["nothing", "one"], ["one", "nothing"], ["one", "two"], ["two", "two"]]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(pair) + "\n" for pair in pairs)))
    monkeypatch.setattr(math_worker, "apart", lambda answer, gold: (answer, gold) == (1, 2))
    math_worker.serve()
    assert capsys.readouterr().out.split() == ["ready", "true", "false", "false", "false", "false", "true"]
    assert asked == [([1], [1]), ([2], [1]), ([2], [2])]
    assert alarms == [15, 0] * 6  # longer than any time limit; and a worker that waits is in no hurry
    assert limits == [(math_worker.resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))]


@pytest.mark.slow  # the quick sibling is the alarm of the test above
def test_a_worker_whose_master_was_killed_ends_itself(tmp_path):
    copy = tmp_path / "math_worker.py"
    copy.write_text(Path(math_worker.__file__).read_text().replace("OUTLIVE = 15", "OUTLIVE = 1"))
    flags = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    flags["env"] = {**os.environ, "PYTHONPATH": str(workers.ROOT)}
    with subprocess.Popen([sys.executable, copy], **flags) as orphan:
        assert orphan.stdout.readline() == "ready\n"
        orphan.stdin.write(json.dumps([TOWER, "7"]) + "\n")
        orphan.stdin.flush()
        assert orphan.wait(timeout=120) == -signal.SIGALRM


@pytest.fixture
def ten_minutes():
    """A regular expression that backtracks for ever fails its test instead of hanging the suite."""
    signal.signal(signal.SIGALRM, lambda *args: pytest.fail("hangs"))
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


# What a completion can hold. The last few are read by math-verify, but that takes it seconds.
ADVERSARIAL = [
    "\\boxed{" * 50_000,
    "{" * 1_000_000,
    "\\boxed{" + "{" * 1000 + "}" * 1000 + "}",
    "\\boxed{" + "(" * 900 + ")" * 900 + "}",
    "\\boxed{\x00}",
    "\\boxed{" + "9" * 100_000 + "}",
    '\\boxed{__import__("os").system("touch owned")}',
    '\\boxed{exec(\'open("owned","w")\')}',
    "\\boxed{9**9**9**9}",
    "\\boxed{\ud800}",
    "####" * 1000,
    "\\boxed{1}" * 10_000,
    "\\boxed{1" + " " * 1_000_000 + "x}",
    "\\boxed{" + "a\\%" * 300 + "}",
    "the answer is (" * 10_000,
    "\\boxed{1" + "^\\text{th" * 100 + "!}",
    "[ANSWER]" * 10_000,
]
LONG = [
    "\\boxed{" + "-" * 900 + "1}",
    "\\boxed{" + "1+" * 400 + "1}",
    "\\boxed{1" + " abc" * 240 + "!}",
    "\\boxed{1" + "\\text{a}" * 120 + "!}",
    "\\boxed{1" + " m/s^2" * 150 + "!}",
]


def none_is_right(adversarial: list[str], kind: str) -> None:
    gold = '{"target": 7, "nums": [1, 2]}' if kind in ("countdown", "search") else "\\frac{x}{7}"
    assert grade(adversarial, [gold] * len(adversarial), [kind] * len(adversarial)) == [False] * len(adversarial)


@pytest.mark.parametrize("kind", ["math", "number", "choice", "literal", "countdown", "search"])
def test_nothing_a_completion_can_hold_raises_or_hangs(kind, monkeypatch, tmp_path, ten_minutes):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(workers, "TIME_LIMIT", 0.3)
        none_is_right([f"\\boxed{{{TOWER}}}"], kind)
    none_is_right(ADVERSARIAL, kind)
    with monkeypatch.context() as patch:
        if kind == "math":  # all but math-verify itself, for which there is the long test below
            patch.setattr(workers, "ask_all", lambda pairs: [False] * len(pairs))
        none_is_right(LONG, kind)
    assert not list(tmp_path.iterdir())
    assert is_correct("\\boxed{\\sqrt{8}}", "2\\sqrt{2}")  # and the checker works on afterwards


@pytest.mark.slow
def test_nothing_that_keeps_the_checker_busy_raises_or_hangs(monkeypatch, ten_minutes):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "TIME_LIMIT", 0.3)
        none_is_right(ADVERSARIAL + LONG, "math")
    assert is_correct("\\boxed{\\sqrt{8}}", "2\\sqrt{2}")


def test_the_time_limit_holds_in_threads_too(monkeypatch):
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.1)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda n: is_correct(f"\\boxed{{{TOWER}+{n}}}", "x"), range(2))) == [False] * 2


def test_no_worker_outlives_the_program():
    code = "import verify; from verify import workers; print(verify.is_correct('\\\\boxed{x+1}', '1+x')); "
    code += "print(workers._idle.queue[0].process.pid)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert told[0] == "True"
    with pytest.raises(ProcessLookupError):
        os.kill(int(told[1]), 0)


def test_the_checker_does_not_need_torch():
    # worker processes run this file: it must start in a moment
    code = "import sys, verify; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
