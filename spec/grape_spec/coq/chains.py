"""Scripts for chains of equations, some of whose links are facts that are rewritten with (untrusted)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grape_spec.coq.script import Script
from grape_spec.coq.terms import NoScript, Tree, exchanged, tree
from grape_spec.coq.texts import show
from grape_spec.proof.facts import Fact
from grape_spec.proof.rules.equations import Rewrite
from grape_spec.proof.rules.rule import Rule


def rewrites(rule: Rule) -> bool:
    """Whether a rule rewrites with a fact, or a link of its chain does."""
    return any(isinstance(by, Rewrite) for by in (rule, *(link.by for link in rule.steps())))


def through_links(script: Script, goal: Any, rule: Rule, use: Callable[[Fact], tuple[str, Any]]) -> None:
    """Prove an equation link by link.

    ``use`` puts a fact into the context and gives its name and what it says.
    """
    _, here, right = goal
    links = [(tree(link.expr), link.by) for link in rule.steps()] or [(right, rule)]
    for to, by in links:
        with script.block(f"transitivity {show(to)}."):
            if isinstance(by, Rewrite):
                _rewritten(script, here, to, *use(Fact(by.claim, by.part, by.bindings)))
            else:
                script.equation(here, to)
        here = to
    script.equation(here, right)


def _rewritten(script: Script, here: Tree, to: Tree, name: str, said: Any) -> None:
    new = exchanged(here, said[1], said[2])
    if said[0] != "=" or new == here:
        raise NoScript("a fact whose left side does not occur")
    with script.block(f"transitivity {show(new)}."):
        script.say(f"first [exact {name} | rewrite {name}; reflexivity | under ltac:(exact {name})].")
    script.equation(new, to)
