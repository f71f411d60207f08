"""Rejection sampling: best of n."""

from itertools import product

import torch
from torch import Tensor

from grape_verified import best_of_n_weights, categorical_kl
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, Slider

#: How the probability that is not that of the best of four responses is shared by the others, the worst first.
OTHERS = (4, 3, 2)


def best_of_n(best: float) -> list[Panel]:
    """The distribution of the best of n samples, and its KL divergence from the policy."""
    probabilities = _probabilities(best)
    samples = torch.arange(1, 9, dtype=torch.float64)
    laws = torch.stack([best_of_n_law(probabilities, int(n)) for n in samples])
    policy = laws[0].log().expand_as(laws)
    places = torch.arange(len(probabilities))
    left = [Line(f"n = {n}", places, laws[n - 1], number, "both") for number, n in enumerate((1, 2, 4, 8), 1)]
    divergence = categorical_kl(laws.log(), policy)
    bound = samples.log() - (samples - 1) / samples
    right = [Line("KL", samples, divergence, 1, "both"), Line("bound", samples, bound, 2)]
    ticks = {0.0: "worst", 1.0: "", 2.0: "", 3.0: "best"}
    return [
        Panel("response", "", left, title="probability", x_ticks=ticks, y_limits=(-0.05, 1.05)),
        Panel("samples n", "", right, title="KL, and its bound (- -)", y_limits=(-0.05, 1.25), in_legend=False),
    ]


def best_of_n_law(probabilities: Tensor, n: int) -> Tensor:
    """The probability that each response is the best of n, summed over all groups of n."""
    groups = torch.tensor(list(product(range(len(probabilities)), repeat=n)))
    weights = best_of_n_weights(groups.double().flatten(), n).view_as(groups)
    shares = weights * probabilities[groups].prod(1, keepdim=True)
    return torch.zeros_like(probabilities).scatter_add(0, groups.flatten(), shares.flatten())


def _probabilities(best: float) -> Tensor:
    others = torch.tensor(OTHERS, dtype=torch.float64)
    return torch.cat([(1 - best) * others / others.sum(), torch.tensor([best], dtype=torch.float64)])


FIGURES = (
    Figure(
        "best_of_n",
        best_of_n,
        "How best of n moves probability",
        "Four responses, the best of which has probability p; the others share the rest as 4:3:2. Taking the best "
        "of n samples moves probability from the worst to the best; the KL divergence from the policy grows with n "
        "and never exceeds log n − (n − 1)/n.",
        ("best_of_n_weights", "categorical_kl"),
        ("rejection.best_of_n.law", "rejection.best_of_n.kl_bound"),
        (Slider("best", "p", "the probability of the best", 0.01, 0.5, 0.01, 0.1),),
    ),
)
