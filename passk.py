"""passk.py: what can a model solve in k tries?

Pure functions on counts: of n samples of a problem, c were correct. From "Does Reinforcement Learning Really
Incentivize Reasoning Capacity in LLMs Beyond the Base Model?" (2504.13837):

    pass_at_k                  1 - C(n-c, k) / C(n, k), Chen et al.'s estimator (2107.03374)       appendix A.2
    interval, crossing         how sure is a curve, a difference of two, and where they cross      (not in the paper)
    accuracy_histogram         how many problems are solved never, seldom, always                  Figure 5
    coverage                   which problems only one of two models can solve                     v5, Table 2
    sampling_efficiency_gap    base pass@256 - trained pass@1                                      section 4.3
    majority_at_k              what a vote of k samples would get                                  (for comparison)

    python passk.py COUNTS.csv         pass@k of counts from anywhere: columns n, c and, if there are several, model

Differs from the released evaluator, which pads a problem with too few samples; here that is an error.
"""

import sys
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


def pass_at_k(n, c, k):
    """The unbiased estimate of the probability that at least one of k samples is correct: 1 - C(n-c, k) / C(n, k).

    n: samples drawn, c: how many of them were correct, k: tries; numbers or arrays, broadcast against each other, so
    that `pass_at_k(n[:, None], c[:, None], ks)` is [problems, len(ks)]. n may differ between problems. Average it over
    problems; with pooled counts the easy problems would answer for the hard ones.

    It is the share of all k-subsets of the n samples that hold a correct one. The plug-in 1 - (1 - c/n)^k is biased,
    and "any of the first k" is unbiased but far noisier. Raises ValueError unless 0 <= c <= n and 1 <= k <= n: n
    samples tell nothing about more than n tries.
    """
    n, c, k = np.broadcast_arrays(n, c, k)
    if n.size and not (np.all(c >= 0) and np.all(c <= n) and np.all(k >= 1) and np.all(k <= n)):
        raise ValueError("pass_at_k needs 0 <= c <= n and 1 <= k <= n for every problem; draw more samples, or lower k")
    # Binomials overflow for n in the thousands, so take logs: log C(a, k) = log a! - log k! - log (a-k)!, from a table
    # of log m!. The k! cancels. The rounding error is about 1e-11 at n = 10,000.
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, (n.max() if n.size else 0) + 1)))])
    wrong = n - c
    misses = np.maximum(wrong - k, 0)  # an index of the table; where wrong < k the estimate is 1, set below
    log_ratio = log_factorial[wrong] - log_factorial[misses] - log_factorial[n] + log_factorial[n - k]
    # -expm1(x) is 1 - exp(x) without losing the digits of a small pass@k.
    estimate = np.where(wrong < k, 1.0, -np.expm1(log_ratio))
    estimate = np.where(c == 0, 0.0, estimate)  # exactly, without rounding
    return estimate if estimate.ndim else float(estimate)


def powers_of_two(n: int) -> list[int]:
    """The k at which a curve is drawn: 1, 2, 4 ... up to n, and n itself."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def problem_curves(n, c, ks) -> np.ndarray:
    """pass@k of each problem, [problems, len(ks)]. n, c: one count for each problem; n may be one number for all."""
    n, c = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    return pass_at_k(n[:, None], c[:, None], np.asarray(ks)[None, :])


def curve(n, c, ks) -> np.ndarray:
    """pass@k of a model, [len(ks)]: the mean over problems of each problem's estimate. n, c as in problem_curves."""
    return problem_curves(n, c, ks).mean(axis=0)


# --- how sure are we? -----------------------------------------------------------------------------------------------


def resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """The mean over problems in each of `draws` bootstrap samples: [problems, K] -> [draws, K].

    A bootstrap sample draws as many problems as there are, with replacement; its mean needs only how often each came.
    Which are drawn depends on the number of problems and the seed alone.
    """
    P, rng = len(values), np.random.default_rng(seed)
    means, at_once = [], max(1, 2**22 // P)  # limits the memory for 10,000 problems
    for first in range(0, draws, at_once):
        drawn = rng.integers(P, size=(min(at_once, draws - first), P))
        times = np.apply_along_axis(np.bincount, 1, drawn, minlength=P)  # [at_once, P]
        means.append(times @ values / P)
    return np.concatenate(means)


def interval(values: np.ndarray, level: float = 0.95, least: float = -1.0) -> np.ndarray:
    """The interval of the mean over problems: [problems, K] -> [2, K], lower and upper end.

    values: `problem_curves` of a model, with least=0; or, to compare two models, the difference of their
    problem_curves, which lies in -1..1. The latter is the paired interval, narrower than two separate ones suggest:
    both models were given the same problems, and a problem that is hard for both tells nothing about their difference.
    It answers "would other problems of this kind say the same?", the noise of their samples included.

    It is Wilson's score interval for values between `least` and 1, with Student's t (P - 1 degrees of freedom): all mu
    for which the mean m of P values with variance s^2 is no surprise, if the variance shrinks towards both ends as that
    of all-or-nothing values does,

        (m - mu)^2 <= a (mu - least) (1 - mu)        where a = t^2 / P * s^2 / ((m - least) (1 - m))

    For 0/1 values that is Wilson's own. Where all values are `least` or all are 1 it is so too: 30 of 30 solved is at
    least .88. All differences 0 give [0, 0], which says only that these problems cannot tell the models apart.

    How often 95 % intervals held the truth, and percentiles of bootstrap means for comparison:

        problems    means          differences     bootstrap: means    differences
        30          .89 to .99     .92 to .96      .82 to .95          .86 to .95
        60          .94 to .97     .93 to .96      .91 to .96          .92 to .95
        180         .94 to .96     .94 to .96      .93 to .96          .93 to .96

    Measured on 4,000 studies each (the bootstrap: 1,000) of five shapes of accuracies, Beta(.3, 3) to Beta(2, .5), and
    of what a training makes of them that loses a tenth of the problems and gains on half, with 64 or 256 samples and
    k = 1 to 256. Left out is where more than .96 are truly solved: failures that no sample showed are in no interval. A
    difference that a few problems make is held less often: .84, if a tenth of 30 is lost and nothing else happens.
    Raises ValueError for fewer than two problems.
    """
    values = np.asarray(values, dtype=float)
    P, mean = len(values), values.mean(axis=0)
    if P < 2:
        raise ValueError("an interval over problems needs at least two problems")
    room = (mean - least) * (1 - mean)  # the largest variance that this mean allows
    share = np.where(room > 1e-12, values.var(axis=0, ddof=1) / np.maximum(room, 1e-12), 1.0)
    a = student_t(level, P - 1) ** 2 / P * share
    # The two roots of (1 + a) mu^2 - (2 m + a (1 + least)) mu + m^2 + a least = 0.
    center = (mean + a * (1 + least) / 2) / (1 + a)
    half = np.sqrt(np.maximum(center**2 - (mean**2 + a * least) / (1 + a), 0))
    return np.stack([center - half, center + half])


def student_t(level: float, degrees: int) -> float:
    """The t that a Student variable exceeds in size with probability 1 - level.

    Fisher's expansion (Abramowitz & Stegun 26.7.5). At 95 % it is too low by 1.7 % with 4 degrees and by 0.2 % with 9.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


class Crossing(NamedTuple):
    """The k at which two curves cross, and its interval."""

    k: float  # may lie between two k of the curves
    low: float | None  # the smallest k if the interval goes below it; None for curves without problems
    high: float | None  # infinite if the interval goes beyond the largest k; None for curves without problems


def crossing(curve_a, curve_b, ks=None, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Crossing | None:
    """The k from which the model that is ahead at the end stays ahead; None if it always was, or if they end equal.

    curve_a, curve_b: `problem_curves` of two models on the same problems, [problems, len(ks)], or two curves [len(ks)],
    which have no interval. ks: ascending; default 1, 2, 4 ... Between two of them the difference is taken as linear in
    log k. The interval is over paired bootstrap samples of the problems: in one, the model may be ahead from the start
    (its crossing counts as the smallest k) or behind at the end (as infinite). In the paper's Figure 2 the curves of
    Qwen2.5-7B on MATH-500 cross between 8 and 16.
    """
    a, b = np.asarray(curve_a, dtype=float), np.asarray(curve_b, dtype=float)
    ks = 2.0 ** np.arange(a.shape[-1]) if ks is None else np.asarray(ks, dtype=float)
    if a.shape != b.shape or a.ndim not in (1, 2) or len(ks) != a.shape[-1]:
        raise ValueError(f"two curves at the same k are needed, not {a.shape}, {b.shape} and {len(ks)} values of k")
    difference = a - b
    mean = difference if a.ndim == 1 else difference.mean(axis=0)
    end = np.sign(mean[-1])
    if not (mean * end < 0).any():
        return None
    k = float(positions(mean[None] * end, ks)[0])
    if a.ndim == 1:
        return Crossing(k, None, None)
    found = positions(resampled_means(difference, draws, seed) * end, ks)
    # inverted_cdf takes a value that occurred: between a number and infinity nothing can be interpolated.
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Crossing(k, float(low), float(high))


def positions(lead: np.ndarray, ks: np.ndarray) -> np.ndarray:
    """Where each row of lead [R, K] rises above 0 for good: [R]. Never below: ks[0]; not above at the end: infinity."""
    behind = lead < 0
    last = lead.shape[1] - 1 - behind[:, ::-1].argmax(axis=1)  # the last k at which the row is behind
    last = np.where(behind.any(axis=1), np.minimum(last, lead.shape[1] - 2), 0)
    rows = np.arange(len(lead))
    before, after = lead[rows, last], lead[rows, last + 1]
    # How far between the two the lead is 0. Rows that never rise above 0 get some number, and infinity below.
    share = np.clip(before / np.where(before == after, 1, before - after), 0, 1)
    log_k = np.log(ks[last]) + share * (np.log(ks[last + 1]) - np.log(ks[last]))
    found = np.where(behind.any(axis=1), np.exp(log_k), ks[0])
    return np.where(lead[:, -1] > 0, found, np.inf)


# --- what was solved? -----------------------------------------------------------------------------------------------

BINS = ("0", *(f"({i / 10:g}, {(i + 1) / 10:g}]" for i in range(9)), "(0.9, 1)", "1")


def accuracy_histogram(n, c) -> np.ndarray:
    """The number of problems in each of the paper's 12 bins of c / n, as BINS names them: [12] (Figure 5).

    0 and 1 have bins of their own: training moves problems to 1, and some to 0.
    """
    n, c = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    if not (np.all(c >= 0) and np.all(c <= n) and np.all(n >= 1)):
        raise ValueError("accuracy_histogram needs 0 <= c <= n and n >= 1 for every problem")
    bins = np.where(c == n, 11, -(-10 * c // n))  # the ceiling of 10 c / n, in whole numbers: 3 of 10 is in (0.2, 0.3]
    return np.bincount(bins, minlength=12)


def coverage(base_c, trained_c) -> dict[str, list[int]]:
    """Which problems each model solved at least once: indices under both, base_only, trained_only and neither.

    The paper's 2 x 2 table (v5, Table 2). base_c, trained_c: correct samples of each problem, out of the same number n.
    """
    base, trained = np.asarray(base_c) > 0, np.asarray(trained_c) > 0
    if base.shape != trained.shape:
        raise ValueError(f"coverage compares the same problems, not {len(base)} with {len(trained)}")
    cells = {
        "both": base & trained,
        "base_only": base & ~trained,
        "trained_only": ~base & trained,
        "neither": ~base & ~trained,
    }
    return {name: cell.nonzero()[0].tolist() for name, cell in cells.items()}


def sampling_efficiency_gap(base_pass_at_k: float, trained_pass_at_1: float) -> float:
    """How far one try of the trained model is from many tries of its base, in percentage points; lower is better.

    The paper's Delta_SE (section 4.3), k = 256. At 0, one try of the trained model solves what many of the base do.
    The paper's GRPO on Omni-MATH: 69.1 - 25.1 = 44.0 points.
    """
    return 100 * (base_pass_at_k - trained_pass_at_1)


def majority_at_k(answers, correct, ks, draws: int = 200, seed: int = 0) -> np.ndarray:
    """The probability that the most frequent answer among k samples is right: [len(ks)], for one problem.

    pass@k needs someone who knows the answer to pick it out of k samples; a vote needs nobody. answers: n hashable
    answers, None for no answer, which has no vote; correct: n truth values. Answers that tie share the win. All right
    answers count as one, however they are written; wrong ones are told apart by their text, so that this is an upper
    bound where one is written in several ways. A mean over `draws` random orders of the n samples, of which the first k
    vote; exact for k = n.
    """
    ks, n = list(ks), len(answers)
    if len(correct) != n or not ks or min(ks) < 1 or max(ks) > n:
        raise ValueError("majority_at_k needs a truth value for each answer, and 1 <= k <= n")
    # Answers as numbers: 0 is the right one, the wrong ones follow, the last stands for no answer.
    wrong = list(dict.fromkeys(a for a, right in zip(answers, correct, strict=True) if not right and a is not None))
    number = {answer: i + 1 for i, answer in enumerate(wrong)} | {None: len(wrong) + 1}
    voices = np.array([0 if right else number[a] for a, right in zip(answers, correct, strict=True)])
    order = np.random.default_rng(seed).permuted(np.tile(voices, (draws, 1)), axis=1)  # [draws, n]
    width, wins = len(wrong) + 2, []
    offsets = np.arange(draws)[:, None] * width  # counts the votes of all orders at once
    for k in ks:
        votes = np.bincount((order[:, :k] + offsets).ravel(), minlength=draws * width).reshape(draws, width)[:, :-1]
        most = votes.max(axis=1)
        winners = (votes == most[:, None]).sum(axis=1)
        wins.append(np.where((votes[:, 0] == most) & (most > 0), 1 / winners, 0).mean())
    return np.array(wins)


if __name__ == "__main__":
    from study.counts import main  # reads the file and prints; it calls what is above

    sys.exit(main())
