"""What a finding says: compared with what, of which size, and without what a function does not take."""

import re

import pytest
import torch

import grape_verified
from grape_verified.conformance import CONTRACTS, check, run
from grape_verified.conformance.drawing import drawn
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.regions import awkward
from grape_verified.conformance.subject import Violation, read

from . import planted, planted_contexts


def rounds_first(logps, old_logps, advantages, mask):
    """Computes in half precision and returns fp32."""
    return planted.half_precision(logps, old_logps, advantages, mask).float()


@pytest.mark.parametrize(
    ("function", "contract", "prop", "which"),
    [
        (planted.mask_times_nan, "ppo", "masked values", "with finite numbers where masked"),
        (planted.wrong_when_wide, "ppo", "padding", "without the masked positions"),
        (planted.row_weights, "ppo", "permutation", "in another order of the batch"),
        (planted.denominator_ignored, "ppo", "partition", "for the whole batch"),
        (rounds_first, "ppo", "dtype", "for the same numbers in torch.float32"),
        (planted_contexts.doubles_in_a_second_pass, "sft", "contexts", "in a plain call"),
    ],
)
def test_what_is_compared_with_the_function_itself_is_said_to_be(function, contract, prop, which, monkeypatch):
    monkeypatch.setattr(run, "REDUCTIONS", 30)
    finding = run.run_property(read(function, CONTRACTS[contract], {}), PROPERTIES[prop], 60)
    said = [one.text for one in finding.departures if " inputs, expected torch." not in one.text]
    assert said
    for text in said:
        assert re.search(rf" is \S+, but \S+ from the same function {which}$", text), text
        assert "expected" not in text


def whitened(values, mask, **options):
    """The kernel's numbers, attached to the graph."""
    kept = torch.where(mask != 0, values, 0)
    count = (mask != 0).sum()
    mean = kept.sum() / count
    away = torch.where(mask != 0, kept - mean, 0)
    return away / (away.square().sum() / (count - 1).clamp(min=1) + 1e-5).sqrt()


def test_a_gradient_of_rounding_size_is_no_gradient():
    subject = read(whitened, CONTRACTS["whiten"], {})
    finding = run.run_property(subject, PROPERTIES["constants"], 60)
    assert finding.status == "noted"
    for departure in finding.departures:
        size = abs(float(re.search(r"a gradient of (\S+) reaches values", departure.text)[1]))
        assert not size < 1e-6, departure.text
    script = finding.counterexample
    assert "values = torch.tensor(" in script
    assert "requires_grad=True" in script
    assert "print(values.grad.tolist())" in script


def sums_to_nothing(values, mask, **options):
    """The kernel's result, with a gradient that is 0 but for rounding."""
    found = grape_verified.whiten(values, mask, **options)
    return found + (values.nan_to_num() * 0.1 * 1e-16).sum()


def test_only_rounding_is_not_noted():
    assert (
        run.run_property(read(sums_to_nothing, CONTRACTS["whiten"], {}), PROPERTIES["constants"], 40).status == "passed"
    )


# -- a head without a bias or a mask ----------------------------------------------------------------------------------


def bare_head(hidden, weight, targets):
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    logits = hidden.to(dtype) @ weight.to(dtype).T
    return logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def bare_probabilities(hidden, weight, targets):
    return bare_head(hidden, weight, targets).exp()


def head_with_bias(hidden, weight, targets, bias):
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    logits = hidden.to(dtype) @ weight.to(dtype).T + bias.to(dtype)
    return logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(
    ("function", "without", "not_run"),
    [
        (bare_head, "It takes no bias and no mask.", {"masked values", "padding", "empty batch", "forbidden tokens"}),
        (head_with_bias, "It takes no mask.", {"masked values", "padding", "empty batch"}),
    ],
)
def test_a_head_need_not_take_a_bias_or_a_mask(function, without, not_run):
    report = check(function, "linear_token_logps", examples=20)
    assert report.accepted
    assert report.formula == "right"
    assert report.finding("signature").text.endswith(without)
    assert set(report.named("not run")) == not_run | {"options"}
    assert report.finding("padding").text == "the function takes no `mask`"


def test_a_wrong_head_without_a_bias_is_found_and_shown_as_it_is_called():
    report = check(bare_probabilities, "linear_token_logps", examples=20)
    assert report.formula == "wrong"
    script = report.finding("value").counterexample
    assert "bias" not in script
    assert "mask" not in script
    namespace = {"bare_probabilities": bare_probabilities}
    exec(compile(script, "counterexample", "exec"), namespace)
    assert namespace["result"].shape == namespace["targets"].shape


# -- numbers for a reader ---------------------------------------------------------------------------------------------


def test_a_counterexample_has_ordinary_numbers_if_it_can():
    finding = run.run_property(read(planted.textbook_ppo, CONTRACTS["ppo"], {}), PROPERTIES["extremes"], 60)
    assert not re.search(r"\de-", finding.text), finding.text
    wrong = Violation("the loss is -0.8, the spec gives -3.720075753550857e-44")
    assert [
        awkward(Violation(text)) for text in (wrong.sentence, "the loss is 1.2, not 2.6e+43", "at [0, 0] is 0.5")
    ] == [2, 1, 0]


def test_inputs_are_short_decimals():
    contract = CONTRACTS["ppo"]
    space = contract.space(PROPERTIES["value"].regime, (), {}, contract.variants)
    cases = [space.case(one) for one in drawn(space.size, 60)]
    numbers = [x for case in cases if case.dtype == torch.float64 for x in case.tensors["logps"].flatten().tolist()]
    assert len(numbers) > 50
    assert all(len(repr(x)) < 17 for x in numbers), max(map(repr, numbers), key=len)


def larger_of_the_two(logps, old_logps, advantages, mask):
    """PPO with a maximum for the minimum, 0/0 without tokens."""
    gains = advantages[:, None] if advantages.ndim == 1 else advantages
    ratio = (logps - old_logps).exp()
    return -(torch.max(ratio * gains, ratio.clamp(0.8, 1.2) * gains) * mask).sum() / mask.sum()


def test_findings_are_counted_by_what_found_them():
    """What is named adds up to the number before it."""
    many = check(larger_of_the_two, "ppo", examples=20)
    for one in (many, check(planted.half_precision, "ppo", examples=5)):
        told = re.search(r"Robustness: (?:(\d+) findings? \((.*)\)|no findings)\.$", one.in_words())
        names = [name.partition(" ×") for name in (told[2] or "").split(", ") if name]
        assert sum(int(times or 1) for _, _, times in names) == int(told[1] or 0)
    assert " ×" in many.in_words(), "nothing is found twice"


def test_what_is_expected_is_said_once():
    """A finding has the place in front of it or the reason behind it, not both."""
    finding = check(larger_of_the_two, "ppo", examples=5).finding("empty batch")
    assert finding.text == "where no token counts, the loss is nan, expected 0"


def test_notes_are_named_where_they_count():
    report = check(planted.half_precision, "ppo", examples=5)
    assert report.in_words("all").endswith("Robustness: no findings. Notes: constants, dtype.")
    assert report.in_words().endswith("Robustness: no findings.")
