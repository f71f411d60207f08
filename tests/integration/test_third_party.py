"""`check` on functions of an installed third-party package, with its findings.

Each finding is repeated by hand, without the checker: a direct assertion on the third-party function. When a new
version makes one of these tests fail, read the report again and write down what it says then.
"""

import math
from importlib.metadata import version

import pytest
import torch
from liger_kernel.chunked_loss.dpo_loss import LigerFusedLinearDPOFunction
from liger_kernel.chunked_loss.grpo_loss import LigerFusedLinearGRPOFunction

from grape_verified.conformance import CONTRACTS, check

pytestmark = pytest.mark.full("losses on every route, on several processes and beside other libraries")

EXAMPLES = 40

LOSS_TYPES = {"token_mean": "dapo", "sequence_mean": "grpo", "fixed_length": "dr_grpo"}


def liger_dpo(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    *,
    beta=0.1,
    label_smoothing=0.0,
    denominator=None,
):
    """Liger takes a batch's targets, of which it reads the number of rows, two for each pair: its denominator."""
    targets = torch.empty(2 * (denominator or len(chosen_logps)), 1)
    loss, _, _ = LigerFusedLinearDPOFunction.preference_loss_fn(
        chosen_logps,
        rejected_logps,
        targets,
        ref_chosen_logps,
        ref_rejected_logps,
        beta=beta,
        loss_type="sigmoid",
        label_smoothing=label_smoothing,
    )
    return loss


def liger_ppo(
    logps,
    old_logps,
    advantages,
    mask,
    *,
    clip_low=0.2,
    clip_high=0.2,
    dual_clip=None,
    aggregation="token_mean",
    denominator=None,
    max_length=None,
):
    """Liger names aggregations after methods; a KL coefficient of 0 leaves PPO. It divides by the tokens that it is
    told of, or by the rows of the whole batch's mask. Its `delta`, an upper bound on the ratio, is given the dual clip.
    """
    if advantages.ndim != 1:
        raise ValueError("Liger documents advantages of shape (batch,); it silently broadcasts others")
    whole_mask = mask if denominator is None or aggregation == "token_mean" else mask.new_ones(denominator, 1)
    loss, _ = LigerFusedLinearGRPOFunction.ppo_loss_fn(
        logps,
        mask,
        advantages,
        whole_mask,
        old_per_token_logps=old_logps,
        epsilon_low=clip_low,
        epsilon_high=clip_high,
        beta=0.0,
        loss_type=LOSS_TYPES[aggregation],
        max_completion_length=max_length,
        delta=dual_clip,
        num_items_in_batch=denominator,
    )
    return loss


def failures(function, contract, **held):
    """The report, and the names of what failed; everything else was tried and passed, or is one of two notes."""
    report = check(function, contract, examples=EXAMPLES, options=held)
    assert report.not_offered == ()
    assert report.named("noted") == ("constants", "dtype")
    assert {*report.named("passed"), *report.failed, "constants", "dtype"} == set(CONTRACTS[contract].properties)
    return report, set(report.failed)


def token_by_hand(log_ratio, advantage, dtype=torch.float32, **options):
    """Liger's loss of one token at a log-ratio, and its slope, called without the adapter."""
    logps = torch.tensor([[log_ratio]], dtype=dtype, requires_grad=True)
    mask, old_logps = torch.ones(1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype)
    loss, _ = LigerFusedLinearGRPOFunction.ppo_loss_fn(
        logps, mask, torch.tensor([advantage], dtype=dtype), mask, old_per_token_logps=old_logps, beta=0.0, **options
    )
    return loss.item(), torch.autograd.grad(loss, logps)[0].item()


def test_the_findings_are_those_of_this_version():
    assert version("liger-kernel") == "0.8.5"


# -- LigerFusedLinearDPOFunction.preference_loss_fn --------------------------------------------------------------------


def test_liger_dpo_is_right_without_label_smoothing():
    """Value, gradient, β, a shared denominator and log-ratios up to ±200 are right.

    - constants (noted): a gradient reaches the sums of the reference. Liger's own caller computes them without one.
    - dtype (noted): handed bf16 sums it computes in bf16. Liger's own caller hands it fp32.
    """
    _, failed = failures(liger_dpo, "dpo", denominator=None, label_smoothing=0.0)
    assert failed == set()


def test_liger_dpo_ignores_label_smoothing():
    """- options: `label_smoothing` is silently ignored for loss_type "sigmoid"."""
    report, failed = failures(liger_dpo, "dpo", denominator=None)
    assert failed == {"options"}
    assert "label_smoothing=" in report.finding("options").text


def test_by_hand_liger_dpo_ignores_label_smoothing():
    """At a margin of 0 the loss is log 2 for any ε, and its slope −β(1/2 − ε)."""
    for label_smoothing in (0.0, 0.4):
        chosen, other = torch.tensor([-1.0], requires_grad=True), torch.tensor([-1.0])
        loss, _, _ = LigerFusedLinearDPOFunction.preference_loss_fn(
            chosen, other, torch.empty(2, 1), other, other, beta=0.1, label_smoothing=label_smoothing
        )
        assert torch.autograd.grad(loss, chosen)[0].item() == pytest.approx(-0.1 * 0.5)


def test_by_hand_liger_dpo_computes_in_the_dtype_that_it_gets():
    one = torch.ones(1, dtype=torch.bfloat16)
    loss, _, _ = LigerFusedLinearDPOFunction.preference_loss_fn(-one, -one, torch.empty(2, 1), -one, -one)
    assert loss.dtype == torch.bfloat16


# -- LigerFusedLinearGRPOFunction.ppo_loss_fn --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "held",
    [
        {"aggregation": "token_mean", "max_length": None, "dual_clip": None},
        {"aggregation": "token_mean", "max_length": None, "clip_high": 0.2},
        {"aggregation": "sequence_mean", "max_length": None, "dual_clip": None, "denominator": None},
        {"aggregation": "fixed_length", "max_length": 6, "dual_clip": None, "denominator": None},
    ],
    ids=["token mean", "dual clip above the clip range", "sequence mean", "fixed length"],
)
def test_liger_ppo_is_right_where_nothing_is_masked_or_extreme(held):
    """Value, gradient, asymmetric clipping, padding, a shared denominator and an empty batch are right, and so is its
    delta as a dual clip above 1 + clip_high. Two aggregations, sequence_sum and token_sum, have no name in it.

    - signature: advantages per sequence only.
    - masked values: mask · NaN is NaN, so masked NaN or inf makes loss and gradients NaN.
    - extremes: where the ratio overflows, from a log-ratio of 89 on in fp32, the gradient is NaN for A > 0: the clipped
      side is selected, and 0 · ∞ comes back from the other. The loss is finite and does not show it.
    - constants (noted): a gradient reaches the old log-probabilities and the advantages where they ask for one.
    - dtype (noted): handed bf16 it computes in bf16. Liger's own caller hands it fp32.
    """
    report, failed = failures(liger_ppo, "ppo", **held)
    assert failed == {"masked values", "extremes"}
    assert "advantages per sequence" in report.finding("signature").text
    assert "nan" in report.finding("masked values").text
    assert "gradient in logps at [0, 0] is nan" in report.finding("extremes").text


def test_liger_ppo_delta_below_the_clip_range_is_no_dual_clip():
    """- value, gradient, options, kinks: a delta below 1 + clip_high bounds the ratio for A > 0 and not for A < 0.
    This is a convention and no mistake: Liger takes it from two-sided clipping, which its source calls it by.
    """
    held = {"aggregation": "token_mean", "max_length": None, "clip_high": 4.0, "dual_clip": 1.5}
    _, failed = failures(liger_ppo, "ppo", **held)
    assert failed == {"value", "gradient", "options", "masked values", "kinks", "extremes"}


def test_by_hand_liger_ppo_has_no_gradient_at_large_log_ratios():
    """The second assertion is the other half of the finding: for A < 0 the loss itself overflows."""
    loss, slope = token_by_hand(100.0, advantage=1.0)
    assert loss == pytest.approx(-1.2)
    assert math.isnan(slope)
    assert token_by_hand(100.0, advantage=-1.0) == (float("inf"), float("inf"))


@pytest.mark.parametrize("garbage", [float("nan"), float("-inf")])
def test_by_hand_liger_ppo_sees_behind_the_mask(garbage):
    logps, mask = torch.zeros(1, 2, requires_grad=True), torch.tensor([[1.0, 0.0]])
    old_logps, advantages = torch.tensor([[0.0, garbage]]), torch.tensor([-1.0])
    loss, _ = LigerFusedLinearGRPOFunction.ppo_loss_fn(
        logps, mask, advantages, mask, old_per_token_logps=old_logps, beta=0.0
    )
    assert loss.isnan()
    assert torch.autograd.grad(loss, logps)[0][0, 1].isnan()


def test_by_hand_liger_ppo_computes_in_the_dtype_that_it_gets():
    loss, _ = token_by_hand(0.5, advantage=1.0, dtype=torch.bfloat16)
    assert loss == -1.203125


def test_by_hand_liger_ppo_delta_below_the_clip_range():
    """A dual clip leaves A > 0 alone and bounds the ratio for A < 0; this does the opposite."""
    options = {"epsilon_high": 4.0, "delta": 1.5}
    assert token_by_hand(1.0, advantage=1.0, **options) == pytest.approx((-1.5, 0.0))
    assert token_by_hand(1.0, advantage=-1.0, **options) == pytest.approx((2.718281828, 2.718281828))
