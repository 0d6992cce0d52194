"""An initializer fills the tensor that it is given: all of it, in place, by the seed alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.initializer.law import argument_of
from dlcheck.checks.initializer.torch_init import CONSTANT, DEPENDENT, RANDOM
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_OWN_STREAM = torch.Generator().manual_seed(0)
_BEFORE = 7.0  # what a tensor holds before it is filled


def _filled_from(subject: Implementation, case: Case, before: float) -> Tensor:
    """A tensor of the case's shape that held one number, contiguous as parameters are, filled."""
    seed_everything(case.recipe.seed)
    tensor = torch.full_like(_given(case), before)
    subject(tensor)
    return tensor


def _given(case: Case) -> Tensor:
    return case.inputs[case.floating[0]].contiguous()


def _differing(what: str, one: Tensor, two: Tensor) -> Evidence:
    same = (one == two) | ((one != one) & (two != two))
    return Evidence(
        error=float((~same).sum()),
        bound=0.0,
        signal=float(same.numel()),
        unit="elements",
        what=what,
    )


@around
def leaves_the_last_row(original: Any, tensor: Tensor) -> Tensor:
    """range(n - 1)"""
    last = tensor[-1].clone()
    original(tensor)
    with torch.no_grad():
        tensor[-1] = last
    return tensor


@around
def adds_to_what_was_there(original: Any, tensor: Tensor) -> Tensor:
    before = tensor.clone()
    original(tensor)
    with torch.no_grad():
        return tensor.add_(before)


@around
def blends_with_what_was_there(original: Any, tensor: Tensor) -> Tensor:
    before = tensor.clone()
    original(tensor)
    with torch.no_grad():
        return tensor.lerp_(before, 1e-3)


@check(
    kind="initializer",
    rejects=[leaves_the_last_row, adds_to_what_was_there, blends_with_what_was_there],
    accepts=[*RANDOM, *DEPENDENT, *CONSTANT],
)
def fills_every_element(subject: Implementation, case: Case) -> Evidence:
    """What comes out does not depend on what the tensor held: 7 everywhere, or NaN.

    With the same seed both come out the same, bit by bit, and without a NaN. Parameters are made
    of uninitialised memory (torch.empty), so that an element that is left over may hold anything.
    """
    sevens = _filled_from(subject, case, _BEFORE)
    nans = _filled_from(subject, case, math.nan)
    wrong = torch.where(torch.isnan(nans), math.inf, nans)
    return _differing("elements that keep what was there", sevens, wrong)


@around
def draws_from_a_stream_of_its_own(original: Any, tensor: Tensor) -> Tensor:
    """A generator that no seed reaches."""
    original(tensor)
    noise = torch.rand(tensor.shape, generator=_OWN_STREAM, dtype=torch.float64)
    with torch.no_grad():
        return tensor.add_(1e-3 * noise.to(tensor))


@around
def depends_on_the_time(original: Any, tensor: Tensor) -> Tensor:
    original(tensor)
    with torch.no_grad():
        return tensor.add_(float(torch.rand((), generator=_OWN_STREAM)))


@check(
    kind="initializer",
    rejects=[draws_from_a_stream_of_its_own, depends_on_the_time],
    accepts=[*RANDOM, *DEPENDENT, *CONSTANT],
)
def same_seed_same_values(subject: Implementation, case: Case) -> Evidence:
    """The same seed fills two tensors alike, bit by bit.

    `random`, NumPy and torch are seeded before each; an initializer that draws from elsewhere
    cannot be repeated.
    """
    first = _filled_from(subject, case, _BEFORE)
    return _differing(
        "differing elements of two tensors", first, _filled_from(subject, case, _BEFORE)
    )


@around
def returns_a_new_tensor(original: Any, tensor: Tensor) -> Any:
    """What was given stays as it was."""
    copy = tensor.detach().clone()
    original(copy)
    return copy


@around
def freezes_the_parameter(original: Any, tensor: Tensor) -> Any:
    original(tensor)
    return tensor.requires_grad_(False)  # noqa: FBT003


@around
def puts_other_memory_in_its_place(original: Any, tensor: Tensor) -> Any:
    """`.data = new`: views of the parameter and optimizers keep the old memory."""
    original(tensor)
    tensor.data = tensor.data.clone()
    return tensor


@check(
    kind="initializer",
    rejects=[returns_a_new_tensor, freezes_the_parameter, puts_other_memory_in_its_place],
    accepts=[*RANDOM, *DEPENDENT, *CONSTANT],
)
def fills_the_parameter_itself(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The given parameter is filled: same memory, shape and type, a leaf that wants its gradient.

    It held 7 before. The error counts what went wrong; the bound is 0. The answer is that tensor
    or None.
    """
    seed_everything(case.recipe.seed)
    parameter = nn.Parameter(torch.full_like(_given(case), _BEFORE))
    memory, shape = parameter.data_ptr(), parameter.shape
    answer = subject(parameter)
    told = {
        "is filled": bool((parameter.detach() != _BEFORE).any()),
        "keeps its memory": parameter.data_ptr() == memory,
        "keeps shape and type": parameter.shape == shape and parameter.dtype == case.dtype,
        "wants its gradient": parameter.requires_grad,
        "is a leaf without a history": parameter.is_leaf and parameter.grad_fn is None,
        "is what is returned": not isinstance(answer, Tensor) or answer.data_ptr() == memory,
    }
    wrong = [name for name, right in told.items() if not right]
    yield Evidence(
        error=float(len(wrong)),
        bound=0.0,
        signal=float(len(told)),
        unit="broken promises",
        what="the parameter " + (" and ".join(wrong) if wrong else "is filled in place"),
        got="not so: " + ", ".join(wrong) if wrong else "",
    )


@around
def scales_one_row(original: Any, tensor: Tensor) -> Tensor:
    original(tensor)
    with torch.no_grad():
        tensor[0] *= 1.01
    return tensor


@around
def forgets_the_gain(original: Any, tensor: Tensor) -> Tensor:
    """A factor is left out, or applied twice."""
    original(tensor)
    with torch.no_grad():
        return tensor.mul_(1.5)


@around
def draws_normal_numbers(original: Any, tensor: Tensor) -> Tensor:
    """The right variance, but no orthogonality."""
    original(tensor)
    with torch.no_grad():
        return tensor.copy_(torch.randn_like(tensor) * tensor.square().mean().sqrt())


@around
def orthogonal_along_the_wrong_axis(original: Any, tensor: Tensor) -> Tensor:
    """Reshapes [in, out·field] where [out, in·field] was meant, or mixes rows."""
    original(tensor)
    with torch.no_grad():
        mixed = tensor.flatten()[torch.arange(tensor.numel() - 1, -1, -1)].reshape(tensor.shape)
        return tensor.add_(0.1 * mixed)


@check(
    kind="initializer",
    needs={"orthogonal"},
    rejects=[
        scales_one_row,
        forgets_the_gain,
        draws_normal_numbers,
        orthogonal_along_the_wrong_axis,
    ],
    accepts=DEPENDENT,
)
def rows_or_columns_are_orthonormal(subject: Implementation, case: Case) -> Evidence:
    """W Wᵀ = gain²·I, or Wᵀ W where there are more rows than columns.

    W is the tensor as a matrix [out, in·receptive field]. Householder's QR leaves QᵀQ within
    γ_{mn} √n of I; so many roundings are granted.
    Source: Saxe, McClelland & Ganguli, Exact Solutions to the Nonlinear Dynamics of Learning in
    Deep Linear Networks, ICLR 2014, §3; Higham, Accuracy and Stability, theorem 19.4.
    """
    tensor = _filled_from(subject, case, _BEFORE).double()
    if subject.options.get("fan_layout") == "in_out" and tensor.dim() > 1:
        tensor = tensor.transpose(0, 1)
    matrix = tensor.reshape(len(tensor), -1)
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    gain = argument_of(subject, "gain").get("gain", 1.0)
    apart = (gram - gain**2 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs()
    return Evidence(
        error=float(apart.amax()),
        bound=gain**2 * gamma(8 + rows * columns, case.dtype) * math.sqrt(len(gram)),
        signal=gain**2,
        what="W Wᵀ − gain²·I" if rows <= columns else "Wᵀ W − gain²·I",
    )
