"""How `kaito operator` comes to a webhook, and what it does where that is not possible."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.catalog import load_catalog
from kaito.cli.errors import CliError
from kaito.cli.operator import webhooks
from kaito.cli.operator.webhook_manifest import (
    ADAPTER_PATH,
    CONFIGURATION,
    WORKSPACE_PATH,
    by_service,
    main,
    rendered,
)
from kaito.cli.operator.webhooks import OperatorWebhooks, WebhookFlags
from kaito.controllers.workspace import WorkspaceConfig
from kaito.runtime.clock import LoopClock
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import SECRETS
from kaito.runtime.webhook.certificates import VALIDATING
from support.control_plane import ControlPlane, control_plane
from support.webhooks import made, write_pair

FILE = Path(__file__).parents[2] / "manifests" / "webhook" / "configuration.yaml"
LOOPBACK = "127.0.0.1:0"


def test_the_manifest_is_what_the_code_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert FILE.read_text() == rendered(), "run `make manifests`"
    copy = tmp_path / "configuration.yaml"
    assert main([str(copy), "--check"]) == 1
    assert not copy.exists()
    assert main([str(copy)]) == 0
    assert main([str(copy), "--check"]) == 0
    assert "wrote" in capsys.readouterr().out


def test_a_webhook_that_is_down_blocks_nothing() -> None:
    configuration = yaml.safe_load(rendered())
    assert configuration == by_service("kaito-system")
    found = {}
    for hook in configuration["webhooks"]:
        assert (hook["failurePolicy"], hook["matchPolicy"], hook["sideEffects"]) == (
            "Ignore",
            "Equivalent",
            "None",
        )
        assert hook["timeoutSeconds"] <= 5
        assert "caBundle" not in hook["clientConfig"], "whoever applies this again must not take it away"
        (rule,) = hook["rules"]
        assert rule["operations"] == ["CREATE", "UPDATE"]
        assert "/" not in "".join(rule["resources"]), "no subresource"
        found[hook["clientConfig"]["service"]["path"]] = (
            rule["apiGroups"],
            rule["apiVersions"],
            rule["resources"],
        )
    assert found == {
        path: ([resource.group], [resource.version], [resource.plural])
        for path, resource in ((WORKSPACE_PATH, WORKSPACES), (ADAPTER_PATH, ADAPTERS))
    }


@pytest.mark.parametrize(
    ("flags", "in_pod", "wanted", "kept"),
    [
        (WebhookFlags(), False, False, False),
        (WebhookFlags(), True, True, True),
        (WebhookFlags(enabled=False), True, False, False),
        (WebhookFlags(enabled=True), False, True, True),
        (WebhookFlags(register=True), False, True, False),
        (WebhookFlags(cert_dir=Path("/certs")), True, True, False),
    ],
)
def test_when_there_is_one(
    monkeypatch: pytest.MonkeyPatch, flags: WebhookFlags, in_pod: bool, wanted: bool, kept: bool
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if in_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert (flags.wanted, flags.kept) == (wanted, kept)


def test_the_port_is_go_kaitos_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WebhookFlags().address == ":9443"
    monkeypatch.setenv("WEBHOOK_PORT", "8443")
    assert WebhookFlags().address == ":8443"
    assert WebhookFlags(bind_address=LOOPBACK).address == LOOPBACK
    monkeypatch.setenv("WEBHOOK_PORT", "many")
    with pytest.raises(CliError, match="write a port number"):
        _ = WebhookFlags().address


@contextlib.asynccontextmanager
async def running(world: ControlPlane, flags: WebhookFlags) -> AsyncIterator[OperatorWebhooks]:
    manager = Manager(world.client, clock=world.clock, options=ManagerOptions(grace_period=1.0))
    found = webhooks.setup(manager, flags, load_catalog(), WorkspaceConfig(), {}, "kube-system")
    assert found is not None
    stop = asyncio.Event()
    task = asyncio.create_task(manager.run(stop))
    try:
        yield found
    finally:
        stop.set()
        await task


async def ready(webhook: OperatorWebhooks) -> str:
    """What /readyz would say, "" when it is content."""
    try:
        await webhook.check()
    except (RuntimeError, OSError) as error:
        return str(error) or type(error).__name__
    return ""


async def until_ready(webhook: OperatorWebhooks) -> None:
    clock = LoopClock()
    async with clock.timeout(30):
        while await ready(webhook):
            await clock.sleep(0.05)


async def test_one_beside_its_api_server_registers_itself() -> None:
    flags = WebhookFlags(register=True, bind_address=LOOPBACK)
    async with control_plane(LoopClock()) as world, running(world, flags) as webhook:
        await webhook.wait_ready()
        await until_ready(webhook)
        found = await world.client.get(VALIDATING, CONFIGURATION)
        url = f"https://127.0.0.1:{webhook.server.port}"
        assert [each["clientConfig"]["url"] for each in found["webhooks"]] == [
            f"{url}{WORKSPACE_PATH}",
            f"{url}{ADAPTER_PATH}",
        ]
        assert all(each["clientConfig"]["caBundle"] for each in found["webhooks"])
        names = [each["metadata"]["name"] for each in await world.client.list(SECRETS)]
        assert not [name for name in names if "webhook" in name]


async def test_certificates_of_somebody_else_are_waited_for_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "RETRY", 0.1)
    async with control_plane(LoopClock()) as world:
        async with running(
            world, WebhookFlags(enabled=True, bind_address=LOOPBACK, cert_dir=tmp_path)
        ) as webhook:
            clock = LoopClock()
            async with clock.timeout(30):
                while "tls.crt" not in await ready(webhook):
                    await clock.sleep(0.05)
            write_pair(tmp_path, made())
            await until_ready(webhook)
        assert not [path for _, method, path in world.requests if method != "GET" and "secrets" in path]
        assert (tmp_path / "tls.crt").exists()


async def test_an_address_that_is_taken_is_said() -> None:
    listening = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    flags = WebhookFlags(register=True, bind_address=f"127.0.0.1:{port}")
    try:
        async with control_plane(LoopClock()) as world:
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
                await OperatorWebhooks(world.client, world.clock, flags, "kube-system").run()
    finally:
        listening.close()
        await listening.wait_closed()


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(CliError, match="--webhook-bind-address"):
        OperatorWebhooks(None, LoopClock(), WebhookFlags(bind_address="nonsense"), "x")  # type: ignore[arg-type]
