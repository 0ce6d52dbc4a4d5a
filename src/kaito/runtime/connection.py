"""How to reach an API server: from a kubeconfig, or from inside a pod.

A `Connection` is a URL and a `Transport` that authenticates. Building one reads files but sends nothing; exec
plugins run with the first request.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from kaito.runtime.aiohttp_transport import AioHttpTransport
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.config_import import config_modules
from kaito.runtime.credentials import TokenFile, user_credentials
from kaito.runtime.errors import ConfigurationError
from kaito.runtime.kubeconfig import default_paths, load_context
from kaito.runtime.proxies import check_proxy, proxy_for
from kaito.runtime.tls import TlsOptions
from kaito.runtime.transport import Transport

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a kubelet mounts a pod's token, CA and namespace."""


class Connection:
    """A way to one API server.

    `url` is the server's base URL, `context` the kubeconfig context (None in a cluster), `namespace` the
    context's or the pod's own namespace. Close it when done.
    """

    def __init__(
        self, url: str, transport: Transport, *, context: str | None = None, namespace: str = "default"
    ) -> None:
        self.url = url
        self.transport = transport
        self.context = context
        self.namespace = namespace

    @classmethod
    def from_kubeconfig(
        cls,
        path: str | os.PathLike[str] | None = None,
        context: str | None = None,
        *,
        clock: Clock | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Connection:
        """Use a context of a kubeconfig (default: its current one).

        `path` may be a list of files as in $KUBECONFIG; None means $KUBECONFIG, else ~/.kube/config. A cluster
        without `proxy-url` is reached as HTTPS_PROXY and NO_PROXY in `environ` say. Raises ConfigurationError.
        """
        clock = clock or LoopClock()
        chosen = load_context(os.fspath(path) if path is not None else default_paths(), context)
        cluster = chosen.cluster
        proxy = cluster.text("proxy-url")
        tls = None
        if chosen.server.startswith("https"):
            tls = TlsOptions(
                chosen.server,
                cluster.pem("certificate-authority"),
                verify=not cluster.body.get("insecure-skip-tls-verify"),
            )
        transport = AioHttpTransport(
            chosen.server,
            ssl_context=tls.context() if tls is not None else None,
            server_hostname=cluster.text("tls-server-name"),
            proxy=check_proxy(proxy, cluster.where) if proxy else proxy_for(chosen.server, environ),
            credentials=user_credentials(chosen.user, cluster, chosen.server, clock, tls),
            clock=clock,
        )
        return cls(chosen.server, transport, context=chosen.name, namespace=chosen.namespace)

    @classmethod
    def in_cluster(
        cls,
        *,
        directory: Path = SERVICE_ACCOUNT,
        environ: Mapping[str, str] = os.environ,
        clock: Clock | None = None,
    ) -> Connection:
        """Use the service account of the pod that this process runs in. Raises ConfigurationError."""
        clock = clock or LoopClock()
        target = SimpleNamespace(api_key={}, host="", ssl_ca_cert="")
        modules = config_modules()
        try:
            modules.incluster_config.InClusterConfigLoader(
                str(directory / "token"), str(directory / "ca.crt"), try_refresh_token=False, environ=environ
            ).load_and_set(target)
            authority = Path(target.ssl_ca_cert).read_bytes()
        except (modules.incluster_config.ConfigException, OSError) as error:
            raise ConfigurationError(
                f"no usable service account in {directory}: {error} "
                "Inside a pod, check automountServiceAccountToken; elsewhere, name a kubeconfig."
            ) from error
        transport = AioHttpTransport(
            target.host,
            ssl_context=TlsOptions(target.host, authority).context(),
            proxy=proxy_for(target.host, environ),
            credentials=TokenFile(directory / "token", clock),
            clock=clock,
        )
        namespace_file = directory / "namespace"
        namespace = namespace_file.read_text().strip() if namespace_file.is_file() else ""
        return cls(target.host, transport, namespace=namespace or "default")

    @classmethod
    def from_default(cls, context: str | None = None, *, clock: Clock | None = None) -> Connection:
        """$KUBECONFIG, else the pod's service account, else ~/.kube/config. Raises ConfigurationError."""
        in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT / "token").is_file()
        if not os.environ.get("KUBECONFIG") and in_pod and context is None:
            return cls.in_cluster(clock=clock)
        return cls.from_kubeconfig(None, context, clock=clock)

    async def close(self) -> None:
        """Close the transport."""
        await self.transport.close()

    def __repr__(self) -> str:
        return f"<Connection {self.url}{f' context {self.context}' if self.context else ''}>"
