"""The page of symptoms: each leads to a claim, says whether a figure shows it, and its command finds the mistake."""

import re
import shlex

import pytest
from grape_spec.language.registry import CLAIMS, DEFINITIONS

from grape_verified.docs.figures import FIGURES
from tests.docs.test_code_blocks import DOCS, blocks, folder, put  # noqa: F401 - a fixture
from tests.test_cli import call

PAGE = DOCS / "symptoms.md"
FUNCTIONS = "## The functions that the commands check"

SYMPTOMS = dict(re.findall(r"^## (.+?) \{ #.+? \}\n(.*?)(?=^## )", PAGE.read_text(), re.DOTALL | re.MULTILINE))

#: What a command finds: the function, the contract and the property.
CHECKS = re.findall(r"`(grape-verified check my_losses:\w+ --as \w+)`\s+fails \*([\w ]+)\*", PAGE.read_text())


def told(symptom, kind):
    return re.search(rf"^- \*{kind}:\*(.*?)(?=^- |^$|\Z)", SYMPTOMS[symptom], re.DOTALL | re.MULTILINE)[1]


def test_the_symptoms_that_readers_look_for_are_there():
    assert len(SYMPTOMS) >= 20
    assert PAGE.read_text().count("\n## ") == len(SYMPTOMS) + 1


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_a_symptom_leads_to_claims_a_figure_and_a_command(symptom):
    claims = re.findall(r"\]\((?:claims/(.+?)\.md|definitions/\w+\.md#(.+?))\)", told(symptom, "Claim"))
    assert claims
    assert all(claim in CLAIMS or definition in DEFINITIONS for claim, definition in claims)
    figures = re.findall(r"\]\(chapters/(\w+)\.md#figure-(\w+)\)", told(symptom, "Figure"))
    assert figures or told(symptom, "Figure").strip() == "none yet"
    for chapter, name in figures:
        assert name in FIGURES
        assert f'--8<-- "figure/{name}.md"' in (DOCS / "chapters" / f"{chapter}.md").read_text()
    commands = re.findall(r"`(grape-verified .+?)`", told(symptom, "Find it"))
    assert commands
    for command in commands:
        kind, *arguments = shlex.split(command)[1:]
        assert call(kind, *arguments)[0] == 0 if kind == "show" else command in dict(CHECKS), command


@pytest.mark.parametrize(("command", "named"), CHECKS)
def test_the_command_finds_what_the_page_says(folder, command, named):  # noqa: F811
    (block,) = (block for block in blocks(PAGE) if block.file)
    put(block, folder)
    status, out, err = call(*shlex.split(command)[1:], "--examples", "20")
    assert (status, err) == (1, ""), out
    last = out.strip().splitlines()[-1]
    assert named in re.findall(r"\b[a-z ]*[a-z]\b", last.partition("rejected. ")[2]), out
