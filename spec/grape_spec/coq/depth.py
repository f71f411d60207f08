"""Scripts for what holds at every depth of a recursive definition, or at every size: induction (untrusted)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sympy as sp

from grape_spec.coq.printer import coq_id, coq_name, implicit_sizes
from grape_spec.coq.script import Script
from grape_spec.coq.statement import Hypothesis, domain_of, type_of
from grape_spec.coq.terms import ONE, ZERO, NoScript, Tree, free, put, sub, tree
from grape_spec.coq.texts import function_text, prop, show
from grape_spec.language.registry import DEFINITIONS


def recursion_named(name: str) -> Any:
    """The recursive definition with that Coq name."""
    return next(entry for id, entry in DEFINITIONS.items() if coq_id(id) == name and entry.recursion is not None)


def replaced(node: Any, change: Callable[[Tree], Tree | None]) -> Any:
    """The tree with applications of recursive definitions changed; None leaves one as it is."""
    if not isinstance(node, tuple):
        return node
    if node[:1] == ("rec",):
        new = change(node)
        if new is not None:
            return new
    return tuple(replaced(part, change) for part in node)


def names_in(node: Any) -> list[str]:
    """The recursive definitions that a tree applies."""
    found: dict[str, None] = {}

    def look(rec: Tree) -> None:
        found[rec[1]] = None

    replaced(node, look)
    return list(found)


def _parameters(entry: Any) -> list[str]:
    return [coq_name(thing) for thing in (*implicit_sizes(entry), *entry.of)]


def depth_of(node: Tree) -> Tree:
    """The depth at which a recursive definition is applied."""
    entry = recursion_named(node[1])
    depth: Tree = node[2][_parameters(entry).index(coq_name(entry.recursion.over))]
    return depth


def unfolded(node: Tree, before: Tree | None) -> Tree:
    """One step of a recursive definition: at the first depth, or at the one after ``before``."""
    entry = recursion_named(node[1])
    if entry.recursion.lowest != 0:
        raise NoScript("a recursion that does not begin at 0")
    values = dict(zip(_parameters(entry), node[2], strict=True))
    over = coq_name(entry.recursion.over)
    body = tree(entry.recursion.first if before is None else entry.recursion.step)
    given = {name: value for name, value in values.items() if name != over}
    changed = {name: value for name, value in given.items() if value not in (("v", name), ("i", name), ("fam", name))}
    if before is not None and before != ("i", over):
        changed[over] = before
    result: Tree = put(body, changed)
    return result


def instance(left: Tree, right: Tree, node: Tree) -> Tree:
    """What an equation with this left side says of another application of the same recursive definition."""
    chosen = {
        own[1]: given
        for own, given in zip(left[2], node[2], strict=True)
        if own[0] in ("v", "i") and own != given
    }  # fmt: skip
    result: Tree = put(right, chosen)
    return result


def induction_over_depth(script: Script, goal: Any, hypotheses: list[str], known: list[tuple[Tree, Tree, str]]) -> None:
    """Prove an equation whose left side is a recursion, by induction over its depth.

    ``hypotheses`` are the names in the context; ``known`` are equations about recursions with the names of their
    theorems.
    """
    sign, left, right = goal
    if sign != "=" or left[0] != "rec" or depth_of(left)[0] != "i":
        raise NoScript("not an equation about a recursion")
    n = depth_of(left)[1]
    own = [part[1] for part in left[2] if part[0] in ("v", "i") and part[1] != n]
    sizes = {coq_name(size) for size in implicit_sizes(recursion_named(left[1]))}
    fixed = frozenset().union(*(free(variable) for _, variable in differentiated(goal)))
    own = [name for name in dict.fromkeys(own) if name not in sizes | fixed]
    about = [name for name in hypotheses if name.rstrip("_") in {f"H{o.rstrip('_')}" for o in own}]
    everything = names_in((left, right))
    script.say(f"revert {' '.join([*about])}." if about else "idtac.")
    script.say(f"revert {' '.join(own)}." if own else "idtac.")
    script.say(f"induction {n} as [ | {n} IH]; intros {' '.join([*own, *about])}; cbn [{' '.join(everything)}].")

    def first(node: Tree) -> Tree | None:
        return unfolded(node, None) if depth_of(node) == ("i", n) else None

    following = ("i", f"{n}_next")

    def later(node: Tree) -> Tree | None:
        return unfolded(node, ("i", n)) if depth_of(node) == following else None

    with script.bullet("idtac."):
        sides = [sub(replaced(side, first), n, ("k", 0)) for side in (left, right)]
        script.say(f"change ({show(sides[0])} = {show(sides[1])}).")
        script.equation(*sides)
    with script.bullet("idtac."):
        sides = [replaced(sub(side, n, following), later) for side in (left, right)]
        sides = [sub(side, following[1], ("n+", (("k", 1), ("i", n)), ())) for side in sides]
        script.say(f"change ({show(sides[0])} = {show(sides[1])}).")
        equations = [(left, right, "IH"), *known]

        def by_hypothesis(node: Tree) -> Tree | None:
            return next((instance(le, ri, node) for le, ri, _ in equations if le[1] == node[1]), None)

        new = [replaced(side, by_hypothesis) for side in sides]
        reasons = " | ".join(f"apply {name}; side" for *_, name in equations)
        if new[0] != sides[0]:
            script.say(f"transitivity {show(new[0])}; [under ltac:(first [{reasons}]) | ].")
        if new[1] != sides[1]:
            script.say(f"transitivity {show(new[1])}; [ | symmetry; under ltac:(first [{reasons}])].")
        script.equation(*new)


# -- bounds ------------------------------------------------------------------------------------------------------


def bound_over_depth(
    script: Script,
    goal: Any,
    n: str,
    hypotheses: Iterable[Hypothesis],
    shown: tuple[Callable[[Any], None], Callable[[Any], None]],
) -> None:
    """Prove a bound on a recursion by induction over its depth n.

    ``shown`` prove the first depth, and the step with the bound in the place of the recursion.
    """
    rec, bound, below = _bounded(script, goal, n)
    own = _own_symbols(rec, n)
    about = [h for h in hypotheses if h.name.rstrip("_") in {f"H{name.rstrip('_')}" for name in own}]
    names = " ".join(h.name for h in about)
    script.say(f"revert {names}." if about else "idtac.")
    script.say(f"revert {' '.join(own)}." if own else "idtac.")
    script.say(f"induction {n} as [ | {n} IH]; intros {' '.join(own)} {names}; cbn [{rec[1]}].")
    with script.bullet("idtac."):
        first = tuple(_at_depth(side, rec, n, None) for side in goal[1:])
        script.say(f"change ({prop((goal[0], *first))}).")
        shown[0]((goal[0], *first))
    with script.bullet("idtac."):
        binders = "".join(f"({name} : {type_of(thing, [])}) " for name, thing in own.items())
        conditions = "".join(f"({h.text}) -> " for h in about)
        sides = (show(rec), show(bound)) if below else (show(bound), show(rec))
        quantifier = f"forall {binders}, " if own else ""
        others = " ".join(f"{name}_b" for name in (*own, *(h.name for h in about)))
        with script.block(f"assert (IB : {quantifier}{conditions}{sides[0]} <= {sides[1]})."):
            script.say(f"intros {others}. pose proof (IH {others}). lra.")
        sides = tuple(_at_depth(side, rec, n, ("i", n)) for side in goal[1:])
        script.say(f"change ({prop((goal[0], *sides))}).")

        def by_hypothesis(node: Tree) -> Tree | None:
            return instance(rec, bound, node) if node[1] == rec[1] and depth_of(node) == ("i", n) else None

        new = tuple(replaced(side, by_hypothesis) for side in sides)
        lemma = "ge_from" if goal[0] == ">=" else "le_from"
        leaf = "ltac:(apply IB; rng)"
        script.say(f"apply ({lemma} _ _ {show(new[0])} {show(new[1])}); [grows {leaf} | grows {leaf} | ]. clear IH IB.")
        shown[1]((goal[0], *new))


def _bounded(script: Script, goal: Any, n: str) -> tuple[Tree, Tree, bool]:
    """The recursion that a goal bounds, the bound, and whether that is an upper one."""
    sign, left, right = goal
    form = script.normal.of(("+", (left, ("neg", right))))
    for monomial, c in form.items():
        node = script.normal.atoms[monomial[0][0]] if len(monomial) == 1 and monomial[0][1] == 1 else ("",)
        if node[0] == "rec" and abs(c) == 1 and depth_of(node) == ("i", n) and sign in ("<=", ">="):
            rest = {other: -value / c for other, value in form.items() if other != monomial}
            return node, script.normal.back(rest), (sign == "<=") == (c > 0)
    raise NoScript("not a bound on a recursion")


def _own_symbols(rec: Tree, n: str) -> dict[str, Any]:
    """The symbols that a recursion is applied to as they stand, but for its depth."""
    entry = recursion_named(rec[1])
    things = dict(zip(_parameters(entry), (*implicit_sizes(entry), *entry.of), strict=True))
    pairs = zip(things.items(), rec[2], strict=True)
    sizes = set(map(coq_name, implicit_sizes(entry)))
    return {own: thing for (own, thing), given in pairs
            if given in (("v", own), ("i", own)) and own != n and own not in sizes}  # fmt: skip


def _at_depth(node: Any, rec: Tree, n: str, before: Tree | None) -> Any:
    """A side at the first depth, or at the one after n, with the recursion unfolded there."""
    if not isinstance(node, tuple):
        return node
    if node[:1] == ("rec",) and node[1] == rec[1] and depth_of(node) == ("i", n):
        return unfolded(node, before)
    if node == ("i", n):
        return ("k", 0) if before is None else ("n+", (("k", 1), before), ())
    return tuple(_at_depth(part, rec, n, before) for part in node)


# -- derivatives -------------------------------------------------------------------------------------------------


def differentiated(node: Any) -> dict[tuple[str, Tree], Tree]:
    """The recursions whose derivative is taken in a tree, by name and variable."""
    found: dict[tuple[str, Tree], Tree] = {}
    if not isinstance(node, tuple):
        return found
    if node[:1] in (("diff",), ("at",)):
        body, variable = node[1:3]

        def look(rec: Tree) -> None:
            if variable[1] in free(rec):
                found[rec[1], variable] = rec

        replaced(body, look)
    for part in node:
        found.update(differentiated(part))
    return found


def slopes_of_recursions(script: Script, nodes: Any, unfolding: str) -> None:
    """Recursions have derivatives at every depth and place: for the tactic that differentiates."""
    for (name, variable), rec in differentiated(nodes).items():
        entry = recursion_named(name)
        depth = coq_name(entry.recursion.over)
        symbols = [thing for thing in entry.of if isinstance(thing, sp.Symbol) and thing != entry.recursion.over]
        general = {coq_name(thing): thing for thing in symbols if coq_name(thing) not in free(variable)}
        domains = [h.text for thing in general.values() for h in domain_of(thing, [entry.body], {})]
        arguments = [
            _general(own, given, depth, general) for own, given in zip(_parameters(entry), rec[2], strict=True)
        ]
        function, point = function_text(("rec", name, tuple(arguments)), variable)
        binders = " ".join(f"({own} : {type_of(thing, [entry.body])})" for own, thing in general.items())
        conditions = " ".join(f"({text}) ->" for text in domains)
        slope = f"forall (d_ : nat) {binders}, {conditions} der {function} {point} (Derive {function} {point})"
        with script.block(f"assert ({script.fresh('RD')} : known_slope ({slope}))."):
            script.say("red. induction d_ as [ | d_ IH]; intros; apply Derive_correct;")
            script.say(f"[ | pose proof (IH : known_slope _) ]; cbn [{name}]; cbv beta zeta delta [{unfolding}];")
            script.say("eexists; dv.")


def _general(own: str, given: Tree, depth: str, general: dict[str, Any]) -> Tree:
    """An argument of a recursion at any depth and place."""
    if own == depth:
        return ("i", "d_")
    if own not in general:
        return given
    return ("i" if general[own].is_integer else "v", own)


# -- induction over a size ---------------------------------------------------------------------------------------


def induction_over_size(script: Script, goal: Any, n: str, about: list[str]) -> None:
    """Prove an equation at every size n; ``about`` are the hypotheses that speak of it."""
    _, left, right = goal
    names = " ".join(about)
    script.say(f"revert {names}.")
    script.say(f"induction {n} as [ | {n} IH]; intros {names}; [lia | ].")
    script.say(f"destruct {n} as [ | m_].")
    at_one = [_base(side, n) for side in (left, right)]
    with script.bullet("clear IH. cbn [sum1 prod1 INR]."):
        script.say(f"change ({show(at_one[0])} = {show(at_one[1])}).")
        script.equation(*at_one)
    with script.bullet(
        "feeds IH. set (n_ := S m_) in *. assert (Hn_ : (1 <= n_)%nat) by (unfold n_; lia). clearbody n_."
    ):
        old = [_renamed_size(side, n, "n_") for side in (left, right)]
        new = [_grown(side, "n_") for side in old]
        script.say("cbn [sum1 prod1]; rewrite ?S_INR.")
        script.say(f"first [change ({show(new[0])} = {show(new[1])}) | idtac].")
        change = [("+", (after, ("neg", before))) for after, before in zip(new, old, strict=True)]
        with script.block(f"assert (Gl : {show(change[0])} = {show(change[1])})."):
            script.equation(*change)
        script.say("lra.")


def _grown(node: Any, n: str) -> Any:
    """A side at the size S n, with the last term of each sum taken out."""
    if not isinstance(node, tuple):
        return node
    if node[:1] in (("sum",), ("prod",)) and node[1] == n:
        last = _at_last(node[3], node[2], n)
        return ("+" if node[0] == "sum" else "*", (node, last))
    if node == ("inr", ("i", n)):
        return ("+", (node, ONE))
    if node == ("i", n):
        return ("n+", (("k", 1), ("i", n)), ())
    return tuple(_grown(part, n) for part in node)


def _at_last(node: Any, i: str, n: str) -> Any:
    if node == ("inr", ("i", i)):
        return ("+", (("inr", ("i", n)), ONE))
    if isinstance(node, tuple):
        if node[:1] == ("i",) and node[1] == i:
            return ("n+", (("k", 1), ("i", n)), ())
        return tuple(_at_last(part, i, n) for part in node)
    return node


def _base(node: Any, n: str) -> Any:
    """A side at the size 1."""
    if not isinstance(node, tuple):
        return node
    if node[:1] in (("sum",), ("prod",)) and node[1] == n:
        first = sub(_base(node[3], n), node[2], ("k", 1))
        return ("+", (ZERO, first)) if node[0] == "sum" else ("*", (ONE, first))
    if node[:1] == ("i",) and node[1] == n:
        return ("k", 1)
    return tuple(_base(part, n) for part in node)


def _renamed_size(node: Any, old: str, new: str) -> Any:
    if isinstance(node, tuple):
        return tuple(_renamed_size(part, old, new) for part in node)
    return new if node == old else node
