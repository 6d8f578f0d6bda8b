"""generate.py: what is captured while sampling is what a teacher-forced pass gives, for every row and token."""

from contextlib import contextmanager, nullcontext
from functools import partial
from unittest.mock import MagicMock

import pytest
import torch
from conftest import VOCABULARY, tiny_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import Gemma2Config, Gemma2ForCausalLM

import generate as generation
import rewards
from engine.sampling import inverse_cdf_in_blocks, logits_of, nucleus
from engine.slots import Slots, TokenRule
from generate import Rollouts, choose, generate, generate_plain, generate_rows, inverse_cdf
from grpo import token_logps

PROMPTS = [[3, 4, 5], [6, 6, 7, 8, 9, 3, 4, 5, 6], [7], [5, 4, 3, 2, 1, 6]]  # token 1, an end token, inside a prompt
EOS = (1, 2)


def roll(policy, seed=0, **changes):
    arguments = {"rollouts_per_prompt": 6, "max_new_tokens": 20, "eos_ids": EOS} | changes
    return generate(policy, PROMPTS, generator=torch.Generator().manual_seed(seed), **arguments)


SAMPLINGS = [{}, {"temperature": 0.7}, {"temperature": 1.3, "top_p": 0.8}, {"temperature": 0.0}]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_engine_samples_what_the_plain_loop_samples(policy, sampling):
    for ends, tokens in ((EOS, 20), ((), 3), (range(12), 20)):  # some rows end early, none does, nearly all do
        arguments = {"rollouts_per_prompt": 6, "max_new_tokens": tokens, "eos_ids": ends, **sampling}
        plain = generate_plain(policy, PROMPTS, generator=torch.Generator().manual_seed(0), **arguments)
        fast = roll(policy, **arguments)
        assert sampling.get("temperature") == 0 or len(set(map(len, plain.completions()))) > (2 if ends else 0)
        for name, values in vars(plain).items():
            same = torch.allclose if values.is_floating_point() else torch.equal
            assert same(getattr(fast, name), values, **({"atol": 1e-5} if values.is_floating_point() else {})), name


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_captured_values_equal_a_teacher_forced_pass_over_each_row_alone(policy, sampling):
    rollouts = roll(policy, **sampling)
    temperature = sampling.get("temperature", 1.0) or 1.0
    for row in range(len(rollouts.token_ids)):
        begin, end = rollouts.prompt_lengths[row], rollouts.prompt_lengths[row] + rollouts.mask[row].sum()
        ids = rollouts.token_ids[row, :end]
        with torch.no_grad():
            logits = policy(input_ids=ids[None]).logits[0, begin - 1 : end - 1]  # [tokens, V]
        logps = (logits / temperature).log_softmax(-1)
        expected = logps.gather(-1, ids[begin:, None])[:, 0]
        assert torch.allclose(rollouts.logps[row, begin:end], expected, atol=1e-5)
        assert torch.allclose(rollouts.entropy[row, begin:end], -(logps.exp() * logps).sum(-1), atol=1e-5)
        uniform = torch.full_like(logits, 1 / VOCABULARY)
        divergence = (uniform * (uniform.log() - logits.log_softmax(-1))).sum(
            -1
        )  # at temperature 1, whatever the sampler's
        assert torch.allclose(rollouts.self_certainty[row, begin:end], divergence, atol=1e-5)


def test_the_layout_is_prompt_completion_padding(policy):
    rollouts = roll(policy)
    for row, (ids, mask) in enumerate(zip(rollouts.token_ids, rollouts.mask, strict=True)):
        prompt = PROMPTS[row // 6]  # rows of one prompt are adjacent
        begin, tokens = len(prompt), int(mask.sum())
        assert rollouts.prompt_lengths[row] == begin
        assert ids[:begin].tolist() == prompt
        assert mask[begin : begin + tokens].all()
        assert mask[:begin].sum() == mask[begin + tokens :].sum() == 0
        for values in (rollouts.logps, rollouts.self_certainty, rollouts.entropy):
            assert (values[row][mask == 0] == 0).all()
    assert [len(completion) for completion in rollouts.completions()] == rollouts.mask.sum(dim=1).tolist()


def test_a_completion_holds_its_first_end_token_and_nothing_behind_it(policy):
    rollouts = roll(policy, rollouts_per_prompt=40)
    kinds = set()
    for completion, truncated in zip(rollouts.completions(), rollouts.truncated, strict=True):
        assert not set(completion[:-1]) & set(EOS)
        assert truncated == (completion[-1] not in EOS)
        assert len(completion) == 20 or not truncated
        kinds.add(completion[-1] if completion[-1] in EOS else None)
    assert kinds == {1, 2, None}  # all three cases occurred: either end token, and none


def test_without_end_tokens_every_completion_is_truncated(qwen2):
    rollouts = roll(qwen2, eos_ids=())
    assert rollouts.truncated.all()
    assert (rollouts.mask.sum(dim=1) == 20).all()


def test_rows_are_sampled_from_the_models_distribution():
    # 100,000 draws: the frequency of a token of probability p is off by sqrt(p (1-p) / 100,000) < 0.0016
    logits = torch.tensor([[1.0, 0.2, -0.5, 2.0, 0.0, -30.0]])
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 0.5):
        token, logp, _, _ = choose(logits.expand(100_000, -1), temperature, 1.0, uniform)
        expected = (logits[0] / temperature).softmax(-1)
        assert torch.allclose(token.bincount(minlength=6) / 100_000, expected, atol=0.006)
        assert torch.allclose(logp, expected.log()[token], atol=1e-5)


def test_top_p_keeps_the_fewest_likely_tokens_that_reach_it():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    uniform = torch.linspace(0, 1 - 2**-24, 1000)
    for top_p, kept in ((0.4, {0}), (0.6, {0, 1}), (0.79, {0, 1}), (0.81, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        token, logp, _, _ = choose(logits.expand(1000, -1), 1.0, top_p, uniform)
        assert set(token.tolist()) == kept
        assert torch.allclose(logp, logits[0][token], atol=1e-5)  # the policy's, not renormalised to the kept tokens


def test_a_large_vocabulary_is_searched_in_two_levels(monkeypatch):
    monkeypatch.setattr(generation, "inverse_cdf_in_blocks", lambda *_: "two levels")
    assert inverse_cdf(torch.ones(2, 5000), torch.zeros(2)) == "two levels"
    assert inverse_cdf(torch.ones(2, 4096), torch.zeros(2)).tolist() == [0, 0]


def test_a_token_of_probability_0_is_never_chosen():
    logits = torch.tensor([[-1e9, 0.0, -1e9, 0.0, -1e9]])
    edges = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)  # ends of the unit interval and of a token's part
    assert choose(logits.expand(3, -1), 1.0, 1.0, edges)[0].tolist() == [1, 3, 3]
    assert inverse_cdf_in_blocks(logits.expand(3, -1).softmax(-1), edges).tolist() == [1, 3, 3]


def test_equation_4_of_rewards_is_what_sampling_calls(policy, monkeypatch):
    # a student who solves rewards.self_certainty trains with her own
    monkeypatch.setattr(generation, "self_certainty", lambda logits, logsumexp=None: torch.full(logits.shape[:-1], 7.0))
    rollouts = roll(policy)
    assert set(rollouts.self_certainty[rollouts.mask.bool()].tolist()) == {7.0}
    monkeypatch.undo()
    assert generation.self_certainty is rewards.self_certainty


def test_slots_are_made_anew_for_another_sampling(policy):
    fresh = {}
    for temperature, ends in ((1.0, EOS), (0.3, EOS), (0.3, (3, 4))):
        fresh[temperature, ends] = generate_plain(
            policy, PROMPTS, 6, 20, temperature, 1.0, ends, torch.Generator().manual_seed(0)
        ).completions()
    assert len({str(completions) for completions in fresh.values()}) == 3
    for temperature, ends in [*fresh, *fresh]:  # each after another one, in the same policy's slots
        assert roll(policy, temperature=temperature, eos_ids=ends).completions() == fresh[temperature, ends]


def test_a_stream_belongs_to_its_whole_key():
    keys = [(0, "rollouts", 1), (0, "rollouts", 2), (0, "rewards", 1), (1, "rollouts", 1), (0, "rollouts", 12)]
    draws = [torch.rand(4, generator=generation.stream(*key)).tolist() for key in keys]
    assert len(set(map(str, draws))) == 5
    assert torch.rand(4, generator=generation.stream(*keys[0])).tolist() == draws[0]
    assert len({generation.stream(0, "rollouts", step).initial_seed() for step in range(2000)}) == 2000


def test_completions_are_the_masks_tokens():
    token_ids, mask = torch.tensor([[5, 6, 7, 0], [5, 6, 0, 0]]), torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]])
    zeros = torch.zeros(2, 4)
    rollouts = Rollouts(token_ids, mask, torch.tensor([1, 1]), zeros, zeros, zeros, torch.tensor([False, False]))
    assert rollouts.completions() == [[6, 7], [6]]


def test_nothing_is_inherited_from_the_models_generation_config(qwen2):
    expected = roll(qwen2)
    for name, value in {"top_k": 1, "temperature": 0.01, "repetition_penalty": 9.0, "do_sample": False}.items():
        setattr(qwen2.generation_config, name, value)
    assert torch.equal(roll(qwen2).token_ids, expected.token_ids)
    assert len({tuple(completion) for completion in expected.completions()}) > 12


def test_the_seed_decides_and_rollouts_of_a_prompt_differ(policy):
    again, other = roll(policy), roll(policy, seed=1)
    assert torch.equal(roll(policy).token_ids, again.token_ids)
    assert again.token_ids.shape != other.token_ids.shape or not torch.equal(again.token_ids, other.token_ids)
    assert len({tuple(completion) for completion in again.completions()[:6]}) > 1
    before = torch.get_rng_state()
    roll(policy)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's stream is moved


def teacher_forced(policy, prompt, completion):
    """Log-probabilities of the completion at temperature 1, [tokens], from one pass without a cache."""
    with torch.no_grad():
        logits = policy(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0]


def test_filling_the_gaps_of_ended_rows_does_not_change_the_others(policy, monkeypatch):
    kept = []
    drop = Slots.drop_ended
    monkeypatch.setattr(Slots, "drop_ended", lambda self: (drop(self), kept.append(self.live))[0])
    many_ends = roll(policy, eos_ids=range(12))  # about half of the live rows end in every step
    assert len(set(kept)) >= 4  # so gaps were filled again and again
    for row, completion in enumerate(many_ends.completions()):
        expected = teacher_forced(policy, PROMPTS[row // 6], completion)
        assert torch.allclose(many_ends.logps[row][many_ends.mask[row].bool()], expected, atol=1e-5)


def compare_rows(policy, expected, **arguments):
    """Sample by generate_rows, with the generator of `roll`, and compare row by row."""
    rows, number = {}, len(expected.mask)
    arguments = {"max_new_tokens": 20, "eos_ids": EOS, "generator": torch.Generator().manual_seed(0), **arguments}
    for ended in generate_rows(policy, PROMPTS, number // len(PROMPTS), **arguments):
        for i, owner in enumerate(ended["owner"].tolist()):
            count = ended["count"][i]
            assert owner not in rows
            rows[owner] = ended["tokens"][i, :count].tolist(), ended["values"][i, :, :count], ended["truncated"][i]
    assert [rows[row][0] for row in range(number)] == expected.completions()
    for row in range(number):
        for i, values in enumerate((expected.logps, expected.entropy, expected.self_certainty)):
            assert torch.allclose(rows[row][1][i], values[row][expected.mask[row].bool()], atol=1e-5)
        assert rows[row][2] == expected.truncated[row]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize("slots", [1, 3, 7, 100])
def test_few_slots_that_are_refilled_give_the_same_samples(policy, slots, sampling):
    expected = roll(policy, rollouts_per_prompt=3, **sampling)
    compare_rows(policy, expected, slots=slots, **sampling)
    few = roll(policy, rollouts_per_prompt=3, slots=slots, **sampling)
    for name, tensor in vars(expected).items():
        assert torch.allclose(getattr(few, name), tensor, atol=1e-5), name


def test_what_comes_back_can_be_trained_on(policy):
    for rollouts in (roll(policy), roll(policy, max_new_tokens=1)):
        fields = (rollouts.token_ids, rollouts.mask, rollouts.logps, rollouts.self_certainty, rollouts.truncated)
        assert not any(tensor.is_inference() for tensor in fields)
        assert not any(tensor.requires_grad for tensor in fields)


def test_prompts_are_prefilled_a_few_at_a_time(policy, monkeypatch):
    expected, passes = roll(policy), []
    admit = Slots.admit
    monkeypatch.setattr(
        Slots, "admit", lambda self, body, owners, *rest: (passes.append(len(owners)), admit(self, body, owners, *rest))
    )
    monkeypatch.setattr("engine.slots.PREFILL_TOKENS", 20)  # two prompts of 9 columns
    compare_rows(policy, expected)
    assert passes == [12, 12]


def test_every_row_can_have_a_limit_of_its_own(policy):
    limits = [1 + (5 * row) % 20 for row in range(24)]
    rollouts = roll(policy, max_new_tokens=limits, eos_ids=())
    assert [len(completion) for completion in rollouts.completions()] == limits
    assert rollouts.truncated.all()
    for row, completion in enumerate(rollouts.completions()):
        expected = teacher_forced(policy, PROMPTS[row // 6], completion)
        assert torch.allclose(rollouts.logps[row][rollouts.mask[row].bool()], expected, atol=1e-5)


def test_slots_left_behind_by_an_abandoned_call_do_no_harm(policy):
    expected = roll(policy)
    rows = generate_rows(policy, PROMPTS, 6, 20, eos_ids=EOS, generator=torch.Generator().manual_seed(5))
    next(rows)
    rows.close()
    assert policy.config._attn_implementation == "sdpa"  # the model is as it was
    assert torch.equal(roll(policy).token_ids, expected.token_ids)


def test_a_changed_weight_is_used_at_once(policy):
    before = roll(policy)
    with torch.no_grad():
        policy.get_output_embeddings().weight.mul_(0.5)
    after = roll(policy)
    completion = after.completions()[0]
    assert torch.allclose(
        after.logps[0][after.mask[0].bool()], teacher_forced(policy, PROMPTS[0], completion), atol=1e-5
    )
    assert before.token_ids.shape != after.token_ids.shape or not torch.equal(before.token_ids, after.token_ids)


def test_a_step_asks_the_host_nothing(policy):
    """A CUDA graph can record a step only if no value of a tensor decides what runs. Fake tensors have no values."""
    head, body = policy.get_output_embeddings(), policy.base_model
    held = Slots(head.weight, 6, 64, 20, TokenRule(0.9, 1.0, EOS, choose))
    policy.set_attn_implementation("slots")
    with torch.no_grad():
        held.admit(body, torch.arange(4), 2, PROMPTS, torch.full((4,), 20), torch.rand(4, 20))
        held.look_ahead(16, 16)
        with FakeTensorMode(allow_non_fake_inputs=True):
            held.sample(head, 6)
            held.forward(body, 6)


@pytest.mark.parametrize("tokens", [20, [2, 3] * 6 + [20] * 12], ids=["long", "short"])
@pytest.mark.parametrize("slots", [None, 5])
def test_the_way_of_recorded_steps_gives_the_same_samples(policy, slots, tokens, monkeypatch):
    """Sixteen steps between two looks, sizes rounded up, ended slots computed along: all but the recording itself."""
    ends = EOS if tokens == 20 else range(8)
    expected = roll(policy, max_new_tokens=tokens, eos_ids=ends)
    monkeypatch.setattr("engine.slots.can_record", lambda device: True)
    monkeypatch.setattr(Slots, "replay", lambda self, key, step: step())
    compare_rows(policy, expected, slots=slots, max_new_tokens=tokens, eos_ids=ends)


def test_a_step_is_run_once_then_recorded_and_then_replayed(policy, monkeypatch):
    """CUDA graphs, played on a CPU: while one records nothing runs, and a replay runs what was recorded."""
    expected, recording, graphs = roll(policy), [], []

    class Graph:
        def __init__(self):
            self.calls, self.replays = [], 0
            graphs.append(self)

        def replay(self):
            self.replays += 1
            for call in self.calls:
                call()

        def pool(self):
            return "pool"

    @contextmanager
    def record(graph, pool):
        recording.append(graph)
        yield
        recording.pop()

    for name in ("sample", "forward"):
        whole = getattr(Slots, name)

        def recorded(self, *args, whole=whole):
            call = partial(whole, self, *args)
            recording[-1].calls.append(call) if recording else call()

        monkeypatch.setattr(Slots, name, recorded)
    fakes = {"Stream": MagicMock, "current_stream": MagicMock, "stream": lambda stream: nullcontext()}
    for name, fake in {**fakes, "CUDAGraph": Graph, "graph": record}.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr("engine.slots.can_record", lambda device: True)
    compare_rows(policy, expected)
    assert graphs
    assert all(len(graph.calls) == 2 for graph in graphs)
    assert sum(graph.replays for graph in graphs) > 10
    compare_rows(policy, expected)  # and the recordings of the call before serve the next


def test_logits_in_blocks_are_those_of_the_head():
    for V, bias in ((5000, False), (4096, True), (23, True)):
        head = torch.nn.Linear(8, V, bias=bias)
        hidden = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(logits_of(head, hidden), head(hidden), atol=1e-5)


def test_the_inverse_cdf_in_one_level_and_in_two_is_a_search_in_the_cumulative_sum():
    for V in (1, 2, 3, 23, 100, 1000, 5000):
        probs = torch.rand(50, V, generator=torch.Generator().manual_seed(V), dtype=torch.float64) ** 4
        uniform = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        cumulative = probs.cumsum(-1)
        expected = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
        assert torch.equal(inverse_cdf(probs, uniform), expected)
        assert torch.equal(inverse_cdf_in_blocks(probs, uniform), expected)


def test_the_nucleus_is_found_among_few_tokens_and_among_many():
    logits = torch.randn(4, 5000, generator=torch.Generator().manual_seed(0))
    logits[0] *= 9  # a peaked row; in the others 1,024 tokens are not enough
    for rows in (slice(0, 1), slice(0, 4)):
        probs = logits[rows].softmax(-1)
        top, tokens = nucleus(probs, 0.9)
        for row in range(len(probs)):
            kept = set(tokens[row][top[row] > 0].tolist())
            order, total = probs[row].argsort(descending=True).tolist(), 0.0
            expected = set()
            for token in order:
                if total >= 0.9:
                    break
                expected.add(token)
                total += probs[row, token].item()
            assert len(kept ^ expected) <= 1  # where rounding decides


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "sees 8 tokens")],
    ids=["window"],
)
def test_refuses_models_that_the_slots_cannot_serve(changes, reason):
    with pytest.raises(ValueError, match=reason):
        roll(tiny_model("qwen2", **changes))


def test_a_window_that_is_never_left_is_no_window(qwen2):
    wide = tiny_model("qwen2", use_sliding_window=True, sliding_window=29, max_window_layers=0)  # 9 + 20 tokens
    assert torch.equal(roll(wide).token_ids, roll(qwen2).token_ids)


def test_refuses_capped_attention_scores():
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    with pytest.raises(ValueError, match="capped"):
        roll(Gemma2ForCausalLM(config).eval())


def test_greedy_takes_the_most_likely_token(policy):
    rollouts = roll(policy, temperature=0.0, rollouts_per_prompt=2)
    ids, begin = rollouts.token_ids[0], rollouts.prompt_lengths[0]
    for t in range(begin, begin + rollouts.mask[0].sum()):
        assert policy(input_ids=ids[None, :t]).logits[0, -1].argmax() == ids[t]


@pytest.mark.parametrize(
    "bad",
    [
        {"rollouts_per_prompt": 0},
        {"max_new_tokens": 0},
        {"max_new_tokens": [3, 3]},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
    ids=str,
)
def test_refuses_what_cannot_be_sampled(qwen2, bad):
    with pytest.raises(ValueError, match="generate needs"):
        roll(qwen2, **bad)


def test_refuses_no_prompt_and_an_empty_one(qwen2):
    for prompts in ([], [[3], []]):
        with pytest.raises(ValueError, match="prompt"):
            generate(qwen2, prompts, 2, 4)


def test_half_precision_models_are_sampled_with_float32_log_probabilities():
    model = tiny_model("qwen2").bfloat16()
    rollouts = roll(model)
    assert rollouts.logps.dtype == torch.float32
    expected = token_logps(model, rollouts.token_ids, rollouts.mask)
    assert (rollouts.logps - expected).abs().max() < 0.1  # other products, rounded otherwise
    assert (rollouts.logps - expected).abs().mean() < 0.01
