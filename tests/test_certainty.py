"""study/certainty.py: the test and best-of-n against counting by hand, and the program on a tiny model."""

import itertools
import json
import math

import numpy as np
import pytest

from study import certainty
from study.certainty import best_of, mann_whitney


def test_mann_whitney_counts_pairs_and_knows_ties():
    right, wrong = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    U, p, r = mann_whitney(right, wrong)
    by_hand = sum((a > b) + 0.5 * (a == b) for a in right for b in wrong)
    assert by_hand == 4.5 and U == 4.5 and r == pytest.approx(2 * 4.5 / 6 - 1)
    # Five values, one tie of two: variance 3*2/12 * (6 - 6/20), mean 3
    z = (4.5 - 3) / math.sqrt(3 * 2 / 12 * (6 - 6 / 20))
    assert p == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)))
    assert mann_whitney(wrong, right)[2] == pytest.approx(-r)
    assert mann_whitney(wrong, right)[1] == pytest.approx(1 - p)
    assert mann_whitney(right, np.array([])) == (None, None, None)
    assert mann_whitney(np.ones(4), np.ones(3)) == (6.0, 0.5, 0.0)


def test_p_is_uniform_where_there_is_no_difference():
    generator = np.random.default_rng(0)
    ps = [mann_whitney(*np.split(generator.normal(size=80), [30]))[1] for _ in range(2000)]
    assert np.quantile(ps, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_is_the_mean_over_all_choices_of_n(n):
    generator = np.random.default_rng(1)
    values, right = generator.normal(size=(4, 5)), generator.random((4, 5)) < 0.5
    chosen = [
        right[i, max(subset, key=lambda j: values[i, j])]
        for i in range(4)
        for subset in itertools.combinations(range(5), n)
    ]
    assert best_of(values, right, n) == pytest.approx(np.mean(chosen))


def test_the_program_compares_models_and_their_graders(base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--samples", "4", "--limit", "6", "--max-new-tokens", "12", "--data", "toy", "--out", "out"]
    assert certainty.main([str(base), str(base), *flags]) == 0
    content = json.loads((tmp_path / "out" / "certainty.json").read_text())
    own, graded_by_another = list(content["found"].values())[0], list(content["found"].values())[-1]
    assert content["k"] == [1, 2, 4] and own["best_of"][0] == pytest.approx(own["accuracy"])
    # The other is the same model, so that it finds the same: scoring again gives what sampling captured.
    for name in ("accuracy", "all", "within", "best_of"):
        assert graded_by_another[name] == pytest.approx(own[name], abs=1e-6, nan_ok=True)
    first, shown = capsys.readouterr().out, certainty.write(tmp_path / "out" / "certainty.json", tmp_path)
    assert first.startswith(shown) and len(shown.splitlines()) == 1 + len(content["found"])
    assert (tmp_path / "certainty.png").stat().st_size > 10_000


def test_certainty_that_follows_the_answer_key_is_found(monkeypatch):
    right = np.random.default_rng(2).random((50, 8)) < 0.4
    answers = certainty.Answers(right, [[str(int(x)) for x in row] for row in right], [])
    found = certainty.summary(right + np.linspace(0, 0.1, 8), answers, [1, 8])
    assert found["all"] == 1 and found["within"] == 1 and found["p"] < 1e-6 and found["r_first"] == 1
    assert found["best_of"] == pytest.approx([right.mean(), right.any(axis=1).mean()])
    reversed_ = certainty.summary(-1.0 * right, answers, [1, 8])
    assert reversed_["all"] == -1 and reversed_["within"] == -1 and reversed_["p"] > 1 - 1e-6


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_another_file_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(certainty.BadInput, match="not a certainty.json"):
        certainty.write(tmp_path / "x.json", tmp_path)


def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert certainty.main(["nosuch"]) == 2
    assert certainty.main(["toy", "--samples", "1"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 2 and all(line.startswith("study.certainty: ") for line in errors)
    assert list(tmp_path.iterdir()) == []
