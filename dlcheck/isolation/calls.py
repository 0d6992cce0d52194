"""A call of foreign code: what it raises, replaces or forks goes no further."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised, UsageError
from dlcheck.isolation.builtin_names import held_builtins, put_builtins_back
from dlcheck.isolation.interrupts import was_interrupted
from dlcheck.isolation.listening import LISTENERS
from dlcheck.isolation.memory_limit import explain_refusal
from dlcheck.isolation.texts import brief
from dlcheck.isolation.time_limit import Bell

_exit, _process = os._exit, os.getpid


def guarded(function: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
    """Call foreign code; whatever it raises becomes SubjectRaised with the cause attached.

    SystemExit, KeyboardInterrupt and others that are no Exception too: they would end the run.
    An interrupt of the user passes. A child that the call forked ends where the call does, and
    builtins that it replaced are put back, since what looks at its answer needs them.
    """
    process, before = _process(), held_builtins()
    try:
        if LISTENERS:
            return LISTENERS[-1].called(function, inputs, keywords)
        return function(*inputs, **keywords)
    except (UsageError, SubjectError, NotApplicable, Bell):
        raise
    except BaseException as error:
        put_builtins_back(before)
        if was_interrupted():
            raise
        explain_refusal(error)
        raise SubjectRaised(brief(error)) from error
    finally:
        put_builtins_back(before)
        leave_if_forked(process)


def leave_if_forked(process: int) -> None:
    """End a copy of this process that foreign code has made: the session has one."""
    if _process() != process:
        _exit(0)
