"""How often a wrong gradient escapes, beside the probability that the evidence states.

An error of r × the certificate of the run itself goes into the backward of a right function, and
the whole rule decides: looks, repeated ladders, further directions. The misses are counted over
seeds. Its size is ‖e∘s‖ relative to ‖g∘s‖; the elements of x have sizes near 1, so that the two
scales s of the engine, |x| and rms(x), are alike.
"""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from markdown import Table
from scipy import stats
from torch import Tensor

from dlcheck.gradients.binding import bound
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.gradients.examination import MODES, Examination
from dlcheck.gradients.judge import Judge

FREQUENT = (1, 2, 3, 5, 10)
RATIOS = (*FREQUENT, 30, 100)
RARE = 4  # the last ones, which hardly escape, at each fourth seed
LEVEL = 1e-3  # of the one-sided test that the stated probability is exceeded
TEXT = (
    "An error of r × certificate is injected. *Each*: its norm is that for every cotangent v, "
    "which is what `miss` is stated for. *On average*: an error E of the Jacobian is fixed, and "
    "‖Eᵀv‖ has that size in the mean square over v; with E of rank one it is proportional to a "
    "normal number, so v too can hide it. Cells: *misses + loosened of runs (stated probability)*. "
    "A miss passes with a certificate at most 1/r of the error; a loosened run passes too, but "
    "prints a certificate that is looser than that of the right function, since a direction "
    f"looked wrong until it was repeated with wider bounds. At the level {LEVEL:g} the stated "
    "probability is exceeded by both together where **bold**, by the misses alone where †."
)


@dataclass(frozen=True, slots=True)
class Trial:
    """An error of r certificates of the right function, and what became of it."""

    r: int
    passed: bool
    printed_r: float  # its size in certificates of the run that judged it
    stated: float

    @property
    def is_miss(self) -> bool:
        """Did the run pass, with a certificate that claims to see errors r times as large?"""
        return self.passed and self.printed_r >= self.r * (1 - 1e-9)


@dataclass(frozen=True, slots=True)
class Base:
    """A right function of x [n], with values [m], and further tensors."""

    build: Callable[[torch.Generator], tuple[Callable[..., Tensor], list[Tensor]]]
    outputs: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of error, in a base function and a mode."""

    base: str
    shape: str
    norm: str  # "each" or "on average"
    mode: str

    def __str__(self) -> str:
        return f"{self.base}, {self.shape}, {self.norm}, {self.mode}"


def _near_one(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers of either sign between 0.9 and 1.1 in size."""
    drawn = torch.rand(*shape, generator=generator, dtype=torch.float64)
    sign = torch.randn(*shape, generator=generator, dtype=torch.float64).sign()
    return sign * (0.9 + 0.2 * drawn)


def _scalar_loss(generator: torch.Generator) -> tuple[Callable[..., Tensor], list[Tensor]]:
    mixing = torch.randn(10, 24, generator=generator, dtype=torch.float64)
    return lambda x: torch.logsumexp(mixing @ torch.tanh(x), 0), [_near_one(generator, 24)]


def _layer(generator: torch.Generator) -> tuple[Callable[..., Tensor], list[Tensor]]:
    weight = torch.randn(20, 30, generator=generator, dtype=torch.float64) / 20**0.5
    return lambda x: torch.tanh(x @ weight), [_near_one(generator, 20)]


def _bias_of_a_layer(generator: torch.Generator) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The bias first, whose gradient is the wrong one, beside a weight and rows."""
    tensors = [_near_one(generator, *shape) for shape in ((4,), (6, 4), (3, 6))]
    return lambda bias, weight, rows: torch.tanh(rows @ weight / 6**0.5 + bias), tensors


BASES = {
    "scalar loss": Base(_scalar_loss, 1),
    "layer": Base(_layer, 30),
    "bias beside weights": Base(_bias_of_a_layer, 12),
}
SHAPES = ("one element", "spread", "rank one")


def errors(shape: str, base: Base, n: int, generator: torch.Generator) -> Tensor:
    """E [n, m] of a shape: the error of Jᵀ."""
    m = base.outputs
    first, second = (torch.randn(k, generator=generator, dtype=torch.float64) for k in (n, m))
    if shape == "one element":
        only = torch.zeros(n, dtype=torch.float64)
        only[int(torch.randint(n, (1,), generator=generator))] = 1.0
        return torch.outer(only, second)
    if shape == "rank one":
        return torch.outer(first, second)
    return torch.randn(n, m, generator=generator, dtype=torch.float64)


def with_error(
    f: Callable[..., Tensor], error: Callable[[Tensor, Tensor], Tensor]
) -> Callable[..., Tensor]:
    """f with error(g, v) added to the gradient g of its first tensor."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return f(*inputs)

        @staticmethod
        def backward(ctx: Any, v: Tensor) -> tuple[Tensor, ...]:
            leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
            with torch.enable_grad():
                gradients = torch.autograd.grad(f(*leaves), leaves, v)
            return gradients[0] + error(gradients[0], v), *gradients[1:]

    return Wrong.apply


def verdict(f: Callable[..., Tensor], x: Sequence[Tensor], mode: str, seed: int) -> Any:
    """The evidence of the rule alone: no search for the element, no layouts."""
    function = bound(f, [part.detach().requires_grad_() for part in x], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    thoroughness = replace(MODES[mode], conditions=False)
    judge = Judge(function, generator, precise=thoroughness.precise)
    return Examination(judge, thoroughness, seed, explains=False).run()


def trial(kind: Kind, seed: int) -> list[Trial]:
    """Each r at one seed."""
    generator = torch.Generator().manual_seed(seed)
    base = BASES[kind.base]
    f, x = base.build(generator)
    shape = errors(kind.shape, base, x[0].numel(), generator)
    clean: GradientEvidence = verdict(f, x, kind.mode, seed)
    assert clean.passed, f"{kind}, seed {seed}: {clean}"
    average = _mean_square(f, x, base) / float((shape * x[0].reshape(-1, 1)).norm())
    found = []
    for r in RATIOS if seed % RARE == 0 else FREQUENT:
        size = r * clean.certificate

        def error(g: Tensor, v: Tensor, size: float = size) -> Tensor:
            wrong = (shape @ v.reshape(-1)).view_as(g)
            if kind.norm == "on average":
                return size * average * wrong
            return size * _norm(g, x[0]) / _norm(wrong, x[0]) * wrong

        told: GradientEvidence = verdict(with_error(f, error), x, kind.mode, seed)
        found.append(Trial(r, told.passed, size / told.certificate, clean.miss(r)))
    return found


def _norm(g: Tensor, x: Tensor) -> float:
    return float(torch.linalg.vector_norm(g * x))


def _mean_square(f: Callable[..., Tensor], x: Sequence[Tensor], base: Base) -> float:
    """√E‖(Jᵀv)∘x‖² over v ~ N(0, I): the Frobenius norm of J scaled by x."""
    leaf = x[0].detach()
    jacobian = torch.autograd.functional.jacobian(lambda a: f(a, *x[1:]), leaf)
    return float((jacobian.reshape(base.outputs, -1) * leaf.reshape(1, -1)).norm())


def trials(kind: Kind, seeds: Sequence[int]) -> list[Trial]:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [found for seed in seeds for found in trial(kind, seed)]


KINDS = [
    Kind(base, shape, norm, mode)
    for mode in ("lite", "full")
    for base, shape, norm in (
        ("scalar loss", "one element", "each"),  # every error of a scalar loss has rank one
        ("scalar loss", "spread", "each"),
        *(("layer", shape, norm) for norm in ("each", "on average") for shape in SHAPES),
        ("bias beside weights", "one element", "each"),
        ("bias beside weights", "spread", "each"),
    )
]


def miss(most: int, processes: int, *, only: str = "") -> list[Table]:
    chosen = [kind for kind in KINDS if only in str(kind)]
    block = max(1, min(50, most // max(processes, 1)))
    blocks = [range(start, min(start + block, most)) for start in range(0, most, block)]
    tasks = [(kind, seeds) for kind in chosen for seeds in blocks]
    if processes == 1:
        answers = [trials(*task) for task in tasks]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            answers = pool.starmap(trials, tasks, chunksize=1)
    by_kind: dict[Kind, list[Trial]] = {kind: [] for kind in chosen}
    for (kind, _), answer in zip(tasks, answers, strict=True):
        by_kind[kind] += answer
    rows = [
        [kind.base, kind.shape, kind.norm, kind.mode, *(_cell(found, r) for r in RATIOS)]
        for kind, found in by_kind.items()
    ]
    columns = ["function", "error", "its norm", "mode", *(f"r = {r}" for r in RATIOS)]
    return [Table(title="Misses", columns=columns, rows=rows)]


def _cell(found: Sequence[Trial], r: int) -> str:
    own = [one for one in found if one.r == r]
    count = sum(one.is_miss for one in own)
    loosened = sum(one.passed for one in own) - count
    stated = math.fsum(one.stated for one in own) / len(own)
    text = f"{count}{f' + {loosened}' if loosened else ''} of {len(own)} ({stated:.2g})"
    if _exceeds(count + loosened, len(own), stated):
        text = f"**{text}**"
    return f"{text} †" if _exceeds(count, len(own), stated) else text


def _exceeds(count: int, runs: int, stated: float) -> bool:
    """Is a count this high improbable if the stated probability is right?"""
    return bool(count and stats.binom.sf(count - 1, runs, min(stated, 1.0)) < LEVEL)
