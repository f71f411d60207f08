"""The main job: every claim of the catalogue holds up, and the ledger says what was seen."""

import json
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import get_args, get_type_hints

import jsonschema
import pytest
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.proof.codec import from_json, to_json
from grape_spec.proof.examine import examine, write_queries

from grape_verified.conformance import CONTRACTS, Finding, verification
from grape_verified.conformance.ledger import SCHEMA, KernelRecord, Ledger, read, schema, summarise

#: Where `verify` writes its ledger, called from the checkout as the README does.
LEDGER = Path(__file__).parent.parent / "grape-verified-ledger.json"

CATALOGUE = (
    "policy.softmax.normalised", "policy.softmax.shift", "policy.softmax.jacobian", "policy.log_softmax.gradient",
    "policy.log_softmax.hessian", "policy.temperature.gradient", "policy.score.mean_zero", "policy.fisher",
    "policy.entropy.gradient", "policy.temperature.slope", "policy.sequence.log_prob", "policy.sequence.normalised",
    "head.tempered", "head.logit.gradient", "head.gradient", "head.entropy.gradient", "head.sums", "head.log_odds",
    "head.parts", "head.parts.gradient", "sft.objective",
    "sft.gradient", "sft.kl_equivalence", "sft.optimum", "sft.shift", "sft.accumulation", "rejection.best_of_n.law",
    "rejection.best_of_n.kl_bound", "rejection.best_of_n.monotone", "rejection.acceptance.target",
    "rejection.acceptance.rate", "rejection.filter.gradient", "reinforce.policy_gradient", "reinforce.closed_form",
    "reinforce.baseline.unbiased", "reinforce.baseline.optimal", "reinforce.reward_to_go",
    "reinforce.leave_one_out.identity", "reinforce.leave_one_out.unbiased", "reinforce.kl_regularised",
    "reinforce.surrogate", "kl.nonnegative", "kl.reverse.gradient", "kl.forward.gradient", "kl.chain_rule",
    "kl.k1.unbiased", "kl.k3.unbiased", "kl.k3.nonnegative", "kl.k1.loss_gradient", "kl.k2.loss_gradient",
    "kl.k3.loss_gradient", "kl.k1.reward_gradient", "kl.k3.reward_gradient", "kl.sign", "trpo.importance.identity",
    "trpo.surrogate.gradient", "trpo.performance_difference", "trpo.kl.value", "trpo.kl.gradient", "trpo.kl.hessian",
    "trpo.step", "trpo.step.gain", "trpo.penalty", "trpo.conjugate_gradient", "trpo.bound", "ppo.ratio.gradient",
    "ppo.clip.sign_form", "ppo.clip.lower_bound", "ppo.clip.first_order", "ppo.clip.gradient", "ppo.clip.kink",
    "ppo.dual_clip.bound", "ppo.dual_clip.gradient", "ppo.value_clip.bound", "ppo.value_clip.gradient",
    "ppo.entropy_bonus.gradient", "ppo.kl_in_reward", "ppo.adaptive_kl", "advantage.gae.recursion",
    "advantage.gae.limits", "advantage.gae.masked", "advantage.whiten", "reward.bradley_terry.gradient",
    "grpo.advantage.zero_sum", "grpo.advantage.unit_variance", "grpo.advantage.affine", "grpo.advantage.bound",
    "grpo.advantage.binary", "grpo.advantage.degenerate", "grpo.objective", "grpo.gradient", "grpo.on_policy",
    "grpo.length_weight", "grpo.dr_grpo", "grpo.dapo", "grpo.gspo.gradient", "grpo.cispo.gradient",
    "aggregation.partition", "aggregation.equal_lengths", "dpo.kl_optimum", "dpo.gibbs", "dpo.reparametrisation",
    "dpo.partition_cancels", "dpo.reward_shift", "dpo.loss", "dpo.gradient", "dpo.convex_in_margin",
    "dpo.at_reference", "dpo.label_smoothing", "dpo.robust", "dpo.ipo", "grape.reward.range", "grape.reward.scale",
    "grape.reward.permutation", "grape.reward.untrusted_item", "grape.reward.convention", "grape.advantage.zero_sum",
    "grape.advantage.bound", "grape.advantage.item_shift", "grape.advantage.decomposition", "grape.baseline",
    "grape.grpo_special_case", "grape.variance", "grape.gradient",
)  # fmt: skip


@pytest.mark.parametrize("id", CATALOGUE)
def test_what_the_catalogue_lists_is_in_the_registry(id):
    assert id in CLAIMS or id in DEFINITIONS


@pytest.fixture(scope="session")
def audited(request):
    """Audits in the ledger that are of this very code, for the default tier."""
    if request.config.option.full:
        return {}
    claims, _ = verification.still_valid(read(LEDGER))
    return {record.id: record for record in claims}


@pytest.mark.parametrize("id", CLAIMS)
def test_every_claim_is_proved_and_survives_its_audit(id, audited):
    record = audited.get(id) or examine(id)
    for part in record.parts:
        assert part.status == "proved", part.reason
        assert not part.contradiction
        assert part.points.effective >= 20
        assert part.sides_differ
        assert part.mutants.total > 0
        assert part.mutants.survived == ()
        assert part.mutants.stale == ()
    assert all(variant.refuted for variant in record.wrong)
    assert record.sound


def test_every_claim_has_a_wrong_variant_or_mutants_that_are_refuted():
    for claim in CLAIMS.values():
        assert claim.wrong or claim.id in {"policy.softmax.normalised"}, claim.id


@pytest.fixture(scope="module")
def run():
    """A small run, through the same processes as a large one."""
    return verification.verify(("dpo.convex_in_margin", "kl.nonnegative"), examples=3)


def test_the_ledger_keeps_its_schema(run):
    jsonschema.validate(json.loads(json.dumps(to_json(run))), schema())


#: The fingerprint of the fields of all records in a ledger, for its schema. A new layout needs a new schema: without
#: one, a ledger that was written before is "not a ledger", and its reader stops.
LAYOUT = (6, "62dc0b9be9a252f9")


def layout(kind):
    """The fields of a record, with those of the records in it."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return {entry.name: layout(hints[entry.name]) for entry in fields(kind)}
    inner = [layout(argument) for argument in get_args(kind)]
    return inner or str(kind)


def test_a_ledger_of_another_layout_has_another_schema():
    found = sha256(json.dumps(layout(Ledger)).encode()).hexdigest()
    assert (SCHEMA, found[:16]) == LAYOUT


def test_the_ledger_covers_what_was_asked_for_and_what_that_uses(run):
    assert [record.id for record in run.claims] == ["kl.log_bound", "kl.nonnegative", "dpo.convex_in_margin"]
    assert run.summary.fully_proved == 3
    assert run.holds


def test_kernels_are_checked_with_the_family_that_they_rest_on():
    asked = verification.tasks(("ppo.clip",))
    assert ("kernel", "ppo") in asked
    assert ("kernel", "ppo_per_token") in asked
    assert ("kernel", "dpo") not in asked
    assert ("claim", "ppo.ratio.gradient") in asked, "ppo.clip.gradient uses it"


def test_without_names_everything_is_examined():
    asked = verification.tasks(())
    assert [name for kind, name in asked if kind == "claim"] == list(CLAIMS)
    assert [name for kind, name in asked if kind == "kernel"] == list(CONTRACTS)


def unknown(record):
    return replace(record, parts=tuple(replace(part, status="unknown") for part in record.parts))


def test_a_claim_that_rests_on_an_unproved_one_is_not_fully_proved():
    base, top = (examine(id) for id in ("kl.log_bound", "kl.nonnegative"))
    run = summarise([unknown(base), top], [], 1.0)
    assert [record.fully_proved for record in run.claims] == [False, False]
    assert run.claims[1].waits_for == ("kl.log_bound",)
    assert run.claims[1].status == "proved"
    assert not run.holds


def kernel(status):
    finding = Finding("value", status, "a sentence", 3)
    return KernelRecord("ppo", "ppo_loss", (), (), (finding,), rests_on=("ppo.ratio",), seconds=1.0)


def test_a_rejected_kernel_keeps_the_run_from_holding():
    record = examine("ppo.ratio.gradient")
    assert summarise([record], [kernel("passed")], 1.0).holds
    run = summarise([record], [kernel("failed")], 1.0)
    assert run.summary.kernels_accepted == 0
    assert not run.holds


def test_a_ledger_that_was_written_reads_the_same(run):
    text = json.dumps(to_json(run))
    assert from_json(Ledger, json.loads(text)) == run


def test_a_verdict_is_computed_from_what_was_seen_and_not_from_what_the_file_says(run):
    data = to_json(run)
    data["claims"][1]["parts"][0]["status"] = "unknown"
    data["claims"][0]["status"] = "refuted"
    found = from_json(Ledger, data)
    assert [record.status for record in found.claims] == ["proved", "unknown", "proved"]
    assert not found.holds


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("created",), 3, r"Ledger.created: got int, expected str"),
        (("claims", 0, "hash"), None, r"Ledger.claims\[0\].hash: got NoneType, expected str"),
        (("claims", 0, "parts", 0, "status"), "true", r"status: got 'true', expected one of 'proved', 'refuted', 'unk"),
        (("claims", 0, "parts", 0, "points", "drawn"), True, r"points.drawn: got bool, expected int"),
        (("summary", "kernels"), 1.5, r"summary.kernels: got float, expected int"),
        (("colour",), "red", r"differ by \['colour'\] from those expected"),
    ],
)
def test_what_is_not_as_it_was_written_is_named(run, place, value, message):
    data = to_json(run)
    *way, last = place
    inside = data
    for step in way:
        inside = inside[step]
    inside[last] = value
    with pytest.raises(ValueError, match=message):
        from_json(Ledger, data)


def test_smt_queries_are_written_as_smt_lib(tmp_path: Path):
    count = write_queries(CLAIMS["ppo.clip.sign_form"], tmp_path)
    files = sorted(tmp_path.glob("*.smt2"))
    assert len(files) == count >= 1
    assert "(check-sat)" in files[0].read_text()
