"""The check of exercise 6: all subsets counted one by one, and an exact fraction."""

from fractions import Fraction
from itertools import combinations

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.pass_at_k
    found = f(10, 1, 5)
    mistakes = {
        "this is 1 - (1 - c/n)^k, tries *with* replacement: biased; here k different samples are taken": 0.40951,
        "this is c/n, pass@1": 0.1,
        "this is the probability that all k are wrong; subtract it from 1": 0.5000001,
    }
    same(found, 0.5, "n = 10, c = 1, k = 5", mistakes, tolerance=1e-9)
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(combinations([True] * c + [False] * (n - c), k))
                expected = sum(any(subset) for subset in subsets) / len(subsets)
                biased = 1 - (1 - c / n) ** k
                try:
                    found = f(n, c, k)
                except (ValueError, ZeroDivisionError, IndexError, OverflowError) as error:
                    raise Wrong(
                        f"n = {n}, c = {c}, k = {k}: {error}; with n - c < k at least one is right, so 1"
                    ) from None
                same(found, expected, f"n = {n}, c = {c}, k = {k} (all subsets counted)",
                     {list(mistakes)[0]: biased, "this is 1 - pass@k: how likely all are wrong": 1 - expected},
                     tolerance=1e-9)  # fmt: skip
    product = Fraction(1)
    for i in range(30):  # the same probability, one right sample after the other: none of the 30 is among the k
        product *= Fraction(10_000 - 5_000 - i, 10_000 - i)
    try:
        found = f(10_000, 30, 5_000)
    except OverflowError:
        raise Wrong(
            "n = 10,000: the binomials do not fit a float; divide them as whole numbers, or work with logs"
        ) from None
    if found != found or abs(found - float(1 - product)) > 1e-9:
        raise Wrong(
            f"n = 10,000, c = 30, k = 5,000: got {found}, expected {float(1 - product)}; the binomials overflow"
        )
