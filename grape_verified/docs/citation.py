"""What the head of a page says to reference managers and search engines: citation tags, and the claim as JSON-LD."""

from __future__ import annotations

from typing import Any

from grape_spec.language.claims import Claim
from grape_spec.references import YEAR, work

from grape_verified import __version__
from grape_verified.docs.markdown import address_of

AUTHOR = "grape_verified contributors"


def metadata(claim: Claim, site: str) -> dict[str, Any]:
    """What the theme puts into the head of the page of a claim: `citation` as meta tags, `linked` as JSON-LD."""
    title = claim.text.rstrip(".")
    address = site + address_of(claim.id) if site else ""
    citation = {
        "citation_title": title,
        "citation_author": AUTHOR,
        "citation_publication_date": str(YEAR),
        "citation_publisher": f"grape_verified {__version__}",
        "citation_technical_report_number": claim.id,
        "citation_language": "en",
        "citation_public_url": address,
    }
    linked = {
        "@context": "https://schema.org",
        "@type": "CreativeWork",
        "identifier": claim.id,
        "name": title,
        "url": address,
        "version": claim.hash,
        "author": {"@type": "Organization", "name": AUTHOR},
        "datePublished": str(YEAR),
        "inLanguage": "en",
        "isPartOf": {"@type": "SoftwareSourceCode", "name": "grape_verified", "version": __version__},
        "isBasedOn": _work(work(claim.source.key)),
    }
    return {"citation": _filled(citation), "linked": _filled(linked)}


def _work(fields: dict[str, str]) -> dict[str, Any]:
    """A work of the bibliography; nothing for what is worked out here."""
    if not fields:
        return {}
    found = {
        "@type": "CreativeWork",
        "name": fields["title"],
        "author": [{"@type": "Person", "name": name} for name in fields["author"].split(" and ") if name != "others"],
        "datePublished": fields["year"],
        "sameAs": f"https://arxiv.org/abs/{fields['eprint']}" if "eprint" in fields else "",
    }
    return _filled(found)


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
