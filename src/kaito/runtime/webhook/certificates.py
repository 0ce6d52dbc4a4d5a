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
import binascii
import contextlib
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

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
from kaito.runtime.webhook.issuing import Settle, settle_here
from kaito.runtime.webhook.terms import CA_BUNDLE, CA_KEY, Answer, Certificates, Question

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


class CertificateKeeper:
    """Keeps the Secret, the files and the `caBundle`s as they should be; a runnable of the group WEBHOOKS."""

    group = Group.WEBHOOKS
    name = "webhook-certificates"

    def __init__(
        self, client: Client, *, clock: Clock, options: CertificateOptions, settle: Settle = settle_here
    ) -> None:
        self._client = client
        self._clock = clock
        self._options = options
        service = options.service
        base = f"{service.name}.{service.namespace}"
        self._names = (f"{base}.svc", base, service.name, f"{base}.svc.cluster.local", *options.extra_names)
        self._settle = settle
        self._settled: Answer | None = None
        self._stored: dict[str, bytes] | None = None
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
        if not self._watches or self._settled is None:
            return self._options.interval
        # Not to the second: then the certificate might be a moment away from being due.
        return max(1.0, (self._settled.due - self._clock.wall()).total_seconds() + 1.0)

    async def ensure(self) -> None:
        """Makes or renews what has to be, announces the authorities, and writes the pair.

        Raises:
            ApiError: the Secret or a configuration cannot be read or written; a configuration that does not exist
                is only logged.
            OSError: the directory cannot be written.
        """
        certificates = await self._certificates()
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
            answer = await self._answer(_stored(secret))
            if answer.source == "stored":
                return answer.certificates
            try:
                await self._store(secret, answer.certificates)
            except (Conflict, AlreadyExists):
                continue  # another replica was faster; its certificates are as good
            self._settled = replace(answer, source="stored")
            log.info("webhook certificate stored", stored_in=str(self._options.secret), source=answer.source)
            return answer.certificates
        raise Conflict(
            f"the Secret {self._options.secret} changed {_RACES} times while its certificate was renewed"
        )

    async def _answer(self, stored: dict[str, bytes] | None) -> Answer:
        """What is to be served; asked anew only when the Secret has changed or something is due."""
        known, now = self._settled, self._clock.wall()
        if known is not None and stored is not None and stored == self._stored and now <= known.due:
            return known
        answer = await self._settle(
            Question(
                names=self._names,
                now=now,
                lifetime=self._options.lifetime.total_seconds(),
                ca_lifetime=self._options.ca_lifetime.total_seconds(),
                stored=stored,
                served=None if known is None else known.certificates,
            )
        )
        if answer.complaint:
            log.warning(
                "the Secret holds no usable certificate; storing one",
                stored_in=str(self._options.secret),
                why=answer.complaint,
            )
        if answer.source == "stored":
            self._settled, self._stored = answer, stored
        return answer

    async def _store(self, secret: dict[str, Any] | None, made: Certificates) -> None:
        key = self._options.secret
        parts = {CA_BUNDLE: made.bundle, CA_KEY: made.ca_key, CERTIFICATE: made.chain, KEY: made.key}
        data = {name: b64encode(value).decode() for name, value in parts.items()}
        if secret is not None:
            body = {**secret, "data": {**(secret.get("data") or {}), **data}}
            await self._client.update(SECRETS, body)
        else:
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": key.name, "namespace": key.namespace},
                "type": "kubernetes.io/tls",
                "data": data,
            }
            await self._client.create(SECRETS, body)
        self._stored = _stored(body)

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


def _stored(secret: dict[str, Any] | None) -> dict[str, bytes] | None:
    """The Secret's data; what is no base64 counts as empty."""
    if secret is None:
        return None
    found: dict[str, bytes] = {}
    for name, value in (secret.get("data") or {}).items():
        try:
            found[name] = b64decode(value)
        except (binascii.Error, ValueError):
            found[name] = b""
    return found


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
