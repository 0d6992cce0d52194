"""Outcomes and metadata ⇄ data that JSON can hold, without loss. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from dlcheck.model import NOTHING, Evidence, Figure, Outcome, Recipe, Statement, Verdict

_NUMBERS = ("error", "bound", "signal", "resolution", "alpha")  # the float fields of Evidence
_TEXTS = ("unit", "what", "expected", "got", "where", "cause")
_NOT_FINITE = ("nan", "inf", "-inf")


def encode(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON-safe data of plain Python types; `decode` gives it back unchanged.

    JSON has no infinities and no NaN: they are the strings "inf", "-inf" and "nan". Where text
    may stand too, in `Evidence.values`, text that reads like one of them is `{"text": "nan"}`.
    """
    data = {f.name: getattr(outcome, f.name) for f in fields(outcome)}
    return {
        **data,
        "verdict": outcome.verdict.value,
        "evidence": [_encode_evidence(piece) for piece in outcome.evidence],
        "recipe": encode_recipe(outcome.recipe) if outcome.recipe else None,
        "free": dict(outcome.free),
        "seconds": _number(outcome.seconds),
        "replay": plain(outcome.replay),
        "phases": {str(name): int(count) for name, count in outcome.phases.items()},
        "notes": list(outcome.notes),
        "tags": list(outcome.tags),
        "textbook": asdict(outcome.textbook) if outcome.textbook else None,
    }


def encode_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON-safe data; `decode_recipe` gives it back."""
    return {
        "sizes": {str(name): int(size) for name, size in recipe.sizes.items()},
        "regimes": dict(recipe.regimes),
        "layouts": dict(recipe.layouts),
        "seed": int(recipe.seed),
    }


def decode_recipe(data: Mapping[str, Any]) -> Recipe:
    """The recipe that was encoded. Raises ValueError, TypeError or KeyError where it is none."""
    return Recipe(
        sizes={str(name): int(size) for name, size in data["sizes"].items()},
        regimes={str(name): str(regime) for name, regime in data["regimes"].items()},
        layouts={str(name): str(way) for name, way in data["layouts"].items()},
        seed=int(data["seed"]),
    )


def _encode_evidence(piece: Evidence) -> dict[str, Any]:
    data = {f.name: getattr(piece, f.name) for f in fields(piece)}
    return {
        **data,
        **{name: _number(data[name]) for name in _NUMBERS},
        **{name: str(data[name]) for name in _TEXTS},
        "p_values": [_number(p) for p in piece.p_values],
        "strikes": int(piece.strikes),
        "values": {str(name): _encode_value(value) for name, value in piece.values.items()},
        "figures": [_encode_figure(figure) for figure in piece.figures],
    }


def _encode_figure(figure: Figure) -> dict[str, Any]:
    data = {f.name: getattr(figure, f.name) for f in fields(figure)}
    series = {
        str(name): [[_number(x), _number(y)] for x, y in points]
        for name, points in figure.series.items()
    }
    return {
        **{name: str(data[name]) for name in ("title", "x", "y", "note")},
        **{name: bool(data[name]) for name in ("log_x", "log_y")},
        "series": series,
        "marks": list(figure.marks),
        "steps": list(figure.steps),
    }


def _number(value: Any) -> float | str:
    """A number as JSON writes it. Zero-dimensional tensors and NumPy scalars become floats."""
    plain = float(value)
    return plain if math.isfinite(plain) else repr(plain)


def _encode_value(value: Any) -> Any:
    match value:
        case bool() | int():
            return value
        case str():
            return {"text": value} if value in _NOT_FINITE else value
    try:
        return _number(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)


def decode(data: Mapping[str, Any]) -> Outcome:
    """The outcome that was encoded; fields that a later dlcheck added are left out.

    Raises ValueError, TypeError or KeyError where the data is no outcome.
    """
    return Outcome(
        **{
            **_known(Outcome, data),
            "verdict": Verdict(data["verdict"]),
            "evidence": tuple(_decode_evidence(piece) for piece in data["evidence"]),
            "seconds": float(data["seconds"]),
            "tags": tuple(map(str, data["tags"])),
            "recipe": decode_recipe(recipe) if (recipe := data.get("recipe")) else None,
            "replay": dict(data.get("replay", {})) or NOTHING,
            "phases": {str(name): int(n) for name, n in data.get("phases", {}).items()} or NOTHING,
            "notes": tuple(map(str, data.get("notes", ()))),
            "textbook": Statement(**_known(Statement, stated))
            if (stated := data.get("textbook"))
            else None,
        }
    )


def _known(noun: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the noun has. Raises TypeError where one is of another type."""
    kept = {}
    for name, kind in _typed_fields(noun):
        if name not in data:
            continue
        kept[name] = data[name]
        if kind is not None and type(data[name]) is not kind:
            raise TypeError(f"{name} is {data[name]!r:.40}, no {kind.__name__}")
    return kept


@cache
def _typed_fields(noun: type) -> tuple[tuple[str, type | None], ...]:
    plain_types = {"str": str, "int": int, "bool": bool}
    return tuple((f.name, plain_types.get(str(f.type))) for f in fields(noun))


def _decode_evidence(data: Mapping[str, Any]) -> Evidence:
    return Evidence(
        **{
            **_known(Evidence, data),
            **{name: float(data[name]) for name in _NUMBERS},
            "p_values": tuple(float(p) for p in data["p_values"]),
            "values": {name: _decode_value(value) for name, value in data["values"].items()},
            "figures": tuple(_decode_figure(figure) for figure in data["figures"]),
        }
    )


def _decode_figure(data: Mapping[str, Any]) -> Figure:
    series = {
        name: tuple((float(x), float(y)) for x, y in points)
        for name, points in data["series"].items()
    }
    drawn = {way: tuple(data.get(way, ())) for way in ("marks", "steps")}  # older records: no steps
    return Figure(**{**_known(Figure, data), **drawn, "series": series})


def _decode_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value["text"]
    return float(value) if value in _NOT_FINITE else value


def plain(value: Any) -> Any:
    """Metadata as JSON-safe data: what JSON does not know becomes its text."""
    match value:
        case Mapping():
            return {str(key): plain(part) for key, part in value.items()}
        case tuple() | list() | set() | frozenset():
            return [plain(part) for part in value]
        case None | bool() | int() | str():
            return value
        case float():
            return _number(value)
    return str(value)
