"""Each reference equals torch's own operation: value, gradient, second gradient, under vmap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dlcheck.references.activations import rectifiers, sigmoids, softmax
from dlcheck.references.attention import multi_head, online_softmax, scaled_dot_product
from dlcheck.references.layers import (
    adaptive_pooling,
    convolution,
    embedding,
    linear,
    pooling,
    residual,
)
from dlcheck.references.normalization import batch_norm, group_norm, layer_norm
from dlcheck.references.positional import rotary, sinusoidal
from dlcheck.references.recurrent import gru, lstm


@dataclass(frozen=True)
class Twin:
    """A reference and torch's own, built with the same arguments, and shapes of their inputs."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        args = ",".join(f"{name}={value}" for name, value in self.args.items())
        return f"{self.ours.__name__}({args}){list(self.shapes[0])}"

    @property
    def has_batch(self) -> bool:
        """Is the first axis that of samples?"""
        return len(self.shapes[0]) > 1 + getattr(self.ours, "rank", 0)

    def built(self, dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Both, with the same parameters."""
        torch.manual_seed(1)
        if not isinstance(self.theirs, type):
            return _bound(self.ours, self.args), _bound(self.theirs, self.args)
        theirs = self.theirs(**self.args).to(dtype)
        if not isinstance(self.ours, type):
            return _bound(self.ours, self.args), theirs
        ours = self.ours(**self.args).to(dtype)
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        ours.load_state_dict(theirs.state_dict())
        return ours, theirs


def _bound(function: Callable[..., Any], args: dict[str, Any]) -> Callable[..., Any]:
    return lambda *inputs: function(*inputs, **args)


def conv(ours: type, theirs: type, *shape: int, **args: Any) -> Twin:
    return Twin(ours, theirs, (shape,), {"in_channels": 4, "out_channels": 6, **args})


ACTIVATIONS = [
    Twin(rectifiers.relu, F.relu, ((5, 7),)),
    Twin(rectifiers.silu, F.silu, ((5, 7),)),
    Twin(rectifiers.gelu, nn.GELU, ((5, 7),)),
    Twin(rectifiers.gelu, nn.GELU, ((5, 7),), {"approximate": "tanh"}),
    Twin(rectifiers.softplus, nn.Softplus, ((5, 7),)),
    Twin(rectifiers.softplus, nn.Softplus, ((5, 7),), {"beta": 2.5, "threshold": 3.0}),
    Twin(sigmoids.sigmoid, torch.sigmoid, ((5, 7),)),
    Twin(sigmoids.tanh, torch.tanh, ((5, 7),)),
    Twin(softmax.softmax, F.softmax, ((5, 7),), {"dim": -1}),
    Twin(softmax.softmax, F.softmax, ((5, 3, 7),), {"dim": 1}),
    Twin(softmax.log_softmax, F.log_softmax, ((5, 7),), {"dim": -1}),
]
CONVOLUTIONS = [
    conv(convolution.Conv1d, nn.Conv1d, 3, 4, 11, kernel_size=3),
    conv(convolution.Conv1d, nn.Conv1d, 4, 11, kernel_size=3, stride=2, padding=1),
    conv(convolution.Conv1d, nn.Conv1d, 3, 4, 12, kernel_size=2, stride=3, dilation=2, groups=2),
    conv(convolution.Conv1d, nn.Conv1d, 3, 4, 9, kernel_size=4, padding="same", dilation=2),
    conv(convolution.Conv2d, nn.Conv2d, 2, 4, 7, 5, kernel_size=(3, 2), stride=(1, 2)),
    conv(convolution.Conv2d, nn.Conv2d, 2, 4, 5, 8, kernel_size=3, stride=2, padding=(2, 1)),
    conv(convolution.Conv2d, nn.Conv2d, 2, 4, 9, 8, kernel_size=3, dilation=(2, 3), groups=2),
    conv(convolution.Conv2d, nn.Conv2d, 2, 4, 5, 5, kernel_size=2, padding=1,
         padding_mode="reflect"),
    conv(convolution.Conv2d, nn.Conv2d, 2, 4, 5, 5, kernel_size=1, stride=3),
    conv(convolution.Conv3d, nn.Conv3d, 2, 4, 3, 5, 4, kernel_size=2, padding=1, groups=2),
    conv(convolution.Conv3d, nn.Conv3d, 1, 4, 5, 5, 4, kernel_size=(3, 1, 2), stride=(2, 1, 3)),
]  # fmt: skip
POOLINGS = [
    Twin(pooling.MaxPool1d, nn.MaxPool1d, ((3, 2, 11),), {"kernel_size": 3}),
    Twin(pooling.MaxPool1d, nn.MaxPool1d, ((2, 10),),
         {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True}),
    Twin(pooling.MaxPool2d, nn.MaxPool2d, ((2, 3, 7, 8),),
         {"kernel_size": (2, 3), "stride": (3, 2), "padding": (1, 1), "ceil_mode": True}),
    Twin(pooling.MaxPool2d, nn.MaxPool2d, ((2, 3, 9, 7),), {"kernel_size": 2, "stride": 1}),
    Twin(pooling.AvgPool1d, nn.AvgPool1d, ((3, 2, 11),), {"kernel_size": 3, "padding": 1}),
    Twin(pooling.AvgPool1d, nn.AvgPool1d, ((2, 11),),
         {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True,
          "count_include_pad": False}),
    Twin(pooling.AvgPool2d, nn.AvgPool2d, ((2, 3, 7, 8),),
         {"kernel_size": (2, 3), "stride": 2, "padding": 1, "ceil_mode": True}),
    Twin(pooling.AvgPool2d, nn.AvgPool2d, ((3, 7, 8),), {"kernel_size": 3, "divisor_override": 5}),
    Twin(adaptive_pooling.AdaptiveAvgPool1d, nn.AdaptiveAvgPool1d, ((3, 2, 11),),
         {"output_size": 4}),
    Twin(adaptive_pooling.AdaptiveAvgPool2d, nn.AdaptiveAvgPool2d, ((2, 3, 7, 5),),
         {"output_size": (3, None)}),
]  # fmt: skip
NORMALIZATIONS = [
    Twin(layer_norm.LayerNorm, nn.LayerNorm, ((3, 5, 7),), {"normalized_shape": 7}),
    Twin(layer_norm.LayerNorm, nn.LayerNorm, ((3, 5, 7),),
         {"normalized_shape": [5, 7], "eps": 0.1, "bias": False}),
    Twin(layer_norm.LayerNorm, nn.LayerNorm, ((3, 5),),
         {"normalized_shape": 5, "elementwise_affine": False}),
    Twin(layer_norm.RMSNorm, nn.RMSNorm, ((3, 5, 7),), {"normalized_shape": 7}),
    Twin(layer_norm.RMSNorm, nn.RMSNorm, ((3, 5, 7),),
         {"normalized_shape": [5, 7], "eps": 0.1, "elementwise_affine": False}),
    Twin(group_norm.GroupNorm, nn.GroupNorm, ((3, 6, 5),), {"num_groups": 3, "num_channels": 6}),
    Twin(group_norm.GroupNorm, nn.GroupNorm, ((2, 6, 3, 4),),
         {"num_groups": 1, "num_channels": 6, "affine": False}),
    Twin(batch_norm.BatchNorm1d, nn.BatchNorm1d, ((7, 3),), {"num_features": 3}),
    Twin(batch_norm.BatchNorm1d, nn.BatchNorm1d, ((5, 3, 4),),
         {"num_features": 3, "momentum": 0.3, "affine": False}),
    Twin(batch_norm.BatchNorm2d, nn.BatchNorm2d, ((3, 2, 4, 5),),
         {"num_features": 2, "momentum": None}),
    Twin(batch_norm.BatchNorm3d, nn.BatchNorm3d, ((2, 2, 3, 4, 5),),
         {"num_features": 2, "eps": 0.1, "track_running_stats": False}),
]  # fmt: skip
LINEAR = [
    Twin(linear.Linear, nn.Linear, ((3, 5, 7),), {"in_features": 7, "out_features": 2}),
    Twin(linear.Linear, nn.Linear, ((7,),), {"in_features": 7, "out_features": 3, "bias": False}),
]
ATTENTION = [
    Twin(ours, F.scaled_dot_product_attention, shapes, args)
    for ours in (
        scaled_dot_product.scaled_dot_product_attention,
        online_softmax.online_softmax_attention,
    )
    for shapes, args in [
        (((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)), {}),
        (((3, 5, 4), (3, 5, 4), (3, 5, 4)), {"is_causal": True}),
        (((2, 3, 5, 4), (2, 3, 9, 4), (2, 3, 9, 4)), {"is_causal": True, "scale": 0.7}),
    ]
]
BUILT_ALIKE = [*ACTIVATIONS, *CONVOLUTIONS, *POOLINGS, *NORMALIZATIONS, *LINEAR, *ATTENTION]


def inputs_of(twin: Twin, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in twin.shapes
    ]


def derivatives(
    function: Callable[..., Any], inputs: list[Tensor], *, second: bool
) -> list[Tensor]:
    """Value, gradients of inputs and parameters, and gradients of a product with the gradients."""
    generator = torch.Generator().manual_seed(3)

    def like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)

    parameters = list(function.parameters()) if isinstance(function, nn.Module) else []
    wrt = [*inputs, *parameters]
    outputs = [y for y in flat(function(*inputs)) if y.requires_grad]
    cotangents = [like(y).requires_grad_() for y in outputs]
    first = torch.autograd.grad(outputs, wrt, cotangents, create_graph=second)
    if not second:
        return [*outputs, *first]
    again = sum((g * like(g)).sum() for g in first)
    both = torch.autograd.grad(again, [*wrt, *cotangents], materialize_grads=True)
    return [*outputs, *first, *both]


def flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [y for part in value for y in flat(part)]


def assert_alike(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * (1 + largest(b)))


def largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0


@pytest.mark.parametrize("twin", BUILT_ALIKE, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_derivatives_are_those_of_torch(
    twin: Twin, dtype: torch.dtype, tolerance: float
) -> None:
    ours, theirs = twin.built(dtype)
    second = dtype == torch.float64
    a = derivatives(ours, inputs_of(twin, dtype), second=second)
    with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
        b = derivatives(theirs, inputs_of(twin, dtype), second=second)
    assert_alike(a, b, tolerance)


@pytest.mark.parametrize("twin", BUILT_ALIKE, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_rounded_once(twin: Twin, dtype: torch.dtype) -> None:
    narrow, _ = twin.built(dtype)
    with torch.no_grad():
        given = [x.detach() for x in inputs_of(twin, dtype)]
        got = narrow(*given)
        if isinstance(narrow, nn.Module):
            narrow.float()
        exact = narrow(*(x.float() for x in given))
    assert got.dtype == dtype
    torch.testing.assert_close(got, exact.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("twin", BUILT_ALIKE, ids=str)
def test_vmap_is_a_loop(twin: Twin) -> None:
    """Values and gradients of stacked inputs under vmap are those of each in turn."""
    ours, _ = twin.built(torch.float64)
    if isinstance(ours, nn.Module) and any(True for _ in ours.buffers()):
        ours.eval()  # running statistics cannot move under vmap
    samples = [[x.detach() for x in inputs_of(twin, torch.float64, seed)] for seed in range(3)]

    def gradient(*inputs: Tensor) -> tuple[Tensor, ...]:
        def loss(*given: Tensor) -> Tensor:
            return ours(*given).sin().sum()

        return torch.func.grad(loss, tuple(range(len(inputs))))(*inputs)

    stacked = [torch.stack(x) for x in zip(*samples, strict=True)]
    for call in (lambda *given: (ours(*given),), gradient):
        together = torch.func.vmap(call)(*stacked)
        apart = [torch.stack(y) for y in zip(*(call(*x) for x in samples), strict=True)]
        assert_alike(list(together), apart, 1e-12)


@pytest.mark.parametrize("twin", [twin for twin in BUILT_ALIKE if twin.has_batch], ids=str)
def test_an_empty_batch_stays_empty(twin: Twin) -> None:
    ours, _ = twin.built(torch.float64)
    given = [x.detach()[:0].requires_grad_() for x in inputs_of(twin, torch.float64)]
    ours(*given).sum().backward()
    assert all(x.grad is not None and x.grad.shape == x.shape for x in given)


SATURATED = [0.0, -0.0, 1e-300, -1e-9, 15.0, -15.0, 19.999, 40.0, -40.0, 700.0, -800.0, 1e30, -1e30]


@pytest.mark.parametrize("twin", ACTIVATIONS[:8], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_activations_saturate_without_overflow(twin: Twin, dtype: torch.dtype) -> None:
    ours, theirs = twin.built(dtype)
    top = torch.finfo(dtype).max
    x = torch.tensor([*SATURATED, top, -top], dtype=torch.float64).clamp(-top, top).to(dtype)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    ours(a).sum().backward()
    theirs(b).sum().backward()
    assert torch.isfinite(ours(x)).all()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    # torch too is right in absolute terms wherever the activation is not the identity, but that
    # its GELU doubles before it halves (2.14): the largest number overflows.
    u = float(torch.finfo(dtype).eps)
    finite = torch.isfinite(theirs(x))
    assert bool(finite[x.abs() < top].all())
    torch.testing.assert_close(ours(x)[finite], theirs(x)[finite], rtol=4 * u, atol=16 * u)
    assert b.grad is not None
    finite = torch.isfinite(b.grad)  # torch's approximate GELU overflows in x³
    torch.testing.assert_close(a.grad[finite], b.grad[finite], rtol=4 * u, atol=16 * u)


@pytest.mark.parametrize("function", [rectifiers.gelu, rectifiers.silu, sigmoids.sigmoid])
def test_lower_tails_keep_their_digits(function: Callable[[Tensor], Tensor]) -> None:
    """What is tiny is right to its last digits in float32, not only in absolute terms."""
    x = torch.linspace(-12, -1, 45, dtype=torch.float64)
    single, double = (x.to(d).requires_grad_() for d in (torch.float32, torch.float64))
    ys = function(single), function(double)
    torch.testing.assert_close(ys[0].double(), ys[1], rtol=2e-5, atol=0)


def test_nan_passes_through_relu() -> None:
    assert rectifiers.relu(torch.tensor([torch.nan, -1.0])).isnan().tolist() == [True, False]


def test_gelu_refuses_other_approximations() -> None:
    with pytest.raises(ValueError, match="'sigmoid'"):
        rectifiers.gelu(torch.zeros(1), "sigmoid")


# --- layers that are called otherwise ----------------------------------------------------------


@pytest.mark.parametrize("args", [{}, {"padding_idx": -2}, {"scale_grad_by_freq": True}], ids=str)
def test_embedding_sums_the_gradient_of_repeated_rows(args: dict[str, Any]) -> None:
    theirs = nn.Embedding(5, 3, **args).double()
    ours = embedding.Embedding(5, 3, **args).double()
    assert args.get("padding_idx") is None or not ours.weight[-2].any()
    ours.load_state_dict(theirs.state_dict())
    index = torch.tensor([[0, 3, 3], [4, 3, 0]])
    assert_alike(
        derivatives(lambda w: ours(index), [ours.weight], second=False),
        derivatives(lambda w: theirs(index), [theirs.weight], second=False),
        1e-14,
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "shape"),
    [
        (nn.MaxPool1d, pooling.MaxPool1d, (2, 3, 9)),
        (nn.MaxPool2d, pooling.MaxPool2d, (2, 3, 9, 6)),
    ],
)
def test_max_pooling_says_where(
    theirs: type[nn.Module], ours: type[nn.Module], shape: tuple[int, ...]
) -> None:
    x = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(0)).double()
    x[0] = -torch.inf  # padding is no element, whatever its value
    args = {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True}
    for a, b in zip(ours(**args)(x), theirs(**args)(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("momentum", [0.1, 0.0, None])
def test_batch_norm_keeps_the_statistics_that_torch_keeps(momentum: float | None) -> None:
    ours = batch_norm.BatchNorm2d(3, momentum=momentum).double()
    theirs = nn.BatchNorm2d(3, momentum=momentum).double()
    generator = torch.Generator().manual_seed(0)
    for n in (2, 5, 3):
        x = 4 + 3 * torch.randn(n, 3, 2, 3, generator=generator, dtype=torch.float64)
        ours(x), theirs(x)
    assert_alike(list(ours.buffers()), list(theirs.buffers()), 1e-13)
    a = derivatives(ours.eval(), [x.clone().requires_grad_()], second=True)
    b = derivatives(theirs.eval(), [x.clone().requires_grad_()], second=True)
    assert_alike(a, b, 1e-12)


def test_normalization_bears_a_mean_far_from_zero() -> None:
    """At mean 3·10⁴ the deviations are known to 2⁻¹⁰ in float32, and are used to that."""
    x = 3e4 + torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    exact = nn.LayerNorm(64).double()(x.double())
    got = layer_norm.LayerNorm(64)(x)
    torch.testing.assert_close(got.double(), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: batch_norm.BatchNorm1d(3), (1, 3)),
        (lambda: batch_norm.BatchNorm2d(3), (2, 3, 4)),
        (lambda: layer_norm.LayerNorm(3), (2, 4)),
        (lambda: layer_norm.RMSNorm([2, 3]), (2, 4, 3)),
        (lambda: group_norm.GroupNorm(2, 4), (2, 3, 4)),
    ],
)
def test_normalizations_refuse_other_shapes(
    build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"channel|axes"):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: convolution.Conv1d(3, 4, 2, groups=2), "do not divide into 2"),
        (lambda: convolution.Conv2d(3, 4, (2, 2, 2)), "3 values for 2 axes"),
        (lambda: convolution.Conv2d(3, 4, 2, padding="full"), "'same', 'valid'"),
        (lambda: pooling.MaxPool1d(2, padding=2), "more than half"),
        (lambda: adaptive_pooling.AdaptiveAvgPool2d((1, 2, 3)), "does not give 2 sizes"),
        (lambda: embedding.Embedding(3, 2, padding_idx=3), "3 rows"),
        (lambda: group_norm.GroupNorm(2, 3), "do not divide into 2"),
        (lambda: multi_head.MultiheadAttention(6, 4), "do not divide into 4"),
        (lambda: rotary.rotary_embedding(torch.zeros(2, 3)), "pairs"),
        (lambda: sinusoidal.sinusoidal_positions(torch.zeros(2, 3)), "pairs"),
    ],
)
def test_wrong_arguments_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("stride", [1, 2])
def test_residual_block_is_that_of_torchvision(stride: int) -> None:
    Their = torchvision.models.resnet.BasicBlock

    def shortcut(conv: type[nn.Module], norm: type[nn.Module]) -> nn.Module | None:
        return None if stride == 1 else nn.Sequential(conv(3, 3, 1, stride=stride), norm(3))

    theirs = Their(3, 3, stride, shortcut(nn.Conv2d, nn.BatchNorm2d)).double()
    mine = shortcut(convolution.Conv2d, batch_norm.BatchNorm2d)
    ours = residual.BasicBlock(3, 3, stride, mine).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = derivatives(ours, [x.clone().requires_grad_()], second=True)
    b = derivatives(theirs, [x.clone().requires_grad_()], second=True)
    assert_alike(a, b, 1e-11)


# --- attention -------------------------------------------------------------------------------


def masked_case(seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Query, key, value, and a mask in which one query sees nothing, one a single key."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)
    inputs = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    mask = torch.rand(2, 1, 5, 7, generator=generator) < 0.6
    mask[0, 0, 1], mask[1, 0, 2] = False, torch.arange(7) == 6
    return inputs, mask


ATTENTIONS = [
    scaled_dot_product.scaled_dot_product_attention,
    online_softmax.online_softmax_attention,
]


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("causal", [False, True])
def test_masked_attention_is_that_of_torch(
    attention: Callable[..., Tensor], *, causal: bool
) -> None:
    inputs, mask = masked_case()
    seen = mask & torch.ones(5, 7, dtype=torch.bool).tril() if causal else mask

    def theirs(*given: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(*given, attn_mask=seen)

    def ours(*given: Tensor) -> Tensor:
        return attention(*given, attn_mask=mask, is_causal=causal)

    a = derivatives(ours, inputs, second=True)
    assert_alike(a, derivatives(theirs, inputs, second=True), 1e-12)
    assert not a[0][0, :, 1].any()  # it sees no key


@pytest.mark.parametrize("tile", [1, 2, 3, 6, 7, 8])
def test_tiles_change_nothing(tile: int) -> None:
    inputs, mask = masked_case()
    assert_alike(
        derivatives(
            lambda *x: online_softmax.online_softmax_attention(*x, mask, tile=tile),
            inputs, second=True,
        ),
        derivatives(
            lambda *x: scaled_dot_product.scaled_dot_product_attention(*x, mask),
            inputs, second=True,
        ),
        1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_key_mask_broadcasts_over_queries(attention: Callable[..., Tensor]) -> None:
    inputs, _ = masked_case()
    keys = torch.tensor([True, False, True, True, False, True, False])
    half = attention(*inputs, attn_mask=keys)
    torch.testing.assert_close(half, attention(*inputs, attn_mask=keys.expand(2, 3, 5, 7)))
    rows = torch.tensor([True, True, False, True, True]).unsqueeze(1)
    whole = attention(*inputs, attn_mask=rows)
    torch.testing.assert_close(whole, attention(*inputs, attn_mask=rows.expand(2, 3, 5, 7)))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_large_logits_do_not_overflow(attention: Callable[..., Tensor]) -> None:
    inputs, _ = masked_case()
    large = [1e8 * inputs[0].detach(), inputs[1].detach(), inputs[2].detach()]
    found = attention(*large)
    picked = (large[0] @ large[1].mT).argmax(-1, keepdim=True).expand(2, 3, 5, 6)
    torch.testing.assert_close(found, large[2].gather(-2, picked))


def test_a_mask_of_numbers_is_refused() -> None:
    inputs, mask = masked_case()
    with pytest.raises(TypeError, match="boolean"):
        scaled_dot_product.scaled_dot_product_attention(*inputs, attn_mask=mask.double())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention_is_that_of_torch(*, batch_first: bool, bias: bool) -> None:
    args = {"embed_dim": 6, "num_heads": 3, "bias": bias, "batch_first": batch_first}
    theirs, ours = nn.MultiheadAttention(**args).double(), multi_head.MultiheadAttention(**args)
    ours.double().load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, n, 6) if batch_first else (n, 2, 6) for n in (5, 7, 7)]
    inputs = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    padding = torch.tensor([[False] * 5 + [True] * 2, [False, True] * 3 + [False]])
    pairs = torch.rand(6, 5, 7, generator=generator) < 0.3
    pairs[..., 0] = False
    for masks in ({}, {"key_padding_mask": padding}, {"attn_mask": pairs, "need_weights": True},
                  {"attn_mask": pairs[0], "key_padding_mask": padding}):  # fmt: skip
        a, b = ours(*inputs, **masks), theirs(*inputs, **masks)
        assert_alike(flat(a), flat(b), 1e-12)
        given = [*inputs, *ours.parameters()], [*inputs, *theirs.parameters()]
        assert_alike(
            list(torch.autograd.grad(a[0].square().sum() + a[1].sin().sum(), given[0])),
            list(torch.autograd.grad(b[0].square().sum() + b[1].sin().sum(), given[1])),
            1e-12,
        )
    assert ours(*inputs, need_weights=False)[1] is None


# --- positions -------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_embedding_multiplies_by_complex_phases(*, interleaved: bool) -> None:
    x = torch.randn(2, 3, 7, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frequencies = 500.0 ** -(torch.arange(0, 10, 2, dtype=torch.float64) / 10)
    phases = torch.exp(1j * torch.outer(torch.arange(7, dtype=torch.float64), frequencies))
    pairs = x.unflatten(-1, (5, 2)) if interleaved else x.unflatten(-1, (2, 5)).mT
    turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * phases)
    expected = (turned if interleaved else turned.mT).flatten(-2)
    given = x.requires_grad_()
    y = rotary.rotary_embedding(given, 500.0, interleaved)
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(y.norm(dim=-1), given.norm(dim=-1), rtol=1e-13, atol=1e-13)
    (back,) = torch.autograd.grad(y, given, y)  # Rᵀ R x = x
    torch.testing.assert_close(back, given, rtol=1e-13, atol=1e-13)
    assert torch.autograd.gradgradcheck(
        lambda z: rotary.rotary_embedding(z, 500.0, interleaved), (given[:1, :1, :3],)
    )


def test_sinusoidal_positions_follow_the_formula() -> None:
    table = sinusoidal.sinusoidal_positions(torch.zeros(9, 6, dtype=torch.float64))
    for t in range(9):
        for i in range(3):
            angle = torch.tensor(t * 10000.0 ** (-2 * i / 6), dtype=torch.float64)
            assert abs(table[t, 2 * i] - angle.sin()) < 1e-15
            assert abs(table[t, 2 * i + 1] - angle.cos()) < 1e-15


def test_angles_of_late_tokens_are_exact_in_float32() -> None:
    late = sinusoidal.sinusoidal_positions(torch.zeros(100_000, 2))[-1]
    exact = torch.tensor(99_999.0, dtype=torch.float64)
    torch.testing.assert_close(late[0], exact.sin().float(), rtol=0, atol=6e-8)


# --- recurrent -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs", "states"), [(lstm.LSTM, nn.LSTM, 2), (gru.GRU, nn.GRU, 1)]
)
def test_recurrent_layers_are_those_of_torch(
    ours: type, theirs: type, states: int, layers: int, *, bias: bool, batch_first: bool
) -> None:
    args = {"num_layers": layers, "bias": bias, "batch_first": batch_first}
    a, b = ours(3, 5, **args).double(), theirs(3, 5, **args).double()
    a.load_state_dict(b.state_dict())
    generator = torch.Generator().manual_seed(0)
    shape = (2, 7, 3) if batch_first else (7, 2, 3)
    shapes = [shape, *[(layers, 2, 5)] * states]
    inputs = [
        torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes
    ]

    def called(m: nn.Module, *parts: Tensor) -> list[Tensor]:
        x, *state = parts
        return flat(m(x, tuple(state) if states == 2 else state[0]))

    assert_alike(flat(a(inputs[0])), flat(b(inputs[0])), 1e-12)  # from zeros
    second = layers == 1
    found = [
        derivatives_of_module(m, lambda *parts, m=m: called(m, *parts), inputs, second=second)
        for m in (a, b)
    ]
    assert_alike(*found, 1e-12)


def derivatives_of_module(
    module: nn.Module, call: Callable[..., list[Tensor]], inputs: list[Tensor], *, second: bool
) -> list[Tensor]:
    wrt = [*inputs, *module.parameters()]
    return derivatives(lambda *_: call(*inputs), wrt, second=second)
