"""Entries of families: the last of a row, and derivatives in an entry that a fact gives (untrusted).

A term of a sum over i that holds the family at i alone varies with the entry at k only where i = k.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

from grape_spec.coq.terms import Tree, free, index_text, number_of, put, sub
from grape_spec.coq.texts import function_text, show

if TYPE_CHECKING:
    from grape_spec.coq.script import Script


@dataclass(frozen=True)
class EntrySlope:
    """A known derivative in an entry, and the term at indices of its own.

    Arguments:
        body: the term at the indices of the entry.
        variable: the entry.
        slope: the derivative.
    """

    body: Tree
    variable: Tree
    slope: Tree

    @property
    def own(self) -> tuple[str, ...]:
        """The indices of the entry that the term has a part in."""
        return tuple(index[1] for index in self.variable[2] if index[0] == "i" and index[1] in free(self.body))

    def moved(self, names: tuple[str, ...]) -> Tree:
        """The term at other indices."""
        apart = [f"{name}_e" for name in self.own]
        body = self.body
        for name, own in zip(self.own, apart, strict=True):
            body = sub(body, name, ("i", own))
        for own, other in zip(apart, names, strict=True):
            body = sub(body, own, ("i", other))
        return body

    def at(self, names: tuple[str, ...]) -> Tree:
        """The derivative of the term at other indices."""
        deltas = (("delta", ("i", name), ("i", own)) for name, own in zip(names, self.own, strict=True))
        return ("*", (*deltas, self.slope))

    def of(self, node: Tree, variable: Tree) -> Tree | None:
        """The derivative of a node that is the term at some indices."""
        if variable != self.variable or node[0] != self.body[0]:
            return None
        for names in permutations(sorted(_indices(node)), len(self.own)):
            if self.moved(names) == node:
                return self.at(names)
        return None


def _indices(node: Any) -> set[str]:
    """The names of indices of families in a tree."""
    if not isinstance(node, tuple):
        return set()
    own = {index[1] for index in node[2] if index[0] == "i"} if node[:1] == ("ap",) else set()
    return own.union(*map(_indices, node))


def entry_slope(goal: Any) -> EntrySlope | None:
    """What a fact says of a derivative in an entry, or in a symbol for which an entry is put in."""
    if goal[0] != "=" or goal[1][0] not in ("diff", "at"):
        return None
    body, variable = goal[1][1:3]
    if goal[1][0] == "at":
        ((name, value),) = goal[1][3] if len(goal[1][3]) == 1 else (("", ()),)
        if name != variable[1]:
            return None
        body, variable = put(body, {name: value}), value
    found = EntrySlope(body, variable, goal[2])
    return found if variable[0] == "ap" and found.own else None


def say_for_all(script: Script, known: EntrySlope, fact: str) -> None:
    """Put the derivative at all indices into the context."""
    names = tuple(script.fresh("w") for _ in known.own)
    function, point = function_text(known.moved(names), known.variable)
    with script.block(
        f"assert (E{fact} : forall {' '.join(names)} : nat, der {function} {point} {show(known.at(names))})."
    ):
        script.say(f"intros {' '.join(names)}. by_entry {fact}.")
    script.say(f"clear {fact}.")


def last_entries(script: Script, node: Any) -> None:
    """Prove an equation by the last entry of each row as one less the others."""
    rows: dict[str, Tree] = {}

    def look(part: Any) -> None:
        if isinstance(part, tuple):
            family = part[1] if part[:1] == ("ap",) else None
            if family in script.normal.rows and part[2][-1] == ("k", number_of(script.normal.rows[family][0])):
                rows[show(part)] = part
            for inner in part:
                look(inner)

    look(node)
    for n, (text, (kind, family, indices)) in enumerate(rows.items()):
        size, hypothesis = script.normal.rows[family]
        first = [index_text(index) for index in indices[:-1]]
        others = (show((kind, family, (*indices[:-1], ("k", i)))) for i in range(1, number_of(size)))
        proof = " ".join([hypothesis, *(f"{index} ltac:(lia)" for index in first)])
        script.say(f"assert (L{n} : {text} = {' - '.join(['1', *others])}) by "
                   f"(pose proof ({proof}) as SS; cbn [sum1] in SS; lra).")  # fmt: skip
    script.say("first [ring | fin | (entries; " + "".join(f"rewrite ?L{n} in *; " for n in range(len(rows))) + "fin)].")
