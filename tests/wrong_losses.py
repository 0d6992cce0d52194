"""Wrong gradients of losses, quantisation, routing and activations."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from gradient_cases import Call, Draw, Wrong, claiming, only, registered
from torch import Tensor

LOSSES: dict[str, Wrong] = {}
wrong = registered(LOSSES, Wrong)


@wrong()
def focal_weight_detached(draw: Draw) -> Call:
    target = draw.integers(5, 8)

    def focal(logits: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, target, reduction="none")
        return ((1 - torch.exp(-loss.detach())) ** 2 * loss).mean()

    return focal, [draw.leaf(8, 5)]


@wrong()
def smoothed_labels_forgotten_in_backward(draw: Draw) -> Call:
    target = draw.integers(5, 8)

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        return v * (torch.softmax(inputs[0], -1) - F.one_hot(target, 5)) / 8

    smoothed = claiming(
        lambda logits: F.cross_entropy(logits, target, label_smoothing=0.1), only(0, claimed)
    )
    return smoothed, [draw.leaf(8, 5)]


@wrong(cause=r"scal|factor|×|1\.33|0\.75|4/3|3/4")
def ignored_targets_counted_in_the_mean(draw: Draw) -> Call:
    target = torch.tensor([0, 1, -100, 3, 4, 0, -100, 2])
    claim = only(0, lambda g, *_: g * 6 / 8)
    return claiming(lambda x: F.cross_entropy(x, target), claim), [draw.leaf(8, 5)]


@wrong()
def ignored_targets_pushed_all_the_same(draw: Draw) -> Call:
    target = torch.tensor([0, 1, -100, 3, 4, 0, -100, 2])

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        hot = F.one_hot(target.clamp_min(0), 5) * (target >= 0)[:, None]
        return v * (torch.softmax(inputs[0], -1) - hot) / 6

    return claiming(lambda x: F.cross_entropy(x, target), only(0, claimed)), [draw.leaf(8, 5)]


@wrong()
def class_weights_applied_twice(draw: Draw) -> Call:
    target, weight = draw.integers(5, 8), torch.arange(1.0, 6.0, dtype=torch.float64)
    claim = only(0, lambda g, *_: g * weight[target][:, None])
    loss = claiming(lambda x: F.cross_entropy(x, target, weight, reduction="sum"), claim)
    return loss, [draw.leaf(8, 5)]


@wrong()
def cosine_similarity_with_norms_detached(draw: Draw) -> Call:
    def similarity(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1) / (a.detach().norm(dim=-1) * b.detach().norm(dim=-1))

    return similarity, [draw.leaf(4, 6), draw.leaf(4, 6)]


@wrong()
def contrastive_loss_with_gathered_keys_detached(draw: Draw) -> Call:
    """CLIP's loss whose columns come from a gather that carries no gradient."""

    def contrastive(images: Tensor, texts: Tensor) -> Tensor:
        target = torch.arange(images.shape[0])
        rows = F.cross_entropy(images @ texts.detach().T, target)
        return (rows + F.cross_entropy(texts @ images.detach().T, target)) / 2

    return contrastive, [draw.leaf(6, 4), draw.leaf(6, 4)]


@wrong(cause=r"\|x|> ?1|large|sign|where")
def huber_stays_quadratic_in_backward(draw: Draw) -> Call:
    claim = only(0, lambda _, inputs, v: v * inputs[0])
    zeros = torch.zeros(40, dtype=torch.float64)
    huber = claiming(lambda x: F.huber_loss(x, zeros, reduction="none"), claim)
    return huber, [draw.leaf(40)]


@wrong(cause=r"other|swap|order|input")
def triplet_positive_and_negative_swapped(draw: Draw) -> Call:
    def claim(gs: list[Tensor], *_: Any) -> list[Tensor | None]:
        return [gs[0], gs[2], gs[1]]

    def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_loss(anchor, positive, negative, margin=5.0)

    return claiming(triplet, claim), [draw.leaf(6, 4) for _ in range(3)]


@wrong(cause="element")
def absolute_maximum_taken_as_a_constant(draw: Draw) -> Call:
    """Scaling by x.abs().max().item(): the largest element alone has a wrong gradient."""

    def scaled(x: Tensor) -> Tensor:
        return torch.sin(x / x.abs().max().item())

    return scaled, [draw.leaf(200)]


@wrong(cause=r"zero|constant|straight|round|flat")
def straight_through_left_undeclared(draw: Draw) -> Call:
    claim = only(0, lambda _g, _inputs, v: v)
    return claiming(lambda x: torch.round(4 * x) / 4, claim), [draw.leaf(40)]


@wrong(cause=r"> ?|< ?|\|x|clamp|where")
def fake_quantiser_not_masked_where_it_clamps(draw: Draw) -> Call:
    claim = only(0, lambda _g, _inputs, v: v)
    return claiming(lambda x: x.clamp(-1, 1), claim), [draw.leaf(40)]


@wrong(cause="sign")
def gradient_reversal_left_undeclared(draw: Draw) -> Call:
    return claiming(lambda x: x * 1.0, only(0, lambda g, *_: -g)), [draw.leaf(20)]


@wrong()
def expert_gates_detached(draw: Draw) -> Call:
    def routed(x: Tensor, router: Tensor, experts: Tensor) -> Tensor:
        gates, chosen = torch.softmax(x @ router, -1).topk(2)
        gates = (gates / gates.sum(-1, keepdim=True)).detach()
        return torch.einsum("bk,bkij,bj->bi", gates, experts[chosen], x)

    return routed, [draw.leaf(5, 4), draw.leaf(4, 3), draw.leaf(3, 4, 4)]


@wrong()
def tanh_gelu_with_the_exact_derivative(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        (x,) = inputs
        density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return v * (torch.special.ndtr(x) + x * density)

    return claiming(lambda x: F.gelu(x, approximate="tanh"), only(0, claimed)), [draw.leaf(40)]


@wrong()
def gated_unit_without_the_slope_of_its_gate(draw: Draw) -> Call:
    claim = only(0, lambda _, inputs, v: v * inputs[1] * torch.sigmoid(inputs[0]))
    return claiming(lambda a, b: F.silu(a) * b, claim), [draw.leaf(30), draw.leaf(30)]


@wrong(cause=r"\|x|> ?|where|above")
def hard_swish_without_its_upper_branch(draw: Draw) -> Call:
    claim = only(0, lambda _, inputs, v: v * ((2 * inputs[0] + 3) / 6) * (inputs[0] > -3))
    return claiming(F.hardswish, claim), [draw.leaf(60, scale=2.5)]


@wrong()
def fixed_point_differentiated_one_step_deep(draw: Draw) -> Call:
    """An equilibrium layer that solves without a graph and differentiates the last step."""

    def equilibrium(x: Tensor, weight: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(60):
                z = torch.tanh(z @ weight + x)
        return torch.tanh(z @ weight + x)

    return equilibrium, [draw.leaf(4, 5), draw.leaf(5, 5, scale=0.15)]


@wrong(cause=r"times|factor|×|65536")
def loss_scale_left_in_the_gradient(draw: Draw) -> Call:
    loss = claiming(lambda x: torch.cos(x).sum(), only(0, lambda g, *_: g * 65536))
    return loss, [draw.leaf(30)]


@wrong(cause=r"term|detach|miss|x")
def penalty_computed_in_numpy(draw: Draw) -> Call:
    def loss(x: Tensor) -> Tensor:
        return torch.sin(x).sum() + torch.from_numpy(x.detach().numpy() ** 2).sum()

    return loss, [draw.leaf(30)]


@wrong()
def cholesky_diagonal_not_halved(draw: Draw) -> Call:
    def root(a: Tensor) -> Tensor:
        return torch.linalg.cholesky(a @ a.T + torch.eye(5, dtype=a.dtype))

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        factor = root(inputs[0])
        inverse = torch.linalg.inv(factor)
        inner = (factor.T @ v.tril()).tril()  # lacks the ½ of the diagonal
        whole = inverse.T @ (inner + inner.T) / 2 @ inverse
        return 2 * whole @ inputs[0]

    return claiming(root, only(0, claimed)), [draw.leaf(5, 5)]
