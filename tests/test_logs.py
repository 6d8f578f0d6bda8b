"""What a step of training logs, shows and warns about, each number worked by hand."""

import json
import sys
import warnings
import weakref
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from data import Problem
from generate import Rollouts
from rewards import Graded
from running.logs import describe, harmless, in_one_line, parted, progress, some_samples, stopwatch, warn
from study import pictures
from study.compare import stored

RESULTS = Path(__file__).parent.parent / "results"


def hand_made() -> Graded:
    """Two problems, two rollouts each: completions of 2, 1, 3 and 2 tokens behind a prompt of 1."""
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1], [0, 1, 1, 0]])
    certainty = mask * torch.tensor([[9.0, 1, 3, 9], [9, 4, 9, 9], [9, 1, 2, 6], [9, 0, 1, 9]])
    entropy = mask * torch.tensor([[9.0, 1, 1, 9], [9, 2, 9, 9], [9, 1, 1, 1], [9, 0, 1, 9]])
    truncated = torch.tensor([False, False, True, False])
    rollouts = Rollouts(mask.clone(), mask, torch.ones(4), mask.float(), certainty, entropy, truncated)
    problems = [Problem("p", "1", "number"), Problem("q", "2", "number")]
    return Graded(problems, rollouts, ["a", "b", "c", "d"], ["1", "3", None, "3"], [True, False, False, False])


TOTAL = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
ADVANTAGES = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
MEASURED = {"loss": 0.5, "sampling_gap": 1e-6, "seconds_generate": 1.0, "seconds_reward": 0.5, "seconds_train": 2.5}


def test_every_metric_of_a_step():
    metrics = describe(hand_made(), {"correct": TOTAL}, TOTAL, MEASURED)
    expected = {
        "reward_mean": 1.0,
        "reward_std": (2 / 3) ** 0.5,
        "accuracy": 1 / 4,
        "answered": 3 / 4,
        "self_certainty": (2 + 4 + 3 + 0.5) / 4,  # the mean of each completion's mean
        "entropy": (2 + 2 + 3 + 1) / 8,  # the mean over all tokens
        "completion_tokens": 8 / 4,
        "truncated": 1 / 4,
        "zero_std_groups": 1 / 2,
        "pairwise_accuracy": 1.0,  # of the one pair with a right and a wrong rollout
        "unique_answers": (2 + 1) / 2,
        "tokens_per_second": 8 / 4,
        **MEASURED,
    }
    assert metrics == pytest.approx(expected)
    both = describe(hand_made(), {"correct": TOTAL, "length": 3 * TOTAL}, TOTAL, MEASURED)
    assert both == pytest.approx({**expected, "reward_correct": 1.0, "reward_length": 3.0})


def test_the_samples_are_the_first_rollout_of_each_problem():
    first, second = some_samples(7, hand_made(), TOTAL)
    assert first == {
        "step": 7,
        "prompt": "p",
        "completion": "a",
        "gold": "1",
        "correct": True,
        "reward": 2.0,
        "truncated": False,
    }
    assert (second["completion"], second["gold"], second["reward"], second["truncated"]) == ("c", "2", 1.0, True)


def test_what_nobody_knows_the_answer_to_is_neither_right_nor_wrong():
    graded = hand_made()
    graded = replace(graded, problems=[Problem("p", "1"), Problem("q", None)], right=[True, False, None, None])
    reward = torch.tensor([[0.0, 2.0], [2.0, 1.0]])
    half = describe(graded, {"my.py:brevity": reward, "length": reward}, reward, MEASURED)
    assert (half["accuracy"], half["pairwise_accuracy"], half["answered"]) == (0.5, 0.0, 0.75)
    assert half["reward_brevity"] == 1.25  # without the file: a metric has one word
    known, unknown = some_samples(0, graded, reward)
    assert (known["gold"], known["correct"], unknown["gold"], unknown["correct"]) == ("1", True, None, None)
    assert in_one_line(unknown).startswith("step 0    -  ")
    none = describe(replace(graded, right=[None] * 4), {"length": reward}, reward, MEASURED)
    assert none["accuracy"] is none["pairwise_accuracy"] is None
    assert "accuracy -, " in progress(none)
    assert "accuracy 0.50, " in progress(half)


def test_steps_without_answers_are_left_out_of_the_question_whether_the_model_is_hacking(capsys):
    gaps = curves([0.8, None, 0.6] * 10 + [0.3, None, 0.1] * 10, [0.5, -99, 0.7] * 10 + [0.9, -99, 0.7] * 10)
    whole = [row for row in gaps if row["accuracy"] is not None]
    assert parted(gaps) == parted(whole)
    assert parted(gaps)
    assert parted(curves([None] * 60, range(60))) is None
    warn(
        [{"step": 0, "truncated": 0, "zero_std_groups": 1, "sampling_gap": None, "answered": 1, "accuracy": None}],
        set(),
    )
    assert "(100% answered): problems too hard" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"truncated": 0.2, "zero_std_groups": 0.9, "sampling_gap": 0.1}, None),
        ({"sampling_gap": None}, None),
        ({"truncated": 0.21}, "21% of the completions are truncated"),
        ({"zero_std_groups": 1.0}, "does not vary"),
        ({"sampling_gap": 0.11}, "differ by 0.11 nats"),
    ],
)
def test_what_is_warned_about_once(changes, said, capsys):
    usual = {"step": 3, "truncated": 0, "zero_std_groups": 0, "sampling_gap": 0, "answered": 1, "accuracy": 1}
    warned = set()
    for _ in range(2):
        warn([{**usual, **changes}], warned)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == len(warned) == (said is not None)
    assert said is None or (said in lines[0] and "step 3" in lines[0])


# --- reward and accuracy part -----------------------------------------------------------------------------------------


def rows_of(run: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / f"{run}-metrics.jsonl").read_text().splitlines()]


def curves(accuracy, reward) -> list[dict]:
    return [{"step": i, "accuracy": a, "reward_mean": r} for i, (a, r) in enumerate(zip(accuracy, reward, strict=True))]


def test_reward_and_accuracy_part_where_one_rises_and_the_other_falls_and_not_before():
    up_and_down = [0.4] * 10 + [0.8, 0.6] * 5 + [0.3, 0.1] * 5
    rows = curves(up_and_down, [0.2] * 10 + [0.5, 0.7] * 5 + [0.9, 0.7] * 5)
    assert parted(rows) == {
        "since": 19,
        "accuracy": (pytest.approx(0.7), pytest.approx(0.2)),
        "reward": (pytest.approx(0.6), pytest.approx(0.8)),
    }
    assert all(parted(rows[:n]) is None for n in range(25))
    assert parted(curves(up_and_down, up_and_down)) is None  # both fall
    assert parted(curves([-x for x in up_and_down], [-x for x in up_and_down])) is None  # both rise


def test_the_scale_of_the_reward_is_of_no_account():
    accuracy, reward = [0.8, 0.6] * 10 + [0.3, 0.1] * 10, [0.5, 0.7] * 10 + [0.9, 0.7] * 10
    found = [parted(curves(accuracy, [a + b * r for r in reward])) for a, b in ((0, 1), (-40, 1e-3), (7, 500))]
    assert all(found)
    assert {row["since"] for row in found} == {found[0]["since"]}


def test_a_change_that_the_scatter_of_the_steps_explains_is_no_parting():
    """Three standard errors of the difference: with steps at +- d around a mean, 3 * sqrt(2 * d * d * 10 / 9 / 10)."""
    d = 0.1
    bound = 3 * (2 * d * d / 9) ** 0.5
    for share, expected in ((0.97, False), (1.03, True)):
        fall = share * bound
        accuracy = [0.5 + d, 0.5 - d] * 5 + [0.5 + d - fall, 0.5 - d - fall] * 5
        assert bool(parted(curves(accuracy, [0.1] * 10 + [0.2] * 10))) == expected
        reward = [0.5 + d, 0.5 - d] * 5 + [0.5 + d + fall, 0.5 - d + fall] * 5
        assert bool(parted(curves([0.9] * 10 + [0.1] * 10, reward))) == expected


def test_noise_alone_hardly_ever_parts():
    rng, wrong = Random(0), 0
    for _ in range(40):
        rows = curves(*([0.5 + rng.gauss(0, 0.1) for _ in range(200)] for _ in range(2)))
        wrong += any(parted(rows[:n]) for n in range(20, 201, 4))
    assert wrong <= 2


STORED = {  # file of results/ -> its runs: those that were hacked, and healthy ones
    "rewards": (
        ("toy-rpr-hacked", "toy-self-certainty-hacked"),
        ("toy-correct", "toy-plurality", "toy-rpr", "toy-self-certainty"),
    ),
    "certainty-kl": (("toy-certainty-kl-0", "toy-certainty-kl-0.005"), ("toy-certainty-kl-0.5",)),
    "flips": ((), ("toy-flip-0", "toy-flip-20", "toy-flip-40")),
    "reward-models": ((), ("toy-calibrate-65",)),
    "smollm2": ((), ("smollm2-self-certainty", "smollm2-correct")),
}


@pytest.mark.parametrize("file", STORED)
def test_real_runs_part_where_they_were_hacked_and_nowhere_else(file):
    """What was measured: the hacked runs of docs/results.md end with an accuracy near 0."""
    hacked, healthy = STORED[file]
    for name in hacked + healthy:
        for seed, columns in enumerate(stored(RESULTS / f"{file}.json", name)):
            rows = [{"step": i, **row} for i, row in enumerate(columns)]
            first = next((n - 1 for n in range(1, len(rows) + 1) if parted(rows[:n])), None)
            if name in healthy:
                assert first is None, (name, seed)
            else:
                assert 19 <= first <= 45, (name, seed, first)
                assert max(row["accuracy"] for row in rows[-5:]) < 0.2 < max(row["accuracy"] for row in rows[:first])


def test_hacking_is_warned_about_with_what_went_up_and_what_went_down(capsys):
    usual = {"truncated": 0, "zero_std_groups": 0, "sampling_gap": 0}
    rows = curves([0.8, 0.6] * 5 + [0.3, 0.1] * 5, [5.1, 5.2] * 5 + [6.1, 6.2] * 5)
    warned = set()
    for n in range(1, 21):
        warn([{**usual, **row} for row in rows[:n]], warned)
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "step 19" in said[0]
    assert "since step 9 the one went from 5.15 to 6.15, the other from 0.70 to 0.20" in said[0]


# --- what the terminal shows ------------------------------------------------------------------------------------------

SAMPLE = {"step": 20, "prompt": "9*9+3=", "completion": "first, 9*9=81 thus \\boxed{84}", "correct": True}


def test_a_sample_is_one_line_that_says_step_verdict_problem_and_completion(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert in_one_line(SAMPLE) == "step 20   right  9*9+3=  first, 9*9=81 thus \\boxed{84}"
    assert in_one_line({**SAMPLE, "correct": False}).startswith("step 20   wrong  9*9+3=")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_long_sample_fits_the_terminal_and_keeps_its_ends(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    line = in_one_line({**SAMPLE, "prompt": "word " * 90 + "?", "completion": "begin " + "x" * 999 + " end"})
    assert columns - 5 < len(line) < columns
    assert "word" in line
    assert "begin" in line
    assert line.endswith(" end")


def test_right_is_green_and_wrong_is_red_only_where_there_are_colours(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32mright\x1b[0m  9*9" in in_one_line(SAMPLE)
    assert "\x1b[31mwrong\x1b[0m  9*9" in in_one_line({**SAMPLE, "correct": False})
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert "\x1b" not in in_one_line(SAMPLE)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert "\x1b" not in in_one_line(SAMPLE)


def test_what_a_model_wrote_cannot_steer_the_terminal():
    """Every sign below 0x20, DEL, C1 (a terminal may take 0x9b for an escape), marks of direction, lone surrogates."""
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x200B, 0x2028, 0x202E, 0x2066, 0xFEFF, 0xD800, 0xE0001):
        shown = harmless(f"a{chr(code)}]0;title\x07b", 200)
        assert shown.isprintable(), hex(code)
        assert shown.encode("utf-8")
    assert harmless("\x1b[2Jgone\r\nnext\tx", 99) == "\\x1b[2Jgone next x"
    assert harmless("x² ≤ 4, 中", 99) == "x² ≤ 4, 中"  # and what can be read stays


def test_wide_signs_count_twice():
    assert harmless("中" * 20, 40) == "中" * 20
    assert harmless("中" * 20, 39).startswith("中" * 7 + " ... ")


def test_a_terminal_that_knows_ascii_alone_stops_no_run(monkeypatch):
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", Ascii())
    assert harmless("x² ≤ 4", 99) == "x\\xb2 \\u2264 4"


def test_the_progress_bar_shows_four_numbers():
    metrics = {"reward_mean": 0.5, "accuracy": 0.25, "completion_tokens": 12.4, "tokens_per_second": 1234.5}
    assert progress(metrics) == "reward 0.50, accuracy 0.25, length 12, 1,234 tokens/s"


# --- learning.png -----------------------------------------------------------------------------------------------------


def learning_figure(rows, tmp_path, monkeypatch):
    """The figure of a run, drawn and not closed; the file is checked on the way."""
    kept = []
    monkeypatch.setattr(pictures.plt, "close", kept.append)
    pictures.learning(rows, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["learning.png"]
    monkeypatch.undo()
    pictures.plt.close(kept[0])
    return kept[0]


def test_a_run_is_drawn_as_curves_over_its_steps(tmp_path, monkeypatch):
    names = ("answered", "truncated", "zero_std_groups", "completion_tokens", "entropy")
    paid = {"kl": None, "accuracy": 0.25, "pairwise_accuracy": None}
    rows = [{"step": step, **paid, **{name: step * i for i, name in enumerate(names)}} for step in (3, 5)]
    rows[1]["pairwise_accuracy"] = 0.75  # null in the first step: no pair
    rows[0] |= {"reward_mean": 0.5}
    rows[1] |= {"reward_mean": 1.0, "eval_accuracy": 0.25, "eval_pass@16": 0.75}  # a look at held-out problems
    figure = learning_figure(rows, tmp_path, monkeypatch)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    held_out = [lines.pop(f"held out: pass@{k}") for k in (1, 16)]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in held_out] == [([5], [0.25]), ([5], [0.75])]
    shown = {
        label: (list(line.get_xdata()), list(line.get_ydata())) for label, line in lines.items() if label[0] != "_"
    }
    steps, (nothing, pairs) = shown.pop("right is paid more")
    assert steps == [3, 5] and nothing != nothing and pairs == 0.75
    called = [name.replace("_", " ").replace("zero std groups", "groups alike") for name in names]
    expected = {name: ([3, 5], [3 * i, 5 * i]) for i, name in enumerate(called)}
    # Dark: means over the steps so far, up to ten. No KL penalty, no curve of it.
    assert shown == {**expected, "accuracy": ([3, 5], [0.25, 0.25]), "reward": ([3, 5], [0.5, 0.75])}
    pale = [list(line.get_ydata()) for line in figure.axes[0].get_lines() if line.get_alpha()]
    assert pale == [[0.25, 0.25], [0.5, 1.0]]


def test_a_long_run_is_drawn_in_no_more_than_500_points(tmp_path, monkeypatch):
    names = ("answered", "truncated", "zero_std_groups", "completion_tokens", "entropy", "kl", "pairwise_accuracy")
    rng = Random(0)
    rows = [
        {"step": step, "accuracy": rng.random(), "reward_mean": 1.0, **dict.fromkeys(names, step)}
        for step in range(1201)
    ]
    lines = {
        line.get_label(): line
        for axes in learning_figure(rows, tmp_path, monkeypatch).axes
        for line in axes.get_lines()
    }
    steps = list(range(0, 1201, 3))  # every third, the last one among them
    assert list(lines["entropy"].get_xdata()) == list(lines["entropy"].get_ydata()) == steps
    right = [row["accuracy"] for row in rows]
    means = [sum(right[max(0, i - 119) : i + 1]) / min(i + 1, 120) for i in steps]  # a tenth of the steps
    assert list(lines["accuracy"].get_xdata()) == steps
    assert list(lines["accuracy"].get_ydata()) == pytest.approx(means)


def test_a_picture_frees_the_memory_of_the_one_before(tmp_path, monkeypatch):
    drawn, close = [], pictures.plt.close
    monkeypatch.setattr(pictures.plt, "close", lambda figure: (drawn.append(weakref.ref(figure)), close(figure)))
    for _ in range(3):
        pictures.learning(rows_of("sick-hacked")[:5], tmp_path / "learning.png")
    assert [figure() for figure in drawn[:2]] == [None, None]


@pytest.mark.parametrize(("rewards", "label"), [((7.25, 8.5), "reward (0 is 7.25, 1 is 8.5)"), ((-2, -2), None)])
def test_a_reward_beyond_0_to_1_is_stretched_to_it_and_the_legend_says_from_what(tmp_path, monkeypatch, rewards, label):
    names = ("accuracy", "answered", "truncated", "completion_tokens", "entropy")
    names += ("zero_std_groups", "pairwise_accuracy")
    rows = [{"step": i, "kl": 0.1, "reward_mean": r, **dict.fromkeys(names, 0.5)} for i, r in enumerate(rewards)]
    axes = learning_figure(rows, tmp_path, monkeypatch).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert axes.get_ylim() == (-0.02, 1.02)
    if label:
        assert lines[label] == [0.0, 0.5]  # the second is the mean of both steps
    else:
        assert lines["reward (0 is -2, 1 is -2)"] == [0.0, 0.0]  # no spread, and no division by it


@pytest.mark.parametrize(("first", "accuracies"), [(None, None), (0.5, [0.5, 0.5])])
def test_steps_without_answers_have_no_accuracy_in_the_picture(tmp_path, monkeypatch, first, accuracies):
    rows = [{**row, "accuracy": None, "pairwise_accuracy": None} for row in rows_of("sick-hacked")[:2]]
    rows[0]["accuracy"] = first
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = learning_figure(rows, tmp_path, monkeypatch).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines() if line.get_label()[0] != "_"}
    assert lines.get("accuracy") == accuracies  # the mean over the steps that have one
    assert len(lines["reward"]) == 2


def test_the_picture_says_where_reward_and_accuracy_part(tmp_path, monkeypatch):
    rows = rows_of("sick-hacked")
    texts = [
        [text.get_text() for text in learning_figure(rows[:n], tmp_path, monkeypatch).axes[0].texts] for n in (20, 60)
    ]
    assert texts == [[], ["hacked? reward up, accuracy down since step 12"]]


def test_a_picture_that_is_being_drawn_leaves_the_last_one_whole(tmp_path, monkeypatch):
    path, rows = tmp_path / "learning.png", rows_of("sick-hacked")
    pictures.learning(rows[:5], path)
    before = path.read_bytes()

    def killed(figure, file, **_):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures.plt.Figure, "savefig", killed)
    with pytest.raises(KeyboardInterrupt):
        pictures.learning(rows, path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    pictures.plt.close("all")
    pictures.learning(rows, path)
    assert path.read_bytes() != before


def test_a_lap_is_the_time_since_the_last_one(monkeypatch):
    times = iter([10.0, 11.0, 13.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    lap = stopwatch()
    assert (lap(), lap()) == (1.0, 2.5)
