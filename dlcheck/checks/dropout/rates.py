"""How many are dropped: the rate, and that the count is a binomial's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
import torch
from torch import Tensor

from dlcheck.checks.dropout.broken import Declared, broken
from dlcheck.checks.dropout.draws import affordable, draw, own_sized, sample
from dlcheck.checks.dropout.law import at_several_rates, in_mode, law_of, where_it_shows
from dlcheck.checks.dropout.law import rate_of as declared_rate
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, binomial, detectable, dispersion, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

N = 10_000  # units: a rate of .1 is known to ± .019
CALLS = 150  # a dispersion is known to ± .74; that of a fixed share is 0, of clumps far above 1


class drops_too_often_by_the_detectable_effect(Declared):
    def rate(self) -> float:
        return self.law.p + detectable((self.law.p * self.law.keep) ** 0.5, N)


class takes_the_rate_for_that_of_keeping(Declared):
    def rate(self) -> float:
        return self.law.keep


class drops_one_half_whatever_the_rate(Declared):
    def rate(self) -> float:
        return 0.5


class draws_twice(Declared):
    """A mask of a mask: two layers where one was meant."""

    def noise(self, x: Tensor) -> Tensor:
        return super().noise(x) * super().noise(x)


@check(
    kind="dropout",
    options={"p": True, "noise": [None, "bernoulli"], "block": False},
    rejects=[
        broken(drops_too_often_by_the_detectable_effect),
        broken(takes_the_rate_for_that_of_keeping),
        broken(drops_one_half_whatever_the_rate),
        broken(draws_twice),
    ],
    tags=["statistical"],
    once=True,
)
def drops_at_the_declared_rate(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The share of units that are kept is 1 − p, at the declared p and at ¼ and ¾.

    An exact binomial test over 10⁴ fresh units, by three strikes; units share a mask along the
    declared axes. Where p names a constructor argument the subject is also built with p = ¼ and
    ¾ and tested on 1,000, since at ½ the rate of dropping and that of keeping are the same.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4: mᵢ ~ Bernoulli(1 − p).
    """
    p = declared_rate(subject)
    if not 0 <= p <= 1:
        raise SubjectError(f"it takes p = {p:g}, but a probability lies between 0 and 1")
    for built in at_several_rates(subject):
        few = N if built is subject else N // 10
        yield share_kept(built, case, f"{case.claim}/p={declared_rate(built):g}", few)


def share_kept(subject: Implementation, case: Case, claim: str, units: int = N) -> Evidence:
    """Three strikes over the rate of keeping, in train mode."""
    law = law_of(subject)

    def test(stream: Stream, n: int) -> Finding:
        kept = law.kept(*sample(subject, case, law, stream.torch(), n))
        return binomial(int(kept.sum()), n, law.keep)

    what = f"rate of keeping at p = {law.p:g}"
    n = affordable(subject, case, law, units * case.profile.effort)
    return three_strikes(case.root, claim, n, test, what=what)


class drops_an_exact_share(Declared):
    """The same number in every call, as by a random permutation."""

    def noise(self, x: Tensor) -> Tensor:
        order = torch.rand(self.unit_shape(x), device=x.device)
        count = order.numel() * self.law.p
        dropped = int(count) + int(torch.rand(()) < count % 1)  # right on average
        ranks = order.flatten().argsort().argsort().reshape(order.shape)
        return (ranks >= dropped).to(x.dtype)


class drops_in_clumps(Declared):
    """All of a call by one draw of four: the rate is right, the count is not."""

    def noise(self, x: Tensor) -> Tensor:
        if torch.rand(()) < 0.75:
            return super().noise(x)
        return (
            (torch.rand((), device=x.device) >= self.law.p).to(x.dtype).expand(self.unit_shape(x))
        )


@check(
    kind="dropout",
    options={"noise": [None, "bernoulli"], "block": False},
    rejects=[
        broken(drops_an_exact_share),
        broken(drops_in_clumps),
    ],
    tags=["statistical"],
    once=True,
)
def count_of_dropped_is_binomial(subject: Implementation, case: Case) -> Evidence:
    """Over many calls the number of dropped units varies as a binomial's.

    150 calls of the case's own size; the dispersion Σ(Sᵢ − S̄)²/(N q̂(1 − q̂)(C − 1)) is held
    against its law given the total, which is multivariate hypergeometric for independent units:
    exact, and free of p. Below 1 is a fixed share, above 1 are units that fall together.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4: the mᵢ are independent.
    """
    subject = where_it_shows(subject)
    law = law_of(subject)

    def test(stream: Stream, n: int) -> Finding:
        generator = stream.torch()
        kept = [draw(subject, case, law, own_sized(case, generator)).kept() for _ in range(n)]
        if kept[0].numel() == 1:
            raise NotApplicable("a call holds one unit, whose count is 0 or 1")
        counts = np.array([int(mask.sum()) for mask in kept])
        return dispersion(counts, kept[0].numel(), stream.numpy)

    return three_strikes(
        case.root,
        case.claim,
        CALLS * case.profile.effort,
        test,
        what="dispersion of counts",
        resolution=1.0,
    )


class forgets_the_rate_in_evaluation(Declared):
    """Sets p to 0 for an evaluation and leaves it there."""

    forgotten = False

    def rate(self) -> float:
        return 0.0 if self.forgotten else self.law.p

    def eval_forward(self, x: Tensor) -> Tensor:
        self.forgotten = True
        return super().eval_forward(x)


class lowers_the_rate_after_each_evaluation(Declared):
    evaluations = 0

    def rate(self) -> float:
        return self.law.p * 0.8**self.evaluations

    def eval_forward(self, x: Tensor) -> Tensor:
        self.evaluations += 1
        return super().eval_forward(x)


class never_returns_to_training(Declared):
    """Only eval() is heard: train(True) is taken for train mode at the start alone."""

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002
        return super().train(mode and self.training)


@check(
    kind="dropout",
    options={"p": True, "noise": [None, "bernoulli"], "block": False},
    rejects=[
        broken(forgets_the_rate_in_evaluation),
        broken(lowers_the_rate_after_each_evaluation),
        broken(never_returns_to_training),
    ],
    tags=["statistical"],
    once=True,
)
def evaluation_leaves_the_rate(subject: Implementation, case: Case) -> Evidence:
    """After train → eval → train, twice over, the rate is the declared one again.

    The exact binomial test of `drops_at_the_declared_rate`, after two evaluations in between.
    Source: the definition; torch.nn.Module.train.
    """
    law_of(subject)  # not where nothing is random
    for _ in range(2):
        for mode in ("train", "eval"):
            in_mode(subject, mode)(*case.fresh())
    return share_kept(subject, case, case.claim)
