"""The pages written by hand: their Python runs from top to bottom, and the reports that they show are today's."""

import io
import re
import shlex
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from typer.testing import CliRunner

from grape_verified.cli import app

DOCS = Path(__file__).parent.parent.parent / "docs"

#: Pages that have tests of their own: tests/rubrics/test_rubrics_page.py, tests/docs/test_own_claims_page.py.
ELSEWHERE = {"rubrics.md", "own_claims.md"}

PAGES = [page for folder in (DOCS, DOCS / "chapters", DOCS / "guide") for page in sorted(folder.glob("*.md"))]

#: A line that stands for omitted lines.
LEFT_OUT = "[…]"

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)


#: A comment behind a call of print that gives what it prints, and not a remark: it begins as a value does.
_OUTPUT = re.compile(r"^ *print\(.*\)  # (?=[-\d\[({'\"]|tensor\(|True|False|None)(.*)$", re.MULTILINE)

#: Comments on lines of their own below a call of print.
_BELOW = re.compile(r"^ *print\(.*\n((?:^# .*\n)+)", re.MULTILINE)

_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of code on a page, and the name of the file that it is, if it has one."""

    language: str
    text: str
    file: str = ""


def blocks(page):
    """The blocks of a page, in order."""
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(b["language"], dedent(b["text"]), _title(b["rest"])) for b in found]


def _title(rest):
    title = re.search(r'title="([^"]+)"', rest)
    return title[1] if title else ""


def says(comment, line):
    """Whether a comment begins with a line that was printed, numbers being the same in four digits."""
    pattern = rf"({_NUMBER.pattern})".join(map(re.escape, _NUMBER.split(line)))
    found = re.match(rf"{pattern}(?=$|[,;:] )", comment)
    if not (line and found):
        return False
    pairs = zip(map(float, found.groups()), map(float, _NUMBER.findall(line)), strict=True)
    return all(a == pytest.approx(b, rel=1e-4, abs=0) for a, b in pairs)


def outputs(text):
    """The comments of a block that give what it prints: behind a call of print, or below it and with a number."""
    below = [line[2:] for found in _BELOW.findall(text) for line in found.splitlines()]
    return [*_OUTPUT.findall(text), *(line for line in below if _NUMBER.search(line))]


def reports(text):
    """What a block shows of `check` and `identify`: the arguments of each call, and the lines printed below it."""
    for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *printed = shown.rstrip().split("\n")
        if command.startswith(("grape-verified check ", "grape-verified identify ")) and printed:
            yield shlex.split(command)[1:], [line.rstrip() for line in printed]


def shows(shown, printed):
    """Whether lines on a page are the lines that were printed, but for those that the page says it leaves out."""
    pieces = "\n".join(shown).split(f"\n{LEFT_OUT}\n")
    exactly = ".*".join(re.escape(f"{piece}\n") for piece in pieces)
    return re.fullmatch(exactly, "".join(f"{line}\n" for line in printed), re.DOTALL) is not None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, as the current one, from which modules can be imported that are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    yield tmp_path
    torch.set_rng_state(state)
    torch.set_default_dtype(dtype)
    forget(tmp_path)


def forget(folder):
    """Forget the modules imported from a folder."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def put(block, folder):
    """Write a block that is a file."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
        forget(folder)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: page.stem)
def test_the_python_of_every_page_runs(page, folder):
    names = {"__name__": page.stem}
    for block in blocks(page):
        put(block, folder)
        if block.language == "python":
            with redirect_stdout(io.StringIO()) as out:
                exec(compile(block.text, page.name, "exec"), names)
            lines = out.getvalue().split("\n")
            for comment in outputs(block.text):
                assert any(says(comment, line) for line in lines), f"{comment!r} is not what is printed: {lines}"


def test_every_symptom_can_be_tried_by_itself(folder):
    """Who copies one block has not run the blocks above it."""
    page = next(page for page in PAGES if page.name == "symptoms.md")
    for block in blocks(page):
        put(block, folder)
        if block.language == "python":
            with redirect_stdout(io.StringIO()):
                exec(compile(block.text, page.name, "exec"), {"__name__": page.stem})


def test_no_block_of_python_is_overlooked():
    for page in PAGES:
        found = [block for block in blocks(page) if block.language == "python"]
        assert len(found) == len(re.findall(r"^ *(?:```|~~~) *(?:python|py)\b", page.read_text(), re.MULTILINE)), page


@pytest.mark.parametrize(("page", "least"), [("check.md", 3), ("identify.md", 2)])
def test_the_reports_on_a_page_are_what_the_command_prints(page, least, folder):
    seen = 0
    for block in blocks(DOCS / "guide" / page):
        put(block, folder)
        for arguments, shown in reports(block.text) if block.language in ("console", "sh") else ():
            forget(folder)
            result = CliRunner().invoke(app, arguments)
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            printed = [line.rstrip() for line in result.stdout.rstrip().split("\n")]
            assert shows(shown, printed), "\n".join(printed)
            seen += 1
    assert seen >= least


def test_lines_are_left_out_only_where_the_page_says_so():
    printed = ["a", "b", "c", "d"]
    assert shows(printed, printed)
    assert shows(["a", LEFT_OUT, "d"], printed)
    assert shows(["a", "b", LEFT_OUT, "d"], printed)
    assert not shows(["a", "d"], printed)
    assert not shows(["a", LEFT_OUT], printed)
    assert not shows(["a", LEFT_OUT, "c"], printed)


def test_a_comment_is_held_to_what_is_printed():
    assert says("tensor([0.2019, 0.8187]), of two", "tensor([0.2019, 0.8187])")
    assert says("-2.06115369216775e-09", "-2.061153620314381e-09")
    assert not says("0.72", "0.7212")
    assert not says("0.72121", "0.8")
    assert not says("1.5", "1")
    assert not says("True", "")
    assert outputs("print(x)  # 1.0\nprint(y)  # the score\n") == ["1.0"]
    assert outputs("print(x)\n# k3 1.0\n#     2.0\n# Now the mean.\ny = 1\n# not 3\n") == ["k3 1.0", "    2.0"]
