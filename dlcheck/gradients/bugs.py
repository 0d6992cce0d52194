"""The known classes of bugs in a backward, each by what it makes of a right one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.gradients.injection import Backward, Bug, Call, Gradients
from dlcheck.gradients.variables import dense
from dlcheck.numerics.layouts import clone_as_laid_out


@dataclass(frozen=True, slots=True)
class Site:
    """One gradient that is to be broken, and where."""

    g: Tensor  # dense
    x: Tensor  # what it is the gradient of, as it lies in memory
    at: int  # the flat index of an element of middling size
    rows: int  # of the first output: the size of the batch


# --- how a backward is broken -------------------------------------------------------------------


def _gradient(change: Callable[[Site], Tensor]) -> Callable[[Backward], Gradients]:
    """A bug in the gradient of one tensor."""

    def breaks(backward: Backward) -> Gradients:
        found, k = backward.call.pull(backward.cotangents), backward.target
        right = found[k]
        if right is not None and right.numel():
            g, x = (dense(part).detach() for part in (right, backward.call.leaves[k]))
            at = backward.places.setdefault(k, _middling(g))
            found[k] = change(Site(g, x, at, _rows(backward.call)))
        return found

    return breaks


def _cotangent(change: Callable[[Tensor], Tensor]) -> Callable[[Backward], Gradients]:
    """A bug in how the incoming gradient is read."""
    return lambda backward: backward.call.pull([change(v) for v in backward.cotangents])


def _of_the_last_call(backward: Backward) -> Gradients:
    return backward.last.pull(backward.cotangents)


def _added_to_the_former(backward: Backward) -> Gradients:
    found, former = backward.call.pull(backward.cotangents), backward.call.former
    if former is not None:
        pairs = zip(found, former, strict=True)
        found = [g if g is None or before is None else g + before for g, before in pairs]
    backward.call.former = found
    return found


def _middling(g: Tensor) -> int:
    """The element whose magnitude is the median of those that are not 0."""
    size = g.abs().reshape(-1)
    order = torch.argsort(size)
    zeros = int((size == 0).sum())
    return int(order[min(zeros + (len(size) - zeros) // 2, len(size) - 1)])


def _rows(call: Call) -> int:
    first = call.outputs[0]
    return first.shape[0] if first.dim() and first.shape[0] > 1 else max(first.numel(), 2)


def _at(site: Site, change: Callable[[Tensor], Tensor]) -> Tensor:
    broken = site.g.reshape(-1).clone()
    broken[site.at] = change(broken[site.at])
    return broken.view(site.g.shape)


def _swapped(site: Site) -> Tensor:
    broken = site.g.reshape(-1).clone()
    pair = [site.at, (site.at + 1) % len(broken)]
    broken[pair] = broken[pair[::-1]]
    return broken.view(site.g.shape)


def _rounded(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def rounded(g: Tensor) -> Tensor:
        if g.is_complex():
            return torch.view_as_complex(torch.view_as_real(g).to(dtype).to(g.real.dtype))
        return g.to(dtype).to(g.dtype)

    return rounded


def _clamped(g: Tensor) -> Tensor:
    """No larger than the median magnitude."""
    size = g.abs()
    limit = size.median()
    return torch.where(size > limit, g * (limit / size), g)


def _reordered(site: Site) -> Tensor:
    """Written transposed: for a square matrix, its transpose."""
    return site.g.mT.reshape(site.g.shape) if site.g.dim() > 1 else site.g


def _along_last(change: Callable[[Tensor], Tensor]) -> Callable[[Site], Tensor]:
    return lambda site: change(site.g) if site.g.dim() else site.g


def _without_last(axis: int) -> Callable[[Site], Tensor]:
    def without(site: Site) -> Tensor:
        if site.g.dim() < 1 or site.g.shape[axis] < 2:
            return site.g
        broken = site.g.clone()
        broken.select(axis, -1).zero_()
        return broken

    return without


def _left_side(site: Site) -> Tensor:
    x = site.x.real if site.x.is_complex() else site.x
    return torch.where(x < 0, 0.0, site.g)


def _with_decay(site: Site) -> Tensor:
    """Plus 10⁻³ of x, at the size of the gradient."""
    size = torch.linalg.vector_norm(site.x)
    share = 1e-3 * torch.linalg.vector_norm(site.g) / size if float(size) else 0.0
    return site.g + share * site.x


def _as_if_contiguous(tensor: Tensor) -> Tensor:
    """The numbers that lie where a contiguous tensor would have its own."""
    tensor = tensor.resolve_conj()
    memory = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())
    places = torch.arange(tensor.numel(), device=tensor.device) + tensor.storage_offset()
    return memory[places % len(memory)].view(tensor.shape)


def _laid_out_wrongly(site: Site) -> Tensor:
    return _as_if_contiguous(clone_as_laid_out(site.x).copy_(site.g))


def _scaled(factor: float) -> Callable[[Backward], Gradients]:
    return _gradient(lambda site: factor * site.g)


BUGS: tuple[Bug, ...] = (
    Bug("sign flipped", _scaled(-1.0)),
    Bug("twice too large", _scaled(2.0)),
    Bug("too small by half", _scaled(0.5)),
    Bug("1 % too large", _scaled(1 + 1e-2)),
    Bug("too large by 1e-4", _scaled(1 + 1e-4)),
    Bug("too large by 1e-6", _scaled(1 + 1e-6)),
    Bug("averaged over the batch, not summed", _gradient(lambda site: site.g / site.rows)),
    Bug("zero, as if detached", _scaled(0.0)),
    Bug("one element of the wrong sign", _gradient(lambda site: _at(site, torch.neg))),
    Bug("one element 1 % too large", _gradient(lambda site: _at(site, lambda e: 1.01 * e))),
    Bug("one element dropped", _gradient(lambda site: _at(site, torch.zeros_like))),
    Bug("one element NaN", _gradient(lambda site: _at(site, lambda e: e * torch.nan))),
    Bug("two elements swapped", _gradient(_swapped)),
    Bug("last index of the first axis dropped", _gradient(_without_last(0))),
    Bug("last index of the last axis dropped", _gradient(_without_last(-1))),
    Bug("zero where x < 0", _gradient(_left_side)),
    Bug("clamped at its median size", _gradient(lambda site: _clamped(site.g))),
    Bug("rounded to float32", _gradient(lambda site: _rounded(torch.float32)(site.g))),
    Bug("rounded to bfloat16", _gradient(lambda site: _rounded(torch.bfloat16)(site.g))),
    Bug("transposed", _gradient(_reordered)),
    Bug("shifted by one", _gradient(_along_last(lambda g: g.roll(1, -1)))),
    Bug("flipped", _gradient(_along_last(lambda g: g.flip(-1)))),
    Bug("averaged over the last axis",
        _gradient(_along_last(lambda g: g.mean(-1, keepdim=True).expand_as(g)))),
    Bug("summed over the first axis",
        _gradient(_along_last(lambda g: g.sum(0, keepdim=True).expand_as(g)))),
    Bug("weight decay left in", _gradient(_with_decay)),
    Bug("not conjugated", _gradient(lambda site: site.g.conj())),
    Bug("incoming gradient taken for 1", _cotangent(torch.ones_like), is_whole=True),
    Bug("incoming gradient taken for uniform",
        _cotangent(lambda v: v.reshape(-1)[:1].view([1] * v.dim()).expand_as(v)), is_whole=True),
    Bug("incoming gradient rounded to float32", _cotangent(_rounded(torch.float32)),
        is_whole=True),
    Bug("strides of the incoming gradient ignored", _cotangent(_as_if_contiguous),
        shows="incoming strides", is_whole=True),
    Bug("strides of the input ignored", _gradient(_laid_out_wrongly), shows="input strides"),
    Bug("state kept from the last call", _of_the_last_call, shows="another call", is_whole=True),
    Bug("added to what the former backward left", _added_to_the_former, shows="second backward",
        is_whole=True),
)  # fmt: skip
