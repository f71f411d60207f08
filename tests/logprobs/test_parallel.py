"""A vocabulary, or a batch, in parts on several processes: the same as one process with the whole."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from grape_verified import aggregate, linear_token_logps

pytestmark = pytest.mark.full("losses on every route, on several processes and beside other libraries")

SCRIPT = Path(__file__).with_name("ranks.py")
SPEC = importlib.util.spec_from_file_location("ranks", SCRIPT)
one = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(one)


@pytest.fixture(scope="module", params=[2, 4])
def several(request, tmp_path_factory):
    """The results of several processes."""
    folder = tmp_path_factory.mktemp("ranks")
    started = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), str(request.param), str(folder)])
        for rank in range(request.param)
    ]
    assert [process.wait(timeout=300) for process in started] == [0] * request.param
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def whole(name, parts):
    """A result of the whole vocabulary from those of its parts: joined where each has its own, and else that of all."""
    if name.endswith((" weight", " bias")):
        return torch.cat(parts)
    for part in parts[1:]:
        assert torch.equal(part, parts[0]), name
    return parts[0]


def test_a_vocabulary_in_parts(several):
    """Rounding apart, which is that of another order of summation; all ranks find the same bits."""
    alone = one.vocabulary_parallel(torch.float64, 0, 1, None)
    for name, expected in alone.items():
        found = whole(name, [rank["fp64"][name] for rank in several])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, msg=lambda text: f"{name}: {text}")  # noqa: B023


def test_documented_bounds(several):
    leaves, constants = one.problem(torch.float32)
    hidden, weight, bias, temperature = (x.double() for x in leaves.values())
    scores = (hidden @ weight.T + bias) / temperature.unsqueeze(-1)
    logp = torch.log_softmax(scores, -1)
    chosen = logp.gather(-1, constants["targets"].unsqueeze(-1)).squeeze(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    spread = (logp.exp() * logp.abs() * (logp + entropy.unsqueeze(-1)).abs()).sum(-1)
    unit = 2.0**-24
    size = (hidden.abs() @ weight.abs().T + bias.abs()).amax(-1) / temperature
    of_logits = 2 * unit * (one.WIDTH + 4) * size
    for rank in several:
        found, counted = rank["fp32"], constants["mask"]
        bound = of_logits + 4 * unit * (chosen.abs() + entropy + 1)
        assert ((found["logps"].double() - chosen).abs() <= bound)[counted].all()
        bound = of_logits * (1 + spread) + 4 * unit * (1 + entropy + spread)
        assert ((found["entropies"].double() - entropy).abs() <= bound)[counted].all()


def test_a_batch_in_parts(several):
    leaves, constants = one.problem(torch.float64)
    values, mask = leaves["temperature"].requires_grad_(), constants["mask"]
    for mode in one.MODES:
        expected = aggregate(values, mask, mode, max_length=7 if mode == "fixed_length" else None)
        shares, gradients = zip(*(rank["data"][mode] for rank in several), strict=True)
        torch.testing.assert_close(sum(shares), expected.detach())
        torch.testing.assert_close(torch.cat(gradients), torch.autograd.grad(expected, values)[0])


def test_a_rank_takes_the_memory_of_its_part(several):
    """Its gradients, and at most a quarter more, beside one tile of logits and what every process takes in any case."""
    tokens, width, vocab = one.LARGE
    gradients = (vocab / len(several) + tokens) * width * 4 / 2**20
    tile = one.TILE[0] * one.TILE[1] * 4 / 2**20
    for rank in several:
        assert 0.9 * gradients <= rank["peak"] <= 1.25 * gradients + tile + 4


def test_parts_of_unequal_size_are_refused_on_every_rank(several):
    for place, rank in enumerate(several):
        most = 2 + len(several)
        assert rank["unequal"].startswith(f"weight: got {3 + place} rows on this rank and 3 to {most} on all, expected")


def test_a_group_is_a_process_group():
    with pytest.raises(TypeError, match=r"group: got str, expected a torch.distributed.ProcessGroup or None"):
        linear_token_logps(torch.ones(1, 2), torch.ones(3, 2), torch.tensor([0]), group="world")
