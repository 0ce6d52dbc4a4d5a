"""Environment, images, volumes and mounts: what a container finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaito.embedded.kubelet import environment, images, mounts, quantity, volumes
from kaito.embedded.kubelet.environment import MissingReference, Sources
from kaito.embedded.kubelet.images import CommandRefused, ImageEntry, ImageTable
from kaito.embedded.kubelet.volumes import MountFailed, VolumeSources

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a.b/c": "v", "x": 'q"'}},
    "spec": {
        "nodeName": "n",
        "containers": [{"name": "main", "resources": {"limits": {"memory": "1536Mi"}}}],
    },
    "status": {"podIP": "10.244.0.7", "hostIP": "127.0.0.1"},
}
SOURCES = Sources(POD, {"cm": {"k": "v"}, "none": None}, {"s": {"t": "secret"}}, {"cpu": "4"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(", "$A ${A} $("),
        ("100$", "100$"),
        ("$()", "$()"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert environment.expand(text, {"A": "1"}) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['a.b/c']", "v"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'a.b/c="v"\nx="q\\""'),
        ("spec.nodeName", "n"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "10.244.0.7"),
        ("status.hostIPs", "127.0.0.1"),
    ],
)
def test_downward_api(path: str, expected: str) -> None:
    assert environment.field_value(POD, path) == expected


def test_manifest_env() -> None:
    container = {
        "name": "main",
        "resources": {"limits": {"memory": "1536Mi"}},
        "envFrom": [
            {"configMapRef": {"name": "cm"}, "prefix": "P_"},
            {"secretRef": {"name": "x", "optional": True}},
        ],
        "env": [
            {"name": "A", "value": "$(P_k)!"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}},
            {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
            {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}}},
            {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "EMPTY"},
        ],
    }
    assert environment.manifest_env(container, SOURCES) == {
        "P_k": "v",
        "A": "v!",
        "IP": "10.244.0.7",
        "T": "secret",
        "M": "2",
        "C": "4",
        "EMPTY": "",
    }
    assert environment.references([container]) == ({"cm", "none"}, {"x", "s"})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "z"}}, "couldn't find key z in configmap cm"),
        ({"secretKeyRef": {"name": "s", "key": "z"}}, "couldn't find key z in secret s"),
        ({"fieldRef": {"fieldPath": "spec.foo"}}, "fieldPath 'spec.foo' is not supported"),
        ({"resourceFieldRef": {"containerName": "q", "resource": "limits.cpu"}}, "container 'q'"),
    ],
)
def test_missing_references_are_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(MissingReference, match=message):
        environment.manifest_env({"env": [{"name": "X", "valueFrom": entry}]}, SOURCES)


def test_nothing_of_the_users_environment_gets_in() -> None:
    mine = {
        "PATH": "/bin",
        "KUBECONFIG": "/k",
        "HF_TOKEN": "t",
        "AWS_SECRET_ACCESS_KEY": "s",
        "LANG": "C",
        "HOME": "/me",
    }
    assert environment.base_env(mine, "/h", "/t") == {
        "PATH": "/bin",
        "LANG": "C",
        "HOME": "/h",
        "TMPDIR": "/t",
    }


def test_world_env() -> None:
    values = environment.world_env("/root", {5000: 20001, 6000: 20002}, "http://ns:x@127.0.0.1:1")
    assert values["KAITO_PORT"] == values["KAITO_PORT_5000"] == "20001"
    assert values["KAITO_PORT_6000"] == "20002"
    assert (values["KAITO_BIND_HOST"], values["KAITO_MOUNT_ROOT"]) == ("127.0.0.1", "/root")
    assert values["http_proxy"] == values["HTTP_PROXY"] == "http://ns:x@127.0.0.1:1"
    assert "https_proxy" not in values
    assert "KAITO_PORT" not in environment.world_env("/root", {}, "")


def test_quantities() -> None:
    assert [
        quantity.divided(q, d) for q, d in [("250m", "1"), ("250m", "1m"), ("1Gi", "1Mi"), ("1e3", "1k")]
    ] == [
        "1",
        "250",
        "1024",
        "1",
    ]
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity.parse("1 GB")


CURL = ImageEntry("docker.io/curlimages/curl", {"curl": ("/usr/bin/curl",)}, default_command="curl")
KAITO = ImageEntry("*/kaito-*", {"kaito-serve": ("/venv/bin/python", "-m", "kaito_presets.serve")})
ANY = ImageEntry("localhost:5000/any", {"*": ()})
TABLE = ImageTable((KAITO, CURL, ANY))


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("curlimages/curl", CURL),
        ("curlimages/curl:8.5.0", CURL),
        ("docker.io/curlimages/curl@sha256:abc", CURL),
        ("ghcr.io/curlimages/curl", None),
        ("localhost/kaito-phi-3-mini-4k-instruct:0.0.2", KAITO),
        ("mcr.microsoft.com/aks/kaito/kaito-phi-3:1@sha256:a", KAITO),
        ("localhost:5000/any:1", ANY),
        ("nginx", None),
    ],
)
def test_image_table(reference: str, found: ImageEntry | None) -> None:
    assert TABLE.find(reference) is found


def test_refusal_names_what_can_run() -> None:
    assert TABLE.refusal().endswith("; it knows only: */kaito-*, curlimages/curl, localhost:5000/any")
    advised = ImageTable(TABLE.entries, advice="call the porter").refusal()
    assert "; call the porter; it knows only: " in advised


@pytest.mark.parametrize(
    ("entry", "command", "args", "argv"),
    [
        (CURL, [], ["curl", "-s", "http://x"], ["/usr/bin/curl", "-s", "http://x"]),
        (CURL, [], ["-s", "http://x"], ["/usr/bin/curl", "-s", "http://x"]),
        (CURL, ["/usr/bin/curl"], ["-V"], ["/usr/bin/curl", "-V"]),
        (KAITO, ["kaito-serve"], ["--a"], ["/venv/bin/python", "-m", "kaito_presets.serve", "--a"]),
        (ANY, ["sh", "-c", "x"], [], ["sh", "-c", "x"]),
    ],
)
def test_argv(entry: ImageEntry, command: list[str], args: list[str], argv: list[str]) -> None:
    assert images.argv_for(entry, command, args) == argv


def test_other_commands_of_an_image_are_refused_by_name() -> None:
    with pytest.raises(CommandRefused, match=r'exec: "sh": .* the commands of this one are: curl'):
        images.argv_for(CURL, ["sh"], [])
    with pytest.raises(CommandRefused, match=r'exec: "sh": .* the commands of this one are: curl'):
        images.argv_for(CURL, [], ["sh", "-c", "echo hi"])
    with pytest.raises(CommandRefused, match="no command specified"):
        images.argv_for(ANY, [], [])


def volume_sources() -> VolumeSources:
    return VolumeSources(POD, {"cm": {"a": b"1", "b": b"2"}, "gone": None}, {"s": {"t": b"secret"}}, {})


def test_volumes(tmp_path: Path) -> None:
    made = {}
    for volume in [
        {"name": "e", "emptyDir": {}},
        {"name": "c", "configMap": {"name": "cm", "items": [{"key": "a", "path": "sub/x"}]}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o644}},
        {
            "name": "p",
            "projected": {
                "sources": [
                    {"configMap": {"name": "cm"}},
                    {"secret": {"name": "s"}},
                    {
                        "downwardAPI": {
                            "items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
                        }
                    },
                ]
            },
        },
    ]:
        made[volume["name"]] = volumes.make_volume(volume, tmp_path / str(volume["name"]), volume_sources())
    assert (made["c"] / "sub/x").read_text() == "1"
    assert not (made["c"] / "b").exists()
    assert (made["s"] / "t").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in made["p"].iterdir()) == ["a", "b", "name", "t"]
    assert (made["p"] / "name").read_text() == "p"
    assert made["e"].is_dir()


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"name": "v", "configMap": {"name": "gone"}}, 'volume "v": configmap "gone" not found'),
        ({"name": "v", "persistentVolumeClaim": {}}, "type persistentVolumeClaim is not implemented"),
        (
            {"name": "v", "hostPath": {"path": "/no/such/dir", "type": "Directory"}},
            "does not exist on this machine",
        ),
        ({"name": "v", "hostPath": {"path": "rel"}}, "must be an absolute path"),
        ({"name": "v", "hostPath": {"path": "/tmp", "type": "File"}}, "/tmp is not a file"),
        (
            {"name": "v", "configMap": {"name": "cm", "items": [{"key": "a", "path": "../x"}]}},
            "must be relative and stay inside",
        ),
    ],
)
def test_volumes_that_cannot_be_made_say_why(volume: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MountFailed, match=message):
        volumes.make_volume(volume, tmp_path / "v", volume_sources())


def test_mount_root(tmp_path: Path) -> None:
    own = tmp_path / "pod"
    user = tmp_path / "user"
    for path in (own / "volumes/shared", own / "volumes/cfg", user / "weights", tmp_path / "image"):
        path.mkdir(parents=True)
    (user / "weights/model.bin").write_text("w")
    (tmp_path / "image/tool").write_text("t")
    container = {
        "volumeMounts": [
            {"name": "cfg", "mountPath": "/mnt/config"},
            {"name": "shared", "mountPath": "/mnt/adapter"},
            {"name": "user", "mountPath": "/mnt/adapter/mine", "subPath": "weights"},
            {"name": "user", "mountPath": "/weights", "subPath": "weights"},
            {"name": "cfg", "mountPath": "/weights/extra"},
        ]
    }
    dirs = {"cfg": own / "volumes/cfg", "shared": own / "volumes/shared", "user": user}
    plan = mounts.plan_mounts(container, dirs, {"/opt/tools": str(tmp_path / "image")}, {})
    root = own / "roots/main"
    for _ in range(2):  # a restart makes it afresh
        mounts.build_root(root, plan, own)
        assert (root / "mnt/adapter/mine/model.bin").read_text() == "w"
        assert (root / "weights/model.bin").read_text() == "w"
        assert (root / "weights/extra").resolve() == own / "volumes/cfg"
        assert (root / "opt/tools/tool").read_text() == "t"
        (root / "mnt/adapter/new").write_text("n")
        assert (own / "volumes/shared/new").read_text() == "n"
    assert sorted(path.name for path in (user / "weights").iterdir()) == ["model.bin"], (
        "the user's files stay as they are"
    )
    assert mounts.inside(root, "/../../etc/passwd") == root / "etc/passwd"
