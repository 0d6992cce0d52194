"""Computations with one habit each that a transform, a compiler or autocast cannot bear."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from dlcheck.checks.ecosystem.fragile_modules import Gained
from dlcheck.mutants import on_tensors

# --- transforms -------------------------------------------------------------------------------


class ReadsItsParametersFromAList(Gained):
    """A plain list of the parameters that functional_call does not see, as for speed."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.weights = [self.gain]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:  # noqa: FBT001, FBT002
        super()._apply(fn, recurse)
        self.weights = [self.gain]
        return self

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self.gained(self.original(*inputs, **keywords), self.weights[0])


class AsksForAGradientInside(Gained):
    """Calls requires_grad_ on something inside, which torch.func does not allow."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return super().gained(answer, (2 * gain.detach()).requires_grad_() * 0 + gain)


class BranchesOnItsInput(Gained):
    """Python control flow on a number of the answer: no transform and no graph can follow it."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return on_tensors(answer, lambda y: y * gain.to(y) if float(y.sum()) > -1e30 else y)


class _Product(torch.autograd.Function):
    """y · gain, whose rule for vmap says that the batch is at the wrong axis."""

    @staticmethod
    def forward(y: Tensor, gain: Tensor) -> Tensor:
        return y * gain

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        y, gain = ctx.saved_tensors
        return gradients[0] * gain, (gradients[0] * y).sum()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], y: Tensor, gain: Tensor) -> Any:
        # Right if the batch axis were first; torch may give it at any place, and this flips it.
        return (y * gain).flip(in_dims[0] or 0), in_dims[0]


class HasAWrongVmapRule(Gained):
    def gained(self, answer: Any, gain: Tensor) -> Any:
        return on_tensors(answer, lambda y: _Product.apply(y, gain.to(y.dtype)))


class _OldProduct(torch.autograd.Function):
    """y · gain in the form of torch 1, whose forward takes the context: no rule for vmap."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(y, gain)
        return y * gain

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        y, gain = ctx.saved_tensors
        return gradients[0] * gain, (gradients[0] * y).sum()


class HasAnOldFunction(Gained):
    def gained(self, answer: Any, gain: Tensor) -> Any:
        return on_tensors(answer, lambda y: _OldProduct.apply(y, gain.to(y.dtype)))


# --- mixed precision --------------------------------------------------------------------------


def _product(gain: Tensor) -> Tensor:
    """gain, as the product of two matrices: bfloat16 under autocast."""
    one = torch.ones(1, 1, dtype=gain.dtype, device=gain.device)
    return one @ gain.reshape(1, 1)


class WritesIntoAFloat32Table(Gained):
    """Indexed assignment casts nothing: the table's type is not that of the product."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        table = torch.zeros(2, 1, dtype=gain.dtype, device=gain.device)
        table[torch.tensor([1], device=gain.device)] = _product(gain)
        return super().gained(answer, table[1, 0])


class _MatrixProduct(torch.autograd.Function):
    """w · 1 by a product that autocast casts, and a backward outside it that mixes the types."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        product = _product(weight)
        ctx.save_for_backward(product / product)
        return product.to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (one,) = ctx.saved_tensors
        product: Tensor = gradients[0] @ one
        return product.reshape(())


class MixesTypesInItsBackward(Gained):
    def gained(self, answer: Any, gain: Tensor) -> Any:
        return super().gained(answer, _MatrixProduct.apply(gain).reshape(()))


class CastsItsGainWithoutAGraph(Gained):
    """A copy of the weights in bfloat16, made for speed, that no gradient flows through."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        fast = torch.is_autocast_enabled(gain.device.type)
        return super().gained(answer, gain.detach().bfloat16() if fast else gain)


class ForgetsAFactorUnderAutocast(Gained):
    """The fast path for mixed precision leaves out a factor."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        fast = torch.is_autocast_enabled(gain.device.type)
        return super().gained(answer, gain if fast else 3 * gain)


# --- compilers --------------------------------------------------------------------------------


class RemembersEachCall(Gained):
    """A list that grows with every call: a compiled graph is guarded by its length."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.calls: list[int] = []

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.calls.append(len(self.calls))
        return super().forward(*inputs, **keywords)


class ForgetsAFactorWhenCompiled(Gained):
    """A branch for the compiler that leaves out a factor."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return super().gained(answer, gain if torch.compiler.is_compiling() else 3 * gain)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _product_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    y, gain = ctx.saved_tensors
    return gradient * gain, (gradient * y).sum()


@torch.library.custom_op("dlcheck_fragile::product_of_no_shape", mutates_args=())
def _product_of_no_shape(y: Tensor, gain: Tensor) -> Tensor:
    return y * gain


@torch.library.custom_op("dlcheck_fragile::product_of_wrong_shape", mutates_args=())
def _product_of_wrong_shape(y: Tensor, gain: Tensor) -> Tensor:
    return y * gain


@_product_of_wrong_shape.register_fake
def _wrong_shape(y: Tensor, gain: Tensor) -> Tensor:
    return y.new_empty((*y.shape, 1))


for _operator in (_product_of_no_shape, _product_of_wrong_shape):
    _operator.register_autograd(_product_backward, setup_context=_keep)


class CallsAnOperatorWithoutAFake(Gained):
    """A custom operator that does not say which shape it returns."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return on_tensors(answer, lambda y: _product_of_no_shape(y, gain.to(y.dtype)))


class HasAWrongFake(Gained):
    """A custom operator that says a wrong shape."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return on_tensors(answer, lambda y: _product_of_wrong_shape(y, gain.to(y.dtype)))


class BakesANumberIn(Gained):
    """A number drawn in Python while it is traced becomes a constant of the graph."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.calls = 0

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.calls += 1
        return super().forward(*inputs, **keywords)

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return super().gained(answer, gain * (1 + 0.5**self.calls))


# --- meta tensors -----------------------------------------------------------------------------


class MakesItsTableOnTheCpu(Gained):
    """A constant without a device: it lies on the CPU, wherever the input is."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return super().gained(answer, (gain * torch.ones(1, dtype=gain.dtype)).reshape(()))


class ReadsANumberOfItsGain(Gained):
    """A parameter read as a Python number: a meta tensor has none."""

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return super().gained(answer, gain * (1.0 if gain.item() else 2.0))
