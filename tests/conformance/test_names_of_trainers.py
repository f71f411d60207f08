"""What trainers call tensors and options: the parameters of their functions in a release are bound by name."""

import json
from inspect import Parameter, Signature
from pathlib import Path

import pytest

from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.binding import BOTH_CLIPS, SYNONYMS, bind

#: Facts: trainer, version, function, its parameters and which may be left out; with them, what each is called here.
RECORDED = json.loads(Path(__file__).with_name("trainers_names.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["function"].split(".", 1)[-1])
def test_every_name_is_among_the_synonyms(entry):
    for theirs, ours in entry["parameters"].items():
        if ours and theirs != ours and "." + theirs != ours:
            known = (*SYNONYMS.get(ours, ()), *(BOTH_CLIPS if ours.startswith("clip_") else ()))
            assert theirs in known or (theirs, ours) == ("values", "old_values"), f"{theirs} for {ours}"


@pytest.mark.parametrize(
    "entry", [e for e in RECORDED if e["contract"]], ids=lambda entry: entry["function"].split(".", 1)[-1]
)
def test_a_function_is_bound_by_its_names(entry):
    contract = CONTRACTS[entry["contract"]]
    known = {
        ours: theirs for theirs, ours in entry["parameters"].items() if ours in (*contract.tensors, *contract.options)
    }
    parameters = [
        Parameter(
            name,
            Parameter.POSITIONAL_OR_KEYWORD if name not in entry["optional"] else Parameter.KEYWORD_ONLY,
            default=None if name in entry["optional"] else Parameter.empty,
        )
        for name in entry["parameters"]
    ]
    parameters.sort(key=lambda parameter: parameter.kind)
    found = bind(Signature(parameters), contract, {}).parameters
    assert {ours: found.get(ours) for ours in known} == known
