"""SFT's loss with a backward pass of one's own, which functions that are planted get wrong."""

import torch

from grape_verified import sft_loss


def gradient_of_sft(mask, grad):
    """The gradient of the mean of −logps over the tokens that count."""
    return -grad * mask / mask.sum().clamp(min=1)


def with_backward(backward):
    """SFT's loss with a backward pass, given what it saved."""

    class OwnBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logps, mask):
            ctx.save_for_backward(logps, mask)
            return sft_loss(logps, mask).loss

        @staticmethod
        def backward(ctx, grad):
            return backward(ctx, *ctx.saved_tensors, grad), None

    def loss(logps, mask):
        return OwnBackward.apply(logps, mask.bool())

    loss.__name__ = backward.__name__
    return loss


def overwrites(ctx, logps, mask, grad):
    """Writes the gradient where the log-probabilities were, to save memory."""
    return logps.data.copy_(gradient_of_sft(mask, grad))


def ignores_upstream(ctx, logps, mask, grad):
    """Takes the loss for the last in the graph."""
    return gradient_of_sft(mask, torch.ones_like(grad))
