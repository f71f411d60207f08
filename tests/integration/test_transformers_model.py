"""Realistic inputs: losses through the logits of a Llama model, against fp64 from first principles.

The kernels see a padded batch, shifted and masked as in a trainer. The reference sees one sequence at a time, without
padding, in a model in double precision, and visits the tokens that count in Python loops; none of our kernels is in it.
"""

import copy
from typing import NamedTuple

import pytest
import torch
from torch.distributions import Categorical
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from grape_verified import aggregate, dpo_loss, ppo_loss, token_entropies, token_logps

VOCAB, PAD = 61, 0
SIDES = ("left", "right")
ADVANTAGES = (1.3, -0.7, 0.4, -2.1)
CLIPPINGS = (
    {},
    {"clip_low": 0.1, "clip_high": 0.4, "dual_clip": 1.5, "aggregation": "sequence_mean"},
)

# Both routes evaluate the same formulas, but on batches of different shapes, so every sum over tokens, width or
# vocabulary may be taken in another order. Those sums have at most 64 terms, and some sixteen of them follow each
# other from the embedding to the loss and back; each costs at most (terms · u) of the size of its terms. Hence a bound
# of 64 · 16 = 1024 unit roundoffs u of the model's dtype, relative to the largest entry of what is compared: 1.1e-13 in
# fp64, 6.1e-5 in fp32. Measured: under 70.
ROUNDINGS = 1024


class Sequence(NamedTuple):
    """Tokens, and for each whether it counts: not those of the prompt, nor a tool's output within the completion."""

    tokens: list[int]
    counted: list[bool]


class Batch(NamedTuple):
    """Sequences, padded; `targets` and `mask` are shifted, so that position t predicts `targets[:, t]`."""

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor
    mask: torch.Tensor


def sequences():
    """Ragged prompts and completions. The pad token also occurs as a real one, as when pad = eos."""
    generator = torch.Generator().manual_seed(0)
    result = []
    for prompt, completion in ((3, 8), (7, 5), (1, 11), (5, 1)):
        tokens = torch.randint(VOCAB, (prompt + completion,), generator=generator).tolist()
        result.append(Sequence(tokens, [False] * prompt + [True] * completion))
    result[2].counted[4:6] = [False, False]
    for sequence in result[:3]:
        sequence.tokens[-1] = PAD
    return result


def pad(rows, side):
    """A batch of the sequences, padded on one side."""
    length = max(len(row.tokens) for row in rows)

    def fill(values, padding):
        missing = [padding] * (length - len(values))
        return missing + values if side == "left" else values + missing

    tokens = torch.tensor([fill(row.tokens, PAD) for row in rows])
    counted = torch.tensor([fill(row.counted, False) for row in rows])
    real = torch.tensor([fill([1] * len(row.tokens), 0) for row in rows])
    positions = (real.cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": tokens, "attention_mask": real, "position_ids": positions}
    return Batch(inputs, tokens[:, 1:], counted[:, 1:])


def new_model(seed):
    """A small Llama with random weights, large enough for distributions that are far from uniform."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.15,
        pad_token_id=PAD,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def perturbed(model, size, seed):
    """The model some updates ago: every weight moved a little."""
    result = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return result


def in_dtype(model, dtype):
    """A copy in another dtype. The norms of transformers always compute in fp32: in fp64, torch's replace them."""
    result = copy.deepcopy(model).to(dtype)
    if dtype == torch.float64:
        for parent in list(result.modules()):
            for name, norm in list(parent.named_children()):
                if isinstance(norm, LlamaRMSNorm):
                    double = torch.nn.RMSNorm(norm.weight.shape, norm.variance_epsilon, dtype=dtype)
                    double.weight = norm.weight
                    setattr(parent, name, double)
    return result


@pytest.fixture(scope="module")
def models():
    """The model that is trained, and the one that sampled (for PPO) or is the reference (for DPO)."""
    current = new_model(seed=1)
    return current, perturbed(current, size=0.02, seed=2)


def logits_of(model, batch):
    """Logits that predict the targets."""
    return model(**batch.inputs).logits[:, :-1]


def gradients(loss, model):
    """The gradients of all parameters, each of which takes part."""
    named = dict(model.named_parameters())
    found = dict(zip(named, torch.autograd.grad(loss, named.values(), retain_graph=True), strict=True))
    assert all(gradient.isfinite().all() and gradient.any() for gradient in found.values())
    return found


def assert_close(found, expected, dtype):
    """Equal up to `ROUNDINGS` of the dtype, relative to the largest entry."""
    unit = torch.finfo(dtype).eps / 2
    error = (found.double() - expected.double()).abs().max()
    assert error <= ROUNDINGS * unit * expected.abs().max(), f"off by {error / unit / expected.abs().max():.0f} u"


def assert_same(loss, model, expected_loss, expected_model, dtype):
    """The same loss, and the same gradient of every parameter."""
    assert_close(loss.detach(), expected_loss.detach(), dtype)
    expected = gradients(expected_loss, expected_model)
    for name, gradient in gradients(loss, model).items():
        assert_close(gradient, expected[name], dtype)


# -- with the kernels --------------------------------------------------------------------------------------------------


def ppo_with_kernels(logits, old_logits, batch, **options):
    logps, old_logps = (token_logps(given, batch.targets) for given in (logits, old_logits))
    return ppo_loss(logps, old_logps, torch.tensor(ADVANTAGES, dtype=torch.float64), batch.mask, **options)


def dpo_with_kernels(logits, ref_logits, batch, **options):
    """The first half of the batch is chosen over the second."""
    logps, ref_logps = (
        token_logps(given, batch.targets).masked_fill(~batch.mask, 0).sum(1) for given in (logits, ref_logits)
    )
    return dpo_loss(*logps.chunk(2), *ref_logps.chunk(2), **options)


# -- from first principles ---------------------------------------------------------------------------------------------


def distributions(model, row):
    """For each counted token of a sequence: the distribution that it was drawn from, and the token."""
    logits = model(input_ids=torch.tensor([row.tokens])).logits[0]
    return chosen_from(logits[:-1], row)


def chosen_from(logits, row):
    """The same, from logits that predict the second token and those after it."""
    places = [t for t, counts in enumerate(row.counted) if counts]
    return [(Categorical(logits=logits[t - 1].double()), torch.tensor(row.tokens[t])) for t in places]


def logps_one_by_one(model, row):
    return [distribution.log_prob(token) for distribution, token in distributions(model, row)]


def ppo_region(ratio, advantage, clip_low=0.2, clip_high=0.2, dual_clip=None, **_):
    """Where a token is: the constant that its ratio is replaced by, or None where it is left alone."""
    if advantage > 0 and ratio > 1 + clip_high:
        return 1 + clip_high
    if advantage < 0 and ratio < 1 - clip_low:
        return 1 - clip_low
    if advantage < 0 and dual_clip is not None and ratio > dual_clip:
        return dual_clip
    return None


def ratios_one_by_one(logps, old_logps):
    """Ratios of all tokens that count, sequence by sequence."""
    return [
        [(new - old.detach()).exp() for new, old in zip(*row, strict=True)]
        for row in zip(logps, old_logps, strict=True)
    ]


def ppo_from_principles(ratios, aggregation="token_mean", **clipping):
    totals = []
    for row, advantage in zip(ratios, ADVANTAGES, strict=True):
        constants = [ppo_region(ratio.item(), advantage, **clipping) for ratio in row]
        totals.append(-sum(advantage * (r if c is None else c) for r, c in zip(row, constants, strict=True)))
    if aggregation == "token_mean":
        return sum(totals) / sum(len(row) for row in ratios)
    return sum(total / len(row) for total, row in zip(totals, ratios, strict=True)) / len(ratios)


def dpo_from_principles(logps, ref_logps, beta=0.1, label_smoothing=0.0):
    """−log σ(m) = log(1 + e⁻ᵐ), of margins that no exponential overflows for."""
    rewards = [beta * (sum(row) - sum(ref).detach()) for row, ref in zip(logps, ref_logps, strict=True)]
    pairs = len(rewards) // 2
    margins = [rewards[i] - rewards[pairs + i] for i in range(pairs)]
    losses = [
        (1 - label_smoothing) * torch.log(1 + torch.exp(-m)) + label_smoothing * torch.log(1 + torch.exp(m))
        for m in margins
    ]
    return sum(losses) / pairs


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_padding_does_not_reach_the_logits_of_real_tokens(models, side):
    """The premise of the other tests: the batch is assembled as the model expects it."""
    model, rows = in_dtype(models[0], torch.float64), sequences()
    batch = pad(rows, side)
    padded = model(**batch.inputs).logits
    for i, row in enumerate(rows):
        alone = model(input_ids=torch.tensor([row.tokens])).logits[0]
        assert_close(padded[i][batch.inputs["attention_mask"][i] == 1], alone, torch.float64)


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_tokens_lie_on_all_sides_of_the_clip_and_not_at_its_edges(models, clipping):
    """The premise of comparing dtypes: rounding moves no token across an edge."""
    current, old = (in_dtype(model, torch.float64) for model in models)
    logps, old_logps = ([logps_one_by_one(model, row) for row in sequences()] for model in (current, old))
    ratios = [[ratio.item() for ratio in row] for row in ratios_one_by_one(logps, old_logps)]
    regions = {ppo_region(r, a, **clipping) for row, a in zip(ratios, ADVANTAGES, strict=True) for r in row}
    low, high, dual = (clipping.get(name, 0.2) for name in ("clip_low", "clip_high", "dual_clip"))
    assert regions == {None, 1 + high, 1 - low} | ({dual} if "dual_clip" in clipping else set())
    assert min(abs(r - edge) for row in ratios for r in row for edge in (1 - low, 1 + high, dual)) > 1e-3


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ppo(models, dtype, side, clipping):
    model, old_model = (in_dtype(m, dtype) for m in models)
    batch = pad(sequences(), side)
    output = ppo_with_kernels(logits_of(model, batch), logits_of(old_model, batch), batch, **clipping)
    double, old_double = (in_dtype(m, torch.float64) for m in models)
    ratios = ratios_one_by_one(*([logps_one_by_one(m, row) for row in sequences()] for m in (double, old_double)))
    assert output.loss.dtype == dtype
    assert 0 < output.metrics["clip_fraction"] < 1
    assert_same(output.loss, model, ppo_from_principles(ratios, **clipping), double, dtype)


@pytest.mark.parametrize("options", [{}, {"beta": 0.7, "label_smoothing": 0.2}])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_dpo(models, dtype, side, options):
    model, ref_model = (in_dtype(m, dtype) for m in models)
    batch = pad(sequences(), side)
    output = dpo_with_kernels(logits_of(model, batch), logits_of(ref_model, batch), batch, **options)
    double, ref_double = (in_dtype(m, torch.float64) for m in models)
    logps, ref_logps = ([logps_one_by_one(m, row) for row in sequences()] for m in (double, ref_double))
    assert output.loss.dtype == dtype
    assert_same(output.loss, model, dpo_from_principles(logps, ref_logps, **options), double, dtype)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_entropies(models, dtype, side):
    model, batch = in_dtype(models[0], dtype), pad(sequences(), side)
    entropy = aggregate(token_entropies(logits_of(model, batch)), batch.mask, "token_mean")
    double = in_dtype(models[0], torch.float64)
    entropies = [distribution.entropy() for row in sequences() for distribution, _ in distributions(double, row)]
    assert entropy.dtype == dtype
    assert_same(entropy, model, sum(entropies) / len(entropies), double, dtype)


@pytest.mark.parametrize("method", [ppo_with_kernels, dpo_with_kernels])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_side_of_the_padding_does_not_matter(models, dtype, method):
    model, other = (in_dtype(m, dtype) for m in models)
    batches = (pad(sequences(), side) for side in SIDES)
    left, right = (method(logits_of(model, batch), logits_of(other, batch), batch).loss for batch in batches)
    assert_same(left, model, right, model, dtype)


@pytest.mark.parametrize("side", SIDES)
def test_bf16_logits_give_fp32_losses(models, side):
    """Only the model is coarse: from its logits on, losses are as accurate as in fp32, gradients rounded once."""
    batch = pad(sequences(), side)
    model, other = (in_dtype(m, torch.bfloat16) for m in models)
    logits, other_logits = (logits_of(m, batch) for m in (model, other))
    assert logits.dtype == torch.bfloat16

    real = batch.inputs["attention_mask"] == 1
    inside = real[:, :-1] & real[:, 1:]

    def one_by_one(given):
        places = enumerate(sequences())
        return [[of.log_prob(token) for of, token in chosen_from(given[i][inside[i]], row)] for i, row in places]

    logps, other_logps = one_by_one(logits), one_by_one(other_logits)
    for method, expected in (
        (ppo_with_kernels, ppo_from_principles(ratios_one_by_one(logps, other_logps))),
        (dpo_with_kernels, dpo_from_principles(logps, other_logps)),
    ):
        loss = method(logits, other_logits, batch).loss
        assert loss.dtype == torch.float32
        assert_close(loss.detach(), expected.detach(), torch.float32)
        of_logits, exact = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (loss, expected))
        # Nearly the same number, rounded to bf16 twice: neighbours at most, 2⁻⁷ apart; entries at 0 as fp32 has them.
        torch.testing.assert_close(of_logits, exact, rtol=2**-7, atol=2**-20 * exact.abs().max().item())
        assert not of_logits[~batch.mask].any()
        assert {gradient.dtype for gradient in gradients(loss, model).values()} == {torch.bfloat16}
