"""Why a right gradient of PyTorch's op database does not pass: op → explanation, torch 2.15.

Investigated on samples of seed 20: Bessel functions against scipy.special on a grid of
0.1 ≤ x ≤ 30, the others by their documentation, by their samples and by differences of their own.
"""

from __future__ import annotations

_STEP = (
    "a step function: its derivative is 0 wherever it exists, and differences see only the steps; "
    "inconclusive until that is declared"
)
_CAST = (
    "a cast to 16 bits: the output has 8 to 11 bits, so no step separates its slope from rounding"
)
_STRIDED = (
    "a false alarm: the op is documented to read the memory behind its input, so the same numbers "
    "in another layout are another input; nothing is wrong with its gradient"
)
_UNPOOL = (
    "overlapping windows repeat an index: two inputs are written to one place, one of them wins, "
    "and backward gives the gradient to both; PyTorch differentiates its `.grad` variant only, "
    "where no index is repeated"
)
_TARGET = (
    "the float target is compared with ±1 exactly, so the loss jumps as soon as a target that "
    "requires a gradient is moved: nothing can be said of that gradient, all of the others"
)
_SAMPLER = (
    "a sampler: at a fixed seed the output is mean + std · z, but backward returns 0; right only "
    'if declared, `expect="zero"`'
)


def _bessel(inside: str, error: str) -> str:
    return (
        f"a defect of torch in float64: {inside}, of which the derivative consists, is off by up "
        f"to {error} just above x = 5, and by more than 1e-10 between 4 and 10"
    )


EXPLAINED: dict[str, str] = {
    "as_strided": _STRIDED,
    "as_strided.partial_views": _STRIDED,
    "as_strided_copy": _STRIDED,
    "bfloat16": _CAST,
    "ceil": _STEP,
    "chalf": _CAST,
    "div.floor_rounding": _STEP,
    "div.trunc_rounding": _STEP,
    "floor": _STEP,
    "floor_divide": _STEP,
    "half": _CAST,
    "nn.functional.max_unpool1d": _UNPOOL,
    "nn.functional.max_unpool2d": _UNPOOL,
    "nn.functional.max_unpool3d": _UNPOOL,
    "normal": _SAMPLER,
    "normal.number_mean": _SAMPLER,
    "round": _STEP,
    "round.decimals_0": _STEP,
    "round.decimals_3": _STEP,
    "round.decimals_neg_3": _STEP,
    "trunc": _STEP,
    "special.bessel_j0": _bessel("J₁", "4.5e-7"),
    "special.bessel_j1": _bessel("J₀ − J₁/x", "2.8e-7"),
    "special.bessel_y0": _bessel("Y₁", "8.5e-7"),
    "special.bessel_y1": _bessel("Y₀ − Y₁/x", "3.7e-7"),
    "nn.functional.hardsigmoid": (
        "a defect of torch in float64: the slope is float32(1/6), a relative 3.0e-8 too large"
    ),
    "as_strided_scatter": (
        "a defect of torch: the gradient of the input is kept where the input was overwritten and "
        "0 elsewhere, the opposite of what differences of single elements give"
    ),
    "nn.functional.cosine_embedding_loss": _TARGET,
    "nn.functional.hinge_embedding_loss": _TARGET,
    "__rpow__": "a negative base to a power that is no integer: the output is NaN",
}
