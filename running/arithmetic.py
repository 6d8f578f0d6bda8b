"""arithmetic.py: problems that a small language model can nearly solve: --data arithmetic.

    sum        What is 37 + 25?
    product    What is 7 times 8?
    one step   Sara has 45 coins and gives away 12. How many coins are left?
    two steps  A box holds 6 pens. Tom has 4 boxes and 9 more pens. How many pens does he have?

They are written here, so that no data set has to be downloaded, and are in the range where SmolLM2-135M after its
warm-up solves about a third: where all or no rollouts of a group are right, nothing can be learned.

Train and test problems are disjoint by construction: a hash of the calculation, its numbers sorted where order does not
matter, says to which split a problem belongs. So 7 times 8, 8 times 7 and seven boxes of eight pens are all in one.
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


# Texts of the word problems: {a}, {b} and {c} are numbers.
GAIN = (
    "Tom has {a} apples and buys {b} more. How many apples does he have?",
    "There are {a} boys and {b} girls in a club. How many children are in the club?",
)
LOSS = (
    "Sara has {a} coins and gives away {b}. How many coins are left?",
    "A farmer has {a} eggs and sells {b}. How many eggs are left?",
)
TIMES = (
    "A box holds {b} pens. How many pens are in {a} boxes?",
    "A ticket costs {b} dollars. How many dollars do {a} tickets cost?",
)
TIMES_GAIN = (
    "What is {a} times {b}, plus {c}?",
    "A box holds {b} pens. Tom has {a} boxes and {c} more pens. How many pens does he have?",
    "Anna reads {b} pages a day for {a} days, and then {c} pages more. How many pages does she read?",
)
TIMES_LOSS = (
    "What is {a} times {b}, minus {c}?",
    "Sara has {a} bags of {b} coins and gives away {c} coins. How many coins are left?",
    "A baker makes {a} trays of {b} rolls and sells {c} rolls. How many rolls are left?",
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


def make_one_step(rng: random.Random) -> Example:
    """A word problem of one step."""
    operator = rng.choice("+-*")
    if operator == "*":
        a, b = rng.randint(2, 12), rng.randint(2, 12)
    else:
        b, a = sorted(rng.sample(range(10, 61), 2))
    text = rng.choice({"+": GAIN, "-": LOSS, "*": TIMES}[operator])
    return one_step(rng, text.format(a=a, b=b), a, operator, b)


def make_two_steps(rng: random.Random) -> Example:
    """Two steps, bare or in words: a product, and then more or fewer."""
    a, b, c, operator = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9), rng.choice("+-")
    product = a * b
    if product <= c:
        operator = "+"
    result = product + c if operator == "+" else product - c
    text = rng.choice(TIMES_GAIN if operator == "+" else TIMES_LOSS).format(a=a, b=b, c=c)
    first, second = f"{a} * {b} = {product}.", f"{product} {operator} {c} = {result}."
    plain, connected = f" {first} {second} The", f" First, {first} Next, {second} Thus the"
    worked = f"{rng.choice([plain, connected])} answer is \\boxed{{{result}}}."
    return Example(text, result, f"{min(a, b)}*{max(a, b)}{operator}{c}", worked)


def one_step(rng: random.Random, text: str, a: int, operator: str, b: int) -> Example:
    """The example of a problem that is one operation."""
    result = {"+": a + b, "-": a - b, "*": a * b}[operator]
    left, right = (a, b) if operator == "-" else sorted((a, b))
    worked = f" {a} {operator} {b} = {result}. {rng.choice(['The', 'Thus the'])} answer is \\boxed{{{result}}}."
    return Example(text, result, f"{left}{operator}{right}", worked)


KINDS = (make_sum, make_product, make_one_step, make_two_steps)


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

    Half of them use the connectives of the reasoning pattern reward ("first, ", "next, ", "thus"), so that this reward
    has something to choose.
    """
    return [(example.problem, example.worked) for example in make_examples("train", number, f"documents-{seed}")]
