"""What a page offers to copy can be pasted: it runs, and is what the page states."""

import ast
import inspect

import pytest
from grape_spec.language.registry import CLAIMS
from grape_spec.render import as_dict

import grape_verified
from grape_verified.conformance.subjects import subject_of
from grape_verified.docs.copies import copies
from grape_verified.docs.reference import implementing

#: The first claim of each subject.
FIRST = list({subject_of(id): id for id in reversed(CLAIMS)}.values())


def texts(id):
    return {copy.name: copy.text for copy in copies(CLAIMS[id])}


@pytest.mark.parametrize("id", FIRST)
def test_the_lines_for_sympy_give_the_statements(id):
    names = {}
    exec(texts(id)["SymPy"], names)
    assert names["stated"] == {part.name: part.statement for part in CLAIMS[id].parts}
    assert set(names["written_out"]) == set(names["stated"])


def test_the_latex_is_that_of_every_part():
    for id, claim in CLAIMS.items():
        text = texts(id)["LaTeX"]
        assert all(part["latex"] in text for part in as_dict(claim)["parts"])
        assert text.count("% ") == sum(bool(part.name) for part in claim.parts)


def test_a_call_takes_what_the_function_takes():
    called = {id: text for id in CLAIMS if (text := texts(id).get("torch"))}
    assert set(called) == {id for id in CLAIMS if list(implementing(id))}
    for text in set(called.values()):
        imported, expression = ast.parse(text).body
        call = expression.value
        assert [alias.name for alias in imported.names] == [call.func.id]
        inspect.signature(getattr(grape_verified, call.func.id)).bind(
            *call.args, **{keyword.arg: keyword.value for keyword in call.keywords}
        )
