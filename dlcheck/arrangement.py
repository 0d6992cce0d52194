"""How a kind hands its inputs to the subject, where that is not one argument after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from dlcheck.model import Kind, Subject


class Weights(nn.Module):
    """A module with the given tensors as its parameters: what a penalty on a model is called on.

    They stay the tensors that they are, so that gradients reach them.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.tensors = dict(tensors)

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, Any]]:
        return iter(self.tensors.items())


def arranged(
    kind: Kind, declared: Subject, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The positional arguments of a call with these inputs.

    A penalty gets one tensor as it is and several as one list, or as a module or as pairs of
    name and tensor where `options.takes` says so. A proximal operator that is given no step gets
    that of its kind. Several inputs that `options.state` names go as one tuple, as LSTMs take it.
    """
    if "state" in kind.options:
        return _with_state(tuple(declared.inputs or kind.inputs), declared, inputs)
    if kind.further and len(inputs) == 1 and not keywords:
        return (*inputs, *kind.further.values())
    if not kind.gathers:
        return inputs
    takes = declared.options.get("takes", "tensor" if len(inputs) == 1 else "list")
    if takes == "tensor":
        return inputs
    tensors = inputs[0] if len(inputs) == 1 and not isinstance(inputs[0], Tensor) else inputs
    if takes == "list":
        return (list(tensors),)
    names = [*(declared.inputs or kind.inputs)]
    names += [f"weights{i}" for i in range(len(names), len(tensors))]
    named = dict(zip(names, tensors, strict=False))
    return (Weights(named) if takes == "module" else iter(named.items()),)


def _with_state(
    names: tuple[str, ...], declared: Subject, inputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    """The inputs with those that form the state packed into one tuple, if they are several."""
    state = declared.options.get("state", ())
    several = () if isinstance(state, str) else tuple(state)
    places = [names.index(name) if names else 1 + i for i, name in enumerate(several)]
    if len(places) < 2 or len(inputs) <= max(places):
        return inputs
    if not all(isinstance(inputs[place], Tensor) for place in places):
        return inputs
    packed = tuple(inputs[place] for place in places)
    rest = [None if place in places else given for place, given in enumerate(inputs)]
    rest[places[0]] = packed
    return tuple(x for place, x in enumerate(rest) if place not in places[1:])


def has_methods(target: object, kind: Kind) -> bool:
    """Has it every method that its kind takes in place of a call? Never where there is none."""
    return bool(kind.methods) and all(
        callable(getattr(target, name, None)) for name in kind.methods
    )


def through_methods(kind: Kind) -> Callable[..., Any]:
    """How an object is called through the methods of its kind."""
    if kind.methods == ("fit", "transform"):
        return _fitted_and_applied
    (method,) = kind.methods
    return lambda target, *inputs, **keywords: getattr(target, method)(*inputs, **keywords)


def _fitted_and_applied(target: Any, train: Any, test: Any) -> tuple[Any, Any]:
    target.fit(train)
    return target.transform(train), target.transform(test)
