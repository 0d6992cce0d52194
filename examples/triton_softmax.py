"""The softmax of rows by Triton kernels, forward and backward.

$ dlcheck run examples/triton.toml
"""

import torch
import triton
import triton.language as tl


@triton.jit
def softmax_forward(
    y_ptr, x_ptr, y_row, x_row, x_column, columns, BLOCK: tl.constexpr, WIDE: tl.constexpr
):
    """One program a row: yᵢ = exp(xᵢ − max x) / Σ exp(xⱼ − max x), summed in WIDE."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    # Beyond the row −∞, whose exponential is 0: it changes neither the maximum nor the sum.
    x = tl.load(x_ptr + row * x_row + at * x_column, mask=inside, other=-float("inf")).to(WIDE)
    raised = tl.exp(x - tl.max(x, axis=0))
    y = raised / tl.sum(raised, axis=0)
    tl.store(y_ptr + row * y_row + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def softmax_backward(
    dx_ptr, y_ptr, v_ptr, row_stride, v_row, v_column, columns,
    BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """dxᵢ = yᵢ (vᵢ − Σ vⱼ yⱼ): the Jacobian is diag(y) − y yᵀ."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    y = tl.load(y_ptr + row * row_stride + at, mask=inside, other=0.0).to(WIDE)
    v = tl.load(v_ptr + row * v_row + at * v_column, mask=inside, other=0.0).to(WIDE)
    dx = y * (v - tl.sum(v * y, axis=0))
    tl.store(dx_ptr + row * row_stride + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)


class Softmax(torch.autograd.Function):
    """x [rows, columns], with any strides."""

    @staticmethod
    def forward(x):
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        softmax_forward[(len(x),)](y, x, y.stride(0), *x.stride(), x.shape[1], **_constants(x))
        return y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v):
        (y,) = ctx.saved_tensors
        dx = torch.empty_like(y)
        softmax_backward[(len(y),)](dx, y, v, y.stride(0), *v.stride(), y.shape[1], **_constants(y))
        return dx


def _constants(x):
    """A block that holds a row; sums in float32, or in float64 where x has it."""
    wide = tl.float64 if x.dtype == torch.float64 else tl.float32
    return {"BLOCK": triton.next_power_of_2(x.shape[1]), "WIDE": wide}


def softmax(x):
    """exp(x) / Σ exp(x) over the last axis: x [*, n]."""
    return Softmax.apply(x.reshape(-1, x.shape[-1])).view(x.shape)


def expected(x):
    """The same by torch."""
    return torch.softmax(x, dim=-1)
