"""The contracts around PPO accept correct functions in another style and reject wrong ones by the right properties."""

import pytest

from grape_verified.conformance import check, checking

from . import planted_ppo as planted

#: What a constant fails that disagrees with the spec everywhere, and a loss.
SPEC = {"value", "options"}
LOSS = {"value", "gradient", "options", "kinks", "extremes"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted.summed_gae, "gae"),
        (planted.whiten_listed, "whiten"),
        (planted.branching_value, "value"),
        (planted.maximum_of_squares, "value_loss_per_token"),
        (planted.looping_kl_shaped_rewards, "kl_shaped_rewards"),
        (planted.correct_gae, "gae"),
        (planted.correct_whiten, "whiten"),
        (planted.correct_value, "value"),
        (planted.correct_kl_shaped_rewards, "kl_shaped_rewards"),
    ],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract, examples=100)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


#: A wrong function, the properties that must fail, and those that may fail with them, as the mistake shows there, too.
WRONG = [
    (planted.bootstraps_from_masked, "gae", {"value", "padding"}, SPEC),
    (planted.ends_at_a_hole, "gae", {"value", "padding"}, SPEC),
    (planted.decays_in_a_hole, "gae", {"value", "padding"}, SPEC),
    (planted.discount_forgotten, "gae", {"options"}, set()),
    (planted.lam_forgotten, "gae", {"options"}, set()),
    (planted.sign_of_the_value, "gae", {"value"}, {*SPEC, "padding"}),
    (planted.returns_without_value, "gae", {"value"}, SPEC),
    (planted.masked_by_product, "gae", {"value", "masked values", "padding"}, {*SPEC, "empty batch"}),
    (planted.mean_over_all, "whiten", {"value", "padding"}, SPEC),
    (planted.mean_of_rows, "whiten", {"value"}, SPEC),
    (planted.other_ddof, "whiten", {"value"}, SPEC),
    (planted.variance_for_root, "whiten", {"value"}, SPEC),
    (planted.eps_after_the_root, "whiten", {"options"}, {"value", "empty batch"}),
    (planted.mean_never_kept, "whiten", {"options"}, set()),
    (planted.mean_behind_the_mask, "whiten", {"options"}, set()),
    (planted.smaller_square, "value", {"options"}, {"kinks", "extremes"}),
    (planted.without_half, "value", {"value", "gradient"}, LOSS),
    (planted.clipped_alone, "value", {"options"}, {"kinks", "extremes"}),
    (planted.absolute_error, "value", {"value", "gradient"}, LOSS),
    (planted.clip_around_the_return, "value", {"options"}, {"kinks", "extremes"}),
    (planted.clip_ignored, "value", {"options"}, {"kinks", "extremes"}),
    (planted.returns_differentiated_instead, "value", {"gradient"}, LOSS - {"value"}),
    (planted.smaller_square_of_each, "value_loss_per_token", {"options"}, {"kinks", "extremes"}),
    (planted.terms_without_half, "value_loss_per_token", {"value", "gradient"}, {*LOSS, "cotangents"}),
    (planted.slope_of_the_clipped, "value_loss_per_token", {"options"}, {"kinks", "extremes"}),
    (planted.bonus_for_divergence, "kl_shaped_rewards", {"value"}, SPEC),
    (planted.penalises_masked_tokens, "kl_shaped_rewards", {"value", "masked values", "empty batch"}, SPEC),
    (planted.reward_at_every_token, "kl_shaped_rewards", {"value"}, SPEC),
    (
        planted.reward_in_the_last_column,
        "kl_shaped_rewards",
        {"value", "padding", "empty batch"},
        {*SPEC, "masked values"},
    ),
    (planted.reward_at_the_length, "kl_shaped_rewards", {"value", "padding"}, SPEC),
    (planted.always_k1, "kl_shaped_rewards", {"options"}, set()),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=40)
    failed = set(report.failed)
    assert must <= failed <= must | may
    for name in failed:
        assert report.finding(name).counterexample
        assert "Traceback" not in report.finding(name).text
