"""The page of trainers shows what the recorded runs say, and nothing else."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from grape_verified.conformance.profiles import PROFILES, NotARun, profile_named
from grape_verified.conformance.registry import contract_named
from grape_verified.docs.conformance import conformance_page, runs
from tests.trainers.test_drift import DPO, MASKED, PPO, RUN, SIGN

RECORDS = Path(__file__).parents[2] / "docs" / "conformance"


def section(page, name):
    return re.split(r"^## ", page, flags=re.MULTILINE)[1 + PROFILES.index(name)]


def test_each_function_has_its_verdicts_habits_and_smallest_counterexamples():
    wrong = replace(DPO, name="dpo, wrong", formula="wrong", findings=(SIGN, replace(MASKED, counterexample="m = 1\n")))
    gone = replace(DPO, name="gone", formula="not run", reason="AttributeError: no `gone`")
    page = conformance_page({"trl": replace(RUN, functions=(PPO, DPO, wrong, gone))})
    shown = section(page, "trl")
    assert "trl 1.16.0, torch 2.13.0; 2026-11-29; 60 inputs for each property." in shown
    habits = "log-ratio clamped to ±20"
    assert f"| [ppo](#trl-ppo) | `ppo` | right | [1 finding](#trl-ppo) | {habits} |" in shown
    assert "| [dpo](#trl-dpo) | `dpo` | right | no findings |  |" in shown
    assert "| `dpo` | [wrong](#trl-dpo-wrong) | [1 finding](#trl-dpo-wrong) |  |" in shown
    assert "| `dpo` | [not run](#trl-gone) | not run |  |" in shown
    assert "Not run: AttributeError: no `gone`." in shown
    details = shown.split('id="trl-dpo-wrong"')[1].split("</details>")[0]
    assert details.index("- formula, value: the loss is 1.0") < details.index("```python\nimport torch\n```")
    assert details.index("- robustness, masked values") < details.index("```python\nm = 1\n```")
    assert "Options fixed: `dual_clip=3.0`." in shown
    assert "$ pip install 'trl==1.16.0'\n$ grape-verified check --profile trl --examples 60" in shown


def test_what_was_not_run_is_said():
    page = conformance_page({})
    for name in PROFILES:
        assert "Not run." in section(page, name)
        assert f"$ grape-verified check --profile {name}\n" in section(page, name)
        assert "right" not in section(page, name)


def test_a_record_of_another_schema_is_refused(tmp_path):
    (tmp_path / "trl.json").write_text(json.dumps(RUN.as_dict()), encoding="utf-8")
    assert runs(tmp_path) == {"trl": RUN}
    (tmp_path / "verl.json").write_text(json.dumps(RUN.as_dict() | {"schema": 0}), encoding="utf-8")
    with pytest.raises(NotARun, match=r"verl\.json has the schema 0"):
        runs(tmp_path)


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_run_is_of_the_profile_as_it_is(path):
    run = runs(RECORDS)[path.stem]
    profile = profile_named(path.stem)
    assert not profile.outside(run.version)
    entries = [(e.name, e.symbol, e.setting, e.contract, dict(e.options), e.habits) for e in profile.entries]
    assert entries == [(r.name, r.symbol, r.setting, r.contract, r.options, r.habits) for r in run.functions]
    for row in run.functions:
        contract_named(row.contract).with_habits(row.habits)
        assert not re.search(r"/(?:home|opt|work|tmp|usr)/", json.dumps(run.as_dict()))
    assert conformance_page({path.stem: run}).count("<details") == len(profile.entries)
