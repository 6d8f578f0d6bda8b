"""entropy.py: is the trained model worse at many tries only because its words vary less?

From "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, section 4.5): training lowers
the entropy of a model's next tokens, and with less variety many tries find fewer solutions. So the trained model is
sampled again, at the temperature at which its entropy is the base's, and compared again.
"""

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from engine.slots import release
from running.files import BadInput
from study import folder
from study.samples import Entry, Ready, Sampling, draw_samples

COLDEST, WARMEST, STEP = 0.05, 4.0, 1.25  # temperatures that are tried, and the factor from one to the next
MATCHING = 2880  # samples that an entropy is estimated from, at most 16 of a problem; a few long ones can dominate it


def matched_entries(
    entries: list[Entry], out: Path, sampling: Sampling, load: Callable[[str], Ready] | None
) -> list[Entry]:
    """Each trained model again, at the temperature at which its entropy is the base's; the base is the first entry.

    Found temperatures are kept in study.json. load None (--regrade): only those may be used. Raises BadInput if one is
    missing then, or if no temperature fits. A model whose entropy is the base's as it is has no second entry.
    """
    study, base = folder.read_study(out), entries[0].model
    matched = study["matched"].setdefault(base, {})
    missing = [model for _, model, _ in entries[1:] if model not in matched]
    if missing and load is None:
        raise BadInput(f"--match-entropy: {out} has no samples at another temperature; leave out --regrade")
    if missing:
        target = mean_entropy(load(base), sampling)
    for model in missing:
        matched[model] = matching_temperature(load(model), target, sampling)
        folder.write_study(out, study)  # each search takes long: a kill must not lose it
    temperatures = [(model, matched[model]) for _, model, _ in entries[1:]]
    return [Entry(f"{model} at T={T:g}", model, T) for model, T in temperatures if sampling.temperature != T]


def mean_entropy(ready: Ready, sampling: Sampling) -> float:
    """The entropy of the sampling distribution (before top-p), nats, mean over the tokens of a few samples per problem.

    The random numbers are the same at each temperature, so that the result changes smoothly with it.
    """
    P, total, tokens = len(ready.prompts), 0.0, 0
    number = min(16, sampling.number, max(1, MATCHING // P))
    drawn = draw_samples(ready, range(P), sampling._replace(number=number))
    title = f"entropy at T={sampling.temperature:g}"
    for record in tqdm(drawn, desc=title, total=number * P, unit=" samples", leave=False):
        total += record["entropy"] * len(record["tokens"])
        tokens += len(record["tokens"])
    release(ready.policy)  # frees the sampler's memory
    return total / tokens


def matching_temperature(ready: Ready, target: float, sampling: Sampling) -> float:
    """The temperature, to two digits, at which the model's mean entropy is within 1 % of `target`, or else nearest.

    Goes from the study's temperature in factors of STEP until the target lies between two entropies, then to where a
    straight line between them meets it, and again. Raises BadInput if the target is out of reach.
    """
    tried = {}  # temperature -> entropy, nats

    def measure(temperature: float) -> float:
        tried[temperature] = mean_entropy(ready, sampling._replace(temperature=temperature))
        return tried[temperature]

    def nearest() -> float:
        return min(tried, key=lambda temperature: abs(tried[temperature] - target))

    before = here = sampling.temperature
    factor = STEP if measure(here) < target else 1 / STEP
    while not min(tried.values()) <= target <= max(tried.values()):
        before, here = here, round(here * factor, 2)
        if not COLDEST <= here <= WARMEST:
            raise BadInput(
                f"--match-entropy: no temperature from {COLDEST} to {WARMEST} gives {target:.2f} nats a token"
            )
        measure(here)
    low, high = sorted((before, here))
    while abs(tried[nearest()] - target) > 0.01 * target and high - low > 0.015:
        share = (target - tried[low]) / (tried[high] - tried[low])
        middle = round(min(max(low + share * (high - low), low + 0.01), high - 0.01), 2)
        low, high = (middle, high) if measure(middle) < target else (low, middle)
    return nearest()
