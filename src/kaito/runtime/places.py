"""Lines of code as a person wants to read them: the user's own, not those of the libraries between."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Sequence
from types import CodeType

Line = tuple[CodeType, int]
"""A line that was being run: its code and its number."""

RUNTIME = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - compared with the text of co_filename
_LIBRARIES = tuple(
    dict.fromkeys(
        sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
)


def users_line(lines: Sequence[Line]) -> Line:
    """Of `lines`, innermost first and at least one: the innermost that is neither a library's nor this runtime's."""
    own = [line for line in lines if not line[0].co_filename.startswith((*_LIBRARIES, RUNTIME, "<"))]
    below = [line for line in lines if not line[0].co_filename.startswith((RUNTIME, "<"))]
    # An installed operator is itself in a library's place: then the reconcile function, where it all began.
    return own[0] if own else below[-1] if below else lines[-1]


def describe_line(line: Line) -> str:
    """`file.py:12 in function`."""
    code, number = line
    return f"{os.path.basename(code.co_filename)}:{number} in {code.co_name}"  # noqa: PTH119


def raised_at(error: BaseException) -> str:
    """The user's line that `error` came from, as `file.py:12 in function`; "" where it was never raised."""
    lines = [(frame.f_code, number) for frame, number in traceback.walk_tb(error.__traceback__)]
    return describe_line(users_line(lines[::-1])) if lines else ""
