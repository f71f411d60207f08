"""Every public function has a runnable example, and a docstring with its parts in one order."""

import doctest
import inspect

import pytest
import torch

import grape_verified

FUNCTIONS = [name for name in grape_verified.__all__ if inspect.isfunction(getattr(grape_verified, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_run_as_printed(name):
    function = getattr(grape_verified, name)
    examples = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    torch.manual_seed(0)
    found = [doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example) for example in examples]
    assert sum(result.attempted for result in found) > 0
    assert sum(result.failed for result in found) == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_parts_of_a_docstring_come_in_one_order(name):
    parts = ("Arguments:", "Returns:", "Raises:", "Error:", "Claims:", "Sources:", "Examples:")
    lines = inspect.getdoc(getattr(grape_verified, name)).splitlines()
    places = [next((k for k, line in enumerate(lines) if line.startswith(part)), None) for part in parts]
    there = [place for place in places if place is not None]
    assert there == sorted(there)
    assert None not in (places[0], places[1], places[3], places[6])
