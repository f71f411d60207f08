"""Samples lie in their domains, and are exact."""

from random import Random

import pytest
from grape_spec.language import NonNegative, Open, Positive, Real, Simplex
from grape_spec.language.domains import Mask, OneHot

DOMAINS = [Real, Positive, NonNegative, Open(0, 1), Open(1), Open(-1, 1)]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: d.name)
def test_intervals_are_sampled_inside_and_dyadically(domain):
    """No sample leaves the interval or needs rounding."""
    random = Random(1)
    samples = [domain.sample(random) for _ in range(500)]
    assert all(domain.contains(x) for x in samples)
    assert all(x.denominator & (x.denominator - 1) == 0 for x in samples)
    assert len(set(samples)) > 20


def test_open_ends_are_outside_and_closed_ends_inside():
    """0 is non-negative and not positive."""
    assert NonNegative.contains(0)
    assert not Positive.contains(0)
    assert not Open(0, 1).contains(1)
    assert not Open(1).contains(1)
    assert 0 in {NonNegative.sample(Random(n)) for n in range(200)}


@pytest.mark.parametrize("length", [1, 2, 5, 9])
def test_rows_sum_to_one(length):
    """A distribution is positive; a one-hot row has a single one."""
    for seed in range(50):
        row = Simplex.sample_row(Random(seed), length)
        assert len(row) == length
        assert sum(row) == 1
        assert min(row) > 0
        hot = OneHot.sample_row(Random(seed), length)
        assert len(hot) == length
        assert sorted(hot)[-1] == 1
        assert sum(hot) == 1


def test_a_mask_takes_both_values():
    """Zero and one, nothing else."""
    assert {Mask().sample(Random(n)) for n in range(50)} == {0, 1}


def test_assumptions_are_no_stronger_than_the_domain():
    """A domain that holds zero is not assumed positive, one that holds negatives is not assumed non-negative."""
    assert NonNegative.assumptions == {"nonnegative": True}
    assert Open(-1, 1).assumptions == {"real": True}
    assert Open(1).assumptions == {"positive": True}
    assert OneHot.assumptions == Mask().assumptions == {"nonnegative": True}
