"""A hand-written activation with a bug in its backward: what does dlcheck say?

$ dlcheck validate examples/swish.py:swish --kind activation
"""

import torch


class Swish(torch.autograd.Function):
    """x σ(x), with σ saved so that the backward need not compute it again."""

    @staticmethod
    def forward(ctx, x):
        sigmoid = torch.sigmoid(x)
        ctx.save_for_backward(x, sigmoid)
        return x * sigmoid

    @staticmethod
    def backward(ctx, gradient):
        x, sigmoid = ctx.saved_tensors
        return gradient * (sigmoid + x * sigmoid)  # should be σ + x σ (1 − σ)


def swish(x):
    """x σ(x): x [*] of any shape."""
    return Swish.apply(x)
