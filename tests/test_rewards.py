"""rewards.py: each reward against its definition, and what is graded."""

import math
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model
from transformers import Qwen2Config, Qwen2ForSequenceClassification

import toy
import train
from data import Problem
from engine.head import annotate, score
from generate import Rollouts, generate
from grpo import combined_advantages, group_advantages
from rewards import (
    OPEN_ENDED_PATTERNS,
    PATTERNS,
    REWARDS,
    Graded,
    calibrate,
    flags_of,
    flip,
    grade_rollouts,
    plurality,
    reasoning_pattern,
    repetition,
    reward,
    self_certainty,
    sequence_mean,
    thought_and_answer,
)
from running.logs import pairwise_accuracy
from running.reward_models import reward_model_scores


def pay(name: str, graded: Graded, step: int = 0, reward_model=None, **flags) -> torch.Tensor:
    """The reward of that name with these flags, as a step of train.py computes it."""
    parts = SimpleNamespace(reward_model=reward_model, ref_policy=None)
    return reward(name, graded, train.reward_inputs((step,), graded, parts, train.Settings(**flags)))


def test_self_certainty_is_the_kl_from_uniform_to_the_model():
    logits = 5 * torch.randn(4, 7, 50, generator=torch.Generator().manual_seed(0))
    uniform = torch.full_like(logits, 1 / 50)
    expected = (uniform * (uniform.log() - logits.log_softmax(-1))).sum(-1)
    assert torch.allclose(self_certainty(logits), expected, atol=1e-5)
    assert not torch.allclose(self_certainty(logits), -expected, atol=1e-1)


def test_self_certainty_is_0_for_a_uniform_distribution_and_ignores_a_constant():
    assert torch.allclose(self_certainty(torch.full((3, 9), 2.5)), torch.zeros(3), atol=1e-6)
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(self_certainty(logits + 100), self_certainty(logits), atol=1e-4)
    # log V is subtracted, so that the value is a KL: all on one of two tokens but for e^-20
    assert math.isclose(self_certainty(torch.tensor([0.0, -20.0])).item(), 10 - math.log(2), abs_tol=1e-5)
    assert self_certainty(logits.bfloat16()).dtype == torch.float32


def test_a_sequence_mean_counts_the_completion_only():
    values, mask = torch.tensor([[9.0, 1, 3, 9], [1, 1, 1, 1]]), torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0]])
    assert sequence_mean(values, mask).tolist() == [2.0, 0.0]


def rollouts_of(completions: list[list[int]], prompt: list[int]) -> Rollouts:
    """Rollouts with these completions, as generate would return them."""
    width = len(prompt) + max(map(len, completions))
    token_ids = torch.zeros(len(completions), width, dtype=torch.long)
    mask = torch.zeros_like(token_ids)
    for row, completion in enumerate(completions):
        end = len(prompt) + len(completion)
        token_ids[row, :end] = torch.tensor(prompt + completion)
        mask[row, len(prompt) : end] = 1
    lengths = torch.full((len(completions),), len(prompt))
    return Rollouts(
        token_ids, mask, lengths, mask.float(), mask.float(), mask.float(), torch.zeros(len(completions)) > 0
    )


def test_the_response_is_graded_and_not_the_prompt():
    tokenizer = toy.make_tokenizer()
    encode = lambda text: tokenizer(text)["input_ids"]  # noqa: E731
    # the prompt itself boxes the right answer, as papers' prompts hold an empty box
    rollouts = rollouts_of([encode("\\boxed{41}<eos>"), encode("hmm, 4<eos>")], encode("\\boxed{41}7+8*3-4="))
    graded = grade_rollouts([Problem("7+8*3-4=", "41", "number")], rollouts, tokenizer)
    assert graded.texts == ["\\boxed{41}", "hmm, 4"]
    assert graded.answers == ["41", None]
    assert pay("correct", graded).tolist() == [[1.0, 0.0]]


def test_each_rollout_is_graded_against_the_problem_of_its_group():
    tokenizer = toy.make_tokenizer()
    rollouts = rollouts_of([tokenizer(f"\\boxed{{{n}}}")["input_ids"] for n in (1, 2, 1, 2)], [3])
    problems = [Problem("a", "1", "number"), Problem("b", "2", "number")]
    assert pay("correct", grade_rollouts(problems, rollouts, tokenizer)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_self_certainty_reward_is_the_mean_over_each_completion_end_token_included():
    policy = tiny_model("qwen2")
    rollouts = generate(policy, [[3, 4], [5, 6, 7]], 3, 8, eos_ids=(1, 2), generator=torch.Generator().manual_seed(0))
    graded = Graded([None] * 2, rollouts, [""] * 6, [None] * 6, [False] * 6)
    rewards = pay("self_certainty", graded)
    for row in range(6):
        begin, end = rollouts.prompt_lengths[row], rollouts.prompt_lengths[row] + rollouts.mask[row].sum()
        with torch.no_grad():
            logits = policy(input_ids=rollouts.token_ids[row : row + 1, :end]).logits[0, begin - 1 : end - 1]
        assert torch.isclose(rewards[row // 3, row % 3], self_certainty(logits).mean(), atol=1e-5)
    assert not rewards.requires_grad


def test_the_offline_annotator_is_another_model_and_grades_the_same_tokens():
    policy, annotator = tiny_model("qwen2"), tiny_model("qwen2")
    with torch.no_grad():
        annotator.lm_head.weight.mul_(1.5)
    rollouts = generate(policy, [[3, 4], [5, 6, 7]], 3, 8, eos_ids=(1, 2), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(annotate(policy, rollouts, 20), rollouts.self_certainty, atol=1e-5)
    certainty = annotate(annotator, rollouts, 20)  # in micro-batches of a row or two
    with torch.no_grad():
        whole = score(annotator, rollouts.token_ids, rollouts.mask)[1]
    assert torch.allclose(certainty, whole, atol=1e-5)
    assert not torch.allclose(certainty, rollouts.self_certainty, atol=0.1)
    assert torch.equal(certainty != 0, rollouts.mask.bool())


# --- plurality ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["4", "4", "5"], [1, 1, 0]),
        (["1/2", "3", "0.5", "3", "\\frac12"], [1, 0, 1, 0, 1]),  # one class, however it is written
        (["5", "4", "4", "5"], [1, 0, 0, 1]),  # a tie: who came first
        (["7", "8", "9"], [1, 0, 0]),
        ([None, None, "3"], [0, 0, 1]),  # no answer has no vote
        ([None, None], [0, 0]),
        (["x+1", "1+x", "2"], [1, 1, 0]),  # by math-verify
    ],
)
def test_the_plurality_of_a_group(answers, expected):
    assert plurality(answers) == expected


def test_each_group_votes_for_itself_by_the_kind_of_its_problem():
    tokenizer = toy.make_tokenizer()
    rollouts = rollouts_of([tokenizer(f"\\boxed{{{n}}}")["input_ids"] for n in ("1", "1", "2", "2", "2", "1+1")], [3])
    graded = grade_rollouts([Problem("a", "2", "number"), Problem("b", "1", "number")], rollouts, tokenizer)
    assert pay("plurality", graded).tolist() == [[1, 1, 0], [1, 1, 0]]  # golds have no say


# --- reasoning patterns ---------------------------------------------------------------------------------------------


# Copied by hand from the released code, slips and all.
PHRASES = (
    *("i need to", "we need to", "wait", "alternatively", "let me check", "let me see", "let's focus on"),
    *("we know that", "we can observe ", "we can see ", "let me try", "let's try", "let us try", "first, "),
    *("firstly, ", "next, ", "finally, ", "let us first", "let's first", "let me first", "try again", "still not"),
    *("not working", "not correct", "does not work", "doesn't work", "makes sence", "since we ", "because we "),
    *("consequently", "as a result", "thus", "therefore", "hence", "so that", "thereby", "if we", "given there "),
    *("for instance ", "for example "),
)
OPEN_ENDED_PHRASES = (
    *("1. ", "2. ", "3. ", "4. ", "step 1 ", "step 2 ", "step 3. ", "step 4 ", "considering the", "i'll", "i will"),
    *("i would", "i should"),
)


def released(text: str) -> float:
    """The released math function, put together from its description."""
    text = text.lower()
    words = text.split()
    grams = Counter(tuple(words[i : i + 20]) for i in range(len(words) - 19))
    repeated = sum(1 for count in grams.values() if count > 1) / sum(grams.values()) if grams else 0
    found = sum(1 for phrase in PHRASES if phrase in text)
    return max(0, min(1, found / 20) - repeated - text.count("user: "))


def test_rpr_is_the_released_function_on_any_text():
    rng, nonzero = random.Random(0), 0
    for _ in range(500):
        parts = rng.choices(
            [*PHRASES, "User: ", "x", "Wait", "First, ", "enthusiasm", "\n", " 7 "], k=rng.randrange(80)
        )
        text = rng.choice(["", " "]).join(part.title() if rng.random() < 0.2 else part for part in parts)
        text = " ".join([text] * rng.choice([1, 1, 2])) if rng.random() < 0.9 else text.replace("User: ", "")
        assert reasoning_pattern(text) == pytest.approx(released(text), abs=1e-12)
        nonzero += released(text) > 0
    assert nonzero > 100


def test_the_phrases_are_those_released():
    assert PATTERNS == PHRASES
    assert OPEN_ENDED_PATTERNS == OPEN_ENDED_PHRASES


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("", {}, 0),
        ("Wait. Wait! wait", {}, 1 / 20),  # each phrase once, whatever the case
        ("Wait. Thus", {"divisor": 40}, 2 / 40),
        ("first, x next, y", {"divisor": 2}, 1),
        ("first x", {}, 0),  # the comma belongs to it
        (" ".join(PATTERNS), {}, 1),  # 40 / 20, capped
        (" ".join(PATTERNS), {"divisor": 80}, 0.5),
        ("thus user: what now?", {}, 0),  # asks itself the next question
        ("thus user: what now?", {"open_ended": True}, 1 / 20),
        ("thus the user waits", {}, 2 / 20),  # no turn, but a word
        ("thus user: a user: b", {"divisor": 0.25}, 0),  # each turn takes 1
        ("step 1 add, thus", {"open_ended": True}, 2 / 20),
        ("enthusiasm, whence, awaits", {}, 3 / 20),
        ("enthusiasm, whence, awaits", {"whole_words": True}, 0),
        ("thus, hence: wait", {"whole_words": True}, 3 / 20),
        ("(first, 1", {"whole_words": True}, 1 / 20),
    ],
)
def test_reasoning_patterns(text, flags, expected):
    assert reasoning_pattern(text, **flags) == pytest.approx(expected)


def test_the_released_repetition_hardly_minds_a_loop_and_the_other_does():
    loop = "we know that " * 40  # 101 20-grams, of which 3 are different
    assert repetition(loop) == pytest.approx(3 / 101)
    assert repetition(loop, "total") == pytest.approx(98 / 101)
    assert repetition("a " * 19) == repetition("", "total") == 0
    assert repetition(" ".join(map(str, range(50)))) == repetition(" ".join(map(str, range(50))), "total") == 0
    assert reasoning_pattern(loop, divisor=1, repetition_kind="total") == pytest.approx(3 / 101)
    with pytest.raises(ValueError, match="distinct"):
        repetition("a", "unique")


def graded_texts(*texts: str, group: int, gold: str = "1") -> Graded:
    """Toy completions as what train.py sees."""
    tokenizer = toy.make_tokenizer()
    rollouts = rollouts_of([tokenizer(text + "<eos>")["input_ids"] for text in texts], tokenizer("1+1=")["input_ids"])
    return grade_rollouts([Problem("1+1=", gold, "number")] * (len(texts) // group), rollouts, tokenizer)


def test_the_rpr_reward_is_0_without_a_boxed_answer():
    reasons = "first, 1+1=2 thus "
    graded = graded_texts(reasons + "\\boxed{2}", reasons, reasons + "\\boxed{}", "\\boxed{2}", group=4)
    assert graded.texts[1] == reasons
    assert pay("rpr", graded, rpr_divisor=2).tolist() == [[1, 0, 0, 0]]
    marked = Graded(graded.problems, graded.rollouts, ["thus\n#### 2"] * 4, ["2"] * 4, [True] * 4)
    assert pay("rpr", marked, rpr_divisor=1).tolist() == [[0, 0, 0, 0]]  # an answer, but in no box


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("wait, thus ", {"rpr_divisor": 4.0}, 2 / 4),
        ("enthusiasm ", {"rpr_whole_words": False}, 1 / 20),
        ("enthusiasm ", {"rpr_whole_words": True}, 0),
        ("1. thus </think><answer>a</answer>", {"rpr_open_ended": False}, 1 / 20),
        ("1. thus </think><answer>a</answer>", {"rpr_open_ended": True}, 2 / 20),
        # 120 words and the box: 102 20-grams, of which 3 are repeated and 99 are one of these 3 or the last
        ("we know that " * 40, {"rpr_divisor": 1.0, "rpr_repetition": "distinct"}, 1 - 3 / 102),
        ("we know that " * 40, {"rpr_divisor": 1.0, "rpr_repetition": "total"}, 1 - 98 / 102),
    ],
)
def test_the_flags_of_rpr_reach_it(text, flags, expected):
    graded = graded_texts("\\boxed{1}", group=1)
    graded = Graded(graded.problems, graded.rollouts, [text + "\\boxed{1}"], ["1"], [True])
    assert pay("rpr", graded, **flags).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>t</think><answer>a</answer>", ("t", "a")),
        (" t </think> and <answer>a</answer> the end", (" t ", "a")),  # r1-zero has opened the thought
        ("<think>x</think><think>t</think><answer>b</answer><answer>a</answer>", ("t", "a")),  # the last of each
        ("t</think>a", None),
        ("t<answer>a</answer>", None),
        ("t</think><answer>a", None),
        ("t</think>a</answer>", None),
        ("<think>t<answer>a</answer></think>", None),  # answers within the thought
        ("<answer>a</answer><think>t</think>", None),
        ("<think></think><answer>a</answer>", None),
        ("</think><answer>a</answer>", None),
        ("t</think><answer></answer>", None),
        ("t</think></answer><answer>", None),
        ("", None),
    ],
)
def test_a_response_is_a_thought_and_then_an_answer(text, parts):
    assert thought_and_answer(text) == parts


def test_an_open_ended_response_needs_the_form_and_no_box():
    texts = [
        "thus </think><answer>we need to rest</answer>",
        "thus </think> hence <answer>rest</answer>",  # what stands between the two parts does not count
        "thus, hence \\boxed{1}",
        "thus <answer>rest</answer>",
    ]
    rollouts = graded_texts("\\boxed{1}", group=1).rollouts  # read by other rewards
    graded = Graded([None], rollouts, texts, [None, None, "1", None], [False] * 4)
    assert pay("rpr", graded, rpr_open_ended=True, rpr_divisor=2).tolist() == [[1, 0.5, 0, 0]]
    assert pay("rpr", graded, rpr_divisor=2).tolist() == [[0, 0, 1, 0]]


# --- noise ----------------------------------------------------------------------------------------------------------


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_flips_at_0_and_1_are_exact_and_the_rewards_given_are_left_alone():
    rewards = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    before = rewards.clone()
    for unit in ("prompt", "rollout"):
        assert torch.equal(flip(rewards, 0.0, unit, generator=generator()), rewards)
        assert torch.equal(flip(rewards, 1.0, unit, generator=generator()), 1 - rewards)
    assert torch.equal(rewards, before)
    with pytest.raises(ValueError, match="'token'"):
        flip(rewards, 0.5, "token")


def test_a_prompt_flips_as_a_whole_and_rollouts_flip_one_by_one():
    zeros = torch.zeros(2000, 8)
    whole = flip(zeros, 0.4, "prompt", generator=generator())
    assert torch.equal(whole.amin(1), whole.amax(1))
    assert abs(whole[:, 0].mean().item() - 0.4) < 4 * math.sqrt(0.24 / 2000)
    single = flip(zeros, 0.4, "rollout", generator=generator())
    assert (single.amin(1) != single.amax(1)).float().mean() > 0.9
    assert abs(single.mean().item() - 0.4) < 4 * math.sqrt(0.24 / 16000)
    assert torch.equal(single, flip(zeros, 0.4, "rollout", generator=generator()))
    assert not torch.equal(single, flip(zeros, 0.4, "rollout", generator=generator(1)))


def test_a_completion_without_an_answer_is_never_flipped():
    rewards, answered = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[True, True, False]])
    assert flip(rewards, 1.0, "prompt", answered).tolist() == [[0, 1, 0]]
    assert flip(rewards, 1.0, "rollout", answered).tolist() == [[0, 1, 0]]
    graded = graded_texts("\\boxed{1}", "\\boxed{2}", "hmm, 1", "\\boxed{}", group=4)
    assert pay("correct", graded, flip=1.0).tolist() == [[0, 1, 0, 0]]


def test_a_flipped_prompt_changes_the_sign_of_its_advantages_and_the_mean_signal_scales_by_1_minus_2p():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]])
    advantages = group_advantages(rewards)
    assert torch.allclose(group_advantages(flip(rewards, 1.0)), -advantages, atol=1e-6)
    many = rewards.repeat(4000, 1)
    for p in (0.2, 0.5):
        mean = group_advantages(flip(many, p, generator=generator())).mean(0)
        assert torch.allclose(mean, (1 - 2 * p) * advantages[0], atol=0.07)
    # Single flips put noise where there was none: a group that was all right now has advantages.
    assert group_advantages(flip(torch.ones(50, 8), 0.4, "rollout", generator=generator())).abs().max() > 0.5
    assert group_advantages(flip(torch.ones(50, 8), 0.4, "prompt", generator=generator())).abs().max() == 0


def test_calibration_adds_below_the_threshold_only_and_never_beyond_1():
    rewards, pattern = torch.tensor([[0.2, 0.49, 0.5, 0.9, 0.45]]), torch.tensor([[1.0, 0.5, 1.0, 1.0, 0.0]])
    assert calibrate(rewards, pattern).tolist()[0] == pytest.approx([0.3, 0.54, 0.5, 0.9, 0.45])
    assert calibrate(torch.tensor([[0.4]]), torch.tensor([[1.0]]), weight=0.8).item() == 1
    assert calibrate(rewards, pattern, threshold=0.0).tolist() == rewards.tolist()


def test_correct_and_calibrate_see_the_same_noise_and_each_step_its_own():
    graded = graded_texts(*["\\boxed{1}", "\\boxed{2}"] * 20, group=2)
    noisy = pay("correct", graded, flip=0.5)
    assert 0 < noisy[:, 0].mean() < 1
    assert torch.equal(pay("calibrate", graded, flip=0.5), noisy)  # no phrase in any of them
    assert torch.equal(pay("correct", graded, flip=0.5), noisy)  # a resumed run draws the same
    assert not torch.equal(pay("correct", graded, flip=0.5, step=1), noisy)
    assert not torch.equal(pay("correct", graded, flip=0.5, seed=1), noisy)
    assert graded.groups(graded.right).tolist() == [[1, 0]] * 20  # the noise is in the reward alone
    whole, single = (pay("correct", graded, flip=0.5, flip_unit=unit) for unit in ("prompt", "rollout"))
    assert torch.equal(whole.sum(1), torch.ones(20))  # one of two is right, flipped or not
    assert not torch.equal(single.sum(1), torch.ones(20))


def test_coins_are_drawn_anew_in_each_step_and_are_not_the_flips():
    graded = graded_texts(*["\\boxed{2}"] * 400, group=4)
    coins = pay("random", graded)
    assert torch.equal(pay("random", graded), coins)
    assert not torch.equal(pay("random", graded, step=1), coins)
    assert not torch.equal(pay("random", graded, seed=1), coins)
    noise = {"flip": 0.5, "flip_unit": "rollout"}
    flipped, coins = pay("correct", graded, **noise), pay("random", graded, **noise)  # all are wrong: 1 where flipped
    assert abs(torch.corrcoef(torch.stack([coins.flatten(), flipped.flatten()]))[0, 1]) < 0.2  # 4 / sqrt(400)


def test_with_a_reward_model_calibrate_raises_its_low_scores():
    graded = graded_texts("\\boxed{1}", "first, 1+1=2 thus \\boxed{2}", "\\boxed{2}", "first, 1 thus ", group=4)
    model = reward_model(problem_type="regression"), toy.make_tokenizer()
    scores = pay("reward_model", graded, reward_model=model)
    assert scores.std() > 0.1
    flags = {"rpr_divisor": 2, "calibrate_threshold": 9.0, "calibrate_weight": 0.2}
    expected = scores + torch.tensor([[0, 0.2, 0, 0]])
    assert torch.allclose(pay("calibrate", graded, reward_model=model, **flags), expected.clamp(max=1), atol=1e-6)


def test_a_reward_model_scores_each_completion_behind_its_own_prompt():
    tokenizer = toy.make_tokenizer()
    model = reward_model(problem_type="regression"), tokenizer
    rollouts = rollouts_of([tokenizer(text)["input_ids"] for text in ("\\boxed{1}", "\\boxed{2}") * 2], [3])
    graded = grade_rollouts([Problem("1+1=", "2", "number"), Problem("9-8=", "1", "number")], rollouts, tokenizer)
    expected = [
        [model[0].score(model[0].model(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))[0][0, -1]).item()]
        for text in ("1+1=\\boxed{1}", "1+1=\\boxed{2}", "9-8=\\boxed{1}", "9-8=\\boxed{2}")
    ]
    scores = pay("reward_model", graded, reward_model=model)
    assert torch.allclose(scores.reshape(4, 1), torch.tensor(expected), atol=1e-5)


def test_of_a_text_that_is_too_long_for_a_reward_model_the_end_is_scored():
    model, tokenizer = reward_model(problem_type="regression", max_position_embeddings=8), toy.make_tokenizer()
    long, end = "1+2+3+4+5+6+7=", "first, 1+2=3"
    assert len(tokenizer(end)["input_ids"]) < 8 < len(tokenizer(long + end)["input_ids"])
    (score,) = reward_model_scores(model, tokenizer, [long], [end])
    ids = tokenizer(long + end)["input_ids"]
    with torch.no_grad():
        last, first = (
            model.score(model.model(input_ids=torch.tensor([part]))[0][0, -1]) for part in (ids[-8:], ids[:8])
        )
    assert score.item() == pytest.approx(last.item(), abs=1e-5)
    assert score.item() != pytest.approx(first.item(), abs=1e-3)


def test_without_a_reward_model_calibrate_gives_wrong_answers_their_full_rpr():
    texts = ("first, 2-1=1 \\boxed{1}", "first, 1+1=2 \\boxed{2}", "\\boxed{2}", "first, 1 thus ")
    graded = graded_texts(*texts, group=4)
    assert pay("calibrate", graded, rpr_divisor=2).tolist() == [[1, 0.5, 0, 0]]
    # Flipped: the right answer earns its RPR instead of 0, the wrong ones earn 1, and silence still nothing.
    assert pay("calibrate", graded, rpr_divisor=2, flip=1.0).tolist() == [[0.5, 1, 1, 0]]


# --- reward models --------------------------------------------------------------------------------------------------


def reward_model(**changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=30, num_key_value_heads=2, initializer_range=0.3, num_labels=1, **sizes, **changes)
    return Qwen2ForSequenceClassification(config).eval()


def test_scores_in_a_batch_are_the_scores_one_by_one():
    model, tokenizer = reward_model(problem_type="regression"), toy.make_tokenizer()
    prompts = ["1+1=", "2*3-1=", "5-4=", "9="]
    completions = ["\\boxed{2}", "first, 2*3=6 finally, 6-1=5 thus \\boxed{5}<eos>", "hmm, 5<pad>", ""]
    together = reward_model_scores(model, tokenizer, prompts, completions)
    for i in range(4):
        ids = torch.tensor([tokenizer(prompts[i] + completions[i])["input_ids"]])
        with torch.no_grad():  # the score of the last token, whichever token it is
            hidden = model.model(input_ids=ids).last_hidden_state[0, -1]
            assert together[i].item() == pytest.approx(model.score(hidden).item(), abs=1e-5)
    assert together.std() > 0.1
    assert torch.allclose(reward_model_scores(model, tokenizer, prompts, completions, tokens=50), together, atol=1e-5)
    pairwise = reward_model()  # not trained on squared errors: what it says is a logit
    assert torch.allclose(reward_model_scores(pairwise, tokenizer, prompts, completions), together.sigmoid(), atol=1e-5)


def test_a_chat_model_scores_a_conversation():
    model, tokenizer = reward_model(problem_type="regression"), toy.make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] == 'u' and '1' or '2' }}{{ m.content }}{% endfor %}"
    chat = reward_model_scores(model, tokenizer, ["3+4="], ["\\boxed{7}"])
    turns = [{"role": "system", "content": "9"}, {"role": "user", "content": "3+4="}]
    longer = reward_model_scores(model, tokenizer, [turns], ["\\boxed{7}"])
    tokenizer.chat_template = None
    assert torch.allclose(chat, reward_model_scores(model, tokenizer, ["13+4="], ["2\\boxed{7}"]), atol=1e-5)
    assert torch.allclose(longer, reward_model_scores(model, tokenizer, ["2913+4="], ["2\\boxed{7}"]), atol=1e-5)


def test_the_pairwise_accuracy_of_a_reward():
    right = torch.tensor([[True, True, False, False], [True, False, False, False]])
    assert pairwise_accuracy(right.float(), right) == 1
    assert pairwise_accuracy(-right.float(), right) == 0
    assert pairwise_accuracy(torch.zeros(2, 4), right) == 0.5
    rewards = torch.tensor([[0.9, 0.2, 0.5, 0.1], [9.0, 0.0, 0.0, 10.0]])  # 3 of 4 pairs, then 2 of 3
    assert pairwise_accuracy(rewards, right) == pytest.approx(5 / 7)
    assert pairwise_accuracy(rewards, torch.ones(2, 4).bool()) is None


# --- controls and mixtures ------------------------------------------------------------------------------------------


def test_the_controls():
    policy = tiny_model("qwen2")
    rollouts = generate(policy, [[3, 4], [5, 6, 7]], 3, 8, eos_ids=(1, 2), generator=generator())
    answers = ["1", None, "2", None, None, "1"]
    texts = ["\\boxed{1}", "", "#### 2", "", "", "\\boxed{1}"]  # an answer, but in no box, is no format
    graded = Graded([None] * 2, rollouts, texts, answers, [False] * 6)
    mean = lambda values: [(values[i] * rollouts.mask[i]).sum() / rollouts.mask[i].sum() for i in range(6)]  # noqa: E731
    expected = {
        "format": [1, 0, 0, 0, 0, 1],
        "length": rollouts.mask.sum(1).tolist(),
        "entropy": [-x for x in mean(rollouts.entropy)],
        "likelihood": mean(rollouts.logps),
    }
    for name, values in expected.items():
        rewards = pay(name, graded)
        assert rewards.shape == (2, 3)
        assert torch.allclose(rewards.flatten(), torch.tensor(values, dtype=torch.float32), atol=1e-6), name
    assert (pay("entropy", graded) < 0).all()
    assert (pay("likelihood", graded) < 0).all()


def test_a_random_reward_is_a_coin():
    coins = pay("random", graded_texts(*["\\boxed{1}"] * 4000, group=8))
    assert set(coins.flatten().tolist()) == {0.0, 1.0}
    assert abs(coins.mean().item() - 0.5) < 4 * 0.5 / math.sqrt(4000)


def test_a_reward_declares_the_flags_that_it_reads():
    patterns = {"rpr_divisor", "rpr_repetition", "rpr_whole_words", "rpr_open_ended"}
    expected = {
        "correct": {"flip", "flip_unit"},
        "self_certainty": {"annotator"},
        "rpr": patterns,
        "reward_model": {"reward_model"},
        "calibrate": {*patterns, "flip", "flip_unit", "reward_model", "calibrate_threshold", "calibrate_weight"},
    }
    assert {name: flags_of(name) for name in REWARDS} == {name: expected.get(name, set()) for name in REWARDS}


def test_several_rewards_are_normalised_first_then_weighted_then_added():
    rewards = {"correct": torch.tensor([[1.0, 0, 0, 1]]), "self_certainty": torch.tensor([[20.0, 30, 10, 20]])}
    weights = {"correct": 1.0, "self_certainty": 0.5}
    parts = [group_advantages(values) for values in rewards.values()]
    mixed = combined_advantages(rewards, weights)
    assert torch.allclose(mixed, parts[0] + 0.5 * parts[1], atol=1e-6)
    added_first = group_advantages(rewards["correct"] + 0.5 * rewards["self_certainty"])
    assert not torch.allclose(mixed, added_first, atol=0.1)
    assert torch.equal(combined_advantages({"correct": rewards["correct"]}, weights), parts[0])


def test_a_boxed_nothing_earns_less_than_any_right_answer():
    graded = graded_texts("\\boxed{1}", "\\boxed{9}", "thus \\boxed{}", group=3)
    assert pay("correct", graded).tolist() == [[1, 0, 0]]
    assert pay("format", graded).tolist() == [[1, 1, 0]]
