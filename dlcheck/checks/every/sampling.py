"""A random subject follows its declared law, and its seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from scipy.stats import chi2, norm
from torch import Tensor, nn

from dlcheck.checks.every.laws import declared_law
from dlcheck.checks.layer.modes import answers, same_elements
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, detectable, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in

_NUMBERS = 6_000  # of a first strike
_CALLS = 16  # at least, so that calls can be told apart
_COORDINATES = 6


def _noisy(x: Tensor) -> Tensor:
    return x + 0.5 * torch.randn_like(x)


def _noisier(x: Tensor) -> Tensor:
    return x + 0.56 * torch.randn_like(x)


def _shared_noise(x: Tensor) -> Tensor:
    """One draw for all rows."""
    return x + 0.5 * torch.randn(x.shape[-1:], dtype=x.dtype, device=x.device)


def _paired_noise(x: Tensor) -> Tensor:
    """Each number is used twice in a row."""
    z = torch.randn(x.shape, dtype=x.dtype, device=x.device)
    return x + 0.5 * z.flatten()[torch.arange(z.numel(), device=x.device) // 2].reshape(x.shape)


def _binary(p: Tensor) -> Tensor:
    return (torch.rand_like(p) < p).to(p)


def _rounded_rate(p: Tensor) -> Tensor:
    return (torch.rand_like(p) < (8 * p).round() / 8).to(p)


_CACHE: list[Tensor] = []


def _same_noise_each_time(x: Tensor) -> Tensor:
    """Drawn in the first call, and kept."""
    while len(_CACHE) < x.numel():
        _CACHE.append(torch.randn(()))
    return x + 0.5 * torch.stack(_CACHE[: x.numel()]).reshape(x.shape).to(x)


@around
def shifts_its_samples(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y + 0.06)


@around
def doubles_its_samples(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: 1.2 * y)


_NORMAL: dict[str, Any] = {
    "kind": "op",
    "inputs": {"x": "float b n"},
    "traits": frozenset({"stochastic"}),
    "options": {"mean": "x", "variance": "0.25"},
}
_BINARY: dict[str, Any] = {
    "kind": "op",
    "inputs": {"p": "unit b n"},
    "traits": frozenset({"stochastic", "nondifferentiable"}),
    "options": {"mean": "p", "variance": "p * (1 - p)"},
}


@check(
    kind=["op", "layer", "activation", "positional", "normalization"],
    needs={"stochastic"},
    options={"mean": True, "variance": True},
    rejects=[
        shifts_its_samples,
        doubles_its_samples,
        Subject(name="noisier_by_an_eighth", target=_noisier, **_NORMAL),
        Subject(name="shared_noise", target=_shared_noise, **_NORMAL),
        Subject(name="paired_noise", target=_paired_noise, **_NORMAL),
        Subject(name="rounded_rate", target=_rounded_rate, **_BINARY),
        Subject(name="same_noise_each_time", target=_same_noise_each_time, **_NORMAL),
    ],
    accepts=[
        Subject(name="noisy", target=_noisy, **_NORMAL),
        Subject(name="binary", target=_binary, **_BINARY),
    ],
    tags=["statistical"],
    once=True,
)
def sampling_obeys_its_distribution(subject: Implementation, case: Case) -> Evidence:
    """Mean and variance are those declared, and samples are independent.

    `options.mean` and `options.variance` are formulas of the inputs (and of torch's functions of
    them). With z = (y − μ)/σ over elements and calls: Σz, Σ(z² − 1), the products of neighbours
    along the last axis, of rows and of consecutive calls, each a sum of independent terms of mean
    0, normal by the central limit theorem; and n z̄² of every element, whose sum is χ². Six
    coordinates, Bonferroni, three strikes.
    """
    mean, variance = (declared_law(subject, case, name) for name in ("mean", "variance"))
    if not bool((variance > 0).any()):
        raise NotApplicable("the declared variance is 0")

    def sample(stream: Stream, n: int) -> Finding:
        calls = max(_CALLS, n // max(variance.numel(), 1))
        z = _standardized(subject, case, mean, variance, calls)
        return _tested(z)

    return three_strikes(
        case.root, case.claim, case.profile.effort * _NUMBERS, sample,
        what="moments and dependence of the samples", unit="standard deviations",
    )  # fmt: skip


def _standardized(
    subject: Implementation, case: Case, mean: Tensor, variance: Tensor, calls: int
) -> Tensor:
    """[calls, …]: (y − μ)/σ of the first answer, 0 where σ is 0 and y = μ."""
    inputs = case.fresh()
    drawn = []
    with torch.no_grad():
        for _ in range(calls):
            y = next(tensors_in(subject(*inputs)))
            if y.shape != mean.shape:
                raise NotApplicable(f"answers {tuple(y.shape)}, and the law {tuple(mean.shape)}")
            drawn.append((y - mean).double())
    z = torch.stack(drawn)
    deviation = variance.double().sqrt()
    return torch.where(z == 0, 0.0, z) / torch.where(deviation > 0, deviation, 1.0)


def _tested(z: Tensor) -> Finding:
    """The sums of independent terms of mean 0, and the least likely of them."""
    flat = z.flatten(1)
    weight = torch.linspace(0.5, 1.5, flat.shape[1], dtype=z.dtype, device=z.device)
    terms = {
        "mean": (weight * flat).flatten(),
        "variance": (weight * (flat.square() - 1)).flatten(),
        "dependence of calls": (flat[1:] * flat[:-1])[::2].sum(1),
    }
    if flat.shape[1] > 1:
        terms["dependence of neighbours"] = (flat[:, 1:] * flat[:, :-1])[:, ::2].flatten()
    if z.dim() > 2 and z.shape[1] > 1:
        terms["dependence of rows"] = (z[:, 1:] * z[:, :-1])[:, ::2].flatten()
    worst, scores = 1.0, dict.fromkeys(["mean of single elements"], 0.0)
    varying = flat[:, flat.abs().amax(0) > 0]
    if varying.shape[1]:
        total = float((len(flat) * varying.mean(0).square()).sum())
        worst = float(chi2.sf(total, varying.shape[1]))
        scores["mean of single elements"] = float(norm.isf(max(worst / 2, 1e-300)))
    for name, values in terms.items():
        error = float(values.std(correction=1)) / math.sqrt(len(values))
        score = float(values.mean()) / error if error else math.inf * float(values.mean() != 0)
        scores[name] = 0.0 if math.isnan(score) else score
        worst = min(worst, 2 * float(norm.sf(abs(scores[name]))))
    name = max(scores, key=lambda one: abs(scores[one]))
    n = flat.numel()
    return Finding(
        p_value=min(_COORDINATES * worst, 1.0),
        error=abs(scores[name]) / math.sqrt(n),
        detectable=detectable(1.0, n, coordinates=_COORDINATES),
        signal=1.0,
        n=n,
        expected="independent samples of the declared mean and variance",
        got=f"{name} off by {scores[name]:.3g} standard errors",
    )


@around
def draws_from_no_seed(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """A generator of its own, seeded by the clock."""
    own = torch.Generator()
    own.seed()

    def noisy(y: Tensor) -> Tensor:
        return y + torch.rand(y.shape, generator=own, dtype=torch.float64).to(y)

    return on_tensors(original(*inputs, **keywords), noisy)


@check(
    kind=["op", "layer", "activation", "positional", "normalization", "attention", "recurrent"],
    needs={"stochastic"},
    rejects=[draws_from_no_seed],
    accepts=[Subject(name="with_noise", target=_noisy, **_NORMAL)],
    once=True,
)
def same_seed_same_sample(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """After the same seed of torch (and of numpy and random) three calls give the same samples.

    Bit by bit, one after the other from one seed, twice.
    """
    found: list[list[Tensor]] = []
    for _ in range(2):
        seed_everything(case.recipe.seed)
        found.append(_several(subject, case, 3))
    yield from same_elements("three calls after the same seed", found[1], found[0])


class _Frozen(nn.Module):
    """Noise that is drawn once."""

    noise: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.noise is None or self.noise.shape != x.shape:
            self.noise = torch.randn_like(x)
        return x + self.noise


@around
def seeds_before_it_draws(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`torch.manual_seed(0)` in forward: every call draws the same."""
    torch.manual_seed(0)
    return original(*inputs, **keywords)


@check(
    kind=["op", "layer", "activation", "positional", "normalization", "attention", "recurrent"],
    needs={"stochastic"},
    rejects=[
        seeds_before_it_draws,
        Subject(
            name="noise_that_stays",
            target=_Frozen,
            kind="layer",
            inputs={"x": "float b n"},
            traits=frozenset({"stochastic"}),
        ),
    ],
    accepts=[Subject(name="with_noise", target=_noisy, **_NORMAL)],
    once=True,
)
def calls_draw_afresh(subject: Implementation, case: Case) -> Evidence:
    """Of eight calls in train on the same input not all give the same answer.

    A rate near 0 can leave eight calls of few numbers alike, so only a subject that draws from
    torch's stream, or whose answer depends on the seed, is judged.
    """
    seed_everything(case.recipe.seed)
    before = torch.get_rng_state()
    calls = [answers_now(subject, case) for _ in range(8)]
    alike = all(_same(calls[0], other) for other in calls[1:])
    if alike and torch.equal(before, torch.get_rng_state()):
        seeds = [answers(subject, case, case.recipe.seed + i) for i in range(8)]
        if all(_same(seeds[0], other) for other in seeds[1:]):
            raise NotApplicable("draws nothing with these arguments")
    return Evidence(
        error=float(alike),
        bound=0.0,
        signal=1.0,
        what="calls that all give the same sample",
        expected="fresh samples",
    )


def answers_now(subject: Implementation, case: Case) -> list[Tensor]:
    with torch.no_grad():
        return [y.detach().clone() for y in tensors_in(subject(*case.fresh()))]


def _several(subject: Implementation, case: Case, calls: int) -> list[Tensor]:
    return [y for _ in range(calls) for y in answers_now(subject, case)]


def _same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
