"""What is unchanged is kept, and every change that could change a verdict is noticed."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import grape_spec
import pytest
import sympy as sp
from grape_spec.coq.certify import CertificateRecord
from grape_spec.language import Positive, Real, claim, define, equals, holds, less, symbol, wrong
from grape_spec.language.registry import _CLAIMED, _DEFINED, CLAIMS, DEFINITIONS
from grape_spec.language.symbols import _DECLARED
from grape_spec.proof.examine import examine
from grape_spec.proof.fingerprint import _text, fingerprints
from grape_spec.proof.rules import algebra, chain, fact, smt, step

import grape_verified
from grape_verified.cli import progress
from grape_verified.conformance import CONTRACTS, Finding, ledger, verification
from grape_verified.conformance.ledger import OF_CLAIMS, OF_KERNELS, KernelRecord, Ledger
from tests.test_cli import call

BASE, TOP = "t.base", "t.top"


@pytest.fixture
def small(scratch_registry):
    """A definition, a claim on it and one that uses that claim."""
    x, y = symbol("t_x", Positive, "a number"), symbol("t_y", Real, "another")
    twice = define("t.twice", "Twice a number.", (x,), 2 * x, tex="2{t_x}")
    claim(BASE, "It is positive.", holds(less(0, twice()), by=smt()), wrong=[wrong("negative", less(twice(), 0))])
    claim(
        TOP,
        "It is twice x, and above a square.",
        holds(equals(twice() + y, y + 2 * x), by=chain(step(2 * x + y, by=algebra())), name="sum"),
        holds(
            less(-(y**2), twice()), by=smt(given=[fact(BASE)]), assuming=[less(y, 1)], equivalent={"m": "r"}, name="low"
        ),
    )
    return x, y


def part(changes, position=0):
    return lambda c: replace(
        c, parts=tuple(replace(p, **changes(p)) if n == position else p for n, p in enumerate(c.parts))
    )


CHANGES_OF_TOP = {
    "statement": part(lambda p: {"statement": equals(sp.Integer(0), symbol("t_z", Real, "z"))}),
    "assumption": part(lambda p: {"assuming": (less(symbol("t_z", Real, "z"), 2),)}, 1),
    "fewer assumptions": part(lambda p: {"assuming": ()}, 1),
    "rule": part(lambda p: {"by": algebra()}),
    "expression of a step": part(lambda p: {"by": chain(step(sp.Integer(3), by=algebra()))}),
    "rule of a step": part(lambda p: {"by": chain(step(p.by.links[0].expr, by=smt()))}),
    "facts": part(lambda p: {"by": smt(given=[fact(BASE, t_x=sp.Integer(1))])}, 1),
    "equivalent": part(lambda p: {"equivalent": {"m": "other reason"}}, 1),
    "name": part(lambda p: {"name": "other"}),
    "order": lambda c: replace(c, parts=c.parts[::-1]),
    "one part less": lambda c: replace(c, parts=c.parts[:1]),
    "wrong variant": lambda c: replace(c, wrong=(wrong("new", less(symbol("t_z", Real, "z"), 0)),)),
    "text": lambda c: replace(c, text="Other words."),
    "uses": lambda c: replace(c, uses=()),
}


@pytest.mark.parametrize("change", CHANGES_OF_TOP)
def test_a_change_of_a_claim_changes_its_fingerprint_and_no_other(small, change):
    before = fingerprints()
    _CLAIMED[TOP] = CHANGES_OF_TOP[change](CLAIMS[TOP])
    after = fingerprints()
    assert {id for id in before if before[id] != after[id]} == {TOP}


CHANGES_BELOW = {
    "body of a definition": (lambda x: _DEFINED.update({"t.twice": replace(DEFINITIONS["t.twice"], body=3 * x)})),
    "LaTeX of a definition": (lambda x: _DEFINED.update({"t.twice": replace(DEFINITIONS["t.twice"], tex="t")})),
    "domain of a symbol": (lambda x: _DECLARED.update({x: replace(_DECLARED[x], domain=Real)})),
    "proof of a used claim": (lambda x: _CLAIMED.update({BASE: part(lambda p: {"by": algebra()})(CLAIMS[BASE])})),
    "wrong variant of a used claim": (lambda x: _CLAIMED.update({BASE: replace(CLAIMS[BASE], wrong=())})),
}


@pytest.mark.parametrize("change", CHANGES_BELOW)
def test_a_change_below_a_claim_changes_its_fingerprint(small, change):
    before = fingerprints()
    CHANGES_BELOW[change](small[0])
    after = fingerprints()
    changed = {id for id in before if before[id] != after[id]}
    assert {BASE, TOP} <= changed <= {BASE, TOP, "t.twice"}


def test_a_change_of_a_recursion_changes_the_fingerprint():
    entry = next(entry for entry in DEFINITIONS.values() if entry.recursion)
    before = fingerprints()
    _DEFINED[entry.id] = replace(entry, recursion=replace(entry.recursion, step=entry.recursion.step + 1))
    try:
        assert fingerprints()[entry.id] != before[entry.id]
    finally:
        _DEFINED[entry.id] = entry


def test_a_claim_that_uses_a_changed_one_through_others_is_changed_too():
    before = fingerprints()
    used = next(id for id in CLAIMS if any(id in CLAIMS[u].uses for c in CLAIMS.values() for u in c.uses))
    kept = dict(_CLAIMED)
    try:
        _CLAIMED[used] = replace(CLAIMS[used], text="Other words.")
        after = fingerprints()
    finally:
        _CLAIMED.clear()
        _CLAIMED.update(kept)
    changed = {id for id in before if before[id] != after[id]}
    through = {id for id in CLAIMS if used == id or used in grape_spec.language.registry.all_uses(id)}
    assert changed == through
    assert len(changed) > 2


def test_what_is_no_data_has_no_fingerprint():
    with pytest.raises(TypeError, match=r"got function, expected data"):
        _text((1, [lambda: 0]))


# -- which records apply -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    """A run of two claims, and a record of a kernel that rests on one of them."""
    seen = verification.verify(("kl.nonnegative",), processes=1)
    finding = Finding("value", "passed", "a sentence", 3)
    kernel = KernelRecord("ppo", "ppo_loss", (), (), (finding,), ("kl.log_bound", "ppo.ratio"), 1.0, examples=40)
    return replace(seen, kernels=(stamped(kernel),))


def stamped(record):
    return replace(record, fingerprint=ledger.joint(record.rests_on, fingerprints()), created="2026-01-01")


def test_everything_applies_where_nothing_changed(run):
    assert [record.id for record in run.claims] == ["kl.log_bound", "kl.nonnegative"]
    assert verification.still_valid(run) == (run.claims, run.kernels)


@pytest.mark.parametrize("name", OF_KERNELS)
def test_a_change_of_a_version_or_of_code_is_noticed(run, name):
    other = replace(run, versions={**run.versions, name: "other"})
    claims, kernels = verification.still_valid(other)
    assert claims == (() if name in OF_CLAIMS else run.claims)
    assert kernels == ()
    without = replace(run, versions={key: value for key, value in run.versions.items() if key != name})
    assert verification.still_valid(without) == (claims, kernels)


def test_every_version_is_one_that_something_depends_on():
    assert set(ledger.versions()) == {*OF_KERNELS, "grape-verified"}


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Copies of both packages, which count as the code."""
    for package in (grape_spec, grape_verified):
        folder = Path(package.__file__).parent
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(package, "__file__", str(tmp_path / folder.name / "__init__.py"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("grape_spec/proof/smt.py", {"spec code"}),
        ("grape_spec/proof/rules/equations.py", {"spec code"}),
        ("grape_spec/evaluate.py", {"spec code"}),
        ("grape_spec/language/expressions.py", {"spec code"}),
        ("grape_spec/ppo.py", set()),
        ("grape_spec/derivations/policy.py", set()),
        ("grape_verified/losses/ppo.py", {"kernel code"}),
        ("grape_verified/conformance/contracts/ppo.py", {"kernel code"}),
        ("grape_verified/conformance/properties.py", {"kernel code"}),
        ("grape_verified/__init__.py", {"kernel code"}),
        ("grape_verified/cli/tables.py", set()),
        ("grape_verified/docs/pages.py", set()),
    ],
)
def test_a_change_of_a_file_is_noticed_by_what_runs_it(copies, run, file, changed):
    before = ledger.code()
    assert before == {name: run.versions[name] for name in before}
    path = copies / file
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert {name for name, hash in ledger.code().items() if hash != before[name]} == changed
    path.rename(path.with_name("renamed.py"))
    if path.stem not in grape_spec.SUBJECTS:  # then the new file is no subject either
        assert {name for name, hash in ledger.code().items() if hash != before[name]} == changed


def test_a_change_of_a_definition_is_noticed_by_the_kernels_that_rest_on_it(run):
    ratio = DEFINITIONS["ppo.ratio"]
    _DEFINED["ppo.ratio"] = replace(ratio, body=ratio.body + 1)
    try:
        assert verification.still_valid(run) == (run.claims, ())
    finally:
        _DEFINED["ppo.ratio"] = ratio


def test_a_change_of_a_claim_is_noticed_by_it_by_what_uses_it_and_by_kernels(run):
    base = CLAIMS["kl.log_bound"]
    _CLAIMED[base.id] = replace(base, wrong=())
    try:
        assert verification.still_valid(run) == ((), ())
        without = replace(run, claims=run.claims[1:], kernels=())
        assert verification.still_valid(without) == ((), ())
    finally:
        _CLAIMED[base.id] = base


def test_a_claim_that_is_gone_does_not_apply(run):
    record = replace(run.claims[0], id="kl.no_such")
    kernel = replace(run.kernels[0], rests_on=("kl.no_such",))
    assert verification.still_valid(replace(run, claims=(record,), kernels=(kernel,))) == ((), ())


def test_evidence_on_a_kernel_shows_only_for_its_code_and_definitions(run):
    assert run.of_kernel("ppo") == run.kernels[0]
    for name in ("spec code", "kernel code"):
        assert replace(run, versions={**run.versions, name: "other"}).of_kernel("ppo") is None
    assert replace(run, kernels=(replace(run.kernels[0], fingerprint="0" * 64),)).of_kernel("ppo") is None
    assert Ledger().of_kernel("ppo") is None


# -- what is run -------------------------------------------------------------------------------------------------


@pytest.fixture
def tasks_run(monkeypatch):
    """The tasks that are run, in order."""
    seen, run_task = [], verification.run_task

    def recorded(task, examples):
        seen.append(task)
        return run_task(task, examples)

    monkeypatch.setattr(verification, "run_task", recorded)
    return seen


def again(run, earlier, **kwargs):
    return verification.verify(("kl.nonnegative",), processes=1, earlier=earlier, **kwargs)


def test_what_holds_is_kept_with_its_date(run, tasks_run):
    old = tuple(replace(record, created="2026-01-01T00:00:00+00:00") for record in run.claims)
    counts = []
    found = again(run, old, started=counts.append)
    assert (tasks_run, counts) == ([], [0])
    assert found.claims == old
    assert found.holds
    assert found.created > "2026-01-01"


def test_what_is_new_or_does_not_hold_is_run(run, tasks_run):
    base, top = run.claims
    failed = replace(top, parts=(replace(top.parts[0], status="unknown"), *top.parts[1:]))
    found = again(run, [base, failed])
    assert tasks_run == [("claim", top.id)]
    assert found.claims[0] == base
    assert found.claims[1].sound
    tasks_run.clear()
    again(run, [top])
    assert tasks_run == [("claim", base.id)]


def test_a_claim_that_is_kept_waits_for_one_that_now_fails(run, monkeypatch):
    base, top = run.claims

    def fails(task, examples):
        record = examine(task[1])
        return replace(record, parts=tuple(replace(part, status="unknown") for part in record.parts))

    monkeypatch.setattr(verification, "run_task", fails)
    found = again(run, [top])
    assert found.claims[1].waits_for == (base.id,)
    assert not found.holds


def test_a_kernel_is_run_again_if_it_was_rejected_or_tried_on_fewer_inputs(run):
    kernel = run.kernels[0]
    rejected = replace(kernel, properties=(replace(kernel.properties[0], status="failed"),))
    assert verification._need_not_be_repeated(kernel, 40)
    assert verification._need_not_be_repeated(kernel, 3)
    assert not verification._need_not_be_repeated(kernel, 41)
    assert not verification._need_not_be_repeated(rejected, 40)


def test_records_of_a_run_carry_its_date_and_their_fingerprint(run):
    today = fingerprints()
    for record in run.claims:
        assert (record.created, record.fingerprint) == (run.created, today[record.id])
    kernel = verification.check_kernel("ipo", 2)
    assert kernel.examples == 2
    assert kernel.rests_on == CONTRACTS["ipo"].rests_on


# -- what the command says ---------------------------------------------------------------------------------------

KEPT = re.compile(r"^2 of 2 claims unchanged since \S+: kept; --fresh runs them again\.$", re.MULTILINE)


def test_verify_keeps_what_is_unchanged_and_says_so(tmp_path, monkeypatch, tasks_run):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verification.os, "cpu_count", lambda: 1)
    first = call("verify", "kl.nonnegative")
    assert len(tasks_run) == 2
    assert not KEPT.search(first[1])
    written = ledger.read(Path("grape-verified-ledger.json"))
    monkeypatch.setattr(verification, "now", lambda: "2099-01-01T00:00:00+00:00")
    status, out, _ = call("verify", "kl.nonnegative")
    assert (status, len(tasks_run)) == (0, 2)
    assert f"2 of 2 claims unchanged since {written.created}: kept; --fresh runs them again.\n" in out
    assert ledger.read(Path("grape-verified-ledger.json")).claims == written.claims
    assert not KEPT.search(call("verify", "kl.nonnegative", "--fresh")[1])
    assert len(tasks_run) == 4
    assert {r.created[:4] for r in ledger.read(Path("grape-verified-ledger.json")).claims} == {"2099"}


def test_a_run_of_more_says_how_many_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verification.os, "cpu_count", lambda: 1)
    call("verify", "kl.log_bound")
    monkeypatch.setattr(verification, "now", lambda: "2099-01-01T00:00:00+00:00")
    assert "1 of 2 claims unchanged since 20" in call("verify", "kl.nonnegative")[1]


def test_a_run_keeps_what_another_writes_meanwhile(tmp_path, monkeypatch):
    """Of the claims that it verifies, and of the parts that it certifies."""
    path, verified = tmp_path / "ledger.json", progress.verified
    certificate, other = (
        CertificateRecord(id, CLAIMS[id].parts[0].name, "certified", "", 1.0, (), (), "8.16.1", "", "")
        for id in ("kl.nonnegative", "kl.log_bound")
    )

    def verified_meanwhile(*args):
        monkeypatch.setattr(progress, "verified", verified)
        call("verify", "ppo.ratio.gradient", "--examples", "1", "--ledger", str(path))
        ledger.write(ledger.read(path).with_certificates([other]), path)
        return verified(*args)

    def certified_meanwhile(*args):
        ledger.write(ledger.read(path).with_certificates([other]), path)
        return (certificate,)

    monkeypatch.setattr(progress, "verified", verified_meanwhile)
    monkeypatch.setattr(progress, "certified", certified_meanwhile)
    call("verify", "kl.log_bound", "--examples", "1", "--ledger", str(path))
    assert {"kl.log_bound", "ppo.ratio.gradient"} <= set(ledger.read(path).by_id)
    assert ledger.read(path).certificates == (other,)
    ledger.write(replace(ledger.read(path), certificates=()), path)
    call("certify", "kl.nonnegative", "--ledger", str(path))
    assert {record.claim for record in ledger.read(path).certificates} == {"kl.nonnegative", "kl.log_bound"}


def test_a_ledger_that_cannot_be_written_whole_is_left_as_it_was(tmp_path, monkeypatch, run):
    path = tmp_path / "ledger.json"
    ledger.write(run, path)
    before = path.read_bytes()

    def full(self, *args, **kwargs):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    status, out, err = call("verify", "kl.log_bound", "--ledger", str(path), "--fresh")
    assert (status, out) == (2, "")
    assert err.strip() == f"grape-verified: --ledger: cannot write {path}: No space left on device"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_ledger_may_be_a_link(tmp_path, run):
    (tmp_path / "there").mkdir()
    link = tmp_path / "ledger.json"
    link.symlink_to(tmp_path / "there" / "real.json")
    ledger.write(run, link)
    assert link.is_symlink()
    assert ledger.read(link).claims == run.claims
