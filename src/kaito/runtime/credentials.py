"""What a request authenticates with, and how it is kept fresh: token files, certificate files, exec plugins.

Nothing here waits for a refusal: tokens and certificates are renewed before they end. A refusal (401) renews
them at once.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any, Protocol

from kaito.runtime.aiohttp_transport import Authentication, Credentials
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ConfigurationError, CredentialsError
from kaito.runtime.exec_plugin import ExecCredential, ExecPlugin
from kaito.runtime.kubeconfig import Section
from kaito.runtime.logs import get_logger
from kaito.runtime.tls import TlsOptions, expiry

REREAD_INTERVAL = 60.0
"""Seconds after which files with tokens and certificates are read again; kubelets rotate hourly."""
EXPIRY_MARGIN = 60.0
"""Seconds before its end at which a plugin's credential is renewed; a fifth of what is left, if that is less."""
SHORTEST_LIFE = 10.0
"""Seconds for which a plugin's credential is kept at least, whatever end it states: clocks may differ."""
REFUSAL_PAUSE = 5.0
"""Seconds between two runs of a plugin that refusals ask for: requests under way with the old credential are
refused late, and a plugin whose credentials are always refused must not run for each request.
"""

FAILURE_PAUSE = 1.0
"""Seconds for which a plugin's failure is the answer to all requests: those that waited must not each run it again."""

log = get_logger(__name__)


class StaticCredentials:
    """A header that never changes."""

    def __init__(self, header: str | None) -> None:
        self._current = Authentication(header)

    async def current(self) -> Authentication:
        return self._current

    def rejected(self) -> None:
        return None


class TokenFile:
    """A bearer token in a file that somebody else rotates (a pod's service account, `tokenFile`).

    Read at most once per `REREAD_INTERVAL`, and at once after the server refused it. While the file cannot be
    read the last token stays in use.
    """

    def __init__(self, path: Path, clock: Clock, *, initial: str | None = None) -> None:
        """`initial` is a token to use while the file cannot be read at all."""
        self._path = path
        self._clock = clock
        self._current = Authentication(f"Bearer {initial}") if initial else None
        self._due: float | None = None

    async def current(self) -> Authentication:
        now = self._clock.now()
        if self._due is None or now >= self._due:
            self._due = now + REREAD_INTERVAL
            try:
                self._current = Authentication(f"Bearer {self._read()}")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or error
                if self._current is None:
                    self._due = None
                    raise CredentialsError(f"token file {self._path}: {reason}") from error
                log.warning(
                    "token file cannot be read, keeping the last token",
                    file=str(self._path),
                    cause=str(reason),
                )
        assert self._current is not None
        return self._current

    def rejected(self) -> None:
        self._due = None

    def _read(self) -> str:
        token = self._path.read_text().strip()
        if not token:
            raise OSError(f"{self._path} is empty")
        return token


class CertificateFiles:
    """A client certificate in files that somebody else rotates, beside the header of other credentials.

    Files are compared once per `REREAD_INTERVAL`, and at once after a refusal; a new certificate is shown on
    new connections. While the files do not fit together the last certificate stays in use.
    """

    def __init__(self, user: Section, tls: TlsOptions, clock: Clock, beside: Credentials | None) -> None:
        """Raises ConfigurationError."""
        self._user = user
        self._tls = tls
        self._clock = clock
        self._beside = beside
        self._content = self._read()
        self._context = tls.context(*self._content)
        self._due = clock.now() + REREAD_INTERVAL

    async def current(self) -> Authentication:
        now = self._clock.now()
        if now >= self._due:
            self._due = now + REREAD_INTERVAL
            try:
                content = self._read()
                if content != self._content:
                    self._context = self._tls.context(*content)
                    self._content = content
            except ConfigurationError as error:
                log.warning("client certificate cannot be read, keeping the last one", cause=str(error))
        if self._beside is None:
            return Authentication(None, self._context)
        beside = await self._beside.current()
        return Authentication(beside.header, beside.ssl_context or self._context)

    def rejected(self) -> None:
        self._due = self._clock.now()
        if self._beside is not None:
            self._beside.rejected()

    def _read(self) -> tuple[bytes | None, bytes | None]:
        return self._user.pem("client-certificate"), self._user.pem("client-key")


class Plugin(Protocol):
    """An `ExecPlugin`, or what stands in for one."""

    async def run(self, clock: Clock) -> ExecCredential:
        """One run. Raises CredentialsError."""


class ExecCredentials:
    """Tokens and certificates of an exec plugin.

    The plugin is run at first use and its result kept. It is run again before the end that it stated, before
    its certificate expires, and after a refusal. When that fails the old credential is used to its end.
    """

    def __init__(self, plugin: Plugin, clock: Clock, tls: TlsOptions | None) -> None:
        """`tls` is None for servers without TLS."""
        self._plugin = plugin
        self._clock = clock
        self._tls = tls
        self._lock = asyncio.Lock()
        self._current: Authentication | None = None
        self._due: float | None = None
        self._end: float | None = None
        self._obtained = 0.0
        self._refused = False
        self._failed: tuple[float, str] | None = None

    async def current(self) -> Authentication:
        async with self._lock:
            if self._failed is not None and self._clock.now() < self._failed[0] + FAILURE_PAUSE:
                raise CredentialsError(self._failed[1])
            if self._current is None or (self._due is not None and self._clock.now() >= self._due):
                await self._renew()
            assert self._current is not None
            return self._current

    def rejected(self) -> None:
        now = self._clock.now()
        self._due = max(now, self._obtained + REFUSAL_PAUSE) if self._refused else now
        self._refused = True
        self._end = now

    async def _renew(self) -> None:
        """Runs the plugin; keeps what there is if that fails and it may still be good."""
        try:
            credential = await self._plugin.run(self._clock)
        except CredentialsError as error:
            now = self._clock.now()
            if self._current is None or (self._end is not None and now >= self._end):
                self._failed = (now, str(error))
                raise
            self._due = now + SHORTEST_LIFE
            log.warning("credentials cannot be renewed, using the old ones to their end", cause=str(error))
            return
        self._failed = None
        self._keep(credential)

    def _keep(self, credential: ExecCredential) -> None:
        context = None
        certificate = credential.certificate.encode() if credential.certificate else None
        if certificate is not None and self._tls is not None:
            key = credential.key.encode() if credential.key else None
            try:
                context = self._tls.context(certificate, key)
            except ConfigurationError as error:
                raise CredentialsError(str(error)) from error
        header = f"Bearer {credential.token}" if credential.token else None
        self._current = Authentication(header, context)
        self._obtained = self._clock.now()
        ends = [credential.expires, expiry(certificate) if certificate is not None else None]
        left = [(end - self._clock.wall()).total_seconds() for end in ends if end is not None]
        self._due = self._end = None
        if left:
            shortest = max(min(left), SHORTEST_LIFE)
            self._end = self._obtained + shortest
            self._due = self._end - min(EXPIRY_MARGIN, shortest / 5)


def user_credentials(
    user: Section, cluster: Section, server: str, clock: Clock, tls: TlsOptions | None
) -> Credentials | None:
    """What a kubeconfig's user section says; None for anonymous users. Raises ConfigurationError."""
    _refuse(user)
    header = _header(user, cluster, server, clock, tls)
    if tls is None or user.pem("client-certificate") is None:
        return header
    return CertificateFiles(user, tls, clock, header)


def _header(
    user: Section, cluster: Section, server: str, clock: Clock, tls: TlsOptions | None
) -> Credentials | None:
    body = user.body
    token, token_file = user.text("token"), user.text("tokenFile")
    if body.get("exec"):
        info = _cluster_info(cluster, server)
        plugin = ExecPlugin.from_config(body["exec"], base=user.base, cluster=info, where=user.where)
        return ExecCredentials(plugin, clock, tls)
    if token_file:
        return TokenFile(user.base / token_file, clock, initial=token)
    if token:
        return StaticCredentials(f"Bearer {token}")
    if body.get("auth-provider"):
        return StaticCredentials(f"Bearer {_oidc_token(user)}")
    if "username" in body and "password" in body:
        pair = f"{body['username']}:{body['password']}".encode()
        return StaticCredentials("Basic " + base64.b64encode(pair).decode())
    return None


def _refuse(user: Section) -> None:
    """What cannot be done is refused: to act as somebody else than the user meant would be worse."""
    impersonation = sorted(key for key in user.body if key == "as" or key.startswith("as-"))
    if impersonation:
        raise ConfigurationError(f"{user.where}: impersonation ({', '.join(impersonation)}) is not supported")
    provider = user.body.get("auth-provider")
    name = provider.get("name") if isinstance(provider, dict) else provider
    if provider and name != "oidc":
        remedy = "gke-gcloud-auth-plugin" if name == "gcp" else "kubelogin" if name == "azure" else "one"
        raise ConfigurationError(
            f"{user.where}: the auth-provider {name!r} was removed from Kubernetes in 1.26; "
            f"use a credential plugin ({remedy}) in an exec section"
        )
    if user.body.get("exec") and not isinstance(user.body["exec"], dict):
        raise ConfigurationError(f"{user.where}: exec must be a map")
    if user.body.get("exec") and provider:
        raise ConfigurationError(f"{user.where}: exec and auth-provider exclude one another")


def _oidc_token(user: Section) -> str:
    """The id-token that is there. It is not refreshed: that needs the client's secret and writes the file."""
    config = user.body["auth-provider"].get("config") or {}
    token = config.get("id-token")
    remedy = (
        "log in again, or use a credential plugin such as kubelogin (kubectl oidc-login) in an exec section"
    )
    if not isinstance(token, str) or token.count(".") != 2:
        raise ConfigurationError(f"{user.where}: auth-provider oidc has no usable id-token; {remedy}")
    return token


def _cluster_info(cluster: Section, server: str) -> dict[str, Any]:
    """`spec.cluster` of the ExecCredential that a plugin gets when it asks."""
    authority = cluster.pem("certificate-authority")
    info = {
        "server": server,
        "tls-server-name": cluster.body.get("tls-server-name"),
        "insecure-skip-tls-verify": cluster.body.get("insecure-skip-tls-verify"),
        "certificate-authority-data": base64.b64encode(authority).decode() if authority else None,
        "proxy-url": cluster.body.get("proxy-url"),
    }
    for extension in cluster.body.get("extensions") or ():
        if isinstance(extension, dict) and extension.get("name") == "client.authentication.k8s.io/exec":
            info["config"] = extension.get("extension")
    return {key: value for key, value in info.items() if value is not None}
