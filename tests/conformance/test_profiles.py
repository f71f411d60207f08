"""Profiles of trainers: what they name is checked as it is called there, and what was found is recorded."""

import json
import sys
from dataclasses import replace

import pytest

from grape_verified.cli import profile as command
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.checking import checked_options
from grape_verified.conformance.profiles import (
    PROFILES,
    Entry,
    NotARun,
    NotInstalled,
    Profile,
    profile_named,
    read,
    run,
)
from grape_verified.conformance.profiles.recorded import SCHEMA
from grape_verified.conformance.subject import by_signature
from tests.test_cli import call

LOSSES = """
from grape_verified import ppo_loss

def right(log_probs, old_log_probs, advantages, action_mask, clip_eps=0.2):
    loss = ppo_loss(log_probs, old_log_probs, advantages, action_mask, clip_low=clip_eps, clip_high=clip_eps).loss
    return loss, {"clipped": 0}

def wrong(logps, old_logps, advantages, mask):
    return -ppo_loss(logps, old_logps, advantages, mask).loss

def weak(logps, old_logps, advantages, mask):
    return right(logps, old_logps, advantages, mask)[0] + (0 * logps).sum()
"""

EXTRA = """
from a_module_that_there_is_not import kernel
from of_a_trainer.losses import right as loss
"""

ENTRIES = (
    Entry("right", "of_a_trainer.losses:right", "ppo"),
    Entry("wrong", "of_a_trainer.losses:wrong", "ppo", setting="mode='wrong'", options={"clip_low": 0.2}),
    Entry("weak", "of_a_trainer.losses:weak", "ppo"),
    Entry("gone", "of_a_trainer.losses:renamed", "ppo"),
    Entry("cut", "of_a_trainer.extra:loss", "ppo"),
)
TRAINER = Profile("trainer", "of-a-trainer", "1.2", ENTRIES)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A trainer of version 1.2.3 that is installed."""
    package, about = tmp_path / "of_a_trainer", tmp_path / "of_a_trainer-1.2.3.dist-info"
    for folder in (package, about):
        folder.mkdir()
    (package / "losses.py").write_text(LOSSES, encoding="utf-8")
    (package / "extra.py").write_text(EXTRA, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: of-a-trainer\nVersion: 1.2.3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(command, "profile_named", lambda name: TRAINER)


def test_each_function_gets_its_verdicts_and_what_cannot_be_imported_its_reason(installed):
    told = []
    found = run(TRAINER, 10, lambda entry: told.append(entry.name))
    assert told == ["right", "wrong", "weak", "gone", "cut"]
    formulas = {row.name: row.formula for row in found.functions}
    assert formulas == {"right": "right", "wrong": "wrong", "weak": "right", "gone": "not run", "cut": "not run"}
    robustness = [row.robustness for row in found.functions]
    assert (robustness[0], robustness[2], robustness[3]) == ("no findings", "1 finding", "not run")
    reasons = [row.reason for row in found.functions]
    assert "renamed" in reasons[3]
    assert reasons[4] == "ModuleNotFoundError: No module named 'a_module_that_there_is_not'"
    assert found.version == "1.2.3"
    assert found.examples == 10
    wrong = found.functions[1]
    assert (wrong.setting, wrong.options) == ("mode='wrong'", {"clip_low": 0.2})
    assert wrong.findings[0].verdict == "formula"
    assert "from of_a_trainer.losses import wrong" in wrong.findings[0].counterexample


def test_an_empty_module_stands_in_for_one_that_is_not_used(installed):
    some = replace(TRAINER, entries=ENTRIES[4:], unused=("a_module_that_there_is_not", "json"))
    (row,) = run(some, 5).functions
    assert (row.formula, row.reason) == ("right", "")
    assert "a_module_that_there_is_not" not in sys.modules
    assert json.loads("1") == 1  # what is installed is used


def test_the_table_has_a_line_for_each_function_with_what_was_found_first(installed):
    status, out, err = call("check", "--profile", "trainer", "--examples", "10")
    assert (status, err) == (1, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert lines["right"].split()[1:5] == ["ppo", "right", "no", "findings"]
    assert lines["wrong"].split()[1:3] == ["ppo", "wrong"]
    assert "value: the loss is" in lines["wrong"]
    assert "masked values: the loss is nan" in lines["weak"]
    assert "not run" in lines["gone"]
    assert lines["of-a-trainer"].startswith("of-a-trainer 1.2.3, torch ")


def test_the_exit_status_follows_what_counts(installed, monkeypatch):
    for entries, on, status in ((ENTRIES[:1], "all", 0), (ENTRIES[2:3], "formula", 0), (ENTRIES[2:3], "all", 1)):
        monkeypatch.setattr(command, "profile_named", lambda name, entries=entries: replace(TRAINER, entries=entries))
        assert call("check", "--profile", "trainer", "--examples", "5", "--fail-on", on)[0] == status


def test_another_release_is_said_in_a_line_and_recorded(installed, monkeypatch):
    older = replace(TRAINER, release="1.1", entries=ENTRIES[:1])
    monkeypatch.setattr(command, "profile_named", lambda name: older)
    _, out, err = call("check", "--profile", "trainer", "--examples", "5", "--json")
    assert err.splitlines() == [
        "grape-verified: of-a-trainer 1.2.3 is installed, but the profile was written for 1.1.*"
    ]
    record = json.loads(out)
    assert (record["versions"]["of-a-trainer"], record["release"]) == ("1.2.3", "1.1")
    assert not replace(older, release="1.2").outside("1.2.3")
    assert replace(older, release="1.2").outside("1.20.0")


def test_a_trainer_that_is_not_installed_is_a_line_with_the_command():
    with pytest.raises(NotInstalled):
        run(TRAINER)
    status, out, err = call("check", "--profile", "openrlhf")
    assert (status, out) == (2, "")
    assert err == "grape-verified: openrlhf is not installed: run pip install 'openrlhf==0.11.*'\n"


NEITHER = (
    "check: expected MODULE:FUNCTION and --as CONTRACT, or --profile TRAINER; if you do not know the contract, run "
    "identify"
)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--profile", "nemo"], "profile: got 'nemo', expected one of trl, verl, openrlhf, torchtune, torchrl, liger"),
        (["--profile", "trl", "m:f"], "--profile: got it together with a function or its options, expected it alone"),
        (["--profile", "trl", "--option", "clip_low=0.1"],
         "--profile: got it together with a function or its options, expected it alone"),
        ([], NEITHER),
        (["m:f"], NEITHER),
    ],
)  # fmt: skip
def test_a_call_that_is_none_is_refused_in_a_line(arguments, line):
    assert call("check", *arguments) == (2, "", f"grape-verified: {line}\n")


def test_what_is_recorded_is_read_again(installed, tmp_path):
    _, out, _ = call("check", "--profile", "trainer", "--examples", "5", "--json")
    path = tmp_path / "trainer.json"
    path.write_text(out, encoding="utf-8")
    found = read(path)
    assert found.as_dict() == json.loads(out)
    assert [row.name for row in found.functions] == ["right", "wrong", "weak", "gone", "cut"]
    for other, said in (
        (json.loads(out) | {"schema": SCHEMA + 1}, f"has the schema {SCHEMA + 1}, expected {SCHEMA}"),
        (json.loads(out) | {"examples": "many"}, "examples: got str, expected int"),
        ({}, "is no recorded run"),
        ([], "is no recorded run"),
    ):
        path.write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(NotARun, match=said):
            read(path)
    path.write_text("no JSON", encoding="utf-8")
    with pytest.raises(NotARun, match="is no recorded run"):
        read(path)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_read_without_its_trainer(name):
    profile = profile_named(name)
    assert profile.name == name
    names = [entry.name for entry in profile.entries]
    assert len(set(names)) == len(names) > 0
    for entry in profile.entries:
        contract = CONTRACTS[entry.contract]
        module, _, symbol = entry.symbol.partition(":")
        assert module
        assert symbol
        with_habits = contract.with_habits(entry.habits)
        assert checked_options(with_habits, entry.options).items() >= entry.options.items()
        if entry.function is not None:  # it takes the contract's tensors
            by_signature(entry.function, contract, entry.options, entry.bind)


def test_a_counterexample_of_a_profile_runs():
    """Liger is installed with the other packages of the tests."""
    profile = profile_named("liger")
    some = replace(profile, entries=tuple(entry for entry in profile.entries if entry.name in ("dapo", "dpo")))
    dapo, dpo = run(some, 10).functions
    assert (dapo.formula, dpo.formula) == ("right", "right")
    assert not dpo.findings
    masked = next(found for found in dapo.findings if found.property == "masked values")
    shown = {}
    exec(masked.counterexample, shown)
    assert shown["result"].isnan()
