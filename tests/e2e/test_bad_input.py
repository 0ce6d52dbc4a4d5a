"""What a user sees, through kubectl and HTTP, who writes something wrong: what, where, and what to write instead."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from support.local_mode import KAITO, LocalMode

pytestmark = [pytest.mark.processes, pytest.mark.slow]

RESOURCE = {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"apps": "bad"}}}
INFERENCE = {"preset": {"name": "phi-3-mini-4k-instruct"}}
TUNING = {
    "preset": {"name": "phi-3-mini-4k-instruct"},
    "input": {"urls": ["https://example.com/data.parquet"]},
    "output": {"image": "registry.example.com/out:1", "imagePushSecret": "push"},
}


def adapter(name: str, strength: str = "1.0", **source: Any) -> dict[str, Any]:
    return {"source": {"name": name, "image": "registry.example.com/a:1", **source}, "strength": strength}


def apply(mode: LocalMode, name: str, **blocks: Any) -> subprocess.CompletedProcess[str]:
    path = mode.root / f"{name}.json"
    path.write_text(
        json.dumps(
            {"apiVersion": "kaito.sh/v1alpha1", "kind": "Workspace", "metadata": {"name": name}, **blocks}
        )
    )
    return mode.kubectl("apply", "-f", str(path), check=False)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        pytest.param({"resource": RESOURCE}, ["inference", "tuning"], id="neither-inference-nor-tuning"),
        pytest.param(
            {"resource": RESOURCE, "inference": INFERENCE, "tuning": TUNING},
            ["inference", "tuning"],
            id="both",
        ),
        pytest.param(
            {"resource": {"instanceType": "Standard_NC6s_v3"}, "inference": INFERENCE},
            ["resource.labelSelector"],
            id="no-label-selector",
        ),
        pytest.param(
            {"resource": RESOURCE, "inference": {**INFERENCE, "adapters": [adapter("a"), adapter("a")]}},
            ["inference.adapters"],
            id="adapter-twice",
        ),
        pytest.param(
            {"resource": RESOURCE, "inference": {**INFERENCE, "adapters": [{"strength": "1.0"}]}},
            ["inference.adapters[0]", "source"],
            id="adapter-without-source",
        ),
        pytest.param(
            {"resource": RESOURCE, "inference": {**INFERENCE, "adapters": [adapter("a", strength="1.5")]}},
            ["inference.adapters[0].strength"],
            id="strength-out-of-range",
        ),
        pytest.param(
            {"resource": {**RESOURCE, "instanceTypes": ["Standard_NC6s_v3"]}, "inference": INFERENCE},
            ["instanceTypes"],
            id="instance-type-and-types",
        ),
    ],
)
def test_the_api_refuses_with_the_path(
    local_mode: LocalMode, blocks: dict[str, Any], words: list[str]
) -> None:
    done = apply(local_mode, "refused", **blocks)
    assert done.returncode == 1
    assert not [word for word in words if word not in done.stderr], done.stderr


@pytest.mark.parametrize(
    ("name", "blocks", "path", "nearest"),
    [
        (
            "unknown-preset",
            {"resource": RESOURCE, "inference": {"preset": {"name": "phi-3-mini-4k-instruckt"}}},
            "inference.preset.name",
            "phi-3-mini-4k-instruct",
        ),
        (
            "unknown-size",
            {"resource": {**RESOURCE, "instanceType": "Standard_NC6s_v33"}, "inference": INFERENCE},
            "resource.instanceType",
            "Standard_NC6s_v3",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    local_mode: LocalMode, name: str, blocks: dict[str, Any], path: str, nearest: str
) -> None:
    done = apply(local_mode, name, **blocks)
    assert done.returncode == 1
    assert f'The Workspace "{name}" is invalid: {path}: ' in done.stderr
    assert f"is not known; nearest: {nearest}" in done.stderr
    assert local_mode.kubectl("get", "workspace", name, "--ignore-not-found", "-o", "name").stdout == ""


def test_what_will_have_to_be_mended_is_a_warning(local_mode: LocalMode) -> None:
    blocks = {
        "resource": RESOURCE,
        "inference": {**INFERENCE, "adapters": [adapter("a", image="MY_REPO_HERE.io/a:1")]},
    }
    done = apply(local_mode, "warned", **blocks)
    assert done.returncode == 0
    assert "Warning: resource.instanceType: Azure retired Standard_NC6s_v3 on 2025-09-30" in done.stderr
    assert "still holds the placeholder MY_REPO_HERE" in done.stderr
    local_mode.kubectl(
        "wait", "workspace/warned", "--for=jsonpath={.status.reason}=InvalidImageReference", "--timeout=30s"
    )
    local_mode.kubectl("delete", "workspace", "warned", "--timeout=30s")


@pytest.fixture(scope="module")
def served(local_mode: LocalMode) -> LocalMode:
    assert apply(local_mode, "asked", resource=RESOURCE, inference=INFERENCE).returncode == 0
    local_mode.wait_ready("asked")
    return local_mode


@pytest.mark.parametrize(
    ("body", "statuses", "word"),
    [
        ("{}", (400,), "prompt"),
        ('{"prompt": ""}', (400,), "prompt"),
        ('{"prompt": 5}', (422,), "prompt"),
        (json.dumps({"prompt": "again " * 20_000}), (400,), "token"),
        ("{", (400, 422), "JSON"),
    ],
)
def test_chat_answers_bad_requests_with_a_sentence(
    served: LocalMode, body: str, statuses: tuple[int, ...], word: str
) -> None:
    code = f"""
import json, ssl, sys, urllib.error, urllib.request, base64
config = json.load(open({str(served.kubeconfig)!r}))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
request = urllib.request.Request(
    cluster["server"] + "/api/v1/namespaces/default/services/asked:80/proxy/chat", data=sys.stdin.buffer.read(),
    headers={{"Authorization": "Bearer " + user["token"], "Content-Type": "application/json"}})
try:
    print(200, urllib.request.urlopen(request, context=context).read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
    done = subprocess.run([sys.executable, "-c", code], input=body.encode(), capture_output=True, timeout=60)
    status, _, answer = done.stdout.decode().partition(" ")
    assert int(status) in statuses, done.stdout + done.stderr
    assert word.lower() in answer.lower()


def test_an_operator_outside_a_cluster_wants_the_context_by_name(local_mode: LocalMode) -> None:
    without = subprocess.run(
        [str(KAITO), "operator"], env=local_mode.environment, capture_output=True, text=True
    )
    assert without.returncode == 1
    assert "--context NAME" in without.stderr
    wrong = subprocess.run(
        [str(KAITO), "operator", "--context=elsewhere"],
        env=local_mode.environment,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 1
    assert "kaito-local" in wrong.stderr, "the contexts that exist should be named"
    assert "Traceback" not in without.stderr + wrong.stderr


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--node-provisioner=karpenter", "--cloud=arc"], "--node-class-group"),
        (["--node-provisioner=magic"], "machine"),
        (["--cloud-provider=magic"], "instant"),
        (["--log-format=magic"], "json"),
        (["--stand-in-weights=tiny-phi-33"], "tiny-phi-3"),
    ],
)
def test_an_operator_refuses_flag_values_it_does_not_know(
    local_mode: LocalMode, flags: list[str], word: str
) -> None:
    quiet = ["--metrics-bind-address=0", "--health-probe-bind-address=0"]
    done = subprocess.run(
        [str(KAITO), "operator", "--context=kaito-local", *quiet, *flags],
        env=local_mode.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_chat_with_a_workspace_that_is_not_there_names_those_that_are(served: LocalMode) -> None:
    done = served.kaito("chat", "nobody", "hello")
    assert done.returncode == 1
    assert "No Workspace nobody" in done.stderr
    assert "asked" in done.stderr
