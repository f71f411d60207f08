"""Every public function in every context, and wrong functions that the table of contexts has to find."""

from dataclasses import replace

import pytest
import torch

import grape_verified
from grape_verified import ppo_loss, sft_loss, token_logps
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.calls import calls, names, of_function
from grape_verified.conformance.contexts import CONTEXTS, Cell, cell, lines, row
from tests.conformance.own_backward import ignores_upstream, overwrites, with_backward

CHEAP = [context.name for context in CONTEXTS if not context.cost]
COMPILED = [context.name for context in CONTEXTS if context.cost]
BY_NAME = {context.name: context for context in CONTEXTS}

FUSED = {"fused_linear_loss", "fused_jensen_shannon_loss", "fused_top_k_loss"}
HEAD = {"linear_token_logps", "linear_token_entropies"} | FUSED
VALUES = HEAD | {"unpack_sequences"}
MODEL = {"fisher_vector_product", "trpo_step"}

#: What is refused, and by which functions; everything else works or does not apply.
REFUSED = {
    "inference_mode": MODEL,
    "func.grad": HEAD,
    "vmap": VALUES,
    "create_graph": HEAD,
    "second derivative": HEAD,
    "zero rows": {"trpo_step"},
    "DTensor": set(names()) - {"adaptive_kl_coef"},
    "fake tensors": VALUES,
    "meta": VALUES,
}


def wrong(cells):
    found = [cell for cell in cells if cell.status == "WRONG"]
    return [f"{cell.kernel} | {cell.context} | {cell}" for cell in found]


def test_every_public_function_is_in_the_table():
    functions = {name for name in grape_verified.__all__ if callable(getattr(grape_verified, name))}
    functions = {name for name in functions if not isinstance(getattr(grape_verified, name), type)}
    assert functions <= {CONTRACTS[name].kernel if name in CONTRACTS else name for name in names()}


@pytest.mark.parametrize("kernel", names())
def test_a_function_in_every_context(kernel):
    cells = row(kernel, CHEAP)
    assert not wrong(cells)
    refused = {found.context for found in cells if found.status == "refuses"}
    assert refused <= {context for context, kernels in REFUSED.items() if kernel in kernels}
    assert all(found.words for found in cells if found.status in ("refuses", "–"))
    assert [found.context for found in cells] == CHEAP


@pytest.mark.full("contexts that compile")
@pytest.mark.parametrize("kernel", names())
def test_a_function_in_contexts_that_compile(kernel):
    assert not wrong(row(kernel, COMPILED))


def test_masks_and_options_are_tried():
    """Contexts of masks are tried with something masked, and options with more than one value."""
    for name in names():
        given = calls(name)
        assert all("mask" not in call.tensors or 0 < call.masked.sum() < call.masked.numel() for call in given[:1]), (
            name
        )
        options = {repr(call.options) for call in given}
        assert len(options) == len(given) or name not in CONTRACTS


# -- wrong functions are found ----------------------------------------------------------------------------------------


def in_low_precision(logps, mask):
    """A matrix product, which autocast lowers."""
    kept = torch.where(mask.bool(), logps, 0)
    return -(kept.reshape(1, -1) @ torch.ones(kept.numel(), 1, dtype=kept.dtype))[0, 0] / mask.sum().clamp(min=1)


def multiplies_by_the_mask(logps, mask):
    return -(logps * mask).sum() / mask.sum().clamp(min=1)


def divides_by_the_number_of_tokens(logps, mask):
    return -torch.where(mask.bool(), logps, 0).sum() / mask.sum()


def reads_memory(logps, mask):
    """As if it were contiguous."""
    flat = torch.as_strided(logps, (logps.numel(),), (1,)).view(logps.shape)
    return -torch.where(mask.bool(), flat, 0).sum() / mask.sum().clamp(min=1)


def indexes_with_the_mask(logps, mask):
    return -logps[mask == 1].sum() / mask.sum().clamp(min=1)


def detaches_when_compiled(logps, mask):
    if torch.compiler.is_compiling():
        logps = logps * torch.where(logps < 0, torch.nan, 1.0)
    return sft_loss(logps, mask).loss


def in_the_default_dtype(logps, mask):
    return sft_loss(logps.to(torch.get_default_dtype()), mask).loss


def only_boolean_masks(logps, mask):
    return -logps.masked_fill(~mask if mask.dtype == torch.bool else mask == 3, 0).sum() / mask.sum().clamp(min=1)


def without_second_derivative(logps, mask):
    """Its gradient is a constant to autograd, and yet depends on the log-probabilities."""
    weights = logps.detach().exp()
    return -torch.where(mask.bool(), logps * weights, 0).sum() / mask.sum().clamp(min=1)


#: A wrong implementation of SFT's loss, and the contexts that have to find it.
PLANTED = {
    in_low_precision: {"autocast forward bfloat16", "autocast both bfloat16", "autocast backward bfloat16"},
    with_backward(ignores_upstream): {"upstream 3.5", "upstream 0"},
    with_backward(overwrites): {"two backward passes", "upstream 3.5"},
    multiplies_by_the_mask: {"masked values", "masked logits"},
    divides_by_the_number_of_tokens: {"zero rows"},
    reads_memory: {"strided", "expanded"},
    indexes_with_the_mask: {"vmap", "fake tensors", "meta"},
    detaches_when_compiled: {"compiled", "masked logits, compiled"},
    in_the_default_dtype: {"default dtype"},
    only_boolean_masks: {"mask int64", "mask uint8", "mask float32"},
    without_second_derivative: {"second derivative"},
}


@pytest.mark.parametrize("function", PLANTED, ids=lambda function: function.__name__)
def test_a_wrong_function_is_found(function):
    given = of_function(function, CONTRACTS["sft"])
    found = {name: cell(BY_NAME[name], "sft", given).status for name in PLANTED[function]}
    assert set(found.values()) == {"WRONG"}, found


def test_a_right_function_works():
    given = of_function(lambda logps, mask: sft_loss(logps, mask).loss, CONTRACTS["sft"])
    for name in ("autocast both bfloat16", "upstream 0", "strided", "compiled", "vmap", "second derivative"):
        assert cell(BY_NAME[name], "sft", given).status == "works"


def planted(compute, **tensors):
    """A function without a contract, of tensors of its own."""
    (call,) = calls("token_logps")[:1]
    return replace(call, compute=compute, tensors={**call.tensors, **tensors})


def test_a_distribution_where_there_is_none_is_found():
    def softened(tensors, **options):
        return token_logps(tensors["logits"].nan_to_num(), tensors["targets"], **options)

    for name in ("logits all −inf", "logits NaN", "logits +inf"):
        assert cell(BY_NAME[name], "token_logps", [planted(softened)]).status == "WRONG"


def test_what_a_number_of_another_type_does_is_found():
    def crashes(logps, old_logps, advantages, mask, clip_low=0.2):
        return ppo_loss(logps, old_logps, advantages, mask, clip_low=float(str(clip_low))).loss

    def integers_only(logps, old_logps, advantages, mask, clip_low=0.2):
        if not isinstance(clip_low, float):
            raise TypeError(f"clip_low: got {clip_low!r}, expected a float")
        return ppo_loss(logps, old_logps, advantages, mask, clip_low=clip_low).loss

    for function in (crashes, integers_only):
        assert cell(BY_NAME["numbers"], "ppo", of_function(function, CONTRACTS["ppo"])).status == "WRONG"


def test_an_error_is_a_refusal_only_in_words_and_where_it_is_expected():
    def refuses(tensors, **options):
        raise TypeError("logits: got a DTensor, expected a plain tensor")

    def fails(tensors, **options):
        raise RuntimeError("mixed torch.Tensor and DTensor")

    found = [
        cell(BY_NAME[context], "token_logps", [planted(function)]).status
        for context in ("meta", "fake tensors")
        for function in (refuses, fails)
    ]
    assert found == ["WRONG"] * 4, "token_logps has to work there"
    assert cell(BY_NAME["DTensor"], "token_logps", [planted(fails)]).status == "WRONG"


def test_the_printed_table_has_no_empty_cell():
    cells = [Cell("a", "one", "works"), Cell("a", "two", "–", "takes no mask"), Cell("b", "one", "WRONG", "off by 1"),
             Cell("b", "two", "refuses", "TypeError: mask: got …")]  # fmt: skip
    text = "\n".join(lines(cells))
    assert "WRONG" in text
    assert "takes no mask" in text
    rows = [line.split() for line in text.splitlines() if line.split()[0] in ("a", "b")]
    assert [len(columns) for columns in rows] == [3, 3]
