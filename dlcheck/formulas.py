"""Formulas in declarations: `"2 / (fan_in + fan_out)"` → a number, without running any code.

    formula  := number | name | -formula | formula op formula | function(formula, …)
    op       := + - * / **
    function := abs cos exp log max min sqrt

Names are given by whoever asks, `pi` and `e` always. Nothing else is allowed: no attribute, no
index, no call of anything else.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping

from dlcheck.errors import DeclarationError, unknown

Number = float | int

_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "cos": math.cos,
    "exp": math.exp,
    "log": math.log,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}
_CONSTANTS: Mapping[str, Number] = {"pi": math.pi, "e": math.e}
_LONGEST = 500  # characters


def evaluate(formula: str | Number, names: Mapping[str, Number]) -> float:
    """The value of a formula in the given names; a number is its own value.

    Raises DeclarationError for a formula that does not parse, has a name that is not given or
    anything but arithmetic in it, or comes to no finite real number.
    """
    if not isinstance(formula, str):
        return float(formula)
    tree = parse(formula)
    try:
        value = _value(tree, {**_CONSTANTS, **names}, formula)
        if isinstance(value, complex) or not math.isfinite(value):
            raise ValueError(f"it comes to {value}")
        return float(value)
    except (ArithmeticError, ValueError, TypeError) as error:
        given = ", ".join(
            f"{name} = {names[name]:g}" for name in sorted(names_in(formula) & {*names})
        )
        where = f" at {given}" if given else ""
        raise DeclarationError(f"the formula {formula!r} has no value{where}: {error}") from None


def names_in(formula: str | Number) -> frozenset[str]:
    """The names in which a formula is written, without functions and constants."""
    if not isinstance(formula, str):
        return frozenset()
    tree = parse(formula)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called
    }
    return frozenset(found - set(_CONSTANTS))


@functools.lru_cache(maxsize=256)
def parse(formula: str) -> ast.expr:
    """The formula as a tree of arithmetic. Raises DeclarationError for anything else."""
    if not isinstance(formula, str) or len(formula) > _LONGEST:
        raise DeclarationError(f"a formula is a number or a short text, not {formula!r:.80}")
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise DeclarationError(
            f"{formula!r} is no formula: write numbers, names, + - * / ** and "
            f"{', '.join(_FUNCTIONS)}, like '2 / (fan_in + fan_out)'"
        ) from None
    _refuse_other_than_arithmetic(tree, formula)
    return tree


def _refuse_other_than_arithmetic(node: ast.expr, formula: str) -> None:
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return
        case ast.Name():
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _refuse_other_than_arithmetic(operand, formula)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            _refuse_other_than_arithmetic(left, formula)
            _refuse_other_than_arithmetic(right, formula)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in _FUNCTIONS:
                raise DeclarationError(
                    f"the formula {formula!r}: {unknown('function', name, _FUNCTIONS)}"
                )
            for argument in args:
                _refuse_other_than_arithmetic(argument, formula)
        case _:
            raise DeclarationError(
                f"the formula {formula!r} has {ast.unparse(node)!r} in it; allowed are numbers, "
                f"names, + - * / ** and {', '.join(_FUNCTIONS)}"
            )


def _value(node: ast.expr, names: Mapping[str, Number], formula: str) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name):
            if name not in names:
                raise DeclarationError(f"the formula {formula!r}: {unknown('name', name, names)}")
            return float(names[name])
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, names, formula)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, names, formula), _value(right, names, formula))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_value(argument, names, formula) for argument in args))
    raise DeclarationError(f"the formula {formula!r} is not arithmetic")
