"""What a subject raised, as it is told."""

from __future__ import annotations

import sys
import traceback

from dlcheck.errors import SubjectError, SubjectRaised, UsageError
from dlcheck.isolation.texts import brief
from dlcheck.model import Subject
from dlcheck.sources import is_ours
from dlcheck.targets import load_target


def told(error: SubjectError) -> str:
    """What the subject did wrong: in our words, or its own traceback from where it began."""
    cause = error.__cause__ if isinstance(error, SubjectRaised) else None
    if cause is None:
        return str(error)
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if not is_ours(frame.filename)]
    lines = traceback.format_list(own)
    lines += _exception_lines(cause)
    return "the subject raised:\n" + "".join(lines).rstrip()


def foreign_lines(error: BaseException, subject: Subject) -> str:
    """The traceback from where code of the subject ran outside a call: a property, `__eq__`.

    Empty where none did after the last of dlcheck's own lines.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = max((k for k, f in enumerate(frames) if is_ours(f.filename)), default=-1)
    after = frames[last + 1 :]
    where = _file_of(subject.target)
    if not any(frame.filename == where for frame in after):
        return ""
    return "".join([*traceback.format_list(after), *_exception_lines(error)]).rstrip()


def _file_of(target: object) -> str | None:
    """The source file of a target: of its module, as it is loaded."""
    if isinstance(target, str):
        try:
            target = load_target(target)
        except UsageError:
            return None
    owner = target if hasattr(target, "__module__") else type(target)
    module = sys.modules.get(getattr(owner, "__module__", None) or "")
    return getattr(module, "__file__", None)


def _exception_lines(error: BaseException) -> list[str]:
    """`ValueError: its text` and its notes; of a long text the beginning."""
    try:
        return [_clipped(line) for line in traceback.format_exception_only(type(error), error)]
    except Exception:  # its class or its notes raise
        return [brief(error) + "\n"]


def _clipped(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}… ({len(line):,} characters)\n"


_LONGEST = 2000  # characters of a line of an exception
