"""Custom resources for tests: the wait until they are served."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.crd.sources import Manifest
from kaito.runtime.errors import NotFound, ServiceUnavailable
from kaito.runtime.resources import CRDS, Resource
from kaito.testing.backends.waiting import until


async def serve(client: Client, definitions: Iterable[Manifest], clock: Clock) -> None:
    """Apply the definitions and return once every served version answers.

    Raises:
        ApiError: the server does not take one.
        BackendError: it does not serve one in time.
    """
    wanted = list(definitions)
    for definition in wanted:
        await client.apply(CRDS, definition)
    for definition in wanted:
        name, spec = definition["metadata"]["name"], definition["spec"]
        await until(lambda name=name: _established(client, name), f"{name} was established", clock)  # type: ignore[misc]
        for version in spec["versions"]:
            if version.get("served"):
                resource = Resource(
                    spec["group"], version["name"], spec["names"]["plural"], spec["names"]["kind"]
                )
                await until(
                    lambda resource=resource: _answers(client, resource),  # type: ignore[misc]
                    f"{name} {version['name']} was served",
                    clock,
                )


async def _established(client: Client, name: str) -> bool:
    status = (await client.get(CRDS, name)).get("status") or {}
    return any(
        each["type"] == "Established" and each["status"] == "True" for each in status.get("conditions") or ()
    )


async def _answers(client: Client, resource: Resource) -> bool:
    try:
        await client.list(resource)
    except (NotFound, ServiceUnavailable):
        return False
    return True
