"""A subject with its law: called on inputs made for the claim, and how far rounding may move it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.normalization.law import Law, law_of_options
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters

UNKNOWN_EPS = 1.0  # an ε that is not declared is taken to be no larger
FAR = 2.0**24  # deviation of inputs that leave no ε visible, whatever its form: ε/σ ≤ 2⁻²⁴
_VISIBLE = 2.0**-8  # a group whose deviation is so small against ε is not judged
_CONSTANT = 2.0**-20  # × mean|x|: a deviation that may be rounding alone
_DEVIATIONS = 8.0  # λ
_OPERATIONS = 16  # roundings beside those of the sums
_LEARNED_EPS = 1e-3
_FEW = 3  # parameters of which every assignment of 0 and 1 is tried


@dataclass(frozen=True, slots=True)
class Normalizer:
    """A subject with its law and the precision it works in, ready to be called on other inputs."""

    subject: Implementation
    case: Case  # its dtype is that of the arithmetic inside
    law: Law
    dtype: torch.dtype  # of the inputs

    @classmethod
    def of(cls, subject: Implementation, case: Case) -> Normalizer:
        """In train mode. Raises NotApplicable for an input that is no free real tensor."""
        name = case.floating[0] if case.floating else ""
        if not name or case.specs[name].element not in ("float", "logit"):
            raise NotApplicable("takes no tensor of real numbers, which may be scaled at will")
        if case.specs[name].low is not None:
            raise NotApplicable("its input is bounded, so that it may not be scaled at will")
        if subject.module is not None:
            subject.module.train()
        law = law_of_options(subject.options, subject.value_of, case.dtype)
        made = cls(subject, case, law, case.dtype)
        inside = made._inside()
        if inside == case.dtype:
            return made
        law = law_of_options(subject.options, subject.value_of, inside)
        return cls(subject, dataclasses.replace(case, dtype=inside), law, case.dtype)

    def _inside(self) -> torch.dtype:
        """The precision of the statistics: that declared, else what they feel.

        A module that takes them in float32 whatever it is given (T5, Llama) does not feel one
        element of a group change by 2⁻³⁰ of itself: the others come out as before, bit by bit,
        where float64 moves them by some 2⁻³⁰/n.
        """
        declared = self.subject.options.get("compute_dtype")
        if declared is not None:
            named: torch.dtype = getattr(torch, str(declared).removeprefix("torch."))
            return named
        x = self.drawn("precision")
        if self.is_frozen:
            return self.dtype
        if self.law.count(x) < 2:
            raise NotApplicable("a group has one element only")
        with torch.no_grad():
            first = self._first_of_each_group(x)
            y, other = self(x), self(torch.where(first, x * (1 + 2.0**-30), x))
        if y.dtype != torch.float64:
            return self.dtype
        same = float((y == other)[~first].double().mean())
        return torch.float32 if same > 0.5 else torch.float64

    def _first_of_each_group(self, x: Tensor) -> Tensor:
        first = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        grouped, axes = self.law.split(first)
        grouped[tuple(0 if axis in axes else slice(None) for axis in range(grouped.dim()))] = True
        return first

    @property
    def is_alone(self) -> bool:
        """Does it take x and nothing that could bring its own affine map?"""
        return len(self.case.inputs) == 1

    @property
    def is_frozen(self) -> bool:
        return self.subject.options.get("running") == "frozen"

    @property
    def x(self) -> Tensor:
        """The case's own values, large where the ε is unknown."""
        values = self.case.inputs[self.case.floating[0]].detach().contiguous()
        return values * FAR if self.law.eps is None else values

    def drawn(self, salt: str, scale: float = 1.0) -> Tensor:
        """Normal numbers of the case's shape, whose mean and deviation vary with every axis, so
        that statistics over other axes are others. They are contiguous: how an input lies in
        memory is judged elsewhere, and torch's GroupNorm sums in one pass in channels_last."""
        name = self.case.floating[0]
        like = self.case.inputs[name]
        generator = self.case.generator(salt)
        values = _normal(like.shape, generator)
        for axis, size in enumerate(like.shape):
            shape = [1] * like.dim()
            shape[axis] = size
            values = values * (0.3 * _normal(shape, generator)).exp() + _normal(shape, generator)
        values = scale * values * (FAR if self.law.eps is None else 1.0)
        return values.to(device=like.device, dtype=like.dtype)

    def of_variance(self, salt: str, variance: float) -> Tensor:
        """Normal numbers whose groups have about this variance and mean 0."""
        like = self.case.inputs[self.case.floating[0]]
        z = dataclasses.replace(self.law, eps=None, ddof=0).standardized(self.drawn(salt))
        spread = 0.5 * _normal(like.shape[:1] + (1,) * (like.dim() - 1), self.case.generator(salt))
        return (math.sqrt(variance) * z * spread.exp().to(z.device)).to(like)

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        name = self.case.floating[0]
        return tuple(x if key == name else own for key, own in self.case.inputs.items())

    def __call__(self, x: Tensor) -> Tensor:
        """One answer, of the shape of x."""
        seed_everything(self.case.recipe.seed)
        y = self.subject.tensors(*self.inputs(x))[0]
        if y.shape != x.shape:
            raise SubjectError(
                f"{self.subject.declared.name} made {tuple(y.shape)} of {tuple(x.shape)}; a "
                "normalization keeps the shape of its input"
            )
        return y

    def room(self, x: Tensor) -> Tensor:
        """How far rounding, and an unknown ε, may move each element of the answer on x.

        A mean of n numbers is off by λ√n·u·mean|x| (but with probability 2 exp(−λ²/2)), and so is
        x − μ; σ² is off by as much, relative to itself, wherever μ was taken off before squaring:
        z is within λ√n·u·(1 + mean|x|/σ)(1 + |z|), and a, b ≤ 4 multiply that. An ε that is kept
        in float32 is off by 2⁻²⁴ of itself, which moves z by up to |z|·ε/(σ² + ε)·2⁻²⁴; a factor
        that was built in float32, as √n is by `torch.tensor`, moves it by |z|·2⁻²⁴. Perturbed
        inputs would be no measure: in a group of two z = ±1 whatever they are.
        Source: Higham & Mary, A new approach to probabilistic rounding error analysis, SIAM J.
        Sci. Comput. 41(5), 2019, theorem 2.4.
        """
        z = self.law.standardized(x).abs()
        found: Tensor = 4 * self.unit(x) * (1 + z)
        if self.law.eps:
            below = self.law.denominator(self.law.variance(x))
            share = self.law.eps / (below if self.law.eps_form == "deviation" else below.square())
            found = found + 4 * 2.0**-24 * z * share
        if self.law.eps is None:
            found = found + self.blur(x)
        if self._has_a_factor:
            found = found + 2.0**-24 * z
        return found * self.modulation(x)

    @property
    def _has_a_factor(self) -> bool:
        """Has it a parameter other than the 1 and 0 of an affine map that changes nothing?"""
        parameters = self.subject.parameters.values()
        return any(bool(((p != 0) & (p != 1)).any()) for p in parameters)

    def modulation(self, x: Tensor) -> float:
        """1, or more where further inputs bring a and b, which then may be of any size."""
        if self.is_alone:
            return 1.0
        with torch.no_grad():
            return 1.0 + float(self(x).abs().amax())

    def unit(self, x: Tensor) -> Tensor:
        """λ√n·u·(1 + mean|x|/σ) for each element, n being the size of a group, and a few more."""
        law = self.law
        below = law.denominator(law.variance(x))
        far = law.mean(x.double().abs()) / below.clamp_min(torch.finfo(torch.float64).tiny)
        return self.share(x) * (1 + torch.where(below > 0, far, 0.0))

    def share(self, x: Tensor) -> float:
        """λ√n·u: how far a mean of n numbers may be off, as a share of the mean of their sizes."""
        factor = _DEVIATIONS * math.sqrt(self.law.count(x) + _OPERATIONS)
        return factor * unit_roundoff(self.case.dtype)

    def blur(self, x: Tensor) -> Tensor:
        """How far an ε that is not declared may move z: |z|·ε/σ, and as much again by a ≤ 4.

        That is for ε added to the deviation; added to the variance it moves z by |z|·ε/2σ².
        """
        deviation = self.law.variance(x).sqrt()
        apart = UNKNOWN_EPS / deviation.clamp_min(UNKNOWN_EPS)
        level = self.law.mean(x.double().abs())  # a constant leaves rounding over an unknown ε
        blind = (apart >= _VISIBLE) | (deviation <= _CONSTANT * level)
        blur = 4 * self.law.standardized(x).abs() * apart
        return torch.where(blind & (level > 0), math.inf, blur)

    def must_use_the_batch(self) -> None:
        """Raise NotApplicable where the input's own statistics play no part."""
        if self.is_frozen:
            raise NotApplicable("its statistics are frozen: the input's own play no part")

    def must_vary(self, z: Tensor) -> None:
        """Raise NotApplicable where every group is constant, so that there is nothing to see."""
        if not float(z.abs().amax() if z.numel() else 0.0) > 2.0**-10:
            raise NotApplicable("every group is constant here")


def scatter(made: Normalizer) -> None:
    """Move the parameters off 1 and 0, but not an ε that is learned: it is what was declared."""
    kept = {name: p.detach().clone() for name, p in learned_eps(made.subject).items()}
    scatter_parameters(made.subject, made.case.recipe.seed)
    with torch.no_grad():
        for name, value in kept.items():
            made.subject.parameters[name].copy_(value)


def learned_eps(subject: Implementation) -> dict[str, torch.nn.Parameter]:
    """The parameters that begin between 0 and 10⁻³: filter response normalization learns its ε."""
    return {
        name: p
        for name, p in subject.parameters.items()
        if 0 < float(p.detach().abs().amax()) < _LEARNED_EPS
    }


def neutralise(made: Normalizer) -> None:
    """Give the affine map its neutral parameters, in place: a = 1 and b = 0.

    As built if that is neutral already; else the assignment of 0 or 1 to each parameter whose
    answer is nearest to z. Raises NotApplicable where further inputs bring the affine map.
    """
    if not made.is_alone:
        raise NotApplicable("takes further inputs, which may bring an affine map of their own")
    x = made.drawn("neutral")
    parameters = list(made.subject.parameters.values())
    if not parameters:
        return
    z = made.law.standardized(x)
    built = [p.detach().clone() for p in parameters]
    if _distance(made, x, z) <= 2.0**-10 or len(parameters) > _FEW:
        return
    choices: list[Sequence[Tensor]] = [built]
    for assignment in itertools.product((1.0, 0.0), repeat=len(parameters)):
        choices.append([torch.full_like(p, c) for p, c in zip(built, assignment, strict=True)])
    distances = [_distance(made, x, z, choice) for choice in choices]
    set_parameters(parameters, choices[distances.index(min(distances))])


def _distance(
    made: Normalizer, x: Tensor, z: Tensor, values: Sequence[Tensor] | None = None
) -> float:
    if values is not None:
        set_parameters(list(made.subject.parameters.values()), values)
    with torch.no_grad():
        y = made(x).double()
    if values is not None and bool((y == y.flatten()[:1]).all()):
        return math.inf  # a weight of 0 leaves nothing to judge
    return float((y - z).abs().amax().nan_to_num(math.inf))


def set_parameters(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn([*shape], generator=generator, dtype=torch.float64)
