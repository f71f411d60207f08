"""The rules by which a statement is proved, as a spec file writes them."""

from grape_spec.language.grammar import rules_are
from grape_spec.proof.facts import Fact, fact
from grape_spec.proof.rules.depth import OverDepth, WithinDepth, over_depth, within_depth
from grape_spec.proof.rules.equations import (
    Algebra,
    Chain,
    FiniteSum,
    Induction,
    Rewrite,
    algebra,
    chain,
    finite_sum,
    induction,
    rewrite,
)  # fmt: skip
from grape_spec.proof.rules.inequalities import FromMinimum, Smt, Termwise, from_minimum, smt, termwise
from grape_spec.proof.rules.rule import GENERAL, Rule, Step, Unproved, step, unproved
from grape_spec.proof.rules.slopes import ByTerms, ChainRule, Near, Slope, by_terms, chain_rule, near, slope

#: Every rule that may prove a statement.
RULES: frozenset[type[Rule]] = frozenset({
    Algebra, ByTerms, Chain, ChainRule, FiniteSum, FromMinimum, Induction, Near, OverDepth, Rewrite, Slope, Smt,
    Termwise, Unproved, WithinDepth,
})  # fmt: skip

rules_are({*RULES, Fact, Step})

__all__ = [
    "GENERAL",
    "RULES",
    "Rule",
    "algebra",
    "by_terms",
    "chain",
    "chain_rule",
    "fact",
    "finite_sum",
    "from_minimum",
    "induction",
    "near",
    "over_depth",
    "rewrite",
    "slope",
    "smt",
    "step",
    "termwise",
    "unproved",
    "within_depth",
]
