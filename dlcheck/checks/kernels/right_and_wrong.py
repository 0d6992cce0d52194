"""Triton kernels that build and kernels that do not: what `compiles_for_gpus` is proved with.

The wrong ones run in Triton's interpreter, all of them: only a compiler refuses them. Triton reads
annotations as types of the kernel, so arguments have none.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def copy_row(out, x, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def product(out, a, b, steps, SIDE: tl.constexpr, DEPTH: tl.constexpr):
    """out [SIDE, SIDE] = Σ over steps of a [SIDE, DEPTH] · b [DEPTH, SIDE], staged in shared
    memory."""
    side, depth = tl.arange(0, SIDE), tl.arange(0, DEPTH)
    total = tl.zeros((SIDE, SIDE), dtype=tl.float32)
    for step in range(0, steps):
        left = tl.load(a + side[:, None] * DEPTH + depth[None, :] + step * SIDE * DEPTH)
        right = tl.load(b + depth[:, None] * SIDE + side[None, :] + step * SIDE * DEPTH)
        total += tl.dot(left, right)
    tl.store(out + side[:, None] * SIDE + side[None, :], total)


@triton.jit
def block_of_any_size(out, x, n, BLOCK: tl.constexpr):
    """tl.arange takes powers of two; BLOCK is declared as 100."""
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def sum_that_changes_type(out, x, n, BLOCK: tl.constexpr):
    """The accumulator begins as an integer and becomes a float: its type may not change."""
    total = 0
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.sum(tl.load(x + at, mask=at < n, other=0.0), axis=0)
    tl.store(out, total)


@triton.jit
def cast_to_eight_bits(out, x, n, BLOCK: tl.constexpr):
    """A type of eight bits that compute capability 8.0 does not have."""
    at = tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < n).to(tl.float8e4nv)
    tl.store(out + at, value.to(tl.float32), mask=at < n)
