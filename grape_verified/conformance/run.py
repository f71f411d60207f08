"""Running the properties on a function that has been read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from hypothesis.errors import Flaky

from grape_verified.conformance.corners import other_numbers, smaller
from grape_verified.conformance.counterexample import render
from grape_verified.conformance.drawing import drawn, run_on
from grape_verified.conformance.guard import same_numbers
from grape_verified.conformance.properties import PROPERTIES, Property
from grape_verified.conformance.regions import Words, awkward, beside_plain, lies_in, needed, shown, unusual
from grape_verified.conformance.report import TOO_LONG, VERDICTS, Departure, Finding, Verdict
from grape_verified.conformance.strategies import Case, Drawn, Variant
from grape_verified.conformance.subject import Subject, Violation

#: Attempts to make a failing case smaller.
REDUCTIONS = 300
COSTLY_REDUCTIONS = 10

#: No limit on the inputs that are tried.
ALL = 10**9

#: Attempts to find the same failure at numbers that are easier to read.
READABLE = 100

#: The most departures that are looked for, of each property.
MOST = 3

#: The inputs that are drawn for each one that is tried, where some are left out.
DRAWN_FOR_EACH = 4

#: Why no further property can be tried, if a function cannot be called, or is not repeatable.
NOT_CALLED, NOT_REPEATABLE = "the function cannot be called", "the function is not repeatable"


def run(
    subject: Subject,
    names: Sequence[str],
    examples: int,
    seen: Callable[[Sequence[Finding]], None] = lambda found: None,
) -> tuple[Finding, ...]:
    """The findings on some properties, in that order; once one makes the rest meaningless, they are not run.

    ``seen`` is called with the findings so far, after each.
    """
    found: list[Finding] = []
    for name in names:
        blocked = next(filter(None, map(_blocks, found)), "")
        if blocked:
            found.append(Finding(name, "not run", blocked))
        elif name == "signature":
            found.append(signature(subject, examples))
        else:
            found.append(run_property(subject, PROPERTIES[name], examples))
        if name == "options" and found[-1].status == "failed":
            usual = subject.contract.defaults(subject.held)  # later properties would fail on the same option
            subject = replace(subject, held=usual)
        subject = replace(subject, dropped=(*subject.dropped, *_raising(found[-1])))
        seen(found)
    return tuple(found)


def _blocks(finding: Finding) -> str:
    """Why nothing is tried after a finding; an error that needs more than a plain input stops nothing else."""
    if "TookTooLong" in finding.text:
        return TOO_LONG
    if finding.status != "failed" or finding.name != "repeatable":
        return ""
    raised = finding.text.startswith("raised ")
    if all(one.where and "raised " in one.text for one in finding.departures):
        return ""
    return "the function raises an error" if raised else NOT_REPEATABLE


def _raising(finding: Finding) -> Iterator[Words]:
    """Where the function raises an error: no later property is tried there."""
    for one in finding.departures:
        if one.where and "raised " in one.text:
            yield frozenset(one.where)


def unreadable(subject: Subject, violation: Violation, names: Sequence[str]) -> tuple[Finding, ...]:
    """The findings on a function that cannot be called."""
    wrong = Departure(violation.sentence, "formula", (), render(subject, violation))
    failed = Finding("signature", "failed", violation.sentence, 1, "formula", (wrong,))
    return (failed, *(Finding(name, "not run", NOT_CALLED) for name in names[1:]))


def run_property(subject: Subject, prop: Property, examples: int) -> Finding:
    """Try one property on drawn inputs; after a failure go on where it does not reach, up to three of them."""
    reason = prop.not_run(subject)
    if reason:
        return Finding(prop.name, "not run", reason, verdict=prop.verdict)
    subject = replace(subject, undefined=Counter(), refusals={})
    found, tried = _violations(subject, prop, examples)
    every = (_departure(subject, prop, violation) for violation in _different(subject, found))
    departures = sorted(every, key=lambda departure: VERDICTS.index(departure.verdict))
    undefined = subject.undefined["numbers"]
    status: Literal["failed", "noted"]
    if departures:
        status = "failed" if prop.required or subject.strict else "noted"
        return Finding(prop.name, status, departures[0].text, tried, prop.verdict, tuple(departures), undefined)
    if subject.refusals:
        refused = tuple(_departure(subject, prop, violation) for violation in subject.refusals.values())
        status = "failed" if subject.strict else "noted"
        return Finding(prop.name, status, refused[0].text, tried, prop.verdict, refused[:MOST], undefined)
    if not tried:
        return Finding(prop.name, "not run", "on all of its inputs the function raises an error", verdict=prop.verdict)
    return Finding(prop.name, "passed", prop.text, tried, prop.verdict, (), undefined)


def _violations(subject: Subject, prop: Property, examples: int) -> tuple[list[tuple[Violation, Words]], int]:
    """Different violations, each with what its input needs, and the number of inputs that the first search tried.

    If the first needs an input that is not ordinary, the search for the second is among ordinary inputs, so that the
    verdict on the formula does not depend on what is drawn more often.
    """
    found: list[tuple[Violation, Words]] = []
    leave_out, kinds, tried, only_ordinary = list(subject.dropped), set[str](), 0, False
    while len(found) < MOST:
        search = _Search(subject, prop, examples, tuple(leave_out), frozenset(kinds), only_ordinary)
        violation = _first(search)
        tried = tried or search.tried
        if violation is None and not only_ordinary:
            break
        only_ordinary = not found and violation is not None and _leaves_the_formula_open(prop, violation)
        if violation is None:
            continue
        words = beside_plain(subject, violation.case) if violation.case is not None else frozenset()
        found.append((violation, words))
        if violation.took_too_long:
            break
        if violation.setting is None and (region := needed(violation, words)):
            leave_out.append(region)
        else:
            kinds.add(violation.kind)
    return found, tried


def _leaves_the_formula_open(prop: Property, violation: Violation) -> bool:
    return prop.verdict == "formula" and violation.case is not None and any(unusual(violation.case))


def _different(subject: Subject, found: Sequence[tuple[Violation, Words]]) -> Iterator[Violation]:
    """The violations, but for those that need no more than the simplest input has, if the same fails without that."""
    simplest = beside_plain(subject, subject.contract.simplest(subject.held))
    for violation, words in found:
        if not any(other.kind == violation.kind and less < words <= less | simplest for other, less in found):
            yield violation


def _first(search: _Search) -> Violation | None:
    """The smallest violation that a search finds."""
    inputs = drawn(search.space.size, search.inputs)
    with same_numbers():
        place = next((place for place, one in enumerate(inputs) if search.violation(one)), None)
    if place is None:
        return search.on_purpose()
    if search.last.took_too_long:
        return search.last
    sentence = search.last.sentence
    try:
        run_on(search.reducing_from(place), search.space.size, search.inputs)
    except (Violation, _Enough):
        return search.for_a_reader()
    except Flaky:
        sentence = search.last.sentence
    once = "" if search.prop.name == "repeatable" else "gives different results for the same input; once, "
    return Violation(f"{once}{sentence}")


def _departure(subject: Subject, prop: Property, violation: Violation) -> Departure:
    """A violation for a report: it concerns the formula if its input is ordinary."""
    case = violation.case
    if case is None:
        return Departure(violation.sentence, prop.verdict)
    not_ordinary = sorted(unusual(case))
    where = f"where {' and '.join(not_ordinary)}, " if not_ordinary else ""
    return Departure(
        f"{where}{violation.sentence}",
        "robustness" if not_ordinary or violation.setting else prop.verdict,
        _needs(subject, violation, case),
        render(subject, violation),
    )


def _needs(subject: Subject, violation: Violation, case: Case) -> tuple[str, ...]:
    """How an input, or a call, differs from a plain one."""
    called = (violation.setting.words,) if violation.setting else ()
    return (*called, *shown(beside_plain(subject, case)))


class _Enough(BaseException):
    """The limit of reductions is reached. Not an Exception, so that nothing catches it on the way."""


class _Search:
    """Tries a property case by case, and limits the reduction of a failing case.

    Arguments:
        examples: the number of inputs of a property, which may have a factor or a limit.
        leave_out: regions in which failures were found.
        kinds: kinds of violations that were found on plain inputs.
        only_ordinary: whether inputs that are not ordinary are left out, too.
    """

    def __init__(
        self,
        subject: Subject,
        prop: Property,
        examples: int,
        leave_out: tuple[Words, ...] = (),
        kinds: frozenset[str] = frozenset(),
        only_ordinary: bool = False,
    ) -> None:
        self.subject, self.prop, self.leave_out, self.kinds = subject, prop, leave_out, kinds
        self.only_ordinary = only_ordinary
        self.space = subject.contract.space(prop.regime, subject.offered, subject.held, subject.variants)
        self.tried, self.reductions = 0, 0
        self.last = Violation("")
        self.at: Drawn | None = None
        self.parts = prop.parts(examples)
        self.reduced = REDUCTIONS
        self.most = min(examples * prop.times, prop.most)
        self.inputs = self.most * (DRAWN_FOR_EACH if leave_out or only_ordinary else 1)

    def violation(self, one: Drawn) -> Violation | None:
        """What is wrong on what was drawn."""
        try:
            self.attempt(one)
        except Violation as violation:
            return violation
        except _Enough:
            return self.last if self.last.took_too_long else None
        return None

    def on_purpose(self) -> Violation | None:
        """The smallest violation on the fixed inputs that are tried on purpose."""
        self.most = ALL
        with same_numbers():
            for one in self.prop.on_purpose(self.space):
                if found := self.violation(one):
                    return self.smallest(one, found)
        return None

    def smallest(self, one: Drawn, found: Violation) -> Violation:
        """The violation on a smaller input, no less ordinary, until each that is tried holds."""
        while found.case and not found.took_too_long:
            ordinary = set(unusual(found.case))
            for other in smaller(one, len(self.space.names)):
                less = self.violation(other)
                if less and less.case and set(unusual(less.case)) <= ordinary:
                    one, found = other, less
                    break
            else:
                break
        return found

    def for_a_reader(self) -> Violation:
        """The last violation, or the same where its numbers are easier to read, and nothing else is added."""
        found, at = self.last, self.at
        if at is None or found.case is None or found.took_too_long or (found.setting and found.setting.costly):
            return found
        self.reductions = max(0, self.reduced - READABLE)
        usual = beside_plain(self.subject, found.case)
        for other in other_numbers(at, len(self.space.names)):
            if not awkward(found):
                break
            easier = self.violation(other)
            if easier is None or easier.case is None or easier.kind != found.kind:
                continue
            if awkward(easier) < awkward(found) and beside_plain(self.subject, easier.case) <= usual:
                found = easier
        return found

    def reducing_from(self, place: int) -> Callable[[Drawn], None]:
        """An attempt to be made with each drawing again, which takes up to that place for granted."""
        known = iter(range(place))

        def attempt(one: Drawn) -> None:
            if next(known, None) is None:
                self.attempt(one)

        self.reductions = -1  # the first attempt is the one that failed
        return attempt

    def attempt(self, one: Drawn) -> None:
        """Raise `Violation` if the property does not hold."""
        case = self.space.case(one)
        failing = self.last.case is not None
        if self._is_left_out(case) or (self.tried >= self.most and not failing):
            return
        if failing and self.reductions >= self.reduced:
            raise _Enough
        self.tried += not failing
        self.reductions += failing
        for part in self.parts:
            try:
                part(self.subject, case)
            except Violation as violation:
                if violation.kind in self.kinds:
                    continue
                self.last, self.at, self.parts = violation, one, (part,)  # what is reduced is one failure
                if violation.took_too_long:
                    raise _Enough from violation
                if violation.setting and violation.setting.costly:
                    self.reduced = COSTLY_REDUCTIONS
                raise

    def _is_left_out(self, case: Case) -> bool:
        if self.only_ordinary and any(unusual(case)):
            return True
        return bool(self.leave_out) and lies_in(beside_plain(self.subject, case), self.leave_out)


# -- the signature ----------------------------------------------------------------------------------------------------


def signature(subject: Subject, examples: int) -> Finding:
    """Which forms of tensors the function takes, and for which of them it returns a wrong value."""
    sentences, tried = [*_called(subject)], len(subject.contract.variants)
    only = _what_is_common(subject.variants) if len(subject.variants) < tried else ""
    if only:
        sentences.append(f"Only with {only}.")
    notes = [Departure(sentence, "robustness") for sentence in _other_defaults(subject)]
    wrong = [_misread(subject, verdict, forms, examples) for verdict in VERDICTS if (forms := _forms(subject, verdict))]
    if subject.strict:
        notes, wrong = [], [*wrong, *notes]
    text = " ".join([*sentences, *(departure.text for departure in (*notes, *wrong))])
    status: Literal["passed", "failed", "noted"] = "failed" if wrong else "noted" if notes else "passed"
    verdict = wrong[0].verdict if wrong else "robustness"
    return Finding("signature", status, text, tried, verdict, tuple(wrong or notes))


def _forms(subject: Subject, verdict: Verdict) -> tuple[Variant, ...]:
    """The forms that a function gets wrong, and what that concerns.

    No tensor of shape (batch,) can be broadcast with one of (batch, time) here. A function that takes one advantage for
    each sequence does so on purpose, and what it makes of them is another loss. Other forms it may not have expected:
    what is missing is a guard.
    """
    rights = set(subject.variants)

    def concerns(form: Variant) -> Verdict:
        on_purpose = form.advantages == "per sequence" and replace(form, advantages="per token") in rights
        return "formula" if on_purpose else "robustness"

    return tuple(form for form in subject.misread if concerns(form) == verdict)


def _misread(subject: Subject, verdict: Verdict, forms: Sequence[Variant], examples: int) -> Departure:
    """What a function makes of forms that it gets wrong while it gets another right, with the smallest input."""
    sentence = f"With {_what_is_common(forms)} it silently returns a wrong value"
    with_form = replace(subject, variants=(forms[0],))
    violation = _first(_Search(with_form, PROPERTIES["value"], examples))
    if violation is None or violation.case is None:
        return Departure(f"{sentence}.", verdict)
    needs = _needs(subject, violation, violation.case)
    return Departure(f"{sentence}: {violation.sentence}.", verdict, needs, render(subject, violation))


def _called(subject: Subject) -> Iterator[str]:
    """How the function is called, where its names are others, and what is left at its own defaults."""
    theirs: dict[str, list[str]] = {}
    for ours, name in subject.binding.parameters.items():
        theirs.setdefault(name, []).append(ours)
    renamed = [f"{name} is {' and '.join(ours)}" for name, ours in theirs.items() if ours != [name]]
    yield "It can be called with the contract's tensors" + (f": {', '.join(renamed)}." if renamed else ".")
    if subject.contract.left_out:
        yield f"It takes no {' and no '.join(subject.contract.left_out)}."
    if subject.binding.left:
        yield f"Left at their own defaults: {', '.join(subject.binding.left)}."


def _other_defaults(subject: Subject) -> list[str]:
    """Defaults other than the contract's; None may mean that the option is required."""
    usual = subject.contract.defaults({})
    return [
        f"Without {name} it takes {default!r}, the contract {usual[name]!r}."
        for name, default in subject.defaults.items()
        if name not in subject.held and default is not None and default != usual[name]
    ]


def _what_is_common(variants: Sequence[Variant]) -> str:
    """The common features of some forms of tensors."""
    masks = {variant.mask for variant in variants}
    forms = {variant.advantages for variant in variants}
    shared = [f"{kind} masks" for kind in sorted(masks)] if len(masks) == 1 else []
    shared += [f"advantages {form}" for form in sorted(forms)] if len(forms) == 1 else []
    return " and ".join(shared) or "some forms of masks and advantages"
