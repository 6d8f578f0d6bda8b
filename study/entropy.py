"""entropy.py: is the trained model worse at many tries only because its words vary less?

From "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, section 4.5): training lowers
the entropy of a model's next tokens, and with less variety many tries find fewer solutions. So the trained model is
sampled again, at the temperature at which its entropy is the base's, and compared again.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from engine.slots import release
from running.files import BadInput
from study import folder
from study.samples import Entry, Ready, Sampling, draw_samples

COLDEST, WARMEST, STEP = 0.05, 4.0, 1.25  # temperatures that are tried, and the factor from one to the next
# Samples of a problem at most, and in all, for each step of the search, and for the look at what it has found. On the
# toy the entropies of blocks of 16 samples of each of 180 problems differ by 1 to 2 % (standard deviation).
SEARCH, CHECK = (16, 2880), (64, 11_520)


def matched_entries(
    entries: list[Entry], out: Path, sampling: Sampling, load: Callable[[str], Ready] | None
) -> list[Entry]:
    """Each trained model again, at the temperature at which its entropy is the base's; the base is the first entry.

    The base's entropy is that of its samples, which are in `out` already. Found temperatures are kept in study.json.
    load None (--regrade): only those may be used. Raises BadInput if one is missing then, or if no temperature fits. A
    model whose entropy is the base's as it is has no second entry. How well the match held on the samples of the study
    is in the report, as entropy_ratio: nothing here sees those of the trained model.
    """
    study, base = folder.read_study(out), entries[0]
    matched = study["matched"].setdefault(base.model, {})
    missing = [model for _, model, _ in entries[1:] if model not in matched]
    if missing and load is None:
        raise BadInput(f"--match-entropy: {out} has no samples at another temperature; leave out --regrade")
    if missing:
        target = mean_entropy(record for record in folder.read_samples(out) if record["model"] == base.label)
    for model in missing:
        matched[model] = matching_temperature(load(model), target, sampling)
        folder.write_study(out, study)  # each search takes long: a kill must not lose it
    temperatures = [(model, matched[model]) for _, model, _ in entries[1:]]
    return [Entry(f"{model} at T={T:g}", model, T) for model, T in temperatures if sampling.temperature != T]


def mean_entropy(records: Iterable[dict]) -> float:
    """The entropy of the sampling distribution (before top-p), nats: the mean over all tokens of these samples."""
    total, tokens = 0.0, 0
    for record in records:
        total += record["entropy"] * len(record["tokens"])
        tokens += len(record["tokens"])
    return total / tokens


def entropy_of(ready: Ready, sampling: Sampling, block: int) -> float:
    """The mean entropy of a few new samples of each problem. block: 1 for the search, 2 for the check of its result.

    A block has random numbers of its own, which the study's samples have not. They are the same at each temperature, so
    that the result changes smoothly with it.
    """
    P, (of_one, of_all) = len(ready.prompts), (SEARCH, CHECK)[block - 1]
    number = min(of_one, sampling.number, max(1, of_all // P))
    drawn = draw_samples(ready, range(P), sampling._replace(number=number, seed=sampling.seed + 1000 * block))
    title = f"entropy at T={sampling.temperature:g}"
    found = mean_entropy(tqdm(drawn, desc=title, total=number * P, unit=" samples", leave=False))
    release(ready.policy)  # frees the sampler's memory
    return found


def matching_temperature(ready: Ready, target: float, sampling: Sampling) -> float:
    """The temperature, to three digits behind the point, at which the model's mean entropy is `target`.

    Goes from the study's temperature in factors of STEP until the target lies between two entropies, then to where a
    straight line between them meets it, and again, until it is within 1 %. But all of this was seen on one small block,
    and is wrong by the luck of that block. So a larger one is drawn at the temperature found, and what it differs by is
    made up for: between the last two temperatures, entropy is taken as a power of the temperature. Raises BadInput if
    the target is out of reach.
    """
    tried = {}  # temperature -> entropy, nats

    def measure(temperature: float) -> float:
        tried[temperature] = entropy_of(ready, sampling._replace(temperature=temperature), 1)
        return tried[temperature]

    def nearest() -> float:
        return min(tried, key=lambda temperature: abs(tried[temperature] - target))

    before = here = sampling.temperature
    factor = STEP if measure(here) < target else 1 / STEP
    while not min(tried.values()) <= target <= max(tried.values()):
        before, here = here, round(here * factor, 3)
        if not COLDEST <= here <= WARMEST:
            raise BadInput(
                f"--match-entropy: no temperature from {COLDEST} to {WARMEST} gives {target:.2f} nats a token"
            )
        measure(here)
    low, high = sorted((before, here))
    while abs(tried[nearest()] - target) > 0.01 * target and high - low > 0.0015:
        share = (target - tried[low]) / (tried[high] - tried[low])
        middle = round(min(max(low + share * (high - low), low + 0.001), high - 0.001), 3)
        low, high = (middle, high) if measure(middle) < target else (low, middle)
    found = nearest()
    seen = entropy_of(ready, sampling._replace(temperature=found), 2)
    if abs(seen - target) <= 0.005 * target or low == high:
        return found
    power = math.log(tried[high] / max(tried[low], 1e-9)) / math.log(high / low)  # entropy ~ temperature^power
    return round(min(max(found * (target / seen) ** (1 / power), COLDEST), WARMEST), 3)
