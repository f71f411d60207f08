"""What is false is not certified: false variants of claims and mutants, with the scripts of what is true."""

from dataclasses import replace

import pytest
import sympy as sp
from grape_spec.coq.certificate import NotCertified, certificate, certify
from grape_spec.coq.printer import Unstated
from grape_spec.coq.statement import stated
from grape_spec.coq.terms import NoScript
from grape_spec.language.claims import Part
from grape_spec.language.registry import CLAIMS, claim_of
from grape_spec.proof.mutate import mutants
from grape_spec.proof.refute import refute

#: Claims whose mutants and false variants are tried in the default tier, too.
SAMPLE = ("policy.softmax.jacobian", "ppo.ratio.gradient")

#: Seconds of computation that Coq gets for a false statement.
LIMIT = 10


def false_statements(claim):
    """Each false variant, and of each part a mutant that is refuted at a point, with the part that it belongs to."""
    for variant in claim.wrong:
        yield variant.text, claim.parts[0], variant.statement, variant.assuming
    for part in claim.parts:
        sizes = part.by.at_sizes() or None
        for text, mutant in mutants(part.statement):
            if refute(mutant, part.assuming, sizes=sizes).refuted:
                yield f"{part.name}: {text}", part, mutant, part.assuming
                break


def attempts(claim, part, statement, assuming):
    """Scripts for a false statement: one written for it by the rule of each part, and the one of the true part."""
    for by in dict.fromkeys(other.by for other in claim.parts):
        if by.at_sizes() == part.by.at_sizes():
            try:
                changed = Part(statement, by, tuple(assuming), part.name)
                entry = certificate(replace(claim, parts=(*claim.parts, changed)), changed)
            except (NoScript, Unstated):
                continue
            named = entry.theorem.replace(f"Theorem {entry.name} ", "Theorem false_one ", 1)
            yield replace(entry, name="false_one", theorem=named)
    try:
        true = certificate(claim, part)
        false = stated(statement, assuming, part.by.at_sizes())
    except (NoScript, Unstated):
        return
    yield replace(true, name="false_one", theorem=false.theorem("false_one"), definitions=false.definitions)


def certified_false(coq, claim):
    """The false statements of a claim that Coq accepts; there must be none."""
    found = []
    for text, part, statement, assuming in false_statements(claim):
        for entry in attempts(claim, part, statement, assuming):
            try:
                certify(coq, entry, LIMIT)
            except NotCertified:
                continue
            found.append(text)
    return found


@pytest.mark.parametrize("id", SAMPLE)
def test_nothing_false_is_certified(coq, id):
    assert certified_false(coq, claim_of(id)) == []


def pytest_generate_tests(metafunc):
    """One claim in thirty; all of them with --nightly, as each false statement takes Coq all the time it gets."""
    if "other" in metafunc.fixturenames:
        others = [id for id in CLAIMS if id not in SAMPLE]
        metafunc.parametrize("other", others if metafunc.config.option.nightly else others[::30])


@pytest.mark.full("false statements put before Coq")
def test_nothing_false_is_certified_of_other_claims(coq, other):
    assert certified_false(coq, claim_of(other)) == []


def test_something_false_is_tried_of_each_claim():
    """Each sample has a false statement with a script, so that the tests above can fail."""
    for id in SAMPLE:
        claim = claim_of(id)
        tried = [entry for false in false_statements(claim) for entry in attempts(claim, *false[1:])]
        assert len(tried) >= len(claim.parts)


def other(statement, left, right):
    """A relation of the same kind between other sides."""
    return statement.func(left, right, evaluate=False)


def with_delta(statement, value):
    """The statement with another value in the place of its Kronecker delta."""
    (delta,) = statement.atoms(sp.KroneckerDelta)
    return statement.xreplace(value(delta))


#: Parts, and what is false in their place: the rule of the part writes a script for it.
FALSE = (
    ("ppo.clip.first_order", "slope from below", lambda s: other(s, s.lhs, 2 * s.rhs)),
    ("ppo.clip.kink", "upper kink from above", lambda s: other(s, s.lhs, sp.Integer(1))),
    ("ppo.clip.gradient", "in the ratio", lambda s: other(s, s.lhs, 2 * s.rhs)),
    # where the delta is 1, and where it is 0
    ("trpo.bound.responses", "from above", lambda s: with_delta(s, lambda delta: {delta: 2 * delta})),
    ("trpo.bound.responses", "from above", lambda s: with_delta(s, lambda delta: {1 - delta: 2 - delta})),
    # a recursion at another policy: that it is worth twice the gain, or that the policy that was left is worth nothing
    ("trpo.performance_difference", "responses of at most T tokens", lambda s: other(s, s.lhs, 2 * s.rhs)),
    ("trpo.performance_difference", "responses of at most T tokens", lambda s: other(s, s.lhs, s.rhs.args[0])),
)


@pytest.mark.full("false statements put before Coq")
@pytest.mark.parametrize(("id", "name", "false"), FALSE)
def test_a_script_that_is_written_for_what_is_false_is_not_accepted(coq, id, name, false):
    """The tactics themselves fail: neither does the script name the true goal, nor is it missing."""
    claim = claim_of(id)
    part = next(part for part in claim.parts if part.name == name)
    changed = replace(part, statement=false(part.statement))
    assert changed.statement != part.statement
    entry = certificate(replace(claim, parts=tuple(changed if p is part else p for p in claim.parts)), changed)
    with pytest.raises(NotCertified):
        certify(coq, entry, LIMIT)


def test_the_check_can_fail(coq):
    """A true statement in the place of a false one is certified, and found."""
    claim = claim_of("policy.softmax.jacobian")
    (part,) = claim.parts
    assert [certify(coq, entry, LIMIT) for entry in attempts(claim, part, part.statement, part.assuming)]
