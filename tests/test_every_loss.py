"""What every public function has to do, drawn over all contracts. What is worked out by hand is in `tests/losses`.

Compiled, transformed, strided, masked and the like: `tests/test_contexts.py`. Values, gradients, masks, partitions and
extremes against the spec: `tests/conformance/test_kernels.py`.
"""

import re

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import grape_verified
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.calls import calls
from grape_verified.numerics import SMALL

DIFFERENTIATED = [name for name, contract in CONTRACTS.items() if contract.wrt]
LOSSES = [name for name, contract in CONTRACTS.items() if contract.reduced and name != "aggregate"]


def first(name):
    """The call with the most numbers."""
    return calls(name)[0]


def to(call, dtype):
    return call.mapped(lambda t: t.to(dtype) if t.is_floating_point() else t)


def off_the_kinks(call):
    """In fp64, every number that is differentiated moved a little, ratios at most e³: else differences lose digits."""
    exact = to(call, torch.float64)
    logps, references = exact.tensors.get("logps"), ("old_logps", "ref_logps")
    near = {n: logps + (exact.tensors[n] - logps).clamp(-3, 3) for n in references if n in exact.tensors}
    for side in ("chosen_logps", "rejected_logps"):
        if f"ref_{side}" in exact.tensors:
            own = exact.tensors[side]
            near[f"ref_{side}"] = own + (exact.tensors[f"ref_{side}"] - own).clamp(-3, 3)
    moved = {n: exact.tensors[n] for n in exact.wrt}
    waves = {n: 0.01 * torch.arange(1.0, 1 + t.numel()).double().sin().view_as(t) for n, t in moved.items()}
    return exact.with_tensors(**near, **{n: moved[n] + waves[n] for n in moved})


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_the_gradient_is_that_of_the_value_unless_a_weight_is_held_constant(name):
    differentiable = [call for call in map(off_the_kinks, calls(name)) if not call.constants]
    if not differentiable:
        pytest.skip("its weights are constants")
    for call in differentiable:
        leaves = [call.tensors[n].clone().requires_grad_() for n in call.wrt]

        def value(*given, call=call):
            return call({**call.tensors, **dict(zip(call.wrt, given, strict=True))})

        assert torch.autograd.gradcheck(value, leaves)


#: What refuses a forward-mode derivative: functions from logits or hidden states, which have only a backward pass.
WITHOUT_FORWARD_MODE = {
    "token_logps", "token_entropies", "linear_token_logps", "linear_token_entropies", "categorical_kl",
    "jensen_shannon", "top_k_divergence",
}  # fmt: skip
FORWARD_MODE = [name for name in DIFFERENTIATED if name not in WITHOUT_FORWARD_MODE]


def total_of(call):
    """The sum of what a call returns, as a function of what is differentiated, and where."""

    def total(*given):
        return call({**call.tensors, **dict(zip(call.wrt, given, strict=True))}).sum()

    return total, tuple(call.tensors[n] for n in call.wrt)


@pytest.mark.parametrize("name", FORWARD_MODE)
def test_forward_mode_and_reverse_mode_agree(name):
    for total, at in map(total_of, map(off_the_kinks, calls(name))):
        tangents = tuple(torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x) for x in at)
        slopes = torch.func.grad(total, argnums=tuple(range(len(at))))(*at)
        expected = sum((slope * tangent).sum() for slope, tangent in zip(slopes, tangents, strict=True))
        torch.testing.assert_close(torch.func.jvp(total, at, tangents)[1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FORWARD_MODE)
def test_the_hessian_is_the_same_by_either_mode(name):
    total, at = total_of(off_the_kinks(first(name)))
    forward_over_reverse = torch.func.hessian(total)(*at)
    reverse_over_reverse = torch.func.jacrev(torch.func.jacrev(total))(*at)
    torch.testing.assert_close(forward_over_reverse, reverse_over_reverse, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(WITHOUT_FORWARD_MODE))
def test_a_forward_mode_derivative_that_is_not_there_is_refused(name):
    total, at = total_of(off_the_kinks(first(name)))
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.func.jvp(total, at, at)


@pytest.mark.parametrize("name", LOSSES)
def test_a_trace_has_the_gradient(name):
    """What make_fx records is differentiated later, without the tricks of eager mode."""
    total, at = total_of(off_the_kinks(first(name)))
    leaves = [x.clone().requires_grad_() for x in at]
    traced = torch.autograd.grad(make_fx(total)(*at)(*leaves), leaves)
    torch.testing.assert_close(traced, torch.func.grad(total, argnums=tuple(range(len(at))))(*at), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in LOSSES if "mask" in CONTRACTS[name].tensors])
def test_masked_gradients_are_0_for_an_upstream_of_nan_in_large_batches_too(name):
    """Above some size another path is taken; 0 · NaN is not 0."""
    call = first(name)
    rows = -(-2 * SMALL // call.tensors["mask"].numel())
    if name in {"rejection_sampling", "grape"}:
        pytest.skip("groups of rows are not to be repeated")
    large = call.mapped(lambda t: t.repeat(rows, *[1] * (t.ndim - 1)))
    result, leaves = output(large)
    masked = large.tensors["mask"] == 0
    if result[1].ndim == 1:
        pytest.skip("its terms are sequences")
    upstream = torch.ones_like(result[1]).masked_fill(masked, torch.nan)
    gradients = torch.autograd.grad(result[1], leaves, upstream)
    assert not any(gradient[masked].any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONTRACTS)
def test_half_precision_is_computed_in_fp32_and_gradients_have_the_dtype_of_their_argument(name, dtype):
    call = to(first(name), dtype)
    leaves = {n: t.clone().requires_grad_(n in call.wrt) for n, t in call.tensors.items()}
    result = call(leaves)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    if call.wrt:
        result.sum().backward()
        assert {leaves[n].grad.dtype for n in call.wrt} == {dtype}


@pytest.mark.parametrize("name", CONTRACTS)
def test_only_what_the_contract_says_is_differentiated(name):
    call = first(name)
    leaves = {n: t.clone().requires_grad_(t.is_floating_point()) for n, t in call.tensors.items()}
    result = call(leaves)
    assert result.requires_grad == bool(call.wrt)
    if call.wrt:
        result.sum().backward()
    assert {n for n, leaf in leaves.items() if leaf.grad is not None and leaf.grad.any()} <= set(call.wrt)


def output(call, function=None):
    """What a loss returns, in full, and the leaves that it is differentiated in."""
    contract = CONTRACTS[call.name]
    given = {n: t.clone().requires_grad_(n in call.wrt) for n, t in call.tensors.items()}
    by_position = [given[n] for n in contract.tensors if n not in contract.by_keyword]
    by_keyword = {n: t for n, t in given.items() if n in contract.by_keyword}
    function = function or getattr(grape_verified, contract.kernel)
    return function(*by_position, **by_keyword, **call.options), [given[n] for n in call.wrt]


@pytest.mark.parametrize("name", LOSSES)
def test_metrics_are_finite_numbers_without_a_gradient(name):
    result, _ = output(first(name))
    assert result.metrics
    for metric in result.metrics.values():
        assert metric.ndim == 0
        assert metric.isfinite()
        assert not metric.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_terms_and_metrics_are_those_of_wider_inputs(name, dtype):
    """Whatever the dtype of what is not differentiated."""
    call, wide = to(first(name), dtype), torch.float64 if dtype == torch.float64 else torch.float32
    result, _ = output(call)
    loss, terms, metrics = result
    assert {x.dtype for x in (loss, terms, *metrics.values())} == {wide}
    expected, _ = output(to(call, wide))
    assert torch.equal(loss, expected[0])
    assert torch.equal(terms, expected[1])
    assert metrics == expected[2]
    if name not in {"rejection_sampling", "grape"}:  # which read rewards and scores in their own dtype
        constants = {n: t.double() for n, t in call.tensors.items() if n not in call.wrt and t.is_floating_point()}
        assert torch.equal(output(call.with_tensors(**constants))[0].loss, loss)


@pytest.mark.parametrize("name", [name for name in LOSSES if "mask" in CONTRACTS[name].tensors])
def test_where_no_token_counts_loss_terms_metrics_and_gradients_are_0(name):
    call = first(name)
    nothing = {n: torch.full_like(call.tensors[n], torch.nan) for n in ("logps", "old_logps", "ref_logps", "values")
               if n in call.tensors}  # fmt: skip
    mask = torch.zeros_like(call.tensors["mask"])
    result, leaves = output(call.with_tensors(**nothing, mask=mask))
    result.loss.backward()
    assert result.loss == 0
    assert not result[1].any()
    if name != "grape":  # whose rewards are there all the same
        assert not any(result.metrics.values())
    assert not any(leaf.grad.any() for leaf in leaves)


@pytest.mark.full("contexts that compile")
@pytest.mark.parametrize("name", LOSSES)
def test_metrics_are_the_same_compiled(name):
    torch._dynamo.reset()
    compiled = torch.compile(getattr(grape_verified, CONTRACTS[name].kernel), backend="aot_eager", fullgraph=True)
    (eager, _), (other, _) = output(first(name)), output(first(name), compiled)
    torch.testing.assert_close(other.metrics, eager.metrics)
    torch.testing.assert_close(other[1], eager[1])


@pytest.mark.parametrize("name", LOSSES)
def test_the_terms_of_a_loss_are_0_where_masked(name):
    terms = output(first(name))[0][1]
    masked = first(name).tensors.get("mask", torch.tensor(1)) == 0
    if terms.ndim == masked.ndim:
        assert not terms[masked].any()


# -- errors -----------------------------------------------------------------------------------------------------------


def refused(error, argument, call, tensors=None, **options):
    with pytest.raises(error) as caught:
        call(call.tensors | (tensors or {}), **options)
    text = str(caught.value)
    assert re.match(rf"{argument}: got .+, expected .+", text, re.DOTALL), text


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_error_names_the_tensor_what_came_and_what_was_expected(name):
    call = first(name)
    for argument, tensor in call.tensors.items():
        refused(TypeError, argument, call, {argument: tensor.tolist()})
        refused(TypeError, argument, call, {argument: tensor.to(torch.complex64)})
        refused(TypeError, argument, call, {argument: tensor.to_sparse()})


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_error_names_the_option_what_came_and_what_was_expected(name):
    for call in calls(name):
        missing = {option for tensor, option in CONTRACTS[name].by_keyword.items() if tensor not in call.tensors}
        for option, values in call.numbers.items():
            if values and option not in missing:
                for wrong in ("1", float("nan"), 1j):
                    refused((TypeError, ValueError), option, call, **{option: wrong})
