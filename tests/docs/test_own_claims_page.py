"""The page about claims of one's own: its files and commands, taken from its text, give what it shows."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.docs.test_code_blocks import DOCS, blocks, shows
from tests.test_cli import call
from tests.test_outside import folder  # noqa: F401 - a fixture

BLOCKS = blocks(DOCS / "guide" / "own_claims.md")


@pytest.fixture
def page(folder):  # noqa: F811
    """The files of the page in an empty folder; gives each command with what is shown below it."""
    for block in BLOCKS:
        if block.file not in ("", "pyproject.toml"):
            (folder / block.file).write_text(block.text, encoding="utf-8")
    shown = [block.text.rstrip().split("\n") for block in BLOCKS if block.language == "console"]
    ours = [(command.removeprefix("$ grape-verified "), lines) for command, *lines in shown if "$ grape" in command]
    return [(shlex.split(command), lines) for command, lines in ours]


def plain(lines):
    """Lines without what differs from run to run: dates, durations, the width of columns, and counts in tables."""
    found = []
    for text in lines:
        line = re.sub(r"\d{4}-\d\d-\d\dT\S+(?=:)|\d+\.\d+|\d+(?= ms)", "#", text)
        counts = line.startswith(("simpo.", "simpo_loss  my_simpo"))
        found.append(" ".join((re.sub(r"\d+/\d+|\d+", "#", line) if counts else line).split()))
    return found


def check(arguments, lines, expected=0):
    status, out, err = call(*arguments)
    assert status == expected, err
    assert shows(plain(lines), plain(out.rstrip().split("\n"))), out


def test_the_commands_print_what_the_page_shows(page):
    verify, again, _, listed, *_ = page
    assert [arguments[0] for arguments, _ in page[:4]] == ["verify", "verify", "certify", "list"]
    check(*verify)
    check(*again)
    check(listed[0], [line.replace("certified", "not run") for line in listed[1]])


def test_the_commands_about_contracts_print_what_the_page_shows(page):
    right, wrong, named, verified = page[4:]
    assert [arguments[0] for arguments, _ in page[4:]] == ["check", "check", "identify", "verify"]
    check(*right)
    check(*wrong, 1)
    check(*named)
    check(*verified)


def test_its_file_of_tests_passes(page, folder):  # noqa: F811
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_simpo.py"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert run.stdout.splitlines()[-1].startswith("1 passed in ")


@pytest.mark.full("all but a sample of what Coq checks")
@pytest.mark.skipif(shutil.which("coqc") is None, reason="Coq is not installed")
def test_certify_prints_what_the_page_shows(page, folder):  # noqa: F811
    _, _, certify, listed, *_ = page
    check(*certify)
    check(listed[0], [line.replace("fully proved", "not run") for line in listed[1]])
    assert (folder / "proofs" / "simpo.v").is_file()


def test_certify_without_coq_is_one_sentence(page, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (certify,) = (arguments for arguments, _ in page if arguments[0] == "certify")
    status, out, err = call(*certify)
    assert (status, out) == (2, "")
    assert "apt-get install" in err
    assert err.strip().startswith("grape-verified: ")
    assert err.strip().count("\n") == 0


def test_its_other_commands_work(page):
    text = (DOCS / "guide" / "own_claims.md").read_text(encoding="utf-8")
    commands = re.findall(r"`grape-verified ((?:show|cite) [^`]*)`", text)
    assert len(commands) == 3
    for command in commands:
        assert call(*command.split())[0] == 0


def test_a_wrong_line_on_the_page_is_noticed(page):
    arguments, lines = page[0]
    wrong = [line.replace("fully proved  all sizes", "unknown") for line in lines]
    with pytest.raises(AssertionError):
        check(arguments, wrong)
