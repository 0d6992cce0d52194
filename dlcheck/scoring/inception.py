"""Inception v3 from a file of weights, in the two forms whose features are in use.

torchvision's, and the port of the network behind the published FID (pytorch-fid's file
`pt_inception-…`, 1008 classes), which pools otherwise: averages leave the padding out, and the
last block takes maxima. The same file in the other network gives other numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dlcheck.errors import UsageError

SIDE, WIDTH = 299, 2048
_CACHED = ("inception_v3_google-0cc3c7bd.pth", "inception_v3_google-1a9a5a14.pth")
_PORT_CLASSES = 1008
_POOLED = ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c")  # blocks with a pooling branch


class Inception(nn.Module):
    """Images [b, 3, 299, 299] in [0, 1] → (pooled features [b, 2048], logits [b, k])."""

    def __init__(self, state: Mapping[str, Tensor], path: Path) -> None:
        super().__init__()
        classes = state["fc.weight"].shape[0] if "fc.weight" in state else 1000
        self.is_port = classes == _PORT_CLASSES
        with torch.device("meta"):
            self.network = torchvision.models.Inception3(
                num_classes=classes, aux_logits=False, init_weights=False
            )
        self.network.to_empty(device="cpu")
        _load(self.network, state, path)
        if self.is_port:
            for name in _POOLED:
                _pool_otherwise(getattr(self.network, f"Mixed_{name}"), last=name == "7c")
        self.head: nn.Linear = self.network.fc
        self.network.fc = nn.Identity()
        self.requires_grad_(requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = self.network(2 * images - 1)
        return features, self.head(features)


class _OtherPooling(nn.Module):
    """The pooling branch of a block, with another pooling of what the block is given."""

    def __init__(self, block: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.pool, self.branch = pool, block.get_submodule("branch_pool")
        self._given: list[Tensor] = []  # what the block is given in this call
        block.register_forward_pre_hook(self._remember)

    def _remember(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._given = [inputs[0]]

    def forward(self, pooled: Tensor) -> Tensor:
        branched: Tensor = self.branch(self.pool(self._given.pop()))
        return branched


def _pool_otherwise(block: nn.Module, *, last: bool) -> None:
    pool = nn.MaxPool2d(3, 1, 1) if last else nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    block.branch_pool = _OtherPooling(block, pool)


def from_file(weights: str | None) -> tuple[Inception, str]:
    """The network and in words where its weights are from.

    Without a file, torchvision's weights where torch hub's cache holds them. Raises UsageError for
    a file that is missing, truncated or of another network, and where there are no weights.
    """
    path = Path(weights) if weights else _cached()
    network = Inception(_state(path), path)
    if network.is_port:
        return network, f"{path} (port of the published FID's network)"
    return network, f"{path} (torchvision's network: not the published FID's, which is a port)"


def _cached() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in _CACHED:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        "there are no weights for Inception v3, and nothing is downloaded: give --weights FILE, a "
        f"state dict of torchvision's inception_v3 (as {_CACHED[0]}) or pytorch-fid's "
        "pt_inception-2015-12-05-6726825d.pth for the published FID; or other --features"
    )


def _state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise UsageError(f"there is no file of weights {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch's unpickling errors have no class in common
        raise UsageError(
            f"the weights {path} cannot be read: they should be a state dict, saved by torch.save; "
            "the file may be truncated"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"{path} holds no state dict: save network.state_dict() by torch.save")
    return state


def _load(network: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    wanted = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    wrong = [k for k, v in wanted.items() if getattr(state.get(k), "shape", None) != v.shape]
    if wrong:
        raise UsageError(
            f"{path} holds no weights of Inception v3: {len(wrong)} of {len(wanted)} tensors are "
            f"missing or of another shape, the first is {wrong[0]!r}"
        )
    network.load_state_dict({k: state[k] for k in wanted}, strict=False)
