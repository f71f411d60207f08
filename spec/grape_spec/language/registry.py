"""The registry: every definition and claim under its permanent id, and the checks that keep it sound."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.claims import RELATIONS, Claim, Line, Part, Stage, Wrong, as_tuple
from grape_spec.language.definitions import IN_TEMPLATE, Definition
from grape_spec.language.domains import Domain, Positive, Real
from grape_spec.language.expressions import Apply, bound_things, substitute, symbols_of
from grape_spec.language.grammar import (
    NotInLanguage,
    instances_in,
    refuse_foreign,
    refuse_foreign_number,
    refuse_foreign_rule,
    shown,
)
from grape_spec.language.sources import DERIVED, Source
from grape_spec.language.symbols import DECLARATIONS, Declarable, lowest_of, size_of_axis

_DEFINED: dict[str, Definition] = {}
_CLAIMED: dict[str, Claim] = {}
_DERIVED: dict[tuple[str, str], tuple[Stage, ...]] = {}

#: Every definition and claim, to be read: `define` and `claim` add to them, and nothing takes away or replaces.
DEFINITIONS: Mapping[str, Definition] = MappingProxyType(_DEFINED)
CLAIMS: Mapping[str, Claim] = MappingProxyType(_CLAIMED)

#: The derivations for people, by the id of a claim and the name of its part; `derive` and `derive_by_induction` add.
DERIVATIONS: Mapping[tuple[str, str], tuple[Stage, ...]] = MappingProxyType(_DERIVED)

#: Ids of former claims, with the reason for their removal; an id is never used again.
RETIRED: dict[str, str] = {}

#: The ids, and the names of symbols, of this package; whatever is entered once it is imported is somebody else's.
_OURS: set[str] = set()

_SLUG = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")


class RegistryError(ValueError):
    """A definition or claim that the registry refuses."""


def define(
    id: str,
    text: str,
    of: Sequence[Declarable],
    body: sp.Expr,
    *,
    tex: str = "",
    domain: Domain = Real,
    convention: bool = False,
    source: Source = DERIVED,
) -> Definition:
    """Enter a definition into the registry.

    Arguments:
        id: permanent slug, such as ``ppo.ratio``.
        text: one sentence of what it is.
        of: what it is a function of, in order: symbols, families, indices.
        body: the expression that it stands for.
        tex: LaTeX with ``{name}`` for the arguments.
        domain: where its values lie; engines prove it before they rely on it.
        convention: True where mathematics leaves a choice that this definition makes.
        source: where it comes from.

    Raises:
        RegistryError: for a malformed or used id, an undeclared symbol, a free symbol of the body that is not an
            argument, an argument that the body does not use, or a floating-point number.
    """
    _refuse_id(id)
    entry = Definition(id, text, as_tuple("of", of), _number(id, body), tex, domain, convention, source)
    _refuse_unfinished(id, entry.body)
    _refuse_definition(entry)
    _DEFINED[id] = entry
    return entry


@contextmanager
def without_body(id: str, of: tuple[Any, ...]) -> Iterator[Definition]:
    """Within: a definition that can be applied but has no body yet, so that nothing can look into it."""
    _refuse_id(id)
    _DEFINED[id] = Definition(id, "", of, None, "", Real, False, DERIVED)  # type: ignore[arg-type]
    try:
        yield _DEFINED[id]
    finally:
        del _DEFINED[id]


def enter_recursion(entry: Definition) -> Definition:
    """Enter a definition that `recursive` has made; raises as `define`."""
    with without_body(entry.id, entry.of):
        _refuse_definition(entry)
    _DEFINED[entry.id] = entry
    return entry


def _refuse_unfinished(id: str, formula: sp.Basic) -> None:
    """Refuse what speaks of a recursion that is being written: it may never be entered, or go round in a circle."""
    for node in formula.atoms(Apply):
        applied = DEFINITIONS.get(str(node.args[0]))
        if applied is not None and applied.body is None:
            raise RegistryError(f"{id}: speaks of {applied.id}, whose recursion is being written: enter that first")


def _refuse_definition(entry: Definition) -> None:
    id, of = entry.id, set(entry.of)
    _refuse_unless(entry.text, str, f"{id}: text", "one sentence")
    _refuse_unless(entry.tex, str, f"{id}: tex", "LaTeX")
    _refuse_unless(entry.source, Source, f"{id}: source", 'Source("key"), with the key of an entry of references.bib')
    for thing in entry.of:
        if not isinstance(thing, sp.Symbol | sp.IndexedBase):
            raise RegistryError(f"{id}: of: got {thing}, expected symbols, indices and families")
        if entry.of.count(thing) > 1:
            raise RegistryError(f"{id}: of: got {thing} twice, expected each argument once")
    if entry.domain not in (Real, Positive):
        got = getattr(entry.domain, "name", shown(entry.domain))
        raise RegistryError(f"{id}: domain: got {got}, expected Real or Positive, which a proof can show")
    with _named(id):
        for formula in (entry.body,) if entry.recursion is None else (entry.recursion.first, entry.recursion.step):
            refuse_foreign_number(formula)
    _refuse_undeclared(id, symbols_of(entry.body) | of)
    _refuse_kept_sizes(entry)
    for thing in symbols_of(entry.body) - of - entry.sizes:
        raise RegistryError(f"{id}: {thing} occurs in the body but is not an argument: add it to of=")
    for thing in of - symbols_of(entry.body):
        raise RegistryError(f"{id}: the argument {thing} does not occur in the body: take it out of of=")
    names = {DECLARATIONS[thing].name for thing in of}
    for name in (name for found in IN_TEMPLATE.finditer(entry.tex) for name in found.groupdict().values() if name):
        if name not in names:
            raise RegistryError(f"{id}: tex: {{{name}}} is no argument: write {{{{{name}}}}} for braces of LaTeX")


def _refuse_kept_sizes(entry: Definition) -> None:
    """Refuse a part of the body that keeps its size when another one is put in for an argument, or that hides it."""
    for node in entry.body.atoms(Apply):
        for size in node.definition.sizes - entry.sizes:
            inner = node.definition.id
            replaced = size in entry.of
            raise RegistryError(
                f"{entry.id}: {inner} takes the size {size} from its families and indices"
                f"{', whatever is put in for the argument' if replaced else ', which no argument here has'}: "
                f"make {size} an argument of {inner}{', or take it out of of=' if replaced else ''}"
            )
    for node in entry.body.atoms(sp.Lambda):
        for size in {size_of_axis(bound) for bound in node.signature} & set(entry.of):
            raise RegistryError(
                f"{entry.id}: {shown(node)} keeps the size {size}, whatever is put in for the argument: "
                f"take {size} out of of=, or make a family over {size} an argument in its place"
            )


def claim(
    id: str,
    text: str,
    *parts: Part,
    uses: Sequence[str] = (),
    source: Source = DERIVED,
    wrong: Sequence[Wrong] = (),
) -> Claim:
    """Enter a claim into the registry.

    Arguments:
        id: permanent slug; never reused, never changing its meaning.
        text: the claim in one plain sentence.
        parts: the statements, each with its proof.
        uses: claims that this one rests on beyond those that its proofs name.
        source: where it comes from.
        wrong: plausible false variants.

    Raises:
        RegistryError: for a malformed or used id, no parts, an undeclared symbol, an unknown use, or a floating-point
            number.
    """
    _refuse_id(id)
    _refuse_unless(text, str, f"{id}: text", "one sentence")
    _refuse_unless(source, Source, f"{id}: source", 'Source("key"), with the key of an entry of references.bib')
    for part in parts:
        _refuse_unless(part, Part, f"{id}: parts", "holds(statement, by=rule), one after the other")
        _refuse_unless(part.name, str, f"{id}: name", "a few words")
        if not isinstance(part.equivalent, Mapping):
            raise RegistryError(f"{id}: equivalent: got {shown(part.equivalent)}, expected {{mutant: reason}}")
        with _named(id):
            refuse_foreign_rule(part.by)
    named = [use for part in parts for use in part.by.uses()]
    every = tuple(dict.fromkeys([*as_tuple("uses", uses), *(use for use in named if use != id)]))
    variants = as_tuple("wrong", wrong)
    for variant in variants:
        _refuse_unless(variant, Wrong, f"{id}: wrong", "wrong(text, statement)")
        _refuse_unless(variant.text, str, f"{id}: wrong", "wrong(text, statement)")
    entry = Claim(id, text, parts, every, source, variants)
    _refuse_claim(entry)
    _CLAIMED[id] = entry
    return entry


def _refuse_claim(claim: Claim) -> None:
    if not claim.parts:
        raise RegistryError(f"{claim.id}: a claim needs at least one part: holds(statement, by=rule)")
    names = [part.name for part in claim.parts]
    if len(set(names)) != len(names):
        raise RegistryError(f"{claim.id}: its parts need different names, got {names}: write holds(…, name=…)")
    for use in claim.uses:
        if use not in CLAIMS:
            raise RegistryError(
                f"{claim.id}: uses {use!r}, which is not a claim{_nearest(use, CLAIMS)} "
                "(a claim comes after all that it uses: import the file of that one first)"
            )
    for position, part in enumerate(claim.parts):
        for used in instances_in(part.by):
            _refuse_instance(claim.id, used, claim.parts[:position])
    for formula in _formulas(claim):
        if formula in (sp.true, sp.false) and isinstance(formula, sp.Basic):
            raise RegistryError(
                f"{claim.id}: a statement was evaluated to {formula} when it was written: "
                "write it with equals(), at_least(), less() and the like"
            )
        with _named(claim.id):
            refuse_foreign(formula)
        _refuse_unfinished(claim.id, formula)
        _refuse_undeclared(claim.id, symbols_of(formula))


def _refuse_instance(id: str, used: Any, earlier: tuple[Part, ...]) -> None:
    """Refuse to use a part that is not there, or not yet, and to bind what it does not speak of."""
    own = used.claim in ("", id)
    parts = {part.name: part for part in (earlier if own else CLAIMS[used.claim].parts)}
    part = next(iter(parts.values())) if not used.part and len(parts) == 1 else parts.get(used.part)
    if part is None:
        there = f"the earlier parts of {id}" if own else f"the parts of {used.claim}"
        raise RegistryError(f"{id}: uses the part {used.part!r}, expected one of {there}: {sorted(parts)}")
    names = sorted(DECLARATIONS[thing].name for thing in part.symbols if thing in DECLARATIONS)
    for name, _ in used.bindings:
        if name not in names:
            raise RegistryError(
                f"{id}: binds {name!r} in {used.claim}, expected one of its symbols: {', '.join(names)}"
            )


def derive(id: str, *lines: Line, part: str = "") -> None:
    """Enter a derivation for people: a chain of lines from the left side of a statement to its right side.

    Arguments:
        id: the claim.
        lines: what comes after the left side; the last is the right side.
        part: the name of the part, where there are several.

    Raises:
        RegistryError: for a claim or part that there is not, or that has a derivation; for lines that do not lead to
            the right side, or by signs that do not show the relation; for a line that repeats the one before, that
            speaks of what the statement does not, or that rests on what the claim does not use.
    """
    claim, own, where = _underived(id, part)
    if len(lines) < 2:
        raise RegistryError(f"{where}: got {len(lines)} lines, expected two or more: one alone repeats the statement")
    left, right = own.statement.args
    _refuse_lines(where, claim, own, Stage(left, lines), right)
    _DERIVED[id, part] = (Stage(left, lines),)


def derive_by_induction(
    id: str, over: sp.Symbol, *, first: Sequence[Line], then: Sequence[Line], part: str = ""
) -> None:
    """Enter a derivation for people by induction over the depth of a recursion.

    Arguments:
        over: the depth.
        first: the lines at the first depth, from the left side to the right side.
        then: the lines at the next depth, where the statement is known at ``over``, for every value of its symbols.

    Raises: as `derive`.
    """
    claim, own, where = _underived(id, part)
    if not isinstance(own.statement, sp.Eq) or own.assuming or lowest_of(over) is None:
        raise RegistryError(f"{where}: by induction over {over}: expected an equation without assumptions, and a depth")
    lowest = sp.Integer(lowest_of(over))
    stages = []
    for depth, given, lines in ((lowest, None, as_tuple("first", first)), (over + 1, over, as_tuple("then", then))):
        left, right = (substitute(side, {over: depth}) for side in own.statement.args)
        stages.append(Stage(left, lines, depth, given))
        _refuse_lines(f"{where} at {over} = {depth}", claim, own, stages[-1], right)
    _DERIVED[id, part] = tuple(stages)


def _underived(id: str, part: str) -> tuple[Claim, Part, str]:
    """The claim and its part, which has no derivation yet, and how an error names it."""
    claim = claim_of(id)
    where = f"{id}: the derivation{f' of {part!r}' if part else ''}"
    found = {own.name: own for own in claim.parts}
    if part not in found:
        raise RegistryError(f"{where}: there is no part {part!r}, expected one of {[*found]}")
    if (id, part) in DERIVATIONS or is_ours(id):
        raise RegistryError(f"{where}: a claim of this package, or a part with a derivation, takes no further one")
    return claim, found[part], where


def _refuse_lines(where: str, claim: Claim, part: Part, stage: Stage, right: sp.Expr) -> None:
    """Refuse lines that could not lead to the right side, whatever the engines say of each."""
    sign = next((sign for sign, kind in RELATIONS.items() if type(part.statement) is kind), None)
    if sign is None:
        raise RegistryError(f"{where}: got the statement {shown(part.statement)}, expected an equation or a bound")
    end = stage.start
    for number, entry in enumerate(stage.lines, 1):
        at = f"{where}, line {number}"
        _refuse_unless(entry, Line, at, "line(expression, reason)")
        _refuse_line(at, claim, part, entry)
        if entry.sign not in _LEADING_TO[sign]:
            raise RegistryError(f"{at}: sign: got {entry.sign!r}, expected one of {_LEADING_TO[sign]} for a {sign}")
        if entry.expr == end:
            raise RegistryError(f"{at}: it repeats the one before")
        end = entry.expr
    if end != right:
        raise RegistryError(f"{where}: it ends at {shown(end)}, expected the right side, {shown(right)}")
    if sign in "<>" and all(entry.sign != sign for entry in stage.lines):
        raise RegistryError(f"{where}: no line is strict, but the statement is")


def _refuse_line(at: str, claim: Claim, part: Part, entry: Line) -> None:
    """Refuse a line that is not in the language, or that speaks of or rests on what the claim does not."""
    if not isinstance(entry.reason, str) or not entry.reason.strip():
        raise RegistryError(f"{at}: reason: got {shown(entry.reason)}, expected a few words")
    with _named(at):
        refuse_foreign_number(entry.expr)
        if entry.by is not None:
            refuse_foreign_rule(entry.by)
    for thing in symbols_of(entry.expr) - part.symbols:
        raise RegistryError(f"{at}: {thing} is not in the statement")
    if entry.by is None:
        return
    for use in entry.by.uses():
        if use not in ("", claim.id, *claim.uses):
            raise RegistryError(f"{at}: rests on {use}: add it to the uses of the claim")
    for used in instances_in(entry.by):
        _refuse_instance(claim.id, used, claim.parts[: claim.parts.index(part)])
    if not entry.by.at_sizes().items() <= part.by.at_sizes().items():
        raise RegistryError(f"{at}: it is checked at other sizes than the statement is proved")


#: The signs of lines that together lead to the sign of a statement; to a strict one, with a strict one among them.
_LEADING_TO = {"=": "=", "≤": "=≤<", "<": "=≤<", "≥": "=≥>", ">": "=≥>"}


def package_ends() -> None:
    """Say that every subject of this package has been imported."""
    _OURS.update(DEFINITIONS, CLAIMS, (entry.name for entry in DECLARATIONS.values()))


def is_ours(name: str) -> bool:
    """Whether an id, or the name of a symbol, is of this package."""
    return name in _OURS


def check_registry() -> None:
    """Check the complete registry for circular uses and unused symbols."""
    for id in CLAIMS:
        all_uses(id)
    used: set[Declarable] = set()
    for entry in DEFINITIONS.values():
        used |= (
            symbols_of(entry.body) | _bound_anywhere(entry.body) | {s for thing in entry.of for s in symbols_of(thing)}
        )
    for claim in CLAIMS.values():
        for formula in _formulas(claim):
            used |= symbols_of(formula) | _bound_anywhere(formula)
    for thing, declared in DECLARATIONS.items():
        if thing not in used:
            raise RegistryError(
                f"the symbol {declared.name!r} ({declared.text}) is declared but nothing uses it: delete it"
            )


def all_uses(id: str, _path: tuple[str, ...] = ()) -> set[str]:
    """Every claim that a claim rests on, directly or indirectly; a circle raises."""
    if id in _path:
        raise RegistryError(f"the uses of {id} lead back to it: {' → '.join((*_path, id))}")
    found: set[str] = set()
    for use in claim_of(id).uses:
        found |= {use} | all_uses(use, (*_path, id))
    return found


def definition(id: str) -> Definition:
    """The definition with that id; a KeyError names the nearest ids."""
    return _lookup(id, DEFINITIONS, "definition")


def claim_of(id: str) -> Claim:
    """The claim with that id; a KeyError names the nearest ids, or says why it was retired."""
    if id in RETIRED:
        raise KeyError(f"the claim {id!r} was retired: {RETIRED[id]}")
    return _lookup(id, CLAIMS, "claim")


def entry_of(id: str) -> Claim | Definition:
    """The claim or definition with that id; a KeyError names the nearest ids, or says why a claim was retired."""
    if id in RETIRED:
        return claim_of(id)
    return _lookup(id, {**DEFINITIONS, **CLAIMS}, "claim or definition")


def select(names: tuple[str, ...]) -> list[Claim]:
    """The claims under those ids or families (``ppo``, ``ppo.clip``), in the order of the registry; all for none."""
    chosen: set[str] = set()
    for name in names:
        under = {id for id in CLAIMS if id == name or id.startswith(name + ".")}
        if not under:
            claim_of(name)
        chosen |= under
    return [claim for id, claim in CLAIMS.items() if not names or id in chosen]


def _lookup(id: str, table: Mapping[str, Any], kind: str) -> Any:
    if id in table:
        return table[id]
    raise KeyError(f"there is no {kind} {id!r}{_nearest(id, table)}")


def _nearest(id: str, table: Mapping[str, Any]) -> str:
    near = get_close_matches(id, table, n=3, cutoff=0.4)
    return f"; the nearest: {', '.join(near)}" if near else ""


def _number(id: str, body: Any) -> sp.Basic:
    """The body of a definition as an expression."""
    try:
        found = None if isinstance(body, str) else sp.sympify(body)
    except sp.SympifyError:
        found = None
    if not isinstance(found, sp.Basic):
        raise RegistryError(f"{id}: body: got {shown(body)}, expected an expression of declared symbols")
    return found


def _refuse_id(id: str) -> None:
    table: dict[str, Definition | Claim] = {**DEFINITIONS, **CLAIMS}
    if not isinstance(id, str) or not _SLUG.fullmatch(id):
        raise RegistryError(f"id: got {id!r}, expected lower-case words joined by dots, such as ppo.clip.gradient")
    if id in table:
        raise RegistryError(f"the id {id!r} is taken: choose another (it is {table[id].text!r})")
    if id in RETIRED:
        raise RegistryError(f"the id {id!r} was retired and is never used again")


@contextmanager
def _named(id: str) -> Iterator[None]:
    """Within: what is not in the language is refused under an id."""
    try:
        yield
    except NotInLanguage as failure:
        raise RegistryError(f"{id}: {failure}") from None
    except RecursionError:
        raise RegistryError(f"{id}: its expressions nest too deeply: give parts of them names with define()") from None


def _refuse_unless(value: Any, kind: type, where: str, expected: str) -> None:
    if type(value) is not kind:  # a part of somebody's own could say one thing to a page and another to the prover
        raise RegistryError(f"{where}: got {shown(value)}, expected {expected}")


def _refuse_undeclared(id: str, things: set[Declarable]) -> None:
    for thing in things:
        if thing not in DECLARATIONS:
            raise RegistryError(f"{id}: {thing} is not declared: use symbol(), index(), family() or function()")


def _formulas(claim: Claim) -> Iterator[Boolean]:
    """Every statement and assumption of a claim and of its wrong variants."""
    for part in claim.parts:
        yield from (part.statement, *part.assuming)
    for variant in claim.wrong:
        yield from (variant.statement, *variant.assuming)


def _bound_anywhere(expr: sp.Basic) -> set[Declarable]:
    return set().union(*(bound_things(node) for node in sp.preorder_traversal(expr)))
