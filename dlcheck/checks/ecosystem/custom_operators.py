"""A custom operator tells torch the truth about itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.ecosystem.findings import quiet, refusal
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_TESTS = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_dynamic",
)
_REMEDIES = {
    "test_schema": "the schema must say which arguments are changed: mutates_args, and no output "
    "may alias an input",
    "test_autograd_registration": "register the gradient with register_autograd",
    "test_faketensor": "register_fake must give the shapes, strides and types of the real output",
    "test_aot_dispatch_dynamic": "under torch.compile values or gradients are others than without",
}


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _product_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, y = ctx.saved_tensors
    return gradient * y, gradient * x


@torch.library.custom_op("dlcheck_proof::product", mutates_args=())
def _right(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@torch.library.custom_op("dlcheck_proof::product_without_fake", mutates_args=())
def _without_fake(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@torch.library.custom_op("dlcheck_proof::product_of_wrong_shape", mutates_args=())
def _of_wrong_shape(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@torch.library.custom_op("dlcheck_proof::product_of_wrong_type", mutates_args=())
def _of_wrong_type(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@torch.library.custom_op("dlcheck_proof::product_that_overwrites", mutates_args=())
def _that_overwrites(x: Tensor, y: Tensor) -> Tensor:
    x.mul_(y)
    return x.clone()


@torch.library.custom_op("dlcheck_proof::product_that_aliases", mutates_args=())
def _that_aliases(x: Tensor, y: Tensor) -> Tensor:
    return x


for _operator in (_right, _that_overwrites, _that_aliases):
    _operator.register_fake(lambda x, y: torch.empty_like(x))
_of_wrong_shape.register_fake(lambda x, y: x.new_empty(x.shape[:1]))
_of_wrong_type.register_fake(lambda x, y: x.new_empty(x.shape, dtype=torch.float16))
for _operator in (_right, _without_fake, _of_wrong_shape, _of_wrong_type):
    _operator.register_autograd(_product_backward, setup_context=_keep)


def _operator_subject(name: str, target: Any) -> Subject:
    return Subject(
        name=name,
        target=target,
        kind="op",
        inputs={"x": "float b n", "y": "float b n"},
        options={"ecosystem": ["opcheck"]},
    )


@check(
    kind=["op", "activation", "loss", "attention", "positional"],
    once=True,
    tags=["opt_in", "slow"],
    options={"ecosystem": ["opcheck"]},
    rejects=[
        _operator_subject("product_without_fake", _without_fake),
        _operator_subject("product_of_wrong_shape", _of_wrong_shape),
        _operator_subject("product_of_wrong_type", _of_wrong_type),
        _operator_subject("product_that_overwrites", _that_overwrites),
        _operator_subject("product_that_aliases", _that_aliases),
    ],
    accepts=[_operator_subject("custom_product", _right)],
)
def custom_operator_is_registered_rightly(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """torch.library.opcheck finds nothing: schema, fake, autograd and compilation are true.

    For an OpOverload or what torch.library.custom_op (or triton_op) returns; other functions are
    skipped. Inputs require gradients unless the subject is *nondifferentiable*. Each of the four
    tests is one piece of evidence: 1 if it refuses, where none may.
    """
    operator = _operator_of(subject.target)
    wanted = () if "nondifferentiable" in subject.traits else case.floating
    for name in _REMEDIES:
        inputs = case.fresh(requires_grad=wanted)
        with quiet():
            results: Mapping[str, object] = torch.library.opcheck(
                operator, inputs, test_utils=name, raise_exception=False
            )
        found = results[name]
        if isinstance(found, Exception):
            yield refusal(f"opcheck, {name}", found, _REMEDIES[name])
        else:
            yield Evidence(error=0.0, bound=0.0, signal=1.0, what=f"opcheck, {name}")


def _operator_of(target: Any) -> Any:
    if isinstance(target, torch._ops.OpOverloadPacket):
        return target.default
    if isinstance(target, (torch._ops.OpOverload, torch._library.custom_ops.CustomOpDef)):
        return target
    raise NotApplicable("it is no custom operator of torch.library, but a Python function")
