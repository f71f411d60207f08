"""Definitions that a user adds to the spec for their own loss; imported by test_outsiders_contract.py."""

from grape_spec.language import Positive, define, symbol
from grape_spec.ppo import advantage, rho

cap = symbol("cap", Positive, "how slowly the ratio is damped", tex=r"\kappa")

damped = define(
    "damped.objective",
    "The advantage times a ratio that is damped smoothly, to be maximised.",
    (rho, advantage, cap),
    advantage * (1 + cap) * rho / (cap + rho),
)
