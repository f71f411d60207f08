"""Two recorded runs are compared by what a reader sees: verdicts, findings, functions, versions."""

import json
from dataclasses import replace

import pytest

from grape_verified.conformance.profiles import Row, Run
from grape_verified.conformance.profiles.recorded import SCHEMA, Found
from tests.trainers.drift import differences, main, versions

MASKED = Found("robustness", "masked values", "the loss is nan, expected 1.0", (), "import torch\n")
SIGN = Found("formula", "value", "the loss is 1.0, the spec gives -1.0", (), "import torch\n")
PPO = Row("ppo", "t.losses:ppo", "", "ppo", {"dual_clip": 3.0}, ("log_ratio_clamp=20",), "right", (MASKED,))
DPO = Row("dpo", "t.losses:dpo", "", "dpo", {}, (), "right")
RUN = Run(SCHEMA, "trl", "trl", "1.16", {"trl": "1.16.0", "torch": "2.13.0"}, "2026-11-29", 60, (PPO, DPO))


def with_rows(*rows):
    return replace(RUN, functions=rows)


def test_the_same_run_differs_by_nothing():
    later = replace(RUN, date="2027-01-01", versions={"trl": "1.17.0", "torch": "2.13.0"}, examples=20)
    assert not list(differences(RUN, later))
    assert list(versions(RUN, later)) == ["trl: 1.16.0, now 1.17.0", "inputs for each property: 60, now 20"]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ((replace(PPO, formula="wrong", findings=(SIGN, MASKED)), DPO),
         ["ppo: formula right, now wrong", "ppo: value of formula fails: the loss is 1.0, the spec gives -1.0"]),
        ((replace(PPO, findings=()), DPO),
         ["ppo: masked values of robustness no longer fails: the loss is nan, expected 1.0"]),
        ((PPO, replace(DPO, findings=(MASKED,))),
         ["dpo: masked values of robustness fails: the loss is nan, expected 1.0"]),
        ((replace(PPO, findings=(replace(MASKED, verdict="formula"),)), DPO),
         ["ppo: masked values of robustness no longer fails: the loss is nan, expected 1.0",
          "ppo: masked values of formula fails: the loss is nan, expected 1.0"]),
        ((PPO, replace(DPO, formula="not run", reason="AttributeError: no dpo")),
         ["dpo: formula right, now not run (AttributeError: no dpo)"]),
        ((PPO,), ["dpo: gone"]),
        ((PPO, DPO, replace(DPO, name="ipo", formula="wrong")), ["ipo: new, formula wrong"]),
        ((replace(PPO, options={}, habits=()), DPO),
         ["ppo: checked as ppo dual_clip=3.0 log_ratio_clamp=20, now as ppo"]),
        ((replace(PPO, findings=(replace(MASKED, text="the loss is nan, expected 2.0"),)), DPO), []),
    ],
)  # fmt: skip
def test_what_changed_is_said_in_a_line(rows, lines):
    assert list(differences(RUN, with_rows(*rows))) == lines


def test_the_command_says_it_and_its_exit_status_too(tmp_path, capsys):
    def written(name, run):
        path = tmp_path / name
        path.write_text(json.dumps(run.as_dict()), encoding="utf-8")
        return str(path)

    before, worse = written("a.json", RUN), written("b.json", with_rows(replace(PPO, formula="wrong"), DPO))
    other = written("c.json", replace(RUN, profile="verl"))
    assert main([before, before]) == 0
    assert capsys.readouterr().out == "trl: the same verdicts\n"
    assert main([before, worse]) == 1
    assert capsys.readouterr().out == "trl: ppo: formula right, now wrong\n"
    for paths, said in (
        ([before, other], "got runs of trl and verl, expected two of one profile"),
        ([before, str(tmp_path / "none.json")], "none.json is no recorded run"),
        ([before], "expected two recorded runs: EARLIER LATER"),
    ):
        assert main(paths) == 2
        assert said in capsys.readouterr().err
