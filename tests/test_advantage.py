"""Advantages worked out by hand, against plain loops in 50 digits, behind masks and at the edge of the floats."""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch

from grape_verified import gae, group_advantages, whiten

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]])
ROW, TOKENS, ONES = torch.zeros(4), torch.zeros(2, 3), torch.ones(2, 3)
HIDDEN = [math.nan, math.inf, -math.inf, LARGEST]
UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def ragged(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(MASK.shape, generator=generator, dtype=dtype) for _ in range(2)]


# Groups.


def by_definition(rewards, group_size, baseline, scale, ddof, eps):
    """(r_i − b_i) / (s + ε) with plain loops in 50 digits, and the standard deviation (ddof 1) of the group of each."""
    results, deviations = [], []
    with localcontext(prec=50):
        rewards = [Decimal(r) for r in rewards.tolist()]
        for first in range(0, len(rewards), group_size):
            group = rewards[first : first + group_size]
            mean = sum(group) / group_size
            for i, r in enumerate(group):
                others = group[:i] + group[i + 1 :]
                base = {"mean": mean, "none": Decimal(0)}.get(baseline)
                if base is None:
                    base = sum(others) / len(others) if others else r
                divisor = Decimal(1)
                if scale == "std":
                    squares = sum((x - mean) ** 2 for x in group)
                    divisor = (squares / (group_size - ddof)).sqrt() + Decimal(eps) if squares else Decimal("Infinity")
                results.append(float((r - base) / divisor))
                variance = sum((x - mean) ** 2 for x in group) / max(group_size - 1, 1)
                deviations.append(float(variance.sqrt()))
    return torch.tensor(results, dtype=torch.float64), torch.tensor(deviations, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"eps": 0}, [-1, 0, 1]),
        ({"eps": 0, "ddof": 0}, [-math.sqrt(1.5), 0, math.sqrt(1.5)]),
        ({"eps": 2}, [-0.5, 0, 0.5]),
        ({"scale": "none"}, [-2, 0, 2]),
        ({"scale": "none", "baseline": "leave_one_out"}, [-3, 0, 3]),
        ({"eps": 0, "baseline": "leave_one_out"}, [-1.5, 0, 1.5]),
        ({"scale": "none", "baseline": "none"}, [1, 3, 5]),
        ({"eps": 0, "baseline": "none"}, [0.5, 1.5, 2.5]),
    ],
)
def test_a_group_by_hand(options, expected):
    result = group_advantages(torch.tensor([1.0, 3.0, 5.0, 7.0, 7.0, 7.0]), 3, **options)
    torch.testing.assert_close(result[:3], torch.tensor(expected, dtype=torch.float32))
    kept = options.get("scale") == options.get("baseline") == "none"
    assert result[3:].tolist() == ([7, 7, 7] if kept else [0, 0, 0])


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out", "none"])
@pytest.mark.parametrize("options", [{"scale": "none"}, {"eps": 0}, {"ddof": 0}])
def test_a_group_of_one_has_nothing_to_compare_with(baseline, options):
    rewards = torch.tensor([0.1, -3e38, 2.0])
    result = group_advantages(rewards, 1, baseline=baseline, **options)
    assert torch.equal(result, rewards if baseline == "none" and "scale" in options else torch.zeros(3))


def test_groups_are_consecutive_rows():
    rewards = torch.tensor([0.0, 1.0, 10.0, 30.0])
    assert group_advantages(rewards, 2, scale="none").tolist() == [-0.5, 0.5, -10, 10]


def test_nearly_equal_rewards_keep_their_difference():
    rewards = torch.tensor([0.7, 0.7 + 1e-8], dtype=torch.float64)
    torch.testing.assert_close(
        group_advantages(rewards, 2, eps=0), torch.tensor([-1, 1], dtype=torch.float64) / math.sqrt(2)
    )
    difference = (rewards[1] - rewards[0]).item()
    assert group_advantages(rewards, 2, scale="none").tolist() == [-difference / 2, difference / 2]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e30, -LARGEST])
@pytest.mark.parametrize("options", [{"scale": "none"}, {"eps": 0}, {"eps": 1e-6}])
def test_equal_rewards_get_exactly_zero(value, options):
    assert torch.equal(group_advantages(torch.full((7,), value), 7, **options), torch.zeros(7))


@pytest.mark.parametrize("size", [1e-37, 1e-20, 1e20, 1e30])
def test_squares_neither_overflow_nor_underflow(size):
    result = group_advantages(torch.tensor([0.0, size]), 2, eps=0)
    torch.testing.assert_close(result, torch.tensor([-1.0, 1.0]) / math.sqrt(2))


def test_the_difference_of_two_largest_floats_saturates():
    rewards = torch.tensor([LARGEST, -LARGEST])
    torch.testing.assert_close(group_advantages(rewards, 2, eps=0), torch.tensor([1.0, -1.0]) / math.sqrt(2))
    assert (group_advantages(rewards, 2, scale="none").sign() == torch.tensor([1, -1])).all()


def test_rewards_whose_sum_overflows():
    rewards = torch.tensor([3e38, 2.9e38])
    torch.testing.assert_close(group_advantages(rewards, 2, eps=0), torch.tensor([1.0, -1.0]) / math.sqrt(2))


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out", "none"])
@pytest.mark.parametrize("options", [{"scale": "none"}, {"eps": 0}, {"ddof": 0, "eps": 0.1}])
@pytest.mark.parametrize("group_size", [2, 3, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_documented_bound_of_group_advantages(baseline, options, group_size, dtype):
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(20 * group_size, generator=generator, dtype=dtype) + 10
    rewards[:group_size] = (rewards[:group_size] > 10).to(dtype)
    rewards[group_size : 2 * group_size] *= 1e6
    result = group_advantages(rewards, group_size, baseline=baseline, **options).double()
    full = {"scale": "std", "ddof": 1, "eps": 1e-6} | options
    exact, deviation = by_definition(rewards, group_size, baseline, **full)
    scale = exact.abs() + (deviation if "scale" in options else 1)
    assert ((result - exact).abs() <= (8 + math.log2(group_size)) * UNIT_ROUNDOFF[dtype] * scale).all()


def test_documented_bound_of_a_large_group_in_which_a_few_rewards_are_far_larger_than_the_others():
    rewards = (4 * torch.randn(1000, generator=torch.Generator().manual_seed(0))).exp()
    exact, _ = by_definition(rewards, 1000, "mean", scale="std", ddof=1, eps=1e-6)
    error = (group_advantages(rewards, 1000).double() - exact).abs()
    assert (error <= (8 + math.log2(1000)) * UNIT_ROUNDOFF[torch.float32] * (exact.abs() + 1)).all()


def test_half_precision_rewards_are_read_in_fp32():
    rewards = torch.tensor([0.1, 0.7, 0.30, 0.2])
    for dtype in (torch.float16, torch.bfloat16):
        result = group_advantages(rewards.to(dtype), 2)
        assert result.dtype == torch.float32
        assert torch.equal(result, group_advantages(rewards.to(dtype).float(), 2))


# Values.


def gae_by_definition(rewards, values, mask, discount, lam):
    """Advantages, returns and Σ_k (γλ)ᵏ (|r| + γ|V'| + |V|) of one row: the counted tokens backwards, in 50 digits."""
    advantages, returns, scales = ([0.0] * len(mask) for _ in range(3))
    with localcontext(prec=50):
        discount, lam = Decimal(discount), Decimal(lam)
        next_value = next_advantage = next_scale = Decimal(0)
        for t in reversed([t for t, m in enumerate(mask) if m]):
            reward, value = Decimal(rewards[t]), Decimal(values[t])
            next_advantage = reward + discount * next_value - value + discount * lam * next_advantage
            next_scale = abs(reward) + discount * abs(next_value) + abs(value) + discount * lam * next_scale
            next_value = value
            advantages[t], returns[t] = float(next_advantage), float(next_advantage + value)
            scales[t] = float(next_scale)
    return advantages, returns, scales


def test_gae_by_hand():
    rewards, values = torch.tensor([[1.0, 9.0, 2.0, 4.0]]), torch.tensor([[3.0, 9.0, 5.0, 6.0]])
    advantages, returns = gae(rewards, values, torch.tensor([[1, 0, 1, 1]]), discount=0.5, lam=0.5)
    # δ = 1 + 5/2 − 3, 2 + 6/2 − 5, 4 − 6 at the counted tokens.
    assert advantages.tolist() == [[0.5 + 0 / 4 - 2 / 16, 0, 0 - 2 / 4, -2]]
    assert returns.tolist() == [[3.375, 0, 4.5, 4]]


def test_lambda_zero_is_the_one_step_error_and_lambda_one_the_return_less_the_value():
    rewards, values = ragged(torch.float64)
    row = slice(1, 2)
    following = torch.cat([values[row, 1:], torch.zeros(1, 1, dtype=torch.float64)], dim=1)
    advantages, _ = gae(rewards, values, MASK, discount=0.9, lam=0)
    torch.testing.assert_close(advantages[row], rewards[row] + 0.9 * following - values[row])
    advantages, returns = gae(rewards, values, MASK, discount=0.9, lam=1)
    discounted = torch.tensor([[sum(0.9**k * rewards[1, t + k].item() for k in range(6 - t)) for t in range(6)]])
    torch.testing.assert_close(returns[row], discounted.double())
    torch.testing.assert_close(advantages[row], discounted - values[row])


@pytest.mark.parametrize("discount", [0, 1, 0.99])
@pytest.mark.parametrize("lam", [0, 1, 0.95])
@pytest.mark.parametrize(("time", "share"), [(1, 1.0), (2, 0.5), (513, 0.8), (8192, 0.95)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_documented_bound_of_gae(discount, lam, time, share, dtype):
    generator = torch.Generator().manual_seed(time)
    rewards, values = (torch.randn(2, time, generator=generator, dtype=dtype) for _ in range(2))
    values += 5
    mask = torch.rand(2, time, generator=generator) < share
    advantages, returns = gae(rewards, values, mask, discount=discount, lam=lam)
    factor = UNIT_ROUNDOFF[dtype] * (math.ceil(math.log2(time)) + 4)
    for row in range(2):
        inputs = (x[row].tolist() for x in (rewards, values, mask))
        exact, exact_returns, scale = (
            torch.tensor(x, dtype=torch.float64) for x in gae_by_definition(*inputs, discount, lam)
        )
        assert ((advantages[row] - exact).abs() <= factor * scale).all()
        assert ((returns[row] - exact_returns).abs() <= factor * (scale + values[row].abs())).all()


def test_masked_positions_inserted_anywhere_change_nothing():
    rewards, values = (x[1:2, :3] for x in ragged())
    expected = gae(rewards, values, torch.ones(1, 3), discount=0.9)
    for places in itertools.combinations(range(6), 3):
        mask = torch.zeros(1, 6)
        mask[0, list(places)] = 1
        wide = [torch.full((1, 6), math.nan).masked_scatter(mask.bool(), x) for x in (rewards, values)]
        for result, short in zip(gae(*wide, mask, discount=0.9), expected, strict=True):
            torch.testing.assert_close(result[mask.bool()], short[0], rtol=1e-6, atol=1e-6)
            assert (result[mask == 0] == 0).all()


@pytest.mark.parametrize("hidden", HIDDEN)
def test_masked_entries_of_gae_reach_nothing(hidden):
    clean = gae(*ragged(), MASK)
    for position in range(2):
        inputs = ragged()
        inputs[position] = inputs[position].masked_fill(MASK == 0, hidden)
        for result, expected in zip(gae(*inputs, MASK), clean, strict=True):
            assert torch.equal(result, expected)
            assert (result[MASK == 0] == 0).all()


def test_a_value_of_the_size_of_the_largest_float_does_not_reach_the_next_row():
    rewards, values = ragged()
    values[1] = LARGEST
    changed, _ = gae(rewards, values, MASK)
    original, _ = gae(*ragged(), MASK)
    assert torch.equal(changed[[0, 2, 3]], original[[0, 2, 3]])


def test_an_infinite_reward_reaches_only_the_tokens_that_it_is_discounted_to():
    rewards, values = ragged()
    rewards[1, 3] = math.inf
    advantages, _ = gae(rewards, values, MASK, lam=0)
    assert advantages[1].isfinite().tolist() == [True, True, True, False, True, True]


# Whitening.


def whiten_by_definition(values, mask, shift_mean, ddof, eps):
    """(x − x̄) / √(s² + ε) with plain loops in 50 digits; 0 where masked."""
    with localcontext(prec=50):
        counted = [Decimal(x) for x, m in zip(values, mask, strict=True) if m]
        mean = sum(counted) / len(counted)
        squares = sum((x - mean) ** 2 for x in counted)
        variance = squares / (len(counted) - ddof) if len(counted) > ddof else Decimal(0)
        scale = (variance + Decimal(eps)).sqrt()
        back = Decimal(0) if shift_mean else mean
        return [float((Decimal(x) - mean) / scale + back) if m else 0.0 for x, m in zip(values, mask, strict=True)]


def test_whitening_by_hand():
    values, mask = torch.tensor([[1.0, 100.0], [3.0, 5.0]]), torch.tensor([[1, 0], [1, 1]])
    assert whiten(values, mask, eps=0).tolist() == [[-1, 0], [0, 1]]
    assert whiten(values, mask, eps=12).tolist() == [[-0.5, 0], [0, 0.5]]
    assert whiten(values, mask, shift_mean=False, eps=0).tolist() == [[2, 0], [3, 4]]
    assert whiten(values, mask, ddof=0, eps=0)[1, 1].item() == pytest.approx(math.sqrt(1.5))


@pytest.mark.parametrize("eps", [0, 1e-8])
@pytest.mark.parametrize("ddof", [0, 1])
def test_conventions_of_whitening(eps, ddof):
    values = torch.tensor([[0.3, 7.0], [0.3, 0.3]])
    one, equal, none = (torch.tensor(mask) for mask in ([[0, 1], [0, 0]], [[1, 0], [1, 1]], [[0, 0], [0, 0]]))
    for mask, mean in ((one, 7.0), (equal, 0.3), (none, 0.0)):
        assert torch.equal(whiten(values, mask, ddof=ddof, eps=eps), torch.zeros(2, 2))
        kept = whiten(values, mask, shift_mean=False, ddof=ddof, eps=eps)
        assert torch.equal(kept, mask * torch.tensor(mean))


@pytest.mark.parametrize("shift_mean", [True, False])
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("eps", [0, 1e-8, 1.0])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_documented_bound_of_whiten(shift_mean, ddof, eps, offset, dtype):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, 300, generator=generator, dtype=dtype) * (1e-5 if offset == 1e-5 else 1) + offset
    mask = torch.rand(7, 300, generator=generator) < 0.7
    result = whiten(values, mask, shift_mean=shift_mean, ddof=ddof, eps=eps).double()
    plain = (x.flatten().tolist() for x in (values, mask))
    exact = torch.tensor(whiten_by_definition(*plain, shift_mean, ddof, eps), dtype=torch.float64).view(7, 300)
    counted = values[mask].double()
    scale = exact.abs() + 1
    if not shift_mean:
        scale = scale + counted.mean().abs() + counted.std(correction=ddof)
    assert ((result - exact).abs() <= 8 * UNIT_ROUNDOFF[dtype] * scale).all()


def test_the_mean_that_is_added_back_withstands_an_outlier():
    values = torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
    values[0, 0] = 1e5
    result = whiten(values, torch.ones(1, 3000), shift_mean=False).double()
    exact = torch.tensor([whiten_by_definition(values[0].tolist(), [1] * 3000, False, 1, 1e-8)], dtype=torch.float64)
    scale = exact.abs() + 1 + values.double().mean().abs() + values.double().std()
    assert ((result - exact).abs() <= 8 * 2.0**-24 * scale).all()


@pytest.mark.parametrize("size", [1e-30, 1e25, 1e30])
def test_whitening_of_any_size(size):
    values = torch.tensor([[-size, 0, size]])
    torch.testing.assert_close(whiten(values, torch.ones(1, 3), eps=0), torch.tensor([[-1.0, 0.0, 1.0]]))
    small = whiten(values, torch.ones(1, 3), eps=1e-8)
    expected = values / math.hypot(size, 1e-4)
    torch.testing.assert_close(small, expected, rtol=1e-6, atol=1e-6 * expected.max().item())


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("shift_mean", [True, False])
def test_masked_entries_of_whiten_reach_nothing(hidden, shift_mean):
    values, _ = ragged()
    clean = whiten(values, MASK, shift_mean=shift_mean)
    assert torch.equal(whiten(values.masked_fill(MASK == 0, hidden), MASK, shift_mean=shift_mean), clean)
    assert (clean[MASK == 0] == 0).all()
    assert clean[MASK == 1].ne(0).all()


# What all three have in common.

CALLS = {
    "group_advantages": lambda x: group_advantages(x.flatten(), 3),
    "gae": lambda x: torch.cat(gae(x, x.flip(0), MASK, discount=0.9)),
    "whiten": lambda x: whiten(x, MASK),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_results_are_constants_and_inputs_stay_as_they_were(call):
    values = ragged()[0].requires_grad_()
    before = values.detach().clone()
    result = call(values)
    assert not result.requires_grad
    assert torch.equal(values, before)
    strided = before.T.contiguous().T
    assert torch.equal(call(strided), result)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(call, dtype):
    values = ragged()[0].to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert call(values).dtype == wide
    assert torch.equal(call(values), call(values.to(wide)))


def test_gae_is_computed_in_the_wider_dtype_of_the_two():
    rewards, values = ragged()
    assert {x.dtype for x in gae(rewards, values.double(), MASK)} == {torch.float64}
    assert {x.dtype for x in gae(rewards.double(), values, MASK)} == {torch.float64}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_compiled(call):
    values = ragged()[0]
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(values), call(values), rtol=1e-6, atol=1e-6)


BASELINES, ZERO_OR_ONE = "one of 'mean', 'leave_one_out', 'none'", "expected 0 or 1"
FRACTION, NON_NEGATIVE = "expected a number in [0, 1]", "expected a finite number >= 0"

BAD = [
    (lambda: group_advantages([1.0], 1), TypeError, "rewards: got list, expected a tensor"),
    (lambda: group_advantages(TOKENS, 1), ValueError, "rewards: got shape (2, 3), expected shape (batch,)"),
    (lambda: group_advantages(ROW.long(), 1), TypeError, "rewards: got dtype torch.int64, expected a floating-point"),
    (lambda: group_advantages(ROW, 3), ValueError, "group_size: got 3, expected a divisor of 4, the number of seq"),
    (lambda: group_advantages(ROW, 0), ValueError, "group_size: got 0, expected an integer >= 1"),
    (lambda: group_advantages(ROW, 2.0), TypeError, "group_size: got 2.0, expected an integer >= 1"),
    (lambda: group_advantages(ROW, True), TypeError, "group_size: got True, expected an integer >= 1"),
    (lambda: group_advantages(ROW / 0, 2), ValueError, "rewards: got the value nan, expected finite values only"),
    (lambda: group_advantages(ROW - math.inf, 2), ValueError, "rewards: got the value -inf, expected finite values"),
    (lambda: group_advantages(ROW, 2, baseline="rloo"), ValueError, f"baseline: got 'rloo', expected {BASELINES}"),
    (lambda: group_advantages(ROW, 2, baseline=None), TypeError, f"baseline: got NoneType, expected {BASELINES}"),
    (lambda: group_advantages(ROW, 2, scale=True), TypeError, "scale: got bool, expected one of 'std', 'none'"),
    (lambda: group_advantages(ROW, 2, scale="batch"), ValueError, "scale: got 'batch', expected one of 'std', 'none'"),
    (lambda: group_advantages(ROW, 2, ddof=2), ValueError, f"ddof: got 2, {ZERO_OR_ONE}"),
    (lambda: group_advantages(ROW, 2, ddof=True), TypeError, f"ddof: got bool, {ZERO_OR_ONE}"),
    (lambda: group_advantages(ROW, 2, ddof=1.0), TypeError, f"ddof: got float, {ZERO_OR_ONE}"),
    (lambda: group_advantages(ROW, 2, eps=-1e-6), ValueError, f"eps: got -1e-06, {NON_NEGATIVE}"),
    (lambda: group_advantages(ROW, 2, eps=math.inf), ValueError, f"eps: got inf, {NON_NEGATIVE}"),
    (
        lambda: group_advantages(ROW, 2, scale="none", ddof=0),
        ValueError,
        "ddof: got 0, expected 1 with scale 'none', which does not use it",
    ),
    (
        lambda: group_advantages(ROW, 2, scale="none", eps=0),
        ValueError,
        "eps: got 0, expected 1e-06 with scale 'none', which does not use it",
    ),
    (lambda: gae(None, TOKENS, ONES), TypeError, "rewards: got NoneType, expected a tensor"),
    (lambda: gae(ROW, TOKENS, ONES), ValueError, "rewards: got shape (4,), expected shape (batch, time)"),
    (lambda: gae(TOKENS, TOKENS.int(), ONES), TypeError, "values: got dtype torch.int32, expected a floating-point"),
    (
        lambda: gae(TOKENS, TOKENS.T, ONES),
        ValueError,
        "values: got shape (3, 2), expected (2, 3), the shape of rewards",
    ),
    (lambda: gae(TOKENS, TOKENS, ONES[0]), ValueError, "mask: got shape (3,), expected (2, 3), the shape of rewards"),
    (lambda: gae(TOKENS, TOKENS, ONES / 2), ValueError, "mask: got the value 0.5, expected only 0 and 1"),
    (lambda: gae(TOKENS, TOKENS, ONES, discount=1.1), ValueError, f"discount: got 1.1, {FRACTION}"),
    (lambda: gae(TOKENS, TOKENS, ONES, discount=None), TypeError, f"discount: got NoneType, {FRACTION}"),
    (lambda: gae(TOKENS, TOKENS, ONES, lam=-0.1), ValueError, f"lam: got -0.1, {FRACTION}"),
    (lambda: gae(TOKENS, TOKENS, ONES, lam=math.nan), ValueError, f"lam: got nan, {FRACTION}"),
    (lambda: whiten(ROW, ONES), ValueError, "values: got shape (4,), expected shape (batch, time)"),
    (lambda: whiten(TOKENS, ONES.T), ValueError, "mask: got shape (3, 2), expected (2, 3), the shape of values"),
    (lambda: whiten(TOKENS, None), TypeError, "mask: got NoneType, expected a tensor"),
    (lambda: whiten(TOKENS, ONES, shift_mean=1), TypeError, "shift_mean: got int, expected True or False"),
    (lambda: whiten(TOKENS, ONES, ddof=-1), ValueError, f"ddof: got -1, {ZERO_OR_ONE}"),
    (lambda: whiten(TOKENS, ONES, eps=-1), ValueError, f"eps: got -1, {NON_NEGATIVE}"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)


def test_group_advantages_are_constants_in_memory_of_their_own():
    rewards = torch.ones(4, requires_grad=True)
    advantages = group_advantages(rewards, 2, baseline="none", scale="none")
    assert not advantages.requires_grad
    assert advantages.data_ptr() != rewards.data_ptr()


# -- batches without rows, and numbers of other types ------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [1, 3, 10**30])
def test_group_advantages_of_no_rewards(group_size):
    assert group_advantages(torch.zeros(0), group_size).shape == (0,)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_gae_and_whiten_without_a_token(shape):
    nothing, mask = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    for result in (*gae(nothing, nothing, mask), whiten(nothing, mask), whiten(nothing, mask, shift_mean=False)):
        assert result.shape == shape
        assert result.dtype == torch.float32


def test_fractions_are_read_as_the_floats_that_they_stand_for():
    rewards, values, mask = torch.tensor([1.0, 3.0, 2.0, 7.0]), torch.randn(2, 3), torch.ones(2, 3)
    assert torch.equal(group_advantages(rewards, 2, eps=Fraction(1, 8)), group_advantages(rewards, 2, eps=0.125))
    assert torch.equal(
        gae(values, values, mask, discount=Fraction(1, 2), lam=Fraction(3, 4))[0],
        gae(values, values, mask, discount=0.5, lam=0.75)[0],
    )
    assert torch.equal(whiten(values, mask, eps=10**20), whiten(values, mask, eps=1e20))
    with pytest.raises(ValueError, match="expected a divisor of 4, the number of sequences"):
        group_advantages(rewards, 10**30)


def test_group_advantages_under_vmap():
    rewards = torch.tensor([[1.0, 3.0, 2.0, 7.0], [5.0, 5.0, 0.0, 1.0]])
    for options in ({}, {"baseline": "leave_one_out", "scale": "none"}, {"baseline": "none"}):
        mapped = torch.func.vmap(lambda row, options=options: group_advantages(row, 2, **options))(rewards)
        assert torch.equal(mapped, torch.stack([group_advantages(row, 2, **options) for row in rewards]))
