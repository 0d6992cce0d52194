"""What a `BenchmarkPlan` times, with which sizes, and what may be wrong with what it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlcheck import domains, formulas, kinds, targets
from dlcheck.errors import DeclarationError, unknown
from dlcheck.model import BenchmarkPlan, Subject, Suite
from dlcheck.registry import Catalogue, catalogue
from dlcheck.requirements import why_absent
from dlcheck.selection import complete

Found = Iterator[tuple[tuple[str | int, ...], str]]
_OWN_AXES = ("device", "dtype")
_FORMULAS = ("items", "flops", "bytes")
_ITEMSIZE = "itemsize"
CLASS = "Benchmarks"  # where they stand in node ids: suites/speed.toml::Benchmarks::softmax[…]


def plan_problems(suite: Suite, whole: Sequence[bool] = ()) -> Found:
    """What is wrong with what the benchmarks of a suite say, with the path of its key."""
    known = catalogue()
    names = [subject.name for subject in suite.subjects]
    if suite.benchmarks and CLASS in names:
        at = ("subject", names.index(CLASS), "name")
        yield at, f"{CLASS!r} is the name of the suite's benchmarks: give the subject another"
    for i, plan in enumerate(suite.benchmarks):
        if whole and not whole[i]:
            continue
        for path, message in _of_plan(plan, suite, names, known):
            yield ("benchmark", i, *path), message


def _of_plan(plan: BenchmarkPlan, suite: Suite, names: Sequence[str], known: Catalogue) -> Found:
    if plan.subject and plan.subject not in names:
        yield ("subject",), unknown("subject in this suite", plan.subject, names)
        return
    subject = timed_subject(plan, suite)
    if why_absent(subject.requires):
        return
    yield from _of_paths(plan)
    yield from _of_arguments(plan, subject)
    kind = known.kinds.get(subject.kind or "op")
    if kind is None:
        yield ("kind",), unknown("kind", subject.kind, known.kinds, see="dlcheck list kinds")
        return
    inputs = kinds.inputs_of(kind, subject.inputs, subject.options)
    wrong = domains.problems_of(inputs, subject.args, {})
    yield from wrong
    if not wrong:
        yield from _of_sizes(plan, subject)


def _of_paths(plan: BenchmarkPlan) -> Found:
    for key, path in (("target", plan.target), ("against", plan.against)):
        if isinstance(path, str) and (problem := targets.problem_with(path, plan.file)):
            yield (key,), problem


def _of_arguments(plan: BenchmarkPlan, subject: Subject) -> Found:
    of_both: tuple[tuple[str, Any, Mapping[str, Any]], ...] = (
        ("args", subject.target, plan.args),
        ("against_args", subject.reference, plan.against_args),
    )
    for key, path, given in of_both:
        accepted = targets.argument_names(path, near=plan.file) if path is not None else None
        if accepted is None:
            continue
        for name in given:
            if name not in accepted:
                yield (key, name), unknown(f"argument of {path}", name, accepted)


def _of_sizes(plan: BenchmarkPlan, subject: Subject) -> Found:
    dims = dims_of(subject)
    swept = [axis for axis in plan.matrix if axis not in _OWN_AXES]
    sizes = size_axes(swept, plan, subject)
    for name, size in plan.sizes.items():
        if dims and name not in dims:
            yield ("sizes", name), unknown("dim of the inputs", name, dims)
        if not _is_size(size):
            yield ("sizes", name), _no_size(name, size)
    accepted = targets.argument_names(subject.target, near=plan.file)
    for axis in swept:
        if axis in sizes:
            wrong = [value for value in plan.matrix[axis] if not _is_size(value)]
            yield from ((("matrix", axis), _no_size(axis, value)) for value in wrong)
        elif accepted is not None and axis not in accepted:
            yield ("matrix", axis), unknown("axis", axis, [*_OWN_AXES, *dims, *accepted])
    if missing := [name for name in dims if name not in plan.sizes and name not in swept]:
        needed = ", ".join(f"{name} = 64" for name in missing)
        yield (
            (),
            (
                f"benchmark {plan.name!r}: dim {missing[0]!r} of its inputs has no size; give "
                f"sizes = {{ {needed} }}, or sweep over it in matrix"
            ),
        )
    yield from _of_formulas(plan, list(dict.fromkeys([*dims, *plan.sizes, *sizes])))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _no_size(name: str, value: object) -> str:
    return f"the size of {name} is a whole number from 1 on, not {value!r}"


def _of_formulas(plan: BenchmarkPlan, dims: Sequence[str]) -> Found:
    for key in _FORMULAS:
        given = getattr(plan, key)
        try:
            used = formulas.names_in(given) if given is not None else frozenset()
        except DeclarationError as error:
            yield (key,), str(error)
            continue
        for name in sorted(used - {*dims, _ITEMSIZE}) if dims else ():
            yield (key,), f"{key}: {unknown('dim of the inputs', name, [*dims, _ITEMSIZE])}"


def timed_subject(plan: BenchmarkPlan, suite: Suite) -> Subject:
    """The subject of a benchmark, completed: its own target, or that of a subject of the suite."""
    named = {subject.name: subject for subject in suite.subjects}.get(plan.subject)
    given = named or Subject(name=plan.name, target=plan.target, kind=plan.kind)
    return complete(
        replace(
            given,
            name=plan.subject or plan.name,
            kind=plan.kind or given.kind,
            args={**given.args, **plan.args},
            inputs=plan.inputs or given.inputs,
            reference=given.reference if plan.against is None else plan.against,
            reference_args={**given.reference_args, **plan.against_args},
            traits=given.traits | plan.traits,
            options={**given.options, **plan.options},
            requires=(*given.requires, *plan.requires),
            file=plan.file,
            line=plan.line,
        )
    )


def dims_of(subject: Subject) -> list[str]:
    """The dims that need a size, of a completed subject: of its inputs and of its arguments.

    Empty where the inputs are declared nowhere but in annotations, which are read when it runs.
    """
    kind = catalogue().kinds.get(subject.kind or "op")
    inputs = kinds.inputs_of(kind, subject.inputs, subject.options) if kind else subject.inputs
    specs = domains.parse_inputs(inputs).values()
    dims = [dim for spec in specs for dim in (*spec.dims, spec.count) if dim is not None]
    dims += domains.bound_dims(subject.args).values() if dims else ()
    return list(dict.fromkeys(dim.name for dim in dims if dim.name))


def size_axes(axes: Iterable[str], plan: BenchmarkPlan, subject: Subject) -> set[str]:
    """The axes that are sizes: dims, or what has a size already.

    Where the inputs are not declared: those that are no constructor argument.
    """
    dims = dims_of(subject)
    known = {*dims, *plan.sizes}
    if not dims:
        taken = targets.argument_names(subject.target, near=subject.file)
        known |= {axis for axis in axes if taken is not None and axis not in taken}
    return known & set(axes)
