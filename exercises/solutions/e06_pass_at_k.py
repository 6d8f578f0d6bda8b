"""Exercise 6, solved."""

from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    return 1 - comb(n - c, k) / comb(n, k)  # comb(3, 5) is 0; Python divides huge whole numbers rightly
