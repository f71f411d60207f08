"""What the README says is so."""

import re
from pathlib import Path

import pytest
from grape_spec.language.registry import CLAIMS

from grape_verified.conformance import CONTRACTS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_every_example_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_claims_that_it_names_exist():
    named = re.findall(r"grape-verified (?:show|cite) (\S+)", README)
    assert named
    assert set(named) <= set(CLAIMS)


def test_it_lists_every_contract():
    listed = re.search(r"Contracts: (.*?)\.\n", README, re.DOTALL).group(1)
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(CONTRACTS)


def test_two_commands_do_the_set_up_and_the_last_runs_the_default_tier():
    commands = re.findall(r"^python3 -m venv.*", README, re.MULTILINE)
    assert len(commands) == 2
    assert commands[1].endswith(".venv/bin/pytest -n 2")
