"""Soft adaptive policy optimisation: a sigmoid of the ratio takes the place of PPO's clip.

C. Gao et al., Soft Adaptive Policy Optimization, arXiv:2511.20347. Its text was not compared. The mean over tokens and
then over sequences is `aggregation.sequence_mean`.
"""

from sympy import exp

from grape_spec.dpo import sigmoid
from grape_spec.language import (
    At,
    Diff,
    Positive,
    Source,
    at_most,
    cases,
    claim,
    define,
    equals,
    greater,
    holds,
    less,
    symbol,
    wrong,
)
from grape_spec.policy import logp
from grape_spec.ppo import advantage, old_logp, ratio, rho
from grape_spec.proof.rules import algebra, fact, smt

GAO = Source("gao2025soft")

tau = symbol("gate_temperature", Positive, "how fast the weight of a token falls with its ratio", tex=r"\tau")
temperature_pos = symbol("temperature_pos", Positive, "τ of a token with a positive advantage", tex=r"\tau_{+}")
temperature_neg = symbol("temperature_neg", Positive, "τ of every other token", tex=r"\tau_{-}")

gate_temperature = define(
    "sapo.temperature",
    "Temperature τ of a token, chosen by the sign of its advantage.",
    (advantage, temperature_pos, temperature_neg),
    cases((temperature_pos, advantage > 0), (temperature_neg, True)),
    tex=r"\tau({advantage})",
    source=GAO,
)

objective = define(
    "sapo.objective",
    "Objective of a token, to be maximised: a sigmoid of the ratio takes the place of PPO's clip.",
    (rho, advantage, tau),
    4 / tau * sigmoid(tau * (rho - 1)) * advantage,
    tex=r"J_{{\mathrm{{SAPO}}}}({rho})",
    source=GAO,
)

gate = tau * (rho - 1)

weight = define(
    "sapo.weight",
    "Weight of a token: 4σ(1 − σ), with σ taken at τ(ρ − 1).",
    (rho, tau),
    4 * sigmoid(gate) * sigmoid(-gate),
    tex=r"w_{{\mathrm{{SAPO}}}}({rho})",
    domain=Positive,
    source=GAO,
)

claim(
    "sapo.gradient",
    "The slope is that of the unclipped surrogate, ρA, times the weight; the factor 4/τ makes it ρA at ρ = 1.",
    holds(equals(Diff(objective(), rho), weight() * advantage), name="in the ratio", by=algebra()),
    holds(
        equals(Diff(objective(ratio()), logp), weight(ratio()) * ratio() * advantage),
        name="in the log-probability",
        by=algebra(),
    ),
    source=GAO,
    wrong=[
        wrong(
            "without the factor 4/τ",
            equals(Diff(tau / 4 * objective(ratio()), logp), weight(ratio()) * ratio() * advantage),
        ),
        wrong("the sign of the advantage dropped", equals(Diff(objective(), rho), weight() * abs(advantage))),
        wrong(
            "the log-ratio in the gate",
            equals(Diff(objective(1 + logp - old_logp), logp), weight(ratio()) * ratio() * advantage),
        ),
        wrong("the ratio left out", equals(Diff(objective(ratio()), logp), weight(ratio()) * advantage)),
    ],
)

claim(
    "sapo.weight.bound",
    "The weight is 4σ(1 − σ), the squared hyperbolic secant of τ(ρ − 1)/2: 1 at ρ = 1 for every τ, and nowhere larger. "
    "The weighted ratio lies between 0 and ρ.",
    holds(equals(weight(), 4 * sigmoid(gate) * (1 - sigmoid(gate))), name="4σ(1 − σ)", by=algebra()),
    holds(equals(weight(), 4 / (exp(gate) + 2 + exp(-gate))), name="sech²", by=algebra()),
    holds(equals(weight(1), 1), name="at ρ = 1", by=algebra()),
    holds(equals(1 - weight(), (2 * sigmoid(gate) - 1) ** 2), name="what is missing", by=algebra()),
    holds(greater(weight() * rho, 0), name="weighted ratio, above", by=smt()),
    holds(
        at_most(weight() * rho, rho),
        name="below",
        by=smt(given=[fact("sapo.weight.bound", part="what is missing")]),
    ),
    source=GAO,
    wrong=[
        wrong("σ alone", equals(weight(), sigmoid(gate))),
        wrong("without the 4, a quarter at ρ = 1", equals(weight(1) / 4, 1)),
        wrong("the weight falls for large ratios alone", equals(weight(), 1), assuming=[less(rho, 1)]),
    ],
)

claim(
    "sapo.on_policy",
    "At ρ = 1 the slope is A, that of REINFORCE, for every τ; the value is 2A/τ and not A, so with two temperatures "
    "the mean objective is not 0 when the advantages add up to 0.",
    holds(equals(At(Diff(objective(ratio()), logp), logp, old_logp), advantage), name="slope", by=algebra()),
    holds(equals(objective(1), 2 * advantage / tau), name="value", by=algebra()),
    holds(
        equals(
            objective(1, advantage, temperature_pos) + objective(1, -advantage, temperature_neg),
            2 * advantage * (temperature_neg - temperature_pos) / (temperature_pos * temperature_neg),
        ),
        name="opposite advantages",
        by=algebra(),
    ),
    source=GAO,
    wrong=[
        wrong("the value is the advantage", equals(objective(1), advantage)),
        wrong(
            "the slope depends on τ",
            equals(At(Diff(objective(ratio()), logp), logp, old_logp), advantage * tau / 4),
        ),
        wrong(
            "opposite advantages cancel",
            equals(objective(1, advantage, temperature_pos) + objective(1, -advantage, temperature_neg), 0),
        ),
    ],
)

claim(
    "sapo.temperature.sides",
    "A positive advantage takes the first temperature, every other the second; at A = 0 the choice has no effect.",
    holds(equals(gate_temperature(), temperature_pos), name="A > 0", assuming=[greater(advantage, 0)], by=smt()),
    holds(equals(gate_temperature(), temperature_neg), name="A ≤ 0", assuming=[at_most(advantage, 0)], by=smt()),
    holds(equals(objective(advantage=0), 0), name="A = 0", by=algebra()),
    source=GAO,
    wrong=[
        wrong("the sides swapped", equals(gate_temperature(), temperature_neg), assuming=[greater(advantage, 0)]),
    ],
)
