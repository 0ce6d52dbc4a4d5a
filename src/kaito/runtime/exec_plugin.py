"""Credential plugins of kubeconfigs (`exec`): run the command, read the ExecCredential that it prints.

client-go's rules: the result is kept until it expires, until the certificate that it holds is about to, or until
the server refuses it; the plugin is told about the cluster if it asks to be. A process that serves others has no
terminal to ask a user at, so a plugin that insists on one is refused by name. What a plugin prints to stderr is
part of the error, since that is where it says what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from kaito.runtime.clock import Clock, parse_time
from kaito.runtime.errors import ConfigurationError, CredentialsError

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
TIMEOUT = 60.0
"""Seconds for one run: logging in at a cloud takes some, waiting for a prompt takes for ever."""
ERROR_TEXT = 1000
"""Characters of what the plugin printed that go into an error."""


@dataclass(frozen=True, slots=True)
class ExecCredential:
    """What a plugin handed out: a bearer token, a client certificate with its key (PEM), or both.

    `expires` is what the plugin itself stated.
    """

    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """One `exec` section, checked."""

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    api_version: str
    install_hint: str
    cluster: Mapping[str, Any] | None
    """What the plugin is told about the cluster; None unless it asked (`provideClusterInfo`)."""

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, base: Path, cluster: Mapping[str, Any], where: str
    ) -> ExecPlugin:
        """Reads the section.

        `base` is the directory that relative commands with a slash start from, `where` begins every complaint.
        Raises ConfigurationError.
        """
        command = config.get("command")
        if not isinstance(command, str) or not command:
            raise ConfigurationError(f"{where}: exec has no command; name the plugin to run")
        api_version = config.get("apiVersion")
        if api_version not in API_VERSIONS:
            raise ConfigurationError(
                f"{where}: exec apiVersion {api_version!r} of {command!r} is not one of "
                f"{', '.join(API_VERSIONS)}; a newer version of the plugin knows them"
            )
        mode = config.get("interactiveMode") or "IfAvailable"
        if mode == "Always":
            raise ConfigurationError(
                f"{where}: the plugin {command!r} needs a terminal (interactiveMode: Always), which a service does "
                "not have; use a token, a client certificate or a plugin with interactiveMode IfAvailable or Never"
            )
        if mode not in ("Never", "IfAvailable"):
            raise ConfigurationError(
                f"{where}: exec interactiveMode {mode!r} is none of Never, IfAvailable, Always"
            )
        return cls(
            command=str(base / command) if "/" in command and not command.startswith("/") else command,
            arguments=_strings(config.get("args"), f"{where}: exec args"),
            environment=_environment(config.get("env"), f"{where}: exec env"),
            api_version=api_version,
            install_hint=str(config.get("installHint") or ""),
            cluster=dict(cluster) if config.get("provideClusterInfo") else None,
        )

    async def run(self, clock: Clock) -> ExecCredential:
        """Runs the plugin once, for at most `TIMEOUT` seconds. Raises CredentialsError."""
        try:
            process = await asyncio.create_subprocess_exec(
                self.command,
                *self.arguments,
                env={**os.environ, **self.environment, "KUBERNETES_EXEC_INFO": self._info()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = f" {self.install_hint}" if self.install_hint else ""
            raise CredentialsError(
                f"the credential plugin {self.command!r} of the kubeconfig cannot be run: "
                f"{error.strerror or error}. Is it installed and on the PATH?{hint}"
            ) from error
        try:
            async with clock.timeout(TIMEOUT):
                out, complaints = await process.communicate()
        except TimeoutError as error:
            raise CredentialsError(
                f"the credential plugin {self.command!r} did not end within {TIMEOUT:g} s; does it wait for input?"
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            text = complaints.decode("utf-8", "replace").strip()[-ERROR_TEXT:]
            raise CredentialsError(
                f"the credential plugin {self.command!r} failed with exit status {process.returncode}"
                + (f": {text}" if text else "")
            )
        return self._parse(out)

    def _info(self) -> str:
        spec: dict[str, Any] = {"interactive": False}
        if self.cluster is not None:
            spec["cluster"] = self.cluster
        return orjson.dumps({"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}).decode()

    def _parse(self, out: bytes) -> ExecCredential:
        """No part of the output goes into an error: it may hold a token."""
        complaint = f"the credential plugin {self.command!r} printed"
        try:
            tree = orjson.loads(out)
        except orjson.JSONDecodeError:
            raise CredentialsError(f"{complaint} something else than JSON") from None
        status = tree.get("status") if isinstance(tree, dict) else None
        if not isinstance(status, dict):
            raise CredentialsError(f"{complaint} no ExecCredential with a status")
        if tree.get("apiVersion") != self.api_version:
            raise CredentialsError(
                f"{complaint} apiVersion {tree.get('apiVersion')!r}, but the kubeconfig says {self.api_version}"
            )
        token = status.get("token") or None
        certificate = status.get("clientCertificateData") or None
        key = status.get("clientKeyData") or None
        if not token and not certificate:
            raise CredentialsError(f"{complaint} neither a token nor a client certificate")
        if bool(certificate) != bool(key):
            raise CredentialsError(
                f"{complaint} a client certificate without its key, or the other way round"
            )
        stated = status.get("expirationTimestamp")
        try:
            expires = parse_time(stated) if stated else None
        except (ValueError, TypeError):
            raise CredentialsError(f"{complaint} expirationTimestamp {stated!r}, which is no time") from None
        return ExecCredential(token, certificate, key, expires)


def _strings(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ConfigurationError(f"{where} must be a list")
    return tuple(map(str, value))


def _environment(value: Any, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, list) or not all(isinstance(each, dict) and each.get("name") for each in value):
        raise ConfigurationError(f"{where} must be a list of name and value")
    return {str(each["name"]): str(each.get("value", "")) for each in value}
