"""Importance weights: numbers worked out by hand, log-probabilities at the edge of the floats, and wrong arguments."""

import math

import pytest
import torch

from grape_verified import importance_weights

INF, NAN = math.inf, math.nan
LARGEST = torch.finfo(torch.float32).max
ONES = torch.ones(1, 3)


def of_ratios(*ratios, mask=None, **options):
    """The weights of one sequence, given the ratio of each of its tokens."""
    logs = torch.tensor([ratios], dtype=torch.float64).log()
    keep = torch.ones_like(logs) if mask is None else torch.tensor([mask])
    return importance_weights(logs, torch.zeros_like(logs), keep, **options)[0].tolist()


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [0.25, 1.0, 1.5, 2.0]),
        ({"high": 4.0}, [0.25, 1.0, 1.5, 3.0]),
        ({"low": 0.5}, [0.5, 1.0, 1.5, 2.0]),
        ({"outside": "mask"}, [0.25, 1.0, 1.5, 0.0]),
        ({"outside": "mask", "low": 0.5, "high": 1.25}, [0.0, 1.0, 0.0, 0.0]),
        ({"low": 1.0, "high": 1.0}, [1.0, 1.0, 1.0, 1.0]),
        ({"outside": "mask", "low": 1.0, "high": 1.0}, [0.0, 1.0, 0.0, 0.0]),  # the ends belong to the range
        ({"level": "sequence"}, [1.125] * 4),  # ¼ · 1 · 1.5 · 3
        ({"level": "sequence", "high": 1.0}, [1.0] * 4),
        ({"level": "sequence", "high": 1.0, "outside": "mask"}, [0.0] * 4),
        ({"level": "sequence", "low": 1.2, "high": 3.0}, [1.2] * 4),
    ],
)
def test_by_hand(options, weights):
    assert of_ratios(0.25, 1.0, 1.5, 3.0, **options) == pytest.approx(weights)


def test_masked_tokens_weigh_nothing_and_are_no_factor_of_the_product():
    ratios = (0.5, 7.0, 3.0)
    assert of_ratios(*ratios, mask=[1, 0, 1]) == pytest.approx([0.5, 0.0, 2.0])
    assert of_ratios(*ratios, mask=[1, 0, 1], level="sequence") == pytest.approx([1.5, 0.0, 1.5])


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("outside", ["truncate", "mask"])
@pytest.mark.parametrize("hidden", [NAN, INF, -INF, 1e30])
def test_what_a_masked_entry_holds_reaches_nothing(level, outside, hidden):
    mask = torch.tensor([[1, 0, 1], [0, 0, 0]])
    logps = torch.tensor([[-1.0, -2.0, -3.0]]).expand(2, 3)
    options = {"level": level, "outside": outside}
    dirty = importance_weights(*(x.masked_fill(mask == 0, hidden) for x in (logps, logps - 0.1)), mask, **options)
    torch.testing.assert_close(dirty, importance_weights(logps, logps - 0.1, mask, **options))
    assert not dirty[1].any()  # a sequence without tokens has no weight


def test_no_product_of_a_long_sequence_overflows():
    """The product of the first half, or of the second alone, is beyond the range of fp32; that of all tokens is e."""
    old_logps = torch.cat([torch.full((1, 500), 1.0), torch.full((1, 499), -1.0)], 1)
    sampler_logps, mask = torch.zeros(1, 999), torch.ones(1, 999)
    weights = importance_weights(old_logps, sampler_logps, mask, level="sequence", high=4.0)
    torch.testing.assert_close(weights, torch.full((1, 999), math.e))


@pytest.mark.parametrize("log_ratio", [89.0, 1e30, LARGEST, INF])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_ratio_beyond_the_range_is_above_the_upper_end(log_ratio, level):
    old_logps = torch.tensor([[log_ratio, 0.0, 0.0]])
    first = {o: importance_weights(old_logps, 0 * ONES, ONES, level=level, outside=o)[0] for o in ("truncate", "mask")}
    others = 1.0 if level == "token" else None
    assert first["truncate"].tolist() == [2.0, others or 2.0, others or 2.0]
    assert first["mask"].tolist() == [0.0, others or 0.0, others or 0.0]


@pytest.mark.parametrize(
    ("old_logp", "sampler_logp", "options", "weight"),
    [
        (-1.0, -INF, {}, 2.0),  # drawn, says the batch; impossible, says the sampler: ω = +∞
        (-1.0, -INF, {"outside": "mask"}, 0.0),
        (-INF, -1.0, {}, 0.0),
        (-INF, -1.0, {"low": 0.5}, 0.5),
        (-INF, -1.0, {"low": 0.5, "outside": "mask"}, 0.0),
        (-INF, -INF, {}, NAN),
        (-INF, -INF, {"outside": "mask"}, NAN),
        (NAN, -1.0, {}, NAN),
        (-1.0, NAN, {"outside": "mask"}, NAN),
    ],
)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_log_probabilities_without_a_number(old_logp, sampler_logp, options, weight, level):
    found = importance_weights(
        torch.tensor([[old_logp]]), torch.tensor([[sampler_logp]]), ONES[:, :1], level=level, **options
    )
    torch.testing.assert_close(found, torch.tensor([[weight]]), equal_nan=True)


def test_a_sequence_with_a_ratio_of_0_and_one_of_infinity_has_none():
    found = importance_weights(
        torch.tensor([[-INF, -1.0]]), torch.tensor([[-1.0, -INF]]), ONES[:, :2], level="sequence"
    )
    assert found.isnan().all()


def test_the_result_is_a_constant_in_the_wider_dtype():
    logps = torch.zeros(1, 3, requires_grad=True)
    assert not importance_weights(logps, logps, ONES).requires_grad
    assert importance_weights(logps.bfloat16(), logps, ONES).dtype == torch.float32
    assert importance_weights(logps, logps.double(), ONES).dtype == torch.float64


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_batch_without_tokens(shape, level):
    empty = torch.zeros(shape)
    assert importance_weights(empty, empty, empty, level=level).shape == shape


ERRORS = [
    ({"level": "group"}, ValueError, "level: got 'group', expected one of 'token', 'sequence'"),
    ({"outside": "clip"}, ValueError, "outside: got 'clip', expected one of 'truncate', 'mask'"),
    ({"low": 3.0}, ValueError, r"low: got 3.0, expected a number that is at most high, 2.0"),
    ({"low": -0.1}, ValueError, "low: got -0.1, expected a finite number >= 0"),
    ({"low": NAN}, ValueError, "low: got nan, expected a finite number >= 0"),
    ({"high": 0.0}, ValueError, "high: got 0.0, expected a finite number > 0"),
    ({"high": INF}, ValueError, "high: got inf, expected a finite number > 0"),
    ({"high": NAN}, ValueError, "high: got nan, expected a finite number > 0"),
    ({"high": None}, TypeError, "high: got NoneType, expected a finite number > 0"),
]


@pytest.mark.parametrize(("options", "error", "text"), ERRORS)
def test_wrong_options(options, error, text):
    with pytest.raises(error, match=f"^{text}$"):
        importance_weights(ONES, ONES, ONES, **options)


def test_wrong_tensors():
    with pytest.raises(
        ValueError, match=r"^sampler_logps: got shape \(3, 1\), expected \(1, 3\), the shape of old_logps$"
    ):
        importance_weights(ONES, ONES.T, ONES)
    with pytest.raises(ValueError, match=r"^old_logps: got shape \(3,\), expected shape \(batch, time\)$"):
        importance_weights(ONES[0], ONES[0], ONES[0])
    with pytest.raises(ValueError, match=r"^mask: got the value 0.5, expected only 0 and 1$"):
        importance_weights(ONES, ONES, ONES / 2)
