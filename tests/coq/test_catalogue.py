"""What Coq does not certify of the catalogue is listed by name, with what was tried."""

import tomllib
from pathlib import Path

import pytest
from grape_spec.coq.certify import CERTIFIED, NOT_CERTIFIED, label
from grape_spec.language.registry import CLAIMS

from grape_verified.conformance.ledger import NOT_RUN, read

#: Where `certify` adds certificates, called from the checkout.
LEDGER = Path(__file__).parents[2] / "grape-verified-ledger.json"

PARTS = [(claim, part) for claim in CLAIMS.values() for part in claim.parts]
LISTED = {
    label(entry["claim"], entry["part"]): entry["tried"]
    for entry in tomllib.loads(Path(__file__).with_name("not_certified.toml").read_text(encoding="utf-8"))["part"]
}


def test_what_is_listed_is_a_part_and_says_what_was_tried():
    assert LISTED.keys() <= {label(claim.id, part.name) for claim, part in PARTS}
    assert all(LISTED.values())


def test_nearly_all_is_certified():
    """95 % of the parts and 90 % of the claims."""
    claims = {claim.id for claim, part in PARTS if label(claim.id, part.name) in LISTED}
    assert len(LISTED) <= 0.05 * len(PARTS)
    assert len(claims) <= 0.1 * len(CLAIMS)


@pytest.mark.full("all but a sample of what Coq checks")
def test_certify_fails_at_what_is_listed_and_at_nothing_else():
    seen = read(LEDGER)
    said = {label(claim.id, part.name): seen.certified_part(claim, part) for claim, part in PARTS}
    missing = [name for name, word in said.items() if word == NOT_RUN]
    if missing:
        pytest.skip(f"the ledger has no certificate of {len(missing)} parts: run grape-verified certify")
    assert {name for name, word in said.items() if word == NOT_CERTIFIED} == LISTED.keys()
    assert set(said.values()) <= {CERTIFIED, NOT_CERTIFIED}
