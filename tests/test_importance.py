"""Importance weights: numbers worked out by hand, log-probabilities at the edge of the floats, and wrong arguments."""

import math

import pytest
import torch

import grape_verified
from grape_verified import importance_metrics, importance_weights, sequence_filter

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


POLICY_LOSSES = {
    "reinforce": (lambda logps, old, gains: grape_verified.reinforce_per_token(logps, gains), {}),
    "trpo": (grape_verified.trpo_per_token, {}),
    "ppo": (grape_verified.ppo_per_token, {}),
    "ppo with the dual clip": (grape_verified.ppo_per_token, {"dual_clip": 3.0}),
    "grpo": (grape_verified.grpo_per_token, {}),
    "cispo": (grape_verified.cispo_per_token, {}),
    "sapo": (grape_verified.sapo_per_token, {}),
}


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_a_weight_is_a_factor_of_the_loss_of_a_token_or_of_its_advantage(name):
    """`importance.weighted_loss`, in value and slope."""
    loss, options = POLICY_LOSSES[name]
    generator = torch.Generator().manual_seed(0)
    old_logps, noise, gains = torch.randn(3, 40, 50, generator=generator, dtype=torch.float64).unbind()
    weights = importance_weights(old_logps, old_logps - noise.flip(0), torch.ones(40, 50), outside="mask")
    assert 0.1 < (weights == 0).double().mean() < 0.5
    found = []
    for outer, inner in ((weights, 1), (1, weights)):
        logps = (old_logps + noise).requires_grad_()
        per_token = outer * loss(logps, old_logps, inner * gains, **options)
        found.append((per_token, *torch.autograd.grad(per_token.sum(), logps)))
    for on_loss, on_advantage in zip(*found, strict=True):
        torch.testing.assert_close(on_loss, on_advantage)


def metrics_of(*ratios, mask=None, **options):
    """The metrics of one sequence, given the ratio of each of its tokens."""
    logs = torch.tensor([ratios], dtype=torch.float64).log()
    keep = torch.ones_like(logs) if mask is None else torch.tensor([mask])
    found = importance_metrics(logs, torch.zeros_like(logs), keep, **options)
    return {name: x.item() for name, x in found.items()}


def test_metrics_by_hand():
    assert metrics_of(0.5, 1.5, 4.0) == pytest.approx(
        {
            "ratio_mean": 2.0,
            "chi_squared": (0.25 + 0.25 + 9) / 3,
            "mismatch_kl": 1 - math.log(3) / 3,
            "effective_share": 36 / (3 * 18.5),
            "outside": 1 / 3,
        }
    )
    assert metrics_of(0.5, 1.5, 4.0, low=0.75, high=1.5)["outside"] == pytest.approx(2 / 3)
    assert metrics_of(2.0, 9.0, 0.5, mask=[1, 0, 1]) == pytest.approx(
        {"ratio_mean": 1.25, "chi_squared": 0.625, "mismatch_kl": 0.25, "effective_share": 6.25 / 8.5, "outside": 0.0}
    )


def test_metrics_of_sequences_leave_out_those_without_tokens():
    logs = torch.tensor([[0.5, 3.0], [2.0, 2.0], [7.0, 7.0]], dtype=torch.float64).log()
    mask = torch.tensor([[1, 0], [1, 1], [0, 0]])
    found = importance_metrics(logs, 0 * logs, mask, level="sequence", high=3.0)
    assert found["ratio_mean"].item() == pytest.approx((0.5 + 4) / 2)
    assert found["chi_squared"].item() == pytest.approx((0.25 + 9) / 2)
    assert found["mismatch_kl"].item() == pytest.approx((4.5 - 2 - math.log(2)) / 2)
    assert found["effective_share"].item() == pytest.approx(4.5**2 / (2 * 16.25))
    assert found["outside"].item() == pytest.approx(0.5)


def test_metrics_on_policy():
    assert metrics_of(1.0, 1.0, 1.0) == {
        "ratio_mean": 1.0, "chi_squared": 0.0, "mismatch_kl": 0.0, "effective_share": 1.0, "outside": 0.0,
    }  # fmt: skip


def test_metrics_of_one_sample():
    assert metrics_of(4.0) == pytest.approx(
        {"ratio_mean": 4, "chi_squared": 9, "mismatch_kl": 3 - math.log(4), "effective_share": 1, "outside": 1}
    )


def test_a_log_ratio_counts_as_no_more_than_half_of_what_exp_takes():
    found = importance_metrics(torch.tensor([[50.0]]), torch.zeros(1, 1), ONES[:, :1])
    assert found["ratio_mean"].item() == pytest.approx(math.sqrt(LARGEST * 2.0**-24), rel=1e-4)
    assert found["chi_squared"].item() == pytest.approx(LARGEST * 2.0**-24, rel=1e-4)


def test_metrics_are_constants():
    logps = torch.zeros(1, 3, requires_grad=True)
    assert not any(x.requires_grad for x in importance_metrics(logps, logps, ONES).values())


@pytest.mark.parametrize("shift", [-300.0, -100.0, 0.0, 100.0, 300.0])
def test_the_effective_share_does_not_depend_on_a_common_factor(shift):
    logs, mask = torch.tensor([[0.5, 1.5, 4.0, 1.0]]).log() + shift, torch.tensor([[1, 1, 1, 0]])
    found = importance_metrics(logs, 0 * logs, mask)
    torch.testing.assert_close(found["effective_share"].item(), 36 / (3 * 18.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("old_logp", [-1.0, LARGEST, INF, -LARGEST])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_metrics_are_finite_for_every_ratio(old_logp, level):
    found = importance_metrics(torch.tensor([[old_logp, -1.0, -1.0]]), -ONES, ONES, level=level)
    assert all(x.isfinite() for x in found.values())
    assert found["mismatch_kl"] >= 0
    assert 0 <= found["effective_share"] <= 1.0001


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("spread", [1e-3, 0.3, 1.0])
def test_metrics_keep_the_bound_of_the_docstring(dtype, level, spread):
    generator = torch.Generator().manual_seed(0)
    sampler_logps = -torch.rand(8, 40, generator=generator) * 5
    old_logps = (sampler_logps + spread * torch.randn(8, 40, generator=generator)).to(dtype)
    sampler_logps, mask = sampler_logps.to(dtype), torch.rand(8, 40, generator=generator) < 0.7
    found = importance_metrics(old_logps, sampler_logps, mask, level=level)
    logs = (old_logps.double() - sampler_logps.double()) * mask
    reach = (mask.sum(1) * logs.abs().sum(1)).max() if level == "sequence" else logs.abs().max()
    logs = logs.sum(1) if level == "sequence" else logs[mask]
    ratios, unit = logs.exp(), torch.finfo(torch.float32).eps / 2
    mean, share = ratios.mean(), ratios.sum() ** 2 / (len(logs) * ratios.square().sum())
    exact = {
        "ratio_mean": (mean, mean),
        "chi_squared": ((ratios - 1).square().mean(), (ratios + 1).square().mean()),
        "mismatch_kl": ((logs.expm1() - logs).mean(), (ratios + 1 + logs.abs()).mean()),
        "effective_share": (share, share),
    }
    for name, (value, scale) in exact.items():
        bound = 8 * unit * (reach + math.log2(len(logs)) + 4) * scale
        assert abs(found[name] - value) <= bound, name


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0)])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_metrics_without_tokens_are_0(shape, level):
    found = importance_metrics(torch.full(shape, NAN), torch.ones(shape), torch.zeros(shape), level=level)
    assert [x.item() for x in found.values()] == [0.0] * 5


def test_a_missing_log_probability_shows_in_the_metrics():
    found = importance_metrics(torch.tensor([[NAN, -1.0, -1.0]]), -ONES, ONES)
    assert all(found[name].isnan() for name in ("ratio_mean", "chi_squared", "mismatch_kl", "effective_share"))


STATISTICS = {
    "geometric": lambda logs: math.exp(math.fsum(logs) / len(logs)),
    "product": lambda logs: math.exp(math.fsum(logs)),
    "max": lambda logs: math.exp(max(logs)),
    "k3": lambda logs: math.fsum(math.expm1(d) - d for d in logs) / len(logs),
}


def kept(*ratios, mask=None, **options):
    """Whether a filter keeps one sequence, given the ratio of each of its tokens."""
    logs = torch.tensor([ratios], dtype=torch.float64).log()
    keep = torch.ones_like(logs) if mask is None else torch.tensor([mask])
    return sequence_filter(logs, torch.zeros_like(logs), keep, **options).tolist()


@pytest.mark.parametrize(
    ("statistic", "value"),
    [("geometric", 1.0), ("product", 1.0), ("max", 4.0), ("k3", 1.125)],  # (4 + ¼ − 2) / 2, as log 4 + log ¼ = 0
)
def test_the_statistic_of_a_ratio_of_4_and_one_of_a_quarter(statistic, value):
    for low, high, inside in ((value - 0.1, value + 0.1, 1.0), (0.0, value - 0.1, 0.0), (value + 0.1, math.inf, 0.0)):
        assert kept(4.0, 0.25, statistic=statistic, low=low, high=high) == [inside]


@pytest.mark.parametrize(
    ("statistic", "value"),
    [("geometric", 2.0), ("product", 4.0), ("max", 4.0), ("k3", (5 - 2 - math.log(4)) / 2)],
)
def test_masked_tokens_are_in_no_statistic(statistic, value):
    ratios, mask = (4.0, 50.0, 1.0), [1, 0, 1]
    assert kept(*ratios, mask=mask, statistic=statistic, low=value - 0.01, high=value + 0.01) == [1.0]
    assert kept(*ratios, mask=mask, statistic=statistic, low=value + 0.01, high=value + 0.02) == [0.0]


def test_a_masked_token_is_not_the_largest():
    assert kept(0.5, 1.0, 0.25, mask=[1, 0, 1], statistic="max", low=0.4, high=0.6) == [1.0]


@pytest.mark.parametrize("statistic", ["geometric", "product", "max"])
def test_an_end_is_kept(statistic):
    assert kept(1.0, 1.0, statistic=statistic, low=1.0, high=1.0) == [1.0]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_of_one_token_every_statistic_is_of_its_ratio(statistic):
    """`importance.filter.statistics`."""
    value = 2 - 1 - math.log(2) if statistic == "k3" else 2.0
    assert kept(2.0, statistic=statistic, low=value - 1e-9, high=value + 1e-9) == [1.0]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_sequence_without_tokens_is_not_kept(statistic):
    assert kept(1.0, 1.0, mask=[0, 0], statistic=statistic, high=math.inf) == [0.0]
    for shape in ((0, 3), (2, 0)):
        empty = torch.zeros(shape)
        assert sequence_filter(empty, empty, empty, statistic=statistic, high=2.0).tolist() == [0.0] * shape[0]


@pytest.mark.parametrize(
    ("old_logp", "sampler_logp", "statistic", "found"),
    [
        (-1.0, -INF, "geometric", 0.0),
        (-1.0, -INF, "product", 0.0),
        (-1.0, -INF, "max", 0.0),
        (-1.0, -INF, "k3", 0.0),
        (-INF, -1.0, "geometric", 1.0),  # ω = 0, and `low` is 0
        (-INF, -1.0, "max", 1.0),  # the other ratio is 1
        (-INF, -1.0, "k3", 0.0),
        (-INF, -INF, "max", NAN),
        (-INF, -INF, "k3", NAN),
        (NAN, -1.0, "geometric", NAN),
        (-1.0, NAN, "product", NAN),
        (LARGEST, -1.0, "geometric", 0.0),
        (LARGEST, -LARGEST, "k3", 0.0),
        (-LARGEST, -1.0, "k3", 0.0),
    ],
)
def test_filters_of_log_probabilities_without_a_number(old_logp, sampler_logp, statistic, found):
    old_logps, sampler_logps = torch.tensor([[old_logp, -1.0]]), torch.tensor([[sampler_logp, -1.0]])
    keep = sequence_filter(old_logps, sampler_logps, ONES[:, :2], statistic=statistic, high=1e6)
    torch.testing.assert_close(keep, torch.tensor([found]), equal_nan=True)


@pytest.mark.parametrize("statistic", ["geometric", "product"])
def test_a_sequence_with_a_ratio_of_0_and_one_of_infinity_has_no_mean(statistic):
    found = sequence_filter(
        torch.tensor([[-INF, -1.0]]), torch.tensor([[-1.0, -INF]]), ONES[:, :2], statistic=statistic, high=2.0
    )
    assert found.isnan().all()


def test_without_an_upper_end_everything_above_the_lower_one_is_kept():
    assert kept(50.0, statistic="max", low=2.0, high=math.inf) == [1.0]
    assert kept(1.0, statistic="max", low=2.0, high=math.inf) == [0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("spread", [1e-2, 0.3, 1.0])
def test_filters_are_right_away_from_the_ends(dtype, statistic, spread):
    """By the distance that the docstring states."""
    generator = torch.Generator().manual_seed(0)
    sampler_logps = (-torch.rand(400, 40, generator=generator) * 5).to(dtype)
    old_logps = (sampler_logps.float() + spread * torch.randn(400, 40, generator=generator)).to(dtype)
    mask, unit = torch.rand(400, 40, generator=generator) < 0.7, torch.finfo(torch.float32).eps / 2
    rows = [(a - b)[keep].tolist() for a, b, keep in zip(old_logps.double(), sampler_logps.double(), mask, strict=True)]
    exact = [STATISTICS[statistic](logs) for logs in rows]
    low, high = (sorted(exact)[i] for i in (100, 300))
    keep = sequence_filter(old_logps, sampler_logps, mask, statistic=statistic, low=low, high=high)
    outcomes = []
    for logs, value, found in zip(rows, exact, keep.tolist(), strict=True):
        reach, top = sum(map(abs, logs)), math.exp(max(logs))
        near = 4 * unit * (reach + 1) * (top + 1)
        near = 4 * unit * (len(logs) * reach + 1) * value if statistic == "product" else near
        if min(abs(value - low), abs(value - high)) > near:
            assert found == (low <= value <= high)
            outcomes.append(found)
    assert len(outcomes) > 80
    assert 0 < sum(outcomes) < len(outcomes)


def test_the_off_policy_mask_of_deepseek_is_a_filter_and_the_sign_of_the_advantage():
    """`importance.filter.off_policy`, with λ = log 2."""
    logs = torch.tensor([[1.0, 0.5], [0.25, 0.5], [0.25, 0.5], [4.0, 4.0]]).log()
    advantages = torch.tensor([-1.0, -1.0, 1.0, -1.0])
    near = sequence_filter(logs, 0 * logs, torch.ones(4, 2), statistic="geometric", low=0.5, high=math.inf)
    assert torch.where(advantages < 0, near, 1).tolist() == [1.0, 0.0, 1.0, 1.0]


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
    if "outside" not in options:
        with pytest.raises(error, match=f"^{text}$"):
            importance_metrics(ONES, ONES, ONES, **options)


@pytest.mark.parametrize("function", [importance_weights, importance_metrics])
def test_wrong_tensors(function):
    with pytest.raises(
        ValueError, match=r"^sampler_logps: got shape \(3, 1\), expected \(1, 3\), the shape of old_logps$"
    ):
        function(ONES, ONES.T, ONES)
    with pytest.raises(ValueError, match=r"^old_logps: got shape \(3,\), expected shape \(batch, time\)$"):
        function(ONES[0], ONES[0], ONES[0])
    with pytest.raises(ValueError, match=r"^mask: got the value 0.5, expected only 0 and 1$"):
        function(ONES, ONES, ONES / 2)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"statistic": "mean"},
            ValueError,
            "statistic: got 'mean', expected one of 'geometric', 'product', 'max', 'k3'",
        ),
        ({"low": 3.0}, ValueError, "low: got 3.0, expected a number that is at most high, 2.0"),
        ({"low": INF}, ValueError, "low: got inf, expected a finite number >= 0"),
        ({"high": 0.0}, ValueError, "high: got 0.0, expected a number > 0"),
        ({"high": NAN}, ValueError, "high: got nan, expected a number > 0"),
        ({"high": "2"}, TypeError, "high: got str, expected a number > 0"),
    ],
)
def test_wrong_options_of_a_filter(options, error, text):
    with pytest.raises(error, match=f"^{text}$"):
        sequence_filter(ONES, ONES, ONES, **{"statistic": "geometric", "high": 2.0, **options})


def test_wrong_tensors_of_a_filter():
    with pytest.raises(ValueError, match=r"^mask: got the value 0.5, expected only 0 and 1$"):
        sequence_filter(ONES, ONES, ONES / 2, statistic="geometric", high=2.0)
    with pytest.raises(ValueError, match=r"^sampler_logps: got shape \(3, 1\), expected \(1, 3\)"):
        sequence_filter(ONES, ONES.T, ONES, statistic="geometric", high=2.0)


def test_decoupled_ppo_has_the_slope_of_the_ratio_to_the_sampler_inside_the_clip():
    """`importance.decoupled.gradient`, with weights of ½ and 3, and a token past the upper edge."""
    sampler_logps = torch.tensor([[-1.0, -1.0, -1.0]])
    old_logps = sampler_logps + torch.tensor([[0.5, 3.0, 3.0]]).log()
    logps = (old_logps + torch.tensor([[1.1, 0.9, 1.5]]).log()).requires_grad_()
    weights = importance_weights(old_logps, sampler_logps, ONES, high=10.0)
    per_token = grape_verified.ppo_per_token(logps, old_logps, weights * ONES)
    (slopes,) = torch.autograd.grad(per_token.sum(), logps)
    torch.testing.assert_close(slopes, -torch.tensor([[0.55, 2.7, 0.0]]))
    torch.testing.assert_close(per_token.detach(), -torch.tensor([[0.55, 2.7, 3.6]]))
