"""Kernels build for the GPUs that they are written for, whether this machine has one or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dlcheck.errors import NotApplicable
from dlcheck.lanes import ABSENT, has_triton, kernels_of
from dlcheck.measure.kernel_builds import SHARED_LIMITS, Build, built
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROW = {"out": "*fp32", "x": "*fp32", "n": "i32"}
_PRODUCT = {"out": "*fp32", "a": "*fp32", "b": "*fp32", "steps": "i32"}
_LONGEST = 300  # characters of the compiler's message


def _with_kernel(name: str, signature: Mapping[str, str], **constants: Any) -> Subject:
    """A subject with one of the kernels of `right_and_wrong`; named after it."""
    kernel = {
        "jit": f"dlcheck.checks.kernels.right_and_wrong:{name}",
        "signature": signature,
        "constexprs": constants,
    }
    return Subject(
        name=name,
        target=torch.clone,
        kind="op",
        inputs={"x": "float n"},
        options={"kernels": {name: kernel}},
    )


@check(
    kind="tensors",
    once=True,
    dtypes=["float32"],
    tags=["triton"],
    options={"kernels": True},
    rejects=[
        _with_kernel("block_of_any_size", _ROW, BLOCK=100),
        _with_kernel("sum_that_changes_type", _ROW, BLOCK=64),
        _with_kernel("cast_to_eight_bits", _ROW, BLOCK=64),
        # Tiles of 128 × 128 and 4 bytes: 128 KiB for the operands of one step, of 2 or 3 staged.
        _with_kernel("product", _PRODUCT, SIDE=128, DEPTH=128),
    ],
    accepts=[_with_kernel("copy_row", _ROW, BLOCK=128)],
)
def compiles_for_gpus(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every declared kernel compiles for every GPU, and one block's shared memory fits there.

    `options.kernels` names them with the signature and the constants of one launch; real binaries
    are built for compute capabilities 8.0, 9.0 and 10.0, or for the kernel's `targets`. The error
    counts a refusal of the compiler, or the bytes beyond what a block may use (163 KiB on 8.0, 227
    KiB on 9.0 and 10.0). Nothing is run: this needs no GPU, and says nothing of values or speed.
    The types of the build are those of the signature, whatever the trial's.
    Source: CUDA C++ Programming Guide, technical specifications per compute capability.
    """
    kernels = kernels_of(subject.declared)
    if not has_triton():
        raise NotApplicable(ABSENT)
    for build in built(kernels, subject.declared.file):
        yield _evidence(build)


def _evidence(build: Build) -> Evidence:
    where = f"compute capability {build.capability // 10}.{build.capability % 10}"
    if build.error:
        said = " ".join(build.error.split())
        return Evidence(
            error=1.0,
            bound=0.0,
            signal=1.0,
            unit="refusals",
            what=f"builds of {build.kernel} that fail",
            expected="a binary",
            got=said if len(said) <= _LONGEST else f"{said[:100]} … {said[-_LONGEST + 100 :]}",
            where=where,
        )
    limit = SHARED_LIMITS.get(build.capability, min(SHARED_LIMITS.values()))
    return Evidence(
        error=float(max(build.shared - limit, 0)),
        bound=0.0,
        signal=float(limit),
        unit="bytes",
        what=f"shared memory of {build.kernel} beyond what one block may use",
        expected=f"at most {limit} bytes",
        got=f"{build.shared} bytes",
        where=where,
        cause="the tiles are too large, or too many are staged" if build.shared > limit else "",
        values={f"shared memory of {build.kernel} on {where}": float(build.shared)},
    )
