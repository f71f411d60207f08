"""The command line, as a user types it: what it prints, and its exit status."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import jsonschema
import pytest
from grape_spec.language.registry import _DERIVED, CLAIMS, DEFINITIONS, DERIVATIONS
from grape_spec.proof.examine import examine
from grape_spec.references import YEAR, bibtex, tex, work, works
from hypothesis import configuration
from typer.testing import CliRunner

from grape_verified.cli import app
from grape_verified.conformance import CONTRACTS, checking, verification
from grape_verified.conformance.ledger import schema, summarise
from tests.tables import with_first_negated

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

class Clipped:
    def __init__(self, clip_eps=0.2):
        if clip_eps < 0:
            raise ValueError("clip_eps must not be negative")
        self.clip_eps = clip_eps

    def __call__(self, logps, old_logps, advantages, mask):
        return good(logps, old_logps, advantages, mask, clip_low=self.clip_eps, clip_high=self.clip_eps)

    def twice(self, logps, old_logps, advantages, mask):
        return 2 * self(logps, old_logps, advantages, mask)


instance = Clipped(0.1)


def named(pi, log_prob_old, adv, response_mask):
    return good(pi, log_prob_old, adv, response_mask)


def a_tuple(logps, old_logps, advantages, mask):
    return {}, ppo_loss(logps, old_logps, advantages, mask).loss

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
    status, out, _ = call("verify", "reinforce.surrogate", "--examples", "3")
    assert status == 0
    assert re.search(r"reinforce\.surrogate\s+fully proved\s+all sizes\s+algebra", out)
    assert re.search(r"reinforce_loss\s+reinforce\s+accepted\s+\d+/\d+ passed", out)
    assert "1 of 1 claims fully proved" in out
    assert "0 contradictions" in out
    assert json.loads(Path("grape-verified-ledger.json").read_text())["holds"] is True


def test_verify_json_is_the_ledger_and_nothing_else(folder):
    status, out, _ = call("verify", "dpo.at_reference", "--json")
    assert status == 0
    assert json.loads(out)["claims"][0]["id"] == "dpo.at_reference"


def statuses():
    return {row["id"]: row["status"] for row in json.loads(call("list", "--json")[1]) if row["status"] != "not run"}


def test_verify_of_a_part_keeps_what_the_ledger_has_of_the_rest(folder):
    ledger = Path("grape-verified-ledger.json")
    call("verify", "dpo.at_reference", "reinforce.surrogate", "--examples", "3")
    before = json.loads(ledger.read_text())
    status, out, _ = call("verify", "kl.nonnegative", "--examples", "3")
    assert status == 0
    assert "2 of 2 claims fully proved" in out
    assert "0 of 0 kernels accepted" in out
    after = json.loads(ledger.read_text())
    jsonschema.validate(after, schema())
    run = statuses()
    assert set(run) == {"kl.log_bound", "kl.nonnegative", "reinforce.surrogate", "dpo.at_reference"}
    assert [record["id"] for record in after["claims"]] == [id for id in CLAIMS if id in run]
    assert after["summary"]["claims"] == 4
    assert after["kernels"] == before["kernels"]
    assert after["summary"]["kernels"] == len(before["kernels"]) > 0
    for record in before["claims"]:
        assert record in after["claims"]


def test_verify_of_a_part_replaces_its_own_records_and_drops_those_that_no_longer_match(folder):
    path = Path("grape-verified-ledger.json")
    call("verify", "dpo.at_reference", "reinforce.surrogate", "--examples", "3")
    ledger = json.loads(path.read_text())
    claims = {record["id"]: record for record in ledger["claims"]}
    claims["dpo.at_reference"]["seconds"] = 1e6
    claims["reinforce.surrogate"]["fingerprint"] = ledger["kernels"][0]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(ledger))
    call("verify", "dpo.at_reference", "--fresh")
    after = json.loads(path.read_text())
    assert [record["id"] for record in after["claims"]] == ["dpo.at_reference"]
    assert after["claims"][0]["seconds"] < 1e6
    assert after["kernels"] == ledger["kernels"][1:]
    for other, kept in (("torch", {"dpo.at_reference"}), ("spec code", set())):
        path.write_text(json.dumps({**ledger, "versions": {**ledger["versions"], other: "0"}}))
        call("verify", "kl.log_bound")
        assert set(statuses()) == {"kl.log_bound"} | kept
        assert json.loads(path.read_text())["kernels"] == []


def test_a_part_that_fails_fails_the_run_and_a_failure_that_is_kept_does_not(folder):
    path = Path("grape-verified-ledger.json")
    call("verify", "dpo.at_reference")
    ledger = json.loads(path.read_text())
    ledger["claims"][0]["parts"][0]["status"] = "unknown"
    path.write_text(json.dumps(ledger))
    assert call("verify", "kl.log_bound")[0] == 0
    assert json.loads(path.read_text())["holds"] is False
    assert statuses() == {"kl.log_bound": "fully proved", "dpo.at_reference": "unknown"}


def test_verify_of_a_part_does_not_overwrite_what_is_no_ledger(folder):
    Path("notes.json").write_text('{"mine": 1}')
    status, out, err = call("verify", "kl.log_bound", "--ledger", "notes.json")
    assert (status, out) == (2, "")
    assert err == "grape-verified: --ledger: notes.json is not a grape-verified ledger\n"
    assert Path("notes.json").read_text() == '{"mine": 1}'


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
        record = examine("ppo.ratio.gradient")
        part = replace(record.parts[0], status="unknown", reason="the engine was made to fail")
        return summarise([replace(record, parts=(part,))], [], 0.1)

    monkeypatch.setattr("grape_verified.conformance.verification.verify", broken)
    status, out, _ = call("verify", "ppo.ratio")
    assert status == 1
    assert "ppo.ratio.gradient: unknown: the engine was made to fail" in out


def test_verify_fails_on_a_wrong_line_of_a_derivation_and_names_it(folder, monkeypatch):
    """And `show` prints the derivation, with what the ledger says of its lines."""
    key = ("policy.softmax.jacobian", "")
    assert call("verify", key[0])[0] == 0
    lines = DERIVATIONS[key][0].lines
    shown = call("show", key[0])[1]
    assert f"derivation, lines checked: {len(lines)} of {len(lines)} proved" in shown
    assert all(entry.reason in shown for entry in lines)
    monkeypatch.setitem(_DERIVED, key, with_first_negated(key))
    status, out, _ = call("verify", key[0])
    assert status == 1
    assert f"{key[0]}: line 1 of its derivation, '{lines[0].reason}': refuted; witness" in out
    assert "0 of 1 claims fully proved" in out
    assert f"{len(lines) - 2} of {len(lines)} proved" in call("show", key[0])[1]


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
    assert "∂L^CLIP(ρ)/∂ρ = { A if (A < 0 and ρ ≥ 1 - ε) or" in out
    assert "assuming ρ ≠ 1 + ε', ρ ≠ 1 - ε" in out
    assert "proof: chain rule with ppo.ratio.gradient" in out
    assert "ρ: positive; probability ratio, new policy over old" in out
    assert "ε' (clip_high): non-negative; " in out
    assert "evidence: not run" in out


def test_show_prints_the_steps_of_a_chain(folder):
    out = call("show", "policy.score.mean_zero")[1]
    assert "= Σ_{a=1}^{|V|} πₐ(z) (δ_{a,k} - πₖ(z))   by policy.log_softmax.gradient" in out
    assert "= 0   by finite sums" in out


def test_show_latex_and_json(folder):
    assert r"\frac{\partial \rho}{\partial \ell} = \rho" in call("show", "ppo.ratio.gradient", "--latex")[1]
    shown = json.loads(call("show", "dpo.gradient", "--json")[1])
    assert shown["evidence"] is None
    assert [part["name"] for part in shown["parts"]] == ["in a parameter", "chosen", "rejected"]


def test_show_of_an_unknown_claim_names_the_nearest(folder):
    status, _, err = call("show", "dpo.gradien")
    assert status == 2
    assert "the nearest: dpo.gradient" in err


def test_show_prints_a_definition_and_what_rests_on_it(folder):
    status, out, _ = call("show", "ppo.ratio")
    assert status == 0
    assert "ppo.ratio  Probability ratio of a token" in out
    assert "ρ = e^{ℓ - ℓ_old}" in out
    assert "ℓ (logp): real; log-probability of the token" in out
    assert "grpo.token_objective" in out.split("used by: ")[1].splitlines()[0]
    assert "claims: ppo.ratio.gradient, ppo.clip.gradient" in out
    assert "source: [schulman2017ppo], eq. 6" in out
    assert call("show", "ppo.ratio", "--latex")[1] == "\\rho = e^{\\ell - \\ell_{\\mathrm{old}}}\n"


@cache
def shown_as_json(id):
    status, out, _ = call("show", id, "--json")
    assert status == 0
    return json.loads(out)


@pytest.mark.parametrize("id", DEFINITIONS)
def test_every_definition_is_shown_with_what_speaks_of_it(id):
    shown = shown_as_json(id)
    assert {"id", "text", "statement", "latex", "convention", "source", "symbols"} <= set(shown)
    for other in shown["used_by"]:
        assert id in shown_as_json(other)["uses"]
    for claim in shown["claims"]:
        assert id in [entry["id"] for entry in shown_as_json(claim)["definitions"]]


def test_cite_gives_bibtex_of_the_claim_and_of_its_source(folder):
    status, out, _ = call("cite", "dpo.gradient")
    assert status == 0
    assert "@misc{grape_verified:dpo.gradient," in out
    assert "@inproceedings{rafailov2023direct," in out
    assert out.count("{") == out.count("}")


def entries(text):
    """The entries of a BibTeX file, each cut out by counting braces: its key and its fields as they stand."""
    found = {}
    while text := text.lstrip():
        kind, key = re.match(r"@(\w+)\{([\w:.]+),\n", text).groups()
        length, depth = text.index("{") + 1, 1
        while depth:
            depth += {"{": 1, "}": -1}.get(text[length], 0) if text[length - 1] != "\\" else 0
            length += 1
        body, text = text[len(f"@{kind}{{{key},\n") : length - 1], text[length:]
        assert re.fullmatch(r"( +\w+ += \{.*\},?\n)+", body), body
        assert key not in found
        found[key] = dict(re.findall(r"^ +(\w+) += \{(.*)\},?$", body, re.MULTILINE))
    return found


def outside_mathematics(text):
    """What is left of LaTeX without its formulas, commands, escaped signs and braces."""
    return re.sub(r"\$[^$]+\$|\\[a-z]+(?=[^a-z])|\\[#$%&_{}]|[{}]", "", text)


@pytest.mark.parametrize("id", [*CLAIMS, *DEFINITIONS])
def test_what_cite_prints_is_bibtex(id):
    status, out, _ = call("cite", id)
    source = ({**DEFINITIONS, **CLAIMS})[id].source.key
    found = entries(out)
    assert status == 0
    assert list(found) == [f"grape_verified:{id}", *([source] if source != "derived" else [])]
    for fields in found.values():
        assert re.fullmatch(r"(19|20)\d\d", fields["year"])
        assert {"author", "title"} <= set(fields)
        for name in fields:
            assert not re.search(r"[^ -~]|[\\_^$&%#~<>|*]", outside_mathematics(fields[name])), fields[name]
            assert fields[name].isascii()


def test_every_entry_of_the_references_ends_before_the_next_begins():
    text = (Path(__file__).parents[1] / "spec/grape_spec/references.bib").read_text()
    assert list(entries(text)) == list(works())


def test_pybtex_reads_what_cite_prints():
    database = pytest.importorskip("pybtex.database", reason="pybtex is not installed")
    for id, entry in {**DEFINITIONS, **CLAIMS}.items():
        found = database.parse_string(bibtex(entry, "1.0", f"https://site/{id}/"), "bibtex").entries
        assert found[f"grape_verified:{id}"].fields["url"] == f"https://site/{id}/"
        source = [] if entry.source.key == "derived" else [entry.source.key]
        assert list(found) == [f"grape_verified:{id}", *source]


def test_what_is_on_arxiv_says_so_in_the_fields_for_it():
    on_arxiv = {key: found[1] for key, entry in works().items() if (found := re.search(r"arXiv:([\d.]+)", entry))}
    assert len(on_arxiv) > 20
    for key in works():
        fields = work(key)
        assert fields.get("eprint") == on_arxiv.get(key)
        assert fields.get("archivePrefix") == ("arXiv" if key in on_arxiv else None)


def test_the_year_is_that_of_the_release():
    text = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    assert re.search(r"^date-released: (\d+)-\d\d-\d\d$", text, re.MULTILINE)[1] == str(YEAR)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("A_t = δ_t + γλ A_{t+1}", r"A$_{t}$ = $\delta_{t}$ + $\gamma\lambda$ A$_{t+1}$"),
        ("under sequence_mean, π_old and r_max", r"under sequence\_mean, $\pi_{\mathrm{old}}$ and r$_{\mathrm{max}}$"),
        (
            "(1 − λ)λ^(n−1), F⁻¹g, εα², dᵀ",
            r"(1 $-$ $\lambda$)$\lambda^{n-1}$, F$^{-1}$g, $\varepsilon\alpha^{2}$, d$^{\top}$",
        ),
        ("0 + 1 + … + (T − 1)", r"0 + 1 + $\dots$ + (T $-$ 1)"),
        ("a_{λx} at 5 % & β > 0", r"a$_{\lambda x}$ at 5 \% \& $\beta$ $>$ 0"),
    ],
)
def test_a_sentence_becomes_latex(text, latex):
    assert tex(text) == latex


def test_check_accepts_a_correct_function_and_says_what_it_does_not_take(folder):
    status, out, _ = call("check", f"{folder}:good", "--as", "ppo", "--examples", "20")
    assert status == 0, out
    assert "good as ppo: accepted. Formula: right. Robustness: no findings." in out
    assert re.search(r"partition\s+not run", out)
    assert "aggregation" in out


def test_check_rejects_with_a_counterexample_to_paste(folder):
    status, out, _ = call("check", f"{folder}:wrong_sign", "--as", "ppo", "--examples", "20")
    assert status == 1
    assert re.search(r"value\s+failed", out)
    assert "import torch" in out
    assert "torch.tensor(" in out


@pytest.mark.parametrize(
    ("target", "arguments", "status", "said"),
    [
        ("Clipped()", (), 0, "accepted"),
        (".py:Clipped()", (), 0, "accepted"),
        ("Clipped(clip_eps=0.2)", (), 0, "accepted"),
        ("Clipped(0.3)", (), 1, "Formula: wrong"),
        ("Clipped(0.3)", ("--option", "clip_low=0.3", "--option", "clip_high=0.3"), 0, "accepted"),
        ("instance", ("--option", "clip_low=0.1", "--option", "clip_high=0.1"), 0, "accepted"),
        ("Clipped(clip_eps=0.2).twice", (), 1, "Formula: wrong"),
        ("named", (), 0, "pi is logps, log_prob_old is old_logps, adv is advantages, response_mask is mask"),
        ("named", ("--bind", "pi=old_logps", "--bind", "log_prob_old=logps"), 1, "Formula: wrong"),
    ],
)
def test_check_takes_what_a_stranger_has(folder, target, arguments, status, said):
    path = f"{folder}{target}" if target.startswith(".py:") else f"{folder}:{target}"
    found, out, err = call("check", path, "--as", "ppo", "--examples", "20", *arguments)
    assert (found, err) == (status, ""), out
    assert said in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("named", "--bind", "pi"), "--bind: got 'pi', expected PARAMETER=NAME, such as new=logps"),
        (("named", "--bind", "new=logps"), "bind: got the parameter 'new', expected one of pi, log_prob_old,"),
        (("named", "--bind", "pi=logits"), "bind: got 'logits' for pi, expected one of logps, old_logps,"),
        (("Clipped",), "Clipped is a class, expected a function; give what it is made with: "),
        (("Clipped(-1)",), "ValueError: clip_eps must not be negative"),
        (("Clipped(beta=1)",), "TypeError: Clipped.__init__() got an unexpected keyword argument 'beta'"),
        (
            ("Clipped(torch.tensor(1))",),
            "expected MODULE:FUNCTION or MODULE:CLASS(NAME=VALUE), with literals as values",
        ),
        (("good +",), "expected MODULE:FUNCTION or MODULE:CLASS(NAME=VALUE), with literals as values"),
        (("instance.nothing",), "has no instance.nothing"),
    ],
)
def test_check_says_in_a_line_what_cannot_be_made_or_bound(folder, arguments, line):
    target, *others = arguments
    status, out, err = call("check", f"{folder}:{target}", "--as", "ppo", "--examples", "5", *others)
    assert (status, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1


def test_check_json_is_the_report(folder):
    status, out, _ = call("check", f"{folder}:wrong_sign", "--as", "ppo", "--examples", "10", "--json")
    report = json.loads(out)
    assert status == 1
    assert report["accepted"] is False
    assert {"name", "status", "text", "examples", "verdict", "departures"} <= set(report["properties"][0])


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


def test_nothing_that_the_function_writes_reaches_standard_output(folder):
    module = """
        import os, sys
        from grape_verified import ppo_loss
        print("on import")
        def f(logps, old_logps, advantages, mask):
            print("printed")
            sys.__stdout__.write("past the redirection\\n")
            os.write(1, b"past Python\\n")
            os.system("echo from a child")
            return ppo_loss(logps, old_logps, advantages, mask).loss
    """
    Path("noisy.py").write_text(dedent(module))
    command = [sys.executable, "-m", "grape_verified", "check", "noisy:f", "--as", "ppo", "--examples", "1", "--json"]
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"]
    for written in ("on import", "printed", "past the redirection", "past Python", "from a child"):
        assert written in done.stderr


def test_check_leaves_nothing_in_the_folder(folder):
    before = {path.name for path in Path().iterdir()}
    call("check", f"{folder}:good", "--as", "ppo", "--examples", "3")
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == before


def test_verify_leaves_the_ledger_and_nothing_else_in_the_folder(tmp_path):
    """In a process of its own: Hypothesis keeps what it finds in modules in a folder, once for each process."""
    command = [sys.executable, "-m", "grape_verified", "verify", "reward.bradley_terry.gradient", "--examples", "3"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir()] == ["grape-verified-ledger.json"]


def test_a_worker_of_verify_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "os", SimpleNamespace(dup2=lambda *descriptors: None))
    configuration.set_hypothesis_home_dir(tmp_path)
    assert configuration.storage_directory("constants").path.is_relative_to(tmp_path)
    verification._alone(())
    assert not configuration.storage_directory("constants").path.is_relative_to(tmp_path)


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
        assert err == "grape-verified: --ledger: other.json is not a grape-verified ledger\n"
    assert call("list", "--ledger", ".")[0] == 2


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("no_such_module:f", "cannot import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"),
        ("{module}:nothing", "the module {module} has no nothing"),
        ("{module}:number", "{module}:number is a int, expected a function"),
        ("no_such_file.py:f", "there is no file no_such_file.py"),
        ("/dev/no.py:f", "there is no file /dev/no.py"),
        ("justaname", "got 'justaname', expected MODULE:FUNCTION, such as mypackage.losses:my_loss"),
    ],
)
def test_check_of_what_is_not_there_is_one_line(folder, target, line):
    status, out, err = call("check", target.format(module=folder), "--as", "ppo")
    assert (status, out) == (2, "")
    assert err == f"grape-verified: {line.format(module=folder)}\n"


LEAVES = "import os\nos._exit(0)\n"
LEAVES_WHEN_MADE = "import os\nclass Made:\n    def __init__(self):\n        os._exit(0)\n"


@pytest.mark.parametrize(
    ("module", "command"),
    [
        (LEAVES, ("check", "leaver:f", "--as", "ppo")),
        (LEAVES, ("identify", "leaver.py:f")),
        (LEAVES, ("list", "--from", "leaver")),
        (LEAVES_WHEN_MADE, ("check", "leaver:Made()", "--as", "ppo")),
    ],
)
def test_a_module_that_ends_the_process_is_said_and_is_no_success(tmp_path, module, command):
    (tmp_path / "leaver.py").write_text(module)
    run = subprocess.run(
        [sys.executable, "-m", "grape_verified", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "SystemExit: os._exit(0)" in run.stderr or "leaver: os._exit(0)" in run.stderr
    assert run.stderr.count("\n") == 1


def test_check_as_an_unknown_contract_names_the_nearest(folder):
    status, _, err = call("check", f"{folder}:good", "--as", "pppo")
    assert status == 2
    assert err.startswith("grape-verified: contract: got 'pppo'")
    assert "expected the name of a contract; the nearest: ppo" in err


def test_check_refuses_an_option_that_the_contract_does_not_have(folder):
    status, _, err = call("check", f"{folder}:good", "--as", "ppo", "--option", "epsilon=0.1")
    assert status == 2
    assert "options: got 'epsilon'" in err
    assert call("check", f"{folder}:good", "--as", "ppo", "--option", "epsilon")[0] == 2


@pytest.mark.parametrize(
    ("contract", "option", "message"),
    [
        ("ppo", "clip_low=-1", "clip_low: got -1, expected a number in [0, 1]"),
        ("ppo", "clip_low=abc", "clip_low: got str, expected a number in [0, 1]"),
        ("ppo", "aggregation=fixed_length", "max_length: got None, expected an integer > 0, which 'fixed_length' "),
        ("ppo", "max_length=6", "max_length: got 6, expected None with aggregation 'token_mean'"),
        ("gae", "lam=2", "lam: got 2, expected a number in [0, 1]"),
        ("dpo", "beta=-1", "beta: got -1, expected a finite number > 0"),
        ("dpo", "label_smoothing=0.5", "label_smoothing: got 0.5, expected a number in [0, 0.5)"),
        ("whiten", "ddof=5", "ddof: got 5, expected 0 or 1"),
        ("kl_estimate", "estimator=k4", "estimator: got 'k4', expected one of 'k1', 'k2', 'k3'"),
        ("group_advantages", "group_size=abc", "group_size: got 'abc', expected an integer >= 1"),
    ],
)
def test_check_refuses_a_value_that_the_option_cannot_have(folder, contract, option, message):
    status, out, err = call("check", f"{folder}:prints", "--as", contract, "--option", option)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"grape-verified: {message}")
    assert "hello" not in err, "the function was called"


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_value_that_check_draws_may_be_held(contract):
    """Together with values of others that give it an effect, as they are drawn."""
    bound = CONTRACTS[contract]
    for name, option in bound.options.items():
        beside = [{other: v} for other in bound.options if other != name for v in bound.options[other].others]
        for value in (option.default, *option.others):
            drawn = (
                bound.fit({**bound.defaults({}), **more, name: value}, [*{*bound.options} - {name}])
                for more in ({}, *beside)
            )
            assert any(it[name] == value and may_be_held(contract, it) for it in drawn), f"{name}={value}"


def may_be_held(contract, options):
    try:
        return checking.checked_options(CONTRACTS[contract], options) == options
    except ValueError:
        return False


def test_a_wrong_call_has_exit_status_two(folder):
    assert call("frobnicate")[0] == 2
    assert call("check", f"{folder}:good")[0] == 2
    assert call("verify", "--examples", "0")[0] == 2
