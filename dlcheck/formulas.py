"""Formulas in declarations: `"2 / (fan_in + fan_out)"` → a number, without running any code.

    formula  := number | name | -formula | formula op formula | function(formula, …)
              | formula if formula else formula | name[number]
              | function(formula for name in name)
    op       := + - * / // % ** < <= == != >= > and or
    function := abs ceil cos exp floor len log log2 log10 max min sin sqrt sum tan tanh

A function and the constants pi and e may be written with `math.` before them. Names are given by
whoever asks: numbers, or lists of numbers. Nothing else is allowed: no other attribute, no call
of anything else.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dlcheck.errors import DeclarationError, unknown

Number = float | int

_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Number, Number], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.GtE: operator.ge,
    ast.Gt: operator.gt,
}
_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "ceil": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "len": len,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "max": max,
    "min": min,
    "pow": math.pow,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "sum": sum,
    "tan": math.tan,
    "tanh": math.tanh,
}
_OF_LISTS = ("len", "max", "min", "sum")
_CONSTANTS: Mapping[str, Number] = {"pi": math.pi, "e": math.e}
_LONGEST = 500  # characters


Value = Number | Sequence[Number]


def evaluate(formula: str | Number, names: Mapping[str, Value]) -> float:
    """The value of a formula in the given names; a number is its own value.

    Raises DeclarationError for a formula that does not parse, has a name that is not given or
    anything but arithmetic in it, or comes to no finite real number.
    """
    if not isinstance(formula, str):
        return float(formula)
    tree = parse(formula)
    try:
        value = _value(tree, {**_CONSTANTS, **names}, formula)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"it comes to {value}")
        return float(value)
    except (ArithmeticError, ValueError, TypeError, IndexError) as error:
        given = ", ".join(
            f"{name} = {_shown(names[name])}" for name in sorted(names_in(formula) & {*names})
        )
        where = f" at {given}" if given else ""
        raise DeclarationError(f"the formula {formula!r} has no value{where}: {error}") from None


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(list(value))


def names_in(formula: str | Number) -> frozenset[str]:
    """The names in which a formula is written, without functions and constants."""
    if not isinstance(formula, str):
        return frozenset()
    tree = parse(formula)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    called |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    bound = {n.target.id for n in ast.walk(tree)
             if isinstance(n, ast.comprehension) and isinstance(n.target, ast.Name)}  # fmt: skip
    found = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called
    }
    return frozenset(found - set(_CONSTANTS) - bound)


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
    for part in _parts(node, formula):
        _refuse_other_than_arithmetic(part, formula)


def _parts(node: ast.expr, formula: str) -> Iterator[ast.expr]:
    """What a node is made of. Raises DeclarationError for one that is no arithmetic."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return
        case ast.Name():
            return
        case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in _CONSTANTS:
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield from (left, right)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            yield from (left, *others)
        case ast.BoolOp(values=values):
            yield from values
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield from (test, body, orelse)
        case ast.Subscript(value=ast.Name() as owner, slice=index):
            yield from (owner, index)
        case ast.Call(func=ast.Name() | ast.Attribute(value=ast.Name(id="math")), keywords=[]):
            yield from _arguments(node, formula)
        case _:
            raise DeclarationError(
                f"the formula {formula!r} has {ast.unparse(node)!r} in it; allowed are numbers, "
                f"names, + - * / // % **, comparisons, if and else, and {', '.join(_FUNCTIONS)}"
            )


def _arguments(call: ast.Call, formula: str) -> list[ast.expr]:
    """The arguments of a known function, and what a list in it is made of."""
    name = _called(call)
    if name not in _FUNCTIONS:
        raise DeclarationError(f"the formula {formula!r}: {unknown('function', name, _FUNCTIONS)}")
    match call.args:
        case [ast.GeneratorExp(elt=each, generators=[one])] if (
            name in _OF_LISTS
            and isinstance(one.target, ast.Name)
            and isinstance(one.iter, ast.Name)
            and not one.ifs
        ):
            return [each]
    return call.args


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _value(node: ast.expr, names: Mapping[str, Value], formula: str) -> Any:
    def of(part: ast.expr) -> Any:
        return _value(part, names, formula)

    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)  # 9 ** 9 ** 9 overflows where whole numbers would go on
        case ast.Name(id=name):
            if name not in names:
                raise DeclarationError(f"the formula {formula!r}: {unknown('name', name, names)}")
            given = names[name]
            if isinstance(given, Sequence):
                return [float(v) for v in given]
            return float(given)
        case ast.Attribute(attr=name):
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not of(operand)
        case ast.UnaryOp(op=op, operand=operand):
            return -of(operand) if isinstance(op, ast.USub) else of(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](of(left), of(right))
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [of(part) for part in (left, *others)]
            pairs = zip(ops, itertools.pairwise(values), strict=True)
            return all(_COMPARISONS[type(op)](a, b) for op, (a, b) in pairs)
        case ast.BoolOp(op=op, values=parts):
            return (all if isinstance(op, ast.And) else any)(of(part) for part in parts)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return of(body) if of(test) else of(orelse)
        case ast.Subscript(value=owner, slice=index):
            return of(owner)[int(of(index))]
        case ast.Call(args=[ast.GeneratorExp(elt=each, generators=[one])]):
            bound, values = ast.unparse(one.target), of(one.iter)
            parts = [_value(each, {**names, bound: value}, formula) for value in values]
            return _FUNCTIONS[_called(node)](parts)
        case ast.Call(args=arguments):
            return _FUNCTIONS[_called(node)](*(of(argument) for argument in arguments))
    raise DeclarationError(f"the formula {formula!r} is not arithmetic")
