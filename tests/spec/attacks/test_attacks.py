"""No attack is proved, none crashes the prover, and none takes long."""

import re
import signal
from contextlib import contextmanager
from importlib import import_module

import pytest
from grape_spec.language import DERIVED, Claim, claim, registry
from grape_spec.language.registry import _CLAIMED
from grape_spec.proof.prove import prove_claim
from grape_spec.proof.refute import refute, refutes

from tests.spec.attacks.world import ATTACKS, ID, entered

KINDS = (
    "circles", "sizes", "no_value", "derivatives", "sums", "assumptions", "bindings", "order", "declarations", "depth",
    "neighbours", "signs", "hidden",
)  # fmt: skip
for kind in KINDS:
    import_module(f"tests.spec.attacks.{kind}")

#: Seconds of processor time that an attack may take, whatever it does: the prover gives up after five. This clock also
#: counts the time of the system, of which there is much on a busy machine.
LIMIT = 30

#: Attacks that go on until the prover gives up, and those that go on until the search for a witness does.
PROVED_FOR_LONG = {"a hard polynomial, out of time"}
SEARCHED_FOR_LONG = {"a tree of depth 90", "sixteen sums in one another"}

#: Attacks that succeed: what the language and the prover still have to learn. An entry that is no longer needed fails.
SUCCEED: set[str] = set()


@pytest.fixture(autouse=True)
def world():
    """What the attacks speak of is declared."""
    with entered():
        yield


class TooLong(BaseException):
    """No `Exception`: the prover takes those for a failed proof."""


@contextmanager
def limited():
    """Within: an error after some seconds."""

    def stop(*_):
        raise TooLong(f"more than {LIMIT} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def named(attacks, succeed=frozenset(), long=frozenset()):
    """Attacks under their names; those that succeed are expected to, and those that take long are left out at first."""
    for attack in attacks:
        marks = [pytest.mark.xfail(strict=True)] if attack.name in succeed else []
        marks += [pytest.mark.full("attacks that take seconds")] if attack.name in long else []
        yield pytest.param(attack, id=f"{attack.kind}: {attack.name}", marks=marks)


def parts_of(attack):
    """The parts of an attack, not entered."""
    _CLAIMED.pop(ID, None)
    parts = attack.parts()
    return parts if isinstance(parts, list) else [parts]


def written(attack):
    """The claim of an attack, entered in place of the last one."""
    return claim(ID, attack.name, *parts_of(attack))


@pytest.mark.parametrize("attack", list(named(ATTACKS, SUCCEED, PROVED_FOR_LONG)))
def test_it_is_not_proved(attack):
    """It is refused when it is written, in the words that it names, or the verdict is unknown with a reason."""
    with limited():
        if attack.refused:
            with pytest.raises((TypeError, ValueError, KeyError, AttributeError), match=re.escape(attack.refused)):
                written(attack)
        else:
            *_, last = prove_claim(written(attack))
            assert (last.status, bool(last.reason)) == ("unknown", True)


@pytest.mark.parametrize("attack", list(named([attack for attack in ATTACKS if attack.refused])))
def test_the_prover_does_not_rely_on_the_language(attack, monkeypatch):
    """What the language refuses to enter is not proved either, where it can be written at all."""
    monkeypatch.setattr(registry, "_refuse_kept_sizes", lambda entry: None)
    with limited():
        try:
            parts = parts_of(attack)
        except (TypeError, ValueError, KeyError, AttributeError):
            return
        *_, last = prove_claim(Claim(ID, attack.name, tuple(parts), (), DERIVED, ()))
    assert (last.status, bool(last.reason)) == ("unknown", True)


@pytest.mark.parametrize("attack", [pytest.param(attack, id=attack.name) for attack in ATTACKS if attack.at])
def test_it_is_false_at_the_point_that_it_names(attack):
    """Otherwise it would be no attack."""
    part = parts_of(attack)[-1]
    assert refutes(part.statement, part.assuming, attack.at)


@pytest.mark.parametrize(
    "attack", list(named([attack for attack in ATTACKS if not attack.refused], long=SEARCHED_FOR_LONG))
)
def test_the_refuter_reads_it(attack):
    """What the language lets through can be evaluated, and what is drawn is no crash."""
    part = parts_of(attack)[-1]
    assert refute(part.statement, part.assuming, sizes=part.by.at_sizes(), points=5).drawn


def test_names_are_different():
    """Each attack has a name of its own, and the lists of some of them name attacks."""
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
    assert set(names) >= SUCCEED | PROVED_FOR_LONG | SEARCHED_FOR_LONG
