"""When a certificate ends, read without a package for certificates and checked against one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kaito.runtime.webhook.certwatcher import CertificateWatcher
from kaito.runtime.webhook.expiry import not_after
from kaito.runtime.webhook.metrics import WebhookMetrics

START = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)


def pair(end: datetime, names: int = 1) -> tuple[str, str]:
    """Certificate and key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a" * 60)] * names)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


@pytest.mark.parametrize(
    "end",
    [
        datetime(2026, 11, 21, 20, 0, 1, tzinfo=UTC),
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2050, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
    ids=["two digits", "the last with two digits", "four digits", "for ever"],
)
@pytest.mark.parametrize("names", [1, 5], ids=["short lengths", "long lengths"])
def test_the_end(end: datetime, names: int) -> None:
    certificate, _ = pair(end, names)
    assert not_after(certificate) == end.timestamp()


def test_the_first_of_a_chain_counts() -> None:
    first, second = START + timedelta(days=1), START + timedelta(days=2)
    assert not_after(pair(first)[0] + pair(second)[0]) == first.timestamp()


def test_what_is_no_certificate() -> None:
    certificate, key = pair(START + timedelta(days=1))
    body = certificate.splitlines()
    cut = "\n".join([body[0], *body[1:3], body[-1]])
    wrong = certificate.replace("MII", "AII", 1).replace("MIH", "AIH", 1).replace("MIB", "AIB", 1)
    for text in ("", key, cut, wrong, f"{body[0]}\n!!\n{body[-1]}"):
        assert not_after(text) is None, text


def test_the_metric_follows_the_certificate_that_is_served(tmp_path: Path) -> None:
    metrics = WebhookMetrics()
    watcher = CertificateWatcher(tmp_path, metrics)
    assert metrics.certificate_expiry == 0
    for days in (10, 20):
        certificate, key = pair(START + timedelta(days=days))
        (tmp_path / "tls.crt").write_text(certificate)
        (tmp_path / "tls.key").write_text(key)
        if days == 10:
            watcher.open()
        else:
            watcher.check()
        assert metrics.certificate_expiry == (START + timedelta(days=days)).timestamp()
