"""One rank of tests/logprobs/test_parallel.py: `python ranks.py RANK RANKS FOLDER` computes its part and keeps it."""

import resource
import sys
from functools import partial
from pathlib import Path
from threading import Event, Thread

import torch
from torch import distributed as dist

from grape_verified import (
    aggregate,
    aggregation_denominator,
    dpo_per_pair,
    fused_linear_loss,
    grpo_per_token,
    gspo_per_sequence,
    linear_token_logps,
)

BATCH, TIME, WIDTH, VOCAB = 8, 5, 6, 24
MODES = ("token_mean", "sequence_mean", "sequence_sum", "fixed_length")
#: Tokens, width and vocabulary of the problem whose peak is measured, and its tile.
LARGE, TILE = (256, 256, 65536), (256, 1024)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(dtype):
    """The whole: tensors that are differentiated, and constants."""
    leaves = {
        "hidden": normal(BATCH, TIME, WIDTH, seed=0),
        "weight": normal(VOCAB, WIDTH, seed=1),
        "bias": normal(VOCAB, seed=2),
        "temperature": normal(BATCH, TIME, seed=3).abs() + 0.5,
    }
    leaves["weight"][-3:] *= 100  # one rank has the largest logits of nearly all tokens
    constants = {
        "targets": torch.arange(BATCH * TIME).reshape(BATCH, TIME) * 5 % VOCAB,
        "mask": normal(BATCH, TIME, seed=4) > -0.5,
        "old_logps": -normal(BATCH, TIME, seed=5).abs(),
        "advantages": normal(BATCH, seed=6),
        "upstream": normal(2, BATCH, TIME, seed=7).to(dtype),
    }
    return {name: x.to(dtype) for name, x in leaves.items()}, constants


def part(x, rank, ranks):
    """The part of a tensor that one rank holds."""
    return x.chunk(ranks)[rank]


def vocabulary_parallel(dtype, rank, ranks, group):
    """All results of a rank: values, and gradients by name."""
    leaves, constants = problem(dtype)
    leaves |= {name: part(leaves[name], rank, ranks) for name in ("weight", "bias")}
    leaves = {name: x.clone().requires_grad_() for name, x in leaves.items()}
    hidden, weight, bias, temperature = leaves.values()
    targets, mask, old_logps, advantages, upstream = constants.values()
    common = {"bias": bias, "mask": mask, "tile": (7, 4), "group": group}
    found = {}
    results = linear_token_logps(hidden, weight, targets, temperature=temperature, with_entropy=True, **common)
    gradients = torch.autograd.grad(results, tuple(leaves.values()), tuple(upstream))
    found["logps"], found["entropies"] = (x.detach() for x in results)
    found |= {f"two-stage {name}": x for name, x in zip(leaves, gradients, strict=True)}
    half = BATCH // 2
    losses = {
        "token": (grpo_per_token, {"old_logps": old_logps, "advantages": advantages}),
        "sequence": (gspo_per_sequence, {"old_logps": old_logps, "advantages": advantages, "mask": mask}),
        "pair": (
            partial(dpo_per_pair, beta=0.5),
            {"ref_chosen_logps": old_logps.sum(1)[:half], "ref_rejected_logps": old_logps.sum(1)[half:]},
        ),
    }
    for separable, (loss_fn, inputs) in losses.items():
        fused = fused_linear_loss(
            hidden, weight, targets, loss_fn,
            inputs=inputs, separable=separable, temperature=temperature.detach(), **common,
        )  # fmt: skip
        gradients = torch.autograd.grad(fused.loss, (hidden, weight, bias))
        found |= {f"{separable} {name}": x for name, x in zip(leaves, gradients, strict=False)}
        found |= {f"{separable} loss": fused.loss.detach(), f"{separable} logps": fused.logps}
    return found


def data_parallel(rank, ranks, group):
    """This rank's share of each aggregate, and its gradients."""
    leaves, constants = problem(torch.float64)
    values = part(leaves["temperature"], rank, ranks).requires_grad_()
    mask = part(constants["mask"], rank, ranks)
    found = {}
    for mode in MODES:
        denominator = aggregation_denominator(mask, mode, group=group)
        length = 7 if mode == "fixed_length" else None
        share = aggregate(values, mask, mode, denominator=denominator, max_length=length)
        found[mode] = share.detach(), torch.autograd.grad(share, values)[0]
    return found


def peak(rank, ranks, group):
    """MiB that a forward and a backward pass of a large problem take beside what is given."""
    tokens, width, vocab = LARGE
    torch.manual_seed(rank)
    hidden, weight = torch.ones(tokens, width).requires_grad_(), torch.randn(vocab // ranks, width).requires_grad_()
    targets = torch.arange(tokens) * 31 % vocab
    linear_token_logps(hidden[:64], weight[:64], targets[:64] % 64, tile=TILE).sum().backward()  # libraries' own memory
    hidden.grad = weight.grad = None
    before, done, seen = resident(), Event(), []
    watcher = Thread(target=watch, args=(done, seen))
    watcher.start()
    linear_token_logps(hidden, weight, targets, tile=TILE, group=group).sum().backward()
    done.set()
    watcher.join()
    return max(seen) - before


def resident():
    """MiB of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def watch(done, seen):
    """Sample it every millisecond."""
    while not done.wait(1e-3):
        seen.append(resident())


def unequal(rank, group):
    """The error for parts of different sizes."""
    try:
        linear_token_logps(torch.ones(1, 2), torch.ones(3 + rank, 2), torch.tensor([0]), group=group)
    except ValueError as error:
        return str(error)
    return ""


def main(rank, ranks, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", ranks), rank=rank, world_size=ranks)
    group = dist.group.WORLD
    found = {
        "peak": peak(rank, ranks, group),
        "fp64": vocabulary_parallel(torch.float64, rank, ranks, group),
        "fp32": vocabulary_parallel(torch.float32, rank, ranks, group),
        "data": data_parallel(rank, ranks, group),
        "unequal": unequal(rank, group),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
