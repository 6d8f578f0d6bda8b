"""toy.py: what are the smallest worlds in which the three papers can be seen?

**The chain world**, `--model toy`. Problems are chains of one-digit numbers such as `7+8*3-4=`, worked strictly from
left to right (no precedence): 7+8 = 15, 15*3 = 45, 45-4 = 41. The answer is written `\\boxed{41}`. The base model is a
Qwen2 of 0.4 M parameters that has read text with three habits. Most of the time it read mostly reasoning, which teaches
it arithmetic; at the end it read them mixed as HABITS says, and so it writes:

    direct   7+8*3-4=\\boxed{41}                                                              answers at once
    reason   7+8*3-4=first, 7+8=15 next, 15*3=45 finally, 45-4=41 thus \\boxed{41}            works step by step
    ramble   7+8*3-4=hmm, 8 and 3 or 7 and 4                                                 never answers

The documents are right, but for SLIP: each step of a reasoning document goes wrong with that probability, and the chain
goes on from the wrong value, as careless people do. The model cannot do two operations in its head, so "direct" is
nearly always wrong beyond one, "reason" is mostly right, and "ramble" earns nothing. The connectives (`first, ` `next,
` `finally, ` `thus` `therefore`) are phrases of the reasoning pattern reward of "The Climb Carves Wisdom Deeper Than
the Summit", so that the same reward code runs here and on Qwen2.5. It is the world for rewards without labels.

**This world is built so that reasoning is latent in the base model and rarely chosen.** That is what the papers find in
their base models, on purpose made true here: reinforcement learning can only select among habits that are already
there. Nothing seen in this world proves that the same holds for a large model; it shows the mechanism, in a minute.

**The search world**, `--model toy-search`, is the Countdown game with a running value: `3,7,8,2:58 ` asks to reach 58
from four numbers, each used once, and `3*7=21 21+8=29 29*2=58` does. In the chain world an answer can be guessed: it is
one of a hundred. Here the answer is its own proof, and what a model solves in many tries is what it can find. How often
a blind search finds a solution is known exactly (`search_chance`). It is the world for "Does Reinforcement Learning
Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?". `toy-search-5` is the same with five numbers and
a base model that has read little: 256 tries do not solve every puzzle, so that one sees what widens the set of those
that can be solved (distill.py).

In all worlds every value lies in 0..99. Train and test problems are disjoint by construction: a hash of a problem says
to which split it belongs (in the search world whatever the order of its numbers), and neither the base model nor
reinforcement learning is ever given a problem of the other split. (A single step such as 7+8=15 is everywhere, as the
addition table is: of one operation there are only 207 chains in all.)
"""

import hashlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from transformers import AddedToken, Qwen2ForCausalLM, Qwen2Tokenizer

from running import pretraining
from running.files import made_once

PAD, EOS = "<pad>", "<eos>"
HIGHEST = 99  # of the values of a problem; the lowest is 0


def split_of(problem: str) -> str:
    """`"train"` or `"test"` (one in five), from a hash of the text: a problem can never be in both."""
    return "test" if hashlib.sha256(problem.encode()).digest()[0] % 5 == 0 else "train"


def result_of(left: int, operator: str, right: int) -> int:
    """What one step comes to, within 0..99 or not."""
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


# --- the chain world: problems --------------------------------------------------------------------------------------

TRAIN_OPERATIONS = (1, 2, 3, 4)  # what the base model has read and what reinforcement learning trains on
TEST_OPERATIONS = (1, 2, 3, 4, 5, 6)  # 5 and 6 were never seen by anyone
HABITS = {"direct": 0.45, "reason": 0.35, "ramble": 0.20}
SLIP = 0.01  # probability that one written step of a reasoning document is wrong


def steps(expression: str) -> list[tuple[int, str, int, int]]:
    """The worked steps (left, operator, right, result) of an expression such as `7+8*3-4=`, from left to right."""
    numbers = [int(n) for n in re.findall(r"\d+", expression)]
    worked, value = [], numbers[0]
    for operator, right in zip(re.findall(r"[-+*]", expression), numbers[1:], strict=True):
        result = result_of(value, operator, right)
        worked.append((value, operator, right, result))
        value = result
    return worked


def make_expression(rng: random.Random, operations: int, split: str) -> str:
    """A random chain of that many operations that belongs to `split`; every intermediate value lies in 0..99."""
    while True:
        value = rng.randint(1, 9)
        text = str(value)
        for _ in range(operations):
            while True:
                operator, right = rng.choice("+-*"), rng.randint(1, 9)
                result = result_of(value, operator, right)
                if 0 <= result <= HIGHEST:
                    break
            text, value = f"{text}{operator}{right}", result
        if split_of(text + "=") == split:
            return text + "="


def make_problems(split: str, limit: int, seed: int = 0) -> list[tuple[str, str]]:
    """`limit` different (prompt, answer) pairs of a split, of 1..4 operations in turn (train) or 1..6 (test).

    There are only 165 training and 42 test problems of one operation. When they run out, the others go on in turn.
    """
    rng = random.Random(f"{split}-{seed}")
    turns = list(TRAIN_OPERATIONS if split == "train" else TEST_OPERATIONS)
    seen, problems, turn = set(), [], 0
    while len(problems) < limit:
        operations = turns[turn % len(turns)]
        for _ in range(1000):  # tries before this number of operations counts as used up
            expression = make_expression(rng, operations, split)
            if expression not in seen:
                break
        else:
            turns.remove(operations)
            continue
        seen.add(expression)
        problems.append((expression, str(steps(expression)[-1][3])))
        turn += 1
    return problems


def valid_chain(completion: str, problem) -> bool:
    """True if the completion writes exactly the worked steps of the problem, in order, and then boxes its answer.

    One operation needs no written step: the models can do it in their heads, so that a right answer at once is no luck.
    Beyond one, a right answer without a valid chain is a lucky guess; the authors of "Does Reinforcement Learning
    Really Incentivize Reasoning Capacity..." checked by reading. `problem` is a data.Problem or the text of its prompt.
    """
    worked = steps(getattr(problem, "prompt", problem))
    reasoning, _, boxed = completion.partition("\\boxed{")
    written = [(int(a), op, int(b), int(c)) for a, op, b, c in re.findall(r"(\d+)([-+*])(\d+)=(\d+)", reasoning)]
    at_once = len(worked) == 1 and not reasoning
    return (written == worked or at_once) and boxed.startswith(f"{worked[-1][3]}}}")


def operations(expression: str) -> str:
    """How hard a chain is: "1 operation", "2 operations" ..."""
    number = len(steps(expression))
    return f"{number} operation" + "s" * (number > 1)


# --- the chain world: text ------------------------------------------------------------------------------------------


def reason(expression: str, rng: random.Random, slip: float = 0.0) -> str:
    """A completion that works step by step. Each step is wrong with probability `slip`, off by 1 or by 10."""
    worked = steps(expression)
    value, parts = worked[0][0], []
    for i, (_, operator, right, _) in enumerate(worked):
        # After a slip the true result may lie outside of 0..99. It is clamped, so that two digits are always enough.
        result = min(max(result_of(value, operator, right), 0), HIGHEST)
        if rng.random() < slip:
            result = rng.choice([r for r in (result - 10, result - 1, result + 1, result + 10) if 0 <= r <= HIGHEST])
        connective = "first, " if i == 0 else " finally, " if i == len(worked) - 1 else " next, "
        parts.append(f"{connective}{value}{operator}{right}={result}")
        value = result
    return f"{''.join(parts)}{rng.choice([' thus ', ' therefore '])}\\boxed{{{value}}}"


def ramble(expression: str, rng: random.Random) -> str:
    """A completion that mumbles numbers of the problem and never answers."""
    digits = re.findall(r"\d", expression)
    text = "hmm, " + rng.choice(digits)
    while rng.random() < 0.7:
        text += rng.choice([" and ", " or "]) + rng.choice(digits)
    return text


def completion_of(expression: str, habit: str, rng: random.Random) -> str:
    """A completion in the style of this habit, one of HABITS."""
    if habit == "direct":
        return f"\\boxed{{{steps(expression)[-1][3]}}}"
    return reason(expression, rng, SLIP) if habit == "reason" else ramble(expression, rng)


def chain_documents(rng: random.Random, number: int, progress: float) -> list[tuple[str, str]]:
    """What the base model reads: (prompt, completion) pairs. progress: how much of its training is over, 0 .. 1.

    At first nearly all documents reason, because only they teach arithmetic; the last fifth has the shares of HABITS.
    """
    reason_share = 0.95 if progress < 0.8 else HABITS["reason"]
    rest = (1 - reason_share) / (1 - HABITS["reason"])  # the other habits keep their proportions
    shares = {habit: reason_share if habit == "reason" else share * rest for habit, share in HABITS.items()}
    expressions = [make_expression(rng, rng.choice(TRAIN_OPERATIONS), "train") for _ in range(number)]
    habits = rng.choices(list(shares), list(shares.values()), k=number)
    return [(e, completion_of(e, habit, rng)) for e, habit in zip(expressions, habits, strict=True)]


# --- the search world -----------------------------------------------------------------------------------------------

NUMBERS, LOWEST_TARGET = 4, 10  # of a puzzle, unless it says otherwise; each number is 1..9
FAILED = 0.3  # share of the documents, in the last fifth of the training, that do not care for the target


def puzzle_of(prompt: str) -> tuple[list[int], int]:
    """The numbers and the target of a prompt such as `3,7,8,2:58 `."""
    numbers, target = prompt.split(":")
    return [int(number) for number in numbers.split(",")], int(target)


def random_search(numbers: list[int], rng: random.Random) -> tuple[str, int]:
    """A chain of steps and its last value: a random order, random operators, drawn again until it stays in 0..99.

    So each legal pair of an order and operators is as likely as any other.
    """
    while True:
        first, *others = rng.sample(numbers, len(numbers))
        worked = steps(str(first) + "".join(rng.choice("+-*") + str(number) for number in others))
        if all(0 <= result <= HIGHEST for *_, result in worked):
            return " ".join(f"{a}{operator}{b}={result}" for a, operator, b, result in worked), worked[-1][3]


@cache
def search_results(numbers: tuple[int, ...]) -> Counter:
    """Over all legal chains of these numbers: how many end in each value."""
    values = Counter()
    for order in itertools.permutations(numbers):
        ends = [order[0]]
        for right in order[1:]:
            ends = [r for left in ends for op in "+-*" if 0 <= (r := result_of(left, op, right)) <= HIGHEST]
        values.update(ends)
    return values


def search_chance(prompt: str) -> float:
    """The probability that one try of random_search solves this puzzle: exact, by counting all legal chains."""
    numbers, target = puzzle_of(prompt)
    results = search_results(tuple(sorted(numbers)))
    return results[target] / results.total()


def make_puzzle(rng: random.Random, split: str, count: int = NUMBERS) -> tuple[str, str]:
    """(prompt, a solution) of a random puzzle of `count` numbers of that split. Its target is what a random chain ends
    in."""
    while True:
        numbers = [rng.randint(1, 9) for _ in range(count)]
        solution, target = random_search(numbers, rng)
        # Whatever the order of the numbers, it is the same puzzle.
        if target >= LOWEST_TARGET and split_of(f"{sorted(numbers)}:{target}") == split:
            return f"{','.join(map(str, numbers))}:{target} ", solution


def make_puzzles(split: str, limit: int, seed: int = 0, count: int = NUMBERS) -> list[tuple[str, str]]:
    """`limit` different (prompt, answer) pairs of a split. The answer is what verify.answers.search_equal checks by."""
    rng, puzzles = random.Random(f"search-{split}-{seed}"), {}
    while len(puzzles) < limit:
        prompt, _ = make_puzzle(rng, split, count)
        numbers, target = puzzle_of(prompt)
        puzzles.setdefault((*sorted(numbers), target), (prompt, json.dumps({"target": target, "nums": numbers})))
    return list(puzzles.values())


def search_documents(rng: random.Random, number: int, progress: float, count: int = NUMBERS) -> list[tuple[str, str]]:
    """What the base model reads: solved puzzles, and in the last fifth also blind searches, which mostly miss."""
    documents = [make_puzzle(rng, "train", count) for _ in range(number)]
    if progress < 0.8:
        return documents
    missed = [(prompt, random_search(puzzle_of(prompt)[0], rng)[0]) for prompt, _ in documents]
    return [miss if rng.random() < FAILED else hit for hit, miss in zip(documents, missed, strict=True)]


def solve(prompt: str, rng: random.Random) -> str:
    """A random one of a puzzle's solutions."""
    numbers, target = puzzle_of(prompt)
    while True:
        solution, value = random_search(numbers, rng)
        if value == target:
            return solution


# --- all worlds -----------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """What the other files need to know of a world. Its name is what --data calls it."""

    make_problems: Callable  # (split, limit) -> (prompt, answer) pairs
    number: dict[str, int]  # of problems in each split
    kind: str  # of their checker, in verify/
    group: Callable | None  # prompt -> how hard it is, for tables
    chance: Callable  # prompt -> the probability that one blind try is right
    blind: str  # what such a try is called
    valid: Callable | None  # (completion, prompt) -> not just right, but for a reason? None where that is the same
    solve: Callable  # (prompt, random.Random) -> a right completion
    documents: pretraining.Writer  # what its base model reads
    signs: str  # tokens of one character
    words: tuple[str, ...]  # longer ones
    base_model: dict  # its sizes, and how it is trained


BASE_MODEL = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "steps": 500,
    "documents_per_step": 64,
    "muon_lr": 0.02,
    "adamw_lr": 5e-3,
}
WORDS = ("first, ", " next, ", " finally, ", " thus ", " therefore ", "hmm, ", " and ", " or ", "\\boxed{", "}")
WORLDS = {
    "toy": World(
        make_problems=make_problems,
        number={"train": 640, "test": 180},  # 160 of each 1..4, 30 of each 1..6 operations
        kind="number",
        group=operations,
        chance=lambda prompt: 1 / (HIGHEST + 1),  # every answer lies in 0..99
        blind="blind guess",
        valid=valid_chain,
        solve=reason,
        documents=chain_documents,
        signs="0123456789+-*=",
        words=WORDS,
        base_model=BASE_MODEL,
    ),
    "toy-search": World(
        make_problems=make_puzzles,
        number={"train": 1024, "test": 180},
        kind="search",
        group=None,
        chance=search_chance,
        blind="random search",
        valid=None,  # a right answer is a valid chain
        solve=solve,
        documents=search_documents,
        signs="0123456789+-*=:,",
        words=(" ",),
        base_model={**BASE_MODEL, "steps": 600, "documents_per_step": 128},
    ),
}
WORLDS["toy-search-5"] = WORLDS["toy-search"]._replace(
    make_problems=partial(make_puzzles, count=5),
    documents=partial(search_documents, count=5),
    base_model={**WORLDS["toy-search"].base_model, "steps": 250},
)
# Name for --model -> (its world, what differs from the world's base model).
BASES = {world: (world, {}) for world in WORLDS} | {
    "toy-weak": ("toy", {"steps": 250}),
    "toy-search-5-strong": ("toy-search-5", {"steps": 1000}),  # a teacher
}


def make_tokenizer(world: str = "toy") -> Qwen2Tokenizer:
    """One token for each digit, sign and word of a world. Its text survives encoding and decoding exactly.

    The class is Qwen2's own (a byte-level BPE, here without merges), because AutoTokenizer builds that one for any
    Qwen2 model, whatever class wrote the files. It drops characters that it does not know: a toy model can read
    nothing but the text of its world.
    """
    tokens = {token: i for i, token in enumerate([PAD, EOS, *WORLDS[world].signs])}
    tokenizer = Qwen2Tokenizer(vocab=tokens, merges=[], unk_token=None, eos_token=EOS, pad_token=PAD)
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORLDS[world].words])
    return tokenizer


def world_of(name: str) -> str | None:
    """The world of a base model's name, None for any other name. `toy-search@1` is toy-search made with seed 1.

    What a study finds may hang on its base model: a second one tells more than a third seed of training.
    """
    base, at, seed = name.partition("@")
    return BASES[base][0] if base in BASES and (not at or re.fullmatch(r"\d{1,9}", seed)) else None


def path_of(name: str) -> str | None:
    """The folder of the base model of that name, made if need be; None for any other name."""
    base, _, seed = name.partition("@")
    world = world_of(name)
    return world and str(base_model(seed=int(seed or 0), world=world, **BASES[base][1]))


def base_model(folder: str | Path = "runs", seed: int = 0, world: str = "toy", **changes) -> Path:
    """The folder of a world's trained base model, which the first call trains; `changes` override its base_model.

    Load it as any checkpoint, by AutoModelForCausalLM.from_pretrained.
    """
    if unknown := set(changes) - set(BASE_MODEL):
        raise ValueError(f"the toy base model has no {', '.join(sorted(unknown))}; it has {', '.join(BASE_MODEL)}")
    design = {**WORLDS[world].base_model, **changes}
    make = partial(train_base_model, design, seed, world)
    return made_once(folder, f"{world}-base", [design, seed], [Path(__file__), Path(pretraining.__file__)], make)


def train_base_model(design: dict, seed: int, world: str = "toy") -> tuple[Qwen2ForCausalLM, Qwen2Tokenizer]:
    """(policy, tokenizer) after next-token prediction on freshly written documents. `design` is as BASE_MODEL."""
    tokenizer = make_tokenizer(world)
    return pretraining.pretrain(tokenizer, WORLDS[world].documents, design, seed, f"{world} base model"), tokenizer
