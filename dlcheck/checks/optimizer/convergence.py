"""An optimizer arrives: some step size leads down a quadratic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dlcheck.checks.optimizer import broken_steps
from dlcheck.checks.optimizer.broken import wrong
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import accepts, built, learning_rate, parameters_of
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

_RATES = (1.0, 10.0, 0.1, 100.0, 3.0, 30.0, 0.3, 0.01, 1e3, 1e-3)  # × the given step size
_LONG = 300  # steps of a descent
_SHORT = 40  # steps after which the descents are ranked
_FINALISTS = 5  # that go on
_VERY_LONG = 1500  # steps for those of them that came halfway: heavy momentum takes its time
_HALFWAY = 0.5
_LEFT = 0.01  # of the excess loss, that may be left after it


@check(
    kind="optimizer",
    rejects=[
        wrong(broken_steps.Climbs),
        wrong(broken_steps.NeverMoves),
        wrong(broken_steps.DividesByTheSteps),
        wrong(broken_steps.UsesTheSizeAlone),
    ],
    accepts=[
        *ACCEPTED,
        wrong(broken_steps.CentralizesItsGradient, "centralizes_gradient"),
        Subject(
            name="torch_lbfgs",
            target="torch.optim:LBFGS",
            kind="optimizer",
            traits=frozenset({"needs_closure", "per_tensor"}),
        ),
        Subject(name="torch_rprop", target="torch.optim:Rprop", kind="optimizer"),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def converges_on_a_convex_problem(subject: Implementation, case: Case) -> Evidence:
    """On a quadratic with curvatures from 1/4 to 1 it comes within 1 % of the least loss.

    f(θ) = ½ Σ hᵢ(θᵢ − cᵢ)², each |θᵢ − cᵢ| between 1/2 and 3/2 at the start, the exact gradient,
    no decay, 300 steps, the given step size or 10^±1 to 10^±3 of it: some one must do, and none
    may be needed outside. Each goes 40 steps, the five that came farthest go on, and the best three
    to 1,500 steps where none has arrived. Gradient descent leaves (1 − ηh)^600 of the loss; steps
    of constant size hover within their length.
    Where each row of a gradient is centralized, rows of θ − c have the mean 0 and one curvature.
    Source: Nesterov, Lectures on Convex Optimization, 2018, theorem 2.1.15.
    """
    try:
        name, rate = learning_rate(subject)
        rates = [{name: rate * factor} for factor in _RATES]
    except NotApplicable:
        rates = [{}]
    descents = [Descent(subject, case, changes) for changes in rates]
    refused = [descent.refused for descent in descents if descent.refused is not None]
    if len(refused) == len(descents):
        raise refused[0]
    best = _search(descents)
    return Evidence(
        error=best if math.isfinite(best) else math.inf,
        bound=_LEFT,
        signal=1.0,
        unit="of the loss at the start",
        what="loss left after 300 steps on a quadratic, 1,500 if there is hope",
        cause=_why_not(best, descents) if not best <= _LEFT else "",
        figures=(
            Figure(
                title="Descent on a quadratic", x="step", y="loss", log_y=True,
                series={d.label: d.points for d in descents if d.points},
            ),
        ),
    )  # fmt: skip


def _search(descents: Sequence[Descent]) -> float:
    """The least share of the loss that is left; a short run for all, a long one for the best."""
    for descent in descents:
        if descent.to(_SHORT) <= _LEFT:
            return descent.share
    ranked = sorted(descents, key=lambda descent: descent.share)
    # Where none has come far, the order says nothing: some take a while to start.
    finalists = ranked[:_FINALISTS] if ranked[0].share < _HALFWAY else ranked
    for descent in finalists:
        if descent.to(_LONG) <= _LEFT:
            return descent.share
    last = sorted(finalists, key=lambda descent: descent.share)
    for descent in last[:3]:
        if descent.share < _HALFWAY and descent.to(_VERY_LONG) <= _LEFT:
            return descent.share
    return min(descent.share for descent in last)


def _why_not(best: float, descents: Sequence[Descent]) -> str:
    if all(descent.share == math.inf for descent in descents):
        return (
            f"every step size that was tried is too large ({descents[0].label} as given, and a "
            "thousandth to a thousand times that): give one at which it converges in args"
        )
    if not best < 1:
        return "the loss never falls: the sign of the step is turned, or a copy is updated"
    return (
        "it stops on the way: the steps die out, or point elsewhere (if the mean of each row of a "
        "gradient is left out, declare centralizes_gradient)"
    )


class Descent:
    """A run on the quadratic with gradients by hand; up, where the optimizer maximizes."""

    def __init__(self, subject: Implementation, case: Case, changes: Mapping[str, float]) -> None:
        self.subject = subject
        self.label = ", ".join(f"{n} = {v:g}" for n, v in changes.items()) or "as given"
        self.losses: list[float] = []
        self.parameters, self.targets, self.curvatures = [], [], []
        for place, x in enumerate(parameters_of(case)):
            away, h = _problem(subject, case, place, x)
            self.parameters.append(nn.Parameter(x.clone()))
            self.targets.append(x + away.to(x))
            self.curvatures.append(h.to(x))
        off = {"weight_decay": 0.0} if accepts(subject, "weight_decay") else {}
        self.is_over, self.refused = False, None
        try:
            self.optimizer = built(subject, case, self.parameters, **off, **changes)
        except SubjectError as error:
            self.is_over, self.refused = True, error

    @property
    def sign(self) -> float:
        return -1.0 if "maximizes" in self.subject.traits else 1.0

    @property
    def share(self) -> float:
        """Of the loss at the start, what is left; infinite where it was lost on the way."""
        if not self.losses or not math.isfinite(self.losses[-1]):
            return math.inf
        return self.losses[-1] / (self.losses[0] or math.nan)

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(float(k), loss) for k, loss in enumerate(self.losses) if math.isfinite(loss)]

    def to(self, steps: int) -> float:
        """Go on until that many steps are done, or it has arrived or is lost; the share left."""
        if self.is_over:
            return self.share
        if not self.losses:
            self._look()
        while len(self.losses) <= steps and not self.is_over:
            seed_everything(len(self.losses))
            if "needs_closure" in self.subject.traits:
                guarded(self.optimizer.step, self.closure)
            else:
                guarded(self.optimizer.step)
            self._look()
        return self.share

    def _look(self) -> None:
        """The loss here, with its gradient left in the parameters."""
        loss = abs(float(self.closure()))
        first = self.losses[0] if self.losses else loss
        self.losses.append(loss)
        is_lost = not math.isfinite(loss) or loss > 1e12 * max(first, 1e-30)
        if is_lost:
            self.losses.append(math.inf)
        self.is_over = is_lost or loss <= 1e-3 * _LEFT * first

    def closure(self) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for p, c, h in zip(self.parameters, self.targets, self.curvatures, strict=True):
            d = p.detach() - c
            g = self.sign * h * d
            is_sparse = "sparse_gradient" in self.subject.traits and g.dim() > 1
            p.grad = g.to_sparse(1) if is_sparse else g
            total += (0.5 * h * d.square()).sum().double().cpu()
        return self.sign * total


def _problem(subject: Implementation, case: Case, place: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """How far the target is from x, and the curvatures."""
    z = torch.randn(x.shape, generator=case.generator(f"target {place}"), dtype=torch.float64)
    u = torch.rand(x.shape, generator=case.generator(f"curvature {place}")).double()
    away, h = z.sign() * (0.5 + z.abs() % 1.0), 0.25 + 0.75 * u
    if "centralizes_gradient" in subject.traits and x.dim() > 1:
        axes = tuple(range(1, x.dim()))
        return away - away.mean(axes, keepdim=True), torch.ones_like(h) * h.mean(axes, keepdim=True)
    return away, h
