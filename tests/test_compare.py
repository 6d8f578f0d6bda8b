"""compare.py: runs side by side, in numbers that can be checked by hand."""

import json

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


@pytest.mark.parametrize("names", [["nosuch"], ["results/good-seed0-metrics.jsonl"], [], ["uneven"], ["empty"]])
def test_bad_input(names, runs, capsys):
    assert compare.main(["--panel", "title", *names]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (runs / "compare.png").exists()
