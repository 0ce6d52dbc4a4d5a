"""Keys and certificates, made, renewed and judged: all that needs the package `cryptography`.

python -m kaito.runtime.webhook.pki < question.json > answer.json     (see `issuing.settle_apart`)
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kaito.runtime.webhook.certwatcher import CERTIFICATE, KEY
from kaito.runtime.webhook.terms import CA_BUNDLE, CA_KEY, Answer, Certificates, Question

_BACKDATED: Final = timedelta(minutes=5)
"""Clocks differ a little, and a certificate must be valid in the second it is made."""
_UNUSABLE: Final = (KeyError, ValueError, TypeError, x509.ExtensionNotFound, UnsupportedAlgorithm)
"""What reading somebody's PEM raises; TypeError is for a key behind a password."""


def settle(question: Question) -> Answer:
    """What the Secret holds if it is good; else what is served, which clients trust; else something new."""
    complaint, found = "", None
    if question.stored is not None:
        try:
            found = _read(question.stored)
        except _UNUSABLE as error:
            complaint = f"{type(error).__name__}: {error}"
    if found is not None and _good(found, question):
        return Answer(found, _due_of(found), "stored")
    if found is None and question.served is not None and _good(question.served, question):
        return Answer(question.served, _due_of(question.served), "served", complaint)
    made = make_certificates(
        question.names,
        question.now,
        lifetime=timedelta(seconds=question.lifetime),
        ca_lifetime=timedelta(seconds=question.ca_lifetime),
        previous=found,
    )
    return Answer(made, _due_of(made), "made" if found is None else "renewed", complaint)


def _read(stored: Mapping[str, bytes]) -> Certificates:
    """Raises one of `_UNUSABLE` for what is no set of certificates, or parts of several."""
    found = Certificates(*(stored[name] for name in (CA_BUNDLE, CA_KEY, CERTIFICATE, KEY)))
    authority, serving = map(x509.load_pem_x509_certificate, (found.bundle, found.chain))
    _names_of(found.chain)
    for name, key, certificate in ((CA_KEY, found.ca_key, authority), (KEY, found.key, serving)):
        if _point(serialization.load_pem_private_key(key, None).public_key()) != _point(
            certificate.public_key()
        ):
            raise ValueError(f"{name} is the key of another certificate")
    try:
        serving.verify_directly_issued_by(authority)
    except InvalidSignature:
        raise ValueError(f"{CERTIFICATE} is not from the authority in {CA_BUNDLE}") from None
    return found


def _point(key: Any) -> bytes:
    """A public key as bytes, to compare it with another."""
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _good(found: Certificates, question: Question) -> bool:
    return question.now <= _due_of(found) and set(question.names) <= _names_of(found.chain)


def _due_of(certificates: Certificates) -> datetime:
    return min(_due(certificates.chain), _due(certificates.bundle))


def make_certificates(
    names: tuple[str, ...],
    now: datetime,
    *,
    lifetime: timedelta,
    ca_lifetime: timedelta,
    previous: Certificates | None = None,
) -> Certificates:
    """A serving certificate for DNS names and IP addresses.

    It is under the previous authority while that has a third of its life left.
    """
    if previous is not None and now <= _due(previous.bundle):
        authority = x509.load_pem_x509_certificate(previous.bundle)
        ca_key: Any = serialization.load_pem_private_key(previous.ca_key, None)
        bundle, ca_pem = previous.bundle, previous.ca_key
    else:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(ca_key, now, ca_lifetime)
        bundle, ca_pem = authority.public_bytes(serialization.Encoding.PEM), _private(ca_key)
        if previous is not None:
            bundle += x509.load_pem_x509_certificate(previous.bundle).public_bytes(serialization.Encoding.PEM)
    key = ec.generate_private_key(ec.SECP256R1())
    serving = (
        _builder(
            names[0],
            authority.subject,
            key.public_key(),
            now,
            min(now + lifetime, authority.not_valid_after_utc),
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return Certificates(bundle, ca_pem, serving.public_bytes(serialization.Encoding.PEM), _private(key))


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta) -> x509.Certificate:
    # The year and the serial tell two authorities apart whose bundles overlap.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"webhook-ca-{now:%Y%m%d%H%M%S}")])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"),
        False,
    )
    return (
        _builder(f"webhook-ca-{now:%Y%m%d%H%M%S}", name, key.public_key(), now, now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    common: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    # A common name has at most 64 characters; clients look at the alternative names only.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _due(pem: bytes) -> datetime:
    """When a third of the (first) certificate's life is left."""
    certificate = x509.load_pem_x509_certificate(pem)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return end - (end - start) / 3


def _names_of(pem: bytes) -> set[str]:
    extension = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    found = extension.value
    addresses = {str(address) for address in found.get_values_for_type(x509.IPAddress)}
    return {*found.get_values_for_type(x509.DNSName), *addresses}


def main() -> None:
    """Answers one question. Prints a line on standard error and exits with 1 where it cannot."""
    try:
        question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
        answer = settle(question)
    except ValueError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
