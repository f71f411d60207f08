"""The likeliest mistakes of a first contract are answered in one line that says what to write instead."""

import re

import pytest
import torch
from grape_spec.language import Positive, Real, define, symbol
from grape_spec.language.registry import definition
from sympy import log

from grape_verified.conformance import Formula, check, estimator, pair_loss, sequence_loss, strategies, token_loss
from grape_verified.conformance.mistakes import WrongContract
from tests.test_cli import call
from tests.test_outside import folder, put  # noqa: F401 - a fixture

K2 = Formula("kl.k2", absolute=("logp", "ref_logp"), scale=0)
TENSORS = ("logps", "ref_logps")


def penalty(logps, ref_logps, mask, *, beta=1.0, denominator=None):
    counted = mask.bool()
    per_token = torch.where(counted, logps - ref_logps, 0).square() / 2
    return beta * per_token.sum() / (denominator or counted.sum().clamp(min=1))


def tensors(plan):
    return {name: plan.numbers(name, strategies.LOGPS, plan.columns) for name in TENSORS}


def contract(family=token_loss, **changed):
    """The contract of the penalty, with something changed; what is changed to `...` is left out."""
    usual = {"name": "k2_penalty", "term": K2, "tensors": TENSORS, "build": tensors, "loss": penalty}
    if family is token_loss:
        usual["aggregation"] = "token_mean"
    given = {name: value for name, value in {**usual, **changed}.items() if value is not ...}
    return family(given.pop("name"), **given)[0]


def built(**changed):
    """A `build` that makes something else of some tensors."""
    return lambda plan: {name: changed[name](x, plan) if name in changed else x for name, x in tensors(plan).items()}


def checked(**changed):
    return check(penalty, contract(**changed), examples=5)


def pairs(plan):
    return {name: plan.numbers(name, strategies.SUMS) for name in ("chosen_logps", "rejected_logps")}


def of_logarithms():
    """A formula that has no value where a number is 0."""
    x = symbol("own_x", Real, "a number")
    define("own.log", "A logarithm.", (x,), log(x))
    return Formula("own.log", reads={"own_x": "logps"})


def of_quotients():
    """A formula that is 1/0 where a number is 0."""
    x = symbol("own_x", Real, "a number")
    define("own.inverse", "An inverse.", (x,), 1 / x)
    return Formula("own.inverse", reads={"own_x": "logps"})


def of_target():
    x, target = symbol("own_x", Real, "a number"), symbol("own_target", Positive, "a target")
    define("own.shifted", "A number.", (x, target), x - target)
    return "own.shifted"


WITHOUT_REFERENCE = {"ref_chosen_logp": 0, "ref_rejected_logp": 0, "beta": 1}

#: What goes wrong, how it is written, and words of the answer.
MISTAKES = {
    "a definition that is not there": (
        lambda: contract(term=Formula("kl.k22")), "term: there is no definition 'kl.k22'; the nearest: kl.k2",
    ),
    "a claim for a definition": (
        lambda: contract(term=Formula("kl.k2.loss_gradient")),
        "term: 'kl.k2.loss_gradient' is a claim, expected the id of a definition",
    ),
    "an id for a formula": (lambda: contract(term="kl.k2"), "term: got 'kl.k2', expected Formula('kl.k2')"),
    "a definition for a formula": (
        lambda: contract(term=definition("kl.k2")), "term: got 'kl.k2', expected Formula('kl.k2')",
    ),
    "a definition for its id": (
        lambda: contract(term=Formula(definition("kl.k2"))), "term: got Definition kl.k2, expected an id: 'kl.k2'",
    ),
    "options of a formula that there are not": (
        lambda: contract(term=lambda options: Formula("kl.k2", scale=options["beta"])),
        "term: reads the option 'beta', expected some of options: denominator",
    ),
    "a symbol that is neither a tensor nor an option": (
        lambda: contract(term=Formula(of_target(), reads={"own_x": "logps"}), wrt=("logps",)),
        "term: own.shifted depends on own_target, which is neither a tensor nor an option: add it to one of them, or "
        "name it with reads={'own_target': 'NAME'}",
    ),
    "a symbol that is read from nothing": (
        lambda: contract(term=Formula(of_target(), reads={"own_x": "logps", "own_target": "targett"})),
        "reads: own_target is 'targett', which is neither a tensor nor an option",
    ),
    "a reading of no symbol": (
        lambda: contract(term=Formula("kl.k2", reads={"logps": "logps"})),
        "reads: got 'logps', expected some of the symbols logp, ref_logp",
    ),
    "a rounding of no symbol": (
        lambda: contract(term=Formula("kl.k2", absolute=("logps",))),
        "absolute: got 'logps', expected some of the symbols logp, ref_logp",
    ),
    "a slope that is no claim": (
        lambda: contract(term=Formula("kl.k2", slope=("kl.k2.gradient", ""))),
        "slope: there is no claim 'kl.k2.gradient'",
    ),
    "a part that a claim has not": (
        lambda: contract(term=Formula("kl.k2", slope=("dpo.gradient", "left"))),
        "slope: dpo.gradient has no part 'left', expected one of ",
    ),
    "a tensor that is not there": (
        lambda: contract(wrt=("logp",)), "wrt: got 'logp', expected some of the tensors logps, ref_logps",
    ),
    "a tensor that the formula does not read": (
        lambda: contract(tensors=(*TENSORS, "values"), wrt=("values",)), "wrt: kl.k2 does not depend on values",
    ),
    "a text for names": (
        lambda: contract(tensors="logps"), "tensors: got 'logps', expected names: tensors=('logps', …)",
    ),
    "a text for wrt": (lambda: contract(wrt="logps"), "wrt: got 'logps', expected names: wrt=('logps', …)"),
    "a mask that is added": (lambda: contract(tensors=(*TENSORS, "mask")), "tensors: got 'mask', which is added"),
    "a name that is no word": (lambda: contract(name="k2 penalty"), "name: got 'k2 penalty', expected a word"),
    "an option that is not in the signature": (
        lambda: contract(options={"betta": (1.0,)}), "options: got 'betta', expected some of logps, ref_logps, ",
    ),
    "a value for values": (
        lambda: contract(options={"beta": 0.5}), "options: got 0.5 for beta, expected values to try: (0.5, …)",
    ),
    "a text for values": (
        lambda: contract(options={"beta": "mean"}), "options: got 'mean' for beta, expected values to try: ('mean', …)",
    ),
    "a list for options": (lambda: contract(options=["beta"]), "options: got ['beta'], expected the values to try by"),
    "a reduction that is not there": (
        lambda: contract(aggregation="mean"), "aggregation: got 'mean', expected one of token_mean, sequence_mean, ",
    ),
    "an argument that is not there": (lambda: contract(kink=True), "got an argument 'kink', did you mean kinks?"),
    "no function": (lambda: contract(loss=...), "loss: this package has no k2_penalty_loss: give your own, loss=my_"),
    "a function by its name": (lambda: contract(loss="penalty"), "loss: this package has no penalty: give your own"),
    "a result for a function": (lambda: contract(loss=0.5), "loss: got 0.5, expected a function"),
    "neither a formula nor an oracle": (
        lambda: contract(estimator, term=..., loss=..., kernel=penalty), "term, oracle: got both or neither",
    ),
    "tensors for a function that makes them": (lambda: contract(build={}), "build: got a dict, expected a function"),
    "a build that raises": (
        lambda: checked(build=lambda plan: 1 / 0), "k2_penalty: build: raised ZeroDivisionError: division by zero",
    ),
    "a build that asks for another name": (
        lambda: checked(build=built(logps=lambda x, plan: plan.numbers("logp", strategies.LOGPS))),
        "build: raised ValueError: plan.numbers: got 'logp', expected the name of a tensor: logps, ref_logps, mask",
    ),
    "a build that lacks a tensor": (
        lambda: checked(build=lambda plan: {"logps": tensors(plan)["logps"]}),
        "build: returned the tensors logps, expected logps, ref_logps",
    ),
    "a build that makes one more": (
        lambda: checked(build=lambda plan: {**tensors(plan), "values": tensors(plan)["logps"]}),
        "build: returned the tensors logps, ref_logps, values, expected logps, ref_logps",
    ),
    "a build that returns a tuple": (
        lambda: checked(build=lambda plan: tuple(tensors(plan).values())), "build: returned a tuple, expected {name: ",
    ),
    "a build that makes lists": (
        lambda: checked(build=built(logps=lambda x, plan: x.tolist())),
        "build: returned a list for logps, expected a tensor: write plan.numbers('logps', pool)",
    ),
    "a build with one number for each row": (
        lambda: checked(build=built(logps=lambda x, plan: x[:, 0])),
        "build: returned logps of shape (2,), expected (2, 3): plan.numbers(name, pool, plan.columns)",
    ),
    "a build with a number for each token of a pair": (
        lambda: check(penalty, contract(
            pair_loss, term=Formula("dpo.margin", reads=WITHOUT_REFERENCE),
            tensors=("chosen_logps", "rejected_logps"), wrt=("chosen_logps",),
            build=lambda plan: {n: plan.numbers(n, strategies.SUMS, 2) for n in ("chosen_logps", "rejected_logps")},
        )),
        "build: returned chosen_logps of shape (2, 2), expected (2,): plan.numbers(name, pool)",
    ),
    "a build in a dtype of its own": (
        lambda: checked(build=built(ref_logps=lambda x, plan: x.float())),
        "build: returned ref_logps in torch.float32, expected plan.dtype, here torch.float64",
    ),
    "a build with a NaN": (
        lambda: checked(build=built(ref_logps=lambda x, plan: x / 0 * 0)), "build: returned ref_logps with a NaN",
    ),
    "a build with a NaN now and then": (
        lambda: checked(build=built(ref_logps=lambda x, plan: torch.where(x == -1, torch.nan, x))),
        "build: returned ref_logps with a NaN, expected numbers",
    ),
    "a formula that divides by 0": (
        lambda: checked(term=of_quotients(), build=built(logps=lambda x, plan: 0 * x)),
        "the formula has no value on an input that build makes: a division by zero: choose other numbers",
    ),
    "a formula with the logarithm of 0": (
        lambda: checked(term=of_logarithms(), build=built(logps=lambda x, plan: 0 * x)),
        "the contract k2_penalty: the formula has no value on an input that build makes: the logarithm of 0: choose",
    ),
    "a formula with the logarithm of 0 now and then": (
        lambda: checked(term=of_logarithms(), build=built(logps=lambda x, plan: (x + 2).clamp(min=0))),
        "the formula has no value on an input that build makes: the logarithm of 0: choose other",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_answered_in_a_line(what, scratch_registry):
    written, words = MISTAKES[what]
    with pytest.raises(WrongContract, match=re.escape(words)) as refused:
        written()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("family", [token_loss, sequence_loss])
def test_without_a_mistake_there_is_a_contract(family):
    given = {} if family is token_loss else {"term": Formula("kl.k2", reads={"ref_logp": 0, "logp": 0}), "wrt": ()}
    assert contract(family, **given).name == "k2_penalty"
    assert checked().accepted


def test_a_pool_may_be_short():
    def few(plan):
        return {name: plan.numbers(name, (-1.0, -2.0, -0.5), plan.columns) for name in TENSORS}

    assert checked(build=few).accepted


#: The same in a module, before which its name stands, and its line where Python was at one.
IN_A_MODULE = """
import torch
from grape_verified.conformance import Formula, strategies, token_loss

def penalty(logps, ref_logps, mask):
    return torch.where(mask.bool(), logps - ref_logps, 0).square().sum() / 2 / mask.sum().clamp(min=1)

def tensors(plan):
    return {name: plan.numbers(name, strategies.LOGPS, plan.columns) for name in ("logps", "ref_logps")}

held = token_loss(
    "NAME_k2",
    term=Formula("kl.k2"), tensors=("logps", "ref_logps"), build=tensors, loss=penalty, aggregation="token_mean",
)
"""


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ('"kl.k2"', '"kl.k4"', "own.py, line 11: term: there is no definition 'kl.k4'; the nearest: kl.k"),
        ("loss=penalty", "loss=penalti", "own.py, line 13: NameError: name 'penalti' is not defined"),
        ("import torch", "import tosh", "own.py, line 2: ModuleNotFoundError: No module named 'tosh'"),
        ("plan.columns)", "plan.column)", "own: the contract own_k2: build: raised AttributeError: 'Blueprint' object"),
    ],
)
@pytest.mark.parametrize("command", [("check", "own:penalty", "--as", "own_k2"), ("verify",), ("list", "contracts")])
def test_the_commands_say_it_in_a_line(folder, before, after, line, command):  # noqa: F811
    put("own", IN_A_MODULE.replace(before, after))
    status, out, err = call(*command, "--from", "own")
    assert (status, out) == (2, "")
    assert err.startswith(f"grape-verified: --from: {line}")
    assert err.count("\n") == 1


def test_what_only_some_inputs_show_is_a_line_of_verify_too(folder):  # noqa: F811
    now_and_then = """
def with_nan(plan):
    made = tensors(plan)
    return {**made, "logps": torch.where(made["logps"] < -10, torch.nan, made["logps"])}

held ="""
    put("own", IN_A_MODULE.replace("build=tensors", "build=with_nan").replace("\nheld =", now_and_then))
    for command in (("check", "own:penalty", "--as", "own_k2"), ("verify",)):
        status, out, err = call(*command, "--from", "own")
        assert (status, out) == (2, "")
        assert err == "grape-verified: build: returned logps with a NaN, expected numbers\n"
