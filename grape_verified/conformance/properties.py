"""The properties that an implementation of a contract must have, each tried on inputs that Hypothesis draws.

A property is a function of a subject and a case that raises `Violation` with a sentence. Some compare the function with
the spec, the others with itself, so that one error does not fail every property.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from grape_verified.conformance.comparison import (
    compare,
    compare_gradient,
    compare_with_spec,
    is_masked,
    noise,
    noun_of,
    ones_for,
    over,
    place_in,
    wrong,
)
from grape_verified.conformance.oracle import Arithmetic, expected_gradient
from grape_verified.conformance.report import Verdict
from grape_verified.conformance.strategies import (
    ADVANTAGES,
    COTANGENTS,
    GARBAGE,
    LOGPS,
    Case,
    Regime,
    Vocabulary,
)
from grape_verified.conformance.subject import Outcome, Setting, Subject, Violation
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
    (got,) = torch.autograd.grad((weights * results).sum(), logits)
    arithmetic = Arithmetic.of(results.dtype, case.dtype, strict=subject.strict)
    targets = expected_gradient(how.gradient(case.options), words, samples[0], arithmetic)
    for place, (number, target) in enumerate(zip(got.tolist(), targets, strict=True)):
        if not target.accepts(number):
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


def masked_values(subject: Subject, case: Case) -> None:
    """Masked entries do not affect the result, NaN and inf included."""
    masked = case.tensors["mask"] == 0
    dirty = case.with_tensors(
        **{
            name: torch.where(over(masked, tensor), noise(case, GARBAGE, tensor.shape).to(tensor.dtype), tensor)
            for name, tensor in case.tensors.items()
            if is_masked(subject, name, tensor, masked)
        }
    )
    ones = ones_for(subject, case)
    clean, got = subject(case, ones), subject(dirty, ones)
    compare(subject, dirty, got, clean, "with finite numbers where masked")
    for name, found in (got.gradients or {}).items():
        behind = found[masked].flatten().tolist() if is_masked(subject, name, found, masked) else []
        if any(behind):
            raise Violation(f"the gradient in {name} where masked is {next(filter(None, behind))!r}, expected 0", dirty)


def masked_items(subject: Subject, case: Case) -> None:
    """Entries of items that a prompt does not have do not affect the result, NaN and inf included."""
    masked = case.tensors["item_mask"] == 0
    behind = {"scores": masked.unsqueeze(1), "confidences": masked.unsqueeze(1), "weights": masked.all(0)}
    dirty = case.with_tensors(
        **{
            name: torch.where(where, noise(case, GARBAGE, case.tensors[name].shape).to(case.dtype), case.tensors[name])
            for name, where in behind.items()
        }
    )
    compare(subject, dirty, subject(dirty), subject(case), "with finite numbers where items are masked")


def padding(subject: Subject, case: Case) -> None:
    """Inserting masked positions anywhere does not change the result."""
    mask = case.tensors["mask"]
    rows, columns = mask.shape
    place, width = case.noise[0] % (columns + 1), 1 + case.noise[1] % 2
    old = [t for t in range(columns + width) if not place <= t < place + width]

    def widened(name: str, tensor: Tensor) -> Tensor:
        if name != "mask" and not is_masked(subject, name, tensor, mask):
            return tensor
        pool, shape = ADVANTAGES if name == "advantages" else LOGPS, (rows, columns + width, *tensor.shape[2:])
        wide = noise(case, pool, shape).to(tensor.dtype)
        if name == "mask":
            wide = torch.zeros(rows, columns + width, dtype=tensor.dtype)
        wide[:, old] = tensor
        return wide

    padded = case.with_tensors(**{name: widened(name, tensor) for name, tensor in case.tensors.items()})
    got, expected = (subject(given, ones_for(subject, given)) for given in (padded, case))

    def kept(found: Tensor, wanted: Tensor) -> Tensor:
        return found if found.shape == wanted.shape else found[:, old]

    value = kept(got.value, expected.value)
    gradients = None
    if got.gradients is not None and expected.gradients is not None:
        gradients = {name: kept(g, expected.gradients[name]) for name, g in got.gradients.items()}
    compare(subject, padded, replace(got, value=value, gradients=gradients), expected, "without the masked positions")


def permutation(subject: Subject, case: Case) -> None:
    """The order of the batch does not matter."""
    contract = subject.contract
    order = sorted(range(contract.parts(case)), key=lambda i: case.noise[i])
    shuffled = contract.of_parts(case, order)
    ones = ones_for(subject, case)
    plain, got = subject(case, ones), subject(shuffled, ones)

    def ordered(**tensors: Tensor) -> Mapping[str, Tensor]:
        return contract.of_parts(case.with_tensors(**tensors), order).tensors

    expected = Outcome(
        plain.value if contract.reduced else ordered(value=plain.value)["value"],
        None if plain.gradients is None else {name: ordered(**{name: g})[name] for name, g in plain.gradients.items()},
    )
    compare(subject, shuffled, got, expected, "in another order of the batch")


def partition(subject: Subject, case: Case) -> None:
    """With a shared denominator, losses and gradients of micro-batches add up to those of the batch."""
    contract = subject.contract
    count = contract.parts(case)
    if count == 1:
        return
    case = case.with_options(**contract.divided_at)
    if case.options["denominator"] is None and "token_sum" not in case.options.values():
        case = case.with_options(denominator=7)
    cut = 1 + case.noise[0] % (count - 1)
    halves = [subject(contract.of_parts(case, part)) for part in (range(cut), range(cut, count))]
    total = Outcome(
        halves[0].value + halves[1].value,
        None
        if any(half.gradients is None for half in halves)
        else {name: torch.cat([half.gradients[name] for half in halves]) for name in contract.wrt},  # type: ignore[index]
    )
    compare(subject, case, total, subject(case), "of the whole batch", cut=cut)


def empty_batch(subject: Subject, case: Case) -> None:
    """If no token counts, the result and its gradients are 0."""
    outcome = subject(case, ones_for(subject, case))
    for place, number in enumerate(outcome.value.flatten().tolist()):
        if number != 0:
            raise wrong(case, f"{noun_of(subject)}{place_in(outcome.value, place)}", number, "0, as no token counts")
    if not subject.contract.wrt:
        return
    if outcome.gradients is None:
        raise Violation(
            f"the {noun_of(subject)} {outcome.no_gradients} where no token counts, expected gradients of 0", case
        )
    for name, found in outcome.gradients.items():
        for place, number in enumerate(found.flatten().tolist()):
            if number != 0:
                raise wrong(case, f"gradient in {name}{place_in(found, place)}", number, "0, as no token counts")


def inputs_untouched(subject: Subject, case: Case) -> None:
    """Neither the function nor its backward pass modifies the arguments, nor global state."""
    tensors = {name: tensor.clone() for name, tensor in case.tensors.items()}
    subject.call(case, tensors)
    if subject.changes:
        raise Violation(f"the function changes {' and '.join(sorted(subject.changes))}", case)
    _unchanged(case, tensors, "the function")
    leaves = [tensors[name].requires_grad_() for name in subject.contract.wrt]
    result = subject.call(case, tensors)
    if not leaves or not result.requires_grad:
        return
    try:
        torch.autograd.grad(result, leaves, torch.ones_like(result), allow_unused=True)
    except Exception:  # the property "gradient" reports what cannot be differentiated
        return
    _unchanged(case, tensors, "the backward pass of the function")


def _unchanged(case: Case, tensors: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in tensors.items():
        if not torch.equal(tensor, case.tensors[name]):
            raise Violation(f"{what} changes its argument {name}", case)


def constants(subject: Subject, case: Case) -> None:
    """No gradient reaches constants of the spec, even if the caller did not detach them."""
    tensors = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in case.tensors.items()}
    result = subject.call(case, tensors)
    held = {name: x for name, x in tensors.items() if x.requires_grad and name not in subject.contract.wrt}
    if not result.requires_grad:
        return
    if result.grad_fn is None:
        raise Violation(
            f"the {noun_of(subject)} is an argument itself, or a view of it, which requires a gradient", case
        )
    try:
        found = torch.autograd.grad(result, list(held.values()), torch.ones_like(result), allow_unused=True)
    except Exception:  # what cannot be differentiated passes no gradient on
        return
    for name, gradient in zip(held, found, strict=True):
        if gradient is not None and gradient.any():
            place = int(gradient.flatten().nonzero()[0])
            where, number = place_in(gradient, place), gradient.flatten()[place].item()
            raise Violation(f"a gradient of {number!r} reaches {name}{where}, which the spec holds constant", case)


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


def _takes_no_denominator(subject: Subject) -> str:
    return "" if "denominator" in subject.offered else "the function takes no `denominator`"


_TABLE = (
    Property("repeatable", "The same input gives the same result.", _ORDINARY, repeatable),
    Property("value", "The value is that of the definitions.", _AT_DEFAULTS, value, verdict="formula"),
    Property("gradient", "The gradient is that of the claims.", _AT_DEFAULTS, gradient, verdict="formula"),
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
        verdict="formula",
    ),
    Property(
        "masked values", "Masked entries do not affect the result, NaN and inf included.", _ORDINARY, masked_values
    ),
    Property("masked items", "Entries of items that a prompt lacks do not affect the result.", _ORDINARY, masked_items),
    Property("padding", "Masked positions may be inserted anywhere.", _ORDINARY, padding),
    Property(
        "partition",
        "With a shared denominator, micro-batches add up to the batch.",
        _ORDINARY,
        partition,
        _takes_no_denominator,
        verdict="formula",
    ),
    Property("empty batch", "If no token counts, loss and gradients are 0.", Regime(nothing_counts=True), empty_batch),
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
    ),
    Property(
        "extremes",
        "Extreme inputs give finite results, large where they are large and never cut to zero.",
        Regime(numbers="extreme"),
        value_and_gradient,
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
