"""Each cell computes what its column says, so that times measure nothing else."""

import math

import pytest
import torch

from benchmarks.cells import NotOffered, row
from benchmarks.measure import errors, forward_backward
from benchmarks.problems import KINDS, SEQUENCES, TASKS, WITHOUT_ADVANTAGES, Shape, exact, problem
from benchmarks.textbook import BETA, CLIP

TINY = Shape(2 * SEQUENCES, 5, 11)


def first_principles(p, task):
    """Loss and gradients in fp64, token by token: ∂log π_y/∂z_v = δ_yv − π_v and ∂H/∂z_v = −π_v (log π_v + H)."""
    hidden, weight = p.hidden.detach().double(), p.weight.detach().double()
    batch, time = p.targets.shape
    tokens = [(b, t) for b in range(batch) for t in range(time) if p.mask[b, t]]
    pi = {at: [math.exp(z) for z in (weight @ hidden[at]).tolist()] for at in tokens}
    pi = {at: [x / math.fsum(row) for x in row] for at, row in pi.items()}
    logp = {at: math.log(pi[at][p.targets[at]]) for at in tokens}
    entropy = {at: -math.fsum(x * math.log(x) for x in pi[at]) for at in tokens}
    loss, slope = {"grpo": grpo, "dpo": dpo}.get(task, linear)(p, task, logp, entropy)
    of_hidden, of_weight = torch.zeros_like(hidden), torch.zeros_like(weight)
    for at in tokens:
        g = slope[at]
        g_h = p.entropy_upstream[at].item() if task == "entropy" else 0.0
        for v, x in enumerate(pi[at]):
            slope_v = g * ((v == p.targets[at].item()) - x) - g_h * x * (math.log(x) + entropy[at])
            of_hidden[at] += slope_v * weight[v]
            of_weight[v] += slope_v * hidden[at]
    return loss, of_hidden, of_weight


def linear(p, task, logp, entropy):
    slope = {at: -1 / len(logp) if task == "sft" else p.upstream[at].item() for at in logp}
    loss = math.fsum(slope[at] * logp[at] for at in logp)
    if task == "entropy":
        loss += math.fsum(p.entropy_upstream[at].item() * entropy[at] for at in logp)
    return loss, slope


def grpo(p, _, logp, __):
    loss, slope = 0.0, {}
    for at in logp:
        advantage, ratio = p.advantages[at[0]].item(), math.exp(logp[at] - p.old_logps[at].item())
        clipped = ratio > 1 + CLIP if advantage > 0 else ratio < 1 - CLIP
        bounded = min(max(ratio, 1 - CLIP), 1 + CLIP) if clipped else ratio
        loss -= bounded * advantage / len(logp)
        slope[at] = 0.0 if clipped else -ratio * advantage / len(logp)
    return loss, slope


def dpo(p, _, logp, __):
    pairs = SEQUENCES // 2
    sums = [math.fsum(x for at, x in logp.items() if at[0] == b) for b in range(SEQUENCES)]
    margins = [BETA * (sums[b] - sums[b + pairs]) for b in range(pairs)]
    miss = [1 / (1 + math.exp(m)) for m in margins]
    slope = {(b, t): (BETA / pairs) * miss[b % pairs] * (-1 if b < pairs else 1) for b, t in logp}
    return math.fsum(math.log1p(math.exp(-m)) for m in margins) / pairs, slope


def kinds(task):
    return [kind for kind in KINDS if kind not in ({"offset", "zeros"} if task in WITHOUT_ADVANTAGES else {"offset"})]


@pytest.mark.parametrize("task", TASKS)
def test_the_exact_result_is_that_of_first_principles(task):
    for kind in kinds(task):
        p = problem(TINY, kind, torch.float64, "cpu", seed=1)
        truth = exact(p, task)
        loss, of_hidden, of_weight = first_principles(p, task)
        assert truth.loss.item() == pytest.approx(loss, rel=1e-10)
        torch.testing.assert_close(truth.of_hidden, of_hidden, rtol=1e-8, atol=1e-11)
        torch.testing.assert_close(truth.of_weight, of_weight, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["naive", "logits", "two-stage", "one-pass", "two-stage:3x4", "one-pass:3x4"])
@pytest.mark.parametrize("task", TASKS)
def test_ours_and_naive_give_the_same_loss_and_gradients(name, task):
    if name.startswith("one-pass") and task == "entropy":
        with pytest.raises(NotOffered):
            row(name)(problem(TINY, "flat", torch.float32, "cpu", 0), task)
        return
    for kind in kinds(task):
        found = errors(row(name), task, TINY, torch.float32, kind, "cpu", seed=1)
        assert found["loss"] < 2e-5
        assert found["hidden"] < 2e-5
        assert found["weight"] < 2e-5
        assert found["logps"] < 2e-5
        assert task != "entropy" or found["entropies"] < 2e-5


@pytest.mark.parametrize("task", ["logps", "sft", "grpo", "dpo"])
def test_so_does_torch(task):
    found = errors(row("torch"), task, TINY, torch.float32, "masked", "cpu", seed=1)
    assert max(found["hidden"], found["weight"], found["loss"]) < 2e-5


def test_so_does_liger():
    """Compiling the losses is slow, so their stored results are checked instead."""
    found = errors(row("liger"), "logps", TINY, torch.float32, "masked", "cpu", seed=1)
    assert max(found["hidden"], found["weight"], found["loss"]) < 2e-5


def test_a_wrong_cell_would_be_seen():
    def without_mask(p, task):
        outcome = row("naive")(p, task)
        return outcome._replace(loss=-outcome.logps.mean())

    assert errors(without_mask, "sft", TINY, torch.float32, "masked", "cpu", seed=1)["weight"] > 0.1


def test_kinds_of_problem_are_what_they_are_called():
    shape = Shape(512, 64, 256)
    logps = {kind: exact(problem(shape, kind, torch.float32, "cpu", 0), "logps").logps for kind in KINDS}
    assert (logps["flat"] < -1).double().mean() > 0.99
    assert (logps["peaked"] > -1e-3).double().mean() == pytest.approx(0.25, abs=0.05)
    assert (logps["peaked"] < -15).double().mean() == pytest.approx(0.25, abs=0.05)
    offset = problem(shape, "offset", torch.float32, "cpu", 0)
    logits = offset.hidden @ offset.weight.T
    assert logits.abs().min() > 980
    assert (logits > 0).double().mean() == 0.5
    assert problem(shape, "masked", torch.float32, "cpu", 0).mask.double().mean() == 0.5
    zeros = problem(shape, "zeros", torch.float32, "cpu", 0)
    assert (zeros.advantages == 0).sum() == SEQUENCES // 2
    assert ((zeros.upstream == 0).all(1) == (zeros.advantages == 0)).all()


def test_gradients_are_new_each_time():
    p = problem(TINY, "flat", torch.float32, "cpu", 0)
    forward_backward(row("naive"), p, "sft")
    first = p.weight.grad.clone()
    forward_backward(row("naive"), p, "sft")
    assert torch.equal(p.weight.grad, first)
