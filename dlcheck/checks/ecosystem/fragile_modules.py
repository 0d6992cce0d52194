"""Modules with one habit each that a tool around them cannot bear: what the checks must reject.

Each wraps any subject and multiplies its answer by a parameter `gain`, so that a function too has
a state that can be lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from dlcheck.model import Mutant
from dlcheck.mutants import on_tensors, rebuilt

GAIN = 1.5


class Gained(nn.Module):
    """gain × the original's answer; nothing is wrong with it yet."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original
        self.gain = nn.Parameter(torch.tensor(GAIN))

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self.gained(self.original(*inputs, **keywords), self.gain)

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return on_tensors(answer, lambda y: y * gain.to(y.dtype))


def made_by(change: Callable[[Any], nn.Module], name: str = "") -> Mutant:
    """The mutant that wraps what was built in such a module, named after its class."""
    return rebuilt(name or change.__name__, change)


# --- copies -----------------------------------------------------------------------------------


class KeepsALambda(Gained):
    """A lambda as an attribute: pickle finds no name for it."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.activation = lambda y: y


class HoldsALock(Gained):
    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.lock = threading.Lock()


class ForgetsItsGainInGetstate(Gained):
    """__getstate__ leaves out what it takes for a cache, and __setstate__ makes it anew."""

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_parameters"] = {}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.gain = nn.Parameter(torch.ones(()))


class CopiesItsShellOnly(Gained):
    """__deepcopy__ as of a shallow copy: the parameters are the same tensors."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self).__new__(type(self))
        made.__dict__ = {key: value for key, value in self.__dict__.items()}
        return made


class ClosesOverItself(Gained):
    """Its forward is a function made in __init__, which goes on to see the original's gain."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.scaled = lambda answer: self.gained(answer, self.gain)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self.scaled(self.original(*inputs, **keywords))


class KeepsTheGraphOfItsLastAnswer(Gained):
    """Keeps a scale that it computed, graph and all, to be looked at: deepcopy refuses it."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.last = self.gain * 2
        return super().forward(*inputs, **keywords)


class StartsAfreshWhenCopied(Gained):
    """__deepcopy__ constructs a new one, whose parameters are at their start again."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self)(self.original)
        return made.to(self.gain)


# --- saved state ------------------------------------------------------------------------------


class _Settings:
    def __init__(self) -> None:
        self.version = 2


class SavesAnObject(Gained):
    """Puts a settings object of its own class into the state: weights_only refuses it."""

    def get_extra_state(self) -> _Settings:
        return _Settings()

    def set_extra_state(self, state: Any) -> None:
        self.version = state.version


class SavesANumpyNumber(Gained):
    """A NumPy scalar in the state is a pickled object, not a tensor."""

    def get_extra_state(self) -> dict[str, Any]:
        import numpy

        return {"best": numpy.float64(0.5)}

    def set_extra_state(self, state: Any) -> None:
        self.best = float(state["best"])


class KeepsARandomTensorOutOfItsState(Gained):
    """A random projection that is a plain attribute: it is drawn anew in the next process."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.projection = torch.rand(()) + 0.5

    def gained(self, answer: Any, gain: Tensor) -> Any:
        return super().gained(answer, gain * self.projection.to(gain))


class SavesUnderOtherNames(Gained):
    """state_dict renames, as for another framework, and load_state_dict does not rename back."""

    def state_dict(self, *args: Any, **keywords: Any) -> Any:
        state = super().state_dict(*args, **keywords)
        return {
            name.removeprefix("original.").replace("gain", "scale"): x for name, x in state.items()
        }
