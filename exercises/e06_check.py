"""The check of exercise 6: all subsets counted one by one, and an exact fraction."""

from fractions import Fraction
from itertools import combinations

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.pass_at_k
    same(f(10, 3, 4), 5 / 6, "n = 10, c = 3, k = 4", {  # 35 of 210 draws hold none of the 3, 105 hold just one
        "this is 1 - (1 - c/n)^k, tries *with* replacement: biased; here k different samples are taken": 0.7599,
        "this is c/n, pass@1": 0.3,
        "one factor too many: the product runs over n - c + 1 .. n": 1 - 1 / 14,
        "this is 1 - pass@k, the probability that all k are wrong: subtract it from 1": 1 / 6,
        "this is the probability of exactly one right sample; more than one will do as well": 0.5,
        "this is k c / n: right samples that are drawn together must not be counted twice": 1.2,
        "this is 1: does // round down, or must all k be right?": 1.0,
    }, tolerance=1e-9)  # fmt: skip
    same(f(10, 1, 5), 0.5, "n = 10, c = 1, k = 5", tolerance=1e-9)
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(combinations([True] * c + [False] * (n - c), k))
                expected = sum(any(subset) for subset in subsets) / len(subsets)
                case, edge = f"n = {n}, c = {c}, k = {k}", "with n - c < k at least one is right, so 1"
                try:
                    found = f(n, c, k)
                except (ValueError, ZeroDivisionError, IndexError, OverflowError) as error:
                    raise Wrong(f"{case}: {error}" + (f"; {edge}" if n - c < k else "")) from None
                mistakes = {edge: found} if n - c < k else {"no sample is right, so 0": found} if c == 0 else {}
                same(found, expected, f"{case} (all subsets counted)", mistakes, tolerance=1e-9)
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
