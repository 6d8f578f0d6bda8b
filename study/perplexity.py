"""perplexity.py: would this model have said that, and how spread are its own words?

Perplexity, from "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, section 4.1):

    PPL_m(Y | x) = exp( - 1/T sum_t log p_m(y_t | x, y_<t) )

of responses Y of one model (or of a teacher) under another. If what the trained model writes has a low perplexity under
its base, the base could have written it. Here the median of each problem's responses, as in the paper's appendix C.4.

Entropy matching (its section 4.5): training lowers the entropy of a model's words, and a model with less spread has
less chance to stumble on a solution in many tries. So the trained model is sampled at the temperature at which its
words are as spread as its base's, and compared again.

Differs from the paper: it does not say at which temperature its perplexities are; here it is 1, the model as it is. The
end token counts as a token of the response.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import data
import toy
from data import BadInput, Problem
from generate import KEPT
from grpo import micro_batches, score
from running.files import read_jsonl
from running.models import load_model
from study.samples import Entry, Ready, sample

WARMEST, COLDEST, STEP = 4.0, 0.05, 1.25  # temperatures tried for a match, and their ratio on the way to a bracket
MATCHING = 2880  # samples that an entropy is estimated from, at most 16 of a problem: a few long ones weigh much
TEACHER = "teacher"


# --- perplexity -----------------------------------------------------------------------------------------------------


def perplexity(logps) -> float:
    """exp of minus the mean log-probability of a response's tokens: 1 if every token was certain, V if all were one."""
    return math.exp(-torch.as_tensor(logps).mean().item())


@torch.inference_mode()
def token_values(policy, pairs: list[tuple[list[int], np.ndarray]]) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """For each response its number, and the log-probabilities and self-certainties of its tokens, in nats, [T] each.

    pairs: (prompt, response), token ids. At temperature 1, through the same head as in training (grpo.score), rows of
    like length together, and one batch at a time: the values of a whole study would not fit.
    """
    lengths = torch.tensor([len(prompt) + len(response) for prompt, response in pairs])
    for batch in micro_batches(lengths, 8192 if policy.device.type == "cuda" else 1024):
        token_ids = torch.zeros(len(batch), int(lengths[batch].max()), dtype=torch.long)  # [n, S]
        mask = torch.zeros_like(token_ids)
        for row, i in enumerate(batch.tolist()):
            prompt, response = pairs[i]
            token_ids[row, : len(prompt)] = torch.tensor(prompt)
            token_ids[row, len(prompt) : lengths[i]] = torch.from_numpy(response)
            mask[row, len(prompt) : lengths[i]] = 1
        logps, certainty = (x.cpu() for x in score(policy, token_ids.to(policy.device), mask.to(policy.device)))
        for row, i in enumerate(batch.tolist()):
            yield i, logps[row, mask[row].bool()], certainty[row, mask[row].bool()]


def response_tokens(record: dict, tokenizer) -> np.ndarray:
    """The tokens of a response for this model: those that were sampled, if they mean the same text to its tokenizer.

    Else those of the text, without an end token: of several, the one that this model would have used is not known.
    """
    if "tokens" in record and tokenizer.decode(record["tokens"], skip_special_tokens=True) == record["text"]:
        return record["tokens"]
    return np.array(tokenizer(record["text"], add_special_tokens=False)["input_ids"], dtype=np.int32)


def pieces(tokens: np.ndarray, tokenizer) -> list[str]:
    """What each token adds to the text. A character of several tokens belongs to the last of them."""
    texts, waiting = [], []
    for token in tokens.tolist():
        waiting.append(token)
        text = tokenizer.decode(waiting)
        whole = not text.endswith("\ufffd") or len(waiting) == 4  # no character has more bytes
        texts.append(text if whole else "")
        waiting = [] if whole else waiting
    if waiting:  # cut off in the middle of a character
        texts[-1] = text
    return texts


def teacher_responses(problems: list[Problem], settings) -> list[dict]:
    """Responses that no model of the study wrote, at most --perplexity to a problem: {"problem": index, "text"} each.

    From --teacher, a .jsonl file with the columns problem (or question, or prompt: the text of the problem as the model
    is given it) and response; without one, on the toy: chains without a slip, as toy.py writes them. Raises BadInput.
    """
    path, number = settings.teacher, settings.perplexity
    if path is None:
        return [
            {"problem": i, "text": toy.reason(problem.prompt, random.Random(f"teacher-{i}-{j}"))}
            for i, problem in enumerate(problems if settings.data == "toy" else [])
            for j in range(number)
        ]
    if not Path(path).is_file():
        raise BadInput(f"--teacher {path}: no such file; give a .jsonl with the columns problem and response")
    index, counts, found = {p.prompt: i for i, p in enumerate(problems)}, defaultdict(int), []
    for row in read_jsonl(Path(path), "--teacher"):
        text = next((row[name] for name in ("problem", "question", "prompt") if isinstance(row.get(name), str)), None)
        if text is None or not isinstance(row.get("response"), str):
            raise BadInput(f"--teacher {path}: a row has the columns {', '.join(row)}; needed are problem and response")
        i = index.get(text.strip())
        if i is not None and row["response"] and counts[i] < number:
            counts[i] += 1
            found.append({"problem": i, "text": row["response"]})
    if not found:
        raise BadInput(f"--teacher {path}: no response to a problem of this study; the problems' texts must be equal")
    return found


def perplexities(entries: list[Entry], written: dict[str, list[dict]], problems: list[Problem], settings) -> list[dict]:
    """Who finds whose responses how likely: what every writer wrote under the base, and under the writer itself.

    entries: the study's, the base first; written: label -> records to score (a teacher's under TEACHER). Returns
    {"writer", "reader", "problems": {index: median perplexity}} each. Records under "look" are given "pieces", "logps"
    and "certainty", something for each token, by the model that wrote them.
    """
    table, base = [], entries[0].model
    own = {entry.label: entry.model for entry in entries}
    for reader in dict.fromkeys(own.values()):
        policy = tokenizer = None  # frees the model before the next is loaded
        policy, tokenizer = load_model(reader, settings.device, settings.compute)
        prompts = [data.encode_prompt(problem, tokenizer, settings.template) for problem in problems]
        for writer, records in written.items():
            if reader not in (base, own.get(writer)):
                continue
            by_problem = defaultdict(list)
            pairs = [(prompts[record["problem"]], response_tokens(record, tokenizer)) for record in records]
            for i, logps, certainty in token_values(policy, pairs):
                # Others were kept to look at, for being right; and of no token there is no mean.
                if records[i].get("sample", 0) < settings.perplexity and len(logps):
                    by_problem[records[i]["problem"]].append(perplexity(logps))
                if own.get(writer) == reader and records[i]["look"]:
                    records[i] |= {"logps": logps.tolist(), "certainty": certainty.tolist()}
                    records[i]["pieces"] = pieces(pairs[i][1], tokenizer)
            medians = {i: float(np.median(values)) for i, values in sorted(by_problem.items())}
            table.append({"writer": writer, "reader": reader, "problems": medians})
    return table


# --- entropy matching -----------------------------------------------------------------------------------------------


def mean_entropy(ready: Ready, temperature: float, settings) -> float:
    """The entropy of the sampling distribution (before top-p), nats, mean over the tokens of a few samples of each
    problem. Always of the same random numbers, so that it is a smooth function of the temperature."""
    total = tokens = 0.0
    P = len(ready.prompts)
    number = min(16, settings.samples, max(1, MATCHING // P))
    for record in tqdm(
        sample(ready, range(P), number, temperature, settings),
        desc=f"entropy at T={temperature:g}",
        total=number * P,
        unit=" samples",
        leave=False,
    ):
        total += record["entropy"] * len(record["tokens"])
        tokens += len(record["tokens"])
    KEPT.pop(ready.policy, None)
    return total / tokens


def matching_temperature(ready: Ready, target: float, settings) -> float:
    """The temperature, in hundredths, at which the model's mean entropy is within 1 % of `target`, or nearest to it.
    Raises BadInput if there is none.

    Away from the study's temperature by factors of STEP until the target lies between two, then where a straight line
    between them says.
    """
    start = settings.temperature
    tried = {start: mean_entropy(ready, start, settings)}
    factor = STEP if tried[start] < target else 1 / STEP
    before, here = start, start
    while not min(tried.values()) <= target <= max(tried.values()):
        before, here = here, round(here * factor, 2)
        if not COLDEST <= here <= WARMEST:
            raise BadInput(
                f"--match-entropy: no temperature from {COLDEST} to {WARMEST} gives {target:.2f} nats a token"
            )
        tried[here] = mean_entropy(ready, here, settings)
    low, high = sorted((before, here))
    best = min(tried, key=lambda temperature: abs(tried[temperature] - target))
    while abs(tried[best] - target) > 0.01 * target and high - low > 0.015:
        share = (target - tried[low]) / (tried[high] - tried[low])
        middle = round(min(max(low + share * (high - low), low + 0.01), high - 0.01), 2)
        tried[middle] = mean_entropy(ready, middle, settings)
        low, high = (middle, high) if tried[middle] < target else (low, middle)
        best = min(tried, key=lambda temperature: abs(tried[temperature] - target))
    return best
