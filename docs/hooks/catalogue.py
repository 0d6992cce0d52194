"""The catalogue: every check, kind, reference, trait, option and element, from the registry.

Reads sources; imports no torch. Nothing of it is committed: it is written when the site is built.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from markup import cell, code, codes, escaped, page, prose, table

from dlcheck import kinds
from dlcheck.domains import ELEMENTS
from dlcheck.model import PROFILES, Check, Kind, Reference
from dlcheck.registry import Catalogue, catalogue
from dlcheck.sources import definition

# Folders whose checks are of many kinds.
_GENERAL = ("every", "trust", "ecosystem", "gradients", "kernels")
PACKAGE = Path(kinds.__file__).parent
# The folders below dlcheck/checks, as a heading calls them.
_TITLES = {
    "every": "Values, gradients, symmetries: every kind",
    "trust": "Trust: stale, borrowed and uninitialised memory",
    "ecosystem": "Ecosystem: compile, export, autocast, copies",
    "gradients": "Gradients",
    "kernels": "Triton kernels",
    "metrics": "Metrics of distributions and images",
}


@functools.cache
def pages() -> dict[str, str]:
    """Path below docs/ → Markdown, for all of the catalogue."""
    known = catalogue()
    found = {
        "catalogue/index.md": _index(known),
        "catalogue/declarations.md": _declarations(known),
    }
    for folder, checks in _folders(known).items():
        found[f"catalogue/checks/{folder}.md"] = _checks(folder, checks, known)
    for kind in known.kinds.values():
        found[f"catalogue/kinds/{kind.name}.md"] = _kind(kind, known)
    by_kind = sorted(known.references.values(), key=lambda each: each.kind)
    for name, references in groupby(by_kind, key=lambda each: each.kind):
        found[f"catalogue/references/{name}.md"] = _references(name, list(references))
    return found


def navigation(found: Iterable[str]) -> list[dict[str, object]]:
    """The entries of the menu for the pages of the catalogue."""
    menu: list[dict[str, object]] = []
    menu.append({"Overview": "catalogue/index.md"})
    menu.append({"What can be declared": "catalogue/declarations.md"})
    for title, folder in (("Checks", "checks"), ("Kinds", "kinds"), ("References", "references")):
        inside = sorted(each for each in found if each.startswith(f"catalogue/{folder}/"))
        menu.append({title: inside})
    return menu


def _folders(known: Catalogue) -> dict[str, list[Check]]:
    """Checks by the folder that they stand in; those of other packages together."""
    found: dict[str, list[Check]] = {}
    for check in known.checks.values():
        found.setdefault(_folder(check), []).append(check)
    return {name: sorted(found[name], key=lambda each: each.name) for name in sorted(found)}


def _folder(check: Check) -> str:
    path = Path(check.file)
    if not path.is_relative_to(PACKAGE / "checks"):
        return "other_packages"
    return path.relative_to(PACKAGE / "checks").parts[0].removesuffix(".py")


def _title(folder: str) -> str:
    return _TITLES.get(folder, folder.replace("_", " ").capitalize())


def _index(known: Catalogue) -> str:
    mutants = sum(len(check.rejects) for check in known.checks.values())
    rows = [
        [
            f"[{code(kind.name)}](kinds/{kind.name}.md)",
            code(kind.call),
            cell(kind.summary),
            str(len(known.checks_of(kind.name))),
            str(sum(each.kind == kind.name for each in known.references.values())),
        ]
        for kind in known.kinds.values()
    ]
    folders = [
        [f"[{_title(folder)}](checks/{folder}.md)", str(len(checks)), cell(_few(checks))]
        for folder, checks in _folders(known).items()
    ]
    return page(
        "# Catalogue",
        f"{len(known.checks)} checks, which reject {mutants:,} broken subjects between them, and "
        f"{len(known.references)} references. Written from the registry when this site was built; "
        "`dlcheck list` and `dlcheck explain NAME` say the same of your installation.",
        "## Kinds",
        table(["kind", "called as", "what it is", "checks", "references"], rows),
        "## Checks",
        table(["about", "checks", "such as"], folders),
    )


def _few(checks: list[Check]) -> str:
    return ", ".join(f"`{check.name}`" for check in checks[:3])


# --- checks ------------------------------------------------------------------------------------


def _checks(folder: str, checks: list[Check], known: Catalogue) -> str:
    entries = (part for check in checks for part in _check(check, known))
    return page(f"# {_title(folder)}", f"{len(checks)} checks.", *entries)


def _check(check: Check, known: Catalogue) -> Iterator[str]:
    """Claim and mathematics from the docstring, when it applies, what it must reject and accept."""
    yield f"## {code(check.name)} {{ #{check.name} }}"
    yield prose(check.doc)
    yield table(["", ""], [[name, value] for name, value in _facts(check) if value])
    yield "**Must reject**\n\n" + "\n".join(_broken(check, mutant) for mutant in check.rejects)
    subjects = [r.name for r in known.references.values() if not check.why_not(r.subject())]
    accepted = dict.fromkeys([*subjects, *(_named(name)[0] for name in check.accepts)])
    yield f"**Must accept** {codes(accepted)}" if accepted else ""


def _facts(check: Check) -> Iterator[tuple[str, str]]:
    everything = check.kinds == ("*",)
    yield "kinds", "every" if everything else ", ".join(map(_kind_link, check.kinds))
    yield "needs the traits", codes(sorted(check.needs))
    yield "not with the traits", codes(sorted(check.forbids))
    yield "options", codes(f"{name} = {_allowed(value)}" for name, value in check.options.items())
    yield "dtypes", codes(check.dtypes)
    yield "regimes", codes(check.regimes)
    yield "runs", "once a trial" if check.once else "on cases that Hypothesis draws"
    yield "tags", codes(sorted(check.tags))
    if check.textbook:
        statement = check.textbook
        yield f"textbook {statement.id}", cell(f"{statement.says}: {statement.ruling}")
    yield "code", code(f"{_place(check.file)}:{check.line}")


def _kind_link(kind: str) -> str:
    return f"[{code(kind)}](../kinds/{kind}.md)"


def _allowed(value: object) -> str:
    if value is True or value is False:
        return "…" if value else "not declared"
    return str(value)


def _place(file: str) -> str:
    path = Path(file)
    return (
        str(path.relative_to(PACKAGE.parent)) if path.is_relative_to(PACKAGE.parent) else path.name
    )


def _broken(check: Check, mutant: str) -> str:
    """A mutant as its name, and what is broken by its docstring.

    `wrong(_no_hinge, TRIPLETS)` and `Subject(name="no_hinge", target=_no_hinge)` are `no_hinge`;
    `scaled_value(1.001)` stays as it is written.
    """
    shown, made_by = _named(mutant)
    found = definition(Path(check.file), made_by)
    node = found.node if found is not None else None
    doc = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
    meaning = " ".join((doc or "").split("\n\n")[0].split())
    return f"- {code(shown)}" + (f": {escaped(meaning)}" if meaning else "")


def _named(mutant: str) -> tuple[str, str]:
    """How a mutant is called, and the definition that makes it."""
    if mutant.startswith("*"):  # all of a list
        return mutant, ""
    call = ast.parse(mutant, mode="eval").body
    if not isinstance(call, ast.Call):
        return mutant.lstrip("_"), mutant
    given = {each.arg: each.value for each in call.keywords}
    made = given.get("target") or next(iter(call.args), None)
    if not isinstance(made, ast.Name):
        return mutant, ast.unparse(call.func)
    name = given.get("name")
    shown = name.value if isinstance(name, ast.Constant) else made.id.lstrip("_")
    return str(shown), made.id


# --- kinds, declarations, references -----------------------------------------------------------


def _kind(kind: Kind, known: Catalogue) -> str:
    rows = [["inputs", _inputs(kind.inputs)]] if kind.inputs else []
    rows += [[f"task {code(task)}", _inputs(inputs)] for task, inputs in kind.by_task.items()]
    rows += [["must be declared", codes(sorted(kind.required))]] if kind.required else []
    rows += [["methods", codes(kind.methods)]] if kind.methods else []
    has_references = any(each.kind == kind.name for each in known.references.values())
    link = f"[References of this kind](../references/{kind.name}.md). " if has_references else ""
    checks = sorted(known.checks_of(kind.name), key=lambda each: each.name)
    general = Counter(_folder(each) for each in checks if _folder(each) in _GENERAL)
    shared = [f"{n} of [{_title(f)}](../checks/{f}.md)" for f, n in sorted(general.items())]
    own = [each for each in checks if _folder(each) not in _GENERAL]
    return page(
        f"# {code(kind.name)}",
        f"{code(kind.call)}: {escaped(kind.summary)}.",
        f"{link}Begin a suite: `dlcheck new {kind.name}`.",
        table(["", ""], rows),
        *_declared(f"options of {kind.name}", kind.options, kind.values),
        *_declared(f"traits of {kind.name}", kind.traits, {}),
        "Beside these, [what any kind may declare](../declarations.md).",
        f"## {len(checks)} checks",
        table(["check", "claim"], ([_check_link(each), cell(each.claim)] for each in own)),
        f"And {', '.join(shared)}." if shared else "",
    )


def _check_link(check: Check) -> str:
    return f"[{code(check.name)}](../{entry_of(check)})"


def entry_of(check: Check) -> str:
    """Where a check is described, below catalogue/."""
    return f"checks/{_folder(check)}.md#{check.name}"


def _inputs(inputs: Mapping[str, str]) -> str:
    return codes(f'{name} = "{text}"' for name, text in inputs.items())


def _declared(
    title: str, named: Mapping[str, str], values: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    if not named:
        return
    yield f"## {title[0].upper()}{title[1:]}"
    rows = (
        [code(name), cell(meaning) + _values(values.get(name, ()))]
        for name, meaning in named.items()
    )
    yield table(["name", "meaning"], rows)


def _values(values: tuple[str, ...]) -> str:
    return f"; one of {codes(values)}" if values else ""


def _declarations(known: Catalogue) -> str:
    elements = ([code(_spelled(name)), cell(ELEMENTS[name][2])] for name in ELEMENTS)
    profiles = (
        [code(each.name), str(each.examples), f"× {each.effort}"] for each in PROFILES.values()
    )
    kinds_of_their_own = ", ".join(f"[{code(name)}](kinds/{name}.md)" for name in known.kinds)
    return page(
        "# What can be declared",
        "A check knows a subject only through its declaration. What is not declared is not "
        "assumed, and the report lists what would be checked if it were.",
        f"Each kind has options and traits of its own: {kinds_of_their_own}.",
        *_declared("traits of every kind", kinds.COMMON_TRAITS, {}),
        *_declared("options of every kind", kinds.COMMON_OPTIONS, {}),
        "## Elements of the input language",
        'An input is written `"<element> <dim> <dim> …"`, as `"float b c h w"`: the same name is '
        'the same size in all inputs, and may be used in `args = { width = { dim = "d" } }`; a dim '
        "may be a number, or a multiple: `d*2`.",
        table(["element", "what it holds"], elements),
        "## Profiles",
        table(["profile", "cases a trial", "effort of checks that run once"], profiles),
    )


def _spelled(element: str) -> str:
    inside = {"range": "[lo:hi]", "count": "[k]", "dim?": "", "range?": ""}
    return element + inside.get(ELEMENTS[element][0], "")


def _references(kind: str, references: list[Reference]) -> str:
    parts = [f"# References of kind {code(kind)}", _kind_line(kind)]
    for each in sorted(references, key=lambda one: one.name):
        options = codes(f"{name} = {value!r}" for name, value in each.options.items())
        rows = [
            ["formula", cell(each.formula)],
            ["source", cell(each.source)],
            ["import path", code(each.target)],
            ["inputs", _inputs(each.inputs)],
            ["arguments", codes(f"{name} = {value!r}" for name, value in each.args.items())],
            ["traits", codes(sorted(each.traits))],
            ["options", options],
        ]
        parts += [f"## {code(each.name)} {{ #{each.name} }}", prose(each.doc)]
        parts.append(table(["", ""], [row for row in rows if row[1]]))
    return page(*parts)


def _kind_line(kind: str) -> str:
    return (
        f"Trusted implementations of the kind [{code(kind)}](../kinds/{kind}.md), each a subject "
        "of all checks that apply to it."
    )
