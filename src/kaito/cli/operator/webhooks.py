"""The admission webhook of `kaito operator`: in every replica, with or without the lease.

Its certificate is made and renewed here and shared through a Secret, or lies in `--webhook-cert-dir`, where
cert-manager puts it. An operator beside its API server (the local mode) has one of its own and registers itself.
Nothing waits for the webhook: without a certificate /readyz says why, and the controllers go on.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from kaito.catalog.models import CatalogSource
from kaito.cli.errors import CliError
from kaito.cli.operator.config import OperatorConfig
from kaito.cli.operator.webhook_manifest import (
    ADAPTER_PATH,
    CONFIGURATION,
    SERVICE,
    WORKSPACE_PATH,
    by_address,
)
from kaito.cli.operator.webhook_rights import SECRET
from kaito.controllers.adapter.admission import adapter_admission
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.admission import workspace_admission
from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.files import write_private
from kaito.runtime.groups import Group
from kaito.runtime.logs import get_logger
from kaito.runtime.manager import Manager
from kaito.runtime.resources import ObjectKey
from kaito.runtime.webhook import CertificateError, WebhookOptions, WebhookServer
from kaito.runtime.webhook.certificates import (
    VALIDATING,
    CertificateKeeper,
    CertificateOptions,
)
from kaito.runtime.webhook.certwatcher import CERTIFICATE, KEY
from kaito.runtime.webhook.issuing import settle_apart
from kaito.runtime.webhook.terms import Question

PORT: Final = 9443
RETRY: Final = 5.0
"""Seconds between two tries to get a certificate, at the start."""
OWN_LIFETIME: Final = timedelta(days=365)
"""Of the certificate that an operator which registers itself makes at every start."""

log = get_logger(__name__)


@dataclass(frozen=True)
class WebhookFlags:
    """The flags of the webhook, as given."""

    enabled: bool | None = None
    """None: in a pod only, since from elsewhere no API server finds the way here."""
    bind_address: str | None = None
    """None: every interface, at the port of WEBHOOK_PORT or 9443."""
    service: str = SERVICE
    cert_dir: Path | None = None
    register: bool = False
    """Whether the operator writes the webhook configuration itself, with its own address."""

    @staticmethod
    def of(config: OperatorConfig) -> WebhookFlags:
        """Those among the operator's flags."""
        return WebhookFlags(
            config.webhook,
            config.webhook_bind_address,
            config.webhook_service,
            config.webhook_cert_dir,
            config.webhook_register,
        )

    @property
    def wanted(self) -> bool:
        """Whether there is a webhook."""
        if self.enabled is None:
            return self.register or "KUBERNETES_SERVICE_HOST" in os.environ
        return self.enabled

    @property
    def kept(self) -> bool:
        """Whether the operator keeps a certificate in the cluster."""
        return self.wanted and self.cert_dir is None and not self.register

    @property
    def address(self) -> str:
        """HOST:PORT to listen at. Raises CliError where WEBHOOK_PORT is no port."""
        if self.bind_address is not None:
            return self.bind_address
        port = os.environ.get("WEBHOOK_PORT") or str(PORT)
        if not port.isdecimal() or int(port) > 65535:
            raise CliError(f"WEBHOOK_PORT={port!r}: write a port number, such as {PORT}.")
        return f":{port}"


def setup(
    manager: Manager,
    flags: WebhookFlags,
    catalog: CatalogSource,
    config: WorkspaceConfig,
    images: Mapping[str, object],
    namespace: str,
) -> OperatorWebhooks | None:
    """Adds the webhook to the manager if there is to be one; `namespace` is the operator's own.

    Raises CliError for an address that is none.
    """
    if not flags.wanted:
        return None
    webhooks = OperatorWebhooks(manager.client, manager.clock, flags, namespace)
    add = webhooks.server.add
    add(WORKSPACE_PATH, workspace_admission(manager.client, catalog, config, images), mutating=False)
    add(ADAPTER_PATH, adapter_admission(images), mutating=False)
    manager.add(webhooks)
    manager.metrics.add(webhooks.server.metrics)
    manager.add_ready_check("webhooks", webhooks.check)
    return webhooks


class OperatorWebhooks:
    """Gets a certificate, serves with it, and keeps both."""

    group = Group.WEBHOOKS
    name = "admission"

    def __init__(self, client: Client, clock: Clock, flags: WebhookFlags, namespace: str) -> None:
        self._client = client
        self._clock = clock
        self._flags = flags
        self._namespace = namespace
        self._problem = "the webhook is starting"
        self._registered = asyncio.Event()
        own = f"kaito-webhook-{secrets.token_hex(8)}"
        self._directory = flags.cert_dir or Path(tempfile.gettempdir()) / own
        try:
            options = WebhookOptions(address=flags.address, directory=self._directory)
            self.server = WebhookServer(clock=clock, options=options)
        except ValueError as error:
            raise CliError(f"--webhook-bind-address: {error}.") from None

    async def check(self) -> None:
        """For /readyz. Raises RuntimeError with what is missing, OSError where nobody answers with a valid
        certificate."""
        if self._problem:
            raise RuntimeError(self._problem)
        await self.server.check()

    async def wait_ready(self) -> None:
        """Until the API server was told of a webhook that registers itself; at once for others, which may have to wait
        for a certificate while the controllers have work."""
        if self._flags.register:
            await self._registered.wait()

    async def run(self) -> None:
        """Until cancelled. Raises OSError where the address is taken."""
        try:
            if self._flags.kept:
                await self._run_kept()
            elif self._flags.register:
                await self._run_registered()
            else:
                await self._serve()
        except ExceptionGroup as several:
            raise several.exceptions[0] from None  # the others were cancelled with the first
        finally:
            if self._flags.cert_dir is None:
                shutil.rmtree(self._directory, ignore_errors=True)

    async def _run_kept(self) -> None:
        """With the certificate of the Secret."""
        options = CertificateOptions(
            secret=ObjectKey(self._namespace, SECRET),
            service=ObjectKey(self._namespace, self._flags.service),
            directory=self._directory,
            validating=(CONFIGURATION,),
        )
        keeper = CertificateKeeper(self._client, clock=self._clock, options=options, settle=settle_apart)
        cache = InformerCache(self._client)  # not the manager's: nothing else may wait for these
        keeper.watch(cache)
        while self._problem:
            try:
                await keeper.ensure()
                self._problem = ""
            except (ApiError, TransportError, OSError) as error:
                self._problem = f"the webhook has no certificate yet: {error}"
                log.error("no certificate for the webhook yet; trying again", error=error, retry_in=RETRY)
                await self._clock.sleep(RETRY)
        async with asyncio.TaskGroup() as group:
            group.create_task(cache.run(), name="webhook-caches")
            group.create_task(keeper.run(), name="webhook-certificates")
            group.create_task(self._serve(), name="webhook-server")

    async def _run_registered(self) -> None:
        """With a certificate of this process, at an address of this machine that the API server is told."""
        lifetime = OWN_LIFETIME.total_seconds()
        wanted = Question(("localhost", "127.0.0.1"), self._clock.wall(), lifetime, ca_lifetime=lifetime)
        made = (await settle_apart(wanted)).certificates
        self._directory.mkdir(mode=0o700)
        write_private(self._directory / KEY, made.key)
        write_private(self._directory / CERTIFICATE, made.chain)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(), name="webhook-server")
            await self.server.wait_ready()
            url = f"https://127.0.0.1:{self.server.port}"
            bundle = b64encode(made.bundle).decode()
            while True:
                try:
                    await self._client.apply(VALIDATING, by_address(url, bundle))
                    self._registered.set()
                    break
                except (ApiError, TransportError) as error:
                    log.error(
                        "the webhook could not be registered; trying again", error=error, retry_in=RETRY
                    )
                    await self._clock.sleep(RETRY)

    async def _serve(self) -> None:
        while True:
            self._problem = ""
            try:
                await self.server.run()
                return
            except CertificateError as error:
                self._problem = str(error)
                log.error("the webhook cannot serve yet; trying again", error=error, retry_in=RETRY)
                await self._clock.sleep(RETRY)
