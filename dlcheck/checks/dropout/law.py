"""The law that a dropout layer declares: a·x + c for what is kept, a constant for the rest.

    rescale     kept            dropped      mean of y/x    variance of y/x
    train       x/(1 − p)       0            1              p/(1 − p)
    eval, none  x               0            1 − p          p(1 − p)
    alpha       a·x + c         a·α' + c     (y itself has mean 0, variance 1 for such an x)
    gaussian    x(1 + √v·z)                  1              v = p/(1 − p)

With alpha: α' = −1.758…, the least value of SELU, a = ((1 − p)(1 + pα'²))^(−½), c = −a·p·α'.

Source: Srivastava et al., Dropout, JMLR 15, 2014, §4 and §10; Klambauer et al., Self-Normalizing
Neural Networks, NeurIPS 2017, §"New Dropout Technique".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.numerics.rounding import gamma
from dlcheck.subjects import Implementation

LEAST_OF_SELU = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717


@dataclass(frozen=True, slots=True)
class Law:
    """What is declared. `rescale` is "" where its author does not say."""

    p: float
    rescale: str
    noise: str
    axes: tuple[int, ...]  # may count from the end

    @property
    def keep(self) -> float:
        return 1.0 - self.p

    @property
    def factor(self) -> float:
        """a: what multiplies an element that is kept."""
        if self.rescale == "alpha":
            return 1.0 / math.sqrt(self.keep * (1 + self.p * LEAST_OF_SELU**2))
        return 1.0 / self.keep if self.rescale == "train" else 1.0

    @property
    def offset(self) -> float:
        """c: what is added to every element."""
        return -self.factor * self.p * LEAST_OF_SELU if self.rescale == "alpha" else 0.0

    @property
    def dropped(self) -> float:
        """What an element becomes that is dropped."""
        return self.factor * LEAST_OF_SELU + self.offset if self.rescale == "alpha" else 0.0

    @property
    def mean(self) -> float:
        """E y/x; for alpha E y for an x of mean 0 and variance 1."""
        if self.rescale == "alpha":
            return 0.0
        return self.keep if self._is_plain else 1.0

    @property
    def variance(self) -> float:
        """Var y/x; for alpha Var y for an x of mean 0 and variance 1."""
        if self.rescale == "alpha":
            return 1.0
        return self.p * self.keep if self._is_plain else self.p / self.keep

    @property
    def _is_plain(self) -> bool:
        """Is what is kept left as it is?"""
        return self.rescale in ("eval", "none") and self.noise != "gaussian"

    @property
    def deviation_of_square(self) -> float:
        """The standard deviation of (y/x)², of y² for alpha: what limits a test of the variance.

        Of 0 or a with probabilities p, 1 − p: a²√(p(1 − p)); of N(1, v): √(4v + 2v²); of alpha
        from the fourth moments c⁴ + 6a²c² + 3a⁴ of N(c, a²) and d⁴ of what is dropped.
        """
        if self.rescale == "alpha":
            a, c = self.factor, self.offset
            kept = c**4 + 6 * a**2 * c**2 + 3 * a**4
            return math.sqrt(self.keep * kept + self.p * self.dropped**4 - 1.0)
        if self.noise == "gaussian":
            return math.sqrt(4 * self.variance + 2 * self.variance**2)
        return self.factor**2 * math.sqrt(self.p * self.keep)

    def shared(self, x: Tensor) -> tuple[int, ...]:
        """The axes of x along which one mask is shared, each counted from the front."""
        return tuple(sorted({axis % x.dim() for axis in self.axes}))

    def rounding(self, x: Tensor) -> Tensor:
        """How far floating point alone may move each kept element of x: bound of |fl(y) − y|.

        p as stored is off by u·p, so 1 − p by a relative u/(1 − p), the scale by as much, and y by
        a few roundings more; alpha has a root, four products and two sums, of terms a|x|, |c| and
        a|α'|. γ₁₂/(1 − p) of the sum of the absolute terms holds them all.
        """
        size = self.factor * x.abs()
        if self.rescale == "alpha":
            size = size + abs(self.offset) + self.factor * abs(LEAST_OF_SELU)
        return gamma(12, x.dtype) / self.keep * size

    def kept(self, x: Tensor, y: Tensor) -> Tensor:
        """Which elements were kept: [like x], bool. With Gaussian noise: those above the mean.

        0 is what dropped means; for alpha, what is nearer to the dropped value than to a·x + c.
        """
        if self.noise == "gaussian":
            return y * x.sign() > x.abs()
        if self.rescale == "alpha":
            wide = x.double()
            near = (y.double() - self.factor * wide - self.offset).abs()
            return near < (y.double() - self.dropped).abs()
        return y != 0


def rate_of(subject: Implementation) -> float:
    """The declared p, NaN where there is none. Raises SubjectError where it is no number."""
    p = subject.argument("p", math.nan)
    if isinstance(p, bool) or not isinstance(p, (int, float)):
        raise SubjectError(f"p is {p!r}, but a rate is a number from 0 to 1")
    return float(p)


def law_of(subject: Implementation) -> Law:
    """The declared law. Raises NotApplicable where nothing is random, or p is no probability."""
    p = rate_of(subject)
    if p in (0.0, 1.0):
        raise NotApplicable(f"at p = {p:g} nothing is random")
    if not 0 < p < 1 and "p" in subject.options:
        raise NotApplicable(f"p = {p:g} is no probability, so that there is no law to hold it to")
    return Law(
        p=p,
        rescale=str(subject.options.get("rescale", "")),
        noise=str(subject.options.get("noise", "bernoulli")),
        axes=tuple(int(axis) for axis in subject.options.get("axes", ())),
    )


def at_several_rates(subject: Implementation) -> list[Implementation]:
    """The subject as declared, and at p = ¼ and ¾ where p names a constructor argument.

    At p = ½ a mask and its complement, 1/p and 1/(1 − p), v and √v are the same.
    """
    name = subject.options.get("p")
    if not isinstance(name, str):
        return [subject]
    own = rate_of(subject)
    return [subject, *(subject.rebuilt(**{name: p}) for p in (0.25, 0.75) if p != own)]


def where_it_shows(subject: Implementation) -> Implementation:
    """The subject, or where p is below 0.1 or above 0.9 and names an argument, built with p = ¼.

    Who falls with whom does not depend on the rate, and of rare events a sample shows nothing.
    """
    name, p = subject.options.get("p"), rate_of(subject)
    if isinstance(name, str) and (0 < p < 0.1 or 0.9 < p < 1):
        return subject.rebuilt(**{name: 0.25})
    return subject


def in_mode(subject: Implementation, mode: str) -> Implementation:
    """The subject, put into "train" or "eval". Raises NotApplicable where it has no modes."""
    if subject.module is None:
        if mode == "train":
            return subject
        raise NotApplicable("is no module, so that it has no evaluation mode")
    subject.module.train(mode == "train")
    return subject


def ratio(x: Tensor, y: Tensor) -> Tensor:
    """y/x in float64; no element of x is 0."""
    return torch.div(y.double(), x.double())
