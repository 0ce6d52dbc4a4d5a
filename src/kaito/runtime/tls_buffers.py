"""The size of asyncio's buffers for TLS.

Each connection with TLS has a buffer of 256 KB, filled with zeros when it is made and so really taken, and every read
from it makes another one for a moment. A TLS record holds at most 16 KB (RFC 8446, 5.1), so nothing is gained by
that. A controller with a dozen watches and as many workers saves 6 MB with smaller ones.
"""

from __future__ import annotations

from asyncio import sslproto
from typing import Final

BUFFER: Final = 32 << 10
"""Bytes of a connection's buffer: two records."""


def shrink_tls_buffers() -> None:
    """For a process of one purpose, before its first connection: the setting is the whole process's."""
    sslproto.SSLProtocol.max_size = min(sslproto.SSLProtocol.max_size, BUFFER)
