# ruff: noqa: F811 - the fixture `folder`
"""Contracts that a module from outside holds: checked, listed, shown and verified by name, like ours."""

import json
import sys
from importlib.metadata import EntryPoint

import pytest
from grape_spec import outside

from grape_verified.conformance import CONTRACTS, CannotLoad, check, conforms, every_contract, load, registry
from grape_verified.conformance.ledger import read
from tests.test_cli import call
from tests.test_outside import GOOD, LEDGER, folder, forget, put  # noqa: F401 - a fixture

#: A module with the contract of a loss of its own, and two implementations of it.
HELD = """
import torch
from grape_verified.conformance import Formula, strategies, token_loss

def penalty(logps, ref_logps, mask, *, denominator=None):
    counted = mask.bool()
    per_token = torch.where(counted, logps - ref_logps, 0).square() / 2
    return per_token.sum() / (denominator or counted.sum().clamp(min=1))

def doubled(logps, ref_logps, mask, *, denominator=None):
    return 2 * penalty(logps, ref_logps, mask, denominator=denominator)

def tensors(plan):
    return {name: plan.numbers(name, strategies.LOGPS, plan.columns) for name in ("logps", "ref_logps")}

held = token_loss(
    "NAME_k2",
    term=Formula("kl.k2", absolute=("logp", "ref_logp"), scale=0),
    tensors=("logps", "ref_logps"),
    build=tensors,
    aggregation="token_mean",
    loss=penalty,
)
"""


def kernels():
    return [record.contract for record in read(LEDGER).kernels]


# -- from the command line --------------------------------------------------------------------------------------------


def test_check_takes_it_by_name(folder):
    put("squares", HELD)
    status, out, err = call("check", "squares:penalty", "--as", "squares_k2", "--from", "squares", "--examples", "20")
    assert (status, err) == (0, "")
    assert "penalty as squares_k2: accepted. Formula: right." in out
    status, out, _ = call("check", "squares:doubled", "--as", "squares_k2", "--from", "squares", "--examples", "20")
    assert status == 1
    assert "doubled as squares_k2: rejected. Formula: wrong (value, gradient" in out


def test_without_its_module_the_name_is_unknown_and_the_line_says_how_to_load_it(folder):
    put("squares", HELD)
    status, out, err = call("check", "squares:penalty", "--as", "squares_k2")
    assert (status, out) == (2, "")
    assert err.startswith("grape-verified: contract: got 'squares_k2', expected ")
    assert err.endswith("; for one of your own, name its module: --from MODULE, in Python load(MODULE)\n")


def test_list_and_show(folder):
    put("squares", HELD)
    ours = json.loads(call("list", "contracts", "--json")[1])
    assert [row["name"] for row in ours] == list(CONTRACTS)
    (row,) = json.loads(call("list", "contracts", "--from", "squares", "--json")[1])
    assert row["name"] == "squares_k2"
    assert row["module"] == "squares"
    assert row["function"] == "penalty"
    assert row["tensors"] == ["logps", "ref_logps", "mask"]
    assert row["differentiated"] == ["logps"]
    assert row["options"] == {"denominator": [None, 7, 2.5, 1]}
    assert "kl.k2" in row["rests_on"]
    assert call("list", "contracts", "--from", "squares")[1].split("\n")[1].split()[:2] == ["squares_k2", "penalty"]
    assert json.loads(call("show", "squares_k2", "--from", "squares", "--json")[1]) == row
    out = call("show", "squares_k2", "--from", "squares")[1]
    assert out.startswith("squares_k2  The contract of penalty, from the module squares.\n")
    assert "differentiated: logps; constant: ref_logps, mask\n" in out
    assert "  denominator: None; 7, 2.5, 1\n" in out
    assert call("show", "ppo")[1].startswith("ppo  The contract of ppo_loss, from this package.\n")


def test_a_module_without_contracts_has_none_to_list(folder):
    put("squares")
    status, out, err = call("list", "contracts", "--from", "squares")
    assert (status, out) == (2, "")
    assert err.endswith("grape-verified: --from: squares: no contract is declared there\n")


# -- verify -----------------------------------------------------------------------------------------------------------


def test_verify_checks_the_function_that_it_names(folder):
    put("squares", GOOD + HELD)
    status, out, _ = call("verify", "--from", "squares", "--examples", "10")
    assert status == 0, out
    assert "1 of 1 claims fully proved" in out
    assert "1 of 1 kernels accepted" in out
    assert kernels() == ["squares_k2"]


def test_verify_fails_where_the_function_is_wrong(folder):
    put("squares", HELD.replace("loss=penalty", "loss=doubled"))
    status, out, _ = call("verify", "--from", "squares", "--examples", "10")
    assert status == 1
    assert "doubled: value: the loss is " in out
    assert "0 of 1 kernels accepted" in out


def test_its_function_is_checked_again_in_each_run(folder):
    """Its code may have changed, and nothing records that."""
    put("squares", HELD)
    call("verify", "--from", "squares", "--examples", "5")
    out = call("verify", "--from", "squares", "--examples", "5")[1]
    assert "kept" not in out
    assert "1 of 1 kernels accepted" in out


def test_names_choose_claims_and_contracts(folder):
    put("squares", GOOD + HELD.replace('"kl.k2", absolute=("logp", "ref_logp"), scale=0', '"kl.k2", scale=0'))
    call("verify", "squares_k2", "--from", "squares", "--examples", "5")
    assert (kernels(), read(LEDGER).claims) == (["squares_k2"], ())
    LEDGER.unlink()
    call("verify", "squares", "--from", "squares", "--examples", "5")
    assert (kernels(), [record.id for record in read(LEDGER).claims]) == ([], ["squares.even"])
    status, out, err = call("verify", "squares_k3", "--from", "squares")
    assert (status, out) == (2, "")
    assert "there is no claim 'squares_k3'" in err


def test_its_record_is_kept_while_its_definitions_are_not_loaded(folder):
    own = GOOD + HELD.replace(
        '"kl.k2", absolute=("logp", "ref_logp"), scale=0', '"NAME.square", reads={"NAME_x": "logps"}'
    )
    put("squares", own.replace("return per_token", "return 2 * per_token"))
    call("verify", "--from", "squares", "--examples", "5")
    forget("squares")
    registry._HELD.clear()
    call("verify", "kl.log_bound")
    assert kernels() == ["squares_k2"]


# -- from Python ------------------------------------------------------------------------------------------------------


def test_a_loaded_contract_has_its_name_everywhere(folder):
    put("squares", HELD)
    sys.path.insert(0, str(folder))
    assert load("squares") == ()
    squares = sys.modules["squares"]
    assert set(every_contract()) - set(CONTRACTS) == {"squares_k2"}
    assert check(squares.penalty, "squares_k2", examples=5).accepted
    assert check(squares.penalty, squares.held[0], examples=5).accepted
    assert conforms(squares.penalty, "squares_k2", examples=5).accepted
    with pytest.raises(AssertionError, match="doubled as squares_k2: rejected"):
        conforms(squares.doubled, "squares_k2", examples=5)


def test_an_installed_package_is_asked_for_a_name_that_is_not_known(folder, monkeypatch):
    put("squares", HELD)
    sys.path.insert(0, str(folder))
    monkeypatch.setattr(outside, "entry_points", lambda group: [EntryPoint("any", "squares", group)])
    assert registry.contract_named("squares_k2").kernel == "penalty"


def test_an_installed_package_that_is_broken_is_named(folder, monkeypatch):
    put("squares", "1 / 0")
    sys.path.insert(0, str(folder))
    monkeypatch.setattr(outside, "entry_points", lambda group: [EntryPoint("mine", "squares", group)])
    with pytest.raises(
        ValueError, match=r"got 'pppo', which is not a contract of this package; the claims of .* mine: "
    ):
        check(print, "pppo")


def test_a_tuple_of_contracts_is_no_contract(folder):
    put("squares", HELD)
    sys.path.insert(0, str(folder))
    load("squares")
    squares = sys.modules["squares"]
    with pytest.raises(ValueError, match="contract: got a tuple of the contracts squares_k2, expected a c"):
        check(squares.penalty, squares.held)
    with pytest.raises(ValueError, match="contract: got a NoneType, expected a contract or its name, such as 'ppo'"):
        check(squares.penalty, None)


# -- names that clash -------------------------------------------------------------------------------------------------


def test_a_name_of_ours_is_refused(folder):
    put("squares", HELD.replace("NAME_k2", "dpo"))
    line = "squares: the contract 'dpo' already exists in this package: choose another name"
    assert call("check", "squares:penalty", "--as", "dpo", "--from", "squares") == (
        2,
        "",
        f"grape-verified: --from: {line}\n",
    )
    with pytest.raises(CannotLoad, match=line):
        load("squares")


def test_a_name_of_two_modules_is_refused(folder):
    put("squares", HELD)
    put("cubes", HELD.replace("NAME", "squares"))
    status, out, err = call("verify", "--from", "squares", "--from", "cubes")
    line = "cubes: the contract 'squares_k2' already exists in squares: choose another name"
    assert (status, out, err) == (2, "", f"grape-verified: --from: {line}\n")


def test_a_contract_that_two_modules_share_is_one(folder):
    put("squares", HELD)
    put("cubes", "from squares import held\nfrom grape_verified.conformance.contracts.dpo import CONTRACTS")
    status, out, _ = call("list", "contracts", "--from", "squares", "--from", "cubes", "--json")
    assert status == 0
    assert {row["name"] for row in json.loads(out)} == {"squares_k2"}
