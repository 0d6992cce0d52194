"""Why a right gradient of PyTorch's op database does not pass: op → explanation, in its version."""

from __future__ import annotations

EXPLAINED: dict[str, str] = {}
