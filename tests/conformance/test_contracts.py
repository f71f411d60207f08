"""Every contract accepts correct functions in another style, and rejects planted mistakes by the right properties."""

import warnings
from collections import Counter

import pytest

from grape_verified.conformance import CONTRACTS, check, run
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.report import VERDICTS, Report
from grape_verified.conformance.subject import read

from . import table

WRONG, CORRECT = table.load()

#: Mistakes that are planted for every contract, at least.
FEWEST = 3

#: Inputs for each property of a wrong function, and of a correct one in the default tier and in the full one.
EXAMPLES, OF_CORRECT = 40, {False: 20, True: 100}


@pytest.fixture
def full(request):
    return request.config.getoption("--full", default=False)


@pytest.mark.parametrize("planted", CORRECT, ids=lambda planted: planted.id)
def test_accepts_a_correct_function_in_another_style(planted, full):
    report = check(planted.function, planted.contract, examples=OF_CORRECT[full])
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]
    tried = [finding for finding in report.properties if finding.status == "passed" and finding.name != "signature"]
    assert all(finding.examples >= min(OF_CORRECT[full], PROPERTIES[finding.name].most) for finding in tried)


@pytest.mark.parametrize("planted", WRONG, ids=lambda planted: planted.id)
def test_rejects_a_wrong_function_by_the_right_properties(planted, full, monkeypatch):
    """By default only the properties that must or may fail are tried, in the full tier all.

    A few reductions are enough to see what fails. They may leave an input that is not ordinary where an ordinary one
    fails as well, so another verdict than the stated one is asked for again with the usual number of them.
    """
    usual = run.REDUCTIONS
    monkeypatch.setattr(run, "REDUCTIONS", 3)
    allowed = {*planted.must, *planted.may}
    names = [name for name in CONTRACTS[planted.contract].properties if full or name == "signature" or name in allowed]
    failed = _failures(planted, names)
    if _verdict(failed.values()) != planted.verdict:
        monkeypatch.setattr(run, "REDUCTIONS", usual)
        failed = _failures(planted, names)
    assert set(planted.must) <= set(failed) <= allowed
    assert _verdict(failed.values()) == planted.verdict, [one for found in failed.values() for one in found.departures]
    for finding in failed.values():
        assert finding.counterexample
        assert "Traceback" not in finding.text


def _failures(planted, names):
    """The properties that a planted function does not have, with what was found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = run.run(read(planted.function, CONTRACTS[planted.contract], planted.options), names, EXAMPLES)
    return {finding.name: finding for finding in findings if finding.status == "failed"}


def _verdict(failed):
    """The verdict of a report with these failures, and with nothing else."""
    report = Report("", "", (), (), tuple(failed))
    if any(report.departures("formula")):
        return "formula"
    return "robustness" if any(report.departures("robustness")) else "none"


def test_what_is_said_of_a_planted_function_can_be_said():
    for planted in WRONG:
        assert planted.must, planted.id
        assert {*planted.must, *planted.may} <= set(CONTRACTS[planted.contract].properties), planted.id
        assert planted.verdict in VERDICTS, planted.id
    for planted in (WRONG, CORRECT):
        ids = Counter(entry.id for entry in planted)
        assert not [id for id, count in ids.items() if count > 1]


def test_every_contract_rejects_three_typical_mistakes_and_accepts_a_correct_function():
    mistakes, right = (Counter(planted.contract for planted in entries) for entries in (WRONG, CORRECT))
    assert {name: mistakes[name] for name in CONTRACTS if mistakes[name] < FEWEST} == {}
    assert set(CONTRACTS) - set(right) == set()
