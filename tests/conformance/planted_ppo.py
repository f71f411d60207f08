"""Functions to check against the contracts around PPO: correct ones in another style, and wrong ones."""

import torch

from .table import KINKED, TERMS, correct, wrong

# -- generalised advantage estimation ---------------------------------------------------------------------------------


@correct("gae")
def summed_gae(rewards, values, mask, *, discount=1.0, lam=0.95):
    """Correct, in another style: one row at a time, the counted tokens taken out, a triangle of powers of γλ."""
    dtype = torch.promote_types(rewards.dtype, torch.float32)
    advantages, returns = (torch.zeros(rewards.shape, dtype=dtype) for _ in range(2))
    for row, keep in enumerate(mask.bool()):
        r, v = rewards[row, keep].to(dtype), values[row, keep].to(dtype)
        deltas = r + discount * torch.cat([v[1:], v.new_zeros(min(len(v), 1))]) - v
        ahead = torch.arange(len(v)) - torch.arange(len(v))[:, None]
        weights = torch.where(ahead >= 0, torch.tensor(discount * lam, dtype=dtype) ** ahead.clamp(min=0), 0)
        advantages[row, keep] = (weights.to(dtype) * deltas).sum(1)
        returns[row, keep] = advantages[row, keep] + v
    return advantages, returns


def _gae(step, last=lambda advantage, value: (advantage, advantage + value)):
    """A backward loop over positions, all rows at once.

    ``step(r, v, m, next_value, next_advantage, γ, λ)`` gives the advantage of a position, and the value and advantage
    that it hands on.
    """

    def gae(rewards, values, mask, *, discount=1.0, lam=0.95):
        dtype = torch.promote_types(rewards.dtype, torch.float32)
        keep = mask.bool()
        r, v = (torch.where(keep, x.to(dtype), 0) for x in (rewards, values))
        next_value = next_advantage = r.new_zeros(len(r))
        columns = []
        for t in reversed(range(r.shape[1])):
            advantage, next_value, next_advantage = step(
                r[:, t], v[:, t], keep[:, t], next_value, next_advantage, discount, lam
            )
            columns.insert(0, torch.stack(last(advantage, v[:, t])) * keep[:, t])
        return tuple(torch.stack(columns, -1))

    return gae


def _bridged(r, v, m, next_value, next_advantage, discount, lam):
    advantage = r + discount * next_value - v + discount * lam * next_advantage
    return advantage, torch.where(m, v, next_value), torch.where(m, advantage, next_advantage)


def _bootstraps_from_masked(r, v, m, next_value, next_advantage, discount, lam):
    advantage, _, handed_on = _bridged(r, v, m, next_value, next_advantage, discount, lam)
    return advantage, v, handed_on


def _ends_at_a_hole(r, v, m, next_value, next_advantage, discount, lam):
    advantage, value, _ = _bridged(r, v, m, next_value, next_advantage, discount, lam)
    return advantage, value, advantage * m


def _decays_in_a_hole(r, v, m, next_value, next_advantage, discount, lam):
    advantage, value, handed_on = _bridged(r, v, m, next_value, next_advantage, discount, lam)
    return advantage, value, torch.where(m, handed_on, discount * lam * handed_on)


correct_gae = correct("gae")(_gae(_bridged))
bootstraps_from_masked = wrong("gae", must=("value", "padding"), may=("options",))(_gae(_bootstraps_from_masked))
ends_at_a_hole = wrong("gae", must=("value", "padding"), may=("options",))(_gae(_ends_at_a_hole))
decays_in_a_hole = wrong("gae", must=("value", "padding"), may=("options",))(_gae(_decays_in_a_hole))
discount_forgotten = wrong("gae", must=("options",))(
    _gae(lambda r, v, m, after, ahead, discount, lam: _bridged(r, v, m, after, ahead, 1.0, lam))
)
lam_forgotten = wrong("gae", must=("options",))(
    _gae(lambda r, v, m, after, ahead, discount, lam: _bridged(r, v, m, after, ahead, discount, 0.95))
)
sign_of_the_value = wrong("gae", must=("value",), may=("options", "padding"))(
    _gae(lambda r, v, m, after, ahead, discount, lam: _bridged(r, -v, m, -after, ahead, discount, lam))
)
returns_without_value = wrong("gae", must=("value",), may=("options",))(
    _gae(_bridged, last=lambda advantage, value: (advantage, advantage))
)


@wrong("gae", must=("value", "masked values", "padding"), may=("options", "empty batch"))
def masked_by_product(rewards, values, mask, *, discount=1.0, lam=0.95):
    """Multiplies by the mask, so that masked NaN stays NaN."""
    return correct_gae(rewards * mask, values * mask, torch.ones_like(mask), discount=discount, lam=lam)


# -- whitening --------------------------------------------------------------------------------------------------------


@correct("whiten")
def whiten_listed(values, mask, *, shift_mean=True, ddof=1, eps=1e-8):
    """Correct, in another style: the counted values taken out, torch's own variance."""
    keep = mask.bool()
    x = values[keep].to(torch.promote_types(values.dtype, torch.float32))
    result = x.new_zeros(values.shape)
    if not len(x):
        return result
    variance = x.var(correction=ddof) if len(x) > ddof else x.new_zeros(())
    result[keep] = (x - x.mean()) / (variance + eps).sqrt() + (0 if shift_mean else x.mean())
    return result


def _whiten(mean, divisor):
    """Whitening from a mean (values, mask) and what deviations are divided by (squares, mask, ddof, ε)."""

    def whiten(values, mask, *, shift_mean=True, ddof=1, eps=1e-8):
        keep = mask.bool()
        x = torch.where(keep, values.to(torch.promote_types(values.dtype, torch.float32)), 0)
        centre = mean(x, keep)
        deviations = torch.where(keep, x - centre, 0)
        result = deviations / divisor(deviations.square().sum(), keep.sum(), ddof, eps)
        return result if shift_mean else torch.where(keep, result + centre, 0)

    return whiten


def _mean(x, keep):
    return x.sum() / keep.sum().clamp(min=1)


def _root(squares, count, ddof, eps):
    return (squares / (count - ddof).clamp(min=1) + eps).sqrt()


correct_whiten = correct("whiten")(_whiten(_mean, _root))
mean_over_all = wrong("whiten", must=("value", "padding"), may=("options",))(_whiten(lambda x, keep: x.mean(), _root))
mean_of_rows = wrong("whiten", must=("value",), may=("options",))(
    _whiten(lambda x, keep: (x.sum(1) / keep.sum(1).clamp(min=1)).mean(), _root)
)
other_ddof = wrong("whiten", must=("value",), may=("options",))(
    _whiten(_mean, lambda squares, count, ddof, eps: _root(squares, count, 1 - ddof, eps))
)
variance_for_root = wrong("whiten", must=("value",), may=("options",))(
    _whiten(_mean, lambda squares, count, ddof, eps: _root(squares, count, ddof, eps) ** 2)
)
eps_after_the_root = wrong("whiten", must=("options",), may=("value", "empty batch"))(
    _whiten(_mean, lambda squares, count, ddof, eps: _root(squares, count, ddof, 0) + eps)
)


@wrong("whiten", must=("options",))
def mean_never_kept(values, mask, *, shift_mean=True, ddof=1, eps=1e-8):
    """Ignores shift_mean."""
    return correct_whiten(values, mask, ddof=ddof, eps=eps)


@wrong("whiten", must=("options",))
def mean_behind_the_mask(values, mask, *, shift_mean=True, ddof=1, eps=1e-8):
    """Adds the mean back to masked positions, too."""
    result = correct_whiten(values, mask, ddof=ddof, eps=eps)
    clean = torch.where(mask.bool(), values.to(result.dtype), 0)
    return result if shift_mean else result + _mean(clean, mask.bool())


# -- the value loss ---------------------------------------------------------------------------------------------------


@correct("value")
def branching_value(values, returns, mask, *, old_values=None, clip=None, denominator=None):
    """Correct, in another style: one token at a time, with cases."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    total = 0 * torch.where(mask.bool(), values, 0).to(dtype).sum()
    for i, t in mask.bool().nonzero().tolist():
        error = values[i, t].to(dtype) - returns[i, t].to(dtype)
        if clip is not None:
            old = old_values[i, t].to(dtype)
            edge = old + clip if values[i, t] > old else old - clip
            beyond = (values[i, t].to(dtype) - old).abs() > clip
            if beyond and (edge - returns[i, t]).abs() > error.abs():
                error = (edge - returns[i, t]).to(dtype)
        total = total + error**2 / 2
    return total / (denominator or max(1, int(mask.sum())))


def _value(loss, clipped=lambda values, returns, old, clip: values.clamp(old - clip, old + clip)):
    """A value loss, the token mean, from two errors: that of the value and that of the clipped one."""

    def value(values, returns, mask, *, old_values=None, clip=None, denominator=None):
        dtype, keep = torch.promote_types(values.dtype, torch.float32), mask.bool()
        values, returns = (torch.where(keep, x.to(dtype), 0) for x in (values, returns))
        near = values
        if clip is not None:
            near = clipped(values, returns, torch.where(keep, old_values.to(dtype), 0), clip)
        terms = torch.where(keep, loss(values - returns, near - returns), 0)
        return terms.sum() / (denominator or keep.sum().clamp(min=1))

    return value


def _larger(error, clipped_error):
    return torch.where(clipped_error.abs() > error.abs(), clipped_error, error).square() / 2


correct_value = correct("value")(_value(_larger))
smaller_square = wrong("value", must=("options",), may=("kinks", "extremes"))(
    _value(lambda a, b: torch.where(b.abs() < a.abs(), b, a).square() / 2)
)
without_half = wrong("value", must=("value", "gradient"), may=KINKED)(_value(lambda a, b: 2 * _larger(a, b)))
clipped_alone = wrong("value", must=("options",), may=("kinks", "extremes"))(_value(lambda a, b: b.square() / 2))
absolute_error = wrong("value", must=("value", "gradient"), may=KINKED)(
    _value(lambda a, b: torch.maximum(a.abs(), b.abs()))
)
clip_around_the_return = wrong("value", must=("options",), may=("kinks", "extremes"))(
    _value(_larger, lambda values, returns, old, clip: values.clamp(returns - clip, returns + clip))
)
clip_ignored = wrong("value", must=("options",), may=("kinks", "extremes"))(
    _value(_larger, lambda values, returns, old, clip: values)
)


@wrong("value", must=("gradient",), may=("options", "kinks", "extremes"))
def returns_differentiated_instead(values, returns, mask, *, old_values=None, clip=None, denominator=None):
    """Detaches the values."""
    detached = values.detach() + 0 * torch.where(mask.bool(), values, 0)
    return correct_value(detached, returns, mask, old_values=old_values, clip=clip, denominator=denominator)


def _value_terms(loss):
    """A value loss of each token."""

    def value_loss_per_token(values, returns, *, old_values=None, clip=None):
        dtype = torch.promote_types(values.dtype, torch.float32)
        values, returns = values.to(dtype), returns.to(dtype)
        near = values if clip is None else values.clamp(old_values.to(dtype) - clip, old_values.to(dtype) + clip)
        return loss(values - returns, near - returns)

    return value_loss_per_token


maximum_of_squares = correct("value_loss_per_token")(_value_terms(_larger))
smaller_square_of_each = wrong("value_loss_per_token", must=("options",), may=("kinks", "extremes"))(
    _value_terms(lambda a, b: torch.where(b.abs() < a.abs(), b, a).square() / 2)
)
terms_without_half = wrong("value_loss_per_token", must=("value", "gradient"), may=(*TERMS, "kinks"))(
    _value_terms(lambda a, b: 2 * _larger(a, b))
)
slope_of_the_clipped = wrong("value_loss_per_token", must=("options",), may=("kinks", "extremes"))(
    _value_terms(lambda a, b: _larger(a, b) + (_larger(a, b) > a.square() / 2) * (a - a.detach()) * b)
)


# -- the penalty in the reward ----------------------------------------------------------------------------------------


@correct("kl_shaped_rewards")
def looping_kl_shaped_rewards(rewards, logps, ref_logps, mask, *, kl_coef, estimator="k1"):
    """Correct, in another style: one token at a time."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    result = torch.zeros(logps.shape, dtype=dtype)
    for i, row in enumerate(mask.bool()):
        places = row.nonzero().flatten().tolist()
        for t in places:
            d = logps[i, t].to(dtype) - ref_logps[i, t].to(dtype)
            result[i, t] = -kl_coef * {"k1": d, "k2": d * d / 2, "k3": torch.expm1(-d) + d}[estimator]
        if places:
            result[i, places[-1]] += rewards[i]
    return result


def _kl_shaped_rewards(sign=-1, place=lambda keep: keep & (keep.flip(1).cumsum(1).flip(1) == 1), masked=True):
    """Rewards of tokens, with that of the response at ``place``."""

    def kl_shaped_rewards(rewards, logps, ref_logps, mask, *, kl_coef, estimator="k1"):
        keep = mask.bool()
        dtype = torch.promote_types(logps.dtype, torch.float32)
        d = logps.to(dtype) - ref_logps.to(dtype)
        penalty = {"k1": d, "k2": d * d / 2, "k3": torch.expm1(-d) + d}[estimator]
        penalty = torch.where(keep, penalty, 0) if masked else penalty
        return sign * kl_coef * penalty + torch.where(place(keep), rewards[:, None].to(dtype), 0)

    return kl_shaped_rewards


correct_kl_shaped_rewards = correct("kl_shaped_rewards")(_kl_shaped_rewards())
bonus_for_divergence = wrong("kl_shaped_rewards", must=("value",), may=("options",))(_kl_shaped_rewards(sign=1))
penalises_masked_tokens = wrong("kl_shaped_rewards", must=("value", "masked values", "empty batch"), may=("options",))(
    _kl_shaped_rewards(masked=False)
)
reward_at_every_token = wrong("kl_shaped_rewards", must=("value",), may=("options",))(
    _kl_shaped_rewards(place=lambda keep: keep)
)
reward_in_the_last_column = wrong(
    "kl_shaped_rewards", must=("value", "padding", "empty batch"), may=("options", "masked values")
)(_kl_shaped_rewards(place=lambda keep: torch.arange(keep.shape[1]) == keep.shape[1] - 1))
reward_at_the_length = wrong("kl_shaped_rewards", must=("value", "padding"), may=("options",))(
    _kl_shaped_rewards(place=lambda keep: torch.arange(keep.shape[1]) == keep.sum(1, keepdim=True) - 1)
)


@wrong("kl_shaped_rewards", must=("options",))
def always_k1(rewards, logps, ref_logps, mask, *, kl_coef, estimator="k1"):
    """Ignores the estimator."""
    return correct_kl_shaped_rewards(rewards, logps, ref_logps, mask, kl_coef=kl_coef)
