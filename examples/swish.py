"""A hand-written activation, and a twin with one mistake in its backward: what does dlcheck say?

$ dlcheck validate examples/swish.py:swish --kind activation
"""

import torch


class Silu(torch.autograd.Function):
    """x σ(x), with σ saved so that the backward need not compute it again."""

    @staticmethod
    def forward(ctx, x):
        sigmoid = torch.sigmoid(x)
        ctx.save_for_backward(x, sigmoid)
        return x * sigmoid

    @staticmethod
    def backward(ctx, gradient):
        x, sigmoid = ctx.saved_tensors
        return gradient * (sigmoid + x * sigmoid * (1 - sigmoid))


class Swish(Silu):
    """Forgets the factor 1 − σ of the derivative, which is σ + x σ (1 − σ)."""

    @staticmethod
    def backward(ctx, gradient):
        x, sigmoid = ctx.saved_tensors
        return gradient * (sigmoid + x * sigmoid)


def silu(x):
    """x σ(x): x [*] of any shape."""
    return Silu.apply(x)


def swish(x):
    """The same by the twin."""
    return Swish.apply(x)
