"""math_worker.py: the process that asks math-verify. workers.py starts it, talks to it in lines, and kills it.

math-verify is the usual checker of mathematical answers. What it gets wrong is mended around it:

* It reads bare LaTeX badly, and nothing at all in 51 of MATH-500's 500 golds. So both answers are put into a box first,
  and `tidy` rewrites what it misreads even there.
* A text that it cannot read equals nothing, be it the answer or the gold.
* It takes two numbers for equal that both round to 0, such as 10^{-20} and 10^{-21}, alone or within an expression.
  `apart` compares them exactly. So it does equal numbers that math-verify does not work out, such as e^{i\\pi} and -1.
* It reads the last side of an equation. `consistent` looks at the others: 1+1=3 is not 3.
"""

import contextlib
import functools
import json
import logging
import re
import signal
import sys

from verify.quantities import ORDINAL, plain

try:
    import resource
except ImportError:  # Windows
    resource = None

MEMORY = 4 * 2**30  # bytes of address space
OUTLIVE = 15  # seconds on one question, after which the process ends itself; workers.py kills it long before


def tidy(answer: str) -> str:
    """An answer rewritten so that math-verify reads what its writer meant."""
    text = plain(answer).replace("\\varnothing", "\\emptyset").replace("\\lbrace", "\\{").replace("\\rbrace", "\\}")
    text = re.sub(r"\\text\s*\{\s*\\\$\s*\}|\\\$", "", text)  # $ signs
    text = re.sub(ORDINAL, "", text)  # 12^{\text{th}}
    text = re.sub(r"^\s*[a-zA-Z]\s*\\in(?![a-z])", "", text)  # x \in [0, 1]
    text = re.sub(r"^([^=]*[^=a-zA-Z\s!<>:][^=]*?)\s*(?<![!<>:])=\s*([a-zA-Z])\s*$", r"\2=\1", text)  # 5 = x
    text = re.sub(r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)  # sqrt(5)
    text = re.sub(r"(?<![a-zA-Z\\])(?:infty|infinity)(?![a-zA-Z])", r"\\infty", text)
    return re.sub(r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi", text)


def meant(x):
    """A parsed answer in which i is the imaginary unit and \\log_2 is worked out; math-verify does neither."""
    import sympy

    if not isinstance(x, sympy.Basic):
        return x
    x = x.subs({symbol: sympy.I for symbol in x.free_symbols if symbol.name == "i"})
    return x.replace(
        lambda y: y.func is sympy.log and len(y.args) == 2, lambda y: sympy.log(y.args[0]) / sympy.log(y.args[1])
    )


def differ(a, b) -> bool:
    """Do two sympy numbers differ? Exactly (to 50 digits), or by 1e-6 of their size if one of them is a decimal."""
    import sympy

    a, b = meant(a), meant(b)
    if a == b:
        return False
    if 0 in (a, b):
        return a.equals(b) is not True
    exact = not (a.has(sympy.Float) or b.has(sympy.Float))
    a, b = (x.expand(complex=True) if x.has(sympy.I) else x for x in (a, b))
    a, b = a.evalf(60), b.evalf(60)  # sympy's floats have no smallest number: 1/2006! is not 0
    return a != b and bool(abs(a - b) > (1e-50 if exact else 1e-6) * max(abs(a), abs(b)))


def is_number(x) -> bool:
    """Is it a finite number in sympy, be it complex?"""
    x = meant(x)
    return bool(getattr(x, "is_number", False)) and x.evalf().is_finite is not False


def apart(a, b) -> bool:
    """Do two parsed answers that math-verify takes for equal hold different numbers?

    It compares six decimals. We look into equations such as x = 5, tuples, intervals, sets and matrices, and compare
    expressions where all their variables are 0, and at another place.
    """
    import sympy

    a, b = (x.rhs if type(x).__name__ == "Equality" and x.lhs.is_Symbol else x for x in (a, b))
    kind = type(a).__name__
    if type(a) is type(b) and kind in ("Tuple", "Interval") and len(a.args) == len(b.args):
        return any(map(apart, a.args, b.args))
    if type(a) is type(b) and kind == "FiniteSet" and len(a.args) == len(b.args):
        # Members have no order: each needs a partner on the other side.
        return any(all(apart(x, y) for y in b.args) for x in a.args)
    if all(isinstance(x, sympy.MatrixBase) for x in (a, b)) and a.shape == b.shape:
        return any(map(apart, a.flat(), b.flat()))
    if is_number(a) and is_number(b):
        return differ(a, b)
    related = all(isinstance(x, sympy.core.relational.Relational) for x in (a, b))
    if related:
        a, b = a.lhs - a.rhs, b.lhs - b.rhs
    if not all(isinstance(x, sympy.Expr) for x in (a, b)) or not (a.free_symbols | b.free_symbols):
        return False
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    places = [dict.fromkeys(symbols, 0), {x: sympy.Rational(7 + 2 * i, 5 + i) for i, x in enumerate(symbols)}]
    values = [(a.subs(place), b.subs(place)) for place in places]
    if related:  # one may be a multiple of the other; only what is too small for math-verify is looked at
        (x, y), (at, by) = values
        return all(map(is_number, (x, y, at, by))) and by != 0 and 0 < abs(x) < 1e-6 and differ(x, y * at / by)
    return any(is_number(x) and is_number(y) and differ(x, y) for x, y in values)


def sides(equation: str) -> list[str]:
    """The sides of an equation, but for those cut from an equation in parentheses: P(X=3) = 1/2 has one."""
    equation = re.sub(r"^\s*(?:\\left)?[(\[](.*?)(?:\\right)?[)\]]\s*$", r"\1", equation, flags=re.DOTALL)
    found = re.split(r"(?<![!<>:])=", equation)
    return [side for side in found if all(side.count(a) == side.count(b) for a, b in ("()", "{}"))]


def consistent(sides: list[list]) -> bool:
    """Do the sides of an equation that are numbers say the same? Each is parsed."""
    numbers = [side[0] for side in sides if side and is_number(side[0])]
    return not any(differ(numbers[0], number) for number in numbers[1:])


def serve() -> None:
    """The loop: a line of JSON [answer, gold] comes in on stdin, `true` or `false` goes out on stdout."""
    import math_verify

    if resource is not None:
        with contextlib.suppress(ValueError, OSError):  # some systems have no such limit
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    alarm = getattr(signal, "alarm", lambda seconds: None)  # Windows has none
    logging.disable(logging.CRITICAL)  # math-verify warns about every text that it cannot parse
    flags = {"timeout_seconds": None, "allow_set_relation_comp": True}  # -2 <= x <= 7 is [-2, 7]
    config = [math_verify.LatexExtractionConfig()]

    @functools.lru_cache(maxsize=4096)  # the same gold comes with each rollout of its group
    def parse(text: str) -> list:
        return math_verify.parse(f"\\boxed{{{tidy(text)}}}", config, parsing_timeout=None)

    print("ready", flush=True)
    for line in sys.stdin:
        # If our parent was killed, nobody kills us: then this process must end by itself. The alarm has no handler in
        # Python, so it ends the process at once, whatever sympy is busy with.
        alarm(OUTLIVE)
        try:
            pair = json.loads(line)
            answer, gold = map(parse, pair)
            verdict = bool(answer and gold and math_verify.verify(gold, answer, **flags))
            if verdict:
                verdict = not apart(answer[0], gold[0])
            elif answer and gold and is_number(answer[0]) and is_number(gold[0]):
                verdict = not differ(answer[0], gold[0])
            if verdict and "=" in pair[0]:
                verdict = consistent([parse(side) for side in sides(pair[0])])
        except Exception:  # sympy raises nearly anything on odd input; an answer that breaks the checker is wrong
            verdict = False
        alarm(0)
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    serve()
