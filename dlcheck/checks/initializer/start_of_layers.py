"""The parameters of a layer begin by the law that its author states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck import stats
from dlcheck.checks.initializer.law import FEW, MANY, Fans, Law, law_of, within
from dlcheck.domains import bound_dims
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import rebuilt
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build

N = 4000  # elements of the first strike
MOST = 200  # layers that are built for them


def _scaled(name: str, factor: float, shift: float = 0.0) -> Any:
    def change(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                deviation = parameter.std().nan_to_num(0.0) if parameter.numel() > 1 else 0.0
                parameter.mul_(factor).add_(shift * deviation)
        return module

    return rebuilt(name, change)


LAYERS = [
    Subject(
        name="linear",
        target="torch.nn:Linear",
        kind="layer",
        args={"in_features": {"dim": "i"}, "out_features": 12},
        inputs={"x": "float b i"},
        options={"variance": {"weight": "1 / (3 * fan_in)", "bias": "1 / (3 * fan_in)"}},
    ),
    Subject(
        name="conv2d",
        target="torch.nn:Conv2d",
        kind="layer",
        args={"in_channels": 6, "out_channels": 32, "kernel_size": 3, "groups": 2},
        inputs={"x": "float b 6 h w"},
        options={
            "variance": {"weight": "1 / (3 * fan_in)"},
            "sizes": {"h": [3, 9], "w": [3, 9]},
        },
    ),
    Subject(
        name="embedding",
        target="torch.nn:Embedding",
        kind="layer",
        args={"num_embeddings": {"dim": "n"}, "embedding_dim": 3},
        inputs={"rows": "index[n] b"},
        options={"variance": {"weight": 1.0}},
    ),
]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One parameter of freshly built layers of one size, with its law."""

    subject: Implementation
    name: str
    sizes: Mapping[str, int]
    law: Law

    def sample(self, stream: Stream, n: int) -> Tensor:
        """At least n elements, from layers built one after the other with fresh seeds."""
        pieces: list[Tensor] = []
        seeds = iter(stream.numpy.integers(0, 2**31, size=n))
        while sum(piece.numel() for piece in pieces) < n:
            made = built(self.subject, self.sizes, int(next(seeds)))
            pieces.append(parameter_of(made, self.name).detach().double().flatten())
        return torch.cat(pieces)


def built(subject: Implementation, sizes: Mapping[str, int], seed: int) -> Implementation:
    return build(subject.declared, sizes, subject.device, subject.dtype, seed)


def parameter_of(made: Implementation, name: str) -> Tensor:
    found = dict(made.module.named_parameters()) if made.module is not None else {}
    if name not in found:
        raise SubjectError(
            f"option variance names {name!r}, which is no parameter of {made.declared.name}; it "
            f"has {', '.join(found) or 'none'}"
        )
    return found[name]


def _drawn(subject: Implementation, case: Case) -> Iterator[Drawn]:
    """Every declared parameter at in ≫ out and at out ≫ in, where the arguments leave that free."""
    laws = subject.options["variance"]
    if not isinstance(laws, Mapping):
        raise NotApplicable("its variance is that of its output: no table of parameters")
    if isinstance(subject.declared.target, nn.Module):
        raise NotApplicable("was built before: give the class, so that it can be built afresh")
    for sizes in _sizes(subject, case):
        made = built(subject, sizes, case.recipe.seed)
        for name, formula in laws.items():
            fans = _fans(made, name, str(subject.options.get("fan_layout", "out_in")))
            yield Drawn(subject, name, sizes, law_of(subject, formula, fans, sizes))


def _sizes(subject: Implementation, case: Case) -> Iterator[dict[str, int]]:
    free = list(dict.fromkeys(d.name for d in bound_dims(subject.declared.args).values() if d.name))
    seen = set()
    for lengths in ((FEW, MANY), (MANY, FEW)):
        sizes = dict(case.sizes)
        for name, length in zip(free, lengths, strict=False):
            sizes[name] = within(subject, name, length)
        if tuple(sizes.items()) not in seen:
            seen.add(tuple(sizes.items()))
            yield sizes


def _fans(made: Implementation, name: str, layout: str) -> Fans | None:
    """Of the parameter itself, or of the weight beside a bias."""
    own = Fans.of(tuple(parameter_of(made, name).shape), layout)
    if own is not None or made.module is None:
        return own
    owner = name.rpartition(".")[0]
    for other, parameter in made.module.named_parameters():
        if other.rpartition(".")[0] == owner and parameter.dim() > 1:
            return Fans.of(tuple(parameter.shape), layout)
    return None


@check(
    kind="layer",
    options={"variance": True},
    rejects=[
        _scaled("is_scaled_by_the_root_of_three", math.sqrt(3)),
        _scaled("halves_the_variance", math.sqrt(0.5)),
        _scaled("is_shifted_by_a_deviation", 1.0, 1.0),
        _scaled("starts_at_zero", 0.0),
    ],
    accepts=LAYERS,
    tags=["statistical"],
    once=True,
)
def parameters_start_by_their_law(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The named parameters begin with mean 0 (or `mean`) and the declared variance.

    Layers are built afresh until 4,000 elements are drawn (200 layers at most), at two sizes with
    in ≫ out and out ≫ in where the arguments are bound to dims. t tests of mean and variance by
    three strikes, each at half of α. fan_in of a bias is that of the weight beside it.
    Source: He et al., Delving Deep into Rectifiers, ICCV 2015, §2.2; Glorot & Bengio, AISTATS 2010.
    """
    for drawn in _drawn(subject, case):
        law = drawn.law
        if law.variance == 0:
            yield _is_constant(drawn)
            continue

        def test(stream: Stream, n: int, drawn: Drawn = drawn) -> Finding:
            law = drawn.law
            sigma, rounding = math.sqrt(law.variance), gamma(64, torch.float32)
            sample = drawn.sample(stream, n)
            return bonferroni(
                [
                    stats.variance(
                        sample, law.variance, centre=law.mean, rounding=rounding * law.variance
                    ),
                    stats.mean(
                        sample, law.mean, sigma=sigma, signal=sigma, rounding=rounding * sigma
                    ),
                ]
            )

        size = parameter_of(built(subject, drawn.sizes, 0), drawn.name).numel()
        where = " ".join(f"{name}={size}" for name, size in drawn.sizes.items())
        yield three_strikes(
            case.root,
            f"{case.claim}/{drawn.name}/{where}",
            min(N, MOST * size),
            test,
            what=f"variance and mean of {drawn.name} at {where}",
        )


def _is_constant(drawn: Drawn) -> Evidence:
    made = built(drawn.subject, drawn.sizes, 0)
    apart = (parameter_of(made, drawn.name).detach().double() - drawn.law.mean).abs().amax()
    return Evidence(
        error=float(apart),
        bound=gamma(2, torch.float32) * abs(drawn.law.mean),
        signal=max(1.0, abs(drawn.law.mean)),
        what=f"elements of {drawn.name}, against the constant {drawn.law.mean:g}",
    )
