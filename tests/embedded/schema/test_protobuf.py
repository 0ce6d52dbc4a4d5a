"""Protobuf bodies: recordings of what kubectl sends, and bodies that must be refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kaito.embedded.apiserver.kinds.normalise import normalise
from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.kinds.typetable import Field, TypeDef
from kaito.embedded.apiserver.protobuf import MAGIC, decode_protobuf
from kaito.runtime.errors import BadRequest, UnsupportedMediaType

RECORDED: dict[str, str] = json.loads(
    (Path(__file__).parent / "recorded" / "kubectl_1_37_bodies.json").read_text()
)


def tidy(obj: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server stores it: without the zeros that protobuf spells out."""
    assert normalise(obj, TABLE.root(obj["kind"]), "v1") == []
    return obj


@pytest.mark.parametrize("command", sorted(RECORDED))
def test_everything_kubectl_creates_is_understood(command: str) -> None:
    obj = tidy(decode_protobuf(base64.b64decode(RECORDED[command])))
    assert obj["kind"]
    assert obj["apiVersion"].endswith("v1")


def test_a_deployment_as_kubectl_makes_it() -> None:
    command = "kubectl create deployment web --image=nginx:1 --replicas=2 --port=80 -- sleep 1"
    assert tidy(decode_protobuf(base64.b64decode(RECORDED[command]))) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {
                            "name": "nginx",
                            "image": "nginx:1",
                            "command": ["sleep", "1"],
                            "ports": [{"containerPort": 80}],
                            "resources": {},
                        }
                    ]
                },
            },
            "strategy": {},
        },
        "status": {},
    }


@pytest.mark.parametrize(
    ("command", "path", "value"),
    [
        ("kubectl create cm c --from-literal=a=b --from-literal=c=d", ("data",), {"a": "b", "c": "d"}),
        ("kubectl create secret generic s --from-literal=u=p", ("data",), {"u": "cA=="}),
        (
            "kubectl create service nodeport np --tcp=80:http",
            ("spec", "ports"),
            [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http"}],
        ),
        (
            "kubectl create service clusterip svc --tcp=80:5000",
            ("spec", "ports"),
            [{"name": "80-5000", "protocol": "TCP", "port": 80, "targetPort": 5000}],
        ),
        ("kubectl create quota q --hard=pods=1", ("spec", "hard"), {"pods": "1"}),
        ("kubectl create pdb p --selector=a=b --min-available=1", ("spec", "minAvailable"), 1),
        (
            "kubectl auth can-i get pods",
            ("spec", "resourceAttributes"),
            {"namespace": "default", "verb": "get", "resource": "pods"},
        ),
    ],
)
def test_single_fields(command: str, path: tuple[str, ...], value: Any) -> None:
    found: Any = tidy(decode_protobuf(base64.b64decode(RECORDED[command])))
    for name in path:
        found = found[name]
    assert found == value


# --- an encoder, to try what kubectl does not send ------------------------------------------------------------


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def block(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode_value(number: int, value: Any, item: Field) -> bytes:
    if item.target is not None:
        return block(number, encode(value, item.target))
    if item.base in ("bool", "int32", "int64"):
        return varint(number << 3) + varint(int(value))
    if item.base == "quantity":
        return block(number, block(1, value.encode()))
    if item.base == "intstr":
        if isinstance(value, int):
            return block(number, varint(1 << 3) + varint(0) + varint(2 << 3) + varint(value))
        return block(number, varint(1 << 3) + varint(1) + block(3, value.encode()))
    if item.base in ("time", "microtime"):
        return block(number, varint(1 << 3) + varint(1767225600) + varint(2 << 3) + varint(5000))
    return block(number, base64.b64decode(value) if item.base == "bytes" else value.encode())


def encode(value: dict[str, Any], definition: TypeDef) -> bytes:
    out = b""
    for name, content in value.items():
        item = definition.fields[name]
        number = item.wire[-1]
        if item.shape == "list":
            data = b"".join(encode_value(number, each, item) for each in content)
        elif item.shape == "map":
            data = b"".join(
                block(number, block(1, key.encode()) + encode_value(2, each, item))
                for key, each in content.items()
            )
        else:
            data = encode_value(number, content, item)
        for outer in reversed(item.wire[:-1]):
            data = block(outer, data)
        out += data
    return out


def envelope(api_version: str, kind: str, raw: bytes, encoding: str = "") -> bytes:
    meta = block(1, api_version.encode()) + block(2, kind.encode())
    return MAGIC + block(1, meta) + block(2, raw) + (block(3, encoding.encode()) if encoding else b"")


POD: dict[str, Any] = {
    "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"a": ""}},
    "spec": {
        "containers": [
            {
                "name": "c",
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}}
                ],
                "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5},
                "resources": {"limits": {"cpu": "1"}},
                "securityContext": {"runAsUser": -1},
            }
        ],
        "volumes": [{"name": "v", "configMap": {"name": "m", "defaultMode": 420}}],
        "tolerations": [{"tolerationSeconds": 0}],
    },
}


def test_all_wire_shapes_survive() -> None:
    body = envelope("v1", "Pod", encode(POD, TABLE["Pod"]))
    assert decode_protobuf(body) == {"apiVersion": "v1", "kind": "Pod", **POD}


def test_microseconds_survive() -> None:
    lease = {"spec": {"renewTime": "2026-01-01T00:00:00.000005Z"}}
    body = envelope("coordination.k8s.io/v1", "Lease", encode(lease, TABLE["Lease"]))
    assert decode_protobuf(body)["spec"] == lease["spec"]


def test_kinds_it_does_not_know_are_refused_with_a_way_out() -> None:
    with pytest.raises(
        UnsupportedMediaType, match="HorizontalPodAutoscaler of autoscaling/v2 in protobuf; send JSON"
    ):
        decode_protobuf(envelope("autoscaling/v2", "HorizontalPodAutoscaler", b""))


def test_fields_it_does_not_know_are_refused_not_lost() -> None:
    with pytest.raises(UnsupportedMediaType, match="field number 99 of ConfigMap"):
        decode_protobuf(envelope("v1", "ConfigMap", block(99, b"x")))


def test_untyped_content_is_refused_not_lost() -> None:
    volume = block(1, b"v") + block(2, block(8, block(1, b"10.0.0.1")))
    pod = block(2, block(1, volume))
    with pytest.raises(UnsupportedMediaType, match=r"Pod\.spec\.volumes\.iscsi"):
        decode_protobuf(envelope("v1", "Pod", pod))


def test_compression_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="compressed"):
        decode_protobuf(envelope("v1", "ConfigMap", b"", "gzip"))


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        envelope("v1", "ConfigMap", b"\x0a\xff"),
        envelope("v1", "ConfigMap", b"\xff"),
        envelope("v1", "ConfigMap", b"\xff" * 12),
        envelope("v1", "ConfigMap", varint(1 << 3) + varint(1)),
        envelope("v1", "ConfigMap", block(1, block(1, b"\xff"))),
        envelope("v1", "ConfigMap", b"\x0f"),
    ],
)
def test_damaged_bodies_are_a_400(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_protobuf(body)
