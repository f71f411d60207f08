"""The quantities in the claims of best of n, against an enumeration of all tuples of samples."""

import itertools
import math

import pytest
from flint import arb
from grape_spec import best_of_n
from grape_spec.evaluate import evaluate

CHANCES, PRIZES = [0.25, 0.5, 0.0625, 0.1875], [-1.0, 0.5, 2.0, 2.5]
CUMULATIVE = list(itertools.accumulate(CHANCES))
RISING = {
    "n": 3,
    "theta": 0,
    "ladder": lambda outcome, theta: arb(2 * CUMULATIVE[int(outcome)]),  # the factor must not matter
    "prize": lambda outcome, theta: arb(PRIZES[int(outcome)]),
}


def best_of(n):
    """The probability of each outcome to be the best of n."""
    best = [0.0] * len(CHANCES)
    for drawn in itertools.product(range(len(CHANCES)), repeat=n):
        best[max(drawn)] += math.prod(CHANCES[one] for one in drawn)
    return best


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_lift_divergence_and_mean_are_those_of_every_tuple(n):
    best = best_of(n)
    for outcome in (1, 2, 3):
        given = {"own": CHANCES[outcome], "below": CUMULATIVE[outcome - 1], "samples": n}
        assert float(evaluate(best_of_n.lift, given).mid()) * CHANCES[outcome] == pytest.approx(best[outcome])
    divergence = sum(b * math.log(b / p) for b, p in zip(best, CHANCES, strict=True))
    assert float(evaluate(best_of_n.divergence_of_best, {**RISING, "samples": n}).mid()) == pytest.approx(divergence)
    mean = sum(b * r for b, r in zip(best, PRIZES, strict=True))
    expected = best_of_n.expected_best(best_of_n.exponent)
    assert float(evaluate(expected, {**RISING, "exponent": n}).mid()) == pytest.approx(mean)


@pytest.mark.parametrize("n", [0, 1, 2, 4])
@pytest.mark.parametrize("levels", [(0, 1, 2, 3), (0, 1, 1, 2), (0, 1, 1, 1), (0, 0, 1, 1)])
def test_responses_that_tie_share_the_weight_as_in_every_tuple(levels, n):
    for outcome in (1, 2, 3):
        expected = 0.0
        for drawn in itertools.product(range(len(CHANCES)), repeat=n):
            best = [one for one in drawn if levels[one] == max(levels[other] for other in drawn)]
            weight = best.count(outcome) / len(best) if best else 0
            expected += weight * math.prod(CHANCES[one] for one in drawn)
        level = levels[outcome]
        own = sum(chance for chance, other in zip(CHANCES, levels, strict=True) if other == level)
        below = sum(chance for chance, other in zip(CHANCES, levels, strict=True) if other < level)
        if below:
            given = {"left": n, "below": below, "own": own, "mine": CHANCES[outcome]}
            assert float(evaluate(best_of_n.expected_share, given).mid()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rewards", "weights"),
    [([1.0], [1]), ([1.0, 3.0, 2.0], [0, 1, 0]), ([3.0, 1.0, 3.0], [0.5, 0, 0.5]), ([2.0] * 4, [0.25] * 4)],
)
def test_the_weights_of_a_group(rewards, weights):
    got = [
        float(evaluate(best_of_n.best_weight, {"sample_reward": rewards, "sample": i}).mid())
        for i in range(1, len(rewards) + 1)
    ]
    assert got == weights
