"""Credentials that age: token files, exec plugins, OIDC and GCP tokens.

Reading kubeconfigs and running plugins is left to `kubernetes_asyncio.config`, which knows the many dialects.
Its package, however, imports 1,500 generated model modules (40 MB), although its `config` part uses none of
them; see `config_modules`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import ssl
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from kaito.runtime.aiohttp_transport import Authentication
from kaito.runtime.clock import Clock, parse_time
from kaito.runtime.errors import CredentialsError

log = logging.getLogger(__name__)

REREAD_INTERVAL = 60.0
"""Seconds after which a token file is read again and an OIDC or GCP token is checked; kubelets rotate hourly.
"""

EXPIRY_MARGIN = 60.0
"""Seconds before a plugin's stated expiry at which it is run again."""

_PACKAGE = "kubernetes_asyncio"


class ConfigModules(NamedTuple):
    """The two modules of `kubernetes_asyncio.config` in use."""

    kube_config: Any
    incluster_config: Any


@cache
def config_modules() -> ConfigModules:
    """Import `kubernetes_asyncio.config` without the rest of its package.

    While the import runs, `kubernetes_asyncio` and `kubernetes_asyncio.client` are stand-ins in
    `sys.modules`; afterwards everything is taken out again, so that a later ordinary import by anybody gets
    the whole package. If it is loaded already, it is used as it is.
    """
    if _PACKAGE in sys.modules:
        return _import_config()
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("kubernetes_asyncio is not installed; it is a dependency of kaito")
    package = ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    client = ModuleType(f"{_PACKAGE}.client")
    # Only named in annotations and in helpers that are not called here.
    vars(client).update(Configuration=SimpleNamespace, ApiClient=SimpleNamespace)
    sys.modules.update({_PACKAGE: package, client.__name__: client})
    try:
        return _import_config()
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == _PACKAGE]:
            del sys.modules[name]


def _import_config() -> ConfigModules:
    return ConfigModules(
        importlib.import_module(f"{_PACKAGE}.config.kube_config"),
        importlib.import_module(f"{_PACKAGE}.config.incluster_config"),
    )


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

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._current: Authentication | None = None
        self._due = 0.0

    async def current(self) -> Authentication:
        now = self._clock.now()
        if self._current is None or now >= self._due:
            self._due = now + REREAD_INTERVAL
            try:
                self._current = Authentication(f"Bearer {self._read()}")
            except OSError as error:
                if self._current is None:
                    raise CredentialsError(f"token file {self._path}: {error.strerror or error}") from error
                log.warning(
                    "token file cannot be read, keeping the last token", extra={"file": str(self._path)}
                )
        return self._current

    def rejected(self) -> None:
        self._due = 0.0

    def _read(self) -> str:
        token = self._path.read_text().strip()
        if not token:
            raise OSError(f"{self._path} is empty")
        return token


class LoaderCredentials:
    """Tokens and certificates that a `KubeConfigLoader` obtains: exec plugins, OIDC, GCP.

    A plugin is run on first use, again shortly before the expiry that it stated, and after a 401.
    `make_context` builds the TLS context from the loader's result, because plugins may hand out client
    certificates.
    """

    def __init__(
        self, loader: Any, clock: Clock, make_context: Callable[[SimpleNamespace], ssl.SSLContext | None]
    ) -> None:
        self._loader = loader
        self._clock = clock
        self._make_context = make_context
        self._lock = asyncio.Lock()
        self._current: Authentication | None = None
        self._due: float | None = None

    async def current(self) -> Authentication:
        async with self._lock:
            if self._current is None or (self._due is not None and self._clock.now() >= self._due):
                self._current = await self._obtain()
            return self._current

    def rejected(self) -> None:
        self._due = 0.0

    async def _obtain(self) -> Authentication:
        # Drops what the loader remembers, so that it runs the plugin instead of judging by its own clock.
        for remembered in ("exec_plugin_expiry", "cert_file", "key_file"):
            vars(self._loader).pop(remembered, None)
        target = new_target()
        try:
            await self._loader.load_and_set(target)
        except Exception as error:  # plugins fail in as many ways as there are plugins
            raise CredentialsError(f"cannot obtain credentials named in the kubeconfig: {error}") from error
        self._due = self._next_refresh()
        return Authentication(target.api_key.get("BearerToken"), self._make_context(target))

    def _next_refresh(self) -> float | None:
        expiry = vars(self._loader).get("exec_plugin_expiry")
        if expiry is not None:
            left = (parse_time(expiry.isoformat()) - self._clock.wall()).total_seconds()
            return self._clock.now() + max(left - EXPIRY_MARGIN, 1.0)
        if self._loader.provider in ("gcp", "oidc"):
            return self._clock.now() + REREAD_INTERVAL
        return None


def new_target() -> SimpleNamespace:
    """An empty stand-in for `kubernetes_asyncio.client.Configuration`: the attributes that loaders set."""
    return SimpleNamespace(
        api_key={},
        host="",
        ssl_ca_cert=None,
        cert_file=None,
        key_file=None,
        verify_ssl=True,
        tls_server_name=None,
        proxy=None,
    )
