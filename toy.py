"""toy.py: what is the smallest world in which all three papers can be seen?

Problems are chains of one-digit numbers such as `7+8*3-4=`, worked strictly from left to right (no precedence):
7+8 = 15, 15*3 = 45, 45-4 = 41. Every intermediate value lies in 0..99. The answer is written `\\boxed{41}`.

The base model is a Qwen2 of 0.4 M parameters that has read text with three habits. Most of the time it read mostly
reasoning, which teaches it arithmetic; at the end it read them mixed as HABITS says, and so it writes:

    direct   7+8*3-4=\\boxed{41}                                                              answers at once
    reason   7+8*3-4=first, 7+8=15 next, 15*3=45 finally, 45-4=41 thus \\boxed{41}            works step by step
    ramble   7+8*3-4=hmm, 8 and 3 or 7 and 4                                                 never answers

The documents are right, but for SLIP: each step of a reasoning document goes wrong with that probability, and the chain
goes on from the wrong value, as careless people do. The model cannot do two operations in its head, so "direct" is
nearly always wrong beyond one, "reason" is mostly right, and "ramble" earns nothing.

**This world is built so that reasoning is latent in the base model and rarely chosen.** That is what the papers find in
their base models, on purpose made true here: reinforcement learning can only select among habits that are already
there. Nothing seen in this world proves that the same holds for a large model; it shows the mechanism, in a minute.

The connectives (`first, ` `next, ` `finally, ` `thus` `therefore`) are phrases of the reasoning pattern reward of "The
Climb Carves Wisdom Deeper Than the Summit", so that the same reward code runs here and on Qwen2.5.

Train and test problems are disjoint by construction: a hash of the text of a problem says to which split it belongs,
and neither the base model nor reinforcement learning is ever given a problem of the other split. (A single step such as
7+8=15 is everywhere, as the addition table is: of one operation there are only 207 problems in all.)
"""

import hashlib
import random
import re
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AddedToken, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from running.files import made_once

TRAIN_OPERATIONS = (1, 2, 3, 4)  # what the base model has read and what reinforcement learning trains on
TEST_OPERATIONS = (1, 2, 3, 4, 5, 6)  # 5 and 6 were never seen by anyone
HABITS = {"direct": 0.45, "reason": 0.35, "ramble": 0.20}
SLIP = 0.01  # probability that one written step of a reasoning document is wrong

PAD, EOS = "<pad>", "<eos>"
SIGNS = "0123456789+-*="
WORDS = ["first, ", " next, ", " finally, ", " thus ", " therefore ", "hmm, ", " and ", " or ", "\\boxed{", "}"]


# --- problems -------------------------------------------------------------------------------------------------------


def steps(expression: str) -> list[tuple[int, str, int, int]]:
    """The worked steps (left, operator, right, result) of an expression such as `7+8*3-4=`, from left to right."""
    numbers = [int(n) for n in re.findall(r"\d+", expression)]
    worked, value = [], numbers[0]
    for operator, right in zip(re.findall(r"[-+*]", expression), numbers[1:], strict=True):
        result = {"+": value + right, "-": value - right, "*": value * right}[operator]
        worked.append((value, operator, right, result))
        value = result
    return worked


def split_of(expression: str) -> str:
    """`"train"` or `"test"` (one in five), from a hash of the text: a problem can never be in both."""
    return "test" if hashlib.sha256(expression.encode()).digest()[0] % 5 == 0 else "train"


def make_expression(rng: random.Random, operations: int, split: str) -> str:
    """A random chain of that many operations that belongs to `split`; every intermediate value lies in 0..99."""
    while True:
        value = rng.randint(1, 9)
        text = str(value)
        for _ in range(operations):
            while True:
                operator, right = rng.choice("+-*"), rng.randint(1, 9)
                result = steps(f"{value}{operator}{right}")[0][3]
                if 0 <= result <= 99:
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

    A correct answer without a valid chain is a lucky guess; the authors of "Does Reinforcement Learning Really
    Incentivize Reasoning Capacity..." checked by reading. `problem` is a data.Problem or the text of its prompt.
    """
    worked = steps(getattr(problem, "prompt", problem))
    reasoning, _, boxed = completion.partition("\\boxed{")
    written = [(int(a), op, int(b), int(c)) for a, op, b, c in re.findall(r"(\d+)([-+*])(\d+)=(\d+)", reasoning)]
    return written == worked and boxed.startswith(f"{worked[-1][3]}}}")


# --- text -----------------------------------------------------------------------------------------------------------


def reason(expression: str, rng: random.Random, slip: float = 0.0) -> str:
    """A completion that works step by step. Each step is wrong with probability `slip`, off by 1 or by 10."""
    worked = steps(expression)
    value, parts = worked[0][0], []
    for i, (_, operator, right, _) in enumerate(worked):
        # After a slip the true result may lie outside of 0..99. It is clamped, so that two digits are always enough.
        result = min(max(steps(f"{value}{operator}{right}")[0][3], 0), 99)
        if rng.random() < slip:
            result = rng.choice([r for r in (result - 10, result - 1, result + 1, result + 10) if 0 <= r <= 99])
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


complete = completion_of  # until running/toy_reward_model.py calls it by its new name


def make_tokenizer() -> Qwen2Tokenizer:
    """One token for each digit, sign and connective. Text of the toy world survives encoding and decoding exactly.

    The class is Qwen2's own (a byte-level BPE, here without merges), because AutoTokenizer builds that one for any
    Qwen2 model, whatever class wrote the files. It drops characters that it does not know: the toy model can read
    nothing but toy text.
    """
    tokenizer = Qwen2Tokenizer(
        vocab={t: i for i, t in enumerate([PAD, EOS, *SIGNS])}, merges=[], unk_token=None, eos_token=EOS, pad_token=PAD
    )
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    return tokenizer


# --- the base model -------------------------------------------------------------------------------------------------

BASE_MODEL = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "steps": 500,
    "documents_per_step": 64,
    # At first nearly all documents reason, because only they teach arithmetic; the last fifth has the shares of HABITS.
    "reason_share_at_first": 0.95,
    "habits_from": 0.8,
    "muon_lr": 0.02,  # for the matrices of the layers
    "adamw_lr": 5e-3,  # for the embedding and the norms
}
BASES = {"toy": {}, "toy-weak": {"steps": 250}}  # name for --model -> what differs from BASE_MODEL


def base_model(folder: str | Path = "runs", seed: int = 0, **changes) -> Path:
    """The folder of the trained base model. The first call trains it, in less than a minute on two cores.

    `changes` override BASE_MODEL. Load it as any checkpoint, by AutoModelForCausalLM.from_pretrained.
    """
    if unknown := set(changes) - set(BASE_MODEL):
        raise ValueError(f"the toy base model has no {', '.join(sorted(unknown))}; it has {', '.join(BASE_MODEL)}")
    design = {**BASE_MODEL, **changes}
    make = partial(train_base_model, design, seed)
    return made_once(folder, "toy-base", [design, seed], [Path(__file__)], make)


def train_base_model(design: dict, seed: int) -> tuple[Qwen2ForCausalLM, Qwen2Tokenizer]:
    """Next-token prediction on freshly written documents. `design` is as BASE_MODEL; (policy, tokenizer) comes back."""
    tokenizer, rng = make_tokenizer(), random.Random(seed)
    config = Qwen2Config(
        **{name: size for name, size in design.items() if name.startswith(("hidden", "intermediate", "num"))},
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):  # the weights come from this seed; the caller's random stream stays put
        torch.manual_seed(seed)
        policy = Qwen2ForCausalLM(config)
    # Muon makes the update of a matrix orthogonal. After 500 steps the loss is .36 nats a token; with AdamW alone, .43.
    matrices = [p for p in policy.model.layers.parameters() if p.ndim == 2]
    others = [p for p in policy.parameters() if all(p is not m for m in matrices)]
    muon = torch.optim.Muon(matrices, lr=design["muon_lr"], weight_decay=0.0)
    adamw = torch.optim.AdamW(others, lr=design["adamw_lr"], weight_decay=0.0)
    # Ten steps of warm-up, then linear decay to zero.
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda s: min(1, (s + 1) / 10) * (1 - s / design["steps"]))
        for o in (muon, adamw)
    ]
    bar = tqdm(range(design["steps"]), desc="toy base model", unit="step")
    for step in bar:
        early = step < design["habits_from"] * design["steps"]
        reason_share = design["reason_share_at_first"] if early else HABITS["reason"]
        loss = 0.0  # summed over the tokens of the step
        for token_ids, labels in batches(tokenizer, rng, design["documents_per_step"], reason_share):
            logits = policy(input_ids=token_ids, use_cache=False).logits  # [n, S, V]; V is 26 here
            part = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)  # also makes the sum over tokens as good as a mean
        for optimizer, schedule in zip((muon, adamw), schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss / design['documents_per_step']:.2f}")
    return policy.eval(), tokenizer


def batches(tokenizer, rng: random.Random, documents: int, reason_share: float):
    """The documents of one step as three pairs of token_ids, labels [n, S], sorted by length: so little is padding.

    `reason_share` of the documents reason; the other habits keep their proportions. The labels leave the prompts out,
    because a prompt is pure chance, and nothing can be learned from it.
    """
    rest = (1 - reason_share) / (1 - HABITS["reason"])
    shares = {habit: reason_share if habit == "reason" else share * rest for habit, share in HABITS.items()}
    expressions = [make_expression(rng, rng.choice(TRAIN_OPERATIONS), "train") for _ in range(documents)]
    habits = rng.choices(list(shares), list(shares.values()), k=documents)
    completions = [completion_of(e, habit, rng) + EOS for e, habit in zip(expressions, habits, strict=True)]
    pairs = zip(tokenizer(expressions)["input_ids"], tokenizer(completions)["input_ids"], strict=True)
    rows = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    for part in (rows[: documents // 3], rows[documents // 3 : 2 * documents // 3], rows[2 * documents // 3 :]):
        token_ids = [torch.tensor(prompt + completion) for prompt, completion in part]
        labels = [torch.tensor([-100] * len(prompt) + completion) for prompt, completion in part]
        # 0 is <pad>; cross_entropy leaves positions with -100 out.
        yield pad_sequence(token_ids, batch_first=True), pad_sequence(labels, batch_first=True, padding_value=-100)
