"""Packed rows: the same losses and gradients as padded rows, to the last bit, and what is refused."""

import math

import pytest
import torch
from grape_spec.evaluate import evaluate
from grape_spec.language.registry import definition
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from grape_verified import aggregate, dpo_loss, gae, grpo_loss, gspo_loss, unpack_sequences

MODES = ["token_mean", "sequence_mean", "sequence_sum", "token_sum", "fixed_length"]

META = torch.zeros(3, dtype=torch.long, device="meta")

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def ids_of(lengths, padding=0):
    ids = [k for k, length in enumerate(lengths) for _ in range(length)]
    return torch.tensor(ids + [-1] * padding)


def padded(packed, lengths):
    """By hand: one sequence after the other."""
    rows = packed.new_zeros(len(lengths), max(lengths))
    start = 0
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = packed[start : start + length]
        start += length
    return rows


def numbers(size, seed):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(LENGTHS, st.integers(0, 3), st.integers(0, 99))
def test_every_mode_has_the_value_and_gradient_of_padded_rows(lengths, padding, seed):
    ids, total = ids_of(lengths, padding), sum(lengths)
    packed = numbers(total + padding, seed)
    packed[total:] = math.nan
    counts = numbers(total + padding, seed + 1) > 0
    for mode in MODES:
        options = {"max_length": 7} if mode == "fixed_length" else {}
        ours, theirs = packed.clone().requires_grad_(), padded(packed, lengths).requires_grad_()
        found = aggregate(unpack_sequences(ours, ids), unpack_sequences(counts, ids), mode, **options)
        wanted = aggregate(theirs, padded(counts, lengths), mode, **options)
        assert torch.equal(found, wanted)
        (of_packed,), (of_padded,) = torch.autograd.grad(found, ours), torch.autograd.grad(wanted, theirs)
        assert torch.equal(unpack_sequences(of_packed, ids), of_padded)
        assert not of_packed[total:].any(), "padding has a gradient"


@given(LENGTHS, st.integers(0, 99))
def test_losses_of_sequences_and_returns_are_those_of_padded_rows(lengths, seed):
    ids, total = ids_of(lengths), sum(lengths)
    logps, old_logps, rewards, values = (-numbers(total, seed + k).abs() for k in range(4))
    counts = torch.ones(total)
    advantages = numbers(len(lengths), seed + 4)
    ours = [unpack_sequences(x, ids) for x in (logps, old_logps, counts, rewards, values)]
    theirs = [padded(x, lengths) for x in (logps, old_logps, counts, rewards, values)]
    for loss in (gspo_loss, grpo_loss):
        found, wanted = (loss(x[0], x[1], advantages, x[2]).loss for x in (ours, theirs))
        assert torch.equal(found, wanted)
    assert all(map(torch.equal, gae(*ours[3:], ours[2]), gae(*theirs[3:], theirs[2])))
    sums = unpack_sequences(logps, ids).sum(1)
    assert torch.equal(
        dpo_loss(sums, sums - 1, 0 * sums, 0 * sums).loss,
        dpo_loss(*(padded(logps, lengths).sum(1) - k for k in (0, 1)), 0 * sums, 0 * sums).loss,
    )


def test_it_is_the_definition():
    """aggregation.unpacked, with the places of two sequences of 2 and 1 tokens."""
    at = [[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 0]]]
    given = {"packed": [0.25, -3.0, 7.0], "packed_at": at}
    found = unpack_sequences(torch.tensor([0.25, -3.0, 7.0]), torch.tensor([0, 0, 1]))
    entry = definition("aggregation.unpacked")
    wanted = [[float(evaluate(entry(), {**given, "i": i, "t": t})) for t in (1, 2)] for i in (1, 2)]
    assert found.tolist() == wanted


def test_several_rows_number_their_sequences_on_their_own():
    packed = torch.arange(8.0).view(2, 4)
    ids = torch.tensor([[0, 0, 1, -1], [5, 0, 0, 0]])
    assert unpack_sequences(packed, ids).tolist() == [[0, 1, 0], [2, 0, 0], [4, 0, 0], [5, 6, 7]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("id_dtype", [torch.uint8, torch.int32, torch.int64])
def test_dtypes(dtype, id_dtype):
    found = unpack_sequences(torch.ones(3).to(dtype), torch.tensor([0, 1, 1], dtype=id_dtype))
    assert found.dtype == dtype
    assert found.float().tolist() == [[1, 0], [1, 1]]


def test_from_the_ends_of_the_sequences():
    cu_seqlens = torch.tensor([0, 3, 4], dtype=torch.int32)
    ids = torch.repeat_interleave(torch.arange(len(cu_seqlens) - 1), cu_seqlens.diff())
    assert ids.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_no_token_at_all(shape):
    assert unpack_sequences(torch.zeros(shape), torch.zeros(shape, dtype=torch.long)).shape == (0, 0)
    assert unpack_sequences(torch.zeros(2, 3), -torch.ones(2, 3, dtype=torch.long)).shape == (0, 0)


def test_gradcheck_twice():
    ids = torch.tensor([3, 3, -1, 0])
    gradcheck(lambda x: unpack_sequences(x, ids), numbers(4, 0).requires_grad_())
    torch.autograd.gradgradcheck(lambda x: unpack_sequences(x, ids) ** 2, numbers(4, 0).requires_grad_())


def test_compiled_it_is_the_same():
    ids = torch.tensor([0, 0, 1])
    call = torch.compile(lambda x: 2 * unpack_sequences(x, ids), backend="eager")
    assert call(torch.arange(3.0)).tolist() == [[0, 2], [4, 0]]


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"sequence_ids": torch.tensor([0, 1, 0])}, ValueError, "sequence_ids: got 0 at separate places of a row"),
        ({"sequence_ids": torch.tensor([1, 2, 1])}, ValueError, "sequence_ids: got 1 at separate places of a row"),
        (
            {"packed": torch.zeros(5), "sequence_ids": torch.tensor([0, 1, 2, 1, 3])},
            ValueError,
            "sequence_ids: got 1 at separate places of a row",
        ),
        (
            {"sequence_ids": torch.zeros(3, dtype=torch.long, device="meta")},
            ValueError,
            "sequence_ids: got device meta",
        ),
        ({"packed": META, "sequence_ids": META}, ValueError, "sequence_ids: got a tensor without values"),
        ({"sequence_ids": torch.tensor([0, -1, 0])}, ValueError, "sequence_ids: got 0 at separate places of a row"),
        ({"sequence_ids": torch.tensor([0.0, 0, 1])}, TypeError, "sequence_ids: got dtype torch.float32"),
        ({"sequence_ids": torch.tensor([0, 1])}, ValueError, "sequence_ids: got shape"),
        ({"sequence_ids": [0, 0, 1]}, TypeError, "sequence_ids: got list"),
        ({"packed": torch.zeros(1, 1, 3)}, ValueError, "packed: got shape"),
        ({"packed": None}, TypeError, "packed: got NoneType"),
    ],
)
def test_bad_arguments(given, error, text):
    arguments = {"packed": torch.zeros(3), "sequence_ids": torch.tensor([0, 0, 1])} | given
    with pytest.raises(error, match=rf"^{text}"):
        unpack_sequences(**arguments)
