"""LPIPS: a learned perceptual distance of two images."""

from __future__ import annotations

import copy
import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.references.metrics.image_inputs import Takes, checked_pair
from dlcheck.references.metrics.lpips_networks import NETWORKS, backbone, heads
from dlcheck.registry import reference

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's, for [−1, 1]


@reference(
    kind="image_metric",
    formula="Σ_l mean_hw Σ_c w_lc ( x̂_lchw − ŷ_lchw )²,  x̂ = features / ‖features‖ over channels",
    source="Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, "
    "CVPR 2018, eq. 1; the code has w where the paper has w²",
    inputs={"x": "image[-1:1] b 3 h w", "y": "image[-1:1] b 3 h w"},
    traits=["nonnegative", "symmetric", "flat_at_identity"],
    options={
        "interval": [-1, 1],
        "better": "lower",
        "distortions": ["noise", "blur", "jpeg", "contrast"],
        "perfect": 0.0,
        "range": [0, "inf"],
        "reduction": "none",
        "sizes": {"h": [64, 80], "w": [64, 80]},
    },
)
class LPIPS(nn.Module):
    """The distance of images x and y [b, 3, h, w] with values in `interval`; returns [b].

    The linear heads w ≥ 0 are those that the `lpips` package ships. The backbone is, in this
    order: the state dict in the file `weights`; ImageNet's weights, if torch hub's cache holds
    them (nothing is downloaded); random ones from `seed`, and then the distance is a random
    projection that ranks distortions well but is not the published number. `origin` says which.
    `net` is `"alex"` (sides of at least 31 pixels), `"vgg"` (16) or `"squeeze"` (24). Images that
    hold 0 to 1 are taken with `interval=(0, 1)`, which brings them to [−1, 1]. Parameters are of
    the module's type, and images are brought to it. Raises what `checked_pair` and `backbone` do.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        net: str = "alex",
        weights: str | None = None,
        seed: int = 0,
        interval: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        low, high = interval
        if not low < high:
            raise ValueError(f"interval is (lowest, highest) value of an image, not {interval}")
        self.interval = (float(low), float(high))
        features, self.origin = backbone(net, weights, seed)
        self.features = copy.deepcopy(features).to(memory_format=torch.channels_last)
        self.taps = NETWORKS[net].taps
        self.takes = Takes(
            metric="LPIPS", smallest=NETWORKS[net].smallest, why=f"for net {net!r}", colour=True
        )
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        for layer, head in enumerate(heads(net)):
            self.register_buffer(f"head{layer}", head.clone())
        self.requires_grad_(requires_grad=False)
        self.eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        low, high = self.interval
        x, y = checked_pair(x, y, self.takes, high - low, low=low)
        # On a processor one pair at a time stays in its cache.
        rows = 1 if x.device.type == "cpu" else len(x)
        pairs = zip(x.split(rows), y.split(rows), strict=True)
        return torch.cat([self._distance(torch.cat(pair)) for pair in pairs])

    def _distance(self, both: Tensor) -> Tensor:
        """Of the first half of images [2b, 3, h, w] and the second: the layers run once."""
        low, high = self.interval
        values = (both.to(self.shift) - low) * (2 / (high - low)) - 1
        values = (values - self.shift) / self.scale
        values = values.contiguous(memory_format=torch.channels_last)
        total = values.new_zeros(len(both) // 2)
        layer = 0
        for index, module in enumerate(self.features[: self.taps[-1] + 1]):
            values = module(values)
            if index in self.taps:
                first, second = _unit(values).chunk(2)
                weighted = (first - second).square() * self.get_buffer(f"head{layer}")
                total = total + weighted.sum(1).mean((1, 2))
                layer += 1
        return total

    def extra_repr(self) -> str:
        return f"backbone={self.origin}, interval={self.interval}"


class PackageLPIPS(nn.Module):
    """The `lpips` package's own module on the same backbone: a peer to check and compare with.

    Takes and means what `LPIPS` does; returns [b, 1, 1, 1].
    """

    def __init__(self, net: str = "alex", weights: str | None = None, seed: int = 0) -> None:
        super().__init__()
        self.module = copy.deepcopy(_package(net, weights, seed))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.module(x, y)  # type: ignore[no-any-return]


@functools.cache
def _package(net: str, weights: str | None, seed: int) -> nn.Module:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # torchvision's argument `pretrained` is deprecated
        import lpips

        made: nn.Module = lpips.LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False)
    # The package names a layer "slice3.6.weight" where torchvision names it "6.weight".
    own = backbone(net, weights, seed)[0].state_dict()
    layers: Any = made.net
    layers.load_state_dict({name: own[name.partition(".")[2]] for name in layers.state_dict()})
    return made.eval()


def _unit(features: Tensor) -> Tensor:
    """Features [b, c, h, w] over their norm along the channels; a zero vector stays zero."""
    norm: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (norm + 1e-10)
