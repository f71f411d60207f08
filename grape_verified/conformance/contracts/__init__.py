"""The contracts, one file for each method, in the order of the spec. Each says what its oracle evaluates."""

from collections.abc import Mapping

from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import advantage, aggregation, dpo, grpo, policy, ppo, rejection, reward, sft

_METHODS = (policy, aggregation, advantage, sft, rejection, ppo, reward, grpo, dpo)

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {contract.name: contract for method in _METHODS for contract in method.CONTRACTS}
from grape_verified.conformance.contracts import aggregation, dpo, grape, policy, ppo

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract for module in (policy, aggregation, ppo, dpo, grape) for contract in module.CONTRACTS
from grape_verified.conformance.contracts import aggregation, dpo, kl, policy, ppo, reinforce

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract
    for module in (policy, kl, aggregation, reinforce, ppo, dpo)
    for contract in module.CONTRACTS
}
