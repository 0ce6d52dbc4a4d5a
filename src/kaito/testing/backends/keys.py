"""The key pair that kube-apiserver signs and checks ServiceAccount tokens with."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def account_keys() -> tuple[bytes, bytes]:
    """A fresh private key and its public key, PEM in the forms that kube-apiserver reads (SEC 1, PKIX)."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public
