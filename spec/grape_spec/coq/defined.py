"""Scripts that prove that every term of a part has a value (untrusted: Coq checks each line)."""

from __future__ import annotations

from typing import Any

import sympy as sp

from grape_spec.coq.depth import slopes_of_recursions
from grape_spec.coq.printer import coq_id, coq_name, implicit_sizes
from grape_spec.coq.rules import assumed_positive, known_totals, normalised_assumptions, unfolding
from grape_spec.coq.script import Script
from grape_spec.coq.statement import definition_text, domain_of, type_of
from grape_spec.coq.terms import ONE, has_sum_over, roots_in
from grape_spec.coq.texts import prop, show
from grape_spec.coq.work import Work
from grape_spec.language.expressions import Apply, Diff
from grape_spec.language.registry import definition


def value_script(work: Work) -> list[str]:
    """The script that proves that every term of a part has a value."""
    script, statement = work.script, work.statement
    names = [name for name, _ in statement.binders] + [h.name for h in statement.hypotheses]
    if names:
        script.say(f"intros {' '.join(names)}.")
    for name in work.chosen:
        script.say(f"subst {name}.")
    plain = [id for id in statement.definitions if definition(id).recursion is None]
    names = [name for id in plain if (name := f"{coq_id(id)}_defined") in definition_text(id)]
    script.say(f"cbv beta zeta delta [{' '.join(names)} {unfolding(statement)}] in *.")
    unfolded = f"{' '.join(names)} {unfolding(statement)}"
    varied = {e.variable.base for e in work.part.statement.atoms(Diff) if isinstance(e.variable, sp.Indexed)}
    applied = [(e.definition.of, e.arguments) for e in work.part.statement.atoms(Apply)]
    varied |= {own for of, given in applied for own, value in zip(of, given, strict=True) if own != value}
    for id in statement.definitions:
        if definition(id).recursion is not None:
            _recursion_has_values(script, definition(id), unfolded, varied)
    slopes_of_recursions(script, work.goal, unfolded)
    _positive_roots(work)
    _divisors(work)
    script.say("val.")
    return script.lines


def _positive_roots(work: Work) -> None:
    """What stands under a root with a sum is positive: what is positive or assumed so, multiplied."""
    script = work.script
    assumed = assumed_positive(work)
    inside = [root[1] for root in roots_in((work.goal, work.assumed)) if has_sum_over(root)]
    inside = [node for node in dict.fromkeys(inside) if node not in assumed]
    if not inside:
        return
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        if not loose:
            script.say(f"change ({prop(formula)}) in A{n}.")
    known_totals(work)
    for node in assumed:
        script.normal.assume_positive(node)
    for node in inside:
        factors = [(script.normal.ratio(node, known), known) for known in (ONE, *assumed)]
        products = [
            ("*", (factor, known)) for factor, known in factors if factor is not None and not has_sum_over(factor)
        ]
        if products:
            product = min(products, key=lambda product: len(show(product)))
            with script.block(f"assert (0 < {show(node)})."):
                script.say(f"apply (Rlt_eq_r _ {show(product)}); [ | pos].")
                script.equation(node, product)


def _divisors(work: Work) -> None:
    """Divisors that are sums and come to one term are not 0, as that is not."""
    script = work.script
    found = [(divisor, short) for divisor in dict.fromkeys(script.divisors(work.goal))
             if (short := script.of_one_term(divisor)) is not None]  # fmt: skip
    if found:
        normalised_assumptions(work)
    for divisor, short in found:
        equal = script.fresh("E")
        with script.block(f"assert ({equal} : {show(divisor)} = {show(short)})."):
            script.equation(divisor, short)
        script.say(f"try (assert ({show(divisor)} <> 0) by (rewrite {equal}; nz)); clear {equal}.")


def _recursion_has_values(script: Script, entry: Any, unfolded: str, varied: set[Any]) -> None:
    """A recursive definition has a value at every depth, for all values of its symbols and of families that vary."""
    domain = {thing: domain_of(thing, [entry.body], {}) for thing in entry.of}
    general = [t for t in entry.of if isinstance(t, sp.Symbol) or t in varied or not domain[t]]
    ordered = [entry.recursion.over, *(t for t in general if t != entry.recursion.over)]
    binders = " ".join(f"({coq_name(t)} : {type_of(t, [entry.body])})" for t in ordered)
    domains = [h.text for t in ordered[1:] for h in domain[t]]
    name, label = f"{coq_id(entry.id)}_defined", script.fresh("V")
    applied_to = " ".join(map(coq_name, [*implicit_sizes(entry), *entry.of]))
    conclusion = " -> ".join([*(f"({text})" for text in domains), f"{name} {applied_to}"])
    with script.block(f"assert ({label} : forall {binders}, {conclusion})."):
        script.say(f"intros d_; induction d_ as [ | d_ IH]; intros; cbn [{name}];")
        script.lines[-1] += f" cbv beta zeta delta [{unfolded}]; val."
