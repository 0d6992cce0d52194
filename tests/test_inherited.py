"""What an author need not repeat: declarations on the class, of the reference, in annotations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import dlcheck
from dlcheck.errors import DeclarationError
from dlcheck.inherited import attached, of_component
from dlcheck.model import Subject
from dlcheck.registry import catalogue
from dlcheck.selection import complete, unchecked
from dlcheck.taken import inputs_of

FILE = """
import torch
from torch import nn

class Norm(nn.Module):
    dlcheck = {"kind": "layer", "inputs": {"x": "float b d"}, "args": {"d": {"dim": "d"}},
               "traits": ["smooth"], "options": {"sizes": {"d": [3, 9]}}}

    def __init__(self, d: int) -> None:
        super().__init__()

class Wrong(nn.Module):
    dlcheck = {"kind": "layer", "input": {"x": "float b d"}}

class Computed(nn.Module):
    dlcheck = dict(kind="layer")

def double(x):
    return 2 * x

double.dlcheck = {"kind": "op", "inputs": {"x": "float n"}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return str(path)


def subject(target: object, **more: object) -> Subject:
    return Subject(name="mine", target=target, kind="", **more)


def test_a_class_carries_its_declaration(file: str) -> None:
    declared = complete(subject(f"{file}:Norm"))
    assert declared.kind == "layer"
    assert declared.inputs == {"x": "float b d"}
    assert declared.args == {"d": {"dim": "d"}}
    assert declared.traits == {"smooth"}
    assert declared.options == {"sizes": {"d": [3, 9]}}


def test_a_function_carries_its_declaration(file: str) -> None:
    assert complete(subject(f"{file}:double")).kind == "op"


def test_what_is_stated_wins(file: str) -> None:
    stated = subject(f"{file}:Norm", inputs={"x": "float n m"}, options={"sizes": {"n": [1, 2]}})
    declared = complete(stated)
    assert declared.inputs == {"x": "float n m"}
    assert declared.options == {"sizes": {"n": [1, 2]}}


@pytest.mark.parametrize(
    ("name", "said"),
    [("Wrong", "no key named 'input'. Did you mean 'inputs'?"), ("Computed", "must be a literal")],
)
def test_a_wrong_attribute_is_named_with_its_line(file: str, name: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=rf"mine\.py:\d+.*{said[:20]}"):
        attached(subject(f"{file}:{name}"))


def test_an_object_carries_its_declaration() -> None:
    class Layer(nn.Module):
        dlcheck = {"kind": "layer", "inputs": {"x": "float b d"}}  # noqa: RUF012

        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    report = dlcheck.validate(Layer, checks=["repeats_exactly"], profile="quick")
    assert report.passed, str(report)


@pytest.mark.parametrize("reference", ["torch.nn:LayerNorm", nn.LayerNorm])
def test_a_reference_lends_its_declaration(reference: object) -> None:
    class Ours(nn.Module):
        def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(normalized_shape))
            self.bias = nn.Parameter(torch.zeros(normalized_shape))
            self.eps = eps

        def forward(self, x: Tensor) -> Tensor:
            centred = x - x.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            return centred * (variance + self.eps).rsqrt() * self.weight + self.bias

    lent = of_component(reference)
    assert lent is not None
    assert lent.kind == "normalization"
    report = dlcheck.validate(
        Ours,
        reference=reference,
        args={"normalized_shape": {"dim": "d"}},
        checks=["matches_reference", "output_has_the_declared_moments"],
        profile="quick",
    )
    assert report.passed, str(report)


def test_an_unknown_reference_lends_nothing() -> None:
    assert of_component("mypkg.layers:Unheard") is None


def test_says_which_declaration_would_check_more() -> None:
    plain = complete(Subject(name="f", target=torch.tanh, kind="op", inputs={"x": "float n"}))
    missing = unchecked(plain, catalogue())
    assert "matches_reference" in missing["a reference"]
    assert "second_gradient_matches_difference" in missing["trait twice_differentiable"]
    assert "trait surrogate_gradient" not in missing  # it would exempt from other checks
    report = dlcheck.validate(torch.tanh, kind="op", inputs={"x": "float n"}, profile="quick")
    assert report.unchecked == missing
    assert "not checked, as it is not declared:" in str(report)


class Annotated(nn.Module):
    def forward(
        self, x: Float[Tensor, "*batch d"], bias: Float[Tensor, "#b d"]
    ) -> Float[Tensor, "b d"]:
        return x + bias


class Indexed(nn.Module):
    def forward(self, rows: Int[Tensor, "b t"]) -> Tensor:
        return rows.double()


def test_jaxtyping_annotations_are_inputs() -> None:
    specs = inputs_of(Subject(name="a", target=Annotated, kind="layer"))
    assert {name: str(spec) for name, spec in specs.items()} == {
        "x": "float batch d",
        "bias": "float b d",
    }


def test_an_integer_annotation_needs_its_range() -> None:
    with pytest.raises(DeclarationError, match=r"rows.*says no range"):
        inputs_of(Subject(name="a", target=Indexed, kind="layer"))
