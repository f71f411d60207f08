"""GRPO and its variants: values and slopes against loops over tokens, masks, and inputs at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import (
    aggregate,
    cispo_loss,
    cispo_per_token,
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
    grpo_per_token,
    gspo_loss,
    gspo_per_sequence,
    ppo_loss,
)

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
TENSORS = ("logps", "old_logps", "advantages", "ref_logps")


def grpo(logps, old_logps, advantages, ref_logps, mask, **options):
    return grpo_loss(logps, old_logps, advantages, mask, ref_logps=ref_logps, **{"kl_coef": 0.5, **options})


def plain(loss):
    """A loss without a reference, in the form of `grpo`."""
    return lambda logps, old_logps, advantages, ref_logps, mask, **options: loss(
        logps, old_logps, advantages, mask, **options
    )


def gspo(logps, old_logps, advantages, ref_logps, mask, **options):
    wide = {"clip_low": 1.0, "clip_high": 9.0}  # so that some slopes are not 0
    return gspo_loss(logps, old_logps, advantages[:, -1], mask, **wide, **options)


def dr_grpo(*tensors, **options):
    return dr_grpo_loss(*tensors, max_length=5, **options)


LOSSES = {"grpo": grpo, "dapo": plain(dapo_loss), "dr_grpo": plain(dr_grpo), "gspo": gspo, "cispo": plain(cispo_loss)}


def ragged(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logps, old_logps, advantages, ref_logps = (
        torch.randn(3, 4, generator=generator, dtype=dtype) for _ in range(len(TENSORS))
    )
    return logps.requires_grad_(), old_logps, advantages, ref_logps


def terms_of(output):
    return output.per_sequence if hasattr(output, "per_sequence") else output.per_token


def clipped(ratio, advantage, low, high):
    """The clipped surrogate and its slope in the log-ratio, region by region."""
    if advantage > 0 and ratio > 1 + high:
        return (1 + high) * advantage, 0.0
    if advantage < 0 and ratio < 1 - low:
        return (1 - low) * advantage, 0.0
    return ratio * advantage, ratio * advantage


def divergence(logp, ref_logp, estimator):
    """The estimate of the KL at one token and its slope in logp."""
    x = logp - ref_logp
    return {"k1": (x, 1.0), "k2": (x * x / 2, x), "k3": (math.exp(-x) - 1 + x, 1 - math.exp(-x))}[estimator]


# -- values and slopes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("clipping", [(0.2, 0.2), (0.1, 0.5), (1.0, 0.0)])
def test_grpo_token_by_token(estimator, clipping):
    logps, old_logps, advantages, ref_logps = ragged(dtype=torch.float64)
    options = {"kl_coef": 0.3, "kl_estimator": estimator, "clip_low": clipping[0], "clip_high": clipping[1]}
    losses = grpo_per_token(logps, old_logps, advantages, ref_logps=ref_logps, **options)
    (slopes,) = torch.autograd.grad(losses.sum(), logps)
    for i in range(3):
        for t in range(4):
            logp, old, advantage, ref = (x[i, t].item() for x in (logps, old_logps, advantages, ref_logps))
            surrogate, surrogate_slope = clipped(math.exp(logp - old), advantage, *clipping)
            k, k_slope = divergence(logp, ref, estimator)
            assert losses[i, t].item() == pytest.approx(-surrogate + 0.3 * k)
            assert slopes[i, t].item() == pytest.approx(-surrogate_slope + 0.3 * k_slope)


def test_the_divergence_is_inside_the_mask_and_the_mean_of_each_sequence():
    logps, old_logps, advantages, ref_logps = ragged(dtype=torch.float64)
    output = grpo(logps, old_logps, advantages, ref_logps, MASK)
    rows, total = [], 0.0
    for i in range(3):
        row = []
        for t in range(4):
            if MASK[i, t]:
                logp, old, advantage, ref = (x[i, t].item() for x in (logps, old_logps, advantages, ref_logps))
                k = divergence(logp, ref, "k3")[0]
                row.append(-clipped(math.exp(logp - old), advantage, 0.2, 0.2)[0] + 0.5 * k)
                total += k
        rows.append(sum(row) / len(row) if row else 0)
    assert output.loss.item() == pytest.approx(sum(rows) / 3)
    assert output.metrics["kl"].item() == pytest.approx(total / 4)
    without = ppo_loss(logps, old_logps, advantages, MASK).metrics
    assert {name: metric for name, metric in output.metrics.items() if name != "kl"} == without


def test_without_a_reference_it_is_ppo_with_the_mean_of_each_sequence():
    logps, old_logps, advantages, _ = ragged()
    ours = grpo_loss(logps, old_logps, advantages, MASK)
    theirs = ppo_loss(logps, old_logps, advantages, MASK, aggregation="sequence_mean")
    assert torch.equal(ours.loss, theirs.loss)
    assert ours.metrics == theirs.metrics


def test_at_the_old_policy_and_the_reference_the_slope_is_that_of_the_mean_advantage():
    logps, _, _, _ = ragged(dtype=torch.float64)
    advantages = torch.tensor([2.0, -1.0, 3.0])
    loss = grpo_loss(logps, logps, advantages, MASK, ref_logps=logps, kl_coef=10.0).loss
    (slopes,) = torch.autograd.grad(loss, logps)
    expected = torch.tensor([[-2 / 9, -2 / 9, 0, -2 / 9], [0, 1 / 3, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(slopes, expected)


def test_dapo_counts_every_token_alike_and_clips_higher():
    ratios = torch.tensor([[1.25, 2.0], [0.5, 9.0]], dtype=torch.float64)
    advantages, mask = torch.tensor([1.0, -1.0]), torch.tensor([[1, 1], [1, 0]])
    output = dapo_loss(ratios.log(), torch.zeros_like(ratios), advantages, mask)
    assert output.loss.item() == pytest.approx((-1.25 - 1.28 + 0.8) / 3)


def test_dr_grpo_divides_every_sequence_by_one_length():
    ratios = torch.tensor([[1.1, 2.0], [0.5, 9.0]], dtype=torch.float64)
    advantages, mask = torch.tensor([1.0, -1.0]), torch.tensor([[1, 1], [1, 0]])
    output = dr_grpo_loss(ratios.log(), torch.zeros_like(ratios), advantages, mask, max_length=10)
    assert output.loss.item() == pytest.approx((-1.1 - 1.2 + 0.8) / (2 * 10))


@pytest.mark.parametrize("clipping", [(0.2, 0.2), (0.0, 1.0), (3e-4, 4e-4)])
@pytest.mark.parametrize("seed", range(5))
def test_gspo_sequence_by_sequence(clipping, seed):
    logps, old_logps, advantages, _ = ragged(seed, dtype=torch.float64)
    options = {"clip_low": clipping[0], "clip_high": clipping[1]}
    losses = gspo_per_sequence(logps, old_logps, advantages[:, 0], MASK, **options)
    (slopes,) = torch.autograd.grad(losses.sum(), logps)
    for i in range(3):
        counted = [t for t in range(4) if MASK[i, t]]
        if not counted:
            assert losses[i].item() == 0
            assert (slopes[i] == 0).all()
            continue
        log_ratio = sum(logps[i, t].item() - old_logps[i, t].item() for t in counted) / len(counted)
        surrogate, slope = clipped(math.exp(log_ratio), advantages[i, 0].item(), *clipping)
        assert losses[i].item() == pytest.approx(-surrogate)
        for t in range(4):
            assert slopes[i, t].item() == pytest.approx(-slope / len(counted) if t in counted else 0)


def test_gspo_metrics_by_hand():
    ratios = torch.tensor([[4.0, 1.0], [0.25, 9.0], [3.0, 3.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1], [1, 0], [0, 0]])
    logps = ratios.log().requires_grad_()
    output = gspo_loss(logps, torch.zeros_like(ratios), torch.tensor([1.0, 1.0, math.nan]), mask, clip_high=0.5)
    # Ratios of the sequences: √(4·1) = 2, clipped at 1.5, and 0.25.
    assert output.loss.item() == pytest.approx(-(1.5 + 0.25) / 3)
    assert {name: metric.item() for name, metric in output.metrics.items()} == pytest.approx(
        {"clip_fraction": 1 / 2, "ratio_mean": 2.25 / 2}
    )
    assert not any(metric.requires_grad for metric in output.metrics.values())


@pytest.mark.parametrize(
    ("ratio", "options", "weight"),
    [
        (2.0, {}, 2.0),
        (9.0, {}, 5.0),
        (0.01, {}, 0.01),
        (9.0, {"clip_high": 0.5}, 1.5),
        (0.01, {"clip_low": 0.25}, 0.75),
        (1.0, {"clip_low": 0.0, "clip_high": 0.0}, 1.0),
    ],
)
@pytest.mark.parametrize("advantage", [2.0, -3.0, 0.0])
def test_cispo_by_hand(ratio, options, weight, advantage):
    logps = torch.tensor([[-0.7]], dtype=torch.float64, requires_grad=True)
    old_logps = logps.detach() - math.log(ratio)
    loss = cispo_per_token(logps, old_logps, torch.tensor([[advantage]]), **options)
    (slope,) = torch.autograd.grad(loss.sum(), logps)
    assert loss.item() == pytest.approx(0.7 * weight * advantage)
    assert slope.item() == pytest.approx(-weight * advantage)


def test_cispo_metrics_by_hand():
    ratios = torch.tensor([[5.5, 1.0, 2.0], [0.5, 0.1, 0.1]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    old_logps = torch.full_like(ratios, -0.75)
    metrics = cispo_loss(old_logps + ratios.log(), old_logps, torch.zeros(2), mask, clip_low=0.25).metrics
    assert metrics["clip_fraction"].item() == pytest.approx(2 / 4)
    assert metrics["ratio_mean"].item() == pytest.approx(9 / 4)
    assert metrics["approx_kl"].item() == pytest.approx((9 - 4 - math.log(5.5)) / 4)


@pytest.mark.parametrize(("ratios", "advantage"), [((1.3, 1.6), 1.0), ((0.8, 0.95), -1.0)])
@pytest.mark.parametrize("loss", [grpo_loss, gspo_loss])
def test_each_side_is_clipped_at_its_own_edge(loss, ratios, advantage):
    """A rising ratio is clipped above 1.5 and a falling one below 0.9: one of each two."""
    logps = torch.tensor(ratios, dtype=torch.float64).log().unsqueeze(1)
    advantages, mask = torch.full((2,), advantage), torch.ones(2, 1)
    metrics = loss(logps, torch.zeros_like(logps), advantages, mask, clip_low=0.1, clip_high=0.5).metrics
    assert metrics["clip_fraction"].item() == 1 / 2


@pytest.mark.parametrize("advantage", [0.0, 1.0])
def test_a_cispo_token_that_the_policy_forbids(advantage):
    """−∞ times an advantage of 0, or times a weight of 0, is 0."""
    logps = torch.tensor([[-math.inf]], requires_grad=True)
    losses = cispo_per_token(logps, torch.zeros(1, 1), torch.tensor([advantage]))
    losses.sum().backward()
    assert losses.item() == 0
    assert logps.grad.item() == 0


@pytest.mark.parametrize("options", [{"clip_low": 1.5}, {"clip_high": -1.0}])
def test_a_clip_that_is_none_is_refused(options):
    (name,) = options
    for per_token in (grpo_per_token, cispo_per_token):
        with pytest.raises(ValueError, match=f"{name}: got "):
            per_token(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1), **options)


def test_a_cispo_weight_at_the_edge_of_the_clip_is_the_ratio():
    zeros = torch.zeros(1, 2)
    metrics = cispo_loss(zeros, zeros, torch.ones(1), torch.ones(1, 2), clip_low=0.0, clip_high=0.0).metrics
    assert metrics["clip_fraction"].item() == 0


def test_a_cispo_loss_beyond_the_range_saturates_and_keeps_its_slope():
    logps = torch.tensor([[-1e30]], requires_grad=True)
    losses = cispo_per_token(logps, logps.detach(), torch.tensor([1e30]))
    (slope,) = torch.autograd.grad(losses.sum(), logps)
    assert losses.item() == LARGEST * 2.0**-24
    assert slope.item() == pytest.approx(-1e30)


# -- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, LARGEST])
@pytest.mark.parametrize("position", range(len(TENSORS)))
def test_masked_entries_reach_nothing(name, hidden, position):
    results = []
    for value in (0.0, hidden):
        tensors = [tensor.detach().clone() for tensor in ragged()]
        if name == "gspo":
            tensors[2] = tensors[2][:, :1].expand(3, 4)
            behind = (MASK == 0) & ((position != 2) | (MASK.sum(1, keepdim=True) == 0))
        else:
            behind = MASK == 0
        tensors[position] = tensors[position].masked_fill(behind, value)
        tensors[0].requires_grad_()
        output = LOSSES[name](*tensors, MASK)
        output.loss.backward()
        results.append((output, tensors[0].grad))
    (clean, clean_gradient), (dirty, dirty_gradient) = results
    assert torch.equal(clean.loss, dirty.loss)
    assert torch.equal(terms_of(clean), terms_of(dirty))
    assert torch.equal(clean_gradient, dirty_gradient)
    assert clean.metrics == dirty.metrics
    assert (terms_of(clean)[MASK.sum(1) == 0 if name == "gspo" else MASK == 0] == 0).all()
    assert (clean_gradient[MASK == 0] == 0).all()
    assert (clean_gradient[MASK == 1] != 0).any()


# -- inputs at the edge of the floats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("log_ratio", [200.0, -200.0, 1e4, -1e4, 1e30, -1e30, LARGEST, -LARGEST])
@pytest.mark.parametrize("advantage", [3.0, -3.0, 0.0])
def test_gradients_are_finite_for_every_log_ratio(name, log_ratio, advantage):
    logps = torch.full((2, 3), log_ratio, requires_grad=True)
    zeros, mask = torch.zeros(2, 3), torch.ones(2, 3)
    output = LOSSES[name](logps, zeros, torch.full((2, 3), advantage), zeros, mask)
    output.loss.backward()
    assert terms_of(output).isfinite().all()
    assert output.loss.isfinite()
    assert logps.grad.isfinite().all()
    assert all(metric.isfinite() for metric in output.metrics.values())


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("distance", [200.0, -200.0, 1e30, -1e30, LARGEST, -LARGEST])
def test_the_divergence_saturates_and_keeps_its_slope(estimator, distance):
    logps = torch.tensor([[distance]], requires_grad=True)
    tensors = (logps, logps.detach(), torch.zeros(1, 1))
    losses = grpo_per_token(*tensors, ref_logps=torch.zeros(1, 1), kl_coef=2.0, kl_estimator=estimator)
    (slope,) = torch.autograd.grad(losses.sum(), logps)
    assert losses.isfinite().all()
    assert slope.isfinite().all()
    expected = {"k1": 2, "k2": 2 * min(abs(distance), 2e31) * (1 if distance > 0 else -1)}
    expected["k3"] = 2 if distance > 0 else -4e31
    assert slope.item() == pytest.approx(expected[estimator], rel=0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_large_coefficient_saturates_the_divergence_and_not_its_slope(sign):
    logps = torch.tensor([[sign * 1e30]], requires_grad=True)
    zero, tensors = torch.zeros(1, 1), (logps, logps.detach(), torch.zeros(1, 1))
    losses = grpo_per_token(*tensors, ref_logps=zero, kl_coef=1e30, kl_estimator="k1")
    (slope,) = torch.autograd.grad(losses.sum(), logps)
    assert losses.item() == sign * LARGEST * 2.0**-24
    assert slope.item() == pytest.approx(1e30)


@pytest.mark.parametrize("pair", [(LARGEST, -LARGEST), (-LARGEST, LARGEST)])
@pytest.mark.parametrize("name", LOSSES)
def test_the_difference_of_two_largest_floats_saturates(name, pair):
    logps = torch.full((1, 2), pair[0], requires_grad=True)
    other = torch.full((1, 2), pair[1])
    output = LOSSES[name](logps, other, -torch.ones(1, 2), other, torch.ones(1, 2))
    output.loss.backward()
    assert output.loss.isfinite()
    assert logps.grad.isfinite().all()


def test_gspo_with_log_ratios_that_cancel():
    logps = torch.tensor([[1e30, -1e30, 0.5, 0.5]], requires_grad=True)
    loss = gspo_loss(logps, torch.zeros(1, 4), torch.ones(1), torch.ones(1, 4)).loss
    (slopes,) = torch.autograd.grad(loss, logps)
    assert loss.isfinite()
    assert slopes.isfinite().all()


def test_gspo_with_log_ratios_whose_infinities_cancel():
    logps = torch.tensor([[LARGEST, -LARGEST]], requires_grad=True)
    loss = gspo_loss(logps, -logps.detach(), torch.ones(1), torch.ones(1, 2)).loss
    (slopes,) = torch.autograd.grad(loss, logps)
    assert loss.item() == -1
    assert slopes.isfinite().all()


def test_a_sequence_without_tokens_reaches_nothing_in_gspo():
    """Whatever its advantage is."""
    logps = torch.tensor([[0.5], [math.nan]], requires_grad=True)
    mask = torch.tensor([[1], [0]])
    terms = gspo_per_sequence(logps, torch.zeros(2, 1), torch.tensor([1.0, math.nan]), mask, clip_high=9.0)
    terms.sum().backward()
    assert terms.tolist() == pytest.approx([-math.exp(0.5), 0])
    assert logps.grad.flatten().tolist() == pytest.approx([-math.exp(0.5), 0])


# -- dtypes, constants, reductions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "token_mean", "denominator": 5},
        {"aggregation": "sequence_mean"},
        {"aggregation": "sequence_sum", "denominator": torch.tensor(2.0)},
        {"aggregation": "token_sum"},
        {"aggregation": "fixed_length", "max_length": 10, "denominator": 3},
    ],
)
@pytest.mark.parametrize("loss", ["grpo", "cispo"])
def test_the_loss_is_the_aggregate_of_its_terms(loss, options):
    output = LOSSES[loss](*ragged(), MASK, **options)
    reduction = {name: value for name, value in options.items() if name != "aggregation"}
    assert torch.equal(output.loss, aggregate(output.per_token, MASK, options["aggregation"], **reduction))


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_with_the_global_denominator_add_up(name):
    tensors = [tensor.detach() for tensor in ragged(dtype=torch.float64)]
    whole = LOSSES[name](*tensors, MASK, denominator=7.0).loss
    parts = [
        LOSSES[name](*(tensor[rows] for tensor in tensors), MASK[rows], denominator=7.0).loss
        for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), whole)


# -- documented bounds ------------------------------------------------------------------------------------------------


def large_batch(spread):
    generator = torch.Generator().manual_seed(0)
    logps = -20 * torch.rand(100, 100, generator=generator)
    old_logps, ref_logps = (logps + spread * torch.randn(100, 100, generator=generator) for _ in range(2))
    return logps, old_logps, torch.randn(100, 100, generator=generator), ref_logps


@pytest.mark.parametrize("spread", [0.001, 1.0, 12.0])
def test_documented_bound_of_grpo_between_precisions(spread):
    logps, old_logps, advantages, ref_logps = large_batch(spread)
    wide = [tensor.double() for tensor in (logps, old_logps, advantages, ref_logps)]
    result = grpo_per_token(logps, old_logps, advantages, ref_logps=ref_logps, kl_coef=0.5)
    surrogate = grpo_per_token(*wide[:3])
    exact = grpo_per_token(*wide[:3], ref_logps=wide[3], kl_coef=0.5)
    d = wide[3] - wide[0]
    first = ((wide[0] - wide[1]).abs() + 1) * surrogate.abs()
    second = 0.5 * (d.abs() + 2) * (d.exp() + d.abs() + 1)
    assert ((result - exact).abs() <= 4 * 2.0**-24 * (first + second)).all()


@pytest.mark.parametrize("spread", [0.001, 1.0, 12.0])
def test_documented_bound_of_gspo_between_precisions(spread):
    logps, old_logps, advantages, _ = large_batch(spread)
    mask = torch.rand(100, 100, generator=torch.Generator().manual_seed(1)) < 0.7
    result = gspo_per_sequence(logps, old_logps, advantages[:, 0], mask, clip_low=1.0, clip_high=1e9)
    wide = [tensor.double() for tensor in (logps, old_logps, advantages[:, 0])]
    exact = gspo_per_sequence(*wide, mask, clip_low=1.0, clip_high=1e9)
    mean = ((wide[0] - wide[1]).abs() * mask).sum(1) / mask.sum(1)
    assert ((result - exact).abs() <= 4 * 2.0**-24 * (mean + 1) * exact.abs()).all()


@pytest.mark.parametrize("spread", [0.001, 1.0, 12.0])
def test_documented_bound_of_cispo_between_precisions(spread):
    logps, old_logps, advantages, _ = large_batch(spread)
    result = cispo_per_token(logps, old_logps, advantages)
    exact = cispo_per_token(logps.double(), old_logps.double(), advantages.double())
    bound = 4 * 2.0**-24 * ((logps.double() - old_logps).abs() + 1) * exact.abs()
    assert ((result - exact).abs() <= bound).all()
