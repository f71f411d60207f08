"""The losses keep their contracts on every route to their log-probabilities."""

from functools import cache

import pytest

from grape_verified.conformance import CONTRACTS, run
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.subject import read
from grape_verified.logprobs import from_logits, fused_loss, one_pass, two_stage

from .routes import FUSED, ROUTES, by_route

pytestmark = pytest.mark.full("losses on every route, on several processes and beside other libraries")

#: Inputs for each property of each loss on each route. Other tests check the losses themselves on more inputs; what is
#: new here is the route, which all of them share.
EXAMPLES = 6

#: The losses whose contracts differentiate log-probabilities.
LOSSES = [name for name, c in CONTRACTS.items() if c.reduced and {"logps", "chosen_logps"} & set(c.wrt)]


@cache
def subject_of(name, route):
    """A loss by a route, checked strictly."""
    return read(by_route(name, route), CONTRACTS[name], {}, strict=True)


def test_every_loss_is_fused():
    assert set(LOSSES) == set(FUSED)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_takes_everything_by_every_route(name, route):
    subject = subject_of(name, route)
    assert subject.offered == tuple(CONTRACTS[name].options)
    assert subject.variants == CONTRACTS[name].variants


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_keeps_its_contract_by_every_route(name, route):
    for prop in CONTRACTS[name].properties[1:]:
        finding = run.run_property(subject_of(name, route), PROPERTIES[prop], EXAMPLES)
        assert finding.status == "passed", f"{prop}: {finding.text}\n{finding.counterexample}"


# -- an error in a route is detected ----------------------------------------------------------------------------------


def turned_at_the_target(tile, position, values):
    """Writes the slope of the target with the wrong sign."""
    return put_at(tile, position, -values)


class TurnedAtTheTarget(from_logits._TokenLogps):
    """The slopes of all tokens have the sign of those beside the target."""

    @staticmethod
    def backward(ctx, grad, *others):
        slopes, *nothing = token_logps.backward(ctx, grad, *others)
        return slopes.abs() * -grad.sign().reshape(*slopes.shape[:-1], 1), *nothing


def first_only(size, step):
    """The first block of several."""
    return list(blocks(size, step))[:1]


def first_sequences(lengths, rows):
    """The first block of sequences."""
    return list(packed(lengths, rows))[:1]


def equal_weights(counted, *others):
    """The mean of the weights for every token."""
    weights = token_weights(counted, *others)
    return weights[counted].mean().expand_as(weights)


put_at, blocks, token_logps = one_pass.put_at, one_pass.blocks, from_logits._TokenLogps
packed, token_weights = fused_loss._packed, fused_loss.token_weights

#: An error: the module, what is replaced in it, the route, a loss and the properties that detect it.
MISTAKES = [
    (from_logits, "_TokenLogps", TurnedAtTheTarget, "logits", "sft", {"gradient"}),
    (two_stage, "put_at", turned_at_the_target, "hidden", "sft", {"gradient"}),
    (two_stage, "put_at", turned_at_the_target, "hidden", "grpo", {"gradient"}),
    (two_stage, "put_at", turned_at_the_target, "hidden", "gspo", {"gradient"}),
    (two_stage, "put_at", turned_at_the_target, "hidden", "dpo", {"gradient"}),
    (one_pass, "put_at", turned_at_the_target, "one pass", "sft", {"gradient"}),
    (one_pass, "put_at", turned_at_the_target, "one pass", "grpo", {"gradient"}),
    (one_pass, "put_at", turned_at_the_target, "one pass", "gspo", {"gradient"}),
    (one_pass, "put_at", turned_at_the_target, "one pass", "dpo", {"gradient"}),
    (two_stage, "blocks", first_only, "hidden", "ppo", {"value", "gradient"}),
    (one_pass, "blocks", first_only, "one pass", "ppo", {"value", "gradient"}),
    (fused_loss, "blocks", first_only, "one pass", "ppo", {"value", "gradient"}),
    (fused_loss, "token_weights", equal_weights, "one pass", "grpo", {"value", "gradient"}),
    (fused_loss, "_packed", first_sequences, "one pass", "gspo", {"value", "gradient"}),
    (fused_loss, "_packed", first_sequences, "one pass", "dpo", {"value", "gradient"}),
]


@pytest.mark.parametrize(("module", "name", "mistake", "route", "loss", "seen_by"), MISTAKES)
def test_a_mistake_in_a_route_breaks_the_contracts_of_losses(module, name, mistake, route, loss, seen_by, monkeypatch):
    monkeypatch.setattr(run, "REDUCTIONS", 3)
    subject = subject_of(loss, route)
    monkeypatch.setattr(module, name, mistake)
    findings = [run.run_property(subject, PROPERTIES[prop], 4 * EXAMPLES) for prop in ("value", "gradient")]
    failed = {finding.name: finding.text for finding in findings if finding.status == "failed"}
    assert set(failed) == seen_by
    assert all(
        "the gradient in " in text or "got the log-probability" in text or "the loss is" in text
        for text in failed.values()
    ), failed
