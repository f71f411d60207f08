"""Pages and snippets of Markdown: one page for each claim, the definitions of each subject, the list of all claims."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from grape_spec import render
from grape_spec.language.claims import Claim
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RETIRED
from grape_spec.proof.ledger import TRUSTED_BASE
from grape_spec.proof.rules import GENERAL
from grape_spec.references import bibtex, plain

from grape_verified import __version__
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.evidence import FULLY_PROVED, NOT_RUN, Evidence
from grape_verified.docs.conventions import READ, conventions_about
from grape_verified.docs.graph import status_class, subject_of
from grape_verified.docs.reference import GROUPS, claims_of, group_of, implementing, names_of

#: The title of each subject and its chapter, in the order of the site.
SUBJECTS = {
    "sft": ("Supervised fine-tuning", "sft"),
    "rejection": ("Rejection sampling", "rejection"),
    "reinforce": ("REINFORCE", "reinforce"),
    "trpo": ("TRPO", "trpo"),
    "ppo": ("PPO", "ppo"),
    "grpo": ("GRPO", "grpo"),
    "dpo": ("DPO", "dpo"),
    "reward": ("Reward models", "dpo"),
    "grape": ("GRAPE", "grape"),
    "policy": ("Policies", "policy"),
    "kl": ("Divergences", "kl"),
    "advantage": ("Advantages", "advantage"),
    "aggregation": ("Aggregation", "aggregation"),
    "head": ("The linear head", "hot_path"),
}

#: Parts of a claim that a chapter shows, the last among them, which is often what the others lead up to.
PARTS_IN_A_CHAPTER = 3


def address_of(id: str) -> str:
    """Where a claim or a definition is found, from the root of the site; it never changes."""
    return f"claims/{id}/" if id in CLAIMS or id in RETIRED else f"definitions/{subject_of(id)}/#{id}"


def link(id: str) -> str:
    """A Markdown link to a claim or a definition, from any page that lies in a folder, as all do that have one."""
    page = f"../claims/{id}.md" if id in CLAIMS else f"../definitions/{subject_of(id)}.md#{id}"
    return f"[`{id}`]({page})"


def status_mark(status: str) -> str:
    """A status, with the class by which it gets its colour."""
    return f'<span class="status {status_class(status)}">{status}</span>'


def standing(claim: Claim, evidence: Evidence) -> str:
    """The status of a claim, and whether a part of it holds for chosen sizes only."""
    record, status = evidence.of(claim), evidence.status(claim)
    in_part = status == FULLY_PROVED and record is not None and record["scope"] != [GENERAL]
    return status_mark(status) + (" with parts at chosen sizes" if in_part else "")


def displayed(formula: str) -> str:
    """A formula on lines of its own."""
    return f"$$\n{formula}\n$$"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. A bar would end a cell: formulas get the LaTeX of it, text its entity."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(text: str) -> str:
    pieces = re.split(r"(\$[^$]*\$)", " ".join(text.split()))
    return "".join(p.replace("|", r"\vert " if p.startswith("$") else "&#124;") for p in pieces)


def _page(title: str, description: str, sections: Iterable[str], hide: str = "") -> str:
    """A page of Markdown; hide names what of the theme is left out."""
    head = f"---\ntitle: {json.dumps(title)}\ndescription: {json.dumps(description, ensure_ascii=False)}\n"
    head += f"hide: [{hide}]\n---\n" if hide else "---\n"
    return "\n\n".join([head, *(section for section in sections if section)]) + "\n"


# -- snippets ---------------------------------------------------------------------------------------------------


def claim_snippet(claim: Claim, evidence: Evidence) -> str:
    """A claim as a chapter shows it."""
    parts = render.as_dict(claim)["parts"]
    left = len(parts) - PARTS_IN_A_CHAPTER
    shown = parts if left <= 0 else [*parts[: PARTS_IN_A_CHAPTER - 1], parts[-1]]
    head = f"{link(claim.id)} {standing(claim, evidence)}\n\n{claim.text}"
    more = [f"*and {left} more on [its page](../claims/{claim.id}.md)*"] if left > 0 else []
    return _boxed("claim", [head, *map(_part_statement, shown), *more])


def definition_snippet(definition: Definition) -> str:
    """A definition as a chapter shows it."""
    shown = render.definition_as_dict(definition)
    convention = " *A convention.*" if definition.convention else ""
    return _boxed("definition", [f"{link(definition.id)}\n\n{definition.text}{convention}", displayed(shown["latex"])])


def _boxed(kind: str, paragraphs: Iterable[str]) -> str:
    inside = "\n\n".join(paragraphs)
    return f'<div class="box {kind}" markdown>\n\n{inside}\n\n</div>\n'


def _part_statement(part: dict[str, Any]) -> str:
    """The statement of a part, with its name and what it assumes."""
    lines = [f"**{part['name']}**"] if part["name"] else []
    lines.append(displayed(part["statement_latex"]))
    if part["assuming_latex"]:
        lines.append("assuming " + ", ".join(f"${condition}$" for condition in part["assuming_latex"]))
    return "\n\n".join(lines)


# -- the page of a claim ----------------------------------------------------------------------------------------


def claim_page(claim: Claim, evidence: Evidence, site: str) -> str:
    """Everything about one claim; site is the address at which the site is published, or nothing."""
    shown, record = render.as_dict(claim), evidence.of(claim)
    status = evidence.status(claim)
    title, chapter = SUBJECTS[subject_of(claim.id)]
    place = f"{standing(claim, evidence)} · chapter [{title}](../chapters/{chapter}.md)"
    head = f"# `{claim.id}`\n\n{claim.text}\n\n{place}"
    sections = [
        head,
        "## Statement",
        *map(_part_statement, shown["parts"]),
        "## Symbols",
        _symbols(shown["symbols"]),
        *_definitions(shown["definitions"]),
        "## Assumptions",
        *_assumptions(shown, record),
        "## Proof",
        *(_proof(part) for part in shown["parts"]),
        *_lemmas(shown["lemmas"]),
        "## Evidence",
        *_evidence(evidence, record, status),
        "## False variants",
        *_wrong(shown["wrong"], record),
        "## What it uses, and what uses it",
        _relations(shown),
        "## Implementation",
        _kernels(claim.id, evidence),
        "## Conventions, and who does what",
        *_conventions(claim.id, shown["definitions"]),
        "## Source",
        *_source(claim, shown["definitions"]),
        "## Cite this",
        *citation(claim, site),
    ]
    return _page(claim.id, claim.text, sections)


def _symbols(symbols: Iterable[dict[str, str]]) -> str:
    return table(
        ("symbol", "name", "domain", "meaning"),
        ((f"${s['latex']}$", f"`{s['name']}`", s["domain"], s["text"]) for s in symbols),
    )


def _definitions(definitions: Sequence[dict[str, Any]]) -> Iterator[str]:
    if definitions:
        yield "## Definitions"
    for entry in definitions:
        convention = " *A convention.*" if entry["convention"] else ""
        yield f"{link(entry['id'])}: {entry['text']}{convention}"
        yield displayed(entry["latex"])


def _assumptions(shown: dict[str, Any], record: dict[str, Any] | None) -> Iterator[str]:
    """The conditions beyond the domains; and whether the proof was found to need each, domains included."""
    stated = [(part["name"], c) for part in shown["parts"] for c in part["assuming_latex"]]
    if stated:
        yield "\n".join(f"- {f'{name}: ' if name else ''}${condition}$" for name, condition in stated)
    else:
        yield "None beyond the domains of the symbols."
    conditions = [(p["name"], c) for p in record["parts"] for c in p["conditions"]] if record else []
    if conditions:
        yield "Each was left out once, to see whether the proof needs it:"
        yield table(
            ("part", "condition", "needed"),
            ((name, f"`{c['text']}`", "yes" if c["needed"] else "no") for name, c in conditions),
        )


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
    base = ", ".join(TRUSTED_BASE)
    if lemmas:
        yield f"Taken for granted by name: {', '.join(lemmas)}."
    yield f"And always: {base}; see [what is assumed](../trust.md)."


def _evidence(evidence: Evidence, record: dict[str, Any] | None, status: str) -> Iterator[str]:
    """The record of a claim, part by part, straight from the ledger."""
    yield status_mark(status)
    if record is None:
        yield "No run of the checker on this version of the claim is recorded."
        return
    if record["waits_for"]:
        yield f"Rests on what is not proved: {', '.join(map(link, record['waits_for']))}."
    head = ("part", "verdict", "scope", "engine", "points", "mutants refuted", "true", "survived", "seconds")
    yield table(head, map(_evidence_row, record["parts"]))
    for part in record["parts"]:
        if part["status"] != "proved":
            yield f"{part['name']}: {part['status']}: {part['reason'] or part['witness']}"
    versions = ", ".join(f"{name} {number[:12]}" for name, number in evidence.versions.items())
    yield f"Recorded {evidence.created}, with {versions}. Version of the claim: `{record['hash'][:16]}`."


def _evidence_row(part: dict[str, Any]) -> tuple[str, ...]:
    mutants = part["mutants"]
    return (
        part["name"] or "the statement",
        part["status"],
        part["scope"] or "none",
        part["engine"],
        f"{part['points']['effective']} of {part['points']['drawn']}",
        f"{mutants['refuted']} of {mutants['total']}",
        str(len(mutants["implied"]) + len(mutants["listed"])),
        str(len(mutants["survived"])),
        f"{part['seconds']:.2f}",
    )


def _wrong(variants: Sequence[dict[str, Any]], record: dict[str, Any] | None) -> Iterator[str]:
    """What somebody has trained a model with, or might; and where the machine found it false."""
    verdicts = {v["text"]: v for v in record["wrong"]} if record else {}
    for variant in variants:
        seen = verdicts.get(variant["text"])
        verdict = NOT_RUN if seen is None else "refuted" if seen["refuted"] else "not refuted"
        where = f" at `{_point(seen['witness'])}`" if seen and seen["refuted"] else ""
        yield f"**{variant['text']}**: {verdict}{where}"
        yield displayed(variant["latex"])


def _point(witness: Any) -> str:
    return ", ".join(f"{k} = {v}" for k, v in witness.items()) if isinstance(witness, dict) else str(witness)


def _relations(shown: dict[str, Any]) -> str:
    uses = ", ".join(map(link, shown["uses"])) or "nothing but definitions"
    used_by = ", ".join(map(link, shown["used_by"])) or "no other claim"
    return f"Uses: {uses}.\n\nUsed by: {used_by}. The whole is on [the graph](../graph.md)."


def _kernels(id: str, evidence: Evidence) -> str:
    """The functions that name the claim in their docstring, and those whose contract rests on it."""
    rows = []
    for name in implementing(id):
        contracts = [c for c in CONTRACTS.values() if c.kernel == name]
        held = ", ".join(f"`{c.name}`: {kernel_verdict(c.name, evidence)}" for c in contracts) or "no contract"
        rows.append((f"[`{name}`](../reference/{group_of(name)}.md#grape_verified.{name})", held))
    if not rows:
        return "No function of this package computes it; other claims rest on it, or it is a theorem about them."
    note = f"With their source, at version {__version__}:"
    return f"{note}\n\n{table(('function', 'held by the contract'), rows)}"


def kernel_verdict(contract: str, evidence: Evidence) -> str:
    """What the ledger says of our kernel under a contract."""
    record = evidence.of_kernel(contract)
    if record is None:
        return NOT_RUN
    passed = sum(entry["status"] == "passed" for entry in record["properties"])
    verdict = "accepted" if record["accepted"] else "rejected"
    return f"{verdict}, {passed} of {len(record['properties'])} properties"


def _conventions(id: str, definitions: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What was chosen here where the mathematics leaves a choice, and what other trainers choose."""
    chosen = [link(entry["id"]) for entry in definitions if entry["convention"]]
    if chosen:
        yield f"Chosen here, as the mathematics leaves it open: {', '.join(chosen)}."
    found = conventions_about([id, *(entry["id"] for entry in definitions)])
    if found:
        head = ("convention", "here", *READ)
        yield table(head, ((c.name, c.here, *(c.others.get(name, "–") for name in READ)) for c in found))
        yield f"As read in {', '.join(READ.values())}; – means that this was not compared."
    if not chosen and not found:
        yield "None is known that touches this claim."


def _source(claim: Claim, definitions: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield plain(claim.source)
    rows = [(link(entry["id"]), plain(DEFINITIONS[entry["id"]].source)) for entry in definitions]
    if rows:
        yield table(("definition", "source"), rows)


def citation(entry: Claim, site: str) -> Iterator[str]:
    """How to cite an entry: as plain text, and as BibTeX."""
    where = f" {site}{address_of(entry.id)}." if site else ""
    yield f"> grape_verified contributors. {entry.text} grape_verified {__version__}, `{entry.id}`.{where}"
    yield f"```bibtex\n{bibtex(entry, __version__, site + address_of(entry.id) if site else '')}\n```"


def retired_page(id: str, reason: str) -> str:
    """A retired id keeps its page."""
    sections = [
        f"# `{id}`",
        '<span class="status status-retired">retired</span>',
        f"This claim was retired: {reason}",
        "Its id is never used again.",
    ]
    return _page(id, f"Retired: {reason}", sections)


# -- pages of many ----------------------------------------------------------------------------------------------


def claims_index(evidence: Evidence) -> str:
    """All claims by subject, with their status."""
    counted: dict[str, int] = {}
    for claim in CLAIMS.values():
        counted[evidence.status(claim)] = counted.get(evidence.status(claim), 0) + 1
    summary = ", ".join(f"{number} {status_mark(status)}" for status, number in counted.items())
    made = f"Recorded {evidence.created}." if evidence.created else "No run of the checker is recorded."
    sections = ["# Claims", f"{len(CLAIMS)} claims: {summary}. {made}"]
    for subject, (title, _) in SUBJECTS.items():
        some = [claim for claim in CLAIMS.values() if subject_of(claim.id) == subject]
        rows = [(link(claim.id), standing(claim, evidence), claim.text) for claim in some]
        if rows:
            sections += [f"## {title}", table(("claim", "status", "statement"), rows)]
    if RETIRED:
        gone = [(f"[`{id}`](../claims/{id}.md)", reason) for id, reason in RETIRED.items()]
        sections += ["## Retired", table(("claim", "reason"), gone)]
    return _page("Claims", "All claims with their status", sections)


def definitions_page(subject: str) -> str:
    """The definitions of a subject, each with what rests on it."""
    title, _ = SUBJECTS[subject]
    sections = [f"# Definitions: {title}"]
    for entry in DEFINITIONS.values():
        if subject_of(entry.id) == subject:
            sections += _definition_sections(entry)
    return _page(f"Definitions: {title}", f"The definitions of the spec on {title}", sections)


def _definition_sections(entry: Definition) -> Iterator[str]:
    shown = render.definition_as_dict(entry)
    convention = " *A convention.*" if entry.convention else ""
    yield f"## `{entry.id}` {{ #{entry.id} }}"
    yield f"{entry.text}{convention}"
    yield displayed(shown["latex"])
    yield _symbols(shown["symbols"])
    for name, text in (("uses", "Built from"), ("used_by", "Part of"), ("claims", "Claims about it")):
        if shown[name]:
            yield f"{text}: {', '.join(map(link, shown[name]))}."
    yield f"Source: {plain(entry.source)}"


def reference_page(group: str, evidence: Evidence) -> str:
    """The public names of a group: docstring, source, and what they are held to."""
    title = GROUPS[group]
    sections = [f"# {title}"]
    for name in names_of(group):
        sections += [f"::: grape_verified.{name}", *_held_to(name, evidence)]
    return _page(f"Reference: {title}", f"{title}: signatures, formulas, error bounds", sections)


def _held_to(name: str, evidence: Evidence) -> Iterator[str]:
    """The claims that a function implements, with their status, and its contracts."""
    ids = [id for id in claims_of(name) if id in CLAIMS]
    if ids:
        rows = [(link(id), status_mark(evidence.status(CLAIMS[id])), CLAIMS[id].text) for id in ids]
        yield table(("implements", "status", "statement"), rows)
    built = [link(id) for id in claims_of(name) if id in DEFINITIONS]
    if built:
        yield f"Computes {', '.join(built)}."
    for contract in CONTRACTS.values():
        if contract.kernel == name:
            yield f"Contract `{contract.name}`: {kernel_verdict(contract.name, evidence)}."


def graph_page(drawing: str, evidence: Evidence) -> str:
    """The graph of claims and their uses."""
    made = f"Recorded {evidence.created}." if evidence.created else "No run of the checker is recorded."
    intro = (
        "Each box is a claim, and each line leads from a claim to one that uses it. *Fully proved* means that the "
        f"claim and all that it rests on are proved; colours are computed from the ledger. {made}"
    )
    box = f'<div class="claim-graph-box" markdown="0" tabindex="0" role="region" aria-label="Graph">\n{drawing}</div>'
    return _page("Graph", "All claims and what they use", ["# Graph of claims", intro, box], hide="navigation, toc")
