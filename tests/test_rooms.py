"""The code is readable: short functions, and the same order in the spec and the losses of a method."""

import ast
import inspect
from pathlib import Path

import pytest
from grape_spec.language.registry import CLAIMS, DEFINITIONS

import grape_verified
from grape_verified.conformance import CONTRACTS
from grape_verified.docs.reference import claims_of, contracts_of

ROOT = Path(__file__).parent.parent
LOSSES = ROOT / "grape_verified" / "losses"
NATURAL_GRADIENT = ROOT / "grape_verified" / "natural_gradient"
SPEC = ROOT / "spec" / "grape_spec"
SHARED = {"__init__", "kl_term", "output", "pairs", "ratio"}
METHODS = [path.stem for path in sorted(LOSSES.glob("*.py")) if path.stem not in SHARED]
LONGEST, LONGEST_FILE = 40, 450

#: The place of each definition in the spec.
ORDER = {id: place for place, id in enumerate(DEFINITIONS)}


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def length(function):
    """Lines of a function from its signature to its end, its docstring not counted."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    lines = function.end_lineno - function.lineno + 1
    return lines - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


@pytest.mark.parametrize("path", [*LOSSES.glob("*.py"), *NATURAL_GRADIENT.glob("*.py")], ids=lambda path: path.stem)
def test_functions_are_short(path):
    for function in functions(path):
        assert length(function) <= LONGEST, f"{path.stem}.{function.name}: {length(function)} lines"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_page_in_the_spec_and_its_contracts(method):
    assert (SPEC / f"{method}.py").exists()
    assert (ROOT / "grape_verified" / "conformance" / "contracts" / f"{method}.py").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "grape_verified").rglob("*.py")), ids=lambda path: path.stem)
def test_no_file_is_longer_than_one_reads_at_a_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def public(method):
    """The public functions of a method, in the order of its file."""
    found = [function.name for function in functions(LOSSES / f"{method}.py")]
    return [name for name in found if name in grape_verified.__all__]


@pytest.mark.parametrize("name", [n for n in grape_verified.__all__ if inspect.isfunction(getattr(grape_verified, n))])
def test_a_docstring_names_claims_and_no_definitions(name):
    docstring = inspect.getdoc(getattr(grape_verified, name))
    assert "Claims:" in docstring
    assert set(claims_of(name)) <= set(CLAIMS)


@pytest.mark.parametrize("method", METHODS)
def test_spec_and_losses_are_in_the_same_order(method):
    """Each function that reads definitions which none before it reads comes in the order of the first of these."""
    read, first = set(), {}
    for name in public(method):
        own = {id for contract in contracts_of(name) for id in contract.rests_on if id.startswith(f"{method}.")}
        if new := own & set(DEFINITIONS) - read:
            first[name] = min(ORDER[id] for id in new)
        read |= own
    assert first
    assert list(first) == sorted(first, key=first.get)


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_binds_a_public_function(name):
    assert CONTRACTS[name].kernel in grape_verified.__all__
