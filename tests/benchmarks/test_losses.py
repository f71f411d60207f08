"""The losses table compares like with like: each textbook loss is the loss of the same name, value and gradient."""

import json
import sys

import pytest
import torch

import grape_verified
from benchmarks import losses
from benchmarks.losses import Case, Shape, batch, counts, forward_backward, inputs_of, sides, timed
from benchmarks.measure import peak_memory
from benchmarks.table import RESULTS
from benchmarks.textbook import ROWS, Row

SHAPE = Shape(16, 12)
VARIANTS = [(name, advantages) for name, row in ROWS.items() for advantages in row.advantages]
OTHER_BENCHMARK = {"fused_linear_loss", "fused_jensen_shannon_loss", "fused_top_k_loss"}


@pytest.fixture(autouse=True)
def _malloc_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(losses, "keep_freed_memory", lambda: None)


def both(name, advantages):
    everything = batch(SHAPE, advantages, "cpu", seed=3, dtype=torch.float64)
    inputs = inputs_of(name, everything)
    return [forward_backward(function, inputs) for function in sides(name).values()]


def test_every_public_loss_has_a_row():
    public = {name for name in grape_verified.__all__ if name.endswith("_loss")}
    assert {f"{name}_loss" for name in ROWS} == public - OTHER_BENCHMARK


@pytest.mark.parametrize(("name", "advantages"), VARIANTS)
def test_ours_and_the_textbook_compute_the_same_loss_and_gradients(name, advantages):
    ours, textbook = both(name, advantages)
    assert len(ours) == len(textbook) >= 2
    for mine, theirs in zip(ours, textbook, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
        assert theirs.count_nonzero() > 0


def test_a_textbook_loss_that_is_another_one_is_noticed(monkeypatch):
    def unclipped(logps, old_logps, advantages, mask):
        return -(((logps - old_logps).exp() * advantages.unsqueeze(1)) * mask).sum() / mask.sum()

    monkeypatch.setitem(ROWS, "ppo", Row(unclipped))
    ours, textbook = both("ppo", "sequence")
    assert (ours[0] - textbook[0]).abs() > 1e-3


def test_half_of_the_tokens_count_and_some_ratios_are_clipped():
    inputs = batch(Shape(64, 512), "token", "cpu", seed=0)
    assert inputs["mask"].double().mean() == pytest.approx(0.5, abs=0.02)
    assert inputs["advantages"].shape == (64, 512)
    ratio = (inputs["logps"] - inputs["old_logps"]).exp()
    assert 0.2 < ((ratio > 1.2) | (ratio < 0.8)).double().mean() < 0.4


def test_operators_are_counted_forward_and_backward():
    x = torch.ones(3, requires_grad=True)
    assert counts(lambda: x.exp()) == {"operators": 1, "host_reads": 0}
    # Forward: exp, sum. Backward: ones_like, expand, mul.
    assert counts(lambda: torch.autograd.grad(x.exp().sum(), x))["operators"] == 5


def test_host_reads_are_counted():
    x, where = torch.ones(3), torch.tensor([0, 2])
    reads = [
        lambda: bool(x.sum() > 0),
        lambda: x[x > 0],
        lambda: x.nonzero(),
        lambda: x.clone().__setitem__(x > 2, x[:0]),
    ]
    assert [counts(work)["host_reads"] for work in reads] == [1, 1, 1, 1]
    assert counts(lambda: (x[where], torch.where(x > 0, x, 0), x.masked_fill(x > 0, 0)))["host_reads"] == 0


def test_times_come_in_turns(monkeypatch):
    order = []
    works = {name: lambda name=name: order.append(name) for name in ("ours", "textbook")}
    monkeypatch.setattr(losses, "clocked", lambda work, device: work() or losses.LEAST)
    seconds = timed(works, 2, "cpu")
    assert order[-4:] == ["ours", "textbook", "textbook", "ours"]
    assert seconds == {"ours": [losses.LEAST] * 2, "textbook": [losses.LEAST] * 2}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux records the peak")
def test_peak_memory_includes_the_gradient():
    """2x takes 16 MiB, which are freed before the backward pass allocates a gradient of 16 MiB."""
    x = torch.ones(2**22, requires_grad=True)
    found = peak_memory(lambda: forward_backward(lambda x: (2 * x).sum(), {"x": x}), "cpu")
    assert found / 2**20 == pytest.approx(16, abs=1.5)


def test_shapes_are_checked(capsys):
    for wrong in ("8", "7x128", "8x0", "8x128x2", "ax8"):
        with pytest.raises(SystemExit):
            losses.parsed(["--shapes", wrong])
    assert "expected BATCHxTIME with BATCH a multiple of 8" in capsys.readouterr().err
    assert losses.parsed(["--shapes", "16x32"]).shapes == [Shape(16, 32)]


@pytest.mark.full("runs of the benchmarks")
def test_a_run_prints_the_table_and_writes_the_numbers_to_the_output(tmp_path, capsys):
    output = tmp_path / "new" / "losses.json"
    arguments = ["--losses", "ppo", "dpo", "--shapes", "8x4", "16x4", "--modes", "eager", "--rounds", "2"]
    losses.main([*arguments, "--output", str(output)])
    printed = capsys.readouterr().out
    head, _, *lines = printed.splitlines()[2:]
    assert head.startswith(
        "| loss | advantages | 8 × 4, eager | 16 × 4, eager | operators | host reads | peak MiB, eager"
    )
    assert [line.split(" | ")[:2] for line in lines] == [["| ppo", "sequence"], ["| ppo", "token"], ["| dpo", "—"]]
    results = json.loads(output.read_text(encoding="utf-8"))
    assert len(results["cells"]) == 6
    for cell in results["cells"]:
        assert {side: len(found) for side, found in cell["seconds"].items()} == {"ours": 2, "textbook": 2}
        assert ("peak" in cell) == (cell["shape"] == [16, 4])
    assert losses.table(results) in printed


def test_a_loss_that_fails_is_an_error_of_its_cell_and_nothing_is_written_unasked(monkeypatch, capsys):
    def broken(**_):
        raise RuntimeError("a long story")

    monkeypatch.setattr(grape_verified, "sft_loss", broken)
    kept = list(RESULTS.glob("*"))
    losses.main(["--losses", "sft", "--shapes", "8x4", "--modes", "eager", "--rounds", "1"])
    assert list(RESULTS.glob("*")) == kept
    assert capsys.readouterr().out.splitlines()[-1] == "| sft | — |" + " RuntimeError |" * 4


@pytest.mark.full("contexts that compile")
def test_a_compiled_loss_is_one_graph():
    found = Case("sft", "—", Shape(8, 4), "compiled").measured(1, "cpu", 0)
    assert found["kernels"]["ours"] >= 1
    assert "counts" not in found
