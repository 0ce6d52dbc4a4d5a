"""Errors that the command line prints as one sentence, without a traceback."""

from __future__ import annotations


class CliError(Exception):
    """What is wrong and what to do about it; the process exits with `code`."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
