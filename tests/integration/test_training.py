"""Every method trains a small transformer on a task with a verifiable answer, through the public functions alone.

The prompt is a digit d. The answer is d + 1 and the end of the sequence where d is even, and d + 1, d + 2 and the end
where it is odd, digits modulo ten. What is measured is exact: the mean over all prompts of the probability of the right
answer. Each method must raise it from below 1 % to what `IMPROVES` says; the same run, at the same seed, with its
signal drawn at random (advantages, rewards, preferences, targets or scores) must not.
"""

import copy
from typing import NamedTuple

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import grape_verified as gv

END, PAD, VOCAB, LONGEST = 10, 11, 12, 3
PROMPTS = torch.arange(10)
ANSWERS = [[(d + 1) % 10, END, PAD] if d % 2 == 0 else [(d + 1) % 10, (d + 2) % 10, END] for d in range(10)]
ANSWERS = torch.tensor(ANSWERS)
GROUP = 8


def small_model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8, pad_token_id=PAD, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


class Responses(NamedTuple):
    """Responses of one batch; position t of the logits predicts `targets[:, t]`."""

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor


def responses(prompts, targets):
    return Responses(torch.cat([prompts[:, None], targets[:, :-1]], 1), targets, targets != PAD)


@torch.no_grad()
def sample(model, prompts, generator):
    """One response to each prompt, up to and with the end of the sequence."""
    tokens, ended = prompts[:, None], torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(LONGEST):
        logits = model(tokens).logits[:, -1, :PAD]
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0].masked_fill(ended, PAD)
        tokens, ended = torch.cat([tokens, drawn[:, None]], 1), ended | (drawn == END)
    return responses(prompts, tokens[:, 1:])


def logits_of(model, batch):
    """Logits of every position; the padding token cannot be sampled."""
    logits = model(batch.inputs).logits.clone()
    logits[..., PAD] = -torch.inf
    return logits


def logps_of(model, batch):
    """Log-probabilities of the responses; masked positions have targets of their own and do not count."""
    return gv.token_logps(logits_of(model, batch), batch.targets.masked_fill(~batch.mask, 0))


@torch.no_grad()
def accuracy(model):
    """Mean probability of the right answer, exactly."""
    batch = responses(PROMPTS, ANSWERS)
    return logps_of(model, batch).masked_fill(~batch.mask, 0).sum(1).exp().mean().item()


def rewards_of(batch):
    """The share of positions that are right, the padding after the end included."""
    right = ANSWERS[batch.inputs[:, 0]]
    return (batch.targets == right).double().mean(1).float()


def random_like(x, run):
    return torch.rand(x.shape, generator=run.generator)


class Run:
    """A model in training: its optimiser, its samples, and whether its signal is drawn at random."""

    def __init__(self, at_random, rate=3e-3):
        self.model, self.at_random = small_model(), at_random
        self.reference = copy.deepcopy(self.model).requires_grad_(False)
        self.generator = torch.Generator().manual_seed(1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)

    def sampled(self, group=GROUP):
        """A group of responses to every prompt, their rewards (or noise), and what the policy thinks of them."""
        batch = sample(self.model, PROMPTS.repeat_interleave(group), self.generator)
        rewards = random_like(batch.inputs[:, 0], self) if self.at_random else rewards_of(batch)
        with torch.no_grad():
            return batch, rewards, logps_of(self.model, batch)

    def update(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def train_sft(run, updates=60):
    for _ in range(updates):
        targets = ANSWERS
        if run.at_random:
            targets = torch.where(ANSWERS < END, torch.randint(10, ANSWERS.shape, generator=run.generator), ANSWERS)
        batch = responses(PROMPTS, targets)
        run.update(gv.sft_loss(logps_of(run.model, batch), batch.mask).loss)


def train_rejection(run, updates=200):
    for _ in range(updates):
        batch, rewards, _ = run.sampled()
        logps = logps_of(run.model, batch)
        run.update(gv.rejection_sampling_loss(logps, rewards, batch.mask, group_size=GROUP, keep="best").loss)


def train_reinforce(run, updates=200):
    for _ in range(updates):
        batch, rewards, _ = run.sampled()
        advantages = gv.group_advantages(rewards, GROUP, baseline="leave_one_out", scale="none")
        run.update(gv.reinforce_loss(logps_of(run.model, batch), advantages, batch.mask).loss)


def train_trpo(run, updates=60):
    for _ in range(updates):
        batch, rewards, _ = run.sampled()
        advantages = gv.group_advantages(rewards, GROUP, scale="none")
        targets = batch.targets.masked_fill(~batch.mask, 0)
        step = gv.trpo_step(Reader(run.model), batch.inputs, targets, advantages, batch.mask, max_kl=0.03)
        assert step.kl <= 0.03


class Reader(torch.nn.Module):
    """The model with the padding token ruled out, as everywhere else here."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        allowed = torch.arange(VOCAB) != PAD
        return self.model(tokens).logits.masked_fill(~allowed, -1e4)


def train_ppo(run, updates=150):
    """With a value head, generalised advantages, the KL penalty in the reward and its adaptive coefficient."""
    head = torch.nn.Linear(32, 1)
    torch.nn.init.zeros_(head.weight)
    run.optimizer.add_param_group({"params": head.parameters()})
    kl_coef = 0.01

    def values_of(batch):
        return head(run.model.model(batch.inputs).last_hidden_state)[..., 0]

    for _ in range(updates):
        batch, rewards, old_logps = run.sampled()
        with torch.no_grad():
            ref_logps, old_values = logps_of(run.reference, batch), values_of(batch)
        shaped = gv.kl_shaped_rewards(rewards, old_logps, ref_logps, batch.mask, kl_coef=kl_coef)
        advantages, returns = gv.gae(shaped, old_values, batch.mask, lam=0.95)
        advantages = gv.whiten(advantages, batch.mask)
        for _ in range(2):
            logits = logits_of(run.model, batch)
            logps = gv.token_logps(logits, batch.targets.masked_fill(~batch.mask, 0))
            policy = gv.ppo_loss(logps, old_logps, advantages, batch.mask).loss
            value = gv.value_loss(values_of(batch), returns, batch.mask, old_values=old_values, clip=0.2).loss
            entropy = gv.aggregate(gv.token_entropies(logits), batch.mask, "token_mean")
            run.update(policy + 0.5 * value - 0.001 * entropy)
        kl = gv.aggregate(gv.kl_estimate(old_logps, ref_logps, "k1"), batch.mask, "sequence_sum").item()
        kl_coef = gv.adaptive_kl_coef(kl_coef, max(kl, 0.0), target=6.0, horizon=1000, steps=1)


def train_grpo(run, updates=150):
    for _ in range(updates):
        batch, rewards, old_logps = run.sampled()
        advantages = gv.group_advantages(rewards, GROUP)
        with torch.no_grad():
            ref_logps = logps_of(run.reference, batch)
        for _ in range(2):
            logps = logps_of(run.model, batch)
            out = gv.grpo_loss(logps, old_logps, advantages, batch.mask, ref_logps=ref_logps, kl_coef=0.005)
            run.update(out.loss)


def train_dpo(run, updates=300):
    """Online: of the responses to each prompt, one with the highest reward is preferred to one with the lowest."""
    for _ in range(updates):
        batch, rewards, _ = run.sampled()
        rewards = rewards.view(-1, GROUP)
        differ = rewards.amax(1) > rewards.amin(1)
        if not differ.any():
            continue
        first = GROUP * torch.arange(len(PROMPTS))[differ]
        chosen, rejected = first + rewards.argmax(1)[differ], first + rewards.argmin(1)[differ]
        sums = logps_of(run.model, batch).masked_fill(~batch.mask, 0).sum(1)
        with torch.no_grad():
            refs = logps_of(run.reference, batch).masked_fill(~batch.mask, 0).sum(1)
        run.update(gv.dpo_loss(sums[chosen], sums[rejected], refs[chosen], refs[rejected], beta=0.1).loss)


def train_grape(run, updates=150):
    """Three items, one for each position, the last of which is judged with less confidence."""
    weights = torch.tensor([2.0, 1.0, 1.0])
    for _ in range(updates):
        batch, _, old_logps = run.sampled()
        right = (batch.targets == ANSWERS[batch.inputs[:, 0]]).float()
        scores = (random_like(right, run) if run.at_random else right).view(len(PROMPTS), GROUP, 3)
        confidences = torch.tensor([1.0, 1.0, 0.6]).expand_as(scores)
        for _ in range(2):
            logps = logps_of(run.model, batch)
            run.update(gv.grape_loss(logps, old_logps, scores, confidences, weights, batch.mask).loss)


METHODS = {
    "sft": train_sft,
    "rejection": train_rejection,
    "reinforce": train_reinforce,
    "trpo": train_trpo,
    "ppo": train_ppo,
    "grpo": train_grpo,
    "dpo": train_dpo,
    "grape": train_grape,
}

#: The probability of the right answer that training must reach.
IMPROVES = dict.fromkeys(METHODS, 0.5)

#: What it may not reach with a random signal: the best that ignores the signal is a guess of the first digit.
BY_CHANCE = 0.1


#: The methods of the default tier: with a critic, with pairs, with items.
SHORT = ("ppo", "dpo", "grape")
LONG = pytest.mark.full("13 of 16 trainings")


@pytest.mark.parametrize("name", [name if name in SHORT else pytest.param(name, marks=LONG) for name in METHODS])
def test_training_improves_what_it_optimises(name, record_property):
    run = Run(at_random=False)
    before = accuracy(run.model)
    METHODS[name](run)
    after = accuracy(run.model)
    record_property("probability of the right answer", f"{before:.4f} -> {after:.4f}")
    assert before < 0.01
    assert after > IMPROVES[name]


@LONG
@pytest.mark.parametrize("name", METHODS)
def test_a_random_signal_improves_nothing(name, record_property):
    run = Run(at_random=True)
    METHODS[name](run)
    after = accuracy(run.model)
    record_property("probability of the right answer, random signal", f"{after:.4f}")
    assert after < BY_CHANCE
