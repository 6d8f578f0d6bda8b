"""The packed training pass, against plain passes over padded rows."""

from types import SimpleNamespace

import pytest
import torch
from conftest import VOCABULARY, tiny_model

from engine import packing
from engine.packing import opens, packed_batches, row_batches, states_before
from generate import generate, stream
from running import processes
from running.models import checkpoint_gradients

# Each row's prompt and length: buckets of several sizes, a completion of one token, a prompt that comes again later.
PROMPTS = {"a": [3, 4, 5], "b": [6, 7, 8, 9, 10, 11, 12], "c": [2], "d": [2, 13]}
ROWS = [("a", 5), ("a", 1), ("a", 30), ("b", 9), ("b", 40), ("c", 17), ("c", 2), ("d", 3), ("a", 4)]


def padded(rows=ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    """token_ids and mask, [n, S]."""
    generator = torch.Generator().manual_seed(1)
    width = max(len(PROMPTS[name]) + length for name, length in rows)
    token_ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
    for i, (name, length) in enumerate(rows):
        start = len(PROMPTS[name])
        token_ids[i, :start] = torch.tensor(PROMPTS[name])
        token_ids[i, start : start + length] = torch.randint(0, VOCABULARY, (length,), generator=generator)
        mask[i, start : start + length] = 1
    return token_ids, mask


def plain(body, token_ids, mask) -> torch.Tensor:
    return body(input_ids=token_ids).last_hidden_state[:, :-1][mask[:, 1:].bool()]


def gradients(model, states) -> torch.Tensor:
    """Of a sum in which every number of the states counts differently."""
    model.zero_grad()
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("short", [0, 20, 256])  # columns up to which attention goes by the equation
def test_states_and_gradients_are_those_of_padded_rows(policy, short, monkeypatch):
    monkeypatch.setattr(packing, "SHORT", short)
    token_ids, mask = padded()
    ours, theirs = (how(policy.base_model, token_ids, mask) for how in (states_before, plain))
    assert ours.shape == (sum(length for _, length in ROWS), 32)
    assert torch.allclose(ours, theirs, atol=2e-5)
    ours, theirs = (gradients(policy.base_model, states) for states in (ours, theirs))
    assert torch.allclose(ours, theirs, atol=2e-4 * float(theirs.abs().max()))
    assert policy.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("rows", [[("a", 1)], [("a", 1), ("b", 1)], [("b", 2)], [("c", 9), ("c", 8), ("c", 1)]])
def test_the_smallest_passes(qwen2, rows):
    token_ids, mask = padded(rows)
    assert torch.allclose(states_before(qwen2.base_model, token_ids, mask), plain_of(qwen2, token_ids, mask), atol=2e-5)


def plain_of(model, *args):
    return plain(model.base_model, *args)


def test_a_row_without_a_completion_leaves_the_others_as_they_are(qwen2):
    token_ids, mask = padded()
    expected = plain_of(qwen2, token_ids, mask)[5:]
    mask[0] = 0  # the first row of its prompt
    assert torch.allclose(states_before(qwen2.base_model, token_ids, mask), expected, atol=2e-5)
    assert states_before(qwen2.base_model, token_ids, 0 * mask).shape == (0, 32)
    token_ids, mask = padded([("b", 9), ("b", 40)])  # no row of up to 8 tokens beside it
    expected = plain_of(qwen2, token_ids, mask)[9:]
    mask[0] = 0
    assert torch.allclose(states_before(qwen2.base_model, token_ids, mask), expected, atol=2e-5)


def test_each_token_is_read_once_and_the_last_of_a_completion_not_at_all(qwen2):
    read = []
    qwen2.base_model.register_forward_pre_hook(lambda _, __, given: read.append(given["input_ids"]), with_kwargs=True)
    token_ids, mask = padded(ROWS[:3])
    states_before(qwen2.base_model, token_ids, mask)
    completions = [token_ids[i, 3 : 3 + length - 1] for i, (_, length) in enumerate(ROWS[:3])]
    assert torch.equal(read[0], torch.cat([torch.tensor(PROMPTS["a"]), *completions])[None])


def test_rows_share_a_prompt_only_where_it_is_the_same():
    assert opens(*padded()).tolist() == [True, False, False, True, False, True, False, True, True]
    # The tokens of both rows are alike, but one of them is prompt in one and completion in the other.
    token_ids, mask = torch.tensor([[2, 3, 4], [2, 3, 4]]), torch.tensor([[0, 1, 1], [0, 0, 1]])
    assert opens(token_ids, mask).tolist() == [True, True]
    # Token 0 may be one of a prompt, though padding has its number.
    token_ids, mask = torch.tensor([[2, 3, 0], [2, 0, 3]]), torch.tensor([[0, 1, 1], [0, 0, 1]])
    assert opens(token_ids, mask).tolist() == [True, True]


def test_in_bfloat16_it_is_as_close_as_padded_rows_are(qwen2):
    token_ids, mask = padded()
    exact = plain(qwen2.base_model, token_ids, mask)
    qwen2.bfloat16()
    ours, theirs = ((how(qwen2.base_model, token_ids, mask) - exact).norm() for how in (states_before, plain))
    assert 0 < ours < 1.5 * theirs


def test_layers_that_are_computed_again_see_the_same(qwen2):
    token_ids, mask = padded()
    expected = gradients(qwen2.base_model, states_before(qwen2.base_model, token_ids, mask))
    checkpoint_gradients(qwen2)
    again = gradients(qwen2.base_model, states_before(qwen2.base_model, token_ids, mask))
    assert torch.allclose(again, expected, atol=1e-6 * float(expected.abs().max()))
    # A plain pass too, and its attention is its own.
    fresh = tiny_model("qwen2").base_model
    expected = gradients(fresh, plain(fresh, token_ids, mask))
    assert torch.allclose(gradients(qwen2.base_model, plain(qwen2.base_model, token_ids, mask)), expected, atol=1e-5)


def test_windows_are_refused_where_a_row_is_longer():
    policy = tiny_model("qwen2", use_sliding_window=True, sliding_window=40, max_window_layers=0)
    token_ids, mask = padded(ROWS[:4])  # up to 33 tokens
    assert torch.allclose(
        states_before(policy.base_model, token_ids, mask), plain_of(policy, token_ids, mask), atol=2e-5
    )
    with pytest.raises(ValueError, match="sees 40 tokens, and prompt and completion have up to 46"):
        states_before(policy.base_model, *padded())
    assert policy.config._attn_implementation == "sdpa"


# --- which rows go together -----------------------------------------------------------------------------------------


def tokens_of(batch) -> int:
    """What a pass over these rows of ROWS reads, counted prompt by prompt."""
    names = [ROWS[i][0] for i in batch]
    prompts = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    return sum(len(PROMPTS[name]) for name in prompts) + sum(ROWS[i][1] - 1 for i in batch)


def batches(budget: int, rows=None) -> list[tuple[list[int], int]]:
    token_ids, mask = padded()
    given = SimpleNamespace(token_ids=token_ids, mask=mask, prompt_lengths=mask.argmax(dim=1))
    return [(batch.tolist(), width) for batch, width in row_batches(given, budget, rows)]


@pytest.mark.parametrize("budget", [1, 30, 45, 50, 60, 80, 200])
def test_batches_hold_every_row_once_and_keep_to_the_budget(budget):
    found = batches(budget)
    assert sum((batch for batch, _ in found), []) == list(range(len(ROWS)))
    assert all(tokens_of(batch) <= budget or len(batch) == 1 for batch, _ in found)
    assert all(width == max(len(PROMPTS[ROWS[i][0]]) + ROWS[i][1] for i in batch) for batch, width in found)
    assert (len(found) == 1) == (budget == 200)


def test_what_rows_share_is_counted_once():
    assert len(batches(tokens_of(range(len(ROWS))))) == 1
    assert len(batches(tokens_of(range(len(ROWS))) - 1)) == 2


def test_batches_are_of_like_size():
    assert packed_batches([10] * 12, [10] * 12, 50) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]  # not 5, 5, 2
    assert packed_batches([10] * 12, [10] * 12, 200, processes=2) == [list(range(6)), list(range(6, 12))]
    # Prompts that come again make two batches too large: then four, so that both processes have as many.
    assert packed_batches([10] * 12, [30] * 12, 65, processes=2) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_only_the_rows_asked_for():
    assert batches(200, torch.tensor([1, 4, 7])) == [([1, 4, 7], 47)]
    assert batches(200, torch.tensor([], dtype=torch.long)) == []


def test_processes_share_the_batches_and_leave_none_out(monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setattr(processes, "_here", (rank, 3))
        shares.append(batches(200))
    assert [len(share) for share in shares] == [1, 1, 1]
    assert sorted(sum((batch for share in shares for batch, _ in share), [])) == list(range(len(ROWS)))


def test_rollouts_of_the_sampler_share_their_prompts(qwen2):
    rollouts = generate(qwen2, [[3, 4], [3, 4, 5]], 4, 6, generator=stream(0))
    assert opens(rollouts.token_ids, rollouts.mask).nonzero()[:, 0].tolist() == [0, 4]
