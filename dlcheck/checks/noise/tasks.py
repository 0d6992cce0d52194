"""Several tasks: the gradient is the weighted sum of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_PARAMETERS = 5
Sum = Callable[[Tensor], Tensor]


@around
def takes_numbers_of_its_losses(original: Sum, losses: Tensor) -> Tensor:
    """`loss.item()`: the value is right and nothing is learnt but from the first task."""
    kept = torch.cat([losses[:1], losses[1:].detach()])
    return original(kept)


@around
def forgets_the_weights(original: Sum, losses: Tensor) -> Tensor:
    return losses.sum()


@around
def keeps_the_last_task(original: Sum, losses: Tensor) -> Tensor:
    """`total = w * loss` for `total += w * loss`."""
    return original(torch.cat([0 * losses[:-1], losses[-1:]]))


@around
def averages_the_tasks(original: Sum, losses: Tensor) -> Tensor:
    return original(losses) / len(losses)


@around
def weighs_by_the_losses_too(original: Sum, losses: Tensor) -> Tensor:
    """Normalises by the sum of the losses: the weights move with them."""
    return original(losses) * losses.sum().detach() / losses.sum()


@around
def gives_weights_in_another_order(original: Sum, losses: Tensor) -> Tensor:
    return original(losses.flip(0))


@check(
    kind=["op", "layer"],
    options={"task_weights": True},
    rejects=[
        takes_numbers_of_its_losses,
        forgets_the_weights,
        keeps_the_last_task,
        averages_the_tasks,
        weighs_by_the_losses_too,
        gives_weights_in_another_order,
    ],
    once=True,
    textbook={
        "id": "R8",
        "says": "Sharing weights and learning several tasks at once regularize",
        "verdict": "true",
    },
)
def tasks_add_their_weighted_gradients(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The gradient of a multi-task loss is the sum of the tasks' gradients, each times its weight.

    Tasks Lₜ(θ) = ½‖Aₜθ − bₜ‖² share θ: with ∇Lₜ = Aₜᵀ(Aₜθ − bₜ) by hand, ∇Σ wₜLₜ = Σ wₜ∇Lₜ, and
    the value is Σ wₜLₜ. The bounds are the roundings of those sums.
    Source: Caruana, Multitask Learning, Machine Learning 28, 1997, §2; Goodfellow, Bengio &
    Courville, Deep Learning, 2016, §7.7.
    """
    weights = _weights(subject)
    generator = case.generator("tasks")
    a, b, theta = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(case.device, case.dtype)
        for shape in (
            (len(weights), _PARAMETERS, _PARAMETERS),
            (len(weights), _PARAMETERS),
            _PARAMETERS,
        )
    )
    theta = theta.requires_grad_()
    residual = a @ theta - b
    losses = 0.5 * residual.square().sum(1)
    total = _total(subject, case, losses)
    (found,) = gradients([total], [theta], [torch.ones_like(total)])
    slopes = (a.mT @ residual[..., None])[..., 0].detach().double()
    w = torch.tensor(weights, dtype=torch.float64, device=case.device)
    expected, reach = w @ slopes, w.abs() @ slopes.abs()
    got = torch.zeros_like(expected) if found is None else found.double()
    roundings = gamma(4 * _PARAMETERS * _PARAMETERS + len(weights) + 16, case.dtype)
    worst = int((got - expected).abs().argmax())
    # Each slope is a sum over a residual, itself a sum: its terms are what rounding acts on.
    terms = (a.abs().mT @ (a.abs() @ theta.abs() + b.abs())[..., None])[..., 0].detach().double()
    yield Evidence(
        error=float((got - expected).abs().max()),
        bound=roundings * float((w.abs() @ terms).max()),
        signal=float(reach.max()),
        what="gradient of the shared parameters against Σ wₜ∇Lₜ",
        expected=f"{float(expected[worst]):.9g}",
        got=f"{float(got[worst]):.9g}",
        where=f"parameter {worst}, weights {', '.join(f'{x:g}' for x in weights)}",
    )
    value = float((w * losses.detach().double()).sum())
    size = float((w.abs() * losses.detach().double()).sum())
    yield Evidence(
        error=abs(float(total.detach()) - value),
        bound=roundings * size,
        signal=size,
        what="value against Σ wₜLₜ",
        expected=f"{value:.9g}",
        got=f"{float(total.detach()):.9g}",
    )


def _weights(subject: Implementation) -> list[float]:
    given = subject.argument("task_weights")
    if not isinstance(given, Sequence) and not isinstance(given, Tensor):
        raise SubjectError(
            f"options.task_weights gives {given!r}; write the weights, as [1.0, 0.5], or the "
            "name of the argument that holds them"
        )
    return [float(weight) for weight in given]


def _total(subject: Implementation, case: Case, losses: Tensor) -> Tensor:
    """The subject on these losses: as one tensor, or as many numbers as it has inputs."""
    if len(case.specs) == 1:
        total = subject.tensor(losses)
    elif len(case.specs) == len(losses):
        total = subject.tensor(*losses.unbind())
    else:
        raise NotApplicable(f"takes {len(case.specs)} inputs, and has {len(losses)} weights")
    if total.numel() != 1:
        raise SubjectError(f"{subject.declared.name} made {list(total.shape)} of its losses")
    return total.reshape(())
