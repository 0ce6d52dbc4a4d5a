"""What Azure answered, as one of the errors of `kaito.provisioner.errors`, with a sentence for users. Pure.

The codes within an answer decide, then its HTTP status: a failed operation comes with status 200, and the same code
with several statuses. The sentences for users are in `sentences`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)

from kaito.provisioner.aks import sentences
from kaito.provisioner.aks.quota_text import quota_figures
from kaito.provisioner.aks.rules import (
    BY_STATUS,
    NOT_GRANTED_DELAY,
    RULES,
    UNAVAILABLE,
    UNKNOWN_CONFLICT,
    Rule,
)
from kaito.provisioner.aks.sentences import About
from kaito.provisioner.aks.signals import Signal, retry_after, signals, told_to_wait
from kaito.provisioner.errors import (
    CloudError,
    CloudUnreachable,
    ClusterNotFound,
    InstanceNotFound,
    QuotaReached,
    Throttled,
    Unauthorized,
)

_POOL: Final = re.compile(r"agent\s?pool|agentPools/", re.IGNORECASE)
_CLUSTER_ID: Final = re.compile(r"managedClusters/[\w-]+(?!/agentPools)(?![\w/-])", re.IGNORECASE)
_NOT_FOUND: Final = frozenset({"notfound", "resourcenotfound", "agentpoolnotfound", ""})


class SignInFailed(AzureError):
    """No token could be had; the message says why, in the words of whoever refused."""


class AmbiguousNotFound(CloudError):
    """A 404 that does not say whether the pool or its cluster is missing; whoever got it has to look."""

    reason = "ReadFailed"


def classify(
    error: AzureError | ValueError, about: About | None = None, *, now: datetime | None = None
) -> CloudError:
    """The error that a request ended with; ValueError: the SDK could not read the answer.

    about: who asked for what, for the sentence. now: the time of day, for a Retry-After date in an answer without one.
    """
    about = about or About()
    if isinstance(error, SignInFailed):
        return Unauthorized(sentences.sign_in(str(error), about))
    if isinstance(error, ServiceRequestError | ServiceResponseError | IncompleteReadError):
        return CloudUnreachable(sentences.unreachable(str(error), about))
    if not isinstance(error, HttpResponseError) or error.response is None:
        return CloudError(sentences.unknown(str(error), about))
    response = error.response
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    return classify_answer(error.status_code or 0, _body(response), about, wait=retry_after(headers, now=now))


def classify_answer(
    status: int, body: Any, about: About | None = None, *, wait: float | None = None
) -> CloudError:
    """As `classify`, from an HTTP status (0: none, as of a failed operation) and the JSON, or text, beneath it."""
    about = about or About()
    found = signals(body)
    if status == 404:
        return _not_found(found, about)
    if status == 429:
        return _error(BY_STATUS[429], found, about, wait)
    for rule in RULES:
        fitting = [signal for signal in found if rule.fits(signal)]
        if fitting:
            return _error(rule, [*fitting, *found], about, wait)
    return _error(_by_status(status, found), found, about, wait)


def classify_detail(
    code: str,
    message: str,
    details: Sequence[Mapping[str, Any]] | None = (),
    about: About | None = None,
) -> CloudError:
    """As `classify`, for the error of a failed operation or pool (`properties.status.provisioningError`)."""
    return classify_answer(0, {"code": code, "message": message, "details": list(details or ())}, about)


def _body(response: Any) -> Any:
    try:
        return response.json()
    except Exception:  # whatever a library makes of a proxy's page; its text is not for users
        return None


def _by_status(status: int, found: Sequence[Signal]) -> Rule:
    if status >= 500:
        return UNAVAILABLE
    if status == 409 and any(signal.code.lower() not in ("", "conflict") for signal in found):
        return UNKNOWN_CONFLICT
    return BY_STATUS.get(status, Rule(CloudError))


def _not_found(found: Sequence[Signal], about: About) -> CloudError:
    """404: never "the pool is gone" unless Azure says so of the pool itself."""
    for rule in RULES:
        if rule.kind is ClusterNotFound and any(rule.fits(signal) for signal in found):
            return ClusterNotFound(sentences.no_cluster(_best(found), about))
    for signal in found:
        if signal.code.lower() not in _NOT_FOUND:
            continue
        if _CLUSTER_ID.search(signal.message):
            return ClusterNotFound(sentences.no_cluster(signal, about))
        if about.pool and _POOL.search(f"{signal.code} {signal.message}"):
            return InstanceNotFound(f"the node pool {about.pool} does not exist")
    if about.pool:
        return AmbiguousNotFound(sentences.unknown(_best(found).message or "not found", about))
    return ClusterNotFound(sentences.no_cluster(_best(found), about))


def _error(rule: Rule, found: Sequence[Signal], about: About, wait: float | None) -> CloudError:
    """found: those that decided come first."""
    signal = found[0] if found else Signal("", "")
    delay = wait if wait is not None else rule.delay
    if rule.kind is QuotaReached and not rule.advice:
        figures = quota_figures(signal.message)
        if figures.is_none_granted and delay is None:
            delay = NOT_GRANTED_DELAY
        message = figures.sentence(about.location or "the region", about.quota_page)
    else:
        message = sentences.refusal(rule, signal, about)
    if rule.kind is Throttled and delay is None:
        delay = told_to_wait(signal.message)
    return rule.kind(message, reason=rule.reason, retry_after=delay)


def _best(found: Sequence[Signal]) -> Signal:
    return found[0] if found else Signal("", "")
