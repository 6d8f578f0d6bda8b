"""perplexity.py: would this model have said that?

Perplexity, from "Does Reinforcement Learning Really Incentivize Reasoning Capacity..." (2504.13837, section 4.1):

    PPL_m(Y | x) = exp( - 1/T sum_t log p_m(y_t | x, y_<t) )

of responses Y of one model (or of a teacher) under another. If the base gives what the trained model writes a low
perplexity, the base could have written it. We take the median over each problem's responses (its appendix C.4).

A perplexity is per token, and a long response of likely tokens can still be an unlikely one. So for right responses we
also keep p(Y | x) = exp(sum_t log p(y_t | x, y_<t)): how often would the reader say just that? (Not in the paper.)

Differs from the paper: it does not state the temperature of its perplexities; here it is 1, the model as it is. The
end token counts as a token of the response.
"""

import math
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from data import Problem
from engine.head import micro_batches, score
from running.files import BadInput, read_jsonl
from running.models import context_room
from study.folder import TEACHER
from study.records import is_text
from study.samples import Entry, Ready

# --- responses that no model of the study wrote ---------------------------------------------------------------------


def teacher_responses(
    problems: list[Problem], path: str | None, number: int, solve: Callable[[str, random.Random], str] | None
) -> list[dict]:
    """At most `number` responses to each problem: {"problem": index, "text"} each, and "correct" where that is known.

    From the file at `path`; without one, what `solve` writes, which answers a prompt of a toy world rightly; else none.
    """
    if path is not None:
        return read_teacher(Path(path), problems, number)
    return [
        {"problem": i, "text": solve(problem.prompt, random.Random(f"teacher-{i}-{j}")), "correct": True}
        for i, problem in enumerate(problems if solve else [])
        for j in range(number)
    ]


def read_teacher(path: Path, problems: list[Problem], number: int) -> list[dict]:
    """The responses of a .jsonl file with the columns problem (or question, or prompt) and response.

    A row belongs to the problem with the same text; other rows, and rows with an empty response, are left out. Raises
    BadInput for a file that cannot be read or has no response to any problem.
    """
    if not os.path.isfile(path):  # unlike Path.is_file also for a name that is too long
        found = "is no file" if os.path.lexists(path) else "no such file"
        raise BadInput(f"--teacher {path}: {found}; give a .jsonl with the columns problem and response")
    index, counts, found = {p.prompt.strip(): i for i, p in enumerate(problems)}, defaultdict(int), []
    try:
        for row in read_jsonl(path, "--teacher"):
            texts = (row[name] for name in ("problem", "question", "prompt") if isinstance(row.get(name), str))
            text, response = next(texts, None), row.get("response")
            if text is None or not isinstance(response, str):
                columns = ", ".join(row)[:200] or "nothing"
                raise BadInput(
                    f"--teacher {path}: a row has the columns {columns}; needed are texts in problem and response"
                )
            i = index.get(text.strip())
            if i is not None and response and counts[i] < number:
                if not is_text(response):
                    raise BadInput(f"--teacher {path}: the response to {text[:60]!r} is not all Unicode; leave it out")
                counts[i] += 1
                found.append({"problem": i, "text": response})
    except RecursionError:
        raise BadInput(f"--teacher {path}: a line is nested too deeply; give one JSON object a line") from None
    if not found:
        raise BadInput(f"--teacher {path}: no response to a problem of this study; the problems' texts must be equal")
    return found


def check_fits(responses: list[tuple[int, str]], path: str, policy, tokenizer, prompts: list[list[int]]) -> None:
    """Raise BadInput for a response that the context does not hold behind its prompt: it would take long, and beyond
    its context a model knows nothing. responses: (number of the problem, text) each."""
    for i, text in responses:
        room = context_room(policy, len(prompts[i]))
        # The tokens of a very long text need not be counted: no vocabulary has words of so many characters.
        tokens = len(text) if len(text) > 100 * room else len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if tokens > room:
            start, size = tokenizer.decode(prompts[i])[-60:], f"{len(text)} characters, of which {room} tokens fit"
            raise BadInput(f"--teacher {path}: a response has {size} behind its prompt (...{start!r}); leave it out")


# --- tokens ---------------------------------------------------------------------------------------------------------


def response_tokens(record: dict, tokenizer) -> np.ndarray:
    """A response as tokens of this model: the sampled ones, if they are the same text to its tokenizer.

    Otherwise the tokens of the text, without an end token: a model can have several, and which one it would have used
    is not known.
    """
    if "tokens" in record and tokenizer.decode(record["tokens"], skip_special_tokens=True) == record["text"]:
        return record["tokens"]
    return np.array(tokenizer(record["text"], add_special_tokens=False)["input_ids"], dtype=np.int32)


def split_text(tokens: np.ndarray, tokenizer) -> list[str]:
    """What each token adds to the text. A character that takes several tokens belongs to the last of them."""
    texts, waiting = [], []
    for token in tokens.tolist():
        waiting.append(token)
        text = tokenizer.decode(waiting)
        whole = not text.endswith("\ufffd") or len(waiting) == 4  # no character has more bytes than 4
        texts.append(text if whole else "")
        waiting = [] if whole else waiting
    if waiting:  # the response was cut off inside a character
        texts[-1] = text
    return texts


# --- perplexity -----------------------------------------------------------------------------------------------------


def perplexity(logps) -> float:
    """exp of minus the mean log-probability of the tokens (nats): 1 if every one was certain, V if all V were equal.

    Raises ValueError for a response without tokens, which has no mean.
    """
    logps = torch.as_tensor(logps)
    if len(logps) == 0:
        raise ValueError("a response without tokens has no perplexity")
    return math.exp(-logps.mean().item())


@torch.inference_mode()
def token_values(policy, pairs: list[tuple[list[int], np.ndarray]]) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """For each response its number, and its tokens' log-probabilities and self-certainties at temperature 1: nats, [T].

    pairs: (prompt, response), token ids. Scored as in training (engine.head.score), one batch at a time and not in
    order: responses of like length go together, and the values of a whole study would not fit into memory. A trained
    model often says the same to the same prompt, which is then scored once.
    """
    equal = defaultdict(list)  # a problem has one prompt, the same list in all of its pairs: its id stands for it
    for i, (prompt, response) in enumerate(pairs):
        equal[id(prompt), response.tobytes()].append(i)
    groups = list(equal.values())
    lengths = torch.tensor([sum(map(len, pairs[group[0]])) for group in groups])
    for batch in micro_batches(lengths, 8192 if policy.device.type == "cuda" else 1024):
        token_ids = torch.zeros(len(batch), int(lengths[batch].max()), dtype=torch.long)  # [n, S]
        mask = torch.zeros_like(token_ids)
        for row, j in enumerate(batch.tolist()):
            prompt, response = pairs[groups[j][0]]
            token_ids[row, : len(prompt)] = torch.tensor(prompt)
            token_ids[row, len(prompt) : lengths[j]] = torch.from_numpy(response)
            mask[row, len(prompt) : lengths[j]] = 1
        logps, certainty = (x.cpu() for x in score(policy, token_ids.to(policy.device), mask.to(policy.device)))
        for row, j in enumerate(batch.tolist()):
            for i in groups[j]:
                yield i, logps[row, mask[row].bool()], certainty[row, mask[row].bool()]


def perplexities(
    entries: list[Entry],
    written: dict[str, list[dict]],
    teacher: list[dict],
    load: Callable[[str], Ready],
    number: int,
    shown: list[dict],
) -> list[dict]:
    """How likely is what every entry wrote, to the base and to the model that wrote it? And what the teacher wrote?

    entries: the study's, the base first; written: label -> its records, of which the first `number` of a problem count;
    teacher: its responses, all of which count; load: a model by its name, None for one that is not here. Records whose
    tokens are not known are left out. Returns {"writer", "reader", "problems": {index: median perplexity},
    "right_logps": {index: median log p(Y | x) of the right responses, nats}} each. The records in `shown` are given
    "pieces", "logps" and "certainty": text and values of each token, by the model that wrote them.
    """
    if not number:
        return []
    table, base = [], entries[0].model
    models = {entry.label: entry.model for entry in entries}
    written = {**written, TEACHER: teacher} if teacher else written
    wanted = {id(record) for record in shown}
    for reader in dict.fromkeys(models.values()):
        ready = None  # frees the model before the next is loaded
        ready = load(reader)
        if ready is None:  # a mere name, of samples that were drawn elsewhere
            continue
        for writer, records in written.items():
            if reader not in (base, models.get(writer)):
                continue
            by_problem, right = defaultdict(list), defaultdict(list)
            records = [record for record in records if len(record.get("tokens", "a text"))]
            pairs = [(ready.prompts[record["problem"]], response_tokens(record, ready.tokenizer)) for record in records]
            for i, logps, certainty in token_values(ready.policy, pairs):
                record = records[i]
                # Later samples were kept to be read, because they are right: they would bias the median.
                if record.get("sample", 0) < number and len(logps):
                    by_problem[record["problem"]].append(perplexity(logps))
                if record.get("correct"):  # among right responses those later ones are like any other
                    right[record["problem"]].append(logps.sum().item())
                if models.get(writer) == reader and id(record) in wanted:
                    record["pieces"] = split_text(pairs[i][1], ready.tokenizer)
                    record["logps"], record["certainty"] = logps.tolist(), certainty.tolist()
            medians, right_logps = (
                {i: float(np.median(values)) for i, values in sorted(found.items())} for found in (by_problem, right)
            )
            if medians:
                table.append({"writer": writer, "reader": reader, "problems": medians, "right_logps": right_logps})
    return table
