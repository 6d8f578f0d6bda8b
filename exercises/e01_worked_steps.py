"""1. The steps of a toy problem (8 minutes): warm up, and meet the world that everything else is tried in.

The chain world's problems look like `7+8*3-4=`. They are worked strictly from left to right, without precedence:

    7+8 = 15,   15*3 = 45,   45-4 = 41         (toy.py says why: small, exact, and hard to do in one's head)

expression: one-digit numbers, the operators + - *, and "=" at the end. Return the list of (left, operator, right,
result), one for each operator. For `7+8*3-4=`:

    [(7, "+", 8, 15), (15, "*", 3, 45), (45, "-", 4, 41)]

--- hint: read on only when stuck ---
The left number of each step is the result of the step before it. re.findall(r"[-+*]", expression) gives the operators.
"""


def worked_steps(expression: str) -> list[tuple[int, str, int, int]]:
    raise NotImplementedError
