"""The worst cases found so far: the input of a kernel, as data, and the error that it makes there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grape_verified.conformance.strategies import Case, Variant

from ..conformance.bounds import factors, subject_of
from ..conformance.table import stated

STATED = stated()

FILE = Path(__file__).with_name("worst_cases.json")

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Entry:
    """The largest error of a contract's kernel at a dtype, in units of u · scale, and the input that makes it."""

    contract: str
    dtype: str
    factor: float
    case: Case

    @property
    def bound(self) -> float:
        """The factor that the docstring allows."""
        return STATED[self.contract][0]

    def measured(self) -> float:
        """The factor of the current code."""
        return factor_of(self.contract, self.case)


def factor_of(contract: str, case: Case) -> float:
    """The largest error of a kernel's results, in units of u · scale."""
    return max(factors(subject_of(contract), STATED[contract][1], case))


def load(path: Path = FILE) -> dict[tuple[str, str], Entry]:
    """Every entry, by contract and dtype."""
    if not path.exists():
        return {}
    read = (_entry(data) for data in json.loads(path.read_text(encoding="utf-8")))
    return {(entry.contract, entry.dtype): entry for entry in read}


def save(entries: dict[tuple[str, str], Entry], path: Path = FILE) -> None:
    """Write every entry, a line for each. Numbers round-trip."""
    lines = [json.dumps(_data(entry), ensure_ascii=False) for entry in entries.values()]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def _data(entry: Entry) -> dict[str, Any]:
    case = entry.case
    return {
        "contract": entry.contract,
        "dtype": entry.dtype,
        "factor": entry.factor,
        "options": dict(case.options),
        "variant": asdict(case.variant),
        "tensors": {
            name: {"dtype": str(tensor.dtype).removeprefix("torch."), "values": tensor.tolist()}
            for name, tensor in case.tensors.items()
        },
    }


def _entry(data: dict[str, Any]) -> Entry:
    tensors = {
        name: torch.tensor(tensor["values"], dtype=getattr(torch, tensor["dtype"]))
        for name, tensor in data["tensors"].items()
    }
    case = Case(tensors, data["options"], Variant(**data["variant"]))
    return Entry(data["contract"], data["dtype"], data["factor"], case)


def larger(old: Entry | None, new: Entry) -> Entry:
    """The one with the larger error; the old one where they are equal."""
    return new if old is None or new.factor > old.factor else replace(old)
