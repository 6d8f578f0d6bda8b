"""certainty.py: are right answers more certain than wrong ones, and is the most certain of n answers the one to give?

    python -m study.certainty toy runs/toy-self-certainty-seed0 --samples 32 --out runs/certainty

Intuitor's Figure 8 for a base model and models trained from it. Each answers the same problems. Self-certainty (its
equation 4, the mean over an answer's tokens) is the answering model's own; on the base's answers it is also that of
each trained model: who grades need not be who wrote. Three questions, from the widest to the narrowest:

    all       r of right against wrong answers, over all problems. An easy problem has more right answers and may make
              all answers certain: then r says that the model knows what is easy.
    p         the Mann-Whitney test of the first answer of each problem, as in the paper: one-sided, for "right is more
              certain". More answers of a problem would not be independent.
    within    r over pairs of the same problem: only this can choose among answers, or train by group advantages.

r is the rank-biserial correlation, 2 U / (n_right n_wrong) - 1: 0 for a coin, 1 if each right answer is more certain
than each wrong one. Best-of-n gives the most certain of n answers, which needs no answer key.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import data
from engine.head import annotate
from generate import generate, stream
from passk import majority_at_k
from rewards import grade_rollouts, sequence_mean
from running import flags
from running.files import BadInput, replace_text, writes_into
from running.flags import flag
from running.logs import pairwise_accuracy
from running.models import end_tokens, own_data, resolve_device
from study.pictures import save, short_names
from study.samples import Ready, Sampling, ready_model

OTHER_SEED = re.compile(r"-seed[1-9]\d*$")
ROWS, MICRO_TOKENS = 1536, 1024  # answers sampled at once; tokens of a pass


# --- statistics -----------------------------------------------------------------------------------------------------


def mann_whitney(right: np.ndarray, wrong: np.ndarray) -> tuple[float | None, ...]:
    """(U, p, r) of two samples: is `right` larger than `wrong`? Mann and Whitney (1947), p one-sided.

    U counts the pairs in which right is larger, ties half. Without a difference it is normal to a good approximation
    from some 20 values on, with mean nm/2 and variance nm/12 ((N + 1) - sum(t^3 - t) / (N (N - 1))), t the sizes of the
    ties among all N values. Where one sample is empty: None.
    """
    n, m = len(right), len(wrong)
    if not n * m:
        return (None,) * 3
    ordered = np.sort(wrong)
    U = float((np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")).sum() / 2)
    N, ties = n + m, np.unique(np.concatenate([right, wrong]), return_counts=True)[1]
    variance = n * m / 12 * ((N + 1) - float((ties**3 - ties).sum()) / (N * (N - 1)))
    z = (U - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0
    return U, math.erfc(z / math.sqrt(2)) / 2, 2 * U / (n * m) - 1


def best_of(values: np.ndarray, right: np.ndarray, n: int) -> float:
    """How often the answer of the largest value among n is right: values and right [P, N], over all choices of n of N.

    The i-th smallest of N (from 0) is the largest of n chosen ones with probability C(i, n - 1) / C(N, n).
    """
    N = values.shape[1]
    chance = np.array([math.comb(i, n - 1) / math.comb(N, n) for i in range(N)])
    ordered = np.take_along_axis(right.astype(float), values.argsort(axis=1, kind="stable"), axis=1)
    return float((ordered * chance).sum(axis=1).mean())


# --- answers --------------------------------------------------------------------------------------------------------


@dataclass
class Answers:
    """What a model answers to P problems, N times each."""

    right: np.ndarray  # [P, N] bool
    texts: list[list[str | None]]  # [P][N] answers
    rollouts: list  # generate.Rollouts, of some problems each

    def certainty(self, policy=None) -> np.ndarray:
        """The mean self-certainty of each answer, nats, [P, N]: of the model that wrote it, or of another."""
        parts = [
            sequence_mean(r.self_certainty if policy is None else annotate(policy, r, MICRO_TOKENS), r.mask)
            for r in self.rollouts
        ]
        return torch.cat(parts).cpu().numpy().reshape(self.right.shape)


def ask(ready: Ready, problems: list, how: Sampling) -> Answers:
    """What a model answers."""
    number, at_once, ends = how.number, max(1, how.rows // how.number), end_tokens(ready.policy, ready.tokenizer)
    right, texts, kept = [], [], []
    for first in range(0, len(problems), at_once):
        part = slice(first, first + at_once)
        options = {"temperature": how.temperature, "eos_ids": ends, "generator": stream(how.seed, "certainty", first)}
        rollouts = generate(ready.policy, ready.prompts[part], number, how.max_new_tokens, **options)
        graded = grade_rollouts(problems[part], rollouts, ready.tokenizer)
        right += graded.right
        texts += graded.answers
        kept.append(rollouts)
    rows = range(0, len(texts), number)
    return Answers(np.array(right).reshape(-1, number), [texts[i : i + number] for i in rows], kept)


def summary(certainty: np.ndarray, answers: Answers, ks: list[int]) -> dict:
    """What is said of one model's answers under one grader."""
    right, first = answers.right, slice(0, 1)
    U, p, r = mann_whitney(certainty[:, first][right[:, first]], certainty[:, first][~right[:, first]])
    within = pairwise_accuracy(torch.tensor(certainty), torch.tensor(right))
    vote = [majority_at_k(text, row, ks) for text, row in zip(answers.texts, right, strict=True)]
    counts = [np.histogram(certainty[which], bins=40, range=span(certainty))[0].tolist() for which in (right, ~right)]
    return {
        "accuracy": float(right.mean()),
        "all": mann_whitney(certainty[right], certainty[~right])[2],
        "U": U,
        "p": p,
        "r_first": r,
        "within": None if within is None else 2 * within - 1,
        "best_of": [best_of(certainty, right, k) for k in ks],
        "vote": np.mean(vote, axis=0).tolist(),
        "histogram": counts,
        "span": span(certainty),
    }


def span(values: np.ndarray) -> list[float]:
    """From where to where a histogram goes: all but the outermost thousandths."""
    return [float(x) for x in np.quantile(values, [0.001, 0.999])]


# --- what is shown --------------------------------------------------------------------------------------------------


def table(content: dict) -> str:
    """A line for each pair of answers and grader."""
    ks, width = content["k"], max(map(len, content["found"]))
    shown = [k for k in (1, 4, 16) if k in ks]
    head = f"{'answers of, graded by':<{width}}  right   r all  r within  p (first)"
    lines = [head + "".join(f"  best of {k:<2}" for k in shown[1:]) + f"  vote of {shown[-1]}"]
    for name, one in content["found"].items():
        numbers = [(one["all"], "+.2f"), (one["within"], "+.2f"), (one["p"], ".1e")]
        r, within, p = (f"{value:{form}}" if value is not None else "-" for value, form in numbers)
        best = "".join(f"{one['best_of'][ks.index(k)]:>12.3f}" for k in shown[1:])
        line = f"{name:<{width}}  {one['accuracy']:.3f}  {r:>6}  {within:>8}  {p:>9}"
        lines.append(f"{line}{best}{one['vote'][ks.index(shown[-1])]:>12.3f}")
    return "\n".join(lines)


def picture(content: dict, path: Path) -> None:
    """Histograms of the certainty of right and wrong answers, and best-of-n beside the vote.

    Of each model its own answers, of runs with several seeds the first: more would say the same. The table has all.
    """
    drawn = {name: one for name, one in content["found"].items() if ", " not in name and not OTHER_SEED.search(name)}
    columns = min(3, len(drawn) + 1)
    rows = -(-(len(drawn) + 1) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.4 * columns, 3.4 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat[len(drawn) + 1 :]:
        axes.axis("off")
    ways = list(zip(("right", "wrong"), ("#08519c", "#e6550d"), ("-", "--"), strict=True))
    best = grid.flat[len(drawn)]
    for i, (name, one) in enumerate(drawn.items()):
        axes, edges = grid.flat[i], np.linspace(*one["span"], 41)
        for counts, (label, color, line) in zip(one["histogram"], ways, strict=True):
            look = {"color": color, "linestyle": line, "linewidth": 1.6}
            axes.stairs(np.array(counts) / max(1, sum(counts)), edges, label=label, **look)
        r = "no right answer" if one["within"] is None else f"r {one['all']:+.2f}, within {one['within']:+.2f}"
        axes.set_title(f"{name}\n{r}", fontsize=10)
        axes.set(xlabel="self-certainty, nats", ylabel="share of the right, of the wrong")
        axes.legend(fontsize=8)
        best.plot(content["k"], one["best_of"], color=f"C{i}", marker="o", markersize=4, label=name)
        best.plot(content["k"], one["vote"], color=f"C{i}", linestyle=":")
    best.set_xscale("log", base=2)
    best.set_xticks(content["k"], [str(k) for k in content["k"]])
    best.set(xlabel="n answers", ylabel="share right", ylim=(0, 1.02))
    best.set_title("the most certain of n answers\n(dotted: their vote)", fontsize=10)
    best.legend(fontsize=7)
    save(figure, path)


# --- the command line -----------------------------------------------------------------------------------------------


@dataclass
class Settings:
    """The flags."""

    models: list[str] = flag(None, "the base model, and models trained from it", positional=True, nargs="+", type=str)
    data: str | None = flag(None, "problems; default the base model's own")
    samples: int = flag(32, "answers to each problem", least=2)
    limit: int = flag(180, "problems", least=1)
    temperature: float = flag(1.0, "of sampling", above=0)
    max_new_tokens: int = flag(80, "tokens", least=1)
    seed: int = flag(0, "of every random draw", least=0)
    device: str = flag("auto", "auto, cpu, mps (Apple), cuda, cuda:1 ...")
    out: str = flag("runs/certainty", "folder for certainty.json and certainty.png")


def found_in(s: Settings, ks: list[int]) -> Iterator[tuple[str, dict]]:
    """(whose answers and by whom graded, its summary), for each n of best-of-n in ks. Raises BadInput."""
    device, dtype = resolve_device(s.device, "auto")
    if not (source := s.data or own_data(s.models[0])):
        raise BadInput(f"--data: needed, as {s.models[0]} has no problems of its own")
    problems = data.load_problems(source, "test", s.limit)
    how = Sampling(s.samples, s.temperature, 1.0, s.max_new_tokens, ROWS, s.seed)
    names, base, template = short_names(s.models), None, None
    for model in s.models:
        ready = ready_model(model, problems, how, template, device, dtype)
        template = ready.template  # the base's, for all
        answers = ask(ready, problems, how)
        yield names[model], summary(answers.certainty(), answers, ks)
        if base:
            yield f"{names[s.models[0]]}, {names[model]}", summary(base.certainty(ready.policy), base, ks)
        base = base or answers


def write(source: Path, out: Path) -> str:
    """Draw what a certainty.json holds; returns its table. Raises BadInput."""
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        shown = table(content)
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{source}: not a certainty.json; make one by python -m study.certainty") from None
    picture(content, out / "certainty.png")
    return shown


def parse(argv: list[str] | None) -> Settings:
    """The command line."""
    return flags.parse(Settings, argv, "study.certainty", "Is what is right more certain?")[0]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        settings = parse(argv)
        flags.check(settings)
        ks, out = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= settings.samples], Path(settings.out)
        content = {"samples": settings.samples, "k": ks, "found": dict(found_in(settings, ks))}
        with writes_into(f"--out {out}", "make room, and run it again"):
            out.mkdir(parents=True, exist_ok=True)
            replace_text(out / "certainty.json", json.dumps(content, allow_nan=False) + "\n")
            print(write(out / "certainty.json", out))
    except BadInput as error:
        print(f"study.certainty: {error}", file=sys.stderr)
        return 2
    print(f"In {settings.out}: certainty.json, certainty.png.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
