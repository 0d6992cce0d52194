"""LPIPS: a learned perceptual distance of two images."""

from __future__ import annotations

import copy
import functools
import importlib.util
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dlcheck.registry import reference

# network → (torchvision's name, the file of its ImageNet weights in torch hub's cache, the
# indices in `.features` after which a layer is compared: the ReLUs of each stage)
_NETWORKS: Mapping[str, tuple[str, str, tuple[int, ...]]] = {
    "alex": ("alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11)),
    "vgg": ("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29)),
    "squeeze": ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12)),
}
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's, for [−1, 1]


@reference(
    kind="image_metric",
    formula="Σ_l mean_hw Σ_c w_lc ( x̂_lchw − ŷ_lchw )²,  x̂ = features / ‖features‖ over channels",
    source="Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, "
    "CVPR 2018, eq. 1; the code has w where the paper has w²",
    inputs={"x": "image[-1:1] b 3 h w", "y": "image[-1:1] b 3 h w"},
    traits=["nonnegative", "symmetric"],
    options={
        "interval": [-1, 1],
        "better": "lower",
        "perfect": 0.0,
        "range": [0, "inf"],
        "reduction": "none",
        "sizes": {"h": [64, 80], "w": [64, 80]},
    },
)
class LPIPS(nn.Module):
    """The distance of images x and y [b, 3, h, w] with values in [−1, 1]; returns [b].

    The linear heads w ≥ 0 are those that the `lpips` package ships. The backbone is, in this
    order: the state dict in the file `weights`; ImageNet's weights, if torch hub's cache holds
    them (nothing is downloaded); random ones from `seed`, and then the distance is a random
    projection that ranks distortions well but is not the published number. `origin` says which.
    `net` is `"alex"` (sides of at least 31 pixels), `"vgg"` (16) or `"squeeze"` (24).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex", weights: str | None = None, seed: int = 0) -> None:
        super().__init__()
        features, self.origin = _backbone(net, weights, seed)
        self.features = copy.deepcopy(features)
        self.taps = _NETWORKS[net][2]
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        for layer, head in enumerate(_heads(net)):
            self.register_buffer(f"head{layer}", head.clone())
        self.requires_grad_(requires_grad=False)
        self.eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        # One batch of both: the convolutions run once, on twice the rows.
        values = (torch.cat([x, y]) - self.shift) / self.scale
        total = x.new_zeros(len(x))
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
        return f"backbone={self.origin}"


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
    own = _backbone(net, weights, seed)[0].state_dict()
    backbone: Any = made.net
    backbone.load_state_dict({name: own[name.partition(".")[2]] for name in backbone.state_dict()})
    return made.eval()


def _unit(features: Tensor) -> Tensor:
    """Features [b, c, h, w] over their norm along the channels; a zero vector stays zero."""
    norm: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (norm + 1e-10)


@functools.cache
def _backbone(net: str, weights: str | None, seed: int) -> tuple[nn.Sequential, str]:
    """The convolutional layers of a network, and where their weights come from."""
    if net not in _NETWORKS:
        raise ValueError(f"net is one of {', '.join(_NETWORKS)}, not {net!r}")
    name, file, _ = _NETWORKS[net]
    with torch.device("meta"):  # no memory for a classifier that nothing calls
        features: nn.Sequential = getattr(torchvision.models, name)(weights=None).features
    features = features.to_empty(device="cpu").eval()
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    path = Path(weights) if weights else cached
    if weights or cached.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = {
            k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")
        }
        features.load_state_dict(own or state)
        return features, str(path)
    _randomize(features, seed)
    return features, f"random, seed {seed}"


@torch.no_grad()
def _randomize(features: nn.Sequential, seed: int) -> None:
    """torch's own default: weights and biases uniform in ±1/√fan_in."""
    generator = torch.Generator().manual_seed(seed)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            limit = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters(recurse=False):
                parameter.uniform_(-limit, limit, generator=generator)


@functools.cache
def _heads(net: str) -> tuple[Tensor, ...]:
    """The weights w_l [c, 1, 1] of every compared layer, from the installed `lpips` package."""
    found = importlib.util.find_spec("lpips")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("LPIPS needs the linear heads that the package lpips ships")
    path = Path(found.origin).parent / "weights" / "v0.1" / f"{net}.pth"
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return tuple(state[f"lin{layer}.model.1.weight"][0] for layer in range(len(state)))
