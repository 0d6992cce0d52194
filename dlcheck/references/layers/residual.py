"""A residual block of convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from dlcheck.references.activations.rectifiers import relu
from dlcheck.references.layers.convolution import Conv2d
from dlcheck.references.normalization.batch_norm import BatchNorm2d
from dlcheck.registry import reference


@reference(
    kind="layer",
    formula="y = relu(x + F(x)),  F = BN ∘ conv ∘ relu ∘ BN ∘ conv",
    source="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, §3.2 and fig. 5",
    inputs={"x": "float b 3 h w"},
    args={"inplanes": 3, "planes": 3},
    traits=["nonsmooth", "twice_differentiable", "batch_coupled", "updates_buffers"],
    options={"sizes": {"b": [3, 7], "h": [1, 7], "w": [1, 7]}},
)
class BasicBlock(nn.Module):
    """relu(s(x) + F(x)): x [b, inplanes, h, w]; y [b, planes, ⌈h/stride⌉, ⌈w/stride⌉].

    F is two 3 × 3 convolutions, each with batch normalization, a ReLU between. The shortcut s is
    the identity unless `downsample` is given, which it must be where the shape changes.
    The backward adds both paths: with v̄ = v 1[y > 0], dL/dx = Js(x)ᵀ v̄ + JF(x)ᵀ v̄, so a gradient
    passes unchanged beside F however small JF is.
    """

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return relu(shortcut + self.bn2(self.conv2(inner)))
