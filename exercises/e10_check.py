"""The check of exercise 10: the four corners of the clip, by hand, with their gradients."""

import math

import torch

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""

    def run(ratio, advantage):
        logps = torch.tensor([[math.log(ratio)]], requires_grad=True)
        loss = exercise.clipped_loss(logps, torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1))
        if loss is None:
            raise Wrong("returns None; is a return missing?")
        return loss.item(), torch.autograd.grad(loss, logps)[0].item() if loss.requires_grad else 0.0

    loss, gradient = run(1.0, 2.0)
    if abs(loss - 2.0) < 1e-4:
        raise Wrong("the sign in front is missing: an optimiser minimises, so a good rollout must lower the loss")
    if loss != loss:
        raise Wrong("NaN: these are log-probabilities; their ratio is exp(logps - old_logps), not a quotient")
    same(loss, -2.0, "ratio 1, A = 2: the loss", {
        "it is 0, but on policy the ratio exp(logps - old_logps) is 1: is the exp missing?": 0.0,
        "A was clipped with the ratio: clip the ratio alone, then multiply": -1.2,
    })  # fmt: skip
    same(gradient, -2.0, "ratio 1, A = 2: its gradient", {
        "no gradient: was the ratio detached? On policy it is 1, but its gradient is not 0": 0.0,
        "the ratio is upside down: new over old, exp(logps - old_logps)": 2.0,
    })  # fmt: skip
    # ratio, A -> loss, gradient with respect to log pi
    corners = {
        (1.5, 1.0): (-1.2, 0.0, "a good token that is already 1.5 times as likely should get no further push"),
        (0.5, 1.0): (-0.5, -0.5, "a good token that became less likely must be pushed back up"),
        (0.5, -1.0): (0.8, 0.0, "a bad token that is already half as likely should get no further push"),
        (1.5, -1.0): (1.5, 1.5, "a bad token that became 1.5 times as likely keeps its gradient: the minimum is taken "
                      "of the two terms *with* A, and never hides a step that went the wrong way"),
        (1.1, 1.0): (-1.1, -1.1, "within the clip nothing is clipped"),
    }  # fmt: skip
    for (ratio, advantage), (loss, gradient, words) in corners.items():
        found = run(ratio, advantage)
        if abs(found[0] - loss) > 1e-4 or abs(found[1] - gradient) > 1e-4:
            raise Wrong(
                f"ratio {ratio}, A = {advantage:g}: {words}. Loss {found[0]:.2f} (should be {loss}), "
                f"gradient {found[1]:.2f} (should be {gradient})"
            )
    logps = torch.tensor([[0.1, 0.05, 7.0], [0.0, -0.1, 7.0]])
    weights = torch.tensor([[0.25, 0.125, 0.0], [0.25, 0.125, 0.0]])  # they sum to 3/4
    found = exercise.clipped_loss(logps, torch.zeros(2, 3), torch.tensor([1.0, -2.0]), weights)
    terms = [math.exp(0.1), math.exp(0.05), 1.2, -2.0, -2 * math.exp(-0.1), -2 * math.exp(7.0)]  # row by row
    expected = -(0.25 * terms[0] + 0.125 * terms[1] + 0.25 * terms[3] + 0.125 * terms[4])
    rows = 0.375 * math.exp(0.15) - 2 * 0.375 * math.exp(-0.1)
    same(found, expected, "two rows with weights", {
        "the mean was taken on top of the weights; they are the average already": expected / 6,
        "divided by the sum of the weights; they are the average already": expected / 0.75,
        "the weights are not used": -sum(terms),
        "the weights are not used, and a mean is taken in their place": -sum(terms) / 6,
        "one ratio was taken for a whole row (that is GSPO); here each token has its own": -rows,
    })  # fmt: skip
    found = exercise.clipped_loss(
        torch.tensor([[math.log(1.3)]]), torch.zeros(1, 1), torch.ones(1), torch.ones(1, 1), 0.5
    )
    same(found, -1.3, "with clip = 0.5, ratio 1.3", {"the clip is always 0.2: use the argument": -1.2})
