"""The search for the options and habits with which a contract gives what a function returns.

The reference is the oracle. A state assigns a value to every option that the function does not take, and one or none
to each habit. The search climbs: it takes a change that explains more single inputs, or, if there is none, one that
explains more whole batches and keeps the single inputs explained; it ends when no change helps. If a number is in no
list, the search solves the oracle for it. A wrong turn may miss a result but never gives a false one, because what is
found is compared on all inputs and then checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from grape_verified.conformance.checking import checked_options
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.oracle import EXACT, Answer, Arithmetic, Target
from grape_verified.conformance.probes import KINDS, Probe, with_options
from grape_verified.conformance.subject import Subject

#: Values of options that are common in the field, in addition to those of the contracts.
COMMON: Mapping[str, Sequence[Any]] = {
    "clip_low": (0.2, 0.1, 0.3, 3e-4, 1.0),
    "clip_high": (0.2, 0.28, 0.3, 0.1, 4e-4),
    "dual_clip": (3.0, 10.0),
    "kl_coef": (0.01, 0.001, 0.04, 0.1),
    "beta": (0.1, 0.01, 0.5),
    "label_smoothing": (0.1, 0.05, 0.2),
    "eps": (1e-8, 1e-6, 1e-4, 1e-5, 0.0),
    "discount": (0.99, 1.0),
    "lam": (0.95, 1.0),
    "clip": (0.2, 0.5),
}

#: The numbers of digits to which a solution is rounded, the fewest first.
DIGITS = (1, 2, 3, 4, 6, 8, 12)

#: The number of first inputs, on which few options matter: a state that explains none of them is far off.
PLAIN = 6

#: The steps of the solver, and the number of inputs that it is run on.
STEPS, SOLVED = 12, 4

#: With no more changes of options than this, pairs are tried in every contract; with no more changes of options and
#: habits, numbers are also solved for after each change.
FEW = 15

#: The most pairs of changes that are tried if no single change helps.
PAIRS = 400

Choices = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class State:
    """Values of the options that a function does not take, and its habits by name."""

    options: Choices
    habits: Choices = ()

    @cached_property
    def as_options(self) -> dict[str, Any]:
        """The options by name."""
        return dict(self.options)

    def changed(self, name: str, value: Any, *, habit: bool) -> State:
        """The state with one value changed; None removes a habit."""
        if not habit:
            return State(tuple((n, value if n == name else v) for n, v in self.options), self.habits)
        others = [(n, v) for n, v in self.habits if n != name]
        mine = [(name, value)] if value is not None else []
        return State(self.options, tuple(sorted([*others, *mine], key=lambda choice: choice[0])))


@dataclass(frozen=True)
class Change:
    """Another value of one option or habit."""

    name: str
    value: Any
    habit: bool = False

    def of(self, state: State) -> State:
        """The state with this change."""
        return state.changed(self.name, self.value, habit=self.habit)


#: How many values and gradients a state explains: of ordinary single inputs, of unusual ones, then of other kinds.
Score = tuple[int, ...]


@dataclass
class Search:
    """The search in one contract.

    Arguments:
        subject: the function, read as an implementation of the contract.
        probes: the inputs with the function's results.
        contract_with: makes the contract with some habits.
        habits: the values of each habit.
        strict: whether to compare as exactly as the dtype of the function allows.
    """

    subject: Subject
    probes: Sequence[Probe]
    contract_with: Callable[[Choices], Contract]
    habits: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    strict: bool = False
    _known: dict[Any, tuple[bool, ...]] = field(default_factory=dict)
    _contracts: dict[Choices, Contract] = field(default_factory=dict)

    @property
    def start(self) -> State:
        """The contract's defaults, without habits."""
        usual = self.subject.contract.defaults({})
        return State(tuple((name, value) for name, value in usual.items() if name not in self.subject.offered))

    def consistent(self, state: State) -> State:
        """The state with every option reset to its default that has no effect, whatever the function is given."""
        contract, usual = self.subject.contract, self.subject.contract.defaults(state.as_options)
        fitted = [contract.fit({**usual, **taken}, list(taken)) for taken in self._taken]
        options = ((name, value, [each[name] for each in fitted]) for name, value in state.options)
        return State(tuple((name, value if value in fits else fits[0]) for name, value, fits in options), state.habits)

    @cached_property
    def _taken(self) -> list[Mapping[str, Any]]:
        """The values of options that the function is given: first none, then each other value."""
        every: list[Mapping[str, Any]] = [{}]
        for probe in self.probes:
            if probe.taken not in every:
                every.append(probe.taken)
        return every

    # -- comparison -----------------------------------------------------------------------------------------------

    def explains(self, state: State, probe: Probe) -> tuple[bool, ...]:
        """Whether the oracle gives the value at an input, and whether it gives the gradients too."""
        key = (state, id(probe), self.strict)
        if key not in self._known:
            self._known[key] = self._compared(state, probe)
        return self._known[key]

    def answer(self, state: State, probe: Probe, arithmetic: Arithmetic = EXACT) -> Answer | None:
        """What the oracle gives; None where it gives no answer."""
        case = with_options(self.subject, probe.case, state.as_options, probe.taken)
        try:
            return self._contract(state).oracle(case, arithmetic)
        except Exception:  # options that do not fit the tensors, or numbers outside a domain
            return None

    def differ(self, state: State, other: State, probe: Probe) -> bool:
        """Whether the oracle gives different numbers for two states."""
        answers = [self.answer(each, probe) for each in (state, other)]
        numbers = [[_number(target) for target in answer.values] if answer else [] for answer in answers]
        return numbers[0] != numbers[1]

    def _compared(self, state: State, probe: Probe) -> tuple[bool, ...]:
        parts = 1 + bool(self.subject.contract.wrt)
        if probe.outcome is None:
            return (False,) * parts
        answer = self.answer(state, probe, probe.arithmetic(strict=self.strict))
        answer = answer or self.answer(state, probe, probe.arithmetic(strict=True))  # where balls were too wide
        if answer is None or len(answer.values) != len(probe.values):
            return (False,) * parts
        if not _all_accepted(answer.values, probe.values):
            return (False,) * parts
        if parts == 1 or not probe.gradients:
            return (True, False)[:parts]
        try:
            expected = answer.gradients([1.0] * len(answer.values))
        except Exception:  # numbers outside a domain
            return True, False
        return True, all(_all_accepted(expected[name], got) for name, got in probe.gradients.items())

    def _contract(self, state: State) -> Contract:
        if state.habits not in self._contracts:
            self._contracts[state.habits] = self.contract_with(state.habits)
        return self._contracts[state.habits]

    def of_kind(self, kind: str, *, unusual: bool) -> list[Probe]:
        """The inputs of a kind."""
        return [probe for probe in self.probes if probe.kind == kind and bool(probe.unusual) == unusual]

    def score(self, state: State, kinds: Sequence[str] = KINDS, least: Score = ()) -> Score:
        """How much a state explains; counting stops once the score is below `least`."""
        found: list[int] = []
        for kind in kinds:
            found += (self._explained(state, self.of_kind(kind, unusual=unusual)) for unusual in (False, True))
            if tuple(found) < least[: len(found)]:
                return (*found, *(-1,) * (2 * len(kinds) - len(found)))
        return tuple(found)

    def _explained(self, state: State, probes: Sequence[Probe]) -> int:
        return sum(sum(self.explains(state, probe)) for probe in probes)

    def possible(self, kinds: Sequence[str] = KINDS) -> Score:
        """The score of a state that explains everything."""
        parts = 1 + bool(self.subject.contract.wrt)
        return tuple(parts * len(self.of_kind(kind, unusual=unusual)) for kind in kinds for unusual in (False, True))

    # -- climbing -------------------------------------------------------------------------------------------------

    def climbed(self, state: State, kinds: Sequence[str], *, pairs: bool = True) -> tuple[State, Score]:
        """The best state reached from a given one, and its score."""
        state = self.consistent(state)
        score = self.score(state, kinds)
        every = self.changes(state)
        ratios = "old_logps" in self.subject.contract.tensors  # then single inputs tell options apart, one by one
        few, fewer = not ratios and len([x for x in every if not x.habit]) <= FEW, not ratios and len(every) <= FEW
        while score != self.possible(kinds):
            steps = [self._single_changes, self._solved]
            steps += [*([self._pairs] if pairs or few else []), *([self._changed_and_solved] if fewer else [])]
            better = next(filter(None, (self._best(changes(state), kinds, score, state) for changes in steps)), None)
            if better is None:
                break
            state, score = better
        return state, score

    def _best(
        self, states: Iterable[State], kinds: Sequence[str], score: Score, before: State
    ) -> tuple[State, Score] | None:
        """The best of some states, if it is better than the state before."""
        best: tuple[State, Score] | None = None
        missing = self._missing(before, kinds)
        for state in dict.fromkeys(map(self.consistent, states)):
            least = best[1] if best else score
            if state == before or not self._helps(state, missing, before):
                continue
            found = self.score(state, kinds, least)
            if found > least:
                best = state, found
        return best

    def _missing(self, state: State, kinds: Sequence[str]) -> list[Probe]:
        """Inputs of which a better state must explain some: the first ones, if the state explains none of them."""
        called = [probe for probe in self.probes if probe.kind in kinds and probe.outcome]
        plain = [probe for probe in called if not probe.unusual][:PLAIN]
        if not any(self.explains(state, probe)[0] for probe in plain):
            return plain
        return sorted((p for p in called if not all(self.explains(state, p))), key=lambda probe: bool(probe.unusual))

    def _helps(self, state: State, missing: Sequence[Probe], before: State) -> bool:
        """Whether a state explains anything that was not explained before."""
        return any(sum(self.explains(state, probe)) > sum(self.explains(before, probe)) for probe in missing)

    def changes(self, state: State) -> list[Change]:
        """All other values of one option or habit."""
        found: list[Change] = []
        for name, now in state.options:
            option = self.subject.contract.options[name]
            values = dict.fromkeys([option.default, *option.others, *COMMON.get(name, ())])
            found += (Change(name, value) for value in values if not _same(value, now))
        having: dict[str, Any] = dict(state.habits)
        for name, known in self.habits.items():
            found += (Change(name, value, habit=True) for value in (None, *known) if value != having.get(name))
        return found

    def _single_changes(self, state: State) -> Iterator[State]:
        """One change, or two where the first has no effect alone."""
        changes = self.changes(state)
        alone = [change for change in changes if self.consistent(change.of(state)) == state]
        for change in changes:
            yield change.of(state)
        for first in alone:
            for second in changes:
                if second.name != first.name:
                    yield second.of(first.of(state))

    def _pairs(self, state: State) -> Iterator[State]:
        pairs = (pair for pair in combinations(self.changes(state), 2) if pair[0].name != pair[1].name)
        for count, (first, second) in enumerate(pairs):
            if count >= PAIRS:
                return
            yield second.of(first.of(state))

    # -- numbers that are in no list ------------------------------------------------------------------------------

    def _solved(self, state: State) -> Iterator[State]:
        """States with a number solved for such that an input is explained."""
        changes = self.changes(state)
        missing = [p for p in self.probes if p.outcome and not p.unusual and not all(self.explains(state, p))]
        missing = [probe for probe in missing if len(probe.values) == 1 and math.isfinite(probe.values[0])]
        numbers = [name for name, _ in state.options if self._is_number(name) and name != "denominator"]
        kinds = [change for change in changes if not change.habit and not self._is_number(change.name)]
        for base in (state, *(change.of(state) for change in kinds)):
            for name in numbers:
                for probe in missing[:: max(1, len(missing) // SOLVED)]:
                    value = self._solution(base, name, probe)
                    if value is not None:
                        yield Change(name, value).of(base)

    def _changed_and_solved(self, state: State) -> Iterator[State]:
        """The same after each change, for numbers that every input depends on together."""
        for change in self.changes(state):
            yield from self._solved(change.of(state))

    def _is_number(self, name: str) -> bool:
        values = (self.subject.contract.options[name].default, *self.subject.contract.options[name].others)
        return all(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
        )

    def _solution(self, base: State, name: str, probe: Probe) -> Any:
        """The value of an option at which the oracle gives what the function returned."""
        option = self.subject.contract.options[name]
        whole = all(isinstance(value, int) for value in (option.default, *option.others) if value is not None)
        now = base.as_options[name] or next((value for value in option.others if value), None)
        if not now:
            return None

        def of(x: float) -> float | None:
            return self._middle(Change(name, x).of(base), probe)

        found = _secant(of, float(now), probe.values[0])
        if found is None:  # it may be a divisor
            inverse = _secant(lambda y: of(1 / y) if y else None, 1 / now, probe.values[0])
            if not inverse:
                return None
            found = 1 / inverse
        for value in [round(found)] if whole else [float(f"{found:.{digits}g}") for digits in DIGITS]:
            state = self.consistent(Change(name, value).of(base))
            if math.isclose(value, found, rel_tol=1e-4) and self.explains(state, probe)[0]:
                return value if self._allowed(state) else None
        return None

    def _middle(self, state: State, probe: Probe) -> float | None:
        answer = self.answer(state, probe)
        if answer is None or answer.values[0].is_undefined:
            return None
        return float(answer.values[0].ball.mid())

    def _allowed(self, state: State) -> bool:
        """Whether the contract takes the options of a state."""
        contract, usual = self.subject.contract, self.subject.contract.defaults({})
        fitted = contract.fit(contract.defaults(state.as_options), [name for name, _ in state.options])
        try:
            checked_options(contract, {name: value for name, value in fitted.items() if value != usual[name]})
        except ValueError:
            return False
        return True


def _all_accepted(targets: Sequence[Target], got: Sequence[float]) -> bool:
    return all(
        target.is_undefined or target.accepts(number) for target, number in zip(targets, got, strict=True)
    )  # fmt: skip


def _number(target: Target) -> str:
    """The midpoint of a ball to ten digits, which tells the numbers of two states apart."""
    return f"{float(target.ball.mid()):.10g}"


def _secant(of: Callable[[float], float | None], start: float, wanted: float) -> float | None:
    """Where a function takes the wanted value, by the secant method; None if not found in a few steps."""
    a, b = start, 1.25 * start
    at_a, at_b = of(a), of(b)
    for _ in range(STEPS):
        if at_a is None or at_b is None or at_a == at_b:
            return None
        if abs(at_b - wanted) <= 1e-13 * max(1e-3, abs(wanted)):
            return b
        a, b, at_a = b, b - (at_b - wanted) * (b - a) / (at_b - at_a), at_b
        if not math.isfinite(b) or abs(b) > 1e9:
            return None
        at_b = of(b)
    return b if at_b is not None and abs(at_b - wanted) <= 1e-9 * max(1e-3, abs(wanted)) else None


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)
