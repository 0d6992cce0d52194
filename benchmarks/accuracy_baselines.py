"""Fixed tolerances on standard normal inputs of even shape: what kernels are usually held to."""

from __future__ import annotations

import torch
from operations import Function, Operation
from torch import Tensor

from dlcheck.domains import parse_inputs
from dlcheck.model import Recipe
from dlcheck.strategies import materialize


def outright_rejects(
    operation: Operation, implementation: Function, dtype: torch.dtype, seed: int
) -> bool:
    """Does torch.testing.assert_close with its default tolerances?"""
    got, expected = _answers(operation, implementation, dtype, seed)
    try:
        torch.testing.assert_close(got, expected, equal_nan=True)
    except AssertionError:
        return True
    return False


def kernelbench_rejects(
    operation: Operation, implementation: Function, dtype: torch.dtype, seed: int
) -> bool:
    """Does allclose with atol = rtol = 10⁻⁴, or 10⁻² in half types?

    Source: KernelBench, src/eval.py, get_tolerance_for_precision.
    """
    got, expected = _answers(operation, implementation, dtype, seed)
    tolerance = 1e-2 if torch.finfo(dtype).bits == 16 else 1e-4
    return not torch.allclose(expected, got, atol=tolerance, rtol=tolerance)


def _answers(
    operation: Operation, implementation: Function, dtype: torch.dtype, seed: int
) -> tuple[Tensor, Tensor]:
    recipe = Recipe(sizes=operation.even, regimes={}, layouts={}, seed=seed)
    specs = parse_inputs(operation.inputs)
    inputs = materialize(recipe, specs, torch.device("cpu"), dtype).values()
    return implementation(*inputs), operation.reference(*inputs)
