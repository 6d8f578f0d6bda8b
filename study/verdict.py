"""verdict.py: what did training do, in a sentence or two?

`verdict` takes `content`, what report.json holds, and says no more than its counts allow. A difference whose interval
holds 0 is said to be one that chance may explain; one completion each says nothing about many tries; and of the
problems that only the base solves, some are lost by luck alone, which is estimated too.
"""

import math
from typing import NamedTuple

import numpy as np

from study.pictures import short_names
from study.report import at_k


class Verdict(NamedTuple):
    """What a study says."""

    answer: str
    each: list[str]  # of several trained models: the answer for each
    cautions: str  # what to keep in mind; "" for nothing


def verdict(content: dict) -> Verdict:
    """The verdict on a study of one model, of a base and a trained model, or of a base and several."""
    compared, called = list(content["compared"]), short_names(content["models"])
    if not compared:
        return Verdict(alone(content), [], "Nothing to compare it with: name a trained model behind it.")
    if len(compared) == 1:
        return Verdict(of_model(content, compared[0]), [], cautions(content))
    each = [f"{called[model]}: {of_model(content, model)}" for model in compared]
    return Verdict(summary(content), each, cautions(content))


# --- words ----------------------------------------------------------------------------------------------------------


def share(value: float) -> str:
    """A number from 0 to 1 with three digits, as the tables have them: .270."""
    return f"{value:.3f}".removeprefix("0")


def points(value: float) -> float:
    """A difference in percentage points, with one digit; what rounds to zero has no sign."""
    return round(100 * value, 1) + 0.0


def problems(count: int) -> str:
    """1 problem, 2 problems."""
    return f"{count} problem" + "s" * (count != 1)


def tries(k: int) -> str:
    """one try, 2 tries."""
    return "one try" if k == 1 else f"{k} tries"


def both_ends(content: dict) -> dict[int, int]:
    """k -> its place in a curve, of one try and of all tries."""
    return {1: 0, content["samples"]: len(content["k"]) - 1}


# --- one model ------------------------------------------------------------------------------------------------------


def alone(content: dict) -> str:
    """The verdict on a model that is compared with none: what it solves in one try and in all, and what never."""
    (label, result), said = next(iter(content["models"].items())), []
    for k, i in both_ends(content).items():
        interval = [share(end[i]) for end in result.get("interval_correct", ())]  # none over a single problem
        said.append(
            f"{share(result['pass_at_k_correct'][i])} in {tries(k)}" + f" [{', '.join(interval)}]" * bool(interval)
        )
    never, name = sum(c == 0 for c in result["counts_correct"]), short_names(content["models"])[label]
    of_all = problems(content["problems"])
    return f"Of {of_all}, {name} solves {' and '.join(said)}; {never} it never solved."


# --- a trained model and its base -----------------------------------------------------------------------------------


def direction(pair: dict, i: int, kind: str = "correct") -> int:
    """1: above the base at the i-th k, -1: below it, 0: the interval of the difference holds 0, or there is none."""
    if f"difference_interval_{kind}" not in pair:
        return 0
    low, high = (end[i] for end in pair[f"difference_interval_{kind}"])
    return (low > 0) - (high < 0)


def change(content: dict, model: str, i: int, kind: str = "correct") -> str:
    """From the base to the model at the i-th k: "rises from .270 to .543 (+27.3 points [20.7, 33.7])"."""
    base, pair = next(iter(content["models"].values())), content["compared"][model]
    before, after = (share(result[f"pass_at_k_{kind}"][i]) for result in (base, content["models"][model]))
    difference = f"{points(pair[f'difference_{kind}'][i]):+.1f} points"
    if f"difference_interval_{kind}" not in pair:
        return f"goes from {before} to {after} ({difference})"
    low, high = (end[i] for end in pair[f"difference_interval_{kind}"])
    if low == high == 0:  # no problem differs
        return f"is {after} for both"
    difference += f" [{points(low):.1f}, {points(high):.1f}]"
    if way := direction(pair, i, kind):
        return f"{'rises' if way > 0 else 'falls'} from {before} to {after} ({difference})"
    if before == after:
        return f"stays at {after} ({difference})"
    return f"goes from {before} to {after} ({difference}: the interval holds 0, so chance may explain it)"


def of_model(content: dict, model: str) -> str:
    """The answer for one trained model: one try, all tries, who alone solves what, who is ahead from where on."""
    n, pair = content["samples"], content["compared"][model]
    if n == 1:
        name = "Greedy accuracy" if content["temperature"] == 0 else "The accuracy of one sample each"
        said = [f"{name} {change(content, model, 0)}."]
    else:
        one, many = (f"pass@{k} {change(content, model, i)}" for k, i in both_ends(content).items())
        but = direction(pair, 0) * direction(pair, -1) < 0
        said = [f"{one}, {'but' if but else 'and'} {many}."]
    lost, gained = (len(pair["coverage_correct"][cell]) for cell in ("base_only", "trained_only"))
    said.append(f"{lost} of {problems(content['problems'])} only the base solves, {gained} only the trained model.")
    if n > 1:
        said += crossing(content, pair)
    if n > 1 and "difference_valid" in pair:
        said.append(f"Counting valid chains only, pass@{n} {change(content, model, -1, 'valid')}.")
    return " ".join(said)


def crossing(content: dict, pair: dict) -> list[str]:
    """Who is ahead from where on, no surer than the difference at the largest k; [] where the curves end equal."""
    n, ends = content["samples"], pair["difference_correct"][-1]
    ahead, sure = "the trained model" if ends > 0 else "the base", direction(pair, -1) != 0
    if abs(ends) < 1e-9:
        return []
    if not pair.get("crossing_correct"):  # also without intervals
        return [f"With any number of tries up to {n} {ahead} is ahead{'' if sure else ', within chance'}."]
    k, low, high = pair["crossing_correct"]
    low, high = "1 or less" if low == 1 else at_k(low), f"beyond {n}" if high is None else at_k(high)
    if not sure:
        return [f"The curves cross at {at_k(k)} tries (95 % interval {low} to {high}), if they do."]
    return [f"From {math.floor(k) + 1} tries on {ahead} is ahead (95 % interval {low} to {high})."]


def cautions(content: dict) -> str:
    """What to keep in mind about all of these numbers."""
    n, base, said = content["samples"], next(iter(content["models"].values())), []
    if n == 1:
        said.append("One completion each says nothing about many tries: for that, draw more with --samples.")
    elif any(pair["coverage_correct"]["base_only"] for pair in content["compared"].values()):
        again = f"{misses(base['counts_correct'], n):.0f}"
        said.append(f"If the base tried again, it would itself miss about {again} of the problems that it solved here.")
    if n > 1 and content.get("chance"):
        chance = content["chance"]
        said.append(f"For comparison, a {chance['name']}: pass@{n} {share(chance['pass_at_k'][-1])}.")
    if content["problems"] == 1:
        return " ".join([*said, "A single problem says nothing about others."])
    rough = ", and rough for so few" if content["problems"] < 60 else ""
    said.append(f"Brackets are 95 % intervals over the {content['problems']} problems{rough}.")
    return " ".join(said)


def misses(counts: list[int], n: int) -> float:
    """How many of the problems solved in c of n samples another n samples would not solve, if the chance of a sample is
    c / n: the sum of (1 - c/n)^n over c > 0. For a c of 1 that is one in e: what is solved once is lost easily."""
    shares = np.array([c for c in counts if c > 0]) / n
    return float(((1 - shares) ** n).sum())


# --- several trained models -----------------------------------------------------------------------------------------


def summary(content: dict) -> str:
    """How many of several trained models are above their base, and how many below, in one try and in all."""
    base, *others = content["models"].values()
    results = zip(others, content["compared"].values(), strict=True)
    pairs = [pair for result, pair in results if result["temperature"] == content["temperature"]]  # no matched ones
    said = []
    for k, i in both_ends(content).items():
        ways = [direction(pair, i) for pair in pairs]
        names = {1: "higher", -1: "lower", 0: "within chance"}
        counts = ", ".join(f"{ways.count(way)} {name}" for way, name in names.items() if way in ways)
        said.append(f"pass@{k} against the base's {share(base['pass_at_k_correct'][i])}: {counts}")
    return f"{len(pairs)} trained models. {'; '.join(said)}."
