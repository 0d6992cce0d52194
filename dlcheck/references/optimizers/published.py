"""Optimizers that torch does not ship, and those against which others are held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dlcheck.numerics.recursions import adam, gradient_descent
from dlcheck.references.optimizers.recursive import RecursiveOptimizer
from dlcheck.registry import reference

Betas = tuple[float, float]


@reference(
    kind="optimizer",
    formula="θ ← θ − η m̂/(√v̂ + ε)",
    source="Kingma & Ba, Adam, ICLR 2015, algorithm 1; AMSGrad: Reddi, Kale & Kumar, ICLR 2018",
    traits=["scale_free"],
    options={"rule": "adam", "decay": "coupled", "first_step": "lr"},
)
class PublishedAdam(RecursiveOptimizer):
    """Adam as published, every product and count in float64."""

    recursion = staticmethod(adam.adam)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            maximize=maximize,
        )  # fmt: skip


@reference(
    kind="optimizer",
    formula="θ ← (1 − ηλ)θ − η sign(β₁m + (1 − β₁)g),  m ← β₂m + (1 − β₂)g",
    source="Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, algorithm 2",
    args={"lr": 0.001},
    traits=["scale_free", "sign_step"],
    options={"rule": "lion", "decay": "decoupled", "first_step": "lr"},
)
class Lion(RecursiveOptimizer):
    """Evolved sign momentum: every element moves by η."""

    recursion = staticmethod(gradient_descent.lion)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: Betas = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize)


@reference(
    kind="optimizer",
    formula="θ ← θ − η ‖θ‖/‖r + λθ‖ (r + λθ),  r = m̂/(√v̂ + ε)",
    source="You et al., Large Batch Optimization for Deep Learning, ICLR 2020, algorithm 2",
    args={"lr": 0.01},
    traits=["scale_free", "per_tensor"],
    options={"rule": "lamb"},
)
class LAMB(RecursiveOptimizer):
    """Adam whose step is the η-th part of each layer's norm."""

    recursion = staticmethod(adam.lamb)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize
        )


@reference(
    kind="optimizer",
    formula="v ← μv + η c‖θ‖/(‖g‖ + λ‖θ‖) (g + λθ),  θ ← θ − v",
    source="You, Gitman & Ginsburg, arXiv:1708.03888, algorithm 1",
    args={"trust_coefficient": 0.1},
    traits=["per_tensor"],
    options={"rule": "lars"},
)
class LARS(RecursiveOptimizer):
    """Momentum whose step is a share of each layer's norm."""

    recursion = staticmethod(gradient_descent.lars)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, weight_decay=weight_decay,
            trust_coefficient=trust_coefficient, maximize=maximize,
        )  # fmt: skip


@reference(
    kind="optimizer",
    formula="m ← βm + (1 − β)g,  θ ← θ − η(sign m + λθ)",
    source="Bernstein et al., signSGD, ICML 2018, algorithm 2",
    args={"lr": 0.01, "momentum": 0.9},
    traits=["scale_free", "sign_step"],
    options={"rule": "sign_sgd", "decay": "decoupled", "first_step": "lr"},
)
class Signum(RecursiveOptimizer):
    """Descent along the sign of the momentum."""

    recursion = staticmethod(gradient_descent.sign_sgd)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, weight_decay=weight_decay, maximize=maximize
        )


@reference(
    kind="optimizer",
    formula="v ← μv + (1 − τ)g,  θ ← θ − ηv",
    source="Polyak, USSR Comput. Math. Math. Phys. 4(5), 1964; Sutskever et al., ICML 2013, §2",
    args={"lr": 0.1, "momentum": 0.9},
    options={"rule": "sgd", "decay": "coupled", "first_step": "lr * g"},
)
class HeavyBall(RecursiveOptimizer):
    """Gradient descent with momentum, Nesterov's where asked."""

    recursion = staticmethod(gradient_descent.sgd)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
            nesterov=nesterov, maximize=maximize,
        )  # fmt: skip
