"""docs/rubrics.md is right: its files are read, and its Python runs from top to bottom."""

import re
from pathlib import Path

import pytest

from grape_verified.rubrics import load_rubrics
from grape_verified.rubrics.verifiers import VERIFIERS

PAGE = Path(__file__).parent.parent.parent / "docs" / "rubrics.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that holds the page's files."""
    for language in ("toml", "yaml"):
        (block,) = blocks(language)
        (tmp_path / f"rubrics.{language}").write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_example_runs(folder, model, tokenizer):
    assert len(blocks("python")) == TEXT.count("```python") > 3
    names = {"model": model, "tokenizer": tokenizer}
    for block in blocks("python"):
        exec(compile(block, "rubrics.md", "exec"), names)


def test_the_error_that_it_shows(folder):
    wrong = Path("rubrics.toml").read_text().replace("weight = 1\n", "wieght = 1\n", 1)
    Path("rubrics.toml").write_text(wrong)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        load_rubrics("rubrics.toml")
    assert str(caught.value) in " ".join(TEXT.split())


def test_it_lists_every_verifier():
    assert re.findall(r"^\| `(\w+_\w+)` \|", TEXT, re.MULTILINE) == list(VERIFIERS)
