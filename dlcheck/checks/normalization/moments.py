"""What comes out has mean 0 and mean square 1, but for the ε, which stands beside the variance."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement
from dlcheck.checks.normalization.broken import (
    adds_the_eps_to_the_deviation,
    clamps_the_variance_at_eps,
    divides_by_the_sample_deviation,
    divides_by_the_sum_of_squares,
    forgets_the_root,
    leaves_out_the_eps,
    normalizes_over_the_first_axis_only,
    subtracts_no_mean_from_the_input,
    takes_the_eps_ten_times,
    takes_the_mean_absolute_deviation,
    takes_the_mean_square_for_the_variance,
)
from dlcheck.checks.normalization.law import followed
from dlcheck.checks.normalization.normalizer import Normalizer, neutralise
from dlcheck.checks.normalization.torch_norms import TORCH
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="normalization",
    rejects=[
        divides_by_the_sample_deviation,
        forgets_the_root,
        subtracts_no_mean_from_the_input,
        takes_the_mean_square_for_the_variance,
        normalizes_over_the_first_axis_only,
        divides_by_the_sum_of_squares,
        takes_the_mean_absolute_deviation,
    ],
    accepts=TORCH,
    dtypes=["float64", "float32"],
)
def output_has_the_declared_moments(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Over the declared axes the output has mean 0 and mean square σ²/(σ² + ε).

    The affine map is made neutral first. x is normalised in groups that `axes` (and `groups`)
    span; μ and σ² are those of a group, σ² divided by its size (by n − ddof where declared), and
    without `centred` μ is 0. The moments are held against those of z computed in float64 from the
    declaration; the bound is what rounding moves them by. Where no ε is declared the inputs are
    so large (σ ≥ 2²⁴) that none up to 1 shows.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 1; Ba, Kiros & Hinton,
    Layer Normalization, 2016, §3; Zhang & Sennrich, RMSNorm, NeurIPS 2019, §4.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    neutralise(made)
    for x, values in ((made.x, "the case's values"), (made.drawn("moments"), "drawn values")):
        z = made.law.standardized(x)
        if values == "drawn values":
            made.must_vary(z)
        yield from _moments(made, x, z, values)


def _moments(made: Normalizer, x: Tensor, z: Tensor, values: str) -> Iterator[Evidence]:
    """Mean and mean square of each group of the answer against those of z."""
    law = made.law
    with torch.no_grad():
        y = made(x).double()
    room = made.room(x)
    cause = followed(law, x, y)
    if law.centred:
        yield agreement(
            f"mean over the declared axes, {values}",
            law.mean(y),
            law.mean(z),
            law.mean(room),
            signal=max(1.0, float(z.abs().amax())),
            cause=cause,
        )
    yield agreement(
        f"mean square over the declared axes, {values}",
        law.mean(y * y),
        law.mean(z * z),
        law.mean((2 * z.abs() + room) * room),
        signal=float(law.mean(z * z).amax()) or 1.0,
        cause=cause,
    )


@check(
    kind="normalization",
    options={"eps": True},
    rejects=[
        leaves_out_the_eps,
        adds_the_eps_to_the_deviation,
        takes_the_eps_ten_times,
        clamps_the_variance_at_eps,
    ],
    accepts=TORCH,
    dtypes=["float64", "float32"],
    once=True,
)
def eps_stands_where_it_is_declared(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Groups whose variance is near ε come out with mean square σ²/(σ² + ε), not 1.

    The inputs have mean 0 and variances around ε (σ around ε, where that is declared to stand
    beside it), where an ε outside the root, a clamp, a wrong constant or none at all is off by a
    third and more. On inputs of unit variance all of them look alike.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 1.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    eps = made.law.eps or 0.0
    if not eps > 0:
        raise NotApplicable("the declared ε is 0")
    neutralise(made)
    typical = eps**2 if made.law.eps_form == "deviation" else eps
    x = made.of_variance("eps", typical)
    z = made.law.standardized(x)
    made.must_vary(z)
    yield from _moments(made, x, z, "at a variance near ε")
