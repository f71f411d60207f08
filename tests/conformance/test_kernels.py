"""The kernels keep every property of their contracts, and the error bounds in their docstrings."""

import math

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import grape_verified
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.run import run_property
from grape_verified.conformance.strategies import Case, Regime

from . import bounds
from .bounds import EXAMPLES, middle, subject_of
from .table import stated

STATED = stated()
PROMISES = [(name, prop) for name, contract in CONTRACTS.items() for prop in contract.properties if prop != "signature"]


@pytest.mark.parametrize("name", CONTRACTS)
def test_kernel_takes_everything_that_the_contract_offers(name):
    subject = subject_of(name)
    assert subject.offered == tuple(CONTRACTS[name].options)
    assert subject.variants == CONTRACTS[name].variants
    usual = CONTRACTS[name].defaults({})  # None where an option has to be given
    assert all(default in (usual[option], None) for option, default in subject.defaults.items())


@pytest.mark.parametrize(("name", "prop"), PROMISES)
def test_kernel_keeps_the_property(name, prop):
    finding = run_property(subject_of(name), PROPERTIES[prop], EXAMPLES)
    assert finding.status == "passed", f"{finding.text}\n{finding.counterexample}"
    assert finding.examples >= min(EXAMPLES, PROPERTIES[prop].most)


# -- the bound in the docstring is the bound that is asserted ---------------------------------------------------------


@pytest.mark.parametrize("name", STATED)
def test_bound_in_the_docstring(name, record_property):
    largest = bounds.largest_error(name, *STATED[name])
    record_property("largest error in units of the bound's u · scale", largest)


def log_probabilities(case):
    """log π_v of every token of every position, and the entropy of the position."""
    shape = case.tensors["logits"].shape
    columns = [
        CONTRACTS["token_logps"].oracle(case.with_tensors(targets=torch.full(shape[:-1], v)), EXACT).values
        for v in range(shape[-1])
    ]
    entropies = [middle(H) for H in CONTRACTS["token_entropies"].oracle(case, EXACT).values]
    return [([middle(column[i]) for column in columns], H) for i, H in enumerate(entropies)]


def logp_gradient_scales(case):
    """(H + 1)/τ."""
    tau = case.options["temperature"]
    return [(H + 1) / tau for logps, H in log_probabilities(case) for _ in logps]


def entropy_gradient_scales(case):
    """π_v ((1 + H + |log π_v|)² + S)/τ with the spread S."""
    tau, scales = case.options["temperature"], []
    for logps, H in log_probabilities(case):
        spread = sum(math.exp(x) * abs(x) * abs(x + H) for x in logps)
        scales += [math.exp(x) * ((1 + H + abs(x)) ** 2 + spread) / tau for x in logps]
    return scales


@pytest.mark.parametrize(
    ("name", "scales", "text"),
    [
        ("token_logps", logp_gradient_scales, "4·u·(H + 1)/τ"),
        ("token_entropies", entropy_gradient_scales, "4·u·π_v ((1 + H + |log π_v|)² + S)/τ"),
    ],
)
def test_bound_of_the_gradient_in_the_docstring(name, scales, text):
    contract, subject = CONTRACTS[name], subject_of(name)
    assert text in " ".join(getattr(grape_verified, name).__doc__.split())

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(contract.cases(Regime((torch.float64, torch.float32)), subject.offered, {}, contract.variants))
    def holds(case: Case):
        outcome = subject(case, torch.ones(contract.shape_of_result(case)))
        got = outcome.gradients["logits"].flatten().tolist()
        numbers = torch.finfo(outcome.value.dtype)
        expected = contract.oracle(case, EXACT).gradients([1.0] * outcome.value.numel())["logits"]
        for number, target, scale in zip(got, expected, scales(case), strict=True):
            error = max(0.0, abs(float(target.ball.mid() - number)) - numbers.tiny)
            assert error <= 4 * numbers.eps / 2 * scale

    holds()


# -- conventions that other implementations need not share ------------------------------------------------------------


@settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=(Phase.generate,))
@given(
    logp=st.sampled_from((-0.5, -1.0, 0.0)),
    advantage=st.sampled_from((1.0, -1.0, 0.5, 0.0, -2.0)),
    clip_low=st.sampled_from((0.0, 0.2)),
    clip_high=st.sampled_from((0.0, 0.2)),
    dual_clip=st.sampled_from((None, 3.0)),
    dtype=st.sampled_from((torch.float64, torch.float32)),
)
def test_ppo_keeps_the_unclipped_slope_exactly_at_a_kink(logp, advantage, clip_low, clip_high, dual_clip, dtype):
    tokens = {name: torch.tensor([[x]], dtype=dtype) for name, x in (("logps", logp), ("old_logps", logp))}
    options = {"clip_low": clip_low, "clip_high": clip_high, "dual_clip": dual_clip}
    case = Case({**tokens, "advantages": torch.tensor([[advantage]], dtype=dtype)}, options)
    expected = CONTRACTS["ppo_per_token"].oracle(case, EXACT).gradients([1.0])["logps"][0]
    got = subject_of("ppo_per_token")(case, torch.ones(1, 1)).gradients["logps"].item()
    assert got == float(expected.ball.mid())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("distance", [300.0, 1e4, 1e30])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_ppo_gradients_are_finite_for_every_log_ratio_that_a_float_can_hold(dtype, distance, advantage):
    for logp in (distance, -distance):
        logps = torch.tensor([[logp, -0.5]], dtype=dtype, requires_grad=True)
        advantages = torch.full((1, 2), advantage, dtype=dtype)
        loss = grape_verified.ppo_loss(logps, torch.zeros_like(logps), advantages, torch.ones(1, 2)).loss
        loss.backward()
        assert math.isfinite(loss.item())
        assert logps.grad.isfinite().all()
        assert (logps.grad[0, 0] > 1e20) == (logp > 0 and advantage < 0)
