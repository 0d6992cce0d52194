"""Triton kernels built for GPUs that this machine may lack, in a process of their own.

`python -m dlcheck.measure.kernel_builds` reads the request as JSON from its standard input and
writes what came of it, a line for each kernel and target. Another process, since kernels that the
interpreter runs cannot be built, and since a compiler may take its process with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Shared memory that one block may use, in bytes. Source: CUDA C++ Programming Guide, technical
# specifications per compute capability, "Maximum amount of shared memory per thread block".
SHARED_LIMITS: Mapping[int, int] = {
    75: 64 << 10,
    80: 163 << 10,
    86: 99 << 10,
    87: 163 << 10,
    89: 99 << 10,
    90: 227 << 10,
    100: 227 << 10,
    103: 227 << 10,
    120: 99 << 10,
}
TARGETS = (80, 90, 100)
_PATIENCE = 300  # seconds for all kernels together
_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One kernel for one compute capability: its shared memory, or why it does not compile."""

    kernel: str
    capability: int
    shared: int = 0
    error: str = ""


def built(kernels: Mapping[str, Mapping[str, Any]], near: str) -> list[Build]:
    """Build every kernel for its targets; a compiler that crashes or hangs is an error too."""
    request = json.dumps({"kernels": _plain(kernels), "near": near})
    environment = {key: text for key, text in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    # What triton does by default, said so that it need not warn.
    environment.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dlcheck.measure.kernel_builds"],
            input=request,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_PATIENCE,
            check=False,
        )
        lines, said = done.stdout, done.stderr.strip().splitlines()
        died = f"the compiler died ({done.returncode}): {' '.join(said[-1:])}"
    except subprocess.TimeoutExpired as late:
        lines = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        died = f"the compiler took more than {_PATIENCE} s"
    found = [Build(**json.loads(line)) for line in lines.splitlines() if line.startswith("{")]
    return found + _missing(kernels, found, died)


def _missing(
    kernels: Mapping[str, Mapping[str, Any]], found: list[Build], died: str
) -> list[Build]:
    """The first build of which nothing came back: what the compiler was at when it ended."""
    known = {(build.kernel, build.capability) for build in found}
    for name, kernel in kernels.items():
        for capability in kernel.get("targets", TARGETS):
            if (name, capability) not in known:
                return [Build(kernel=name, capability=capability, error=died)]
    return []


def _plain(kernels: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: dict(kernel) for name, kernel in kernels.items()}


# --- in the other process ---------------------------------------------------------------------


def _build_all(request: Mapping[str, Any]) -> None:
    for name, kernel in request["kernels"].items():
        for capability in kernel.get("targets", TARGETS):
            build = _build(name, kernel, capability, request["near"])
            sys.stdout.write(json.dumps(asdict(build)) + "\n")
            sys.stdout.flush()


def _build(name: str, kernel: Mapping[str, Any], capability: int, near: str) -> Build:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dlcheck.targets import load_target

    try:
        function = _innermost(load_target(kernel["jit"], near=near))
        constants = {key: _constant(text) for key, text in kernel.get("constexprs", {}).items()}
        signature = {**kernel["signature"], **dict.fromkeys(constants, "constexpr")}
        ordered = {argument: signature[argument] for argument in function.arg_names}
        source = ASTSource(fn=function, signature=ordered, constexprs=constants)
        options = {key: kernel[key] for key in _OPTIONS if key in kernel}
        target = GPUTarget("cuda", capability, 32)
        compiled = triton.compile(source, target=target, options=options)
        return Build(kernel=name, capability=capability, shared=int(compiled.metadata.shared))
    except Exception as error:
        return Build(kernel=name, capability=capability, error=f"{type(error).__name__}: {error}")


def _innermost(kernel: Any) -> Any:
    """The jit function below autotune and heuristics."""
    while not hasattr(kernel, "arg_names") or hasattr(kernel.fn, "arg_names"):
        kernel = kernel.fn
    return kernel


def _constant(value: Any) -> Any:
    """A compile-time constant: a number, or a type as `tl.float32`."""
    if not (isinstance(value, str) and value.startswith("tl.")):
        return value
    import triton.language as tl

    return getattr(tl, value.removeprefix("tl."))


if __name__ == "__main__":
    _build_all(json.load(sys.stdin))
