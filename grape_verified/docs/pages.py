"""Snippets for the chapters; the list of claims, the definitions of a subject, the reference, the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from grape_spec import render
from grape_spec.coq.certify import CERTIFIED, Theorems
from grape_spec.language.claims import Claim
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RETIRED
from grape_spec.proof.examine import Mutants
from grape_spec.references import plain

from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.ledger import FULLY_PROVED, NOT_RUN, Ledger
from grape_verified.conformance.subjects import SUBJECTS, subject_of
from grape_verified.docs.markdown import (
    convention_mark,
    link,
    links,
    numbered,
    page,
    recorded,
    reference_link,
    standing,
    statements,
    status_mark,
    symbols_table,
    table,
)
from grape_verified.docs.reference import contracts_of, implemented_by, implementing, names_of
from grape_verified.docs.shown_parts import results_first, shown_parts
from grape_verified.docs.synonyms import also_called
from grape_verified.docs.verdicts import COQ, MEASURED, Verdicts, counted, kernel_verdict, measured


def claim_snippet(claim: Claim, ledger: Ledger) -> str:
    """A claim as a chapter shows it."""
    parts = render.as_dict(claim)["parts"]
    shown = shown_parts(claim.id, [part for group in results_first(claim, parts) for part in group])
    left = len(parts) - len(shown)
    head = f"{link(claim.id)} {standing(claim, ledger)}\n\n{claim.text}"
    more = [f"*and {left} more on [its page](../claims/{claim.id}.md)*"] if left > 0 else []
    return _boxed("claim", [head, *statements(shown), *more])


def definition_snippet(definition: Definition) -> str:
    """A definition as a chapter shows it."""
    head = f"{link(definition.id)}\n\n{definition.text}{convention_mark(definition.convention)}"
    return _boxed("definition", [head, numbered(render.definition_as_dict(definition)["latex"])])


def certificates_snippet(ledger: Ledger, theorems: Theorems) -> str:
    """How many parts of each subject are certified, with its file of theorems, for a page at the root of the site."""
    rows = []
    for name, subject in SUBJECTS.items():
        own = [(claim, part) for claim in CLAIMS.values() if subject_of(claim.id) == name for part in claim.parts]
        said = Counter(ledger.certified_part(claim, part) for claim, part in own)
        held = sum((claim.id, part.name) in theorems for claim, part in own)
        if own:
            file = (
                f"[`{name}.v`](coq/{name}.v), {held} of {len(own)} parts"
                if held
                else NOT_RUN
                if set(said) == {NOT_RUN}
                else "none"
            )
            rows.append((subject.title, *(str(said[word]) for word in COQ), file))
    return table(("subject", *COQ, "file"), rows) + "\n"


def evidence_snippet(ledger: Ledger, found: Mapping[str, Verdicts]) -> str:
    """The evidence of the ledger in numbers, for a page at the root of the site."""
    records = [record for claim in CLAIMS.values() if (record := ledger.of(claim))]
    wrong = ["refuted" if variant.refuted else "not refuted" for record in records for variant in record.wrong]
    mutants = [fate for record in records for part in record.parts for fate in _fates(part.mutants)]
    coq = [ledger.certified_part(claim, part) for claim in CLAIMS.values() for part in claim.parts]
    kernels = [measured(name, ledger) for name in CONTRACTS]
    rows = [
        ("[claims](claims/index.md)", FULLY_PROVED, counted([seen.status for seen in found.values()], FULLY_PROVED)),
        ("statements of claims", "certified by Coq", counted(coq, CERTIFIED)),
        ("false variants of claims", "refuted", counted(wrong, "refuted")),
        ("mutants of statements", "refuted, or derived from the claim", counted(mutants, "refuted", "derived")),
        ("contracts of PyTorch functions", "satisfied", counted(kernels, MEASURED)),
    ]
    shown = table(("evidence", "verdict", "number"), rows)
    return f"{shown}\n\n{recorded(ledger)} [Trust](trust.md) explains the words.\n"


def _fates(mutants: Mutants) -> list[str]:
    """What became of each mutant of a statement."""
    derived, others = len(mutants.implied), mutants.total - mutants.refuted - len(mutants.implied)
    return ["refuted"] * mutants.refuted + ["derived"] * derived + ["neither"] * others


def _boxed(kind: str, paragraphs: Iterable[str]) -> str:
    inside = "\n\n".join(paragraphs)
    return f'<div class="box {kind}" markdown>\n\n{inside}\n\n</div>\n'


def claims_index(ledger: Ledger, found: Mapping[str, Verdicts]) -> str:
    """All claims by subject, with what is proved, certified and measured of each."""
    summary = ", ".join(f"{n} {status_mark(word)}" for word, n in Counter(v.status for v in found.values()).items())
    coq, kernels = (_counted(v[kind] for v in found.values()) for kind in (1, 2))
    sections = [
        "# Claims",
        f"{len(CLAIMS)} claims: {summary}. Coq: {coq}. Kernels: {kernels}. {recorded(ledger)} [Trust](../trust.md) "
        "explains the words.",
    ]
    for name, subject in SUBJECTS.items():
        some = [claim for claim in CLAIMS.values() if subject_of(claim.id) == name]
        rows = [(link(claim.id), standing(claim, ledger), *found[claim.id][1:], claim.text) for claim in some]
        if rows:
            sections += [f"## {subject.title}", table(("claim", "status", "Coq", "kernels", "statement"), rows)]
    if RETIRED:
        gone = [(f"[`{id}`](../claims/{id}.md)", reason) for id, reason in RETIRED.items()]
        sections += ["## Retired", table(("claim", "reason"), gone)]
    return page("Claims", "All claims with their status", sections)


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{number} {word}" for word, number in Counter(words).items())


def definitions_page(subject: str) -> str:
    """The definitions of a subject, each with what depends on it."""
    title = SUBJECTS[subject].title
    sections = [f"# Definitions: {title}"]
    for entry in DEFINITIONS.values():
        if subject_of(entry.id) == subject:
            sections += _definition_sections(entry)
    return page(f"Definitions: {title}", f"Definitions of the spec: {title}", sections)


def _definition_sections(entry: Definition) -> Iterator[str]:
    shown = render.definition_as_dict(entry)
    yield f"## `{entry.id}` {{ #{entry.id} }}"
    yield f"{entry.text}{convention_mark(entry.convention)}"
    yield also_called(entry.id)
    yield numbered(shown["latex"])
    yield symbols_table(shown["symbols"])
    for name, text in (("uses", "Built from"), ("used_by", "Used in"), ("claims", "Claims about it")):
        if shown[name]:
            yield f"{text}: {links(shown[name])}."
    functions = [reference_link(name) for name in implementing(entry.id)]
    if functions:
        yield f"Implemented by: {', '.join(functions)}."
    yield f"Source: {plain(entry.source)}"


def reference_page(subject: str, ledger: Ledger) -> str:
    """The public names of a subject: docstring, source, and the evidence for each."""
    title = SUBJECTS[subject].title
    sections = [f"# {title}"]
    for name in names_of(subject):
        sections += [f"::: grape_verified.{name}", *_evidence_for(name, ledger)]
    return page(f"Reference: {title}", f"{title}: signatures, formulas, error bounds", sections)


def _evidence_for(name: str, ledger: Ledger) -> Iterator[str]:
    """The claims that a function implements, with their status, and its contracts."""
    ids = [id for id in implemented_by(name) if id in CLAIMS]
    if ids:
        rows = [(link(id), status_mark(ledger.status(CLAIMS[id])), CLAIMS[id].text) for id in ids]
        yield table(("implements", "status", "statement"), rows)
    built = [id for id in implemented_by(name) if id in DEFINITIONS]
    if built:
        yield f"Computes {links(built)}."
    for contract in contracts_of(name):
        yield f"Contract `{contract.name}`: {kernel_verdict(contract.name, ledger)}."


def graph_page(drawing: str, ledger: Ledger) -> str:
    """The graph of claims and their uses."""
    intro = (
        "Each box is a claim, and each line leads from a claim to one that uses it. *Fully proved* means that the "
        "claim and everything it depends on are proved. The signs at the end of a box are the verdicts of Coq and on "
        "the kernels that implement the claim; [Trust](trust.md) explains the words. Colours and signs are computed "
        f"from the ledger. {recorded(ledger)}"
    )
    box = f'<div class="claim-graph-box" markdown="0" tabindex="0" role="region" aria-label="Graph">\n{drawing}</div>'
    return page("Graph", "All claims and what they use", ["# Graph of claims", intro, box], hide="navigation, toc")
