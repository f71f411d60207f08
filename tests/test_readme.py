"""What the README says is so."""

import inspect
import re
from pathlib import Path

import pytest
from grape_spec.coq.coqtop import INSTALL, OLDEST
from grape_spec.language.registry import CLAIMS

import grape_verified
from grape_verified.conformance import CONTRACTS, check
from grape_verified.conformance.subjects import SUBJECTS
from grape_verified.docs.reference import names_of

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_every_example_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_report_on_the_textbook_loss_ends_as_it_says():
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "policy_loss" in code)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert len(block.splitlines()) <= 10
    told = re.search(r"ends: \*(.*?)\*", README, re.DOTALL)[1]
    assert check(names["policy_loss"], "ppo").in_words() == " ".join(told.split())


def test_the_claims_that_it_names_exist():
    named = re.findall(r"grape-verified (?:show|cite) ([\w.]+)", README)
    assert named
    assert set(named) <= {*CLAIMS, *CONTRACTS}


def test_it_says_what_certify_needs():
    told = README.split("`grape-verified certify`")[1].split("\n\n")[0]
    assert f"`{INSTALL}`" in told
    assert f"Coq {OLDEST[0]}.{OLDEST[1]} or later" in " ".join(told.split())


def test_it_lists_every_contract():
    listed = re.search(r"Contracts: (.*?)\.\n", README, re.DOTALL).group(1)
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(CONTRACTS)


def test_two_commands_do_the_set_up_and_the_last_runs_the_default_tier():
    commands = re.findall(r"^python3 -m venv.*", README, re.MULTILINE)
    assert len(commands) == 2
    assert commands[1].endswith(".venv/bin/pytest -n 2")


def test_its_table_names_every_public_function_of_every_subject():
    """But for those before reduction, of which one sentence speaks."""
    table = README.split("| method | functions |")[1].split("\n\n")[0]
    functions = {name for name in grape_verified.__all__ if inspect.isfunction(getattr(grape_verified, name))}
    unreduced = {name for name in functions if "_per_" in name}
    named = set(re.findall(r"`(\w+)`", table))
    assert named == functions - unreduced
    rows = [set(re.findall(r"`(\w+)`", row)) for row in table.splitlines()]
    for subject in SUBJECTS:
        mine = named & set(names_of(subject))
        assert any(mine <= row for row in rows), f"{subject} is in more than one row"
