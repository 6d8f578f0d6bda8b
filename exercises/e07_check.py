"""The check of exercise 7: a model whose logits can be read off, one token at a time."""

import math

import torch

from exercises.checking import Wrong, same

V = 5


class Bigram(torch.nn.Module):
    """A language model that looks at the last token only: a table of logits, [V, V]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(V, V, generator=generator) * 2)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self.table[token_ids]


def slow(table: list[list[float]], last: int, token: int, temperature: float) -> float:
    """log p(token | last), from the definition."""
    z = [x / temperature for x in table[last]]
    return z[token] - math.log(sum(math.exp(x) for x in z))


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    model = Bigram()
    ids = torch.tensor([[1, 2, 3, 4, 0], [4, 4, 1, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    table = model.table.tolist()

    def expected(temperature, shift=1):
        rows = torch.zeros(2, 5)
        for n in range(2):
            for t in range(5):
                if mask[n, t]:
                    rows[n, t] = slow(table, int(ids[n, t - shift]), int(ids[n, t]), temperature)
        return rows

    early, logps = torch.zeros(2, 5), model(ids).log_softmax(-1)
    early[:, :-1] = expected(1.0)[:, 1:]
    values = logps.gather(-1, ids[..., None])[..., 0]
    unmasked = torch.zeros(2, 5)
    unmasked[:, 1:] = logps[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    raw = torch.zeros(2, 5)
    raw[:, 1:] = model(ids)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    late = torch.zeros(2, 5)
    late[:, :-1] = unmasked[:, 1:]
    early_mask = torch.zeros(2, 5)
    early_mask[:, 1:] = unmasked[:, 1:] * mask[:, :-1]
    across, likeliest = torch.zeros(2, 5), torch.zeros(2, 5)
    across[:, 1:] = model(ids)[:, :-1].log_softmax(1).gather(-1, ids[:, 1:, None])[..., 0]
    likeliest[:, 1:] = logps[:, :-1].amax(-1)
    mistakes = {
        "values are shifted by one: the logits at t - 1 predict token t, and here those at t were read": values * mask,
        "the values are right and stand one place too early: each belongs to the token that it is the value of": early,
        "the values stand one place too early: the column that is missing is the first, not the last": late * mask,
        "the mask is one place off: the values are those of token_ids[:, 1:]; mask[:, 1:] fits them": early_mask,
        "normalised over the positions (dim=1); it is over the vocabulary, dim=-1": across * mask,
        "these are of the likeliest token; take those of the tokens given, with gather": likeliest * mask,
        "the sign is turned around: a log-probability is never positive": -expected(1.0),
        "off the mask there should be 0: prompt and padding are not trained on": unmasked,
        "these are logits and not log-probabilities: log_softmax is missing": raw * mask,
        "these are probabilities; the logarithm is missing": expected(1.0).exp() * mask,
    }
    found = exercise.token_logps(model, ids, mask)
    if isinstance(found, torch.Tensor) and found.shape == (2, 4):
        raise Wrong("the shape is [2, 4]: one column short; no token stands before the first one, so its value is 0")
    same(found, expected(1.0), "two rows", mistakes)
    without = {"the temperature has to divide the logits: the tokens were sampled so": expected(1.0)}
    without["log-probabilities were divided by the temperature; divide the logits, before log_softmax"] = (
        expected(1.0) / 0.5
    )
    without["the logits were multiplied by the temperature; divide"] = expected(2.0)
    same(exercise.token_logps(model, ids, mask, 0.5), expected(0.5), "at temperature 0.5", without)
    if not found.requires_grad:
        raise Wrong("no gradient flows into the model: was it detached, or computed under no_grad?")
    with torch.no_grad():
        model.table[1, 0] = 200.0  # token 2 behind token 1 now has a probability that float32 rounds to 0
    surely = exercise.token_logps(model, torch.tensor([[1, 2]]), torch.tensor([[0, 1]]))
    if not torch.isfinite(surely).all():
        raise Wrong("-inf for a very unlikely token: its probability rounds to 0; use log_softmax, not log(softmax)")
