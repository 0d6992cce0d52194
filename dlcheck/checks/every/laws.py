"""Formulas of a law: `options.mean = "x * (1 - p)"` at the inputs of a case."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import DeclarationError
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def declared_law(subject: Implementation, case: Case, option: str) -> Tensor:
    """The value of a declared formula at the inputs, of the shape of the answer."""
    formula = str(subject.options[option])
    try:
        found = _value(ast.parse(formula, mode="eval").body, subject, case)
    except (SyntaxError, TypeError, KeyError, AttributeError) as error:
        raise DeclarationError(
            f"options.{option} = {formula!r} is no formula of {', '.join(case.inputs)}: {error}"
        ) from error
    first = case.inputs[case.floating[0]] if case.floating else case.tensors[0]
    made = torch.as_tensor(found, dtype=torch.float64, device=case.device)
    return torch.broadcast_to(made, first.shape) if not made.dim() else made


_OPERATORS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.MatMult: lambda a, b: a @ b,
}


def _value(node: ast.expr, subject: Implementation, case: Case) -> Any:
    """A formula of inputs, arguments of the subject, sizes, numbers and torch's functions."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return _named(name, subject, case)
        case ast.BinOp(left=left, op=operator, right=right):
            return _OPERATORS[type(operator)](
                _value(left, subject, case), _value(right, subject, case)
            )
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, subject, case)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            function = getattr(torch, name)
            return function(*(_value(arg, subject, case) for arg in args))
    raise TypeError(f"{ast.unparse(node)} is not understood")


def _named(name: str, subject: Implementation, case: Case) -> Any:
    sources: list[Mapping[str, Any]] = [case.inputs, subject.args, case.sizes, {"pi": math.pi}]
    for source in sources:
        if name in source:
            return source[name]
    return subject.value_of(name, "a formula")
