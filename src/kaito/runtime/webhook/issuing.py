"""What is asked of those who make certificates, and by which way: in this process, or in another that ends afterwards.

Certificates are made every two months and judged when the Secret changes, but the package `cryptography` stays in the
memory of the process that imported it, 10 MB of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

CHILD: Final = "kaito.runtime.webhook.pki"
CA_BUNDLE: Final = "ca.crt"
CA_KEY: Final = "ca.key"
"""Keys of the Secret, beside `tls.crt` and `tls.key`."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM. `bundle` is what clients must trust; its first certificate is the authority of `ca_key`."""

    bundle: bytes
    ca_key: bytes
    chain: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """Which certificates are to be served from now on?"""

    names: tuple[str, ...]
    """DNS names and IP addresses that the serving certificate is for; the first one is its subject."""
    now: datetime
    lifetime: float
    """Seconds for which a new serving certificate is valid."""
    ca_lifetime: float
    """The same for a new authority."""
    stored: Mapping[str, bytes] | None = None
    """The Secret's data; None where there is no Secret."""
    served: Certificates | None = None
    """What this process has served so far."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The certificates to serve."""

    certificates: Certificates
    due: datetime
    """When to ask again: a third of the life of the certificate or of its authority is left."""
    source: Literal["stored", "served", "renewed", "made"]
    """Those of the Secret; those served before; new ones, with an authority that clients know or not."""
    complaint: str = ""
    """Why what the Secret holds is of no use."""


Settle = Callable[[Question], Awaitable[Answer]]
"""Answers a question. Raises OSError where that cannot be done now."""


async def settle_here(question: Question) -> Answer:
    """In this process, which holds the package from then on."""
    from kaito.runtime.webhook import pki  # noqa: PLC0415

    return pki.settle(question)


async def settle_apart(question: Question) -> Answer:
    """In another process. Keys go through pipes and touch no disk."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        CHILD,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaint = await child.communicate(msgspec.json.encode(question))
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    if child.returncode:
        words = complaint.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(f"the process that makes certificates failed: {''.join(words) or child.returncode}")
    return msgspec.json.decode(said, type=Answer)
