"""A stranger's function is called as it is: by the names of its parameters, with whatever it returns."""

import inspect
from types import SimpleNamespace

import pytest
import torch

import grape_verified
from grape_verified.conformance import CONTRACTS, check
from grape_verified.conformance.binding import SYNONYMS, NotBound, bind
from grape_verified.conformance.subject import read

PPO = CONTRACTS["ppo"]


def ours(logps, old_logps, advantages, mask, **options):
    return grape_verified.ppo_loss(logps, old_logps, advantages, mask, **options).loss


# -- parameters -------------------------------------------------------------------------------------------------------


def in_the_order_of_verl(old_log_prob, log_prob, advantages, response_mask, cliprange=0.2):
    return ours(log_prob, old_log_prob, advantages, response_mask, clip_low=cliprange, clip_high=cliprange)


def in_the_order_of_torchtune(pi_old_logprobs, pi_logprobs, advantages, padding_masks):
    return ours(pi_logprobs, pi_old_logprobs, advantages, padding_masks)


def by_keyword_only(*, mask, log_probs, old_log_probs, advantages, clip_eps_low=0.2, clip_eps_high=0.2):
    return ours(log_probs, old_log_probs, advantages, mask, clip_low=clip_eps_low, clip_high=clip_eps_high)


def of_names_that_say_nothing(a, b, c, d):
    return ours(a, b, c, d)


def partly_named(new, mask, adv, old_logps):
    return ours(new, old_logps, adv, mask)


def with_more(logps, old_logps, advantages, mask, entropy_coef=0.0, clip_eps=0.2):
    return ours(logps, old_logps, advantages, mask, clip_low=clip_eps, clip_high=clip_eps)


STRANGERS = {
    in_the_order_of_verl: "old_log_prob is old_logps, log_prob is logps",
    in_the_order_of_torchtune: "pi_old_logprobs is old_logps",
    by_keyword_only: "clip_eps_low is clip_low",
    of_names_that_say_nothing: "a is logps, b is old_logps, c is advantages, d is mask",
    partly_named: "new is logps",
    with_more: "clip_eps is clip_low and clip_high. Left at their own defaults: entropy_coef.",
}


@pytest.mark.parametrize("function", STRANGERS, ids=lambda function: function.__name__)
def test_a_function_with_names_of_its_own_is_accepted_and_its_binding_said(function):
    report = check(function, "ppo", examples=30)
    assert report.accepted, [(f.name, f.text) for f in report.properties if f.status == "failed"]
    said = report.finding("signature").text
    for part in STRANGERS[function].split(". "):
        assert all(word in said for word in part.split(", ")), said


def test_an_option_under_another_name_is_tried_and_not_left_at_its_default():
    def clips_wrong(logps, old_logps, advantages, mask, clip_eps=0.2):
        return ours(logps, old_logps, advantages, mask, clip_low=clip_eps, clip_high=0.2)

    report = check(clips_wrong, "ppo", examples=60)
    assert "options" in report.failed
    assert report.offered == ("clip_low", "clip_high")
    assert "clip_eps=" in report.finding("options").counterexample


def test_one_number_for_both_clips_is_drawn_for_both():
    subject = read(with_more, PPO, {})
    drawn = [subject.contract.fit({**subject.contract.defaults({}), "clip_low": x}, ()) for x in (0.1, 0.5)]
    assert [(options["clip_low"], options["clip_high"]) for options in drawn] == [(0.1, 0.1), (0.5, 0.5)]
    assert read(by_keyword_only, PPO, {}).binding.tied == ()


def test_a_parameter_that_bears_another_name_is_refused():
    def of_the_reference(logps, ref_logps, advantages, mask):
        return ours(logps, ref_logps, advantages, mask)

    signature = check(of_the_reference, "ppo", examples=5).finding("signature")
    assert signature.status == "failed"
    assert "its parameter ref_logps bears the name of another tensor than old_logps" in signature.text
    assert check(of_the_reference, "ppo", examples=20, bind={"ref_logps": "old_logps"}).accepted


def test_two_parameters_for_one_tensor_are_not_guessed_at():
    def doubtful(log_probs, new_logps, old_logps, advantages, mask):
        return ours(new_logps, old_logps, advantages, mask)

    text = check(doubtful, "ppo", examples=5).finding("signature").text
    assert "log_probs and new_logps both mean logps; say which with --bind NAME=logps" in text


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"new": "logps"}, "bind: got the parameter 'new', expected one of a, b, c, d"),
        ({"a": "logits"}, "bind: got 'logits' for a, expected one of logps, old_logps, advantages, mask, clip_low,"),
    ],
)
def test_a_wrong_binding_is_refused(asked, line):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared below
        check(of_names_that_say_nothing, "ppo", bind=asked)
    assert line in str(refused.value)


def test_asked_for_comes_before_names():
    def crossed(logps, old_logps, advantages, mask):
        return ours(old_logps, logps, advantages, mask)

    assert not check(crossed, "ppo", examples=30).accepted
    assert check(crossed, "ppo", examples=30, bind={"logps": "old_logps", "old_logps": "logps"}).accepted


def test_a_tensor_that_an_option_asks_for_is_passed_where_it_is_required():
    def grpo(per_token_logps, old_per_token_logps, ref_per_token_logps, advantages, completion_mask, beta=0.0):
        return grape_verified.grpo_loss(
            per_token_logps, old_per_token_logps, advantages, completion_mask, ref_logps=ref_per_token_logps,
            kl_coef=beta, aggregation="token_mean",
        ).loss  # fmt: skip

    report = check(grpo, "grpo", examples=30, options={"aggregation": "token_mean"})
    assert report.accepted, [(f.name, f.text) for f in report.properties if f.status == "failed"]
    assert "kl_coef" in report.offered


def test_no_synonym_means_two_tensors_of_one_contract():
    for contract in CONTRACTS.values():
        seen = [name for own in contract.tensors for name in {own, *SYNONYMS.get(own, ())}]
        assert len(seen) == len(set(seen)), contract.name


def test_every_function_of_ours_is_bound_as_it_was():
    for contract in CONTRACTS.values():
        binding = bind(inspect.signature(contract.function), contract, {})
        assert binding.in_order == contract.by_position, contract.name
        assert all(ours == theirs for ours, theirs in binding.parameters.items()), contract.name
        assert not binding.tied


def test_a_signature_that_lacks_a_tensor_says_which():
    with pytest.raises(NotBound, match="old_logps"):
        bind(inspect.signature(lambda logps, ref_logps, advantages, mask: 0), PPO, {})


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "accessor"),
    [
        (lambda loss: (loss, {"clipped": 0.1}), "[0]"),
        (lambda loss: [loss], "[0]"),
        (lambda loss: {"loss": loss, "kl": 0.0}, '["loss"]'),
        (lambda loss: SimpleNamespace(loss=loss), ".loss"),
        (lambda loss: loss, ""),
    ],
)
def test_the_tensor_is_found_in_a_result(result, accessor):
    def stranger(logps, old_logps, advantages, mask):
        return result(2 * ours(logps, old_logps, advantages, mask))

    report = check(stranger, "ppo", examples=10)
    assert (
        f"result = stranger(logps, old_logps, advantages, mask){accessor}\n" in report.finding("value").counterexample
    )


@pytest.mark.parametrize(
    ("returned", "words"),
    [((), "a tuple of 0"), ({"kl": 0.0}, "a dict"), ("0.5", "a str"), ((1.0, 2.0), "a tuple of 2"), (None, "None")],
)
def test_a_result_without_a_tensor_is_said(returned, words):
    text = check(lambda logps, old_logps, advantages, mask: returned, "ppo", examples=5).finding("signature").text
    assert text.startswith(f"returned {words}, expected a tensor")


# -- masks ------------------------------------------------------------------------------------------------------------


def test_a_function_that_takes_masks_of_integers_only():
    def counts(logps, old_logps, advantages, mask):
        if mask.dtype != torch.int64:
            raise TypeError("expected int64")
        return ours(logps, old_logps, advantages, mask)

    report = check(counts, "ppo", examples=20)
    assert report.accepted
    assert "Only with int masks" in report.finding("signature").text
