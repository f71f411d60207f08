"""The contracts, one file for each method, in the order of the spec. Each says what its oracle evaluates."""

from collections.abc import Mapping

from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import advantage, aggregation, dpo, policy, ppo, reward

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract
    for module in (policy, aggregation, advantage, ppo, reward, dpo)
    for contract in module.CONTRACTS
from grape_verified.conformance.contracts import aggregation, dpo, grpo, policy, ppo

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract for module in (policy, aggregation, ppo, grpo, dpo) for contract in module.CONTRACTS
}
