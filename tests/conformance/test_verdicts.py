"""A report tells a wrong formula from what does not survive training, and one failure does not hide another."""

import math
from dataclasses import replace

import pytest
import torch
from flint import arb

import grape_verified
from grape_verified.conformance import CONTRACTS, check, properties, run
from grape_verified.conformance.oracle import ANY_NUMBER, Answer, Target
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.regions import beside_plain, lies_in, needed, shown, unusual
from grape_verified.conformance.strategies import Case
from grape_verified.conformance.subject import Violation, _is_right, read

from . import planted, planted_sft
from .table import OF_THE_FORMULA
from .textbook import TEXTBOOK


def wrong_sign_that_raises(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2):
    """PPO with the wrong sign that refuses one value of an option."""
    if clip_low >= 1:
        raise ValueError("clip_low must be below 1")
    return -grape_verified.ppo_loss(logps, old_logps, advantages, mask, clip_low=clip_low, clip_high=clip_high).loss


def test_one_value_of_an_option_that_raises_hides_nothing():
    report = check(wrong_sign_that_raises, "ppo", examples=60)
    assert report.formula == "wrong"
    assert {"value", "gradient"} <= set(report.failed)
    (raised,) = report.finding("repeatable").departures
    assert raised.text == "raised ValueError: clip_low must be below 1"
    assert raised.where == ("clip_low=1.0",)
    assert not [one for _, one in report.departures("formula") if "raised" in one.text]


def test_an_error_on_plain_inputs_ends_the_check():
    def raises(logps, old_logps, advantages, mask):
        if len(logps) != 2:  # the inputs that find out how to call it have two rows
            raise RuntimeError("no such luck")
        return grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss

    report = check(raises, "ppo", examples=20)
    assert report.failed == ("repeatable",)
    assert {finding.text for finding in report.properties[2:]} == {"the function raises an error"}
    assert report.formula == "not known"


def inverted_whiten(values, mask, **options):
    """(mean − x)/std, NaN for one token."""
    found = -grape_verified.whiten(values, mask, **options)
    return found * torch.nan if int(mask.sum()) == 1 else found


def test_a_nan_hides_no_wrong_number():
    finding = check(inverted_whiten, "whiten", examples=60).finding("value")
    kinds = [("nan" in one.text, one.verdict) for one in finding.departures]
    assert (False, "formula") in kinds
    assert any(is_nan for is_nan, _ in kinds)


def clamped(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2, highest=None):
    """PPO with log-ratios clamped to ±5; with `highest` another upper clip."""
    near = old_logps + (logps - old_logps).clamp(-5, 5)
    chosen = clip_high if highest is None else highest
    return grape_verified.ppo_loss(near, old_logps, advantages, mask, clip_low=clip_low, clip_high=chosen).loss


def test_a_clamp_hides_no_wrong_clip():
    def and_wrong(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2):
        return clamped(logps, old_logps, advantages, mask, clip_low, clip_high, highest=0.3)

    for options in ({}, {"clip_low": 0.2, "clip_high": 0.2}):
        report = check(and_wrong, "ppo", examples=100, options=options)
        assert report.formula == "wrong"
        shown_at = [float(one.text.split(" is ")[1].split(",")[0]) for one in report.finding("value").departures]
        assert any(abs(number) == pytest.approx(1.3, rel=1e-9) for number in shown_at), shown_at


def test_the_verdicts_are_told_apart():
    overflows = check(planted.textbook_ppo, "ppo", examples=60)
    assert overflows.formula == "right"
    assert not overflows.accepted
    assert all(one.text.startswith("where log-probabilities differ by more than 20") for _, one in
               overflows.departures("robustness") if "nan" in one.text and "mask" not in one.text)  # fmt: skip
    for wrong in (planted.no_min, planted.sum_for_mean, planted.detached_ratio):
        assert check(wrong, "ppo", examples=60).formula == "wrong"
    multiplies = check(planted.mask_times_nan, "ppo", examples=60)
    assert (multiplies.formula, multiplies.accepted) == ("right", False)


@pytest.mark.parametrize(
    ("function", "fails"),
    [
        (planted.mask_times_nan, {"formula": False, "robustness": True, "formula and robustness": True, "all": True}),
        (planted.no_min, {"formula": True, "formula and robustness": True, "all": True}),
        (planted.correct_ppo, {"formula": False, "robustness": False, "formula and robustness": False}),
        (planted.half_precision, {"formula and robustness": False, "all": True}),
    ],
)
def test_what_a_function_is_rejected_for(function, fails):
    report = check(function, "ppo", examples=40)
    assert {on: report.fails(on) for on in fails} == fails


def seven_for_constants(values, mask, **options):
    """Whitening that returns 7 where all values are equal."""
    found = grape_verified.whiten(values, mask, **options)
    return torch.full_like(found, 7.0) if len(set(values[mask != 0].tolist())) == 1 else found


def test_what_the_spec_gives_no_value_is_not_compared_but_counted():
    at = {"eps": 0.0, "shift_mean": True, "ddof": 1}
    finding = check(seven_for_constants, "whiten", examples=60, options=at).finding("value")
    assert finding.undefined > 0
    assert check(seven_for_constants, "whiten", examples=60).finding("value").undefined == 0
    assert "value" in check(seven_for_constants, "whiten", examples=60).failed


def test_only_a_ball_without_a_value_is_undefined():
    assert not Target(ANY_NUMBER).is_undefined
    for ball in (ANY_NUMBER / 0, ANY_NUMBER * 2, ANY_NUMBER - ANY_NUMBER):
        assert Target(ball).is_undefined


#: Balls without a value: 0/0, and balls without an end.
WITHOUT_A_VALUE = (arb("nan"), arb(0, "inf"), arb(1) / arb(0, 1))


@pytest.mark.parametrize("ball", WITHOUT_A_VALUE, ids=("nan", "radius inf", "quotient"))
def test_no_number_is_right_where_the_spec_gives_no_value(ball):
    assert Target(ball).is_undefined
    assert not any(Target(ball).accepts(number) for number in (0.0, 7.0, -1e300, math.inf, math.nan))


def test_an_expectation_without_a_value_is_counted_and_proves_nothing(monkeypatch):
    subject = read(CONTRACTS["reinforce"].function, CONTRACTS["reinforce"], {})
    assert run.run_property(subject, PROPERTIES["expectation"], 5).undefined == 0
    monkeypatch.setattr(properties, "expected_gradient", lambda *_: [Target(arb("nan"))] * 9)
    monkeypatch.setattr(properties, "zip", lambda a, b, strict: zip(a, b, strict=False), raising=False)
    assert run.run_property(subject, PROPERTIES["expectation"], 5).undefined > 0


def test_a_form_is_not_right_where_the_spec_gives_no_value():
    no_value = Answer([Target(arb("nan"))], lambda weights: {})
    nothing = replace(CONTRACTS["sft"], oracle=lambda case, arithmetic: no_value)
    subject = read(lambda logps, mask: logps.sum() * 0 + 7, nothing, {})
    assert not _is_right(subject, nothing.probe({}, nothing.variants[0]))


def test_our_kernels_are_compared_everywhere_at_their_defaults():
    for name in ("ppo", "whiten", "group_advantages"):
        report = check(CONTRACTS[name].function, name, examples=20, strict=True)
        assert [f.undefined for f in report.properties if f.name in ("value", "gradient")] in ([0], [0, 0])


# -- which verdict ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize("function", TEXTBOOK, ids=lambda function: function.__name__)
def test_a_formula_without_a_guard_is_right(function):
    names = [name for name in CONTRACTS[function.__name__].properties if name in OF_THE_FORMULA]
    found = run.run(read(function, CONTRACTS[function.__name__], {}), ["signature", *names], 20)
    assert {finding.name for finding in found if finding.status in ("passed", "failed")} >= {"value"}
    wrong = [one.text for finding in found for one in finding.departures if one.verdict == "formula"]
    assert not wrong


def test_where_the_first_failure_is_not_ordinary_as_many_ordinary_inputs_are_tried():
    subject = read(planted.empty_rows_left_out, CONTRACTS["ppo"], {})
    searches = {only: run._Search(subject, PROPERTIES["value"], 20, (), frozenset(), only) for only in (False, True)}
    for search in searches.values():
        assert run._first(search) is None
    assert [search.tried for search in searches.values()] == [23, 23]  # 20 that are drawn, and 3 large ones
    assert "where a row has no tokens" in run.run_property(subject, PROPERTIES["options"], 20).text


def test_a_gradient_that_is_wrong_when_scaled_only_concerns_robustness():
    report = check(planted_sft.upstream_ignored, "sft", examples=20)
    assert (report.formula, report.accepted) == ("right", False)
    assert report.finding("gradient").departures[0].where[0] == "for a gradient from above other than 1"


#: Tensors and options of one input, and what is not ordinary about it.
WORDS = [
    ("group_advantages", {"rewards": [1.0, 1.0, 0.0, 1.0]}, {"group_size": 2}, {"all rewards of a group are equal"}),
    ("group_advantages", {"rewards": [1.0, 0.0]}, {"group_size": 1}, {"a group has one member"}),
    ("group_advantages", {"rewards": [1.0, 0.0]}, {"group_size": 2}, set()),
    ("best_of_n_weights", {"rewards": [1.0, 1.0]}, {"group_size": 2}, set()),
    ("dpo", {"chosen_logps": [-5.0], "rejected_logps": [0.0], "ref_chosen_logps": [0.0], "ref_rejected_logps": [0.0]},
     {"beta": 5.0}, {"a margin is beyond 20"}),
    ("bradley_terry", {"chosen_rewards": [50.0], "rejected_rewards": [-50.0]}, {}, {"a margin is beyond 20"}),
    ("token_logps", {"logits": [[[60.0, 0.0]]], "targets": [[0]]}, {}, {"logits over the temperature are beyond 50"}),
    ("token_logps", {"logits": [[[60.0, 0.0]]], "targets": [[0]]}, {"temperature": 2.0}, set()),
    ("whiten", {"values": [[3.0, 1.0]], "mask": [[1, 0]]}, {}, {"too few values count for a variance"}),
    ("whiten", {"values": [[3.0, 3.0]], "mask": [[1, 1]]}, {}, {"all values are equal"}),
    ("grape_rewards", {"scores": [[[1.0]]], "confidences": [[[0.5]]], "weights": [[0.0]], "item_mask": [[1]]}, {},
     {"no item of a prompt is trusted"}),
]  # fmt: skip


@pytest.mark.parametrize(("contract", "tensors", "options", "words"), WORDS)
def test_what_is_not_ordinary_about_an_input(contract, tensors, options, words):
    given = {name: torch.tensor(numbers) for name, numbers in tensors.items()}
    assert set(unusual(Case(given, CONTRACTS[contract].defaults(options)))) == words


# -- regions ----------------------------------------------------------------------------------------------------------


def test_the_words_of_an_input():
    contract = CONTRACTS["ppo"]
    subject = read(planted.correct_ppo, contract, {})
    plain = contract.simplest({})
    assert beside_plain(subject, plain) == frozenset()
    name = subject.offered[0]
    changed = plain.with_options(**{name: contract.options[name].others[0]})
    assert shown(beside_plain(subject, changed)) == (f"{name}={contract.options[name].others[0]!r}",)
    mask = plain.tensors["mask"].clone()
    mask[0] = False
    assert {"a row has no tokens"} <= beside_plain(subject, plain.with_tensors(mask=mask))
    assert set(unusual(plain.with_tensors(mask=torch.zeros_like(mask)))) == {"no token counts"}
    far = plain.with_tensors(logps=plain.tensors["old_logps"] + 21)
    assert set(unusual(far)) == {"log-probabilities differ by more than 20"}
    narrow = plain.with_tensors(**{n: t.float() for n, t in plain.tensors.items() if t.is_floating_point()})
    assert "in float32" in beside_plain(subject, narrow)


def test_a_wrong_number_leaves_out_an_option_and_an_error_one_of_its_values():
    words = frozenset({"clip_low=0.5", "clip_low changed", "a token is masked"})
    assert needed(Violation("the loss is 1.0, the spec gives 2.0"), words) == {"clip_low changed", "a token is masked"}
    assert needed(Violation("raised ValueError: no"), words) == words
    assert lies_in(words | {"in float32"}, [words])
    assert not lies_in(frozenset({"clip_low=0.5"}), [words])
