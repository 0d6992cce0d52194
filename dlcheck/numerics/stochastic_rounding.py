"""What rounding does to a result, seen by rounding otherwise: every operation, at random.

A float64 computation of which each operation's result is rounded to the numbers of a narrower
type, up or down at random with the expectation kept, is a sample of how that computation may come
out in the narrow type. Its spread over a few samples measures the conditioning of every step, with
no analysis of any. Numbers that the narrow type holds stay as they are, so copies, masks and
counts are exact; equal numbers are rounded alike, as in a real computation, so that the errors of
equal rows add up instead of averaging out.

An operation that sums n terms rounds n times inside. Its computed result is the exact one of
inputs that are off by √n·u each (Higham & Mary), so its inputs are moved by as much.

Source: Vignes, Discrete stochastic arithmetic for validating results of numerical software,
Numerical Algorithms 37, 2004; Higham & Mary, A new approach to probabilistic rounding error
analysis, SIAM Journal on Scientific Computing 41(5), 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_EXPONENT = 0x7FF0000000000000  # the bits of a float64 that hold it
_MANTISSA = (1 << 53) - 1
# Odd factors with well-mixed bits, as in splitmix64 (Steele, Lea & Flood, OOPSLA 2014).
_FIRST, _SECOND, _STEP = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15, -0x61C8864680B583EB
_WIDE = (torch.float64, torch.complex128)


def smallest(dtype: torch.dtype) -> float:
    """The gap between the numbers next to 0: the least subnormal one."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps


def uniform(x: Tensor, seed: int) -> Tensor:
    """Numbers in [0, 1) that depend on the bits of each element, float64, and the seed alone."""
    mixed = x.view(torch.int64) + _as_signed(seed * _STEP)
    mixed = (mixed ^ (mixed >> 30)) * _FIRST
    mixed = (mixed ^ (mixed >> 27)) * _SECOND
    return ((mixed ^ (mixed >> 31)) & _MANTISSA).double() * 2.0**-53


def _as_signed(number: int) -> int:
    """The same 64 bits as a signed integer."""
    return (number + 2**63) % 2**64 - 2**63


def stochastically_rounded(
    x: Tensor, dtype: torch.dtype, seed: int | None, *, coarser: int = 1
) -> Tensor:
    """x, float64, on the numbers of `dtype`: one of its two neighbours, with mean x.

    seed: None for the nearest, as arithmetic rounds.
    coarser: a power of two by which the gaps are wider. Beyond the range of `dtype`: infinite.
    """
    finfo = torch.finfo(dtype)
    power = (x.view(torch.int64) & _EXPONENT).view(torch.float64)  # 2^⌊log₂|x|⌋
    gap = (coarser * finfo.eps * power).clamp_min(coarser * smallest(dtype))
    steps = x / gap
    rounded = (steps.round() if seed is None else (steps + uniform(x, seed)).floor()).mul_(gap)
    beyond = ~(rounded.abs() <= finfo.max)
    return torch.where(beyond, math.inf * x, rounded) if bool(beyond.any()) else rounded


class StochasticRounding(TorchDispatchMode):
    """Within it each operation rounds its float64 results stochastically to `dtype`.

    seed, coarser: as for `stochastically_rounded`. longest: the most roundings in a row that a
    kernel makes within one operation; longer sums are taken in blocks, or in a wider type.
    `overflowed` tells whether a finite result was beyond the range of `dtype`, `underflowed`, of
    rounding to nearest, whether one became 0.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapper that skips it imports torch's compiler: seconds

    def __init__(
        self, dtype: torch.dtype, seed: int | None, *, coarser: int = 1, longest: float = 1.0
    ) -> None:
        super().__init__()
        self._dtype, self._first_seed, self._coarser = dtype, seed, coarser
        self._longest = 1.0 if seed is None else longest
        self._count = 0
        self.overflowed = self.underflowed = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # Equal numbers are rounded alike within one operation, not from one to the next.
        self._count += 1
        kwargs, returns = kwargs or {}, func._schema.returns
        answer = func(*args, **kwargs)
        if all(kind.alias_info is None for kind in returns):
            terms = min(_terms(func, args, answer), self._longest)
            if terms > 1 and not self._is_exact(answer):
                moved = tree_map(lambda x: self._moved(x, math.sqrt(terms)), args)
                answer = func(*moved, **kwargs)
        if len(returns) == 1:
            return self._result(answer, returns[0].alias_info)
        if not returns:
            return answer
        return tuple(
            self._result(part, kind.alias_info) for part, kind in zip(answer, returns, strict=True)
        )

    def _result(self, answer: Any, alias: Any) -> Any:
        if isinstance(answer, (list, tuple)):
            return type(answer)(self._result(part, alias) for part in answer)
        if not _is_wide(answer) or (alias is not None and not alias.is_write):
            return answer
        rounded = _on_reals(self._rounded, answer)
        return rounded if alias is None else answer.copy_(rounded)  # in place

    def _is_exact(self, answer: Any) -> bool:
        """Does the narrow type hold the answer, as where numbers are only moved?"""
        parts = [part for part in tree_leaves(answer) if _is_wide(part)]
        return all(bool((_on_reals(self._rounded, part) == part).all()) for part in parts)

    def _moved(self, x: Any, factor: float) -> Any:
        if not _is_wide(x):
            return x
        ulp = self._coarser * torch.finfo(self._dtype).eps * factor
        seed = self._seed or 0
        return _on_reals(lambda r: r * (1 + ulp * (uniform(r, seed) - 0.5)), x)

    @property
    def _seed(self) -> int | None:
        return None if self._first_seed is None else self._first_seed + 7919 * self._count

    def _rounded(self, x: Tensor) -> Tensor:
        rounded = stochastically_rounded(x, self._dtype, self._seed, coarser=self._coarser)
        if not self.overflowed and not math.isfinite(rounded.abs().max()):
            self.overflowed = bool((torch.isfinite(x) & torch.isinf(rounded)).any())
        if self._seed is None and not self.underflowed:
            self.underflowed = bool(((rounded == 0) & (x != 0)).any())
        return rounded


def _is_wide(x: Any) -> bool:
    return (
        isinstance(x, Tensor)
        and x.layout == torch.strided
        and x.dtype in _WIDE
        and x.numel() > 0
    )  # fmt: skip


def _terms(func: Any, args: Sequence[Any], answer: Any) -> float:
    """How many terms an element of the answer is summed from, as the sizes tell.

    |in| / |out| for a sum; √(|A||B| / |C|) for a product C = AB, also of a convolution.
    """
    if torch.Tag.pointwise in func.tags:
        return 1.0
    sizes = sorted((x.numel() for x in tree_leaves(args) if _is_wide(x)), reverse=True)
    least = min((y.numel() for y in tree_leaves(answer) if _is_wide(y)), default=0)
    if not sizes or not least:
        return 1.0
    return sizes[0] / least if len(sizes) == 1 else math.sqrt(sizes[0] * sizes[1] / least)


def _on_reals(change: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not x.is_complex():
        return change(x)
    return torch.view_as_complex(change(torch.view_as_real(x.resolve_conj())))
