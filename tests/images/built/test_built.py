"""The real images: small, the same twice, complete bills, and they do their work as nobody on a read-only root."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import urllib.request
from pathlib import Path

import pytest

from images.built.conftest import EPOCH, IMAGES, Build, make_images
from kaito_presets import demo
from support.containers import Image

INSTALLING = IMAGES[:3]
LARGEST = {"operator": 95, "puller": 3, "runtime-mistralrs": 190, "kaito-phi-3-mini-4k-instruct": 190}
"""MB that an image may add to its base."""


@pytest.mark.parametrize("image", IMAGES)
def test_small(images: dict[str, Image], image: str) -> None:
    added = [images[image].root / folder for folder in ("opt", "usr/share/kaito", "workspace")]
    files = [
        path for folder in added for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert sum(path.stat().st_size for path in files) <= LARGEST[image] * 1e6


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_that_only_a_build_needs(images: dict[str, Image], image: str) -> None:
    root = images[image].root
    assert not (root / "build").exists()
    names = {path.name for path in root.glob("opt/kaito/lib/python3*/site-packages/*")}
    names |= {path.name for path in root.glob("usr/*/lib/python3*/site-packages/*")}
    assert not {name for name in names if re.match(r"(pip|setuptools|wheel|build|hatchling)([-.]|$)", name)}
    for program in ("gcc", "cc", "make", "pip", "pip3", "git"):
        assert shutil.which(program, path=f"{root}/usr/bin:{root}/usr/local/bin:{root}/opt/kaito/bin") is None


@pytest.mark.parametrize("image", IMAGES)
def test_what_was_added_has_one_time_and_compiled_modules_hold_none(
    images: dict[str, Image], image: str
) -> None:
    root = images[image].root
    added = [path for folder in ("opt", "workspace") for path in (root / folder).rglob("*")]
    assert added
    assert {int(path.lstat().st_mtime) for path in added} == {EPOCH}
    compiled = [path for path in added if path.suffix == ".pyc"]
    assert compiled
    # The second word of the header: 1 is "by hash, never checked" (PEP 552).
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\x00\x00\x00"}


def test_two_builds_give_the_same_digests(built: Build, registry: str, tmp_path: Path) -> None:
    again = make_images(registry, tmp_path / "second")
    assert [again.record(image) for image in IMAGES] == [built.record(image) for image in IMAGES]
    assert [again.bill(image) for image in INSTALLING] == [built.bill(image) for image in INSTALLING]


@pytest.mark.parametrize("image", IMAGES)
def test_the_registry_has_what_was_built(built: Build, image: str) -> None:
    record = built.record(image)
    host, path = record["name"].split("/", 1)
    name, _, tag = path.rpartition(":")
    request = urllib.request.Request(
        f"http://{host}/v2/{name}/manifests/{tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request) as answer:
        content = answer.read()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == record["digest"]
    assert json.loads(content)["config"]["digest"] == record["id"]


@pytest.mark.parametrize("image", INSTALLING)
def test_the_bill_names_everything_that_is_in_the_image(
    images: dict[str, Image], built: Build, image: str
) -> None:
    root, config = images[image].root, images[image].config
    text = (root / "usr/share/kaito/sbom.cdx.json").read_bytes()
    assert text.decode() == built.bill(image)
    assert config["Labels"]["sh.kaito.sbom.sha256"] == hashlib.sha256(text).hexdigest()
    components = {(each["name"], each["version"]) for each in json.loads(text)["components"]}
    metadata = list(root.glob("opt/kaito/lib/python3*/site-packages/*.dist-info/METADATA"))
    assert metadata
    for path in metadata:
        fields = dict(line.split(": ", 1) for line in path.read_text().splitlines()[:10] if ": " in line)
        assert (fields["Name"], fields["Version"]) in components
    status = (root / "var/lib/dpkg/status").read_text()
    packages = re.findall(r"^Package: (.*)$", status, re.MULTILINE)
    assert set(packages) <= {name for name, _ in components}


def test_the_operator_starts(images: dict[str, Image], tmp_path: Path) -> None:
    operator = images["operator"]
    assert operator.run(tmp_path / "a", "version") == (0, "0.1.0\n")
    code, text = operator.run(tmp_path / "b", "operator", "--help")
    assert code == 0
    assert "--node-provisioner" in text
    # Outside a cluster it says what is missing; as in a pod, it reads no kubeconfig's generated client.
    code, text = operator.run(tmp_path / "c", "operator")
    assert code != 0
    assert "Outside a cluster, say which one to operate" in text


def test_the_operator_reads_kubeconfigs_without_the_generated_client(
    images: dict[str, Image], tmp_path: Path
) -> None:
    program = "from kaito.runtime.config_import import config_modules as c; print(c().kube_config.__name__)"
    found = images["operator"].run(tmp_path / "a", "-c", program, command=["python"])
    assert found == (0, "kubernetes_asyncio.config.kube_config\n")


def test_the_provisioner_of_every_cloud_is_in_it(images: dict[str, Image], tmp_path: Path) -> None:
    """What it lacks is settings, and no package."""
    code, text = images["operator"].run(tmp_path / "a", "provisioner", "--cloud-provider=aks")
    assert code == 1
    assert "AZURE_CLUSTER_NAME (name of the managed cluster)" in text


def test_everything_the_operator_imports_is_compiled(images: dict[str, Image], tmp_path: Path) -> None:
    program = (
        "import sys, os, kaito.cli.main, kaito.cli.operator.run\n"
        "import azure.identity.aio, azure.mgmt.containerservice.aio, tenacity\n"
        "files = [m.__cached__ for m in list(sys.modules.values()) if getattr(m, '__cached__', None)]\n"
        "print([f for f in files if not os.path.exists(f) and '/opt/kaito' in f])"
    )
    code, text = images["operator"].run(tmp_path / "a", "-c", program, command=["python"])
    assert code == 0
    assert text == "[]\n"


def test_containers_are_nobody_and_cannot_write(images: dict[str, Image], tmp_path: Path) -> None:
    program = (
        "import errno, os\n"
        "try:\n    open('/opt/kaito/x', 'w')\n"
        "except OSError as error:\n    print(f'{os.getuid()} {os.getgid()} {errno.errorcode[error.errno]}')"
    )
    for image in IMAGES:
        # One write: the pieces of two would mix with whatever else the container says.
        assert images[image].run(tmp_path / image, "-c", program, command=["python"]) == (
            0,
            "65532 65532 EROFS\n",
        )


def test_the_preset_image_answers(images: dict[str, Image], tmp_path: Path) -> None:
    environment = {"KAITO_BIND_HOST": "127.0.0.1", "KAITO_PORT": "0"}
    arguments = ("--preset=phi-3-mini-4k-instruct", "--weights=/workspace/weights")
    served = images["kaito-phi-3-mini-4k-instruct"]
    process = served.start(tmp_path / "bundle", *arguments, command=["kaito-serve"], environment=environment)
    assert process.stdout is not None
    log = ""
    try:
        port = None
        for line in process.stdout:
            log += line
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            port = port or (found.group(1) if found else None)
            if port and "ready" in line.lower():
                break
        assert port is not None, log
        body = json.dumps({"prompt": "What is the capital of France?"}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/chat", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer)["Result"] == "The capital of France is Paris."
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
    assert process.returncode == 0, log + rest


def test_the_puller_pulls(images: dict[str, Image], tmp_path: Path) -> None:
    layout, output = tmp_path / "layout", tmp_path / "adapter"
    shutil.copytree(demo.adapter_oci_path(), layout)
    output.mkdir()
    for path in (tmp_path, layout, *layout.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    os.chown(output, 65532, 65532)
    found = images["puller"].run(
        tmp_path / "bundle",
        "--image=r.example/pirate:1",
        "--output=/mnt/adapter/pirate",
        command=["kaito-pull"],
        environment={"KAITO_IMAGE_MAP": '{"r.example/pirate:1": "oci:/layout"}'},
        mounts={layout: "/layout", output: "/mnt/adapter"},
    )
    assert found[0] == 0, found[1]
    assert (output / "pirate" / "adapter_config.json").is_file()
    code, text = images["puller"].run(tmp_path / "b", "--image=r.example/x:1", "--output=/mnt/adapter/x")
    assert code == 6
    assert "The registry r.example can't be reached" in text
    code, text = images["puller"].run(tmp_path / "c", "--help", command=["kaito-weights"])
    assert code == 0, text
    assert "--repository" in text
