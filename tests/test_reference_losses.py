"""Each reference loss equals torch's own or a closed form: value, gradient, second gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy.spatial.distance import jensenshannon
from torch import Tensor, distributions

from dlcheck.references.losses import (
    binary,
    contrastive,
    cross_entropy,
    distances,
    divergences,
    likelihoods,
    margins,
    regression,
    segmentation,
    sequence,
)

ROWS, CLASSES = 6, 5


def draw(kind: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """An input of the kind, the same at each call."""
    g = torch.Generator().manual_seed(sum(kind.encode()))
    x = torch.randn((ROWS, CLASSES), generator=g, dtype=torch.float64)
    made: dict[str, Callable[[], Tensor]] = {
        "labels": lambda: torch.randint(CLASSES, (ROWS,), generator=g),
        "some labels": lambda: torch.tensor([1, -100, 0, 4, -100, 2]),
        "maps": lambda: torch.randint(CLASSES, (3, 2, 4), generator=g),
        "scores of maps": lambda: torch.randn((3, CLASSES, 2, 4), generator=g).double(),
        "signs": lambda: torch.where(x[:, 0] > 0, 1.0, -1.0),
        "bits": lambda: (x > 0).double(),
        "unit": lambda: x.sigmoid(),
        "probabilities": lambda: x.softmax(-1),
        "log_probabilities": lambda: x.log_softmax(-1),
        "positive": lambda: x.exp(),
    }
    drawn = made.get(kind, lambda: 2 * x)()
    return drawn.to(dtype) if drawn.is_floating_point() else drawn


@dataclass(frozen=True)
class Twin:
    """A reference and torch's own, called alike on inputs of these kinds."""

    ours: Callable[..., Tensor]
    theirs: Callable[..., Tensor]
    kinds: tuple[str, ...] = ("x", "y")
    args: dict[str, Any] = field(default_factory=dict)
    reductions: tuple[str, ...] = ("mean", "sum", "none")
    smooth: bool = True

    def __str__(self) -> str:
        args = ",".join(f"{k}={'…' if isinstance(v, Tensor) else v}" for k, v in self.args.items())
        return f"{self.ours.__name__}({args})[{self.kinds[-1]}]"

    def inputs(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        drawn = [draw(kind, dtype) for kind in self.kinds]
        return [
            x.requires_grad_() if x.is_floating_point() and kind not in ("signs", "bits") else x
            for kind, x in zip(self.kinds, drawn, strict=True)
        ]

    def argued(self, dtype: torch.dtype) -> dict[str, Any]:
        return {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in self.args.items()}


def _torch_focal(x: Tensor, y: Tensor, *, gamma: float, alpha: float, reduction: str) -> Tensor:
    return torchvision.ops.sigmoid_focal_loss(x, y, alpha, gamma, reduction)


def _triplet(anchor: Tensor, near: Tensor, far: Tensor, **args: Any) -> Tensor:
    return F.triplet_margin_loss(anchor, near, far, eps=0.0, **args)


def _unfocused(x: Tensor, y: Tensor, *, gamma: float, reduction: str) -> Tensor:
    assert gamma == 0.0
    return F.cross_entropy(x, y, reduction=reduction)


def _log_loss(p: Tensor, t: Tensor, *, reduction: str) -> Tensor:
    """The formula: torch's second derivative adds 10⁻¹² to what it divides by."""
    terms = -t * p.log() - (1 - t) * (-p).log1p()
    return terms if reduction == "none" else getattr(terms, reduction)()


def _poisson(x: Tensor, y: Tensor, **args: Any) -> Tensor:
    return F.poisson_nll_loss(x, y, log_input=True, **args)


def _gaussian(x: Tensor, y: Tensor, s: Tensor, **args: Any) -> Tensor:
    return F.gaussian_nll_loss(x, y, s, **args)


_WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0], dtype=torch.float64)
_CE, _TORCH_CE = cross_entropy.cross_entropy, F.cross_entropy
_CLASSES = ("x", "labels")

TWINS = [
    Twin(regression.mse_loss, F.mse_loss),
    Twin(regression.l1_loss, F.l1_loss, smooth=False),
    Twin(regression.huber_loss, F.huber_loss, args={"delta": 0.7}),
    Twin(regression.smooth_l1_loss, F.smooth_l1_loss, args={"beta": 0.6}),
    Twin(regression.smooth_l1_loss, F.smooth_l1_loss, args={"beta": 0.0}, smooth=False),
    Twin(likelihoods.gaussian_nll_loss, _gaussian, ("x", "y", "positive")),
    Twin(likelihoods.gaussian_nll_loss, _gaussian, ("x", "y", "positive"), {"full": True}),
    Twin(likelihoods.gaussian_nll_loss, _gaussian, ("x", "y", "positive"), {"eps": 0.8},
         smooth=False),
    Twin(likelihoods.poisson_nll_loss, _poisson, ("x", "positive")),
    Twin(likelihoods.poisson_nll_loss, _poisson, ("x", "positive"), {"full": True}),
    Twin(_CE, _TORCH_CE, _CLASSES),
    Twin(_CE, _TORCH_CE, _CLASSES, {"weight": _WEIGHT}),
    Twin(_CE, _TORCH_CE, _CLASSES, {"label_smoothing": 0.2}),
    Twin(_CE, _TORCH_CE, ("x", "some labels"), {"label_smoothing": 0.2, "weight": _WEIGHT}),
    Twin(_CE, _TORCH_CE, _CLASSES, {"ignore_index": 2}),
    Twin(_CE, _TORCH_CE, ("scores of maps", "maps"), {"ignore_index": 2, "label_smoothing": 0.1}),
    Twin(cross_entropy.soft_cross_entropy, F.cross_entropy, ("x", "probabilities")),
    Twin(
        binary.binary_cross_entropy_with_logits,
        F.binary_cross_entropy_with_logits,
        ("x", "unit"),
    ),
    Twin(
        binary.binary_cross_entropy_with_logits,
        F.binary_cross_entropy_with_logits,
        ("x", "bits"),
        {"pos_weight": _WEIGHT},
    ),
    Twin(binary.binary_cross_entropy, F.binary_cross_entropy, ("unit", "bits"), smooth=False),
    Twin(binary.binary_cross_entropy, _log_loss, ("unit", "bits")),
    Twin(binary.binary_focal_loss, _torch_focal, ("x", "bits"), {"gamma": 2.0, "alpha": 0.25}),
    Twin(binary.binary_focal_loss, _torch_focal, ("x", "bits"), {"gamma": 1.5, "alpha": 0.6}),
    Twin(binary.focal_loss, _unfocused, _CLASSES, {"gamma": 0.0}),
    Twin(
        divergences.kl_divergence,
        F.kl_div,
        ("log_probabilities", "probabilities"),
        reductions=("sum", "none", "batchmean"),
    ),
    Twin(margins.multi_margin_loss, F.multi_margin_loss, _CLASSES, {"weight": _WEIGHT},
         smooth=False),
    Twin(margins.multi_margin_loss, F.multi_margin_loss, _CLASSES, {"p": 2, "margin": 0.6},
         smooth=False),
    Twin(distances.cosine_embedding_loss, F.cosine_embedding_loss, ("x", "y", "signs"),
         {"margin": 0.1}),
    Twin(distances.triplet_margin_loss, _triplet, ("x", "y", "z")),
    Twin(distances.triplet_margin_loss, _triplet, ("x", "y", "z"), {"p": 1.0, "margin": 4.0}),
    Twin(distances.triplet_margin_loss, _triplet, ("x", "y", "z"), {"p": 3.0, "margin": 4.0}),
]  # fmt: skip

CASES = [pytest.param(t, r, id=f"{t}-{r}") for t in TWINS for r in t.reductions]


def _close(got: Tensor, expected: Tensor, digits: float = 1e-12) -> None:
    assert got.shape == expected.shape
    assert torch.isfinite(expected).all()
    scale = max(float(expected.detach().abs().amax()), 1.0)
    torch.testing.assert_close(got, expected, rtol=0.0, atol=digits * scale)


def _derivatives(twin: Twin, loss: Callable[..., Tensor], reduction: str) -> list[list[Tensor]]:
    """Value; gradients; gradients of the gradients along one direction."""
    inputs = twin.inputs()
    wanted = [x for x in inputs if x.requires_grad]
    value = loss(*inputs, reduction=reduction, **twin.args)
    g = torch.Generator().manual_seed(3)
    v = torch.rand(value.shape, generator=g, dtype=value.dtype) + 0.5
    first = torch.autograd.grad(value, wanted, v, create_graph=twin.smooth)
    if not twin.smooth:
        return [[value], list(first)]
    along = sum((x * torch.randn(x.shape, generator=g).double()).sum() for x in first)
    second = torch.autograd.grad(along, wanted, allow_unused=True, materialize_grads=True)
    return [[value], list(first), list(second)]


@pytest.mark.parametrize(("twin", "reduction"), CASES)
def test_a_loss_and_its_derivatives_equal_those_of_torch(twin: Twin, reduction: str) -> None:
    ours = _derivatives(twin, twin.ours, reduction)
    theirs = _derivatives(twin, twin.theirs, reduction)
    for got, expected in zip(ours, theirs, strict=True):
        for one, other in zip(got, expected, strict=True):
            _close(one, other)


OTHERS = [
    Twin(regression.log_cosh_loss, regression.log_cosh_loss),
    Twin(regression.tukey_biweight_loss, regression.tukey_biweight_loss, args={"c": 3.0}),
    Twin(likelihoods.gaussian_kl, likelihoods.gaussian_kl),
    Twin(binary.focal_loss, binary.focal_loss, ("x", "some labels"), {"alpha": _WEIGHT}),
    Twin(binary.focal_loss, binary.focal_loss, ("scores of maps", "maps"), {"gamma": 0.5}),
    Twin(segmentation.dice_loss, segmentation.dice_loss, ("scores of maps", "maps")),
    Twin(segmentation.tversky_loss, segmentation.tversky_loss, ("scores of maps", "maps")),
    Twin(
        divergences.jensen_shannon_divergence,
        divergences.jensen_shannon_divergence,
        ("probabilities", "unit"),
    ),
    Twin(margins.hinge_loss, margins.hinge_loss, ("x", "bits"), smooth=False),
    Twin(margins.crammer_singer_loss, margins.crammer_singer_loss, _CLASSES, smooth=False),
    Twin(distances.contrastive_loss, distances.contrastive_loss, ("x", "y", "signs"),
         {"margin": 6.0}),
    Twin(distances.cosine_distance, distances.cosine_distance),
    Twin(contrastive.info_nce_loss, contrastive.info_nce_loss, args={"temperature": 0.5}),
    Twin(contrastive.nt_xent_loss, contrastive.nt_xent_loss),
]  # fmt: skip
ALL = [pytest.param(twin, id=str(twin)) for twin in [*TWINS, *OTHERS]]


@pytest.mark.parametrize("twin", ALL)
def test_the_derivatives_written_by_hand_are_those_of_the_value(twin: Twin) -> None:
    if "eps" in twin.args:
        pytest.skip("below its floor a variance gets the gradient of the floor, as in torch")

    def loss(*inputs: Tensor) -> Tensor:
        return twin.ours(*inputs, reduction="none", **twin.args)

    assert torch.autograd.gradcheck(loss, twin.inputs())
    if twin.smooth:
        assert torch.autograd.gradgradcheck(loss, twin.inputs())


@pytest.mark.parametrize("twin", ALL)
def test_float32_is_near_rounding_and_half_types_are_rounded_once(twin: Twin) -> None:
    inputs = [x.detach() for x in twin.inputs(torch.float32)]
    got = twin.ours(*inputs, **twin.argued(torch.float32))
    assert got.dtype == torch.float32
    doubled = [x.double() if x.is_floating_point() else x for x in inputs]
    _close(got.double(), twin.ours(*doubled, **twin.args), digits=2e-6)
    for half in (torch.bfloat16, torch.float16):
        low = [x.to(half) if x.is_floating_point() else x for x in inputs]
        widened = [x.float() if x.is_floating_point() else x for x in low]
        args = {k: v.to(half) if isinstance(v, Tensor) else v for k, v in twin.args.items()}
        wide_args = {k: v.float() if isinstance(v, Tensor) else v for k, v in args.items()}
        rounded = twin.ours(*widened, **wide_args).to(half)
        assert torch.equal(twin.ours(*low, **args), rounded), half


@pytest.mark.parametrize("twin", ALL)
def test_under_vmap_a_loss_is_that_of_each_sample(twin: Twin) -> None:
    inputs = [x.detach() for x in twin.inputs()]
    stacks = [torch.stack([x, x.roll(1, 0), x.flip(0)]) for x in inputs]
    got = torch.vmap(lambda *one: twin.ours(*one, **twin.args))(*stacks)
    for i in range(3):
        _close(got[i], twin.ours(*(x[i] for x in stacks), **twin.args))


def test_log_cosh_is_finite_far_out_and_exact_near_zero() -> None:
    x = torch.tensor([1e4, -1e4, 1e-9, 0.3], dtype=torch.float64)
    got = regression.log_cosh_loss(x, torch.zeros_like(x), reduction="none")
    expected = [1e4 - math.log(2), 1e4 - math.log(2), 5e-19, math.log(math.cosh(0.3))]
    torch.testing.assert_close(
        got, torch.tensor(expected, dtype=torch.float64), rtol=1e-15, atol=0.0
    )


def test_the_biweight_is_its_formula_and_flat_beyond_c() -> None:
    r = torch.linspace(-3, 3, 13, dtype=torch.float64)
    got = regression.tukey_biweight_loss(r, torch.zeros_like(r), reduction="none", c=2.0)
    inside = 4 / 6 * (1 - (1 - (r / 2) ** 2) ** 3)
    _close(got, torch.where(r.abs() <= 2, inside, 4 / 6))


def test_the_divergence_of_a_vae_is_that_of_normal_distributions() -> None:
    mean, log_variance = draw("x"), draw("y")
    normal = distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = distributions.kl_divergence(normal, distributions.Normal(0.0, 1.0)).sum(-1)
    _close(likelihoods.gaussian_kl(mean, log_variance, reduction="none"), expected)


def test_jensen_shannon_is_scipys_squared_and_log_2_of_what_does_not_overlap() -> None:
    p, q = draw("probabilities"), draw("unit")
    q = q / q.sum(-1, keepdim=True)
    q[0], q[1] = p[0], p[1] + 1e-5 * (p[1] - p[1].mean())
    got = divergences.jensen_shannon_divergence(p, q, reduction="none")
    _close(got, torch.from_numpy(jensenshannon(p, q, axis=-1) ** 2))
    assert got[0] == 0.0
    assert got[1] > 0.0
    apart = torch.eye(2, dtype=torch.float64)
    _close(
        divergences.jensen_shannon_divergence(apart, apart.flip(0)),
        torch.tensor(math.log(2), dtype=torch.float64),
    )


def test_a_kl_divergence_counts_impossible_outcomes_as_nothing() -> None:
    q = torch.tensor([[0.0, 0.25, 0.75]], dtype=torch.float64)
    y = torch.tensor([[-math.inf, math.log(0.25), math.log(0.75)]], dtype=torch.float64)
    y.requires_grad_()
    value = divergences.kl_divergence(y, q)
    assert value == 0.0
    assert torch.equal(torch.autograd.grad(value, y)[0], -q)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_a_focal_loss_is_its_formula_and_finite_where_all_is_right(gamma: float) -> None:
    x, y = draw("x"), draw("labels")
    p = x.softmax(1).gather(1, y.unsqueeze(1)).squeeze(1)
    expected = _WEIGHT[y] * -((1 - p) ** gamma) * p.log()
    args = {"gamma": gamma, "alpha": _WEIGHT}
    _close(binary.focal_loss(x, y, reduction="none", **args), expected)
    sure = torch.tensor([[800.0, -800.0], [-800.0, 800.0]], requires_grad=True)
    for loss, target in ((binary.focal_loss, torch.tensor([0, 0])),
                         (binary.binary_focal_loss, torch.eye(2))):  # fmt: skip
        value = loss(sure, target, gamma=gamma)
        assert torch.isfinite(value)
        assert torch.isfinite(torch.autograd.grad(value, sure)[0]).all()


def test_dice_and_tversky_count_pixels() -> None:
    labels, predicted = draw("maps"), draw("maps").flip(2)
    sure = 200.0 * F.one_hot(predicted, CLASSES).movedim(-1, 1).double()
    dice, tversky = torch.zeros(3, CLASSES).double(), torch.zeros(3, CLASSES).double()
    for c in range(CLASSES):
        is_predicted, is_label = predicted == c, labels == c
        both = (is_predicted & is_label).sum((1, 2))
        false_positives = (is_predicted & ~is_label).sum((1, 2))
        false_negatives = (~is_predicted & is_label).sum((1, 2))
        sizes = is_predicted.sum((1, 2)) + is_label.sum((1, 2))
        dice[:, c] = (2 * both + 1).double() / (sizes + 1)
        weighted = 0.3 * false_positives.double() + 0.7 * false_negatives.double()
        tversky[:, c] = (both + 1) / (both + weighted + 1)
    _close(segmentation.dice_loss(sure, labels, reduction="none"), 1 - dice.mean(1))
    _close(segmentation.tversky_loss(sure, labels, reduction="none"), 1 - tversky.mean(1))


def test_all_targets_ignored_cost_nothing_and_send_no_gradient() -> None:
    x = draw("x").requires_grad_()
    ignored = torch.full((ROWS,), -100)
    for loss in (cross_entropy.cross_entropy, binary.focal_loss):
        value = loss(x, ignored)
        assert value == 0.0
        assert not torch.autograd.grad(value, x)[0].any()


def test_an_impossible_class_costs_nothing_where_it_is_not_the_target() -> None:
    x = draw("x")
    x[:, 4] = -math.inf
    x.requires_grad_()
    y = draw("labels") % 4
    for loss in (cross_entropy.cross_entropy, binary.focal_loss):
        value = loss(x, y)
        _close(value, loss(x[:, :4], y))
        assert torch.isfinite(torch.autograd.grad(value, x)[0]).all()


def test_binary_cross_entropy_is_exact_at_the_ends() -> None:
    p = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    value = binary.binary_cross_entropy(p, t, reduction="none")
    assert value.tolist() == [0.0, 0.0, 100.0, 100.0]
    slope = torch.autograd.grad(value.sum(), p)[0]
    assert slope.tolist() == [1.0, -1.0, -1e12, 1e12]


def test_logits_of_any_size_keep_the_digits_of_a_small_loss() -> None:
    x = torch.tensor([-40.0, 40.0, -800.0, 800.0], dtype=torch.float64)
    t = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    got = binary.binary_cross_entropy_with_logits(x, t, reduction="none")
    small = math.log1p(math.exp(-40))
    expected = torch.tensor([small, small, 800.0, 800.0], dtype=torch.float64)
    torch.testing.assert_close(got, expected, rtol=1e-15, atol=0.0)
    assert got[0] > 0.0


def test_equal_vectors_get_finite_gradients() -> None:
    x = draw("x").requires_grad_()
    same = x.detach().clone().requires_grad_()
    values = [
        distances.triplet_margin_loss(x, same, same.detach()),
        distances.contrastive_loss(x, same, torch.zeros(ROWS)),
        distances.cosine_distance(x * 0.0, same),
    ]
    for value in values:
        assert torch.isfinite(torch.autograd.grad(value, x)[0]).all()
    assert float(values[1].detach()) == 0.5


def test_info_nce_and_nt_xent_are_cross_entropies_of_similarities() -> None:
    x, y = draw("x"), draw("y")
    a, b = F.normalize(x), F.normalize(y)
    expected = F.cross_entropy(a @ b.T / 0.2, torch.arange(ROWS), reduction="none")
    got = contrastive.info_nce_loss(x, y, reduction="none", temperature=0.2)
    _close(got, expected)
    z = torch.cat([a, b])
    terms = []
    for i in range(2 * ROWS):
        others = [j for j in range(2 * ROWS) if j != i]
        similar = z[i] @ z[(i + ROWS) % (2 * ROWS)] / 0.2
        terms.append((z[others] @ z[i] / 0.2).logsumexp(0) - similar)
    _close(contrastive.nt_xent_loss(x, y, reduction="none", temperature=0.2), torch.stack(terms))


def _sequences() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    logits = torch.randn((9, 4, 5), generator=g, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1, 1, 2, 4], [3, 2, 3, 1], [2, 2, 2, 1], [4, 1, 1, 1]])
    return logits, targets, torch.tensor([9, 7, 8, 4]), torch.tensor([4, 3, 3, 1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("blank", [0, 4])
def test_ctc_and_its_gradient_by_logits_equal_those_of_torch(reduction: str, blank: int) -> None:
    logits, targets, lengths, target_lengths = _sequences()
    targets = (targets + blank) % 5 if blank else targets
    found = []
    for loss in (sequence.ctc_loss, F.ctc_loss):
        y = logits.log_softmax(-1)
        value = loss(y, targets, lengths, target_lengths, reduction=reduction, blank=blank)
        found.append((value, torch.autograd.grad(value.sum(), logits)[0]))
    for got, expected in zip(*found, strict=True):
        _close(got, expected)


def test_the_gradients_of_ctc_are_those_of_its_value() -> None:
    logits, *rest = _sequences()
    short, lengths = logits.detach()[:5, :2, :].requires_grad_(), torch.tensor([5, 4])
    targets, target_lengths = rest[0][:2], torch.tensor([2, 3])

    def loss(y: Tensor) -> Tensor:
        return sequence.ctc_loss(y, targets, lengths, target_lengths, reduction="none")

    assert torch.autograd.gradcheck(loss, short)
    assert torch.autograd.gradgradcheck(loss, short)


def test_ctc_sums_over_every_alignment() -> None:
    logits, *_ = _sequences()
    y = logits.detach()[:4, :1, :3].log_softmax(-1)
    total = 0.0
    for number in range(3**4):
        path = [number // 3**t % 3 for t in range(4)]
        merged = [k for t, k in enumerate(path) if t == 0 or path[t - 1] != k]
        if [k for k in merged if k != 0] == [1, 2]:
            total += math.exp(sum(float(y[t, 0, k]) for t, k in enumerate(path)))
    one = torch.tensor([1])
    got = sequence.ctc_loss(y, torch.tensor([[1, 2]]), 4 * one, 2 * one, reduction="sum")
    _close(got, torch.tensor(-math.log(total), dtype=torch.float64))


def test_a_sequence_that_does_not_fit_costs_infinity_and_sends_no_gradient() -> None:
    logits, targets, *_ = _sequences()
    y = logits.log_softmax(-1)
    three = torch.full((4,), 3)
    value = sequence.ctc_loss(y, targets, three, three, reduction="none")
    assert torch.isinf(value).tolist() == [True, False, True, True]
    slopes = torch.autograd.grad(value[torch.isfinite(value)].sum(), logits)[0]
    assert not slopes[:, [0, 2, 3]].any()


def test_wrong_shapes_and_reductions_are_refused() -> None:
    x = draw("x")
    with pytest.raises(ValueError, match=r"prediction \[6, 1\], target \[6\]"):
        regression.mse_loss(x[:, :1], x[:, 0])
    with pytest.raises(ValueError, match="reduction is one of mean, sum, none, batchmean"):
        regression.mse_loss(x, x, reduction="average")
    with pytest.raises(ValueError, match=r"labels \[b, h, w\]"):
        segmentation.dice_loss(x, draw("labels"))
    with pytest.raises(ValueError, match=r"scores \[b, k\]"):
        margins.multi_margin_loss(x, draw("maps"))
    with pytest.raises((RuntimeError, IndexError)):
        cross_entropy.cross_entropy(x, torch.full((ROWS,), CLASSES))
