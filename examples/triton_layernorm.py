"""Layer normalization of rows by Triton kernels, and a twin with one mistake.

With x̂ = (x − μ)/σ, σ² = Σ (x − μ)²/n + ε, y = w x̂ + b and v the incoming gradient,

    dx = (w v − mean(w v) − x̂ mean(w v x̂)) / σ,   dw = Σ_rows v x̂,   db = Σ_rows v

since neither a shift nor a stretch of a row changes x̂: both are projected out of the gradient.

$ dlcheck run examples/triton.toml
"""

import torch
import triton
import triton.language as tl

COLUMNS = 64  # of weight and bias that one program sums over the rows


@triton.jit
def norm_forward(
    y_ptr, x_ptr, weight_ptr, bias_ptr, mean_ptr, scale_ptr, x_row, x_column, columns, eps,
    BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One program a row; the mean is taken before the variance, so that a large one is harmless."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * x_row + at * x_column, mask=inside, other=0.0).to(WIDE)
    mean = tl.sum(x, axis=0) / columns
    centred = tl.where(inside, x - mean, 0.0)  # 0 − mean would count beyond the row
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + eps)
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(WIDE)
    bias = tl.load(bias_ptr + at, mask=inside, other=0.0).to(WIDE)
    y = centred * scale * weight + bias
    tl.store(y_ptr + row * columns + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + row, mean)
    tl.store(scale_ptr + row, scale)


@triton.jit
def broken_forward(
    y_ptr, x_ptr, weight_ptr, bias_ptr, mean_ptr, scale_ptr, x_row, x_column, columns, eps,
    BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The variance counts the padding of the block, each as mean²: right for 2^k columns."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * x_row + at * x_column, mask=inside, other=0.0).to(WIDE)
    mean = tl.sum(x, axis=0) / columns
    centred = x - mean
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + eps)
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(WIDE)
    bias = tl.load(bias_ptr + at, mask=inside, other=0.0).to(WIDE)
    y = centred * scale * weight + bias
    tl.store(y_ptr + row * columns + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + row, mean)
    tl.store(scale_ptr + row, scale)


@triton.jit
def norm_backward_rows(
    dx_ptr, v_ptr, x_ptr, weight_ptr, mean_ptr, scale_ptr, v_row, v_column, x_row, x_column,
    columns, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """dx, one program a row."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    mean, scale = tl.load(mean_ptr + row), tl.load(scale_ptr + row)
    x = tl.load(x_ptr + row * x_row + at * x_column, mask=inside, other=0.0).to(WIDE)
    v = tl.load(v_ptr + row * v_row + at * v_column, mask=inside, other=0.0).to(WIDE)
    weighted = v * tl.load(weight_ptr + at, mask=inside, other=0.0).to(WIDE)
    hat = tl.where(inside, (x - mean) * scale, 0.0)
    shift = tl.sum(weighted, axis=0) / columns
    stretch = tl.sum(weighted * hat, axis=0) / columns
    dx = (weighted - shift - hat * stretch) * scale
    tl.store(dx_ptr + row * columns + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def norm_backward_columns(
    dweight_ptr, dbias_ptr, v_ptr, x_ptr, mean_ptr, scale_ptr, v_row, v_column, x_row, x_column,
    rows, columns, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """dw and db, one program a block of columns, row after row: no atomics, so it repeats."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < columns
    dweight, dbias = tl.zeros((BLOCK,), dtype=WIDE), tl.zeros((BLOCK,), dtype=WIDE)
    for row in range(0, rows):
        x = tl.load(x_ptr + row * x_row + at * x_column, mask=inside, other=0.0).to(WIDE)
        v = tl.load(v_ptr + row * v_row + at * v_column, mask=inside, other=0.0).to(WIDE)
        dweight += v * (x - tl.load(mean_ptr + row)) * tl.load(scale_ptr + row)
        dbias += v
    tl.store(dweight_ptr + at, dweight.to(dweight_ptr.dtype.element_ty), mask=inside)
    tl.store(dbias_ptr + at, dbias.to(dbias_ptr.dtype.element_ty), mask=inside)


class _LayerNorm(torch.autograd.Function):
    """x [rows, columns] with any strides, weight and bias [columns]; returns y, mean, 1/σ."""

    @staticmethod
    def forward(x, weight, bias, eps, kernel):
        rows, columns = x.shape
        wide = torch.promote_types(x.dtype, torch.float32)
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        mean, scale = (torch.empty(rows, dtype=wide, device=x.device) for _ in range(2))
        kernel[(rows,)](
            y, x, weight.contiguous(), bias.contiguous(), mean, scale, *x.stride(), columns, eps,
            BLOCK=triton.next_power_of_2(columns), WIDE=_wide(x),
        )  # fmt: skip
        return y, mean, scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, *_ = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, weight, mean, scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v, *_):
        x, weight, mean, scale = ctx.saved_tensors
        rows, columns = x.shape
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        dweight, dbias = (torch.empty(columns, dtype=x.dtype, device=x.device) for _ in range(2))
        norm_backward_rows[(rows,)](
            dx, v, x, weight.contiguous(), mean, scale, *v.stride(), *x.stride(), columns,
            BLOCK=triton.next_power_of_2(columns), WIDE=_wide(x),
        )  # fmt: skip
        norm_backward_columns[(triton.cdiv(columns, COLUMNS),)](
            dweight, dbias, v, x, mean, scale, *v.stride(), *x.stride(), rows, columns,
            BLOCK=COLUMNS, WIDE=_wide(x),
        )  # fmt: skip
        return dx, dweight, dbias, None, None


def _wide(x):
    """Sums are taken in float32, or in float64 where x has it."""
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def layer_norm(x, weight, bias, eps=1e-5):
    """w (x − mean)/√(variance + ε) + b over the last axis: x [*, n], weight and bias [n]."""
    y, _, _ = _LayerNorm.apply(x.reshape(-1, x.shape[-1]), weight, bias, eps, norm_forward)
    return y.view(x.shape)


def expected(x, weight, bias, eps=1e-5):
    """The same by torch."""
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)


class LayerNorm(torch.nn.Module):
    """layer_norm with a weight and a bias of its own."""

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))
        self.bias = torch.nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x):
        return layer_norm(x, self.weight, self.bias, self.eps)


class BrokenLayerNorm(LayerNorm):
    """The same by the twin."""

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        y, _, _ = _LayerNorm.apply(rows, self.weight, self.bias, self.eps, broken_forward)
        return y.view(x.shape)
