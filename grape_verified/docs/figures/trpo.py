"""TRPO: the models that predict a step."""

import torch
from torch import Tensor
from torch.nn import Embedding

from grape_verified import categorical_kl, conjugate_gradient, fisher_vector_product, trpo_per_token
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, grid, value_and_slope

#: The logits of one position, the advantages of its tokens, and the radius δ of the trust region.
LOGITS, GAINS, RADIUS = (1.0, 0.5, -1.0, -2.0), (0.0, -0.5, 0.5, 1.0), 0.3


def trpo_step_model() -> list[Panel]:
    """Gain and KL divergence of a step along the natural gradient, and TRPO's models of both."""
    fractions = grid(0, 2, 101)
    old = torch.tensor(LOGITS, dtype=torch.float64)
    slope, step, curvature = natural_step()
    news = old + fractions[:, None] * step
    gained = _surrogate_gain(news) - _surrogate_gain(old[None])
    divergence = categorical_kl(old.expand_as(news), news)
    linear, quadratic = fractions * (slope @ step), fractions.square() * curvature / 2
    label = "fraction of the step"
    return [
        Panel(label, "", [Line("true", fractions, gained, 1), Line("model", fractions, linear, 2)], title="gain"),
        Panel(
            label,
            "",
            [Line("true", fractions, divergence, 1), Line("model", fractions, quadratic, 2)],
            title="KL(old‖new)",
            guides=(1.0,),
            level=RADIUS,
        ),
    ]


def natural_step() -> tuple[Tensor, Tensor, Tensor]:
    """The gradient g of the surrogate, the step √(2δ/xᵀFx)·x with Fx = g, and its squared length in the metric of F."""
    old = torch.tensor(LOGITS, dtype=torch.float64)
    model = Embedding(1, len(LOGITS), _weight=old[None].clone())  # one position whose logits are the parameters
    position, mask = torch.zeros(1, dtype=torch.int64), torch.ones(1)
    _, slope = value_and_slope(lambda logits: _surrogate_gain(logits[None]), old)
    direction = conjugate_gradient(lambda v: fisher_vector_product(model, position, mask, v), slope)
    length = direction @ fisher_vector_product(model, position, mask, direction)
    step = (2 * RADIUS / length).sqrt() * direction
    return slope, step, step @ fisher_vector_product(model, position, mask, step)


def _surrogate_gain(logits: Tensor) -> Tensor:
    """The surrogate of each row of logits, its expectation over the old policy taken exactly."""
    old = torch.tensor(LOGITS, dtype=torch.float64).log_softmax(0).expand_as(logits)
    gains = torch.tensor(GAINS, dtype=torch.float64).expand_as(logits)
    return (old.exp() * -trpo_per_token(logits.log_softmax(-1), old, gains)).sum(-1)


FIGURES = (
    Figure(
        "trpo_step",
        trpo_step_model,
        "The models behind a TRPO step",
        "A step along the natural gradient for one position with four tokens, as a fraction of the full step. "
        "TRPO plans with a linear model of the gain and a quadratic model of the KL divergence; the full step "
        "ends where the quadratic model reaches the radius, here 0.3, larger than usual. There the true "
        "divergence already exceeds it, which is why the step is measured, and shortened, before it is taken.",
        ("trpo_per_token", "categorical_kl", "fisher_vector_product", "conjugate_gradient"),
        ("trpo.surrogate.gradient", "trpo.kl.hessian", "trpo.step"),
    ),
)
