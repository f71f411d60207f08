"""The rules by which a statement is proved, as a spec file writes them."""

from grape_spec.proof.facts import fact
from grape_spec.proof.rules.equations import algebra, chain, finite_sum, induction, rewrite
from grape_spec.proof.rules.inequalities import from_minimum, smt, termwise
from grape_spec.proof.rules.rule import GENERAL, Rule, step, unproved
from grape_spec.proof.rules.slopes import by_terms, chain_rule, near, slope

__all__ = [
    "GENERAL",
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
    "rewrite",
    "slope",
    "smt",
    "step",
    "termwise",
    "unproved",
]
