"""What is differentiated: a map from named real tensors to one vector of real numbers."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlcheck.errors import SubjectError, SubjectRaised, Unchecked
from dlcheck.gradients.trees import named_tensors
from dlcheck.gradients.variables import (
    LAYOUTS,
    Variable,
    coordinates,
    coordinates_of_gradient,
    dense,
    private_coordinates,
)
from dlcheck.isolation import guarded, seed_everything
from dlcheck.numerics.differences import Point
from dlcheck.numerics.layouts import REARRANGED, lay_out

_REPEATS = 4  # calls that measure how much a function without a fixed answer varies
_STEPS = 4  # roundings of terms that cancel
_QUANTUM = 2.0**-16  # of the rounding of terms: no difference of them is smaller


@dataclass(frozen=True, slots=True)
class Gradient:
    """Jᵀv as backward gives it, in the coordinates of each variable, and f at that point."""

    parts: tuple[Tensor, ...]  # float64
    unreached: frozenset[str]  # variables that no gradient reaches
    value: Tensor  # [m]

    @property
    def broken(self) -> tuple[int, ...]:
        """In how many elements of each variable it is not finite."""
        return tuple(int((~torch.isfinite(part)).sum()) for part in self.parts)


@dataclass(slots=True)
class Function:
    """f: ℝⁿ → ℝᵐ, from the coordinates of each variable to all differentiable outputs.

    call takes a tensor per variable (parameters are set already) and returns nested tensors.
    Every call restores the buffers and the random streams, so that f is one function. `meet`
    must be called first. forwards and backwards count the calls.
    """

    call: Callable[[Sequence[Tensor]], Any]
    variables: tuple[Variable, ...]
    buffers: tuple[tuple[Tensor, Tensor], ...] = ()  # with their values before the first call
    constants: tuple[tuple[str, Tensor], ...] = ()  # further tensors, which must not change
    seed: int = 0
    overwrites: bool = False  # its inputs, as documented
    borrows: bool = False  # a module that could not be copied
    meanwhile: Callable[[Sequence[Tensor]], Any] | None = None  # the other call; `call` by default
    layouts: Sequence[str] = REARRANGED  # in which its inputs may lie, too
    x: tuple[Tensor, ...] = ()
    value: Tensor = field(default_factory=lambda: torch.empty(0))
    shapes: tuple[torch.Size, ...] = ()  # of the outputs that are differentiated
    complex_outputs: tuple[bool, ...] = ()
    forwards: int = 0
    backwards: int = 0
    notes: list[str] = field(default_factory=list)
    draws: bool = False  # random numbers
    accumulates: bool = False  # must gradients be added to the leaves, by backward()?
    eats_incoming: bool = False  # does the backward change its incoming gradient?
    is_connected: bool = True  # does any output require a gradient?
    unit: float = torch.finfo(torch.float64).eps
    deviations: list[Tensor] = field(default_factory=list)  # of repeated calls, where they differ
    cancelling: float = 0.0  # the size of terms that may cancel within an output
    _records: bool = False  # must gradients be recorded in every call?
    _live: tuple[bool, ...] = ()
    _usable: Tensor | None = None  # [m] bool, where some outputs are not finite

    # --- the first calls -----------------------------------------------------------------------

    def meet(self) -> None:
        """The first calls: what is differentiable, random, changed, and how much it varies.

        Raises Unchecked with the reason where there is nothing to differentiate, and SubjectError
        where the function changes its inputs.
        """
        self._refuse_inputs()
        self.x = tuple(variable.coordinates for variable in self.variables)
        seed_everything(self.seed)
        before = _streams(self.variables)
        first = self._first_value()
        if before != _streams(self.variables):
            self.draws = True
            self.notes.append("draws random numbers: every call gets the same ones")
            first = self._first_value()
        self.value = first
        self._settle_mode()

    def _refuse_inputs(self) -> None:
        if not self.variables:
            raise Unchecked(
                "no input requires a gradient: pass floating tensors with requires_grad=True, "
                "or name them in wrt"
            )
        everything = [(v.name, v.value) for v in self.variables] + list(self.constants)
        devices = {tensor.device for _, tensor in everything if tensor.dim()}
        if torch.device("meta") in devices:
            raise Unchecked("inputs on the meta device hold no numbers")
        if len({v.value.device for v in self.variables}) > 1 or len(devices) > 1:
            places = ", ".join(f"{name} on {tensor.device}" for name, tensor in everything)
            raise Unchecked(f"inputs on different devices: {places}; move them to one")
        for variable in self.variables:
            if variable.value.layout not in LAYOUTS:
                raise Unchecked(
                    f"{variable.name} has layout {variable.value.layout}: dense, COO and CSR "
                    "tensors can be checked"
                )
        for variable in self.variables:
            point = variable.coordinates
            whole = not point.numel() or bool(torch.isfinite(point.sum()))
            if not whole and not bool(torch.isfinite(point).any()):
                raise Unchecked(f"{variable.name} holds no finite number: NaN or infinite inputs")
        if not any(v.coordinates.numel() for v in self.variables):
            names = ", ".join(v.name for v in self.variables)
            raise Unchecked(f"empty tensors: {names} hold no element to differentiate")

    def _first_value(self) -> Tensor:
        """f(x) with its structure noted; the inputs are private copies, held to be unchanged."""
        leaves = [
            variable.leaf(private_coordinates(variable), requires_grad=True)
            for variable in self.variables
        ]
        kept = [(name, tensor, tensor.clone()) for name, tensor in self.constants]
        with torch.enable_grad():
            answer = self._answer(leaves)
        if not self.overwrites:
            self._hold_unchanged(leaves, kept)
        return self._noted(answer)

    def _hold_unchanged(
        self, leaves: Sequence[Tensor], kept: Iterable[tuple[str, Tensor, Tensor]]
    ) -> None:
        pairs = [
            (variable.name, coordinates(leaf.detach()), variable.coordinates)
            for variable, leaf in zip(self.variables, leaves, strict=True)
        ]
        for name, now, before in [*pairs, *kept]:
            if not _equal(now, before):
                raise SubjectError(
                    f"changes its input {name}: what backward differentiates is then not what "
                    "was passed in; work on a copy, or mark it with ctx.mark_dirty"
                )

    def _answer(self, leaves: Sequence[Tensor]) -> Any:
        with torch.no_grad():
            for buffer, value in self.buffers:
                buffer.copy_(value)
        if self.draws:
            seed_everything(self.seed)
        self.forwards += 1
        given = [leaf.clone() for leaf in leaves] if self.overwrites else leaves
        return guarded(self.call, given)

    def _noted(self, answer: Any) -> Tensor:
        tensors = [tensor for _, tensor in named_tensors(answer, "output")]
        if not tensors:
            raise Unchecked(
                f"returns no tensor but {type(answer).__module__}.{type(answer).__qualname__}"
            )
        outputs = [y for y in tensors if y.is_floating_point() or y.is_complex()]
        if not outputs:
            kinds = ", ".join(sorted({str(y.dtype).removeprefix("torch.") for y in tensors}))
            raise Unchecked(f"returns {kinds} only, which has no derivative")
        connected = tuple(y.requires_grad for y in outputs)
        # An output without gradient beside others with one is a statistic; alone, it is wrong.
        self.is_connected = any(connected)
        self._live = connected if any(connected) else (True,) * len(outputs)
        left_out = [index for index, live in enumerate(self._live) if not live]
        note = f"outputs {left_out} require no gradient and are left out"
        if left_out and note not in self.notes:
            self.notes.append(note)
        live = self._living(answer)
        self.shapes = tuple(y.shape for y in live)
        self.complex_outputs = tuple(y.is_complex() for y in live)
        units = [
            torch.finfo(y.dtype).eps for y in (*live, *(v.coordinates for v in self.variables))
        ]
        self.unit = max(torch.finfo(torch.float64).eps, *units)
        flat = _flat(live)
        if not flat.numel():
            raise Unchecked("the output is empty: there is nothing to differentiate")
        usable = torch.isfinite(flat)
        if not bool(usable.any()):
            raise Unchecked("the output is NaN or infinite at this point: it has no derivative")
        self._usable = None if bool(usable.all()) else usable
        if self._usable is not None:
            count = int((~usable).sum())
            self.notes.append(f"{count} of {len(flat)} outputs are not finite and are left out")
        return self._masked(flat)

    def _settle_mode(self) -> None:
        """Without recorded gradients a call is cheaper; is it also the same?"""
        again = self.values(self.x)
        if again is not None and torch.equal(again, self.value):
            return
        self._records = True
        third = self.values(self.x)
        if third is not None and torch.equal(third, self.value):
            return
        self.notes = [note for note in self.notes if not note.startswith("raised")]
        for _ in range(_REPEATS):
            value = self.values(self.x)
            if value is not None:
                self.deviations.append(value - self.value)
        spread = max(float(d.abs().max()) for d in self.deviations) if self.deviations else 0.0
        self.notes.append(f"not deterministic: repeated calls differ by up to {spread:.2g}")

    # --- calls ---------------------------------------------------------------------------------

    def values(self, point: Point) -> Tensor | None:
        """The outputs [m] at a point; None where the function raises or changes its shape."""
        with torch.set_grad_enabled(self._records), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to warn of, the first call has said
            leaves = self._leaves(point, requires_grad=self._records)
            try:
                found = self._living(self._answer(leaves))
            except Exception as error:
                cause = error.__cause__ or error
                note = f"raised at a shifted point: {type(cause).__name__}: {cause}"
                if not any(said.startswith("raised") for said in self.notes):
                    self.notes.append(note[:200])
                return None
        if tuple(y.shape for y in found) != self.shapes:
            return None
        return self._masked(_flat(found))

    def gradient(
        self,
        cotangents: Sequence[Tensor],
        *,
        at: Point | None = None,
        between: Point | None = None,
        twice: bool = False,
        layout: str = "",
    ) -> Gradient:
        """Jᵀv, v given per output in its shape and layout; at x unless told.

        between: where f is called between forward and backward. twice: the second backward of
        one forward. layout: of the dense inputs in memory. Raises SubjectRaised where the subject
        raises.
        """
        point = self.x if at is None else at
        try:
            found, value = self._graded(point, cotangents, between, twice=twice, layout=layout)
        except SubjectRaised as error:
            if self.accumulates or not wants_accumulation(error):
                raise
            self.accumulates = True
            found, value = self._graded(point, cotangents, between, twice=twice, layout=layout)
        parts, unreached = [], set()
        for variable, part in zip(self.variables, found, strict=True):
            if part is None:
                unreached.add(variable.name)
                parts.append(torch.zeros_like(variable.coordinates, dtype=torch.float64))
            else:
                parts.append(coordinates_of_gradient(part.detach(), variable.value))
        return Gradient(tuple(parts), frozenset(unreached), value)

    def _graded(
        self,
        point: Point,
        cotangents: Sequence[Tensor],
        between: Point | None,
        *,
        twice: bool,
        layout: str,
    ) -> tuple[Sequence[Tensor | None], Tensor]:
        """The gradient of each leaf, None where none arrives, and f."""
        leaves = self._leaves(point, requires_grad=True)
        if layout:
            leaves = [_laid_out(leaf, layout) for leaf in leaves]
        with torch.enable_grad():
            outputs = self._living(self._answer(leaves))
        if tuple(y.shape for y in outputs) != self.shapes:
            raise Unchecked("the shape of the output depends on the values of the input")
        value = self._masked(_flat([y.detach() for y in outputs]))
        if between is not None:
            self._call_meanwhile(between)
        found: Sequence[Tensor | None] = [None] * len(leaves)
        for last in (False, True) if twice else (True,):
            found = self._backward(outputs, leaves, cotangents, keep=not last)
        return found, value

    def _call_meanwhile(self, point: Point) -> None:
        """Call f at other inputs. Parameters and buffers stay: autograd may have saved them."""
        leaves = [
            v.parameter if v.parameter is not None else v.leaf(part, requires_grad=True)
            for v, part in zip(self.variables, point, strict=True)
        ]
        self.forwards += 1
        with contextlib.suppress(Exception), torch.set_grad_enabled(self._records):
            other = self.meanwhile or self.call
            other([leaf.clone() for leaf in leaves] if self.overwrites else leaves)

    def _backward(
        self,
        outputs: Sequence[Tensor],
        leaves: Sequence[Tensor],
        cotangents: Sequence[Tensor],
        *,
        keep: bool,
    ) -> Sequence[Tensor | None]:
        pairs = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
        if not pairs:
            return [None] * len(leaves)
        self.backwards += 1
        ys, vs = zip(*pairs, strict=True)
        versions = [v._version for v in vs]
        if self.accumulates:
            return accumulated(ys, vs, leaves, keep=keep)
        found: Sequence[Tensor | None] = guarded(
            torch.autograd.grad, ys, list(leaves), vs, allow_unused=True, retain_graph=keep
        )
        self.eats_incoming |= versions != [v._version for v in vs]
        return found

    def restore(self) -> None:
        """Put the parameters and buffers of a module that is not a copy back to what they were."""
        if not self.borrows:
            return
        with torch.no_grad():
            for variable in self.variables:
                if variable.parameter is not None:
                    variable.parameter.copy_(variable.value)
            for buffer, value in self.buffers:
                buffer.copy_(value)

    def outputs(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """The differentiable outputs for these leaves, in their graph: to differentiate again.

        Buffers and random streams are left to the caller.
        """
        self.forwards += 1
        return self._living(guarded(self.call, leaves))

    def noise(self, v: Tensor) -> float:
        """By how much ⟨v, f(x)⟩ differs between calls, as measured, and what cancelling loses."""
        varied = max((abs(float(v @ deviation)) for deviation in self.deviations), default=0.0)
        quantum = self.unit * self.cancelling
        if not quantum:
            return 2 * varied
        left = torch.where(may_be_what_is_left(self.value, quantum), v, 0.0)
        return 2 * varied + _STEPS * quantum * float(torch.linalg.vector_norm(left))

    def shaped(self, v: Tensor) -> list[Tensor]:
        """A cotangent [m] as tensors in the shapes of the outputs; a copy, which may be changed."""
        parts, start, v = [], 0, v.clone()
        for shape, is_complex in zip(self.shapes, self.complex_outputs, strict=True):
            count = shape.numel() * (2 if is_complex else 1)
            part = v[start : start + count]
            start += count
            if is_complex:
                parts.append(torch.view_as_complex(part.view(*shape, 2)))
            else:
                parts.append(part.view(shape))
        return parts

    @property
    def is_whole(self) -> bool:
        """Is every output finite at x?"""
        return self._usable is None

    def mask(self, v: Tensor) -> Tensor:
        """v without the outputs that are not finite at x."""
        return v if self._usable is None else torch.where(self._usable, v, 0.0)

    def _leaves(self, point: Point, *, requires_grad: bool) -> list[Tensor]:
        return [
            variable.leaf(part, requires_grad=requires_grad)
            for variable, part in zip(self.variables, point, strict=True)
        ]

    def _living(self, answer: Any) -> list[Tensor]:
        tensors = [tensor for _, tensor in named_tensors(answer, "output")]
        outputs = [y for y in tensors if y.is_floating_point() or y.is_complex()]
        if len(outputs) != len(self._live):
            raise Unchecked("the number of outputs depends on the values of the input")
        return [dense(y) for y, live in zip(outputs, self._live, strict=True) if live]

    def _masked(self, flat: Tensor) -> Tensor:
        return flat if self._usable is None else torch.where(self._usable, flat, 0.0)


def wants_accumulation(error: Exception) -> bool:
    """Is it how a reentrant checkpoint refuses autograd.grad? It has no class of its own."""
    return "incompatible with .grad()" in str(error)


def accumulated(
    ys: Sequence[Tensor], vs: Sequence[Tensor], leaves: Sequence[Tensor], *, keep: bool
) -> list[Tensor | None]:
    """The gradients by backward(), which adds them to the leaves."""
    kept = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    try:
        guarded(torch.autograd.backward, ys, vs, retain_graph=keep)
        return [leaf.grad for leaf in leaves]
    finally:
        for leaf, gradient in zip(leaves, kept, strict=True):
            leaf.grad = gradient


def _flat(outputs: Sequence[Tensor]) -> Tensor:
    """All outputs as one vector [m] of float64."""
    parts = [coordinates(y.detach()).reshape(-1).double() for y in outputs]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _laid_out(leaf: Tensor, layout: str) -> Tensor:
    if isinstance(leaf, nn.Parameter) or leaf.layout != torch.strided:
        return leaf
    return lay_out(leaf.detach(), layout).requires_grad_()


def may_be_what_is_left(y: Tensor, quantum: float) -> Tensor:
    """Which elements may be what is left of terms, of which `quantum` is the rounding.

    Such a difference is 0 or a multiple of the rounding, so that an element that is neither, but
    far smaller, was computed in another way and is no rounding error.
    """
    return (y == 0) | (y.abs() >= _QUANTUM * quantum)


def _equal(first: Tensor, second: Tensor) -> bool:
    if torch.equal(first, second) or not first.is_floating_point():
        return torch.equal(first, second)
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _streams(variables: Sequence[Variable]) -> tuple[object, ...]:
    """The state of every random stream that a function might draw from."""
    states = [torch.get_rng_state()]
    if variables and variables[0].value.is_cuda:
        states.append(torch.cuda.get_rng_state(variables[0].value.device))
    numpy_state = np.random.get_state(legacy=False)["state"]
    return (
        *(state.numpy().tobytes() for state in states),
        random.getstate(),
        numpy_state["key"].tobytes(),
        int(numpy_state["pos"]),
    )
