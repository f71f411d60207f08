"""The contracts, one file for each method, in the order of the spec. Each says what its oracle evaluates."""

from collections.abc import Mapping

from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import (
    advantage,
    aggregation,
    dpo,
    grape,
    grpo,
    head,
    kl,
    policy,
    ppo,
    reinforce,
    rejection,
    reward,
    sft,
    trpo,
)

_METHODS = (
    policy, head, kl, aggregation, advantage, sft, rejection, reinforce, trpo, ppo, reward, grpo, dpo, grape,
)  # fmt: skip

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {contract.name: contract for method in _METHODS for contract in method.CONTRACTS}
