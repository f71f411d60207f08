"""The figures of the site. Each is a function that computes its curves with the public functions of this package.

What a page shows is thus what the code does: slopes are taken by autograd, weights by one-hot probes.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from itertools import product
from typing import NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import Embedding

from grape_verified import (
    aggregate,
    best_of_n_weights,
    categorical_kl,
    conjugate_gradient,
    dapo_loss,
    dpo_per_pair,
    dr_grpo_loss,
    fisher_vector_product,
    gae,
    grape_rewards,
    group_advantages,
    grpo_loss,
    ipo_per_pair,
    kl_estimate,
    linear_token_logps,
    ppo_per_token,
    token_logps,
    trpo_per_token,
)
from grape_verified.arguments import Aggregation, Estimator
from grape_verified.docs.drawing import Line, Panel, draw


class Figure(NamedTuple):
    """A figure: what computes its panels, its title, its caption, and the functions that the curves came from."""

    name: str
    panels: Callable[[], Sequence[Panel]]
    title: str
    caption: str
    computed_with: tuple[str, ...]

    def draw(self) -> str:
        """The SVG, to be put into a page as it is."""
        return draw(self.panels(), name=self.name, title=self.title, description=self.caption)


def snippet(name: str) -> str:
    """The figure with its caption, as a block of Markdown that is HTML."""
    if name not in FIGURES:
        raise KeyError(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
    figure = FIGURES[name]
    functions = ", ".join(f"<code>{function}</code>" for function in figure.computed_with)
    caption = f"{escape(figure.caption)} Computed with {functions}."
    return (
        f'<figure id="figure-{name}" class="figure" markdown="0">\n{figure.draw()}\n'
        f"<figcaption>{caption}</figcaption>\n</figure>\n"
    )


def value_and_slope(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """An elementwise function of the points, and its slope there by autograd."""
    points = at.detach().clone().requires_grad_()
    values = function(points)
    (slopes,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), slopes


def _grid(start: float, end: float, points: int = 301) -> Tensor:
    return torch.linspace(start, end, points, dtype=torch.float64)


def ppo_clip() -> list[Panel]:
    """The clipped surrogate against the ratio, and its slope in the log-probability."""
    ratios = _grid(0.01, 2, 399)
    panels = []
    for sign, title in ((1.0, "advantage +1"), (-1.0, "advantage −1")):
        values, slopes = _surrogate(ratios, sign, None)
        lines = [Line("surrogate", ratios, values, 1), Line("its slope in log π", ratios, slopes, 2)]
        ticks = {0.0: "0", 0.8: "0.8", 1.2: "1.2", 2.0: "2"}
        panels.append(Panel("ratio ρ", "", lines, title=title, x_ticks=ticks))
    return panels


def dual_clip() -> list[Panel]:
    """The surrogate of a token with advantage −1, without and with a second clip."""
    ratios = _grid(0.01, 5, 501)
    pairs = {"clip": _surrogate(ratios, -1.0, None), "dual clip at 3": _surrogate(ratios, -1.0, 3.0)}
    return [
        Panel("ratio ρ", "", [Line(k, ratios, v[place], n) for n, (k, v) in enumerate(pairs.items(), 1)], title=title)
        for place, title in enumerate(("surrogate, advantage −1", "slope in log π"))
    ]


def _surrogate(ratios: Tensor, advantage: float, dual: float | None) -> tuple[Tensor, Tensor]:
    """The clipped surrogate at each ratio and its slope in the log-probability."""
    old = torch.zeros_like(ratios)[None]
    advantages = torch.full_like(old, advantage)
    return value_and_slope(lambda logps: -ppo_per_token(logps[None], old, advantages, dual_clip=dual)[0], ratios.log())


def kl_estimators() -> list[Panel]:
    """k1, k2 and k3 against the log-ratio, and their slopes."""
    log_ratios = _grid(-2, 3)
    values, slopes = [], []
    for number, name in enumerate(get_args(Estimator), 1):
        value, slope = value_and_slope(partial(_estimate, name), log_ratios)
        values.append(Line(name, log_ratios, value, number))
        slopes.append(Line(name, log_ratios, slope, number))
    label = "log π − log ref"
    return [Panel(label, "", values, title="estimate"), Panel(label, "", slopes, title="its slope in log π")]


def _estimate(name: Estimator, log_ratios: Tensor) -> Tensor:
    return kl_estimate(log_ratios[None], torch.zeros_like(log_ratios)[None], name)[0]


def kl_directions() -> list[Panel]:
    """A target of two humps, and of all single humps the nearest in either direction."""
    tokens = _grid(0, 40, 41)

    def hump(centre: Tensor | float, width: Tensor | float) -> Tensor:
        return -((tokens - centre) / width).square() / 2

    target = (0.6 * hump(11, 3).exp() + 0.4 * hump(29, 3).exp()).log()
    shapes = torch.cartesian_prod(_grid(0, 40, 81), _grid(2, 14, 49))
    candidates = hump(shapes[:, :1], shapes[:, 1:])
    targets = target.expand_as(candidates)
    reverse = candidates[categorical_kl(candidates, targets).argmin()]
    forward = candidates[categorical_kl(targets, candidates).argmin()]
    named = {"target": target, "nearest in KL(π‖target)": reverse, "nearest in KL(target‖π)": forward}
    lines = [Line(label, tokens, logits.softmax(0), number) for number, (label, logits) in enumerate(named.items(), 1)]
    return [Panel("token", "probability", lines)]


#: Tokens of the short and of the long response, and the length that `fixed_length` divides by.
SHORT, LONG, FIXED = 2, 8, 10


def aggregation_weights() -> list[Panel]:
    """The slope of the aggregate in one token of a short and of a long response, for every mode."""
    mask = torch.arange(LONG) < torch.tensor([[SHORT], [LONG]])
    modes = get_args(Aggregation)
    places = torch.arange(len(modes)).flip(0)
    weights = torch.stack([_token_weights(mask, mode) for mode in modes])
    lines = [
        Line(f"token of {length}", weights[:, row], places + 0.12 * (1 - 2 * row), row + 1, "points")
        for row, length in enumerate((SHORT, LONG))
    ]
    ticks = dict(zip(places.tolist(), modes, strict=True))
    return [Panel("weight of the token", "", lines, y_ticks=ticks, logarithmic="x", y_limits=(-0.5, len(modes) - 0.5))]


def _token_weights(mask: Tensor, mode: Aggregation) -> Tensor:
    """What the aggregate gains when the first token of each response does."""
    length = FIXED if mode == "fixed_length" else None
    per_token = torch.zeros(mask.shape, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(aggregate(per_token, mask, mode, max_length=length), per_token)
    return slopes[:, 0]


#: Responses to one prompt, each right (reward 1) or wrong (0).
GROUP = 8


def group_advantages_by_share() -> list[Panel]:
    """The advantage of a right and of a wrong answer, by the share of right ones in the group."""
    rewards = torch.tril(torch.ones(GROUP + 1, GROUP, dtype=torch.float64), -1)
    share = rewards.mean(1)
    named = {
        "mean, std": group_advantages(rewards.flatten(), GROUP, eps=0.0),
        "mean, unscaled": group_advantages(rewards.flatten(), GROUP, scale="none"),
        "leave one out, unscaled": group_advantages(rewards.flatten(), GROUP, baseline="leave_one_out", scale="none"),
    }
    right, wrong = [], []
    for number, (label, advantages) in enumerate(named.items(), 1):
        by_group = advantages.view_as(rewards)
        right.append(Line(label, share[1:], by_group[1:, 0], number, "both"))
        wrong.append(Line(label, share[:-1], by_group[:-1, -1], number, "both"))
    label = "share of right answers"
    return [Panel(label, "", right, title="a right answer gets"), Panel(label, "", wrong, title="a wrong answer gets")]


def gae_weights() -> list[Panel]:
    """What the residual of a later token weighs in the advantage of the first one, by λ."""
    tokens = 40
    residuals = torch.eye(tokens, dtype=torch.float64)  # without values the residuals are the rewards
    lines = []
    for number, lam in enumerate((0.0, 0.8, 0.95, 1.0), 1):
        advantages, _ = gae(residuals, torch.zeros_like(residuals), torch.ones(tokens, tokens), lam=lam)
        lines.append(Line(f"λ = {lam:g}", torch.arange(tokens), advantages[:, 0], number))
    return [Panel("tokens later", "weight of the residual", lines)]


def dpo_slope() -> list[Panel]:
    """DPO's loss and IPO's against the difference of the log-ratios, and their slopes."""
    differences = _grid(-5, 7)
    zeros = torch.zeros_like(differences)
    named: dict[str, Callable[[Tensor], Tensor]] = {
        "DPO, β = 1": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=1.0),
        "DPO, β = 0.5": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=0.5),
        "DPO, β = 1, smoothing 0.2": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=1.0, label_smoothing=0.2),
        "IPO, β = 0.25": lambda x: ipo_per_pair(x, zeros, zeros, zeros, beta=0.25),
    }
    values, slopes = [], []
    for number, (label, loss) in enumerate(named.items(), 1):
        value, slope = value_and_slope(loss, differences)
        values.append(Line(label, differences, value, number))
        slopes.append(Line(label, differences, slope, number))
    label = "log-ratio: chosen − rejected"
    return [
        Panel(label, "", values, title="loss", y_limits=(-0.1, 5)),
        Panel(label, "", slopes, title="slope", y_limits=(-1.6, 0.8)),
    ]


#: Importance of three items, and the critic's confidence in the first and the third; that in the second varies.
IMPORTANCE, SURE, DOUBTFUL = (1.0, 1.0, 2.0), 1.0, 0.25


def grape_weights() -> list[Panel]:
    """What each of three items weighs in a reward, by the confidence in the second."""
    varied = _grid(0, 1, 101)
    scores = torch.eye(3, dtype=torch.float64).expand(len(varied), 3, 3)  # response i meets item i and no other
    trust = torch.stack([torch.full_like(varied, SURE), varied, torch.full_like(varied, DOUBTFUL)], dim=1)
    labels = ("w = 1, c = 1", "w = 1, c varies", "w = 2, c = ¼")
    panels = []
    for title, normalisation in (("normalised", "mean"), ("sum", "sum")):
        importance = torch.tensor(IMPORTANCE, dtype=torch.float64)
        confidences = trust[:, None, :].expand_as(scores)
        rewards = grape_rewards(scores, confidences, importance, normalisation=normalisation)  # type: ignore[arg-type]
        lines = [Line(label, varied, rewards[:, item], item + 1) for item, label in enumerate(labels)]
        panels.append(Panel("confidence c in one item", "", lines, title=f"weight, {title}", y_limits=(-0.05, 1.1)))
    return panels


#: How probable each of four answers is, the worst first.
ANSWERS = (0.4, 0.3, 0.2, 0.1)


def best_of_n() -> list[Panel]:
    """How the best of n samples is distributed, and how far that is from the policy."""
    samples = torch.arange(1, 9, dtype=torch.float64)
    laws = torch.stack([best_of_n_law(int(n)) for n in samples])
    policy = laws[0].log().expand_as(laws)
    places = torch.arange(len(ANSWERS))
    left = [Line(f"n = {n}", places, laws[n - 1], number, "both") for number, n in enumerate((1, 2, 4, 8), 1)]
    divergence = categorical_kl(laws.log(), policy)
    bound = samples.log() - (samples - 1) / samples
    right = [Line("KL", samples, divergence, 1, "both"), Line("bound", samples, bound, 2)]
    ticks = {0.0: "worst", 1.0: "", 2.0: "", 3.0: "best"}
    return [
        Panel("answer", "", left, title="probability", x_ticks=ticks),
        Panel("samples n", "", right, title="KL, and its bound (- -)", in_legend=False),
    ]


def best_of_n_law(n: int) -> Tensor:
    """The probability of each answer to be the best of n, over all groups of n that there are."""
    probabilities = torch.tensor(ANSWERS, dtype=torch.float64)
    groups = torch.tensor(list(product(range(len(ANSWERS)), repeat=n)))
    weights = best_of_n_weights(groups.double().flatten(), n).view_as(groups)
    shares = weights * probabilities[groups].prod(1, keepdim=True)
    return torch.zeros_like(probabilities).scatter_add(0, groups.flatten(), shares.flatten())


#: Tokens beside the confident one, all with logit 0.
OTHERS = 99


def confident_token() -> list[Panel]:
    """Minus the log-probability of a token whose logit leads by a gap: exact, by subtraction in fp32, and ours."""
    gaps = torch.linspace(4, 40, 73)
    logits = torch.cat([gaps[:, None], torch.zeros(len(gaps), OTHERS)], dim=1)
    exact = (OTHERS * (-gaps.double()).exp()).log1p()
    subtracted = logits.logsumexp(1) - gaps
    ours = -token_logps(logits, torch.zeros(len(gaps), dtype=torch.int64))
    lines = [
        Line("exact", gaps, exact, 1),
        Line("token_logps, fp32", gaps, ours.masked_fill(ours <= 0, math.nan), 2),
        Line("logsumexp − logit, fp32", gaps, subtracted.masked_fill(subtracted <= 0, math.nan), 3, "points"),
    ]
    return [Panel("lead of the logit", "−log π", lines, logarithmic="y")]


def logit_rounding() -> list[Panel]:
    """The error of log π from bf16 operands, where the logits are rounded to bf16 and where they stay in fp32."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(128, 64, generator=generator)
    weight = (torch.randn(512, 64, generator=generator) / 8).bfloat16()
    targets = torch.randint(512, (128,), generator=generator)
    scales = torch.tensor([2.0**k for k in range(-1, 6)])
    errors = torch.stack([_rounding_errors((scale * hidden).bfloat16(), weight, targets) for scale in scales])
    lines = [
        Line("logits in bf16", scales, errors[:, 0], 1, "both"),
        Line("tile in fp32", scales, errors[:, 1], 2, "both"),
    ]
    ticks = {float(scale): f"{float(scale):g}" for scale in scales}
    return [Panel("spread of the logits", "error of log π", lines, logarithmic="xy", x_ticks=ticks)]


def _rounding_errors(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Root mean square errors of log π, with logits in bf16 and with a tile in fp32."""
    exact = token_logps(hidden.double() @ weight.double().T, targets)
    rounded = token_logps(hidden @ weight.T, targets)
    tiled = linear_token_logps(hidden, weight, targets)
    assert isinstance(tiled, Tensor)
    return torch.stack([(logps - exact).square().mean().sqrt() for logps in (rounded, tiled)])


#: The lengths of the responses of one batch; the longest is the fixed length of Dr. GRPO.
LENGTHS = tuple(range(8, 129, 8))


def grpo_length() -> list[Panel]:
    """The slope of the loss in one token, by the length of its response; on policy, advantage 1."""
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(max(LENGTHS)) < lengths[:, None]
    old, advantages = torch.zeros(mask.shape, dtype=torch.float64), torch.ones(len(LENGTHS), dtype=torch.float64)
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "GRPO": lambda logps: grpo_loss(logps, old, advantages, mask).loss,
        "DAPO": lambda logps: dapo_loss(logps, old, advantages, mask).loss,
        "Dr. GRPO": lambda logps: dr_grpo_loss(logps, old, advantages, mask, max_length=max(LENGTHS)).loss,
    }
    lines = []
    for number, (label, loss) in enumerate(losses.items(), 1):
        _, slopes = value_and_slope(loss, old)
        lines.append(Line(label, lengths, slopes[:, 0].abs() * 1000, number, "both"))
    return [Panel("tokens of the response", "weight of a token, 10⁻³", lines, y_limits=(0, 8.4))]


#: The logits of one position, the advantages of its tokens, and the radius δ of the trust region.
LOGITS, GAINS, RADIUS = (1.0, 0.5, -1.0, -2.0), (0.0, -0.5, 0.5, 1.0), 0.3


def trpo_step_model() -> list[Panel]:
    """What a step along the natural gradient gains and how far it goes, beside the models that TRPO plans with."""
    fractions = _grid(0, 2, 101)
    old = torch.tensor(LOGITS, dtype=torch.float64)
    slope, step, curvature = natural_step()
    news = old + fractions[:, None] * step
    gained = _surrogate_gain(news) - _surrogate_gain(old[None])
    divergence = categorical_kl(old.expand_as(news), news)
    linear, quadratic = fractions * (slope @ step), fractions.square() * curvature / 2
    label = "share of the step"
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


FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure(
            "ppo_clip",
            ppo_clip,
            "The clipped surrogate of PPO",
            "The surrogate of one token against the ratio ρ, with clip edges at 0.8 and 1.2. For a positive advantage "
            "it rises until 1.2 and is level beyond; for a negative one it is level below 0.8 and falls beyond. The "
            "slope in log π is the advantage times ρ where the surrogate is not level, and 0 where it is. On the other "
            "side nothing is clipped: a token that has moved the wrong way keeps its full slope.",
            ("ppo_per_token",),
        ),
        Figure(
            "dual_clip",
            dual_clip,
            "Dual clip for a negative advantage",
            "A token with advantage −1 whose ratio has grown. With the clip alone the surrogate falls without end, and "
            "its slope with it; with a dual clip at 3 both stop: beyond ρ = 3 the surrogate is level and the slope 0.",
            ("ppo_per_token",),
        ),
        Figure(
            "kl_estimators",
            kl_estimators,
            "Three estimators of the KL divergence and their slopes",
            "What one token contributes, by how much likelier the policy makes it than the reference. k1 takes both "
            "signs, k2 and k3 are never negative and agree near 0. The slopes differ more: that of k1 is 1 "
            "everywhere, that of k2 grows in proportion to the log-ratio, that of k3 stays below 1 on the right and "
            "is steep on the left.",
            ("kl_estimate",),
        ),
        Figure(
            "kl_directions",
            kl_directions,
            "The two directions of the KL divergence",
            "A target with two humps, and the single hump that is nearest to it. Measured as KL(π‖target), the nearest "
            "sits on the larger hump and leaves the other out; measured as KL(target‖π), it spreads over both, and "
            "over the gap between them.",
            ("categorical_kl",),
        ),
        Figure(
            "aggregation_weights",
            aggregation_weights,
            "What a token weighs in the loss",
            f"A batch of two responses, of {SHORT} and of {LONG} tokens; fixed_length divides by {FIXED}. The weight "
            "of a token depends on the length of its response in sequence_mean alone. In the other modes both weigh "
            "the same, and the modes differ by one factor for the batch, which acts like a learning rate.",
            ("aggregate",),
        ),
        Figure(
            "group_advantages",
            group_advantages_by_share,
            "Advantages in a group by the share of right answers",
            f"A group of {GROUP} answers with reward 1 or 0. The rarer an answer of its kind, the further its "
            "advantage is from 0. Divided by the standard deviation, a lone right answer gets more than twice what it "
            "gets unscaled. Leaving an answer out of its own baseline stretches everything by 8/7. Where all answers "
            "are equal, every advantage is 0.",
            ("group_advantages",),
        ),
        Figure(
            "gae_weights",
            gae_weights,
            "Weights of later residuals by λ",
            "What the residual of a later token weighs in the advantage of a token, without discount. With λ = 0 only "
            "its own counts, with λ = 1 all that follow count alike; between the two the weights fall by a factor λ "
            "with each token: at λ = 0.95 half is left after 14 tokens, at λ = 0.8 after 3.",
            ("gae",),
        ),
        Figure(
            "dpo_slope",
            dpo_slope,
            "The losses of DPO and IPO and their slopes",
            "Loss of a pair by how much more the policy has moved towards the chosen answer than towards the "
            "rejected one. The slope of DPO lies between −β and 0 and vanishes as the pair is ranked right; with "
            "label smoothing it changes sign, so that the loss has a least point. IPO is a parabola about 1/(2β), here "
            "2, and its slope is a straight line without bound: both run out of the picture.",
            ("dpo_per_pair", "ipo_per_pair"),
        ),
        Figure(
            "grape_weights",
            grape_weights,
            "What an item weighs in a GRAPE reward",
            "Three items with importance w and average confidence c: one that the critic is sure of, one whose "
            "confidence is on the axis, and one that is twice as important but trusted a quarter. Normalised, the "
            "weights sum to 1: what one item gains the others lose. As a sum, each item weighs its importance times "
            "its confidence, whatever the others do. At confidence 0 an item counts for nothing.",
            ("grape_rewards",),
        ),
        Figure(
            "best_of_n",
            best_of_n,
            "How best of n moves probability",
            "Four answers, of which the best is the rarest, with probability 0.1. Taking the best of n samples moves "
            "probability from the worst to the best; its divergence from the policy grows with n and is never "
            "more than log n − (n − 1)/n.",
            ("best_of_n_weights", "categorical_kl"),
        ),
        Figure(
            "confident_token",
            confident_token,
            "The log-probability of a confident token",
            f"One token leads {OTHERS} others. As its probability nears 1, its logit and logsumexp differ by a few "
            "units in the last place: their difference comes in steps and is then 0, with no point left to draw. Taken "
            "from the odds against the token, the log-probability follows the exact one all the way.",
            ("token_logps",),
        ),
        Figure(
            "logit_rounding",
            logit_rounding,
            "What rounding the logits costs",
            "Hidden states and weights in bf16. Where their products are rounded to bf16 before the softmax, the error "
            "of log π grows with the spread of the logits, to a tenth and more; where a tile is kept in fp32 it is "
            "more than a thousand times smaller. Root mean square over 128 tokens, with a vocabulary of 512.",
            ("token_logps", "linear_token_logps"),
        ),
        Figure(
            "grpo_length",
            grpo_length,
            "What a token weighs by the length of its response",
            f"One batch of {len(LENGTHS)} responses of {min(LENGTHS)} to {max(LENGTHS)} tokens, all with the same "
            "advantage, on policy. In GRPO a token of a short response weighs more than one of a long response; in "
            "DAPO and in Dr. GRPO all weigh the same: one over the tokens of the batch, or over the number of "
            f"responses times a fixed length, here {max(LENGTHS)}.",
            ("grpo_loss", "dapo_loss", "dr_grpo_loss"),
        ),
        Figure(
            "trpo_step",
            trpo_step_model,
            "The models behind a step of TRPO",
            "A step along the natural gradient of one position with four tokens, as a share of the full step. TRPO "
            "plans with a linear model of the gain and a quadratic one of the divergence; the full step is where the "
            "quadratic model meets the radius, here 0.3 and larger than usual. There the true divergence is already "
            "beyond it, which is why the step is measured, and shortened, before it is taken.",
            ("trpo_per_token", "categorical_kl", "fisher_vector_product", "conjugate_gradient"),
        ),
    )
}
