"""Functions that are right in a plain call, and wrong as training calls them, each in one way."""

import torch

from grape_verified import ppo_loss, sft_loss

from .own_backward import gradient_of_sft, overwrites, with_backward
from .table import wrong


@wrong("sft", must=("inputs",), may=("contexts",))
def overwrites_what_it_saved(logps, mask):
    """Writes the gradient where the log-probabilities were, to save memory."""
    return with_backward(overwrites)(logps, mask)


def _doubled(ctx, logps, mask, grad):
    ctx.sum = getattr(ctx, "sum", 0) + gradient_of_sft(mask, grad)
    return ctx.sum


@wrong("sft", must=("contexts",))
def doubles_in_a_second_pass(logps, mask):
    """Adds to a buffer that it never clears."""
    return with_backward(_doubled)(logps, mask)


@wrong("sft", must=("contexts",))
def halves_with_create_graph(logps, mask):
    """Takes a backward pass in which gradients are recorded for another."""
    factor = lambda: 0.5 if torch.is_grad_enabled() else 1  # noqa: E731
    return with_backward(lambda ctx, logps, mask, grad: gradient_of_sft(mask, factor() * grad))(logps, mask)


def _as_it_lies(tensor):
    """The numbers from the first on, as if there were no gaps."""
    room = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    flat = torch.as_strided(tensor, (min(tensor.numel(), room),), (1,))
    return torch.nn.functional.pad(flat, (0, tensor.numel() - len(flat))).view(tensor.shape)


@wrong("sft", must=("contexts",))
def reads_as_contiguous(logps, mask):
    """A kernel that takes a pointer and a size."""
    return sft_loss(_as_it_lies(logps), mask).loss


class _ReadsUpstream(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logps):
        return -logps

    @staticmethod
    def backward(ctx, grad):
        return -_as_it_lies(grad)


@wrong("sft_per_token", must=("contexts",))
def reads_upstream_as_contiguous(logps):
    """The gradient of a sum is one number in memory, expanded."""
    return _ReadsUpstream.apply(logps.to(torch.promote_types(logps.dtype, torch.float32)))


@wrong("sft", must=("contexts",))
def indexes_with_the_mask(logps, mask):
    """A mask of integers picks rows 0 and 1."""
    mask = mask if mask.dtype == torch.int64 else mask.bool()
    kept = logps.to(torch.promote_types(logps.dtype, torch.float32))[mask]
    return -kept.sum() / mask.sum().clamp(min=1)


@wrong("sft", must=("contexts",))
def fails_without_gradients(logps, mask):
    """Reads the node of a result that has none under no_grad."""
    loss = sft_loss(logps, mask).loss
    if not torch.is_grad_enabled():
        raise RuntimeError("element 0 of tensors does not require grad")
    return loss


@wrong("ppo", must=("contexts",))
def lowered_by_autocast(logps, old_logps, advantages, mask):
    """A sum as a product of matrices, which autocast computes in bfloat16."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    whole = ppo_loss(logps, old_logps, advantages, mask).loss
    ones = torch.ones(1, 1, dtype=dtype)
    return (whole.reshape(1, 1) @ ones)[0, 0].to(dtype)


def nan_when_compiled(logps, mask):
    """Wrong only where torch.compile traces it."""
    factor = torch.nan if torch.compiler.is_compiling() else 1.0
    return sft_loss(logps, mask).loss * factor


def refuses_functorch(logps, mask):
    """A backward pass in the old form, which torch.func.grad does not take."""
    return with_backward(lambda ctx, logps, mask, grad: gradient_of_sft(mask, grad))(logps, mask)


@wrong("sft", must=("contexts",))
def several_at_once(logps, mask):
    """Wrong in five contexts."""
    if not torch.is_grad_enabled():
        return fails_without_gradients(logps, mask)
    return doubles_in_a_second_pass(_as_it_lies(logps), mask)


def refuses_integers(logps, mask):
    """A mask of integers is an error."""
    mask = mask if mask.dtype == torch.int64 else mask.bool()
    return -logps.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)
