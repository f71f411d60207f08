"""The command line, as a user types it: what it prints, and its exit status."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grape_verified.cli import app

runner = CliRunner()

GOOD = """
import torch
from grape_verified import ppo_loss

def good(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2):
    return ppo_loss(logps, old_logps, advantages, mask, clip_low=clip_low, clip_high=clip_high).loss

def wrong_sign(logps, old_logps, advantages, mask):
    return -ppo_loss(logps, old_logps, advantages, mask).loss

def raises(logps, old_logps, advantages, mask):
    raise RuntimeError("no such luck")

def a_tuple(logps, old_logps, advantages, mask):
    return ppo_loss(logps, old_logps, advantages, mask).loss, {}

def too_few(logps):
    return logps.sum()

def prints(logps, old_logps, advantages, mask):
    print("hello")
    return ppo_loss(logps, old_logps, advantages, mask).loss

def leaves(logps, old_logps, advantages, mask):
    raise SystemExit(0)

number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with a module of losses in it, as the current one."""
    monkeypatch.chdir(tmp_path)
    name = f"my_losses_{re.sub(r'[^a-z0-9]', '_', tmp_path.name.lower())}"
    Path(tmp_path / f"{name}.py").write_text(GOOD)
    return name


def call(*arguments):
    """Exit status, standard output, standard error."""
    result = runner.invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_verify_prints_a_table_and_writes_the_ledger(folder):
    status, out, _ = call("verify", "ppo.ratio", "--examples", "3")
    assert status == 0
    assert re.search(r"ppo\.ratio\.gradient\s+fully proved\s+all sizes\s+algebra", out)
    assert re.search(r"ppo_loss\s+ppo\s+accepted\s+14/14 passed", out)
    assert "1 of 1 claims fully proved" in out
    assert "0 contradictions" in out
    assert json.loads(Path("grape-verified-ledger.json").read_text())["holds"] is True


def test_verify_json_is_the_ledger_and_nothing_else(folder):
    status, out, _ = call("verify", "dpo.at_reference", "--json")
    assert status == 0
    assert json.loads(out)["claims"][0]["id"] == "dpo.at_reference"


def test_verify_writes_smt_queries_on_request(folder):
    assert call("verify", "kl.log_bound", "--smt2", "queries")[0] == 0
    assert list(Path("queries").glob("kl.log_bound.*.smt2"))


def test_verify_of_an_unknown_claim_names_the_nearest(folder):
    status, out, err = call("verify", "ppo.clip.gradeint")
    assert (status, out) == (2, "")
    assert err == "grape-verified: there is no claim 'ppo.clip.gradeint'; the nearest: " + err.split("the nearest: ")[1]
    assert "ppo.clip.gradient" in err
    assert err.count("\n") == 1


def test_verify_fails_with_a_line_for_what_does_not_hold(folder, monkeypatch):
    def broken(names, **kwargs):
        from grape_spec.proof import ledger

        record = ledger.examine("ppo.ratio.gradient")
        record["parts"][0] |= {"status": "unknown", "reason": "the engine was made to fail", "sound": False}
        record |= {"status": "unknown", "sound": False}
        return ledger.summarise([record], [], 0.1)

    monkeypatch.setattr("grape_verified.conformance.verification.verify", broken)
    status, out, _ = call("verify", "ppo.ratio")
    assert status == 1
    assert "ppo.ratio.gradient: unknown: the engine was made to fail" in out


def test_list_says_not_run_without_evidence_and_proved_with_it(folder):
    assert re.search(r"dpo\.reparametrisation\s+not run", call("list", "dpo")[1])
    call("verify", "dpo.reparametrisation")
    assert re.search(r"dpo\.reparametrisation\s+fully proved", call("list", "dpo")[1])
    rows = json.loads(call("list", "ppo", "--json")[1])
    assert {"id": "ppo.clip.kink", "status": "not run"}.items() <= {row["id"]: row for row in rows}[
        "ppo.clip.kink"
    ].items()


def test_evidence_on_an_earlier_version_does_not_count(folder):
    call("verify", "dpo.reparametrisation")
    ledger = json.loads(Path("grape-verified-ledger.json").read_text())
    ledger["claims"][0]["hash"] = "0" * 64
    Path("grape-verified-ledger.json").write_text(json.dumps(ledger))
    assert re.search(r"dpo\.reparametrisation\s+not run", call("list", "dpo")[1])
    assert "earlier version" in call("show", "dpo.reparametrisation")[1]


def test_show_prints_statement_assumptions_proof_and_evidence(folder):
    status, out, _ = call("show", "ppo.clip.gradient")
    assert status == 0
    assert "∂/∂ρ clipped_surrogate = " in out
    assert "assuming ρ ≠ clip_high + 1" in out
    assert "proof: chain rule with ppo.ratio.gradient" in out
    assert "ρ: positive; probability ratio, new policy over old" in out
    assert "evidence: not run" in out


def test_show_prints_the_steps_of_a_chain(folder):
    out = call("show", "policy.score.mean_zero")[1]
    assert "= (Σ_{a≤V} (δ(a, k) - softmax(k))*softmax(a))   by policy.log_softmax.gradient" in out
    assert "= 0   by finite sums" in out


def test_show_latex_and_json(folder):
    assert r"\frac{\partial}{\partial \ell}" in call("show", "ppo.ratio.gradient", "--latex")[1]
    shown = json.loads(call("show", "dpo.gradient", "--json")[1])
    assert shown["evidence"] is None
    assert [part["name"] for part in shown["parts"]] == ["in a parameter", "chosen", "rejected"]


def test_show_of_an_unknown_claim_names_the_nearest(folder):
    status, _, err = call("show", "dpo.gradien")
    assert status == 2
    assert "the nearest: dpo.gradient" in err


def test_cite_gives_bibtex_of_the_claim_and_of_its_source(folder):
    status, out, _ = call("cite", "dpo.gradient")
    assert status == 0
    assert "@misc{grape_verified:dpo.gradient," in out
    assert "@inproceedings{rafailov2023direct," in out
    assert out.count("{") == out.count("}")


def test_check_accepts_a_correct_function_and_says_what_it_does_not_take(folder):
    status, out, _ = call("check", f"{folder}:good", "--as", "ppo", "--examples", "20")
    assert status == 0, out
    assert "good as ppo: accepted" in out
    assert re.search(r"partition\s+not run", out)
    assert "aggregation" in out


def test_check_rejects_with_a_counterexample_to_paste(folder):
    status, out, _ = call("check", f"{folder}:wrong_sign", "--as", "ppo", "--examples", "20")
    assert status == 1
    assert re.search(r"value\s+failed", out)
    assert "import torch" in out
    assert "torch.tensor(" in out


def test_check_json_is_the_report(folder):
    status, out, _ = call("check", f"{folder}:wrong_sign", "--as", "ppo", "--examples", "10", "--json")
    report = json.loads(out)
    assert status == 1
    assert report["accepted"] is False
    assert {"name", "status", "text", "examples", "counterexample"} <= set(report["properties"][0])


@pytest.mark.parametrize(
    ("function", "sentence"), [("raises", "no such luck"), ("a_tuple", "tuple"), ("too_few", "cannot be called as")]
)
def test_check_reports_a_misbehaving_function_in_a_sentence(folder, function, sentence):
    status, out, err = call("check", f"{folder}:{function}", "--as", "ppo", "--examples", "5")
    assert status == 1
    assert sentence in out
    assert "Traceback" not in out + err


def test_what_the_function_prints_is_not_part_of_the_report(folder):
    status, out, err = call("check", f"{folder}:prints", "--as", "ppo", "--examples", "3", "--json")
    assert status == 0
    assert json.loads(out)["accepted"]
    assert "hello" in err


def test_check_leaves_nothing_in_the_folder(folder):
    before = {path.name for path in Path().iterdir()}
    call("check", f"{folder}:good", "--as", "ppo", "--examples", "3")
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == before


def test_an_exit_in_the_target_does_not_end_the_check(folder):
    status, out, _ = call("check", f"{folder}:leaves", "--as", "ppo", "--examples", "3")
    assert status == 1
    assert "raised SystemExit: 0" in out
    Path("leaving.py").write_text("import sys; sys.exit(0)")
    status, out, err = call("check", "leaving:f", "--as", "ppo")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == "grape-verified: cannot import leaving: SystemExit: 0"


def test_a_ledger_that_cannot_be_written_is_said_before_the_work(folder):
    status, out, err = call("verify", "dpo.at_reference", "--ledger", "no/such/folder/ledger.json")
    assert (status, out) == (2, "")
    assert err == "grape-verified: --ledger: cannot write no/such/folder/ledger.json: No such file or directory\n"


@pytest.mark.parametrize("text", ["", "[]", '{"claims": [{"id": "dpo.gradient"}]}', "not json"])
def test_a_file_that_is_no_ledger_is_refused(folder, text):
    Path("other.json").write_text(text)
    for command in (("list",), ("show", "dpo.gradient")):
        status, _, err = call(*command, "--ledger", "other.json")
        assert status == 2
        assert err == "grape-verified: --ledger: other.json is not a ledger of grape-verified verify\n"
    assert call("list", "--ledger", ".")[0] == 2


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("no_such_module:f", "cannot import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"),
        ("{module}:nothing", "the module {module} has no nothing"),
        ("{module}:number", "{module}:number is a int, expected a function"),
        ("justaname", "got 'justaname', expected MODULE:FUNCTION, such as mypackage.losses:my_loss"),
    ],
)
def test_check_of_what_is_not_there_is_one_line(folder, target, line):
    status, out, err = call("check", target.format(module=folder), "--as", "ppo")
    assert (status, out) == (2, "")
    assert err == f"grape-verified: {line.format(module=folder)}\n"


def test_check_as_an_unknown_contract_names_them_all(folder):
    status, _, err = call("check", f"{folder}:good", "--as", "pppo")
    assert status == 2
    assert err.startswith("grape-verified: contract: got 'pppo'")
    assert "expected one of token_logps, token_entropies, " in err


def test_check_refuses_an_option_that_the_contract_does_not_have(folder):
    status, _, err = call("check", f"{folder}:good", "--as", "ppo", "--option", "epsilon=0.1")
    assert status == 2
    assert "options: got 'epsilon'" in err
    assert call("check", f"{folder}:good", "--as", "ppo", "--option", "epsilon")[0] == 2


def test_a_wrong_call_has_exit_status_two(folder):
    assert call("frobnicate")[0] == 2
    assert call("check", f"{folder}:good")[0] == 2
    assert call("verify", "--examples", "0")[0] == 2
