"""The words in which certificates are asked for and answered; no more, so that whoever asks need not make any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

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
