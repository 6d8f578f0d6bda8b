"""report.py, page.py and pictures.py: what a reader sees, in a real browser where there is one."""

import base64
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
from study import analysis, page, pictures, report
from study.samples import Entry

HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">{{DATA}} & \u2028"


@pytest.fixture(scope="session")
def finished(base, tmp_path_factory):
    """The folder of a small study of one model under two names."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(base, folder / "trained")
    flags = ["--samples", "4", "--limit", "12", "--perplexity", "2", "--out", str(folder / "out")]
    assert evaluation.main([str(base), str(folder / "trained"), *flags]) == 0
    return folder / "out"


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


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_asks_for_nothing(finished):
    text = (finished / "report.html").read_text()
    assert text.count('<img alt="') == text.count('src="data:image/png;base64,') == 5
    assert "default-src 'none'" in text
    assert re.findall(r'<tr class="group"><th[^>]*>(\d) operations?: 2 problems<', text) == list("123456")
    # No address at all outside of the data and the pictures.
    rest = re.sub(r'<script type="application/json".*?</script>|data:image/png;base64,[^"]*', "", text, flags=re.S)
    assert not re.findall(r"(?:https?:)?//[a-z]", rest)
    assert "{{" not in text


def test_what_a_model_wrote_is_never_markup(finished):
    content = content_of(finished)
    model = next(iter(content["models"]))
    problems = [Problem(HOSTILE, HOSTILE)] * 12
    text = page.page(content, problems, [record(model, 0, 0, text=HOSTILE)], finished)
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img src=x" not in text
    assert data_of(text)["problems"][0]["samples"][0]["pieces"][0] == HOSTILE


def test_the_name_of_a_model_is_never_markup(finished):
    content = content_of(finished)
    names = [HOSTILE, '" onmouseover="document.title=1']
    for part in ("models", "compared"):
        content[part] = dict(zip(names[-len(content[part]) :], content[part].values(), strict=True))
    for group in content["groups"].values():
        group["models"] = dict(zip(names, group["models"].values(), strict=True))
    old = dict(zip(content_of(finished)["models"], names, strict=True))
    for row in content["perplexity"]:
        row.update({who: old.get(row[who], row[who]) for who in ("writer", "reader")})
    text = page.page(content, [Problem("1+1=", "2")] * 12, [record(name, 0, 0) for name in names], finished)
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img src=x" not in text
    assert not re.findall(r"<[^<>]*onmouseover", text.partition("<script")[0])
    assert text.count("&lt;img src=x") > 5  # in the subtitle and in the tables
    assert data_of(text)["models"] == names


def test_every_picture_is_described_in_words(finished):
    text = (finished / "report.html").read_text()
    alts = re.findall(r'<img alt="([^"]*)"', text)
    questions = [table.question for table in report.tables(content_of(finished)) if table.picture]
    assert alts == [f"{question} The table below has the numbers." for question in questions]


def test_every_value_has_its_own_name_from_the_record_to_the_menu(finished):
    """In the record, in the page's data, in the menu and in what is read aloud: none is swapped."""
    content = content_of(finished)
    model = next(iter(content["models"]))
    records = [
        record(model, 0, 0, tokens=2, logps=[-0.125, -2.0], certainty=[3.25, 1.5], correct=False, truncated=True)
    ]
    records.append({**record(model, 0, 1, valid=False), "pieces": ["whole"], "logps": [-1.0], "certainty": [0.5]})
    text = page.page(content, [Problem("1+1=", "2")] * 12, records, finished)
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
    shown = data_of(page.page(content, [Problem("1+1=", "2")] * 12, [bare], finished))
    assert shown["shaded"] is False
    assert shown["problems"][0]["samples"][0]["pieces"] == ["first, "]


def test_a_long_problem_is_cut_on_the_page_and_the_chosen_records_keep_their_order(finished, monkeypatch):
    content = content_of(finished)
    model = next(iter(content["models"]))
    text = page.page(content, [Problem("1" * 5000, "2" * 5000)] * 12, [record(model, 0, 0)], finished)
    assert [len(data_of(text)["problems"][0][name]) for name in ("prompt", "answer")] == [1000, 1000]
    records = [{"model": m, "problem": i, "sample": 0, "tokens": [0] * 10} for m in "ab" for i in range(3)]
    monkeypatch.setattr(page, "ROOM", 450)  # for two problems of both models, at ten bytes a token
    assert page.choose(records) == [r for r in records if r["problem"] < 2]


def test_a_large_study_stays_under_five_megabytes_and_leaves_no_problem_out(finished):
    content = content_of(finished)
    models = list(content["models"])
    records = [record(m, i, j, tokens=60) for m in models for i in range(180) for j in range(64)]
    for result in content["models"].values():
        result["counts_correct"] = [1] * 180
    text = page.page(content, [Problem("1+1=", "2")] * 180, records, finished)
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
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})
    # The trained model, which is the base under another name, is made to have solved one problem that the base has not.
    text, content = (finished / "report.html").read_text(), content_of(finished)
    before, coded, after = re.split(r'(?<=id="data">)(.*?)(?=</script>)', text, maxsplit=1, flags=re.S)
    shown = json.loads(coded)
    base, trained = (result["counts_correct"] for result in content["models"].values())
    only = base.index(0)
    for problem in shown["problems"]:
        problem["right"][1] = trained[problem["index"]] = 4 * (problem["index"] == only)
    file = tmp_path / "report.html"
    file.write_text(before + json.dumps(shown).replace("<", "\\u003c") + after)
    browser.log("browser"), browser.log("performance")
    browser.call("POST", "/url", {"url": f"file://{file}"})
    tab, right, left, down = "\ue004", "\ue014", "\ue012", "\ue015"

    def focused():
        return browser.run(
            "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
        )

    assert browser.run("document.documentElement.scrollWidth") <= width  # nothing sticks out sideways
    assert browser.run("[...document.images].map(i => i.complete && i.naturalWidth > 100)") == [True] * 5
    assert browser.run("[...document.images].every(i => i.alt.length > 10)")
    counts = [result["counts_correct"][0] for result in content["models"].values()]
    heads = browser.run("[...document.querySelectorAll('#shown h3')].map(h => h.textContent)")
    assert heads == [f"{model}: {c} of 4 right" for model, c in zip(content["models"], counts, strict=True)]

    # By keyboard alone: to the menu of problems, to the next problem, to a sample, through its tokens.
    for _ in range(40):
        browser.press(tab)
        if focused() == "problem":
            break
    assert focused() == "problem"
    browser.press(down)
    assert browser.run("document.getElementById('problem').selectedIndex") == 1
    assert browser.run("document.querySelector('#shown .text').textContent") == browser.run("data.problems[1].prompt")
    for _ in range(10):
        browser.press(tab)
        if focused().startswith("sample"):
            break
    assert focused().startswith("sample")
    browser.press(right, right, left, right)
    values = browser.run("[data.problems[1].samples[0].certainty[1], data.problems[1].samples[0].logps[1]]")
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
    pick = "(document.getElementById('{0}').value = '{1}', "
    pick += "document.getElementById('{0}').dispatchEvent(new Event('change')))"
    browser.run(pick.format("shade", "logps"))
    by_logp = browser.run(shades.replace("certainty", "logps"))
    strength = [(v, float(re.search(r"([\d.]+)\)$", color)[1]) if "rgba" in color else 1.0) for v, color in by_logp]
    assert max(strength)[1] < min(strength)[1]
    assert [s for _, s in sorted(strength)] == sorted((s for _, s in strength), reverse=True)
    browser.run(pick.format("shade", ""))
    assert set(browser.run("[...document.querySelectorAll('.text span')].map(s => s.style.backgroundColor)")) == {""}

    # Choosing who solved them leaves those problems alone.
    wanted = {1: [i for i in range(12) if base[i]], 2: [only], 3: [i for i in range(12) if not base[i] and i != only]}
    assert wanted[1]
    assert wanted[3]
    for choice, expected in wanted.items():
        browser.run(pick.format("solved", choice))
        assert browser.run("[...document.getElementById('problem').options].map(o => Number(o.value))") == expected
        assert (browser.run("document.getElementById('shown').textContent") == "No such problem.") == (not expected)

    assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = [r["request"]["url"] for r in asked if r["documentURL"] == f"file://{file}"]  # not the browser's own
    assert urls.count(f"file://{file}") == 1
    assert all(url == f"file://{file}" or url.startswith("data:") for url in urls)


def test_what_a_model_wrote_or_is_called_runs_nothing_in_a_browser(browser, finished, tmp_path):
    content = content_of(finished)
    content["models"] = {HOSTILE: next(iter(content["models"].values()))}
    content["compared"], content["perplexity"], content["groups"] = {}, [], {}
    verdicts = {
        "✓ right": {"valid": True},
        "✓ right, but no valid chain": {"valid": False},
        "✗ wrong": {"correct": False},
        "✗ wrong: cut off": {"correct": False, "truncated": True},
    }
    records = [record(HOSTILE, 0, j, text=HOSTILE, **more) for j, more in enumerate(verdicts.values())]
    text = page.page(content, [Problem(HOSTILE, HOSTILE)] * 12, records, finished)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    browser.call("POST", "/url", {"url": f"file://{tmp_path}/page.html"})
    assert browser.run("document.title") == "What did training teach?"
    assert browser.run("document.querySelector('.sample .text span').textContent") == HOSTILE
    assert browser.run("document.querySelector('#shown h3').textContent").startswith(f"{HOSTILE}: ")
    assert browser.run("[...document.querySelectorAll('.mark')].map(m => m.textContent)") == list(verdicts)
    assert browser.run("document.images.length") == 2
    shot = browser.call("GET", "/screenshot")
    assert len(base64.b64decode(shot)) > 5_000
