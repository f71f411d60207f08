"""Coq accepts what is true and proved, and nothing else."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from grape_spec.coq import certificate as certificates
from grape_spec.coq import certify as certify_module
from grape_spec.coq.certificate import (
    AXIOMS,
    KINDS,
    Certificate,
    NotCertified,
    axioms_in,
    certificate,
    certify,
    certify_all,
)
from grape_spec.coq.certify import (
    CERTIFIED,
    NOT_CERTIFIED,
    CertificateRecord,
    certify_claims,
    settled,
    states,
    theorems_of,
    write_subjects,
)
from grape_spec.coq.coqtop import ENDED, OUT_OF_TIME, coqc, version
from grape_spec.language.registry import CLAIMS, claim_of
from typer.testing import CliRunner

from grape_verified.cli import app
from grape_verified.conformance.ledger import Ledger, read, write

runner = CliRunner()

#: One small part of each kind of proof.
SAMPLE = (
    ("policy.softmax.jacobian", ""),
    ("kl.log_bound", "strict"),
    ("ppo.clip.gradient", "in the ratio"),  # a slope, case by case
    ("kl.nonnegative", "bound"),
    ("ppo.clip.sign_form", ""),
    ("trpo.conjugate_gradient", "n = 3: unknown 3 is found"),
    ("grpo.advantage.affine", "unit and origin"),  # a root that is a multiple of another
    ("grpo.advantage.bound", "bound"),  # a bound on a quotient by a root
    ("sapo.weight.bound", "below"),  # a square that a fact names is not negative
    ("grpo.advantage.binary", "of a failure"),  # a root that is a product of others, and masks
    ("aggregation.gradient", "sequence_mean"),  # a divisor that is at least 1
    ("advantage.gae.masked", "values of a whole sequence"),  # recursive, with other families put in
    ("trpo.pinsker", "the logarithm"),
    ("trpo.performance_difference", "responses of at most T tokens"),  # recursive, at another policy
    ("trpo.bound.responses", "from above"),  # an inequality with deltas, and a fact at another position
    ("ppo.adaptive_kl", "bound upwards"),
    ("rejection.best_of_n.kl_bound", "above the tangent"),
    ("reinforce.policy_gradient", "from any prefix"),  # the derivative of a recursion
    ("trpo.bound.responses", "no more than ε"),  # a bound by induction over depth
    ("trpo.bound.responses", "what all tokens miss"),  # what is assumed of every index, at an index of the statement
    ("rejection.best_of_n.law", "sums to one"),  # a chain with a fact that is rewritten with
    ("rejection.best_of_n.law", "once a sample has the reward"),  # the depth of a recursion as a number
)

#: Parts, and what makes each of them false.
FALSE = (
    ("policy.softmax.normalised", "", ") = 1.", ") = 2."),
    ("trpo.conjugate_gradient", "n = 3: unknown 3 is found", " = (", " = 2 * ("),
    ("grpo.advantage.unit_variance", "", "((INR G) - ddof).", "(INR G)."),
    ("grpo.advantage.binary", "of a success", "(1 - success_rate)", "(2 - success_rate)"),
    ("advantage.gae.masked", "values of a whole sequence", "counting token_values).", "counting value_noise)."),
    ("grpo.gradient", "of the objective", "(mask row position) / (denominator", "1 / (denominator"),
    ("grpo.advantage.bound", "bound", "((- 1 + (INR G)) / (sqrt (INR G)))", "(1 / (sqrt (INR G)))"),
    ("grpo.on_policy", "slope", "logp advantage.", "logp (2 * advantage)."),
    ("grpo.dapo", "loss", "(Rmax (1 - clip_low)", "(Rmin (1 - clip_low)"),
    ("trpo.pinsker", "the logarithm", "(2 * x * (2 + x))", "(2 * x * (1 + x))"),
    ("ppo.adaptive_kl", "bound upwards", " <= ", " < "),
    ("reinforce.policy_gradient", "all responses of at most T tokens", " left_ j 0 ", " left_ j 1 "),
    ("trpo.bound.responses", "no more than ε", " <= largest", " <= (largest / 2)"),
    ("rejection.best_of_n.law", "sums to one", ") = 1.", ") = 2."),
    ("rejection.best_of_n.law", "once a sample has the reward", "(share - ", "(2 * share - "),
)


def certificate_of(id, part="", kind="statement"):
    claim = claim_of(id)
    return certificate(claim, next(p for p in claim.parts if p.name == part), kind)


def proof(text, *lines, name="planted"):
    return Certificate(name, f"Theorem {name} : {text}.", lines, ())


@pytest.mark.parametrize(("id", "part"), SAMPLE)
@pytest.mark.parametrize("kind", ["statement", "values"])
def test_a_true_part_is_certified(coq, id, part, kind):
    entry = certificate_of(id, part, kind)
    if entry is not None:
        assert set(certify(coq, entry, 60)) <= AXIOMS


@pytest.mark.parametrize(("id", "part", "true", "false"), FALSE)
def test_a_false_statement_with_the_script_of_a_true_one_is_not(coq, id, part, true, false):
    entry = certificate_of(id, part)
    assert entry.theorem.count(true) == 1
    false = replace(entry, theorem=entry.theorem.replace(true, false))
    with pytest.raises(NotCertified):
        certify(coq, false, 60)


@pytest.mark.parametrize(
    "lines",
    [
        ("Admitted.",),
        ("Abort.", "Axiom planted : False."),
        ("exact I.", "Qed.", "Axiom more : False."),
        ("admit.", "Admitted."),
        ("{ Axiom more : False. }",),
    ],
)
def test_a_script_holds_no_commands(coq, lines):
    with pytest.raises(NotCertified, match="the script holds the command"):
        certify(coq, proof("False", *lines), 30)


def test_what_is_admitted_or_assumed_is_seen_even_if_the_script_is_not_read(coq, monkeypatch):
    monkeypatch.setattr(certificates, "refuse_commands", lambda script: None)
    for planted in (
        proof("False", "Abort.", "Axiom planted : False.", "Lemma other : True.", "exact I."),
        proof("False", "Abort.", "Axiom false : False.", "Lemma planted : False.", "exact false."),
        proof("False", "Admitted.", "Lemma other : True.", "exact I."),
    ):
        with pytest.raises(NotCertified, match="axioms that are not allowed"):
            certify(coq, planted, 30)


@pytest.mark.parametrize("position", [0, 1])
def test_every_theorem_of_a_part_is_asked_what_it_rests_on(coq, monkeypatch, position):
    monkeypatch.setattr(certificates, "refuse_commands", lambda script: None)
    planted = proof("False", "Abort.", "Axiom false : False.", "Lemma planted : False.", "exact false.")
    plain = proof("True", "exact I.", name="plain")
    assert certify_all(coq, [plain, replace(plain, name="other", theorem="Theorem other : True.")], 30) == ()
    with pytest.raises(NotCertified, match="axioms that are not allowed"):
        certify_all(coq, [planted, plain] if position else [plain, planted], 30)


def test_a_proof_that_is_given_up_is_not_certified(coq):
    with pytest.raises(NotCertified):
        certify(coq, proof("1 = 2", "lra."), 30)
    assert certify(coq, proof("(1 = 1)%nat", "reflexivity."), 30) == ()


def test_a_session_goes_on_after_errors_and_after_what_takes_too_long(coq):
    with pytest.raises(NotCertified, match="time limit"):
        certify(coq, proof("True", "do 1000000000 idtac.", "exact I."), 1)
    with pytest.raises(NotCertified):
        certify(coq, proof("True", "exact nothing."), 30)
    assert certify(coq, proof("True", "exact I."), 30) == ()


def test_the_list_of_axioms_is_read_as_coq_prints_it():
    printed = "Axioms:\nsig_forall_dec\n  : forall P : nat -> Prop,\n    {n : nat | ~ P n}\npart.more : False\n"
    assert axioms_in(printed) == ["sig_forall_dec", "part.more"]
    assert axioms_in("Closed under the global context\n") == []
    with pytest.raises(NotCertified):
        axioms_in("Error: planted not found")


def test_what_rests_on_what_is_not_certified_is_not_certified():
    def record(part, status, *rests_on):
        return CertificateRecord("a.b", part, status, "", 0.0, (), tuple(f"a.b [{p}]" for p in rests_on), "", part, "")

    first, *others = settled(
        [record("1", NOT_CERTIFIED), record("2", CERTIFIED, "1"), record("3", CERTIFIED, "2"), record("4", CERTIFIED)]
    )
    assert [r.status for r in (first, *others)] == [NOT_CERTIFIED] * 3 + [CERTIFIED]
    assert "a.b [1]" in others[0].reason


@pytest.mark.full("all but a sample of what Coq checks")
def test_no_theorem_rests_on_itself():
    for claim in CLAIMS.values():
        for position, part in enumerate(claim.parts):
            try:
                entry = certificate(claim, part)
            except ValueError:
                continue
            earlier = [p.name for p in claim.parts[:position]]
            before = list(CLAIMS)[: list(CLAIMS).index(claim.id)]
            for id, name in entry.uses:
                assert id in before or (id == claim.id and name in earlier)


@pytest.mark.full("all but a sample of what Coq checks")
def test_a_run_is_recorded_and_not_made_again(coq_folder):
    claims = [claim_of("policy.softmax.shift"), claim_of("ppo.clip.gradient")]
    records = certify_claims(claims)
    assert {r.claim for r in records} == {"policy.softmax.shift", "ppo.clip.gradient", "ppo.ratio.gradient"}
    assert all(r.status == CERTIFIED and r.coq == version() for r in records)
    kept = [replace(record, seconds=-1.0) for record in records]
    assert certify_claims(claims, known=kept) == tuple(kept)
    ledger = Ledger().with_certificates(records)
    assert ledger.certified(claims[0]) == "certified"
    assert ledger.certified(claim_of("kl.log_bound")) == "not run"
    changed = [replace(record, states="0" * 64) for record in records]
    assert Ledger().with_certificates(changed).certified(claims[0]) == "not run"


def test_what_a_text_is_made_from_has_not_changed(compiled, monkeypatch):
    """Then no text is written; else it is, and a record of the same text is kept."""
    claims = [claim_of("kl.k3.nonnegative")]
    records = certify_claims(claims)
    assert "kl.log_bound" in {r.claim for r in records}
    fallen = [replace(r, status=NOT_CERTIFIED, reason="it rests on another, not certified") for r in records]
    with monkeypatch.context() as m:
        m.setattr(certify_module, "certificate", None)
        assert certify_claims(claims, known=records) == records
        assert certify_claims(claims, known=fallen) == records
    written = []

    def counted(claim, part, kind):
        written.append((claim.id, part.name, kind))
        return certificate(claim, part, kind)

    monkeypatch.setattr(certify_module, "certificate", counted)
    monkeypatch.setattr(certify_module, "certify_all", None)  # Coq is not asked
    earlier = [replace(r, read="0" * 64) for r in records]
    assert certify_claims(claims, known=earlier) == records
    assert sorted(written) == sorted((r.claim, r.part, kind) for r in records for kind in KINDS)  # each text once


def test_what_coq_did_not_judge_is_tried_again(compiled, monkeypatch):
    """Out of time is no verdict, nor is a process that ended; an error is one."""
    claims, asked = [claim_of("policy.softmax.shift")], []
    checked = certify_module.certify_all
    monkeypatch.setattr(certify_module, "certify_all", lambda *given: asked.append(given[1][0]) or checked(*given))
    (slow,) = certify_claims(claims, limit=0.0)
    assert (slow.status, slow.reason) == (NOT_CERTIFIED, OUT_OF_TIME)
    assert certify_claims(claims, known=[slow])[0].status == CERTIFIED
    for reason, again in ((f"{ENDED}: killed by signal 9", True), ("No applicable tactic.", False)):
        for record in (replace(slow, reason=reason), replace(slow, reason=reason, read="0" * 64)):
            asked.clear()
            (found,) = certify_claims(claims, known=[record])
            assert (len(asked), found.status) == ((1, CERTIFIED) if again else (0, NOT_CERTIFIED))


@pytest.mark.full("all but a sample of what Coq checks")
def test_the_files_of_subjects_compile_by_themselves(coq_folder, tmp_path):
    claims = [claim_of("policy.softmax.normalised"), claim_of("kl.log_bound")]
    written = write_subjects(theorems_of(certify_claims(claims)), tmp_path)
    assert [file.name for file in written] == ["Definitions.v", "Tactics.v", "policy.v", "kl.v"]
    for file in written:
        assert coqc(file).returncode == 0


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command_adds_to_the_ledger_and_loses_nothing(coq_folder, tmp_path):
    path = tmp_path / "ledger.json"
    before = replace(Ledger(), created="2026-01-01T00:00:00+00:00", versions={"code": "of another day"})
    write(before, path)
    call = ["certify", "policy.softmax.shift", "--ledger", str(path), "--out", str(tmp_path / "files"), "--json"]
    result = runner.invoke(app, call)
    assert result.exit_code == 0
    assert [entry["status"] for entry in json.loads(result.stdout)] == ["certified"]
    assert replace(read(path), certificates=()) == before
    assert (tmp_path / "files" / "policy.v").exists()


def fake(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "Coq is not installed: run apt-get install coq libcoq-coquelicot"),
        ("echo 8.9.1", "Coq 8.9.1 is too old, expected 8.16 or newer"),
        ("echo broken >&2; exit 1", "coqc does not run: broken"),
        ("kill -9 $$", "coqc does not run"),
        ('case "$1" in --print-version) echo 8.16.1;; *) kill -9 $$;; esac', "it was killed by signal 9"),
        (
            'case "$1" in --print-version) echo 8.16.1;; '
            '*) echo "Cannot find a physical path bound to logical path Coquelicot." >&2; exit 1;; esac',
            "Coquelicot is not installed",
        ),
        (
            'case "$1" in --print-version) echo 8.16.1;; *) exit 0;; esac',
            "coqtop does not load the library",
        ),
    ],
)
def test_without_a_working_coq_there_is_one_line(tmp_path, monkeypatch, script, words):
    if script is not None:
        fake(tmp_path, "coqc", script)
        fake(tmp_path, "coqtop", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin" if script else str(tmp_path))
    path = tmp_path / "ledger.json"
    write(Ledger(created="2026-01-01T00:00:00+00:00"), path)
    kept = path.read_bytes()
    result = runner.invoke(app, ["certify", "policy.softmax.shift", "--ledger", str(path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert words in result.stderr
    assert path.read_bytes() == kept


def test_a_coq_that_is_killed_leaves_the_other_parts(coq, monkeypatch):
    process = coq._process
    process.kill()
    process.wait()
    with pytest.raises(NotCertified, match="killed by signal 9"):
        certify(coq, proof("True", "exact I."), 30)
    assert certify(coq, proof("True", "exact I."), 30) == ()


def test_the_hash_of_what_is_stated_changes_with_it():
    claim = claim_of("policy.softmax.shift")
    (part,) = claim.parts
    other = replace(part, assuming=(*part.assuming, claim_of("kl.log_bound").parts[1].assuming[0]))
    assert states(part, claim) != states(other, replace(claim, parts=(other,)))
