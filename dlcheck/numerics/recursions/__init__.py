"""Published recursions of optimizers: `(parameter, gradient, state, **options) → new parameter`.

Each reads as its paper does, and leaves what it is given as it is but for `state`, a dict that it
fills. They compute in the type of the parameter. `recursion` finds them by name, with variants:
`adam`, `adam(eps="inside", amsgrad="corrected")`.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dlcheck.errors import DeclarationError, unknown
from dlcheck.numerics.recursions import adam, adaptive, gradient_descent, muon

Recursion = Callable[..., Tensor]

RECURSIONS: Mapping[str, Recursion] = {
    function.__name__: function
    for function in (
        gradient_descent.sgd,
        gradient_descent.asgd,
        gradient_descent.lars,
        gradient_descent.sign_sgd,
        gradient_descent.lion,
        gradient_descent.rprop,
        adaptive.adagrad,
        adaptive.rmsprop,
        adaptive.adadelta,
        adaptive.adafactor,
        adam.adam,
        adam.adamw,
        adam.adamax,
        adam.nadam,
        adam.radam,
        adam.lamb,
        muon.muon,
    )
}
# How a declaration may write a variant: keyword → the recursion's own, and its values.
_PLACES = ("eps_place", ("outside", "inside", "uncorrected"))
_LARGEST = ("amsgrad_of", ("raw", "corrected"))
_WORDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "eps": _PLACES,
    "eps_place": _PLACES,
    "amsgrad": _LARGEST,
    "amsgrad_of": _LARGEST,
}


def recursion(named: str) -> Recursion:
    """The recursion of that name, its variant fixed.

    named: `adam`, or `adam(eps="inside", amsgrad="corrected")`, keywords with literal values.
    Raises DeclarationError for an unknown name, keyword or value.
    """
    name, keywords = _parsed(named)
    if name not in RECURSIONS:
        raise DeclarationError(unknown("recursion", name, RECURSIONS))
    found = RECURSIONS[name]
    if not keywords:
        return found
    known = inspect.signature(found).parameters
    fixed: dict[str, Any] = {}
    for key, value in keywords.items():
        own, values = _WORDS.get(key, (key, ()))
        if isinstance(value, str) and values and value not in values:
            raise DeclarationError(f"{named}: {key} is one of {', '.join(values)}, not {value!r}")
        target = own if isinstance(value, str) else key
        if target not in known:
            options = [p for p in known if p not in ("parameter", "gradient", "state")]
            raise DeclarationError(f"{named}: {unknown('keyword', key, options)}")
        fixed[target] = value
    return functools.partial(found, **fixed)


def _parsed(named: str) -> tuple[str, dict[str, Any]]:
    try:
        tree = ast.parse(named.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            return tree.func.id, {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except (SyntaxError, ValueError):
        pass
    raise DeclarationError(
        f"{named!r} is no rule: write a name as adam, or adam(eps='inside') with literal keywords"
    )
