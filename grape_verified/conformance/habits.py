"""Habits: named conventions in which implementations of one loss differ.

A function is judged with its habits: the oracle reads the definitions of the habits in place of the spec's own, so that
a bug behind a habit is still found. A habit is written `name=value`, such as `log_ratio_clamp=20`, or `name`
where it has no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from grape_spec.language.registry import definition
from grape_spec.language.symbols import declaration, declared_name
from sympy import Rational

from grape_verified.conformance.oracle import Answer, Arithmetic, Oracle
from grape_verified.conformance.reading import Instead, reading
from grape_verified.conformance.strategies import Case

if TYPE_CHECKING:
    from grape_verified.conformance.contract import Contract

#: The value of a habit: a number, one of several words, or none.
Value = float | str | None


@dataclass(frozen=True)
class Habit:
    """A named convention.

    Arguments:
        id: the id of its definition in the spec, `habit.name` or `habit.name.word`.
        value: its number or its word, if it has one.
        words: the habit in words, such as "log-ratio clamped to ±20".
    """

    id: str
    value: Value
    words: str

    @property
    def name(self) -> str:
        """The name by which it is chosen: the second part of its id."""
        return self.id.split(".")[1]

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={_shown(self.value)}"


def _shown(value: Value) -> str:
    """A number as people write it: 20, 1e-8."""
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Known:
    """A habit that functions may have.

    Arguments:
        id: the id of its first definition, `habit.name` or `habit.name.word`.
        words: the habit in words; `{}` stands for its number.
        instead_of: the ids of the definitions that are read, keyed by those that they replace; a contract whose oracle
            reads a replaced definition may have the habit.
        all_of: whether a contract must read all the replaced definitions.
        number: the symbol that takes its number.
        usual: the numbers that trainers use; others are allowed too.
        around: a symbol of the definition that stands for the replaced definition.
        held: symbols that stand for others, held constant.
        option: the option that replaces the habit in contracts that have one for it.
        unread: an option that has no effect with the habit.
        tensor: a tensor that a contract must have.
    """

    id: str
    words: str
    instead_of: Mapping[str, str] = field(default_factory=dict)
    all_of: bool = False
    number: str = ""
    usual: tuple[float, ...] = ()
    around: str = ""
    held: Mapping[str, str] = field(default_factory=dict)
    option: str = ""
    unread: str = ""
    tensor: str = ""

    @property
    def every(self) -> tuple[Habit, ...]:
        """The habit with its word, or with each of its usual numbers."""
        _, _, *word = self.id.split(".")
        return tuple(map(self.at, self.usual)) or (Habit(self.id, word[0] if word else None, self.words),)

    def at(self, number: float) -> Habit:
        """The habit with a number."""
        return Habit(self.id, number, self.words.format(_shown(number)))

    def fits(self, contract: Contract) -> bool:
        """Whether a function under a contract may have it."""
        if (self.tensor and self.tensor not in contract.tensors) or (self.held and not contract.wrt):
            return False
        return self.option in contract.options or bool(self._read_by(contract))

    def options(self, contract: Contract, habit: Habit) -> dict[str, Value]:
        """The options that it fixes in a contract."""
        number = int(habit.value) if isinstance(habit.value, float) and habit.value.is_integer() else habit.value
        return {name: x for name, x in ((self.option, number), (self.unread, 1)) if name in contract.options}

    def instead(self, contract: Contract, habit: Habit) -> Iterator[Instead]:
        """The replacements that it makes in the spec; none where the contract has an option for it."""
        if self.option in contract.options:
            return
        given: dict[str, Any] = {self.number: Rational(Fraction(str(habit.value)))} if self.number else {}
        for of, read in self._read_by(contract).items():
            if self.around:
                constant = {name: declared_name(held) for held, name in self.held.items()}
                given[self.around] = definition(of)(**constant)
            yield Instead(of, definition(read)(**given), tuple(self.held.items()))

    def _read_by(self, contract: Contract) -> dict[str, str]:
        """The replacements of definitions that the contract reads."""
        found = {of: read for of, read in self.instead_of.items() if of in contract.rests_on}
        return {} if self.all_of and len(found) < len(self.instead_of) else found


#: Every habit by the id of its first definition. Where two replace the same definition, the second applies within the
#: first.
KNOWN = {
    known.id: known
    for known in (
        Known(
            "habit.dual_clip",
            "always-on dual clip c = {}",
            {"ppo.clipped_surrogate": "habit.dual_clip"},
            number="dual_clip",
            usual=(3.0,),
            option="dual_clip",
        ),
        Known(
            "habit.one_clip",
            "one ε for both clips",
            {"ppo.clipped_surrogate": "habit.one_clip", "grpo.cispo.weight": "habit.one_clip.weight"},
        ),
        Known(
            "habit.log_ratio_clamp",
            "log-ratio clamped to ±{}",
            {"ppo.ratio": "habit.log_ratio_clamp"},
            number="log_ratio_cap",
            usual=(20.0, 10.0),
        ),
        Known(
            "habit.sequence_log_ratio_cap",
            "mean log-ratio of a sequence capped at {}",
            {"grpo.gspo.ratio": "habit.sequence_log_ratio_cap"},
            number="log_ratio_cap",
            usual=(10.0,),
        ),
        Known(
            "habit.sequence_weight.length",
            "sequences weighted by length",
            {
                "grpo.gspo.objective": "habit.sequence_weight.length",
                "aggregation.sequence_count": "aggregation.token_count",
            },
            all_of=True,
        ),
        Known(
            "habit.cispo_cap.epsilon",
            "weight capped at ε, not 1 + ε, with no lower clip",
            {"grpo.cispo.weight": "habit.cispo_cap.epsilon"},
        ),
        Known(
            "habit.empty_rows.left_out",
            "rows without tokens left out of the number of rows",
            {"aggregation.sequence_count": "habit.empty_rows.left_out"},
            tensor="mask",
        ),
        Known(
            "habit.denominator_eps",
            "token counts plus {} in denominators",
            {
                "aggregation.token_count": "habit.denominator_eps",
                "aggregation.row_count": "habit.denominator_eps.row",
            },
            number="count_eps",
            usual=(1e-8,),
        ),
        Known(
            "habit.fixed_length.padded_width",
            "padded width as the fixed length",
            {"aggregation.fixed_length": "habit.fixed_length.padded_width"},
            unread="max_length",
        ),
        Known(
            "habit.kl_straight_through",
            "KL estimate with the gradient of k2",
            {"kl.k1": "habit.kl_straight_through", "kl.k3": "habit.kl_straight_through"},
            around="held_kl",
            held={"held_logp": "logp"},
        ),
        Known(
            "habit.kl_clamp",
            "KL estimate clamped to ±{}",
            {f"kl.{name}": "habit.kl_clamp" for name in ("k1", "k2", "k3")},
            number="kl_cap",
            usual=(10.0,),
            around="kl_term",
        ),
        Known(
            "habit.k3_clamp",
            "k3 clamped to ±{}",
            {"kl.k3": "habit.k3_clamp"},
            number="kl_cap",
            usual=(10.0,),
        ),
        Known(
            "habit.kl_log_ratio_clamp",
            "log-ratio in k3 clamped to ±{}",
            {"kl.k3": "habit.kl_log_ratio_clamp"},
            number="kl_log_ratio_cap",
            usual=(20.0,),
        ),
        Known(
            "habit.masked_kl.kept",
            "KL penalty at masked tokens too",
            {"ppo.token_reward": "habit.masked_kl.kept"},
        ),
        Known("habit.ddof", "variance with ddof = {}", number="ddof", usual=(0.0, 1.0), option="ddof"),
        Known(
            "habit.group_of_one.raw",
            "raw reward in a group of one",
            {
                "grpo.centred": "habit.group_of_one.raw",
                "grpo.left_out": "habit.group_of_one.raw_left_out",
                "grpo.scaled_deviation": "habit.group_of_one.raw_scaled",
            },
            all_of=True,
        ),
        Known(
            "habit.eps_inside_root",
            "ε inside the square root of the variance",
            {"grpo.scaled_deviation": "habit.eps_inside_root"},
        ),
        Known(
            "habit.std_floor",
            "standard deviation at least {}, without ε",
            {"grpo.scaled_deviation": "habit.std_floor"},
            number="lowest_std",
            usual=(1e-6,),
            unread="eps",
        ),
        Known(
            "habit.eps_on_std",
            "ε added to the standard deviation, not under the square root",
            {"advantage.whitened": "habit.eps_on_std"},
        ),
        Known(
            "habit.variance_floor",
            "variance at least {}, without ε",
            {"advantage.whitened": "habit.variance_floor"},
            number="lowest_variance",
            usual=(1e-8,),
            unread="eps",
        ),
    )
}


def habits_of(contract: Contract) -> tuple[Habit, ...]:
    """The habits that make sense for a contract, grouped by name; a function has at most one of each name.

    What the contract does by default is not among them.
    """
    fitting = (known for known in KNOWN.values() if known.fits(contract))
    return tuple(habit for known in fitting for habit in known.every if not _by_default(contract, known, habit))


def _by_default(contract: Contract, known: Known, habit: Habit) -> bool:
    return known.option in contract.options and contract.options[known.option].default == habit.value


def chosen(contract: Contract, asked: Iterable[Habit | str]) -> tuple[Habit, ...]:
    """The chosen habits of a contract, in the order in which they apply.

    Raises: ValueError for a habit that the contract does not have, for two of one name, for a wrong number, or if the
        contract already has habits.
    """
    found = [_asked(contract, habit) for habit in asked]
    if contract.habits and found:
        has = " and ".join(map(str, contract.habits))
        raise ValueError(f"habits: {contract.name} already has {has}, expected a contract without habits")
    names = [habit.name for habit in found]
    for habit in found:
        if names.count(habit.name) > 1:
            same = " and ".join(str(other) for other in found if other.name == habit.name)
            raise ValueError(f"habits: got {same}, expected one of them")
    return tuple(sorted(found, key=lambda habit: list(KNOWN).index(habit.id)))


def _asked(contract: Contract, asked: Habit | str) -> Habit:
    """The habit written as NAME or NAME=VALUE; NAME alone is enough where the habit has one value."""
    name, equals, value = str(asked).partition("=")
    for known in KNOWN.values():
        if not known.fits(contract) or known.every[0].name != name:
            continue
        if known.number and equals:
            return known.at(_number(known, str(asked), value))
        if len(known.every) == 1 and value in ("", known.every[0].value):
            return known.every[0]
    names = ", ".join(map(str, habits_of(contract))) or "none"
    raise ValueError(f"habits: got {str(asked)!r}, expected some of the habits of {contract.name}: {names}")


def _number(known: Known, asked: str, value: str) -> float:
    """The number of a habit, which must lie in the domain of the symbol that takes it."""
    domain = declaration(declared_name(known.number)).domain
    try:
        number = float(value)
        if domain.contains(Fraction(value)):
            return number
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"habits: got {asked!r}, expected a number that is {domain.name}")


def options_held(contract: Contract, habits: Iterable[Habit]) -> dict[str, Value]:
    """The options that habits fix in a contract."""
    return {name: x for habit in habits for name, x in KNOWN[habit.id].options(contract, habit).items()}


def under(contract: Contract, habits: Sequence[Habit]) -> Oracle:
    """The oracle of a contract that reads the definitions of habits in place of others, also for gradients."""
    instead = [one for habit in habits for one in KNOWN[habit.id].instead(contract, habit)]

    def judged(case: Case, arithmetic: Arithmetic) -> Answer:
        with reading(instead):
            answer = contract.oracle(case, arithmetic)
        return Answer(answer.values, reading(instead)(answer.of_gradients), reading(instead)(answer.of_size))

    return judged if instead else contract.oracle
