"""arithmetic.py: problems that a small language model can nearly solve: --data arithmetic.

    sum        What is 37 + 25?
    product    What is 7 times 8?
    in words   A box holds 6 pens. How many pens are in 4 boxes?

They are written here, so that no data set has to be downloaded, and are in the range where SmolLM2-135M after its
warm-up is right now and then: where all or no rollouts of a group are right, nothing can be learned. That is why there
are no problems of two steps: it solved none of 43, and stopped after the first step.

Train and test problems are disjoint by construction: a hash of the calculation, its two numbers sorted, says to which
split a problem belongs. So 7 times 8, 8 times 7 and seven boxes of eight pens are all in one.
"""

import hashlib
import random
from typing import NamedTuple

TEST_PROBLEMS = 100  # in the test split


class Example(NamedTuple):
    """A problem and how it is worked out."""

    problem: str
    answer: int
    calculation: str  # what the split depends on
    worked: str  # a response that works it out and boxes the answer


# Texts of the word problems: {a} and {b} are numbers.
GAIN = (
    "Tom has {a} apples and buys {b} more. How many apples does he have?",
    "There are {a} boys and {b} girls in a club. How many children are in the club?",
)
TIMES = (
    "A box holds {b} pens. How many pens are in {a} boxes?",
    "A ticket costs {b} dollars. How many dollars do {a} tickets cost?",
)


# --- problems -------------------------------------------------------------------------------------------------------


def make_sum(rng: random.Random) -> Example:
    """A bare sum."""
    a, b = rng.randint(10, 60), rng.randint(10, 60)
    return one_step(rng, f"What is {a} + {b}?", a, "+", b)


def make_product(rng: random.Random) -> Example:
    """A bare product of the multiplication table."""
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    return one_step(rng, f"What is {a} times {b}?", a, "*", b)


def make_word_problem(rng: random.Random) -> Example:
    """A sum or a product in words."""
    operator = rng.choice("+*")
    least, most = (10, 60) if operator == "+" else (2, 12)
    a, b = rng.randint(least, most), rng.randint(least, most)
    text = rng.choice(GAIN if operator == "+" else TIMES)
    return one_step(rng, text.format(a=a, b=b), a, operator, b)


def one_step(rng: random.Random, text: str, a: int, operator: str, b: int) -> Example:
    """The example of a problem that is one operation, + or *."""
    result = a + b if operator == "+" else a * b
    worked = (
        f" {a} {operator} {b} = {result}. {rng.choice(['The', 'Thus the', 'Thus the'])} answer is \\boxed{{{result}}}."
    )
    return Example(text, result, f"{min(a, b)}{operator}{max(a, b)}", worked)


KINDS = (make_sum, make_product, make_word_problem)


# --- splits ---------------------------------------------------------------------------------------------------------


def split_of(calculation: str) -> str:
    """`"train"` or `"test"` (one in five), from a hash of the calculation: a problem can never be in both."""
    return "test" if hashlib.sha256(calculation.encode()).digest()[0] % 5 == 0 else "train"


def make_examples(split: str, limit: int, seed: int = 0) -> list[Example]:
    """`limit` different problems of a split, each kind in turn.

    There are only 121 bare products in both splits together. When they run out, the other kinds go on in turn.
    """
    rng, turns = random.Random(f"{split}-{seed}"), list(KINDS)
    seen, examples, turn = set(), [], 0
    while len(examples) < limit:
        make = turns[turn % len(turns)]
        for _ in range(1000):  # tries before a kind counts as used up
            example = make(rng)
            if split_of(example.calculation) == split and example.problem not in seen:
                break
        else:
            turns.remove(make)
            continue
        seen.add(example.problem)
        examples.append(example)
        turn += 1
    return examples


def make_problems(split: str, limit: int, seed: int = 0) -> list[tuple[str, str]]:
    """`limit` different (prompt, answer) pairs of a split, each kind in turn."""
    return [(example.problem, str(example.answer)) for example in make_examples(split, limit, seed)]


def documents(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """So many (prompt, worked response) pairs of the training split, to learn the form from.

    Two in three say "thus", a phrase of the reasoning pattern reward: so the model says it now and then, and this
    reward has something to choose.
    """
    return [(example.problem, example.worked) for example in make_examples("train", number, f"documents-{seed}")]
