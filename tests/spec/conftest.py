"""Symbols to write statements with."""

from types import SimpleNamespace

import pytest
from grape_spec.language import (
    Mask,
    OneHot,
    Open,
    Positive,
    Real,
    Simplex,
    Size,
    Smooth,
    family,
    function,
    index,
    symbol,
)


@pytest.fixture(autouse=True)
def scratch(scratch_registry):
    """Every test of the spec may add to the registry."""


@pytest.fixture
def words(scratch):
    """A few declared symbols of every kind."""
    rows, columns = symbol("t_rows", Size, "a size"), symbol("t_columns", Size, "another size")
    return SimpleNamespace(
        x=symbol("t_x", Real, "a number"),
        y=symbol("t_y", Real, "another number"),
        z=symbol("t_z", Real, "a third number"),
        positive=symbol("t_positive", Positive, "a positive number"),
        mask=symbol("t_mask", Mask(), "zero or one"),
        above_one=symbol("t_above_one", Open(1), "a number above one"),
        rows=rows,
        columns=columns,
        i=index("t_i", rows, "a row"),
        j=index("t_j", rows, "another row"),
        k=index("t_k", rows, "a third row"),
        s=index("t_s", columns, "a column"),
        u=family("t_u", Real, rows, text="numbers"),
        q=family("t_q", Positive, rows, text="positive numbers"),
        p=family("t_p", Simplex, rows, text="a distribution"),
        hot=family("t_hot", OneHot, rows, text="a one-hot row"),
        table=family("t_table", Real, rows, columns, text="a table"),
        f=function("t_f", Smooth, "a function of an index and a parameter"),
    )
