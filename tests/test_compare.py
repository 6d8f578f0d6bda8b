"""study.compare: runs side by side, in numbers that can be checked by hand."""

import json

import numpy as np
import pytest

from study import compare


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two seeds of a run that learns from 0.1 to 0.9, and one whose reward rises while its accuracy falls."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()

    def write(name, accuracy, reward):
        rows = [
            {"accuracy": a, "reward_mean": r, "pairwise_accuracy": None, "entropy": 1.0, "completion_tokens": 9.0}
            for a, r in zip(accuracy, reward, strict=True)
        ]
        (tmp_path / "results" / f"{name}-metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("good-seed0", [0.1] * 5 + [0.9] * 5, range(10))
    write("good-seed1", [0.1] * 5 + [0.7] * 5, range(10))
    write("uneven-seed0", [0.1] * 3, range(3))
    write("uneven-seed1", [0.1] * 4, range(4))
    write("empty-seed0", [], [])
    write("good-seed10", [0.1] * 5 + [0.8] * 5, range(10))
    write("hacked-seed0", [0.5] * 5 + [0.0] * 5, range(10))
    return tmp_path


def test_the_table_gives_first_and_last_values_over_all_seeds(runs, capsys):
    assert (
        compare.main(["--panel", "learns", "good", "--panel", "accuracy and reward", "hacked", "--out", "a/b.png"]) == 0
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1][:5] == ["good", "3", "0.10", ">", "0.80"]
    assert lines[1][5:8] == ["1.00", ">", "7.00"]
    assert lines[1][8:11] == ["-", ">", "-"]  # nothing to compare in any step
    assert lines[1][-3:] == ["0.90", "0.70", "0.80"]
    assert lines[2][:5] == ["hacked", "1", "0.50", ">", "0.00"]
    assert (runs / "a" / "b.png").stat().st_size > 10_000


def test_runs_without_answers_have_a_dash_for_their_accuracy(runs, capsys):
    rows = [
        {"accuracy": None, "reward_mean": r, "pairwise_accuracy": None, "entropy": 1, "completion_tokens": 9}
        for r in range(10)
    ]
    some = [{**row, "accuracy": 0.5 if i % 2 else None} for i, row in enumerate(rows)]
    for name, kept in (("none", rows), ("some", some)):
        path = runs / "results" / f"{name}-seed0-metrics.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert compare.main(["--panel", "accuracy and reward", "none", "some", "--out", "a/b.png"]) == 0
    none, some = (line.split() for line in capsys.readouterr().out.splitlines()[1:3])
    assert (none[2:5], none[-1]) == (["-", ">", "-"], "-")
    assert (some[2:5], some[-1]) == (["0.50", ">", "0.50"], "0.50")


def test_the_seeds_stay_apart_in_order_and_every_column_is_its_metric(runs, capsys):
    """Every metric of a step is a number of its own, so that no column can stand for another."""
    names = ("accuracy", "reward_mean", "pairwise_accuracy", "entropy", "completion_tokens")
    rows = [{name: step + 100 * i for i, name in enumerate(names)} for step in range(10)]
    (runs / "runs" / "mine-seed0").mkdir(parents=True)
    (runs / "runs" / "mine-seed0" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert compare.main(["--panel", "title", "mine", "--out", "x.png"]) == 0
    cells = capsys.readouterr().out.splitlines()[1].split()
    # The first three steps are 0, 1, 2 and the last five 5 to 9.
    expected = [cell for i in range(5) for cell in (f"{1 + 100 * i:.2f}", ">", f"{7 + 100 * i:.2f}")]
    assert cells == ["mine", "1", *expected, "7.00"]


def test_a_curve_is_the_mean_of_the_seeds_with_a_band_from_the_lowest_to_the_highest():
    figure, axes = compare.plt.subplots()
    compare.curve(axes, np.array([[0.0, 1, 2, 3, 4, 5, 6], [2.0, 3, 4, 5, 6, 7, 8]]), label="x")
    (line,) = axes.get_lines()
    assert list(line.get_xdata()) == [2, 3, 4]  # the middle of steps 0 to 4, and so on
    assert list(line.get_ydata()) == pytest.approx([3, 4, 5])
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(2), pytest.approx(6))
    compare.plt.close(figure)


def test_a_panel_of_rewards_shows_them_scaled_beside_the_accuracy(runs, monkeypatch):
    shown = []
    monkeypatch.setattr(compare, "curve", lambda axes, values, **look: shown.append((look["label"], values)))
    monkeypatch.setattr(compare.plt.Axes, "legend", lambda *arguments, **named: None)
    logs = {name: compare.metrics_of(name) for name in ("good", "hacked")}
    logs["hacked"][0][3]["reward_mean"] = -9  # a dip: the scale begins at the first value, not at the lowest
    compare.picture([["the reward", "hacked"], ["plain", "good", "hacked"]], logs, "y.png")
    assert [label for label, _ in shown] == ["hacked: reward", "hacked: accuracy", "good", "hacked"]
    assert shown[0][1].tolist() == [pytest.approx(np.array([0, 1, 2, -9, 4, 5, 6, 7, 8, 9]) / 9)]
    assert shown[1][1].tolist() == [[0.5] * 5 + [0.0] * 5]
    assert shown[2][1][:, -1].tolist() == [0.9, 0.7, 0.8]  # the seeds 0, 1, 10


def test_a_step_without_a_value_is_left_out_of_the_mean(runs):
    values = compare.column([[{"x": 1.0}, {"x": None}]], "x")
    assert values[0, 0] == 1
    assert np.isnan(values[0, 1])


@pytest.mark.parametrize("names", [["nosuch"], ["results/good-seed0-metrics.jsonl"], [], ["uneven"], ["empty"]])
def test_bad_input(names, runs, capsys):
    assert compare.main(["--panel", "title", *names]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"study.compare: {names[0] if names else '--panel'}")
    assert not (runs / "compare.png").exists()


def test_a_picture_that_cannot_be_written_is_said_in_one_line(runs, capsys):
    assert compare.main([]) == 2  # no panel
    assert compare.main(["--panel", "title", "good", "--out", "picture.nosuch"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert [line.split(":")[1].split()[0] for line in error] == ["--panel", "--out"]


def test_what_is_written_beside_a_picture_gives_the_same_table_again(runs, capsys):
    panels = ["--panel", "learns", "good", "--panel", "accuracy and reward", "hacked"]
    assert compare.main([*panels, "--out", "a.png"]) == 0
    first = capsys.readouterr().out.splitlines()[:3]
    for file in (runs / "results").iterdir():
        file.unlink()
    assert compare.main([*panels, "--source", "a.json", "--out", "b.png"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == first and (runs / "b.png").stat().st_size > 10_000
    assert compare.main(["--panel", "x", "nosuch", "--source", "a.json"]) == 2
    assert capsys.readouterr().err.startswith("study.compare: --source a.json: holds no curves of nosuch")


def test_another_metric_can_be_drawn(runs, monkeypatch):
    shown = []
    monkeypatch.setattr(compare, "curve", lambda axes, values, **look: shown.append(values))
    monkeypatch.setattr(compare.plt.Axes, "legend", lambda *arguments, **named: None)
    assert compare.main(["--of", "tokens", "--panel", "length", "hacked"]) == 0
    assert shown[0].tolist() == [[9.0] * 10]


def test_fewer_seeds_than_there_are_can_be_asked_for(runs, capsys):
    assert compare.main(["--panel", "learns", "good", "--seeds", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-2:] == ["0.90", "0.70"]  # and not seed 10
