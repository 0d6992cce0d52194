"""The suite of layers names every public layer of torch.nn, or says why one is left out."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.loss import _Loss
from torchvision import ops

from dlcheck.suite import read_suite

FILE = Path(__file__).parents[1] / "suites" / "layers.toml"
TARGETS = {subject.target for subject in read_suite(FILE).subjects}
LEFT_OUT = {
    "Container": "deprecated, and empty",
    "Module": "abstract",
    "ModuleDict": "holds modules; is not called",
    "ModuleList": "holds modules; is not called",
    "ParameterDict": "holds parameters; is not called",
    "ParameterList": "holds parameters; is not called",
    "Sequential": "takes modules as arguments; nn.Transformer is made of them",
    "TransformerEncoder": "takes a layer as its argument; nn.Transformer is made of it",
    "TransformerDecoder": "takes a layer as its argument; nn.Transformer is made of it",
    "RNNBase": "abstract: the base of RNN, LSTM and GRU",
    "RNNCellBase": "abstract: the base of the cells",
    "DataParallel": "wraps a module for several GPUs",
    "SyncBatchNorm": "needs a process group; BatchNorm without one",
    "MaxUnpool1d": "its indices are those of a pooling, no input of their own",
    "MaxUnpool2d": "its indices are those of a pooling, no input of their own",
    "MaxUnpool3d": "its indices are those of a pooling, no input of their own",
}
TORCHVISION_LEFT_OUT = {
    "RoIAlign": "its boxes are pairs of ordered corners with a batch index",
    "RoIPool": "its boxes are pairs of ordered corners with a batch index",
    "PSRoIAlign": "its boxes are pairs of ordered corners with a batch index",
    "PSRoIPool": "its boxes are pairs of ordered corners with a batch index",
    "MultiScaleRoIAlign": "takes a dict of feature maps and lists of boxes",
    "FeaturePyramidNetwork": "takes a dict of feature maps",
}


def is_loss(layer: type) -> bool:
    """Losses have a kind of their own, and stand in other suites."""
    return issubclass(layer, _Loss) or layer.__name__.endswith("Loss") or layer.__module__.endswith(
        ("loss", "adaptive")
    )  # fmt: skip


def test_every_layer_of_torch_is_there() -> None:
    layers = {
        name: layer
        for name, layer in vars(nn).items()
        if isinstance(layer, type) and issubclass(layer, nn.Module) and not is_loss(layer)
    }
    # A lazy module becomes its eager class at the first call: the same code.
    eager = {name for name, layer in layers.items() if not issubclass(layer, LazyModuleMixin)}
    named = {target.removeprefix("torch.nn:") for target in TARGETS}
    assert eager - named == set(LEFT_OUT), "declare it in suites/layers.toml, or say why not"


def test_every_module_of_torchvision_is_there() -> None:
    modules = {
        name
        for name in ops.__all__
        if isinstance(getattr(ops, name), type) and issubclass(getattr(ops, name), nn.Module)
    }
    named = {target.removeprefix("torchvision.ops:") for target in TARGETS}
    assert modules - named == set(TORCHVISION_LEFT_OUT)
