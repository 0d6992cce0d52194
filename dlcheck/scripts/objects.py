"""Objects that a check hands to the subject, as expressions that make them again."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset
from torch.utils.data._utils.collate import default_collate

from dlcheck.scripts.modules import module_text, without_hooks
from dlcheck.scripts.sources import ASSEMBLE, Definitions, assembled, assigns_only, with_cells
from dlcheck.scripts.tape import Unwritable, is_plain


@dataclass(frozen=True, slots=True)
class Made:
    """How an object is made again: build(*args), written as text.format(*args).

    reason: why it cannot be. sources: definitions that stand above, by what they define.
    """

    build: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    text: str = ""
    reason: str = ""
    sources: tuple[tuple[str, str], ...] = ()


def described(thing: object) -> Made:
    """How a thing is made again; with its reason where it cannot be."""
    match thing:
        case torch.Generator():
            return _generator(thing)
        case torch.optim.Optimizer():
            return _optimizer(thing)
        case torch.optim.lr_scheduler.LRScheduler():
            return _schedule(thing)
        case TensorDataset():
            marks = ", ".join("{}" for _ in thing.tensors)
            return Made(TensorDataset, thing.tensors, f"torch.utils.data.TensorDataset({marks})")
        case DataLoader():
            return _loader(thing)
        case nn.ParameterList():
            return Made(nn.ParameterList, ([*thing],), "torch.nn.ParameterList({})")
        case range():
            return Made(lambda: thing, (), repr(thing))
        case set() | frozenset() if all(map(is_plain, thing)):
            return Made(lambda: type(thing)(thing), (), repr(thing))
        case functools.partial() if all(name.isidentifier() for name in thing.keywords):
            return _partial(thing)
    if callable(thing) and (name := _name_in_torch(thing)):
        return Made(lambda: thing, (), name)
    if isinstance(thing, nn.Module) and (text := module_text(thing)):
        first = without_hooks(thing)
        return Made(lambda: without_hooks(first), (), _escaped(text))
    return _by_source(thing)


def unwritable(thing: object) -> Made:
    kind = thing if isinstance(thing, type) else type(thing)
    return Made(reason=f"it is given a {kind.__module__}.{kind.__qualname__}")


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


# --- by their text -------------------------------------------------------------------------------


def _by_source(thing: Any) -> Made:
    above = Definitions()
    try:
        if isinstance(thing, types.MethodType):
            return Made(
                lambda owner: getattr(owner, thing.__name__),
                (thing.__self__,),
                f"{{}}.{thing.__name__}",
            )
        if isinstance(thing, types.FunctionType):
            made = _function(thing, above)
        elif isinstance(thing, (type, nn.Module)) or not hasattr(type(thing), "__module__"):
            return unwritable(thing)
        else:
            made = _instance(thing, above)
    except Unwritable as error:
        return Made(reason=str(error))
    return replace(made, sources=(*made.sources, *above.texts.items()))


def _function(thing: types.FunctionType, above: Definitions) -> Made:
    name, values = above.function(thing)
    if not values:
        return Made(lambda: thing, (), _escaped(name))
    marks = ", ".join("{}" for _ in values)
    if name.startswith("("):
        return Made(with_cells(thing), tuple(values), f"{_escaped(name)}({marks})")
    text = f"functools.partial({name}, {marks})"
    imported = (("functools", "import functools"),)
    return Made(with_cells(thing), tuple(values), text, sources=imported)


def _instance(thing: Any, above: Definitions) -> Made:
    kind = type(thing)
    if kind.__module__.split(".")[0] in ("builtins", "torch", "numpy") or not _is_python(kind):
        return unwritable(thing)
    state = _state(thing)
    name = above.of_class(kind)
    names, sources = assigns_only(kind), ()  # type: tuple[list[str] | None, tuple[tuple[str, str], ...]]
    if names is not None and set(names) == set(state):
        state = {each: state[each] for each in names}
        words = ", ".join("{}" for _ in state)
        text = f"{name}({words})"
    else:
        words = "".join(f", {each}={{}}" for each in state)
        text, sources = f"made({name}{words})", (("made", ASSEMBLE),)
    return Made(assembled(kind, tuple(state)), tuple(state.values()), text, sources=sources)


def _is_python(kind: type) -> bool:
    return bool(kind.__flags__ & (1 << 9))  # defined by a class statement


def _state(thing: Any) -> dict[str, Any]:
    held = dict(getattr(thing, "__dict__", {}))
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                held.setdefault(name, getattr(thing, name))
    if not all(name.isidentifier() for name in held):
        raise Unwritable("it is given an object with attributes that are no names")
    return held


def _partial(thing: functools.partial[Any]) -> Made:
    names = list(thing.keywords)
    marks = "".join(", {}" for _ in thing.args) + "".join(f", {name}={{}}" for name in names)

    def build(function: Any, *values: Any) -> Any:
        count = len(thing.args)
        return functools.partial(
            function, *values[:count], **dict(zip(names, values[count:], strict=True))
        )

    args = (thing.func, *thing.args, *thing.keywords.values())
    imported = (("functools", "import functools"),)
    return Made(build, args, f"functools.partial({{}}{marks})", sources=imported)


# --- of torch ------------------------------------------------------------------------------------


def _generator(thing: torch.Generator) -> Made:
    seed = thing.initial_seed()
    fresh = torch.Generator(thing.device).manual_seed(seed)
    if not torch.equal(fresh.get_state(), thing.get_state()):
        return Made(reason="it is given a generator that was used before")
    build = functools.partial(_seeded, thing.device, seed)
    place = "" if thing.device.type == "cpu" else f'"{thing.device}"'
    return Made(build, (), f"torch.Generator({place}).manual_seed({seed})")


def _seeded(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _optimizer(thing: torch.optim.Optimizer) -> Made:
    kind = type(thing)
    if not kind.__module__.startswith("torch.optim") or thing.state:
        return unwritable(thing)
    known = inspect.signature(kind.__init__).parameters
    given = {
        name: value
        for name, value in thing.defaults.items()
        if name in known and (name == "lr" or value != known[name].default)
    }
    words = "".join(f", {name}={value!r}" for name, value in given.items())
    text = f"torch.optim.{kind.__name__}({{}}{words})"
    if not all(map(is_plain, given.values())) and any(
        not isinstance(v, tuple) for v in given.values() if not is_plain(v)
    ):
        return unwritable(thing)
    groups = [_group(group, thing.defaults) for group in thing.param_groups]
    whole = groups[0]["params"] if len(groups) == 1 and len(groups[0]) == 1 else groups
    return Made(lambda parameters: kind(parameters, **given), (whole,), text)


def _group(group: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Its parameters, and what differs from the optimizer's own options."""
    more = {
        name: value
        for name, value in group.items()
        if name != "params" and (name not in defaults or value != defaults[name])
        and name != "initial_lr"
    }  # fmt: skip
    return {"params": list(group["params"]), **more}


def _schedule(thing: torch.optim.lr_scheduler.LRScheduler) -> Made:
    """A schedule that has taken no step, by the attributes of its constructor's names."""
    kind = type(thing)
    if not kind.__module__.startswith("torch.optim") or thing.last_epoch != 0:
        return unwritable(thing)
    names, values = [], []
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        held = vars(thing)
        value = held.get(name, held.get(f"{name}s", inspect.Parameter.empty))
        if name in ("self", "last_epoch", "verbose"):
            continue
        if value is inspect.Parameter.empty:
            if parameter.default is inspect.Parameter.empty:
                return unwritable(thing)
        elif parameter.default is inspect.Parameter.empty or value != parameter.default:
            names.append(name)
            values.append(value)
    words = ", ".join(f"{name}={{}}" for name in names)
    return Made(
        lambda *made: kind(**dict(zip(names, made, strict=True))),
        tuple(values),
        f"torch.optim.lr_scheduler.{kind.__name__}({words})",
    )


def _loader(thing: DataLoader[Any]) -> Made:
    sampler = thing.sampler
    plain: dict[str, Any] = {}
    given: dict[str, Any] = {}
    if thing.batch_size is None or thing.num_workers:
        return unwritable(thing)
    if isinstance(sampler, RandomSampler) and not sampler.replacement:
        plain["shuffle"] = True
    elif isinstance(sampler, (list, tuple, range)):
        plain["sampler"] = list(sampler)
    elif not isinstance(sampler, SequentialSampler):
        given["sampler"] = sampler
    plain["batch_size"] = thing.batch_size
    if thing.drop_last:
        plain["drop_last"] = True
    if thing.collate_fn is not default_collate:
        given["collate_fn"] = thing.collate_fn
    if thing.generator is not None:
        given["generator"] = thing.generator
    words = "".join(f", {name}={value!r}" for name, value in plain.items())
    words += "".join(f", {name}={{}}" for name in given)
    return Made(
        lambda data, *made: DataLoader(data, **plain, **dict(zip(given, made, strict=True))),
        (thing.dataset, *given.values()),
        f"torch.utils.data.DataLoader({{}}{words})",
    )


def _name_in_torch(thing: Any) -> str:
    """The public name of a function of torch."""
    name = getattr(thing, "__name__", "")
    for place, owner in (("torch", torch), ("torch.nn.functional", nn.functional)):
        if name and getattr(owner, name, None) is thing:
            return f"{place}.{name}"
    return ""
