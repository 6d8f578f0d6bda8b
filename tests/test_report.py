"""report.py, verdict.py, page.py and pictures.py: what a reader sees, in a real browser where there is one."""

import html
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest

import eval as evaluation
import toy
from data import Problem
from running.files import BadInput
from study import analysis, page, pictures, report, training
from study.samples import Entry
from study.verdict import misses, verdict
from study.words import WORDS

HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">{{DATA}} & \u2028"


@pytest.fixture(scope="session")
def finished(base, tmp_path_factory):
    """The folder of a small study of one model under two names, of which the second says that it was trained."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(base, folder / "trained")
    claim_a_run(
        folder / "trained", {"model": "toy", "reward": "correct", "steps": 4, "kl": 0.5}, {"steps": 60, "kl": 0.005}
    )
    flags = ["--samples", "4", "--limit", "12", "--perplexity", "2", "--out", str(folder / "out")]
    assert evaluation.main([str(base), str(folder / "trained"), *flags]) == 0
    return folder / "out"


def claim_a_run(folder, settings: dict, defaults: dict | None, metrics: str | None = None) -> None:
    """Make a folder say that it was made by a run with these settings, which took four steps."""
    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    config["minreason"] = settings
    if defaults is not None:
        config["minreason_defaults"] = defaults
    (folder / "config.json").write_text(json.dumps(config))
    rows = [{"step": i, "accuracy": i / 4, "reward_mean": i / 2, "entropy": None, "kl": 0.0} for i in range(4)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines if metrics is None else metrics)


@pytest.fixture(scope="session")
def svgs(finished, tmp_path_factory):
    """The pictures of the small study, as SVG."""
    folder = tmp_path_factory.mktemp("pictures")
    return {name: draw(content_of(finished), folder / name) for name, draw in pictures.PICTURES.items()}


def content_of(folder) -> dict:
    return json.loads((folder / "report.json").read_text())


def record(model, problem, sample, tokens=20, text="first, ", correct=True, **more) -> dict:
    values = {"pieces": [text] * tokens, "logps": [-1.234] * tokens, "certainty": [2.345] * tokens}
    known = {"model": model, "problem": problem, "sample": sample, "text": text, "correct": correct}
    return {**known, "truncated": False, **values, **more}


def data_of(text: str) -> dict:
    """What the page's script is given."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


# --- tables ---------------------------------------------------------------------------------------------------------


def hand_made(counts: dict[str, list[int]], n: int = 4) -> dict:
    """report.json of a study of models with these counts."""
    entries, tallies = [Entry(model, model, 1.0) for model in counts], {}
    for model, right in counts.items():
        verdicts = {i: [True] * c + [False] * (n - c) for i, c in enumerate(right)}
        answers = {i: ["1" if yes else "2" for yes in verdict] for i, verdict in verdicts.items()}
        by_kind = {"correct": np.array(right), "truncated": np.zeros(len(right), dtype=int)}
        tallies[model] = analysis.Tally(by_kind, answers, verdicts, [], entropy=2.0, tokens=4, answered=4)
    problems = [Problem("1+1=", "1")] * len(right)
    described = {"data": "file.jsonl", "samples": n, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 80}
    content = analysis.rounded(analysis.analyse(entries, tallies, problems, n, "plain"))
    return {**described, "template": "plain", **content, "perplexity": []}


def test_every_question_has_a_table_with_the_right_numbers():
    content = hand_made({"base": [2, 1, 1, 0], "runs/trained": [4, 4, 0, 0]})
    found = {table.question: table for table in report.tables(content)}
    rows = found["What is solved in k tries?"].rows
    assert rows == [["base", "0.250", "0.458", "0.750"], ["trained", "0.500", "0.500", "0.500"]]
    table = found["Is the difference more than chance?"]
    assert [row[1].split()[0] for row in table.rows] == ["+0.250", "+0.042", "-0.250"]
    assert any(
        "base overtakes trained at k = 2.2 (95 % interval 1 or less to beyond 4)" in note for note in table.notes
    )
    rows = found["How often is a problem solved?"].rows
    assert {row[0]: row[1:] for row in rows if row[1:] != ["0", "0"]} == {
        "0": ["1", "2"],
        "(0.2, 0.3]": ["2", "0"],
        "(0.4, 0.5]": ["1", "0"],
        "1": ["0", "2"],
    }
    rows = found["Which problems can only one of them solve?"].rows
    assert rows == [["both", "2"], ["base only", "1"], ["trained only", "0"], ["neither", "1"]]
    assert found["How far is one try from the base's many?"].rows == [["trained", "0.750", "0.500", "25.0"]]
    assert found["And if nobody tells which answer is right?"].rows[1] == ["trained", "0.500", "0.500", "0.500"]
    assert found["How spread are the words?"].rows[0][2] == "0.500"
    text = report.as_text(list(found.values()))
    assert all(question in text for question in found)
    assert max(map(len, text.splitlines())) <= 110
    assert "template plain" in text


def test_of_one_greedy_completion_each_only_that_is_told_which_one_completion_can_tell():
    content = hand_made({"base": [1, 0, 0, 0], "runs/trained": [1, 1, 1, 0]}, n=1)
    content["temperature"] = 0
    found = {table.question: table for table in report.tables(content)}
    assert found["What is solved in k tries?"].notes[0].startswith("pass@k: 4 problems, one greedy completion each")
    assert found["What is solved in k tries?"].rows == [["base", "0.250"], ["trained", "0.750"]]
    assert not any("cross" in note or "overtakes" in note for table in found.values() for note in table.notes)
    assert found["Is the difference more than chance?"].rows[0][1].startswith("+0.500 [")
    assert len(found["Which problems can only one of them solve?"].rows) == 4
    assert "temperature 1" in found["How spread are the words?"].notes[0]
    assert len(found) == 4  # no histogram, no gap of one try to one, no vote of one


def test_intervals_over_few_problems_come_with_a_warning():
    def notes(problems):
        content = hand_made({"base": [1] * problems, "trained": [2] * problems})
        return next(t for t in report.tables(content) if t.question == "Is the difference more than chance?").notes

    assert any("Of 59 problems the intervals are rough" in note for note in notes(59))
    assert not any("rough" in note for note in notes(60))


def six_problems() -> dict:
    """report.json of two models on six problems of a world in which a blind try is right once in 2, or once in 4."""
    content = hand_made({"base": [4, 1, 1, 2, 0, 2], "runs/trained": [4, 0, 0, 4, 1, 4]})
    content["perplexity"] = [
        {"writer": "base", "reader": "base", "problems": {0: 3.0}},  # as before there were right_logps
        {
            "writer": "runs/trained",
            "reader": "base",
            "problems": {"0": 1.0, "3": 2.0, "1": 5.0, "2": 7.0, "4": 9.0, "5": 6.0},  # as JSON has keys
            "right_logps": {0: np.log(1 / 4), 3: np.log(1 / 16), 5: np.log(1 / 40_000)},
        },
        {"writer": "runs/trained", "reader": "runs/trained", "problems": {0: 8.0}, "right_logps": {0: -1.0}},
        {"writer": "teacher", "reader": "base", "problems": {1: 6.0}, "right_logps": {1: np.log(1e-9)}},
    ]
    prompts = ["1+1=", "1+1+1=", "1+1+2=", "1+2=", "1+1+3=", "1+1+4="]
    chances = {"1 operation": 0.5, "2 operations": 0.25}
    known = analysis.in_a_world(
        content, prompts, "blind guess", lambda prompt: chances[toy.operations(prompt)], toy.operations
    )
    return content | analysis.rounded(known)


def test_a_blind_try_that_is_right_every_other_time_is_right_in_two_tries_three_times_in_four():
    assert analysis.chance_curve([0.5], [1, 2, 3]) == [0.5, 0.75, 0.875]
    assert analysis.chance_curve([0.5, 1.0, 0.0], [2]) == [pytest.approx(1.75 / 3)]  # a mean over problems, not of p


def test_the_groups_hold_every_problem_once_and_have_the_numbers_of_their_own_problems():
    content = six_problems()
    easy, hard = content["groups"].values()
    assert list(content["groups"]) == ["1 operation", "2 operations"]
    assert (easy["problems"], hard["problems"]) == ([0, 3], [1, 2, 4, 5])
    assert (easy["chance"], hard["chance"]) == ([0.5, 0.75, 0.9375], [0.25, 0.4375, 0.683594])
    assert content["chance"]["pass_at_k"][1] == pytest.approx((2 * 0.75 + 4 * 0.4375) / 6)
    base, trained = easy["models"].values()
    # pass@2 of 2 in 4 is 5/6, of 1 in 4 it is 1/2
    assert (base["pass_at_k_correct"], trained["pass_at_k_correct"]) == (pytest.approx([0.75, 11 / 12, 1]), [1, 1, 1])
    assert [trained[f"{name}_correct"] for name in ("never", "base_only", "trained_only")] == [0, 0, 0]
    base, trained = hard["models"].values()
    assert base == {"pass_at_k_correct": pytest.approx([1 / 4, 11 / 24, 3 / 4]), "never_correct": 1}
    assert trained["pass_at_k_correct"] == pytest.approx([5 / 16, 3 / 8, 1 / 2])
    assert [trained[f"{name}_correct"] for name in ("never", "base_only", "trained_only")] == [2, 2, 1]
    assert [row["median"] for row in easy["perplexity"]] == [3, 1.5, 8, None]
    assert [row["median"] for row in hard["perplexity"]] == [None, 6.5, None, 6]
    assert [row["right_logp"] for row in easy["perplexity"][:3]] == [None, pytest.approx(np.log(1 / 8)), -1]
    assert [row["right_logp"] for row in hard["perplexity"][:3]] == [None, pytest.approx(np.log(1 / 40_000)), None]


def test_the_table_of_groups_shows_them_under_each_other_and_is_left_out_where_there_are_none():
    content = six_problems()
    table = next(table for table in report.tables(content) if table.picture == "groups.png")
    heads = ["k=1", "k=4", "never", "lost", "gained", "perplexity", "base says it"]
    assert table.columns == ["", *heads]
    assert table.rows == [
        ["1 operation: 2 problems", "", "", "", "", "", "", ""],
        ["  base", "0.750", "1.000", "0", "", "", "3.00", "-"],
        ["  trained", "1.000", "1.000", "0", "0", "0", "1.50", "1 in 8"],
        ["  blind guess", "0.500", "0.938", "", "", "", "", ""],
        ["2 operations: 4 problems", "", "", "", "", "", "", ""],
        ["  base", "0.250", "0.750", "1", "", "", "", ""],
        ["  trained", "0.312", "0.500", "2", "2", "1", "6.50", "1 in 40,000"],
        ["  teacher", "", "", "", "", "", "6.00", "1 in 10^9"],
        ["  blind guess", "0.250", "0.684", "", "", "", "", ""],
    ]
    assert report.tables(content)[0].rows[-1] == ["blind guess", "0.333", "0.542", "0.768"]
    for group in content["groups"].values():  # with valid chains, which stand beside
        for result in group["models"].values():
            result["pass_at_k_valid"] = [0.1, 0.2, 0.3]
    table = next(table for table in report.tables(content) if table.picture == "groups.png")
    assert table.columns[:5] == ["", "k=1", "k=4", "valid k=1", "valid k=4"]
    assert table.rows[1][:5] == ["  base", "0.750", "1.000", "0.100", "0.300"]
    longer = [[name.replace("trained", "toy-correct-seed0 at T=1.43"), *cells] for name, *cells in table.rows]
    assert max(map(len, report.as_text([table._replace(rows=longer)]).splitlines())) <= 120
    del content["groups"], content["chance"]
    assert not [table for table in report.tables(content) if table.picture == "groups.png"]
    assert [row[0] for row in report.tables(content)[0].rows] == ["base", "trained"]


def test_a_world_without_degrees_of_difficulty_has_a_chance_and_no_groups():
    content = hand_made({"base": [1, 2]})
    assert analysis.in_a_world(content, ["easy", "hard"], "search", {"easy": 0.5, "hard": 0.0}.get, None) == {
        "chance": {"name": "search", "pass_at_k": [0.25, 0.375, 0.46875]}
    }


def test_a_probability_is_one_in_so_many():
    said = {1: "1 in 1", 1 / 7: "1 in 7", 0.7: "1 in 1.4", 1 / 41_234: "1 in 41,000", 2e-6: "1 in 500,000"}
    assert {p: report.one_in(np.log(p)) for p in said} == said
    assert (report.one_in(-2000.0), report.one_in(None)) == ("1 in 10^869", "-")


def test_the_interval_of_a_curve_is_that_of_values_from_0_to_1():
    content = hand_made({"base": [0] * 60, "trained": [0] * 60})
    low, high = content["models"]["base"]["interval_correct"]
    t2 = 2.001**2  # Student's, 59 degrees; Wilson's upper end where nothing was solved
    assert (low[0], high[0]) == (0, pytest.approx(t2 / (60 + t2), abs=1e-4))
    assert content["compared"]["trained"]["difference_interval_correct"] == [[0, 0, 0], [0, 0, 0]]


def test_who_overtakes_whom_is_said_in_the_order_of_the_largest_k():
    """The base is the first model. Who is ahead at n has overtaken the other, if it was ever behind."""

    def note(base, other):
        content = hand_made({"runs/base": base, "runs/other": other})
        return next(t for t in report.tables(content) if t.question == "Is the difference more than chance?").notes[1]

    assert note([4, 4, 0, 0], [2, 1, 1, 0]).startswith("other overtakes base at k = 2.2")
    assert note([2, 1, 1, 0], [4, 4, 0, 0]).startswith("base overtakes other at k = 2.2")
    assert note([1, 1, 1, 0], [2, 2, 2, 0]) == "other: its curve ends where the base's does, up to k = 4."
    assert note([1, 0, 0, 0], [2, 2, 2, 0]) == "other: its curve does not cross the base's, up to k = 4."


def test_numbers_stand_under_their_heads():
    content = hand_made({"base": [2, 1, 1, 0], "runs/trained": [4, 4, 0, 0]})
    base, trained = content["models"].values()
    trained.update(temperature=0.5, entropy=0.25, completion_tokens=12.0, answered=0.75, truncated=0.125)
    trained["entropy_ratio"] = 1.25
    pair = content["compared"]["runs/trained"]
    pair["difference_correct"], pair["difference_interval_correct"] = [0.1, 0.2, 0.3], [[-1, -2, -3], [1, 2, 3]]
    for kind in ("pass_at_k", "counts", "histogram", "interval"):
        base[f"{kind}_valid"], trained[f"{kind}_valid"] = base[f"{kind}_correct"], base[f"{kind}_correct"]
    valid = {name.replace("correct", "valid"): value for name, value in pair.items()}
    content["compared"]["runs/trained"] = {**valid, **pair, "difference_valid": [-0.5, -0.5, -0.5]}
    medians = {str(i): float(i) for i in range(5)}
    content["perplexity"] = [
        {"writer": "runs/trained", "reader": "base", "problems": medians, "right_logps": {"0": np.log(1 / 16)}},
        {"writer": "teacher", "reader": "base", "problems": {"0": 7.0}},
    ]
    content["top_p"] = 0.95
    found = {table.question: table for table in report.tables(content)}
    table = found["Is the difference more than chance?"]
    assert table.columns == ["", "trained"]
    assert table.rows[2] == ["k=4", "+0.300 [-3.000, +3.000]"]
    assert found["And if lucky guesses do not count, only valid chains?"].rows[0][1].startswith("-0.500")
    table = found["How spread are the words?"]
    rows = dict(zip(table.columns, table.rows[1], strict=True))
    assert rows == {
        "": "trained",
        "temperature": "0.500",
        "entropy": "0.250",
        "entropy ratio": "1.250",
        "completion tokens": "12.0",
        "answered": "0.750",
        "truncated": "0.125",
    }
    assert found["Could the base have said it?"].rows == [
        ["trained under base", "1.000", "2.000", "3.000", "1 in 16"],
        ["teacher under base", "7.000", "7.000", "7.000", "-"],
    ]
    table = found["What is solved in k tries?"]
    assert table.columns == ["", "k=1", "k=2", "k=4"]
    assert [row[0] for row in table.rows] == ["base", "trained", "base, valid chains", "trained, valid chains"]
    assert table.rows[3] == ["trained, valid chains", "0.250", "0.458", "0.750"]
    assert "4 problems, 4 samples each, T = 1, top-p 0.95, at most 80 tokens" in table.notes[0]
    assert found["Which problems can only one of them solve?"].columns == [
        "solved by",
        "trained",
        "trained, valid chains",
    ]
    assert [table.picture for table in found.values() if table.picture] == [
        "passk.png",
        "histogram.png",
        "coverage.png",
        "perplexity.png",
    ]


def test_models_are_called_by_the_last_part_of_their_path_if_it_tells_them_apart():
    assert pictures.short_names(["Qwen/base", "runs/trained/"]) == {"Qwen/base": "base", "runs/trained/": "trained"}
    assert pictures.short_names(["a/same", "b/same"]) == {"a/same": "a/same", "b/same": "b/same"}


def test_one_model_and_one_problem_are_a_study_too():
    questions = [table.question for table in report.tables(hand_made({"base": [1]}))]
    assert questions[0] == "What is solved in k tries?"
    assert "Is the difference more than chance?" not in questions
    assert len(report.tables(hand_made({"base": [1], "other": [2]}))) == 6


def test_a_difference_that_rounds_to_zero_has_no_sign_of_its_own():
    assert [report.signed(value) for value in (-0.0001, 0.0, 0.25, -0.25)] == ["+0.000", "+0.000", "+0.250", "-0.250"]


def test_the_hardest_solved_problems_come_first_and_no_completion_ends_its_block():
    texts = {0: "easy", 1: "```\n# not a heading\n```", 3: "middling"}
    records = [record("m", i, j, text=texts[i], correct=j < 3) for i in texts for j in range(4)]
    content = {"models": {"m": {"counts_correct": [3, 1, 0, 2]}}, "samples": 4}
    text = page.review(2, content, [Problem(f"p{i}", f"a{i}") for i in range(4)], iter(records))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## m, problem 1: 3 of 4 right",
        "## m, problem 3: 3 of 4 right",
    ]
    assert "easy" not in text
    assert "chain" not in text
    assert text.count("``````\n```\n# not a heading\n```\n``````") == 3
    chains = [record("m", 1, j, valid=j == 0) for j in range(2)]
    text = page.review(1, content, [Problem("p", "a")] * 4, chains)
    assert [line for line in text.splitlines() if line.startswith("Sample")] == [
        "Sample 0 (valid chain):",
        "Sample 1 (no valid chain):",
    ]


# --- the verdict ----------------------------------------------------------------------------------------------------


def test_the_verdict_says_what_rises_what_falls_who_alone_solves_what_and_from_where_on_the_base_is_ahead():
    content = hand_made({"base": [2, 1, 1, 0] * 20, "runs/trained": [4, 4, 0, 0] * 20})
    pair = content["compared"]["runs/trained"]
    pair["difference_interval_correct"] = [[0.138, -0.1, -0.341], [0.355, 0.2, -0.152]]
    pair["crossing_correct"] = [2.2, 1.04, None]
    found = verdict(content)
    assert found.answer == (
        "pass@1 rises from .250 to .500 (+25.0 points [13.8, 35.5]), "
        "but pass@4 falls from .750 to .500 (-25.0 points [-34.1, -15.2]). "
        "20 of 80 problems only the base solves, 0 only the trained model. "
        "From 3 tries on the base is ahead (95 % interval 1.0 to beyond 4)."
    )
    # 20 problems solved in 2 of 4 samples, 40 in 1: a second try misses 20/16 + 40 (3/4)^4 = 13.9 of them
    assert found.cautions == (
        "If the base tried again, it would itself miss about 14 of the problems that it solved here. "
        "Brackets are 95 % intervals over the 80 problems."
    )
    assert found.each == []
    pair["crossing_correct"] = [3.0, 1, 3.5]  # at 3 tries they are equal
    assert "From 4 tries on the base is ahead (95 % interval 1 or less to 3.5)." in verdict(content).answer


def test_where_an_interval_holds_0_the_verdict_is_that_chance_may_explain_it():
    content = hand_made({"base": [2, 1, 1, 0] * 20, "runs/trained": [4, 4, 0, 0] * 20})
    pair = content["compared"]["runs/trained"]
    pair["difference_interval_correct"] = [[-0.01, -0.1, -0.5], [0.51, 0.2, 0.0]]  # 0 itself is held too
    answer = verdict(content).answer
    chance = "the interval holds 0, so chance may explain it"
    assert f"pass@1 goes from .250 to .500 (+25.0 points [-1.0, 51.0]: {chance})" in answer
    assert f", and pass@4 goes from .750 to .500 (-25.0 points [-50.0, 0.0]: {chance})." in answer
    assert "The curves cross at 2.2 tries (95 % interval" in answer
    assert answer.endswith(", if they do.")
    pair["crossing_correct"] = None
    assert verdict(content).answer.endswith("With any number of tries up to 4 the base is ahead, within chance.")
    assert not re.search("rises|falls", answer)
    # The same mean, once because no problem differs, and once although some do.
    same = hand_made({"base": [2, 0] * 40, "trained": [2, 0] * 40})
    assert verdict(same).answer.startswith("pass@1 is .250 for both, and pass@4 is .500 for both. 0 of 80 problems")
    assert "ahead" not in verdict(same).answer
    even = hand_made({"base": [2, 0] * 40, "trained": [0, 2] * 40})
    assert verdict(even).answer.startswith("pass@1 stays at .250 (+0.0 points [-")
    even["compared"]["trained"]["difference_correct"][0] = -1e-6
    assert verdict(even).answer.startswith("pass@1 stays at .250 (+0.0 points [-")


def test_a_trained_model_that_is_ahead_with_any_number_of_tries_is_said_to_be():
    answer = verdict(hand_made({"base": [1, 0] * 40, "trained": [3, 3] * 40})).answer
    assert "pass@1 rises" in answer
    assert "), and pass@4 rises" in answer
    assert answer.endswith("With any number of tries up to 4 the trained model is ahead.")


def test_one_completion_each_is_an_accuracy_and_says_nothing_about_more():
    content = hand_made({"base": [1, 0, 0, 0] * 20, "trained": [1, 1, 1, 0] * 20}, n=1)
    assert verdict(content).answer.startswith("The accuracy of one sample each rises from .250 to .750 (+50.0 points [")
    content["temperature"] = 0
    found = verdict(content)
    assert found.answer.startswith("Greedy accuracy rises from .250 to .750 (+50.0 points [")
    assert found.answer.endswith("0 of 80 problems only the base solves, 40 only the trained model.")
    assert found.cautions.startswith("One completion each says nothing about many tries")
    assert "pass@" not in found.answer + found.cautions
    assert "ahead" not in found.answer


def test_the_verdict_on_one_model_alone_is_what_it_solves_and_on_one_problem_that_it_says_little():
    content = hand_made({"runs/base": [2, 1, 1, 0]})
    content["models"]["runs/base"]["interval_correct"] = [[0.05, 0.1, 0.2], [0.6, 0.7, 0.9]]
    assert verdict(content).answer == (
        "Of 4 problems, base solves .250 in one try [.050, .600] and .750 in 4 tries [.200, .900]; 1 it never solved."
    )
    assert verdict(content).cautions.startswith("Nothing to compare it with")
    assert verdict(hand_made({"m": [4]})).answer == (
        "Of 1 problem, m solves 1.000 in one try and 1.000 in 4 tries; 0 it never solved."
    )
    found = verdict(hand_made({"base": [1], "trained": [4]}))
    assert found.answer.startswith("pass@1 goes from .250 to 1.000 (+75.0 points), and pass@4 goes from 1.000 to 1.000")
    assert found.cautions.endswith("A single problem says nothing about others.")
    assert "Brackets" not in found.cautions


def test_of_several_trained_models_the_verdict_counts_those_that_stand_apart_and_has_one_for_each():
    counts = {"base": [2, 1, 1, 0], "runs/up": [4, 4, 0, 0], "runs/same": [2, 1, 1, 0], "runs/up at T=2": [4, 4, 0, 0]}
    content = hand_made({name: right * 20 for name, right in counts.items()})
    content["models"]["runs/up at T=2"]["temperature"] = 2.0  # not a model of its own
    found = verdict(content)
    assert found.answer == (
        "2 trained models. pass@1 against the base's .250: 1 higher, 1 within chance; "
        "pass@4 against the base's .750: 1 lower, 1 within chance."
    )
    assert [line.partition(": ")[0] for line in found.each] == ["up", "same", "up at T=2"]
    assert found.each[1].startswith("same: pass@1 is .250 for both")
    assert found.cautions.count("would itself miss") == found.cautions.count("Brackets") == 1


def test_in_a_world_the_verdict_counts_valid_chains_too_and_names_what_blind_tries_reach():
    content = six_problems()
    assert "For comparison, a blind guess: pass@4 .768." in verdict(content).cautions
    assert "and rough for so few" in verdict(content).cautions
    for result in content["models"].values():
        result["pass_at_k_valid"] = [0.1, 0.2, 0.3]
    pair = content["compared"]["runs/trained"]
    pair["difference_valid"], pair["difference_interval_valid"] = [0, 0, 0], [[0, 0, 0], [0, 0, 0]]
    assert verdict(content).answer.endswith("Counting valid chains only, pass@4 is .300 for both.")


def test_what_is_solved_once_in_many_tries_is_missed_by_the_next_ones_once_in_e_times():
    assert misses([1], 10_000) == pytest.approx(1 / np.e, abs=1e-4)
    assert misses([4, 0, 2], 4) == pytest.approx(0.5**4)  # always and never solved problems are not lost


# --- how the models were made ---------------------------------------------------------------------------------------


def test_a_run_folder_tells_its_settings_their_defaults_and_its_curves(tmp_path):
    run, taught, plain = (tmp_path / name for name in ("run", "taught", "plain"))
    for folder in (run, taught, plain):
        folder.mkdir()
    claim_a_run(run, {"steps": 4}, {"steps": 60})
    claim_a_run(taught, {"rounds": 1}, None, '{"round": 0, "loss": 2.5}\n{"round": 0, "loss": 1.5}\n{"round": 0, "lo')
    found = training.runs_of(["toy", *map(str, (run, taught, plain))])
    assert found == {
        str(run): {
            "settings": {"steps": 4},
            "defaults": {"steps": 60},
            "traces": {
                "accuracy": [[0, 1, 2, 3], [0, 0.25, 0.5, 0.75]],
                "reward_mean": [[0, 1, 2, 3], [0, 0.5, 1, 1.5]],
            },
        },
        str(taught): {"settings": {"rounds": 1}, "defaults": None, "traces": {"loss": [[0, 1], [2.5, 1.5]]}},
    }
    (run / "metrics.jsonl").unlink()
    assert training.runs_of([str(run)])[str(run)]["traces"] == {}
    claim_a_run(run, {"steps": 4}, {}, "not JSON\n")
    with pytest.raises(BadInput, match=r"run/metrics.jsonl: cannot be read .*; delete it"):
        training.runs_of([str(run)])


def test_the_tables_of_training_show_where_it_began_and_ended_and_what_is_not_the_default():
    steps = list(range(20))
    runs = {
        "runs/a": {
            "settings": {"model": "toy", "reward": "correct", "steps": 20, "kl": 0.5, "lora": 0, "compile": True},
            "defaults": {"steps": 60, "kl": 0.005, "compile": False},
            "traces": {"accuracy": [steps, [0.1, 0.3, *[0.5] * 16, 0.8, 0.6]], "eval_accuracy": [[0, 10], [0.2, 0.9]]},
        },
        "runs/b": {
            "settings": {"model": "toy", "teacher": "solver", "kl": 0.005, "run": "runs/b"},
            "defaults": {"run": None},
            "traces": {"loss": [[0, 1], [2, 1]]},
        },
    }
    content = {"models": {"toy": {}, **dict.fromkeys(runs, {})}, "runs": runs}
    table = training.training_table(content)
    assert table.columns == ["", "steps", "accuracy", "held out: pass@1", "loss"]
    assert table.rows == [
        ["a", "20", "0.200 to 0.700", "0.200 to 0.900", ""],
        ["b", "2", "", "", "2.000 to 1.000"],
    ]
    table = training.run_table(content)
    assert table.columns == ["", "a", "b", "default"]
    assert table.rows == [
        ["--model", "toy", "toy", ""],
        ["--teacher", "-", "solver", ""],
        ["--reward", "correct", "-", ""],
        ["--steps", "20", "-", "60"],
        ["--kl", "0.5", "0.005", "0.005"],
        ["--compile", "yes", "-", "no"],
    ]
    assert len(table.notes) == 1
    runs["runs/a"]["defaults"] = None  # a run from before they were kept
    table = training.run_table(content)
    assert [row[0] for row in table.rows] == [
        "--model",
        "--teacher",
        "--reward",
        "--steps",
        "--kl",
        "--lora",
        "--compile",
    ]
    assert "A run of an earlier version is told in full" in table.notes[1]


def test_the_settings_of_the_study_are_told():
    table = training.study_table(hand_made(THREE))
    assert ["samples", "4"] in table.rows
    assert ["max new tokens", "80"] in table.rows
    assert ["problems", "4"] in table.rows
    assert {row[0] for row in table.rows}.isdisjoint({"k", "models", "compared", "perplexity"})
    assert table.notes[0] == "Models, the base first: base, runs/trained, runs/third."


def test_every_word_that_a_table_uses_is_explained():
    content = six_problems()
    content["runs"] = {
        "base": {"settings": {}, "defaults": {}, "traces": {"reward_mean": [[0], [1]], "loss": [[0], [1]]}}
    }
    base, trained = content["models"].values()
    for kind in ("pass_at_k", "counts", "histogram", "interval"):
        base[f"{kind}_valid"], trained[f"{kind}_valid"] = base[f"{kind}_correct"], base[f"{kind}_correct"]
    pair = content["compared"]["runs/trained"]
    pair |= {name.replace("correct", "valid"): value for name, value in pair.items()}
    found = [*report.tables(content), training.training_table(content), training.study_table(content)]
    used = {word for table in found for word in table.words}
    assert used | {"self-certainty", "log-probability", "random search"} == set(WORDS)  # none is unused either
    assert {world.blind for world in toy.WORLDS.values()} <= set(WORDS)


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the picture that a function draws, instead of a file."""
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: figures.append(figure))

    def draw(function, content):
        function(content, None)
        return figures[-1].axes[0]

    yield draw
    for figure in figures:
        pictures.plt.close(figure)


THREE = {"base": [2, 1, 1, 0], "runs/trained": [4, 4, 0, 0], "runs/third": [0, 0, 1, 4]}


def test_the_curves_are_drawn_over_k_each_with_its_models_name(drawn):
    content = hand_made(THREE)
    content["models"]["base"]["pass_at_k_valid"] = [0.1, 0.2, 0.3]
    axes = drawn(pictures.pass_at_k, content)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == [
        "base: correct answer",
        "base: correct, valid chain",
        "trained",  # which has no second curve that it must be told from
        "third",
    ]
    names = ("base: correct answer", "trained", "third")
    for name, result in zip(names, content["models"].values(), strict=True):
        line = lines[name]
        assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 4], result["pass_at_k_correct"])
        assert line.get_linestyle() == "-"
    assert list(lines["base: correct, valid chain"].get_ydata()) == [0.1, 0.2, 0.3]
    assert len({line.get_marker() for line in lines.values()}) == 3  # told apart without colour
    assert axes.get_xscale() == "log"
    assert len(axes.collections) == 2  # the bands of the base and the first trained model
    heights = axes.collections[1].get_paths()[0].vertices[:, 1]
    low, high = content["models"]["runs/trained"]["interval_correct"]
    assert (heights.min(), heights.max()) == (min(low), max(high))


def test_blind_tries_are_a_dotted_line_in_the_picture_of_all_and_in_the_panel_of_each_group(drawn):
    content = six_problems()
    axes = drawn(pictures.pass_at_k, content)
    line = axes.get_lines()[-1]
    assert (line.get_label(), line.get_linestyle()) == ("blind guess", ":")
    assert list(line.get_ydata()) == content["chance"]["pass_at_k"]
    panels = drawn(pictures.by_group, content).figure.axes
    assert [axes.get_title() for axes in panels] == ["1 operation (2)", "2 operations (4)", ""]
    for axes, group in zip(panels, content["groups"].values(), strict=False):
        base, trained, blind = axes.get_lines()
        assert list(base.get_ydata()) == group["models"]["base"]["pass_at_k_correct"]
        assert list(trained.get_ydata()) == group["models"]["runs/trained"]["pass_at_k_correct"]
        assert list(blind.get_ydata()) == group["chance"]
        assert list(blind.get_xdata()) == [1, 2, 4]


def test_the_histogram_has_a_bar_for_every_bin_and_model(drawn):
    content = hand_made(THREE)
    axes = drawn(pictures.histogram, content)
    assert len(axes.containers) == 3
    for bars, result in zip(axes.containers, content["models"].values(), strict=True):
        assert [bar.get_height() for bar in bars] == result["histogram_correct"]
        # a bar stands within a half of the tick of its bin
        assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == list(range(12))
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert (len(ticks), ticks[0], ticks[1], ticks[9], ticks[11]) == (12, "0", "to .1", "to .9", "1")


def test_the_bars_of_coverage_are_as_long_as_the_cells_have_problems(drawn):
    content = hand_made(THREE)
    axes = drawn(pictures.coverage, content)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["trained", "third"]
    cells = ("both", "base_only", "trained_only", "neither")
    assert [bars.get_label() for bars in axes.containers[:4]] == ["both", "base only", "trained only", "neither"]
    for row, pair in enumerate(content["compared"].values()):
        widths = [bars[0].get_width() for bars in axes.containers[4 * row : 4 * row + 4]]
        assert widths == [len(pair["coverage_correct"][cell]) for cell in cells]
        assert sum(widths) == 4


def test_the_boxes_of_perplexity_are_over_the_medians_of_the_problems(drawn):
    content = hand_made({"base": [2, 1, 1, 0], "runs/trained": [4, 4, 0, 0]})
    rows = [("base", "base", [1.0, 2.0, 6.0]), ("runs/trained", "base", [3.0]), ("runs/trained", "runs/trained", [9.0])]
    content["perplexity"] = [
        {"writer": writer, "reader": reader, "problems": dict(enumerate(values))} for writer, reader, values in rows
    ]
    axes = drawn(pictures.perplexity, content)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["base\nunder base", "trained\nunder base", "trained\nunder trained"]
    middles = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linewidth() == 2]
    assert middles == [2.0, 3.0, 9.0]


def test_training_is_drawn_a_panel_for_each_metric_with_a_line_for_each_run(drawn):
    content = {"models": dict.fromkeys(["base", "runs/a", "runs/b"], {})}
    content["runs"] = {
        "runs/a": {"traces": {"accuracy": [[0, 1, 2], [0.1, 0.2, 0.4]], "entropy": [[0, 1, 2], [3, 2, 1]]}},
        "runs/b": {"traces": {"accuracy": [[0, 1], [0.3, 0.5]]}},
    }
    first, second = drawn(pictures.training, content).figure.axes
    assert [axes.get_title() for axes in (first, second)] == ["accuracy", "entropy"]
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in first.get_lines()}
    assert lines == {"a": ([0, 1, 2], [0.1, 0.2, 0.4]), "b": ([0, 1], [0.3, 0.5])}
    assert [list(line.get_ydata()) for line in second.get_lines()] == [[3, 2, 1]]
    colors = [line.get_color() for line in first.get_lines()]
    assert colors == [pictures.line_color(1), pictures.line_color(2)]  # as in the pictures of the study
    assert [text.get_text() for text in first.figure.legends[0].get_texts()] == ["a", "b"]


def test_a_picture_is_also_drawn_as_svg_the_same_each_time_and_with_nothing_of_the_day_in_it(tmp_path):
    content = hand_made({"a $x$ <b>&": [2, 1], "runs/trained": [4, 0]})  # a dollar begins no formula
    first, again = (pictures.histogram(content, tmp_path / "histogram.png") for _ in range(2))
    assert first == again
    assert (tmp_path / "histogram.png").read_bytes().startswith(b"\x89PNG")
    assert "<dc:date>" not in first
    assert ">a $x$ &lt;b&gt;&amp;</text>" in first


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_asks_for_nothing(finished):
    text = (finished / "report.html").read_text()
    assert text.count("<svg ") == text.count("</svg>") == 6
    assert "default-src 'none'" in text
    assert re.findall(r'<tr class="group"><th[^>]*><span>(\d) operations?: 2 problems<', text) == list("123456")
    # No address at all outside of the data.
    rest = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S)
    assert not re.findall(r"(?:https?:)?//[a-z]", rest)
    assert "{{" not in text


def test_all_that_is_named_on_the_page_is_named_once_and_all_that_is_referred_to_is_there(finished):
    text = (finished / "report.html").read_text().partition('<script type="application/json"')[0]
    names = re.findall(r'\sid="([^"]*)"', text)
    assert len(names) == len(set(names)) > 20
    links = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text))
    assert len(links) > 20
    assert {link or url for link, url in links} <= set(names)


def test_the_page_begins_with_the_verdict_and_ends_with_how_the_models_were_made(finished):
    text = (finished / "report.html").read_text()
    content = content_of(finished)
    assert text.index(verdict(content).answer) < text.index("<h2")
    heads = [html.unescape(head) for head in re.findall(r"<h2[^>]*>([^<]*)</h2>", text)]
    made = ["How was it trained?", "With which settings was it trained?", "With which settings was it measured?"]
    assert heads == [table.question for table in report.tables(content)] + ["What do they say?", *made]
    links = re.findall(r'<li><a href="#[^"]+">([^<]*)</a></li>', text)
    assert list(map(html.unescape, links)) == heads
    assert '<tr><th scope="row">trained</th><td>4</td><td>0.000 to 0.750</td><td>0.000 to 1.500</td></tr>' in text
    assert '<tr><th scope="row">--kl</th><td>0.5</td><td>0.005</td></tr>' in text
    assert f"<dt>pass@k</dt><dd>{WORDS['pass@k']}</dd>" in text


def test_what_a_model_wrote_is_never_markup(finished, svgs):
    content = content_of(finished)
    model = next(iter(content["models"]))
    problems = [Problem(HOSTILE, HOSTILE)] * 12
    text = page.page(content, problems, [record(model, 0, 0, text=HOSTILE)], svgs)
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img src=x" not in text
    assert data_of(text)["problems"][0]["samples"][0]["pieces"][0] == HOSTILE


def renamed(content: dict, names: list[str]) -> dict:
    """The report of a study of two models, with other names for them."""
    old = dict(zip(content["models"], names, strict=True))
    for part in ("models", "compared", "runs"):
        content[part] = {old[name]: value for name, value in content[part].items()}
    for group in content["groups"].values():
        group["models"] = dict(zip(names, group["models"].values(), strict=True))
    for row in content["perplexity"]:
        row.update({who: old.get(row[who], row[who]) for who in ("writer", "reader")})
    return content


def test_the_name_of_a_model_is_never_markup(finished, tmp_path):
    names = [HOSTILE, '" onmouseover="document.title=1']
    content = renamed(content_of(finished), names)
    content["runs"][names[1]]["settings"] |= {"model": HOSTILE, "kl": HOSTILE}
    content["chance"]["name"] = "blind guess"
    svgs = {name: draw(content, tmp_path / name) for name, draw in pictures.PICTURES.items()}
    text = page.page(content, [Problem("1+1=", "2")] * 12, [record(name, 0, 0) for name in names], svgs)
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img src=x" not in text
    assert not re.findall(r"<[^<>]*onmouseover", text.partition("<script")[0])
    assert text.count("&lt;img src=x") > 10  # in the subtitle, in tables and in pictures
    assert data_of(text)["models"] == names


@pytest.mark.parametrize("names", [[HOSTILE], ["base", f"{HOSTILE}1", f"{HOSTILE}2"]])
def test_the_name_of_a_model_in_the_verdict_is_never_markup(names):
    text = page.verdict_box(hand_made({name: [1, 2] for name in names}))
    assert text.count("&lt;img src=x") == max(1, len(names) - 1)
    assert not re.search("<script|<img", text)


def test_every_picture_is_described_in_words(finished):
    text = (finished / "report.html").read_text()
    alts = re.findall(r'<svg role="img" aria-label="([^"]*)"', text)
    tables = [*report.tables(content_of(finished)), training.training_table(content_of(finished))]
    assert alts == [f"{table.question} The table below has the numbers." for table in tables if table.picture]


def test_the_page_opens_on_what_training_lost_unless_by_luck_or_on_what_changed_most():
    def opened(*right, shown=range(4)):
        found = page.worth_reading(list(right), 16, list(shown))
        return found["problem"], found["model"], found["why"]

    lost = "Of the problems that training lost, the base solved this one most often: {} of 16 samples."
    assert opened([16, 3, 5, 9], [0, 0, 0, 9]) == (0, 1, lost.format(16))
    assert opened([16, 3, 5, 9], [1, 0, 0, 16]) == (2, 1, lost.format(5))
    assert opened([16, 3, 5, 9], [1, 0, 0, 16], shown=[1, 3]) == (
        1,
        1,
        lost.format(3),
    )  # the others are not on the page
    assert opened([4, 4, 4, 4], [4, 4, 4, 4], [4, 4, 0, 0]) == (2, 2, lost.format(4))
    changed = "No problem changed more: {} of 16 samples were right before, {} after."
    assert opened([2, 2, 5, 9], [0, 0, 6, 1]) == (3, 1, changed.format(9, 1))  # solved twice may be luck
    assert opened([2, 2, 5, 9], [2, 2, 5, 9], [2, 16, 5, 9]) == (1, 2, changed.format(2, 16))
    assert opened([1, 1, 1, 1], [1, 1, 1, 1]) == (0, 1, "")
    assert opened([0, 9, 2, 16]) == (2, 0, "The hardest problem that was solved: 2 of 16 samples were right.")
    assert opened([0, 0, 0, 0], shown=[3]) == (3, 0, "")


def test_what_is_worth_reading_is_not_chosen_among_models_at_another_temperature(finished):
    content = content_of(finished)
    (base, first), (trained, second) = content["models"].items()
    first["counts_correct"], second["counts_correct"] = [4] * 12, [4, 3, *[4] * 10]
    content["models"][f"{trained} at T=2"] = {**second, "temperature": 2.0, "counts_correct": [0] * 12}
    records = [record(name, i, 0) for name in (base, trained) for i in range(12)]
    shown = page.samples_on_page(content, [Problem("1+1=", "2")] * 12, records)
    assert (shown["opens"]["problem"], shown["opens"]["model"]) == (1, 1)


def test_every_value_has_its_own_name_from_the_record_to_the_menu(finished):
    """In the record, in the page's data, in the menu and in what is read aloud: none is swapped."""
    content = content_of(finished)
    model = next(iter(content["models"]))
    records = [
        record(model, 0, 0, tokens=2, logps=[-0.125, -2.0], certainty=[3.25, 1.5], correct=False, truncated=True)
    ]
    records.append({**record(model, 0, 1, valid=False), "pieces": ["whole"], "logps": [-1.0], "certainty": [0.5]})
    text = page.page(content, [Problem("1+1=", "2")] * 12, records, {})
    first, second = data_of(text)["problems"][0]["samples"]
    assert first == {
        "model": model,
        "sample": 0,
        "right": False,
        "valid": False,
        "truncated": True,
        "pieces": ["first, ", "first, "],
        "certainty": [3.25, 1.5],
        "logps": [-0.12, -2.0],
    }
    assert (second["right"], second["valid"], second["truncated"]) == (True, False, False)
    assert (second["certainty"], second["logps"]) == ([0.5], [-1.0])
    menu = dict(re.findall(r'<option value="(\w*)">([^<]*)</option>', text))
    assert menu == {"certainty": "self-certainty", "logps": "log-probability", "": "nothing"}
    assert "log-probability ${logps[here].toFixed(2)}, self-certainty ${certainty[here].toFixed(2)} nats" in text
    shown = data_of(text)
    assert (shown["n"], shown["total"], shown["shaded"], shown["chains"]) == (4, 12, True, True)
    counts = [result["counts_correct"][0] for result in content["models"].values()]
    assert shown["problems"][0]["right"] == counts
    # Without values (--perplexity 0) a sample is its text.
    bare = {key: value for key, value in records[0].items() if key not in ("pieces", "logps", "certainty")}
    shown = data_of(page.page(content, [Problem("1+1=", "2")] * 12, [bare], {}))
    assert shown["shaded"] is False
    assert shown["problems"][0]["samples"][0]["pieces"] == ["first, "]


def test_a_long_problem_is_cut_on_the_page_and_the_chosen_records_keep_their_order(finished, monkeypatch):
    content = content_of(finished)
    model = next(iter(content["models"]))
    text = page.page(content, [Problem("1" * 5000, "2" * 5000)] * 12, [record(model, 0, 0)], {})
    assert [len(data_of(text)["problems"][0][name]) for name in ("prompt", "answer")] == [1000, 1000]
    records = [{"model": m, "problem": i, "sample": 0, "tokens": [0] * 10} for m in "ab" for i in range(3)]
    monkeypatch.setattr(page, "ROOM", 450)  # for two problems of both models, at ten bytes a token
    assert page.choose(records) == [r for r in records if r["problem"] < 2]


def test_a_large_study_stays_under_five_megabytes_and_leaves_no_problem_out(finished, svgs):
    content = content_of(finished)
    models = list(content["models"])
    records = [record(m, i, j, tokens=60) for m in models for i in range(180) for j in range(24)]
    for result in content["models"].values():
        result["counts_correct"] = [1] * 180
    text = page.page(content, [Problem("1+1=", "2")] * 180, records, svgs)
    assert 3_000_000 < len(text.encode()) < 5_000_000
    shown = data_of(text)["problems"]
    assert [problem["index"] for problem in shown] == list(range(180))
    numbers = [sum(entry["model"] == m for entry in problem["samples"]) for problem in shown for m in models]
    assert max(numbers) - min(numbers) <= 1  # every problem and model has as many, up to the last round
    # Where not all fit, what is there of a problem is there of all models; what does not fit keeps no other out.
    long = [record(m, i, j, tokens=90 if i else 2_000) for m in models for i in range(3) for j in range(2)]
    found = page.in_rounds(long, 5_000, lambda r: 10 * len(r["pieces"]))
    assert [(r["problem"], r["model"], r["sample"]) for r in found] == [(i, m, 0) for i in (1, 2) for m in models]


# --- in a browser ---------------------------------------------------------------------------------------------------


class Browser:
    """A headless Chromium, asked through ChromeDriver's own protocol (W3C WebDriver)."""

    FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
    FLAGS += ("--disable-background-networking", "--disable-component-update")

    def __init__(self, profile):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.call("GET", "/status")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        options = {"args": [*self.FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/session/{session['sessionId']}"

    def call(self, method, path, body=None):
        coded = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, coded, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def open(self, file, width=1366, scheme="light"):
        size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        for command, values in {"setDeviceMetricsOverride": size, "setEmulatedMedia": media}.items():
            self.call("POST", "/goog/cdp/execute", {"cmd": f"Emulation.{command}", "params": values})
        self.call("POST", "/url", {"url": f"file://{file}"})

    def choose(self, menu, value):
        self.run(
            f"(document.getElementById('{menu}').value = '{value}', "
            f"document.getElementById('{menu}').dispatchEvent(new Event('change')))"
        )

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def close(self):
        self.call("DELETE", "")
        self.driver.kill()
        self.driver.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromedriver"):
        pytest.skip("needs chromedriver and chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("width", [1366, 375])
def test_the_page_in_a_browser(browser, finished, tmp_path, width):
    # The trained model, which is the base under another name, is made to have solved one problem that the base has not.
    text, content = (finished / "report.html").read_text(), content_of(finished)
    before, coded, after = re.split(r'(?<=id="data">)(.*?)(?=</script>)', text, maxsplit=1, flags=re.S)
    shown = json.loads(coded)
    base, trained = (result["counts_correct"] for result in content["models"].values())
    only = base.index(0)
    for problem in shown["problems"]:
        problem["right"][1] = trained[problem["index"]] = 4 * (problem["index"] == only)
    shown["opens"] = {"problem": 3, "model": 1, "why": "It changed most."}
    file = tmp_path / "report.html"
    file.write_text(before + json.dumps(shown).replace("<", "\\u003c") + after)
    browser.log("browser"), browser.log("performance")
    browser.open(file, width)
    tab, right, left, down = "\ue004", "\ue014", "\ue012", "\ue015"

    def focused():
        return browser.run(
            "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
        )

    assert browser.run("document.documentElement.scrollWidth") <= width  # nothing sticks out sideways
    outside = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.wide, svg'))"
    assert browser.run(f"Math.max(...{outside}.map(e => e.getBoundingClientRect().right))") <= width
    assert browser.run("[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 300)")
    # Of each table that is wider than its box it is said that it scrolls, and the keyboard can reach it.
    boxes = "[...document.querySelectorAll('.wide')]"
    wider = browser.run(f"{boxes}.map(e => e.scrollWidth > e.clientWidth)")
    assert browser.run(f"{boxes}.map(e => e.previousElementSibling.offsetHeight > 10)") == wider
    assert browser.run(f"{boxes}.map(e => e.tabIndex === 0)") == wider
    assert sum(wider) >= 3 if width == 375 else not any(wider)

    # It opens on the problem that was chosen, and says why; the base and the trained model are side by side.
    assert browser.run("document.getElementById('problem').value") == "3"
    assert browser.run("document.querySelector('.problem').lastChild.textContent") == "It changed most."
    counts = [result["counts_correct"][3] for result in content["models"].values()]
    heads = browser.run("[...document.querySelectorAll('#shown h3')].map(h => h.textContent)")
    assert heads == [f"{model}: {c} of 4 right" for model, c in zip(content["models"], counts, strict=True)]
    who = browser.run(
        "[...document.querySelectorAll('.sample')].map(s => [s.querySelector('.who').textContent, s.ariaLabel])"
    )
    assert [name for name, _ in who] == 4 * list(content["models"])
    assert [re.search(r"sample (\d)", label)[1] for _, label in who] == list("00112233")
    places = browser.run("[...document.querySelectorAll('.sample')].map(s => [s.offsetLeft, s.offsetTop])")
    for (x, y), (x2, y2) in zip(places[::2], places[1::2], strict=True):
        assert (x < x2 and y == y2) if width == 1366 else (x == x2 and y < y2)
    assert browser.run("document.querySelector('.who').offsetHeight > 10") == (
        width == 375
    )  # where there are no columns

    # By keyboard alone: to the menu of problems, to the next problem, to a sample, through its tokens.
    for _ in range(60):
        browser.press(tab)
        if focused() == "problem":
            break
    assert focused() == "problem"
    browser.press(down)
    assert browser.run("document.getElementById('problem').selectedIndex") == 4
    assert browser.run("document.querySelector('#shown .text').textContent") == browser.run("data.problems[4].prompt")
    assert "changed most" not in browser.run("document.getElementById('shown').textContent")
    for _ in range(10):
        browser.press(tab)
        if focused().startswith("sample"):
            break
    assert focused().startswith("sample")
    browser.press(right, right, left, right)
    values = browser.run("[data.problems[4].samples[0].certainty[1], data.problems[4].samples[0].logps[1]]")
    reading = browser.run("document.getElementById('reading').textContent")
    assert reading.startswith("token 2 of ")
    assert f"log-probability {values[1]:.2f}, self-certainty {values[0]:.2f} nats" in reading

    # The least sure token shown is the darkest one.
    shades = "[...document.querySelectorAll('.sample')]"
    shades += ".flatMap(box => box.spans.map((s, i) => [box.values.certainty[i], s.style.backgroundColor]))"
    strength = [
        (value, float(re.search(r"([\d.]+)\)$", color)[1]) if "rgba" in color else 1.0)
        for value, color in browser.run(shades)
    ]
    assert max(strength)[1] < min(strength)[1]
    assert len({s for _, s in strength}) > 2
    browser.choose("shade", "logps")
    by_logp = browser.run(shades.replace("certainty", "logps"))
    strength = [(v, float(re.search(r"([\d.]+)\)$", color)[1]) if "rgba" in color else 1.0) for v, color in by_logp]
    assert max(strength)[1] < min(strength)[1]
    assert [s for _, s in sorted(strength)] == sorted((s for _, s in strength), reverse=True)
    browser.choose("shade", "")
    assert set(browser.run("[...document.querySelectorAll('.text span')].map(s => s.style.backgroundColor)")) == {""}

    # Choosing who solved them leaves those problems alone.
    wanted = {1: [i for i in range(12) if base[i]], 2: [only], 3: [i for i in range(12) if not base[i] and i != only]}
    wanted[4] = []  # by both
    assert wanted[1]
    assert wanted[3]
    for choice, expected in wanted.items():
        browser.choose("solved", choice)
        assert browser.run("[...document.getElementById('problem').options].map(o => Number(o.value))") == expected
        assert (browser.run("document.getElementById('shown').textContent") == "No such problem.") == (not expected)

    assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = [r["request"]["url"] for r in asked if r["documentURL"] == f"file://{file}"]  # not the browser's own
    assert urls.count(f"file://{file}") == 1
    assert all(url == f"file://{file}" or url.startswith("data:") for url in urls)


def contrast(*colors: str) -> float:
    """The contrast of two colours, each with red, green and blue in its first three numbers: 1 to 21 (WCAG 2.2)."""

    def luminance(color):
        shares = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    dark, light = sorted(map(luminance, colors))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_light_or_dark_as_the_readers_other_pages_and_readable(browser, finished, scheme):
    browser.open(finished / "report.html", scheme=scheme)
    style = "getComputedStyle(document.body)"
    ink, paper = browser.run(f"[{style}.color, {style}.backgroundColor]")
    assert contrast(ink, paper) > 12
    assert (contrast(paper, "0 0 0") < 2) == (scheme == "dark")
    assert contrast(ink, browser.run(f"{style}.getPropertyValue('--shade')")) > 5  # on the least sure token
    assert contrast(ink, browser.run("getComputedStyle(document.querySelector('.verdict')).backgroundColor")) > 12
    assert ("invert" in browser.run("getComputedStyle(document.querySelector('svg')).filter")) == (scheme == "dark")
    assert browser.run("document.querySelector('svg').querySelector('path').style.fill") == "none"  # no white ground


def test_of_several_models_one_is_read_beside_the_base_and_more_samples_are_there_on_demand(
    browser, finished, tmp_path
):
    content = content_of(finished)
    (base, first), (_, second) = content["models"].items()
    names = [base, "second", "third"]
    counts = [4] * 12, [4, 1, *[4] * 10], [0, *[4] * 11]
    content["models"] = {name: {**first, "counts_correct": c} for name, c in zip(names, counts, strict=True)}
    content["compared"] = dict.fromkeys(names[1:], next(iter(content["compared"].values())))
    content["perplexity"], content["groups"], content["runs"] = [], {}, {}
    # The third model has a sample 7, right, and no sample 5.
    records = [record(name, i, j) for name in names for i in range(12) for j in range(6) if (name, j) != ("third", 5)]
    records += [record("third", i, 7) for i in range(12)]
    (tmp_path / "page.html").write_text(page.page(content, [Problem("1+1=", "2")] * 12, records, {}), encoding="utf-8")
    browser.log("browser")
    browser.open(tmp_path / "page.html")

    def heads():
        return browser.run("[...document.querySelectorAll('#shown h3')].map(h => h.textContent)")

    def numbers():  # a row each
        cells = browser.run("[...document.querySelectorAll('.pairs > div')].map(d => d.ariaLabel || '')")
        found = [int(re.search(r"sample (\d)", cell)[1]) if cell else None for cell in cells]
        return list(zip(found[::2], found[1::2], strict=True))

    assert heads() == [f"{base}: 4 of 4 right", "third: 0 of 4 right"]  # what training lost most
    assert numbers() == [(j, j) for j in range(4)]
    assert browser.run("document.getElementById('more').textContent") == "Show 3 more pairs"
    browser.run("document.getElementById('more').click()")
    assert numbers() == [*((j, j) for j in range(5)), (5, None), (None, 7)]
    assert browser.run("document.activeElement.ariaLabel") == f"{base}, sample 4, ✓ right"
    browser.choose("compare", 1)
    assert heads() == [f"{base}: 4 of 4 right", "second: 4 of 4 right"]
    assert "most often" not in browser.run("document.getElementById('shown').textContent")  # that was about the third
    menu = browser.run("[...document.getElementById('solved').options].map(o => o.textContent)")
    assert menu[1:3] == ["solved by the base only, not second (0)", "solved by second only, not the base (0)"]
    assert browser.log("browser") == []


def test_what_a_model_wrote_or_is_called_runs_nothing_in_a_browser(browser, finished, tmp_path):
    content = content_of(finished)
    content["models"] = {HOSTILE: next(iter(content["models"].values()))}
    content["compared"], content["perplexity"], content["groups"] = {}, [], {}
    content["runs"] = {HOSTILE: {"settings": {"model": HOSTILE}, "defaults": {}, "traces": {"loss": [[0], [1.0]]}}}
    drawn = [pictures.pass_at_k, pictures.histogram, pictures.training]
    svgs = {name: draw(content, tmp_path / name) for name, draw in pictures.PICTURES.items() if draw in drawn}
    verdicts = {
        "✓ right": {"valid": True},
        "✓ right, but no valid chain": {"valid": False},
        "✗ wrong": {"correct": False},
        "✗ wrong: cut off": {"correct": False, "truncated": True},
    }
    records = [record(HOSTILE, 0, j, text=HOSTILE, **more) for j, more in enumerate(verdicts.values())]
    text = page.page(content, [Problem(HOSTILE, HOSTILE)] * 12, records, svgs)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "page.html")
    assert browser.run("document.title") == "What did training teach?"
    assert browser.run("document.querySelector('.sample .text span').textContent") == HOSTILE
    assert browser.run("document.querySelector('#shown h3').textContent").startswith(f"{HOSTILE}: ")
    assert browser.run("[...document.querySelectorAll('.mark')].map(m => m.textContent)") == list(verdicts)
    assert browser.run("document.images.length") == 0
    assert (
        browser.run("[...document.querySelectorAll('svg text')].filter(t => t.textContent.includes('onerror')).length")
        == 4
    )
