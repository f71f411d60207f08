"""A broken or killed Coq, a full disk: one line, nothing lost from the ledger, nothing believed that was cut off."""

import errno
import json
import os
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from signal import SIGINT, default_int_handler, pthread_kill, signal
from threading import Timer, main_thread
from threading import enumerate as threads

import pytest
from grape_spec.coq import certify, coqtop
from grape_spec.coq.certificate import NotCertified
from grape_spec.coq.certify import CERTIFIED, NOT_CERTIFIED, CertificateRecord, certify_claims, label
from grape_spec.coq.coqtop import CoqMissing, Session
from grape_spec.language.registry import claim_of
from typer.testing import CliRunner

from grape_verified.cli import app, commands, given, progress
from grape_verified.conformance import verification
from grape_verified.conformance.ledger import Ledger, read, write
from tests.coq.test_certificates import fake
from tests.test_cli import call

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
KILLED, OTHER = "policy.softmax.shift", "policy.softmax.normalised"


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A ledger with a date and a certificate, in the current folder; nothing is added to it while a run goes on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(given, "KEPT_EVERY", inf)
    path = tmp_path / "ledger.json"
    kept = CertificateRecord("kl.log_bound", "bound", NOT_CERTIFIED, "planted", 1.0, (), (), "8.16.1", "0", "0")
    write(Ledger(created="2026-01-01T00:00:00+00:00", certificates=(kept,)), path)
    return path


@pytest.fixture
def killed(monkeypatch):
    """Each coqtop is killed when it is asked about one claim."""
    asked = Session.ask

    def ask(self, text, limit):
        if "Theorem policy_softmax_shift " in text:
            self._process.kill()
        return asked(self, text, limit)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "ask", ask)
        yield patch


@pytest.fixture
def interrupted(monkeypatch):
    """An interrupt a second after Coq has begun with one claim, and what Coq then answers."""
    asked, answers = Session.ask, []

    def ask(self, text, limit):
        if "Theorem policy_softmax_shift " not in text:
            return asked(self, text, limit)
        Timer(1.0, pthread_kill, (main_thread().ident, SIGINT)).start()
        answer = asked(self, "Goal True. do 1000000000 idtac.", limit)
        answers.append(answer.error)
        return answer

    monkeypatch.setattr(Session, "ask", ask)
    handler = signal(SIGINT, default_int_handler)  # a shell starts what runs behind it with interrupts ignored
    yield answers
    signal(SIGINT, handler)


def refused(*arguments, ledger):
    """The one line of a call that is refused and leaves the ledger as it was."""
    before, beside = ledger.read_bytes(), sorted(ledger.parent.iterdir())
    status, out, err = call(*arguments, "--ledger", str(ledger))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert ledger.read_bytes() == before
    assert sorted(ledger.parent.iterdir()) == beside
    return err.removeprefix("grape-verified: ").strip()


def no_space(real, *names):
    """A way to write that fails for files of these names."""

    def write_text(self, *arguments, **options):
        if self.name.startswith(names):
            raise FULL
        return real(self, *arguments, **options)

    return write_text


# -- killed ------------------------------------------------------------------------------------------------------


def test_a_coqtop_that_is_killed_costs_its_part_and_the_next_run_repeats_it(compiled, ledger, killed):
    status, out, _ = call("certify", KILLED, OTHER, "--ledger", str(ledger))
    assert status == 1
    assert f"{KILLED}: coqtop ended: killed by signal 9\n" in out
    assert "1 of 2 parts and 1 of 2 claims certified" in out
    seen = read(ledger)
    assert seen.created == "2026-01-01T00:00:00+00:00"
    found = {record.claim: record.status for record in seen.certificates}
    assert found == {"kl.log_bound": NOT_CERTIFIED, KILLED: NOT_CERTIFIED, OTHER: CERTIFIED}
    killed.undo()
    records = certify_claims([claim_of(KILLED), claim_of(OTHER)], known=seen.certificates)
    assert [record.status for record in records] == [CERTIFIED, CERTIFIED]
    assert records[[record.claim for record in records].index(OTHER)] in seen.certificates


def test_a_coqtop_that_does_not_start_again_ends_the_run(compiled, ledger, killed):
    start = Session._start

    def once(self):
        if hasattr(self, "_began"):
            killed.setenv("PATH", "")
        self._began = True
        start(self)

    killed.setattr(Session, "_start", once)
    assert refused("certify", KILLED, ledger=ledger) == "coqtop does not run: No such file or directory"


def test_an_interrupt_ends_the_run_and_what_is_being_checked(compiled, ledger, interrupted):
    finished, before = [], set(threads())
    with pytest.raises(KeyboardInterrupt):
        certify_claims([claim_of(KILLED), claim_of("ppo.clip.gradient")], finished=finished.append)
    assert interrupted == ["coqtop ended: killed by signal 9"]
    assert KILLED not in {record.claim for record in finished}  # nothing is said of what was cut off
    left = {thread for thread in set(threads()) - before if not isinstance(thread, Timer)}
    assert not any(thread.is_alive() for thread in left)  # one that has ended may still be listed


def test_a_coqtop_that_does_nothing_is_given_up(tmp_path, ledger, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    fake(folder, "coqc", 'case "$1" in --print-version) echo 8.16.1;; *) exit 0;; esac')
    fake(folder, "coqtop", "exec sleep 100")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    monkeypatch.setattr(coqtop, "IDLE", 1.0)
    line = refused("certify", KILLED, ledger=ledger)
    assert line == "coqtop does not load the library: no answer within the time limit"


# -- a run that ends early ---------------------------------------------------------------------------------------


def certified_in(ledger):
    return {label(record.claim, record.part) for record in read(ledger).certificates if record.status == CERTIFIED}


def test_an_interrupt_leaves_the_certificates_in_the_ledger(compiled, ledger, interrupted, monkeypatch):
    monkeypatch.setattr(progress, "certify_claims", partial(certify_claims, processes=1))
    result = CliRunner().invoke(app, ["certify", OTHER, KILLED, "--ledger", str(ledger)])
    assert result.exit_code != 0
    assert certified_in(ledger) == {OTHER}
    assert {record.claim for record in read(ledger).certificates} == {OTHER, "kl.log_bound"}
    assert [path.name for path in ledger.parent.iterdir()] == ["ledger.json"]


@pytest.mark.parametrize("failure", [CoqMissing("planted"), RuntimeError("planted")])
def test_an_error_in_one_part_leaves_the_certificates_of_others(compiled, ledger, monkeypatch, failure):
    checked = certify.certify_all

    def failing(session, entries, limit):
        if entries[0].name == "policy_softmax_shift":
            raise failure
        return checked(session, entries, limit)

    monkeypatch.setattr(certify, "certify_all", failing)
    result = CliRunner().invoke(app, ["certify", OTHER, KILLED, "--ledger", str(ledger)])
    assert result.exit_code == (2 if isinstance(failure, CoqMissing) else 1)
    assert certified_in(ledger) == {OTHER}


def test_certificates_are_in_the_ledger_before_the_run_ends(compiled, ledger, monkeypatch):
    """As far as they rest on nothing that is still to come."""
    base, top = "kl.log_bound", "kl.k3.nonnegative"
    records = certify_claims([claim_of(top)])
    resting = {label(top, record.part) for record in records if record.rests_on}
    assert resting
    seen = []

    def one_by_one(claims, *, known, started, finished):
        for record in sorted(records, key=lambda record: record.claim == base):
            finished(record)
            seen.append(certified_in(ledger))
        return records

    monkeypatch.setattr(progress, "certify_claims", one_by_one)
    monkeypatch.setattr(given, "KEPT_EVERY", 0.0)
    assert call("certify", top, "--ledger", str(ledger))[0] == 0
    alone = {label(top, record.part) for record in records if record.claim == top} - resting
    before = [found for found in seen if not any(name.startswith(base) for name in found)]
    assert before[-1] == alone
    assert seen[-1] == {label(record.claim, record.part) for record in records} == certified_in(ledger)


def test_an_interrupt_of_verify_leaves_what_it_has_found_in_the_ledger(ledger, monkeypatch):
    run_task = verification.run_task

    def interrupted_at_the_second(task, examples):
        if task == ("claim", "kl.nonnegative"):
            raise KeyboardInterrupt
        return run_task(task, examples)

    monkeypatch.setattr(verification, "run_task", interrupted_at_the_second)
    result = CliRunner().invoke(app, ["verify", "kl.nonnegative", "--examples", "1", "--ledger", str(ledger)])
    assert result.exit_code != 0
    assert [(record.id, record.status) for record in read(ledger).claims] == [("kl.log_bound", "proved")]
    assert [record.claim for record in read(ledger).certificates] == ["kl.log_bound"]


# -- no space ----------------------------------------------------------------------------------------------------


def test_no_space_for_the_library(coq_folder, ledger, monkeypatch):
    monkeypatch.setattr(Path, "write_text", no_space(Path.write_text, "Tactics.v"))
    line = refused("certify", KILLED, ledger=ledger)
    assert line.startswith("cannot write to the temporary folder ")
    assert line.endswith(": No space left on device")


def test_no_temporary_folder(coq_folder, ledger, monkeypatch):
    def nowhere(**options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(certify, "TemporaryDirectory", nowhere)
    line = refused("certify", KILLED, ledger=ledger)
    assert line == "there is no temporary folder: No usable temporary directory found in ['/tmp']"


def test_a_part_that_fails_on_a_full_disk_is_not_recorded(compiled, ledger, monkeypatch):
    """Coq's tactics that keep files fail there with `No applicable tactic`, or say nothing."""

    def failing(*arguments):
        raise NotCertified("No applicable tactic.")

    def full(**options):
        raise FULL

    monkeypatch.setattr(certify, "certify_all", failing)
    with monkeypatch.context() as patch:
        patch.setattr(coqtop, "NamedTemporaryFile", full)
        line = refused("certify", KILLED, ledger=ledger)
        assert line.startswith("cannot write to the temporary folder ")
        assert line.endswith(": No space left on device")
    status, out, _ = call("certify", KILLED, "--ledger", str(ledger))
    assert status == 1
    assert f"{KILLED}: No applicable tactic.\n" in out


def test_no_space_for_the_ledger(ledger, monkeypatch):
    monkeypatch.setattr(progress, "certify_claims", lambda *arguments, **options: ())
    monkeypatch.setattr(Path, "write_text", no_space(Path.write_text, "ledger.json"))
    expected = f"--ledger: cannot write {ledger}: No space left on device"
    assert refused("certify", KILLED, ledger=ledger) == expected
    assert refused("verify", "kl.log_bound", ledger=ledger) == expected


def test_no_space_for_the_theorems_leaves_the_certificates_in_the_ledger(ledger, monkeypatch):
    record = replace(read(ledger).certificates[0], claim=KILLED, part="", reason="new")
    monkeypatch.setattr(progress, "certify_claims", lambda *arguments, **options: (record,))
    monkeypatch.setattr(Path, "write_text", no_space(Path.write_text, "Definitions.v"))
    status, out, err = call("certify", KILLED, "--ledger", str(ledger), "--out", "theorems")
    assert (status, out) == (2, "")
    assert err == "grape-verified: --out: cannot write theorems: No space left on device\n"
    assert {record.claim for record in read(ledger).certificates} == {KILLED, "kl.log_bound"}


@pytest.mark.parametrize("arguments", [("certify", KILLED, "--out"), ("verify", "kl.log_bound", "--smt2")])
def test_a_file_in_place_of_a_folder_is_said_before_the_work(ledger, monkeypatch, arguments):
    monkeypatch.setattr(progress, "certify_claims", None)
    monkeypatch.setattr(commands.verification, "verify", None)
    line = refused(*arguments, str(ledger), ledger=ledger)
    assert line == f"{arguments[-1]}: cannot write {ledger}: File exists"
    json.loads(ledger.read_text())
