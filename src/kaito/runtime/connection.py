"""How to reach an API server: from a kubeconfig, or from inside a pod.

A `Connection` is a URL and a `Transport` that authenticates. Building one reads files but sends nothing; exec
plugins run with the first request.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from kaito.runtime.aiohttp_transport import AioHttpTransport, Credentials
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.credentials import (
    LoaderCredentials,
    StaticCredentials,
    TokenFile,
    config_modules,
    new_target,
)
from kaito.runtime.errors import ConfigurationError
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
    ) -> Connection:
        """Use a context of a kubeconfig (default: its current one).

        `path` may be a list of files as in $KUBECONFIG; None means $KUBECONFIG, else ~/.kube/config. Raises
        ConfigurationError.
        """
        paths = os.fspath(path) if path is not None else _default_paths()
        clock = clock or LoopClock()
        loader, context_name, context_body = _load(paths, context)
        target = new_target()
        try:
            loader._load_cluster_info()
            loader._set_config(target)
        except Exception as error:
            raise ConfigurationError(f"kubeconfig {paths}, context {context_name!r}: {error}") from error
        if not target.host:
            raise ConfigurationError(
                f"kubeconfig {paths}: the cluster of context {context_name!r} has no server"
            )
        transport = AioHttpTransport(
            target.host,
            ssl_context=_ssl_context(target),
            server_hostname=target.tls_server_name,
            proxy=target.proxy,
            credentials=_credentials(loader, clock),
            clock=clock,
        )
        return cls(
            target.host, transport, context=context_name, namespace=context_body.get("namespace") or "default"
        )

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
        target = new_target()
        modules = config_modules()
        try:
            modules.incluster_config.InClusterConfigLoader(
                str(directory / "token"), str(directory / "ca.crt"), try_refresh_token=False, environ=environ
            ).load_and_set(target)
        except (modules.incluster_config.ConfigException, OSError) as error:
            raise ConfigurationError(
                f"no usable service account in {directory}: {error} "
                "Inside a pod, check automountServiceAccountToken; elsewhere, name a kubeconfig."
            ) from error
        transport = AioHttpTransport(
            target.host,
            ssl_context=_ssl_context(target),
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


def _default_paths() -> str:
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def _load(paths: str, context: str | None) -> tuple[Any, str, dict[str, Any]]:
    """The loader for one context, the context's name and its body."""
    kube_config = config_modules().kube_config
    files = [Path(part).expanduser() for part in paths.split(os.pathsep) if part]
    present = [file for file in files if file.is_file()]
    if not present:
        raise ConfigurationError(
            f"kubeconfig not found: {', '.join(map(str, files)) or '(no path given)'}. "
            "Name one with --kubeconfig or in $KUBECONFIG."
        )
    for file in present:
        _check_file(file)
    config = kube_config.KubeConfigMerger(os.pathsep.join(map(str, present))).config
    contexts = {each["name"]: each["context"] for each in (node.value for node in config.value["contexts"])}
    known = f"Known contexts: {', '.join(sorted(contexts)) or '(none)'}."
    name = context or config.value.get("current-context")
    if not name:
        raise ConfigurationError(
            f"kubeconfig {paths} has no current-context; name one with --context. {known}"
        )
    if name not in contexts:
        raise ConfigurationError(f"kubeconfig {paths} has no context {name!r}. {known}")
    try:
        loader = kube_config.KubeConfigLoader(config_dict=config, active_context=name, config_base_path=None)
    except (kube_config.ConfigException, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"kubeconfig {paths}, context {name!r}: {error}") from error
    if loader._user is None:
        loader._user = kube_config.ConfigNode("user", {})  # anonymous: no user, or one without a body
    return loader, name, dict(contexts[name] or {})


def _check_file(file: Path) -> None:
    try:
        tree = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"kubeconfig {file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"kubeconfig {file}{where} is not YAML") from error
    if not isinstance(tree, dict):
        raise ConfigurationError(
            f"kubeconfig {file} is empty or not a kubeconfig (no clusters, contexts, users)"
        )
    for part, body in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
        entries = tree.get(part) or []
        if not isinstance(entries, list):
            raise ConfigurationError(f"kubeconfig {file}: {part} must be a list")
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict) or not entry.get("name") or body not in entry:
                raise ConfigurationError(f"kubeconfig {file}: {part}[{index}] needs a name and a {body}")


def _credentials(loader: Any, clock: Clock) -> Credentials | None:
    user: dict[str, Any] = loader._user.value
    if loader.provider or "exec" in user:
        return LoaderCredentials(loader, clock, _ssl_context)
    if "tokenFile" in user and not user.get("token"):
        base = Path(loader._get_base_path(loader._user.path) or ".")
        return TokenFile(base / user["tokenFile"], clock)
    if user and (loader._load_user_token() or loader._load_user_pass_token()):
        return StaticCredentials(loader.token)
    return None


def _ssl_context(target: SimpleNamespace) -> ssl.SSLContext | None:
    """TLS as the loader's result says; None for plain http.

    X.509 strictness, the default since Python 3.13, is off as in every other Kubernetes client: cluster CAs
    made by common tools lack the extensions that it demands.
    """
    if not target.host.startswith("https"):
        return None
    try:
        context = ssl.create_default_context(cafile=target.ssl_ca_cert)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if target.cert_file:
            context.load_cert_chain(target.cert_file, keyfile=target.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"certificates for {target.host} cannot be loaded: {error}. "
            "Check certificate-authority, client-certificate and client-key in the kubeconfig."
        ) from error
    if not target.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
