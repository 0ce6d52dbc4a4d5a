"""TLS towards an API server, from PEM in memory.

Keys never stay on disk: Python's ssl reads certificate chains from files only, so they are written to a
directory that nobody else can enter and that is gone when the context has them.
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kaito.runtime.errors import ConfigurationError

_UTC_TIME, _GENERALIZED_TIME, _EXPLICIT_0 = 0x17, 0x18, 0xA0


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How the server is verified. `ca` is PEM; None trusts what the system trusts."""

    server: str
    ca: bytes | None = field(default=None, repr=False)
    verify: bool = True

    def context(self, certificate: bytes | None = None, key: bytes | None = None) -> ssl.SSLContext:
        """A context that shows this client certificate (PEM), or none. Raises ConfigurationError.

        X.509 strictness, the default since Python 3.13, is off as in every other Kubernetes client: cluster CAs
        made by common tools lack the extensions that it demands.
        """
        try:
            context = ssl.create_default_context(cadata=self.ca.decode("ascii") if self.ca else None)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if certificate is not None:
                _load_identity(context, certificate, key)
        except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"certificates for {self.server} cannot be loaded: {error}. Check certificate-authority, "
                "client-certificate and client-key in the kubeconfig, or what its credential plugin prints."
            ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _load_identity(context: ssl.SSLContext, certificate: bytes, key: bytes | None) -> None:
    with tempfile.TemporaryDirectory(prefix="kaito-") as name:  # mode 0700
        chain, key_file = Path(name) / "chain.pem", Path(name) / "key.pem"
        chain.write_bytes(certificate)
        if key is not None:
            key_file.write_bytes(key)
        context.load_cert_chain(chain, key_file if key is not None else None)


def expiry(certificate: bytes) -> datetime | None:
    """When the first certificate of a PEM chain expires; None where it cannot be read.

    Python's ssl tells this of a peer's certificate only, so the few fields before it are stepped over by hand
    (RFC 5280: version, serial number, signature, issuer, validity).
    """
    try:
        text = certificate.decode("ascii")
        start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        first = text[text.index(start) : text.index(end) + len(end)]
        fields = _children(_children(_children(ssl.PEM_cert_to_DER_cert(first))[0][1])[0][1])
        if fields[0][0] == _EXPLICIT_0:
            del fields[0]
        tag, value = _children(fields[3][1])[1]
    except (ValueError, IndexError):
        return None
    return _time(tag, value.decode("ascii", "replace"))


def _time(tag: int, text: str) -> datetime | None:
    if tag == _UTC_TIME:  # two digits of the year, up to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _children(der: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of the values that stand one after the other."""
    found, position = [], 0
    while position < len(der):
        tag, length = der[position], der[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[position : position + size], "big")
            position += size
        found.append((tag, der[position : position + length]))
        position += length
    return found
