"""Checks as tests of pytest: projects in temporary folders, with losses that pass, fail and are expected to fail.

The plugin is loaded by name, so that the tests need no installed entry point.
"""

import io
import os
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import get_args

import pytest

import grape_verified
from grape_verified.conformance import CONTRACTS, check, conforms, parametrize_with_checks, testing
from grape_verified.conformance.report import VERDICTS, FailOn
from tests.docs.test_code_blocks import DOCS, blocks

from . import planted

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent.parent
PLUGIN = ("-p", "grape_verified_pytest", "-p", "no:cacheprovider", "--strict-markers")

LOSSES = """
import torch
from grape_verified import ppo_loss


def right(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2):
    return ppo_loss(logps, old_logps, advantages, mask, clip_low=clip_low, clip_high=clip_high)


def wrong(logps, old_logps, advantages, mask):
    return -ppo_loss(logps, old_logps, advantages, mask).loss


def overflows(logps, old_logps, advantages, mask):
    if advantages.ndim == 1:
        advantages = advantages[:, None].expand_as(logps)
    counted = mask.bool()
    ratio = torch.exp(torch.where(counted, logps - old_logps, 0))
    advantages = torch.where(counted, advantages, 0)
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).sum() / counted.sum().clamp(min=1)
"""

ONE_EACH = """
from grape_verified.conformance import conforms
from losses import overflows, right, wrong


def test_right():
    assert conforms(right, "ppo").accepted


def test_wrong():
    conforms(wrong, "ppo", options={"clip_low": 0.2})


def test_its_formula():
    conforms(overflows, "ppo", fail_on="formula")


def test_what_it_survives():
    conforms(overflows, "ppo", fail_on="robustness")
"""

BY_PROPERTY = """
from grape_verified.conformance import parametrize_with_checks
from losses import overflows, right, wrong

EXPECTED = {overflows: {"extremes": "exp overflows", "padding": "no longer"}}


@parametrize_with_checks([(right, "ppo"), (wrong, "ppo", {"clip_low": 0.2}), (overflows, "ppo")],
                         expected_failures=EXPECTED)
def test_losses(check):
    check()
"""

#: Leaves a line in a file for each check.
COUNTING = """
import os
from grape_verified.conformance import check as plain
from grape_verified.conformance import testing


def counted(function, contract, **how):
    with open("checks.txt", "a") as file:
        print(os.getpid(), function.__name__, how["examples"], file=file)
    return plain(function, contract, **how)


testing.check = counted
"""


@pytest.fixture
def losses():
    """The losses of the project."""
    found = {}
    exec(LOSSES, found)
    return found


@pytest.fixture
def project(pytester, monkeypatch):
    """A temporary project with losses and a count of checks."""
    monkeypatch.setattr(testing, "check", check)  # restored afterwards, as the project sets it
    pytester.makepyfile(losses=LOSSES)
    pytester.makeconftest(COUNTING)
    return pytester


def checks(project):
    """The checks that were made: process, function and number of inputs."""
    return [line.split() for line in (project.path / "checks.txt").read_text().splitlines()]


def outcomes(recorded):
    """The outcome of each test by the last words of its id; that of a test expected to fail is "xfailed"."""
    found = {}
    for report in recorded.getreports("pytest_runtest_logreport"):
        if report.when == "call":
            name = report.nodeid.partition("::")[2]
            found[name] = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
    return found


def in_a_process(folder, *arguments, **environment):
    """Run pytest in a process of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "spec")])
    return subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def scripts(text):
    """The scripts in an output: from the import of torch to the comment that says what was got."""
    return re.findall(
        r"^(import torch\n.*?^# [^\n]*got ([^,\n]*), (?:expected|but) [^\n]*\n)", text, re.DOTALL | re.MULTILINE
    )


# -- one assertion ----------------------------------------------------------------------------------------------------


def test_a_loss_passes_or_fails_with_both_verdicts_and_code_that_runs(project):
    project.makepyfile(test_losses=ONE_EACH)
    result = project.runpytest_inprocess(*PLUGIN, "--grape-verified-examples", "8")
    result.assert_outcomes(passed=2, failed=2)
    text = result.stdout.str()
    assert "wrong as ppo: rejected. Formula: wrong (value, gradient, kinks). Robustness: " in text
    assert "\nformula, value: the loss is 1.2, the spec gives -1.2\nimport torch\n" in text
    assert "overflows as ppo: rejected. Formula: right. Robustness: 1 finding (extremes).\n\nrobustness, ext" in text
    assert "testing.py" not in text  # no frames of ours
    project.syspathinsert()
    found = scripts(text)
    assert len(found) >= 4
    for script, got in found:
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(script, "pasted", "exec"), {})
        assert got in out.getvalue(), script


def test_an_assertion_says_the_same_without_the_plugin(losses):
    with pytest.raises(AssertionError) as error:
        conforms(losses["wrong"], "ppo", examples=8)
    report = check(losses["wrong"], "ppo", examples=8)
    first, _, rest = str(error.value).partition("\n")
    assert first == report.in_words()
    for verdict in ("formula", "robustness"):
        for finding, departure in report.departures(verdict):
            assert f"\n{verdict}, {finding.name}: {departure.text}\n{departure.counterexample}" in f"{rest}\n"


def test_parameters_are_bound_as_in_check(losses):
    def renamed(a, b, c, d):
        return losses["right"](logps=a, old_logps=b, advantages=c, mask=d)

    bind = {"a": "old_logps", "b": "logps"}
    with pytest.raises(AssertionError, match="Formula: wrong"):
        conforms(renamed, "ppo", examples=4, bind=bind)
    assert conforms(lambda a, b, c, d: renamed(b, a, c, d), "ppo", examples=4, bind=bind)


def test_what_is_rejected_is_what_fail_on_says():
    half = planted.half_precision
    assert conforms(half, "ppo", examples=8).named("noted")
    with pytest.raises(AssertionError, match=r"Robustness: no findings\. Notes: constants, dtype\.\n\nnoted, "):
        conforms(half, "ppo", examples=8, fail_on="all")
    with pytest.raises(AssertionError) as error:
        conforms(planted.noisy, "ppo", examples=8, fail_on="formula")
    assert "Formula: not known." in str(error.value)
    assert "\nrobustness, repeatable: gives different results for the same input" in str(error.value)


@pytest.mark.parametrize("name", ["right", "wrong", "overflows", "noisy", "half_precision"])
def test_a_function_is_rejected_for_something(name, losses):
    report = check(losses.get(name) or getattr(planted, name), "ppo", examples=8)
    for fail_on in get_args(FailOn):
        deciding = report.deciding(fail_on)
        assert bool(deciding) == report.fails(fail_on)
        one_verdict = fail_on in VERDICTS and report.formula != "not known"
        wanted = {fail_on} if one_verdict else set(VERDICTS)
        assert {departure.verdict for _, departure in deciding} <= wanted
        assert fail_on == "all" or "noted" not in {finding.status for finding, _ in deciding}


# -- a test for each property -----------------------------------------------------------------------------------------


def test_every_property_is_a_test_and_a_function_is_checked_once(project):
    project.makepyfile(test_losses=BY_PROPERTY)
    recorded = project.inline_run(*PLUGIN, "--grape-verified-examples", "8")
    found = outcomes(recorded)
    assert [name for _, name, _ in checks(project)] == ["right", "wrong", "overflows"]
    assert len(found) == 3 * len(CONTRACTS["ppo"].properties)
    assert found["test_losses[right-ppo-masked_values]"] == "passed"
    assert found["test_losses[right-ppo-dtype]"] == "passed"
    assert found["test_losses[right-ppo-partition]"] == "skipped"
    failed = {name for name, outcome in found.items() if outcome == "failed" and "wrong" in name}
    assert "test_losses[wrong-ppo-clip_low=0.2-value]" in failed
    assert found["test_losses[overflows-ppo-extremes]"] == "xfailed"


def test_outcomes_are_those_of_the_report(project, losses):
    project.makepyfile(test_losses=BY_PROPERTY.replace("EXPECTED = ", "EXPECTED = None and "))
    found = outcomes(project.inline_run(*PLUGIN, "--grape-verified-examples", "8"))
    usual = {"passed": "passed", "noted": "passed", "failed": "failed", "not run": "skipped"}
    seen = set()
    for id, options in (("right-ppo", {}), ("wrong-ppo-clip_low=0.2", {"clip_low": 0.2}), ("overflows-ppo", {})):
        report = check(losses[id.partition("-")[0]], "ppo", options=options, examples=8)
        for finding in report.properties:
            assert found[f"test_losses[{id}-{finding.name.replace(' ', '_')}]"] == usual[finding.status]
            seen.add(finding.status)
    assert seen == set(usual)


def test_reasons_are_shown_and_an_expected_failure_that_passes_is_reported(project):
    project.makepyfile(test_losses=BY_PROPERTY)
    result = project.runpytest_inprocess(*PLUGIN, "--grape-verified-examples", "8", "-rsx", "-k", "overflows")
    result.assert_outcomes(passed=len(CONTRACTS["ppo"].properties) - 4, failed=1, skipped=2, xfailed=1)
    text = result.stdout.str()
    assert "the function takes no `denominator`" in text
    assert "XFAIL test_losses.py::test_losses[overflows-ppo-extremes] - exp overflows" in text
    assert re.search(r"test_losses\[overflows-ppo-padding\] _+\n\[XPASS\(strict\)\] no longer\n", text)


def test_an_expected_failure_is_no_excuse_for_an_error(project):
    project.makepyfile(test_losses=BY_PROPERTY)
    project.makeconftest("from grape_verified.conformance import testing\ntesting.check = None")
    found = outcomes(project.inline_run(*PLUGIN, "-k", "overflows"))
    assert set(found.values()) == {"failed"}


def test_processes_share_the_tests(project):
    project.makepyfile(test_losses=BY_PROPERTY)
    run = in_a_process(project.path, "-n", "2", "--dist", "loadfile", "--grape-verified-examples", "8")
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"\d+ failed, \d+ passed, \d+ skipped, 1 xfailed in ", run.stdout.splitlines()[-1])
    assert "[XPASS(strict)] no longer" in run.stdout
    assert len(scripts(run.stdout)) >= 3
    assert sorted(name for _, name, _ in checks(project)) == ["overflows", "right", "wrong"]


def test_the_page_about_checking_shows_what_pytest_prints(pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = blocks(DOCS / "guide" / "check.md")
    for block in page:
        if block.file:
            (pytester.path / block.file).write_text(block.text, encoding="utf-8")
    (shown,) = [block.text for block in page if block.text.startswith("$ pytest ")]
    command, *expected = shown.rstrip().split("\n")
    result = pytester.runpytest_inprocess(*PLUGIN, *command.split()[2:])
    printed = [re.sub(r" in [\d.]+s.*$", "", line) for line in result.outlines if line]
    assert printed == [re.sub(r" in [\d.]+s$", "", line) for line in expected]


# -- how many inputs --------------------------------------------------------------------------------------------------


def test_the_number_of_inputs_is_that_of_the_call_the_command_or_the_file(project):
    project.makepyfile(
        test_losses="""
        from grape_verified.conformance import conforms
        from losses import right

        def test_asked():
            conforms(right, "ppo", examples=2)

        def test_usual():
            conforms(right, "ppo")
        """
    )
    project.inline_run(*PLUGIN, "--grape-verified-examples", "3")
    project.makeini("[pytest]\ngrape_verified_examples = 4")
    project.inline_run(*PLUGIN)
    project.inline_run(*PLUGIN, "--grape-verified-examples", "5")
    assert [examples for _, _, examples in checks(project)] == ["2", "3", "2", "4", "2", "5"]


def test_the_usual_number_is_that_of_check(monkeypatch):
    asked = []
    monkeypatch.setattr(testing, "check", lambda *_, examples, **__: asked.append(examples) or check(*_, examples=1))
    conforms(grape_verified.ppo_loss, "ppo")
    assert asked == [200]


@pytest.mark.parametrize("number", ["0", "-1", "many", "2.5"])
def test_a_wrong_number_is_refused_in_a_line(pytester, number):
    said = f"got {number!r}, expected a whole number of at least 1"
    result = pytester.runpytest_inprocess(*PLUGIN, f"--grape-verified-examples={number}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    pytester.makeini(f"[pytest]\ngrape_verified_examples = {number}")
    result = pytester.runpytest_inprocess(*PLUGIN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().strip() == f"ERROR: grape_verified_examples: {said}"


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda f: conforms(f, "pppo"), "contract: got 'pppo', expected the name of a contract; the "),
        (lambda f: conforms(f, "ppo", options={"clip": 1}), "options: got 'clip', expected some of clip_low, "),
        (lambda f: conforms(f, "ppo", options=[1]), "options: got [1], expected {name: value}"),
        (lambda f: conforms(f, "ppo", bind={"pi": "logps"}), "bind: got the parameter 'pi', expected one of logps, "),
        (lambda f: conforms(f, "ppo", examples=0), "examples: got 0, expected at least 1"),
        (lambda f: conforms(f, "ppo", fail_on="any"), "fail_on: got 'any', expected one of formula, robustness, "),
        (
            lambda f: check(f, "ppo", examples=1).fails("any"),
            "fail_on: got 'any', expected one of formula, robustness, ",
        ),
        (lambda f: parametrize_with_checks([]), "functions: got none, expected at least one (function, contract)"),
        (lambda f: parametrize_with_checks([(f,)]), "expected (function, contract) or (function, contract, options)"),
        (
            lambda f: parametrize_with_checks((f, "ppo")),
            "expected (function, contract) or (function, contract, options)",
        ),
        (
            lambda f: parametrize_with_checks([(f, "pppo")]),
            "contract: got 'pppo', expected the name of a contract; the ",
        ),
        (lambda f: parametrize_with_checks([(f, "ppo")], examples=0), "examples: got 0, expected at least 1"),
        (
            lambda f: _expecting(f, {"extremes": "too far"}),
            "expected_failures: got 'extremes', expected some of the functions ppo_loss",
        ),
        (lambda f: _expecting(f, {print: {}}), "expected_failures: got print, expected some of the functions ppo_loss"),
        (lambda f: _expecting(f, {f: ["value"]}), "got ['value'] for ppo_loss, expected {property: reason}"),
        (lambda f: _expecting(f, {f: {"extreme": "x"}}), "got 'extreme' for ppo_loss, expected some of signature, rep"),
        (lambda f: _expecting(f, {f: {"value": ""}}), "got '' for 'value' of ppo_loss, expected a reason in words"),
        (lambda f: _expecting(f, {f: {"value": None}}), "got None for 'value' of ppo_loss, expected a reason in words"),
    ],
)
def test_a_wrong_call_is_refused_in_a_line(call, text):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below
        call(grape_verified.ppo_loss)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def _expecting(function, failures):
    return parametrize_with_checks([(function, "ppo")], expected_failures=failures)


def test_pytest_shows_the_line_of_a_wrong_call_and_none_of_ours(project):
    project.makepyfile(
        test_contract=BY_PROPERTY.replace('(right, "ppo")', '(right, "pppo")'),
        test_property=BY_PROPERTY.replace('"extremes"', '"extreme"'),
        test_one="from grape_verified.conformance import conforms\ndef test_it():\n    conforms(print, 'pppo')",
    )
    result = project.runpytest_inprocess(*PLUGIN, "--continue-on-collection-errors")
    result.assert_outcomes(errors=2, failed=1)
    text = result.stdout.str()
    assert text.count("\nE   ValueError: ") == 2
    assert text.count("\nE       ValueError: ") == 1
    assert "testing.py" not in text
    assert "checking.py" not in text


# -- what starts with pytest ------------------------------------------------------------------------------------------


def test_a_run_without_losses_imports_nothing_heavy(tmp_path):
    (tmp_path / "run.py").write_text(
        "import sys, pytest\n"
        f"pytest.main([*{PLUGIN!r}, '--co', '-q', '--grape-verified-examples', '7'])\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in "
        "{'torch', 'numpy', 'sympy', 'hypothesis', 'grape_verified', 'grape_spec', 'grape_verified_pytest'}))\n"
    )
    run = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "['grape_verified_pytest']"


def test_pytest_is_needed_for_its_marks_only():
    program = """
import sys
sys.modules["pytest"] = None
import grape_verified
from grape_verified.conformance import conforms, parametrize_with_checks
conforms(grape_verified.ppo_loss, "ppo", examples=1)
try:
    parametrize_with_checks([(grape_verified.ppo_loss, "ppo")])
except ImportError as missing:
    print(missing)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pytest" in run.stdout


def test_the_entry_point_has_the_name_of_the_module():
    """With another name, `-p` with the name of the module would register the plugin a second time and fail."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    assert project["project"]["entry-points"]["pytest11"] == {"grape_verified_pytest": "grape_verified_pytest"}
    assert "grape_verified_pytest.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert (ROOT / "grape_verified_pytest.py").exists()
