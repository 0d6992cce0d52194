"""`dlcheck new KIND`: a suite to fill in. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dlcheck.cli import Parser
from dlcheck.errors import UsageError
from dlcheck.model import Kind, Reference
from dlcheck.registry import Catalogue, catalogue
from dlcheck.suite import to_toml_value


def main(arguments: Sequence[str]) -> int:
    """Print a suite, or write it to a file; returns the exit code."""
    parser = Parser(prog="dlcheck new", description="Begin a suite for a kind.")
    parser.add_argument("kind", help="see dlcheck list kinds")
    parser.add_argument("--target", help="package.module:attribute of your implementation")
    parser.add_argument("--name", help="name of the subject")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there; never overwrites")
    given = parser.parse_args(arguments)
    kind = catalogue().kind(given.kind)
    text = skeleton(kind, catalogue(), target=given.target, name=given.name)
    if not given.output:
        print(text, end="")
        return 0
    path = Path(given.output)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already; choose another name") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    print(f"wrote {path}; run it: dlcheck run {path}")
    return 0


def skeleton(kind: Kind, known: Catalogue, *, target: str | None, name: str | None) -> str:
    """A suite for a kind, with every option of the kind as a comment."""
    model = next((r for r in known.references.values() if r.kind == kind.name), None)
    target = target or (model.target if model else "mypkg.module:Name")
    name = name or target.rpartition(":")[2].replace(".", "_")
    lines = [
        f"suite = {to_toml_value(name)}",
        f'claim = "What this {kind.name} promises, in one line."',
        "",
        "[defaults]",
        'matrix = { device = ["cpu", "cuda"], dtype = ["float64"] }',
        "",
        "[[subject]]",
        f"name = {to_toml_value(name)}",
        f"target = {to_toml_value(target)}",
        f'kind = "{kind.name}"  # called {kind.call}',
        *_inputs(kind, model),
        *_options(kind, model),
        '# args = { bias = false, width = { dim = "n" } }  # how to build it',
        "# traits = []  # what else is true of it: dlcheck list traits --kind " + kind.name,
        '# checks = ["*"]  # globs; every check that applies, if absent',
        "#",
        "# [[subject.expect_failure]]  # strict: fails if the check passes",
        '# check = "the_name_of_a_check"',
        '# reason = "why, with the issue that will mend it"',
    ]
    return "\n".join(lines) + "\n"


def _inputs(kind: Kind, model: Reference | None) -> Iterator[str]:
    if kind.by_task:
        for task, inputs in kind.by_task.items():
            yield f"# task {task}: inputs = {to_toml_value(dict(inputs))}"
        return
    inputs = kind.inputs or (model.inputs if model else {}) or {"x": "float b n"}
    comment = "" if not kind.inputs else "# "
    yield f"{comment}inputs = {to_toml_value(dict(inputs))}  # see dlcheck list elements"


def _options(kind: Kind, model: Reference | None) -> Iterator[str]:
    chosen: dict[str, object] = dict(model.options) if model else {}
    if kind.by_task and "task" not in chosen:
        chosen["task"] = next(iter(kind.by_task))
    for option in sorted(
        kind.named & set(chosen)
    ):  # the model's argument need not be the subject's
        if isinstance(chosen[option], str) and chosen[option] not in kind.values[option]:
            given = model.args.get(str(chosen[option])) if model else None
            chosen[option] = next(iter(kind.values[option]), "") if given is None else given
    for option in sorted(kind.required - set(chosen)):
        chosen[option] = _PLACEHOLDERS.get(option, "")
    if chosen:
        yield f"options = {to_toml_value(chosen)}"
    for option, meaning in kind.options.items():
        if option not in chosen:
            yield f"# options.{option}: {meaning}"


# A valid value for the options without which a kind cannot be checked.
_PLACEHOLDERS: dict[str, object] = {"axes": [-1], "by": "global_norm"}
