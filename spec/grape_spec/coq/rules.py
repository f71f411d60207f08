"""From the rule that proves a part to the script that proves it in Coq (untrusted: Coq checks each line)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import sympy as sp

from grape_spec.coq.chains import rewrites, through_links
from grape_spec.coq.depth import bound_over_depth, induction_over_depth, induction_over_size, slopes_of_recursions
from grape_spec.coq.entries import entry_slope, last_entries, say_for_all
from grape_spec.coq.inequalities import (
    SIGNS,
    Unfound,
    normalise_goal,
    normalised,
    of_interval,
    without_root,
)
from grape_spec.coq.minimum import around_minimum
from grape_spec.coq.printer import coq_id, coq_name, position
from grape_spec.coq.script import Script, unnamed
from grape_spec.coq.statement import Statement, quantified, stated
from grape_spec.coq.terms import (
    ONE,
    ZERO,
    NoScript,
    Tree,
    at_size,
    condition,
    exchanged,
    given_value,
    has_derivative,
    put,
    roots_in,
    tree,
    written_out,
)
from grape_spec.coq.texts import function_text, given_text, point_text, prop, show
from grape_spec.coq.work import Work, theorem_name
from grape_spec.language.registry import claim_of, definition
from grape_spec.language.symbols import DECLARATIONS, declared_name, size_of_axis
from grape_spec.proof.derivatives import opened
from grape_spec.proof.facts import Fact
from grape_spec.proof.rules.depth import OverDepth, WithinDepth
from grape_spec.proof.rules.equations import Algebra, Chain, FiniteSum, Induction, Rewrite
from grape_spec.proof.rules.inequalities import FromMinimum, Smt, Termwise
from grape_spec.proof.rules.slopes import ByTerms, ChainRule, Near, Slope


def unfolding(statement: Statement) -> str:
    """The names that are unfolded at the beginning of a script."""
    plain = [id for id in statement.definitions if definition(id).recursion is None]
    return " ".join([*map(coq_id, plain), "Rdiv", "Rminus"])


def script_of(work: Work) -> list[str]:
    """The script that proves a part.

    Raises: NoScript where none can be written.
    """
    begin(work)
    known_totals(work)
    for node in assumed_positive(work):
        work.script.normal.assume_positive(node)
    rule = next((write for kind, write in _RULES.items() if isinstance(work.part.by, kind)), None)
    if rule is None:
        raise NoScript(f"the rule {type(work.part.by).__name__}")
    rule(work)
    return work.script.lines


def begin(work: Work) -> None:
    """Names for all that is given, and the goal and assumptions unfolded."""
    say, statement = work.script.say, work.statement
    names = [name for name, _ in statement.binders] + [h.name for h in statement.hypotheses]
    if names:
        say(f"intros {' '.join(names)}.")
    for name in work.chosen:
        say(f"subst {name}.")
    say(f"cbv beta zeta delta [{unfolding(statement)}] in *.")
    say(f"change ({prop(work.goal)}).")
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        if not loose:
            say(f"change ({prop(formula)}) in A{n}.")


def known_totals(work: Work) -> None:
    """Sums whose value is assumed, for the normal form."""
    script, normal = work.script, work.script.normal
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        if formula[0] != "=" or formula[1][0] != "sum":
            continue
        form = normal.of(formula[1])
        if len(form) != 1 or list(form.values()) != [1] or len(next(iter(form))) != 1:
            continue
        key = next(iter(form))[0][0]
        if len(loose) == 1:
            normal.totals_of_rows.append((normal.atoms[key], coq_name(loose[0]), normal.of(formula[2]), f"A{n}"))
        elif not loose:
            name = f"T{n}"
            with script.block(f"assert ({name} : {key} = {show(normal.canonical(formula[2]))})."):
                script.say(f"transitivity {show(formula[1])}; [symmetry | ].")
                with script.block():
                    script.equation(formula[1], normal.canonical(formula[1]))
                script.say(f"rewrite A{n}.")
                script.equation(formula[2], normal.canonical(formula[2]))
            normal.totals[key] = (normal.of(formula[2]), name)
        normal.forget()


def assumed_positive(work: Work) -> list[Tree]:
    """The terms that are assumed to be positive."""
    pairs = zip(work.assumed, work.loose, strict=True)
    known = (formula for formula, loose in pairs if not loose and not has_derivative(formula))
    return [formula[1] for formula in known if formula[0] == ">" and formula[2] == ZERO]


def normalised_assumptions(work: Work) -> None:
    """The inequalities that are assumed, with both sides in normal form."""
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        if formula[0] in SIGNS and formula[0] != "=" and not loose and not has_derivative(formula):
            normalised(work.script, formula, f"A{n}")


# -- facts -------------------------------------------------------------------------------------------------------


def use_fact(work: Work, fact: Fact, *, normal: bool = True) -> str:
    """Put an instance of another theorem into the context, its conditions shown; gives the name of the hypothesis."""
    script = work.script
    claim = work.claim if fact.claim in ("", work.claim.id) else claim_of(fact.claim)
    part = next(p for p in claim.parts if p.name == fact.part) if fact.part else claim.parts[0]
    work.uses[claim.id, part.name] = None
    theirs = stated(part.statement, part.assuming)
    given = {declared_name(name): sp.sympify(value) for name, value in fact.bindings}
    values, arguments = {}, []
    for thing in quantified(part.statement, part.assuming):
        name = coq_name(thing)
        if thing in given:
            values[name] = given_value(thing, given[thing])
            arguments.append(given_text(values[name]))
        else:
            arguments.append(f"{work.sizes[name]}%nat" if name in work.sizes else name)
    name = script.fresh("F")
    script.say(f"pose proof ({' '.join([theorem_name(claim, part), *arguments])}) as {name}.")
    script.say(f"cbv beta zeta delta [{unfolding(theirs)}] in {name}.")
    _feed_domains(work, name, theirs, values)
    for assumed in part.assuming:
        _feed_condition(work, name, put(condition(assumed), values))
    goal = put(condition(part.statement), values)
    for size, number in work.sizes.items():
        goal = at_size(goal, size, number)
    script.say(f"change ({_fact_text(goal)}) in {name}.")
    work.said[name] = goal
    if normal and goal[0] in SIGNS and goal[1][0] not in ("diff", "one", "dfn"):
        name, relation = normalised(script, goal, name)
        work.known.append((relation, name))
    return name


def _feed_condition(work: Work, name: str, formula: Any) -> None:
    """Show a condition of a fact: it is given, or follows from what is."""
    script, holds = work.script, work.script.fresh("P")

    def write() -> None:
        with script.block(f"assert ({holds} : {prop(formula)})."):
            work.search.prove(formula, work.search.all_known(work.known))
        script.say(f"specialize ({name} {holds}).")

    given = [*work.assumed, *(premise for premise, _ in work.known)]
    if formula in given or formula[0] not in SIGNS or formula[0] == "<>" or not script.attempt(write, Unfound):
        script.say(f"feed {name} ltac:(side).")


def _fact_text(goal: Any) -> str:
    """What a theorem says after its symbols are bound: a derivative stays one, at the point that is put in."""
    if goal[0] == "=" and goal[1][0] == "at":
        function, point = point_text(goal[1])
        return f"der {function} {point} {show(goal[2])}"
    return prop(goal)


def _feed_domains(work: Work, name: str, theirs: Statement, values: dict[str, Tree]) -> None:
    """Show the domains of a fact: that a family is a row of probabilities needs its sum."""
    script = work.script
    to_show = {
        f"H{family}{'_' * number}": relation
        for family, value in values.items()
        if value[0] in ("+", "*") and not work.search.is_positive(value)
        for number, relation in enumerate(of_interval(family, value))
    }
    for hypothesis in theirs.domains:
        family = hypothesis.name[1:-2]
        if hypothesis.name.endswith("_t") and family in values and values[family][0] == "lam":
            _, names, body = values[family]
            size = next(iter(reversed(script.sizes.get(family, []))), None) or _last_size(family)
            total = ("sum", size, names[-1], body)
            with script.block(f"assert (TT : {show(total)} = 1)."):
                script.equation(total, ONE)
            script.say(f"specialize ({name} TT); clear TT.")
        elif hypothesis.name in to_show:
            _feed_condition(work, name, to_show[hypothesis.name])
        else:
            script.say(f"feed {name} ltac:(side).")


def _last_size(family: str) -> str:
    entry = next(e for t, e in DECLARATIONS.items() if isinstance(t, sp.IndexedBase) and coq_name(t) == family)
    return coq_name(entry.sizes[-1])


# -- rules -------------------------------------------------------------------------------------------------------


def _equation(work: Work) -> None:
    """Equations through normal forms, written out where sizes are chosen."""
    script, goal = work.script, work.goal
    if work.sizes:
        _at_sizes(work)
        return
    if goal[0] != "=":
        raise NoScript("not an equation")
    for rule in (work.part.by, *(link.by for link in work.part.by.steps())):
        for fact in rule.given if isinstance(rule, ByTerms) else ():
            _known_slope(work, fact)
        for fact in rule.given if isinstance(rule, Smt) else ():
            script.equations.append(use_fact(work, fact))
    normalised_assumptions(work)
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        if formula[0] == "=" and not loose:
            script.equations.append(f"A{n}")
    left, right = goal[1:]
    if left[0] == "diff":
        _derivative(script, left, right)
    elif left[0] == "dfn":
        raise NoScript("the derivative of an unknown function alone")
    elif left[0] == "at":
        value, known = script.derivative_known(left)
        script.say(f"transitivity {show(value)}; [apply d_Derive; exact {known} | clear {known}].")
        script.equation(value, right)
    elif rewrites(work.part.by) and script.normal.of(left) != script.normal.of(right):
        through_links(
            script, goal, work.part.by, lambda fact: (name := use_fact(work, fact, normal=False), work.said[name])
        )
    else:
        script.equation(left, right)


def _known_slope(work: Work, fact: Fact) -> None:
    """A derivative that a fact gives, for the tactic that differentiates."""
    name = use_fact(work, fact, normal=False)
    goal, normal = work.said[name], work.script.normal
    known = entry_slope(goal) if work.goal[1][0] == "diff" and work.goal[1][2][0] == "ap" else None
    if known is not None:
        normal.entry_slopes.append(known)
        say_for_all(work.script, known, name)
    elif goal[0] == "=" and goal[1][0] == "diff":
        normal.slopes[goal[1][1], goal[1][2]] = goal[2]


def _derivative(script: Script, left: Tree, right: Tree) -> None:
    """The goal: that a derivative is what the right side says."""
    if has_derivative(left[1]):
        value, known = script.derivative_known(left)
        script.say(f"apply (d_val _ _ _ _ {known}); clear {known}; reals.")
        script.equation(value, right)
        return
    function, point = function_text(left[1], left[2])
    script.prove_derivative(left[1], left[2], right, function, point)


def _at_sizes(work: Work) -> None:
    """Sums written out, and the last entry of each row as one less the others."""
    script = work.script
    sign, left, right = work.goal
    if sign != "=":
        raise NoScript("not an equation")
    script.say("cbn [sum1 prod1].")
    left, right = written_out(left), written_out(right)
    if left[0] == "diff":
        _derivative(script, left, right)
        return
    new_left, new_right = script.canonical(left), script.canonical(right)
    if unnamed(left) != unnamed(new_left):
        with script.block(f"transitivity {show(new_left)}."):
            script.to_canonical(left)
    moved = unnamed(right) != unnamed(new_right)
    if moved:
        script.say(f"transitivity {show(new_right)}; [ | symmetry ].")
        with script.block():
            last_entries(script, (new_left, new_right))
        script.to_canonical(right)
    else:
        last_entries(script, (new_left, new_right))


def _smt(work: Work) -> None:
    script, goal = work.script, work.goal
    while goal[0] == "imp":
        script.say(f"intro {(name := script.fresh('P'))}.")
        _assume(work, goal[1], name)
        goal = goal[2]
    _inequality(work, goal, getattr(work.part.by, "given", ()))


def _assume(work: Work, formula: Any, hypothesis: str) -> None:
    """Put a hypothesis in normal form into the context."""
    if formula[0] in SIGNS and not has_derivative(formula):
        name, relation = normalised(work.script, formula, hypothesis)
        work.known.append((relation, name))


def _inequality(work: Work, goal: Any, given: Iterable[Fact]) -> None:
    """Prove a goal from assumptions and facts: by a contradiction that is found here, or that Coq is to find."""
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        if not loose:
            _assume(work, formula, f"A{n}")
    _at_own_indices(work)
    _from_facts(work, goal, given)


def _at_own_indices(work: Work) -> None:
    """Assumptions for every value of an index, at the indices of the statement."""
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        for own in quantified(work.part.statement, work.part.assuming) if len(loose) == 1 else ():
            if own != loose[0] and size_of_axis(own) == size_of_axis(loose[0]) is not None:
                index, name = coq_name(own), work.script.fresh("B")
                work.script.say(f"pose proof (A{n} {index} H{index}) as {name}.")
                _assume(work, put(formula, {coq_name(loose[0]): ("i", index)}), name)


def _from_facts(work: Work, goal: Any, given: Iterable[Fact]) -> None:
    script = work.script
    for fact in given:
        goal = _with_slope(work, use_fact(work, fact), goal)
    if goal[0] == "=" and goal[1][0] == "diff":
        goal = _slope_to_show(work, goal)
    goal = without_root(script, goal)
    if script.attempt(lambda: work.search.prove(goal, work.search.all_known(work.known)), Unfound):
        return
    if goal[0] in SIGNS and not has_derivative(goal):
        normalise_goal(script, goal)
    roots = roots_in((goal, tuple(work.said.values()))) if goal[0] == "=" else []
    if roots:
        known = script.known_squares(roots)
        rewritten = " ".join(f"try rewrite {name};" for _, name in work.known)
        script.say(f"first [solve [{rewritten} splits; field [{known}]; root_nz] | facts; smt].")
    else:
        script.say("facts. smt.")


def _with_slope(work: Work, name: str, goal: Any) -> Any:
    """The goal after a fact is in the context: a derivative that it gives is replaced by its value."""
    said = work.said.get(name, ("",))
    if said[0] != "=" or said[1][0] != "diff" or goal[1] == said[1]:
        return goal
    with work.script.block(f"assert (S{name} : {show(said[1])} = {show(said[2])})."):
        work.script.say(f"apply d_Derive; exact {name}.")
    work.script.say(f"rewrite ?S{name}; clear {name} S{name}.")
    return exchanged(goal, said[1], said[2])


def _slope_to_show(work: Work, goal: Any) -> Any:
    """That a derivative is what the right side says: what is left once the derivative is taken."""
    script, (_, left, right) = work.script, goal
    slopes_of_recursions(script, goal, unfolding(work.statement))
    value, name = script.derivative_known(left)
    script.say(f"apply (d_val _ _ _ _ {name}); clear {name}; reals.")
    return ("=", value, right)


def _slope(work: Work) -> None:
    script, goal, by = work.script, work.goal, work.part.by
    radius = show(tree(by.radius))  # type: ignore[attr-defined]
    left = goal[1]
    lemma = "d_slope" if left[0] == "diff" else "above_slope" if left[4] == 1 else "below_slope"
    script.say(f"apply ({lemma} _ _ _ {radius}).")
    script.say("- steps.")
    script.say("- intros h Hh Hn. steps.")


def _near(work: Work) -> None:
    script, by = work.script, work.part.by
    _, left, right = work.goal
    x = left[2][1]
    form = tree(by.form)  # type: ignore[attr-defined]
    script.say(f"apply (d_near _ (fun {x} => {show(form)}) _ _ {show(tree(by.radius))}).")  # type: ignore[attr-defined]
    script.say("- steps.")
    script.say("- intros h Hh. steps.")
    with script.bullet(""):
        _derivative(script, ("diff", form, left[2]), right)


def _chain_rule(work: Work) -> None:
    script, goal, by = work.script, work.goal, work.part.by
    variable, value = by.at  # type: ignore[attr-defined]
    outer = use_fact(work, Fact("", by.outer, ((DECLARATIONS[variable].name, value),)), normal=False)  # type: ignore[attr-defined]
    inner = use_fact(work, Fact(by.inner, "", ()), normal=False)  # type: ignore[attr-defined]
    inside, _ = function_text(tree(value), goal[1][2])
    script.say(f"composed {inside} {outer} {inner}.")
    script.say("reals. splits; first [ring | lra | nra].")


def _termwise(work: Work) -> None:
    script, by = work.script, work.part.by
    sign, total, right = work.goal
    bound = tree(by.bound)  # type: ignore[attr-defined]
    nest, term = [], total
    while term[0] == "sum":
        nest.append((term[1], term[2]))
        term = term[3]
    bounds = bound
    for size, i in reversed(nest):
        bounds = ("sum", size, i, bounds)
    script.say(f"{'apply Rle_ge; ' if sign == '>=' else ''}apply Rle_trans with {show(bounds)}.")
    if sign == ">=":
        with script.block():
            script.say("right; symmetry.")
            script.equation(bounds, right)
    with script.block():
        for _, i in nest:
            script.say(f"apply sum1_le; intros {i} H{i}; cbv beta.")
        _at_terms(work, nest)
        _inequality(work, ("<=", bound, term) if sign == ">=" else ("<=", term, bound), by.given)  # type: ignore[attr-defined]
    if sign == "<=":
        with script.block():
            script.say("right.")
            script.equation(bounds, right)


def _at_terms(work: Work, nest: list[tuple[str, str]]) -> None:
    """Assumptions for every value of an index, at the indices of sums."""
    for n, (formula, loose) in enumerate(zip(work.assumed, work.loose, strict=True)):
        sizes = [position(size_of_axis(index)) for index in loose]
        for size, i in nest:
            if sizes == [size]:
                name = work.script.fresh("B")
                work.script.say(f"pose proof (A{n} {i} H{i}) as {name}.")
                _assume(work, put(formula, {coq_name(loose[0]): ("i", i)}), name)


def _from_minimum(work: Work) -> None:
    """A bound from the sign of a derivative; what is strict, or has facts, is a bound on a logarithm."""
    by: Any = work.part.by
    x = coq_name(by.over)
    if (">=", ("v", x), tree(by.at)) in work.assumed:
        _rises_from(work, x, tree(by.of), tree(by.at))
        return
    if not by.strict and not by.given:
        around_minimum(work.script, opened(by.of), by.over, by.at)
        return
    lemma = f"(ln_strict {x} H{x} A0)" if by.strict else f"(ln_bound {x} H{x})"
    work.script.say(f"first [pose proof {lemma}; lra | facts; smt].")


def _rises_from(work: Work, x: str, of: Tree, at: Tree) -> None:
    """The goal follows from a function that has the value zero at a point and rises from there on."""
    script, variable = work.script, ("v", x)
    slope = script.canonical(script.normal.derivative(of, variable))
    anew = f"clear dependent {x}. intros {x} B. assert (H{x} : 0 < {x}) by lra."
    with script.block(
        f"assert (DF : forall {x} : R, {show(at)} <= {x} -> der (fun {x} => {show(of)}) {x} {show(slope)})."
    ):
        script.say(anew)
        script.prove_derivative(of, variable, slope, f"(fun {x} => {show(of)})", x)
    with script.block(f"assert (SL : forall {x} : R, {show(at)} < {x} -> 0 <= {show(slope)})."):
        script.say(anew)
        before = [*work.known]
        _assume(work, ("<", at, variable), "B")
        _from_facts(work, ("<=", ZERO, slope), work.part.by.given)  # type: ignore[attr-defined]
        work.known[:] = before
    begins = put(of, {x: at})
    with script.block(f"assert (Z : {show(begins)} = 0)."):
        script.equation(begins, ZERO)
    functions = f"(fun {x} => {show(of)}) (fun {x} => {show(slope)})"
    script.say(
        f"assert (M : {show(begins)} <= {show(of)}) by (apply (rises_from {functions}); [lra | exact DF | exact SL])."
    )
    script.say("rewrite Z in M.")
    _assume(work, ("<=", ZERO, of), "M")
    _inequality(work, work.goal, ())


def _induction(work: Work) -> None:
    n = coq_name(work.part.by.size)  # type: ignore[attr-defined]
    about = [h.name for h in work.statement.hypotheses if re.search(rf"\b{re.escape(n)}\b", h.text)]
    induction_over_size(work.script, work.goal, n, about)


def _over_depth(work: Work) -> None:
    known = []
    for fact in work.part.by.given:  # type: ignore[attr-defined]
        claim = work.claim if fact.claim in ("", work.claim.id) else claim_of(fact.claim)
        part = next(p for p in claim.parts if p.name == fact.part) if fact.part else claim.parts[0]
        work.uses[claim.id, part.name] = None
        _, left, right = condition(part.statement)
        known.append((left, right, theorem_name(claim, part)))
    slopes_of_recursions(work.script, work.goal, unfolding(work.statement))
    names = [hypothesis.name for hypothesis in work.statement.hypotheses]
    induction_over_depth(work.script, work.goal, names, known)


def _within_depth(work: Work) -> None:
    step = work.at(work.part.by.by)  # type: ignore[attr-defined]

    def first_depth(goal: Any) -> None:
        _inequality(work, goal, ())

    def next_depth(goal: Any) -> None:
        step.__dict__["goal"] = goal
        _RULES[type(step.part.by)](step)

    n = coq_name(work.part.by.over)  # type: ignore[attr-defined]
    bound_over_depth(work.script, work.goal, n, work.statement.hypotheses, (first_depth, next_depth))


_RULES: dict[type, Callable[[Work], None]] = {
    Induction: _induction, Smt: _smt, Slope: _slope, Near: _near, ChainRule: _chain_rule, Termwise: _termwise,
    FromMinimum: _from_minimum, FiniteSum: _equation, Algebra: _equation, Chain: _equation, Rewrite: _equation,
    ByTerms: _equation, OverDepth: _over_depth, WithinDepth: _within_depth,
}  # fmt: skip
