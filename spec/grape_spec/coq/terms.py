"""Trees that scripts work with: the terms of a statement with every definition unfolded.

Nothing here is trusted: a script begins by having Coq check that the unfolded goal is what these trees print. A node is
a tuple that begins with its kind:

    ("q", 1/2)   ("v", "x")   ("ap", "p", indices)   ("fn", "f", arguments)   ("dfn", "f", arguments)   ("inr", index)
    ("+", terms)   ("*", factors)   ("neg", t)   ("inv", t)   ("^", t, 2)   ("exp", t)   ("ln", t)   ("sqrt", t)
    ("sum", "n", "i", t)   ("prod", "n", "i", t)   ("delta", i, j)   ("min", s, t)   ("max", s, t)   ("abs", t)
    ("pw", ((t, condition), ...))   ("diff", t, variable)   ("at", t, variable, ((name, value), ...))
    ("one", t, variable, point, side)   ("rec", "f", arguments), a recursive definition

An index is ("i", "k"), ("k", 2), ("n+", added, taken) or ("ip", "after", indices). What is put in for a family is
("lam", names, t) or ("fam", "p"). Conditions are ("<", s, t) and the like, ("and", conditions), ("imp", c, d).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction

from grape_spec.coq.printer import (
    added_and_taken,
    coq_id,
    coq_name,
    implicit_sizes,
    is_natural,
    ordered,
    quotient,
    signed,
)
from grape_spec.language.expressions import Apply, At, Diff, OneSided

Tree: TypeAlias = tuple[Any, ...]

#: The kinds of an index.
INDICES = {"i", "k", "n+", "ip"}

ZERO, ONE = ("q", Fraction(0)), ("q", Fraction(1))

RELATIONS = {sp.Eq: "=", sp.Ne: "<>", sp.Le: "<=", sp.Lt: "<", sp.Ge: ">=", sp.Gt: ">"}


class NoScript(ValueError):
    """No script can be written for a part; the message says why."""


# -- from SymPy --------------------------------------------------------------------------------------------------


def index_tree(expr: sp.Basic) -> Tree:
    """The tree of a natural number."""
    if isinstance(expr, sp.Integer):
        return ("k", int(expr))
    if isinstance(expr, sp.Symbol):
        return ("i", coq_name(expr))
    if isinstance(expr, sp.Indexed):
        return ("ip", coq_name(expr.base), tuple(map(index_tree, expr.indices)))
    if isinstance(expr, sp.Add):
        more, less = added_and_taken(expr)
        return ("n+", tuple(map(index_tree, more)), tuple(map(index_tree, less)))
    raise NoScript(f"the position {expr}")


def simple_index(index: Tree) -> Tree:
    """An index with numbers added up: (1 + n) + 1 is 2 + n, and (1 + n) − 1 is n."""
    number, names, taken = _counted(index)
    cut = min(number, sum(part[1] for part in taken if part[0] == "k"))
    rest = sum(part[1] for part in taken if part[0] == "k") - cut
    less = (*(part for part in taken if part[0] != "k"), *((("k", rest),) if rest else ()))
    more = (*((("k", number - cut),) if number - cut or not names else ()), *names)
    return more[0] if len(more) == 1 and not less else ("n+", more, less)


def _counted(index: Tree) -> tuple[int, tuple[Tree, ...], tuple[Tree, ...]]:
    """The number in a sum of indices, its other terms, and what is taken away."""
    if index[0] == "k":
        return index[1], (), ()
    if index[0] != "n+" or (index[2] and len(index[1]) == 0):
        return 0, (index,), ()
    number, taken = 0, index[2]
    names: tuple[Tree, ...] = ()
    for part in index[1]:
        if part[0] == "n+" and part[2]:
            names += (part,)
            continue
        own = _counted(part)
        number, names = number + own[0], names + own[1]
    return number, tuple(sorted(names, key=str)), taken


def size_name(expr: sp.Expr) -> str:
    return f"{expr}%nat" if isinstance(expr, sp.Integer) else coq_name(expr)


@lru_cache(maxsize=20_000)
def tree(expr: sp.Basic) -> Tree:  # noqa: PLR0912 - a branch for each kind of node
    """The tree of a term, definitions unfolded."""
    if isinstance(expr, sp.Integer) or (isinstance(expr, sp.Rational) and expr > 0):
        return ("q", Fraction(int(expr.p), int(expr.q)))
    if isinstance(expr, sp.Rational):
        return ("neg", ("q", Fraction(-int(expr.p), int(expr.q))))
    if isinstance(expr, sp.Symbol):
        return ("inr", ("i", coq_name(expr))) if expr.is_integer else ("v", coq_name(expr))
    if isinstance(expr, sp.Indexed):
        if expr.is_integer:
            return ("inr", index_tree(expr))
        return ("ap", coq_name(expr.base), tuple(map(index_tree, expr.indices)))
    if isinstance(expr, AppliedUndef):
        return ("fn", coq_name(expr.func), tuple(index_tree(a) if a.is_integer else tree(a) for a in expr.args))
    if isinstance(expr, sp.Add):
        return ("+", tuple(_signed_tree(part) for part in expr.args))
    if isinstance(expr, sp.Mul | sp.Pow):
        return _signed_tree(expr)
    if isinstance(expr, sp.Sum | sp.Product):
        found = tree(expr.function)
        for bound, _, high in expr.limits:
            found = ("sum" if isinstance(expr, sp.Sum) else "prod", size_name(high), coq_name(bound), found)
        return found
    if isinstance(expr, sp.KroneckerDelta):
        if all(map(is_natural, expr.args)):
            return ("delta", *map(index_tree, expr.args))
        return ("pw", ((ONE, ("=", *map(tree, expr.args))), (ZERO, True)))
    if isinstance(expr, sp.Min | sp.Max):
        first, *others = map(tree, ordered(expr))
        for other in others:
            first = ("min" if isinstance(expr, sp.Min) else "max", first, other)
        return first
    for kind, word in ((sp.exp, "exp"), (sp.log, "ln"), (sp.Abs, "abs")):
        if isinstance(expr, kind):
            return (word, tree(expr.args[0]))
    if isinstance(expr, sp.Piecewise):
        return ("pw", tuple((tree(value), condition(when)) for value, when in expr.args))
    if isinstance(expr, Diff):
        return _derivative_tree(expr)
    if isinstance(expr, At):
        return put_at(tree(expr.expr), coq_name(expr.replaced), _value_tree(expr.value))
    if isinstance(expr, OneSided):
        return ("one", tree(expr.expr), tree(expr.variable), tree(expr.point), expr.side)
    if isinstance(expr, Apply):
        entry = expr.definition
        if entry.recursion is not None:
            sizes = tuple(("i", coq_name(size)) for size in implicit_sizes(entry))
            return ("rec", coq_id(entry.id), (*sizes, *map(_argument_tree, entry.of, expr.arguments)))
        if entry.recursion is not None:
            raise NoScript(f"the recursion {entry.id}")
        pairs = zip(entry.of, expr.arguments, strict=True)
        values = {coq_name(thing): _argument_tree(thing, value) for thing, value in pairs}
        own = {name: value for name, value in values.items() if not _is_itself(name, value)}
        return put(tree(entry.body), own) if own else tree(entry.body)
    raise NoScript(type(expr).__name__)


def _is_itself(name: str, value: Tree) -> bool:
    return value in (("v", name), ("i", name), ("fam", name))


def given_value(thing: Any, value: Any) -> Tree:
    """The tree of what a fact puts in for a symbol, family or function."""
    if isinstance(value, sp.Lambda):
        return ("lam", tuple(map(coq_name, value.signature)), tree(value.expr))
    if isinstance(thing, sp.IndexedBase):
        return ("fam", coq_name(value))
    return index_tree(value) if isinstance(thing, sp.Symbol) and thing.is_integer else tree(value)


def _signed_tree(expr: sp.Expr) -> Tree:
    sign, factors = signed(expr)
    above, below = quotient(factors)
    over = [_raised(*factor) for factor in above] or [ONE]
    under = [_raised(*factor) for factor in below]
    if under:
        over.append(("inv", ("*", tuple(under)) if len(under) > 1 else under[0]))
    line = ("*", tuple(over)) if len(over) > 1 else over[0]
    return ("neg", line) if sign < 0 else line


def _raised(base: sp.Expr, exponent: sp.Rational) -> Tree:
    found = ("sqrt", tree(base)) if exponent.q == 2 else tree(base)
    return found if exponent.p == 1 else ("^", found, int(exponent.p))


def _derivative_tree(expr: Diff) -> Tree:
    inside = tree(expr.expr)
    variable = tree(expr.variable)
    if inside[0] == "fn" and inside[2][-1] == variable:
        return ("dfn", *inside[1:])
    return ("diff", inside, variable)


def _value_tree(value: sp.Basic) -> Tree:
    if isinstance(value, sp.Lambda):
        return ("lam", tuple(map(coq_name, value.signature)), tree(value.expr))
    if isinstance(value, sp.IndexedBase | UndefinedFunction):
        return ("fam", coq_name(value))
    return tree(value)


def _argument_tree(thing: Any, value: sp.Basic) -> Tree:
    if getattr(thing, "is_integer", False) and isinstance(thing, sp.Symbol):
        return index_tree(value)
    return _value_tree(value)


def condition(formula: Any) -> Any:
    """The tree of a formula; True is itself."""
    if formula is sp.true or formula is True:
        return True
    for kind, sign in RELATIONS.items():
        if isinstance(formula, kind):
            return (sign, tree(formula.args[0]), tree(formula.args[1]))
    if isinstance(formula, sp.And | sp.Or):
        return ("and" if isinstance(formula, sp.And) else "or", tuple(map(condition, formula.args)))
    for kind, word in ((sp.Not, "not"), (sp.Implies, "imp"), (sp.Equivalent, "iff")):
        if isinstance(formula, kind):
            return (word, *map(condition, formula.args))
    raise NoScript(type(formula).__name__)


def index_text(index: Tree) -> str:
    if index[0] == "k":
        return f"{index[1]}%nat"
    if index[0] == "ip":
        return f"({' '.join([index[1], *map(index_text, index[2])])})"
    if index[0] == "n+":
        return f"({' - '.join([' + '.join(map(index_text, index[1])), *map(index_text, index[2])])})%nat"
    return str(index[1])


# -- substitution ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=50_000)
def free(node: Any) -> frozenset[str]:
    """The names that occur free in a tree, with those of sizes."""
    if not isinstance(node, tuple) or not node:
        return frozenset()
    kind = node[0]
    if kind in ("sum", "prod"):
        return (free(node[3]) - {node[2]}) | {node[1]}
    if kind in ("i", "v", "fam"):
        return frozenset({node[1]})
    if kind == "rec":
        return frozenset().union(*map(free, node[2]))
    if kind in ("ap", "fn", "dfn", "ip"):
        return frozenset({node[1]}).union(*map(free, node[2]))
    if kind == "lam":
        return free(node[2]) - set(node[1])
    if kind == "at":
        put_in = frozenset().union(*(free(value) for _, value in node[3]))
        return ((free(node[1]) | free(node[2])) - {name for name, _ in node[3]}) | put_in
    if kind in ("q", "k"):
        return frozenset()
    rest = node[1:] if isinstance(kind, str) else node
    return frozenset().union(*(free(part) for part in rest if isinstance(part, tuple)))


def sub(node: Any, name: str, to: Tree) -> Any:
    """The tree with an index replaced."""
    if not isinstance(node, tuple):
        return node
    if node[:1] == ("i",) and node[1] == name:
        return to
    if node and node[0] in ("sum", "prod"):
        if node[2] == name:
            return node
        if node[2] in free(to):
            bound = node[2] + "'"
            while bound in free(node[3]) or bound in free(to):
                bound += "'"
            return (node[0], node[1], bound, sub(sub(node[3], node[2], ("i", bound)), name, to))
        return (*node[:3], sub(node[3], name, to))
    return tuple(sub(part, name, to) for part in node)


def put(node: Any, values: dict[str, Tree]) -> Any:
    """The tree with variables, indices, families and functions replaced."""
    if not isinstance(node, tuple) or not node or not values:
        return node
    kind = node[0]
    if kind in ("v", "i") and node[1] in values:
        return values[node[1]]
    if kind == "inr" and node[1][0] == "i" and node[1][1] in values:
        value = values[node[1][1]]
        return _number(value)
    if kind == "fam" and node[1] in values:
        return values[node[1]]
    if kind == "lam":
        inner = {name: value for name, value in values.items() if name not in node[1]}
        own = {name: ("i", f"{name}_l") for name in node[1] if any(name in free(value) for value in inner.values())}
        names = tuple(own[name][1] if name in own else name for name in node[1])
        return ("lam", names, put(put(node[2], own), inner))
    if kind in ("ap", "fn", "ip") and node[1] in values:
        return _called(values[node[1]], kind, tuple(put(part, values) for part in node[2]))
    if kind in ("sum", "prod"):
        return _under_bound(node, values)
    if kind == "diff":
        return _in_derivative(node, values)
    if kind == "at":
        held = {name for name, _ in node[3]}
        outer = {name: value for name, value in values.items() if name not in held}
        moved = put(("diff", node[1], node[2]), outer)
        reps = tuple((name, put(value, values)) for name, value in node[3])
        return ("at", moved[1], moved[2], reps if moved[0] == "diff" else (*moved[3], *reps))
    if kind == "one":
        inner = {name: value for name, value in values.items() if name != node[2][1]}
        return (kind, put(node[1], inner), node[2], put(node[3], values), node[4])
    return tuple(put(part, values) for part in node)


def _number(index: Tree) -> Tree:
    """A natural number as a real one."""
    return ("inr", index) if index[0] in INDICES else index


def _called(value: Tree, kind: str, arguments: tuple[Tree, ...]) -> Tree:
    if value[0] == "fam":
        return (kind, value[1], arguments)
    _, names, body = value
    own = [f"q_{name}" for name in names]
    for name, mine in zip(names, own, strict=True):
        body = sub(body, name, ("i", mine))
    for mine, argument in zip(own, arguments, strict=True):
        body = sub(body, mine, argument)
    return body


def _under_bound(node: Tree, values: dict[str, Tree]) -> Tree:
    kind, size, bound, body = node
    size = index_text(values[size]) if size in values else size
    inner = {name: value for name, value in values.items() if name != bound}
    if any(bound in free(value) for value in inner.values()):
        fresh = bound + "_f"
        while fresh in free(body) or any(fresh in free(value) for value in inner.values()):
            fresh += "'"
        return (kind, size, fresh, put(sub(body, bound, ("i", fresh)), inner))
    return (kind, size, bound, put(body, inner))


def _in_derivative(node: Tree, values: dict[str, Tree]) -> Tree:
    """What is varied is put in after the derivative is taken, unless it only gets another name."""
    _, body, variable = node
    varied = variable[1]
    inside = free(body) | free(variable)
    others = {name: value for name, value in values.items() if name != varied and name in inside}
    indices = variable[2] if variable[0] == "ap" else ()
    if any(varied in free(value) for value in others.values()):
        own, itself = varied + "__v", ("fam" if indices else "v", varied)
        apart = ("diff", rename(body, varied, own), rename(variable, varied, own))
        return put(("at", *apart[1:], ((own, values.get(varied, itself)),)), others)
    moved = ("ap", varied, tuple(put(i, values) for i in indices)) if indices else variable
    body = put(body, others)
    if varied not in values:
        return ("diff", body, moved)
    value = values[varied]
    if value[0] in ("v", "fam") and value[1] not in free(body):
        return put(("diff", rename(body, varied, value[1]), rename(moved, varied, value[1])), {})
    return ("at", body, moved, ((varied, value),))


def put_at(node: Tree, name: str, value: Tree) -> Tree:
    """A value put in after derivatives are taken."""
    if node[0] == "diff":
        return ("at", node[1], node[2], ((name, value),))
    if node[0] == "at":
        moved = tuple((own, put(given, {name: value})) for own, given in node[3])
        return ("at", node[1], node[2], (*moved, (name, value)))
    if has_derivative(node):
        raise NoScript("a point is put into an expression with derivatives")
    return put(node, {name: value})


def has_derivative(node: Any) -> bool:
    """Whether a derivative is still to be taken somewhere."""
    return isinstance(node, tuple) and (node[:1] in (("diff",), ("at",)) or any(map(has_derivative, node)))


def has_cases(node: Any) -> bool:
    """Whether cases stand somewhere."""
    return isinstance(node, tuple) and (node[:1] == ("pw",) or any(map(has_cases, node)))


def has_sum_over(node: Any) -> bool:
    """Whether a sum over an index stands somewhere."""
    return isinstance(node, tuple) and (node[:1] == ("sum",) or any(map(has_sum_over, node)))


def roots_in(node: Any) -> list[Tree]:
    """The square roots of a tree outside of sums, exponentials and logarithms."""
    if not isinstance(node, tuple) or node[:1] in (("sum",), ("prod",), ("exp",), ("ln",)):
        return []
    return [*([node] if node[:1] == ("sqrt",) else []), *(root for part in node for root in roots_in(part))]


def rename(node: Any, old: str, new: str) -> Any:
    """The tree with a variable, family or function under another name."""
    if not isinstance(node, tuple):
        return node
    if node[:1] in (("ap",), ("v",), ("fam",), ("fn",), ("dfn",)) and node[1] == old:
        return (node[0], new, *(rename(part, old, new) for part in node[2:]))
    return tuple(rename(part, old, new) for part in node)


def exchanged(node: Any, old: Tree, new: Tree) -> Any:
    """The tree with another in the place of one that occurs in it."""
    if node == old:
        return new
    return tuple(exchanged(part, old, new) for part in node) if isinstance(node, tuple) else node


def signed_factors(node: Tree) -> tuple[bool, list[Tree]]:
    """Whether a term has a minus, and its factors without it."""
    if node[0] == "neg":
        minus, factors = signed_factors(node[1])
        return not minus, factors
    if node[0] != "*":
        return False, [node]
    parts = [signed_factors(part) for part in node[1]]
    return sum(minus for minus, _ in parts) % 2 == 1, [factor for _, factors in parts for factor in factors]


def product_of(minus: bool, factors: list[Tree]) -> Tree:
    found: Tree = ONE if not factors else factors[0] if len(factors) == 1 else ("*", tuple(factors))
    return ("neg", found) if minus else found


def avoid(node: Any, names: frozenset[str]) -> Any:
    """The tree with bound indices under other names than these."""
    if not isinstance(node, tuple):
        return node
    if node[:1] in (("sum",), ("prod",)):
        body = avoid(node[3], names)
        bound = node[2]
        while bound in names or (bound != node[2] and bound in free(body)):
            bound += "'"
        return (node[0], node[1], bound, body if bound == node[2] else sub(body, node[2], ("i", bound)))
    return tuple(avoid(part, names) for part in node)


def written_out(node: Any) -> Any:
    """Sums and products of a size that is a number, term by term."""
    if not isinstance(node, tuple):
        return node
    if node[:1] in (("sum",), ("prod",)) and number_of(node[1]):
        body = written_out(node[3])
        terms = (sub(body, node[2], ("k", i)) for i in range(1, number_of(node[1]) + 1))
        return ("+", (ZERO, *terms)) if node[0] == "sum" else ("*", (ONE, *terms))
    return tuple(map(written_out, node))


def number_of(size: str) -> int:
    """The number that a size is, or 0 for a name."""
    digits = size.removesuffix("%nat")
    return int(digits) if digits.isdigit() else 0


def at_size(node: Any, name: str, number: int) -> Any:
    """The tree with a size replaced by a number."""
    if isinstance(node, str):
        return f"{number}%nat" if node == name else node
    if not isinstance(node, tuple):
        return node
    if node[:1] == ("i",) and node[1] == name:
        return ("k", number)
    if node[:1] in (("sum",), ("prod",)):
        return (node[0], at_size(node[1], name, number), node[2], at_size(node[3], name, number))
    return tuple(at_size(part, name, number) if isinstance(part, tuple) else part for part in node)
