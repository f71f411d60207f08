"""TRPO's step: the closed form where everything is known, and what a step guarantees on real models."""

import copy
import inspect
import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.nn import Dropout, Module, Parameter, Sequential
from torch.utils.checkpoint import checkpoint

from grape_verified import conjugate_gradient, fisher_vector_product, token_logps, trpo_loss, trpo_step

from .models import (
    ADVANTAGES,
    BAD,
    INPUTS,
    MASK,
    TARGETS,
    UNIT,
    VOCAB,
    Forbidding,
    bits,
    flat,
    linear,
    linear_case,
    llama,
    llama_batch,
    logits_of,
    normal,
    unchanged,
)


def measure(model, inputs, targets, advantages, old_logits, mask=MASK):
    """Mean KL(old‖new) and mean ρA, token by token in fp64."""
    with torch.no_grad():
        logits = logits_of(model, inputs).double()
    divergences, surrogates = [], []
    for place in mask.nonzero().tolist():
        old, new = (Categorical(logits=given[tuple(place)].double()) for given in (old_logits, logits))
        divergences.append(kl_divergence(old, new).item())
        target = targets[tuple(place)]
        surrogates.append((new.log_prob(target) - old.log_prob(target)).exp().item() * advantages[tuple(place)].item())
    return sum(divergences) / len(divergences), sum(surrogates) / len(surrogates)


# -- the step, where everything is known -------------------------------------------------------------------------------


def linear_fisher_and_gradient(model, inputs, targets, advantages):
    """F and g of z = Wx + b written out: F has entries π_v(δ_vw − π_w) x_i x_j at (v, i), (w, j), and g A(δ − π)x."""
    size = VOCAB * 4
    fisher, gradient, count = torch.zeros(size, size).double(), torch.zeros(size).double(), int(MASK.sum())
    weight = torch.cat([model.weight.detach(), model.bias.detach().unsqueeze(1)], 1)
    for place in MASK.nonzero().tolist():
        x = torch.cat([inputs[tuple(place)], torch.ones(1).double()])
        p = (weight @ x).exp() / (weight @ x).exp().sum()
        hot = torch.eye(VOCAB).double()[targets[tuple(place)]]
        fisher += torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(x, x)) / count
        gradient += advantages[tuple(place)] * torch.kron(hot - p, x) / count
    return fisher, gradient


def change_of(model, old):
    """What a step added to (W, b), in the order of `linear_fisher_and_gradient`."""
    new, old = (torch.cat([m.weight.detach(), m.bias.detach().unsqueeze(1)], 1) for m in (model, old))
    return (new - old).reshape(-1)


@pytest.mark.parametrize("max_kl", [1e-2, 1e-4])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_the_step_is_the_closed_form(max_kl, damping):
    """trpo.step: d* = √(2δ/gᵀH⁻¹g) H⁻¹g. F is singular, as logits may be shifted; H⁻¹g has the least norm."""
    model, inputs, targets, advantages = linear_case()
    old = copy.deepcopy(model)
    fisher, gradient = linear_fisher_and_gradient(model, inputs, targets, advantages)
    solution = torch.linalg.pinv(fisher + damping * torch.eye(28).double(), rtol=1e-10, hermitian=True) @ gradient
    full = (2 * max_kl / (gradient @ solution)).sqrt() * solution
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=max_kl, damping=damping, cg_steps=80)
    assert result.accepted
    assert result.fraction in (1.0, 0.5)
    torch.testing.assert_close(change_of(model, old), result.fraction * full, rtol=1e-6, atol=1e-8)
    # trpo.step.gain: the surrogate gains √(2δ gᵀH⁻¹g) to first order.
    gain = result.surrogate_after - result.surrogate_before
    first_order = result.fraction * (2 * max_kl * (gradient @ solution)).sqrt().item()
    assert gain == pytest.approx(first_order, rel=10 * max_kl**0.5)


def test_without_damping_a_small_step_uses_up_its_divergence():
    model, inputs, targets, advantages = linear_case()
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=1e-6, damping=0.0, cg_steps=80)
    assert result.kl == pytest.approx(1e-6 * result.fraction**2, rel=1e-2)


def test_reported_numbers_are_those_of_plain_loops():
    model, inputs, targets, advantages = linear_case()
    old_logits = model(inputs).detach()
    result = trpo_step(model, inputs, targets, advantages, MASK)
    kl, surrogate = measure(model, inputs, targets, advantages, old_logits)
    assert result.kl == pytest.approx(kl, rel=1e-10)
    assert result.surrogate_after == pytest.approx(surrogate, rel=1e-12)
    assert result.surrogate_before == pytest.approx(advantages[MASK].mean().item())
    logps, old_logps = (token_logps(logits, targets) for logits in (model(inputs), old_logits))
    assert result.surrogate_after == pytest.approx(-trpo_loss(logps, old_logps, advantages, MASK).loss.item())


def test_shorter_fractions_are_tried_in_turn():
    """A full step whose KL is far above the bound, as the quadratic model is inaccurate at this length."""
    results = {}
    for backtracks in (0, 1, 20, 10**30):
        model, inputs, targets, advantages = linear_case()
        before = bits(model)
        options = {"max_kl": 3.0, "damping": 0.0, "cg_steps": 28, "backtrack_ratio": 0.7}
        result = trpo_step(model, inputs, targets, advantages, MASK, backtracks=backtracks, **options)
        assert result.accepted is not unchanged(before, model)
        results[backtracks] = result
    taken = results[20]
    tries = round(math.log(taken.fraction) / math.log(0.7))
    assert tries > 1
    assert taken.accepted
    assert taken.fraction == pytest.approx(0.7**tries)
    assert not results[0].accepted
    assert not results[1].accepted
    assert results[10**30] == taken


@pytest.mark.parametrize("buffer", [torch.eye(2).to_sparse(), torch.ones(2, device="meta")], ids=["sparse", "meta"])
def test_buffers_that_cannot_be_compared_do_not_stop_a_step(buffer):
    model, inputs, targets, advantages = linear_case()
    model.register_buffer("table", buffer)
    assert trpo_step(model, inputs, targets, advantages, MASK).accepted


def test_a_step_is_not_shortened_to_nothing():
    """However many fractions are allowed, the search ends with the last that is not 0."""
    model, inputs, targets, advantages = linear_case()
    options = {"max_kl": 1e-30, "damping": 0.0, "backtracks": 10**30, "backtrack_ratio": 1e-30}
    assert "a larger surrogate" in str(trpo_step(model, inputs, targets, advantages, MASK, **options).reason)


# -- the step, on a transformer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("max_kl", [1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_on_a_transformer_keeps_the_divergence_and_gains(dtype, max_kl, tied):
    model, (inputs, targets) = llama(dtype, tie_word_embeddings=tied), llama_batch()
    advantages = normal(3, 4, seed=9, dtype=dtype)
    with torch.no_grad():
        old_logits = logits_of(model, inputs)
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=max_kl)
    assert result.accepted
    assert result.reason is None
    assert 0 < result.kl <= max_kl
    assert result.surrogate_after > result.surrogate_before
    kl, surrogate = measure(model, inputs, targets, advantages, old_logits)
    bound = 16 * UNIT[dtype] * (1 + old_logits.log_softmax(-1).abs().max().item()) * kl**0.5
    assert abs(result.kl - kl) <= bound
    assert result.surrogate_after == pytest.approx(surrogate, rel=1e-5)


def test_a_small_divergence_keeps_its_digits():
    """In fp32, log π − log π_old alone would be off by more than this divergence."""
    model, (inputs, targets) = llama(), llama_batch()
    advantages = normal(3, 4, seed=9)
    with torch.no_grad():
        old_logits = logits_of(model, inputs)
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=1e-8)
    kl, _ = measure(model, inputs, targets, advantages, old_logits)
    assert result.accepted
    assert result.kl == pytest.approx(kl, rel=1e-2)


def test_a_step_with_a_forbidden_token():
    model, inputs, targets, advantages = Forbidding(), *linear_case()[1:]
    targets = targets.masked_fill(targets == 2, 3)
    old_logits = model(inputs).detach()
    result = trpo_step(model, inputs, targets, advantages, MASK)
    assert result.accepted
    allowed = torch.arange(VOCAB) != 2
    kl, _ = measure(lambda x: model(x)[..., allowed], inputs, targets * 0, advantages, old_logits[..., allowed])
    assert result.kl == pytest.approx(kl, rel=1e-10)


def test_steps_in_a_row_learn():
    """Reward for one token: its probability rises step by step, within the bound of each step."""
    model, (inputs, _) = llama(), llama_batch()
    targets = torch.full((3, 4), 3)

    def mean_probability():
        with torch.no_grad():
            return logits_of(model, inputs).softmax(-1)[..., 3][MASK].mean().item()

    probabilities = [mean_probability()]
    for _ in range(8):
        result = trpo_step(model, inputs, targets, torch.ones(3), MASK, max_kl=0.05)
        assert result.accepted
        assert result.kl <= 0.05
        probabilities.append(mean_probability())
    assert probabilities == sorted(probabilities)
    assert probabilities[-1] > probabilities[0] + 0.3


def test_half_precision_parameters_are_measured_as_they_are_stored():
    model, (inputs, targets) = llama(torch.bfloat16), llama_batch()
    advantages = normal(3, 4, seed=9)
    with torch.no_grad():
        old_logits = logits_of(model, inputs)
    result = trpo_step(model, inputs, targets, advantages, MASK)
    assert result.accepted
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    kl, surrogate = measure(model, inputs, targets, advantages, old_logits)
    assert result.kl == pytest.approx(kl, rel=1e-4)
    assert result.surrogate_after == pytest.approx(surrogate, rel=1e-4)


class Recomputed(Module):
    """A Llama that saves only its input for the backward pass, which recomputes everything."""

    def __init__(self):
        super().__init__()
        self.inner = llama(torch.float64, use_cache=False)

    def forward(self, **inputs):
        return checkpoint(self.inner, **inputs, use_reentrant=False)


def test_gradient_checkpointing_changes_nothing():
    steps = []
    for model in (llama(torch.float64), Recomputed()):
        inputs, targets = llama_batch()
        assert trpo_step(model, inputs, targets, normal(3, 4, seed=9), MASK).accepted
        steps.append(flat(model.parameters()))
    torch.testing.assert_close(*steps, rtol=1e-9, atol=1e-12)


def test_what_a_step_leaves_alone():
    model, (inputs, targets) = llama(), llama_batch()
    frozen = model.model.layers[0]
    frozen.requires_grad_(False)
    gradients = [torch.full_like(parameter, 3.0) for parameter in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    before, mode = bits(frozen), model.training
    given = {name: value.clone() for name, value in inputs.items()}
    advantages = normal(3, 4, seed=9).requires_grad_()
    with torch.no_grad():
        assert trpo_step(model, inputs, targets, advantages, MASK).accepted
    assert unchanged(before, frozen)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert (gradient == 3).all()
    assert [parameter.requires_grad for parameter in frozen.parameters()] == [False] * len(before)
    assert model.training is mode
    assert advantages.grad is None
    assert all(torch.equal(inputs[name], value) for name, value in given.items())


def test_masked_entries_do_not_enter():
    steps = []
    for behind in (0.0, math.nan):
        model, (inputs, targets) = llama(), llama_batch()
        advantages = normal(3, 4, seed=9).masked_fill(~MASK, behind)
        targets = targets.masked_fill(~MASK, 0 if behind == 0 else -100)
        steps.append((trpo_step(model, inputs, targets, advantages, MASK.long()), bits(model)))
    (clean, clean_bits), (dirty, dirty_bits) = steps
    assert clean == dirty
    assert all(torch.equal(old, new) for old, new in zip(clean_bits, dirty_bits, strict=True))


def test_an_advantage_for_each_sequence_is_that_of_each_of_its_tokens():
    per_sequence, results = torch.tensor([1.0, -2.0, 0.5]), []
    for advantages in (per_sequence, per_sequence.unsqueeze(1).expand(3, 4)):
        model, (inputs, targets) = llama(), llama_batch()
        results.append(trpo_step(model, inputs, targets, advantages, MASK))
    assert results[0].accepted
    assert results[0] == results[1]


# -- no step -----------------------------------------------------------------------------------------------------------


class Backwards(Module):
    """A model whose gradient has the wrong sign, so that no step along it helps."""

    class Turned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    def __init__(self):
        super().__init__()
        self.inner = linear(seed=5)

    def forward(self, inputs):
        return self.inner(inputs.new_ones(inputs.shape)) + self.Turned.apply(2 * self.inner(inputs))


class Overflowing(Module):
    """Finite at the start, and NaN after any step of visible size."""

    def __init__(self):
        super().__init__()
        self.inner = linear(seed=5)

    def forward(self, inputs):
        moved = (self.inner.weight - linear(seed=5).weight).abs().max() > 1e-9
        return self.inner(inputs) + torch.where(moved.detach(), math.nan, 0.0)


def with_nan_parameter():
    model = linear(seed=5)
    with torch.no_grad():
        model.weight[0, 0] = math.nan
        model.weight[1, 1] = -0.0
    return model


def with_forbidden_token():
    model = linear(seed=5)
    with torch.no_grad():
        model.bias[linear_case()[2][0, 0]] = -math.inf
    return model


def with_infinite_gradient():
    model = linear(seed=5)
    model.bias.register_hook(lambda gradient: gradient * math.inf)
    return model


NOTHING = {
    "all masked": ({"mask": torch.zeros(3, 4)}, "no token counts"),
    "advantages of zero": ({"advantages": torch.zeros(3)}, "the gradient of the surrogate is zero"),
    "an advantage of NaN": ({"advantages": torch.full((3,), math.nan)}, "an advantage that counts is not finite"),
    "an advantage of inf": ({"advantages": torch.full((3,), math.inf)}, "an advantage that counts is not finite"),
    "one advantage of NaN": (
        {"advantages": torch.tensor([1.0, math.nan, 2.0])},
        "an advantage that counts is not finite",
    ),
    "a forbidden target": (
        {"model": with_forbidden_token},
        "the log-probability of a target that counts is not finite",
    ),
    "a step too small for the parameters": (
        {"model": lambda: linear(seed=5).bfloat16(), "inputs": linear_case()[1].bfloat16(), "max_kl": 1e-12},
        "no fraction of the step from 1 to 0.000977 has KL <= 1e-12",
    ),
    "a parameter of NaN": ({"model": with_nan_parameter}, "the log-probability of a target that counts is not finite"),
    "an infinite gradient": ({"model": with_infinite_gradient}, "the gradient of the surrogate is not finite"),
    "NaN after the step": ({"model": Overflowing}, "no fraction of the step from 1 to 0.000977 has KL <= 0.01"),
    "no step helps": ({"model": Backwards}, "no fraction of the step from 1 to 0.000977 has KL <= 0.01"),
    "too far": (
        {"max_kl": 3.0, "damping": 0.0, "cg_steps": 28, "backtracks": 0},
        "no fraction of the step from 1 to 1",
    ),
}


@pytest.mark.parametrize(("given", "reason"), NOTHING.values(), ids=NOTHING)
def test_without_an_acceptable_step_the_parameters_stay_bit_for_bit(given, reason):
    model, inputs, targets, advantages = linear_case()
    case = {"model": lambda: model, "inputs": inputs, "targets": targets, "advantages": advantages, "mask": MASK}
    case |= given
    case["model"] = case["model"]()
    before = bits(case["model"])
    result = trpo_step(**case)
    assert result.accepted is False
    assert result.reason.startswith(reason)
    assert (result.kl, result.fraction) == (0.0, 0.0)
    assert isinstance(result.kl, float)
    assert unchanged(before, case["model"])
    assert all(parameter.grad is None for parameter in case["model"].parameters())
    before_after = torch.tensor([result.surrogate_before, result.surrogate_after])
    assert torch.equal(before_after[:1].isnan(), before_after[1:].isnan())
    if before_after.isfinite().all():
        assert result.surrogate_before == result.surrogate_after
    if not case["mask"].any():
        assert result.surrogate_before == 0


def test_a_singular_fisher_matrix_without_damping_is_a_reason():
    """One number added to all logits changes nothing: what is left of its gradient is rounding."""

    class Shifted(Module):
        def __init__(self):
            super().__init__()
            self.shift = Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, inputs):
            return normal(3, 4, VOCAB) + self.shift

    model, (_, inputs, targets, advantages) = Shifted(), linear_case()
    result = trpo_step(model, inputs, targets, advantages, MASK, damping=0.0)
    assert not result.accepted
    assert "curvature" in result.reason or "zero" in result.reason or "no fraction" in result.reason
    assert model.shift.item() == 0


@pytest.mark.parametrize("call", range(1, 6))
def test_an_error_within_the_model_leaves_the_parameters_as_they_were(call):
    """Twice at the start, once for the gradient, and once for each fraction, of which the second would be taken."""

    class Failing(Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = linear(seed=5), 0

        def forward(self, inputs):
            self.calls += 1
            if self.calls == call:
                raise RuntimeError("out of memory")
            return self.inner(inputs)

    model, (_, inputs, targets, advantages) = Failing(), linear_case()
    before = bits(model)
    with pytest.raises(RuntimeError, match="out of memory"):
        trpo_step(model, inputs, targets, advantages, MASK, max_kl=3.0, damping=0.0, cg_steps=28)
    assert unchanged(before, model)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_only_the_proportions_of_advantages_matter(scale):
    model, inputs, targets, advantages = linear_case()
    model, inputs, advantages = model.float(), inputs.float(), advantages.float()
    other = copy.deepcopy(model)
    assert trpo_step(model, inputs, targets, advantages, MASK).accepted
    assert trpo_step(other, inputs, targets, advantages * scale, MASK).accepted
    torch.testing.assert_close(other.weight, model.weight)


def test_a_step_of_a_single_parameter_that_has_to_fall():
    """Every entry of the solution is then negative."""

    class Tilted(Module):
        def __init__(self):
            super().__init__()
            self.slope = Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, inputs):
            return self.slope * torch.arange(VOCAB, dtype=torch.float64).expand(*inputs.shape, VOCAB)

    model, mask = Tilted(), torch.ones(1, 1)
    result = trpo_step(model, torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.long), torch.ones(1), mask)
    assert result.accepted
    assert result.surrogate_after > result.surrogate_before
    assert model.slope < 0


def test_a_ratio_beyond_the_range_does_not_spoil_the_gain():
    """A target of advantage 0 becomes e¹⁰⁰ times as likely, which fp32 cannot hold: 0 · ∞ would be NaN."""

    class Steep(Module):
        def __init__(self):
            super().__init__()
            self.slope = Parameter(torch.zeros(1))

        def forward(self, inputs):
            slope = self.slope
            rare = torch.stack([slope * 0, slope * 0, 1e4 * slope - 200], -1)
            return torch.stack([torch.stack([slope, -slope, slope * 0], -1), rare], 1)

    mask, advantages = torch.ones(1, 2), torch.tensor([[1.0, 0.0]])
    model, targets = Steep(), torch.tensor([[0, 2]])
    result = trpo_step(model, torch.zeros(1, 2), targets, advantages, mask, max_kl=1e-4, damping=0.0)
    assert model.slope > 0.0095  # so that the rare logit is above −105
    assert result.accepted
    assert 0 < result.surrogate_after - result.surrogate_before < 1


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_dropout_is_detected():
    torch.manual_seed(0)
    model, inputs, targets, advantages = linear_case()
    model = Sequential(Dropout(0.5), model)
    before = bits(model)
    with pytest.raises(ValueError, match="model: got different logits from two evaluations at the same parameters"):
        trpo_step(model, inputs, targets, advantages, MASK)
    assert unchanged(before, model)
    assert trpo_step(model.eval(), inputs, targets, advantages, MASK).accepted


def test_what_is_on_another_device_is_refused():
    model, inputs, targets, advantages = linear_case()
    with pytest.raises(ValueError, match="mask: got device meta, expected cpu"):
        fisher_vector_product(model, inputs, MASK.to("meta"), torch.zeros(28))
    with pytest.raises(ValueError, match="vector: got device meta, expected cpu"):
        fisher_vector_product(model, inputs, MASK, torch.zeros(28, device="meta"))
    with pytest.raises(ValueError, match="advantages: got device meta, expected cpu"):
        trpo_step(model, inputs, targets, advantages.to("meta"), MASK)
    model.bias = Parameter(model.bias.to("meta"))
    with pytest.raises(ValueError, match="model: got parameters on cpu, meta, expected one device"):
        trpo_step(model, inputs, targets, advantages, MASK)


def test_defaults():
    for function, expected in {
        fisher_vector_product: {"damping": 0.0},
        conjugate_gradient: {"steps": 10, "tolerance": 1e-10},
        trpo_step: {"max_kl": 0.01, "damping": 0.1, "cg_steps": 10, "backtracks": 10, "backtrack_ratio": 0.5},
    }.items():
        parameters = inspect.signature(function).parameters.values()
        assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


BAD_STEP = [
    ({"targets": [[1]]}, TypeError, "targets: got list, expected a tensor"),
    ({"targets": TARGETS[:, :3]}, ValueError, "mask: got shape (3, 4), expected (3, 3), the shape of targets"),
    ({"targets": TARGETS + 7}, ValueError, "targets: got the value"),
    ({"targets": TARGETS.double()}, TypeError, "targets: got dtype torch.float64, expected an integer dtype"),
    (
        {"targets": TARGETS[:, :3], "mask": MASK[:, :3], "advantages": ADVANTAGES[:, :3]},
        ValueError,
        "mask: got shape (3, 3), expected (3, 4), the shape of the model's logits without its last dimension",
    ),
    ({"advantages": TARGETS}, TypeError, "advantages: got dtype torch.int64, expected a floating-point dtype"),
    (
        {"advantages": ADVANTAGES[:, :3]},
        ValueError,
        "advantages: got shape (3, 3), expected (3, 4), the shape of targets, or (3,), one for each entry of its first",
    ),
    ({"max_kl": 0.0}, ValueError, "max_kl: got 0.0, expected a finite number > 0"),
    ({"damping": -0.1}, ValueError, "damping: got -0.1, expected a finite number >= 0"),
    ({"damping": math.inf}, ValueError, "damping: got inf, expected a finite number >= 0"),
    ({"cg_steps": 0}, ValueError, "cg_steps: got 0, expected an integer >= 1"),
    ({"cg_steps": 1.0}, TypeError, "cg_steps: got 1.0, expected an integer >= 1"),
    ({"backtracks": -1}, ValueError, "backtracks: got -1, expected an integer >= 0"),
    ({"backtracks": True}, TypeError, "backtracks: got True, expected an integer >= 0"),
    ({"backtrack_ratio": 1.0}, ValueError, "backtrack_ratio: got 1.0, expected a number in (0, 1)"),
    ({"backtrack_ratio": 0.0}, ValueError, "backtrack_ratio: got 0.0, expected a number in (0, 1)"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD + BAD_STEP)
def test_bad_arguments_of_a_step(given, error, text):
    good = {"model": linear(), "inputs": INPUTS, "targets": TARGETS, "advantages": ADVANTAGES, "mask": MASK}
    with pytest.raises(error) as raised:
        trpo_step(**good | given)
    assert str(raised.value).startswith(text)
