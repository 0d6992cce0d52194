"""What the documentation shows is so: every block runs, and its output is the one that comes.

`DLCHECK_DOCS=write pytest tests/test_docs.py` writes the outputs into the pages, with the same
parts left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from fragments import problems_with
from pages import Block, blocks_of, commands_of, rewrite, with_shown
from rehearsal import Came, act
from shown import differences, renewed

import dlcheck
from dlcheck.cli import VERBS
from dlcheck.domains import ELEMENTS
from dlcheck.kinds import BUILT_IN, COMMON_OPTIONS, COMMON_TRAITS
from dlcheck.registry import catalogue

ROOT = Path(__file__).parents[1]
STAGE = Path(__file__).parent / "stage"
QUICK = {"README.md", "docs/index.md", "docs/write_a_check.md", "docs/write_a_suite.md"}
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
GRANTED = tomllib.loads((STAGE / "granted.toml").read_text())
WRITES = os.environ.get("DLCHECK_DOCS") == "write"
RUN = ("python", "console", "bash")


def as_when_written() -> bool:
    """Are the packages that decide which cases are drawn those that the outputs came from?"""
    made_with = GRANTED["made_with"]
    return all(version(name) == number for name, number in made_with.items())


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a reader: `mypkg`, and the examples of this repository."""
    folder = tmp_path / "project"
    shutil.copytree(STAGE, folder, ignore=shutil.ignore_patterns("granted.toml", "__pycache__"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.parametrize(
    "page",
    [page if page in QUICK else pytest.param(page, marks=pytest.mark.nightly) for page in PAGES],
)
def test_every_block_of_a_page_runs_and_says_what_is_shown(page: str, stage: Path) -> None:
    wrong = mistakes(ROOT, page, stage, GRANTED["names"].get(page, {}))
    assert not wrong, "\n".join(wrong)


def mistakes(root: Path, page: str, stage: Path, names: Mapping[str, str]) -> list[str]:
    """What a page says that is not so, with the line of its block."""
    blocks = blocks_of(root, page)
    came = act(stage, blocks, names) if any(b.language in RUN for b in blocks) else []
    wrong = [problem for block in blocks for problem in problems_with(block, root, stage)]
    changed: dict[Block, list[str]] = {}
    for k, block in enumerate(blocks):
        mine = [each for each in came if each.block == k]
        after = blocks[k + 1] if k + 1 < len(blocks) else None
        if block.language == "python":
            wrong += compared_code(block, mine, after, changed)
        else:
            wrong += compared_commands(block, mine, changed)
    if WRITES:
        rewrite(root, changed)
    return wrong


WRONG = """\
```python
assert 1 + 1 == 3
```

```console
$ dlcheck explain loos
dlcheck explain: no name named 'loos'. Did you mean 'sum'? See: dlcheck list
```

```toml
kind = "loss"
options = { task = "clasification" }
```

<!-- not run: it is wrong -->
```bash
dlcheck rum
```

```toml title="examples/mixup.toml"
suite = "Another"
```

```
no language
```
"""


def test_what_a_page_says_wrongly_is_found(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLCHECK_DOCS", raising=False)  # which would mend it
    (stage / "docs").mkdir()
    (stage / "docs" / "wrong.md").write_text(WRONG)
    wrong = "\n".join(mistakes(stage, "docs/wrong.md", stage, {}))
    for words in ("AssertionError", "shown: dlcheck explain", "'clasification'", "no verb 'rum'",
                  "not what stands in examples/mixup.toml", "say its language"):  # fmt: skip
        assert words in wrong


@pytest.mark.parametrize(
    ("shown", "came", "verdict"),
    [
        ("error 1.23e-15 in 3 s", "error 4e-15 in 12.5 s", "alike"),
        ("error 0.173", "error 0.1735", "alike"),
        ("error 0.173", "error 0.2", "unlike"),
        ("2 failed, 3 passed", "3 failed, 3 passed", "unlike"),
        ("one … three", "one two three", "alike"),
        ("a\n…\nc", "a\nb\nb\nc", "alike"),
        ("a\n…\nc", "a\nb", "unlike"),
        ("…\nb", "a\nb\nc", "unlike"),
        ("a", "a\nb", "unlike"),
    ],
)
def test_what_is_shown_is_compared_in_words_and_numbers(
    shown: str, came: str, verdict: str
) -> None:
    found = differences(shown.splitlines(), came.splitlines())
    assert bool(found) is (verdict == "unlike")


def test_outputs_are_written_anew_with_the_same_parts_left_out() -> None:
    shown = ["head 1", "…", "FAILED f: 3", "  got 5", "…", "1 failed", ""]
    came = ["head 2", "noise", "FAILED f: 4", "  line  x.py:3", "  got 7", "noise", "2 failed"]
    assert renewed(shown, came) == [
        *("head 2", "…", "FAILED f: 4", "  line  x.py:3", "  got 7", "…", "2 failed", "")
    ]


def compared_code(
    block: Block, came: list[Came], after: Block | None, changed: dict[Block, list[str]]
) -> Iterator[str]:
    """Code raises nothing; a text block titled "output" after it is what it printed."""
    for each in came:
        if each.code:
            yield f"{block.place}: " + "\n".join(each.lines[-3:])
        elif after is not None and after.title == "output":
            found = differences(after.text.splitlines(), each.lines, numbers=as_when_written())
            if found and (lines := written(after.text.splitlines(), each.lines)) is not None:
                changed[after] = lines
            elif found:
                yield "\n".join([f"{after.place}:", *found])


def compared_commands(
    block: Block, came: list[Came], changed: dict[Block, list[str]]
) -> Iterator[str]:
    """What is shown below a command came; one with nothing below it succeeded."""
    commands = commands_of(block) if came else []
    shown = {}
    for each in came:
        command = commands[each.command]
        if not any(line.strip() for line in command.shown):
            if each.code:
                yield f"{block.place}: $ {command.text} ended with {each.code}: " + "\n".join(
                    each.lines[-5:]
                )
            continue
        found = differences(command.shown, each.lines, numbers=as_when_written())
        if found and (lines := written(command.shown, each.lines)) is not None:
            shown[command] = lines
        elif found:
            yield "\n".join([f"{block.place}: $ {command.text}", *found])
    if shown:
        changed[block] = with_shown(block, shown)


def written(shown: Sequence[str], came: Sequence[str]) -> list[str] | None:
    """What is to be shown from now on; None where nothing is to be written, or it is not found."""
    try:
        return renewed(shown, came) if WRITES else None
    except LookupError:
        return None


# --- the site ----------------------------------------------------------------------------------

sys.path.insert(0, str(ROOT / "docs" / "hooks"))

import catalogue as generated  # noqa: E402
import interface  # noqa: E402

SITE = {**generated.pages(), **interface.pages()}
LINK = re.compile(r"(?<=\])\((?!\w+:|#)([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
    for link in LINK.findall(text):
        place = Path(os.path.normpath((ROOT / page).parent / link))
        written = (
            place.is_relative_to(ROOT / "docs") and str(place.relative_to(ROOT / "docs")) in SITE
        )
        assert place.exists() or written, f"{page}: {link}"


def test_every_public_name_is_described() -> None:
    """`described` raises for a name without a docstring."""
    python = SITE["interface/python.md"]
    assert all(f"`dlcheck.{name}`" in python for name in dlcheck.__all__)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_all_that_a_kind_declares_is_described(name: str) -> None:
    page = SITE[f"catalogue/kinds/{name}.md"]
    kind = BUILT_IN[name]
    for named in (kind.options, kind.traits):
        for declared, meaning in named.items():
            assert f"| `{declared}` | " in page
            assert meaning.strip()


def test_common_traits_options_and_elements_are_described() -> None:
    page = SITE["catalogue/declarations.md"]
    for named in (COMMON_TRAITS, COMMON_OPTIONS):
        assert all(f"| `{name}` | " in page for name in named)
        assert all(meaning.strip() for meaning in named.values())
    assert all(re.search(rf"\| `{name}[`\[]", page) for name in ELEMENTS)


def test_every_check_and_reference_has_its_entry() -> None:
    known = catalogue()
    checks = "".join(text for path, text in SITE.items() if path.startswith("catalogue/checks/"))
    references = "".join(text for path, text in SITE.items() if "/references/" in path)
    assert all(f"## `{name}` {{ #{name} }}" in checks for name in known.checks)
    assert all(f"## `{name}` {{ #{name} }}" in references for name in known.references)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_says_what_it_is(verb: str) -> None:
    """Each option has words beside it in the help, which is the page of the command line."""
    text = interface.help_of(verb)
    assert text.rstrip() in SITE["interface/command_line.md"]
    _, _, listed = text.partition("options:\n")
    entries = re.split(r"\n(?=  -)", "\n" + listed)[1:]
    silent = [entry.strip() for entry in entries if not re.search(r"(  +|\n +)\w.* \w", entry)]
    assert not silent


@pytest.mark.nightly
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links and anchors of all pages, the generated ones too, are followed."""
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outside = re.compile(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)')
    assert not [p.name for p in tmp_path.rglob("*.html") if outside.search(p.read_text())]
