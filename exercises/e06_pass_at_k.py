"""6. pass@k * (10 minutes): what can a model solve in k tries, from n samples?

n samples of a problem were drawn and c of them are right. "Does Reinforcement Learning Really Incentivize Reasoning
Capacity in LLMs Beyond the Base Model?" (2504.13837), section 2.3, after Chen et al. (2107.03374), eq. 1: take k of the
n without putting any back; how likely is it that one at least is right?

    pass@k = 1 - C(n - c, k) / C(n, k)

n, c, k: whole numbers, 0 <= c <= n, 1 <= k <= n. Return a float. pass_at_k(10, 1, 5) is .50, and not .41; and
pass_at_k(10_000, 30, 5_000) must be a number too.

--- hint: read on only when stuck ---
math.comb is exact; divide whole numbers as late as you can (they have thousands of digits here, and Python divides them
rightly). What is C(3, 5)?
"""


def pass_at_k(n: int, c: int, k: int) -> float:
    raise NotImplementedError
