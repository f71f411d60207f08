"""Which parts of a claim come first on its page, and which the chapters show: those that their text speaks of.

A claim that is not named shows all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grape_spec.language.claims import Claim
from grape_spec.language.grammar import instances_in

SHOWN = {
    "advantage.gae.limits": ("λ = 0", "λ = 1", "mixture"),
    "advantage.gae.masked": ("value", "advantage", "advantages of a whole sequence"),
    "advantage.gae.recursion": ("one token more", "a whole sequence, at any weight", "a whole sequence"),
    "advantage.whiten": ("mean, whatever the variance", "variance", "affine"),
    "aggregation.partition": ("token_mean", "sequence_mean", "sequence_mean, sequences cut"),
    "displacement.dpop.gradient": ("chosen, below", "chosen, above", "rejected, below", "rejected, above"),
    "displacement.first_order": ("chosen", "rejected", "when the chosen falls", "the margin never falls"),
    "dpo.kl_optimum": (
        "stationary: the slope is the same in every direction",
        "concave",
        "no policy does better",
        "the maximum is reached",
        "by no other policy",
    ),
    "dpo.label_smoothing": ("in the margin", "optimal margin", "the ranking there", "every other margin does worse"),
    "dpo.robust": ("unbiased", "closed form", "in the margin", "falling everywhere"),
    "f_dpo.alphapo": ("order 1 − α", "slope", "α > 0, above", "α > 0, below", "slope of the numerator at α = 0"),
    "grape.reward.convention": ("some item trusted", "no item trusted: divided by one", "no advantage"),
    "grape.variance": ("excess", "bound", "reached", "and nowhere else"),
    "grpo.advantage.binary": ("any", "of a success", "of a failure"),
    "grpo.advantage.degenerate": (
        "equal rewards do not vary",
        "what does not vary has no advantage",
        "any other group",
    ),
    "grpo.cispo.gradient": ("in the log-probability", "the weight is positive", "no token is removed", "cap"),
    "grpo.gradient": ("slope of k3", "one token, k3", "of the objective"),
    "grpo.gspo.gradient": (
        "in the log-probability",
        "of the objective",
        "of the mean over the sequences of a batch",
    ),
    "grpo.kl_ratio.gradient": (
        "one token, k3 attached",
        "one token, k3 detached",
        "one token, straight through",
    ),
    "grpo.length_weight": (
        "token_mean",
        "sequence_mean",
        "sequence_sum",
        "fixed_length",
        "token_mean, a whole response",
        "responses weigh alike under sequence_mean",
    ),
    "grpo.on_policy": ("ratio", "slope", "of the objective"),
    "importance.decoupled.gradient": ("the ratios multiply", "slope", "outside, above", "outside, below", "PPO"),
    "importance.effective_sample_size": ("above", "below", "equal weights"),
    "importance.effective_sample_size.bound": ("second moment",),
    "importance.filter.means": ("geometric and arithmetic", "arithmetic and largest"),
    "importance.filter.statistics": ("product", "k3"),
    "importance.sequence.product": (
        "quotient of the probabilities",
        "no token that counts",
        "responses of T tokens",
        "all responses of at most T tokens",
    ),
    "importance.sequence.tensorises": ("two independent tokens", "no less than a power", "no more than a power"),
    "importance.weighted_loss": ("PPO", "dual clip", "REINFORCE", "CISPO", "SAPO"),
    "importance.top_p": ("ratio", "mean", "what is missing", "responses of at most T tokens"),
    "importance.truncation.monotone": ("a higher cap", "below the true mean", "a cap that no ratio exceeds"),
    "kl.k3.nonnegative": ("bound", "zero where they agree", "positive where they do not"),
    "kl.nonnegative": ("bound", "zero where they agree", "positive if they differ on one outcome"),
    "kl.rao_blackwell": ("mean", "variance with the last token's mean", "variance with both means"),
    "policy.score.norm": ("of a token", "mean", "at most the entropy"),
    "preference.exo.slope": ("in the margin", "target", "falling below", "rising above", "never negative"),
    "reinforce.leave_one_out.unbiased": ("mean of the others", "mean of all"),
    "reinforce.policy_gradient": (
        "one token",
        "responses of many tokens",
        "from any prefix",
        "all responses of at most T tokens",
    ),
    "rejection.best_of_n.law": ("any number of samples", "sums to one", "responses that tie"),
    "reward.bradley_terry.gradient": ("chosen", "rejected", "shift"),
    "sapo.weight.bound": ("4σ(1 − σ)", "at ρ = 1", "what is missing", "below"),
    "trpo.surrogate.gradient": (
        "of a token",
        "of a token, where the policies agree",
        "the gradient of the expected advantage",
    ),
}


def shown_parts(id: str, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts of a claim that a chapter shows, in the order in which they are given."""
    chosen = SHOWN.get(id)
    return [part for part in parts if chosen is None or part["name"] in chosen]


def results_first(claim: Claim, parts: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The parts that a claim is about, and those on the way: where most parts only lead to others, those come last."""
    own = {used.part for part in claim.parts for used in instances_in(part.by) if used.claim in ("", claim.id)}
    if 3 * len(own) <= 2 * len(parts):
        return list(parts), []
    return [part for part in parts if part["name"] not in own], [part for part in parts if part["name"] in own]
