"""Derivations: trust region policy optimisation."""

from sympy import log, sqrt

from grape_spec.derivations.policy import JACOBIAN, KNOWN, ONE_TERM, SCORE, ends, goes_on
from grape_spec.language import At, Diff, delta, derive, derive_by_induction, line, substitute, sum_over
from grape_spec.policy import a, k, l, logits, logp, softmax, v
from grape_spec.policy_improvement import (
    advantage_sum,
    after,
    continuation_value,
    expected_reward,
    j,
    later_gain,
    left,
    new_next_token,
    next_token,
    prefix_advantage,
    prefix_reward,
    prefix_value,
    worth,
)
from grape_spec.policy_improvement import gain as total_gain
from grape_spec.ppo import advantage, old_logp, ratio
from grape_spec.proof.rules import fact, smt
from grape_spec.surrogate_bound import bound_coefficient, largest, local_return, missed, root, total_variation
from grape_spec.trpo import (
    along_solution,
    at_old,
    beyond,
    column,
    direction,
    fisher,
    gain,
    gradient,
    image,
    inner,
    max_kl,
    multiplier,
    penalised_step,
    row,
    solution,
    solved,
    squared_length,
    surrogate,
    token_advantage,
    varied,
)

old = softmax(v, at_old)
of_old = softmax(a, at_old)

derive(
    "trpo.surrogate.gradient",
    line(Diff(ratio(), logp) * advantage, "the advantage is a constant"),
    line(ratio() * advantage, "the ratio is its own derivative"),
    line(surrogate(), "this is the surrogate"),
    part="of a token",
)

derive(
    "trpo.surrogate.gradient",
    line(At(surrogate(), logp, old_logp), "the surrogate is its own derivative"),
    line(At(ratio(), logp, old_logp) * advantage, "the advantage is a constant"),
    line(advantage, "the ratio is one where the policies agree"),
    part="of a token, where the policies agree",
)

slopes = sum_over(softmax(v) * token_advantage[v] * Diff(log(softmax(v)), logits[k]), v)
BY_CHAIN_RULE = "the chain rule: the ratio is its own derivative, and π_old times the ratio is π"

derive(
    "trpo.surrogate.gradient",
    line(At(slopes, logits, at_old), BY_CHAIN_RULE),
    line(
        sum_over(old * token_advantage[v] * At(Diff(log(softmax(v)), logits[k]), logits, at_old), v),
        "where the policies agree, π is π_old",
    ),
    line(sum_over(of_old * token_advantage[a] * (delta(a, k) - softmax(k, at_old)), a), SCORE),
    part="the expected score, weighted by the advantage",
)

derive(
    "trpo.surrogate.gradient",
    line(At(slopes, logits, at_old), BY_CHAIN_RULE),
    line(
        At(sum_over(Diff(softmax(v), logits[k]) * token_advantage[v], v), logits, at_old),
        "π times the derivative of log π is the derivative of π",
    ),
    line(
        At(Diff(sum_over(softmax(v) * token_advantage[v], v), logits[k]), logits, at_old),
        "the advantages are constants",
    ),
    part="the gradient of the expected advantage",
)

derive(
    "trpo.kl.gradient",
    line(-sum_over(old * Diff(log(softmax(v)), logits[k]), v), "of log(π_old/π), only log π depends on the logits"),
    line(-sum_over(old * (delta(v, k) - softmax(k)), v), SCORE),
    line(softmax(k) * sum_over(old, v) - softmax(k, at_old), ONE_TERM),
    line(softmax(k) - softmax(k, at_old), "the old probabilities sum to one"),
    part="anywhere",
)

derive(
    "trpo.kl.gradient",
    line(
        At(softmax(k) - softmax(k, at_old), logits, at_old),
        "the slope is π − π_old",
    ),
    line(0, "both are π_old"),
    part="where the policies agree",
)

derive(
    "trpo.kl.hessian",
    line(At(Diff(softmax(k) - softmax(k, at_old), logits[l]), logits, at_old), "the slope in the logit of token k"),
    line(At(softmax(k) * (delta(k, l) - softmax(l)), logits, at_old), JACOBIAN),
    line(softmax(k, at_old) * (delta(k, l) - softmax(l, at_old)), "insert the old logits"),
)

# The step: F = LLᵀ and g = Fx.

scale = sqrt(2 * max_kl / along_solution)

derive(
    "trpo.step.quadratic",
    line(sum_over(sum_over(fisher(row, column) * solution[column], column) * solution[row], row), "g = Fx"),
    line(sum_over(image(inner, solved) ** 2, inner), "F = LLᵀ: this is xᵀLLᵀx, the sum of the squares of Lᵀx"),
    line(along_solution, "this is the squared length"),
    part="gᵀx = xᵀFx",
)

derive(
    "trpo.step.gain",
    line(scale * gain(solved), "the step is a multiple of x, and the gain is linear"),
    line(scale * along_solution, "gᵀx = xᵀFx"),
    line(sqrt(2 * max_kl * along_solution), "√(2δ/xᵀFx) xᵀFx = √(2δ xᵀFx)"),
    part="value",
)

derive(
    "trpo.step",
    line(
        max_kl / along_solution * sum_over(image(inner, solved) ** 2, inner),
        "the step is √(2δ/xᵀFx) x, and the squared length is quadratic",
    ),
    line(max_kl, "the sum is xᵀFx: cancel"),
    part="feasible, and the constraint is met with equality",
)

derive(
    "trpo.penalty",
    line(
        At(
            gradient(varied) - multiplier * sum_over(fisher(varied, row) * direction[row], row),
            direction,
            penalised_step,
        ),
        "the slope of gᵀd is g, that of ½ dᵀFd is Fd",
    ),
    line(gradient(varied) - sum_over(fisher(varied, row) * solution[row], row), "insert d = x/λ"),
    line(0, "g = Fx"),
    part="stationary",
)

derive(
    "trpo.penalty",
    line(gain() - multiplier / 2 * squared_length(), "write out the penalised gain"),
    line(
        along_solution / (2 * multiplier)
        - multiplier / 2 * (squared_length() - 2 * gain() / multiplier + along_solution / multiplier**2),
        "add and subtract xᵀFx/(2λ)",
    ),
    line(
        along_solution / (2 * multiplier) - multiplier / 2 * squared_length(beyond),
        "gᵀd = xᵀFd, so the bracket is the squared length of d − x/λ",
    ),
    part="the square completed",
)

# The difference between two policies, one token more.

new = new_next_token[j, v]

derive(
    "trpo.performance_difference",
    line(
        sum_over(new * (continuation_value[v] + later_gain[v]), v) - prefix_value() * sum_over(new, v),
        "the new probabilities sum to one",
    ),
    line(
        sum_over(new * (continuation_value[v] - prefix_value() + later_gain[v]), v),
        "the value of the prefix does not depend on the token: move it into the sum",
    ),
    line(
        sum_over(new * (prefix_advantage(v) + later_gain[v]), v),
        "the value of a token minus that of the prefix is its advantage",
    ),
    part="one token more",
)

new_reward, old_reward = expected_reward(j=after[j, v], next_token=new_next_token), expected_reward(j=after[j, v])
worth_of = ends * prefix_reward[j] + goes_on * old_reward

derive_by_induction(
    "trpo.performance_difference",
    left,
    first=[
        line(0, "no token is left"),
        line(substitute(total_gain, {left: 0}), "under both policies the reward is that of the prefix"),
    ],
    then=[
        line(
            sum_over(new * (prefix_advantage(v, continuation_value=worth) + goes_on * advantage_sum(j=after[j, v])), v),
            "the advantage of one token, and of those that follow if it does not end the response",
        ),
        line(
            sum_over(new * (prefix_advantage(v, continuation_value=worth) + goes_on * (new_reward - old_reward)), v),
            KNOWN,
        ),
        line(
            sum_over(new * (worth_of + goes_on * (new_reward - old_reward)), v)
            - sum_over(next_token[j, v] * worth_of, v),
            "an advantage is the worth of a token minus that of the prefix",
        ),
        line(
            sum_over(new * (ends * prefix_reward[j] + goes_on * new_reward), v)
            - sum_over(next_token[j, v] * worth_of, v),
            "the old rewards under the new policy cancel",
        ),
        line(substitute(total_gain, {left: left + 1}), "these are the expected rewards"),
    ],
    part="responses of at most T tokens",
)

# What the surrogate misses in responses of two tokens.

surrogate_return = local_return()

derive(
    "trpo.bound",
    line(surrogate_return + largest * missed, "the surrogate takes the first token from the old policy, not the new"),
    line(
        surrogate_return - 4 * largest * root * total_variation(),
        "by Pinsker's inequality, no second token adds more than √(2δ); sum |p − q| over the first",
        sign="≥",
        by=smt(
            given=[
                fact("trpo.bound", part="both tokens"),
                fact("trpo.bound", part="the sum over first tokens"),
            ]
        ),
    ),
    line(
        surrogate_return - 2 * largest * max_kl,
        "by Pinsker's inequality for the first token, TV ≤ √(δ/2)",
        sign="≥",
        by=smt(given=[fact("trpo.pinsker", part="everywhere"), fact("trpo.pinsker", part="not negative")]),
    ),
    line(surrogate_return - bound_coefficient() * max_kl, "C = 4ε, and half of it is enough", sign="≥"),
    part="bound",
)
