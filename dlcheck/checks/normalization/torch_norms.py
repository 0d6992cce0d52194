"""The normalizations of torch.nn, as their documentation declares them."""

from __future__ import annotations

from typing import Any

from dlcheck.model import Subject


def _subject(name: str, inputs: str, args: dict[str, Any], **options: Any) -> Subject:
    """A normalization of torch.nn as its documentation declares it."""
    traits = {"batch_coupled", "updates_buffers"} if 0 in options["axes"] else set()
    return Subject(
        name=name,
        target=f"torch.nn:{name}",
        kind="normalization",
        args=args,
        inputs={"x": inputs},
        traits=frozenset(traits),
        options={"eps": "eps", **options},
    )


_WIDTH = {"dim": "n"}
_RUNNING = {"mean": "running_mean", "var": "running_var", "momentum": "momentum"}
TORCH = [
    _subject("LayerNorm", "float b t n", {"normalized_shape": _WIDTH}, axes=[-1]),
    _subject("RMSNorm", "float b n", {"normalized_shape": _WIDTH}, axes=[-1], centred=False),
    _subject(
        "GroupNorm",
        "float b 6 t",
        {"num_groups": 3, "num_channels": 6},
        axes=[1, 2],
        groups="num_groups",
    ),
    _subject(
        "InstanceNorm2d",
        "float b 3 h w",
        {"num_features": 3, "affine": True},
        axes=[2, 3],
        sizes={"h": [2, 9], "w": [1, 9]},
    ),
]
RUNNING = [
    _subject(
        "BatchNorm1d",
        "float b 4",
        {"num_features": 4},
        axes=[0],
        sizes={"b": [3, 17]},
        running=_RUNNING,
    ),
    _subject(
        "BatchNorm2d",
        "float b 3 h w",
        {"num_features": 3, "momentum": None},
        axes=[0, 2, 3],
        sizes={"b": [2, 9], "h": [2, 9], "w": [1, 9]},
        running=_RUNNING,
    ),
    _subject(
        "InstanceNorm1d",
        "float b 3 t",
        {"num_features": 3, "affine": True, "track_running_stats": True, "momentum": 0.3},
        axes=[2],
        sizes={"t": [2, 17]},
        running=_RUNNING,
    ),
]
FROZEN = Subject(
    name="FrozenBatchNorm2d",
    target="torchvision.ops:FrozenBatchNorm2d",
    kind="normalization",
    args={"num_features": 3},
    inputs={"x": "float b 3 h w"},
    traits=frozenset({"frozen"}),
    options={"axes": [0, 2, 3], "eps": "eps", "running": "frozen"},
)
