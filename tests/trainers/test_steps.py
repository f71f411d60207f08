"""Steps of training on a tiny model: each gradient by a trainer's own code and by a loss of this package.

A trainer that is not installed is skipped; continuous integration sets TRAINERS, and then a missing one is an error.
"""

import os
from functools import partial
from importlib import import_module

import pytest
import torch
from torch.nn.functional import pad
from transformers import GPT2Config, GPT2LMHeadModel

from grape_verified import (
    f_dpo_loss,
    grpo_loss,
    importance_weights,
    jensen_shannon,
    kto_loss,
    pointwise_loss,
    ppo_loss,
    token_logps,
)
from grape_verified.conformance.profiles import trl as trl_profile

STEPS, ROWS, LENGTH, WORDS = 3, 6, 7, 23


def required(name):
    """The module of a trainer."""
    return import_module(name) if "trl" in os.environ.get("TRAINERS", "") else pytest.importorskip(name)


def tiny(seed):
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=WORDS, n_positions=LENGTH + 1, n_embd=16, n_layer=1, n_head=2)
    return GPT2LMHeadModel(config).double().eval()


class Batch:
    """Responses, what is known of them, and a model that is being trained on them for a few steps."""

    def __init__(self):
        self.model, reference, old, sampler = (tiny(seed) for seed in range(4))
        self.tokens = torch.randint(WORDS, (ROWS, LENGTH))
        lengths = torch.tensor([7, 5, 6, 7, 2, 4])
        self.mask = (torch.arange(LENGTH) < lengths[:, None]).long()
        self.advantages = torch.randn(ROWS, dtype=torch.float64)
        with torch.no_grad():
            self.ref_logps, self.old_logps, self.sampler_logps = map(self.logps, (reference, old, sampler))

    def logits(self, model):
        return model(pad(self.tokens, (1, 0)))["logits"][:, :-1]

    def logps(self, model):
        return token_logps(self.logits(model), self.tokens)

    def gradients(self, loss):
        return torch.autograd.grad(loss(self.logps(self.model)), list(self.model.parameters()), allow_unused=True)

    def agree(self, theirs, ours):
        """Take the steps of their gradient; ours must be the same at each."""
        optimiser = torch.optim.SGD(self.model.parameters(), lr=0.5)
        for _ in range(STEPS):
            expected = self.gradients(theirs)
            size = max(gradient.abs().max() for gradient in expected if gradient is not None)
            assert size > 1e-6
            for one, other in zip(self.gradients(ours), expected, strict=True):
                assert (one is None) == (other is None)
                assert one is None or ((one - other).abs() <= 1e-6 * size).all()
            for parameter, gradient in zip(self.model.parameters(), expected, strict=True):
                parameter.grad = gradient
            optimiser.step()


#: The default of TRL for β = 0.04, and other settings; each with the options of `grpo_loss` that give it.
TRL = {
    "default": (
        partial(trl_profile._group_loss, "dapo", kl_times_ratio=True),
        {"aggregation": "token_mean"},
        "attached",
    ),
    "without the ratio": (partial(trl_profile._group_loss, "dapo"), {"aggregation": "token_mean"}, "absent"),
    "loss_type grpo": (partial(trl_profile._group_loss, "grpo", kl_times_ratio=True), {}, "attached"),
}


@pytest.mark.parametrize("setting", TRL)
def test_steps_of_trl(setting):
    required("trl.trainer.grpo_trainer")
    batch, (theirs, options, ratio) = Batch(), TRL[setting]
    given = {"ref_logps": batch.ref_logps, "kl_coef": 0.04, "kl_ratio": ratio} | options
    batch.agree(
        lambda logps: theirs(
            logps, batch.old_logps, batch.advantages, batch.mask, ref_logps=batch.ref_logps, beta=0.04
        ),
        lambda logps: grpo_loss(logps, batch.old_logps, batch.advantages, batch.mask, **given).loss,
    )


def test_another_way_of_the_ratio_is_seen():
    """The comparison can fail: detached is not what TRL does."""
    required("trl.trainer.grpo_trainer")
    batch, given = Batch(), {"aggregation": "token_mean", "kl_coef": 0.04, "kl_ratio": "detached"}
    theirs = partial(TRL["default"][0], ref_logps=batch.ref_logps, beta=0.04)
    with pytest.raises(AssertionError):
        batch.agree(
            lambda logps: theirs(logps, batch.old_logps, batch.advantages, batch.mask),
            lambda logps: (
                grpo_loss(logps, batch.old_logps, batch.advantages, batch.mask, ref_logps=batch.ref_logps, **given).loss
            ),
        )


def sums(x):
    """The log-probabilities of pairs of responses: the first half of the rows is preferred."""
    return x.sum(1).chunk(2)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("forward_kl", "forward_kl"), ("js_divergence", "jensen_shannon"), ("reverse_kl", "reverse_kl")],
)
def test_steps_of_the_divergences_of_trl(theirs, ours):
    required("trl.trainer.dpo_trainer")
    batch = Batch()
    reference, lengths = sums(batch.ref_logps * batch.mask), torch.ones(ROWS)
    batch.agree(
        lambda logps: trl_profile._pair_loss(
            "sigmoid", *sums(logps * batch.mask), reference, lengths, beta=0.5, f_divergence_type=theirs
        ),
        lambda logps: f_dpo_loss(*sums(logps * batch.mask), *reference, divergence=ours, beta=0.5).loss,
    )


@pytest.mark.parametrize(("threshold", "ends"), [(1.1, {"high": 1.1}), ("0.8_1.3", {"low": 0.8, "high": 1.3})])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_steps_with_the_weights_of_verl(level, threshold, ends):
    verl = pytest.importorskip("verl.trainer.ppo.rollout_corr_helper")
    batch, outside = Batch(), "mask" if len(ends) == 2 else "truncate"
    weights, _ = verl.compute_rollout_correction_weights(
        batch.old_logps - batch.sampler_logps, batch.mask, rollout_is=level, rollout_is_threshold=threshold
    )
    ours = importance_weights(batch.old_logps, batch.sampler_logps, batch.mask, level=level, outside=outside, **ends)
    assert not torch.equal(ours, batch.mask.double())

    def loss(weights, logps):
        return ppo_loss(logps, batch.old_logps, weights * batch.advantages[:, None], batch.mask).loss

    batch.agree(partial(loss, weights), partial(loss, ours))


@pytest.mark.parametrize("beta", [0.5, 0.1])
def test_steps_with_the_jensen_shannon_divergence_of_liger(beta):
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDFunction

    batch, teacher = Batch(), tiny(5)
    with torch.no_grad():
        teacher_logits = batch.logits(teacher)

    def theirs(logits):
        flat = (x.flatten(0, 1) for x in (logits, teacher_logits))
        return LigerFusedLinearJSDFunction.distillation_loss_fn(*flat, beta=beta)

    def ours(logits):
        return jensen_shannon(logits, teacher_logits, mixing=beta).sum()

    batch.logps = batch.logits
    batch.agree(theirs, ours)


def rows(batch, logps):
    """The log-probability of each response."""
    return (logps * batch.mask).sum(1)


#: Pointwise losses of TRL's trainer for pairs, each with what it is here.
PAIRS = {"bco_pair": "bco", "nca_pair": "nca", "apo_zero": "apo_zero", "apo_down": "apo_down", "sppo_hard": "sppo"}


@pytest.mark.parametrize("loss_type", PAIRS)
def test_steps_of_the_pointwise_losses_of_trl(loss_type):
    required("trl.trainer.dpo_trainer")
    batch = Batch()
    reference = rows(batch, batch.ref_logps).chunk(2)

    def theirs(logps):
        pair = rows(batch, logps).chunk(2)
        return trl_profile._pair_loss(loss_type, *pair, reference, torch.ones(ROWS), beta=0.1)

    batch.agree(
        theirs, lambda logps: pointwise_loss(*rows(batch, logps).chunk(2), *reference, kind=PAIRS[loss_type]).loss
    )


@pytest.mark.parametrize("anchor", [0.0, 0.7])
def test_steps_of_kto_of_liger(anchor):
    from liger_kernel.chunked_loss.kto_loss import LigerFusedLinearKTOFunction

    batch, labels = Batch(), torch.tensor([True, False, False, True, True, False])
    reference = rows(batch, batch.ref_logps)

    def theirs(logps):
        kl = torch.tensor(anchor)
        loss = LigerFusedLinearKTOFunction.preference_loss_fn
        return loss(rows(batch, logps), labels, labels, reference, beta=0.1, kl=kl)[0]

    batch.agree(theirs, lambda logps: kto_loss(rows(batch, logps), reference, labels, anchor=anchor).loss)
