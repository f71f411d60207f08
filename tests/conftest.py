"""What tests of several folders share."""

import grape_spec  # noqa: F401 - the registry is full before any test adds to it
import pytest
import torch
from grape_spec.language.expressions import _unfolded
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RETIRED
from grape_spec.language.symbols import _BY_NAME, DECLARATIONS
from grape_spec.proof.refute import _lines
from grape_spec.proof.smt import _normal_form, _shown_positive
from hypothesis import settings

torch.set_num_threads(1)  # the tensors are small, and tests that run side by side share the cores

settings.register_profile("the same examples every time", derandomize=True, deadline=None)
settings.load_profile("the same examples every time")


@pytest.fixture
def scratch_registry():
    """A test may declare, define and claim what it likes: the tables are put back afterwards."""
    tables = (DECLARATIONS, _BY_NAME, DEFINITIONS, CLAIMS, RETIRED)
    before = [dict(table) for table in tables]
    yield
    for table, saved in zip(tables, before, strict=True):
        table.clear()
        table.update(saved)
    _unfolded.cache_clear()
    _lines.cache_clear()
    _normal_form.cache_clear()
    _shown_positive.cache_clear()
