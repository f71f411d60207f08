"""The accuracy of torch's functions that the proofs of rounding errors assume is what is measured here."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from grape_verified.numerics import exp_

from .accuracy import DTYPES, FUNCTIONS, LOGSIGMOID, floats, near, worst
from .test_proofs import SOURCES

CHAPTER = Path(__file__).parents[2] / "docs" / "chapters" / "numerics.md"

#: What is assumed: ulp, or roundings beyond u·|log σ|.
ASSUMED = {"exp": 0.9, "expm1": 1.0, "log1p": 1.5, "logsigmoid": LOGSIGMOID}

#: How the theorems write their assumptions: n ulp.
ULPS = r"(\d+|\(\d+/\d+\))"
WRITTEN = {
    "exp": rf"within_ulps(?:_near_zero)? {ULPS} u (?:eta )?\(exp (?:d|\(- Rabs x\))\)",
    "expm1": rf"within_ulps {ULPS} u \(exp \(- d\) - 1\)",
    "log1p": rf"computes_log_sigmoid {ULPS} u",
}

measured = cache(worst)


def proofs():
    """All files of proofs but the theorem that an exponential within 2 ulp is not enough."""
    text = "\n".join(path.read_text() for path in SOURCES.glob("*.v"))
    counter = text.index("Theorem ppo_per_token_not_within_2_ulps")
    return text[:counter] + text[text.index("Qed.", counter) :]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_assumed_is_what_the_theorems_say(name):
    found = [Fraction(ulps.strip("()")) for ulps in re.findall(WRITTEN[name], proofs())]
    assert min(found) == Fraction(str(ASSUMED[name]))


def test_every_accuracy_that_a_theorem_assumes_is_measured():
    places = re.findall(rf"(?:within_ulps(?:_near_zero)?|computes_log_sigmoid) {ULPS} u.*", proofs())
    assert len(places) == sum(len(re.findall(written, proofs())) for written in WRITTEN.values())


def test_what_is_assumed_of_logsigmoid_is_a_lemma():
    text = (SOURCES / "LogSigmoid.v").read_text()
    assert "+ u * Rabs (log_sigmoid x) + (102/100 + 141/100 * n) * u." in text
    assert 1.02 + 1.41 * ASSUMED["log1p"] == LOGSIGMOID


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_as_accurate_as_assumed(name, dtype, record_property):
    found = measured(FUNCTIONS[name], dtype)
    record_property("largest error", found)
    assert 0 < found <= ASSUMED[name]


@pytest.mark.full("every fp32 number as an argument of exp, expm1 and log1p")
@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_float_on_each_instruction_set(capability):
    result = subprocess.run(
        [sys.executable, "-m", "tests.rounding.accuracy", *(["--all"] if capability == "avx512" else [])],
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability}, cwd=CHAPTER.parents[2],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split() for line in result.stdout.splitlines()]
    assert len(rows) == len(FUNCTIONS) * len(DTYPES)
    assert [row for row in rows if float(row[2]) > ASSUMED[row[0]]] == []


# -- the measurement itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("exp", lambda x: torch.exp2(x * 1.4426950408889634)),
        ("expm1", lambda x: x.exp() - 1),
        ("log1p", lambda x: (x + 1).log()),
        ("logsigmoid", lambda x: x.sigmoid().log()),
    ],
)
def test_a_less_accurate_function_is_noticed(name, worse, dtype):
    assert worst(replace(FUNCTIONS[name], of=worse), dtype) > ASSUMED[name]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_error_in_the_last_entries_alone_is_noticed(dtype):
    """As where a vectorised loop leaves the rest to another function."""

    def of(x):
        result = x.exp()
        if len(result) % 4:
            result[-1] *= 1 + 2 * torch.finfo(x.dtype).eps
        return result

    assert worst(replace(FUNCTIONS["exp"], of=of), dtype) > ASSUMED["exp"]


def test_the_exponential_of_kernels_from_hidden_states_is_not_the_one_of_the_losses():
    """Its own bound, u·(2·|x| + 3), is larger; no theorem is about it."""
    assert worst(replace(FUNCTIONS["exp"], of=lambda x: exp_(x.clone())), "fp32") > ASSUMED["exp"]


def test_inputs_lie_where_they_should():
    assert floats(1.0, 1.0000005, 1).tolist() == [1.0, *(1 + k * 2.0**-23 for k in range(1, 5))]
    around = near((1.0,), np.float64, 1)
    assert around.tolist() == [1 - 2.0**-53, 1.0, 1 + 2.0**-52]


# -- the table in the documentation -----------------------------------------------------------------------------------


def test_the_chapter_has_each_function_with_what_is_assumed():
    rows = re.findall(
        r"^\| (\w+) \| (fp\d\d) \| ([\d.]+) \| ([\d.]+) \|$", CHAPTER.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {(name, dtype): float(assumed) for name, dtype, _, assumed in rows} == {
        (name, dtype): round(assumed, 2) for name, assumed in ASSUMED.items() for dtype in DTYPES
    }
    assert all(float(found) <= float(assumed) for _, _, found, assumed in rows)
