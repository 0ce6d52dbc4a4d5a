"""Whose name stands on a request: a credential of azure-identity, as the configuration says, or none on loopback.

Whatever goes wrong on the way to a token comes out as `SignInFailed`, so that it is told from what the Resource Manager
itself refuses. Retries are off: a token is asked for again with the next request.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError
from azure.identity.aio import (
    AzureCliCredential,
    CertificateCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from kaito.provisioner.aks.classify import SignInFailed
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.aks.signals import without_secrets

LOOPBACK_TOKEN: Final = "no-token-on-loopback"
"""Sent to a fake on this machine in place of a token."""
_FAR_AWAY: Final = 1 << 33
"""Unix time: in the year 2242."""
_CLI_SECONDS: Final = 20


class Credential(Protocol):
    """What gives tokens: an async credential of azure-identity, or one of this module. The SDK knows by its methods,
    `get_token_info` or `get_token`, which of its own protocols it fulfils."""

    async def close(self) -> None: ...


class Guarded:
    """A credential of azure-identity, all of whose failures are `SignInFailed`; made when first asked for a token.

    make: makes it; reads files for some kinds, and may fail as a request for a token may.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    async def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Raises SignInFailed."""
        try:
            if self._made is None:
                self._made = self._make()
            token: AccessTokenInfo = await self._made.get_token_info(*scopes, options=options)
        except (AzureError, OSError, ValueError) as error:
            raise SignInFailed(without_secrets(str(error))) from error
        return token

    async def close(self) -> None:
        """Ends its connections."""
        if self._made is None:
            return
        ended: Awaitable[None] | None = self._made.close()
        if inspect.isawaitable(ended):
            await ended


class LoopbackCredential:
    """Gives `LOOPBACK_TOKEN`, which is no secret: no real token ever goes over plain http."""

    async def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        return AccessTokenInfo(LOOPBACK_TOKEN, _FAR_AWAY)

    async def close(self) -> None:
        """Nothing to end."""


def credential(config: AksConfig) -> Credential:
    """The credential that the configuration describes. No request is made before a token is asked for."""
    if config.sign_in is SignIn.NONE:
        return LoopbackCredential()
    makers: dict[SignIn, Callable[[AksConfig], Any]] = {
        SignIn.WORKLOAD: _workload,
        SignIn.MANAGED: _managed,
        SignIn.SECRET: _secret,
        SignIn.CERTIFICATE: _certificate,
        SignIn.CLI: _cli,
    }
    make = makers[config.sign_in]
    return Guarded(lambda: make(config))


def who(config: AksConfig) -> str:
    """The identity, for sentences; not secret."""
    if config.client_id:
        return config.client_id
    return {SignIn.MANAGED: "of the nodes", SignIn.CLI: "of `az login`"}.get(config.sign_in, "")


def _workload(config: AksConfig) -> Any:
    if not Path(config.federated_token_file).is_file():
        raise SignInFailed(f"the token file {config.federated_token_file} does not exist")
    return WorkloadIdentityCredential(
        tenant_id=config.tenant_id,
        client_id=config.client_id,
        token_file_path=config.federated_token_file,
        authority=config.authority,
        retry_total=0,
    )


def _managed(config: AksConfig) -> Any:
    return ManagedIdentityCredential(client_id=config.client_id or None, retry_total=0)


def _secret(config: AksConfig) -> Any:
    return ClientSecretCredential(
        config.tenant_id,
        config.client_id,
        config.client_secret,
        authority=config.authority,
        retry_total=0,
    )


def _certificate(config: AksConfig) -> Any:
    return CertificateCredential(
        config.tenant_id,
        config.client_id,
        config.certificate_path,
        password=config.certificate_password or None,
        authority=config.authority,
        retry_total=0,
    )


def _cli(config: AksConfig) -> Any:
    return AzureCliCredential(tenant_id=config.tenant_id, process_timeout=_CLI_SECONDS)
