"""Claims from modules outside of the package: loaded like ours, refused in one line, and never in the way of ours."""

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import grape_spec
import pytest
from grape_spec import outside, references
from grape_spec.language import Real, define, symbol
from grape_spec.language.registry import CLAIMS, DEFINITIONS, check_registry
from grape_spec.proof.examine import examine
from grape_spec.render import unicode

from grape_verified.conformance import registry, verification
from grape_verified.conformance.ledger import read
from tests.test_cli import call

LEDGER = Path("grape-verified-ledger.json")

#: A module with a definition, a claim and a false variant; it prints when it is imported.
GOOD = """
from grape_spec.language import Real, Source, claim, define, equals, holds, symbol, wrong
from grape_spec.proof.rules import algebra

print("hello")
x = symbol("NAME_x", Real, "a number")
square = define("NAME.square", "The square of a number.", (x,), x**2, source=Source("key_NAME"))
claim(
    "NAME.even",
    "The square is even.",
    holds(equals(square(-x), square()), by=algebra()),
    source=Source("key_NAME").eq(1),
    wrong=[wrong("odd", equals(square(-x), -square()))],
)
"""

BIBLIOGRAPHY = """@article{key_NAME,
  author = {Doe, Jane},
  title = {Squares},
  year = {2024},
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, scratch_registry):
    """An empty folder as the current one; what is loaded from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(outside, "_LOADED", {})
    monkeypatch.setattr(registry, "_HELD", {})
    monkeypatch.setattr(references, "_OUTSIDE", {})
    monkeypatch.setattr(outside, "entry_points", lambda group: [])
    monkeypatch.setattr(verification.os, "cpu_count", lambda: 1)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def put(name, text=GOOD, bibliography=BIBLIOGRAPHY):
    """Write a module into the current folder."""
    path = Path(f"{name.replace('.', '/')}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(dedent(text).replace("NAME", name), encoding="utf-8")
    if bibliography:
        with path.with_name("references.bib").open("a", encoding="utf-8") as file:
            file.write(bibliography.replace("NAME", name))
    return name


# -- treated like ours -------------------------------------------------------------------------------------------


def test_its_claims_are_verified_alone_and_listed(folder):
    put("squares")
    status, out, err = call("verify", "--from", "squares")
    assert status == 0, err
    assert "1 of 1 claims fully proved" in out
    assert "0 of 0 kernels" in out
    assert "hello" not in out
    status, out, _ = call("list", "--from", "squares", "--json")
    (row,) = json.loads(out)
    assert row == {
        "id": "squares.even",
        "status": "fully proved",
        "coq": "not run",
        "kernels": "no kernel",
        "text": "The square is even.",
    }


def test_names_choose_among_ours_and_theirs(folder):
    put("squares")
    rows = json.loads(call("list", "squares", "kl.log_bound", "--from", "squares", "--json")[1])
    assert [row["id"] for row in rows] == ["kl.log_bound", "squares.even"]


def test_several_modules(folder):
    put("squares")
    put("cubes")
    rows = json.loads(call("list", "--from", "squares", "--from", "cubes", "--json")[1])
    assert [row["id"] for row in rows] == ["squares.even", "cubes.even"]
    assert [row["id"] for row in json.loads(call("list", "--from", "cubes", "--json")[1])] == ["cubes.even"]


def test_show_and_cite(folder):
    put("squares")
    out = call("show", "squares.even", "--from", "squares")[1]
    assert "source: [key_squares], eq. 1" in out
    assert "squares.square: The square of a number." in out
    status, out, _ = call("cite", "squares.even", "--from", "squares")
    assert status == 0
    assert out.startswith("@misc{squares:squares.even,\n")
    assert "{{squares contributors}}" in out
    assert r"checked with grape\_verified" in out
    assert BIBLIOGRAPHY.replace("NAME", "squares").strip() in out
    assert "grape_verified contributors" not in out
    assert call("cite", "squares.square", "--from", "squares")[1].startswith("@misc{squares:squares.square,\n")
    assert call("cite", "dpo.loss", "--from", "squares")[1].startswith("@misc{grape_verified:dpo.loss,\n")


def test_a_claim_that_does_not_hold_fails_the_run(folder):
    put("squares", GOOD.replace("equals(square(-x), square())", "equals(square(-x), -square())"))
    status, out, _ = call("verify", "--from", "squares")
    assert status == 1
    assert "squares.even: refuted; witness" in out


def test_workers_load_the_modules_and_print_nothing(folder, capfd, monkeypatch):
    monkeypatch.setattr(verification, "TASKS_OF_A_WORKER", 1)
    put("squares", GOOD + '\nclaim("NAME.again", "Again.", holds(equals(square(-x), square()), by=algebra()))')
    sys.path.insert(0, str(folder))
    ids = outside.load("squares")
    capfd.readouterr()
    seen = verification.verify(tuple(id for id in ids if id in CLAIMS), processes=2)
    assert {record.id for record in seen.claims if record.status == "proved"} == {"squares.even", "squares.again"}
    assert capfd.readouterr().out == ""


def test_installed_packages_announce_their_modules(folder, monkeypatch):
    put("squares")
    sys.path.insert(0, str(folder))
    point = EntryPoint("anything", "squares", outside.GROUP)
    monkeypatch.setattr(outside, "entry_points", lambda group: [point] if group == "grape_verified.claims" else [])
    rows = json.loads(call("list", "--json")[1])
    assert [row["id"] for row in rows][-1] == "squares.even"
    assert len(rows) > 100
    rows = json.loads(call("list", "--json", "--from", "squares")[1])
    assert [row["id"] for row in rows] == ["squares.even"]


def test_an_installed_package_that_is_broken_is_named(folder, monkeypatch):
    put("squares", "import no_such_module")
    sys.path.insert(0, str(folder))
    monkeypatch.setattr(outside, "entry_points", lambda group: [EntryPoint("mine", "squares", group)])
    status, out, err = call("list")
    assert (status, out) == (2, "")
    assert err == (
        "grape-verified: the claims of the installed package mine: "
        "squares.py, line 1: ModuleNotFoundError: No module named 'no_such_module'\n"
    )


def test_a_bibliography_may_repeat_an_entry_of_ours(folder):
    entry = references.works()["rafailov2023direct"]
    put("squares", GOOD.replace("key_NAME", "rafailov2023direct"), bibliography=entry + "\n")
    assert call("cite", "squares.even", "--from", "squares")[0] == 0


# -- the ledger --------------------------------------------------------------------------------------------------


def test_evidence_of_modules_that_are_not_loaded_is_kept_and_judged_when_they_are(folder):
    put("squares")
    call("verify", "--from", "squares")
    forget("squares")
    call("verify", "kl.log_bound")
    assert [record.id for record in read(LEDGER).claims] == ["kl.log_bound", "squares.even"]
    out = call("verify", "--from", "squares")[1]
    assert "1 of 1 claims unchanged since" in out
    forget("squares")
    put("squares", GOOD.replace("x**2", "x**2 + 1"), bibliography="")
    out = call("verify", "--from", "squares")[1]
    assert "unchanged" not in out
    forget("squares")
    put("squares", GOOD.replace("NAME.even", "NAME.other"), bibliography="")
    call("verify", "--from", "squares")
    assert [record.id for record in read(LEDGER).claims] == ["kl.log_bound", "squares.other"]


def test_evidence_of_modules_that_are_not_loaded_is_dropped_with_other_code(folder):
    put("squares")
    call("verify", "--from", "squares")
    data = json.loads(LEDGER.read_text())
    LEDGER.write_text(json.dumps({**data, "versions": {**data["versions"], "spec code": "other"}}))
    forget("squares")
    call("verify", "kl.log_bound")
    assert [record.id for record in read(LEDGER).claims] == ["kl.log_bound"]


def forget(name):
    """As a new process would: the module is not loaded."""
    from grape_spec.language.registry import _CLAIMED, _DEFINED
    from grape_spec.language.symbols import _BY_NAME, _DECLARED

    for table in (_CLAIMED, _DEFINED):
        for id in [id for id in table if id.startswith(f"{name}.")]:
            del table[id]
    for symbol_name in [key for key in _BY_NAME if key.startswith(f"{name}_")]:
        del _DECLARED[_BY_NAME.pop(symbol_name)]
    outside._LOADED.clear()
    references._OUTSIDE.clear()
    del sys.modules[name]


# -- refused in a line -------------------------------------------------------------------------------------------

LANGUAGE = "from grape_spec.language import *\nfrom grape_spec.proof.rules import algebra\n"

REFUSED = {
    "a missing import": ("import no_such_module", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
    "raises": ("\nraise RuntimeError('first\\nsecond')", "line 2: RuntimeError: first"),
    "raises nothing": ("assert False", "line 1: AssertionError"),
    "exits": ("import sys\nsys.exit(0)", "line 2: SystemExit: 0"),
    "syntax": ("x = = 1", "line 1: invalid syntax"),
    "an id of ours": (
        LANGUAGE + "x = symbol('NAME_x', Real, 'x')\ndefine('dpo.loss', 'Loss.', (x,), x + 1)",
        "line 4: the id 'dpo.loss' is taken",
    ),
    "a word of ours": (
        LANGUAGE + "x = symbol('NAME_x', Real, 'x')\ndefine('dpo.new', 'Loss.', (x,), x + 1)",
        "NAME: the id 'dpo.new' begins with a word of this package's: begin with one of your own",
    ),
    "a symbol of ours": (
        LANGUAGE + "symbol('beta', Real, 'x')",
        "line 3: symbol 'beta' is declared twice: import the existing one, or choose another name",
    ),
    "a symbol that nothing uses": (
        GOOD + "symbol('NAME_y', Real, 'forgotten')",
        "NAME: the symbol 'NAME_y' (forgotten) is declared but nothing uses it",
    ),
    "a source without an entry": (
        GOOD.replace("key_NAME", "nowhere"),
        "NAME: the source 'nowhere' of NAME.even is not in references.bib beside the module",
    ),
    "braces of LaTeX": (
        LANGUAGE + "x = symbol('NAME_x', Real, 'x')\ndefine('NAME.a', 'A.', (x,), x + 1, tex=r'\\mathrm{a}')",
        "line 4: NAME.a: tex: {a} is no argument: write {{a}} for braces of LaTeX",
    ),
    "what is not in the language": (
        LANGUAGE + "x = symbol('NAME_x', Real, 'x')\ndefine('NAME.a', 'A.', (x,), 0.5 * x)",
        "line 4: NAME.a: got the floating-point number 0.5: write Rational(1, 2)",
    ),
    "max of Python": (
        LANGUAGE + "x = symbol('NAME_x', Real, 'x')\ny = max(x, 0)",
        "line 4: TypeError: cannot determine truth value of Relational: NAME_x < 0: write Max, Min, cases() or And()",
    ),
    "exp of Python": (
        LANGUAGE + "import math\nx = symbol('NAME_x', Real, 'x')\ny = math.exp(x)",
        "line 5: TypeError: Cannot convert expression to float: write exp, log and the like of SymPy",
    ),
    "exp of NumPy": (
        LANGUAGE + "import numpy\nx = symbol('NAME_x', Real, 'x')\ny = numpy.exp(x)",
        "line 5: TypeError: loop of ufunc does not support",
    ),
    "what SymPy cannot read": (
        LANGUAGE + "y = equals(object(), 1)",
        "line 3: SympifyError: SympifyError: \"cannot sympify object of type <class 'object'>\": write an expression",
    ),
    "range of a size": (
        LANGUAGE + "n = symbol('NAME_n', Size, 'n')\nrange(n)",
        "line 4: TypeError: 'Symbol' object cannot be interpreted as an integer: write sum_over(…, i)",
    ),
    "an error of its own kind": ("class Mine(BaseException): pass\nraise Mine('first')", "line 2: Mine: first"),
    "an id that is not there": (
        LANGUAGE + "from grape_spec.language.registry import claim_of\nclaim_of('NAME.a')",
        "line 4: there is no claim 'NAME.a'",
    ),
    "nothing": ("x = 1", "NAME: it declares no definition, no claim and no contract"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("command", [("verify",), ("list",), ("show", "dpo.loss"), ("cite", "dpo.loss"), ("certify",)])
def test_what_cannot_be_loaded_is_refused_in_a_line(folder, what, command):
    text, message = REFUSED[what]
    put("squares", text)
    LEDGER.write_text("kept")
    message = message.replace("NAME", "squares")
    status, out, err = call(*command, "--from", "squares")
    place = "" if message.startswith("squares:") else "squares.py, "
    assert (status, out) == (2, "")
    line = err.removeprefix("hello\n")
    assert line.startswith(f"grape-verified: --from: {place}{message}")
    assert line.count("\n") == 1
    assert LEDGER.read_text() == "kept"


def test_a_module_that_is_not_there(folder):
    message = "there is no module 'squares' in the current folder or among the installed packages"
    assert call("list", "--from", "squares") == (2, "", f"grape-verified: --from: {message}\n")


def test_a_module_of_this_package(folder):
    message = "grape_spec.ppo is part of this package, expected a module of your own"
    assert call("list", "--from", "grape_spec.ppo") == (2, "", f"grape-verified: --from: {message}\n")


def test_words_in_brackets_are_printed(folder):
    """They are no marks of colour."""
    put("squares", GOOD.replace("The square is even.", "The [red] square [/x] is even."))
    for command in (("list",), ("show", "squares.even"), ("verify",)):
        status, out, _ = call(*command, "--from", "squares")
        assert status == 0
        assert "The [red] square [/x] is even." in out or command == ("verify",)


def test_definitions_alone_are_no_claims(folder):
    put("squares", LANGUAGE + "x = symbol('NAME_x', Real, 'x')\ndefine('NAME.a', 'A.', (x,), x + 1)")
    assert call("verify", "--from", "squares")[::2] == (
        2,
        "grape-verified: --from: squares: no claim and no contract is declared there\n",
    )
    assert call("show", "squares.a", "--from", "squares")[0] == 0


@pytest.mark.parametrize("command", ["list", "verify", "certify"])
def test_two_modules_with_one_id(folder, command):
    put("squares")
    put("cubes", GOOD.replace("NAME_x", "c_x").replace("NAME.square", "squares.square"))
    LEDGER.write_text("kept")
    status, out, err = call(command, "--from", "squares", "--from", "cubes")
    assert (status, out, LEDGER.read_text()) == (2, "", "kept")
    line = err.removeprefix("hello\nhello\n")
    assert line.startswith("grape-verified: --from: cubes.py, line 7: the id 'squares.square' is taken")
    assert line.count("\n") == 1


def test_modules_that_import_each_other(folder):
    put("squares", "from cubes import y\nx = 1")
    put("cubes", "from squares import x\ny = 1")
    status, out, err = call("list", "--from", "squares")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(
        "grape-verified: --from: cubes.py, line 1: ImportError: cannot import name 'x' from partially"
    )


def test_a_bibliography_with_a_key_of_another_work(folder):
    put("squares", bibliography=BIBLIOGRAPHY + BIBLIOGRAPHY.replace("key_NAME", "rafailov2023direct"))
    message = "squares: references.bib: the key 'rafailov2023direct' is that of another work: take another key"
    assert call("list", "--from", "squares")[2] == f"hello\ngrape-verified: --from: {message}\n"


# -- never in the way of ours ------------------------------------------------------------------------------------


def test_names_outside_change_no_name_of_ours(scratch_registry):
    claim = CLAIMS["dpo.kl_optimum"]
    before = [unicode(part.statement) for part in claim.parts]
    names = sorted({id.partition(".")[2] for id in DEFINITIONS})
    for name in names:
        thing = symbol(f"z_{name.replace('.', '_')}", Real, "a number")
        define(f"theirs.{name}", "Theirs.", (thing,), thing + 1)
    symbol("partition", Real, "a symbol that has the name of a definition of ours")
    assert [unicode(part.statement) for part in claim.parts] == before
    assert unicode(DEFINITIONS["theirs.partition"]()) == "theirs.partition"


def test_a_record_of_ours_is_the_same_beside_theirs(folder):
    alone = examine("dpo.kl_optimum")
    put("squares", GOOD.replace('"NAME.square"', '"NAME.partition"').replace("NAME_x", "objective"))
    assert call("list", "--from", "squares")[0] == 0
    beside = examine("dpo.kl_optimum")
    assert [part.mutants for part in beside.parts] == [part.mutants for part in alone.parts]
    assert beside.sound


def test_the_package_is_checked_as_before():
    check_registry()
    assert all(outside.module_of(id) == "" for id in CLAIMS)
    assert not any(outside.is_of_unloaded(id) for id in CLAIMS)
    assert outside.is_of_unloaded("elsewhere.claim")
    assert grape_spec.SUBJECTS
