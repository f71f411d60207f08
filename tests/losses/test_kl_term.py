"""The KL penalty in a loss: numbers worked out by hand, full expectations, and inputs at the edge of the floats."""

import math
import re

import pytest
import torch

from grape_verified import categorical_kl, grpo_loss, grpo_per_token, ppo_loss, ppo_per_token

LIMIT = torch.finfo(torch.float32).max * 2.0**-24
LOG_2 = math.log(2)
RATIOS = ("absent", "detached", "attached")


def penalty(logp, old_logp, ref_logp, estimator, ratio, dtype=torch.float64):
    """The penalty of one token and its slope, with β = 1 and without an advantage."""
    logps = torch.tensor([[logp]], dtype=dtype, requires_grad=True)
    old_logps, ref_logps = (torch.tensor([[x]], dtype=dtype) for x in (old_logp, ref_logp))
    options = {"ref_logps": ref_logps, "kl_coef": 1.0, "kl_estimator": estimator, "kl_ratio": ratio}
    loss = grpo_per_token(logps, old_logps, torch.zeros(1), **options)
    (slope,) = torch.autograd.grad(loss.sum(), logps)
    return loss.item(), slope.item()


@pytest.mark.parametrize(
    ("estimator", "ratio", "value", "slope"),
    [
        # ρ = 2 and x = logp − ref_logp = log 2, so that exp(−x) = ½
        ("k1", "absent", LOG_2, 1),
        ("k1", "detached", 2 * LOG_2, 2),
        ("k1", "attached", 2 * LOG_2, 2 * (LOG_2 + 1)),
        ("k2", "absent", LOG_2**2 / 2, LOG_2),
        ("k2", "detached", LOG_2**2, 2 * LOG_2),
        ("k2", "attached", LOG_2**2, 2 * LOG_2 + LOG_2**2),
        ("k3", "absent", LOG_2 - 0.5, 0.5),
        ("k3", "detached", 2 * LOG_2 - 1, 1),
        ("k3", "attached", 2 * LOG_2 - 1, 2 * LOG_2),
        ("k1+", "absent", LOG_2, LOG_2),
        ("k1+", "detached", 2 * LOG_2, 2 * LOG_2),
        ("k3+", "absent", LOG_2 - 0.5, LOG_2),
        ("k3+", "detached", 2 * LOG_2 - 1, 2 * LOG_2),
    ],
)
def test_by_hand(estimator, ratio, value, slope):
    assert penalty(-1.0, -1 - LOG_2, -1 - LOG_2, estimator, ratio) == pytest.approx((value, slope))


# -- in expectation ---------------------------------------------------------------------------------------------------


def expected_gradient(logits, old_logits, ref_logits, estimator, ratio):
    """The gradient of the penalty in the logits, in expectation over the tokens of the old policy."""
    logps, old_logps, ref_logps = (x.log_softmax(-1)[None] for x in (logits, old_logits, ref_logits))
    options = {"ref_logps": ref_logps, "kl_coef": 1.0, "kl_estimator": estimator, "kl_ratio": ratio}
    per_token = grpo_per_token(logps, old_logps, torch.zeros(1), clip_low=1.0, clip_high=9.0, **options)
    return torch.autograd.grad((old_logps.exp() * per_token).sum(), logits)[0]


def directions(logits, old_logits, ref_logits):
    """The gradients of the divergences that a penalty may follow."""
    q, old = ref_logits.detach(), old_logits.detach()
    followed = {
        "reverse": categorical_kl(logits, q),
        "forward": categorical_kl(q, logits),
        "away": -categorical_kl(old, logits),
        "mean of k2": (logits.softmax(-1) * (logits.log_softmax(-1) - q.log_softmax(-1)) ** 2 / 2).sum(),
        "nothing": 0 * logits.sum(),
    }
    return {name: torch.autograd.grad(value, logits)[0] for name, value in followed.items()}


FOLLOWED = {
    ("k1", "attached"): "reverse", ("k2", "attached"): "mean of k2", ("k3", "attached"): "reverse",
    ("k1", "detached"): "nothing", ("k2", "detached"): "reverse", ("k3", "detached"): "forward",
    ("k1+", "detached"): "reverse", ("k3+", "detached"): "reverse",
    ("k1", "absent"): "away", ("k2", "absent"): None, ("k3", "absent"): None,
    ("k1+", "absent"): None, ("k3+", "absent"): None,
}  # fmt: skip


@pytest.mark.parametrize(("estimator", "ratio"), FOLLOWED)
def test_what_a_penalty_follows_off_policy(estimator, ratio):
    generator = torch.Generator().manual_seed(3)
    logits, old_logits, ref_logits = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    found = expected_gradient(logits, old_logits, ref_logits, estimator, ratio)
    near = [
        name
        for name, gradient in directions(logits, old_logits, ref_logits).items()
        if torch.allclose(found, gradient, rtol=1e-10, atol=1e-12)
    ]
    followed = FOLLOWED[estimator, ratio]
    assert near == ([followed] if followed else [])


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k1+", "k3+"])
def test_on_policy_a_ratio_that_is_a_constant_changes_nothing(estimator):
    absent, detached = (penalty(-1.0, -1.0, -1.7, estimator, ratio) for ratio in ("absent", "detached"))
    assert absent == pytest.approx(detached, rel=1e-14)


# -- the losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_penalty_is_added_to_every_clipped_surrogate(ratio):
    generator = torch.Generator().manual_seed(1)
    logps, old_logps, ref_logps, advantages = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    options = {"ref_logps": ref_logps, "kl_coef": 0.5, "kl_ratio": ratio}
    alone = grpo_per_token(logps, old_logps, torch.zeros(3), **options)
    with_clip = ppo_per_token(logps, old_logps, advantages, dual_clip=1.5)
    both = ppo_per_token(logps, old_logps, advantages, dual_clip=1.5, **options)
    torch.testing.assert_close(both, with_clip + alone, rtol=1e-14, atol=1e-14)
    mask = torch.tensor([[1, 1, 0, 1, 0], [0] * 5, [1] * 5])
    output = ppo_loss(logps, old_logps, advantages, mask, dual_clip=1.5, **options)
    torch.testing.assert_close(output.loss, both[mask.bool()].mean())
    x = logps - ref_logps
    torch.testing.assert_close(output.metrics["kl"], ((-x).exp() - 1 + x)[mask.bool()].mean())


@pytest.mark.parametrize("ratio", ["detached", "attached"])
@pytest.mark.parametrize(
    ("old_logp", "ref_logp", "value"),
    [
        (0.0, 0.0, 1.0),  # ρ underflows and exp(−x) overflows; their product is exp(ref_logp − old_logp)
        (0.0, -700.0, 0.0),
        (-700.0, 0.0, LIMIT),
        (-700.0, -math.inf, LIMIT),
        (0.0, -math.inf, 0.0),
    ],
)
def test_a_ratio_that_underflows_does_not_meet_an_exponential_that_overflows(ratio, old_logp, ref_logp, value):
    loss, slope = penalty(-400.0, old_logp, ref_logp, "k3", ratio, torch.float32)
    assert loss == pytest.approx(value, rel=1e-4)
    assert math.isfinite(slope)


@pytest.mark.parametrize("x", [1e-3, 1e-2, 0.5, 3.0, 10.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_slope_with_the_ratio_attached_does_not_cancel(x, sign):
    """Within 4·u·(|logp − old_logp| + 2) of ρ·x, relative to it; autograd loses the digits of k3 to exp(|x|)."""
    logp, old_logp, ref_logp = -1.0, -1.25, -1.0 - sign * x
    _, slope = penalty(logp, old_logp, ref_logp, "k3", "attached", torch.float32)
    given = logp - torch.tensor(ref_logp).item()  # as fp32 holds it
    exact = math.exp(logp - old_logp) * given
    assert abs(slope - exact) <= 4 * 2.0**-24 * (abs(logp - old_logp) + 2) * abs(exact)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kl_ratio": "live"}, "kl_ratio: got 'live', expected one of 'absent', 'detached', 'attached'"),
        ({"kl_estimator": "k4"}, "kl_estimator: got 'k4', expected one of 'k1', 'k2', 'k3', 'k1+', 'k3+'"),
        (
            {"kl_ratio": "attached", "kl_estimator": "k3+"},
            "kl_ratio: got 'attached', expected 'absent' or 'detached' with kl_estimator 'k3+'",
        ),
        ({"kl_coef": 0.1}, "ref_logps: got None, expected a tensor with kl_coef 0.1, which uses it"),
    ],
)
@pytest.mark.parametrize("loss", [ppo_loss, grpo_loss])
def test_wrong_options(loss, options, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1), torch.ones(1, 2), **options)
