"""Recursions are the sums over sequences that they stand for, with every sequence written out."""

from itertools import product
from math import exp, isclose, log, prod

import pytest
from grape_spec.evaluate import evaluate
from grape_spec.language import (
    PositionOn,
    Real,
    Simplex,
    Size,
    at_least,
    at_most,
    claim,
    equals,
    family,
    holds,
    index,
    recursive,
    sum_over,
    symbol,
)
from grape_spec.language.domains import Naturals
from grape_spec.language.registry import DEFINITIONS, RegistryError
from grape_spec.proof.context import Context
from grape_spec.proof.facts import lies_in_domain
from grape_spec.proof.prove import prove
from grape_spec.proof.rules import algebra, fact, finite_sum, over_depth, smt, within_depth
from sympy import Integer

from tests.tables import restored

#: Token 1 is the end of the sequence.
END = 1


def tree(vocabulary, length):
    """Every prefix of up to ``length`` tokens, each with its number."""
    prefixes = [p for n in range(length + 1) for p in product(range(1, vocabulary + 1), repeat=n)]
    return {prefix: number for number, prefix in enumerate(prefixes, 1)}


def sequences(vocabulary, length):
    """Every sequence that ends with the end token by ``length``, and every one that is cut off there."""
    for n in range(1, length + 1):
        for begun in product(range(2, vocabulary + 1), repeat=n - 1):
            yield (*begun, END)
    yield from product(range(2, vocabulary + 1), repeat=length)


class World:
    """A policy, a reference and rewards on a tree, the same in every run."""

    def __init__(self, vocabulary, length):
        self.vocabulary, self.length, self.numbers = vocabulary, length, tree(vocabulary, length)
        rows, tokens = range(1, len(self.numbers) + 1), range(1, vocabulary + 1)
        self.logits = [[((3 * row + 5 * token + row * token) % 7) / 4 for token in tokens] for row in rows]
        self.policy = [[exp(z) / sum(map(exp, row)) for z in row] for row in self.logits]
        self.reference = [[(row + token) / sum(row + other for other in tokens) for token in tokens] for row in rows]
        self.rewards = [[((2 * row + 3 * token) % 5) / 2 - 1 for token in tokens] for row in rows]
        self.ends = [row % 4 - 1.5 for row in rows]

    def steps(self, sequence):
        """The tokens of a sequence, each with the number of the prefix before it, both from 0."""
        return [(self.numbers[sequence[:n]] - 1, token - 1) for n, token in enumerate(sequence)]

    def probability(self, sequence):
        return prod(self.policy[row][token] for row, token in self.steps(sequence))

    def expectation(self, statistic):
        return sum(self.probability(s) * statistic(s) for s in sequences(self.vocabulary, self.length))

    def score(self, step, varied):
        """The derivative of the log-probability of a step in a logit."""
        (row, token), (prefix, k) = step, varied
        return (row == prefix) * ((token == k) - self.policy[row][k])

    def value(self, id, **more):
        after = [[self.numbers.get((*p, v), 1) for v in range(1, self.vocabulary + 1)] for p in self.numbers]
        given = {
            "V": self.vocabulary, "P": len(self.numbers), "left": self.length, "j": 1, "end": END, "after": after,
            "next_token": self.policy, "ref_next_token": self.reference, "row_logits": self.logits,
            "step_reward": self.rewards, "response_reward_at": self.ends, **more,
        }  # fmt: skip
        return float(evaluate(DEFINITIONS[id], given).mid())


@pytest.fixture(params=[(2, 0), (2, 1), (2, 3), (3, 2)], ids=lambda sizes: "V = {}, T = {}".format(*sizes))
def world(request):
    return World(*request.param)


def test_all_sequences_have_mass_one(world):
    assert isclose(world.expectation(lambda sequence: 1), 1)
    assert isclose(world.value("policy.sequence_mass", arrived=1), 1)
    assert isclose(world.value("policy.sequence_mass", arrived=3), 3)


def test_the_divergence_of_sequences(world):
    def log_ratio(sequence):
        return sum(log(world.policy[r][t] / world.reference[r][t]) for r, t in world.steps(sequence))

    expected = world.expectation(log_ratio)
    assert isclose(world.value("kl.sequence_divergence", carried=0), expected, abs_tol=1e-12)
    assert isclose(world.value("kl.token_divergences"), expected, abs_tol=1e-12)


def test_the_expected_reward_and_its_gradient(world):
    """The reward of a response, times the sum of its scores."""

    def reward(sequence):
        return world.ends[world.numbers[sequence] - 1]

    def scored(sequence):
        return reward(sequence) * sum(world.score(step, (0, 1)) for step in world.steps(sequence))

    assert isclose(world.value("reinforce.expected_reward"), world.expectation(reward), abs_tol=1e-12)
    found = world.value("reinforce.weighted_scores", scores_so_far=0, prefix=1, k=2)
    assert isclose(found, world.expectation(scored), abs_tol=1e-12)


def test_scores_by_all_rewards_and_by_the_rewards_to_go(world):
    def weighted(sequence, first):
        steps = world.steps(sequence)
        return sum(
            world.score(step, (0, 1)) * sum(world.rewards[r][t] for r, t in steps[first(n) :])
            for n, step in enumerate(steps)
        )

    given = {"scores_so_far": 0, "prefix": 1, "k": 2}
    everything = world.expectation(lambda sequence: weighted(sequence, lambda n: 0))
    to_go = world.expectation(lambda sequence: weighted(sequence, lambda n: n))
    assert isclose(world.value("reinforce.by_all_rewards", rewards_so_far=0, **given), everything, abs_tol=1e-12)
    assert isclose(world.value("reinforce.by_rewards_to_go", products_so_far=0, **given), to_go, abs_tol=1e-12)


#: Rewards, values and mask of a sequence; what is written at a masked token must not matter.
TOKENS = [(0.5, 1.0, 1), (9.0, -7.0, 0), (-1.0, 0.25, 1), (2.0, 3.0, 1), (8.0, 8.0, 0)]
DISCOUNT, LAM = 0.75, 0.5


def along(id, **more):
    """The value of a recursion along the sequence, from its first token to its last."""
    rewards, values, mask = map(list, zip(*TOKENS, strict=True))
    size = len(TOKENS)
    given = {
        "places": size, "left": size, "place": 1, "following": [*range(2, size + 1), 1], "token_rewards": rewards,
        "token_values": values, "counting": mask, "discount": DISCOUNT, "lam": LAM, "carried_weight": 1, **more,
    }  # fmt: skip
    return float(evaluate(DEFINITIONS[id], given).mid())


def residuals(discount=DISCOUNT):
    """Those of the tokens that count, written out."""
    counted = [(reward, value) for reward, value, counts in TOKENS if counts]
    after = [value for _, value in counted[1:]] + [0.0]
    return [reward + discount * later - value for (reward, value), later in zip(counted, after, strict=True)]


def test_generalised_advantage_estimation_along_a_sequence():
    expected = sum((DISCOUNT * LAM) ** k * delta for k, delta in enumerate(residuals()))
    assert isclose(along("advantage.advantage_from"), expected)
    assert isclose(along("advantage.weighted_residuals"), expected)
    counted = [reward for reward, _, counts in TOKENS if counts]
    assert isclose(along("advantage.discounted_rewards"), sum(DISCOUNT**k * r for k, r in enumerate(counted)))
    assert isclose(along("advantage.value_from"), 1.0)


def test_the_mixture_of_n_step_estimates():
    steps = [DISCOUNT**k * delta for k, delta in enumerate(residuals())]
    estimates = [sum(steps[:n]) for n in range(1, len(steps) + 1)]
    weights = [(1 - LAM) * LAM**n for n in range(len(steps))]
    expected = sum(w * e for w, e in zip(weights, estimates, strict=True)) + LAM ** len(steps) * estimates[-1]
    assert isclose(along("advantage.mixture", discounted_by=1, so_far=0), expected)


@pytest.fixture
def depth():
    """A depth and a number that a test may speak of, and a recursion over it."""
    with restored():
        d = symbol("t_depth", Naturals("whole number", 0), "a depth")
        x = symbol("t_number", Real, "a number")
        yield d, x, recursive("t.moved", "", (d, x), d, x, lambda go: go(t_number=x + 1))


def test_a_recursion_unfolds_by_one_step_at_a_time(depth):
    d, x, moved = depth
    assert not moved().unfolds
    assert moved(d + 1, x).unfold() == moved(d, x + 1)
    assert moved(0, x).unfold() == x
    assert not moved(10**9, x).unfolds


def test_what_is_proved_by_induction_over_depth(depth):
    """The same claim by algebra is unknown, as is one without the earlier part that it needs."""
    d, x, moved = depth
    twice = recursive("t.twice", "", (d, x), d, 2 * x, lambda go: go(t_number=x + 1) + moved(d, x) - x - d)
    first = holds(equals(moved(), x + d), by=over_depth(d), name="moved")
    assert prove(first).status == "proved"
    assert prove(holds(equals(moved(), x + d), by=algebra())).status == "unknown"
    assert prove(holds(equals(moved(), x + d), by=finite_sum())).status == "unknown"
    second = holds(equals(twice(), 2 * x + 2 * d), by=over_depth(d, given=[fact("", part="moved")]))
    assert prove(second, earlier=(first,)).status == "proved"
    assert prove(second).status == "unknown"
    alone = holds(equals(twice(), 2 * x + 2 * d), by=over_depth(d))
    assert prove(alone, earlier=(first,)).status == "unknown"


def test_a_recursion_is_bounded_by_induction_over_depth(depth):
    """What is assumed of every index holds at each position that the recursion reaches."""
    d, x, _ = depth
    n = symbol("t_size", Size, "")
    i, j, v = index("t_i", n, ""), index("t_j", n, ""), index("t_v", n, "")
    cost, weight = family("t_cost", Real, n, text=""), family("t_weight", Simplex, n, text="")
    total = recursive(
        "t.total", "", (d, i, cost, weight), d, Integer(0), lambda go: cost[i] + sum_over(weight[v] * go(t_i=v), v)
    )
    cheap, by = [at_most(cost[j], x)], within_depth(d, by=smt())
    assert prove(holds(at_most(total(), x * d), by=by, assuming=cheap)).status == "proved"
    assert prove(holds(at_least(x * d - total(), 0), by=by, assuming=cheap)).status == "proved"
    assert prove(holds(at_most(total(), x * d), by=by, assuming=[at_most(cost[i], x)])).status == "unknown"
    assert prove(holds(at_most(total(), x * d), by=by)).status == "unknown"
    assert prove(holds(at_most(total(), x), by=by, assuming=cheap)).status == "unknown"


def test_a_claim_holds_at_a_position_of_its_axis_alone(depth):
    """A claim about any index may be used at an entry of a family of positions, if that is of the same axis."""
    n, m = symbol("t_size", Size, ""), symbol("t_other_size", Size, "")
    i, k = index("t_i", n, ""), index("t_k", m, "")
    onward = family("t_onward", PositionOn(n), n, text="")
    assert lies_in_domain(i, onward[i], Context())
    assert not lies_in_domain(k, onward[i], Context())


def test_a_claim_changes_with_the_recursion_that_it_speaks_of():
    """Its version is a hash of the recursion, too, although that does not unfold."""
    hashes = set()
    for first in (0, 1):
        with restored():
            d = symbol("t_depth", Naturals("whole number", 0), "a depth")
            count = recursive("t.count", "", (d,), d, first + 0 * d, lambda go: go() + 1)
            hashes.add(claim("t.claim", "", holds(equals(count(), d + first), by=over_depth(d))).hash)
    assert len(hashes) == 2


def test_the_depth_has_to_be_a_whole_number(depth):
    _, x, _ = depth
    with pytest.raises(RegistryError, match="expected an argument that is a whole number or a size"):
        recursive("t.wrong", "", (x,), x, x, lambda go: go() + 1)
