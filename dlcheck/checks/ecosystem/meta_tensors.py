"""Shapes can be had without numbers: on the meta device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dlcheck.checks.ecosystem.findings import refusal
from dlcheck.checks.ecosystem.fragile_computations import (
    CallsAnOperatorWithoutAFake,
    HasAWrongFake,
    MakesItsTableOnTheCpu,
    ReadsANumberOfItsGain,
)
from dlcheck.checks.ecosystem.fragile_modules import made_by
from dlcheck.errors import SubjectError
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded


@check(
    kind="tensors",
    once=True,
    tags=["opt_in"],
    options={"ecosystem": ["meta"]},
    rejects=[
        made_by(MakesItsTableOnTheCpu),
        made_by(ReadsANumberOfItsGain),
        made_by(CallsAnOperatorWithoutAFake),
        made_by(HasAWrongFake),
    ],
    accepts=[
        Subject(
            name="convolution_on_meta",
            target=nn.Conv2d,
            kind="layer",
            args={"in_channels": 2, "out_channels": 3, "kernel_size": 3},
            inputs={"x": "float b 2 h w"},
            options={"ecosystem": ["meta"], "sizes": {"h": [3, 9], "w": [3, 9]}},
        ),
        Subject(
            name="softmax_on_meta",
            target=nn.functional.softmax,
            kind="op",
            args={"dim": -1},
            inputs={"x": "float b n"},
            options={"ecosystem": ["meta"]},
        ),
    ],
)
def survives_meta_device(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """On the meta device a call gives tensors of the shapes and types that it really gives.

    A copy of the subject is moved to meta, the inputs too: nothing is computed. A constant that
    is made without a device, or a number that Python reads of a tensor, is refused. The error
    counts the outputs whose shape or type is another one, the bound is 0.
    """
    expected = [_said(y) for y in subject.tensors(*case.fresh())]
    meta = torch.device("meta")
    try:
        made = _moved(subject, meta)
        found = [_said(y) for y in made.tensors(*(x.to(meta) for x in case.fresh()))]
    except SubjectError as error:
        yield refusal("a call on the meta device", error, _remedy(error))
        return
    wrong = sum(one != two for one, two in zip(found, expected, strict=False))
    yield Evidence(
        error=float(wrong + abs(len(found) - len(expected))),
        bound=0.0,
        signal=float(len(expected)),
        unit="outputs",
        what="outputs whose shape or type on the meta device is another one",
        expected="; ".join(expected),
        got="; ".join(found),
        cause="the fake of a custom operator says another shape" if wrong else "",
    )


def _moved(subject: Implementation, device: torch.device) -> Implementation:
    """A copy of the subject that has moved to the device, as model.to does it."""
    if subject.module is None:
        return subject
    return replace(subject, target=guarded(copy.deepcopy(subject.module).to, device))


def _said(y: Any) -> str:
    return f"{str(y.dtype).removeprefix('torch.')} {list(y.shape)}"


def _remedy(error: Exception) -> str:
    said = str(error)
    if "device" in said:
        return "a constant is made without a device; give it device=x.device, or register it"
    if "item()" in said:
        return "Python reads a number of a tensor, which has none here"
    return ""
