"""PPO's value loss: clip regions worked out by hand, the convention at ties, and inputs at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import aggregate, value_loss, value_loss_per_token

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 0]])
TOKENS, ONES = torch.zeros(2, 3), torch.ones(2, 3)


def at(value, target, **options):
    """Loss of one value and its slope, in fp64."""
    values = torch.tensor([[value]], dtype=torch.float64, requires_grad=True)
    if "old_value" in options:
        options["old_values"] = torch.tensor([[options.pop("old_value")]], dtype=torch.float64)
    loss = value_loss_per_token(values, torch.tensor([[target]], dtype=torch.float64), **options)
    return loss.item(), torch.autograd.grad(loss.sum(), values)[0].item()


def ragged(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    values, returns, old_values = (torch.randn(3, 3, generator=generator, dtype=dtype) for _ in range(3))
    return {"values": values.requires_grad_(), "returns": returns, "old_values": old_values}


def test_the_rounding_of_the_width_is_part_of_the_bound():
    """0.7 in fp32 is smaller than 0.7, and V lies between the two lower ends of the clip: the exact loss is 0."""
    old_values, values = torch.tensor([[0.7]]), torch.tensor([[-1e-9]])
    loss = value_loss_per_token(values, values.clone(), old_values=old_values, clip=0.7).item()
    assert old_values.item() - 0.7 < values.item() < 0
    assert 0 < loss <= 4 * (2**-24 * (old_values.item() + 0.7)) ** 2


@pytest.mark.parametrize(
    ("value", "target", "options", "loss", "slope"),
    [
        (3.0, 1.0, {}, 2.0, 2.0),
        (-1.0, 1.0, {}, 2.0, -2.0),
        # Inside the clip: the same.
        (3.0, 1.0, {"old_value": 2.5, "clip": 1.0}, 2.0, 2.0),
        # Above the clip and above the target: further away than the clipped one, so the unclipped one counts.
        (3.0, 1.0, {"old_value": 1.5, "clip": 0.5}, 2.0, 2.0),
        # Moved further towards the target than the clip allows: the clipped one counts, and does not move.
        (3.0, 5.0, {"old_value": 0.0, "clip": 1.0}, 8.0, 0.0),
        (3.0, 1.0, {"old_value": 6.0, "clip": 1.0}, 8.0, 0.0),
        # Past the target by less than the clipped one falls short of it, and by more.
        (3.0, 2.5, {"old_value": 0.0, "clip": 1.0}, 1.125, 0.0),
        (3.0, 1.5, {"old_value": 0.0, "clip": 1.0}, 1.125, 1.5),
    ],
)
def test_by_hand(value, target, options, loss, slope):
    assert at(value, target, **options) == pytest.approx((loss, slope))


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (1.0, 5.0),  # at the edge of the clip
        (3.0, 2.0),  # beyond it, both one away from the target
        (-1.0, -5.0),
    ],
)
def test_where_the_squares_are_equal_the_slope_is_the_unclipped_one(value, target):
    error = value - target
    assert at(value, target, old_value=0.0, clip=1.0) == (error * error / 2, error)


@pytest.mark.parametrize("value", [200.0, -1e30, LARGEST, -LARGEST])
@pytest.mark.parametrize("target", [0.0, LARGEST])
@pytest.mark.parametrize("clip", [None, 0.2])
def test_gradients_are_finite_for_every_value(value, target, clip):
    values = torch.full((2, 3), value, requires_grad=True)
    old_values = None if clip is None else torch.full((2, 3), value)
    output = value_loss(values, torch.full((2, 3), target), ONES, old_values=old_values, clip=clip)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(metric.isfinite() for metric in output.metrics.values())
    assert values.grad.isfinite().all()
    assert (values.grad.sign() == math.copysign(1, value - target) * (value != target)).all()


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, LARGEST])
@pytest.mark.parametrize("position", ["values", "returns", "old_values"])
def test_masked_entries_reach_nothing(hidden, position):
    results = []
    for filled in (0.0, hidden):
        inputs = {name: tensor.detach().clone() for name, tensor in ragged().items()}
        inputs[position] = inputs[position].masked_fill(MASK == 0, filled)
        inputs["values"].requires_grad_()
        output = value_loss(**inputs, mask=MASK, clip=0.1)
        output.loss.backward()
        results.append((output, inputs["values"].grad))
    (clean, clean_gradient), (dirty, dirty_gradient) = results
    assert torch.equal(clean.loss, dirty.loss)
    assert torch.equal(clean.per_token, dirty.per_token)
    assert torch.equal(clean_gradient, dirty_gradient)
    assert clean.metrics == dirty.metrics
    assert (clean.per_token[MASK == 0] == 0).all()
    assert (clean_gradient[MASK == 0] == 0).all()


def test_metrics_by_hand():
    values = torch.tensor([[3.0, 3.0, -0.5, 7.0], [1.0, 9.0, 9.0, 9.0]], requires_grad=True)
    returns = torch.tensor([[5.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    metrics = value_loss(values, returns, mask, old_values=torch.full((2, 4), 0.25), clip=1.0).metrics
    # The first one moved beyond the clip towards its target; the second one away from it.
    assert metrics["clip_fraction"].item() == pytest.approx(1 / 4)
    assert metrics["value_error"].item() == pytest.approx((-2 + 2 - 0.5 + 1) / 4)
    assert all(metric.shape == () and not metric.requires_grad for metric in metrics.values())
    assert value_loss(values, returns, mask).metrics["clip_fraction"].item() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "token_mean", "denominator": 5},
        {"aggregation": "sequence_mean"},
        {"aggregation": "token_sum"},
        {"aggregation": "fixed_length", "max_length": 10, "denominator": 3},
    ],
)
def test_the_loss_is_the_aggregate_of_its_terms(options):
    output = value_loss(**ragged(), mask=MASK, clip=0.2, **options)
    mode = options.pop("aggregation")
    assert torch.equal(output.loss, aggregate(output.per_token, MASK, mode, **options))


@pytest.mark.parametrize("clip", [None, 0.2, 3.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_documented_bound_between_precisions(clip, offset):
    generator = torch.Generator().manual_seed(0)
    values, returns, old_values = (torch.randn(100, 100, generator=generator) + offset for _ in range(3))
    options = {} if clip is None else {"old_values": old_values, "clip": clip}
    result = value_loss_per_token(values, returns, **options)
    exact = value_loss_per_token(values.double(), returns.double(), **options)
    around = 0 if clip is None else old_values.double().abs() + clip
    bound = 4 * 2.0**-24 * (exact + (2 * exact).sqrt() * around)
    assert ((result - exact).abs() <= bound).all()


BAD = [
    (lambda: value_loss(None, TOKENS, ONES), TypeError, "values: got NoneType, expected a tensor"),
    (lambda: value_loss(TOKENS[0], TOKENS, ONES), ValueError, "values: got shape (3,), expected shape (batch, time)"),
    (lambda: value_loss(TOKENS, TOKENS.long(), ONES), TypeError, "returns: got dtype torch.int64, expected a floating"),
    (
        lambda: value_loss_per_token(TOKENS, TOKENS[:1]),
        ValueError,
        "returns: got shape (1, 3), expected (2, 3), the shape of",
    ),
    (lambda: value_loss(TOKENS, TOKENS, ONES[:1]), ValueError, "mask: got shape (1, 3), expected (2, 3), the shape of"),
    (lambda: value_loss(TOKENS, TOKENS, ONES / 2), ValueError, "mask: got the value 0.5, expected only 0 and 1"),
    (
        lambda: value_loss(TOKENS, TOKENS, ONES, old_values=TOKENS[:, :1], clip=1.0),
        ValueError,
        "old_values: got shape (2, 1), expected (2, 3), the shape of values",
    ),
    (
        lambda: value_loss_per_token(TOKENS, TOKENS, old_values=1.0, clip=1.0),
        TypeError,
        "old_values: got float, expected a tensor",
    ),
    (
        lambda: value_loss_per_token(TOKENS, TOKENS, clip=0.2),
        TypeError,
        "old_values: got NoneType, expected a tensor, which clip needs",
    ),
    (
        lambda: value_loss(TOKENS, TOKENS, ONES, old_values=TOKENS),
        ValueError,
        "old_values: got a tensor, expected None without clip, which alone uses it",
    ),
    (
        lambda: value_loss(TOKENS, TOKENS, ONES, old_values=TOKENS, clip=0),
        ValueError,
        "clip: got 0, expected None or a finite number > 0",
    ),
    (
        lambda: value_loss_per_token(TOKENS, TOKENS, old_values=TOKENS, clip=True),
        TypeError,
        "clip: got bool, expected None or a finite number > 0",
    ),
    (lambda: value_loss(TOKENS, TOKENS, ONES, aggregation="mean"), ValueError, "aggregation: got 'mean', expected one"),
    (
        lambda: value_loss(TOKENS, TOKENS, ONES, denominator=0),
        ValueError,
        "denominator: got 0, expected None, a finite",
    ),
    (lambda: value_loss(TOKENS, TOKENS, ONES, max_length=5), ValueError, "max_length: got 5, expected None with"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)
