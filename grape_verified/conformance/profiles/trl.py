"""trl: losses inside trainers, called with a stand-in for the trainer that has only what the loss reads."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from grape_verified.conformance.profiles.profile import Entry, Profile


def _group_loss(
    loss_type: str,
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    ref_logps: Tensor | None = None,
    items: float | None = None,
    level: str = "token",
    kl_times_ratio: bool = False,
    **settings: Any,
) -> Tensor:
    """The loss of GRPOTrainer on given log-probabilities, in place of a model's."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    counted = mask.long()  # as the trainer makes it
    arguments = SimpleNamespace(
        use_bias_correction_kl=kl_times_ratio,
        delta=None,
        steps_per_generation=1,
        sapo_temperature_pos=settings.pop("temperature_pos", 1.0),
        sapo_temperature_neg=settings.pop("temperature_neg", 1.05),
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *given, **named: (logps, torch.zeros_like(logps), None),
        accelerator=_one_process(),
        args=arguments,
        loss_type=loss_type,
        importance_sampling_level=level,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        **({"beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2} | settings),
    )
    inputs = {
        "prompt_ids": counted[:, :0],
        "prompt_mask": counted[:, :0],
        "completion_ids": counted,
        "completion_mask": counted,
        "advantages": advantages,
        "old_per_token_logps": old_logps,
        "ref_per_token_logps": ref_logps,
        "num_items_in_batch": counted.sum() if items is None else torch.tensor(items),
    }
    found: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return found


def _one_process() -> SimpleNamespace:
    """What a loss needs of an accelerator, in a single process."""
    same = {name: lambda tensor, **named: tensor for name in ("gather", "gather_for_metrics", "reduce")}
    return SimpleNamespace(num_processes=1, device="cpu", parallelism_config=None, **same)


def grpo(logps, old_logps, advantages, mask, *, ref_logps=None, kl_coef=0.0, clip_low=0.2, clip_high=0.2):
    given = {"ref_logps": ref_logps, "beta": kl_coef, "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("grpo", logps, old_logps, advantages, mask, **given)


def grpo_kl_times_ratio(logps, old_logps, advantages, mask, *, ref_logps=None, kl_coef=0.0):
    given = {"ref_logps": ref_logps, "beta": kl_coef, "kl_times_ratio": True}
    return _group_loss("grpo", logps, old_logps, advantages, mask, **given)


def bnpo(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2):
    return _group_loss("bnpo", logps, old_logps, advantages, mask, epsilon_low=clip_low, epsilon_high=clip_high)


def dr_grpo(logps, old_logps, advantages, mask, *, max_length, clip_low=0.2, clip_high=0.2):
    given = {"max_completion_length": max_length, "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("dr_grpo", logps, old_logps, advantages, mask, **given)


def dapo(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.28, denominator=None):
    given = {"items": denominator, "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("dapo", logps, old_logps, advantages, mask, **given)


def cispo(logps, old_logps, advantages, mask, *, clip_high=4.0, denominator=None):
    given = {"items": denominator, "epsilon_high": clip_high}
    return _group_loss("cispo", logps, old_logps, advantages, mask, **given)


def gspo(logps, old_logps, advantages, mask, *, clip_low=0.0003, clip_high=0.0004):
    given = {"level": "sequence", "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("grpo", logps, old_logps, advantages, mask, **given)


def sapo(logps, old_logps, advantages, mask, *, temperature_pos=1.0, temperature_neg=1.05):
    given = {"temperature_pos": temperature_pos, "temperature_neg": temperature_neg}
    return _group_loss("sapo", logps, old_logps, advantages, mask, **given)


def sft(logps, mask, *, denominator=None):
    """The loss of SFTTrainer on a model's output, which is 0 where nothing counts."""
    from trl.trainer.sft_trainer import SFTTrainer

    counted = mask.bool()
    none = torch.zeros_like(logps.detach())
    outputs = SimpleNamespace(
        log_probs=torch.where(counted, logps, 0), label_mask=counted, entropy=none, is_top1=none.bool()
    )
    trainer = SimpleNamespace(
        accelerator=_one_process(),
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=False),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        compute_loss_func=None,
        label_smoother=None,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {"labels": None, "attention_mask": counted}
    return SFTTrainer.compute_loss(trainer, lambda **named: outputs, inputs, num_items_in_batch=denominator)


def _pair_loss(
    loss_type: str, chosen: Tensor, rejected: Tensor, reference: tuple[Tensor, Tensor], lengths: Tensor, **settings: Any
) -> Tensor:
    """The loss of DPOTrainer on pairs; each response has its log-probability at its first token."""
    from trl.trainer.dpo_trainer import DPOTrainer

    width = int(lengths.max())
    mask = (torch.arange(width + 1) > 0) & (torch.arange(width + 1) <= lengths[:, None])  # the prompt is one token
    logps = torch.nn.functional.pad(torch.cat([chosen, rejected])[:, None], (0, width - 1))
    none = torch.zeros_like(logps.detach())
    outputs = SimpleNamespace(log_probs=logps, entropy=none, mean_logits=none, is_top1=none.bool())
    trainer = SimpleNamespace(
        accelerator=_one_process(),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        loss_types=[loss_type],
        loss_weights=[1.0],
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **({"f_divergence_type": "reverse_kl"} | settings),
    )
    inputs = {
        "input_ids": mask.long(),
        "attention_mask": mask.long(),
        "completion_mask": mask.long(),
        "ref_chosen_logps": reference[0],
        "ref_rejected_logps": reference[1],
    }
    found: Tensor = DPOTrainer._compute_loss(trainer, lambda **named: outputs, inputs, False)
    return found


def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1):
    lengths = torch.ones(2 * len(chosen_logps))
    return _pair_loss(
        "sigmoid", chosen_logps, rejected_logps, (ref_chosen_logps, ref_rejected_logps), lengths, beta=beta
    )


def robust_dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1, flip_probability=0.1):
    lengths, reference = torch.ones(2 * len(chosen_logps)), (ref_chosen_logps, ref_rejected_logps)
    settings = {"beta": beta, "label_smoothing": flip_probability}
    return _pair_loss("robust", chosen_logps, rejected_logps, reference, lengths, **settings)


def ipo(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, chosen_lengths, rejected_lengths, beta=0.1
):
    lengths, reference = torch.cat([chosen_lengths, rejected_lengths]), (ref_chosen_logps, ref_rejected_logps)
    return _pair_loss("ipo", chosen_logps, rejected_logps, reference, lengths, beta=beta)


def reward(chosen_rewards, rejected_rewards):
    """The loss of RewardTrainer on a model's scores."""
    from trl.trainer.reward_trainer import RewardTrainer

    scores = SimpleNamespace(logits=torch.cat([chosen_rewards, rejected_rewards])[:, None])
    trainer = SimpleNamespace(
        accelerator=_one_process(),
        args=SimpleNamespace(center_rewards_coefficient=None),
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    return RewardTrainer.compute_loss(trainer, lambda **named: scores, {"attention_mask": torch.ones(1)})


GROUP_LOSS = "trl.trainer.grpo_trainer:GRPOTrainer._compute_loss"
PAIR_LOSS = "trl.trainer.dpo_trainer:DPOTrainer._compute_loss"

PROFILE = Profile(
    "trl",
    "trl",
    "1.16",
    (
        Entry("grpo", GROUP_LOSS, "grpo", grpo, "loss_type='grpo', use_bias_correction_kl=False"),
        Entry("grpo, default KL", GROUP_LOSS, "grpo", grpo_kl_times_ratio, "loss_type='grpo', beta=0.04",
              {"kl_coef": 0.04, "kl_ratio": "attached"}),
        Entry("bnpo", GROUP_LOSS, "grpo", bnpo, "loss_type='bnpo'", {"aggregation": "token_mean"}),
        Entry("dr_grpo", GROUP_LOSS, "dr_grpo", dr_grpo, "loss_type='dr_grpo'"),
        Entry("dapo", GROUP_LOSS, "dapo", dapo, "loss_type='dapo'"),
        Entry("cispo", GROUP_LOSS, "cispo", cispo, "loss_type='cispo'", {}, ("cispo_cap=epsilon",)),
        Entry("gspo", GROUP_LOSS, "gspo", gspo, "importance_sampling_level='sequence'"),
        Entry("sapo", GROUP_LOSS, "sapo", sapo, "loss_type='sapo'"),
        Entry("dpo", PAIR_LOSS, "dpo", dpo, "loss_type='sigmoid'"),
        Entry("robust", PAIR_LOSS, "robust_dpo", robust_dpo, "loss_type='robust'"),
        Entry("ipo", PAIR_LOSS, "ipo", ipo, "loss_type='ipo'", {"log_ratio": "mean"}),
        Entry("sft", "trl.trainer.sft_trainer:SFTTrainer.compute_loss", "sft", sft, "loss_type='nll'"),
        Entry("reward", "trl.trainer.reward_trainer:RewardTrainer.compute_loss", "bradley_terry", reward),
        Entry("selective_log_softmax", "trl.trainer.utils:selective_log_softmax", "token_logps"),
        Entry("entropy_from_logits", "trl.trainer.utils:entropy_from_logits", "token_entropies"),
    ),
)  # fmt: skip
