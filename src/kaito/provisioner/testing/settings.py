"""How a fake behaves as long as nobody scripts anything; every field may be set at any time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AZURE_ASYNC: Final = "Azure-AsyncOperation"
LOCATION: Final = "Location"


@dataclass(frozen=True, slots=True)
class Style:
    """How an answer says that an operation has been started. headers: `AZURE_ASYNC`, `LOCATION`, both or none."""

    status: int
    headers: tuple[str, ...] = (AZURE_ASYNC,)


PUT: Final = Style(201)
DELETE: Final = Style(202, (AZURE_ASYNC, LOCATION))


@dataclass(eq=False)
class Settings:
    """The ways of one fake.

    exclusive: while an operation runs on the cluster, others are refused with 409, as one cluster's pools often do.
    latency: seconds from request to answer; the front ends wait them.
    retry_after: seconds in the header Retry-After of answers that start or show a running operation; None: no header.
    accepted_tokens: bearer tokens; None: any that is not empty.
    put_style, delete_style: how answers say that an operation runs. delete_absent: status where no such pool is.
    shows_provisioning_error: Failed pools say why; only the operation does otherwise, as older API versions.
    sku_page: sizes on one page of the Resource SKUs API; 0: all.
    """

    exclusive: bool = False
    latency: float = 0.0
    retry_after: float | None = None
    accepted_tokens: set[str] | None = None
    put_style: Style = PUT
    delete_style: Style = DELETE
    delete_absent: int = 404
    shows_provisioning_error: bool = True
    sku_page: int = 0
