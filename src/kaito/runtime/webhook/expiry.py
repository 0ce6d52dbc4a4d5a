"""When a certificate ends, read from its bytes: serving webhooks needs no package for certificates."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _INTEGER, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x02, 0xA0, 0x17, 0x18
"""Tags of DER (ITU-T X.690) that stand before and around the times of a certificate (RFC 5280, section 4.1)."""


def not_after(pem: str) -> float | None:
    """When the first certificate of a chain ends, in seconds since 1970; None for what is no certificate."""
    found = _PEM.search(pem)
    if found is None:
        return None
    try:
        der = ssl.PEM_cert_to_DER_cert(found.group())
        return _not_after(der)
    except (ValueError, IndexError):
        return None


def _not_after(der: bytes) -> float:
    at, _ = _enter(der, 0, _SEQUENCE)  # Certificate
    at, _ = _enter(der, at, _SEQUENCE)  # TBSCertificate
    if der[at] == _VERSION:
        at = _skip(der, at)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serial number, signature's algorithm, issuer
        _enter(der, at, tag)
        at = _skip(der, at)
    at, _ = _enter(der, at, _SEQUENCE)  # Validity
    at = _skip(der, at)  # notBefore
    start, end = _enter(der, at, der[at])
    text = der[start:end].decode("ascii")
    if der[at] == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif der[at] != _GENERALIZED_TIME:
        raise ValueError("notAfter is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _enter(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Start and end of the contents of the element at `at`. Raises ValueError unless it has this tag."""
    if der[at] != tag:
        raise ValueError(f"tag {der[at]:#x} instead of {tag:#x}")
    length, start = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(der[start : start + octets], "big"), start + octets
    if start + length > len(der):
        raise ValueError("an element is longer than what there is")
    return start, start + length


def _skip(der: bytes, at: int) -> int:
    """Where the next element begins."""
    return _enter(der, at, der[at])[1]
