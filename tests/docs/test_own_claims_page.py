"""The page about claims of one's own: its files and commands, taken from its text, give what it shows."""

import re
import shlex
import shutil

import pytest

from tests.docs.test_code_blocks import DOCS, blocks, shows
from tests.test_cli import call
from tests.test_outside import folder  # noqa: F401 - a fixture

BLOCKS = blocks(DOCS / "guide" / "own_claims.md")


@pytest.fixture
def page(folder):  # noqa: F811
    """The files of the page in an empty folder; gives each command with what is shown below it."""
    for block in BLOCKS:
        if block.file in ("simpo.py", "references.bib"):
            (folder / block.file).write_text(block.text, encoding="utf-8")
    shown = [block.text.rstrip().split("\n") for block in BLOCKS if block.language == "console"]
    return [(shlex.split(command.removeprefix("$ grape-verified ")), lines) for command, *lines in shown]


def plain(lines):
    """Lines without what differs from run to run: dates, durations, the width of columns, and counts in tables."""
    found = []
    for text in lines:
        line = re.sub(r"\d{4}-\d\d-\d\dT\S+(?=:)|\d+\.\d+|\d+(?= ms)", "#", text)
        found.append(" ".join(re.sub(r"\d+/\d+|\d+", "#", line).split() if line.startswith("simpo.") else line.split()))
    return found


def check(arguments, lines):
    status, out, err = call(*arguments)
    assert status == 0, err
    assert shows(plain(lines), plain(out.rstrip().split("\n"))), out


def test_the_commands_print_what_the_page_shows(page):
    verify, again, _, listed = page
    assert [arguments[0] for arguments, _ in page] == ["verify", "verify", "certify", "list"]
    check(*verify)
    check(*again)
    check(listed[0], [line.replace("certified", "not run") for line in listed[1]])


@pytest.mark.full("all but a sample of what Coq checks")
@pytest.mark.skipif(shutil.which("coqc") is None, reason="Coq is not installed")
def test_certify_prints_what_the_page_shows(page, folder):  # noqa: F811
    _, _, certify, listed = page
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
    assert len(commands) == 2
    for command in commands:
        assert call(*command.split())[0] == 0


def test_a_wrong_line_on_the_page_is_noticed(page):
    arguments, lines = page[0]
    wrong = [line.replace("fully proved  all sizes", "unknown") for line in lines]
    with pytest.raises(AssertionError):
        check(arguments, wrong)
