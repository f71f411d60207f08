"""`check` accepts correct functions in another style, rejects wrong ones by the right properties, and says why."""

import json
import math

import pytest
import torch

import grape_verified
from grape_verified.conformance import CONTRACTS, check, run
from grape_verified.conformance.contracts.head import SIZES
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.subject import read

from . import planted, planted_grape, planted_head, planted_kl, planted_sft


@pytest.fixture
def quick(monkeypatch):
    """Fewer reductions of counterexamples, where only the verdict matters."""
    monkeypatch.setattr(run, "REDUCTIONS", 10)


# -- noted, or wrong by a strict check -------------------------------------------------------------------------------


@pytest.mark.full("what only a strict check rejects")
@pytest.mark.parametrize(
    ("function", "contract", "strictly"),
    [
        (planted.softplus_dpo, "dpo", {"value", "gradient", "options", "extremes", "constants", "dtype"}),
        (planted.branching_ppo, "ppo", {"extremes", "constants"}),
        (planted.AsModule(), "ppo", {"constants"}),
    ],
)
def test_what_only_a_strict_check_rejects(function, contract, strictly):
    report = check(function, contract, examples=100)
    assert report.accepted, [(f.name, f.text) for f in report.properties if f.status == "failed"]
    strict = check(function, contract, examples=100, strict=True)
    assert set(strict.failed) <= strictly
    assert bool(strict.failed) == bool(strictly)


def wrong_sign_per_sequence(logps, old_logps, advantages, mask):
    """Right for one advantage per token, the negative for one per sequence."""
    gains = advantages if advantages.ndim == 2 else -advantages[:, None].expand_as(logps)
    return grape_verified.ppo_loss(logps, old_logps, gains, mask).loss


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("function", "verdict", "right", "misread"),
    [
        (planted.misreads_float_masks, "robustness", "bool masks", "float masks"),
        (planted.per_sequence_only, "robustness", "bool masks and advantages per sequence", "advantages per token"),
        (wrong_sign_per_sequence, "formula", "advantages per token", "advantages per sequence"),
    ],
)
def test_a_form_that_is_misread_is_a_finding_and_the_rest_is_tried(function, verdict, right, misread, strict):
    report = check(function, "ppo", examples=5, strict=strict)
    signature = report.finding("signature")
    assert signature.status == "failed"
    assert f"Only with {right}." in signature.text
    (departure,) = signature.departures
    assert departure.verdict == verdict
    assert f"{misread} it silently returns a wrong value: the loss is " in departure.text
    assert report.finding("value").status == "passed"
    names = {"nan": math.nan, "inf": math.inf, function.__name__: function}
    exec(compile(departure.counterexample, "counterexample", "exec"), names)
    assert repr(names["result"].item()) in departure.text
    assert not report.accepted


def test_a_wrong_loss_that_a_plain_input_of_one_form_does_not_show_is_no_misread_form():
    def same_clip(logps, old_logps, advantages, mask):
        gains = advantages if advantages.ndim == 2 else advantages[:, None].expand_as(logps)
        return grape_verified.ppo_loss(logps, old_logps, gains, mask, clip_high=0.2).loss

    contract = CONTRACTS["dapo"]
    right = [variant for variant in contract.variants if _is_right_in(same_clip, contract, variant)]
    assert 0 < len(right) < len(contract.variants)
    subject = read(same_clip, contract, {})
    assert subject.misread == ()
    assert set(subject.variants) == set(contract.variants)
    assert check(same_clip, "dapo", examples=20).finding("signature").status == "passed"


def _is_right_in(function, contract, variant):
    case = contract.probe({}, variant)
    (target,) = contract.oracle(case, EXACT).values
    return abs(function(**case.tensors).item() - float(target.ball.mid())) < 1e-9


def test_a_strict_check_says_of_a_constant_in_fp32_what_it_is():
    def with_constant(logps, old_logps, advantages, mask):
        if advantages.ndim == 1:
            advantages = advantages[:, None].expand_as(logps) * torch.tensor(1.1).to(logps.dtype) / 1.1
        return grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss

    assert check(with_constant, "ppo", examples=5).accepted
    report = check(with_constant, "ppo", examples=20, strict=True)
    assert report.finding("signature").status == "passed"
    assert "value" in report.failed


def test_a_report_is_printed_in_a_few_lines():
    report = check(wrong_sign_per_sequence, "ppo", examples=10)
    *lines, last = str(report).split("\n")
    assert last == report.in_words()
    assert lines[0].startswith(
        "formula, signature: With advantages per sequence it silently returns a wrong value: the "
    )
    assert "not run, partition: the function takes no `denominator`" in lines
    assert "\nnoted, dtype: the loss is " in str(check(planted.half_precision, "ppo", examples=5))
    assert "torch.tensor" not in str(report)
    assert str(check(planted.AsModule(), "ppo", examples=3)).endswith("Robustness: no findings.")


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted.half_precision, "ppo"),
        (planted.always_single_precision, "ppo"),
        (planted.half_precision_dpo, "dpo"),
    ],
)
def test_another_precision_is_noted_and_not_wrong(function, contract):
    report = check(function, contract, examples=40)
    assert report.accepted
    assert {"dtype"} <= set(report.named("noted")) <= {"constants", "dtype"}
    assert report.finding("dtype").counterexample


@pytest.mark.parametrize(
    ("function", "contract", "reached"),
    [
        (planted.returns_not_held_constant, "value", "returns"),
        (planted.reference_not_held_constant, "kl_estimate", "ref_logps"),
        (planted.scores_not_held_constant, "threshold_weights", "rewards"),
    ],
)
def test_a_gradient_into_a_constant_is_noted_and_strictly_wrong(function, contract, reached):
    report = check(function, contract, examples=40)
    assert report.accepted
    assert f"reaches {reached} at [" in report.finding("constants").text
    assert report.finding("constants").status == "noted"
    assert "constants" in check(function, contract, examples=40, strict=True).failed


def test_what_is_returned_as_it_came_is_noted():
    finding = check(lambda rewards, group_size: rewards, "group_advantages", examples=5).finding("constants")
    assert finding.text == "the result is an argument itself, or a view of it, which requires a gradient"


def test_other_defaults_are_noted_and_strictly_wrong():
    for strict, status in ((False, "noted"), (True, "failed")):
        report = check(grape_verified.grpo_loss, "ppo", examples=5, strict=strict)
        signature = report.finding("signature")
        assert signature.status == status
        assert report.finding("value").status == "passed"
        assert "Without aggregation it takes 'sequence_mean', the contract 'token_mean'." in signature.text


def test_constants_are_promised_where_there_are_any():
    for contract in CONTRACTS.values():
        tensors = contract.probe({}, contract.variants[0]).tensors
        floating = {name for name, tensor in tensors.items() if tensor.is_floating_point()}
        assert ("constants" in contract.properties) == bool(floating - set(contract.wrt)), contract.name


def test_a_counterexample_is_minimal_and_can_be_pasted(capsys):
    subject = read(planted.no_min, CONTRACTS["ppo"], {})
    finding = run.run_property(subject, PROPERTIES["value"], 200)
    lines = finding.counterexample.splitlines()
    assert finding.text.startswith("the loss is ")
    namespace = {"ppo": planted.no_min}
    exec(compile(finding.counterexample, "counterexample", "exec"), namespace)
    got = float(finding.text.split(" is ")[1].split(",")[0])
    assert namespace["result"].item() == pytest.approx(got, abs=0)
    assert lines[-1].startswith(f"# loss: got {got!r}, expected ")
    assert capsys.readouterr().out == f"{got!r}\n"
    assert namespace["logps"].numel() == 1


@pytest.mark.parametrize(
    ("function", "contract", "prop"),
    [
        (planted.mask_times_nan, "ppo", "masked values"),
        (planted.textbook_ppo, "ppo", "extremes"),
        (planted.denominator_ignored, "ppo", "partition"),
        (planted.first_cotangent, "ppo_per_token", "cotangents"),
        (planted.half_precision, "ppo", "dtype"),
        (planted.temperature_ignored, "token_logps", "options"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_every_kind_of_counterexample_runs_and_shows_what_was_got(function, contract, prop, capsys):
    finding = check(function, contract, examples=60).finding(prop)
    exec(compile(finding.counterexample, "counterexample", "exec"), {function.__name__: function, "ppo": function})
    remark = finding.counterexample.splitlines()[-1]
    got = remark.split("got ")[1].split(",")[0] if "got " in remark else ""
    assert remark.startswith("# ")
    assert got in capsys.readouterr().out


def only_its_own_clip(old_log_prob, log_prob, advantages, response_mask, cliprange=0.3):
    """In an order of its own, and no other clip than its own."""
    if cliprange != 0.3:
        raise ValueError(f"cliprange is {cliprange}")
    return grape_verified.ppo_loss(log_prob, old_log_prob, advantages, response_mask).loss


def test_the_script_of_a_function_that_cannot_be_called_calls_it_so():
    finding = check(only_its_own_clip, "ppo", examples=5).finding("signature")
    assert finding.text == "raised ValueError: cliprange is 0.2"
    assert "only_its_own_clip(old_logps, logps, advantages, mask, cliprange=0.2)\n" in finding.counterexample
    with pytest.raises(ValueError, match=r"cliprange is 0\.2"):
        exec(finding.counterexample, {"only_its_own_clip": only_its_own_clip})


def test_a_function_that_can_be_imported_is_imported():
    report = check(grape_verified.ppo_per_token, "ppo_per_token", examples=1, options={"clip_high": 0.3})
    assert report.accepted
    bind = {"target": "mask"}
    finding = check(torch.nn.functional.mse_loss, "aggregate", examples=5, bind=bind).finding("value")
    assert "from torch.nn.functional import mse_loss\n" in finding.counterexample


# -- functions that misbehave -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (planted.raises, "raised RuntimeError: expected scalar type Half"),
        (planted.exits, "raised SystemExit: 0"),
        (planted.returns_none, "returned None, expected a tensor, or a tuple, an object with a .loss or a dict"),
        (planted.returns_per_token, "returned a tensor of shape (2, 3), expected ()"),
        (planted.wrong_signature, "cannot be called as wrong_signature(logps, old_logps, advantages, mask)"),
        (planted.needs_more, "missing a required argument: 'entropy'"),
        ("not a function", "got str, expected a function"),
    ],
)
def test_a_function_that_cannot_be_called_fails_in_one_sentence(function, text):
    report = check(function, "ppo", examples=5)
    assert report.failed == ("signature",)
    assert text in report.finding("signature").text
    assert {f.status for f in report.properties[1:]} == {"not run"}
    assert "cannot be called" in report.finding("value").text


@pytest.mark.parametrize("function", [planted.noisy, planted.rarely_noisy])
def test_a_function_that_gives_different_results(function):
    report = check(function, "ppo")
    assert report.failed == ("repeatable",)
    assert "gives different results for the same input" in report.finding("repeatable").text


def test_nan_and_a_missing_gradient_are_said():
    assert (
        check(planted.returns_nan, "ppo", examples=5)
        .finding("value")
        .text.startswith("the loss is nan, the spec gives ")
    )
    without = check(planted.without_gradient, "ppo", examples=5).finding("gradient")
    assert without.text == "the loss has no gradient with respect to logps"


def test_an_interrupt_passes_through():
    with pytest.raises(KeyboardInterrupt):
        check(planted.interrupted, "ppo")


# -- options of the function ------------------------------------------------------------------------------------------


def test_options_that_are_not_taken_are_reported_and_held():
    report = check(planted.wrong_when_wide, "ppo", examples=5)
    assert report.offered == ()
    assert report.not_offered == tuple(CONTRACTS["ppo"].options)
    assert report.finding("options").status == "not run"
    assert "takes none of the options" in report.finding("options").text
    assert report.finding("partition").text == "the function takes no `denominator`"


def test_all_options_are_offered_to_a_function_of_any_keyword():
    report = check(lambda *tensors, **options: grape_verified.ppo_loss(*tensors, **options), "ppo", examples=20)
    assert report.accepted
    assert report.not_offered == ()


def test_a_form_of_tensors_that_is_not_taken_is_reported():
    report = check(planted.per_sequence_only, "ppo", examples=20)
    assert (report.failed, report.formula) == (("signature",), "right")
    assert "Only with bool masks and advantages per sequence." in report.finding("signature").text


def test_an_option_can_be_held_for_a_function_that_has_it_built_in():
    assert not check(planted.sequence_mean, "ppo", examples=20).accepted
    assert check(planted.sequence_mean, "ppo", examples=20, options={"aggregation": "sequence_mean"}).accepted


@pytest.mark.parametrize(
    ("contract", "keywords", "text"),
    [
        ("pppo", {}, "contract: got 'pppo', expected the name of a contract; the nearest: ppo; for one "),
        ("ppo", {"options": {"clip": 0.1}}, "options: got 'clip', expected some of clip_low, "),
        ("ppo", {"examples": 0}, "examples: got 0, expected at least 1"),
        ("ppo", {"options": {"denominator": 0}}, "denominator: got 0, expected None, a finite number > 0"),
        ("ppo", {"options": {"clip_low": "banana"}}, "clip_low: got str, expected a number in [0, 1]"),
    ],
)
def test_a_wrong_call_names_the_argument(contract, keywords, text):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        check(planted.correct_ppo, contract, **keywords)
    assert text in str(error.value)


def test_the_report_is_json():
    report = check(planted.zero_over_zero, "ppo", examples=5)
    record = json.loads(json.dumps(report.as_dict()))
    assert record["accepted"] is False
    assert [entry["name"] for entry in record["properties"]] == list(CONTRACTS["ppo"].properties)
    assert record["function"] == "ppo"


@pytest.mark.usefixtures("quick")
def test_only_a_strict_check_minds_that_a_ratio_overflows():
    strict = check(planted_kl.textbook_estimate, "kl_estimate", examples=30, strict=True)
    assert set(strict.failed) == {"extremes", "constants"}


def test_half_precision_of_sft_is_noted():
    assert "dtype" in check(planted_sft.half_precision, "sft", examples=40).named("noted")


def test_multiplying_with_the_mask_is_right_as_long_as_masked_entries_are_finite():
    subject = read(planted_grape.items_times_nan, CONTRACTS["grape_rewards"], {})
    assert run.run_property(subject, PROPERTIES["value"], 60).status == "passed"


def test_what_depends_on_a_keyword_is_asked_for_and_shown(quick):
    subject = read(planted_head.entropy_held_constant, CONTRACTS["linear_token_entropies"], {})
    assert subject.takes == ("with_entropy",)
    finding = run.run_property(subject, PROPERTIES["gradient"], 30)
    assert "with_entropy=True" in finding.counterexample
    assert read(planted_head.both_one_by_one, CONTRACTS["linear_token_entropies"], {}).takes == ()


def test_inputs_have_several_sizes():
    assert {size for sizes in zip(*SIZES, strict=True) for size in sizes} == {1, 2, 3, 4}


def test_the_kernel_is_held_to_the_precision_of_the_dtype():
    for contract in ("linear_token_logps", "linear_token_entropies"):
        assert check(grape_verified.linear_token_logps, contract, examples=10, strict=True).accepted
        rounded = check(_in_single_precision, contract, examples=10, strict=True)
        assert {"value", "gradient"} <= set(rounded.failed)


def _in_single_precision(hidden, weight, targets, **options):
    narrow = {name: x.float() if torch.is_tensor(x) and x.is_floating_point() else x for name, x in options.items()}
    found = grape_verified.linear_token_logps(hidden.float(), weight.float(), targets, **narrow)
    return tuple(x.to(hidden.dtype) for x in found) if isinstance(found, tuple) else found.to(hidden.dtype)
