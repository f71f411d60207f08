"""`check` calls a function as training calls it, and names the context in which it is wrong."""

import pytest

from grape_verified import sft_loss, token_logps
from grape_verified.conformance import CONTRACTS, check, run
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.subject import Subject, read
from grape_verified.conformance.training import COSTLY_FROM, WAYS

from . import planted_contexts as planted
from . import planted_sft

#: A wrong function with its contract, and how the sentence about it begins.
NAMED = [
    (planted.doubles_in_a_second_pass, "sft", "in a second backward pass, the gradient in logps at [0, 0] is -2.0, "),
    (
        planted.halves_with_create_graph,
        "sft",
        "with create_graph, the gradient in logps at [0, 0] is -0.5, but -1.0 from the same function in a plain call",
    ),
    (planted.reads_as_contiguous, "sft", "for tensors with gaps in memory, the "),
    (planted.reads_upstream_as_contiguous, "sft_per_token", "for a gradient from above that is expanded, the "),
    (planted.indexes_with_the_mask, "sft", "for a mask of int64, the gradient in logps "),
    (planted.lowered_by_autocast, "ppo", "under torch.autocast in bfloat16, the loss is "),
    (planted_sft.upstream_ignored, "sft", "for a gradient from above that is 4 times as large, the gradient in logps "),
]


def contexts_of(function, contract="sft", examples=200, **more):
    return run.run_property(read(function, CONTRACTS[contract], {}, **more), PROPERTIES["contexts"], examples)


@pytest.mark.parametrize(("function", "contract", "text"), NAMED, ids=lambda x: getattr(x, "__name__", ""))
def test_a_context_is_named_and_its_script_shows_what_was_got(function, contract, text, capsys):
    finding = contexts_of(function, contract)
    first = finding.departures[0]
    assert finding.status == "failed"
    assert text in first.text
    assert (first.verdict, finding.verdict) == ("robustness", "robustness")
    assert first.text.split(", the ")[0].removeprefix("where a row has no tokens, ") in first.where
    exec(compile(first.counterexample, "counterexample", "exec"), {})
    got = first.counterexample.splitlines()[-1].split("got ")[1].split(",")[0]
    assert got in capsys.readouterr().out


def test_an_error_under_no_grad_is_wrong():
    texts = [one.text for one in contexts_of(planted.fails_without_gradients).departures]
    assert texts == [
        f"under torch.{mode}, raised RuntimeError: element 0 of tensors does not require grad"
        for mode in ("no_grad", "inference_mode")
    ]


def test_one_context_hides_no_other():
    begun = [one.where[0] for one in contexts_of(planted.several_at_once).departures]
    assert len(begun) == 3
    assert len(set(begun)) == 3


def test_the_other_properties_pass_what_only_contexts_find():
    report = check(planted.reads_as_contiguous, "sft", examples=40)
    assert report.failed == ("contexts",)
    assert (report.formula, report.accepted) == ("right", False)


def test_a_refusal_is_noted_and_no_failure():
    finding = contexts_of(planted.refuses_integers)
    assert finding.status == "noted"
    assert finding.text.startswith("for a mask of int64, raised RuntimeError: masked_fill_ only supports boolean masks")


def test_what_takes_a_second_is_tried_with_many_inputs():
    for function, status in ((planted.nan_when_compiled, "failed"), (planted.refuses_functorch, "noted")):
        assert contexts_of(function).status == "passed"
        finding = contexts_of(function, examples=COSTLY_FROM)
        assert finding.status == status
    assert finding.text.startswith("under torch.func.grad, raised RuntimeError: In order to use an autograd.Function")


def test_a_refusal_that_says_what_was_expected_is_not_even_noted():
    def refuses(logps, mask):
        if mask.dtype not in (planted.torch.bool, logps.dtype):
            raise TypeError(f"mask: got {mask.dtype}, expected torch.bool or the dtype of logps")
        return sft_loss(logps, mask).loss

    assert contexts_of(refuses, strict=True).status == "passed"


def test_a_function_that_fails_plainly_fails_no_context():
    def raises(logps, mask):
        raise RuntimeError("no such luck")

    subject = Subject(raises, CONTRACTS["sft"], offered=())
    assert run.run_property(subject, PROPERTIES["contexts"], 20).status == "passed"


def test_a_layer_of_a_model_may_be_lowered():
    def head(hidden, weight, targets, **options):
        return token_logps(hidden @ weight.T, targets)

    assert contexts_of(head, "linear_token_logps").status == "passed"


def test_our_kernel_works_in_every_context():
    finding = contexts_of(CONTRACTS["ppo"].function, "ppo", COSTLY_FROM, strict=True)
    assert finding.status == "passed", finding.text


def test_every_way_has_words_of_its_own():
    assert len({way.setting.words for way in WAYS}) == len(WAYS)
