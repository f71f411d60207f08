"""Expressions: SymPy trees, kept unevaluated, with the few nodes that SymPy lacks.

`Diff`, `OneSided` and `At` state a derivative without taking it, so that a page shows the mathematics and not its
result, and so that a proof has something to prove. `Apply` is a definition applied to arguments. `substitute` replaces
symbols and whole families without capturing a bound variable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.function import UndefinedFunction
from sympy.core.relational import Relational
from sympy.core.symbol import Str
from sympy.logic.boolalg import Boolean, BooleanFunction

from grape_spec.language.domains import OneOf, RowDomain
from grape_spec.language.symbols import DECLARATIONS, Declarable, declaration, lowest_of, size_of_axis

if TYPE_CHECKING:
    from grape_spec.language.definitions import Definition


class _RealNode(sp.Expr):
    """A node of the spec: a real number whose value the engines compute."""

    is_commutative = True

    def _eval_is_extended_real(self) -> bool:
        return True

    _eval_is_real = _eval_is_extended_real

    def _sympystr(self, printer: Any) -> str:
        from grape_spec.render import unicode

        return unicode(self)


class Diff(_RealNode):
    """The derivative of an expression with respect to a symbol, ``logits[k]`` or a parameter; several nest."""

    def __new__(cls, expr: Any, *variables: sp.Expr) -> Diff:
        if not variables:
            raise TypeError("Diff: got no variable, expected Diff(expr, x)")
        node = sp.sympify(expr)
        for variable in variables:
            node = sp.Expr.__new__(cls, node, variable)
        return node

    @property
    def expr(self) -> sp.Expr:
        return self.args[0]

    @property
    def variable(self) -> sp.Expr:
        return self.args[1]

    def _eval_derivative(self, variable: sp.Expr) -> sp.Expr:
        return _left_as_it_is(self, variable)


class OneSided(_RealNode):
    """The slope of an expression in a symbol at a point, from above (side 1) or from below (side −1)."""

    def __new__(cls, expr: Any, variable: sp.Symbol, point: Any, side: int) -> OneSided:
        if side not in (1, -1):
            raise ValueError(f"side: got {side}, expected 1 (from above) or -1 (from below)")
        if not isinstance(variable, sp.Symbol):
            raise TypeError(f"variable: got {variable}, expected a symbol")
        return sp.Expr.__new__(cls, sp.sympify(expr), variable, sp.sympify(point), sp.Integer(side))

    expr = property(lambda self: self.args[0])
    variable = property(lambda self: self.args[1])
    point = property(lambda self: self.args[2])
    side = property(lambda self: int(self.args[3]))


class At(_RealNode):
    """An expression, derivatives in it already taken, with a symbol or family replaced: f′ at the point."""

    def __new__(cls, expr: Any, replaced: sp.Expr, value: Any) -> At:
        if not isinstance(replaced, sp.Symbol | sp.IndexedBase):
            raise TypeError(f"replaced: got {replaced}, expected a symbol or a family")
        return sp.Expr.__new__(cls, sp.sympify(expr), replaced, sp.sympify(value))

    expr = property(lambda self: self.args[0])
    replaced = property(lambda self: self.args[1])
    value = property(lambda self: self.args[2])


class Apply(_RealNode):
    """A definition applied to arguments, printed by its symbol and unfolded by the engines."""

    def __new__(cls, definition: str | Str, *arguments: sp.Basic) -> Apply:
        return sp.Expr.__new__(cls, Str(str(definition)), *arguments)

    @property
    def definition(self) -> Definition:
        from grape_spec.language.registry import definition

        return definition(str(self.args[0]))

    @property
    def arguments(self) -> tuple[sp.Basic, ...]:
        return self.args[1:]

    @property
    def depth(self) -> sp.Expr | None:
        """The depth at which a recursive definition is applied; None if the definition is not recursive."""
        recursion = self.definition.recursion
        return None if recursion is None else self.arguments[self.definition.of.index(recursion.over)]

    @property
    def unfolds(self) -> bool:
        """Whether the engines may replace it: a recursive definition at a depth that is only a symbol stays."""
        depth = self.depth
        return depth is None or depth == self.definition.by_depth.lowest or _one_less(self, depth) is not None

    def unfold(self) -> sp.Expr:
        """The body of the definition with the arguments in place; of a recursive one, a single step of it."""
        return _unfolded(self)

    def _eval_derivative(self, variable: sp.Expr) -> sp.Expr:
        return _left_as_it_is(self, variable)

    def _eval_is_positive(self) -> bool | None:
        if not self.definition.domain.assumptions.get("positive"):
            return None
        pairs = zip(self.definition.of, self.arguments, strict=True)
        return True if all(_keeps_sign(thing, value) for thing, value in pairs) else None


def _left_as_it_is(node: sp.Expr, variable: sp.Expr) -> sp.Expr:
    """The derivative of a node that no engine looks into: itself, stated."""
    varied = variable.base if isinstance(variable, sp.Indexed) else variable
    return Diff(node, variable) if varied in occurring(node) else sp.S.Zero


def _keeps_sign(parameter: Any, argument: Any) -> bool:
    """Whether an argument has the sign that its parameter was declared with."""
    declared, given = (_number_in(thing) for thing in (parameter, argument))
    return _keeps_values(parameter, argument) and bool(
        (not declared.is_positive or given.is_positive) and (not declared.is_nonnegative or given.is_nonnegative)
    )


def _keeps_values(parameter: Any, argument: Any) -> bool:
    """Whether an argument is a mask or a row if its parameter is one, which its sign does not show."""
    entry = DECLARATIONS[parameter]
    if not isinstance(entry.domain, OneOf | RowDomain):
        return True
    given = DECLARATIONS.get(argument.base if isinstance(argument, sp.Indexed) else argument)
    same_axes = isinstance(entry.domain, OneOf) or (given is not None and given.sizes == entry.sizes)
    return given is not None and given.domain == entry.domain and same_axes


def _number_in(thing: Any) -> sp.Expr:
    """A symbol with the assumptions of a family's entries, or the thing itself."""
    if isinstance(thing, sp.IndexedBase):
        return thing.label
    return thing.expr if isinstance(thing, sp.Lambda) else thing


@lru_cache(maxsize=4096)
def _unfolded(node: Apply) -> sp.Expr:
    definition, depth = node.definition, node.depth
    arguments = dict(zip(definition.of, node.arguments, strict=True))
    if depth is None:
        return substitute(definition.body, arguments)
    recursion = definition.by_depth
    if depth == recursion.lowest:
        return substitute(recursion.first, arguments)
    before = _one_less(node, depth)
    if before is None:
        raise ValueError(f"{definition.id} cannot be unfolded at the depth {depth}")
    return substitute(recursion.step, {**arguments, recursion.over: before})


#: Depths up to this number above the first are written out.
DEEPEST = 8


def _one_less(node: Apply, depth: sp.Expr) -> sp.Expr | None:
    """The depth before, where a step surely leads to this one: the depth is a number, or a declared one plus a number.

    A depth that may be the first is not taken apart.
    """
    lowest = node.definition.by_depth.lowest
    if depth.is_Integer:
        return depth - 1 if lowest < depth <= lowest + DEEPEST else None
    number, symbol = depth.as_coeff_Add()
    least = lowest_of(symbol)
    return depth - 1 if number.is_Integer and number >= 1 and least is not None and least + number > lowest else None


def clip(x: Any, low: Any, high: Any) -> sp.Expr:
    """``x`` limited to [low, high]."""
    return sp.Min(sp.Max(x, low), high)


def cases(*branches: tuple[Any, Any]) -> sp.Expr:
    """The value beside the first condition that holds; the last condition is True."""
    for branch in branches:
        if not isinstance(branch, tuple) or len(branch) != 2:
            raise TypeError(f"cases: got {branch}, expected (value, condition)")
    return sp.Piecewise(*branches, evaluate=False)


def sum_over(body: Any, *axes: sp.Symbol) -> sp.Expr:
    """The sum of ``body`` over the whole range of each index, the first the outermost."""
    return _over(sp.Sum, body, axes)


def product_over(body: Any, *axes: sp.Symbol) -> sp.Expr:
    """The product of ``body`` over the whole range of each index."""
    return _over(sp.Product, body, axes)


def _over(kind: Any, body: Any, axes: tuple[sp.Symbol, ...]) -> sp.Expr:
    if not axes:
        name = "sum_over" if kind is sp.Sum else "product_over"
        raise TypeError(f"{name}: got no index, expected {name}(body, i)")
    node = sp.sympify(body)
    for axis in reversed(axes):
        size = size_of_axis(axis)
        if size is None:
            got = declaration(axis).domain.name
            raise TypeError(f"{axis}: got a symbol of domain {got}, expected one declared with index()")
        node = _bound_over(kind, node, (axis, 1, size))
    return node


def _bound_over(kind: Any, body: sp.Expr, *limits: Any) -> sp.Expr:
    """A sum or product, unless SymPy rewrites it: it moves cases out of inner sums, which unbinds variables.

    Raises: TypeError if SymPy does.
    """
    node = kind(body, *limits)
    if isinstance(node, kind) and node.function == body:
        return node
    if body.has(sp.Piecewise):
        raise TypeError(f"SymPy takes the cases out of {body}: write them without nesting sums, or by deltas")
    return node


def delta(i: Any, j: Any) -> sp.Expr:
    """Kronecker's delta: 1 where the indices are equal, else 0."""
    return sp.KroneckerDelta(i, j)


def equals(left: Any, right: Any) -> Relational:
    """The statement left = right, both sides kept as written."""
    return sp.Eq(sp.sympify(left), sp.sympify(right), evaluate=False)


def at_most(left: Any, right: Any) -> Relational:
    """The statement left ≤ right."""
    return sp.Le(sp.sympify(left), sp.sympify(right), evaluate=False)


def at_least(left: Any, right: Any) -> Relational:
    """The statement left ≥ right."""
    return sp.Ge(sp.sympify(left), sp.sympify(right), evaluate=False)


def less(left: Any, right: Any) -> Relational:
    """The statement left < right."""
    return sp.Lt(sp.sympify(left), sp.sympify(right), evaluate=False)


def greater(left: Any, right: Any) -> Relational:
    """The statement left > right."""
    return sp.Gt(sp.sympify(left), sp.sympify(right), evaluate=False)


def differs(left: Any, right: Any) -> Relational:
    """The statement left ≠ right."""
    return sp.Ne(sp.sympify(left), sp.sympify(right), evaluate=False)


def implies(condition: Any, conclusion: Any) -> Boolean:
    """The statement that the condition implies the conclusion."""
    return sp.Implies(condition, conclusion, evaluate=False)


def iff(left: Any, right: Any) -> Boolean:
    """The statement that both hold or neither does."""
    return sp.Equivalent(left, right, evaluate=False)


def bound_things(expr: sp.Basic) -> set[Any]:
    """The variables that the outermost node binds in its first argument."""
    if isinstance(expr, ExprWithLimits):
        return {limit[0] for limit in expr.limits}
    if isinstance(expr, sp.Lambda):
        return set(expr.signature)
    if isinstance(expr, OneSided):
        return {expr.variable}
    if isinstance(expr, At):
        return {expr.replaced}
    return set()


def occurring(expr: sp.Basic) -> set[Any]:
    """Every symbol, family and function that occurs free in an expression."""
    if isinstance(expr, sp.Symbol | sp.IndexedBase):
        return {expr}
    if isinstance(expr, OneSided | At):
        body, outside = expr.args[0], expr.args[2]
        return (occurring(body) - bound_things(expr)) | occurring(outside)
    found: set[Any] = {expr.func} if isinstance(expr.func, UndefinedFunction) else set()
    for arg in expr.args:
        found |= occurring(arg)
    return found - bound_things(expr)


def symbols_of(expr: sp.Basic) -> set[Declarable]:
    """Every symbol, family and function that occurs free in an expression, with the sizes that it depends on."""
    found = occurring(expr)
    for node in expr.atoms(sp.Lambda, Apply):
        if isinstance(node, Apply):
            found |= node.definition.sizes
        else:
            found = found.union(*(sizes_of(bound) for bound in node.signature if bound in DECLARATIONS))
    while True:
        sizes = {s for thing in found if thing in DECLARATIONS for s in sizes_of(thing)}
        if sizes <= found:
            return found
        found |= sizes


def sizes_of(thing: Declarable) -> set[sp.Symbol]:
    """The sizes of the axes of a family, or of the one that an index is on."""
    entry = DECLARATIONS[thing]
    axis = size_of_axis(thing)
    of = entry.sizes if axis is None else (*entry.sizes, axis)
    return {s for size in of for s in size.free_symbols}


def sizes_kept(expr: sp.Basic, size: sp.Symbol) -> set[Apply]:
    """The applications that depend on a size which `substitute` does not replace in them."""
    return {node for node in expr.atoms(Apply) if size in node.definition.sizes}


def rebuild(expr: sp.Basic, args: list[sp.Basic]) -> sp.Basic:
    """The same node with other arguments; formulas, cases and extrema are not evaluated, which is slow."""
    if isinstance(expr, Relational | BooleanFunction | sp.Piecewise | sp.Min | sp.Max):
        return expr.func(*args, evaluate=False)
    if isinstance(expr, sp.Sum | sp.Product):
        return _bound_over(expr.func, *args)
    return expr.func(*args)


def walk(expr: sp.Basic, change: Callable[[sp.Basic], sp.Basic | None]) -> sp.Basic:
    """Apply ``change`` to every node of the tree, leaves first; None leaves a node unchanged."""
    if expr.args and not isinstance(expr, sp.IndexedBase):
        args = [walk(arg, change) for arg in expr.args]
        if any(new is not old for new, old in zip(args, expr.args, strict=True)):
            expr = rebuild(expr, args)
    changed = change(expr)
    return expr if changed is None else changed


def unfold(expr: sp.Basic, only: Callable[[Apply], bool] = lambda node: True) -> sp.Basic:
    """The expression with every definition, or only the chosen ones, replaced by its body."""

    def open_up(node: sp.Basic) -> sp.Basic | None:
        return unfold(node.unfold(), only) if isinstance(node, Apply) and node.unfolds and only(node) else None

    return walk(expr, open_up)


def recursions_in(expr: sp.Basic) -> set[Apply]:
    """Every application of a recursive definition, also within the definitions that an expression speaks of."""
    found: set[Apply] = set()
    waiting, seen = [expr], set()
    while waiting:
        for node in waiting.pop().atoms(Apply):
            if node.definition.recursion is not None:
                found.add(node)
            if node.definition.id not in seen:
                seen.add(node.definition.id)
                waiting.append(node.definition.body)
    return found


def substitute(expr: sp.Basic, mapping: Mapping[Any, Any]) -> sp.Basic:
    """Replace symbols, families and functions, renaming bound variables that would capture a free one.

    A family may be replaced by another family or by a ``Lambda`` of its indices, a function by a ``Lambda`` of its
    arguments.
    """
    mapping = {old: sp.sympify(new) for old, new in mapping.items() if old != new}
    return _substitute(expr, mapping) if mapping else expr


def _substitute(expr: sp.Basic, mapping: dict[Any, Any]) -> sp.Basic:
    if expr in mapping:
        return mapping[expr]
    if not expr.args or isinstance(expr, sp.IndexedBase):
        return expr
    if isinstance(expr, Diff):
        return _in_derivative(expr, mapping)
    if bound_things(expr):
        return _under_binder(expr, mapping)
    if isinstance(expr, sp.Indexed) and expr.base in mapping:
        return _call(mapping[expr.base], [_substitute(i, mapping) for i in expr.indices])
    if expr.func in mapping:
        return _call(mapping[expr.func], [_substitute(a, mapping) for a in expr.args])
    return rebuild(expr, [_substitute(arg, mapping) for arg in expr.args])


def _in_derivative(expr: Diff, mapping: dict[Any, Any]) -> sp.Basic:
    """Substitution in ∂f/∂x. What is varied stays a variable: (∂f/∂x at x := value) is not ∂f(value)/∂value."""
    variable = expr.variable
    varied = variable.base if isinstance(variable, sp.Indexed) else variable
    indices = tuple(_substitute(i, mapping) for i in variable.indices) if isinstance(variable, sp.Indexed) else ()
    within = occurring(expr.expr)
    others = {old: new for old, new in mapping.items() if old != varied and old in within}
    taken = set().union(*(occurring(new) for new in others.values())) | (within - {varied})
    target = mapping.get(varied, varied)
    if isinstance(target, type(varied)) and target not in taken:
        return Diff(_substitute(expr.expr, mapping), target[indices] if indices else target)
    own = _fresh(varied, taken | occurring(target))
    body = _substitute(expr.expr, {**others, varied: own})
    return At(Diff(body, own[indices] if indices else own), own, target)


def _call(target: Any, arguments: list[Any]) -> Any:
    if isinstance(target, sp.IndexedBase):
        return target[tuple(arguments)]
    if isinstance(target, sp.Lambda):
        return substitute(target.expr, dict(zip(target.signature, arguments, strict=True)))
    return target(*arguments)


def _under_binder(expr: sp.Basic, mapping: dict[Any, Any]) -> sp.Basic:
    bound = bound_things(expr)
    inner = {old: new for old, new in mapping.items() if old not in bound}
    incoming: set[Any] = set().union(*(occurring(new) for new in inner.values()))
    renamed = _renamed(bound & incoming, incoming | bound | occurring(expr))
    inner = {**inner, **renamed}
    if isinstance(expr, ExprWithLimits):
        limits = [
            (renamed.get(limit[0], limit[0]), *(_substitute(end, inner) for end in limit[1:])) for limit in expr.limits
        ]
        return _bound_over(expr.func, _substitute(expr.function, inner), *limits)
    if isinstance(expr, sp.Lambda):
        return sp.Lambda(tuple(renamed.get(b, b) for b in expr.signature), _substitute(expr.expr, inner))
    body, variable, outside, *side = expr.args
    return expr.func(
        _substitute(body, inner), renamed.get(variable, variable), _substitute(outside, mapping), *map(int, side)
    )


def _renamed(clash: set[Any], taken: set[Any]) -> dict[Any, Any]:
    """A name of its own for each bound variable that clashes: two indices of one sum must not become one."""
    fresh: dict[Any, Any] = {}
    for thing in sorted(clash, key=str):
        fresh[thing] = _fresh(thing, taken | set(fresh.values()))
    return fresh


def _fresh(thing: Any, taken: set[Any]) -> Any:
    """A thing of the same kind under an unused name."""
    if thing not in taken:
        return thing
    name = (thing.label.name if isinstance(thing, sp.IndexedBase) else thing.name) + "′"
    if isinstance(thing, sp.IndexedBase):
        return _fresh(sp.IndexedBase(name, **_assumptions(thing.label)), taken)
    return _fresh(sp.Symbol(name, **_assumptions(thing)), taken)


def _assumptions(symbol: sp.Symbol) -> dict[str, bool]:
    return dict(symbol._assumptions_orig)


def avoid(expr: sp.Basic, taken: set[Any]) -> sp.Basic:
    """The expression with the bound variables of sums renamed where their name is taken."""

    def rename(node: sp.Basic) -> sp.Basic | None:
        clash = bound_things(node) & taken
        if not clash or not isinstance(node, ExprWithLimits):
            return None
        fresh = _renamed(clash, taken | bound_things(node) | occurring(node.function))
        limits = [(fresh.get(limit[0], limit[0]), *limit[1:]) for limit in node.limits]
        return node.func(substitute(node.function, fresh), *limits)

    return walk(expr, rename)
