"""The page of a claim: everything about it, with the recorded evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from grape_spec import render
from grape_spec.coq.certify import Theorems, coq_statement_or_reason
from grape_spec.language.claims import Claim
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.language.symbols import declaration, declared_name
from grape_spec.proof.examine import TRUSTED_BASE, ClaimRecord, PartRecord
from grape_spec.references import bibtex, plain

from grape_verified import __version__
from grape_verified.conformance.ledger import NOT_RUN, OF_CLAIMS, Ledger
from grape_verified.conformance.subjects import SUBJECTS, subject_of
from grape_verified.docs.citation import metadata
from grape_verified.docs.conventions import ABOUT_PENALTIES, comparison, conventions_about, penalties
from grape_verified.docs.copies import Copy, copies
from grape_verified.docs.derivations import derivation
from grape_verified.docs.markdown import (
    address_of,
    at,
    convention_mark,
    displayed,
    folded,
    link,
    links,
    numbered,
    page,
    reference_link,
    standing,
    statements,
    status_mark,
    symbols_table,
    table,
)
from grape_verified.docs.reference import contracts_of, implementing
from grape_verified.docs.shown_parts import results_first
from grape_verified.docs.synonyms import also_called
from grape_verified.docs.verdicts import kernel_verdict, verdicts


def claim_page(claim: Claim, ledger: Ledger, site: str, theorems: Theorems) -> str:
    """Everything about one claim.

    Arguments:
        site: the published address, or empty.
        theorems: those that the files for Coq hold.
    """
    shown, record = render.as_dict(claim), ledger.of(claim)
    subject = SUBJECTS[subject_of(claim.id)]
    _, coq, kernels = verdicts(claim, ledger)
    place = (
        f"{standing(claim, ledger)} · Coq: [{coq}](#in-coq) · kernels: [{kernels}](#implementation) · "
        f"chapter [{subject.title}](../chapters/{subject.chapter}.md)"
    )
    texts, derived = list(copies(claim)), list(_derivations(claim, ledger))
    sections = [
        f"# `{claim.id}`\n\n{place}",
        _actions(texts),
        "## Statement",
        *_statements(claim, shown["parts"]),
        "## In words",
        claim.text,
        also_called(claim.id),
        *derived,
        "## Symbols",
        symbols_table(shown["symbols"]),
        *_definitions(shown["definitions"]),
        "## Assumptions",
        *_assumptions(shown, record),
        "## Conventions across libraries",
        *_conventions(claim.id, shown["definitions"]),
        "## Implementation",
        f"**{kernels}**",
        _kernels(claim.id, ledger),
        "## Evidence",
        f"{status_mark(ledger.status(claim))} · Coq: **{coq}** · kernels: **{kernels}**",
        folded("Proof", _proofs(shown), anchor="proof", unfolded=not derived and _has_steps(shown)),
        folded("Record of the checker", _evidence(ledger, record)),
        folded("In Coq", _in_coq(claim, ledger, theorems), anchor="in-coq"),
        "## False variants",
        *_wrong(shown["wrong"], record),
        "## What it uses, and what uses it",
        _relations(shown),
        "## Source",
        *_source(claim, shown["definitions"]),
        "## Cite this",
        *citation(claim, site),
        *(folded(text.name, [f"```{text.language}\n{text.text}\n```"], anchor=text.anchor) for text in texts),
    ]
    return page(claim.id, claim.text, sections, **metadata(claim, site))


def retired_page(id: str, reason: str) -> str:
    """A retired id keeps its page."""
    sections = [
        f"# `{id}`",
        '<span class="status status-retired">retired</span>',
        f"This claim was retired: {reason}",
        "Its id is never used again.",
    ]
    return page(id, f"Retired: {reason}", sections)


def citation(entry: Claim, site: str) -> Iterator[str]:
    """How to cite an entry: as plain text, and as BibTeX."""
    where = f" {site}{address_of(entry.id)}." if site else ""
    yield f"> grape_verified contributors. {entry.text} grape_verified {__version__}, `{entry.id}`.{where}"
    yield f"```bibtex\n{bibtex(entry, __version__, site + address_of(entry.id) if site else '')}\n```"


def _derivations(claim: Claim, ledger: Ledger) -> Iterator[str]:
    """The derivations of the parts that have one."""
    found = [shown for part in claim.parts if (shown := derivation(claim, part, ledger))]
    if found:
        yield "## Derivation"
        yield from found


def _statements(claim: Claim, parts: Sequence[dict[str, Any]]) -> Iterator[str]:
    results, steps = results_first(claim, parts)
    yield from statements(results)
    if steps:
        yield "### On the way"
        yield from statements(steps)


def _actions(texts: Iterable[Copy]) -> str:
    """What to do with the claim: links, of which those to texts become buttons that copy."""
    copying = (f'[Copy as {text.name}](#{text.anchor}){{ .action data-copies="" }}' for text in texts)
    links = ["[Cite](#cite-this){ .action }", *copying]
    return f'<div class="actions" markdown>\n{" ".join(links)}\n<span role="status"></span>\n</div>'


def _definitions(definitions: Sequence[dict[str, Any]]) -> Iterator[str]:
    if definitions:
        yield "## Definitions"
    for entry in definitions:
        yield f"{link(entry['id'])}: {entry['text']}{convention_mark(entry['convention'])}"
        yield numbered(entry["latex"])


def _assumptions(shown: dict[str, Any], record: ClaimRecord | None) -> Iterator[str]:
    """Where the conditions stand, and which conditions and domains the proof needs."""
    stated = any(part["assuming_latex"] for part in shown["parts"])
    where = "Those stated below the formulas, and" if stated else "None beyond"
    yield f"{where} the domains of the symbols."
    conditions = [(part.name, c) for part in record.parts for c in part.conditions] if record else []
    if conditions:
        yield "Which conditions the proof needs, found by dropping each in turn:"
        yield table(
            ("part", "condition", "needed"),
            ((name, f"`{c.text}`", "yes" if c.needed else "no") for name, c in conditions),
        )


def _proofs(shown: dict[str, Any]) -> Iterator[str]:
    yield from map(_proof, shown["parts"])
    yield from _lemmas(shown["lemmas"])


def _has_steps(shown: dict[str, Any]) -> bool:
    return any(part["steps"] for part in shown["parts"])


def _proof(part: dict[str, Any]) -> str:
    lines = [f"**{part['name']}**"] if part["name"] else []
    if not part["steps"]:
        lines.append(f"By {_linked(part['rule'])}.")
    for position, step in enumerate(part["steps"], 1):
        lines.append(f"Step {position}, by {_linked(step['rule'])}:")
        lines.append(displayed(step["latex"]))
    return "\n\n".join(lines)


def _linked(rule: str) -> str:
    """The words of a rule, with links to the claims that it names."""
    return re.sub(r"[a-z]\w*(?:\.\w+)+", lambda found: link(found[0]) if found[0] in CLAIMS else found[0], rule)


def _lemmas(lemmas: Sequence[str]) -> Iterator[str]:
    if lemmas:
        yield f"Assumed lemmas: {', '.join(lemmas)}."
    yield f"Assumed by every proof: {', '.join(TRUSTED_BASE)}; see [what is assumed](../trust.md)."


def _evidence(ledger: Ledger, record: ClaimRecord | None) -> Iterator[str]:
    """The record of a claim in the ledger, part by part."""
    if record is None:
        yield "The ledger has no run of `verify` for this version of the claim."
        return
    if record.waits_for:
        yield f"It uses claims that are not proved: {links(record.waits_for)}."
    counts = ("points", "mutants refuted", "true", "survived", "seconds")
    yield table(("part", "verdict", "scope", "engine", "second route", *counts), map(_evidence_row, record.parts))
    for part in record.parts:
        if part.status != "proved":
            yield f"{part.name}: {part.status}: {part.reason or part.witness}"
        if part.second.detail:
            yield f"{part.name}: second route: {part.second.opinion}: {part.second.detail}"
    versions = ", ".join(f"{name} {ledger.versions[name][:12]}" for name in OF_CLAIMS if name in ledger.versions)
    yield f"Recorded {at(record.created)}, with {versions}. Version of the claim: `{record.hash[:16]}`."


def _evidence_row(part: PartRecord) -> tuple[str, ...]:
    mutants = part.mutants
    return (
        part.name or "the statement",
        part.status,
        part.scope or "none",
        part.engine,
        part.second.opinion,
        f"{part.points.effective} of {part.points.drawn}",
        f"{mutants.refuted} of {mutants.total}",
        str(len(mutants.implied) + len(mutants.listed)),
        str(len(mutants.survived)),
        f"{part.seconds:.2f}",
    )


def _in_coq(claim: Claim, ledger: Ledger, theorems: Theorems) -> Iterator[str]:
    """The theorems that Coq's kernel is asked to accept, what it says of each part, and where the proofs are."""
    yield (
        "Coq checks these definitions and theorems after [`Definitions.v`](../coq/Definitions.v). A theorem whose name "
        "ends in `_defined` says that every term has a value. A part is certified if Coq's kernel accepts its "
        "theorems. See [what is trusted](../trust.md#certified-by-coq)."
    )
    held = sum((claim.id, part.name) in theorems for part in claim.parts)
    if held:
        file = subject_of(claim.id)
        yield f"[`{file}.v`](../coq/{file}.v) has the proofs of {held} of {len(claim.parts)} parts."
    for part in claim.parts:
        record = ledger.certificate(claim, part)
        says = [f"**{part.name}**"] if part.name else []
        says.append(ledger.certified_part(claim, part) + (f" by Coq {record.coq}" if record else ""))
        says += [record.reason] if record and record.reason else []
        says += [f"axioms: {', '.join(record.axioms)}"] if record and record.axioms else []
        yield "; ".join(says) + "."
        yield f"```text\n{coq_statement_or_reason(part, claim)}\n```"


def _wrong(variants: Sequence[dict[str, Any]], record: ClaimRecord | None) -> Iterator[str]:
    """Plausible errors, each with the point at which it was found false."""
    seen = {variant.text: variant for variant in record.wrong} if record else {}
    for variant in variants:
        found = seen.get(variant["text"])
        verdict = NOT_RUN if found is None else "refuted" if found.refuted else "not refuted"
        where = f" at {_point(found.witness)}" if found and found.witness else ""
        yield f"**{variant['text']}**: {verdict}{where}"
        yield displayed(variant["latex"])


#: The two sides of a statement, in the record of a point at which they differ.
_SIDES = ("left side", "right side")


def _point(witness: dict[str, Any]) -> str:
    """A point for a reader: symbols as on the page, and both sides of the statement to six digits."""
    given = (
        f"${declaration(declared_name(name)).tex}$ = `{_shown(value)}`"
        for name, value in witness.items()
        if name not in _SIDES
    )
    sides = (f"the {name} is {_rounded(str(witness[name]))}" for name in _SIDES if name in witness)
    return "; ".join(filter(None, (", ".join(given), ", ".join(sides))))


def _shown(value: Any) -> str:
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, list) else str(value)


def _rounded(ball: str) -> str:
    """The middle of a ball to six digits; words, such as a reason why there is no value, as they are."""
    found = re.fullmatch(r"\[?(-?[\d.]+(?:e[-+]?\d+)?)(?: \+/- .*\])?", ball)
    return f"{float(found[1]):.6g}" if found else ball


def _relations(shown: dict[str, Any]) -> str:
    uses = links(shown["uses"]) or "definitions only"
    used_by = links(shown["used_by"]) or "no other claim"
    return f"Uses: {uses}.\n\nUsed by: {used_by}. See [the graph of all claims](../graph.md)."


def _kernels(id: str, ledger: Ledger) -> str:
    """The functions that implement the claim, with their verdicts under their contracts."""
    rows = []
    for name in implementing(id):
        seen = (f"`{c.name}`: {kernel_verdict(c.name, ledger)}" for c in contracts_of(name))
        rows.append((reference_link(name), ", ".join(seen) or "no contract"))
    if not rows:
        return "No function implements this claim."
    return f"In version {__version__}:\n\n{table(('function', 'contract'), rows)}"


def _conventions(id: str, definitions: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Our conventions that affect the claim, and those of other trainers."""
    chosen = [entry["id"] for entry in definitions if entry["convention"]]
    if chosen:
        yield f"Chosen here where the mathematics leaves a choice: {links(chosen)}."
    ids = [id, *(entry["id"] for entry in definitions)]
    found, kl = conventions_about(ids), not ABOUT_PENALTIES.isdisjoint(ids)
    if found:
        yield comparison(found)
    if kl:
        yield penalties()
    if not chosen and not found and not kl:
        yield "No convention on which libraries differ is known to affect this claim."


def _source(claim: Claim, definitions: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield plain(claim.source)
    rows = [(link(entry["id"]), plain(DEFINITIONS[entry["id"]].source)) for entry in definitions]
    if rows:
        yield table(("definition", "source"), rows)
