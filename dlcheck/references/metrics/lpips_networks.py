"""The networks whose layers LPIPS compares, and where their weights come from."""

from __future__ import annotations

import functools
import importlib.util
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Network:
    """What torchvision calls it, the file of its ImageNet weights in torch hub's cache, the
    indices in `.features` after which a layer is compared (the ReLUs of each stage), and the
    shortest side of an image that leaves every layer a pixel."""

    name: str
    file: str
    taps: tuple[int, ...]
    smallest: int


NETWORKS: Mapping[str, Network] = {
    "alex": Network("alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11), 31),
    "vgg": Network("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29), 16),
    "squeeze": Network("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12), 24),
}


@functools.cache
def backbone(net: str, weights: str | None, seed: int) -> tuple[nn.Sequential, str]:
    """The convolutional layers of a network, and where their weights come from.

    Raises ValueError for an unknown network, FileNotFoundError and ValueError for a file of
    weights that is missing, unreadable or of another network.
    """
    if net not in NETWORKS:
        raise ValueError(f"net is one of {', '.join(NETWORKS)}, not {net!r}")
    network = NETWORKS[net]
    with torch.device("meta"):  # no memory for a classifier that nothing calls
        features: nn.Sequential = getattr(torchvision.models, network.name)(weights=None).features
    features = features.to_empty(device="cpu").eval()
    cached = Path(torch.hub.get_dir()) / "checkpoints" / network.file
    path = Path(weights) if weights else cached
    if weights or path.exists():
        _load(features, path, network)
        return features, str(path)
    _randomize(features, seed)
    return features, f"random, seed {seed}"


def _load(features: nn.Sequential, path: Path, network: Network) -> None:
    state = _read(path, f"a state dict of torchvision's {network.name}")
    own = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    given, wanted = own or state, features.state_dict()
    wrong = [
        name for name in wanted if getattr(given.get(name), "shape", None) != wanted[name].shape
    ]
    if wrong:
        raise ValueError(
            f"{path} holds no weights of {network.name}: {len(wrong)} of {len(wanted)} tensors are "
            f"missing or of another shape (first {wrong[0]!r}); save the state dict of "
            f"torchvision.models.{network.name}, or choose the net that the file is for"
        )
    features.load_state_dict({name: given[name] for name in wanted})


def _read(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; weights is {what}, saved by torch.save")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} cannot be read as {what}, saved by torch.save: it may be cut off; copy it "
            "once more and compare its size"
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds {type(state).__name__}, not {what}")
    return dict(state)


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
def heads(net: str) -> tuple[Tensor, ...]:
    """The weights w_l [c, 1, 1] of every compared layer, from the installed `lpips` package."""
    found = importlib.util.find_spec("lpips")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("LPIPS needs the linear heads that the package lpips ships")
    state = _read(
        Path(found.origin).parent / "weights" / "v0.1" / f"{net}.pth", "the heads of LPIPS"
    )
    return tuple(state[f"lin{layer}.model.1.weight"][0] for layer in range(len(state)))
