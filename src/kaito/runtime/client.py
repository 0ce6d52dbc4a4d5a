"""Verbs on resources.

A thin layer over a `Transport`: builds URLs, encodes dicts, turns every non-2xx answer into a typed
`ApiError`, and names itself to the server. `kaito.runtime.rest` sends, `reading` and `writing` hold the verbs.
"""

from __future__ import annotations

from kaito.runtime.patches import PatchType, merge_patch
from kaito.runtime.reading import DEFAULT_PAGE, Page, Reading, Seen
from kaito.runtime.rest import DEFAULT_TIMEOUT, RETRY_LIMIT, Observer, RequestRecord
from kaito.runtime.writing import Writing

__all__ = [
    "DEFAULT_PAGE",
    "DEFAULT_TIMEOUT",
    "RETRY_LIMIT",
    "Client",
    "Observer",
    "Page",
    "PatchType",
    "RequestRecord",
    "Seen",
    "merge_patch",
]


class Client(Reading, Writing):
    """Talks to one API server under one name.

    `user_agent` is who is asking (audit logs, request counts); `field_manager` is who owns written fields,
    left to the server (which derives it from the user agent) when None, and required for `apply`. `timeout`
    is in seconds per request, retries included. `observer` is called once per HTTP exchange, `on_warning`
    with each warning that the server sends (default: logged once per text), `on_write` after each accepted
    write; the last two are shared by all clients that `named` derives.

    Every method raises `ApiError` subclasses for answers and `TransportError` when there was none.
    """

    def named(self, user_agent: str, field_manager: str | None = None) -> Client:
        """The same connection under another name."""
        client = Client(
            self.transport,
            clock=self.clock,
            user_agent=user_agent,
            field_manager=field_manager,
            timeout=self.timeout,
            observer=self.observer,
        )
        client._hooks = self._hooks
        return client
