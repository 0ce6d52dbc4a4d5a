"""kaito-weights: what an init container does for the weights of its pod, and what it says when it ends."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaito.catalog import load_catalog
from kaito.catalog.tensors import differences as differences_in_catalogue
from kaito.catalog.tensors import expectation
from kaito_presets import demo
from kaito_presets.headers import read_header
from kaito_presets.weights import pod
from kaito_presets.weights.check import Unfit, check, differences
from presets.hub_server import HubServer
from presets.registry_server import RegistryServer

TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
TINY = {path.name: path.read_bytes() for path in demo.weights_path().iterdir()}
PRESET = load_catalog().preset("tiny-phi-3")
assert PRESET is not None
EXPECT = expectation(PRESET)
COMMIT = "a" * 40


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.repositories = {"me/tiny": dict(TINY)}
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    server = RegistryServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a container sees as /, with the file for its last words."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "termination-log").touch()
    return tmp_path


class Run:
    """One container's end."""

    def __init__(self, root: Path, *arguments: str, **environment: str) -> None:
        kept = {
            name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "KAITO_IMAGE_MAP")
        }
        done = subprocess.run(
            [sys.executable, "-m", "kaito_presets.weights.pod", *arguments],
            env={**kept, "KAITO_MOUNT_ROOT": str(root), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        self.code, self.log = done.returncode, done.stdout + done.stderr
        self.said = (root / "dev" / "termination-log").read_text().strip()


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


def test_a_download_in_parts_goes_on_where_it_ended_and_says_how_far_it_is(
    hub: HubServer, root: Path
) -> None:
    arguments = ("--repository=me/tiny", "--output=/workspace/weights", f"--expect={json.dumps(EXPECT)}")
    total = sum(map(len, TINY.values())) - len(TINY["kaito-stand-in.json"])
    sizes = []
    for part in range(1, 4):
        run = Run(root, *arguments, f"--share={part}/4", HF_ENDPOINT=hub.url)
        assert run.code == 0, run.log
        assert " of the 1.7 MB of me/tiny at cccccccccccc are there" in run.said
        files = (root / "workspace" / "weights").rglob("*")
        sizes.append(sum(path.stat().st_size for path in files if path.name != ".kaito-source"))
        assert sizes[-1] >= total * part // 4
    assert sizes[0] < total
    last = Run(root, *arguments, "--share=4/4", HF_ENDPOINT=hub.url)
    assert (last.code, last.said) == (0, f"me/tiny at cccccccccccc: 5 files, {total / 1e6:.1f} MB, verified")
    for name, content in TINY.items():
        if name != "kaito-stand-in.json":
            assert (root / "workspace" / "weights" / name).read_bytes() == content
    asked = [path for path, _ in hub.requests if path.endswith("/revision/main")]
    assert len(asked) == 1  # a branch may move between the containers of a pod
    assert any(wanted for _, wanted in hub.file_requests())


def test_a_commit_is_not_asked_about(hub: HubServer, root: Path) -> None:
    run = Run(root, "--repository=me/tiny", f"--revision={COMMIT}", "--output=/w", HF_ENDPOINT=hub.url)
    assert run.code == 0
    assert not any("/revision/" in path for path, _ in hub.requests)
    assert all(f"/resolve/{COMMIT}/" in path for path, _ in hub.requests if "/resolve/" in path)


def test_files_of_another_version_give_way(hub: HubServer, root: Path) -> None:
    directory = root / "w"
    assert Run(root, "--repository=me/tiny", "--output=/w", HF_ENDPOINT=hub.url).code == 0
    other = bytes([TINY["tokenizer.json"][0]]) + b" " * (len(TINY["tokenizer.json"]) - 1)
    (directory / "tokenizer.json").write_bytes(other)
    (directory / ".kaito-source").write_text("me/other main x")
    assert Run(root, "--repository=me/tiny", "--output=/w", HF_ENDPOINT=hub.url).code == 0
    assert (directory / "tokenizer.json").read_bytes() == TINY["tokenizer.json"]


@pytest.mark.parametrize(
    ("prepare", "code", "says"),
    [
        (lambda hub: hub.gated.add("me/tiny"), 6, "does not let you read me/tiny (HTTP 401)"),
        (lambda hub: hub.repositories.clear(), 6, "has no repository me/tiny"),
        (lambda hub: hub.repositories["me/tiny"].pop("model.safetensors"), 6, "no safetensors files"),
        (lambda hub: setattr(hub, "corrupt", 99), 6, "arrived with a wrong checksum, twice"),
        (
            lambda hub: hub.repositories["me/tiny"].update(
                {"config.json": TINY["config.json"].replace(b"Phi3ForCausalLM", b"LlamaForCausalLM")}
            ),
            5,
            "are not those of a tiny-phi-3: the architecture is LlamaForCausalLM, not Phi3ForCausalLM",
        ),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(
    hub: HubServer, root: Path, prepare: Any, code: int, says: str
) -> None:
    prepare(hub)
    expect = f"--expect={json.dumps(EXPECT)}"
    run = Run(root, "--repository=me/tiny", "--output=/w", expect, HF_ENDPOINT=hub.url)
    assert run.code == code
    assert says in run.said
    assert "Traceback" not in run.log


def test_a_gated_repository_is_read_with_the_token_of_the_secret(hub: HubServer, root: Path) -> None:
    hub.gated.add("me/tiny")
    run = Run(root, "--repository=me/tiny", "--output=/w", HF_ENDPOINT=hub.url, HF_TOKEN="secret")
    assert run.code == 0
    assert "secret" not in run.log
    assert all("Authorization" not in headers for path, headers in hub.requests if path.startswith("/cdn/"))


def test_too_small_a_disk_is_told_before_anything_is_fetched(
    hub: HubServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("KAITO_MOUNT_ROOT", str(root))
    with pytest.raises(SystemExit) as ended:
        pod.main(["--repository=me/tiny", "--output=/w"])
    assert ended.value.code == 6
    assert "of disk, and 0.0 MB are free" in (root / "dev" / "termination-log").read_text()
    assert hub.file_requests() == []


# --- registries


@pytest.mark.parametrize("place", ["workspace/weights", "data"])
def test_an_image_with_the_weights_in_it_is_pulled(registry: RegistryServer, root: Path, place: str) -> None:
    layer = archive(**{f"{place}/{name}": content for name, content in TINY.items()}, **{"etc/passwd": b"x"})
    registry.push("me/tiny:1", (TAR, archive(bin=b"busybox"), {}), (TAR, layer, {}), nested=True)
    run = Run(root, f"--image={registry.host}/me/tiny:1", "--output=/w", f"--expect={json.dumps(EXPECT)}")
    assert run.code == 0, run.log
    assert "verified" in run.said
    assert (root / "w" / "model.safetensors").read_bytes() == TINY["model.safetensors"]
    assert sorted(path.name for path in (root / "w").iterdir()) == sorted({*TINY, ".kaito-layers"})


def test_an_artifact_whose_layers_are_files_is_pulled_and_resumed(
    registry: RegistryServer, root: Path
) -> None:
    layers = [
        ("application/octet-stream", content, {"org.opencontainers.image.title": name})
        for name, content in TINY.items()
    ]
    registry.push("me/tiny:1", *layers)
    registry.break_after = [10, 100]
    run = Run(root, f"--image={registry.host}/me/tiny:1", "--output=/w")
    assert run.code == 0, run.log
    assert {name: (root / "w" / name).read_bytes() for name in TINY} == TINY
    assert [each for each in registry.blob_requests() if each] == ["bytes=10-", "bytes=110-"]
    registry.requests.clear()
    assert Run(root, f"--image={registry.host}/me/tiny:1", "--output=/w").code == 0
    assert registry.blob_requests() == []


def test_an_archive_that_an_artifact_names_loses_its_directory(registry: RegistryServer, root: Path) -> None:
    layer = archive(**{f"model/{name}": content for name, content in TINY.items()})
    notes = {"org.opencontainers.image.title": "model", "io.deis.oras.content.unpack": "true"}
    registry.push("me/tiny:1", ("application/vnd.oci.image.layer.v1.tar+gzip", layer, notes))
    assert Run(root, f"--image={registry.host}/me/tiny:1", "--output=/w").code == 0
    assert (root / "w" / "config.json").read_bytes() == TINY["config.json"]


@pytest.mark.parametrize("basic", [False, True])
def test_a_private_registry_is_asked_with_the_pull_secret(
    registry: RegistryServer, root: Path, basic: bool
) -> None:
    registry.users, registry.basic = {"me": "pass:word"}, basic
    registry.push("me/tiny:1", (TAR, archive(**{f"data/{n}": c for n, c in TINY.items()}), {}))
    image = f"--image={registry.host}/me/tiny:1"
    refused = Run(root, image, "--output=/w")
    assert refused.code == 6
    assert "it asks for a login; name a Secret of type kubernetes.io/dockerconfigjson" in refused.said
    config = root / "root" / ".docker" / "config.d" / "mine" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"auths": {registry.host: {"username": "me", "password": "pass:word"}}}))
    assert Run(root, image, "--output=/w").code == 0
    stored = [headers for path, headers in registry.requests if path.startswith("/storage/")]
    assert stored
    assert all("Authorization" not in headers for headers in stored)


@pytest.mark.parametrize(
    ("prepare", "image", "says"),
    [
        (lambda r: None, "me/none:1", "The registry has no 127.0.0.1"),
        (lambda r: setattr(r, "corrupt", True), "me/tiny:1", "arrived with another digest"),
        (lambda r: r.push("me/up:1", ("x", b"1", {"org.opencontainers.image.title": "../a"})), "me/up:1", "leads out"),
        (lambda r: r.push("me/empty:1", (TAR, archive(etc=b"x"), {})), "me/empty:1", "no files under"),
        (lambda r: r.fail_with.append(403), "me/tiny:1", "(HTTP 403)"),
    ],
)  # fmt: skip
def test_what_a_registry_cannot_give_is_said(
    registry: RegistryServer, root: Path, prepare: Any, image: str, says: str
) -> None:
    registry.push("me/tiny:1", (TAR, archive(**{f"data/{n}": c for n, c in TINY.items()}), {}))
    prepare(registry)
    run = Run(root, f"--image={registry.host}/{image}", "--output=/w")
    assert run.code == 6
    assert says in run.said


def test_a_registry_that_is_not_there_is_named(root: Path) -> None:
    run = Run(root, "--image=127.0.0.1:1/me/tiny:1", "--output=/w")
    assert (run.code, "The registry 127.0.0.1:1 can't be reached" in run.said) == (6, True)


def test_an_adapter_comes_from_its_registry(registry: RegistryServer, root: Path) -> None:
    files = {f"data/{path.name}": path.read_bytes() for path in demo.adapter_path().iterdir()}
    registry.push("me/pirate:1", (TAR, archive(**files), {}))
    kept = {name: value for name, value in os.environ.items() if name != "KAITO_IMAGE_MAP"}
    subprocess.run(
        [sys.executable, "-m", "kaito_presets.puller", f"--image={registry.host}/me/pirate:1",
         "--output=/mnt/adapter/pirate"],
        env={**kept, "KAITO_MOUNT_ROOT": str(root)}, check=True,
    )  # fmt: skip
    there = root / "mnt" / "adapter" / "pirate"
    assert {f"data/{p.name}" for p in there.iterdir()} >= set(files)


# --- checks


def tensors() -> dict[str, tuple[int, ...]]:
    return {
        name: info.shape for name, info in read_header(demo.weights_path() / "model.safetensors")[0].items()
    }


CHANGES = [
    ({}, {}, ""),
    ({"num_hidden_layers": 3}, {}, "num_hidden_layers is 3, not 2"),
    ({"architectures": ["GPT2LMHeadModel"]}, {}, "the architecture is GPT2LMHeadModel, not Phi3ForCausalLM"),
    ({}, {"model.layers.1.self_attn.qkv_proj.weight": None}, "there is no tensor model.layers.1.self_attn.qkv_proj"),
    ({}, {"model.layers.0.self_attn.o_proj.weight": (128, 64)}, "has the shape 128 x 64, not 128 x 128"),
    ({}, {"model.embed_tokens.weight": (700, 128)}, ""),
    ({"quantization_config": {}}, {"model.layers.1.self_attn.qkv_proj.weight": None}, "there is no tensor"),
    ({"quantization_config": {"bits": 4}}, {"model.layers.1.self_attn.qkv_proj.weight": None}, ""),
    ({"text_config": {"hidden_size": 64}, "hidden_size": None}, {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("config", "changes", "says"), CHANGES)
def test_both_comparisons_find_the_same(config: Any, changes: Any, says: str) -> None:
    assert PRESET is not None
    made = {**json.loads(TINY["config.json"]), **config}
    shapes = {name: shape for name, shape in {**tensors(), **changes}.items() if shape is not None}
    here = differences(EXPECT, made, shapes)
    there = differences_in_catalogue(PRESET, made, shapes)
    assert len(here) == len(there)
    assert (says in here[0] and says.replace("any", "…") in there[0]) if says else not here


def test_a_directory_is_checked_without_fetching(root: Path) -> None:
    shutil.copytree(demo.weights_path(), root / "w")
    expect = f"--expect={json.dumps(EXPECT)}"
    run = Run(root, "--check=/w", expect)
    assert (run.code, run.said) == (0, "/w: 15 tensors, as expected")
    (root / "w" / "model.safetensors").write_bytes(TINY["model.safetensors"][:5000])
    run = Run(root, "--check=/w", expect)
    assert run.code == 5
    assert "was cut off while it was copied" in run.said
    (root / "w" / "model.safetensors").unlink()
    assert (
        "There are no .safetensors files in /w (there is: config.json" in Run(root, "--check=/w", expect).said
    )
    assert "(there is: nothing)" in Run(root, "--check=/nowhere", expect).said


def test_a_part_that_the_index_names_and_nobody_copied_is_named(tmp_path: Path) -> None:
    shutil.copytree(demo.weights_path(), tmp_path / "w")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "w" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Unfit, match=r"lacks model-00002-of-00002\.safetensors"):
        check(tmp_path / "w", "w", EXPECT)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "One of the arguments --repository --image --check is required"),
        (["--repository=a/b"], "Say where the files go, with --output"),
        (["--repository=a/b", "--image=x"], "not allowed with argument"),
        (["--repository=a/b", "--output=/w", "--share=5/4"], "'5/4' is no share such as 1/4"),
        (["--check=/w", "--expect=["], "is no JSON object"),
    ],
)
def test_wrong_arguments_end_with_2(root: Path, arguments: list[str], says: str) -> None:
    run = Run(root, *arguments)
    assert run.code == 2
    assert says.lower() in run.said.lower()
