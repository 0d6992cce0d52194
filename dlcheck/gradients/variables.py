"""The tensors that are differentiated, as real numbers that can be moved.

A complex tensor counts as pairs of real and imaginary parts, a sparse one as its stored values.
With cotangents paired likewise, Jᵀv is then what PyTorch calls the gradient: for z = a + ib it is
∂L/∂a + i ∂L/∂b, twice the conjugate Wirtinger derivative. Source: PyTorch, Autograd mechanics,
"Autograd for complex numbers".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlcheck.domains import Input
from dlcheck.numerics.layouts import clone_as_laid_out

LAYOUTS = (torch.strided, torch.sparse_coo, torch.sparse_csr)


@dataclass(frozen=True, slots=True)
class Variable:
    """A tensor that is differentiated: an input with its domain, or a module's parameter."""

    name: str
    value: Tensor  # detached, as given: real, complex or sparse
    spec: Input | None = None
    parameter: nn.Parameter | None = None  # is set in place to move it

    @property
    def coordinates(self) -> Tensor:
        """The real numbers that can be moved."""
        return coordinates(self.value)

    def leaf(self, point: Tensor, *, requires_grad: bool) -> Tensor:
        """The tensor with these coordinates, laid out in memory as the value."""
        if self.parameter is not None:
            with torch.no_grad():
                self.parameter.copy_(self._native(point))
            return self.parameter
        native = self._native(point)
        return native.detach().requires_grad_() if requires_grad else native

    def _native(self, point: Tensor) -> Tensor:
        value = self.value
        if value.layout != torch.strided:
            return _with_values(value, point)
        if value.is_complex():
            return torch.view_as_complex(point if point.stride(-1) == 1 else point.contiguous())
        if point.stride() != value.stride() and 0 not in value.stride():
            return clone_as_laid_out(value).copy_(point)
        return point


def coordinates(tensor: Tensor) -> Tensor:
    """The real numbers that a tensor holds; of a sparse one, those that are stored."""
    if tensor.layout == torch.sparse_coo:
        tensor = tensor._values()
    elif tensor.layout != torch.strided:
        tensor = tensor.values()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _with_values(like: Tensor, point: Tensor) -> Tensor:
    """The sparse tensor with the places of `like` and other values."""
    values = torch.view_as_complex(point.contiguous()) if like.is_complex() else point
    if like.layout == torch.sparse_coo:
        return torch.sparse_coo_tensor(
            like._indices(),
            values,
            like.shape,
            is_coalesced=like.is_coalesced(),
            check_invariants=False,
        )
    return torch.sparse_csr_tensor(
        like.crow_indices(), like.col_indices(), values, like.shape, check_invariants=False
    )


def dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def private_coordinates(variable: Variable) -> Tensor:
    """A copy of the coordinates, laid out in memory as they are."""
    value = variable.value
    if value.layout == torch.strided and not value.is_complex():
        return clone_as_laid_out(value)
    return variable.coordinates.clone()


def coordinates_of_gradient(gradient: Tensor, value: Tensor) -> Tensor:
    """A gradient in the coordinates of its variable: at the stored places of a sparse one."""
    if value.layout == torch.strided:
        found = coordinates(dense(gradient))
    else:
        places = value if value.layout == torch.sparse_coo else value.to_sparse_coo()
        found = coordinates(dense(gradient)[tuple(places._indices())])
    return found.double()
