"""`check` accepts correct functions in another style, rejects wrong ones by the right properties, and says why."""

import json

import pytest
import torch

import grape_verified
from grape_verified.conformance import CONTRACTS, check, checking

from . import planted

SPEC = {"value", "gradient", "options", "extremes"}
SPEC_PPO = SPEC | {"kinks"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


# -- correct functions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted.log_space_ppo, "ppo"),
        (planted.correct_ppo, "ppo"),
        (planted.pairwise_dpo, "dpo"),
        (planted.correct_dpo, "dpo"),
    ],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]
    assert all(f.examples >= 200 for f in report.properties if f.status == "passed" and f.name != "signature")


# -- wrong functions --------------------------------------------------------------------------------------------------

WRONG = [
    (planted.no_min, "ppo", SPEC_PPO),
    (planted.max_for_min, "ppo", SPEC_PPO),
    (planted.padded_mean, "ppo", SPEC_PPO | {"padding"}),
    (planted.sequence_mean, "ppo", SPEC_PPO),
    (planted.detached_ratio, "ppo", {"gradient", "empty batch"}),
    (planted.wrong_sign, "ppo", SPEC_PPO),
    (planted.linear_ratio, "ppo", SPEC_PPO),
    (planted.clamped_log_ratio, "ppo", SPEC),
    (planted.mask_times_nan, "ppo", {"masked values"}),
    (planted.clip_high_ignored, "ppo", {"options", "kinks", "extremes"}),
    (planted.dual_clip_ignored, "ppo", {"options", "kinks", "extremes"}),
    (planted.sum_for_mean, "ppo", SPEC_PPO),
    (planted.textbook_ppo, "ppo", {"extremes"}),
    (planted.cut_to_zero, "ppo", {"extremes"}),
    (planted.zero_over_zero, "ppo", {"empty batch"}),
    (planted.denominator_ignored, "ppo", {"options", "partition", "kinks", "extremes"}),
    (planted.row_weights, "ppo", SPEC_PPO | {"permutation", "partition"}),
    (planted.first_column_twice, "ppo", SPEC_PPO | {"padding"}),
    (planted.wrong_when_wide, "ppo", {"padding"}),
    (planted.kink_shared_wrongly, "ppo", {"kinks"}),
    (planted.gradient_behind_the_mask, "ppo", {"gradient", "masked values", "empty batch", "kinks", "extremes"}),
    (planted.writes_into_inputs, "ppo", {"inputs"}),
    (planted.half_precision, "ppo", {"dtype"}),
    (planted.always_single_precision, "ppo", {"dtype"}),
    (planted.first_cotangent, "ppo_per_token", {"cotangents"}),
    (planted.smoothing_ignored, "dpo", {"options", "extremes"}),
    (planted.beta_outside, "dpo", SPEC),
    (planted.dpo_sum_for_mean, "dpo", SPEC),
    (planted.log_of_sigmoid, "dpo", {"extremes"}),
    (planted.reference_swapped, "dpo", SPEC),
    (planted.dpo_wrong_sign, "dpo", SPEC),
    (planted.chosen_only, "dpo", SPEC - {"value"}),
    (planted.naive_entropies, "token_entropies", {"forbidden tokens"}),
    (planted.temperature_ignored, "token_logps", {"options", "extremes"}),
    (planted.overflowing_logps, "token_logps", {"extremes"}),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "failed"), WRONG, ids=lambda x: getattr(x, "__name__", None))
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, failed):
    report = check(function, contract, examples=60)
    offered = set() if report.offered else {"options"}
    assert set(report.failed) == failed - offered
    for name in report.failed:
        assert report.finding(name).counterexample
        assert "Traceback" not in report.finding(name).text


def test_a_counterexample_is_minimal_and_can_be_pasted(capsys):
    finding = check(planted.no_min, "ppo", options={"denominator": 1}).finding("value")
    lines = finding.counterexample.splitlines()
    assert finding.text.startswith("the loss is ")
    namespace = {"ppo": planted.no_min}
    exec(compile(finding.counterexample, "counterexample", "exec"), namespace)
    got = float(finding.text.split(" is ")[1].split(",")[0])
    assert namespace["result"].item() == pytest.approx(got, abs=0)
    assert lines[-1].startswith(f"# loss: got {got!r}, expected ")
    assert capsys.readouterr().out == f"{namespace['result']}\n"


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
    assert remark.startswith("# ")
    if "got " in remark:
        got = float(remark.split("got ")[1].split(",")[0])
        assert f"{got:.3f}"[:5] in capsys.readouterr().out.replace("nan", "nan")


def test_a_function_that_can_be_imported_is_imported():
    report = check(grape_verified.ppo_per_token, "ppo_per_token", examples=1, options={"clip_high": 0.3})
    assert report.accepted
    text = check(torch.nn.functional.mse_loss, "aggregate", examples=5).finding("signature").text
    assert text.startswith("raised ") or "cannot be called" in text


# -- functions that misbehave -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (planted.raises, "raised RuntimeError: expected scalar type Half"),
        (planted.returns_tuple, "returned a tuple of 2, expected a tensor or an object with a .loss that is one"),
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
        ("pppo", {}, "contract: got 'pppo', which there is not; the nearest: ppo"),
        ("ppo", {"options": {"clip": 0.1}}, "options: got 'clip', expected some of clip_low, "),
        ("ppo", {"examples": 0}, "examples: got 0, expected at least 1"),
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
