"""The properties that an implementation of a contract must have, each tried on inputs that Hypothesis draws.

A property is a function of a subject and a case that raises `Violation` with a sentence. Some compare the function with
the spec, the others with itself, so that one error does not fail every property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grape_verified.conformance import corners
from grape_verified.conformance.comparison import (
    compare,
    compare_gradient,
    compare_with_spec,
    noise,
    noun_of,
    ones_for,
    place_in,
    rounding_size,
    wrong,
)
from grape_verified.conformance.invariances import masked_items, masked_values, padding, partition, permutation
from grape_verified.conformance.oracle import Arithmetic, expected_gradient
from grape_verified.conformance.report import Verdict
from grape_verified.conformance.strategies import (
    COTANGENTS,
    Case,
    Drawn,
    Regime,
    Space,
    Vocabulary,
)
from grape_verified.conformance.subject import Setting, Subject, Violation
from grape_verified.conformance.training import COSTLY_FROM, WAYS, Way, in_every_context


@dataclass(frozen=True)
class Property:
    """One property.

    Arguments:
        name: its name in reports.
        text: the property in one sentence.
        regime: the inputs that it is tried on.
        holds: raises `Violation` if a subject does not have it.
        not_run: why it cannot be tried on a subject; empty if it can.
        required: whether a function without it is wrong; our own kernels have every property.
        times: the factor on the number of inputs.
        most: the most inputs that it is tried on.
        on_purpose: inputs that are tried after those that are drawn.
        each: what it consists of, if parts of it may fail one by one.
        verdict: what it decides where its inputs are ordinary.
    """

    name: str
    text: str
    regime: Regime
    holds: Callable[[Subject, Case], None]
    not_run: Callable[[Subject], str] = lambda subject: ""
    required: bool = True
    times: int = 1
    verdict: Verdict = "robustness"
    most: int = 10**9
    on_purpose: Callable[[Space], Iterable[Drawn]] = lambda space: ()
    each: Sequence[Way] = ()

    def parts(self, examples: int) -> Sequence[Callable[[Subject, Case], None]]:
        """What is tried on an input, one after the other, given the number of inputs of other properties."""
        return [way for way in self.each if examples >= COSTLY_FROM or not way.setting.costly] or (self.holds,)


# -- against the spec -------------------------------------------------------------------------------------------------


def value(subject: Subject, case: Case) -> None:
    """The value is that of the definitions."""
    compare_with_spec(subject, case, ones_for(subject, case), gradients=False)


def gradient(subject: Subject, case: Case) -> None:
    """The gradient is that of the claims, for a loss with any upstream gradient, as under loss scaling."""
    ones = ones_for(subject, case)
    upstream = noise(case, COTANGENTS, ()).to(ones.dtype) if subject.contract.reduced else ones
    try:
        compare_gradient(subject, case, upstream)
    except Violation as scaled:
        compare_gradient(subject, case, ones)  # a gradient that is wrong anyway is shown so
        scaled.setting = SCALED
        raise


#: How training calls a loss that is scaled: by a scaler, or by the number of micro-batches.
SCALED = Setting("for a gradient from above other than 1")


def cotangents(subject: Subject, case: Case) -> None:
    """Vector-Jacobian products are those of the claims for any vector."""
    compare_gradient(subject, case, noise(case, COTANGENTS, subject.contract.shape_of_result(case)))


def value_and_gradient(subject: Subject, case: Case) -> None:
    """Value and gradient; the sentence names the options that differ from the defaults."""
    usual = subject.contract.defaults(subject.held)
    unusual = {name: case.options[name] for name in subject.offered if case.options[name] != usual[name]}
    try:
        compare_with_spec(subject, case, ones_for(subject, case))
    except Violation as violation:
        named = ", ".join(f"{name}={chosen!r}" for name, chosen in unusual.items())
        violation.sentence = f"with {named}, {violation.sentence}" if named else violation.sentence
        raise


def kinks(subject: Subject, case: Case) -> None:
    """At a kink the gradient is one of the one-sided slopes or between them."""
    compare_with_spec(subject, case, ones_for(subject, case), values=False, any_branch=True)


def expectation(subject: Subject, case: Case) -> None:
    """Over all tokens, weighted by their probabilities, the gradient in the logits is that of the claims."""
    how, words = subject.contract.expectation, Vocabulary.of(case)
    assert how is not None, f"{subject.contract.name} promises no expectation"
    logits = words.logits.requires_grad_()
    logps = logits.log_softmax(-1)
    tensors = how.tensors(words, logps, case.variant)
    case = case.with_tensors(**{name: tensor.detach() for name, tensor in tensors.items()})
    samples = [case.with_tensors(**{name: tensor[[i]] for name, tensor in tensors.items()}) for i in range(len(logps))]
    results = torch.stack([subject.call(sample, sample.tensors).sum() for sample in samples])
    if not results.requires_grad:
        raise Violation(f"the {noun_of(subject)} has no gradient with respect to the log-probabilities", case)
    weights = logps.detach().exp()
    found = subject.gradients((weights * results).sum(), [logits], None)[0]
    got = torch.zeros_like(logits) if found is None else found
    arithmetic = Arithmetic.of(results.dtype, case.dtype, strict=subject.strict)
    targets = expected_gradient(how.gradient(case.options), words, samples[0], arithmetic)
    for place, (number, target) in enumerate(zip(got.tolist(), targets, strict=True)):
        if target.is_undefined:
            subject.undefined["numbers"] += 1
        elif not target.accepts(number):
            what = f"the expected gradient in logit {place} is {number!r}, the spec gives {target}"
            remarks = [what, f"over tokens, one in each row, of the probabilities {weights.tolist()}"]
            raise Violation(what, case, remarks=remarks)


# -- against itself ---------------------------------------------------------------------------------------------------


def repeatable(subject: Subject, case: Case) -> None:
    """The same input gives the same result."""
    first, second = (subject(case, ones_for(subject, case)).value for _ in range(2))
    if not torch.equal(first.nan_to_num(0.5), second.nan_to_num(0.5)):
        raise Violation(f"gives different results for the same input: {first.tolist()}, then {second.tolist()}", case)


def computed_in(subject: Subject, case: Case) -> None:
    """Half precision is computed in fp32, and fp64 stays fp64."""
    expected = torch.promote_types(case.dtype, torch.float32)
    got = subject(case, ones_for(subject, case))
    if got.value.dtype != expected:
        raise Violation(
            f"the {noun_of(subject)} is {got.value.dtype} for {case.dtype} inputs, expected {expected}", case
        )
    wide = case.with_tensors(**{n: t.to(expected) for n, t in case.tensors.items() if t.is_floating_point()})
    compare(subject, case, got, subject(wide, ones_for(subject, case)), f"for the same numbers in {expected}")


def empty_batch(subject: Subject, case: Case) -> None:
    """If no token counts, the result and its gradients are 0."""
    outcome = subject(case, ones_for(subject, case))
    for place, number in enumerate(outcome.value.flatten().tolist()):
        if number != 0:
            raise wrong(case, f"{noun_of(subject)}{place_in(outcome.value, place)}", number, "0")
    if not subject.contract.wrt:
        return
    if outcome.gradients is None:
        raise Violation(
            f"the {noun_of(subject)} {outcome.no_gradients} where no token counts, expected gradients of 0", case
        )
    for name, found in outcome.gradients.items():
        for place, number in enumerate(found.flatten().tolist()):
            if number != 0:
                raise wrong(case, f"gradient in {name}{place_in(found, place)}", number, "0")


def inputs_untouched(subject: Subject, case: Case) -> None:
    """Neither the function nor its backward pass modifies the arguments, nor global state."""
    tensors = {name: tensor.clone() for name, tensor in case.tensors.items()}
    subject.call(case, tensors)
    if told := subject.changes.told():
        raise Violation(f"the function changes {' and '.join(told)}", case)
    _unchanged(case, tensors, "the function")
    leaves = [tensors[name].requires_grad_() for name in subject.contract.wrt]
    result = subject.call(case, tensors)
    if not leaves or not result.requires_grad:
        return
    try:
        subject.gradients(result, leaves, torch.ones_like(result))
    except Violation:
        raise
    except Exception:  # the property "gradient" reports what cannot be differentiated
        return
    _unchanged(case, tensors, "the backward pass of the function")


def _unchanged(case: Case, tensors: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in tensors.items():
        if not torch.equal(tensor, case.tensors[name]):
            raise Violation(f"{what} changes its argument {name}", case)


def constants(subject: Subject, case: Case) -> None:
    """No gradient reaches constants of the spec, even if the caller did not detach them.

    Results that add up to a constant, such as those of whitening, have a gradient of rounding size, which is none; with
    other vectors than of ones the gradient of each of them is seen.
    """
    tensors = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in case.tensors.items()}
    result = subject.call(case, tensors)
    held = {name: x for name, x in tensors.items() if x.requires_grad and name not in subject.contract.wrt}
    if not result.requires_grad:
        return
    if result.grad_fn is None:
        raise Violation(
            f"the {noun_of(subject)} is an argument itself, or a view of it, which requires a gradient", case
        )
    weights = noise(case, COTANGENTS, result.shape).to(result.dtype)
    try:
        found = subject.gradients(result, list(held.values()), weights)
    except Violation:
        raise
    except Exception:  # what cannot be differentiated passes no gradient on
        return
    for name, gradient in zip(held, found, strict=True):
        if gradient is None:
            continue
        reached = (~(gradient.abs() <= rounding_size(gradient))).flatten().nonzero()
        if len(reached):
            where, number = place_in(gradient, int(reached[0])), gradient.flatten()[reached[0]].item()
            what = f"a gradient of {number!r} reaches {name}{where}, which the spec holds constant"
            raise Violation(what, case, cotangents=weights, leaves=[name])


# -- the table --------------------------------------------------------------------------------------------------------

#: The number of inputs that contexts of training are tried on; each takes about thirty calls.
CONTEXT_INPUTS = 10

_ORDINARY = Regime()
_AT_DEFAULTS = Regime(vary_options=False)


def _takes_no_option(subject: Subject) -> str:
    if set(subject.offered) - set(subject.held):
        return ""
    return f"the function takes none of the options {', '.join(subject.contract.options)}"


def _has_habits(subject: Subject) -> str:
    if not subject.contract.habits:
        return ""
    return "what the spec claims of the expectation is about the function without habits"


def _takes_no(tensor: str) -> Callable[[Subject], str]:
    return lambda subject: f"the function takes no `{tensor}`" if tensor in subject.contract.left_out else ""


def _takes_no_denominator(subject: Subject) -> str:
    return "" if "denominator" in subject.offered else "the function takes no `denominator`"


def _large_and_close(space: Space) -> Iterator[Drawn]:
    yield from corners.large(space)
    yield from corners.nearly_equal(space)


_TABLE = (
    Property("repeatable", "The same input gives the same result.", _ORDINARY, repeatable),
    Property(
        "value",
        "The value is that of the definitions.",
        _AT_DEFAULTS,
        value,
        verdict="formula",
        on_purpose=_large_and_close,
    ),
    Property(
        "gradient",
        "The gradient is that of the claims.",
        _AT_DEFAULTS,
        gradient,
        verdict="formula",
        on_purpose=corners.large,
    ),
    Property(
        "cotangents", "Vector-Jacobian products are right for any vector.", _AT_DEFAULTS, cotangents, verdict="formula"
    ),
    Property(
        "options",
        "Every option does what the definitions say.",
        _ORDINARY,
        value_and_gradient,
        _takes_no_option,
        times=2,  # an option may be wrong at one value only, with one form of a mask only
        on_purpose=corners.large_with_options,
        verdict="formula",
    ),
    Property(
        "masked values",
        "Masked entries do not affect the result, NaN and inf included.",
        _ORDINARY,
        masked_values,
        _takes_no("mask"),
    ),
    Property("masked items", "Entries of items that a prompt lacks do not affect the result.", _ORDINARY, masked_items),
    Property("padding", "Masked positions may be inserted anywhere.", _ORDINARY, padding, _takes_no("mask")),
    Property(
        "partition",
        "With a shared denominator, micro-batches add up to the batch.",
        _ORDINARY,
        partition,
        _takes_no_denominator,
        verdict="formula",
    ),
    Property(
        "empty batch",
        "If no token counts, loss and gradients are 0.",
        Regime(nothing_counts=True),
        empty_batch,
        _takes_no("mask"),
    ),
    Property(
        "expectation",
        "Over all tokens of a vocabulary, weighted by their probabilities, the gradient is that of the claims.",
        _ORDINARY,
        expectation,
        _has_habits,
        verdict="formula",
    ),
    Property(
        "kinks",
        "At a kink the gradient lies between the one-sided slopes.",
        Regime(numbers="kinks"),
        kinks,
        verdict="formula",
    ),
    Property(
        "forbidden tokens",
        "Logits of −inf have probability 0.",
        Regime(vary_options=False, forbidden=True),
        value_and_gradient,
        _takes_no("bias"),
    ),
    Property(
        "extremes",
        "Extreme inputs give finite results, large where they are large and never cut to zero.",
        Regime(numbers="extreme"),
        value_and_gradient,
        on_purpose=corners.extreme,
    ),
    Property("permutation", "The order of the batch does not matter.", _ORDINARY, permutation),
    Property("inputs", "Neither the arguments nor global state are modified.", _ORDINARY, inputs_untouched),
    Property(
        "contexts",
        "In the contexts of training the result is that of a plain call.",
        Regime((torch.float32,)),
        in_every_context,
        most=CONTEXT_INPUTS,
        each=WAYS,
    ),
    Property(
        "constants",
        "No gradient reaches what the spec holds constant, detached or not.",
        _ORDINARY,
        constants,
        required=False,
    ),
    Property(
        "dtype",
        "bf16 is computed in fp32, and fp64 stays fp64.",
        Regime((torch.bfloat16, torch.float64), vary_options=False),
        computed_in,
        required=False,
    ),
)

#: Every property by its name, except "signature", which is determined before the others are tried.
PROPERTIES: Mapping[str, Property] = {entry.name: entry for entry in _TABLE}
