"""The worst cases found so far keep the bounds of the docstrings, and have the recorded errors."""

import pytest

from grape_verified.conformance import CONTRACTS

from . import cases, search
from .cases import DTYPES, STATED, Entry, load, save

ENTRIES = load()


def test_every_bound_has_its_worst_cases():
    assert set(ENTRIES) == {(contract, dtype) for contract in STATED for dtype in DTYPES}


@pytest.mark.parametrize("at", ENTRIES, ids="-".join)
def test_a_worst_case_keeps_the_bound_and_is_as_bad_as_it_was(at):
    entry = ENTRIES[at]
    assert entry.case.dtype == DTYPES[entry.dtype]
    assert set(entry.case.options) == set(CONTRACTS[entry.contract].options)
    factor = entry.measured()
    assert factor <= entry.bound
    assert factor == pytest.approx(entry.factor, rel=0.1), "the kernel has changed: search again"


def test_what_is_written_reads_back_to_the_bit(tmp_path):
    save(ENTRIES, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == cases.FILE.read_bytes()


def test_the_search_finds_an_error_and_never_a_smaller_one(tmp_path, monkeypatch):
    path = tmp_path / "cases.json"
    monkeypatch.setattr(search, "load", lambda: load(path))
    monkeypatch.setattr(search, "save", lambda entries: save(entries, path))
    monkeypatch.setattr(search, "DTYPES", {"float32": DTYPES["float32"]})
    [(first, none)] = search.search(["ppo_per_token"], 0.01, 0)
    assert none is None
    assert 0 < first.factor <= first.bound
    assert load(path)["ppo_per_token", "float32"].measured() == first.factor
    worse = Entry(first.contract, first.dtype, 3.9, first.case)
    save({("ppo_per_token", "float32"): worse}, path)
    list(search.search(["ppo_per_token"], 0.001, 1))
    assert load(path)["ppo_per_token", "float32"].factor == 3.9
