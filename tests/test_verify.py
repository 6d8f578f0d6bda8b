"""verify.py: what counts as an answer, and what counts as right."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from verify import classes, extract_answer, grade, is_correct, math_worker, workers


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


@pytest.mark.parametrize(
    ("given", "gold", "expected"),
    [
        ("[1, 2]", "[1,2]", True),
        ("`[1]`", "[1]", True),
        ("\\text{'abc'}", "'abc'", True),
        ("(1, 2)", "[1, 2]", False),
        ("True", "1", False),
        ("[True]", "[1]", False),  # all the way down
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


def test_a_continued_prompt_a_whole_function_and_a_program_that_prints():
    prompt = 'import math\n\ndef helper():\n    return 1\n\ndef f(x):\n    """Add."""\n'
    gold = json.dumps({"prompt": prompt, "entry_point": "f", "tests": "assert f(2) == 3"})
    body = "    return x + helper()\n\nprint(undefined)"  # what runs on behind the body is left out
    whole = "def f(x):\n    return x + helper() * math.floor(1.5)"
    printed = json.dumps({"printed": [["1 2\n", "3"], ["5 5", "10\n"]]})
    reads = "import sys\na, b = sys.stdin.buffer.read().split()\nsys.stdout.buffer.write(str(int(a) + int(b)).encode())"
    adds = "a, b = map(int, input().split())\nif __name__ == '__main__':\n    print(a + b)\n    exit()"
    completions = [
        body,
        whole,
        "    return x",
        f"```python\n{adds}\n```",
        f"```python\n{adds.replace('+', '-')}\n```",
        reads,
    ]
    golds, expected = [gold] * 3 + [printed] * 3, [True, True, False, True, False, True]
    assert grade(completions, golds, ["code"] * 6, allow_code_execution=True) == expected


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="essay"):
        is_correct("\\boxed{1}", "1", kind="essay")


def test_a_batch_is_graded_in_order_and_each_kind_its_own_way():
    completions = ["\\boxed{1}", "\\boxed{2}", "", "\\boxed{1}", "\\boxed{A}", "\\boxed{1+1}", "\\boxed{x+1}"]
    kinds = ["number", "math", "math", "math", "choice", "literal", "math"]
    golds = ["1", "1", "1", "2", "A", "2", "1+x"]
    assert grade(completions, golds, kinds) == [True, False, False, False, True, False, True]


def test_classes_of_equal_answers():
    assert classes(["1/2", None, "0.5", "x+1", "2", "1+x", "x+1"]) == [0, None, 0, 1, 2, 1, 1]
    assert classes(["B", "(B)", "A"], "choice") == [0, 0, 1]
    assert classes(["[1]", "[1 ]", "[True]"], "literal") == [0, 0, 1]
    assert classes([]) == []
    assert classes(["18 dollars", "18"]) == classes(["18", "18 dollars"]) == [0, 0]
    assert classes(["1" + " " * 1_000_000 + "x", "2", "9" * 5000]) == [0, 1, 2]


def test_an_answer_that_keeps_the_checker_busy_costs_one_time_limit_in_a_vote(monkeypatch):
    monkeypatch.setattr(workers, "TIME_LIMIT", 1.0)
    tower, asked, ask_all = "9^{9^{9^{9^{9}}}}", [], workers.ask_all
    monkeypatch.setattr(workers, "ask_all", lambda pairs: (asked.extend(pairs), ask_all(pairs))[1])
    assert classes([tower, "x+1", "x+2", "x+3", tower, "1+x"]) == [0, 1, 2, 3, 0, 1]
    assert [pair for pair in asked if tower in pair] == [(tower, tower)]


def test_a_worker_that_takes_too_long_is_killed(monkeypatch):
    worker = workers.Worker()
    assert worker.ask("x+1", "1+x") is True
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.5)
    assert worker.ask("9^{9^{9^{9^{9}}}}", "7") is None
    assert worker.process.poll() is not None


@pytest.mark.parametrize("kind", ["math", "number", "choice", "literal", "countdown"])
def test_nothing_a_completion_can_hold_raises_or_hangs(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "TIME_LIMIT", 1.0)
    monkeypatch.chdir(tmp_path)
    adversarial = [
        "\\boxed{9^{9^{9^{9^{9}}}}}",  # keeps sympy busy for longer than anyone waits
        "\\boxed{" * 50_000,
        "{" * 1_000_000,
        "\\boxed{" + "{" * 1000 + "}" * 1000 + "}",
        "\\boxed{" + "(" * 900 + ")" * 900 + "}",
        "\\boxed{" + "-" * 900 + "1}",
        "\\boxed{\x00}",
        "\\boxed{" + "9" * 100_000 + "}",
        "\\boxed{" + "1+" * 400 + "1}",
        '\\boxed{__import__("os").system("touch owned")}',
        '\\boxed{exec(\'open("owned","w")\')}',
        "\\boxed{9**9**9**9}",
        "\\boxed{\ud800}",
        "####" * 1000,
        "\\boxed{1}" * 10_000,
        "\\boxed{1" + " " * 1_000_000 + "x}",
        "\\boxed{" + "a\\%" * 300 + "}",
        "the answer is (" * 10_000,
        "\\boxed{1" + " abc" * 240 + "!}",
        "\\boxed{1" + "\\text{a}" * 120 + "!}",
        "\\boxed{1" + " m/s^2" * 150 + "!}",
        "\\boxed{1" + "^\\text{th" * 100 + "!}",
        "[ANSWER]" * 10_000,
    ]
    gold = '{"target": 7, "nums": [1, 2]}' if kind == "countdown" else "\\frac{x}{7}"
    started = time.perf_counter()
    assert grade(adversarial, [gold] * len(adversarial), [kind] * len(adversarial)) == [False] * len(adversarial)
    assert time.perf_counter() - started < 30
    assert not list(tmp_path.iterdir())
    assert is_correct("\\boxed{\\sqrt{8}}", "2\\sqrt{2}")  # and the checker works on afterwards


def test_the_time_limit_holds_in_threads_too(monkeypatch):
    monkeypatch.setattr(workers, "TIME_LIMIT", 1.0)
    with ThreadPoolExecutor(4) as threads:
        towers = [f"\\boxed{{9^{{9^{{9^{{9^{n}}}}}}}}}" for n in range(3, 7)]
        assert list(threads.map(lambda text: is_correct(text, "x"), towers)) == [False] * 4


def test_a_worker_whose_master_was_killed_does_not_count_on_for_ever(tmp_path):
    copy = tmp_path / "math_worker.py"
    copy.write_text(Path(math_worker.__file__).read_text().replace("OUTLIVE = 15", "OUTLIVE = 1"))
    flags = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    flags["env"] = {**os.environ, "PYTHONPATH": str(workers.ROOT)}
    orphan = subprocess.Popen([sys.executable, copy], **flags)
    assert orphan.stdout.readline() == "ready\n"
    orphan.stdin.write('["x+1", "1+x"]\n["9^{9^{9^{9^{9}}}}", "7"]\n')
    orphan.stdin.flush()
    assert orphan.stdout.readline() == "true\n"
    assert orphan.wait(timeout=20) == -signal.SIGALRM


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
