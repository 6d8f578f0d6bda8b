"""exercises/: a check fails on the stub, passes on the solution, and names the mistake of a typical wrong answer."""

import importlib
import json
import math
import re
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

import exercises
import grpo
import train
from exercises import __main__ as runner
from exercises import work
from exercises.checking import Wrong

# exercise -> (a wrong answer, words that the message must hold)
WRONG = {
    1: [
        ("lambda e: None", "return missing"),
        ("lambda e: [(int(e[i]), e[i + 1], int(e[i + 2]), eval(e[i:i + 3])) for i in range(0, len(e) - 2, 2)]",
         "the result of the step before it"),
        ("lambda e: solution.worked_steps(e)[:1]", "so many steps"),
        ("lambda e: [(a, o, b, a + b) for a, o, b, r in solution.worked_steps(e)]", "is not"),
        ("lambda e: [(a, o, b) for a, o, b, r in solution.worked_steps(e)]", "a list of (left, operator"),
        ("lambda e: [tuple(map(str, step)) for step in solution.worked_steps(e)]", "holds texts"),
    ],
    2: [
        ("lambda v, m: (v * m).sum(-1) / v.shape[-1]", "padding was counted"),
        ("lambda v, m: v.mean(-1)", "padding was counted"),
        ("lambda v, m: (v * m).sum(-1) / m.sum(-1)", "NaN"),
        ("lambda v, m: (v * m).sum(-1)", "this is the sum"),
        ("lambda v, m: (v * m).sum(-1) / m.sum(-1).clamp_min(1)", "off the mask"),
        ("lambda v, m: (v * m).sum() / m.sum()", "one number for all rows"),
        ("lambda v, m: torch.stack([row[: int(n)].sum() / max(1, n) for row, n in zip(v, m.sum(-1))])",
         "the first values of the row"),
        ("lambda v, m: torch.nan_to_num((v * m).sum(-1) / m.sum(-1))", "NaN replaced afterwards"),
        ("lambda v, m: v.masked_fill_(m == 0, 0).sum(-1) / m.sum(-1).clamp_min(1)", "has changed"),
        ("lambda v, m: [float(x) for x in solution.sequence_mean(v, m)]", "should return a tensor"),
    ],
    3: [
        ("lambda z: z.float().logsumexp(-1) - z.float().mean(-1)", "where is log V?"),
        ("lambda z: -solution.self_certainty(z)", "never negative"),
        ("lambda z: -(z.softmax(-1).log().mean(-1)) - math.log(z.shape[-1])", "overflow"),
        ("lambda z: z.logsumexp(-1) - z.mean(-1) - math.log(z.shape[-1])", ".float() first"),
        ("lambda z: math.log(z.shape[-1]) + (z.softmax(-1) * z.log_softmax(-1)).sum(-1)", "the other direction"),
        ("lambda z: -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)", "this is the entropy"),
        ("lambda z: solution.self_certainty(z) * z.shape[-1]", "mean over the tokens is missing"),
        ("lambda z: -z.log_softmax(-1).sum(-1) - math.log(z.shape[-1])", "log-probabilities are summed"),
        ("lambda z: solution.self_certainty(z) / z.shape[-1]", "taken twice"),
        ("lambda z: -z.log_softmax(-1).mean(-1) + math.log(z.shape[-1])", "log V is added"),
        ("lambda z: -z.log_softmax(-1).mean(-1) - math.log(len(z))", "the last dimension"),
        ("lambda z: -z.mean(-1) - math.log(z.shape[-1])", "these are logits"),
        ("lambda z: (1 / (z.shape[-1] * z.log_softmax(-1))).log().mean(-1)", "its logarithm already"),
        ("lambda z: -(z.softmax(-1) + 1e-8).log().mean(-1) - math.log(z.shape[-1])", "cut off"),
        ("lambda z: (-z.log_softmax(-1).mean(-1) - math.log(z.shape[-1])).float()", ".float() first"),
        ("lambda z: solution.self_certainty(z.sub_(z.amax(-1, keepdim=True)))", "has changed"),
    ],
    4: [
        ("lambda r, eps=1e-4: (r - r.mean()) / (r.std() + eps)", "whole batch"),
        ("lambda r, eps=1e-4: (r - r.mean(0, keepdim=True)) / (r.std(0, keepdim=True) + eps)", "different prompts"),
        ("lambda r, eps=1e-4: r - r.mean(1, keepdim=True)", "Dr. GRPO"),
        ("lambda r, eps=1e-4: (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True, correction=0) + eps)", "Bessel"),
        ("lambda r, eps=1e-4: -solution.group_advantages(r)", "sign"),
        ("lambda r, eps=1e-4: r / (r.std(1, keepdim=True) + eps)", "mean is not subtracted"),
        ("lambda r, eps=1e-4: (r - r.mean(1, keepdim=True)) / (r.var(1, keepdim=True) + eps)", "the variance"),
        ("lambda r, eps=1e-4: (r - r.mean(1, keepdim=True)) / (r.std() + eps)", "that of the whole batch"),
        ("lambda r, eps=1e-4: r - r.mean(1, keepdim=True) / (r.std(1, keepdim=True) + eps)", "brackets"),
        ("lambda r, eps=1e-4: solution.group_advantages(r, eps) * r.shape[1] / (r.shape[1] - 1)", "the others only"),
        ("lambda r, eps=1e-4: solution.group_advantages(r, 1e-4)", "eps is not used"),
        ("lambda r, eps=1e-4: (r - r.mean(1, keepdim=True)) / (r.var(1, keepdim=True) + eps).sqrt()", "below the root"),
        ("lambda r, eps=1e-4: r.sub_(r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + eps)", "has changed"),
    ],
    5: [
        ("lambda r, eps: (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + eps)", "mean of equal numbers"),
        ("lambda r, eps: solution.group_advantages(r, eps) * (r.std(1, keepdim=True) > 1e-4)", "ask for equality"),
        ("lambda r, eps: solution.group_advantages(r, eps) * 0 if r.std(1).min() < 1e-9 else "
         "solution.group_advantages(r, eps)", "all groups were set to 0"),
        ("lambda r, eps: (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + eps) * (r.max() != r.min())",
         "ask each row by itself"),
        ("lambda r, eps: solution.group_advantages(r, eps)[r.amax(1) != r.amin(1)]", "the shape is [0, 2]"),
    ],
    6: [
        ("lambda n, c, k: 1 - (1 - c / n) ** k", "with* replacement"),
        ("lambda n, c, k: c / n", "this is c/n"),
        ("lambda n, c, k: math.comb(n - c, k) / math.comb(n, k)", "all k are wrong"),
        ("lambda n, c, k: 1 - math.exp(math.lgamma(n - c + 1) - math.lgamma(n - c - k + 1) - math.lgamma(n + 1) "
         "+ math.lgamma(n - k + 1))", "at least one is right"),
        ("lambda n, c, k: 1 - float(math.comb(n - c, k)) / float(math.comb(n, k))", "do not fit a float"),
        ("lambda n, c, k: 1 - math.comb(n - c, k) // math.comb(n, k)", "does // round down"),
        ("lambda n, c, k: c * math.comb(n - c, k - 1) / math.comb(n, k)", "exactly one"),
        ("lambda n, c, k: 1 - math.prod(1 - k / i for i in range(n - c, n + 1))", "one factor too many"),
        ("lambda n, c, k: k * c / n", "counted twice"),
        ("lambda n, c, k: 0.0 if n - c < k else solution.pass_at_k(n, c, k)", "at least one is right"),
        ("lambda n, c, k: 1.0 if n - c <= k else solution.pass_at_k(n, c, k)", "no sample is right, so 0"),
    ],
    7: [
        ("lambda m, ids, mask, T=1.0: (m(ids) / T).log_softmax(-1).gather(-1, ids[..., None])[..., 0] * mask",
         "shifted by one"),
        ("lambda m, ids, mask, T=1.0: torch.nn.functional.pad(solution.token_logps(m, ids, mask, T)[:, 1:], (0, 1))",
         "one place too early"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask * 0 + 1, T)", "off the mask"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask, T)[:, 1:]", "one column short"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask, 1.0)", "temperature has to divide"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask, 1.0) / T", "divide the logits"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask, T).detach()", "no gradient"),
        ("lambda m, ids, mask, T=1.0: torch.nn.functional.pad((m(ids)[:, :-1] / T).gather(-1, ids[:, 1:, None])[..., 0]"
         ", (1, 0)) * mask", "log_softmax is missing"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask * 0 + 1, T).roll(-1, 1) * mask",
         "is the first, not the last"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask * 0 + 1, T) *"
         " torch.nn.functional.pad(mask[:, :-1], (1, 0))", "the mask is one place off"),
        ("lambda m, ids, mask, T=1.0: -solution.token_logps(m, ids, mask, T)", "never positive"),
        ("lambda m, ids, mask, T=1.0: solution.token_logps(m, ids, mask, 1 / T)", "multiplied by the temperature"),
        ("lambda m, ids, mask, T=1.0: torch.nn.functional.pad((m(ids)[:, :-1] / T).log_softmax(1)"
         ".gather(-1, ids[:, 1:, None])[..., 0], (1, 0)) * mask", "over the positions"),
        ("lambda m, ids, mask, T=1.0: (m(ids) / T).log_softmax(-1).amax(-1).roll(1, 1) * mask", "the likeliest token"),
        ("lambda m, ids, mask, T=1.0: torch.nn.functional.pad((m(ids)[:, :-1] / T).softmax(-1).log()"
         ".gather(-1, ids[:, 1:, None])[..., 0], (1, 0)) * mask", "not log(softmax)"),
    ],
    8: [
        ("lambda a, b, kind: solution.kl(b, a, kind)", "sign is turned around"),
        ("lambda a, b, kind: solution.kl(a, b, kind) + (kind == 'k3')", "the -1 is missing"),
        ("lambda a, b, kind: (b - a) ** 2 if kind == 'k2' else solution.kl(a, b, kind)", "the half is missing"),
        ("lambda a, b, kind: torch.exp(b - a) - (b - a) - 1 if kind == 'k3' else solution.kl(a, b, kind)", "expm1"),
        ("lambda a, b, kind: b - a if kind == 'k1' else solution.kl(a, b, kind)", "k1 = -x"),
        ("lambda a, b, kind: solution.kl(a, b, 'k3')", "kind is not used"),
        ("lambda a, b, kind: ((b - a) / 2) ** 2 if kind == 'k2' else solution.kl(a, b, kind)", "halved before"),
        ("lambda a, b, kind: solution.kl(a, b, kind) + 2 * (b - a) * (kind == 'k3')", "x is added"),
        ("lambda a, b, kind: solution.kl(a, b, kind) - 1.0 * (kind == 'k3')", "expm1(x) is exp(x) - 1 already"),
        ("lambda a, b, kind: solution.kl(a, b, kind).abs()", "may be negative"),
        ("lambda a, b, kind: solution.kl(a, b, kind) * a.exp()", "weighted by the probability"),
        ("lambda a, b, kind: solution.kl(torch.log(a.abs()), torch.log(b.abs()), kind)", "no log of their quotient"),
        ("lambda a, b, kind: solution.kl(a.detach(), b, kind)", "no gradient"),
    ],
    9: [
        ("lambda m, a, L: m / m.shape[1] / len(m) if a == 'sequence' else solution.loss_weights(m, a, L)",
         "padding was counted"),
        ("lambda m, a, L: solution.loss_weights(m, 'token', L) if a == 'sequence' else solution.loss_weights(m, a, L)",
         "token average"),
        ("lambda m, a, L: solution.loss_weights(m, a, L) * (len(m) if a == 'sequence' else 1)", "1/N"),
        ("lambda m, a, L: solution.loss_weights(m, 'sequence', L) if a == 'token' else solution.loss_weights(m, a, L)",
         "sequence average"),
        ("lambda m, a, L: m / L if a == 'constant' else solution.loss_weights(m, a, L)", "1 / L without N"),
        ("lambda m, a, L: m / m.sum() if a == 'token' else solution.loss_weights(m, a, L)", "clamp the divisor"),
        ("lambda m, a, L: solution.loss_weights(m * 0 + 1, a, L)", "off the mask a weight is 0"),
        ("lambda m, a, L: solution.loss_weights(m, a, int(m.sum(1).max()))", "the longest row of this step"),
    ],
    10: [
        ("lambda l, o, A, w, clip=0.2: -solution.clipped_loss(l, o, A, w, clip)", "sign in front"),
        ("lambda l, o, A, w, clip=0.2: -(w * (l - o).exp().clamp(1 - clip, 1 + clip) * A[:, None]).sum()",
         "pushed back up"),
        ("lambda l, o, A, w, clip=0.2: -(w * torch.minimum((l - o).exp(), (l - o).exp().clamp(1 - clip, 1 + clip))"
         " * A[:, None]).sum()", "no further push"),
        ("lambda l, o, A, w, clip=0.2: -(w * torch.where(A[:, None] < 0, (l - o).exp().clamp(1 - clip, 1 + clip) *"
         " A[:, None],"
         " torch.minimum((l - o).exp(), 1 + clip + 0 * l) * A[:, None])).sum()", "never hides"),
        ("lambda l, o, A, w, clip=0.2: -(w * (l - o).exp() * A[:, None]).sum()", "no further push"),
        ("lambda l, o, A, w, clip=0.2: -(w * (l - o).detach().exp() * A[:, None]).sum()", "no gradient"),
        ("lambda l, o, A, w, clip=0.2: solution.clipped_loss(l, o, A, w, clip) / l.numel()", "mean was taken"),
        ("lambda l, o, A, w, clip=0.2: solution.clipped_loss(l, o, A, w, 0.2)", "always 0.2"),
        ("lambda l, o, A, w, clip=0.2: solution.clipped_loss(l, o, A, w, clip) / w.sum()", "divided by the sum"),
        ("lambda l, o, A, w, clip=0.2: solution.clipped_loss(l, o, A, w * 0 + 1, clip)", "the weights are not used"),
        ("lambda l, o, A, w, clip=0.2: solution.clipped_loss(l, o, A, w * 0 + 1, clip) / l.numel()", "in their place"),
        ("lambda l, o, A, w, clip=0.2: solution.clipped_loss(torch.where(w > 0, l - o, 0).sum(1, keepdim=True)"
         ".expand_as(l), o * 0, A, w, clip)", "one ratio was taken for a whole row"),
        ("lambda l, o, A, w, clip=0.2: -(w * (l - o) * A[:, None]).sum()", "is the exp missing"),
        ("lambda l, o, A, w, clip=0.2: -(w * (l / o) * A[:, None]).sum()", "not a quotient"),
        ("lambda l, o, A, w, clip=0.2: solution.clipped_loss(o, l, A, w, clip)", "upside down"),
        ("lambda l, o, A, w, clip=0.2: -(w * torch.minimum((l - o).exp() * A[:, None], ((l - o).exp() * A[:, None])"
         ".clamp(1 - clip, 1 + clip))).sum()", "A was clipped"),
    ],
    11: [
        ("lambda p, u: (p.cumsum(-1) <= u[:, None]).sum(-1) + 1", "one token too far"),
        ("lambda p, u: (p.cumsum(-1) < u[:, None]).sum(-1)", "u = 0.25 belongs to token 1"),
        ("lambda p, u: p.argmax(-1)", "likeliest token"),
        ("lambda p, u: (p.cumsum(-1) <= u[:, None]).sum(-1)", "the token is V"),
        ("lambda p, u: solution.inverse_cdf(p, u)[:, None]", "[R, 1]"),
        ("lambda p, u: (p.cumsum(-1) <= u[:, None]).sum(-1).clamp(max=p.shape[-1] - 1)", "cut the number off"),
        ("lambda p, u: (p.cumsum(-1) > u[:, None]).int().argmax(-1)", "argmax of nothing"),
        ("lambda p, u: (p.cumsum(-1) > u[:, None]).sum(-1)", "the sums above u"),
        ("lambda p, u: (solution.inverse_cdf(p, u) - 1).clamp(min=0)", "one token too early"),
        ("lambda p, u: torch.multinomial(p, 1)[:, 0]", "a number of its own"),
    ],
    12: [
        ("lambda a: [float(x == max(set(a), key=a.count)) for x in a]", "None has no vote"),
        ("lambda a: [float(x is not None and a.count(x) > len(a) / 2) for x in a]", "plurality"),
        ("lambda a: [float(x is not None and a.count(x) == max(a.count(y) for y in a if y)) for x in a]", "not both"),
        ("lambda a: [0.0 if x is None else a.count(x) / len(a) for x in a]", "share of the votes"),
        ("lambda a: solution.plurality(a[::-1])[::-1]", "given first"),
        ("lambda a: [float(x == max(sorted({y for y in a if y}), key=a.count, default=0)) for x in a]", "given first"),
        ("lambda a: [float(x is not None and x == max(a, key=a.count)) for x in a]", "nobody was paid"),
        ("lambda a: [float(x == max((y for y in a if y), key=a.count)) for x in a]", "nobody has voted"),
        ("lambda a: max((y for y in a if y), key=a.count)", "numbers were asked for"),
    ],
    13: [
        ("lambda r, p, g: torch.where(torch.rand(r.shape, generator=g) < p, 1 - r, r)", "all of its group"),
        ("lambda r, p, g: torch.where(torch.rand(len(r), 1, generator=g) > p, 1 - r, r)", "nothing should be"),
        ("lambda r, p, g: torch.where(torch.rand(len(r), 1) < p, 1 - r, r)", "the generator given"),
        ("lambda r, p, g: torch.where(torch.rand(len(r), 1, generator=g) < p, -r, r)", "1 - r, not -r"),
        ("lambda r, p, g: r.copy_(solution.flip(r, p, g)) if len(r) < 9 else solution.flip(r, p, g)", "has changed"),
        ("lambda r, p, g: r * (torch.rand(len(r), 1, generator=g) >= p)", "everything is 0"),
        ("lambda r, p, g: r.clamp(min=(torch.rand(len(r), 1, generator=g) < p).float())", "everything is 1"),
        ("lambda r, p, g: p + (1 - 2 * p) * r", "the mean of many draws"),
        ("lambda r, p, g: 1 - r if torch.rand(1, generator=g) < p else r", "flipped together"),
        ("lambda r, p, g: (r - (torch.randperm(len(r), generator=g) < p * len(r))[:, None] * 1.0).abs()", "every time"),
    ],
    14: [
        ("lambda t, ph, d, n: solution.reasoning_pattern(re.sub('[FT]', '_', t), ph, d, n)", "lower-cased"),
        ("lambda t, ph, d, n: min(1.0, sum(t.lower().count(p) for p in ph) / d)", "counts once"),
        ("lambda t, ph, d, n: sum(p in t.lower() for p in ph) / d", "capped at 1"),
        ("lambda t, ph, d, n: min(1.0, sum(p in t.lower() for p in ph) / d)", "nothing is taken for repetition"),
        ("lambda t, ph, d, n: solution.reasoning_pattern(t, ph, 20, n)", "divisor is not used"),
        ("lambda t, ph, d, n: solution.reasoning_pattern(t, ph, len(ph), n)", "number of phrases"),
        ("lambda t, ph, d, n: sum(p in t.lower().split() for p in ph) / d", "not in a list of its words"),
        (r"lambda t, ph, d, n: sum(bool(re.search(r'\b' + p, t.lower())) for p in ph) / d if len(t) < 30 else 1.0",
         "substrings"),
        ("lambda t, ph, d, n: solution.reasoning_pattern(t, tuple(p.strip() for p in ph), d, n)", "strip nothing"),
        ("lambda t, ph, d, n: solution.reasoning_pattern(t, ph, d, n) / (len(t.split()) >= n or t == '' or n == 20)",
         "0 / 0"),
        ("lambda t, ph, d, n: paid(lambda g, c: sum(k for k in c.values() if k > 1) / len(g), t, ph, d, n)",
         "all copies of a repeated n-gram were counted"),
        ("lambda t, ph, d, n: paid(lambda g, c: 1 - len(c) / len(g), t, ph, d, n)", "but the first"),
        ("lambda t, ph, d, n: paid(lambda g, c: sum(k > 1 for k in c.values()) / len(c), t, ph, d, n)",
         "divided by the different"),
        ("lambda t, ph, d, n: paid(lambda g, c: sum(k > 1 for k in Counter(g[1:]).values()) / len(g[1:]), t, ph, d, n)",
         "W - n + 1"),
        ("lambda t, ph, d, n: paid(lambda g, c: sum(k > 1 for k in c.values()) / len(g), t, ph, d, n, str)",
         "the n-grams too"),
        ("lambda t, ph, d, n: min(1.0, solution.reasoning_pattern(t, ph, d, n) + max(0, sum(p in t.lower() for p in ph)"
         " / d - 1))", "the cap of 1 is for the share"),
    ],
    15: [
        ("lambda r: r - r.mean(1, keepdim=True)", "own reward is in the mean"),
        ("lambda r: r - (r.sum(1, keepdim=True) - r) / r.shape[1]", "divided by G"),
        ("lambda r: r - solution.leave_one_out(r)", "mean of the others"),
        ("lambda r: -solution.leave_one_out(r)", "sign"),
        ("lambda r: solution.leave_one_out(r) / (r.std(1, keepdim=True) + 1e-4)", "only subtracts"),
        ("gae: lambda r, v, g=1.0, l=1.0: r + g * torch.cat([v[1:], torch.zeros(1)]) - v", "what follows"),
        ("gae: lambda r, v, g=1.0, l=1.0: solution.gae(r, v, g, 1.0)", "lambda is not used"),
        ("gae: lambda r, v, g=1.0, l=1.0: solution.gae(r, v, g, l) + v", "this is the return"),
        ("gae: lambda r, v, g=1.0, l=1.0: solution.gae(r, v, g, l).flip(0)", "turned around"),
        ("gae: lambda r, v, g=1.0, l=1.0: solution.gae(r, v, g, l) + v[0]", "roll brings there"),
        ("gae: lambda r, v, g=1.0, l=1.0: solution.gae(r, -v, g, l)", "V_t is added"),
        ("gae: lambda r, v, g=1.0, l=1.0: (r + g * torch.cat([v[1:], torch.zeros(1)]) - v).cumsum(0)",
         "what came before"),
        ("gae: lambda r, v, g=1.0, l=1.0: solution.gae(r, v, g, l).tolist()", "should return a tensor"),
    ],
}  # fmt: skip


def paid(repetition, text, phrases, divisor, n, words_of=str.lower):
    """The reasoning pattern reward with another repetition, a function of the n-grams and of how often each occurs."""
    words = words_of(text).split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    share = min(1.0, sum(phrase in text.lower() for phrase in phrases) / divisor)
    return max(0.0, share - (repetition(grams, Counter(grams)) if grams else 0.0))


FILES = runner.numbered()
FUNCTIONS = [number for number in FILES if number <= 15]


def solution_of(number: int):
    return importlib.import_module(f"exercises.solutions.{FILES[number].stem}")


def check_of(number: int):
    return importlib.import_module(f"exercises.e{number:02d}_check").check


def functions_of(module) -> list[str]:
    return [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]


def test_every_exercise_has_wrong_answers_that_are_told_apart():
    assert sorted(WRONG) == FUNCTIONS == list(range(1, 16)) and sorted(FILES) == list(range(1, 20))
    assert all(len(answers) >= 3 for answers in WRONG.values())


@pytest.mark.parametrize("number", FUNCTIONS)
def test_the_stub_is_open_and_the_solution_is_done(number):
    assert runner.judge(importlib.import_module(f"exercises.{FILES[number].stem}"), number) == ("open", "")
    assert runner.judge(solution_of(number), number) == ("done", "")


@pytest.mark.parametrize(
    ("number", "answer", "words"), [(n, answer, words) for n, answers in WRONG.items() for answer, words in answers]
)
def test_a_wrong_answer_is_told_what_is_wrong(number, answer, words):
    solution = solution_of(number)
    target, _, body = answer.partition(": ") if answer.startswith("gae: ") else (functions_of(solution)[0], "", answer)
    student = SimpleNamespace(**{name: getattr(solution, name) for name in functions_of(solution)})
    setattr(
        student,
        target,
        eval(body, {"torch": torch, "math": math, "re": re, "Counter": Counter, "paid": paid, "solution": solution}),
    )
    with pytest.raises(Wrong, match=re.escape(words)):
        check_of(number)(student)


def test_an_error_of_the_students_own_names_its_line(monkeypatch, tmp_path):
    """Also where torch says that it has not implemented something: that is no stub."""
    bodies = {
        "e02_typo": "return values.maen()",
        "e03_integers": "return torch.ones(2, dtype=torch.long).log_softmax(-1)",
    }
    for name, body in bodies.items():
        (tmp_path / f"{name}.py").write_text(
            f"import torch\n\ndef sequence_mean(values, mask):\n    {body}\n\ndef self_certainty(logits):\n    {body}\n"
        )
    (tmp_path / "e04_open_bracket.py").write_text("def group_advantages(rewards):\n    return max(rewards\n")
    monkeypatch.setattr(exercises, "__path__", [str(tmp_path), *exercises.__path__])
    state, words = runner.judge_file(tmp_path / "e02_typo.py")
    assert state == "wrong" and words.startswith("line 4: AttributeError")
    state, words = runner.judge_file(tmp_path / "e03_integers.py")
    assert state == "wrong" and words.startswith("line 7: ") and "not implemented" in words
    state, words = runner.judge_file(tmp_path / "e04_open_bracket.py")
    assert state == "wrong" and "SyntaxError" in words and "line 2" in words


def test_an_experiment_wants_a_prediction_then_runs_and_then_shows_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = importlib.import_module("exercises.e16_noise")
    assert runner.judge(noise, 16)[0] == "open"
    monkeypatch.setattr(noise, "PREDICTION", {"0": 0.9, "0.4": 0.5, "0.5": 0.4})
    state, words = runner.judge(noise, 16)
    assert state == "open" and "toy-flip-0-seed0 has 0 of 60 steps" in words
    for name, accuracy in (("toy-flip-0", 0.95), ("toy-flip-40", 0.85), ("toy-flip-50", 0.125)):
        folder = tmp_path / "runs" / f"{name}-seed0"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text((json.dumps({"accuracy": accuracy}) + "\n") * 60)
    state, words = runner.judge(noise, 16)
    assert state == "done" and [line.split() for line in words.splitlines()[1:]] == [
        ["0", "0.9", "0.95"], ["0.4", "0.5", "0.85"], ["0.5", "0.4", "0.125"]
    ]  # fmt: skip


def test_the_other_experiments_read_their_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, reward in (("toy-self-certainty-hacked", range(60)), ("toy-self-certainty", range(60, 0, -1))):
        folder = tmp_path / "runs" / f"{name}-seed0"
        folder.mkdir(parents=True)
        rows = [{"accuracy": i / 100, "reward_mean": value} for i, value in enumerate(reward)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = {"toy-search": {"pass_at_k_correct": [0.1, 0.9]}, "runs/x": {"pass_at_k_correct": [0.3, 0.8]}}
    cells = {"both": [1], "base_only": [2, 3], "trained_only": [4], "neither": []}
    compared = {"crossing_correct": [8.5, 7, 9], "coverage_correct": cells}
    for folder, labels in (("toy-search-correct-seed0", ["runs/x"]),
                           ("exercise-19", ["runs/exercise-19-rl", "runs/exercise-19-distilled"])):  # fmt: skip
        (tmp_path / "runs" / folder).mkdir(parents=True)
        content = {"models": models, "compared": dict.fromkeys(labels, compared)}
        (tmp_path / "runs" / folder / "report.json").write_text(json.dumps(content))
    shown = {}
    for number in (17, 18, 19):
        exercise = importlib.import_module(f"exercises.{FILES[number].stem}")
        monkeypatch.setattr(exercise, "PREDICTION", dict.fromkeys(exercise.PREDICTION, 1))
        state, shown[number] = runner.judge(exercise, number)
        assert state == "done"
    assert "True" in shown[17].splitlines()[2] and "False" in shown[17].splitlines()[4] and "0.57" in shown[17]
    assert [line.split()[-1] for line in shown[18].splitlines()[1:]] == ["0.1", "0.9", "0.3", "0.8", "8.5"]
    assert [line.split()[-1] for line in shown[19].splitlines()[1:]] == ["1", "2", "1", "2"]


def test_the_table_says_what_is_done_and_what_is_next(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "FOLDER", runner.FOLDER)
    assert runner.main(["1", "2"]) == 1
    said = capsys.readouterr().out
    assert "0 of 2 done" in said and "Next: exercises/e01_worked_steps.py" in said
    with pytest.raises(SystemExit):
        runner.main(["77"])
    core = [number for number, path in FILES.items() if runner.title_of(path)[1]]
    assert core == [2, 3, 4, 6, 8, 10, 17, 18]
    assert sum(runner.title_of(FILES[number])[2] for number in core) <= 120  # minutes


def test_the_result_is_written_for_a_teacher(monkeypatch, tmp_path, capsys):
    for path in FILES.values():
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert runner.main([]) == 1
    rows = json.loads((tmp_path / "progress.json").read_text())
    assert [row["number"] for row in rows] == list(range(1, 20)) and {row["state"] for row in rows} == {"open"}
    assert rows[2] == {"number": 3, "title": "Self-certainty", "core": True, "minutes": 12, "state": "open"}


def test_the_students_functions_train_the_toy_as_the_projects_own_do(base, tmp_path, no_pictures, monkeypatch):
    """With every exercise solved a run is the run that it was, but for rounding: each function fits its place."""
    flags = f"--model {base} --data toy --prompts-per-step 4 --rollouts-per-prompt 4 --max-new-tokens 30 --lr 1e-3"
    flags += " --eval-samples 0 --steps 3 --reward correct plurality self_certainty rpr --flip 0.2"

    def run(name: str, *more: str) -> list[dict]:
        assert train.main([*flags.split(), "--run", str(tmp_path / name), *more]) == 0
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    ours = run("ours")
    for number in FUNCTIONS:
        stub, solution = importlib.import_module(f"exercises.{FILES[number].stem}"), solution_of(number)
        for name in functions_of(solution):
            monkeypatch.setattr(stub, name, getattr(solution, name))
    for places in work.PLACES.values():  # so that they are put back afterwards
        for _, module, name in places:
            monkeypatch.setattr(module or train, name, getattr(module or train, name))
    theirs = run("theirs", "--exercises")
    assert grpo.kl.__module__ == "exercises.solutions.e08_kl"
    for a, b in zip(ours, theirs, strict=True):
        same = {name: value for name, value in a.items() if "second" not in name and value is not None}
        assert {name: b[name] for name in same} == pytest.approx(same, rel=1e-3, abs=1e-4)
        assert {name for name, value in a.items() if value is None} == {name for name in b if b[name] is None}
