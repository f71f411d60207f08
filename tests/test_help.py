"""What the commands say of themselves, and of what can be asked of them."""

import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from grape_verified.cli import app
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.checking import with_habits

COMMANDS = get_command(app).commands


def printed(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_first_sentence_of_each_command_is_shown_whole():
    listed = printed("--help").split("Commands:\n")[1].splitlines()
    assert len(listed) == len(COMMANDS)
    for line in listed:
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not hasattr(command, "commands")])
def test_an_option_names_its_value_in_words(name):
    assert not re.search(r"--\w+ <(?:str|path|int range)>", printed(name, "--help"))


def test_only_the_commands_that_choose_by_module_say_so():
    choosing = {name for name in COMMANDS if "only its own are used" in " ".join(printed(name, "--help").split())}
    assert choosing == {"verify", "certify", "list"}
    assert "or a contract" not in printed("cite", "--help")


@pytest.mark.parametrize("contract", ["ppo", "gspo", "group_advantages", "whiten"])
def test_the_habits_that_show_lists_can_be_asked_for(contract):
    (line,) = (line for line in printed("show", contract).splitlines() if line.startswith("habits: "))
    for habit in line.removeprefix("habits: ").split(", "):
        assert with_habits(contract, [habit]) is not CONTRACTS[contract]


def test_a_contract_without_habits_has_no_line_for_them():
    assert "habits" not in printed("show", "bradley_terry_per_pair")
