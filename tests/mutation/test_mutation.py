"""The command that kills mutants: it makes the expected ones, judges each, and can fail."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

from . import run
from .mutants import mutants
from .run import Verdict

PLANTED = textwrap.dedent(
    '''
    """Not this - nor that."""

    def difference(a: int, b: int = 2) -> int:
        """a - b, at least 1."""
        check_number("a", a)
        if a < 0:
            raise ValueError(f"a: got {a - 1}")
        return max(a - b, 1)
    '''
)
MUTATIONS = {
    "2 → 3", "check_number('a', a) → pass", "a < 0 → a <= 0", "a < 0 → a > 0", "0 → 1",
    "max(a - b, 1) → min(a - b, 1)", "a - b → a + b", "1 → 2",
}  # fmt: skip
TABLE = {
    "x.detach() * y": {"x.detach() * y → x.detach() / y", "x.detach() → x"},
    "bounded(-x)": {"bounded(-x) → -x", "-x → x"},
    "x.clamp(min=a, max=b)": {
        "x.clamp(min=a, max=b) → x", "x.clamp(min=a, max=b) → x.clamp(max=a, min=b)",
        "x.clamp(min=a, max=b) → x.clamp(max=b)", "x.clamp(min=a, max=b) → x.clamp(min=a)",
    },
    "x.masked_fill(~m, 0)": {
        "x.masked_fill(~m, 0) → x", "~m → m", "0 → 1",
    },
    "where(x > 0, a, b)": {"where(x > 0, a, b) → where(x > 0, b, a)", "x > 0 → x >= 0", "x > 0 → x < 0", "0 → 1"},
    "f(a, low=l, high=h)": {
        "f(a, low=l, high=h) → f(a, low=h, high=l)", "f(a, low=l, high=h) → f(a, high=h)",
        "f(a, low=l, high=h) → f(a, low=l)",
    },
    "x.sum(1)": {"x.sum(1) → x.mean(1)"},
    "'token_mean' if p and not q else 'x'": {
        "'token_mean' if p and (not q) else 'x' → 'x' if p and (not q) else 'token_mean'",
        "p and (not q) → p or not q", "not q → q", "'token_mean' → 'sequence_mean'",
    },
}  # fmt: skip


def test_the_mutants_of_a_planted_module():
    made = mutants("planted", PLANTED)
    assert {mutant.key.mutation for mutant in made} == MUTATIONS
    assert len({mutant.source for mutant in made}) == len(made) == len(MUTATIONS)
    assert all(mutant.source.count("\n") == PLANTED.count("\n") for mutant in made)
    assert {mutant.key.line for mutant in made if "b → a + b" in mutant.key.mutation} == {"return max(a - b, 1)"}


@pytest.mark.parametrize("expression", TABLE)
def test_what_is_changed_in_an_expression(expression):
    source = f"def f():\n    return {expression}\n"
    assert {mutant.key.mutation for mutant in mutants("planted", source)} == TABLE[expression]


def test_what_is_changed_in_statements():
    source = "@torch.no_grad()\ndef f(x, m):\n    x = g(x)\n    y = g(m)\n    m |= y\n    while m:\n        h(x)\n"
    assert {mutant.key.mutation for mutant in mutants("planted", source)} == {
        "torch.no_grad() → torch.enable_grad()", "x = g(x) → pass", "m |= y → pass", "m |= y → m &= y", "m → not m",
        "h(x) → pass",
    }  # fmt: skip


def test_the_same_change_twice_in_a_line_is_two_mutants():
    keys = [mutant.key for mutant in mutants("planted", "def f(x):\n    return g(1)[x, 1]\n")]
    assert [key.mutation for key in keys] == ["1 → 2", "1 → 2, the same no. 2"]


def test_every_mutant_of_the_kernels_is_a_module_of_its_own():
    for module in run.TESTS:
        made = run.mutants_of(module)
        assert len({mutant.key for mutant in made}) == len(made) > 10
        for mutant in made:
            compile(mutant.source, module, "exec")


def test_the_mutated_source_is_what_is_imported():
    program = """
        import sys
        from pathlib import Path
        from tests.mutation import run
        [mutant] = [m for m in run.mutants_of("grape_verified.numerics") if m.key.mutation == "24 → 25"]
        sys.meta_path.insert(0, run._Finder(mutant, run.path_of("grape_verified.numerics")))
        import torch, grape_verified.numerics as numerics
        assert numerics.value_limit(torch.float32) == torch.finfo(torch.float32).max * 2.0**-25
    """
    code = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(code, check=False, capture_output=True, text=True, cwd=run.ROOT)
    assert result.returncode == 0, result.stderr


# -- the command, on the planted module -------------------------------------------------------------------------------


def judged_by_hand(mutant, module):
    """One wrong result kills; one mutant hangs, one ends its process, and what only checks is not looked at."""
    if mutant and mutant.key.mutation == "0 → 1":
        while True:
            pass
    if mutant and mutant.key.mutation == "2 → 3":
        os._exit(0)
    space = {"check_number": lambda name, value: None}
    exec(mutant.source if mutant else PLANTED, space)
    try:
        right = [space["difference"](a, 2) for a in (2, 7)] == [1, 5] and space["difference"](0) == 1
    except ValueError:
        right = False
    return Verdict("" if right else "contracts")


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """The command on the planted module; what it is given is the file of survivors, what it gives the status."""
    (tmp_path / "planted.py").write_text(PLANTED, encoding="utf-8")
    monkeypatch.setattr(run, "TESTS", {"grape_verified.planted": ()})
    monkeypatch.setattr(run, "path_of", lambda module: tmp_path / "planted.py")
    monkeypatch.setattr(run, "judge", judged_by_hand)
    monkeypatch.setattr(run, "import_what_is_slow", lambda: None)
    monkeypatch.setattr(run, "SECONDS", 1)
    monkeypatch.setattr(run, "SHARE", 0.8)
    monkeypatch.setattr(run, "ACCEPTED", tmp_path / "survivors.toml")

    def command(survivors, *arguments):
        (tmp_path / "survivors.toml").write_text(survivors, encoding="utf-8")
        return run.main(["planted", "--json", str(tmp_path / "report.json"), *arguments])

    command.report = lambda: json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    return command


def listed(mutation, reason="It only checks.", line='check_number("a", a)'):
    key = {"module": "grape_verified.planted", "function": "difference", "line": line, "mutation": mutation}
    return "[[survivor]]\n" + "".join(f"{name} = '''{text}'''\n" for name, text in {**key, "reason": reason}.items())


SURVIVOR = listed("check_number('a', a) → pass")


def test_every_mutant_has_its_verdict(planted, capsys):
    assert planted(SURVIVOR) == 0
    verdicts = {mutant["mutation"]: mutant["killed_by"] for mutant in planted.report()["mutants"]}
    assert verdicts.pop("0 → 1") == "time"
    assert verdicts.pop("2 → 3") == "crash"
    assert verdicts.pop("check_number('a', a) → pass") == ""
    assert set(verdicts.values()) == {"contracts"}
    assert "87.5 % of 8 mutants are killed" in capsys.readouterr().out


def test_a_survivor_that_is_not_listed_fails(planted, capsys):
    assert planted("") == 1
    assert "survived and not listed: grape_verified.planted, difference: check_number" in capsys.readouterr().out


@pytest.mark.parametrize("entry", [listed("1 → 2", line="return max(a - b, 1)"), listed("a → b")])
def test_a_stale_entry_fails(planted, capsys, entry):
    assert planted(SURVIVOR + entry) == 1
    assert "listed as a survivor, but killed or gone: grape_verified.planted" in capsys.readouterr().out


def test_a_sample_says_nothing_of_what_it_left_out(planted):
    planted(SURVIVOR + listed("a → b"), "--limit", "2")
    assert planted.report()["stale"] == []
    assert len(planted.report()["mutants"]) == 2


def test_too_few_kills_fail(planted, monkeypatch):
    monkeypatch.setattr(run, "SHARE", 0.9)
    assert planted(SURVIVOR) == 1


def test_a_survivor_needs_a_reason(planted):
    with pytest.raises(ValueError, match=r"survivors.toml: got no reason"):
        planted(listed("1 → 2", reason=" "))


def test_a_tree_that_does_not_hold_is_not_mutated(planted, monkeypatch):
    monkeypatch.setattr(run, "judge", lambda mutant, module: Verdict("tests", "test_x"))
    with pytest.raises(SystemExit, match="not mutated, and yet killed by tests: test_x"):
        planted("")


def test_one_that_sleeps_is_ended_too(monkeypatch):
    monkeypatch.setattr(run, "judge", lambda mutant, module: time.sleep(1000))
    monkeypatch.setattr(run, "ASLEEP", 0.5)
    [(_, verdict)] = run.judged([(None, "grape_verified.planted")], 1)
    assert verdict.killed_by == "time"


def test_an_unknown_module_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["losses.nothing"])
    assert "got grape_verified.losses.nothing, expected some of" in capsys.readouterr().err
