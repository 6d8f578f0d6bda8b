"""rewards.py: what gets rewarded?

A reward is a grade: a number for each rollout, [B, G]. No gradient flows through it (grpo.py says what learns). The
functions on top are the papers' equations, free of everything else. REWARDS, at the end, names what `train.py --reward
NAME`, or `--reward NAME=WEIGHT NAME=WEIGHT`, can pay for:

    correct          an answer key                                                       GRPO
    plurality        the group's most frequent answer stands in for the key              GRPO-PV, TTRL
    self_certainty   KL(U || p) of the model's own predictions                           Intuitor eq. 4
    rpr              phrases that reasoning is made of                                   noisy rewards, Figure 9
    reward_model     a model with a scalar head
    calibrate        reward_model, and some rpr where that is low (or correct, else rpr) noisy rewards
    random, format, entropy, likelihood, length      controls, without which no result above means anything
    FILE.py:FUNCTION a function of your own, of the kind that TRL takes (running/own_rewards.py)

Intuitor is "Learning to Reason without External Rewards" (2505.19590), noisy rewards "The Climb Carves Wisdom Deeper
Than the Summit" (2505.22653). With `--flip P` the answer key errs, as a bad checker would.

Differs from the papers: self-certainty is the equation, not the released code (see there). Noisy rewards trains PPO
with a critic; what GRPO makes of its noise is said in `flip`. Its reward models score a completion's answer
part only, and 0 for a malformed one; here the whole completion is scored. (Malformed: see `thought_and_answer`.)
"""

import inspect
import math
import re
from collections import Counter
from dataclasses import dataclass

import torch

import verify
from running.processes import once
from running.reward_models import reward_model_scores

# --- Intuitor: the model's own certainty ----------------------------------------------------------------------------


def self_certainty(logits: torch.Tensor, logsumexp: torch.Tensor | None = None) -> torch.Tensor:
    """KL(U || p) of each next-token distribution p, in nats: logits [..., V] -> [...]. Intuitor eq. 4.

        KL(U || p) = 1/V sum_j log((1/V) / p_j) = logsumexp(z) - mean(z) - log V     for logits z

    U is uniform over all V columns. 0 for a uniform p; it grows without bound as tokens are ruled out. Adding a
    constant to the logits changes nothing. Float32 whatever comes in, and raw logits, not divided by the sampling
    temperature. It is a grade of what was sampled, not a loss. (The released open-r1 code leaves log V out, which
    cancels in the group mean, and reads the positions one too late; the equation is followed here.)

    This very function grades while the model samples (generate.choose). logsumexp: that of the logits, [...], where it
    is there already, for the log-probability: then self-certainty costs one more look at the logits, for their mean.
    """
    logits = logits.float()
    if logsumexp is None:
        logsumexp = logits.logsumexp(-1)
    return logsumexp - logits.mean(-1) - math.log(logits.shape[-1])


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

# The 40 phrases as released: "makes sence" is theirs, and a comma or space at the end is part of the phrase.
RELEASED = (
    "i need to|we need to|wait|alternatively|let me check|let me see|let's focus on|we know that|we can observe |"
    "we can see |let me try|let's try|let us try|first, |firstly, |next, |finally, |let us first|let's first|"
    "let me first|try again|still not|not working|not correct|does not work|doesn't work|makes sence|since we |"
    "because we |consequently|as a result|thus|therefore|hence|so that|thereby|if we|given there |for instance |"
    "for example "
)
# 13 more that the released code counts on open-ended tasks.
OPEN_ENDED = "1. |2. |3. |4. |step 1 |step 2 |step 3. |step 4 |considering the|i'll|i will|i would|i should"
PATTERNS, OPEN_ENDED_PATTERNS = tuple(RELEASED.split("|")), tuple(OPEN_ENDED.split("|"))


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
    substrings, "thus" is found in "enthusiasm" and "hence" in "whence"; `whole_words` mends that. What earns nothing
    whatever its phrases, such as a completion without an answer, is decided around this function: see rpr_reward.
    """
    text = completion.lower()
    phrases = PATTERNS + OPEN_ENDED_PATTERNS if open_ended else PATTERNS
    if whole_words:
        # Behind a phrase that ends in a space or a comma anything may follow.
        ends = {phrase: r"(?!\w)" if phrase[-1].isalnum() else "" for phrase in phrases}
        present = sum(bool(re.search(rf"(?<!\w){re.escape(phrase)}{end}", text)) for phrase, end in ends.items())
    else:
        present = sum(phrase in text for phrase in phrases)
    turns = 0 if open_ended else text.count("user: ")
    return max(0.0, min(1.0, present / divisor) - repetition(text, repetition_kind) - turns)


def thought_and_answer(completion: str) -> tuple[str, str] | None:
    """The two parts of `<think> thought </think> <answer> answer </answer>`, or None for a malformed completion.

    As in the released code for open-ended tasks, the last tag of each kind counts, neither part is empty, the thought
    ends before the answer begins, and what stands before, between and behind them does not matter. Its prompt for such
    tasks lets the model open the thought. r1-zero opens it itself: then a completion without <think> is thought from
    its start on.
    """
    begin, end = completion.rfind("<think>"), completion.rfind("</think>")
    begin = begin + len("<think>") if begin >= 0 else 0
    answer, answer_end = completion.rfind("<answer>"), completion.rfind("</answer>")
    if min(end, answer, answer_end) < 0 or not begin < end < answer or not answer + len("<answer>") < answer_end:
        return None
    return completion[begin:end], completion[answer + len("<answer>") : answer_end]


# --- noisy rewards: noise, and what helps against it ----------------------------------------------------------------


def flip(
    rewards: torch.Tensor,
    p: float,
    unit: str = "prompt",
    answered: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Rewards r in 0..1, of which each becomes 1 - r with probability p: [B, G] -> [B, G], a new tensor.

    unit "prompt" draws once for each prompt and flips its whole group, as the paper does (section 2.1,
    "question-wise"); "rollout" draws for each rollout. `answered` [B, G] marks what can be flipped: a completion
    without an answer stays as it is, as in the released code. Without the argument all can. ValueError for other units.

    What it does to GRPO: flipping a whole group leaves its standard deviation alone and changes the sign of its
    advantages. So the mean signal is (1 - 2p) times the true one, and at p = 0.5 nothing is left of it. A group that is
    all right or all wrong teaches nothing either way. Flipping single rollouts has the same mean reward,
    p + (1 - 2p) r, but puts noise into groups that had none, and the standard deviation then contains it.
    """
    if unit not in ("prompt", "rollout"):
        raise ValueError(f"unit is 'prompt' or 'rollout', not {unit!r}")
    shape = (len(rewards), 1) if unit == "prompt" else rewards.shape
    flipped = (torch.rand(shape, generator=generator) < p).expand_as(rewards)
    if answered is not None:
        flipped = flipped & answered
    return torch.where(flipped, 1 - rewards, rewards)


def calibrate(
    rewards: torch.Tensor, pattern: torch.Tensor, threshold: float = 0.5, weight: float = 0.1
) -> torch.Tensor:
    """min(1, r + weight * RPR) where r < threshold, else r: [B, G] -> [B, G]. Noisy rewards.

    Raises low scores of completions that reason; high scores stay. The paper's threshold is 0.5 and its weight 0.1.
    (The paper takes the RPR of the thought; its code that of thought and answer. Which text it is of here: rpr_reward.)
    """
    return torch.where(rewards < threshold, (rewards + weight * pattern).clamp(max=1.0), rewards)


# --- rewards by name ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graded:
    """One step's rollouts as text, graded once. N = B*G, row b*G + g is rollout g of problem b."""

    problems: list  # B data.Problem
    rollouts: object  # generate.Rollouts
    texts: list[str]  # N completions without special tokens; never the prompt, whose own \boxed{} would be graded
    answers: list[str | None]  # N
    right: list[bool | None]  # N, by the true answers: what accuracy means, whatever is rewarded; None: no answer known

    def groups(self, values) -> torch.Tensor:
        """N numbers as [B, G] float32 on the CPU; None becomes NaN."""
        if isinstance(values, list):
            values = [math.nan if value is None else value for value in values]
        return torch.as_tensor(values, dtype=torch.float32).cpu().reshape(len(self.problems), -1)

    @property
    def answered(self) -> torch.Tensor:
        """Whether each completion gives an answer, right or wrong: [B, G] bool."""
        return self.groups([answer is not None for answer in self.answers]).bool()

    @property
    def boxed(self) -> torch.Tensor:
        """Whether each completion gives its answer in a box, as the papers ask for: [B, G] bool."""
        return self.answered & self.groups([verify.boxed(text) is not None for text in self.texts]).bool()


def grade_rollouts(problems: list, rollouts, tokenizer, allow_code_execution: bool = False) -> Graded:
    """Decode the completions, extract their answers and grade them against the answers of their problems, if known."""
    texts = tokenizer.batch_decode(rollouts.completions(), skip_special_tokens=True)
    of_row = [problem for problem in problems for _ in range(len(texts) // len(problems))]  # N
    kinds, golds = [problem.kind for problem in of_row], [problem.answer for problem in of_row]  # N each
    known = [row for row in zip(texts, golds, kinds, strict=True) if row[1] is not None]
    verdicts = iter(once(verify.grade)(*map(list, zip(*known, strict=True)), allow_code_execution) if known else [])
    right = [None if gold is None else next(verdicts) for gold in golds]
    answers = [verify.extract_answer(t, kind, gold or "") for t, kind, gold in zip(texts, kinds, golds, strict=True)]
    return Graded(problems, rollouts, texts, answers, right)


# A reward takes what was graded and, by name, whatever else it needs. Its parameters tell which flags of train.py it
# reads: a parameter is such a flag, or is made from the flags in MADE_FROM. A flag that no reward reads is refused.


def correct_reward(graded: Graded, verdicts: torch.Tensor) -> torch.Tensor:
    """What the answer key says, [B, G]: 1 for right, 0 for wrong, and with --flip sometimes the opposite."""
    return verdicts


def plurality_reward(graded: Graded) -> torch.Tensor:
    """GRPO-PV: 1 for the answer that most of the group give."""
    group = len(graded.answers) // len(graded.problems)
    groups = [graded.answers[i : i + group] for i in range(0, len(graded.answers), group)]
    votes = [plurality(answers, problem.kind) for answers, problem in zip(groups, graded.problems, strict=True)]
    return graded.groups(votes)


def self_certainty_reward(graded: Graded, certainty: torch.Tensor) -> torch.Tensor:
    """Intuitor: the mean self-certainty of each completion, end token included, in nats. certainty: [N, S]."""
    return graded.groups(sequence_mean(certainty, graded.rollouts.mask))


def rpr_reward(graded: Graded, pattern_options: dict) -> torch.Tensor:
    """RPR, and 0 for what must not earn it, as released. pattern_options: keywords of reasoning_pattern.

    On mathematics that is a completion without a boxed answer. An open-ended response needs no box, but the form of
    thought_and_answer, and the RPR is that of its two parts.
    """
    if not pattern_options["open_ended"]:
        return graded.groups([reasoning_pattern(text, **pattern_options) for text in graded.texts]) * graded.boxed
    parts = [thought_and_answer(text) for text in graded.texts]  # N
    return graded.groups([reasoning_pattern("".join(part), **pattern_options) if part else 0.0 for part in parts])


def reward_model_reward(graded: Graded, reward_model: tuple) -> torch.Tensor:
    """The scores of --reward-model, a (model, tokenizer)."""
    group = len(graded.texts) // len(graded.problems)
    prompts = [problem.given for problem in graded.problems for _ in range(group)]
    return graded.groups(reward_model_scores(*reward_model, prompts, graded.texts))


def calibrate_reward(
    graded, verdicts, reward_model, pattern_options, calibrate_threshold, calibrate_weight
) -> torch.Tensor:
    """The scores of --reward-model, raised by some RPR where they are low.

    Without a reward model, as released: 1 where the answer key says right, and the full RPR where it says wrong. (So
    under --flip a right answer may earn its RPR, and a wrong one 1.)
    """
    pattern = rpr_reward(graded, pattern_options)
    if not reward_model:
        return calibrate(verdicts, pattern, weight=1.0)
    return calibrate(reward_model_reward(graded, reward_model), pattern, calibrate_threshold, calibrate_weight)


def random_reward(graded: Graded, coins: torch.Generator) -> torch.Tensor:
    """A coin for each rollout."""
    return (torch.rand(graded.answered.shape, generator=coins) < 0.5).float()


REWARDS = {
    "correct": correct_reward,
    "plurality": plurality_reward,
    "self_certainty": self_certainty_reward,
    "rpr": rpr_reward,
    "reward_model": reward_model_reward,
    "calibrate": calibrate_reward,
    "random": random_reward,
    # A boxed answer, whatever it is; minus the mean entropy and the mean log-probability of the tokens as they were
    # sampled, nats; the number of tokens (a negative weight rewards few).
    "format": lambda graded: graded.boxed.float(),
    "entropy": lambda graded: graded.groups(sequence_mean(-graded.rollouts.entropy, graded.rollouts.mask)),
    "likelihood": lambda graded: graded.groups(sequence_mean(graded.rollouts.logps, graded.rollouts.mask)),
    "length": lambda graded: graded.groups(graded.rollouts.mask.sum(-1)),
}
# What train.py passes in under a name of its own, and the flags that it is made from.
MADE_FROM = {
    "verdicts": {"flip", "flip_unit"},
    "certainty": {"annotator"},
    "pattern_options": {"rpr_divisor", "rpr_repetition", "rpr_whole_words", "rpr_open_ended"},
    "coins": set(),
}


def inputs_of(name: str) -> list[str]:
    """What a reward reads besides what was graded, by name; nothing that we know of for one of the user's own."""
    return list(inspect.signature(REWARDS[name]).parameters)[1:] if name in REWARDS else []


def flags_of(name: str) -> set[str]:
    """The flags of train.py that a reward reads."""
    return set().union(*(MADE_FROM.get(value, {value}) for value in inputs_of(name)))


def reward(name: str, graded: Graded, inputs: dict) -> torch.Tensor:
    """The reward of that name, [B, G] float32. inputs: all that rewards may read; it is given what it reads."""
    if name not in REWARDS:  # FILE.py:FUNCTION, as running/own_rewards.py has loaded it
        return inputs["own"][name](graded, inputs["trainer_state"])
    return REWARDS[name](graded, **{key: inputs[key] for key in inputs_of(name)})
