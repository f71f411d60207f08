"""Every bad argument is refused with an error that names it, what came and what was expected."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from grape_verified import (
    acceptance_probabilities,
    acceptance_weights,
    aggregate,
    best_of_n_weights,
    categorical_kl,
    cispo_loss,
    cispo_per_token,
    cpo_loss,
    cpo_per_pair,
    dapo_loss,
    dpo_loss,
    dpo_per_pair,
    dpop_loss,
    dpop_per_pair,
    dr_grpo_loss,
    f_dpo_loss,
    f_dpo_per_pair,
    grape_advantages,
    grape_loss,
    grape_rewards,
    grpo_loss,
    grpo_per_token,
    gspo_loss,
    gspo_per_sequence,
    ipo_loss,
    ipo_per_pair,
    kl_estimate,
    kto_loss,
    kto_per_sequence,
    orpo_loss,
    orpo_per_pair,
    pointwise_loss,
    pointwise_per_pair,
    ppo_loss,
    ppo_per_token,
    preference_loss,
    preference_per_pair,
    reinforce_loss,
    reinforce_per_token,
    rejection_sampling_loss,
    robust_dpo_loss,
    robust_dpo_per_pair,
    sft_loss,
    sft_per_token,
    simpo_loss,
    simpo_per_pair,
    threshold_weights,
    token_entropies,
    token_logps,
)

TOKENS = torch.zeros(2, 4)
ROW = torch.zeros(2)
MASK = torch.ones(2, 4)
LOGITS = torch.zeros(2, 3, 7)
TARGETS = torch.zeros(2, 3, dtype=torch.long)
SCORES = torch.zeros(1, 2, 3)
WEIGHTS = torch.ones(3)
ITEM_MASK = torch.ones(1, 3)
CATEGORIES = torch.zeros(1, dtype=torch.long)
ELSEWHERE = torch.device("meta")


def half(**options):
    return aggregate(TOKENS, MASK, "token_mean", **options)


def ppo(logps=TOKENS, old_logps=TOKENS, advantages=ROW, mask=MASK, **options):
    return ppo_loss(logps, old_logps, advantages, mask, **options)


def per_token(logps=TOKENS, old_logps=TOKENS, advantages=ROW, **options):
    return ppo_per_token(logps, old_logps, advantages, **options)


def dpo(chosen=ROW, rejected=ROW, ref_chosen=ROW, ref_rejected=ROW, **options):
    return dpo_loss(chosen, rejected, ref_chosen, ref_rejected, **options)


def reinforce(logps=TOKENS, advantages=ROW, mask=MASK, **options):
    return reinforce_loss(logps, advantages, mask, **options)


def grpo(logps=TOKENS, old_logps=TOKENS, advantages=ROW, mask=MASK, **options):
    return grpo_loss(logps, old_logps, advantages, mask, **options)


def gspo(logps=TOKENS, old_logps=TOKENS, advantages=ROW, mask=MASK, **options):
    return gspo_loss(logps, old_logps, advantages, mask, **options)


def cispo(logps=TOKENS, old_logps=TOKENS, advantages=ROW, mask=MASK, **options):
    return cispo_loss(logps, old_logps, advantages, mask, **options)


def robust(**options):
    return robust_dpo_loss(ROW, ROW, ROW, ROW, **options)


def preference(**options):
    return preference_loss(ROW, ROW, ROW, ROW, **({"kind": "hinge"} | options))


def ipo(**options):
    return ipo_loss(ROW, ROW, ROW, ROW, **options)


def rejection(logps=TOKENS, rewards=ROW, mask=MASK, *, group_size=2, **options):
    return rejection_sampling_loss(logps, rewards, mask, group_size=group_size, **options)


def above(threshold=0.0, **options):
    return rejection(group_size=options.pop("group_size", None), keep="threshold", threshold=threshold, **options)


def acceptance(rewards=ROW, uniforms=ROW, *, beta=1.0, max_reward=0.0):
    return acceptance_weights(rewards, uniforms, beta=beta, max_reward=max_reward)


def logps(logits=LOGITS, targets=TARGETS, **options):
    return token_logps(logits, targets, **options)


def scored(scores=SCORES, confidences=SCORES, weights=WEIGHTS, **options):
    return grape_rewards(scores, confidences, weights, **options)


def relative(scores=SCORES, confidences=SCORES, weights=WEIGHTS, **options):
    return grape_advantages(scores, confidences, weights, **options)


def grape(logps=TOKENS, old_logps=TOKENS, scores=SCORES, confidences=SCORES, weights=WEIGHTS, mask=MASK, **options):
    return grape_loss(logps, old_logps, scores, confidences, weights, mask, **options)


def changed(tensor, value):
    result = tensor.clone()
    result.view(-1)[-1] = value
    return result


MODES = "one of 'token_mean', 'sequence_mean', 'sequence_sum', 'token_sum', 'fixed_length'"
POSITIVE = "expected a finite number > 0"
ESTIMATORS = "one of 'k1', 'k2', 'k3'"
DENOMINATOR = "expected None, a finite number > 0 or a 0-d tensor that holds one"

BAD = [
    # Tensors of PPO
    (lambda: ppo(logps=[[0.0]]), TypeError, "logps: got list, expected a tensor"),
    (lambda: ppo(logps=np.zeros((2, 4))), TypeError, "logps: got ndarray, expected a tensor"),
    (lambda: ppo(logps=TOKENS.long()), TypeError, "logps: got dtype torch.int64, expected a floating-point dtype"),
    (lambda: ppo(logps=TOKENS.to(torch.complex64)), TypeError, "logps: got dtype torch.complex64, expected a floating"),
    (lambda: ppo(logps=ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: ppo(logps=LOGITS), ValueError, "logps: got shape (2, 3, 7), expected shape (batch, time)"),
    (lambda: ppo(old_logps=None), TypeError, "old_logps: got NoneType, expected a tensor"),
    (lambda: ppo(old_logps=TOKENS.int()), TypeError, "old_logps: got dtype torch.int32, expected a floating-point"),
    (
        lambda: ppo(old_logps=torch.zeros(2, 3)),
        ValueError,
        "old_logps: got shape (2, 3), expected (2, 4), the shape of logps",
    ),
    (
        lambda: ppo(old_logps=TOKENS.to(ELSEWHERE)),
        ValueError,
        "old_logps: got device meta, expected cpu, the device of logps",
    ),
    (lambda: ppo(advantages=1.0), TypeError, "advantages: got float, expected a tensor"),
    (lambda: ppo(advantages=ROW.long()), TypeError, "advantages: got dtype torch.int64, expected a floating-point"),
    (
        lambda: ppo(advantages=torch.zeros(4)),
        ValueError,
        "advantages: got shape (4,), expected (2, 4), the shape of logps, or (2,), one for each sequence",
    ),
    (lambda: ppo(advantages=torch.zeros(2, 1)), ValueError, "advantages: got shape (2, 1), expected (2, 4)"),
    (
        lambda: ppo(advantages=ROW.to(ELSEWHERE)),
        ValueError,
        "advantages: got device meta, expected cpu, the device of logps",
    ),
    (lambda: per_token(logps=ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: per_token(old_logps=torch.zeros(1, 4)), ValueError, "old_logps: got shape (1, 4), expected (2, 4)"),
    # The mask
    (lambda: ppo(mask=None), TypeError, "mask: got NoneType, expected a tensor"),
    (lambda: ppo(mask=ROW), ValueError, "mask: got shape (2,), expected (2, 4), the shape of logps"),
    (lambda: ppo(mask=MASK.to(ELSEWHERE)), ValueError, "mask: got device meta, expected cpu, the device of logps"),
    (
        lambda: ppo(mask=MASK.to(torch.complex64)),
        TypeError,
        "mask: got dtype torch.complex64, expected bool, or numbers that are only 0 and 1",
    ),
    (lambda: ppo(mask=changed(MASK, 0.5)), ValueError, "mask: got the value 0.5, expected only 0 and 1"),
    (lambda: ppo(mask=changed(MASK, math.nan)), ValueError, "mask: got the value nan, expected only 0 and 1"),
    (lambda: ppo(mask=changed(MASK.long(), -100)), ValueError, "mask: got the value -100, expected only 0 and 1"),
    # Options of PPO
    (lambda: ppo(clip_low=-0.1), ValueError, "clip_low: got -0.1, expected a number in [0, 1]"),
    (lambda: per_token(clip_low=1.1), ValueError, "clip_low: got 1.1, expected a number in [0, 1]"),
    (lambda: per_token(clip_low=math.nan), ValueError, "clip_low: got nan, expected a number in [0, 1]"),
    (lambda: per_token(clip_low="0.2"), TypeError, "clip_low: got str, expected a number in [0, 1]"),
    (lambda: per_token(clip_low=True), TypeError, "clip_low: got bool, expected a number in [0, 1]"),
    (lambda: per_token(clip_high=-1), ValueError, "clip_high: got -1, expected a finite number >= 0"),
    (lambda: per_token(clip_high=math.inf), ValueError, "clip_high: got inf, expected a finite number >= 0"),
    (lambda: per_token(clip_high=None), TypeError, "clip_high: got NoneType, expected a finite number >= 0"),
    (lambda: per_token(dual_clip=1), ValueError, "dual_clip: got 1, expected None or a finite number > 1"),
    (lambda: ppo(dual_clip=math.inf), ValueError, "dual_clip: got inf, expected None or a finite number > 1"),
    (lambda: ppo(dual_clip=False), TypeError, "dual_clip: got bool, expected None or a finite number > 1"),
    (lambda: ppo(aggregation="mean"), ValueError, f"aggregation: got 'mean', expected {MODES}"),
    (lambda: ppo(aggregation=None), TypeError, f"aggregation: got NoneType, expected {MODES}"),
    (
        lambda: ppo(aggregation="token_sum", denominator=2),
        ValueError,
        "denominator: got 2, expected None with aggregation 'token_sum', which divides by 1",
    ),
    (
        lambda: ppo(max_length=5),
        ValueError,
        "max_length: got 5, expected None with aggregation 'token_mean', which does not use it",
    ),
    # Aggregation
    (lambda: aggregate(ROW, MASK, "token_mean"), ValueError, "per_token: got shape (2,), expected shape (batch, time)"),
    (
        lambda: aggregate(TOKENS.long(), MASK, "token_mean"),
        TypeError,
        "per_token: got dtype torch.int64, expected a floating-point dtype",
    ),
    (
        lambda: aggregate(TOKENS, MASK[:1], "token_mean"),
        ValueError,
        "mask: got shape (1, 4), expected (2, 4), the shape of per_token",
    ),
    (lambda: aggregate(TOKENS, MASK, "tokens"), ValueError, f"mode: got 'tokens', expected {MODES}"),
    (lambda: aggregate(TOKENS, MASK, "fixed_length"), TypeError, "max_length: got None, expected an integer > 0"),
    (
        lambda: aggregate(TOKENS, MASK, "fixed_length", max_length=0),
        ValueError,
        "max_length: got 0, expected an integer > 0",
    ),
    (
        lambda: aggregate(TOKENS, MASK, "fixed_length", max_length=4.0),
        TypeError,
        "max_length: got 4.0, expected an integer > 0",
    ),
    (
        lambda: aggregate(TOKENS, MASK, "fixed_length", max_length=True),
        TypeError,
        "max_length: got True, expected an integer > 0",
    ),
    (lambda: half(denominator=0), ValueError, f"denominator: got 0, {DENOMINATOR}"),
    (lambda: half(denominator=-1.5), ValueError, f"denominator: got -1.5, {DENOMINATOR}"),
    (lambda: half(denominator=math.inf), ValueError, f"denominator: got inf, {DENOMINATOR}"),
    (lambda: half(denominator=math.nan), ValueError, f"denominator: got nan, {DENOMINATOR}"),
    (lambda: half(denominator=True), TypeError, f"denominator: got bool, {DENOMINATOR}"),
    (lambda: half(denominator="3"), TypeError, f"denominator: got str, {DENOMINATOR}"),
    (lambda: half(denominator=torch.zeros(())), ValueError, f"denominator: got 0.0, {DENOMINATOR}"),
    (lambda: half(denominator=torch.ones(1)), ValueError, f"denominator: got shape (1,), {DENOMINATOR}"),
    (lambda: half(denominator=torch.tensor(True)), TypeError, f"denominator: got dtype torch.bool, {DENOMINATOR}"),
    # DPO
    (lambda: dpo(chosen=0.0), TypeError, "chosen_logps: got float, expected a tensor"),
    (lambda: dpo(chosen=TOKENS), ValueError, "chosen_logps: got shape (2, 4), expected shape (batch,)"),
    (
        lambda: dpo(rejected=torch.zeros(3)),
        ValueError,
        "rejected_logps: got shape (3,), expected (2,), the shape of chosen_logps",
    ),
    (lambda: dpo(ref_chosen=ROW.long()), TypeError, "ref_chosen_logps: got dtype torch.int64, expected a floating"),
    (
        lambda: dpo(ref_rejected=ROW.to(ELSEWHERE)),
        ValueError,
        "ref_rejected_logps: got device meta, expected cpu, the device of chosen_logps",
    ),
    (lambda: dpo(beta=0), ValueError, f"beta: got 0, {POSITIVE}"),
    (lambda: dpo(beta=math.inf), ValueError, f"beta: got inf, {POSITIVE}"),
    (lambda: dpo(beta=True), TypeError, f"beta: got bool, {POSITIVE}"),
    (lambda: dpo(label_smoothing=0.5), ValueError, "label_smoothing: got 0.5, expected a number in [0, 0.5)"),
    (lambda: dpo(label_smoothing=-0.1), ValueError, "label_smoothing: got -0.1, expected a number in [0, 0.5)"),
    (lambda: dpo(denominator=0), ValueError, f"denominator: got 0, {DENOMINATOR}"),
    (lambda: dpo_per_pair(ROW, ROW, ROW, None), TypeError, "ref_rejected_logps: got NoneType, expected a tensor"),
    # REINFORCE
    (lambda: reinforce(logps=0.0), TypeError, "logps: got float, expected a tensor"),
    (lambda: reinforce(logps=TOKENS.long()), TypeError, "logps: got dtype torch.int64, expected a floating-point"),
    (lambda: reinforce(logps=ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: reinforce(advantages=None), TypeError, "advantages: got NoneType, expected a tensor"),
    (
        lambda: reinforce(advantages=torch.zeros(4)),
        ValueError,
        "advantages: got shape (4,), expected (2, 4), the shape",
    ),
    (lambda: reinforce(mask=ROW), ValueError, "mask: got shape (2,), expected (2, 4), the shape of logps"),
    (lambda: reinforce(mask=MASK / 2), ValueError, "mask: got the value 0.5, expected only 0 and 1"),
    (lambda: reinforce(aggregation="mean"), ValueError, f"aggregation: got 'mean', expected {MODES}"),
    (lambda: reinforce(denominator=0), ValueError, f"denominator: got 0, {DENOMINATOR}"),
    (
        lambda: reinforce(max_length=5),
        ValueError,
        "max_length: got 5, expected None with aggregation 'sequence_sum', which does not use it",
    ),
    (lambda: reinforce_per_token(LOGITS, ROW), ValueError, "logps: got shape (2, 3, 7), expected shape (batch, time)"),
    (
        lambda: reinforce_per_token(TOKENS, ROW.to(ELSEWHERE)),
        ValueError,
        "advantages: got device meta, expected cpu, the device of logps",
    ),
    # Divergences
    (lambda: kl_estimate([0.0], TOKENS), TypeError, "logps: got list, expected a tensor"),
    (lambda: kl_estimate(ROW, ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: kl_estimate(TOKENS, TOKENS.long()), TypeError, "ref_logps: got dtype torch.int64, expected a floating"),
    (lambda: kl_estimate(TOKENS, ROW), ValueError, "ref_logps: got shape (2,), expected (2, 4), the shape of logps"),
    (lambda: kl_estimate(TOKENS, TOKENS, "k4"), ValueError, "estimator: got 'k4', expected one of 'k1', 'k2', 'k3'"),
    (lambda: kl_estimate(TOKENS, TOKENS, 3), TypeError, "estimator: got int, expected one of 'k1', 'k2', 'k3'"),
    (lambda: categorical_kl(TARGETS, LOGITS), TypeError, "logits: got dtype torch.int64, expected a floating-point"),
    (
        lambda: categorical_kl(torch.tensor(1.0), LOGITS),
        ValueError,
        "logits: got shape (), expected shape (..., vocab)",
    ),
    (lambda: categorical_kl(LOGITS, None), TypeError, "other_logits: got NoneType, expected a tensor"),
    (
        lambda: categorical_kl(LOGITS, LOGITS[0]),
        ValueError,
        "other_logits: got shape (3, 7), expected (2, 3, 7), the shape of logits",
    ),
    (
        lambda: categorical_kl(LOGITS, LOGITS.to(ELSEWHERE)),
        ValueError,
        "other_logits: got device meta, expected cpu, the device of logits",
    ),
    # GRPO
    (lambda: grpo(logps=ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: grpo(mask=ROW), ValueError, "mask: got shape (2,), expected (2, 4), the shape of logps"),
    (lambda: grpo(clip_low=2.0), ValueError, "clip_low: got 2.0, expected a number in [0, 1]"),
    (lambda: grpo(aggregation="mean"), ValueError, f"aggregation: got 'mean', expected {MODES}"),
    (lambda: grpo(kl_coef=-0.1), ValueError, "kl_coef: got -0.1, expected a finite number >= 0"),
    (lambda: grpo(kl_coef=math.inf), ValueError, "kl_coef: got inf, expected a finite number >= 0"),
    (lambda: grpo(kl_coef=None), TypeError, "kl_coef: got NoneType, expected a finite number >= 0"),
    (
        lambda: grpo(kl_coef=0.1),
        ValueError,
        "ref_logps: got None, expected a tensor with kl_coef 0.1, which uses it",
    ),
    (lambda: grpo(kl_estimator="k4"), ValueError, f"kl_estimator: got 'k4', expected {ESTIMATORS}"),
    (lambda: grpo(kl_estimator=3), TypeError, f"kl_estimator: got int, expected {ESTIMATORS}"),
    (
        lambda: grpo(ref_logps=TOKENS.long(), kl_coef=0.1),
        TypeError,
        "ref_logps: got dtype torch.int64, expected a floating-point dtype",
    ),
    (
        lambda: grpo(ref_logps=ROW, kl_coef=0.1),
        ValueError,
        "ref_logps: got shape (2,), expected (2, 4), the shape of logps",
    ),
    (
        lambda: grpo_per_token(TOKENS, TOKENS, ROW, ref_logps=torch.zeros(2, 3), kl_coef=0.1),
        ValueError,
        "ref_logps: got shape (2, 3), expected (2, 4), the shape of logps",
    ),
    (
        lambda: grpo(ref_logps=TOKENS.to(ELSEWHERE), kl_coef=0.1),
        ValueError,
        "ref_logps: got device meta, expected cpu, the device of logps",
    ),
    (lambda: grpo_per_token(TOKENS, TOKENS, ROW, kl_coef=0.1), ValueError, "ref_logps: got None, expected a tensor"),
    (lambda: dapo_loss(TOKENS, TOKENS, ROW, MASK, clip_high=-1), ValueError, "clip_high: got -1, expected a finite"),
    (
        lambda: dr_grpo_loss(TOKENS, TOKENS, ROW, MASK, max_length=0),
        ValueError,
        "max_length: got 0, expected an integer > 0",
    ),
    (
        lambda: gspo(advantages=TOKENS),
        ValueError,
        "advantages: got shape (2, 4), expected (2,), one for each sequence of logps",
    ),
    (lambda: gspo(advantages=[1.0]), TypeError, "advantages: got list, expected a tensor"),
    (lambda: gspo(logps=ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: gspo(mask=changed(MASK, 2)), ValueError, "mask: got the value 2.0, expected only 0 and 1"),
    (lambda: gspo(clip_low=-1), ValueError, "clip_low: got -1, expected a number in [0, 1]"),
    (lambda: gspo(denominator=0), ValueError, f"denominator: got 0, {DENOMINATOR}"),
    (lambda: gspo_per_sequence(TOKENS, TOKENS, ROW, None), TypeError, "mask: got NoneType, expected a tensor"),
    (lambda: cispo(clip_low=1.5), ValueError, "clip_low: got 1.5, expected a number in [0, 1]"),
    (lambda: cispo(max_length=5), ValueError, "max_length: got 5, expected None with aggregation 'token_mean'"),
    (
        lambda: cispo_per_token(TOKENS, TOKENS, torch.zeros(3)),
        ValueError,
        "advantages: got shape (3,), expected (2, 4)",
    ),
    # Robust DPO and IPO
    (
        lambda: robust(flip_probability=0.5),
        ValueError,
        "flip_probability: got 0.5, expected a number in [0, 0.5)",
    ),
    (lambda: robust(flip_probability=-0.1), ValueError, "flip_probability: got -0.1, expected a number in [0, 0.5)"),
    (lambda: robust(flip_probability=None), TypeError, "flip_probability: got NoneType, expected a number in [0, 0.5)"),
    (lambda: robust(flip_probability=0.1, beta=0), ValueError, f"beta: got 0, {POSITIVE}"),
    (lambda: robust(flip_probability=0.1, denominator=0), ValueError, f"denominator: got 0, {DENOMINATOR}"),
    (
        lambda: robust_dpo_per_pair(ROW, ROW, ROW, None, flip_probability=0.1),
        TypeError,
        "ref_rejected_logps: got NoneType, expected a tensor",
    ),
    (lambda: ipo(beta=-1), ValueError, f"beta: got -1, {POSITIVE}"),
    (lambda: ipo(log_ratio="max"), ValueError, "log_ratio: got 'max', expected one of 'sum', 'mean'"),
    (lambda: ipo(log_ratio=None), TypeError, "log_ratio: got NoneType, expected one of 'sum', 'mean'"),
    (
        lambda: ipo(rejected_lengths=ROW),
        ValueError,
        "rejected_lengths: got a value, expected None with log_ratio 'sum', which does not use it",
    ),
    (lambda: ipo(log_ratio="mean"), TypeError, "chosen_lengths: got None, expected a tensor, which log_ratio 'mean'"),
    (
        lambda: ipo(log_ratio="mean", chosen_lengths=ROW + 1),
        TypeError,
        "rejected_lengths: got None, expected a tensor, which log_ratio 'mean'",
    ),
    (
        lambda: ipo(log_ratio="mean", chosen_lengths=torch.ones(3), rejected_lengths=ROW + 1),
        ValueError,
        "chosen_lengths: got shape (3,), expected (2,), the shape of chosen_logps",
    ),
    (
        lambda: ipo(log_ratio="mean", chosen_lengths=ROW + 1, rejected_lengths=ROW),
        ValueError,
        "rejected_lengths: got the value 0.0, expected finite lengths >= 1",
    ),
    (
        lambda: ipo(log_ratio="mean", chosen_lengths=ROW.bool(), rejected_lengths=ROW + 1),
        TypeError,
        "chosen_lengths: got dtype torch.bool, expected an integer or a floating-point dtype",
    ),
    (lambda: ipo_per_pair(ROW, ROW, ROW, TOKENS), ValueError, "ref_rejected_logps: got shape (2, 4), expected (2,)"),
    # functions of a margin
    (lambda: preference(kind="exp"), ValueError, "kind: got 'exp', expected one of 'sigmoid', 'hinge', 'ipo', "),
    (lambda: preference(kind=None), TypeError, "kind: got NoneType, expected one of 'sigmoid', 'hinge', 'ipo', "),
    (lambda: preference(beta=0), ValueError, f"beta: got 0, {POSITIVE}"),
    (lambda: preference(target_margin=math.inf), ValueError, "target_margin: got inf, expected a finite number"),
    (lambda: preference(target_margin=None), TypeError, "target_margin: got NoneType, expected a finite number"),
    (
        lambda: preference(label_smoothing=0.1),
        ValueError,
        "label_smoothing: got 0.1, expected 0 with kind 'hinge', which does not use it",
    ),
    (
        lambda: preference(kind="exo"),
        ValueError,
        "label_smoothing: got 0.0, expected a number in (0, 0.5) with kind 'exo', which divides by it",
    ),
    (
        lambda: preference(kind="exo", label_smoothing=0.5),
        ValueError,
        "label_smoothing: got 0.5, expected a number in [0, 0.5)",
    ),
    (
        lambda: preference(chosen_lengths=ROW),
        ValueError,
        "chosen_lengths: got a value, expected None with log_ratio 'sum', which does not use it",
    ),
    (lambda: preference(log_ratio="mean"), TypeError, "chosen_lengths: got None, expected a tensor, which log_ratio"),
    (lambda: preference(denominator=0), ValueError, f"denominator: got 0, {DENOMINATOR}"),
    (
        lambda: preference_per_pair(ROW, ROW, ROW, kind="hinge"),
        TypeError,
        "ref_rejected_logps: got None, expected a tensor, as the other response has a reference",
    ),
    (
        lambda: preference_per_pair(ROW, ROW, ref_rejected_logps=ROW, kind="hinge"),
        TypeError,
        "ref_chosen_logps: got None, expected a tensor, as the other response has a reference",
    ),
    (lambda: preference_per_pair(ROW, TOKENS, kind="ipo"), ValueError, "rejected_logps: got shape (2, 4), expected"),
    (lambda: simpo_loss(ROW, ROW, None, ROW + 1), TypeError, "chosen_lengths: got NoneType, expected a tensor"),
    (
        lambda: simpo_loss(ROW, ROW, ROW + 1, ROW),
        ValueError,
        "rejected_lengths: got the value 0.0, expected finite lengths >= 1",
    ),
    (lambda: simpo_loss(ROW.long(), ROW, ROW + 1, ROW + 1), TypeError, "chosen_logps: got dtype torch.int64, expected"),
    (lambda: simpo_per_pair(ROW, ROW, ROW + 1, ROW + 1, beta=-1), ValueError, f"beta: got -1, {POSITIVE}"),
    # CPO
    (lambda: cpo_loss(ROW, ROW, None), TypeError, "chosen_lengths: got NoneType, expected a tensor"),
    (lambda: cpo_loss(ROW, ROW, ROW), ValueError, "chosen_lengths: got the value 0.0, expected finite lengths >= 1"),
    (lambda: cpo_loss(ROW, ROW, ROW + 1, nll_weight=0), ValueError, f"nll_weight: got 0, {POSITIVE}"),
    (lambda: cpo_per_pair(ROW, TOKENS, ROW + 1), ValueError, "rejected_logps: got shape (2, 4), expected"),
    # DPO-Positive
    (lambda: dpop_loss(ROW, ROW, ROW, ROW, penalty_weight=0), ValueError, f"penalty_weight: got 0, {POSITIVE}"),
    (lambda: dpop_per_pair(ROW, ROW, ROW, TOKENS), ValueError, "ref_rejected_logps: got shape (2, 4), expected"),
    # f-DPO
    (lambda: f_dpo_loss(ROW, ROW, ROW, ROW, divergence="kl"), ValueError, "divergence: got 'kl', expected"),
    (
        lambda: f_dpo_per_pair(ROW, ROW, ROW, ROW, divergence="alpha", alpha=float("nan")),
        ValueError,
        "alpha: got nan, expected a finite number",
    ),
    (lambda: f_dpo_loss(ROW, ROW, ROW, None, divergence="alpha"), TypeError, "ref_rejected_logps: got NoneType"),
    # ORPO
    (lambda: orpo_loss(ROW, ROW, None, ROW + 1), TypeError, "chosen_lengths: got NoneType, expected a tensor"),
    (lambda: orpo_loss(ROW, ROW, ROW + 1, ROW + 1, odds_weight=0), ValueError, f"odds_weight: got 0, {POSITIVE}"),
    (lambda: orpo_per_pair(ROW, TOKENS, ROW + 1, ROW + 1), ValueError, "rejected_logps: got shape (2, 4), expected"),
    # KTO and pointwise losses of pairs
    (lambda: kto_loss(ROW, ROW, ROW, anchor=-0.5), ValueError, "anchor: got -0.5, expected a finite number >= 0 or a"),
    (lambda: kto_loss(ROW, ROW, ROW, anchor=None), TypeError, "anchor: got NoneType, expected a finite number >= 0 or"),
    (lambda: kto_loss(ROW, ROW, ROW, anchor=ROW), ValueError, "anchor: got shape (2,), expected a finite number >= 0"),
    (lambda: kto_loss(ROW, ROW, ROW, anchor=torch.tensor(1)), TypeError, "anchor: got dtype torch.int64, expected a"),
    (lambda: kto_loss(ROW, ROW, ROW, anchor=torch.tensor(-1.0)), ValueError, "anchor: got -1.0, expected a finite num"),
    (lambda: kto_loss(ROW, ROW, ROW - 1, anchor=0), ValueError, "labels: got the value -1.0, expected only 0 and 1"),
    (lambda: kto_loss(ROW, ROW, None, anchor=0), TypeError, "labels: got NoneType, expected a tensor"),
    (lambda: kto_loss(ROW, ROW, ROW[:1], anchor=0), ValueError, "labels: got shape (1,), expected (2,), the shape of"),
    (lambda: kto_loss(TOKENS, TOKENS, ROW, anchor=0), ValueError, "logps: got shape (2, 4), expected shape (batch,)"),
    (lambda: kto_per_sequence(ROW, ROW, ROW, anchor=0, beta=0), ValueError, f"beta: got 0, {POSITIVE}"),
    (
        lambda: kto_per_sequence(ROW, ROW, ROW, anchor=0, desirable_weight=0),
        ValueError,
        f"desirable_weight: got 0, {POSITIVE}",
    ),
    (
        lambda: kto_per_sequence(ROW, ROW, ROW, anchor=0, undesirable_weight=-1),
        ValueError,
        f"undesirable_weight: got -1, {POSITIVE}",
    ),
    (
        lambda: pointwise_loss(ROW, ROW, ROW, ROW, kind="dpo"),
        ValueError,
        "kind: got 'dpo', expected one of 'bco', 'nca'",
    ),
    (
        lambda: pointwise_loss(ROW, ROW, ROW, ROW, kind="nca", reward_shift=1),
        ValueError,
        "reward_shift: got 1.0, expected 0 with kind 'nca', which does not use it",
    ),
    (
        lambda: pointwise_per_pair(ROW, ROW, ROW, None, kind="bco"),
        TypeError,
        "ref_rejected_logps: got NoneType, expected",
    ),
    (lambda: pointwise_per_pair(ROW, ROW, ROW, ROW, kind="sppo", beta=-1), ValueError, f"beta: got -1, {POSITIVE}"),
    # SFT
    (lambda: sft_per_token([[0.0]]), TypeError, "logps: got list, expected a tensor"),
    (lambda: sft_per_token(ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: sft_loss(TOKENS.long(), MASK), TypeError, "logps: got dtype torch.int64, expected a floating-point dtype"),
    (lambda: sft_loss(TOKENS, ROW), ValueError, "mask: got shape (2,), expected (2, 4), the shape of logps"),
    (lambda: sft_loss(TOKENS, changed(MASK, 2)), ValueError, "mask: got the value 2.0, expected only 0 and 1"),
    (lambda: sft_loss(TOKENS, MASK, aggregation="mean"), ValueError, f"aggregation: got 'mean', expected {MODES}"),
    (lambda: sft_loss(TOKENS, MASK, denominator=0), ValueError, f"denominator: got 0, {DENOMINATOR}"),
    (lambda: sft_loss(TOKENS, MASK, max_length=3), ValueError, "max_length: got 3, expected None with aggregation"),
    # Rejection sampling
    (lambda: rejection(logps=ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (lambda: rejection(rewards=[0.0, 0.0]), TypeError, "rewards: got list, expected a tensor"),
    (lambda: rejection(rewards=ROW.long()), TypeError, "rewards: got dtype torch.int64, expected a floating-point"),
    (
        lambda: rejection(rewards=TOKENS),
        ValueError,
        "rewards: got shape (2, 4), expected (2,), one for each sequence of logps",
    ),
    (
        lambda: above(rewards=torch.zeros(3)),
        ValueError,
        "rewards: got shape (3,), expected (2,), one for each sequence of logps",
    ),
    (lambda: rejection(rewards=ROW.to(ELSEWHERE)), ValueError, "rewards: got device meta, expected cpu, the device of"),
    (lambda: rejection(rewards=changed(ROW, math.nan)), ValueError, "rewards: got the value nan, expected finite"),
    (lambda: above(rewards=changed(ROW, -math.inf)), ValueError, "rewards: got the value -inf, expected finite"),
    (lambda: rejection(mask=ROW), ValueError, "mask: got shape (2,), expected (2, 4), the shape of logps"),
    (lambda: rejection(keep="all"), ValueError, "keep: got 'all', expected one of 'best', 'threshold'"),
    (lambda: rejection(keep=None), TypeError, "keep: got NoneType, expected one of 'best', 'threshold'"),
    (lambda: rejection(group_size=None), TypeError, "group_size: got None, expected a number, which keep 'best' needs"),
    (lambda: rejection(group_size=2.0), TypeError, "group_size: got 2.0, expected an integer >= 1"),
    (lambda: rejection(group_size=True), TypeError, "group_size: got True, expected an integer >= 1"),
    (lambda: rejection(group_size=0), ValueError, "group_size: got 0, expected an integer >= 1"),
    (
        lambda: rejection(group_size=3),
        ValueError,
        "group_size: got 3, expected a divisor of 2, the number of sequences",
    ),
    (
        lambda: rejection(threshold=0.0),
        ValueError,
        "threshold: got 0.0, expected None with keep 'best', which does not use it",
    ),
    (
        lambda: above(group_size=2),
        ValueError,
        "group_size: got 2, expected None with keep 'threshold', which does not use it",
    ),
    (lambda: above(threshold=None), TypeError, "threshold: got None, expected a number, which keep 'threshold' needs"),
    (lambda: above(threshold=math.nan), ValueError, "threshold: got nan, expected a finite number"),
    (lambda: above(aggregation="mean"), ValueError, f"aggregation: got 'mean', expected {MODES}"),
    (lambda: above(denominator=-1), ValueError, f"denominator: got -1, {DENOMINATOR}"),
    (
        lambda: above(aggregation="token_sum", denominator=2),
        ValueError,
        "denominator: got 2, expected None with aggregation 'token_sum', which divides by 1",
    ),
    (lambda: best_of_n_weights(TOKENS, 2), ValueError, "rewards: got shape (2, 4), expected shape (batch,)"),
    (lambda: best_of_n_weights(ROW, 0), ValueError, "group_size: got 0, expected an integer >= 1"),
    (lambda: best_of_n_weights(ROW, 3), ValueError, "group_size: got 3, expected a divisor of 2, the number of"),
    (lambda: best_of_n_weights(changed(ROW, math.inf), 2), ValueError, "rewards: got the value inf, expected finite"),
    (lambda: threshold_weights(TOKENS, 0.0), ValueError, "rewards: got shape (2, 4), expected shape (batch,)"),
    (lambda: threshold_weights(ROW, "1"), TypeError, "threshold: got str, expected a finite number"),
    (lambda: threshold_weights(ROW, math.inf), ValueError, "threshold: got inf, expected a finite number"),
    (lambda: threshold_weights(changed(ROW, math.nan), 0), ValueError, "rewards: got the value nan, expected finite"),
    (lambda: acceptance(rewards=0.0), TypeError, "rewards: got float, expected a tensor"),
    (lambda: acceptance(beta=0), ValueError, f"beta: got 0, {POSITIVE}"),
    (lambda: acceptance(max_reward=None), TypeError, "max_reward: got NoneType, expected a finite number"),
    (lambda: acceptance(max_reward=math.inf), ValueError, "max_reward: got inf, expected a finite number"),
    (lambda: acceptance(rewards=changed(ROW, math.nan)), ValueError, "rewards: got the value nan, expected finite"),
    (
        lambda: acceptance(rewards=changed(ROW, 0.5)),
        ValueError,
        "rewards: got the value 0.5, expected none above max_reward, 0.0",
    ),
    (
        lambda: acceptance_probabilities(ROW, beta=1.0, max_reward=-1),
        ValueError,
        "rewards: got the value 0.0, expected none above max_reward, -1",
    ),
    (lambda: acceptance(uniforms=ROW.long()), TypeError, "uniforms: got dtype torch.int64, expected a floating-point"),
    (
        lambda: acceptance(uniforms=torch.zeros(3)),
        ValueError,
        "uniforms: got shape (3,), expected (2,), the shape of rewards",
    ),
    (
        lambda: acceptance(uniforms=torch.ones(2)),
        ValueError,
        "uniforms: got the value 1.0, expected numbers in [0, 1)",
    ),
    (
        lambda: acceptance(uniforms=changed(ROW, math.nan)),
        ValueError,
        "uniforms: got the value nan, expected numbers in [0, 1)",
    ),
    # GRAPE
    (lambda: scored(scores=[[[0.0]]]), TypeError, "scores: got list, expected a tensor"),
    (lambda: scored(scores=SCORES.long()), TypeError, "scores: got dtype torch.int64, expected a floating-point dtype"),
    (lambda: scored(scores=TOKENS), ValueError, "scores: got shape (2, 4), expected shape (prompts, group, items)"),
    (
        lambda: scored(scores=torch.zeros(1, 2, 0)),
        ValueError,
        "scores: got shape (1, 2, 0), expected a group and items",
    ),
    (lambda: scored(scores=changed(SCORES, 1.5)), ValueError, "scores: got the value 1.5, expected values in [0, 1]"),
    (lambda: scored(scores=changed(SCORES, -1.0)), ValueError, "scores: got the value -1.0, expected values in [0, 1]"),
    (
        lambda: scored(scores=changed(SCORES, math.nan)),
        ValueError,
        "scores: got the value nan, expected values in",
    ),
    (lambda: scored(confidences=None), TypeError, "confidences: got NoneType, expected a tensor"),
    (lambda: scored(confidences=SCORES.bool()), TypeError, "confidences: got dtype torch.bool, expected a floating"),
    (
        lambda: scored(confidences=torch.zeros(1, 3, 2)),
        ValueError,
        "confidences: got shape (1, 3, 2), expected (1, 2, 3), the shape of scores",
    ),
    (
        lambda: scored(confidences=SCORES.to(ELSEWHERE)),
        ValueError,
        "confidences: got device meta, expected cpu, the device of scores",
    ),
    (
        lambda: scored(confidences=changed(SCORES, 100.0)),
        ValueError,
        "confidences: got the value 100.0, expected values in [0, 1] where an item counts",
    ),
    (lambda: scored(weights=(1.0, 1.0, 1.0)), TypeError, "weights: got tuple, expected a tensor"),
    (lambda: scored(weights=WEIGHTS.int()), TypeError, "weights: got dtype torch.int32, expected a floating-point"),
    (
        lambda: scored(weights=torch.ones(2)),
        ValueError,
        "weights: got shape (2,), expected (3,), one for each item of scores, or (1, 3), one for each item of each",
    ),
    (
        lambda: scored(weights=WEIGHTS.to(ELSEWHERE)),
        ValueError,
        "weights: got device meta, expected cpu, the device of",
    ),
    (lambda: scored(weights=-WEIGHTS), ValueError, "weights: got the value -1.0, expected finite values >= 0 where"),
    (lambda: scored(weights=changed(WEIGHTS, math.inf)), ValueError, "weights: got the value inf, expected finite"),
    (lambda: scored(weights=1e300 * WEIGHTS.double()), ValueError, "weights: got the value inf, expected finite"),
    (lambda: scored(item_mask=[1, 1, 1]), TypeError, "item_mask: got list, expected a tensor"),
    (
        lambda: scored(item_mask=WEIGHTS),
        ValueError,
        "item_mask: got shape (3,), expected (1, 3), one for each item of each prompt",
    ),
    (lambda: scored(item_mask=ITEM_MASK.to(ELSEWHERE)), ValueError, "item_mask: got device meta, expected cpu, the de"),
    (
        lambda: scored(item_mask=ITEM_MASK.to(torch.complex64)),
        TypeError,
        "item_mask: got dtype torch.complex64, expected bool, or numbers that are only 0 and 1",
    ),
    (
        lambda: scored(item_mask=changed(ITEM_MASK, 2.0)),
        ValueError,
        "item_mask: got the value 2.0, expected only 0",
    ),
    (lambda: scored(confidence="item"), ValueError, "confidence: got 'item', expected one of 'group', 'batch'"),
    (lambda: scored(normalisation=True), TypeError, "normalisation: got bool, expected one of 'mean', 'sum'"),
    (
        lambda: scored(confidence="batch"),
        TypeError,
        "categories: got None, expected a tensor of integers, one for each prompt, which confidence 'batch' needs",
    ),
    (
        lambda: scored(categories=CATEGORIES),
        ValueError,
        "categories: got Tensor, expected None with confidence 'group', which does not use it",
    ),
    (
        lambda: scored(confidence="batch", categories=CATEGORIES.float()),
        TypeError,
        "categories: got dtype torch.float32, expected a tensor of integers, one for each prompt",
    ),
    (
        lambda: scored(confidence="batch", categories=torch.zeros(2, dtype=torch.long)),
        ValueError,
        "categories: got shape (2,), expected (1,), one for each prompt of scores",
    ),
    (
        lambda: scored(confidence="batch", categories=CATEGORIES.to(ELSEWHERE)),
        ValueError,
        "categories: got device meta, expected cpu, the device of scores",
    ),
    (lambda: relative(baseline="none"), ValueError, "baseline: got 'none', expected one of 'leave_one_out', 'mean'"),
    (lambda: relative(scale=None), TypeError, "scale: got NoneType, expected one of 'std', 'none'"),
    (lambda: relative(scale="std", ddof=2), ValueError, "ddof: got 2, expected 0 or 1"),
    (lambda: relative(scale="std", eps=-1.0), ValueError, "eps: got -1.0, expected a finite number >= 0"),
    (lambda: relative(weights=-WEIGHTS), ValueError, "weights: got the value -1.0, expected finite values >= 0"),
    (lambda: grape(clip_low=2), ValueError, "clip_low: got 2, expected a number in [0, 1]"),
    (lambda: grape(aggregation="mean"), ValueError, f"aggregation: got 'mean', expected {MODES}"),
    (lambda: grape(baseline="group"), ValueError, "baseline: got 'group', expected one of 'leave_one_out', 'mean'"),
    (lambda: grape(logps=ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
    (
        lambda: grape(logps=torch.zeros(3, 4)),
        ValueError,
        "logps: got 3 rows, expected 2, one for each response of scores, 2 for each of 1 prompts",
    ),
    (lambda: grape(old_logps=torch.zeros(1, 4)), ValueError, "old_logps: got shape (1, 4), expected (2, 4)"),
    (lambda: grape(mask=ROW), ValueError, "mask: got shape (2,), expected (2, 4), the shape of logps"),
    # Logits
    (lambda: logps(logits=LOGITS.long()), TypeError, "logits: got dtype torch.int64, expected a floating-point dtype"),
    (lambda: logps(logits=torch.tensor(1.0)), ValueError, "logits: got shape (), expected shape (..., vocab)"),
    (
        lambda: logps(logits=torch.zeros(2, 3, 0)),
        ValueError,
        "logits: got shape (2, 3, 0), expected shape (..., vocab) with a vocab > 0",
    ),
    (lambda: logps(targets=[0]), TypeError, "targets: got list, expected a tensor"),
    (lambda: logps(targets=TARGETS.float()), TypeError, "targets: got dtype torch.float32, expected an integer dtype"),
    (lambda: logps(targets=TARGETS.bool()), TypeError, "targets: got dtype torch.bool, expected an integer dtype"),
    (
        lambda: logps(targets=TARGETS[0]),
        ValueError,
        "targets: got shape (3,), expected (2, 3), the shape of logits without its last dimension",
    ),
    (lambda: logps(targets=TARGETS.to(ELSEWHERE)), ValueError, "targets: got device meta, expected cpu, the device of"),
    (
        lambda: logps(targets=changed(TARGETS, -100)),
        ValueError,
        "targets: got the value -100, expected values in [0, 7)",
    ),
    (lambda: logps(targets=changed(TARGETS, 7)), ValueError, "targets: got the value 7, expected values in [0, 7)"),
    (lambda: logps(temperature=0.0), ValueError, f"temperature: got 0.0, {POSITIVE}"),
    (lambda: logps(temperature=math.nan), ValueError, f"temperature: got nan, {POSITIVE}"),
    (lambda: logps(temperature=None), TypeError, f"temperature: got NoneType, {POSITIVE}"),
    (lambda: token_entropies(TARGETS), TypeError, "logits: got dtype torch.int64, expected a floating-point dtype"),
    (lambda: token_entropies(torch.tensor(1.0)), ValueError, "logits: got shape (), expected shape (..., vocab)"),
    (lambda: token_entropies(LOGITS, temperature=-1), ValueError, f"temperature: got -1, {POSITIVE}"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ppo(clip_low=0, clip_high=0, dual_clip=1.5),
        lambda: ppo(clip_low=1, clip_high=np.float32(0.2)),
        lambda: ppo(aggregation="fixed_length", max_length=np.int64(3)),
        lambda: half(denominator=torch.tensor(3)),
        lambda: half(denominator=np.float64(3.0)),
        lambda: dpo(beta=1, label_smoothing=0),
        lambda: relative(scale="std", ddof=np.int64(0), eps=0),
        lambda: grpo(ref_logps=TOKENS, kl_coef=0, kl_estimator="k1"),
        lambda: grpo(kl_estimator="k2"),
        lambda: dpo(beta=Fraction(1, 5), denominator=10**30),
        lambda: ppo(clip_high=10**30, dual_clip=Fraction(3, 2), aggregation="fixed_length", max_length=10**30),
        lambda: logps(temperature=2),
        lambda: rejection(group_size=np.int64(2)),
        lambda: above(threshold=np.float32(-0.5)),
        lambda: acceptance(beta=1, max_reward=np.float64(0.5)),
    ],
)
def test_numbers_of_every_kind_are_accepted(call):
    call()


def test_options_are_refused_before_the_tensors_are_read():
    with pytest.raises(ValueError, match="aggregation: got 'mean'"):
        ppo(logps=TOKENS.to(ELSEWHERE), aggregation="mean")


@pytest.mark.parametrize("value", [1e300, 10**400, 1e-300], ids=["large", "too large for a float", "small"])
@pytest.mark.parametrize("name", ["clip_high", "denominator", "beta", "temperature", "threshold", "max_reward"])
def test_numbers_beyond_the_range_of_fp32_are_refused(name, value):
    ones = torch.ones(1, 2)
    calls = {
        "clip_high": lambda: ppo_loss(ones, ones, ones, ones, clip_high=value),
        "denominator": lambda: aggregate(ones, ones, "token_mean", denominator=value),
        "beta": lambda: dpo_loss(ones[0], ones[0], ones[0], ones[0], beta=value),
        "temperature": lambda: token_entropies(ones, temperature=value),
        "threshold": lambda: threshold_weights(ones[0], value),
        "max_reward": lambda: acceptance_probabilities(ones[0], beta=1.0, max_reward=value),
    }
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected .* within the range of fp32$"):
        calls[name]()


def test_sparse_tensors_are_refused():
    ones = torch.ones(1, 2)
    with pytest.raises(TypeError, match=r"^logps: got layout torch\.sparse_coo, expected a dense tensor$"):
        ppo_loss(ones.to_sparse(), ones, ones, ones)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.uint64])
def test_targets_of_every_integer_dtype(dtype):
    assert token_logps(torch.zeros(1, 2), torch.zeros(1, dtype=dtype)).item() == pytest.approx(-0.6931472)
