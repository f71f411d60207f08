"""`identify`: which loss an unknown function is, with its options and habits, and how well it fits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from grape_verified.conformance.checking import EXAMPLES, check, checked_number
from grape_verified.conformance.comparison import compare_with_spec, ones_for
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import of_subject
from grape_verified.conformance.counterexample import render
from grape_verified.conformance.guard import guarded
from grape_verified.conformance.habits import KNOWN, habits_of
from grape_verified.conformance.probes import KINDS, Probe, probes, with_options
from grape_verified.conformance.registry import every_contract
from grape_verified.conformance.report import Departure, Report
from grape_verified.conformance.search import Choices, Search, State
from grape_verified.conformance.strategies import Variant
from grape_verified.conformance.subject import Subject, Violation, name_of, read
from grape_verified.conformance.subjects import SUBJECTS

#: Called with the next step, in words.
Progress = Callable[[str], None]

#: The number of nearest contracts in which pairs of changes are tried.
NEAREST = 1

#: A contract is tried on batches if it explains at least this share of what the best explains of the single inputs.
NEAR = 0.7

#: Numbers that are tried for habits that take one, in addition to the usual ones.
OTHER_NUMBERS = (2.0, 4.0, 5.0, 15.0, 30.0, 50.0)

#: How well a function fits: it is accepted; its formula is right, but there are robustness findings; it differs from
#: the nearest contract; it cannot be called as any contract; it took too long or ended the process.
Fit = Literal["accepted", "formula right", "none", "not called", "broken off"]


@dataclass(frozen=True)
class Variety:
    """A loss by its contract, the options that are fixed inside the function, and its habits.

    Arguments:
        contract: the name of the contract.
        options: the options that are not at the contract's defaults.
        habits: its habits, each as NAME=VALUE.
        takes: the options that the function takes.
    """

    contract: str
    options: Mapping[str, Any]
    habits: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    def in_words(self) -> str:
        """The contract with its options and habits, in one line."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        habits = f"habits {', '.join(self.habits)}" if self.habits else ""
        return "; ".join(filter(None, [f"{self.contract} with {options}" if options else self.contract, habits]))


@dataclass(frozen=True)
class Tie:
    """Another variety that cannot be told apart from the one that was found.

    Arguments:
        variety: what the function may be as well.
        why: on which inputs the two differ, and why these do not decide.
    """

    variety: Variety
    why: str


@dataclass(frozen=True)
class Identification:
    """Which loss a function is.

    Arguments:
        function: its name.
        fit: how well it fits.
        variety: what it is, or the nearest variety; None if it cannot be called as any contract.
        ties: the varieties that it cannot be told apart from.
        explained: the number of ordinary inputs on which it agrees with the spec.
        tried: the number of ordinary inputs.
        report: the report of `check` with these options and habits.
        departure: the first input on which the function differs from the nearest variety, if it does not fit.
        refused: for each contract, why the function cannot be called as it, if that is so for all of them.
        broken_off: what the function did that broke the search off.
    """

    function: str
    fit: Fit
    variety: Variety | None = None
    ties: tuple[Tie, ...] = ()
    explained: int = 0
    tried: int = 0
    report: Report | None = None
    departure: Departure | None = None
    refused: Mapping[str, str] | None = None
    broken_off: str = ""

    @property
    def fits(self) -> bool:
        """Whether its formula is right."""
        return self.fit in ("accepted", "formula right")

    def as_dict(self) -> dict[str, Any]:
        """The result as data for JSON."""
        found = asdict(self)
        return {"fits": self.fits, **found, "report": self.report and self.report.as_dict()}


def identify(
    function: Callable[..., Any],
    *,
    among: Sequence[str] = (),
    bind: Mapping[str, str] | None = None,
    examples: int = EXAMPLES,
    progress: Progress = lambda step: None,
) -> Identification:
    """Find the contract, the options and the habits of a function.

    The result is then checked by `check` with those options and habits. The function fits only if `check` finds its
    formula right.

    Arguments:
        function: any implementation; its arguments and results are read as by `check`.
        among: names of contracts, or of families such as "ppo" or "dpo"; empty for all.
        bind: parameters of the function, each with the tensor or option that it is; contracts without it are left out.
        examples: the number of inputs for each property of the check.
        progress: called with the next step, in words.

    Returns: what it is, or the nearest loss with the first input on which the function differs from it.

    Raises: ValueError for an unknown name, or if `examples` is less than one.
    """
    checked_number(examples)
    contracts = _chosen(among)
    with warnings.catch_warnings(), guarded():
        warnings.simplefilter("ignore")
        readings, refused = _readings(function, contracts, bind or {}, progress)
        try:
            found = _searched(readings, progress)
        except Violation as violation:
            if not violation.took_too_long:
                raise
            return Identification(name_of(function), "broken off", broken_off=violation.sentence)
    if not found:
        return Identification(name_of(function), "not called", refused=refused)
    return _judged(function, found, bind or {}, examples, progress)


def _chosen(among: Sequence[str]) -> list[Contract]:
    """The contracts of some families, by the names of their subjects, or by their own names."""
    every = every_contract()
    families = {name: {one.name for one in of_subject(name)} for name in SUBJECTS if of_subject(name)}
    known = {**families, **every}
    for name in among:
        if name not in known:
            near = ", ".join(get_close_matches(name, known, n=3))
            expected = f"contracts or families; the nearest: {near}" if near else f"some of {', '.join(known)}"
            raise ValueError(f"among: got {name!r}, expected {expected}")
    meant = {*among}.union(*(families.get(name, ()) for name in among))
    return [contract for name, contract in every.items() if not among or name in meant]


# -- reading ----------------------------------------------------------------------------------------------------------


def _readings(
    function: Callable[..., Any], contracts: Sequence[Contract], bound: Mapping[str, str], progress: Progress
) -> tuple[list[Subject], dict[str, str]]:
    """The function as an implementation of each contract that it can be called as; for the others, why it cannot."""
    found: list[Subject] = []
    refused: dict[str, str] = {}
    wrong: list[ValueError] = []
    for contract in contracts:
        progress(f"calling it as {contract.name}")
        try:
            found.append(_with_all_tensors(read(function, contract, {}, bound=bound)))
        except Violation as violation:
            refused[contract.name] = violation.sentence
            if violation.took_too_long:
                return [], refused
        except ValueError as failure:  # a binding to a name that this contract does not have
            wrong.append(failure)
    if len(wrong) == len(contracts):
        raise wrong[0]
    return found, refused


def _with_all_tensors(subject: Subject) -> Subject:
    """Pass every tensor that the function takes, unless it also takes the option that asks for the tensor."""
    contract, binding = subject.contract, subject.binding
    taken = (name for name, option in contract.by_keyword.items() if binding.takes(name))
    always = tuple(name for name in taken if contract.by_keyword[name] not in subject.offered)
    return replace(subject, binding=replace(binding, always=tuple(dict.fromkeys((*binding.always, *always)))))


def _forms(subject: Subject) -> list[Variant]:
    """One form of tensors for each different result that the function gives for the same numbers."""
    found: dict[Any, Variant] = {}
    for variant in subject.variants:
        case = subject.contract.probe({}, variant)
        value = subject.call(case, case.tensors).detach().double().nan_to_num(7.0).flatten().tolist()
        found.setdefault((variant.advantages, *(f"{x:.6g}" for x in value)), variant)
    return list(found.values())


# -- searching --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What was found for one contract: the state, and the shares of inputs that it explains."""

    search: Search
    state: State
    order: int

    @property
    def name(self) -> str:
        """The name of the contract."""
        return self.search.subject.contract.name

    def climbed(self, *, pairs: bool) -> Found:
        """The same after trying all inputs, then once more as exactly as the function's dtype allows."""
        found = replace(self, state=self.search.climbed(self.state, KINDS, pairs=pairs)[0])
        if not found.complete or found.is_exact:
            return found
        exactly = replace(self.search, strict=True)
        again = replace(found, state=exactly.climbed(found.state, KINDS, pairs=False)[0])
        return again if again.is_exact else found

    @property
    def explained(self) -> tuple[int, int]:
        """The number of ordinary inputs that are explained, and the number of all."""
        probes = [probe for probe in self.search.probes if not probe.unusual]
        return sum(all(self.search.explains(self.state, probe)) for probe in probes), len(probes)

    @property
    def share(self) -> float:
        """The share of the ordinary single inputs that is explained."""
        return self._share(self.search.of_kind("single", unusual=False))

    @property
    def complete(self) -> bool:
        """Whether every ordinary input is explained."""
        explained, tried = self.explained
        return explained == tried

    @property
    def rank(self) -> tuple[float, ...]:
        """The order of preference, least first: explains most, most exactly, with the fewest changes."""
        batches = self._share(self.search.of_kind("whole", unusual=True))
        return (*self.explains, len(self.search.subject.binding.left), self._changes, -batches, self.order)

    @property
    def explains(self) -> tuple[float, ...]:
        """How much is explained, negated: of ordinary inputs, of extreme ones, and whether exactly."""
        explained, tried = self.explained
        extreme = [p for p in self.search.of_kind("single", unusual=True) if all(map(math.isfinite, p.values))]
        return -explained / tried, -self._share(extreme), -self.is_exact

    def _share(self, probes: Sequence[Probe]) -> float:
        explained = [explained for probe in probes for explained in self.search.explains(self.state, probe)]
        return sum(explained) / max(1, len(explained))

    @property
    def is_exact(self) -> bool:
        """Whether everything is explained up to the rounding of its own dtype."""
        exact = replace(self.search, strict=True)
        return self.complete and all(all(exact.explains(self.state, p)) for p in exact.probes if not p.unusual)

    @property
    def _changes(self) -> int:
        """How far it is from the plain contract: changed options, habits, and defaults of its own."""
        usual, subject = self.search.subject.contract.defaults({}), self.search.subject
        own = sum(subject.defaults.get(name, usual[name]) != usual[name] for name in subject.offered)
        return len(self.changed) + 2 * len(self.state.habits) + own

    @property
    def changed(self) -> dict[str, Any]:
        """The options that are not at the contract's defaults."""
        usual = self.search.subject.contract.defaults({})
        return {name: value for name, value in self.state.options if value != usual[name]}

    @property
    def variety(self) -> Variety:
        """The contract, options and habits that were found."""
        subject = self.search.subject
        return Variety(
            subject.contract.name, self.changed, tuple(str(h) for _, h in self.state.habits), subject.offered
        )


def _searched(subjects: Sequence[Subject], progress: Progress) -> list[Found]:
    """The best state of each contract, the best first; single inputs decide which are tried on batches."""
    every: list[Found] = []
    for order, subject in enumerate(subjects):
        progress(f"trying {subject.contract.name}")
        every += _on_single_inputs(subject, order)
    done = _on_batches(every, progress)
    if not any(one.complete for one in done.values()):
        for one in sorted(done.values(), key=lambda one: one.rank)[:NEAREST]:
            if one.share > 0.5:
                progress(f"trying pairs of changes of {one.name}")
                done[one.name] = one.climbed(pairs=True)
    ranked = sorted(done.values(), key=lambda one: one.rank)
    if ranked and ranked[0].complete:
        others = {one.name: one for one in every if one.name not in done or not done[one.name].complete}
        ranked += filter(None, (_with_the_options_of(ranked[0], other) for other in others.values()))
    return ranked


def _on_batches(every: Sequence[Found], progress: Progress) -> dict[str, Found]:
    """The state that explains the most batches too, for the contracts that explain the most single inputs."""
    done: dict[str, Found] = {}
    best = max((one.share for one in every), default=0.0)
    for one in sorted(every, key=lambda one: -one.share):
        before, is_found = done.get(one.name), any(other.complete for other in done.values())
        if one.share < (best if is_found else NEAR * best) or (before and before.complete):
            continue
        progress(f"trying {one.name} on batches")
        climbed = one.climbed(pairs=False)
        done[one.name] = min([climbed, *([before] if before else [])], key=lambda one: one.rank)
    return done


def _with_the_options_of(best: Found, other: Found) -> Found | None:
    """Another contract with the options that were found, if it then explains everything."""
    start, options = other.search.start, dict(best.state.options)
    state = State(tuple((name, options.get(name, value)) for name, value in start.options))
    if state == start:
        return None
    state, _ = other.search.climbed(state, ("single",), pairs=False)
    found = replace(other, state=state)
    if found.share < 1:
        return None
    found = found.climbed(pairs=False)
    return found if found.complete else None


def _on_single_inputs(subject: Subject, order: int) -> Iterator[Found]:
    """The state that explains the most single inputs, for each form of tensors."""
    for form in _forms(subject):
        contract = subject.contract
        search = Search(subject, probes(subject, form), with_habits(contract), habits_by_name(contract))
        yield Found(search, search.climbed(search.start, ("single",), pairs=False)[0], order)


# -- judging ----------------------------------------------------------------------------------------------------------


def _judged(
    function: Callable[..., Any], found: Sequence[Found], bound: Mapping[str, str], examples: int, progress: Progress
) -> Identification:
    """The best state, checked; only the check makes it fit."""
    best = found[0]
    explained, tried = best.explained
    if not explained:  # what was changed explains nothing
        best = replace(best, state=best.search.start)
    so_far = Identification(name_of(function), "none", best.variety, (), explained, tried)
    if not best.complete:
        return replace(so_far, departure=_departure(best))
    progress(f"checking it as {best.variety.in_words()}")
    report = check(function, best.name, examples=examples, options=best.changed, bind=bound, habits=best.variety.habits)
    so_far = replace(so_far, report=report)
    if report.formula != "right":
        wrong = next((departure for _, departure in report.departures("formula")), None)
        return replace(so_far, departure=wrong)
    fit: Fit = "accepted" if report.accepted else "formula right"
    return replace(so_far, fit=fit, ties=tuple(_ties(best, found[1:])))


def _departure(one: Found) -> Departure | None:
    """The smallest ordinary input that is not explained, with a counterexample."""
    search, subject = one.search, one.search.subject
    missing = [p for p in search.probes if not p.unusual and not all(search.explains(one.state, p))]
    judged = replace(subject, contract=with_habits(subject.contract)(one.state.habits), held=one.changed)
    for probe in sorted(missing, key=lambda probe: sum(tensor.numel() for tensor in probe.case.tensors.values())):
        case = with_options(subject, probe.case, one.state.as_options, probe.taken)
        try:
            compare_with_spec(judged, case, ones_for(judged, case))
            reason = judged(case, ones_for(judged, case)).no_gradients
        except Violation as violation:
            return Departure(violation.sentence, "formula", (), render(judged, violation))
        except Exception:  # the spec cannot be evaluated in balls here
            continue
        if reason:
            return Departure(f"the result {reason}", "formula")
    return None


def _ties(best: Found, others: Sequence[Found]) -> Iterator[Tie]:
    """What cannot be told apart from the best: other contracts, and the same contract with other options and habits."""
    for other in others:
        if other.complete and other.explains == best.explains:
            yield Tie(other.variety, _where_the_same(best, other))
    search, score = best.search, best.search.score(best.state)
    for change in search.changes(best.state):
        state = search.consistent(change.of(best.state))
        if state == best.state or search.score(state, least=score) != score:
            continue
        tied, why = replace(best, state=state), _why_tied(search, best.state, state)
        if why and tied.explains == best.explains:
            yield Tie(tied.variety, why)


def _where_the_same(best: Found, other: Found) -> str:
    """On which inputs another contract is the same: it may lack options that the function takes."""
    left, known = other.search.subject.binding.left, best.search.subject.binding.left
    more = " and ".join(name for name in left if name not in known)
    return f"the same on every input, without {more}" if more else "the same on every input"


def _why_tied(search: Search, state: State, other: State) -> str:
    """On which inputs two states that explain the same differ; empty if they differ nowhere."""
    differing = [probe for probe in search.probes if probe.outcome and search.differ(state, other, probe)]
    unexplained = [probe for probe in differing if not all(search.explains(state, probe))]
    words = list(dict.fromkeys(word for probe in unexplained for word in probe.unusual))
    if words:
        return f"they differ only where {' or '.join(words)}, and there the function is neither"
    return "they differ by less than the function's rounding" if differing else ""


# -- habits -----------------------------------------------------------------------------------------------------------


def habits_by_name(contract: Contract) -> dict[str, list[Any]]:
    """The values of each habit of a contract that is not one of its options."""
    found: dict[str, list[Any]] = {}
    for habit in habits_of(contract):
        if habit.name not in contract.options:
            found.setdefault(habit.name, []).append(habit)
    for values in found.values():
        known = KNOWN[values[0].id]
        values.extend(known.at(number) for number in OTHER_NUMBERS if known.number)
    return found


def with_habits(contract: Contract) -> Callable[[Choices], Contract]:
    """The contract with some habits."""
    return lambda habits: contract.with_habits([habit for _, habit in habits]) if habits else contract
