"""What a test leaves on a shared API server, and its removal."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import orjson

from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError
from kaito.testing.faults import ApiCall


class Footprints:
    """The objects that were created through a proxy; give `note` to the proxy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, None] = {}

    def note(self, call: ApiCall, status: int, body: bytes) -> None:
        """Remember what a write has made, by the answer to it."""
        if status != 201 or call.subresource or not call.resource:
            return
        path = call.path
        if call.verb == "create":
            try:
                path = f"{path}/{orjson.loads(body)['metadata']['name']}"
            except (orjson.JSONDecodeError, KeyError, TypeError):
                return  # a review, or protobuf
        with self._lock:
            self._paths[path] = None

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(reversed(self._paths)))


async def clean(client: Client, footprints: Footprints, namespace: str) -> None:
    """Delete everything that was made, and the namespace; finalizers go too, since their keeper is gone."""
    for path in footprints:
        await _delete(client, path)
    await _delete(client, f"/api/v1/namespaces/{namespace}")


async def _delete(client: Client, path: str) -> None:
    at_once = [("gracePeriodSeconds", "0"), ("propagationPolicy", "Background")]
    try:
        left = await client.json("DELETE", path, query=at_once)
        if left.get("kind") != "Namespace" and (left.get("metadata") or {}).get("finalizers"):
            unheld = {"metadata": {"finalizers": None}}
            await client.json("PATCH", path, body=unheld, content_type="application/merge-patch+json")
    except ApiError:
        return  # gone already, or of a kind that cannot be deleted: the namespace takes what is in it
