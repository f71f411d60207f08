"""Every mode on numbers worked out by hand; what is masked; what micro-batches add up to."""

import math

import pytest
import torch
import torch.distributed as dist

from grape_verified import aggregate, aggregation_denominator

# Row sums over counted tokens: 1 + 2 = 3 of two tokens, 6 of one token.
VALUES = [[1.0, 2.0, 100.0], [6.0, 100.0, 100.0]]
MASK = [[1, 1, 0], [1, 0, 0]]

BY_HAND = [
    ("token_mean", {}, 9 / 3),
    ("token_mean", {"denominator": 18}, 9 / 18),
    ("sequence_mean", {}, (3 / 2 + 6 / 1) / 2),
    ("sequence_mean", {"denominator": 5}, (3 / 2 + 6 / 1) / 5),
    ("sequence_sum", {}, 9 / 2),
    ("sequence_sum", {"denominator": 3.0}, 9 / 3),
    ("token_sum", {}, 9),
    ("fixed_length", {"max_length": 4}, 9 / (2 * 4)),
    ("fixed_length", {"max_length": 4, "denominator": 9}, 9 / (9 * 4)),
]
MODES = [
    ("token_mean", {}),
    ("sequence_mean", {}),
    ("sequence_sum", {}),
    ("token_sum", {}),
    ("fixed_length", {"max_length": 3}),
]


@pytest.mark.parametrize(("mode", "options", "expected"), BY_HAND)
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.uint8, torch.float32, torch.bfloat16])
def test_by_hand(mode, options, expected, mask_dtype):
    result = aggregate(torch.tensor(VALUES), torch.tensor(MASK, dtype=mask_dtype), mode, **options)
    assert result.shape == ()
    assert result.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("mode", "options", "weights"),
    [
        ("token_mean", {}, [[1 / 3, 1 / 3, 0], [1 / 3, 0, 0]]),
        ("sequence_mean", {}, [[1 / 4, 1 / 4, 0], [1 / 2, 0, 0]]),
        ("sequence_sum", {}, [[1 / 2, 1 / 2, 0], [1 / 2, 0, 0]]),
        ("token_sum", {}, [[1, 1, 0], [1, 0, 0]]),
        ("fixed_length", {"max_length": 4}, [[1 / 8, 1 / 8, 0], [1 / 8, 0, 0]]),
    ],
)
def test_gradient_is_the_weight_of_each_token(mode, options, weights):
    values = torch.tensor(VALUES, requires_grad=True)
    aggregate(values, torch.tensor(MASK), mode, **options).backward()
    torch.testing.assert_close(values.grad, torch.tensor(weights, dtype=torch.float32))


@pytest.mark.parametrize(("mode", "options"), MODES)
@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, 3e38])
def test_masked_entries_reach_nothing(mode, options, hidden):
    mask = torch.tensor(MASK, dtype=torch.bool)
    clean = torch.tensor(VALUES, requires_grad=True)
    dirty = clean.detach().masked_fill(~mask, hidden).requires_grad_()
    results = [aggregate(values, mask, mode, **options) for values in (clean, dirty)]
    for result in results:
        result.backward()
    assert torch.equal(*results)
    assert torch.equal(clean.grad, dirty.grad)


@pytest.mark.parametrize(("mode", "options"), MODES)
def test_nothing_counted_is_zero_with_zero_gradient(mode, options):
    values = torch.full((2, 3), math.nan, requires_grad=True)
    result = aggregate(values, torch.zeros(2, 3), mode, **options)
    result.backward()
    assert result.item() == 0
    assert torch.equal(values.grad, torch.zeros(2, 3))


def test_a_row_without_a_counted_token_still_counts_as_a_row():
    values, mask = (torch.tensor([[4.0, 4.0], [9.0, 9.0]]), torch.tensor([[1, 1], [0, 0]]))
    assert aggregate(values, mask, "sequence_mean").item() == 2
    assert aggregate(values, mask, "sequence_sum").item() == 4
    assert aggregate(values, mask, "token_mean").item() == 4


@pytest.mark.parametrize(("mode", "options"), MODES)
def test_micro_batches_with_the_global_denominator_add_up(mode, options):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    mask = torch.rand(7, 5, generator=generator) < 0.5
    shared = {"token_sum": None, "token_mean": int(mask.sum())}.get(mode, 7)
    parts = [
        aggregate(values[rows], mask[rows], mode, denominator=shared, **options)
        for rows in (slice(0, 1), slice(1, 5), slice(5, 7))
    ]
    torch.testing.assert_close(sum(parts), aggregate(values, mask, mode, **options))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("mode", "options"), MODES)
def test_dtype(dtype, mode, options):
    values = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    for denominator in [None] if mode == "token_sum" else [None, 2, torch.tensor(2.0, dtype=torch.float64)]:
        result = aggregate(values, torch.ones(2, 3), mode, denominator=denominator, **options)
        assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.autograd.grad(result, values)[0].dtype == dtype


def test_a_denominator_is_a_constant():
    values, denominator = torch.ones(2, 3, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    aggregate(values, torch.ones(2, 3), "token_mean", denominator=denominator).backward()
    assert torch.equal(values.grad, torch.full((2, 3), 0.5))
    assert denominator.grad is None


def test_sums_in_single_precision_not_in_half():
    assert aggregate(torch.ones(1, 4097, dtype=torch.float16), torch.ones(1, 4097), "token_sum").item() == 4097


@pytest.mark.parametrize("mode", ["token_mean", "sequence_mean", "sequence_sum", "token_sum"])
@pytest.mark.parametrize("shape", [(1, 2**20), (512, 2048), (2**17, 8)])
@pytest.mark.parametrize("value", [0.1, 1 / 3])
def test_documented_bound(mode, shape, value):
    values = torch.full(shape, value)
    values[::2, ::3] *= 1.7
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.6
    exact = aggregate(values.double(), mask, mode)
    assert (aggregate(values, mask, mode) - exact).abs() <= 8 * 2.0**-24 * exact


@pytest.mark.parametrize(("mode", "options"), MODES)
def test_gradcheck(mode, options):
    values = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    assert torch.autograd.gradcheck(lambda x: aggregate(x, mask, mode, **options), values)


@pytest.mark.parametrize(("mode", "options"), MODES)
def test_compiled_transposed_and_untouched(mode, options):
    values, mask = (torch.tensor(VALUES).T.contiguous().T, torch.tensor(MASK, dtype=torch.float32).T.contiguous().T)
    before = values.clone(), mask.clone()
    compiled = torch.compile(aggregate, fullgraph=True, backend="aot_eager")
    expected = aggregate(torch.tensor(VALUES), torch.tensor(MASK), mode, **options)
    torch.testing.assert_close(aggregate(values, mask, mode, **options), expected)
    torch.testing.assert_close(compiled(values, mask, mode, **options), expected)
    assert torch.equal(values, before[0])
    assert torch.equal(mask, before[1])


# -- the denominator of all ranks together; that of several processes is in tests/logprobs/test_parallel.py -----------

TOKENS, ROWS = 3, 4


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("token_mean", TOKENS), ("sequence_mean", ROWS), ("sequence_sum", ROWS), ("fixed_length", ROWS)],
)
def test_the_denominator_of_this_process_by_hand(mode, expected):
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    found = aggregation_denominator(mask, mode)
    assert (found.item(), found.dtype, found.shape) == (expected, torch.int64, ())


@pytest.mark.parametrize("mode", ["token_mean", "sequence_mean"])
def test_a_denominator_is_at_least_1(mode):
    empty = torch.zeros(0, 3) if mode == "sequence_mean" else torch.zeros(2, 3)
    assert aggregation_denominator(empty, mode) == 1


def test_a_denominator_is_summed_over_the_group_that_is_given(monkeypatch, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        group = dist.new_group([0])
        monkeypatch.setattr(dist, "all_reduce", lambda count, group: count.mul_(5 if group is chosen else 0))
        chosen = group
        assert aggregation_denominator(torch.ones(2, 3), "token_mean", group=group) == 30
        assert aggregation_denominator(torch.ones(2, 3), "token_mean") == 6
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("given", "options", "error", "text"),
    [
        ((torch.ones(2, 3), "token_sum"), {}, ValueError, "mode: got 'token_sum', expected one of 'token_mean', "),
        ((torch.ones(2), "token_mean"), {}, ValueError, "mask: got shape (2,), expected shape (batch, time)"),
        ((torch.ones(2, 3) * 2, "token_mean"), {}, ValueError, "mask: got the value 2.0, expected only 0 and 1"),
        (([1.0], "token_mean"), {}, TypeError, "mask: got list, expected a tensor"),
        (
            (torch.ones(2, 3), "token_mean"), {"group": "world"},
            TypeError, "group: got str, expected a torch.distributed.ProcessGroup or None",
        ),
    ],
)  # fmt: skip
def test_bad_arguments_of_a_denominator(given, options, error, text):
    with pytest.raises(error) as raised:
        aggregation_denominator(*given, **options)
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize("length", [1, 2**24])
def test_the_shortest_and_a_long_length(length):
    found = aggregate(torch.ones(1, 2), torch.ones(1, 2), "fixed_length", max_length=length)
    assert found.item() == 2 / length


def test_a_length_of_0_is_refused():
    with pytest.raises(ValueError, match="max_length: got 0, expected an integer > 0"):
        aggregate(torch.ones(1, 2), torch.ones(1, 2), "fixed_length", max_length=0)
