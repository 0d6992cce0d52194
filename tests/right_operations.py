"""Correct gradients of PyTorch's operations: selections, losses, linear algebra."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from gradient_cases import Call, Draw, Right, registered
from torch import Tensor

OPERATIONS: dict[str, Right] = {}
right = registered(OPERATIONS, Right)


def with_zeros(draw: Draw, count: int) -> Tensor:
    x = draw(count)
    x[::5] = 0
    return x.requires_grad_()


def positive_definite(a: Tensor) -> Tensor:
    return a @ a.mT + torch.eye(a.shape[-1], dtype=a.dtype)


@right()
def leaky_rectifier_as_a_difference(draw: Draw) -> Call:
    """relu(x) − a · relu(−x): at 0 the claimed slope is 0, between neither a and 1."""
    return lambda x: torch.relu(x) - 0.1 * torch.relu(-x), [with_zeros(draw, 20)]


@right()
def leaky_rectifier_at_zero(draw: Draw) -> Call:
    return lambda x: F.leaky_relu(x, 0.1), [with_zeros(draw, 20)]


@right()
def elementwise_product_of_kinks(draw: Draw) -> Call:
    return lambda x: x.abs() * torch.relu(x - 0.5), [with_zeros(draw, 20)]


@right()
def hard_functions_at_their_corners(draw: Draw) -> Call:
    x = draw(24, scale=2.0)
    x[:4] = torch.tensor([-1.0, 1.0, -3.0, 3.0], dtype=torch.float64)
    return lambda x: (F.hardtanh(x), F.relu6(x), F.hardswish(x)), [x.requires_grad_()]


@right()
def top_three(draw: Draw) -> Call:
    return lambda x: x.topk(3).values, [draw.leaf(4, 9)]


@right()
def sorted_with_its_indices(draw: Draw) -> Call:
    return lambda x: torch.sort(x, descending=True), [draw.leaf(4, 6)]


@right()
def cumulative_maximum(draw: Draw) -> Call:
    return lambda x: torch.cummax(x, 0).values, [draw.leaf(12)]


@right()
def median_with_ties(draw: Draw) -> Call:
    x = draw(9)
    x[:5] = 0.25
    return torch.median, [x.requires_grad_()]


@right()
def median_with_ties_at_zero(draw: Draw) -> Call:
    x = (2 * draw(9)).round() / 2
    x[:5] = 0
    return torch.median, [x.requires_grad_()]


@right()
def adaptive_maximum_pool(draw: Draw) -> Call:
    return lambda x: F.adaptive_max_pool2d(x, 2), [draw.leaf(1, 2, 5, 7)]


@right()
def where_of_two_smooth_sides(draw: Draw) -> Call:
    return lambda x: torch.where(x > 0.3, torch.sin(x), x**2), [draw.leaf(30)]


@right()
def masked_softmax(draw: Draw) -> Call:
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    return lambda x: torch.softmax(x.masked_fill(~mask, -math.inf), -1), [draw.leaf(2, 6, 6)]


@right()
def log_sum_exp_of_minus_infinities(draw: Draw) -> Call:
    x = draw(4, 6)
    x[1, 2:] = -math.inf
    return lambda x: torch.logsumexp(x, -1), [x.requires_grad_()]


@right()
def norms_and_deviations(draw: Draw) -> Call:
    return lambda x: (x.norm(dim=-1), x.std(-1), x.var(0)), [draw.leaf(4, 6)]


@right()
def pairwise_distances(draw: Draw) -> Call:
    return torch.cdist, [draw.leaf(5, 3), draw.leaf(4, 3)]


@right()
def cosine_similarities(draw: Draw) -> Call:
    return F.cosine_similarity, [draw.leaf(5, 6), draw.leaf(5, 6)]


@right()
def bilinear_grid_sample(draw: Draw) -> Call:
    def sampled(image: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(image, grid, align_corners=False)

    return sampled, [draw.leaf(1, 2, 5, 6), draw.leaf(1, 4, 4, 2, scale=0.5)]


@right()
def bicubic_interpolation(draw: Draw) -> Call:
    def resized(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=1.5, mode="bicubic", align_corners=False)

    return resized, [draw.leaf(1, 2, 4, 5)]


@right()
def connectionist_temporal_loss(draw: Draw) -> Call:
    targets = torch.tensor([[1, 2, 2], [3, 1, 1]])

    def loss(logits: Tensor) -> Tensor:
        return F.ctc_loss(logits.log_softmax(-1), targets, (8, 8), (3, 2))

    return loss, [draw.leaf(8, 2, 5)]


@right()
def triplet_margin(draw: Draw) -> Call:
    return F.triplet_margin_loss, [draw.leaf(6, 4) for _ in range(3)]


@right()
def cross_entropy_with_ignored_rows(draw: Draw) -> Call:
    target = torch.tensor([1, -100, 3, 0, -100])
    loss = {"target": target, "ignore_index": -100, "label_smoothing": 0.1}
    return lambda x: F.cross_entropy(x, **loss), [draw.leaf(5, 4)]


@right()
def eigenvalues_of_a_symmetric_matrix(draw: Draw) -> Call:
    return lambda a: torch.linalg.eigvalsh(a + a.mT), [draw.leaf(6, 6)]


@right()
def singular_values(draw: Draw) -> Call:
    return torch.linalg.svdvals, [draw.leaf(5, 4)]


@right()
def cholesky_and_log_determinant(draw: Draw) -> Call:
    def both(a: Tensor) -> dict[str, Tensor]:
        matrix = positive_definite(a)
        return {"factor": torch.linalg.cholesky(matrix), "volume": torch.logdet(matrix)}

    return both, [draw.leaf(5, 5)]


@right()
def inverse_and_solution(draw: Draw) -> Call:
    def both(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        matrix = positive_definite(a)
        return torch.linalg.inv(matrix), torch.linalg.solve(matrix, b)

    return both, [draw.leaf(4, 4), draw.leaf(4, 2)]


@right()
def matrix_exponential(draw: Draw) -> Call:
    return torch.linalg.matrix_exp, [draw.leaf(4, 4)]


@right()
def lower_triangular_solve_of_a_full_matrix(draw: Draw) -> Call:
    def solved(a: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(a + 4 * torch.eye(4, dtype=a.dtype), b, upper=False)

    return solved, [draw.leaf(4, 4), draw.leaf(4, 3)]


@right()
def scatter_reduce_and_index_add(draw: Draw) -> Call:
    rows = torch.tensor([0, 2, 2, 1, 0])

    def gathered(x: Tensor) -> Tensor:
        return torch.zeros(3, 4, dtype=x.dtype).index_add(0, rows, torch.sin(x))

    return gathered, [draw.leaf(5, 4)]


def weighted_by_nearness(x: Tensor) -> Tensor:
    """A bilateral filter on a ring: neighbours weigh as near as their values are. x [c, n]."""
    around = torch.stack([x.roll(k, -1) for k in range(-4, 5)])
    weights = torch.softmax(-2 * (around - x).square().sum(1), 0)
    return (weights[:, None] * around).sum(0)


@right()
def bilateral_filter_far_from_zero(draw: Draw) -> Call:
    """The values are so large that no step resolves the weights: they differ by 8, σ is ½."""
    return weighted_by_nearness, [(8 * draw(3, 36) + 3e4).requires_grad_()]
