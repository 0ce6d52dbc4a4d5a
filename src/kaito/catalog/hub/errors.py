"""Why a model of the hub cannot be had: a word for conditions and a sentence for people."""

from __future__ import annotations

from typing import Final

NOT_FOUND: Final = "ModelNotFound"
ACCESS_DENIED: Final = "ModelAccessDenied"
UNSUPPORTED: Final = "UnsupportedModel"
UNREACHABLE: Final = "HubUnreachable"


class HubError(Exception):
    """str() is a sentence; `retry_after`: seconds for which the hub does not want to be asked again."""

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


def unsupported(sentence: str) -> HubError:
    """The model is there, and nothing here can serve it."""
    return HubError(UNSUPPORTED, sentence)
