"""rewards.py: what gets rewarded?

A reward is a function from what was sampled (`Sampled`) to one number per rollout, [B, G]. REWARDS, at the end, names
them all for `train.py --reward NAME` or `--reward NAME=WEIGHT NAME=WEIGHT`; the functions above it are the papers'
equations, free of everything else.

    correct          an answer key                                                       GRPO
    plurality        the group's most frequent answer stands in for the key              GRPO-PV, TTRL
    self_certainty   KL(U || p) of the model's own predictions                           Intuitor eq. 4
    rpr              phrases that reasoning is made of                                   noisy rewards, Figure 9
    reward_model     a model with a scalar head
    calibrate        reward_model (or correct), and some rpr where that is low           noisy rewards
    random, format, entropy, likelihood, length      controls, without which no result above means anything

Intuitor is "Learning to Reason without External Rewards" (2505.19590), noisy rewards "The Climb Carves Wisdom Deeper
Than the Summit" (2505.22653). `--flip P` turns the verdict of the answer key round, as a bad checker would.

Differs from the papers: self-certainty is the equation, not the released code (see there). Noisy rewards trains PPO
with a critic; here everything is GRPO, and `flip` says what that changes. Its reward models score a completion's answer
part only, and 0 for a malformed one; here the whole completion is scored.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass

import torch

import verify


@dataclass
class Sampled:
    """One step's rollouts as text, graded once. N = B*G, row b*G + g is rollout g of problem b."""

    problems: list  # B data.Problem
    rollouts: object  # generate.Rollouts
    texts: list[str]  # N completions without special tokens; never the prompt, whose own \boxed{} would be graded
    answers: list[str | None]  # N
    right: list[bool]  # N
    certainty: torch.Tensor  # [N, S] self-certainty of the annotator: of the policy itself, unless train.py changes it
    reward_model: tuple | None = None  # (model, tokenizer), if a reward asks for one
    generator: torch.Generator | None = None  # of flips and random rewards
    verdict: torch.Tensor | None = None  # [B, G] what `correct` has found, flips included: drawn once a step

    def groups(self, values) -> torch.Tensor:
        """N numbers as [B, G] float32 on the CPU."""
        return torch.as_tensor(values, dtype=torch.float32).cpu().reshape(len(self.problems), -1)

    @property
    def answered(self) -> torch.Tensor:
        """Whether each completion gives an answer, right or wrong: [B, G] bool."""
        return self.groups([answer is not None for answer in self.answers]).bool()

    @property
    def boxed(self) -> torch.Tensor:
        """Whether each completion gives its answer in a box, as the papers ask for: [B, G] bool."""
        return self.answered & self.groups([verify.boxed(text) is not None for text in self.texts]).bool()


def read(problems: list, rollouts, tokenizer, allow_code_execution: bool = False) -> Sampled:
    """Decode the completions, extract their answers and grade them against the golds of their problems."""
    texts = tokenizer.batch_decode(rollouts.completions(), skip_special_tokens=True)
    golds = [problem for problem in problems for _ in range(len(texts) // len(problems))]
    kinds = [p.kind for p in golds]
    right = verify.grade(texts, [p.answer for p in golds], kinds, allow_code_execution)
    answers = [verify.extract_answer(text, kind) for text, kind in zip(texts, kinds, strict=True)]
    return Sampled(problems, rollouts, texts, answers, right, rollouts.self_certainty)


# --- Intuitor: the model's own certainty ----------------------------------------------------------------------------


def self_certainty(logits: torch.Tensor) -> torch.Tensor:
    """KL(U || p) of each next-token distribution p, in nats: logits [..., V] -> [...]. Intuitor eq. 4.

        KL(U || p) = 1/V sum_j log((1/V) / p_j) = logsumexp(z) - mean(z) - log V     for logits z

    U is uniform over all V columns. 0 for a uniform p; it grows without bound as tokens are ruled out. Adding a
    constant to the logits changes nothing. Float32 whatever comes in, and raw logits, not divided by the sampling
    temperature. (The released open-r1 code leaves log V out, which cancels in the group mean, and reads the positions
    one too late; the equation is followed here.)

    While sampling and training the logsumexp is there already, for the log-probability, and the sum of the logits takes
    one more look at a block of them: see generate.py and grpo.HeadLogps, which never hold [N, S, V].
    """
    logits = logits.float()
    return logits.logsumexp(-1) - logits.mean(-1) - math.log(logits.shape[-1])


def sequence_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of per-token values over each row's completion, [N, S] -> [N]; 0 for an empty completion."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp_min(1)


# --- GRPO-PV: the group votes ---------------------------------------------------------------------------------------


def plurality(answers: list[str | None], kind: str = "math") -> list[float]:
    """1 for each answer of one group that is in its largest class of equivalent answers, else 0.

    "1/2" and "0.5" are one class. None is no answer: it has no vote and never wins, so a group without answers earns
    nothing. Of classes that are equally large, the one that was answered first wins. The winner need not have half of
    the votes. (Intuitor section 4, after TTRL; the released Intuitor code has no such reward.)
    """
    classes = verify.classes(answers, kind)
    votes = Counter(c for c in classes if c is not None)
    winner = votes.most_common(1)[0][0] if votes else -1  # of equal counts, the first that was counted
    return [float(c == winner) for c in classes]


# --- noisy rewards: phrases -----------------------------------------------------------------------------------------

# The 40 phrases as released: "makes sence" is theirs, and a trailing comma or space is part of the phrase.
PATTERNS = (
    *("i need to", "we need to", "wait", "alternatively", "let me check", "let me see", "let's focus on"),
    *("we know that", "we can observe ", "we can see ", "let me try", "let's try", "let us try", "first, "),
    *("firstly, ", "next, ", "finally, ", "let us first", "let's first", "let me first", "try again", "still not"),
    *("not working", "not correct", "does not work", "doesn't work", "makes sence", "since we ", "because we "),
    *("consequently", "as a result", "thus", "therefore", "hence", "so that", "thereby", "if we", "given there "),
    *("for instance ", "for example "),
)
# 13 more that the released code counts on open-ended tasks.
OPEN_ENDED_PATTERNS = (
    *("1. ", "2. ", "3. ", "4. ", "step 1 ", "step 2 ", "step 3. ", "step 4 ", "considering the", "i'll", "i will"),
    *("i would", "i should"),
)


def repetition(text: str, kind: str = "distinct", n: int = 20) -> float:
    """The share of repeated word n-grams in a text, 0 .. 1; 0 if it has fewer than n words.

    distinct (as released)     how many different n-grams occur more than once / all n-grams
    total (as in TRL)          1 - different n-grams / all n-grams

    The released one counts a phrase said forty times as one repetition: of a tight loop it takes next to nothing.
    """
    words = text.split()
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = sum(counts.values())
    if kind not in ("distinct", "total"):
        raise ValueError(f"repetition is 'distinct' or 'total', not {kind!r}")
    repeated = sum(count > 1 for count in counts.values()) if kind == "distinct" else total - len(counts)
    return repeated / max(total, 1)


def reasoning_pattern(
    completion: str,
    divisor: float = 20,
    repetition_kind: str = "distinct",
    whole_words: bool = False,
    open_ended: bool = False,
) -> float:
    """The reasoning pattern reward (RPR) of a completion, 0 .. 1. Noisy rewards, Figure 9 and its released code.

        RPR = max(0, min(1, phrases present / divisor) - repetition - turns)

    Phrases are looked for in the lower-cased text as substrings, and count once however often they occur. turns counts
    "user: ": what a model writes that goes on to ask itself the next question. `open_ended` looks for 13 phrases more
    and counts no turns. In the defaults this is the released function of the text behind its "Assistant: <think> ".

    The released code divides by 20, the paper's figure by all 40; which of them gave its results is not known. As
    substrings, "thus" is found in "enthusiasm" and "hence" in "whence"; `whole_words` mends that. A reward of 0 without
    an answer is applied around this function, in REWARDS.
    """
    text = completion.lower()
    phrases = PATTERNS + OPEN_ENDED_PATTERNS * open_ended
    if whole_words:
        # Behind a phrase that ends in a space or a comma anything may follow.
        ends = {phrase: r"(?!\w)" if phrase[-1].isalnum() else "" for phrase in phrases}
        present = sum(bool(re.search(rf"(?<!\w){re.escape(phrase)}{end}", text)) for phrase, end in ends.items())
    else:
        present = sum(phrase in text for phrase in phrases)
    turns = 0 if open_ended else text.count("user: ")
    return max(0.0, min(1.0, present / divisor) - repetition(text, repetition_kind) - turns)


# --- noisy rewards: noise, and what helps against it ----------------------------------------------------------------


def flip(
    rewards: torch.Tensor,
    p: float,
    unit: str = "prompt",
    answered: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Rewards r in 0..1 that are turned into 1 - r with probability p: [B, G] -> [B, G], a new tensor.

    unit "prompt" draws once for each prompt and turns its whole group, as the paper does (section 2.1,
    "question-wise"); "rollout" draws for each rollout. `answered` [B, G] marks what can be turned: a completion without
    an answer stays as it is, as in the released code. Without the argument all can. ValueError for another unit.

    What it does to GRPO: turning a group that has answered leaves its standard deviation alone and changes the sign of
    its advantages. So on average the signal is (1 - 2p) times the true one, and at p = 0.5 nothing is left of it. A
    group that is all right or all wrong teaches nothing either way. Turning single rollouts has the same mean reward,
    p + (1 - 2p) r, but puts noise into groups that had none, and divides by the deviation of that too.
    """
    if unit not in ("prompt", "rollout"):
        raise ValueError(f"unit is 'prompt' or 'rollout', not {unit!r}")
    shape = (len(rewards), 1) if unit == "prompt" else rewards.shape
    turned = (torch.rand(shape, generator=generator) < p).expand_as(rewards)
    if answered is not None:
        turned = turned & answered
    return torch.where(turned, 1 - rewards, rewards)


def calibrate(
    rewards: torch.Tensor, pattern: torch.Tensor, threshold: float = 0.5, weight: float = 0.1
) -> torch.Tensor:
    """min(1, r + weight * RPR) where r < threshold, else r: [B, G] -> [B, G]. Noisy rewards.

    A reward model that underrates a completion which reasons is made up for; one that overrates is left as it is. The
    paper's threshold is 0.5 and its weight 0.1. (The paper takes the RPR of the thought, its code that of all the text;
    here it is of the whole completion.)
    """
    return torch.where(rewards < threshold, (rewards + weight * pattern).clamp(max=1.0), rewards)


@torch.no_grad()
def reward_model_scores(
    model, tokenizer, prompts: list[str], completions: list[str], tokens: int = 8192
) -> torch.Tensor:
    """The scores that a model with a scalar head gives to the completions of prompts, [N] float32.

    Both are texts: a reward model has a tokenizer of its own. With a chat template they are a user's and an assistant's
    turn, else one text. The score is the raw output if the model was trained on squared errors (config.problem_type
    "regression", as the paper's), else its sigmoid, which is what the usual pairwise losses mean by it.
    """
    pairs, chat = list(zip(prompts, completions, strict=True)), bool(getattr(tokenizer, "chat_template", None))
    texts = [prompt + completion for prompt, completion in pairs]
    if chat:
        turns = [({"role": "user", "content": p}, {"role": "assistant", "content": c}) for p, c in pairs]
        texts = [tokenizer.apply_chat_template(list(turn), tokenize=False) for turn in turns]
    longest = getattr(model.config, "max_position_embeddings", 10**9)  # of a longer text the end is scored
    ids = [row[-longest:] for row in tokenizer(texts, add_special_tokens=not chat)["input_ids"]]
    scores = torch.zeros(len(ids))
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # rows of like length together: little padding
    while order:
        # Of the rows that are left the longest: as many as have that many tokens with their padding, and at least one.
        width = max(1, len(ids[order[-1]]))
        number = max(1, tokens // width)
        order, chosen = order[:-number], order[-number:]
        # The score is read at the last token that is not padding; so padding must be no row's last token.
        pad = next(token for token in range(len(chosen) + 1) if all(ids[i][-1:] != [token] for i in chosen))
        model.config.pad_token_id = pad
        token_ids = torch.tensor([ids[i] + [pad] * (width - len(ids[i])) for i in chosen], device=model.device)
        seen = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in chosen], device=model.device)
        scores[chosen] = model(input_ids=token_ids, attention_mask=seen).logits[:, 0].float().cpu()
    return scores if model.config.problem_type == "regression" else scores.sigmoid()


def pairwise_accuracy(rewards: torch.Tensor, right: torch.Tensor) -> float | None:
    """Of a right and a wrong completion of the same prompt, how often does the right one earn more? Ties count half.

    rewards [B, G], right [B, G] bool. Over all such pairs; None if there is none. 1 is an answer key, 0.5 a coin, and
    below 0.5 a reward teaches to be wrong. It is what the accuracy of a reward model means.
    """
    pairs = right[:, :, None] & ~right[:, None, :]  # [B, G, G]
    if not pairs.any():
        return None
    difference = rewards[:, :, None] - rewards[:, None, :]
    return ((difference > 0).float() + 0.5 * (difference == 0).float())[pairs].mean().item()


# --- rewards by name ------------------------------------------------------------------------------------------------
# Each takes what was sampled and train.Settings, and returns [B, G] float32.


def correct(sampled: Sampled, settings) -> torch.Tensor:
    """1 if the answer is right, else 0; with --flip P a noisy verdict."""
    if sampled.verdict is None:
        key = sampled.groups(sampled.right)
        sampled.verdict = flip(key, settings.flip, settings.flip_unit, sampled.answered, sampled.generator)
    return sampled.verdict


def mean_over_tokens(sampled: Sampled, values: torch.Tensor) -> torch.Tensor:
    """The mean of per-token values [N, S] over each completion: [B, G]."""
    return sampled.groups(sequence_mean(values, sampled.rollouts.mask))


def certain(sampled: Sampled, settings) -> torch.Tensor:
    """Intuitor: the mean self-certainty of each completion, end token included, in nats."""
    return mean_over_tokens(sampled, sampled.certainty)


def voted(sampled: Sampled, settings) -> torch.Tensor:
    """GRPO-PV: the vote within each group."""
    group = len(sampled.answers) // len(sampled.problems)
    groups = [sampled.answers[i : i + group] for i in range(0, len(sampled.answers), group)]
    votes = [plurality(answers, p.kind) for answers, p in zip(groups, sampled.problems, strict=True)]
    return sampled.groups(votes)


def patterned(sampled: Sampled, settings) -> torch.Tensor:
    """RPR, and 0 without a boxed answer."""
    flags = (settings.rpr_divisor, settings.rpr_repetition, settings.rpr_whole_words, settings.rpr_open_ended)
    return sampled.groups([reasoning_pattern(text, *flags) for text in sampled.texts]) * sampled.boxed


def modelled(sampled: Sampled, settings) -> torch.Tensor:
    """The scores of --reward-model."""
    group = len(sampled.texts) // len(sampled.problems)
    prompts = [problem.prompt for problem in sampled.problems for _ in range(group)]
    return sampled.groups(reward_model_scores(*sampled.reward_model, prompts, sampled.texts))


def calibrated(sampled: Sampled, settings) -> torch.Tensor:
    """The scores of --reward-model, or without one the verdict of `correct`, made up for by RPR where they are low."""
    base = modelled(sampled, settings) if sampled.reward_model else correct(sampled, settings)
    return calibrate(base, patterned(sampled, settings), settings.calibrate_threshold, settings.calibrate_weight)


REWARDS = {
    "correct": correct,
    "plurality": voted,
    "self_certainty": certain,
    "rpr": patterned,
    "reward_model": modelled,
    "calibrate": calibrated,
    # The controls. A coin; a boxed answer, whatever it is; the negative entropy and the mean log-probability of the
    # tokens as they were sampled, in nats; the number of tokens (a negative weight rewards few).
    "random": lambda sampled, _: (torch.rand(sampled.answered.shape, generator=sampled.generator) < 0.5).float(),
    "format": lambda sampled, _: sampled.boxed.float(),
    "entropy": lambda sampled, _: mean_over_tokens(sampled, -sampled.rollouts.entropy),
    "likelihood": lambda sampled, _: mean_over_tokens(sampled, sampled.rollouts.logps),
    "length": lambda sampled, _: sampled.groups(sampled.rollouts.mask.sum(-1)),
}
