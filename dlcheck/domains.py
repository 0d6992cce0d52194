"""The input language: `"float b c h w"` → `Input`.

    input   := element dim*
    element := name | name[bound] | name[low:high]
    dim     := integer | name | name*integer | dim~        (~ marks a ragged dim)

The same name is the same size in every input of a subject and, through `{ dim = "d" }`, in its
constructor arguments. Read by the Hypothesis strategies and by the benchmarks; standard library
only, so that suites are parsed without torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlcheck.errors import DeclarationError, unknown

# element → (what brackets it takes, is it floating point, meaning)
ELEMENTS: Mapping[str, tuple[str, bool, str]] = {
    "float": ("range?", True, "any real number; float[lo:hi] bounds it"),
    "positive": ("", True, "greater than 0"),
    "unit": ("", True, "in (0, 1)"),
    "signed": ("", True, "in (-1, 1)"),
    "probability": (
        "dim?",
        True,
        "non-negative, sums to 1 along the last axis, or that of probability[k]",
    ),
    "log_probability": ("dim?", True, "the logarithm of a probability, of probability[k]"),
    "logit": ("", True, "an unnormalised log-probability"),
    "direction": ("", True, "rows of unit norm"),
    "image": ("range?", True, "smooth, in (0, 1); image[lo:hi] gives another range"),
    "spd": ("", True, "symmetric positive definite in the last two axes"),
    "orthogonal": ("", True, "orthogonal in the last two axes"),
    "onehot": ("", True, "one 1 in the last axis, else 0"),
    "bool": ("", False, "True or False"),
    "mask": ("", False, "True or False; a mask of what to keep"),
    "sign": ("", False, "-1 or 1"),
    "int": ("range", False, "int[lo:hi], lo ≤ value < hi"),
    "label": ("count", False, "label[k], a class from 0 to k - 1"),
    "index": ("count", False, "index[n], a row number from 0 to n - 1; may repeat"),
    "uint8": ("", False, "an image byte, 0 to 255"),
}

_INPUT = re.compile(
    r"(?P<element>[a-z]\w*)(?:\[(?P<inside>[^\]]*)\])?(?P<dims>(?:\s+\S+)*)", re.ASCII
)
_DIM = re.compile(
    r"(?P<head>\d{1,9}|[A-Za-z_]\w*)(?:\*(?P<times>[1-9]\d{0,8}))?(?P<ragged>~?)", re.ASCII
)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_AXES = {
    "probability": 1,
    "log_probability": 1,
    "onehot": 1,
    "direction": 1,
    "image": 2,
    "spd": 2,
    "orthogonal": 2,
}


@dataclass(frozen=True, slots=True)
class Dim:
    """A size: a number, a name, or a multiple of a name."""

    name: str  # "" for a fixed size
    times: int  # the size itself where `name` is ""
    ragged: bool = False

    def size(self, sizes: Mapping[str, int]) -> int:
        return self.times * (sizes[self.name] if self.name else 1)

    def __str__(self) -> str:
        head = self.name or str(self.times)
        if self.name and self.times != 1:
            head += f"*{self.times}"
        return head + "~" * self.ragged


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor argument: what its elements are and how long its axes."""

    element: str
    dims: tuple[Dim, ...]
    low: float | None = None
    high: float | None = None
    count: Dim | None = None  # of label[k] and index[n]
    along: Dim | None = None  # of probability[k]: the dim that sums to 1, by default the last
    ignored: int | None = None  # the label that stands for no target, where some are ignored

    @property
    def axis(self) -> int:
        """The axis along which a probability sums to 1, counted from the end."""
        if self.along is None:
            return -1
        return self.dims.index(self.along) - len(self.dims)

    @property
    def is_floating(self) -> bool:
        return ELEMENTS[self.element][1]

    @property
    def names(self) -> frozenset[str]:
        """The dim names that must get a size before the tensor can be made."""
        dims = (*self.dims, *((self.count,) if self.count else ()))
        return frozenset(dim.name for dim in dims if dim.name)

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(dim.size(sizes) for dim in self.dims)

    def __str__(self) -> str:
        inside = ""
        if self.count is not None or self.along is not None:
            inside = f"[{self.count or self.along}]"
        elif self.low is not None:
            inside = f"[{_shortest(self.low)}:{_shortest(self.high)}]"
        return " ".join([self.element + inside, *(str(dim) for dim in self.dims)])


def _shortest(number: float | None) -> str:
    """The shortest text that reads back to the number: 3 for 3.0."""
    return repr(number).removesuffix(".0")


def parse_dim(text: str) -> Dim:
    """`"8"`, `"b"`, `"d*2"`, `"t~"` → `Dim`. Raises DeclarationError."""
    match = _DIM.fullmatch(text)
    if match is None:
        raise DeclarationError(
            f"{text!r} is no dim: write an integer, a name, or a multiple like 'd*2'"
        )
    head, times, ragged = match["head"], int(match["times"] or 1), bool(match["ragged"])
    if head.isdigit():
        return Dim("", int(head) * times, ragged)
    return Dim(head, times, ragged)


def parse_input(text: str) -> Input:
    """`"label[k] b"` → `Input`. Raises DeclarationError with what was expected."""
    if not isinstance(text, str):
        raise DeclarationError(f"an input is a string like 'float b n', not {text!r}")
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise DeclarationError(
            f"{text!r} is no input: write an element and its dims, like 'float b n' or 'label[k] b'"
        )
    element = match["element"]
    if element not in ELEMENTS:
        raise DeclarationError(unknown("element", element, ELEMENTS, see="dlcheck list elements"))
    dims = tuple(parse_dim(part) for part in match["dims"].split())
    if len(dims) < _AXES.get(element, 0):
        raise DeclarationError(f"{text!r}: {element} needs at least {_AXES[element]} dims")
    if element in ("spd", "orthogonal") and dims[-1] != dims[-2]:
        raise DeclarationError(f"{text!r}: the last two dims of {element} are the same")
    return _with_brackets(element, match["inside"], dims, text)


def _with_brackets(element: str, inside: str | None, dims: tuple[Dim, ...], text: str) -> Input:
    takes = ELEMENTS[element][0]
    if not takes and inside is not None:
        raise DeclarationError(f"{text!r}: {element} takes no brackets")
    if takes in ("range", "count") and inside is None:
        shape = f"{element}[lo:hi]" if takes == "range" else f"{element}[k]"
        raise DeclarationError(f"{text!r}: {element} needs its range, write {shape}")
    if inside is None:
        return Input(element, dims)
    if takes == "dim?":
        along = parse_dim(inside.strip())
        if along not in dims:
            raise DeclarationError(f"{text!r}: sums to 1 along {along}, which is none of its dims")
        return Input(element, dims, along=along)
    if takes == "count":
        count = parse_dim(inside.strip())
        if count.ragged:
            raise DeclarationError(f"{text!r}: a count of classes is not ragged")
        return Input(element, dims, count=count)
    number = int if element == "int" else float
    try:
        low, high = (float(number(end)) for end in inside.split(":"))
    except (ValueError, OverflowError):
        low = high = 0.0
    if not low < high or not math.isfinite(high - low):
        numbers = "integers" if element == "int" else "finite numbers"
        raise DeclarationError(f"{text!r}: write {element}[lo:hi] with lo < hi, in {numbers}")
    return Input(element, dims, low=low, high=high)


def parse_inputs(inputs: Mapping[str, str]) -> dict[str, Input]:
    """Every argument's input; the first that does not parse raises DeclarationError."""
    return {name: parse_input(text) for name, text in inputs.items()}


def bound_dims(args: Mapping[str, Any]) -> dict[str, Dim]:
    """The constructor arguments given as `{ dim = "d" }`, with their dims."""
    return {
        name: parse_dim(str(value["dim"]))
        for name, value in args.items()
        if isinstance(value, Mapping) and set(value) == {"dim"}
    }


def resolve_args(args: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Constructor arguments with every `{ dim = "d" }` replaced by its size."""
    dims = bound_dims(args)
    return {name: dims[name].size(sizes) if name in dims else v for name, v in args.items()}


def size_bounds(options: Mapping[str, Any], name: str) -> tuple[int, int] | None:
    """`options.sizes = { n = [1, 17] }`, or None where the author leaves it free."""
    bounds = options.get("sizes", {}).get(name)
    if bounds is None:
        return None
    low, high = (bounds, bounds) if isinstance(bounds, int) else bounds
    return int(low), int(high)


def problems_of(
    inputs: Mapping[str, str], args: Mapping[str, Any], options: Mapping[str, Any]
) -> list[tuple[tuple[str, ...], str]]:
    """Everything wrong with a subject's inputs: (path of the key, message)."""
    found: list[tuple[tuple[str, ...], str]] = []
    names: set[str] = set()
    for name, text in inputs.items():
        if not is_name(name):
            found.append((("inputs", str(name)), f"{name!r} cannot be the name of an input"))
        try:
            names |= parse_input(text).names
        except DeclarationError as error:
            found.append((("inputs", str(name)), str(error)))
    # Not known where the inputs come from annotations, nor where some do not parse.
    known = names if inputs and not found else None
    found += _problems_of_args(args, known)
    found += _problems_of_sizes(options.get("sizes", {}), known)
    found += _problems_of_output(options.get("output"), known)
    return found


def _problems_of_args(
    args: Mapping[str, Any], names: set[str] | None
) -> list[tuple[tuple[str, ...], str]]:
    found: list[tuple[tuple[str, ...], str]] = []
    for name, value in args.items():
        if not (isinstance(value, Mapping) and set(value) == {"dim"}):
            continue
        try:
            dim = parse_dim(str(value["dim"]))
        except DeclarationError as error:
            found.append((("args", name), str(error)))
            continue
        if names is not None and dim.name and dim.name not in names:
            found.append((("args", name), _unbound(dim.name, names)))
    return found


def _unbound(name: str, names: set[str]) -> str:
    return f"dim {name!r} is used but never bound: {unknown('dim of the inputs', name, names)}"


def _problems_of_output(output: Any, names: set[str] | None) -> list[tuple[tuple[str, ...], str]]:
    path = ("options", "output")
    if output is None:
        return []
    try:
        used = sorted(parse_input(output).names)
    except DeclarationError as error:
        return [(path, str(error))]
    return [
        (path, _unbound(name, names)) for name in used if names is not None and name not in names
    ]


def _problems_of_sizes(sizes: Any, names: set[str] | None) -> list[tuple[tuple[str, ...], str]]:
    path = ("options", "sizes")
    if not isinstance(sizes, Mapping):
        return [(path, f"sizes is a table like {{ n = [1, 17] }}, not {sizes!r}")]
    found: list[tuple[tuple[str, ...], str]] = []
    for name, bounds in sizes.items():
        if names is not None and name not in names:
            found.append(((*path, name), _unbound(name, names)))
        if not _is_bounds(bounds):
            message = f"the size of {name!r} is [lowest, highest] or one number, not {bounds!r}"
            found.append(((*path, name), message))
    return found


def _is_bounds(bounds: Any) -> bool:
    if isinstance(bounds, bool):
        return False
    if isinstance(bounds, int):
        return bounds >= 0
    return (
        isinstance(bounds, Sequence)
        and not isinstance(bounds, str)
        and len(bounds) == 2
        and all(isinstance(end, int) and not isinstance(end, bool) for end in bounds)
        and 0 <= bounds[0] <= bounds[1]
    )


def is_name(text: object) -> bool:
    """Can this be an argument or dim name?"""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None
