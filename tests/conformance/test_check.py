"""`check` accepts correct functions in another style, rejects wrong ones by the right properties, and says why."""

import json

import pytest
import torch

import grape_verified
from grape_verified.conformance import CONTRACTS, check, checking

from . import planted

#: What a function fails that disagrees with the spec everywhere; where that is rare, only some of it is certain.
SPEC = {"value", "gradient", "options", "extremes"}
SPEC_PPO = SPEC | {"kinks"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


# -- correct functions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "contract"),
    [(planted.log_space_ppo, "ppo"), (planted.pairwise_dpo, "dpo")],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]
    assert all(f.examples >= 200 for f in report.properties if f.status == "passed" and f.name != "signature")


@pytest.mark.parametrize(("function", "contract"), [(planted.correct_ppo, "ppo"), (planted.correct_dpo, "dpo")])
def test_accepts_the_function_that_the_wrong_ones_are_made_from(function, contract):
    assert check(function, contract, examples=50).accepted


# -- wrong functions --------------------------------------------------------------------------------------------------

#: A wrong function, the properties that must fail, and those that may fail with them, as the mistake shows there, too.
WRONG = [
    (planted.no_min, "ppo", {"value", "gradient"}, SPEC_PPO),
    (planted.max_for_min, "ppo", {"value", "gradient"}, SPEC_PPO),
    (planted.padded_mean, "ppo", {"value", "padding"}, SPEC_PPO),
    (planted.sequence_mean, "ppo", {"value", "gradient"}, SPEC_PPO),
    (planted.detached_ratio, "ppo", {"gradient", "empty batch"}, set()),
    (planted.wrong_sign, "ppo", {"value", "gradient"}, SPEC_PPO),
    (planted.linear_ratio, "ppo", {"value", "gradient"}, SPEC_PPO),
    (planted.clamped_log_ratio, "ppo", {"value", "extremes"}, SPEC),
    (planted.mask_times_nan, "ppo", {"masked values"}, set()),
    (planted.clip_high_ignored, "ppo", {"options"}, {"kinks", "extremes"}),
    (planted.dual_clip_ignored, "ppo", {"options"}, {"kinks", "extremes"}),
    (planted.sum_for_mean, "ppo", {"value", "gradient"}, SPEC_PPO),
    (planted.textbook_ppo, "ppo", {"extremes"}, set()),
    (planted.cut_to_zero, "ppo", {"extremes"}, set()),
    (planted.zero_over_zero, "ppo", {"empty batch"}, set()),
    (planted.denominator_ignored, "ppo", {"options", "partition"}, {"kinks", "extremes"}),
    (planted.empty_rows_left_out, "ppo", {"options"}, {"kinks", "extremes"}),
    (planted.row_weights, "ppo", {"value", "permutation", "partition"}, SPEC_PPO),
    (planted.first_column_twice, "ppo", {"value", "padding"}, SPEC_PPO),
    (planted.wrong_when_wide, "ppo", {"padding"}, set()),
    (planted.kink_shared_wrongly, "ppo", {"kinks"}, set()),
    (planted.gradient_behind_the_mask, "ppo", {"gradient", "masked values", "empty batch"}, {"kinks", "extremes"}),
    (planted.writes_into_inputs, "ppo", {"inputs"}, set()),
    (planted.first_cotangent, "ppo_per_token", {"cotangents"}, set()),
    (planted.smoothing_ignored, "dpo", {"options"}, {"extremes"}),
    (planted.beta_outside, "dpo", {"value", "gradient"}, SPEC),
    (planted.dpo_sum_for_mean, "dpo", {"value", "gradient"}, SPEC),
    (planted.log_of_sigmoid, "dpo", {"extremes"}, {"options"}),
    (planted.reference_swapped, "dpo", {"value", "gradient"}, SPEC),
    (planted.dpo_wrong_sign, "dpo", {"value", "gradient"}, SPEC),
    (planted.chosen_only, "dpo", {"gradient"}, {"options", "extremes"}),
    (planted.naive_entropies, "token_entropies", {"forbidden tokens"}, set()),
    (planted.temperature_ignored, "token_logps", {"options"}, {"extremes"}),
    (planted.overflowing_logps, "token_logps", {"extremes"}, {"options"}),
]


@pytest.mark.parametrize(
    ("function", "contract", "strictly"),
    [
        (planted.softplus_dpo, "dpo", {"value", "gradient", "options", "extremes", "constants", "dtype"}),
        (planted.branching_ppo, "ppo", {"extremes", "constants"}),
        (planted.misreads_float_masks, "ppo", {"signature"}),
        (planted.AsModule(), "ppo", {"constants"}),
    ],
)
def test_what_only_a_strict_check_rejects(function, contract, strictly):
    report = check(function, contract, examples=100)
    assert report.accepted, [(f.name, f.text) for f in report.properties if f.status == "failed"]
    strict = check(function, contract, examples=100, strict=True)
    assert set(strict.failed) <= strictly
    assert bool(strict.failed) == bool(strictly)


def test_a_form_that_is_misread_is_said():
    signature = check(planted.misreads_float_masks, "ppo", examples=5).finding("signature")
    assert signature.status == "noted"
    assert "Only with bool masks." in signature.text
    assert "With float masks it returns something else than the spec says" in signature.text


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
    assert finding.text == "the result is an argument itself, or a view of it, which asks for a gradient"


def test_other_defaults_are_noted_and_strictly_wrong():
    for strict, status in ((False, "noted"), (True, "failed")):
        signature = check(grape_verified.grpo_loss, "ppo", examples=5, strict=strict).finding("signature")
        assert signature.status == status
        assert "Without aggregation it takes 'sequence_mean', the contract 'token_mean'." in signature.text


def test_constants_are_promised_where_there_are_any():
    for contract in CONTRACTS.values():
        tensors = checking._probe(contract, {}, contract.variants[0]).tensors
        floating = {name for name, tensor in tensors.items() if tensor.is_floating_point()}
        assert ("constants" in contract.properties) == bool(floating - set(contract.wrt)), contract.name


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=40)
    failed = set(report.failed)
    assert must <= failed <= must | may
    for name in failed:
        assert report.finding(name).counterexample
        assert "Traceback" not in report.finding(name).text


def test_a_counterexample_is_minimal_and_can_be_pasted(capsys):
    subject = checking.read(planted.no_min, CONTRACTS["ppo"], {})
    finding = checking.run_property(subject, checking.PROPERTIES["value"], 200)
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


def test_a_function_that_can_be_imported_is_imported():
    report = check(grape_verified.ppo_per_token, "ppo_per_token", examples=1, options={"clip_high": 0.3})
    assert report.accepted
    finding = check(torch.nn.functional.mse_loss, "aggregate", examples=5).finding("value")
    assert "from torch.nn.functional import mse_loss\n" in finding.counterexample


# -- functions that misbehave -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (planted.raises, "raised RuntimeError: expected scalar type Half"),
        (planted.returns_tuple, "returned a tuple of 2, expected a tensor or an object with a .loss that is one"),
        (planted.exits, "raised SystemExit: 0"),
        (planted.returns_none, "returned None, expected a tensor or an object with a .loss that is one"),
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


# -- what is offered --------------------------------------------------------------------------------------------------


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
    assert report.accepted
    assert "Only with bool masks and advantages per sequence." in report.finding("signature").text


def test_an_option_can_be_held_for_a_function_that_has_it_built_in():
    assert not check(planted.sequence_mean, "ppo", examples=20).accepted
    assert check(planted.sequence_mean, "ppo", examples=20, options={"aggregation": "sequence_mean"}).accepted


@pytest.mark.parametrize(
    ("contract", "keywords", "text"),
    [
        ("pppo", {}, "contract: got 'pppo', expected one of token_logps, "),
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
