"""Mutants: all different from the statement and from each other, and false or excused."""

import grape_spec  # noqa: F401
import pytest
import sympy as sp
from grape_spec.language import Diff, OneSided, at_most, delta, equals, greater, iff, implies, sum_over
from grape_spec.language.registry import CLAIMS
from grape_spec.proof.mutate import mutants
from sympy import And, Max, Min, exp


@pytest.mark.parametrize("id", list(CLAIMS))
def test_mutants_differ_from_the_statement_and_from_each_other(id):
    """None is the statement itself, none is given twice, and every part has some."""
    for part in CLAIMS[id].parts:
        found = [changed for _, changed in mutants(part.statement)]
        assert part.statement not in found
        assert len(set(found)) == len(found)
        assert found
        assert not {sp.true, sp.false} & set(found)


def changed(statement):
    return {new for _, new in mutants(statement)}


def test_signs_factors_terms_and_constants_are_changed(words):
    """Of x + 2y: sign, factor, a term lost, one too many."""
    x, y = words.x, words.y
    found = {m.rhs for m in changed(equals(words.z, x + 2 * y))}
    assert {-x - 2 * y, 2 * (x + 2 * y), x, 2 * y, x + 2 * y + 1, -x + 2 * y, x - 2 * y, 2 * x + 2 * y} <= found


def test_extrema_are_exchanged_and_dropped(words):
    """Min becomes Max and either side alone."""
    x, y = words.x, words.y
    found = {m.rhs for m in changed(equals(words.z, Min(x, y)))}
    assert {Max(x, y), x, y} <= found


def test_comparisons_are_turned_and_their_edges_moved(words):
    """Inside of connectives."""
    x, y = words.x, words.y
    found = changed(implies(sp.Lt(x, y, evaluate=False), sp.Lt(x, y + 1, evaluate=False)))
    assert implies(sp.Gt(x, y, evaluate=False), sp.Lt(x, y + 1, evaluate=False)) in found
    assert implies(sp.Le(x, y, evaluate=False), sp.Lt(x, y + 1, evaluate=False)) in found


def test_indices_are_exchanged_on_their_own_axis_only(words):
    """u_i becomes u_j, never u_s."""
    found = changed(equals(words.u[words.i] + words.u[words.j] * words.table[words.i, words.s], words.u[words.i] * 3))
    right = {m.rhs for m in found}
    assert words.u[words.j] * 3 in right
    assert words.u[words.s] * 3 not in right


def test_the_left_side_is_changed_where_the_right_one_is_a_number(words):
    """0 has no nodes worth changing; multiples of zero are left out."""
    total = sum_over(words.u[words.i], words.i)
    found = {m.lhs for m in changed(equals(total, 0))}
    assert total / words.rows in found
    assert total + 1 in found
    assert -total not in found
    assert 2 * total not in found


def test_what_is_bound_or_differentiated_is_not_touched(words):
    """Limits, names and variables of derivatives stay."""
    statement = equals(words.z, sum_over(words.u[words.i], words.i) + Diff(exp(words.x), words.x))
    for mutant in changed(statement):
        assert all(node.limits[0][1:] == (1, words.rows) for node in mutant.atoms(sp.Sum))
        assert all(node.variable == words.x for node in mutant.atoms(Diff))


def test_every_kind_of_node_can_be_mutated(words):
    """No kind makes the generator fail."""
    x, y = words.x, words.y
    kinds = [
        equals(x, sp.Piecewise((x, x > 0), (y, True))),
        equals(x, OneSided(Max(x, 0), x, y, 1)),
        equals(x, delta(words.i, words.j)),
        equals(x, sp.Product(words.u[words.i], (words.i, 1, words.rows))),
        iff(x > 0, y > 0),
        And(x > 0, y > 0),
        at_most(words.f(words.i, x), y),
        greater(sp.Abs(x), exp(-y)),
    ]
    assert all(len(changed(kind)) > 1 for kind in kinds)
