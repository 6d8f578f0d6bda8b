"""passk.py: the estimator against brute force, exact fractions and a simulation; the paper's tables from counts."""

import sys
import tracemalloc
from fractions import Fraction
from itertools import combinations
from math import comb, inf

import numpy as np
import pytest

from passk import (
    BINS,
    accuracy_histogram,
    coverage,
    crossing,
    curve,
    interval,
    majority_at_k,
    pass_at_k,
    positions,
    powers_of_two,
    problem_curves,
    resampled_means,
    sampling_efficiency_gap,
)
from study import counts as counts_file

# An independent repetition of the paper's MATH-500 (Qwen2.5-7B and its SimpleRL-Zoo, n = 128, 500 problems) published
# pass@k in percent, and how many problems were solved by both, the base only, the trained only, neither.
KS = [1, 2, 4, 8, 16, 32, 64, 128]
PUBLISHED = {
    "base": [61.39, 73.41, 81.44, 86.82, 90.43, 92.93, 94.74, 96.20],
    "trained": [77.93, 82.36, 85.68, 88.30, 90.22, 91.51, 92.35, 93.00],
}
# Its counts per problem are not in what was published. These were found by integer programming, c -> problems, such
# that the curves come out; many others would do.
COUNTS = {
    "base": {0: 19, 1: 7, 2: 15, 8: 26, 10: 5, 20: 1, 24: 45, 40: 2, 48: 31, 56: 20, 64: 25, 72: 24, 90: 2, 96: 1}
    | {104: 90, 110: 94, 128: 93},
    "trained": {0: 35, 1: 6, 4: 1, 6: 12, 8: 6, 24: 27, 32: 1, 40: 11, 48: 2, 64: 1, 72: 19, 96: 1, 100: 5, 104: 51}
    | {110: 1, 128: 321},
}


def test_equals_the_share_of_k_subsets_that_hold_a_correct_sample():
    for n in range(1, 11):
        for c in range(n + 1):
            for k in range(1, n + 1):
                samples = [True] * c + [False] * (n - c)
                share = np.mean([any(subset) for subset in combinations(samples, k)])
                assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_1_is_the_accuracy_and_pass_at_n_asks_for_any():
    assert pass_at_k(64, 16, 1) == pytest.approx(0.25, abs=1e-12)
    assert pass_at_k(64, 1, 64) == 1.0
    assert pass_at_k(64, 0, 64) == 0.0


@pytest.mark.parametrize(("n", "c", "k"), [(10_000, 1, 1), (10_000, 3, 5_000), (1_024, 1, 1_000), (10_000, 20, 128)])
def test_is_exact_for_n_in_the_thousands(n, c, k):
    exact = float(1 - Fraction(comb(n - c, k), comb(n, k)))
    assert pass_at_k(n, c, k) == pytest.approx(exact, abs=1e-10)


def test_never_falls_with_k():
    values = pass_at_k(100, np.arange(101)[:, None], np.arange(1, 101)[None, :])
    assert (np.diff(values, axis=1) >= -1e-12).all()


@pytest.mark.parametrize(("n", "c", "k"), [(8, 2, 9), (8, 9, 1), (8, -1, 1), (8, 2, 0)])
def test_refuses_what_cannot_be_known(n, c, k):
    with pytest.raises(ValueError, match="k <= n"):
        pass_at_k(n, c, k)


def test_one_problem_with_too_few_samples_is_enough_to_refuse():
    with pytest.raises(ValueError, match="draw more"):
        pass_at_k(np.array([64, 32]), np.array([1, 1]), 64)


def test_is_unbiased_where_the_plug_in_estimate_is_not_and_varies_less_than_any_of_the_first_k():
    # p = 0.1, n = 32, k = 8: the truth is 1 - 0.9^8 = 0.570. The average over 40,000 repetitions has an error of 0.001.
    samples = np.random.default_rng(0).random((40_000, 32)) < 0.1
    c, truth = samples.sum(axis=1), 1 - 0.9**8
    estimate = pass_at_k(32, c, 8)
    assert estimate.mean() == pytest.approx(truth, abs=0.005)
    plug_in = 1 - (1 - c / 32) ** 8
    assert plug_in.mean() < truth - 0.03
    any_of_first = samples[:, :8].any(axis=1)  # unbiased, but a coin: sd 0.49 against 0.21
    assert any_of_first.mean() == pytest.approx(truth, abs=0.01)
    assert any_of_first.std() > 2 * estimate.std()


def test_ten_thousand_problems_with_ten_thousand_samples_are_one_computation():
    """No loop over problems or samples, and no array of [problems, samples], which would take 800 MB."""
    c, calls = np.random.default_rng(0).integers(0, 10_001, size=10_000), []
    tracemalloc.start()
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    try:
        values = problem_curves(10_000, c, powers_of_two(8192))
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert values.shape == (10_000, 14)
    assert len(calls) < 1_000
    assert peak < 20 * values.nbytes
    for problem in (0, 1, 9_999):
        exact = 1 - Fraction(comb(10_000 - int(c[problem]), 4), comb(10_000, 4))
        assert values[problem, 2] == pytest.approx(float(exact), abs=1e-10)


def test_a_curve_averages_problems_and_does_not_pool_their_counts():
    # One problem always solved, one never: half, at any k. Pooled, 4 of 8 samples would give 0.786 at k = 2.
    assert curve(np.array([4, 4]), np.array([4, 0]), [1, 2, 4]).tolist() == [0.5, 0.5, 0.5]
    # unequal n per problem
    assert curve(np.array([2, 4]), np.array([1, 1]), [1]).tolist() == [pytest.approx((0.5 + 0.25) / 2)]


def test_curves_are_drawn_at_powers_of_two_up_to_n():
    assert powers_of_two(64) == [1, 2, 4, 8, 16, 32, 64]
    assert powers_of_two(6) == [1, 2, 4, 6]
    assert powers_of_two(1) == [1]


def test_no_problem_at_all_and_a_single_number_are_fine():
    assert problem_curves(4, np.array([], dtype=int), [1, 2]).shape == (0, 2)
    assert isinstance(pass_at_k(4, 1, 2), float)
    assert pass_at_k(3, 3, 3) == 1.0


# --- confidence -----------------------------------------------------------------------------------------------------


def test_an_interval_covers_the_truth_as_often_as_it_says_with_thirty_problems_too():
    # 2,000 studies of 30 problems with 64 samples; accuracies are Beta(1/2, 1/2), and training loses three in ten.
    # The mean of (1 - p)^64 is a product of ratios. Percentiles of bootstrap means hold the base's truth in 87 %.
    rng, n, studies = np.random.default_rng(0), 64, 2000
    p = rng.beta(0.5, 0.5, (30, studies))
    lost = rng.random(p.shape) < 0.3
    base_c, trained_c = rng.binomial(n, p), rng.binomial(n, np.where(lost, 0, p))
    truths = {1: 0.5, 64: 1 - np.prod((np.arange(n) + 0.5) / (np.arange(n) + 1))}
    for k, truth in truths.items():
        base, trained = pass_at_k(n, base_c, k), pass_at_k(n, trained_c, k)
        for values, least, true in ((base, 0, truth), (trained, 0, 0.7 * truth), (trained - base, -1, -0.3 * truth)):
            low, high = interval(values, least=least)
            assert 0.92 < ((low <= true) & (true <= high)).mean() < 0.985, (k, true)
    low, high = interval(pass_at_k(n, base_c, 1), level=0.6, least=0)
    assert 0.55 < ((low <= 0.5) & (high >= 0.5)).mean() < 0.65


def test_an_interval_is_as_wide_as_the_standard_error_says():
    values = problem_curves(16, np.random.default_rng(1).integers(0, 17, 200), [1, 4])
    assert interval(np.full((5, 2), 0.3)) == pytest.approx(0.3)
    expected = 2 * 1.972 * values.std(axis=0) / np.sqrt(200)  # 1.972: Student's t with 199 degrees
    for least in (-1, 0):
        low, high = interval(values, least=least)
        assert high - low == pytest.approx(expected, rel=0.02)
    with pytest.raises(ValueError, match="two problems"):
        interval(values[:1])


def test_an_interval_holds_every_mean_that_is_no_surprise():
    # Wilson's definition, on a grid; 2.045 is Student's t with 29 degrees.
    rng, grid = np.random.default_rng(6), np.linspace(-1, 1, 20_001)
    for least in (0.0, -1.0):
        values = rng.uniform(least, 1, 30) ** 3
        mean, variance = values.mean(), values.var(ddof=1)
        shrunk = variance * (grid - least) * (1 - grid) / ((mean - least) * (1 - mean))
        held = grid[(mean - grid) ** 2 <= 2.04523**2 * shrunk / 30]
        assert interval(values[:, None], least=least)[:, 0] == pytest.approx([held[0], held[-1]], abs=1e-4)


def test_an_interval_of_all_or_nothing_never_claims_certainty_and_one_of_no_difference_is_a_point():
    t2 = 2.04523**2  # all of 30 solved: Wilson's lower end is 30 / (30 + t^2)
    assert interval(np.ones((30, 1)), least=0)[:, 0] == pytest.approx([30 / (30 + t2), 1], abs=1e-4)
    assert interval(np.zeros((30, 1)), least=0)[:, 0] == pytest.approx([0, t2 / (30 + t2)], abs=1e-4)
    assert interval(np.zeros((30, 1)))[:, 0] == pytest.approx([0, 0])
    one = np.zeros((30, 1))
    one[3] = 1  # one problem more is solved: as a difference that may be chance
    assert interval(one)[0, 0] < 0 < interval(one, least=0)[0, 0]


def test_bootstrap_samples_are_as_many_as_asked_for_and_none_is_drawn_twice():
    # So many problems that not all 2,000 bootstrap samples fit into memory at once.
    values = np.random.default_rng(4).random((5_000, 1))
    means = resampled_means(values, 2_000, seed=0)[:, 0]
    assert len(means) == len(np.unique(means)) == 2_000
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(5_000 * 2_000))
    assert means.std() == pytest.approx(values.std() / np.sqrt(5_000), rel=0.1)


def test_a_paired_interval_sees_what_two_separate_ones_cannot():
    # The second model solves every problem 5 points more often; problems differ by far more than that.
    rng = np.random.default_rng(2)
    a = rng.random((100, 1)) * 0.9
    b = a + 0.05 + rng.normal(0, 0.02, (100, 1))
    low, high = interval(b - a)[:, 0]
    assert 0.04 < low < high < 0.06
    assert interval(a)[1, 0] > interval(b)[0, 0]  # the separate ones overlap


def test_two_lines_in_log_k_cross_where_they_do():
    ks = [1, 2, 4, 8, 16]
    rising, flat = np.log2(ks) / 4, np.full(5, 0.5)
    assert crossing(rising, flat, ks) == (pytest.approx(4), None, None)
    assert crossing(flat, rising) == (pytest.approx(4), None, None)
    assert crossing(rising, np.full(5, 0.625), ks).k == pytest.approx(2**2.5)  # between two k of the grid
    assert crossing(rising + 1, flat, ks) is None
    assert crossing(np.minimum(rising, 0.5), flat, ks) is None  # they meet, but none overtakes
    wave = np.array([0.1, -0.1, 0.1, -0.1, 0.1])
    assert crossing(wave, np.zeros(5), ks).k == pytest.approx(2**3.5)  # the last: from there on it stays ahead
    first = np.array([-0.1, 0.3, 0.3, 0.3, 0.3])
    assert crossing(first, np.zeros(5), ks).k == pytest.approx(2**0.25)  # a quarter of the first step
    last = np.array([-0.3, -0.3, -0.3, -0.3, 0.1])
    assert crossing(last, np.zeros(5), ks).k == pytest.approx(2**3.75)
    with pytest.raises(ValueError, match="same k"):
        crossing(rising, flat[:4], ks)
    with pytest.raises(ValueError, match="same k"):
        crossing(rising, flat, ks[:4])


def test_a_lead_that_is_not_kept_to_the_end_is_no_crossing():
    ks = np.array([1.0, 2.0, 4.0])
    leads = {(1, 1, 1): 1, (0, 1, 1): 1, (-1, 1, 1): 2**0.5, (1, -1, 1): 2**1.5, (-1, 1, -1): inf, (-1, -1, 0): inf}
    assert positions(np.array(list(leads)), ks).tolist() == pytest.approx(list(leads.values()))


def test_the_interval_of_a_crossing_goes_beyond_the_grid_where_the_data_do_not_tell():
    rng, ks = np.random.default_rng(3), [1, 2, 4, 8]
    lead = np.array([-0.3, -0.1, 0.1, 0.3])
    clear = crossing(lead + rng.normal(0, 0.1, (400, 1)), np.zeros((400, 4)), ks)
    assert clear.low < clear.k < clear.high
    assert clear.low > 2
    assert clear.high < 4
    # Whichever of the two is given first: the curves and the interval are the same.
    curves = lead + np.random.default_rng(5).normal(0, 0.5, (50, 4))
    assert crossing(curves, np.zeros((50, 4)), ks) == crossing(np.zeros((50, 4)), curves, ks)
    assert crossing(curves, np.zeros((50, 4)), ks).k == crossing(curves.mean(axis=0), np.zeros(4), ks).k
    noisy = lead / 10 + rng.normal(0, 1, (400, 1))
    unclear = crossing(noisy - noisy.mean() + 1e-3, np.zeros((400, 4)), ks)
    assert unclear.low == 1  # in many bootstrap samples it is ahead from the start
    assert unclear.high == inf  # in many never


# --- the paper's tables ---------------------------------------------------------------------------------------------


def counts(name: str) -> np.ndarray:
    """One count for each of 500 problems, in an order that gives the published table of who solved what."""
    c = np.repeat(list(COUNTS[name]), list(COUNTS[name].values()))  # ascending: the unsolved come first
    return c if name == "base" else np.concatenate([c[35:38], c[:35], c[38:]])


def test_published_curves_and_tables_come_out_of_counts():
    base, trained = counts("base"), counts("trained")
    for name, c in (("base", base), ("trained", trained)):
        assert 100 * curve(128, c, KS) == pytest.approx(PUBLISHED[name], abs=0.0051)
        assert 100 * np.mean(c / 128) == pytest.approx(PUBLISHED[name][0], abs=0.0051)
    cells = {cell: len(problems) for cell, problems in coverage(base, trained).items()}
    assert cells == {"both": 462, "base_only": 19, "trained_only": 3, "neither": 16}
    # In the paper's Figure 2 it lies between 8 and 16.
    found = crossing(problem_curves(128, base, KS), problem_curves(128, trained, KS), KS)
    assert 8 < found.k < 16.5
    # It was published with a paired interval from -5.0 to -1.4 points, which hangs on the counts of each problem:
    low, high = 100 * interval(problem_curves(128, trained, KS) - problem_curves(128, base, KS))[:, -1]
    assert low < 100 * (0.93 - 0.962) < high < 0


def test_the_histogram_has_the_papers_bins():
    c = [0, 1, 2, 3, 10, 11, 19, 20]  # of 20: 0, .05, .1, .15, .5, .55, .95, 1
    assert accuracy_histogram(20, c).tolist() == [1, 2, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert len(BINS) == 12
    # 3 of 10 is .3 exactly, and 0.3 * 10 is not 3 in floating point
    assert accuracy_histogram(10, np.arange(11)).tolist() == [1] * 10 + [0, 1]
    assert accuracy_histogram(10, [9]).tolist() == [0] * 9 + [1, 0, 0]
    for n in range(1, 31):  # every share of up to 30, in exact fractions
        for c in range(n + 1):
            share = Fraction(c, n)
            expected = (
                0 if share == 0 else 11 if share == 1 else next(i for i in range(1, 11) if share <= Fraction(i, 10))
            )
            assert accuracy_histogram(n, [c]).tolist() == [int(i == expected) for i in range(12)]
    assert BINS[1] == "(0, 0.1]"
    assert BINS[10] == "(0.9, 1)"
    for name in ("base", "trained"):
        bins = accuracy_histogram(128, counts(name))
        assert bins.sum() == 500
        assert (bins[0], bins[11]) == (COUNTS[name][0], COUNTS[name][128])
    with pytest.raises(ValueError, match="c <= n"):
        accuracy_histogram(4, [5])


def test_coverage_names_the_problems():
    # The paper's AIME24 (its Table 4): 30 problems, only the base solves 4, 11, 17 and 19, nobody 7 of them.
    base, trained = np.ones(30, dtype=int), np.ones(30, dtype=int)
    nobody = [2, 3, 5, 7, 13, 23, 29]
    base[nobody] = trained[nobody] = 0
    trained[[4, 11, 17, 19]] = 0
    cells = coverage(base, trained)
    assert cells["base_only"] == [4, 11, 17, 19]
    assert cells["trained_only"] == []
    assert cells["neither"] == nobody
    assert len(cells["both"]) == 19
    with pytest.raises(ValueError, match="same problems"):
        coverage([1, 0], [1])
    assert coverage([0, 3, 0, 1], [2, 0, 0, 1]) == {
        "both": [3],
        "base_only": [1],
        "trained_only": [0],
        "neither": [2],
    }


def test_the_gap_is_in_points():
    # The paper's Omni-MATH test set: GRPO 44.0, RLOO 41.0.
    assert sampling_efficiency_gap(0.691, 0.251) == pytest.approx(44.0)
    assert sampling_efficiency_gap(0.691, 0.281) == pytest.approx(41.0)


# --- consensus ------------------------------------------------------------------------------------------------------


def test_majority_equals_the_vote_of_every_subset():
    answers, right = ["7", "7", "8", "8", "8", None, "9"], [True, True] + [False] * 5

    def vote(chosen):
        votes = {}
        for i in chosen:
            if answers[i] is not None:
                votes[answers[i]] = votes.get(answers[i], 0) + 1
        best = [answer for answer, number in votes.items() if number == max(votes.values())]
        return ("7" in best) / max(1, len(best))

    found = majority_at_k(answers, right, [1, 2, 3, 5, 7], draws=20_000)
    exact = [np.mean([vote(chosen) for chosen in combinations(range(7), k)]) for k in (1, 2, 3, 5, 7)]
    assert found == pytest.approx(exact, abs=0.015)
    assert found[-1] == 0  # of all seven, 8 has the most votes


def test_majority_knows_one_right_answer_in_two_spellings_and_no_vote_for_silence():
    assert majority_at_k(["1/2", "0.5", "3", "3", "4"], [True, True, False, False, False], [5]) == [0.5]  # a tie
    assert majority_at_k([None, None, None, "7"], [False, False, False, True], [4]) == [1.0]
    assert majority_at_k([None, None], [False, False], [1, 2]).tolist() == [0.0, 0.0]
    # Two wrong answers tie with the right one: a third of the win. Other answers do not share it.
    answers = ["1", "1", "2", "2", "3", "3", "4"]
    assert majority_at_k(answers, [True, True] + [False] * 5, [7]) == pytest.approx(1 / 3)
    # A wrong answer is its text: the two spellings of 8 do not add up.
    assert majority_at_k(["7", "7", "8", "8.0", "8"], [True, True, False, False, False], [5]) == [0.5]
    with pytest.raises(ValueError, match="truth value"):
        majority_at_k(["1", "2"], [True], [1])
    with pytest.raises(ValueError, match="k <= n"):
        majority_at_k(["1"], [True], [2])


def test_a_vote_of_one_is_a_single_try_and_its_orders_are_seeded():
    answers, right = list("1122334455"), [True, True] + [False] * 8
    found = majority_at_k(answers, right, [1, 3, 10], draws=5_000)
    assert found[0] == pytest.approx(0.2, abs=0.02)
    ks = [2, 3, 4, 5, 6]
    assert (majority_at_k(answers, right, ks) == majority_at_k(answers, right, ks)).all()
    assert (majority_at_k(answers, right, ks) != majority_at_k(answers, right, ks, seed=1)).any()
    assert majority_at_k(answers, right, [10, 1], draws=5_000).tolist() == [found[2], found[0]]


# --- python passk.py COUNTS.csv -------------------------------------------------------------------------------------


def test_counts_of_a_file_become_curves(tmp_path, capsys):
    """Of 4 samples 1, 3 and 0 are right: pass@2 is the mean of 1/2, 1 and 0. The other model's n is larger."""
    file = tmp_path / "counts.csv"
    file.write_text("model,problem,n,c\nbase,a,4,1\nbase,b,4,3\nbase,c,4,0\nlong,a,8,8\n")
    assert counts_file.main([str(file)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[:2] == [["k=1", "k=2", "k=4"], ["base", "0.333", "0.500", "0.667"]]
    assert rows[2][:2] == ["at", "least"] and 0 < float(rows[2][2]) < 1 / 3 < float(rows[3][2]) < 1
    assert " ".join(rows[4]) == "3 problems, 4 samples each, 2 solved at least once"
    assert rows[5:] == [
        ["long", "1.000", "1.000", "1.000"],
        ["1", "problem,", "8", "samples", "each,", "1", "solved", "at", "least", "once"],
    ]
    file.write_text("n,c\n2,1\n4,2\n")
    assert counts_file.main([str(file)]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()][:2] == [
        ["k=1", "k=2"],
        ["all", "0.500", "0.917"],
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "holds no row"),
        ("n,right\n4,1\n", "line 2: no column c"),
        ("n,c\n4,1\n4,5\n", "line 3: n 4, c 5"),
        ("n,c\n4,\n", "line 2: n 4, c None"),
        ("n,c\n4,1.0\n", "line 2: n 4, c 1.0"),
        ("n,c\n0,0\n", "line 2: n 0, c 0"),
        ("n,c\n99999999999,1\n", "line 2: n 99999999999"),
        ("n,c\n4\n", "line 2: has 1 fields"),
    ],
)
def test_a_file_of_counts_that_cannot_be_used_is_refused_in_one_line(tmp_path, capsys, text, said):
    file = tmp_path / "counts.csv"
    file.write_text(text)
    assert counts_file.main([str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"passk.py: COUNTS {file}") and said in line
    assert counts_file.main([f"{file}.no"]) == 2
    assert counts_file.main([]) == 2
