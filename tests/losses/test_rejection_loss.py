"""Rejection sampling: which samples are kept and their weights, denominators, and inputs at the edge of the floats."""

import math
from fractions import Fraction

import pytest
import torch

from grape_verified import (
    acceptance_probabilities,
    acceptance_weights,
    best_of_n_weights,
    rejection_sampling_loss,
    sft_loss,
    threshold_weights,
)

LARGEST = torch.finfo(torch.float32).max
INF = math.inf

# Two groups of three: one best; two that share; the last row has no tokens.
REWARDS = torch.tensor([0.25, 1.0, -3.0, 2.0, 2.0, 9.0])
MASK = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
WEIGHTS = [0, 1, 0, 0.5, 0.5, 0]

MODES = [
    {},
    {"aggregation": "token_mean", "denominator": 5},
    {"aggregation": "sequence_mean"},
    {"aggregation": "sequence_mean", "denominator": torch.tensor(7)},
    {"aggregation": "sequence_sum"},
    {"aggregation": "token_sum"},
    {"aggregation": "fixed_length", "max_length": 4},
]


def logps_of(seed=0, dtype=torch.float32, rows=6):
    generator = torch.Generator().manual_seed(seed)
    return (-20 * torch.rand(rows, 3, generator=generator, dtype=dtype)).requires_grad_()


def expected_weights(rewards, lengths, group_size):
    """The weights of best of n among the rows that have tokens, one row after the other."""
    weights = []
    for i in range(len(rewards)):
        first = i - i % group_size
        group = [rewards[j] for j in range(first, first + group_size) if lengths[j]]
        best = [reward for reward in group if reward == max(group)]
        weights.append(1 / len(best) if lengths[i] and rewards[i] == max(group) else 0.0)
    return weights


def expected_loss(logps, weights, mask, aggregation="token_mean", denominator=None, max_length=None):
    """The loss and its slopes, one token after the other."""
    lengths = [sum(row) for row in mask]
    counts = {
        "token_mean": sum(w * n for w, n in zip(weights, lengths, strict=True)),
        "token_sum": 1,
    }
    divisor = counts.get(aggregation, sum(weights)) if denominator is None else float(denominator)
    loss, slopes = 0.0, [[0.0] * len(row) for row in mask]
    for i, row in enumerate(mask):
        for t, counts_here in enumerate(row):
            if counts_here and weights[i]:
                own = {"sequence_mean": lengths[i], "fixed_length": max_length}.get(aggregation, 1)
                slopes[i][t] = -weights[i] / (own * divisor)
                loss += slopes[i][t] * logps[i][t]
    return loss, slopes


def test_best_of_n_by_hand():
    rewards = torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0, 4.0, -1.0, -1.0, -1.0])
    weights = best_of_n_weights(rewards, 3)
    torch.testing.assert_close(weights, torch.tensor([0, 1, 0, 0.5, 0.5, 0, 1 / 3, 1 / 3, 1 / 3]))
    assert torch.equal(best_of_n_weights(rewards, 1), torch.ones(9))
    assert best_of_n_weights(rewards, 9).tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rewards_are_compared_in_their_own_dtype(dtype):
    one = torch.tensor(1.0, dtype=dtype)
    larger = torch.nextafter(one, one + 1) if dtype.itemsize > 2 else one + torch.finfo(dtype).eps
    weights = best_of_n_weights(torch.stack([one, larger]), 2)
    assert weights.tolist() == [0, 1]
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    rewards = torch.stack([one, larger]).requires_grad_()
    output = rejection_sampling_loss(torch.full((2, 1), -2.0), rewards, torch.ones(2, 1), group_size=2)
    assert output.per_token.tolist() == [[0], [2]]
    assert not best_of_n_weights(rewards, 2).requires_grad


def test_rewards_of_any_finite_size():
    smallest = 2.0**-149
    rewards = torch.tensor([LARGEST, -LARGEST, 0.0, smallest, -smallest, -LARGEST])
    assert best_of_n_weights(rewards, 2).tolist() == [1, 0, 0, 1, 1, 0]
    assert threshold_weights(rewards, 0).tolist() == [1, 0, 1, 1, 0, 0]
    probabilities = acceptance_probabilities(rewards[1:], beta=1e3, max_reward=1e37)
    assert probabilities.tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.1, 0.7, 1 / 3])
def test_a_reward_at_the_threshold_is_kept_in_every_dtype(dtype, threshold):
    at = torch.tensor([threshold], dtype=dtype)
    below, above = at - 2 * torch.finfo(dtype).eps, at + 2 * torch.finfo(dtype).eps
    weights = threshold_weights(torch.cat([below, at, above]), threshold)
    assert weights.tolist() == [0, 1, 1]
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("threshold", [math.nan, INF, -INF])
def test_a_threshold_is_finite(threshold):
    with pytest.raises(ValueError, match=f"threshold: got {threshold}, expected a finite number"):
        threshold_weights(torch.zeros(2), threshold)


def test_thresholds_that_the_dtype_of_the_rewards_cannot_hold():
    rewards = torch.tensor([-65504.0, 65504.0], dtype=torch.float16)
    assert threshold_weights(rewards, 1e6).tolist() == [0, 0]
    assert threshold_weights(rewards, -1e6).tolist() == [1, 1]


def test_acceptance_by_hand():
    rewards = torch.tensor([2.0, 1.0, 2 - 0.5 * math.log(4)], dtype=torch.float64)
    probabilities = acceptance_probabilities(rewards, beta=0.5, max_reward=2)
    assert probabilities.tolist() == pytest.approx([1, math.exp(-2), 1 / 4])
    uniforms = torch.tensor([0.999, 0.14, 0.25 - 1e-9], dtype=torch.float64)
    assert acceptance_weights(rewards, uniforms, beta=0.5, max_reward=2).tolist() == [1, 0, 1]
    # At the probability itself a sample is refused: u < 0 never holds, and u < 1 always.
    at = acceptance_probabilities(rewards, beta=0.5, max_reward=2.5)
    assert acceptance_weights(rewards, at, beta=0.5, max_reward=2.5).tolist() == [0, 0, 0]
    never = acceptance_weights(torch.tensor([-1e30]), torch.tensor([0.0]), beta=1.0, max_reward=0.0)
    assert never.tolist() == [0]


def test_accepted_samples_follow_the_tilted_policy():
    policy, values = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.0, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(policy, 200_000, replacement=True, generator=generator)
    uniforms = torch.rand(200_000, generator=generator)
    weights = acceptance_weights(values[drawn], uniforms, beta=0.8, max_reward=2.0)
    shares = torch.stack([weights[drawn == y].sum() for y in range(3)]) / weights.sum()
    tilted = [p * math.exp(r / 0.8) for p, r in zip(policy.tolist(), values.tolist(), strict=True)]
    # Five standard deviations of a share.
    spread = 5 / math.sqrt(weights.sum().item()) / 2
    assert shares.tolist() == pytest.approx([mass / sum(tilted) for mass in tilted], abs=spread)
    rate = sum(tilted) * math.exp(-2.0 / 0.8)
    assert weights.mean().item() == pytest.approx(rate, abs=5 / math.sqrt(200_000) / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_reward_is_always_accepted(dtype):
    for value in (0.1, 0.7, 1 / 3, -0.1, 1e4 / 3):
        rewards = torch.tensor([value], dtype=dtype).requires_grad_()
        probabilities = acceptance_probabilities(rewards, beta=1e-3, max_reward=value)
        assert (probabilities <= 1).all()
        assert not probabilities.requires_grad
        difference = min(rewards.item() - value, 0.0)
        tolerance = 4 * 2.0**-24 * (2 * abs(value) / 1e-3 + 1)
        assert probabilities.item() == pytest.approx(math.exp(difference / 1e-3), rel=tolerance)


@pytest.mark.parametrize("beta", [0.01, 1.0, 30.0])
def test_documented_bound_of_acceptance(beta):
    generator = torch.Generator().manual_seed(0)
    rewards = -10 * torch.rand(100_000, generator=generator) + 3
    result = acceptance_probabilities(rewards, beta=beta, max_reward=3.1)
    exact = torch.exp((rewards.double() - 3.1) / beta)
    in_range = exact > 1e-30
    bound = 4 * 2.0**-24 * ((rewards.double().abs() + 3.1) / beta + 1) * exact
    assert ((result - exact).abs() <= bound)[in_range].all()


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_best_of_n_against_loops(options, seed):
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randint(3, (12,), generator=generator).float()
    mask = (torch.rand(12, 3, generator=generator) < 0.5).long()
    logps = logps_of(seed, torch.float64, rows=12)
    output = rejection_sampling_loss(logps, rewards, mask, group_size=4, **options)
    (gradient,) = torch.autograd.grad(output.loss, logps)
    weights = expected_weights(rewards.tolist(), mask.sum(1).tolist(), 4)
    loss, slopes = expected_loss(logps.tolist(), weights, mask.tolist(), **options)
    assert output.loss.item() == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(gradient, torch.tensor(slopes, dtype=torch.float64))


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize("threshold", [-10.0, 0.25, 2.0, 2.5])
def test_threshold_against_loops(options, threshold):
    logps = logps_of(dtype=torch.float64)
    output = rejection_sampling_loss(logps, REWARDS, MASK, keep="threshold", threshold=threshold, **options)
    (gradient,) = torch.autograd.grad(output.loss, logps)
    weights = [
        float(reward >= threshold and row != [0, 0, 0]) for reward, row in zip(REWARDS, MASK.tolist(), strict=True)
    ]
    if not any(weights):
        assert (output.loss.item(), gradient.abs().sum().item()) == (0, 0)
        return
    loss, slopes = expected_loss(logps.tolist(), weights, MASK.tolist(), **options)
    assert output.loss.item() == pytest.approx(loss)
    torch.testing.assert_close(gradient, torch.tensor(slopes, dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"aggregation": "sequence_mean"}, {"aggregation": "sequence_sum"}])
def test_without_ties_it_is_supervised_fine_tuning_on_what_is_kept(options):
    logps, rewards = logps_of(dtype=torch.float64), torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0, 5.0])
    best = rejection_sampling_loss(logps, rewards, MASK, group_size=2, **options)
    kept = [1, 2, 4]  # the last row has no tokens, and so its rival is kept
    torch.testing.assert_close(best.loss, sft_loss(logps[kept], MASK[kept], **options).loss)
    above = rejection_sampling_loss(logps, rewards, MASK, keep="threshold", threshold=1.5, **options)
    kept = [1, 2]
    torch.testing.assert_close(above.loss, sft_loss(logps[kept], MASK[kept], **options).loss)


@pytest.mark.parametrize(
    ("options", "shared"),
    [
        ({}, 2 + 0.5 + 1.5),
        ({"aggregation": "sequence_mean"}, 2),
        ({"aggregation": "sequence_sum"}, 2),
        ({"aggregation": "token_sum"}, None),
        ({"aggregation": "fixed_length", "max_length": 3}, 2),
    ],
)
def test_micro_batches_with_the_global_denominator_add_up(options, shared):
    logps = logps_of(dtype=torch.float64)
    whole = rejection_sampling_loss(logps, REWARDS, MASK, group_size=3, **options).loss
    parts = sum(
        rejection_sampling_loss(
            logps[rows], REWARDS[rows], MASK[rows], group_size=3, denominator=shared, **options
        ).loss
        for rows in (slice(0, 3), slice(3, 6))
    )
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logps)[0] for loss in (parts, whole)))


def test_loss_and_metrics_by_hand():
    output = rejection_sampling_loss(torch.full((6, 3), -2.0), REWARDS, MASK, group_size=3)
    rows = [[0, 0, 0], [2, 0, 2], [0, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert output.per_token.tolist() == rows
    assert output.loss.item() == pytest.approx(2)
    assert {name: metric.item() for name, metric in output.metrics.items()} == pytest.approx(
        {"kept_fraction": 3 / 5, "reward": 2.25 / 5, "kept_reward": (1 + 2) / 2}
    )
    assert all(metric.shape == () and not metric.requires_grad for metric in output.metrics.values())


def test_metrics_of_a_single_sample_and_of_rewards_that_carry_a_gradient():
    rewards = torch.tensor([3.0, 9.0], requires_grad=True)
    metrics = rejection_sampling_loss(torch.zeros(2, 1), rewards, torch.tensor([[1], [0]]), group_size=2).metrics
    assert {name: metric.item() for name, metric in metrics.items()} == {
        "kept_fraction": 1, "reward": 3, "kept_reward": 3
    }  # fmt: skip
    assert not any(metric.requires_grad for metric in metrics.values())


@pytest.mark.parametrize("mode", ["token_mean", "sequence_mean", "sequence_sum", "token_sum"])
@pytest.mark.parametrize("shape", [(6, 2**14), (3 * 2**12, 32)])
def test_documented_bound(mode, shape):
    generator = torch.Generator().manual_seed(0)
    logps = -20 * torch.rand(shape, generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.6
    rewards = torch.randint(2, shape[:1], generator=generator).float()
    options = {"group_size": 6, "aggregation": mode}
    exact = rejection_sampling_loss(logps.double(), rewards, mask, **options).loss
    error = (rejection_sampling_loss(logps, rewards, mask, **options).loss - exact).abs()
    assert error <= 12 * 2.0**-24 * exact


@pytest.mark.parametrize("hidden", [math.nan, INF, -INF, LARGEST])
@pytest.mark.parametrize(
    ("options", "kept"),
    [({"group_size": 3}, [1, 3, 4]), ({"keep": "threshold", "threshold": 0.25}, [0, 1, 3, 4])],
)
def test_what_is_masked_or_not_kept_reaches_nothing(hidden, options, kept):
    results = []
    for value in (0.0, hidden):
        read = torch.zeros_like(MASK)
        read[kept] = MASK[kept]
        logps = logps_of().detach().masked_fill(read == 0, value).requires_grad_()
        rewards = REWARDS.masked_fill(~MASK.any(1), value)
        output = rejection_sampling_loss(logps, rewards, MASK, **options)
        output.loss.backward()
        results.append((output, logps.grad))
    (clean, clean_gradient), (dirty, dirty_gradient) = results
    assert clean.loss.item() > 0
    assert torch.equal(clean.loss, dirty.loss)
    assert torch.equal(clean.per_token, dirty.per_token)
    assert torch.equal(clean_gradient, dirty_gradient)
    assert clean.metrics == dirty.metrics


@pytest.mark.parametrize("options", [{"group_size": 1}, {"group_size": 2}, {"keep": "threshold", "threshold": -1.0}])
@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "sequence_sum", "token_sum"])
def test_nothing_kept_is_zero_with_zero_gradients(options, aggregation):
    logps = torch.full((2, 3), math.nan, requires_grad=True)
    rewards = torch.full((2,), math.nan)
    output = rejection_sampling_loss(logps, rewards, torch.zeros(2, 3), aggregation=aggregation, **options)
    output.loss.backward()
    assert output.loss.item() == 0
    assert torch.equal(logps.grad, torch.zeros(2, 3))
    assert {name: metric.item() for name, metric in output.metrics.items()} == {
        "kept_fraction": 0,
        "reward": 0,
        "kept_reward": 0,
    }


@pytest.mark.parametrize("logp", [-200.0, 200.0, -1e30, -LARGEST, -INF])
@pytest.mark.parametrize("reward", [0.0, LARGEST, -LARGEST])
def test_gradients_are_finite_for_every_log_probability(logp, reward):
    logps = torch.full((4, 3), logp, requires_grad=True)
    rewards = torch.full((4,), reward)
    output = rejection_sampling_loss(logps, rewards, torch.ones(4, 3), group_size=4)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(metric.isfinite() for metric in output.metrics.values())
    torch.testing.assert_close(logps.grad, torch.full((4, 3), -1 / 12))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("reward_dtype", [torch.bfloat16, torch.float64])
def test_dtypes(dtype, reward_dtype):
    logps = logps_of().detach().to(dtype).requires_grad_()
    rewards = REWARDS.to(reward_dtype).requires_grad_()
    output = rejection_sampling_loss(logps, rewards, MASK, group_size=3)
    output.loss.backward()
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert output.loss.dtype == output.per_token.dtype == expected
    assert {metric.dtype for metric in output.metrics.values()} == {expected}
    assert logps.grad.dtype == dtype
    assert rewards.grad is None
    wide = -logps.detach().to(expected) * torch.tensor(WEIGHTS, dtype=expected).unsqueeze(1) * MASK
    assert torch.equal(output.per_token, wide)


@pytest.mark.parametrize("options", [{"group_size": 3}, {"keep": "threshold", "threshold": 1.0}])
def test_gradcheck(options):
    logps = logps_of(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rejection_sampling_loss(x, REWARDS, MASK, **options).loss, logps)


def test_strided_inputs_give_the_same_and_stay_untouched():
    logps = logps_of().detach()
    strided = [logps.T.contiguous().T, torch.stack([REWARDS, REWARDS], dim=1)[:, 0], MASK.T.contiguous().T]
    before = [tensor.clone() for tensor in strided]
    one, other = (rejection_sampling_loss(*x, group_size=3) for x in (strided, (logps, REWARDS, MASK)))
    assert torch.equal(one.per_token, other.per_token)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(strided, before, strict=True))


def test_compiled():
    logps = logps_of()
    compiled = torch.compile(rejection_sampling_loss, fullgraph=True, backend="aot_eager")
    for options in ({"group_size": 3}, {"keep": "threshold", "threshold": 0.5, "aggregation": "sequence_mean"}):
        eager, other = (loss(logps, REWARDS, MASK, **options) for loss in (rejection_sampling_loss, compiled))
        assert torch.equal(eager.loss, other.loss)
        assert eager.metrics == other.metrics
        gradients = [torch.autograd.grad(output.loss, logps)[0] for output in (eager, other)]
        assert torch.equal(*gradients)


# -- batches without rows, and numbers of other types ------------------------------------------------------------------


def test_nothing_is_kept_of_no_samples():
    nothing = torch.zeros(0)
    for weights in (
        best_of_n_weights(nothing, 10**30),
        threshold_weights(nothing, 0.5),
        acceptance_probabilities(nothing, beta=1.0, max_reward=1.0),
        acceptance_weights(nothing, nothing, beta=1.0, max_reward=1.0),
    ):
        assert weights.shape == (0,)
    logps = torch.zeros(0, 3, requires_grad=True)
    output = rejection_sampling_loss(logps, nothing, torch.zeros(0, 3), group_size=10**30)
    output.loss.backward()
    assert output.loss == 0
    assert logps.grad.shape == (0, 3)
    assert all(metric == 0 for metric in output.metrics.values())


def test_fractions_and_huge_integers_are_read_as_floats():
    rewards = torch.tensor([0.25, 0.5, 0.75])
    assert threshold_weights(rewards, Fraction(1, 2)).tolist() == [0, 1, 1]
    assert threshold_weights(rewards, -(10**30)).tolist() == [1, 1, 1]
    assert torch.equal(
        acceptance_probabilities(rewards, beta=Fraction(1, 2), max_reward=Fraction(3, 4)),
        acceptance_probabilities(rewards, beta=0.5, max_reward=0.75),
    )
    assert acceptance_probabilities(rewards, beta=10**30, max_reward=10**30).tolist() == pytest.approx(
        [math.exp(-1)] * 3
    )


def test_weights_under_vmap():
    rewards, uniforms = torch.tensor([[0.25, 0.5, 0.75, 0.5], [1.0, 1.0, 0.0, 0.25]]), torch.rand(2, 4)
    functions = [
        lambda r, u: best_of_n_weights(r, 2),
        lambda r, u: threshold_weights(r, 0.5),
        lambda r, u: acceptance_probabilities(r, beta=0.5, max_reward=1.0),
        lambda r, u: acceptance_weights(r, u, beta=0.5, max_reward=1.0),
        lambda r, u: rejection_sampling_loss(-u.unsqueeze(1), r, torch.ones(4, 1), group_size=2).loss,
    ]
    for function in functions:
        one_by_one = torch.stack([function(r, u) for r, u in zip(rewards, uniforms, strict=True)])
        assert torch.equal(torch.func.vmap(function)(rewards, uniforms), one_by_one)
