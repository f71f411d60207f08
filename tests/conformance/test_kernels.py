"""The kernels keep every property of their contracts, and the error bounds in their docstrings."""

import math

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import grape_verified
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.checking import read, run_property
from grape_verified.conformance.checks import PROPERTIES
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case, Regime

EXAMPLES = 200

KERNELS = {
    "ppo": grape_verified.ppo_loss,
    "ppo_per_token": grape_verified.ppo_per_token,
    "dpo": grape_verified.dpo_loss,
    "dpo_per_pair": grape_verified.dpo_per_pair,
    "aggregate": grape_verified.aggregate,
    "token_logps": grape_verified.token_logps,
    "token_entropies": grape_verified.token_entropies,
}

PROMISES = [(name, prop) for name, contract in CONTRACTS.items() for prop in contract.properties if prop != "signature"]


def subject_of(name):
    return read(KERNELS[name], CONTRACTS[name], {})


@pytest.mark.parametrize("name", CONTRACTS)
def test_kernel_takes_everything_that_the_contract_offers(name):
    subject = subject_of(name)
    assert subject.offered == tuple(CONTRACTS[name].options)
    assert subject.variants == CONTRACTS[name].variants


@pytest.mark.parametrize(("name", "prop"), PROMISES)
def test_kernel_keeps_the_property(name, prop):
    finding = run_property(subject_of(name), PROPERTIES[prop], EXAMPLES)
    assert finding.status == "passed", f"{finding.text}\n{finding.counterexample}"
    assert finding.examples >= EXAMPLES


# -- the bound in the docstring is the bound that is asserted ---------------------------------------------------------


def ppo_scales(case, answer):
    """(|logp − old_logp| + 1)·|ρA| where the clip is inactive, which is where the slope is not 0, else |value|."""
    distances = (case.tensors["logps"].double() - case.tensors["old_logps"].double()).abs().flatten().tolist()
    slopes = answer.gradients([1.0] * len(distances))["logps"]
    for target, slope, d in zip(answer.values, slopes, distances, strict=True):
        yield (d + 1) * abs(float(slope.ball.mid())) or abs(float(target.ball.mid()))


def dpo_scales(case, answer):
    """β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1."""
    pairs = {name: tensor.double() for name, tensor in case.tensors.items()}
    chosen = (pairs["chosen_logps"] - pairs["ref_chosen_logps"]).abs()
    rejected = (pairs["rejected_logps"] - pairs["ref_rejected_logps"]).abs()
    yield from (case.options["beta"] * (chosen + rejected) + 1).tolist()


def logp_scales(case, answer):
    """|z_y/τ| + |log Σ exp(z_v/τ)| + 1, the second from the exact result."""
    chosen = case.tensors["logits"].double().gather(-1, case.tensors["targets"][..., None]).flatten()
    for z, target in zip((chosen / case.options["temperature"]).tolist(), answer.values, strict=True):
        yield abs(z) + abs(z - float(target.ball.mid())) + 1


def aggregate_scales(case, answer):
    """The same reduction of |x|."""
    yield answer.size()


STATED = {
    "ppo_per_token": (4, ppo_scales, "4·u·(|logp − old_logp| + 1)·|ρA|"),
    "dpo_per_pair": (4, dpo_scales, "4·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1)"),
    "token_logps": (4, logp_scales, "4·u·(|z_y/τ| + |log Σ_v exp(z_v/τ)| + 1)"),
    "aggregate": (8, aggregate_scales, "8·u·S"),
}


@pytest.mark.parametrize("name", STATED)
def test_bound_in_the_docstring(name):
    constant, scales, text = STATED[name]
    contract, subject = CONTRACTS[name], subject_of(name)
    assert text in " ".join(getattr(grape_verified, name).__doc__.split())
    regime = Regime((torch.float64, torch.float32, torch.bfloat16))

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(contract.cases(regime, subject.offered, {}, contract.variants))
    def holds(case: Case):
        got = subject.call(case, list(case.tensors.values()))
        unit = torch.finfo(got.dtype).eps / 2
        answer = contract.oracle(case, EXACT)
        for number, target, scale in zip(got.flatten().tolist(), answer.values, scales(case, answer), strict=True):
            error = abs(float(target.ball.mid() - number))
            assert error <= constant * unit * scale + torch.finfo(got.dtype).tiny

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
        assert logps.grad[0, 0].sign() == (1 if logp > 0 and advantage < 0 else 0)
