"""GRAPE: rewards and advantages against the definition written out in loops, its properties, and inputs at the edge."""

import math
from fractions import Fraction

import pytest
import torch

from grape_verified import grape_advantages, grape_loss, grape_rewards, ppo_loss

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]])
BATCH = {"confidence": "batch", "categories": torch.tensor([1, 1])}
OPTIONS = [
    {"baseline": baseline, "scale": scale, **extra}
    for baseline in ("leave_one_out", "mean")
    for scale, extra in (("none", {}), ("std", {}), ("std", {"ddof": 0, "eps": 0.0}), ("std", {"eps": 0.1}))
]


def verdicts(prompts=2, group=3, items=4, seed=0, dtype=torch.float64):
    """Scores, confidences, and weights of every prompt."""
    generator = torch.Generator().manual_seed(seed)
    scores, confidences = (torch.rand(prompts, group, items, generator=generator, dtype=dtype) for _ in range(2))
    return scores, confidences, 3 * torch.rand(prompts, items, generator=generator, dtype=dtype)


def tokens(rows=4, time=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logps, old_logps = (torch.randn(rows, time, generator=generator, dtype=dtype) for _ in range(2))
    return logps.requires_grad_(), old_logps


def written_out(scores, confidences, weights, item_mask=None, categories=None, normalisation="mean"):
    """The definition of the reward, a number at a time."""
    prompts, group, items = scores.shape
    present = [[item_mask is None or bool(item_mask[p, q]) for q in range(items)] for p in range(prompts)]
    rewards = torch.zeros(prompts, group, dtype=torch.float64)
    for p in range(prompts):
        average = {}
        for q in range(items):
            if present[p][q]:
                alike = [p] if categories is None else [o for o in range(prompts) if categories[o] == categories[p]]
                seen = [confidences[o, i, q].item() for o in alike if present[o][q] for i in range(group)]
                average[q] = math.fsum(seen) / len(seen)
        whole = math.fsum(weights[p, q].item() * average[q] for q in average)
        for i in range(group):
            total = math.fsum(weights[p, q].item() * average[q] * scores[p, i, q].item() for q in average)
            rewards[p, i] = total if normalisation == "sum" else total / whole if whole else 0.0
    return rewards


def relative(rewards, baseline="leave_one_out", scale="none", ddof=1, eps=1e-6):
    """The definition of the advantage, a number at a time."""
    advantages = torch.zeros_like(rewards)
    for p, row in enumerate(rewards.tolist()):
        mean = math.fsum(row) / len(row)
        for i, reward in enumerate(row):
            others = [other for j, other in enumerate(row) if j != i]
            if others:
                base = mean if baseline == "mean" else math.fsum(others) / len(others)
                std = math.sqrt(math.fsum((r - mean) ** 2 for r in row) / (len(row) - ddof))
                advantages[p, i] = (reward - base) / (std + eps if scale == "std" else 1)
    return advantages


def test_by_hand():
    # Both responses: item 1 at confidence (1 + 0)/2, item 2 at (1 + 1)/2; so their trust is 3·½ and 1·1.
    scores = torch.tensor([[[1.0, 0.0], [0.5, 1.0]]])
    confidences = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    weights = torch.tensor([3.0, 1.0])
    rewards = grape_rewards(scores, confidences, weights)
    torch.testing.assert_close(rewards, torch.tensor([[1.5 / 2.5, 1.75 / 2.5]]))
    torch.testing.assert_close(
        grape_rewards(scores, confidences, weights, normalisation="sum"), torch.tensor([[1.5, 1.75]])
    )
    torch.testing.assert_close(grape_advantages(scores, confidences, weights), torch.tensor([[-0.1, 0.1]]))
    torch.testing.assert_close(
        grape_advantages(scores, confidences, weights, baseline="mean"), torch.tensor([[-0.05, 0.05]])
    )
    # The standard deviation of two numbers is their difference over √2.
    torch.testing.assert_close(
        grape_advantages(scores, confidences, weights, scale="std", eps=0.0),
        torch.tensor([[-math.sqrt(2), math.sqrt(2)]]),
    )


@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 3, 4), (4, 1, 3), (3, 5, 2)])
@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_rewards_as_written_out(shape, normalisation):
    inputs = verdicts(*shape)
    rewards = grape_rewards(*inputs, normalisation=normalisation)
    torch.testing.assert_close(rewards, written_out(*inputs, normalisation=normalisation), rtol=1e-13, atol=0)
    weights = inputs[2][0]
    shared = grape_rewards(*inputs[:2], weights, normalisation=normalisation)
    expected = written_out(*inputs[:2], weights.expand_as(inputs[2]), normalisation=normalisation)
    torch.testing.assert_close(shared, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 3, 4), (4, 1, 3)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_advantages_as_written_out(shape, options):
    inputs = verdicts(*shape)
    torch.testing.assert_close(
        grape_advantages(*inputs, **options), relative(written_out(*inputs), **options), rtol=1e-11, atol=1e-13
    )


def test_confidences_over_the_batch_are_those_of_one_category():
    inputs = verdicts(5, 3, 4)
    categories = torch.tensor([7, -2, 7, 7, -2])
    item_mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]])
    for mask in (None, item_mask):
        rewards = grape_rewards(*inputs, item_mask=mask, confidence="batch", categories=categories)
        torch.testing.assert_close(rewards, written_out(*inputs, mask, categories), rtol=1e-13, atol=0)
    alone = grape_rewards(*inputs, confidence="batch", categories=torch.arange(5))
    torch.testing.assert_close(alone, grape_rewards(*inputs))
    together = grape_rewards(*inputs, confidence="batch", categories=torch.zeros(5, dtype=torch.int8))
    assert not torch.allclose(together, grape_rewards(*inputs))


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, -3.0, LARGEST])
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"confidence": "batch", "categories": torch.tensor([1, 1])}], ids=["", "batch"]
)
def test_masked_items_reach_nothing(hidden, position, options):
    item_mask = torch.tensor([[1, 0, 1, 0], [1, 0, 1, 1]])
    inputs = list(verdicts())
    clean = grape_advantages(*inputs, item_mask=item_mask, **options)
    where = (item_mask == 0).unsqueeze(1) if position < 2 else item_mask == 0
    inputs[position] = inputs[position].masked_fill(where, hidden)
    assert torch.equal(grape_advantages(*inputs, item_mask=item_mask.bool(), **options), clean)


def test_a_masked_item_is_as_good_as_none():
    scores, confidences, weights = verdicts()
    item_mask = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]])
    short = grape_rewards(scores[..., :2], confidences[..., :2], weights[:, :2])
    torch.testing.assert_close(grape_rewards(scores, confidences, weights, item_mask=item_mask), short)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("untrusted", ["weights", "confidences", "items"])
def test_without_a_trusted_item_there_is_no_signal(options, untrusted):
    scores, confidences, weights = verdicts()
    item_mask = torch.ones(2, 4)
    if untrusted == "weights":
        weights[0] = 0
    elif untrusted == "confidences":
        confidences[0] = 0
    else:
        item_mask[0] = 0
    assert (grape_rewards(scores, confidences, weights, item_mask=item_mask)[0] == 0).all()
    advantages = grape_advantages(scores, confidences, weights, item_mask=item_mask, **options)
    assert (advantages[0] == 0).all()
    assert (advantages[1] != 0).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1.0])
def test_equal_rewards_and_groups_of_one_have_advantage_zero(options, value):
    for group in (1, 3, 7, 64):
        _, confidences, weights = verdicts(2, group, 5, dtype=torch.float32)
        scores = torch.full_like(confidences, value)
        scores[..., 2] = value / 2
        assert (grape_advantages(scores, confidences, weights, **options) == 0).all()


def test_rewards_stay_within_the_scores():
    scores, confidences, weights = verdicts(50, 8, 30, dtype=torch.float32)
    rewards = grape_rewards(torch.ones_like(scores), confidences, weights)
    assert (rewards <= 1).all()
    rewards = grape_rewards(scores, confidences, weights)
    assert (rewards >= scores.amin(2) * (1 - 16 * 2.0**-24)).all()
    assert (rewards <= scores.amax(2) * (1 + 16 * 2.0**-24)).all()


def test_the_order_of_items_and_of_responses_does_not_matter():
    scores, confidences, weights = verdicts(2, 5, 6)
    items, responses = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([4, 2, 0, 1, 3])
    rewards = grape_rewards(scores, confidences, weights)
    torch.testing.assert_close(grape_rewards(scores[..., items], confidences[..., items], weights[:, items]), rewards)
    torch.testing.assert_close(
        grape_rewards(scores[:, responses], confidences[:, responses], weights), rewards[:, responses]
    )


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, LARGEST / 3])
def test_only_the_proportions_of_weights_matter(size):
    scores, confidences, weights = verdicts(dtype=torch.float32)
    rewards = grape_rewards(scores, confidences, weights)
    torch.testing.assert_close(grape_rewards(scores, confidences, weights * size), rewards)


def test_the_largest_weights_beside_a_small_one():
    scores, confidences, _ = verdicts(dtype=torch.float32)
    rewards = grape_rewards(scores, confidences, torch.tensor([LARGEST, LARGEST, LARGEST, 1.0]))
    torch.testing.assert_close(rewards, grape_rewards(scores, confidences, torch.tensor([1.0, 1.0, 1.0, 0.0])))


def test_only_the_proportions_of_confidences_matter():
    scores, confidences, weights = verdicts(dtype=torch.float32)
    rewards = grape_rewards(scores, confidences, weights)
    torch.testing.assert_close(grape_rewards(scores, confidences * 1e-6, weights), rewards)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_sum_beyond_the_range_of_the_dtype_saturates(options):
    scores, confidences, _ = verdicts(dtype=torch.float32)
    weights = torch.full((4,), LARGEST)
    rewards = grape_rewards(scores, confidences, weights, normalisation="sum")
    assert rewards.isfinite().all()
    assert (rewards > 1e30).all()
    assert grape_advantages(scores, confidences, weights, normalisation="sum", **options).isfinite().all()


def test_one_item_is_the_score_whatever_the_confidence():
    scores, confidences, weights = verdicts(3, 6, 1)
    torch.testing.assert_close(grape_rewards(scores, confidences, weights), scores[..., 0])
    torch.testing.assert_close(
        grape_advantages(scores, confidences, weights, baseline="mean"),
        scores[..., 0] - scores[..., 0].mean(1, keepdim=True),
    )


def test_a_constant_added_to_one_item_changes_no_advantage():
    scores, confidences, weights = verdicts(2, 4, 3)
    scores = scores / 2
    shifted = scores + torch.tensor([0.0, 0.5, 0.0])
    torch.testing.assert_close(
        grape_advantages(shifted, confidences, weights), grape_advantages(scores, confidences, weights)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_follows_scores(dtype):
    scores, confidences, weights = verdicts(dtype=torch.float32)
    scores = scores.to(dtype)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    rewards = grape_rewards(scores, confidences.double(), weights.bfloat16())
    assert rewards.dtype == grape_advantages(scores, confidences, weights).dtype == expected
    wide = grape_rewards(scores.to(expected), confidences.double(), weights.bfloat16())
    assert torch.equal(rewards, wide)


@pytest.mark.parametrize(("group", "items"), [(4, 3), (16, 100), (1000, 10), (3, 1000)])
@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_documented_bound_of_rewards_between_precisions(group, items, normalisation):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20, group, items, generator=generator)
    spread = torch.exp2(-30 * torch.rand(20, group, items, generator=generator))
    weights = torch.exp2(30 * torch.rand(20, items, generator=generator) - 15)
    exact = grape_rewards(scores.double(), spread.double(), weights.double(), normalisation=normalisation)
    result = grape_rewards(scores, spread, weights, normalisation=normalisation)
    assert ((result - exact).abs() <= 16 * 2.0**-24 * exact).all()


@pytest.mark.parametrize("width", [1.0, 1e-3])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_documented_bound_of_advantages_between_precisions(width, options):
    for group, items in ((2, 3), (16, 10), (1000, 5)):
        scores, confidences, weights = verdicts(20, group, items, dtype=torch.float32)
        inputs = (0.5 + width * (scores - 0.5), confidences, weights)
        wide = [x.double() for x in inputs]
        exact, rewards = grape_advantages(*wide, **options), grape_rewards(*wide)
        size = rewards.amax(1, keepdim=True)
        if options["scale"] == "std":
            ddof, eps = options.get("ddof", 1), options.get("eps", 1e-6)
            size = (1 + exact.abs()) * size / (rewards.std(1, keepdim=True, correction=ddof) + eps)
        assert ((grape_advantages(*inputs, **options) - exact).abs() <= 64 * 2.0**-24 * size).all()


def test_results_are_constants_and_inputs_stay_untouched():
    inputs = [x.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for x in verdicts()]
    before = [x.detach().clone() for x in inputs]
    item_mask = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 0]])
    for function in (grape_rewards, grape_advantages):
        result = function(*inputs, item_mask=item_mask)
        assert not result.requires_grad
        assert torch.equal(result, function(*before, item_mask=item_mask))
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, before, strict=True))


def test_the_loss_gives_each_response_its_own_advantage():
    """The clipped surrogate, its gradient and its mean over sequences, a number at a time."""
    scores, confidences, weights = verdicts(2, 2, 3)
    logps, old_logps = tokens()
    advantages = relative(written_out(scores, confidences, weights)).flatten().tolist()
    expected, slopes = 0.0, torch.zeros(4, 3, dtype=torch.float64)
    for row in range(4):
        counted = [t for t in range(3) if MASK[row, t]]
        for t in counted:
            ratio = math.exp(logps[row, t].item() - old_logps[row, t].item())
            clipped = min(max(ratio, 0.8), 1.2)
            expected -= min(ratio * advantages[row], clipped * advantages[row]) / len(counted) / 4
            if ratio * advantages[row] <= clipped * advantages[row]:
                slopes[row, t] = -ratio * advantages[row] / len(counted) / 4
    output = grape_loss(logps, old_logps, scores, confidences, weights, MASK)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(logps.grad, slopes, rtol=1e-12, atol=0)
    assert (output.per_token[MASK == 0] == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"aggregation": "token_mean", "denominator": 5, "clip_low": 0.1},
        {"aggregation": "fixed_length", "max_length": 10, "clip_high": 0.3},
        {"scale": "std", "baseline": "mean", "ddof": 0, "eps": 0.5, "normalisation": "sum"},
        {"confidence": "batch", "categories": torch.tensor([0, 0]), "item_mask": torch.tensor([[1, 1, 0], [0, 1, 1]])},
    ],
    ids=str,
)
def test_the_loss_is_that_of_ppo_with_these_advantages(options):
    judged, ours = verdicts(2, 2, 3), {"clip_low", "clip_high", "aggregation", "denominator", "max_length"}
    clipping = {name: value for name, value in options.items() if name in ours}
    advantages = grape_advantages(*judged, **{name: value for name, value in options.items() if name not in ours})
    logps, old_logps = tokens()
    output = grape_loss(logps, old_logps, *judged, MASK, **options)
    expected = ppo_loss(logps, old_logps, advantages.flatten(), MASK, **{"aggregation": "sequence_mean", **clipping})
    assert torch.equal(output.loss, expected.loss)
    assert torch.equal(output.per_token, expected.per_token)
    assert output.metrics.items() >= expected.metrics.items()
    gradients = [torch.autograd.grad(x.loss, logps)[0] for x in (output, expected)]
    assert torch.equal(*gradients)


def test_metrics_count_the_groups_without_a_trusted_item():
    scores, confidences, weights = verdicts(2, 2, 3)
    confidences[1] = 0
    weights[0, 0] = 0
    logps, old_logps = tokens(dtype=torch.float32)
    metrics = grape_loss(logps, old_logps, scores, confidences, weights, MASK).metrics
    assert metrics["untrusted_groups"].item() == 1
    rewards = written_out(scores, confidences, weights)
    assert metrics["reward_mean"].item() == pytest.approx(rewards.sum().item() / 4)
    assert {metric.dtype for metric in metrics.values()} == {torch.float32}
    assert all(metric.shape == () and not metric.requires_grad for metric in metrics.values())


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, LARGEST])
@pytest.mark.parametrize("position", [0, 1])
def test_masked_tokens_reach_nothing(hidden, position):
    results = []
    for value in (0.0, hidden):
        pair = [x.detach().clone() for x in tokens()]
        pair[position] = pair[position].masked_fill(MASK == 0, value)
        pair[0].requires_grad_()
        output = grape_loss(*pair, *verdicts(2, 2, 3), MASK)
        output.loss.backward()
        results.append((output, pair[0].grad))
    (clean, clean_gradient), (dirty, dirty_gradient) = results
    assert torch.equal(clean.loss, dirty.loss)
    assert torch.equal(clean_gradient, dirty_gradient)
    assert clean.metrics == dirty.metrics


def test_an_all_masked_batch_is_zero_with_zero_gradients():
    logps = torch.full((4, 3), math.nan, requires_grad=True)
    output = grape_loss(logps, torch.zeros(4, 3), *verdicts(2, 2, 3), torch.zeros(4, 3))
    output.loss.backward()
    assert output.loss.item() == 0
    assert torch.equal(logps.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("log_ratio", [200.0, -200.0, 1e30, -1e30])
def test_gradients_are_finite_for_every_log_ratio(log_ratio):
    logps = torch.full((4, 3), log_ratio, requires_grad=True)
    output = grape_loss(logps, torch.zeros(4, 3), *verdicts(2, 2, 3), torch.ones(4, 3))
    output.loss.backward()
    assert output.loss.isfinite()
    assert logps.grad.isfinite().all()
    assert (logps.grad.abs() > 1e25).sum() == (6 if log_ratio > 0 else 0)


def test_only_logps_is_differentiated():
    inputs = [x.requires_grad_() for x in (*tokens(), *verdicts(2, 2, 3))]
    grape_loss(*inputs, MASK).loss.backward()
    assert [x.grad is not None for x in inputs] == [True, False, False, False, False]


def test_gradcheck():
    logps, old_logps = tokens()
    judged = verdicts(2, 2, 3)
    assert torch.autograd.gradcheck(lambda x: grape_loss(x, old_logps, *judged, MASK).loss, logps)


def test_compiled():
    logps, old_logps = tokens(dtype=torch.float32)
    judged = verdicts(2, 2, 3, dtype=torch.float32)
    compiled = torch.compile(grape_loss, fullgraph=True, backend="aot_eager")
    for options in ({}, {"scale": "std"}, {"confidence": "batch", "categories": torch.tensor([3, 3])}):
        eager, other = (loss(logps, old_logps, *judged, MASK, **options) for loss in (grape_loss, compiled))
        assert torch.equal(eager.loss, other.loss)
        torch.testing.assert_close(eager.metrics, other.metrics)
        gradients = [torch.autograd.grad(output.loss, logps)[0] for output in (eager, other)]
        assert torch.equal(*gradients)


@pytest.mark.parametrize("options", [{}, {"confidence": "batch", "categories": torch.zeros(0).long()}])
def test_no_prompts(options):
    nothing = torch.zeros(0, 3, 4)
    assert grape_rewards(nothing, nothing, torch.ones(4), **options).shape == (0, 3)
    assert grape_advantages(nothing, nothing, torch.ones(4), scale="std", **options).shape == (0, 3)
    logps = torch.zeros(0, 5, requires_grad=True)
    output = grape_loss(logps, torch.zeros(0, 5), nothing, nothing, torch.ones(0, 4), torch.zeros(0, 5), **options)
    output.loss.backward()
    assert output.loss == 0
    assert logps.grad.shape == (0, 5)
    assert output.per_token.shape == (0, 5)
    assert all(metric == 0 for metric in output.metrics.values())


@pytest.mark.parametrize("shape", [(2, 0, 4), (2, 3, 0), (0, 0, 4)])
def test_prompts_without_a_response_or_an_item_are_refused(shape):
    nothing = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"scores: got shape .* expected a group and items of size > 0"):
        grape_rewards(nothing, nothing, torch.ones(shape[-1]))


def test_fractions_are_read_as_the_floats_that_they_stand_for():
    judged = verdicts()
    exact = grape_advantages(*judged, scale="std", eps=Fraction(1, 8))
    assert torch.equal(exact, grape_advantages(*judged, scale="std", eps=0.125))


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_under_vmap(normalisation):
    batches = [verdicts(2, 2, 3, seed=seed, dtype=torch.float32) for seed in range(3)]
    stacked = [torch.stack(parts) for parts in zip(*batches, strict=True)]
    options = {"normalisation": normalisation, "confidence": "batch", "categories": torch.tensor([1, 1])}
    logps, old_logps = tokens(dtype=torch.float32)

    def advantages(*judged):
        return grape_advantages(*judged, item_mask=torch.tensor([[1, 0, 1], [1, 1, 1]]), scale="std", **options)

    def loss(*judged):
        return grape_loss(logps, old_logps, *judged, MASK, **options).loss

    for function in (advantages, loss):
        one_by_one = torch.stack([function(*judged) for judged in batches])
        assert torch.equal(torch.func.vmap(function)(*stacked), one_by_one)
