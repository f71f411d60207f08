"""`equations.json`: every claim and definition as data, with what the ledger says of each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grape_spec import render
from grape_spec.language.claims import Claim, Part
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RETIRED
from grape_spec.language.sources import Source
from grape_spec.references import plain, work

from grape_verified import __version__
from grape_verified.conformance.ledger import NOT_RUN, Ledger
from grape_verified.docs.markdown import address_of
from grape_verified.docs.verdicts import Verdicts

#: Raised whenever an entry gets, loses or renames a key.
SCHEMA = 2


def equations(ledger: Ledger, site: str, found: Mapping[str, Verdicts]) -> dict[str, Any]:
    """Every claim and definition, with addresses below `site`, the published address or empty."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "recorded": {"created": ledger.created, "versions": ledger.versions},
        "claims": [_claim(claim, ledger, site, found[claim.id]) for claim in CLAIMS.values()],
        "definitions": [_definition(entry, site) for entry in DEFINITIONS.values()],
        "retired": [{"id": id, "reason": r, "address": site + address_of(id)} for id, r in RETIRED.items()],
    }


def _claim(claim: Claim, ledger: Ledger, site: str, found: Verdicts) -> dict[str, Any]:
    shown = render.as_dict(claim)
    return {
        "id": claim.id,
        "text": claim.text,
        "parts": [_part(n, claim, part, shown["parts"][n - 1], ledger) for n, part in enumerate(claim.parts, 1)],
        "symbols": shown["symbols"],
        "definitions": [entry["id"] for entry in shown["definitions"]],
        "uses": list(claim.uses),
        "source": _source(claim.source),
        **found._asdict(),
        "address": site + address_of(claim.id),
        "hash": claim.hash,
    }


def _part(number: int, claim: Claim, part: Part, shown: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """A part, with its number on the page of the claim; `scope` says for which sizes it is proved."""
    record = ledger.of(claim)
    seen = next((entry for entry in record.parts if entry.name == part.name), None) if record else None
    return {
        "number": number,
        "name": part.name,
        "latex": shown["statement_latex"],
        "assuming": shown["assuming_latex"],
        "status": seen.status if seen else NOT_RUN,
        "scope": seen.scope if seen else "",
        "coq": ledger.certified_part(claim, part),
    }


def _definition(entry: Definition, site: str) -> dict[str, Any]:
    shown = render.definition_as_dict(entry)
    kept = {name: shown[name] for name in ("id", "text", "latex", "convention", "symbols", "uses")}
    return {**kept, "source": _source(entry.source), "address": site + address_of(entry.id)}


def _source(source: Source) -> dict[str, Any]:
    """The work and the place in it, `compared` if that place was read; `arxiv` is empty for what is not there."""
    arxiv = work(source.key).get("eprint", "")
    return {
        "key": source.key, "place": source.place, "compared": source.checked, "text": plain(source), "arxiv": arxiv,
    }  # fmt: skip
