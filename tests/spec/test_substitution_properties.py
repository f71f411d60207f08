"""Substitution keeps meaning: a tree with something put in has the value that the tree has there.

The trees are drawn: sums over one index within each other, derivatives, points, slopes and definitions, all over the
same few names, so that what is put in meets bound variables of its own name.
"""

import pytest
from grape_spec.evaluate import Evaluator
from grape_spec.jets import value_of
from grape_spec.language import At, Diff, OneSided, define, delta, substitute, sum_over, unfold
from grape_spec.language.expressions import avoid, bound_things
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sympy import Integer, Lambda, preorder_traversal

LENGTH = 3

drawn = settings(max_examples=80, suppress_health_check=list(HealthCheck))


@pytest.fixture
def here(words):
    """A point, and two definitions that bind an index of their own."""
    w = words
    w.total = define("t.total", "", (w.u,), sum_over(w.u[w.j], w.j))
    w.pick = define("t.pick", "", (w.i, w.u), sum_over(delta(w.i, w.j) * w.u[w.j], w.j))
    w.point = {
        w.rows: LENGTH, w.i: 2, w.j: 1, w.k: 3, w.x: 2, w.y: -3, w.u: [1, -2, 4], w.q: [3, 1, 2],
    }  # fmt: skip
    return w


def trees(w, depth=3):
    """Trees over x, y, u, q and the indices i, j, k."""
    index = st.sampled_from([w.i, w.j, w.k])
    leaf = st.one_of(
        st.sampled_from([w.x, w.y, Integer(1), Integer(2)]), index.map(lambda i: w.u[i]), index.map(lambda i: w.q[i])
    )
    if depth == 0:
        return leaf
    tree = trees(w, depth - 1)
    family = st.one_of(st.sampled_from([w.u, w.q]), st.builds(Lambda, index, tree))
    varied = st.one_of(st.sampled_from([w.x, w.y]), index.map(lambda i: w.u[i]))
    return st.one_of(
        leaf,
        st.builds(lambda a, b: a + b, tree, tree),
        st.builds(lambda a, b: a * b, tree, tree),
        st.builds(lambda i, j, a: delta(i, j) * a, index, index, tree),
        st.builds(sum_over, tree, index),
        st.builds(sum_over, tree, index, index),
        st.builds(Diff, tree, varied),
        st.builds(At, tree, st.sampled_from([w.x, w.y]), tree),
        st.builds(At, tree, st.just(w.u), family),
        st.builds(OneSided, tree, st.sampled_from([w.x, w.y]), tree, st.sampled_from([1, -1])),
        family.map(w.total),
        st.builds(w.pick, index, family),
    )


def value(expr, point):
    """The number that a tree is at a point."""
    return value_of(Evaluator(point).number(expr))


def row(family, point, w):
    """The entries of a family, or of one that is given by a formula."""
    if family in point:
        return point[family]
    (own,) = family.signature
    return [value(family.expr, {**point, own: i}) for i in range(1, LENGTH + 1)]


@drawn
@given(st.data())
def test_a_tree_with_something_put_in_has_the_value_that_it_has_there(here, data):
    """Numbers, indices and families, several at once."""
    w = here
    tree, index = trees(w, 2), st.sampled_from([w.i, w.j, w.k, Integer(1), Integer(2)])
    family = st.one_of(st.just(w.q), st.builds(Lambda, st.sampled_from([w.i, w.j, w.k]), tree))
    values = {w.x: tree, w.y: tree, w.i: index, w.j: index, w.u: family}
    put_in = data.draw(st.fixed_dictionaries({}, optional=values))
    there = dict(w.point)
    for thing, new in put_in.items():
        if thing in (w.i, w.j):
            there[thing] = int(w.point.get(new, new))
        else:
            there[thing] = row(new, w.point, w) if thing == w.u else value(new, w.point)
    expr = data.draw(trees(w))
    assert value(substitute(expr, put_in), w.point).overlaps(value(expr, there))


@drawn
@given(st.data())
def test_definitions_unfold_to_what_they_are(here, data):
    """Whatever is under them, and however often an index was renamed before."""
    expr = here.total(Lambda(here.i, data.draw(trees(here))))
    for _ in range(2):
        expr = here.pick(here.k, Lambda(data.draw(st.sampled_from([here.i, here.j, here.k])), expr))
    assert value(unfold(expr), here.point).overlaps(value(expr, here.point))


@drawn
@given(st.data())
def test_names_that_are_taken_are_avoided(here, data):
    """No sum binds one of them afterwards, and the value is the same."""
    taken = set(data.draw(st.lists(st.sampled_from([here.i, here.j, here.k]), min_size=1)))
    expr = unfold(data.draw(trees(here)))
    changed = avoid(expr, taken)
    sums = [node for node in preorder_traversal(changed) if node.func.__name__ == "Sum"]
    assert not any(bound_things(node) & taken for node in sums)
    assert value(changed, here.point).overlaps(value(expr, here.point))
