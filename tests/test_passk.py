"""passk.py: the estimator against brute force, exact fractions and a simulation."""

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest

from passk import curve, pass_at_k, powers_of_two


def test_equals_the_share_of_k_subsets_that_hold_a_correct_sample():
    for n in range(1, 9):
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
    with pytest.raises(ValueError, match="k <= n|c <= n"):
        pass_at_k(n, c, k)


def test_one_problem_with_too_few_samples_is_enough_to_refuse():
    with pytest.raises(ValueError, match="draw more"):
        pass_at_k(np.array([64, 32]), np.array([1, 1]), 64)


def test_is_unbiased_where_the_plug_in_estimate_is_not():
    # p = 0.1, n = 32, k = 8: the truth is 1 - 0.9^8 = 0.570. The average over 40,000 repetitions has an error of 0.001.
    c = np.random.default_rng(0).binomial(32, 0.1, size=40_000)
    truth = 1 - 0.9**8
    assert pass_at_k(32, c, 8).mean() == pytest.approx(truth, abs=0.005)
    assert (1 - (1 - c / 32) ** 8).mean() < truth - 0.03


def test_a_curve_averages_problems_and_does_not_pool_their_counts():
    # One problem always solved, one never: half, at any k. Pooled, 4 of 8 samples would give 0.786 at k = 2.
    assert curve(np.array([4, 4]), np.array([4, 0]), [1, 2, 4]).tolist() == [0.5, 0.5, 0.5]
    # unequal n per problem
    assert curve(np.array([2, 4]), np.array([1, 1]), [1]).tolist() == [pytest.approx((0.5 + 0.25) / 2)]


def test_curves_are_drawn_at_powers_of_two_up_to_n():
    assert powers_of_two(64) == [1, 2, 4, 8, 16, 32, 64]
    assert powers_of_two(6) == [1, 2, 4, 6]
