"""What `@check` and `@reference` declare, read from source or taken from the decorator.

The arguments of both decorators are literal, so that a catalogue of everything can be read without
importing any of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlcheck import domains, kinds, sources
from dlcheck.errors import DeclarationError, unknown
from dlcheck.model import NOTHING, STATEMENT_VERDICTS, Check, Kind, Reference, Statement
from dlcheck.sources import NoModule

_CHECK_LITERALS = (
    "kind", "needs", "forbids", "options", "dtypes", "regimes", "tags", "once", "textbook"
)  # fmt: skip
_REFERENCE_LITERALS = ("kind", "formula", "source", "inputs", "args", "traits", "options")


def place_of(declared: Check | Reference) -> str:
    """The import path of what is declared."""
    return declared.function if isinstance(declared, Check) else declared.target


def read_package(name: str) -> Iterator[Check | Reference]:
    """Every check and reference declared in a module, or below a package, in order of path.

    Raises NoModule where there is none, DeclarationError for what is declared wrongly.
    """
    source = sources.find_source(name)
    if source is None:
        raise NoModule(sources.why_missing(name))
    if source.suffix == ".py" and source.name != "__init__.py":
        yield from read_module(name, source)
        return
    root = source if source.is_dir() else source.parent
    if source == sources.OPAQUE:
        raise NoModule(f"{name} has no source to read")
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join([name, *(part for part in parts if part != "__init__")])
        yield from read_module(module, path)


def read_module(module: str, path: Path) -> Iterator[Check | Reference]:
    """Every check and reference declared in one file. Raises DeclarationError."""
    seen: dict[str, int] = {}
    for node in _declarations(path):
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and (noun := _called(decorator.func)):
                declared = _read(noun, node, decorator, module, path)
                if node.name in seen:
                    first = seen[node.name]
                    raise DeclarationError(
                        f"{path}:{declared.line}: {noun} {node.name!r} is already defined in "
                        f"line {first}; choose another name"
                    )
                seen[node.name] = declared.line
                yield declared


_DECORATOR = re.compile(r"^@(?:\w+\.)?(?:check|reference)\(", re.MULTILINE)
# From a decorator through its `def` or `class` to the end of the docstring.
_HEAD = re.compile(
    r"^@(?:\w+\.)?(?:check|reference)\((?s:.*?)\n(?:def|class) (?s:.*?)\n    r?\"\"\"(?s:.*?)\"\"\""
    r"[ \t]*$",
    re.MULTILINE,
)


def _declarations(path: Path) -> Iterable[ast.FunctionDef | ast.ClassDef]:
    """The decorated definitions of a file.

    Only their heads are parsed, which is a fraction of the file; where the text is not laid out
    as this file's own style has it, all of it is.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        text = "@check("
    count = len(_DECORATOR.findall(text))
    if not count:
        return []
    heads = [_head(match, text) for match in _HEAD.finditer(text)]
    if len(heads) == count and None not in heads:
        return [node for node in heads if node is not None]
    body = sources.parse_source(path).body
    return [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def _head(match: re.Match[str], text: str) -> ast.FunctionDef | ast.ClassDef | None:
    """One decorated definition without its body; None if the text is not just that."""
    if any(text.count(quotes, 0, match.start()) % 2 for quotes in ('"""', "'''")):
        return None  # it stands in a string
    try:
        tree = ast.parse(match[0])
    except (SyntaxError, ValueError):
        return None
    node = tree.body[0]
    if len(tree.body) > 1 or not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return None
    if len(node.body) > 1 or ast.get_docstring(node) is None:
        return None
    return ast.increment_lineno(node, text.count("\n", 0, match.start()))


def _called(function: ast.expr) -> str:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name if name in ("check", "reference") else ""


def _read(
    noun: str, node: ast.FunctionDef | ast.ClassDef, call: ast.Call, module: str, path: Path
) -> Check | Reference:
    where = f"{path}:{call.lineno}: {noun} {node.name!r}"
    names = _CHECK_LITERALS if noun == "check" else _REFERENCE_LITERALS
    live = ("rejects", "accepts") if noun == "check" else ()
    if call.args:
        raise DeclarationError(f"{where}: the arguments of @{noun} are given by name")
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise DeclarationError(f"{where}: write the arguments out; ** cannot be read")
        if keyword.arg in live:
            arguments[keyword.arg] = _names_of(keyword.value)
        elif keyword.arg in names:
            arguments[keyword.arg] = _literal(keyword, path)
        else:
            message = unknown(f"argument of @{noun}", keyword.arg, [*names, *live])
            raise DeclarationError(f"{path}:{keyword.value.lineno}: {message}")
    make = make_check if noun == "check" else make_reference
    return make(
        name=node.name,
        doc=ast.get_docstring(node) or "",
        where=f"{module}:{node.name}",
        file=str(path),
        line=min(decorator.lineno for decorator in node.decorator_list),
        **arguments,
    )


def _literal(keyword: ast.keyword, path: Path) -> Any:
    try:
        return ast.literal_eval(keyword.value)
    except (ValueError, TypeError):
        raise DeclarationError(
            f"{path}:{keyword.value.lineno}: {keyword.arg} must be a literal, for it is read "
            f"without importing the file; found {ast.unparse(keyword.value)}"
        ) from None


def _names_of(node: ast.expr) -> tuple[str, ...]:
    parts = node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]
    return tuple(ast.unparse(part) for part in parts)


def make_check(
    *,
    name: str,
    doc: str,
    where: str,
    file: str,
    line: int,
    kind: str | Sequence[str] = (),
    rejects: Sequence[str] = (),
    accepts: Sequence[str] = (),
    needs: Iterable[str] = (),
    forbids: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
    dtypes: Sequence[str] = (),
    regimes: Sequence[str] = (),
    tags: Iterable[str] = (),
    once: bool = False,
    textbook: Mapping[str, str] = NOTHING,
) -> Check:
    declared = {"needs": needs, "forbids": forbids, "dtypes": dtypes, "regimes": regimes}
    for argument, value in {**declared, "tags": tags}.items():
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise DeclarationError(
                f"{file}:{line}: check {name!r}: {argument} is a collection of names, not {value!r}"
            )
    if not kind:
        raise DeclarationError(f"{file}:{line}: check {name!r} needs a kind")
    if not isinstance(options, Mapping):
        raise DeclarationError(f"{file}:{line}: check {name!r}: options is a dict, not {options!r}")
    if not doc:
        raise DeclarationError(f"{file}:{line}: check {name!r} needs a docstring: its claim")
    if not rejects:
        raise DeclarationError(
            f"{file}:{line}: check {name!r} rejects nothing: name at least one mutant that it "
            "must reject, for a check that cannot fail is no check"
        )
    return Check(
        name=name,
        claim=first_line(doc),
        kinds=kinds.spelled_out([kind] if isinstance(kind, str) else kind),
        function=where,
        file=file,
        line=line,
        doc=doc,
        needs=frozenset(needs),
        forbids=frozenset(forbids),
        options=options,
        dtypes=tuple(dtypes),
        regimes=tuple(regimes),
        tags=frozenset(tags),
        once=once,
        rejects=tuple(rejects),
        accepts=tuple(accepts),
        textbook=_statement(textbook, f"{file}:{line}: check {name!r}: textbook"),
    )


def _statement(declared: Mapping[str, str], where: str) -> Statement | None:
    if not declared:
        return None
    if not isinstance(declared, Mapping):
        raise DeclarationError(f"{where} is a dict, not {declared!r}")
    for key, value in declared.items():
        if key not in ("id", "says", "verdict", "condition"):
            message = unknown("key", key, ["id", "says", "verdict", "condition"])
            raise DeclarationError(f"{where}: {message}")
        if not isinstance(value, str) or not value:
            raise DeclarationError(f"{where}: {key} is text, not {value!r}")
    if missing := [key for key in ("id", "says", "verdict") if key not in declared]:
        raise DeclarationError(f"{where} needs {' and '.join(missing)}")
    if not re.fullmatch(r"[A-Z]+[0-9]+", declared["id"]):
        raise DeclarationError(
            f"{where}: id is letters and a number, as R1, not {declared['id']!r}"
        )
    if declared["verdict"] not in STATEMENT_VERDICTS:
        message = unknown("verdict", declared["verdict"], STATEMENT_VERDICTS)
        raise DeclarationError(f"{where}: {message}")
    if (declared["verdict"] == "true") is ("condition" in declared):
        says = "has no condition" if "condition" in declared else "needs its condition"
        raise DeclarationError(f"{where}: a statement that is {declared['verdict']!r} {says}")
    return Statement(**declared)


def make_reference(
    *,
    name: str,
    doc: str,
    where: str,
    file: str,
    line: int,
    kind: str = "",
    formula: str = "",
    source: str = "",
    inputs: Mapping[str, str] = NOTHING,
    args: Mapping[str, Any] = NOTHING,
    traits: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
) -> Reference:
    for argument, value in {"kind": kind, "formula": formula, "source": source}.items():
        if not value or not isinstance(value, str):
            raise DeclarationError(f"{file}:{line}: reference {name!r} needs a {argument}")
    for argument, table in {"inputs": inputs, "args": args, "options": options}.items():
        if not isinstance(table, Mapping):
            raise DeclarationError(
                f"{file}:{line}: reference {name!r}: {argument} is a dict, not {table!r}"
            )
    if isinstance(traits, str) or not isinstance(traits, Iterable):
        raise DeclarationError(
            f"{file}:{line}: reference {name!r}: traits is a collection of names, not {traits!r}"
        )
    for path, message in domains.problems_of(inputs, args, options):
        raise DeclarationError(f"{file}:{line}: reference {name!r}, {'.'.join(path)}: {message}")
    return Reference(
        name=name,
        kind=kind,
        target=where,
        formula=formula,
        source=source,
        file=file,
        line=line,
        inputs=inputs,
        args=args,
        traits=frozenset(traits),
        options=options,
        doc=doc,
    )


def refuse_unknown_names(declared: Check | Reference, known: Mapping[str, Kind]) -> None:
    """Raise DeclarationError for a kind, trait or option that does not exist."""
    place = f"{declared.file}:{declared.line}: {declared.name}"
    named = declared.kinds if isinstance(declared, Check) else (declared.kind,)
    for name in named:
        if name != "*" and name not in known:
            raise DeclarationError(f"{place}: {unknown('kind', name, known)}")
    own = known.values() if "*" in named else [known[name] for name in named]
    traits = {trait for kind in own for trait in kinds.traits_of(kind)}
    options = {option for kind in own for option in kinds.options_of(kind)} | {"reference"}
    used = declared.traits if isinstance(declared, Reference) else declared.needs | declared.forbids
    for trait in sorted(used):
        if trait not in traits:
            raise DeclarationError(f"{place}: {unknown('trait', trait, traits)}")
    for option in declared.options:
        if option not in options:
            raise DeclarationError(f"{place}: {unknown('option', option, options)}")


def first_line(doc: str) -> str:
    """The first sentence-line of a docstring: a check's claim."""
    paragraph = doc.strip().split("\n\n")[0]
    return " ".join(part.strip() for part in paragraph.splitlines())
