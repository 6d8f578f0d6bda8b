"""passk.py: what can a model solve in k tries?

Pure functions on counts: of n samples of a problem, c were correct. From "Does Reinforcement Learning Really
Incentivize Reasoning Capacity in LLMs Beyond the Base Model?" (2504.13837, section 2.2), whose estimator is Chen et
al.'s (2107.03374).
"""

import numpy as np


def pass_at_k(n, c, k):
    """The unbiased estimate of the probability that at least one of k samples is correct: 1 - C(n-c, k) / C(n, k).

    n: samples drawn, c: how many of them were correct, k: tries; numbers or arrays, broadcast against each other, so
    that `pass_at_k(n[:, None], c[:, None], ks)` is [problems, len(ks)]. n may differ between problems. Average it over
    problems; counts pooled over problems would let the easy ones answer for the hard ones.

    It is the share of all k-subsets of the n samples that hold a correct one. The plug-in 1 - (1 - c/n)^k is biased,
    and "any of the first k" is unbiased but far noisier. Raises ValueError unless 0 <= c <= n and 1 <= k <= n: from n
    samples nothing can be said about more than n tries.
    """
    n, c, k = np.broadcast_arrays(n, c, k)
    if n.size and not (np.all(c >= 0) and np.all(c <= n) and np.all(k >= 1) and np.all(k <= n)):
        raise ValueError(
            "pass_at_k needs 0 <= c <= n and 1 <= k <= n for every problem (draw more samples for a larger k)"
        )
    # Binomials overflow for n in the thousands, so work with log m! from one table: log C(a, k) = a! - k! - (a-k)! in
    # logs. The k! cancels. Its rounding error is about 1e-11 at n = 10,000.
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, (n.max() if n.size else 0) + 1)))])
    wrong = n - c
    misses = np.maximum(
        wrong - k, 0
    )  # where wrong < k every subset holds a correct sample; the value there is replaced below
    log_ratio = log_factorial[wrong] - log_factorial[misses] - log_factorial[n] + log_factorial[n - k]
    # -expm1(x) is 1 - exp(x) without losing the digits of a small pass@k.
    estimate = np.where(wrong < k, 1.0, -np.expm1(log_ratio))
    estimate = np.where(c == 0, 0.0, estimate)  # exactly
    return estimate if estimate.ndim else float(estimate)


def powers_of_two(n: int) -> list[int]:
    """The k at which a curve is drawn: 1, 2, 4 ... up to n, and n itself."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def curve(n, c, ks) -> np.ndarray:
    """pass@k of a model, [len(ks)]: the mean over problems of each problem's estimate. n, c: one count per problem."""
    n, c = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    return pass_at_k(n[:, None], c[:, None], np.asarray(ks)[None, :]).mean(axis=0)
