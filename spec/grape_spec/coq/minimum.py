"""Scripts for bounds from the sign of a derivative around a minimum (untrusted: Coq checks each line)."""

from __future__ import annotations

import sympy as sp

from grape_spec.coq.printer import coq_name
from grape_spec.coq.script import Script
from grape_spec.coq.terms import ZERO, NoScript, Tree, put, tree
from grape_spec.coq.texts import show


def around_minimum(script: Script, function: sp.Expr, over: sp.Symbol, at: sp.Expr) -> None:
    """Prove what follows from the function being at least what it is at a point, which is 0."""
    body, x = tree(function), coq_name(over)
    slope = script.normal.derivative(body, ("v", x))
    text = f"(fun {x} => {show(body)})"
    with script.block(f"assert (M : {text} {show(tree(at))} <= {text} {x})."):
        script.say(f"apply (minimum_at {text} (fun {x} => {show(slope)})); [lra | pos | ..]; clear; intros {x} H{x}.")
        script.say("- cbv beta. der_by.")
        for sign, side in ((1, "after"), (-1, "before")):
            wanted = slope if sign > 0 else ("neg", slope)
            product = _product(sp.diff(function, over), sign * (over - at))
            with script.bullet(f"intros {side}; cbv beta."):
                script.say(f"replace {show(wanted)} with {show(product)} by (field; nz).")
                script.say("nonneg.")
    with script.block(f"assert (Z : {text} {show(tree(at))} = 0)."):
        script.say("cbv beta.")
        script.equation(put(body, {x: tree(at)}), ZERO)
    script.say("cbv beta in M, Z; lra.")


def _product(slope: sp.Expr, distance: sp.Expr) -> Tree:
    """The size of a derivative as a product with an odd power of the distance from the point.

    Raises: NoScript if it is none.
    """
    powers = sp.factor(slope).as_powers_dict()
    away = next((base for base in powers if sp.expand(base**2 - distance**2) == 0), None)
    if away is None or powers[away] < 0 or powers[away] % 2 == 0:
        raise NoScript("the sign of a derivative")
    raised = [(distance if base == away else base, int(exponent)) for base, exponent in powers.items()]
    factors = [_raised(tree(base), exponent) for base, exponent in raised]
    return ("*", tuple(factors)) if len(factors) > 1 else factors[0]


def _raised(base: Tree, exponent: int) -> Tree:
    raised = base if abs(exponent) == 1 else ("^", base, abs(exponent))
    return raised if exponent > 0 else ("inv", raised)
