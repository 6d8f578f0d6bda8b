"""Exercise 1, solved."""

import re


def worked_steps(expression: str) -> list[tuple[int, str, int, int]]:
    first, *others = [int(digit) for digit in re.findall(r"\d", expression)]
    found, value = [], first
    for operator, right in zip(re.findall(r"[-+*]", expression), others, strict=True):
        result = {"+": value + right, "-": value - right, "*": value * right}[operator]
        found.append((value, operator, right, result))
        value = result
    return found
