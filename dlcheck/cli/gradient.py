"""`dlcheck gradient TARGET`: is one gradient right, and which bugs in it would be found?"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcheck.cli import COULD_NOT_MEASURE, USAGE_ERROR, Parser, parse_pairs, parse_value
from dlcheck.model import Subject, Suite, Verdict

if TYPE_CHECKING:
    from dlcheck.domains import Input
    from dlcheck.gradients.evidence import GradientEvidence
    from dlcheck.gradients.self_test import SelfTest
    from dlcheck.subjects import Implementation

_CODES = {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.INCONCLUSIVE: COULD_NOT_MEASURE}
_MISSES = (3, 10, 100)  # times the certificate


def parser() -> Parser:
    made = Parser(
        prog="dlcheck gradient",
        description="Check the gradient of a function, nn.Module or autograd.Function against "
        "differences, with bounds that are derived from the measurement.",
        epilog="Example: dlcheck gradient mypkg.losses:FocalLoss --arg gamma=2.0 "
        "--inputs 'prediction=logit b k' 'target=label[k] b' --wrt prediction --self-test. "
        "Exit codes: 0 right, 1 wrong, 7 not decided, 4 a mistake in the call.",
    )
    add = made.add_argument
    add("target", help="package.module:attribute or path/file.py:attribute")
    add("--inputs", "--input", nargs="+", action="extend", default=[],
        metavar='NAME="float b n"', help="what it takes; see dlcheck list elements (read from "
        "jaxtyping annotations or its registered reference otherwise)")  # fmt: skip
    add("--args", "--arg", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="how to build it; fixed keyword arguments of a function")  # fmt: skip
    add("--size", nargs="+", action="extend", default=[], metavar="DIM=N",
        help="how long a named dim is")  # fmt: skip
    add("--wrt", nargs="+", action="extend", metavar="NAME",
        help="only these inputs and parameters (all floating ones unless told)")  # fmt: skip
    add("--mode", default="full", help="full, or lite: two directions, one memory layout")
    add("--order", type=int, default=1, help="2: the gradient of the gradient")
    add("--expect", metavar="WHAT", help="how the gradient is meant to differ from the "
        "derivative: zero, straight_through, reversed, a factor, { clip = 1.0 }, "
        "{ clip_norm = 1.0 }, or the import path of the function whose gradient it is")  # fmt: skip
    add("--regimes", nargs="+", action="extend", default=[], metavar="REGIME",
        help="further points: large, tiny, negative, zeros, ties, duplicated, odd")  # fmt: skip
    add("--reference", metavar="TARGET", help="in low precision, what is certified in float64 "
        "and compared with, instead of the target itself")  # fmt: skip
    add("--device", default="auto", help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    add("--dtype", help="float64 unless told")
    add("--seed", type=int, default=0, help="of all that is drawn")
    add("--self-test", action="store_true", help="put every known class of bug into the gradient "
        "and say which the check finds")  # fmt: skip
    add("--json", action="store_true", help="print the evidence as JSON")
    return made


def main(arguments: Sequence[str]) -> int:
    """Check one gradient and print what was found; returns the exit code."""
    import sys

    given = parser().parse_args(arguments)
    from dlcheck.errors import DeviceUnavailable, SubjectError
    from dlcheck.isolation import restored_state
    from dlcheck.raised import told

    try:
        with restored_state():
            found, tested = _examined(given)
    except DeviceUnavailable as error:
        print(f"dlcheck gradient: {error}", file=sys.stderr)
        return USAGE_ERROR
    except SubjectError as error:
        print(f"the gradient of {given.target} could not be checked: {told(error)}")
        return 1
    if given.json:
        print(json.dumps(_data(found, tested), indent=2, allow_nan=False))
    else:
        print("\n\n".join(str(part) for part in (found, tested) if part is not None))
    return _CODES[found.verdict]


def _examined(given: Any) -> tuple[GradientEvidence, SelfTest | None]:
    """The evidence, and what the self-test found where it was asked for."""
    from dlcheck.errors import GradientWarning
    from dlcheck.gradients.check import check_gradient
    from dlcheck.gradients.self_test import self_test
    from dlcheck.targets import load_target

    f, inputs = _subject(given)
    asked = {
        "wrt": given.wrt,
        "order": given.order,
        "expect": _expectation(given.expect),
        "mode": given.mode,
        "reference": None if given.reference is None else load_target(given.reference),
        "seed": given.seed,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)  # the evidence says it
        found = check_gradient(f, inputs, regimes=given.regimes, raises=False, **asked)
    return found, self_test(f, inputs, **asked) if given.self_test else None


def _expectation(text: str | None) -> Any:
    """A word, a number, a table, or an import path: the function whose gradient it is."""
    if text is None:
        return None
    value = parse_value(text)
    if isinstance(value, str) and ":" in value:
        from dlcheck.targets import load_target

        return load_target(value)
    return value


# --- the target and its inputs ------------------------------------------------------------------


def _subject(given: Any) -> tuple[Any, Any]:
    """What is called, and with which tensors; by the conventions of `dlcheck validate`."""
    import torch

    from dlcheck.runner import usable_device
    from dlcheck.settings import read_settings
    from dlcheck.strategies import materialize, typical_recipe
    from dlcheck.subjects import build, scatter_parameters
    from dlcheck.validation import found_device

    settings = read_settings({"device": given.device, "dtype": given.dtype}, Path.cwd())
    device = usable_device(found_device(next(iter(settings["device"].value), "auto")))
    dtype = getattr(torch, next(iter(settings["dtype"].value), "float64"))
    declared = _declared(given)
    specs = _inputs(declared)
    recipe = typical_recipe(declared, specs, given.seed)
    made = build(declared, recipe.sizes, device, dtype, given.seed)
    scatter_parameters(made, given.seed)
    tensors = materialize(recipe, specs, device, dtype)
    for name, spec in specs.items():
        tensors[name].requires_grad_(spec.is_floating)
    return _called(made, tensors)


def _declared(given: Any) -> Subject:
    """The target as a subject, whatever its kind. Raises UsageError for what does not fit."""
    from dataclasses import replace

    from dlcheck.errors import DeclarationError, SuiteError, TargetError, UsageError
    from dlcheck.registry import catalogue
    from dlcheck.selection import complete
    from dlcheck.suite import check_suite
    from dlcheck.targets import problem_with
    from dlcheck.validation import inferred_kind

    if problem := problem_with(given.target):  # read from source, in better words than an import's
        raise TargetError(problem)
    declared = complete(
        Subject(
            name=given.target.rpartition(":")[2],
            target=given.target,
            kind="",
            args=parse_pairs("--args", given.args),
            inputs=_texts(parse_pairs("--inputs", given.inputs)),
            options={"sizes": parse_pairs("--size", given.size)} if given.size else {},
        )
    )
    if not declared.kind:
        kinds = {"": "op", "loss": "layer"}  # nothing is asked of a loss but its gradient
        kind = inferred_kind(given.target)
        declared = replace(declared, kind=kinds.get(kind, kind))
    if catalogue().kind(declared.kind).form == "factory":
        raise UsageError(f"{declared.name} is of kind {declared.kind}, which has no gradient")
    try:
        check_suite(Suite(name="gradient", subjects=(declared,)))
    except SuiteError as error:
        raise DeclarationError("\n".join(problem.message for problem in error.problems)) from None
    return declared


def _texts(inputs: Mapping[str, object]) -> dict[str, str]:
    from dlcheck.errors import UsageError

    for name, value in inputs.items():
        if not isinstance(value, str):
            raise UsageError(f"--inputs {name}: an input is a text like 'float b n'")
    return {name: str(value) for name, value in inputs.items()}


def _inputs(declared: Subject) -> dict[str, Input]:
    from dlcheck.errors import UsageError
    from dlcheck.kinds import inputs_of as declared_inputs
    from dlcheck.registry import catalogue
    from dlcheck.taken import inputs_of

    kind = catalogue().kind(declared.kind)
    try:
        return inputs_of(declared)
    except UsageError:
        if declared_inputs(kind, declared.inputs, declared.options):
            raise  # declared, and wrong
        raise UsageError(
            f"{declared.name} does not say what it takes; write --inputs 'x=float b n' …, one "
            "for each argument (see: dlcheck list elements)"
        ) from None


def _called(made: Implementation, tensors: Mapping[str, Any]) -> tuple[Any, Any]:
    """f and its inputs: by name where f has these names, in the declared order otherwise."""
    from dlcheck.arrangement import arranged

    target, module = made.target, made.module
    called = target if module is None else module.forward
    arguments = arranged(made.kind, made.declared, tuple(tensors.values()), {})
    is_plain = len(arguments) == len(tensors)
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # builtins have none
        by_name = False
    else:
        by_name = is_plain and _takes_by_name(signature, tensors)
        _hold_callable(made, signature, arguments, tensors if by_name else None)
    if module is not None:
        return module, tensors if by_name else list(arguments)

    def f(**named: Any) -> Any:
        if by_name:
            return target(**named)
        return target(*arranged(made.kind, made.declared, tuple(named.values()), {}))

    return f, tensors


def _takes_by_name(signature: inspect.Signature, names: Mapping[str, Any]) -> bool:
    allowed = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {name for name, each in signature.parameters.items() if each.kind in allowed}
    return set(names) <= known


def _hold_callable(
    made: Implementation,
    signature: inspect.Signature,
    arguments: Sequence[Any],
    named: Mapping[str, Any] | None,
) -> None:
    """Raise UsageError where the arguments do not fit the signature."""
    from dlcheck.errors import UsageError

    try:
        if named is None:
            signature.bind(*arguments)
        else:
            signature.bind(**named)
    except TypeError as error:
        raise UsageError(
            f"{made.declared.name}{signature} cannot be called with these inputs: {error}; see "
            "--inputs and --args"
        ) from None


# --- JSON ---------------------------------------------------------------------------------------


def _data(found: GradientEvidence, tested: SelfTest | None) -> dict[str, Any]:
    """The evidence as JSON-safe data; NaN and infinity are texts."""
    from dataclasses import asdict

    from dlcheck.results import plain

    numbers = (
        *("error", "bound", "signal", "certificate", "looks", "what", "expected", "got", "cause"),
        *("reason", "forwards", "backwards", "localisation", "notes", "seed"),
    )
    data = {"verdict": found.verdict.value, **{name: getattr(found, name) for name in numbers}}
    data["miss"] = {f"{r} × certificate": found.miss(r) for r in _MISSES}
    data["element"] = None if found.element is None else asdict(found.element)
    data["tensors"] = [asdict(tensor, dict_factory=_worded) for tensor in found.tensors]
    if tested is not None:
        outcomes = [{"outcome": each.outcome, "remark": each.remark} for each in tested.classes]
        data["self_test"] = {
            "summary": tested.summary,
            "left_out": tested.left_out,
            "classes": [
                {**asdict(each, dict_factory=_worded), **said}
                for each, said in zip(tested.classes, outcomes, strict=True)
            ],
        }
    return dict(plain(data))


def _worded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: v.value if isinstance(v, Verdict) else v for name, v in pairs}
