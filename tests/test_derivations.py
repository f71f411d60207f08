"""Derivations for people: every line of those of the package is proved, and a changed one does not follow."""

import itertools
from dataclasses import replace

import pytest
from grape_spec.language.registry import CLAIMS, DERIVATIONS
from grape_spec.proof.examine import examine_lines
from grape_spec.proof.refute import refute

#: How many parts have a derivation, and how many claims that makes.
PARTS, OF_CLAIMS = 128, 92

every_derivation = pytest.mark.parametrize(
    ("id", "name"), DERIVATIONS, ids=[f"{id} {name}".strip() for id, name in DERIVATIONS]
)


def part_and_earlier(id, name):
    parts = CLAIMS[id].parts
    position = [part.name for part in parts].index(name)
    return parts[position], parts[:position]


@every_derivation
def test_every_line_of_a_derivation_is_proved(id, name):
    for record in examine_lines(id, *part_and_earlier(id, name)):
        assert record.status == "proved", f"{record.reason}: {record.why_not} {record.witness}"


def test_so_many_parts_have_a_derivation():
    assert (len(DERIVATIONS), len({id for id, _ in DERIVATIONS})) == (PARTS, OF_CLAIMS)


@every_derivation
def test_a_reason_is_a_few_words(id, name):
    for entry in (entry for stage in DERIVATIONS[id, name] for entry in stage.lines):
        assert len(entry.reason) <= 90
        assert not entry.reason.endswith(".")


@every_derivation
def test_a_line_of_the_package_that_is_changed_is_refuted(id, name):
    """Each line but the last, with a term more, and doubled unless it is zero: it does not follow, or the next not."""
    part, _ = part_and_earlier(id, name)
    for stage in DERIVATIONS[id, name]:
        for (before, entry), (_, following) in itertools.pairwise(stage.steps()):
            for changed in (entry.expr + 1, *([] if 0 in (entry.expr, stage.lines[-1].expr) else [2 * entry.expr])):
                planted = replace(entry, expr=changed)
                links = planted.after(before), following.after(changed)
                sizes = part.by.at_sizes()
                assert any(refute(link, part.assuming, sizes=sizes, points=50).refuted for link in links), changed
