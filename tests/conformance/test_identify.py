"""`identify` names the loss of a function written in another style, and calls no wrong function one that fits."""

import json
from inspect import signature

import pytest
import torch
from typer.testing import CliRunner

from grape_verified import ppo_loss
from grape_verified.cli import app
from grape_verified.conformance import check, identify

from . import strangers, strangers_later, table


@pytest.mark.parametrize("one", strangers.FEW, ids=lambda one: one.id)
def test_a_stranger_is_named(one):
    found = identify(one.function, examples=20)
    assert one.is_named_by(found), (found.variety, found.ties, found.departure)


def pytest_generate_tests(metafunc):
    """One in ten of the losses that take long in all; all of them with --nightly."""
    for argument, losses in (("stranger", [*strangers.ALL, *strangers_later.ALL]), ("planted", planted_errors())):
        if argument in metafunc.fixturenames:
            chosen = losses if metafunc.config.option.nightly else losses[::10]
            metafunc.parametrize(argument, chosen, ids=lambda one: one.id)


@pytest.mark.full("most losses that identify has to name")
def test_every_stranger_is_named(stranger):
    found = identify(stranger.function, examples=20)
    assert stranger.is_named_by(found), (found.variety, found.ties, found.departure)


def planted_errors():
    """Functions with one planted error, for contracts that `identify` is mostly asked about.

    A function that does not take an option at which it is wrong may be right at another value of it.
    """
    wrong, _ = table.load()
    asked = ("ppo", "grpo", "dpo", "group_advantages", "sft", "value", "gspo")
    chosen = [one for one in wrong if one.contract in asked and takes(one.function, one.options)]
    return chosen[::2]


def takes(function, options):
    """Whether a function takes every one of these options."""
    return set(options) <= set(signature(function).parameters)


def never_a_perfect_fit(one, examples):
    """Whether a wrong function is not called accepted, or else keeps what it was found to be on many more inputs."""
    found = identify(one.function, among=[one.contract], examples=examples)
    if found.fit != "accepted":
        return True
    named = {"options": found.variety.options, "habits": found.variety.habits}
    is_another = bool(found.variety.options) or bool(found.variety.habits)
    return is_another and check(one.function, found.variety.contract, examples=400, **named).accepted


@pytest.mark.parametrize("one", planted_errors()[::9], ids=lambda one: one.id)
def test_a_planted_error_is_no_perfect_fit(one):
    assert never_a_perfect_fit(one, 40)


@pytest.mark.full("most losses that identify has to name")
def test_no_planted_error_is_a_perfect_fit(planted):
    assert never_a_perfect_fit(planted, 200)


def test_what_fits_is_what_check_says():
    for function, fit in ((strangers.guarded_ppo, "accepted"), (strangers.token_ppo, "formula right")):
        found = identify(function, among=["ppo"], examples=60)
        assert found.fit == fit
        assert found.report.formula == "right"
        assert found.report.accepted == (fit == "accepted")


def test_a_wrong_function_fits_nothing_and_departs_on_an_input():
    found = identify(strangers.without_minimum, among=["ppo"], examples=20)
    assert not found.fits
    assert found.variety.contract == "ppo"
    assert 0 < found.explained < found.tried
    namespace = {"without_minimum": strangers.without_minimum}
    exec(compile(found.departure.counterexample, "counterexample", "exec"), namespace)
    assert f"the loss is {namespace['result'].item()!r}, the spec gives" in found.departure.text


def test_an_estimator_behind_an_option_that_is_taken_is_named_without_ties():
    found = identify(strangers.penalty_k2, among=["grpo"], examples=20)
    assert found.variety.options == {"kl_estimator": "k2"}
    assert found.fits
    assert not found.ties


def test_a_penalty_that_is_wrong_behind_an_option_fits_nothing():
    found = identify(strangers.penalty_of_the_reverse, among=["grpo"], examples=20)
    assert not found.fits
    assert "kl_coef=" in found.departure.counterexample


def test_the_nearest_loss_has_options_that_it_may_have():
    """The wrong sign is no length of −1, and what explains nothing is no change."""

    def wrong_sign(logprobs, adv, mask):
        gains = adv[:, None] if adv.ndim == 1 else adv
        return (logprobs * gains * mask).sum() / mask.sum().clamp(min=1)

    def swapped(pi_chosen_logps, pi_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
        away = (pi_chosen_logps - pi_rejected_logps) - (ref_rejected_logps - ref_chosen_logps)
        return torch.nn.functional.softplus(-beta * away).mean()

    for function, family in ((wrong_sign, "reinforce"), (swapped, "dpo")):
        found = identify(function, among=[family], examples=5)
        assert not found.fits
        assert found.variety.options.get("max_length", 1) > 0
        assert found.explained or not found.variety.options


def test_a_value_of_an_option_that_is_refused_hides_nothing():
    def refuses(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2):
        if clip_low >= 1:
            raise ValueError("clip_low must be below 1")
        return ppo_loss(logps, old_logps, advantages, mask, clip_low=clip_low, clip_high=clip_high).loss

    found = identify(refuses, among=["ppo"], examples=20)
    assert (found.fit, found.variety.contract) == ("formula right", "ppo")
    assert "raised ValueError: clip_low must be below 1" in found.report.finding("repeatable").text


def test_words_of_its_own_are_left_and_said():
    found = identify(strangers.in_words_of_its_own, among=["grpo"], examples=20)
    assert (found.variety.contract, found.variety.options) == ("grpo", {})
    assert "Left at their own defaults: aggregation." in found.report.finding("signature").text


def test_a_tie_says_what_the_other_contract_does_not_take():
    def takes(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2, aggregation="token_mean"):
        options = {"clip_low": clip_low, "clip_high": clip_high, "aggregation": aggregation}
        return ppo_loss(logps, old_logps, advantages, mask, **options).loss

    found = identify(takes, among=["ppo", "dapo"], examples=20)
    assert [(tie.variety.contract, tie.why) for tie in found.ties] == [
        ("dapo", "the same on every input, without aggregation")
    ]


def test_an_error_that_only_a_check_finds_is_no_fit(monkeypatch):
    def rare(logps, old_logps, advantages, mask):
        loss = strangers.guarded_ppo(logps, old_logps, advantages, mask)
        return loss * 2 if logps.dtype == torch.float32 else loss

    found = identify(rare, among=["ppo"], examples=40)
    assert found.explained == found.tried
    assert found.fit == "none"
    assert found.departure.counterexample


def test_a_function_that_is_no_loss():
    found = identify(lambda a: 1)
    assert found.fit == "not called"
    assert found.variety is None
    assert "returned a int" in found.refused["sft_per_token"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"among": ["pppo"]}, "among: got 'pppo', expected contracts or families; the nearest: ppo"),
        ({"among": ["habit"]}, "among: got 'habit', expected "),
        ({"among": ["xyz"]}, "among: got 'xyz', expected some of sft, "),
        ({"examples": 0}, "examples: got 0"),
        ({"bind": {"nothing": "logps"}}, "bind: got the parameter 'nothing'"),
    ],
)
def test_a_wrong_call_is_a_sentence(given, says):
    with pytest.raises(ValueError, match=says):
        identify(strangers.token_ppo, **given)


def test_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_loss.py").write_text(
        "import torch\n"
        "def loss(new, old, adv, keep):\n"
        "    ratio = (new - old).exp()\n"
        "    least = torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv) * keep\n"
        "    return -least.sum() / keep.sum().clamp(min=1)\n"
        "def wrong(new, old, adv, keep):\n"
        "    return -(new * adv * keep).sum()\n"
    )
    told = CliRunner().invoke(app, ["identify", "my_own_loss:loss", "--among", "ppo", "--examples", "20"])
    assert told.exit_code == 0
    assert told.stdout.startswith("loss is ppo.\n")
    assert "grape-verified check my_own_loss:loss --as ppo" in told.stdout
    shown = CliRunner().invoke(app, ["identify", "my_own_loss:wrong", "--among", "ppo", "--examples", "20"])
    assert shown.exit_code == 1
    assert shown.stdout.startswith("wrong is none of the losses of the spec. Nearest: ppo")
    data = CliRunner().invoke(app, ["identify", "my_own_loss:loss", "--among", "ppo", "--examples", "20", "--json"])
    assert json.loads(data.stdout)["variety"]["contract"] == "ppo"
    refused = CliRunner().invoke(app, ["identify", "my_own_loss:nothing"])
    assert refused.exit_code == 2
    assert refused.stderr == "grape-verified: the module my_own_loss has no nothing\n"
