"""A function is judged with its habits: right with them, not right without, and a bug behind a habit is found."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from grape_spec.language.registry import DEFINITIONS
from typer.testing import CliRunner

from grape_verified.cli import app
from grape_verified.conformance import CONTRACTS, check, conforms
from grape_verified.conformance.habits import KNOWN, habits_of
from grape_verified.conformance.oracle import EXACT

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "check.md"

EXAMPLES = 24

# -- losses as trainers write them ------------------------------------------------------------------------------------


def kept(log_prob, old_log_prob, advantages, response_mask):
    """Log-ratio and advantage of each token, 0 where it does not count, and which tokens count."""
    keep = response_mask > 0
    advantages = advantages if advantages.ndim == 2 else advantages.unsqueeze(-1)
    diff = torch.where(keep, log_prob - old_log_prob, torch.zeros_like(log_prob))
    return diff, torch.where(keep, advantages, torch.zeros_like(log_prob)), keep


def surrogate(diff, adv, low=0.2, high=0.2, cap=None):
    """The clipped loss; exp is never taken of what the clips cut off, so that no gradient is 0 · inf."""
    up, down = torch.log(torch.tensor(1 + high)).item(), torch.log(torch.tensor(1 - low)).item()
    falling = diff.clamp(min=down) if cap is None else diff.clamp(min=down, max=torch.log(torch.tensor(cap)).item())
    return -adv * torch.where(adv >= 0, diff.clamp(max=up), falling).exp()


def clamped(highest=None, bound=20):
    """The mean over tokens of a clipped loss whose log-ratio is clamped."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        diff, adv, keep = kept(log_prob, old_log_prob, advantages, response_mask)
        ratio = diff.clamp(min=-bound, max=bound).exp()
        other = -adv * torch.clamp(ratio, 1 - clip_low, 1 + (clip_high if highest is None else highest))
        return torch.maximum(-adv * ratio, other).mul(keep).sum() / keep.sum().clamp(min=1)

    return policy_loss


def capped(masked=True, cap=3.0):
    """A clipped loss in which a negative advantage never costs more than the cap allows."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        diff, adv, keep = kept(log_prob, old_log_prob, advantages, response_mask)
        losses = surrogate(diff, adv, clip_low, clip_high, cap)
        return losses.mul(keep).sum() / (keep.sum().clamp(min=1) if masked else keep.numel())

    return policy_loss


def one_epsilon(sign=1):
    """The mean over tokens of a loss with one ε, which is called the lower clip."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2):
        diff, adv, keep = kept(log_prob, old_log_prob, advantages, response_mask)
        losses = surrogate(diff, adv, sign * clip_low if sign > 0 else 0.2, clip_low)
        return losses.mul(keep).sum() / keep.sum().clamp(min=1)

    return policy_loss


def rows_that_count(longest=None):
    """The mean over the sequences that have tokens of the mean over their tokens."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        diff, adv, keep = kept(log_prob, old_log_prob, advantages, response_mask)
        losses = surrogate(diff, adv, clip_low, clip_high)
        return (losses.sum(-1) / keep.sum(-1).clamp(min=1, max=longest)).sum() / keep.any(-1).sum().clamp(min=1)

    return policy_loss


def widened(eps, everything=False):
    """The mean over sequences of masked means with a small number added to each length."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        diff, adv, keep = kept(log_prob, old_log_prob, advantages, response_mask)
        losses = surrogate(diff, adv, clip_low, clip_high)
        length = torch.full_like(diff[:, 0], keep.shape[1]) if everything else keep.sum(-1)
        return (losses.sum(-1) / (length + eps)).mean()

    return policy_loss


def over_the_width(rows=True):
    """The sum over a sequence divided by the padded width."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        diff, adv, _ = kept(log_prob, old_log_prob, advantages, response_mask)
        losses = surrogate(diff, adv, clip_low, clip_high)
        return losses.sum() / (losses.shape[1] * (losses.shape[0] if rows else 1))

    return policy_loss


def of_sequences(by_length=False, cap=None, summed=False, low=0.2, high=0.2):
    """GSPO with the usual trick: the value of the sequence's ratio, the gradient in each token."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask):
        keep = response_mask > 0
        diff = torch.where(keep, log_prob - old_log_prob, torch.zeros_like(log_prob))
        length = keep.sum(-1).clamp(min=1)
        mean = diff.sum(-1) / (1 if summed else length)
        mean = mean if cap is None else mean.clamp(max=cap)
        losses = surrogate(mean, advantages, low, high)
        if by_length:
            return (losses * keep.sum(-1)).sum() / keep.sum().clamp(min=1)
        return (losses * keep.any(-1)).mean()

    return policy_loss


def constant_weight(cap=lambda ratio, low, high: ratio.clamp(max=high)):
    """CISPO as in trainers: the capped ratio, detached, times the log-probability."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        diff, adv, keep = kept(log_prob, old_log_prob, advantages, response_mask)
        weight = cap(diff.exp(), clip_low, clip_high).detach()
        losses = -weight * adv * torch.where(keep, log_prob, torch.zeros_like(log_prob))
        return losses.sum() / keep.sum().clamp(min=1)

    return policy_loss


def estimated(logprob, ref_logprob, estimator, bound=None):
    """The plain estimates of the KL divergence."""
    x = ref_logprob - logprob
    x = x if bound is None else x.clamp(-bound, bound)
    return {"k1": -x, "k2": 0.5 * x.square(), "k3": x.exp() - x - 1}[estimator]


def kl_clamped(bound=10, sign=1):
    """Clamped after the estimate, whichever it is."""

    def kl_penalty(logprob, ref_logprob, estimator="k3"):
        return estimated(sign * logprob, sign * ref_logprob, estimator).clamp(min=-bound, max=bound)

    return kl_penalty


def kl_clamped_twice(bound=3, all_of_them=False):
    """k3 at a clamped log-ratio, clamped again."""

    def kl_penalty(logprob, ref_logprob, estimator="k3"):
        found = estimated(logprob, ref_logprob, estimator, bound if estimator == "k3" else None)
        return found.clamp(-10, 10) if estimator == "k3" else found.clamp(-2, 2) if all_of_them else found

    return kl_penalty


def straight_through(half=0.5):
    """The estimate with the gradient of k2."""

    def kl_penalty(logprob, ref_logprob, estimator="k3"):
        back = half * (logprob - ref_logprob).square()
        return back - back.detach() + estimated(logprob, ref_logprob, estimator).detach()

    return kl_penalty


def with_penalty(coefficient=1.0):
    """GRPO whose KL penalty is clamped."""

    def policy_loss(
        log_prob, old_log_prob, advantages, response_mask, ref_log_prob=None, beta=0.0, clip_low=0.2, clip_high=0.2
    ):
        diff, adv, keep = kept(log_prob, old_log_prob, advantages, response_mask)
        losses = surrogate(diff, adv, clip_low, clip_high)
        if ref_log_prob is not None:
            kl = estimated(torch.where(keep, log_prob, 0), torch.where(keep, ref_log_prob, 0), "k3").clamp(-1, 1)
            losses = losses + coefficient * beta * kl
        return losses.mul(keep).sum() / keep.sum().clamp(min=1)

    return policy_loss


def everywhere_penalised(bonus=-1):
    """Token rewards whose penalty does not look at the mask."""

    def token_rewards(rewards, logprob, ref_logprob, mask, kl_coef=0.1):
        penalty = bonus * kl_coef * (logprob - ref_logprob)
        last = (mask > 0) & ((mask > 0).flip(-1).cumsum(-1).flip(-1) == 1)
        return penalty + last * rewards.unsqueeze(-1)

    return token_rewards


def grouped(group_size, spread, mean=True, one=None):
    """Group advantages with a spread of one's own."""

    def advantages(rewards, num_generations=group_size, eps=1e-6):
        groups = rewards.view(-1, num_generations)
        if num_generations == 1 and one is not None:
            return one(rewards, eps)
        centred = groups - (groups.mean(-1, keepdim=True) if mean else groups.median(-1, keepdim=True).values)
        return torch.where(centred.abs().amax(-1, keepdim=True) > 0, centred / spread(groups, eps), 0.0).view(-1)

    return advantages


def std(groups, correction=1):
    return groups.std(-1, keepdim=True, correction=correction) if groups.shape[-1] > 1 else torch.ones_like(groups)


def whitened(scale, times=1.0, less=1):
    """Tokens whitened with a scale of one's own."""

    def whiten(values, mask, eps=1e-8):
        keep = mask > 0
        count, x = keep.sum().clamp(min=1), torch.where(keep, values, torch.zeros_like(values))
        centred = torch.where(keep, x - times * x.sum() / count, torch.zeros_like(x))
        return torch.where(keep, centred / scale(centred.square().sum() / (count - less).clamp(min=1), eps), 0.0)

    return whiten


# -- the table --------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A function with habits, and the same with a bug.

    Arguments:
        bug: a property that finds it, and words of the finding.
        without: the verdict on the right function without its habits, "formula" where they show on ordinary inputs;
            empty where they show on none.
    """

    contract: str
    habits: tuple[str, ...]
    right: Any
    wrong: Any
    bug: tuple[str, str]
    without: str
    options: dict[str, Any] = {}


TOKENS, SEQUENCES = {"aggregation": "token_mean"}, {"aggregation": "sequence_mean"}

ROWS = {
    "log_ratio_clamp=20": Row(
        "ppo", ("log_ratio_clamp=20",), clamped(), clamped(highest=0.2), ("options", "clip_high="), "robustness"
    ),
    "log_ratio_clamp=10": Row(
        "ppo", ("log_ratio_clamp=10",), clamped(bound=10), clamped(bound=5), ("value", ""), "formula"
    ),
    "dual_clip, an option": Row("ppo", ("dual_clip=3",), capped(), capped(masked=False), ("value", ""), "formula"),
    "dual_clip": Row("grpo", ("dual_clip=3",), capped(), capped(cap=2.5), ("value", ""), "formula", TOKENS),
    "dual_clip, unmasked mean": Row("dapo", ("dual_clip",), capped(), capped(masked=False), ("value", ""), "formula"),
    "one_clip": Row("ppo", ("one_clip",), one_epsilon(), one_epsilon(sign=-1), ("options", "clip_low="), "formula"),
    "one_clip, cispo": Row(
        "cispo", ("one_clip",), constant_weight(lambda ratio, low, high: ratio.clamp(1 - low, 1 + low)),
        constant_weight(lambda ratio, low, high: ratio.clamp(0, 1 + low)), ("options", "clip_low="), "formula",
    ),
    "sequence_log_ratio_cap": Row(
        "gspo", ("sequence_log_ratio_cap=2",), of_sequences(cap=2), of_sequences(cap=3), ("value", ""), "formula",
        {"clip_low": 0.2, "clip_high": 0.2},
    ),
    "sequence_weight=length": Row(
        "gspo", ("sequence_weight=length",), of_sequences(by_length=True), of_sequences(by_length=True, summed=True),
        ("value", ""), "formula", {"clip_low": 0.2, "clip_high": 0.2},
    ),
    "cispo_cap=epsilon": Row(
        "cispo", ("cispo_cap=epsilon",), constant_weight(),
        constant_weight(lambda ratio, low, high: ratio.clamp(low, high)), ("value", ""), "formula",
    ),
    "empty_rows=left_out": Row(
        "grpo", ("empty_rows=left_out",), rows_that_count(), rows_that_count(longest=2), ("value", ""), "robustness",
        SEQUENCES,
    ),
    "denominator_eps=0.01": Row(
        "ppo", ("denominator_eps=0.01",), widened(0.01), widened(0.01, everything=True), ("value", ""), "formula",
        SEQUENCES,
    ),
    "denominator_eps": Row(
        "ppo", ("denominator_eps",), widened(1e-8), widened(1e-8, everything=True), ("value", ""), "", SEQUENCES,
    ),
    "fixed_length=padded_width": Row(
        "dr_grpo", ("fixed_length=padded_width",), over_the_width(), over_the_width(rows=False), ("value", ""),
        "formula",
    ),
    "kl_clamp": Row("kl_estimate", ("kl_clamp=10",), kl_clamped(), kl_clamped(sign=-1), ("value", ""), "formula"),
    "kl_clamp, in a loss": Row(
        "grpo", ("kl_clamp=1",), with_penalty(), with_penalty(-1.0), ("options", "kl_coef="), "formula",
        TOKENS | {"kl_estimator": "k3"},
    ),
    "kl_log_ratio_clamp, k3_clamp": Row(
        "kl_estimate", ("kl_log_ratio_clamp=3", "k3_clamp=10"), kl_clamped_twice(), kl_clamped_twice(all_of_them=True),
        ("options", "estimator="), "formula",
    ),
    "kl_straight_through": Row(
        "kl_estimate", ("kl_straight_through",), straight_through(), straight_through(half=1), ("gradient", ""),
        "formula",
    ),
    "masked_kl=kept": Row(
        "kl_shaped_rewards", ("masked_kl=kept",), everywhere_penalised(), everywhere_penalised(bonus=1), ("value", ""),
        "formula",
    ),
    "ddof=0": Row(
        "group_advantages", ("ddof=0",), grouped(4, lambda groups, eps: std(groups, 0) + eps),
        grouped(4, lambda groups, eps: std(groups, 0) + eps, mean=False), ("value", ""), "formula",
    ),
    "ddof=0, whiten": Row(
        "whiten", ("ddof=0", "eps_on_std"), whitened(lambda variance, eps: variance.sqrt() + eps, less=0),
        whitened(lambda variance, eps: variance + eps, less=0), ("value", ""), "formula",
    ),
    "eps_inside_root": Row(
        "group_advantages", ("eps_inside_root",), grouped(4, lambda groups, eps: (std(groups).square() + eps).sqrt()),
        grouped(4, lambda groups, eps: std(groups).square() + eps), ("value", ""), "formula",
    ),
    "std_floor=0.5": Row(
        "group_advantages", ("std_floor=0.5",), grouped(4, lambda groups, eps: std(groups).clamp(min=0.5)),
        grouped(4, lambda groups, eps: std(groups, 0).clamp(min=0.5)), ("value", ""), "formula",
    ),
    "group_of_one=raw": Row(
        "group_advantages", ("group_of_one=raw",),
        grouped(4, lambda groups, eps: std(groups) + eps, one=lambda rewards, eps: rewards / (1 + eps)),
        grouped(4, lambda groups, eps: std(groups) + eps, mean=False, one=lambda rewards, eps: rewards / (1 + eps)),
        ("value", ""), "robustness",
    ),
    "eps_on_std": Row(
        "whiten", ("eps_on_std",), whitened(lambda variance, eps: variance.sqrt() + eps),
        whitened(lambda variance, eps: variance + eps), ("value", ""), "formula",
    ),
    "variance_floor=0.5": Row(
        "whiten", ("variance_floor=0.5",), whitened(lambda variance, eps: variance.clamp(min=0.5).sqrt()),
        whitened(lambda variance, eps: variance.clamp(min=0.5).sqrt(), times=0.5), ("value", ""), "formula",
    ),
}  # fmt: skip


#: The properties that decide whether a formula is right; the others cost time here.
FORMULA = ("signature", "value", "gradient", "options", "partition", "expectation", "kinks")


def judged(function, row, habits=(), properties=FORMULA):
    """The report on the formula of a function of a row."""
    contract = CONTRACTS[row.contract].with_habits(habits)
    names = tuple(name for name in contract.properties if name in properties)
    return check(function, replace(contract, properties=names), examples=EXAMPLES, options=row.options)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_function_is_right_with_its_habits_and_a_bug_behind_them_is_found(row):
    right = judged(row.right, row, row.habits)
    assert right.formula == "right", right.in_words()
    assert right.accepted, right.in_words()
    assert "expectation" not in right.named("passed")
    wrong = judged(row.wrong, row, row.habits)
    assert wrong.formula == "wrong", wrong.in_words()
    name, words = row.bug
    assert any(found.name == name and words in one.text for found, one in wrong.departures("formula"))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_without_the_habit_the_function_departs(row):
    plain = judged(row.right, row, properties=("signature", "value", "gradient", "options"))
    assert any(plain.departures(row.without)) if row.without else plain.formula == "right", plain.in_words()


# -- what exists ------------------------------------------------------------------------------------------------------


def test_every_habit_is_tried():
    """By its name; a number is one of several."""
    tried = {habit.id for row in ROWS.values() for habit in CONTRACTS[row.contract].with_habits(row.habits).habits}
    assert tried == set(KNOWN)


def test_every_definition_of_a_habit_is_of_one():
    """Of one with its name, by which it is asked for."""
    found = {id for known in KNOWN.values() for id in (known.id, *known.instead_of.values())}
    assert {id for id in found if id.startswith("habit.")} == {id for id in DEFINITIONS if id.startswith("habit.")}
    assert all(read.split(".")[1] == known.id.split(".")[1] for known in KNOWN.values()
               for read in known.instead_of.values() if read.startswith("habit."))  # fmt: skip


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_oracle_of_a_contract_can_be_read_with_every_habit_of_it(name):
    contract = CONTRACTS[name]
    for habit in habits_of(contract):
        judged = contract.with_habits([habit])
        case = judged.probe({}, judged.variants[0])
        answer = judged.oracle(case, EXACT)
        answer.gradients([1.0] * len(answer.values))


def test_the_page_about_checking_has_a_row_for_every_habit():
    table = re.findall(r"^\| \[`(.+?)`\]\(\.\./definitions/habit\.md#(.+?)\) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {id: name for name, id in table} == {id: str(known.every[0]) for id, known in KNOWN.items()}


def test_what_a_contract_does_anyway_is_no_habit_of_it():
    assert [str(habit) for habit in habits_of(CONTRACTS["whiten"])] == ["ddof=0", "eps_on_std", "variance_floor=1e-8"]
    assert "kl_straight_through" not in map(str, habits_of(CONTRACTS["kl_shaped_rewards"]))
    assert not habits_of(CONTRACTS["dpo"])


def test_conforms_takes_habits():
    conforms(clamped(), "ppo", habits=["log_ratio_clamp=20"], examples=2)
    with pytest.raises(ValueError, match=r"^habits: got 'no_such'"):
        conforms(clamped(), "ppo", habits=["no_such"])


def test_a_habit_has_a_name_a_value_and_words():
    report = check(clamped(), "ppo", examples=1, habits=["dual_clip=3", "log_ratio_clamp=20"])
    assert "as ppo, always-on dual clip c = 3, log-ratio clamped to ±20: " in report.in_words()
    assert list(report.as_dict()["habits"]) == [
        {"id": "habit.dual_clip", "value": 3.0, "words": "always-on dual clip c = 3"},
        {"id": "habit.log_ratio_clamp", "value": 20.0, "words": "log-ratio clamped to ±20"},
    ]
    assert list(map(str, report.habits)) == ["dual_clip=3", "log_ratio_clamp=20"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["no_such"], "got 'no_such', expected some of the habits of ppo: dual_clip=3, one_clip, log_ratio_clamp=20, "),
        (["log_ratio_clamp=20", "log_ratio_clamp=10"], "got log_ratio_clamp=20 and log_ratio_clamp=10, expected one"),
        (["log_ratio_clamp=-1"], "got 'log_ratio_clamp=-1', expected a number that is positive"),
        (["log_ratio_clamp=wide"], "got 'log_ratio_clamp=wide', expected a number that is positive"),
        (["log_ratio_clamp=inf"], "got 'log_ratio_clamp=inf', expected a number that is positive"),
        (["dual_clip=1"], "got 'dual_clip=1', expected a number that is greater than 1"),
        (["log_ratio_clamp"], "got 'log_ratio_clamp', expected some of the habits of ppo: "),
        (["empty_rows=counted"], "got 'empty_rows=counted', expected some of the habits of ppo: "),
    ],
)
def test_what_is_no_habit_is_said_in_a_line(asked, sentence):
    with pytest.raises(ValueError, match=r"^habits: ") as refused:
        check(clamped(), "ppo", habits=asked)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


#: As a module has it that the command line imports.
OF_A_TRAINER = clamped()


def test_the_command_line_takes_habits():
    command = ["check", f"{__name__}:OF_A_TRAINER", "--as", "ppo", "--examples", "3", "--habit", "log_ratio_clamp=20"]
    plain, data = CliRunner().invoke(app, command), CliRunner().invoke(app, [*command, "--json"])
    assert "policy_loss as ppo, log-ratio clamped to ±20: accepted." in plain.stdout
    assert [habit["id"] for habit in json.loads(data.stdout)["habits"]] == ["habit.log_ratio_clamp"]
    twice = CliRunner().invoke(app, [*command, "--habit", "log_ratio_clamp=10"])
    assert twice.exit_code == 2
    assert "habits: got log_ratio_clamp=20 and log_ratio_clamp=10, expected one of them" in twice.stderr


def test_an_option_that_a_habit_holds_cannot_be_given():
    with pytest.raises(ValueError, match="options: got 'dual_clip', which the habit dual_clip=3 fixes"):
        check(clamped(), "ppo", habits=["dual_clip=3"], options={"dual_clip": 2.0})


def test_a_contract_takes_habits_once():
    with pytest.raises(ValueError, match="habits: ppo already has dual_clip=3, expected a contract without habits"):
        CONTRACTS["ppo"].with_habits(["dual_clip"]).with_habits(["log_ratio_clamp=20"])
