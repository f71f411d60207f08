"""A user writes a contract for their own loss: definitions in one file, the contract in another."""

import doctest
import runpy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import logsigmoid

from grape_verified.conformance import (
    Formula,
    check,
    estimator,
    families,
    pair_loss,
    sequence_loss,
    strategies,
    token_loss,
)

DEFINITIONS = Path(__file__).with_name("outsiders_definitions.py")
TOKEN = ("logps", "old_logps", "advantages")
PAIR = ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps")


def damped_per_token(logps, old_logps, advantages, *, cap=1.0):
    """The user's loss of each token."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages if advantages.ndim == 2 else advantages[:, None]).detach().to(dtype)
    return -gains * (1 + cap) * torch.sigmoid(logps.to(dtype) - old_logps.detach().to(dtype) - torch.tensor(cap).log())


def damped_loss(logps, old_logps, advantages, mask, *, cap=1.0, denominator=None):
    """Its mean over tokens."""
    gains = advantages if advantages.ndim == 2 else advantages[:, None]
    clean = (torch.where(mask.bool(), x, 0) for x in (logps, old_logps, gains))
    return damped_per_token(*clean, cap=cap).sum() / (denominator or mask.sum().clamp(min=1))


def cap_ignored(logps, old_logps, advantages, mask, *, cap=1.0, denominator=None):
    """Wrong at every value but the default."""
    return damped_loss(logps, old_logps, advantages, mask, denominator=denominator)


def without_gradient(logps, old_logps, advantages, *, cap=1.0):
    """The right value, but without a gradient."""
    return damped_per_token(logps, old_logps, advantages, cap=cap).detach() + 0 * logps


def contracts():
    """The user's contracts, in one call that names the definitions and the drawn values."""
    return token_loss(
        "damped",
        term=Formula("damped.objective", inner={"rho": "ppo.ratio"}, absolute=("logp", "old_logp"), objective=True),
        tensors=TOKEN,
        build=strategies.token_tensors,
        options={"cap": (0.5, 3.0)},
        aggregation="token_mean",
        loss=damped_loss,
        per_token=damped_per_token,
    )


@pytest.fixture
def damped(scratch_registry):
    runpy.run_path(str(DEFINITIONS))
    return contracts()


def failures(report):
    return [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


def test_the_examples_of_the_families_run():
    tried = doctest.testmod(families)
    assert tried.failed == 0
    assert tried.attempted >= 20
    for family in (token_loss, sequence_loss, pair_loss, estimator):
        assert "Examples:\n" in family.__doc__
        assert "Raises:" in family.__doc__


def test_their_own_loss_is_accepted(damped):
    whole, single = damped
    assert not failures(check(damped_loss, whole, examples=20))
    assert not failures(check(damped_per_token, single, examples=20))
    assert (whole.name, single.name) == ("damped", "damped_per_token")


def test_a_mistake_is_found_by_the_right_property(damped):
    whole, single = damped
    report = check(cap_ignored, whole, examples=20)
    assert {"options"} <= set(report.failed) <= {"options", "extremes"}
    assert "gradient" in check(without_gradient, single, examples=20).failed


def test_what_it_rests_on_is_recorded(damped):
    whole, single = damped
    assert set(single.rests_on) == {"damped.objective", "ppo.ratio"}
    assert set(single.rests_on) < set(whole.rests_on)
    assert "aggregation.token_mean" in whole.rests_on


def test_options_are_read_off_the_signature(damped):
    whole, single = damped
    assert whole.options["cap"].default == damped_loss.__kwdefaults__["cap"]
    assert list(single.options) == ["cap"]
    with pytest.raises(ValueError, match="options: got 'lid', expected some of logps, "):
        token_loss(
            "damped", term=Formula("ppo.ratio"), tensors=TOKEN, build=strategies.token_tensors,
            options={"lid": (1,)}, loss=damped_loss,
        )  # fmt: skip


def a_loss_over_pairs(chosen, rejected, ref_chosen, ref_rejected, *, beta=0.5):
    margin = beta * ((chosen - ref_chosen.detach()) - (rejected - ref_rejected.detach())).to(
        torch.promote_types(chosen.dtype, torch.float32)
    )
    return -logsigmoid(margin).mean()


def test_a_loss_over_pairs_without_a_stated_slope():
    (contract,) = pair_loss(
        "margins",
        term=lambda options: Formula("dpo.loss", inner={"margin": "dpo.margin"}, scale=1, slope_scale=options["beta"]),
        tensors=PAIR,
        wrt=PAIR[:2],
        build=strategies.pair_tensors,
        options={"beta": (0.1, 1.0)},
        loss=a_loss_over_pairs,
    )
    assert not failures(check(a_loss_over_pairs, contract, examples=20))
    assert "value" in check(lambda *pairs, **options: 2 * a_loss_over_pairs(*pairs), contract, examples=10).failed


def ratio_of_means(logps, old_logps, advantages, mask):
    """GSPO without the clip."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    keep = mask.bool()
    log_ratio = torch.where(keep, logps.to(dtype) - old_logps.detach().to(dtype), 0)
    mean = log_ratio.sum(1) / keep.sum(1).clamp(min=1)
    return -(mean.exp() * advantages.detach().to(dtype) * keep.any(1)).mean()


def test_a_loss_over_sequences():
    (contract,) = sequence_loss(
        "sequences",
        term=Formula(
            "grpo.gspo.objective",
            reads={"clip_low": 1, "clip_high": 10**6},
            absolute=("logps", "old_logps"),
            objective=True,
        ),
        tensors=TOKEN,
        build=strategies.token_tensors,
        loss=ratio_of_means,
    )
    quick = {
        name: check(f, contract, examples=10) for name, f in {"right": ratio_of_means, "none": cap_ignored}.items()
    }
    assert "value" not in quick["right"].failed
    assert "gradient" not in quick["right"].failed
    assert "value" in quick["none"].failed


def squared_log_ratio(logps, ref_logps):
    """A user's estimator: twice k2."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    return (logps.to(dtype) - ref_logps.detach().to(dtype)).square() / 2


def test_an_estimator():
    def build(plan):
        drawn = strategies.token_tensors(plan)
        return {"logps": drawn["logps"], "ref_logps": drawn["old_logps"]}

    (contract,) = estimator(
        "squares",
        term=Formula("kl.k2", absolute=("logp", "ref_logp"), scale=0),
        tensors=("logps", "ref_logps"),
        wrt=("logps",),
        build=build,
        drawn=("logps", "old_logps", "advantages"),
        kernel=squared_log_ratio,
    )
    assert not failures(check(squared_log_ratio, contract, examples=20))
    assert "value" in check(lambda logps, ref: 2 * squared_log_ratio(logps, ref), contract, examples=10).failed
    with pytest.raises(ValueError, match="term, oracle: got both or neither"):
        estimator("squares", tensors=("logps", "ref_logps"), build=build, kernel=squared_log_ratio)
