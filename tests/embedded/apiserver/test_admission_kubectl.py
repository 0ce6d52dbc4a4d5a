"""kubectl against a server whose admission webhook runs behind a Service, over TLS."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.runtime.clock import LoopClock
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.webhook import AdmissionRequest, Allow, Cause, Deny, WebhookOptions, WebhookServer
from kaito.runtime.webhook.pki import make_certificates
from support.apiserver import Kubectl
from support.webhooks import write_pair

CLOCK = LoopClock()


def judge(request: AdmissionRequest) -> Allow | Deny:
    if request.operation == "CONNECT":
        return Deny(f"no {(request.object or {}).get('kind')} here: {(request.object or {}).get('command')}")
    data = (request.object or {}).get("data") or {}
    if data.get("size") == "big":
        return Deny("the map is invalid", causes=[Cause("data.size", "must be small")])
    return Allow(warnings=["colour is deprecated"] if "colour" in data else [])


def manifests(port: int, bundle: bytes) -> list[dict[str, Any]]:
    rules = [
        {
            "operations": ["CREATE", "UPDATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["configmaps"],
        },
        {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"]},
    ]
    client = {
        "service": {"name": "hook", "namespace": "default", "path": "/validate--v1-configmap"},
        "caBundle": b64encode(bundle).decode(),
    }
    webhook = {
        "name": "maps.example.com",
        "clientConfig": client,
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hook"},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": port}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "hook"},
            "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": port}]}],
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "maps"},
            "webhooks": [webhook],
        },
    ]


@pytest.fixture
async def guarded(kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Kubectl]:
    """kubectl with the webhook installed through it."""
    month = timedelta(days=30)
    names = ("hook.default.svc",)
    certificates = make_certificates(names, CLOCK.wall(), lifetime=month, ca_lifetime=month)
    write_pair(tmp_path, certificates)
    server = WebhookServer(clock=CLOCK, options=WebhookOptions(address="127.0.0.1:0", directory=tmp_path))
    server.validate(CONFIGMAPS)(judge)
    running = asyncio.create_task(server.run())
    try:
        while True:
            await CLOCK.sleep(0)
            with contextlib.suppress(RuntimeError):
                items = manifests(server.port, certificates.bundle)
                break
        await kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(items))
        yield kubectl
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.mark.kubectl
async def test_kubectl_shows_denials_and_warnings(guarded: Kubectl) -> None:
    refusal = await guarded.fails("create", "configmap", "one", "--from-literal=size=big")
    assert (
        'admission webhook "maps.example.com" denied the request: the map is invalid: data.size: must be small'
        in refusal
    )
    done = await guarded.run("create", "configmap", "one", "--from-literal=colour=red")
    assert (done.code, "Warning: colour is deprecated" in done.err) == (0, True)
    refusal = await guarded.fails("patch", "configmap", "one", "-p", '{"data": {"size": "big"}}')
    assert "the map is invalid" in refusal
    assert "one" in await guarded("delete", "configmap", "one")


@pytest.mark.kubectl
async def test_kubectl_reads_the_configuration(guarded: Kubectl) -> None:
    kind = "validatingwebhookconfigurations"
    assert (await guarded("get", kind, "maps", "-o", "jsonpath={.webhooks[0].failurePolicy}")) == "Fail"
    assert (await guarded("get", kind, "maps", "-o", "jsonpath={.webhooks[0].timeoutSeconds}")) == "10"
    assert "maps" in await guarded("get", kind)
    assert "matchConditions" in await guarded("explain", f"{kind}.webhooks")
    patch = '{"webhooks": [{"name": "maps.example.com", "failurePolicy": "Ignore"}]}'
    await guarded("patch", kind, "maps", "--type=strategic", "-p", patch)
    assert (await guarded("get", kind, "maps", "-o", "jsonpath={.webhooks[*].failurePolicy}")) == "Ignore"


@pytest.mark.kubectl
async def test_exec_is_a_connect(guarded: Kubectl) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await guarded("create", "-f", "-", stdin=pod)
    refusal = await guarded.fails("exec", "p", "--", "ls", "/")
    assert "no PodExecOptions here: ['ls', '/']" in refusal
