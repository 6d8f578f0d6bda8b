"""supervised.py: how does a model learn from examples? By making their responses likelier, and nothing else.

    L = - average over documents of   1 / |o|  sum_t log pi(o_t | prompt, o_<t)

The same log-probabilities and weights as in grpo.py, with each advantage 1 and no ratio. distill.py learns this way
from a teacher, and running/smollm2.py teaches a model the form of an answer.
"""

import torch
from tqdm import tqdm

import data
from engine.head import micro_batches
from grpo import loss_weights, optimizer_step, token_logps


def document(problem: data.Problem, response: str, tokenizer, template: str) -> tuple[list[int], list[int]]:
    """(prompt, response) as tokens. The prompt is the one that the model will be given, and the response ends with the
    end token: a model that was never taught to end runs on to --max-new-tokens. Raises BadInput for the template."""
    return data.encode_prompt(problem, tokenizer, template), response_tokens(response, tokenizer)


def response_tokens(response: str, tokenizer) -> list[int]:
    """A response as tokens, with the end token behind it."""
    return [*tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def padded(documents: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """token_ids and mask, [N, S] each, right-padded with 0. The mask is 1 on the responses."""
    width = max(len(prompt) + len(response) for prompt, response in documents)
    token_ids, mask = torch.zeros(2, len(documents), width, dtype=torch.long)
    for n, (prompt, response) in enumerate(documents):
        end = len(prompt) + len(response)
        token_ids[n, :end] = torch.tensor(prompt + response)
        mask[n, len(prompt) : end] = 1
    return token_ids, mask


def fit(
    policy,
    documents: list[tuple[list[int], list[int]]],
    optimizer,
    *,
    documents_per_step: int,
    epochs: int = 1,
    seed: int = 0,
    micro_tokens: int = 1024,
) -> list[float]:
    """Train the policy on (prompt, response) documents, in place; returns each step's loss, nats a token.

    Documents come in shuffled epochs that depend on the seed alone; the last step has what is left of the last one.
    micro_tokens: tokens in one pass, to suit memory: nothing else depends on it.
    """
    generator, losses = torch.Generator().manual_seed(seed), []
    order = torch.cat([torch.randperm(len(documents), generator=generator) for _ in range(epochs)]).tolist()
    bar = tqdm(range(0, len(order), documents_per_step), desc="learn", unit="step")
    for first in bar:
        chosen = order[first : first + documents_per_step]
        token_ids, mask = (x.to(policy.device) for x in padded([documents[i] for i in chosen]))  # [N, S]
        weights = loss_weights(mask)  # each document counts the same
        lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)  # [N]
        losses.append(0.0)
        for batch in micro_batches(lengths, micro_tokens):
            width = int(lengths[batch].max())
            logps = token_logps(policy, token_ids[batch, :width], mask[batch, :width])
            loss = -(logps * weights[batch, :width]).sum()
            loss.backward()  # micro-batches add up to the step
            losses[-1] += loss.item()
        optimizer_step(optimizer)
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    return losses
