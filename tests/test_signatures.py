"""The jaxtyping annotations hold at run time.

The hook refuses a wrong argument before the package's own checks can say what is wrong with it, so it runs in a
process of its own and not over the other tests.
"""

import subprocess
import sys

PROGRAM = """
from jaxtyping import install_import_hook

with install_import_hook("grape_verified", "beartype.beartype"):
    import grape_verified
import pytest
import torch
from jaxtyping import TypeCheckError
from grape_verified import (
    acceptance_weights, aggregate, categorical_kl, cispo_loss, dapo_loss, dpo_loss, dr_grpo_loss,
    fused_jensen_shannon_loss, fused_top_k_loss, grape_loss, grpo_loss, gspo_loss, ipo_loss, jensen_shannon,
    kl_estimate, kto_loss, pointwise_loss, ppo_loss, preference_loss, reinforce_loss, rejection_sampling_loss,
    robust_dpo_loss, sft_loss, simpo_loss, token_entropies, token_logps, top_k_divergence,
)

for dtype in (torch.bfloat16, torch.float32, torch.float64):
    logits = torch.randn(2, 3, 5, dtype=dtype, requires_grad=True)
    targets = torch.zeros(2, 3, dtype=torch.int32)
    logps = token_logps(logits, targets, temperature=0.7)
    token_entropies(logits).sum().backward()
    categorical_kl(logits, logits[0, 0].expand(2, 3, 5)).sum().backward()
    for estimator in ("k1", "k2", "k3"):
        kl_estimate(logps, logps.detach(), estimator).sum().backward(retain_graph=True)
    for mask in (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.long)):
        for advantages in (torch.ones(2), torch.ones(2, 3)):
            ppo_loss(logps, logps.detach(), advantages, mask, dual_clip=3.0, denominator=4.0).loss.backward(
                retain_graph=True
            )
            reinforce_loss(logps, advantages, mask, denominator=4.0).loss.backward(retain_graph=True)
            grpo_loss(logps, logps.detach(), advantages, mask, ref_logps=logps, kl_coef=0.1, kl_estimator="k2")
            dapo_loss(logps, logps.detach(), advantages, mask)
            dr_grpo_loss(logps, logps.detach(), advantages, mask, max_length=4)
            cispo_loss(logps, logps.detach(), advantages, mask)
        gspo_loss(logps, logps.detach(), torch.ones(2), mask)
        sft_loss(logps, mask, denominator=torch.tensor(4.0)).loss.backward(retain_graph=True)
        for options in ({"group_size": 2}, {"keep": "threshold", "threshold": 0.5, "denominator": 4.0}):
            rejection_sampling_loss(logps, torch.ones(2), mask, **options).loss.backward(retain_graph=True)
        aggregate(logps, mask, "fixed_length", max_length=3, denominator=torch.tensor(2.0))
    acceptance_weights(torch.ones(2, dtype=dtype), torch.rand(2), beta=0.1, max_reward=1.0)
    sums = logps.sum(1)
    robust_dpo_loss(sums, sums, sums, sums, flip_probability=0.1)
    lengths = {"chosen_lengths": torch.tensor([1, 2]), "rejected_lengths": torch.tensor([3.0, 4.0])}
    ipo_loss(sums, sums, sums, sums, log_ratio="mean", **lengths)
    preference_loss(sums, sums, kind="hinge", log_ratio="mean", **lengths)
    preference_loss(sums, sums, sums, sums, kind="exo", label_smoothing=0.1)
    pointwise_loss(sums, sums, sums, sums, kind="bco", reward_shift=0.5)
    for anchor in (0.5, torch.tensor(0.5)):
        kto_loss(sums, sums, torch.tensor([True, False]), anchor=anchor)
    simpo_loss(sums, sums, **lengths).loss.backward(retain_graph=True)
    dpo_loss(sums, sums, sums, sums, label_smoothing=0.1).loss.backward()
    scores = torch.rand(1, 2, 4, dtype=dtype)
    for weights in (torch.ones(4), torch.ones(1, 4, dtype=dtype)):
        for item_mask in (None, torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool)):
            grape_loss(logps, logps, scores, scores, weights, mask, item_mask=item_mask)
    grape_loss(logps, logps, scores, scores, weights, mask, confidence="batch", categories=targets[:1, 0], scale="std")
    hidden, weight = torch.randn(2, 3, 4, dtype=dtype), torch.randn(5, 4, dtype=dtype)
    sent = logits.detach().log_softmax(-1).topk(2)
    for mask in (None, torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)):
        top_k_divergence(logits, *sent, mask=mask)
        fused_top_k_loss(hidden, weight, *sent, mask=mask)
        fused_jensen_shannon_loss(hidden, weight, hidden[..., :2], weight[:, :2], mask=mask, bias=weight[:, 0])
    jensen_shannon(logits, logits.flip(0))

with pytest.raises(TypeCheckError):
    ppo_loss(logps, logps, advantages, torch.ones(2, 4))
print("every annotation holds")
"""


def test_annotations_hold_at_run_time():
    result = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "every annotation holds"
