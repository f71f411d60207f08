"""Each cell of the benchmark of distillation computes what its column says."""

import math
from statistics import median

import pytest
import torch

from benchmarks import distillation, table
from benchmarks.cells import NotOffered
from benchmarks.distillation import TASKS, exact, lesson, row
from benchmarks.measure import errors
from benchmarks.problems import KINDS, SEQUENCES, Shape

TINY = Shape(2 * SEQUENCES, 5, 11)


def by_hand(p, task):
    """The loss in fp64, token by token and word by word."""
    tokens = [(b, t) for b in range(p.mask.shape[0]) for t in range(p.mask.shape[1]) if p.mask[b, t]]

    def probabilities(hidden, weight):
        powers = [math.exp(z) for z in (weight.detach().double() @ hidden.detach().double()).tolist()]
        return [x / math.fsum(powers) for x in powers]

    total = 0.0
    for at in tokens:
        student = probabilities(p.hidden[at], p.weight)
        if task == "jsd":
            teacher = probabilities(p.teacher_hidden[at], p.teacher_weight)
            for q, r in zip(student, teacher, strict=True):
                total += (q * math.log(2 * q / (q + r)) + r * math.log(2 * r / (q + r))) / 2
        else:
            sent = {
                v: math.exp(x) for v, x in zip(p.teacher_tokens[at].tolist(), p.teacher_logps[at].tolist(), strict=True)
            }
            rest, others = 1 - math.fsum(sent.values()), math.fsum(q for v, q in enumerate(student) if v not in sent)
            total += math.fsum(r * math.log(r / student[v]) for v, r in sent.items()) + rest * math.log(rest / others)
    return total / len(tokens)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["flat", "peaked", "masked"])
def test_the_exact_result_is_that_by_hand(task, kind):
    p = lesson(TINY, kind, torch.float64, "cpu", seed=1)
    assert exact(p, task).loss.item() == pytest.approx(by_hand(p, task), rel=1e-9)


@pytest.mark.parametrize("name", ["naive", "logits", "one-pass", "one-pass:3x4"])
@pytest.mark.parametrize("task", TASKS)
def test_ours_and_naive_give_the_same_loss_and_gradients(name, task):
    sure = {"peaked"} if (name, task) == ("naive", "top-k") else set()  # 1 − Σ in fp32 has no digit left there
    for kind in set(KINDS) - {"offset", "zeros"} - sure:
        found = errors(row(name), task, TINY, torch.float32, kind, "cpu", seed=1)
        assert max(found["loss"], found["hidden"], found["weight"]) < 2e-5


def test_so_does_liger(monkeypatch):
    """Without compiling it, which is slow."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    monkeypatch.setattr(
        LigerFusedLinearJSDLoss.__init__, "__defaults__", (0.5, 0.5, 0.5, -100, 1.0, False, 1024, False)
    )
    found = errors(row("liger"), "jsd", TINY, torch.float32, "masked", "cpu", seed=1)
    assert max(found["loss"], found["hidden"], found["weight"]) < 2e-5


@pytest.mark.parametrize("task", TASKS)
def test_the_kept_results_take_a_third_of_the_memory_and_no_more_time(task):
    results = table.Results(*table.kept("-distillation"))
    peak, naive = (results.cells[task, name]["peak"] for name in ("one-pass", "naive"))
    assert peak <= 0.35 * naive
    assert median(results.over_naive(task, "one-pass")) <= 1


def test_who_has_no_such_loss():
    p = lesson(TINY, "flat", torch.float32, "cpu", seed=0)
    for name, task in (("liger", "top-k"), ("torch", "jsd"), ("two-stage", "jsd")):
        with pytest.raises(NotOffered):
            row(name)(p, task)


def test_a_wrong_cell_would_be_seen(monkeypatch):
    monkeypatch.setattr(distillation, "fused_jensen_shannon_loss", _without_mask)
    assert errors(row("one-pass"), "jsd", TINY, torch.float32, "masked", "cpu", seed=1)["weight"] > 0.1


def _without_mask(*given, mask, **options):
    return fused(*given, **options)


fused = distillation.fused_jensen_shannon_loss
