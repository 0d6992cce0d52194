"""A finished script, run once before it is shown: it must fail as it says."""

from __future__ import annotations

import contextlib
import io
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from dlcheck.isolation import restored_state, seed_everything
from dlcheck.scripts.tape import Unwritable

_NAME = "<script>"
_SEED = 987_654_321  # of a process that has other random numbers


def hold_to(text: str, lines: tuple[str, ...], names: dict[str, Any], raised: type | None) -> None:
    """Run the text without the lines that import the subject, which `names` stand for.

    It must fail by its own assertion, or with `raised` where that is what was wrong. Raises
    Unwritable where it does not.
    """
    code = "\n".join("" if line in lines else line for line in text.split("\n"))
    try:
        compiled = compile(code, _NAME, "exec")
        with restored_state(), _quiet(), torch.enable_grad():
            seed_everything(_SEED)
            # Our own text, of literals and names; a person runs it next.
            exec(compiled, {"__name__": "__main__", **names})
    except AssertionError as error:
        if raised is AssertionError or _is_its_own(error):
            return
        raise Unwritable("its text fails inside the subject") from None
    except Exception as error:
        if raised is not None and type(error) is raised:
            return
        said = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise Unwritable(f"its text does not run: {said}") from None
    raise Unwritable("its text does not fail")


def _is_its_own(error: AssertionError) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename == _NAME


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
