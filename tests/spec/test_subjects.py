"""The subjects of the spec: each file is loaded, and short enough to read as a section of a paper."""

import re
from pathlib import Path

import grape_spec
import pytest

FILES = sorted(Path(grape_spec.__file__).parent.rglob("*.py"))
LONGEST = 600


def test_every_file_that_enters_definitions_or_claims_is_a_subject():
    entry = re.compile(r"^(\w+ = define|claim)\(", re.MULTILINE)
    enters = {path.stem for path in FILES if entry.search(path.read_text("utf-8"))}
    assert enters == set(grape_spec.SUBJECTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_the_spec_fits_a_section(path):
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST
