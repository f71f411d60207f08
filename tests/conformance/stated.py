"""The error bounds that docstrings state, in units of u · scale, where they are not beside the planted functions."""

import math

import torch

from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.oracle import EXACT

from .bounds import middle
from .table import bound


@bound("aggregate", 8, "8·u·S")
@bound("sft", 8, "that of `aggregate`")
@bound("rejection_sampling", 12, "12·u·S")
def aggregate_scales(case, answer):
    """The same reduction of |x|."""
    return [answer.size()]


@bound("sft_per_token", 0, "none, where the value")
@bound("threshold_weights", 0, "Error: none.")
def exact(case, answer):
    """0: no error at all."""
    return [0] * len(answer.values)


@bound("best_of_n_weights", 1, "1/m is rounded to the nearest")
@bound("reinforce_per_token", 1, "|error| ≤ u·|value|")
@bound("grape_rewards", 16, "16·u·r")
def value_scales(case, answer):
    """|value|."""
    return [abs(middle(target)) for target in answer.values]


def distances(case):
    """|logp − old_logp|."""
    return (case.tensors["logps"].double() - case.tensors["old_logps"].double()).abs()


def unit(case):
    """u of the dtype that the kernel computes in."""
    return torch.finfo(torch.promote_types(case.dtype, torch.float32)).eps / 2


@bound("trpo_per_token", 4, "4·u·(|logp − old_logp| + 1)·|value|")
@bound("ppo_per_token", 4, "4·u·(|logp − old_logp| + 1)·|value|")
@bound("cispo_per_token", 4, "4·u·(|logp − old_logp| + 1)·|value|")
def ratio_scales(case, answer):
    """(|logp − old_logp| + 1)·|value|."""
    spread = (distances(case) + 1).flatten().tolist()
    return [d * abs(middle(target)) for d, target in zip(spread, answer.values, strict=True)]


@bound("value_loss_per_token", 4, "4·u·(value + √(2·value)·s + u·s²) with s = |V_old| + c")
def clipped_value_scales(case, answer):
    """value + √(2·value)·s + u·s² with s = |V_old| + c, or value without a clip."""
    values, clip = value_scales(case, answer), case.options["clip"]
    if clip is None:
        return values
    old_values = case.tensors["old_values"].double().abs().flatten().tolist()
    spreads = [old + clip for old in old_values]
    return [value + (math.sqrt(2 * value) + unit(case) * s) * s for value, s in zip(values, spreads, strict=True)]


@bound("gspo_per_sequence", 4, "4·u·(mean of |logp − old_logp| + 1)·|value|")
def sequence_scales(case, answer):
    """(mean of |logp − old_logp| + 1)·|value|."""
    counted = case.tensors["mask"].double()
    means = (distances(case) * counted).sum(1) / counted.sum(1).clamp(min=1)
    return [(d + 1) * abs(middle(target)) for d, target in zip(means.tolist(), answer.values, strict=True)]


@bound("grpo_per_token", 4, "4·u·((|logp − old_logp| + 1)·|first term| + β·(|d| + 2)·(exp(d) + |d| + 1))")
def grpo_scales(case, answer):
    """The scale of the first term and of a penalty k3, the latter times ρ·(|logp − old_logp| + 1) if weighted."""
    first = ratio_scales(case, CONTRACTS["grpo_per_token"].oracle(case.with_options(kl_coef=0.0), EXACT))
    if case.options["kl_estimator"] != "k3":
        return [math.inf] * len(first)
    logps, old_logps, ref_logps = (case.tensors[n].double() for n in ("logps", "old_logps", "ref_logps"))
    d, spread = (ref_logps - logps), (logps - old_logps)
    second = case.options["kl_coef"] * (d.abs() + 2) * (d.exp() + d.abs() + 1)
    if case.options["kl_ratio"] != "absent":
        second = second * spread.exp() * (spread.abs() + 1)
    return [a + b for a, b in zip(first, second.flatten().tolist(), strict=True)]


@bound("token_logps", 4, "4·u·(|log π(y)| + H + 1)")
def logp_scales(case, answer):
    """|log π(y)| + H + 1."""
    entropies = CONTRACTS["token_entropies"].oracle(case, EXACT).values
    return [abs(middle(x)) + middle(H) + 1 for x, H in zip(answer.values, entropies, strict=True)]


@bound("token_entropies", 4, "4·u·(1 + H + S)")
def entropy_scales(case, answer):
    """1 + H + S with the spread S = Σ_v π_v |log π_v| |log π_v + H|."""
    shape = case.tensors["logits"].shape
    scales = [1 + middle(H) for H in answer.values]
    for v in range(shape[-1]):
        of_v = case.with_tensors(targets=torch.full(shape[:-1], v))
        for i, x in enumerate(CONTRACTS["token_logps"].oracle(of_v, EXACT).values):
            scales[i] += math.exp(middle(x)) * abs(middle(x)) * abs(middle(x) + middle(answer.values[i]))
    return scales


@bound("linear_token_logps", 2, "2·u·(width + 4)·Z + 4·u·(|log π(y)| + H + 1)")
@bound("linear_token_entropies", 2, "2·u·(width + 4)·Z·(1 + S) + 4·u·(1 + H + S)")
def head_scales(case, answer):
    """(width + 4)·Z + 2·(|log π(y)| + H + 1), and for an entropy (width + 4)·Z·(1 + S) + 2·(1 + H + S).

    Z is the largest (Σ_k |W_vk h_k| + |b_v|)/τ of the token.
    """
    hidden, weight, bias, mask = (case.tensors[name].double() for name in ("hidden", "weight", "bias", "mask"))
    temperature = torch.full(mask.shape, case.options.get("temperature", 1.0), dtype=torch.float64)
    temperature = case.tensors.get("temperature", temperature).double().unsqueeze(-1)
    scores, softcap = hidden @ weight.T + bias, case.options["softcap"]
    if softcap is not None:
        scores = torch.where(bias.isinf(), scores, softcap * torch.tanh(scores / softcap))
    logps = (scores / temperature).log_softmax(-1)
    entropies = torch.special.entr(logps.exp()).sum(-1)
    spread = (logps.exp() * (logps * (logps + entropies.unsqueeze(-1))).nan_to_num(0, 0, 0).abs()).sum(-1)
    size = (hidden.abs() @ weight.abs().T + bias.abs()) / temperature
    size = size.masked_fill(bias.isinf(), 0).amax(-1) * (hidden.shape[-1] + 4)
    chosen = logps.gather(-1, case.tensors["targets"].unsqueeze(-1)).squeeze(-1).abs()
    scales = [size + 2 * (chosen + entropies + 1), size * (1 + spread) + 2 * (1 + entropies + spread)]
    asked = scales[: len(answer.values) // mask.numel()]
    return (torch.stack(asked, -1) * mask.unsqueeze(-1)).flatten().tolist()


@bound("kl_estimate", 4, "4·u·((|x| + 1)·|exp(x) − 1| + |x|)")
def estimate_scales(case, answer):
    """(|x| + 1)·|exp(x) − 1| + |x| for k3, |value| for k2 and a quarter of it for k1."""
    estimator = case.options["estimator"]
    values = value_scales(case, answer)
    if estimator != "k3":
        return [value / 4 if estimator == "k1" else value for value in values]
    x = (case.tensors["ref_logps"].double() - case.tensors["logps"].double()).flatten()
    return ((x.abs() + 1) * x.expm1().abs() + x.abs()).tolist()


@bound("categorical_kl", 4, "4·u·Σ_v W_v (|π_v − q_v| + q_v − π_v + π_v d_v + u·π_v W_v)")
def divergence_scales(case, answer):
    """Σ_v W_v (|π_v − q_v| + q_v − π_v + π_v d_v + u·π_v W_v) with W_v = |log π_v| + |log q_v| + 1."""
    logp, logq = (case.tensors[name].double().log_softmax(-1).flatten(0, -2) for name in ("logits", "other_logits"))
    p, q = logp.exp(), logq.exp()
    weights = logp.abs() + logq.abs() + 1
    terms = (p - q).abs() + q - p + p * (logp - logq) + unit(case) * p * weights
    return (weights * terms).sum(-1).tolist()


@bound(
    "group_advantages", 1,
    '|error| ≤ (8 + log₂ G)·u·(|A_i| + 1), with scale "none" |error| ≤ (8 + log₂ G)·u·(|A_i| + s)',
)  # fmt: skip
def advantage_scales(case, answer):
    """8 + log₂ G times |A_i| + 1 with scale "std", |A_i| + s with "none"."""
    values, size = value_scales(case, answer), case.options["group_size"]
    factor = 8 + math.log2(size)
    if case.options["scale"] == "std":
        return [factor * (value + 1) for value in values]
    groups = case.tensors["rewards"].double().reshape(-1, size)
    spreads = groups.std(1, correction=int(size > 1)).repeat_interleave(size).tolist()
    # A third is not exact in a ball either, so the oracle's 0 is not exactly 0.
    return [factor * max(value + s, 2.0**-200) for value, s in zip(values, spreads, strict=True)]


@bound("acceptance_probabilities", 4, "4·u·((|r| + |r_max|)/β + 1)·value")
def acceptance_scales(case, answer):
    """((|r| + |r_max|)/β + 1)·value."""
    sizes = (case.tensors["rewards"].double().abs() + abs(case.options["max_reward"])) / case.options["beta"] + 1
    return [size * middle(target) for size, target in zip(sizes.tolist(), answer.values, strict=True)]


def log_ratios(case):
    """Both log-ratios of every pair, in absolute value."""
    pairs = {name: tensor.double() for name, tensor in case.tensors.items()}
    return [(pairs[f"{side}_logps"] - pairs[f"ref_{side}_logps"]).abs() for side in ("chosen", "rejected")]


@bound("dpo_per_pair", 8, "8·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1)")
def dpo_scales(case, answer):
    """β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1."""
    chosen, rejected = log_ratios(case)
    return (case.options["beta"] * (chosen + rejected) + 1).tolist()


@bound("robust_dpo_per_pair", 8, "8·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1) / (1−2ε)")
def robust_scales(case, answer):
    """(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1) / (1−2ε)."""
    return [scale / (1 - 2 * case.options["flip_probability"]) for scale in dpo_scales(case, answer)]


@bound("ipo_per_pair", 8, "8·u·(|l_w − l_w^ref|/n_w + |l_l − l_l^ref|/n_l + 1/(2β))²")
def ipo_scales(case, answer):
    """(|l_w − l_w^ref|/n_w + |l_l − l_l^ref|/n_l + 1/(2β))²."""
    chosen, rejected = log_ratios(case)
    if case.options["log_ratio"] == "mean":
        chosen, rejected = chosen / case.tensors["chosen_lengths"], rejected / case.tensors["rejected_lengths"]
    return ((chosen + rejected + 1 / (2 * case.options["beta"])) ** 2).tolist()
