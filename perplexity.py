"""perplexity.py: would this model have said that, and how spread are its own words?

Perplexity, from "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, section 4.1):

    PPL_m(Y | x) = exp( - 1/T sum_t log p_m(y_t | x, y_<t) )

of responses Y of one model (or of a teacher) under another. If what the trained model writes has a low perplexity under
its base, the base could have written it. Medians per problem, as in the paper's Figure 6 and appendix C.4.

Entropy matching (the paper's appendix on temperature): training lowers the entropy of a model's words, and a model with
less spread has less chance to stumble on a solution in many tries. So the trained model is sampled at the temperature
at which its words are as spread as its base's, and compared again.

Differs from the paper: it does not say at which temperature its perplexities are; here it is 1, the model as it is. The
end token counts as a token of the response.
"""

import math
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import data
import toy
from data import BadInput, Problem
from generate import KEPT
from grpo import micro_batches, score
from models import end_tokens, load_model
from samples import Ready, sample

WARMEST, COLDEST, STEP = 4.0, 0.05, 1.25  # temperatures tried for a match, and their ratio on the way to a bracket
MATCHING = 16  # samples of each problem that an entropy is estimated from: a few long ones weigh much
TEACHER = "teacher"


# --- perplexity -----------------------------------------------------------------------------------------------------


def perplexity(logps) -> float:
    """exp of minus the mean log-probability of a response's tokens: 1 if every token was certain, V if all were one."""
    return math.exp(-float(np.mean(logps)))


@torch.inference_mode()
def token_values(policy, pairs: list[tuple[list[int], list[int]]]) -> list[tuple[list[float], list[float]]]:
    """(log-probabilities, self-certainties) of the tokens of each response, in nats, at temperature 1.

    pairs: (prompt, response), token ids. Through the same head as in training (grpo.score), rows of like length
    together.
    """
    lengths = torch.tensor([len(prompt) + len(response) for prompt, response in pairs])
    values: list = [None] * len(pairs)
    for batch in micro_batches(lengths, 8192 if policy.device.type == "cuda" else 1024):
        token_ids = torch.zeros(len(batch), int(lengths[batch].max()), dtype=torch.long)  # [n, S]
        mask = torch.zeros_like(token_ids)
        for row, i in enumerate(batch.tolist()):
            prompt, response = pairs[i]
            token_ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
            mask[row, len(prompt) : len(prompt) + len(response)] = 1
        logps, certainty = (x.cpu() for x in score(policy, token_ids.to(policy.device), mask.to(policy.device)))
        for row, i in enumerate(batch.tolist()):
            here = mask[row].bool()
            values[i] = logps[row, here].tolist(), certainty[row, here].tolist()
    return values


def response_tokens(record: dict, policy, tokenizer) -> list[int]:
    """The tokens of a response for this model: those that were sampled if they mean the same text to its tokenizer,
    else those of the text, and an end token behind it if it had ended."""
    tokens = record.get("tokens")
    if tokens and tokenizer.decode(tokens, skip_special_tokens=True) == record["text"]:
        return tokens
    ids = tokenizer(record["text"], add_special_tokens=False)["input_ids"]
    return ids if record.get("truncated") else [*ids, end_tokens(policy, tokenizer)[0]]


def teacher_responses(path: str | None, problems: list[Problem], number: int) -> list[dict]:
    """Responses that no model of the study wrote, at most `number` to a problem: {"problem": index, "text"} each.

    path: a .jsonl file with the columns problem (or question, or prompt: the text of a problem of the study) and
    response. Without one, on the toy: chains without a slip, as toy.py writes them. Raises BadInput.
    """
    if path is None:
        if problems[0].kind != "number":
            return []
        return [
            {"problem": i, "text": toy.reason(problem.prompt, random.Random(f"teacher-{i}-{j}"))}
            for i, problem in enumerate(problems)
            for j in range(number)
        ]
    if not Path(path).is_file():
        raise BadInput(f"--teacher {path}: no such file; give a .jsonl with the columns problem and response")
    index, counts, found = {p.prompt: i for i, p in enumerate(problems)}, defaultdict(int), []
    for row in data.read_rows(Path(path), "--teacher"):
        text = next((row[name] for name in ("problem", "question", "prompt") if isinstance(row.get(name), str)), None)
        if text is None or not isinstance(row.get("response"), str):
            raise BadInput(f"--teacher {path}: a row has the columns {', '.join(row)}; needed are problem and response")
        i = index.get(text.strip())
        if i is not None and counts[i] < number:
            counts[i] += 1
            found.append({"problem": i, "text": row["response"]})
    if not found:
        raise BadInput(f"--teacher {path}: none of its problems is a problem of this study; their texts must be equal")
    return found


def perplexities(models: list[tuple[str, str]], written: dict[str, list[dict]], problems, settings) -> list[dict]:
    """Who finds whose responses how likely: what every writer wrote under the base, and under the writer itself.

    models: (label, model) of each, the base first; written: label -> records to score (a teacher's under TEACHER).
    Returns {"writer", "reader", "problems": {index: median perplexity}} each. Records that their own writer has scored
    are given "logps" and "certainty", a number for each token.
    """
    table, (base, _) = [], models[0]
    for reader, model in models:
        policy, tokenizer = load_model(model, settings.device, settings.compute)
        prompts = [data.encode_prompt(problem, tokenizer, settings.template) for problem in problems]
        for writer in written if reader == base else [reader]:
            responses = [response_tokens(record, policy, tokenizer) for record in written[writer]]
            pairs = [(prompts[r["problem"]], ids) for r, ids in zip(written[writer], responses, strict=True)]
            by_problem = defaultdict(list)
            for record, ids, (logps, certainty) in zip(
                written[writer], responses, token_values(policy, pairs), strict=True
            ):
                if record.get("sample", 0) < settings.perplexity:  # others were kept to look at, for being right
                    by_problem[record["problem"]].append(perplexity(logps))
                if writer == reader:
                    record |= {"tokens": ids, "logps": logps, "certainty": certainty}
                    record["pieces"] = [tokenizer.decode([token]) for token in ids]
            medians = {i: float(np.median(values)) for i, values in by_problem.items()}
            table.append({"writer": writer, "reader": reader, "problems": medians})
    return table


# --- entropy matching -----------------------------------------------------------------------------------------------


def mean_entropy(ready: Ready, temperature: float, settings) -> float:
    """The entropy of the sampling distribution (before top-p), nats, mean over the tokens of a few samples of each
    problem. Always of the same random numbers, so that it is a smooth function of the temperature."""
    total = tokens = 0.0
    number = min(MATCHING, settings.samples)
    for record in sample(ready, range(len(ready.prompts)), number, temperature, settings):
        total += record["entropy"] * len(record["tokens"])
        tokens += len(record["tokens"])
    KEPT.pop(ready.policy, None)
    return total / tokens


def matching_temperature(ready: Ready, target: float, settings) -> float:
    """The temperature at which the model's mean entropy is `target`, to 1 % of it. Raises BadInput if there is none.

    Away from the study's temperature by factors of STEP until the target lies between two, then where a straight line
    between them says. (Where the entropy jumps over the target, to a temperature of 0.005.)
    """
    tried = {settings.temperature: mean_entropy(ready, settings.temperature, settings)}
    factor = STEP if tried[settings.temperature] < target else 1 / STEP
    low = high = settings.temperature
    while not min(tried.values()) <= target <= max(tried.values()):
        low, high = (high, high * factor) if factor > 1 else (low * factor, low)
        end = high if factor > 1 else low
        if not COLDEST <= end <= WARMEST:
            raise BadInput(
                f"--match-entropy: no temperature from {COLDEST} to {WARMEST} gives {target:.2f} nats a token"
            )
        tried[end] = mean_entropy(ready, end, settings)
    best = min(tried, key=lambda temperature: abs(tried[temperature] - target))
    while abs(tried[best] - target) > 0.01 * target and high - low > 0.005:
        share = (target - tried[low]) / (tried[high] - tried[low])
        middle = low + min(max(share, 0.1), 0.9) * (high - low)
        tried[middle] = mean_entropy(ready, middle, settings)
        low, high = (middle, high) if tried[middle] < target else (low, middle)
        best = min(tried, key=lambda temperature: abs(tried[temperature] - target))
    return round(best, 2)
