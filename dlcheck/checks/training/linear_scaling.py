"""Linear scaling of the learning rate is right to first order."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.batches_of_digits import Rows, as_it_is
from dlcheck.datasets import digits
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Figure
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_STEPS, _BATCH = 8, 16
_RATES = tuple(2.0**-k for k in range(6, 10))


@check(
    kind="training",
    forbids={
        "freezes",
        "replaces_head",
        "returns_average",
        "restores_best",
        "perturbed_gradient",
        "reduced_precision",
        "micro_batches",
    },
    dtypes=["float64"],
    rejects=[
        wrong.forgets_zero_grad,
        wrong.steps_before_backward,
        wrong.steps_one_batch_late,
        wrong.reuses_the_first_batch,
        wrong.drops_the_last_batch,
    ],
    once=True,
    textbook={
        "id": "B9",
        "says": "When the batch is k times as large, multiply the learning rate by k",
        "verdict": "true if",
        "condition": "steps are small: the ends differ by O(η²), and by all of it where they are "
        "not",
    },
)
def a_large_step_is_the_sum_of_small_ones(subject: Implementation, case: Case) -> Evidence:
    """8 steps (η, 16 rows) and one (8η, the same 128 rows) end O(η²) apart.

    A float64 perceptron on digits, plain SGD. The order is log₂ of what halving η divides the
    distance by, p(η) = 2 + O(η) for a smooth loss; the bound is that error term as the orders
    themselves show it, twice |p(η) − p(η/2)| (Richardson), with what rounding moves. A loop that
    loses or repeats a gradient differs at first order: p = 1.
    Source: Goyal et al., Accurate, Large Minibatch SGD, 2017, §2.1.
    """
    model, x, y = _problem(case)
    differences = [_difference(subject, model, x, y, rate) for rate in _RATES]
    orders = [_order(a, b) for a, b in itertools.pairwise(differences)]
    scale = float(torch.cat([p.detach().flatten() for p in model.parameters()]).norm())
    # Each of the 8 + 1 steps sums over inputs and rows.
    roundings = (_STEPS + 1) * (x.shape[1] + len(x))
    rounding = gamma(roundings, case.dtype) * scale / max(differences[-1], 1e-300)
    return Evidence(
        error=abs(orders[-1] - 2) if math.isfinite(orders[-1]) else math.inf,
        bound=2 * abs(orders[-1] - orders[-2]) + rounding,
        signal=1.0,  # from order 2 to order 1
        resolution=0.5,
        unit="orders",
        what="order in η of the distance between 8 small steps and a large one",
        expected="2",
        got=", ".join(f"{order:.3f}" for order in orders),
        figures=(_figure(differences),),
    )


def _problem(case: Case) -> tuple[nn.Module, Tensor, Tensor]:
    table = digits().to(case.device, case.dtype)
    rows = _STEPS * _BATCH
    seed_everything(case.recipe.seed)
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
    return model.to(device=case.device, dtype=case.dtype), table.x[:rows], table.y[:rows]


def _difference(
    subject: Implementation, model: nn.Module, x: Tensor, y: Tensor, rate: float
) -> float:
    small = _trained(subject, model, x, y, _BATCH, rate)
    large = _trained(subject, model, x, y, len(x), _STEPS * rate)
    return float((small - large).norm())


def _trained(
    subject: Implementation, model: nn.Module, x: Tensor, y: Tensor, size: int, rate: float
) -> Tensor:
    copied = copy.deepcopy(model)
    optimizer = torch.optim.SGD(copied.parameters(), lr=rate)
    loader: torch.utils.data.DataLoader[object] = torch.utils.data.DataLoader(
        Rows(x, y), batch_size=size, collate_fn=as_it_is
    )
    subject(copied, loader, optimizer, nn.CrossEntropyLoss())
    return torch.cat([p.detach().reshape(-1) for p in copied.parameters()])


def _order(difference: float, halved: float) -> float:
    return math.log2(difference / halved) if difference > 0 and halved > 0 else math.nan


def _figure(differences: Sequence[float]) -> Figure:
    first = differences[0] / _RATES[0] ** 2
    return Figure(
        title="Eight steps against one",
        x="learning rate η of a small step",
        y="distance of the ends",
        series={
            "measured": list(zip(_RATES, differences, strict=True)),
            "of order 2": [(rate, first * rate**2) for rate in _RATES],
        },
        log_x=True,
        log_y=True,
        marks=("measured",),
    )
