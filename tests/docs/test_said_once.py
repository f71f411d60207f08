"""Nothing is said twice on a page: no equation, no symbol of a table; and no relation says that something is itself."""

import re

import pytest
from grape_spec import render
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.paper.layout import defined, displayed, statements_of
from grape_spec.paper.printer import Printer
from sympy.core.relational import Relational

from grape_verified.docs.markdown import statements, symbols_table
from tests.spec.test_paper import SAMPLE

ENTRIES = {**CLAIMS, **DEFINITIONS}

#: One entry in six in the default tier.
FULL = pytest.mark.full("formulas of every entry read back")
every_entry = pytest.mark.parametrize("id", [pytest.param(id, marks=() if id in SAMPLE else FULL) for id in ENTRIES])


def relations(id):
    """The relations that an entry states, its false variants among them."""
    entry = ENTRIES[id]
    found = statements_of(entry) if id in DEFINITIONS else [said.statement for said in (*entry.parts, *entry.wrong)]
    return [statement for statement in found if isinstance(statement, Relational)]


def plainly(tex):
    """LaTeX without what only says where it stands."""
    return re.sub(r"\\(?:begin|end)\{aligned\}|&|\\\\\[\dpt\]|\\quad|\\left|\\right|\\Bigl|\\Bigr|\\,|\s", "", tex)


def explained(tex):
    """The letters that are explained below a formula, with what they stand for."""
    lines = re.findall(r"\\text\{(?:where|and) \} (.+?) = (.+?)(?=\\text\{(?:where|and|with) \}|\Z)", tex, re.DOTALL)
    return {plainly(letter): plainly(body) for letter, body in lines}


@every_entry
def test_no_relation_says_that_something_is_itself(id):
    for relation in relations(id):
        printer = Printer(relation)
        sides = [plainly(printer.text(side).tex) for side in relation.args]
        assert len(set(sides)) == 2, sides
        said = explained(displayed(relation))
        assert len({said.get(side, side) for side in sides}) == 2, sides


@every_entry
def test_no_letter_is_explained_that_the_relation_gives_as_a_formula(id):
    """J = one formula, where J = another: the second stands in the place of J. But J̃ = J keeps its letters."""
    for relation in relations(id):
        letters = explained(displayed(relation))
        texts = [plainly(Printer(relation).text(side).tex) for side in relation.args]
        wanting = [text for text in texts if text in letters]
        assert len(wanting) != 1 or any(without_tilde(wanting[0]) in text for text in texts if text not in wanting)


def without_tilde(tex):
    return re.sub(r"\\tilde\{(.*?)\}", r"\1", tex)


@every_entry
def test_no_letter_is_explained_as_a_definition_of_the_page(id):
    """Else what was put in for its arguments has vanished: L(a + c, b + c), printed as what L(a, b) is."""
    bodies = {plainly(defined(entry)).partition("=")[2]: entry.id for entry in DEFINITIONS.values() if entry.tex}
    for relation in relations(id):
        said = explained(displayed(relation))
        tildes = [letter for letter in said if letter != without_tilde(letter) and without_tilde(letter) not in said]
        assert not [(letter, bodies[said[letter]]) for letter in tildes if said[letter] in bodies]


@pytest.mark.parametrize(
    ("id", "part", "plain"),
    [
        ("advantage.whiten", "affine", r"w} = \frac{\alpha x_{j}"),
        ("grape.reward.scale", "importances", r"k}_{q} = a \bar c_{q} w_{q}"),
        ("grape.advantage.item_shift", "leave-one-out", r"R}_{g} = \sum_{q=1}^{Q} \frac{k_{q} \, (s_{g,q} +"),
    ],
)
def test_what_is_changed_has_the_tilde(id, part, plain):
    """Of a quantity at two arguments, the one that is shorter when it is written out keeps the letter as it is."""
    statement = next(said.statement for said in CLAIMS[id].parts if said.name == part)
    assert rf"\tilde{{{plain}" in displayed(statement)


@every_entry
def test_a_table_of_symbols_has_no_symbol_twice_and_the_indices_of_each(id):
    shown = render.as_dict(CLAIMS[id]) if id in CLAIMS else render.definition_as_dict(DEFINITIONS[id])
    rows = symbols_table(shown["symbols"]).splitlines()[2:]
    found = [row.split(" | ")[0] for row in rows]
    assert len(set(found)) == len(found)
    names = {entry.name: entry for entry in DECLARATIONS.values()}
    for symbol in shown["symbols"]:
        entry = names.get(re.match(r"[^\[]+", symbol["name"])[0])
        if entry is not None and entry.sizes:
            assert symbol["indexed"] != entry.tex
            assert symbol["indexed"].count(",") - entry.tex.count(",") >= len(entry.sizes) - 1


@pytest.mark.parametrize("id", CLAIMS)
def test_no_equation_is_printed_twice(id):
    found = list(statements(render.as_dict(CLAIMS[id])["parts"]))
    without_names = [re.sub(r"^\*\*.*\*\*$", "", text, flags=re.MULTILINE) for text in found]
    assert len(set(without_names)) == len(without_names)
    assert all(part.name in " ".join(found) for part in CLAIMS[id].parts)
