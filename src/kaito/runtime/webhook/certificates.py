"""Serving certificates for operators without cert-manager: made, shared by all replicas, renewed, and announced.

One Secret of type `kubernetes.io/tls` holds everything: `tls.crt` and `tls.key` to serve with, `ca.crt` with the
authorities that clients must trust (newest first; during a change of authority two), and `ca.key`. Whichever replica
comes first makes it, or renews it; the resourceVersion decides between two. Each replica writes the pair into the
directory of its webhook server and sees to it that the `caBundle` of the webhook configurations is `ca.crt`. A bundle
is announced before anything is served under it. Needs the package `cryptography`.

    keeper = CertificateKeeper(client, clock=clock, options=CertificateOptions(
        secret=ObjectKey("demo", "webhook-certificate"), service=ObjectKey("demo", "webhook"), directory=Path("/certs"),
        validating=("demo.example.com",)))
    await keeper.ensure()     # the pair is there before the server starts
    keeper.watch(manager.cache)   # somebody's change is put right at once, and nothing is asked while nothing changes
    manager.add(keeper)
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import AlreadyExists, ApiError, Conflict, NotFound, TransportError
from kaito.runtime.files import write_private
from kaito.runtime.groups import Group
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import SECRETS, ObjectKey, Resource
from kaito.runtime.webhook.certwatcher import CERTIFICATE, KEY

CA_BUNDLE: Final = "ca.crt"
CA_KEY: Final = "ca.key"
VALIDATING: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    False,
)
MUTATING: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    False,
)

_BACKDATED: Final = timedelta(minutes=5)
"""Clocks differ a little, and a certificate must be valid in the second it is made."""
_RACES: Final = 5
"""Replicas that may write the Secret before this one; more than that is no race."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CertificateOptions:
    """What certificates are made for and where they go."""

    secret: ObjectKey
    """Namespace and name of the Secret with the certificates."""
    service: ObjectKey
    """Namespace and name of the Service by which the API server reaches the webhook; the certificate is for it."""
    directory: Path
    """Directory in which `tls.crt` and `tls.key` are written, mode 0600; the webhook server's own."""
    validating: tuple[str, ...] = ()
    """Names of the ValidatingWebhookConfigurations whose `caBundle` is kept."""
    mutating: tuple[str, ...] = ()
    """Names of the MutatingWebhookConfigurations whose `caBundle` is kept."""
    extra_names: tuple[str, ...] = ()
    """DNS names and IP addresses that the certificate is for as well, beside the Service's."""
    lifetime: timedelta = timedelta(days=90)
    """How long a serving certificate is valid; it is renewed when a third of that is left."""
    ca_lifetime: timedelta = timedelta(days=3650)
    """How long an authority is valid; it is followed by a new one when a third of that is left."""
    interval: float = 600.0
    """Seconds between two looks at the Secret and the configurations. A keeper that watches them looks when they
    change and when the certificate is due instead."""
    retry_interval: float = 30.0
    """Seconds until the next look after one that failed."""
    calm: float = 2.0
    """Least seconds between two looks of a keeper that watches, so that it never races with whoever undoes its work."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM. `bundle` is what clients must trust; its first certificate is the authority of `ca_key`."""

    bundle: bytes
    ca_key: bytes
    chain: bytes
    key: bytes


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
    if previous is not None and not _is_due(previous.bundle, now):
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


def _is_due(pem: bytes, now: datetime) -> bool:
    return now > _due(pem)


def _names_of(pem: bytes) -> set[str]:
    extension = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    found = extension.value
    addresses = {str(address) for address in found.get_values_for_type(x509.IPAddress)}
    return {*found.get_values_for_type(x509.DNSName), *addresses}


class CertificateKeeper:
    """Keeps the Secret, the files and the `caBundle`s as they should be; a runnable of the group WEBHOOKS."""

    group = Group.WEBHOOKS
    name = "webhook-certificates"

    def __init__(self, client: Client, *, clock: Clock, options: CertificateOptions) -> None:
        self._client = client
        self._clock = clock
        self._options = options
        service = options.service
        base = f"{service.name}.{service.namespace}"
        self._names = (f"{base}.svc", base, service.name, f"{base}.svc.cluster.local", *options.extra_names)
        self._served: Certificates | None = None
        self._watches = False
        self._changed = asyncio.Event()

    def watch(self, cache: InformerCache) -> None:
        """Follows the Secret and the configurations, each by its name: `run` then looks when they change."""
        self._watches = True
        wanted = [(SECRETS, self._options.secret.name, self._options.secret.namespace)]
        wanted += [(VALIDATING, name, "") for name in self._options.validating]
        wanted += [(MUTATING, name, "") for name in self._options.mutating]
        for resource, name, namespace in wanted:
            informer = cache.informer(
                resource, namespace=namespace or None, field_selector=f"metadata.name={name}"
            )
            informer.add_handler(_Wake(self._changed))

    async def run(self) -> None:
        """Looks when there is reason to; what fails is logged and tried again, and what is served stays."""
        while True:
            self._changed.clear()
            try:
                await self.ensure()
                pause = self._pause()
            except (ApiError, TransportError, OSError) as error:
                pause = self._options.retry_interval
                log.error("webhook certificates could not be kept", error=error, retry_in=pause)
            if self._watches:
                await self._clock.sleep(min(self._options.calm, pause))
                with contextlib.suppress(TimeoutError):
                    async with self._clock.timeout(pause):
                        await self._changed.wait()
            else:
                await self._clock.sleep(pause)

    def _pause(self) -> float:
        """Seconds until the next look, if nothing changes before."""
        if not self._watches or self._served is None:
            return self._options.interval
        due = min(_due(self._served.chain), _due(self._served.bundle))
        # Not to the second: then the certificate might be a moment away from being due.
        return max(1.0, (due - self._clock.wall()).total_seconds() + 1.0)

    async def ensure(self) -> None:
        """Makes or renews what has to be, announces the authorities, and writes the pair.

        Raises:
            ApiError: the Secret or a configuration cannot be read or written; a configuration that does not exist
                is only logged.
            OSError: the directory cannot be written.
        """
        self._served = certificates = await self._certificates()
        bundle = b64encode(certificates.bundle).decode()
        for resource, names in ((VALIDATING, self._options.validating), (MUTATING, self._options.mutating)):
            for name in names:
                await self._announce(resource, name, bundle)
        self._options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The key first: a certificate without its key is refused by the watcher, which then keeps the old pair.
        for file, data in ((KEY, certificates.key), (CERTIFICATE, certificates.chain)):
            path = self._options.directory / file
            if not path.exists() or path.read_bytes() != data:
                write_private(path, data)

    async def _certificates(self) -> Certificates:
        for _ in range(_RACES):
            try:
                secret = await self._client.get(
                    SECRETS, self._options.secret.name, self._options.secret.namespace
                )
            except NotFound:
                secret = None
            found = None if secret is None else self._read(secret)
            now = self._clock.wall()
            if found is not None and self._good(found, now):
                return found
            if found is None and self._served is not None and self._good(self._served, now):
                made = self._served  # clients trust it, and the other replicas serve it
            else:
                made = make_certificates(
                    self._names,
                    now,
                    lifetime=self._options.lifetime,
                    ca_lifetime=self._options.ca_lifetime,
                    previous=found,
                )
            try:
                await self._store(secret, made)
            except (Conflict, AlreadyExists):
                continue  # another replica was faster; its certificates are as good
            log.info(
                "webhook certificate stored",
                stored_in=str(self._options.secret),
                renewed=found is not None,
                again=made is self._served,
            )
            return made
        raise Conflict(
            f"the Secret {self._options.secret} changed {_RACES} times while its certificate was renewed"
        )

    def _good(self, found: Certificates, now: datetime) -> bool:
        due = _is_due(found.chain, now) or _is_due(found.bundle, now)
        return not due and set(self._names) <= _names_of(found.chain)

    def _read(self, secret: dict[str, Any]) -> Certificates | None:
        data = secret.get("data") or {}
        try:
            parts = [b64decode(data[name]) for name in (CA_BUNDLE, CA_KEY, CERTIFICATE, KEY)]
            x509.load_pem_x509_certificate(parts[0])
            _names_of(parts[2])
            serialization.load_pem_private_key(parts[1], None)
            serialization.load_pem_private_key(parts[3], None)
        except (KeyError, ValueError, x509.ExtensionNotFound) as error:
            log.warning(
                "the Secret holds no usable certificate; making one",
                stored_in=str(self._options.secret),
                why=error,
            )
            return None
        return Certificates(*parts)

    async def _store(self, secret: dict[str, Any] | None, made: Certificates) -> None:
        key = self._options.secret
        parts = {CA_BUNDLE: made.bundle, CA_KEY: made.ca_key, CERTIFICATE: made.chain, KEY: made.key}
        data = {name: b64encode(value).decode() for name, value in parts.items()}
        if secret is not None:
            await self._client.update(SECRETS, {**secret, "data": {**(secret.get("data") or {}), **data}})
            return
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "type": "kubernetes.io/tls",
            "data": data,
        }
        await self._client.create(SECRETS, body)

    async def _announce(self, resource: Resource, name: str, bundle: str) -> None:
        """Puts the bundle into every webhook of a configuration, if it is not there."""
        for _ in range(_RACES):
            try:
                found = await self._client.get(resource, name)
            except NotFound:
                log.warning("webhook configuration not found; nothing to announce", configuration=name)
                return
            webhooks = found.get("webhooks") or []
            stale = [each for each in webhooks if each["clientConfig"].get("caBundle") != bundle]
            if not stale:
                return
            for each in stale:
                each["clientConfig"]["caBundle"] = bundle
            try:
                await self._client.update(resource, found)
            except Conflict:
                continue
            log.info("authority announced", configuration=name, webhooks=len(stale))
            return
        raise Conflict(f"{resource.kind} {name} changed {_RACES} times while its caBundle was written")


class _Wake:
    """Sets an event whatever happens to an object."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._changed.set()

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._changed.set()

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._changed.set()
