"""kaito-weights --look: what is told of weights of which nothing but their beginnings is read."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import shutil
import socket
import struct
import subprocess
import tarfile
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from kaito_presets import demo
from kaito_presets.oci import BadImage, NotThere, manifest_of
from kaito_presets.weights import look
from kaito_presets.weights.check import Unfit
from kaito_presets.weights.gguf import numbers
from kaito_presets.weights.parts import LONGEST_READ, Budget, Unseen, Window
from kaito_presets.weights.pod import main
from presets.registry_server import MANIFEST, RegistryServer
from presets.test_puller import make_layout
from presets.test_weights_pod import EXPECT, TINY, Run, archive

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
TAR = "application/vnd.oci.image.layer.v1.tar"
SIZE = len(TINY["model.safetensors"])
LLAMA = {**TINY, "config.json": TINY["config.json"].replace(b"Phi3ForCausalLM", b"LlamaForCausalLM")}
NOT_OURS = "the architecture is LlamaForCausalLM, not Phi3ForCausalLM"


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    server = RegistryServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "termination-log").touch()
    return tmp_path


def tar(files: dict[str, bytes], place: str = "data") -> bytes:
    return gzip.decompress(archive(**{f"{place}/{name}": content for name, content in sorted(files.items())}))


def file_layers(files: dict[str, bytes]) -> list[tuple[str, bytes, dict[str, str]]]:
    return [
        ("application/octet-stream", content, {"org.opencontainers.image.title": name})
        for name, content in files.items()
    ]


def look_at(registry: RegistryServer, name: str = "me/tiny:1", **options: Any) -> dict[str, Any]:
    return look.at_image(f"{registry.host}/{name}", EXPECT, **options)


def fetched(registry: RegistryServer) -> int:
    """Bytes of blobs that were asked for."""
    total = 0
    for wanted in registry.blob_requests():
        assert wanted is not None
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        total += int(last) - int(first) + 1
    return total


# --- what the container says


def test_an_artifact_is_told_in_json_with_the_digest_by_which_it_is_had_again(
    registry: RegistryServer, root: Path
) -> None:
    registry.push("me/tiny:1", *file_layers(TINY), nested=True)
    run = Run(root, "--look", f"--image={registry.host}/me/tiny:1", f"--expect={json.dumps(EXPECT)}")
    assert run.code == 0, run.log
    told = json.loads(run.said)
    digest = told.pop("digest")
    assert told == {"bytes": SIZE, "files": 1, "quantization": None}
    registry.manifests.pop("me/tiny/1")
    assert look_at(registry, f"me/tiny@{digest}")["digest"] == digest
    assert not [path for path in root.rglob("*") if path.is_file() and path.name != "termination-log"]


def test_a_directory_is_told_in_json(root: Path) -> None:
    shutil.copytree(demo.weights_path(), root / "w")
    expect = f"--expect={json.dumps(EXPECT)}"
    run = Run(root, "--look", "--check=/w", expect)
    assert (run.code, json.loads(run.said)) == (0, {"bytes": SIZE, "files": 1, "quantization": None})
    (root / "w" / "config.json").write_bytes(LLAMA["config.json"])
    run = Run(root, "--look", "--check=/w", expect)
    assert (run.code, NOT_OURS in run.said) == (5, True)
    run = Run(root, "--look", "--check=/nowhere", expect)
    assert (run.code, run.said) == (8, "There is no directory /nowhere.")


def test_each_end_has_its_exit_code_and_a_sentence(
    registry: RegistryServer, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAITO_MOUNT_ROOT", str(root))
    monkeypatch.delenv("KAITO_IMAGE_MAP", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def ended(image: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as error:
            main(["--look", f"--image={image}", f"--expect={json.dumps(EXPECT)}"])
        assert isinstance(error.value.code, int)
        assert "hush" not in capsys.readouterr().err
        return error.value.code, (root / "dev" / "termination-log").read_text()

    image = f"{registry.host}/me/tiny:1"
    assert ended(image) == (8, f"The registry has no {registry.host}/me/tiny:1.\n")
    registry.push("me/tiny:1", (TAR, tar(LLAMA), {}))
    code, said = ended(image)
    assert (code, NOT_OURS in said) == (5, True)
    registry.users = {"me": "other"}
    config = root / "root" / ".docker" / "config.d" / "mine" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"auths": {registry.host: {"username": "me", "password": "hush"}}}))
    code, said = ended(image)
    assert (code, "its pull secret is not accepted" in said) == (9, True)
    config.write_text("no JSON")
    assert ended(image)[0] == 9
    config.unlink()
    code, said = ended("127.0.0.1:1/me/tiny:1")
    assert (code, "can't be reached" in said) == (6, True)
    monkeypatch.setenv("KAITO_IMAGE_MAP", "{}")
    code, said = ended("me/tiny:1")
    assert (code, "Map it to an OCI image layout" in said) == (8, True)


def test_a_repository_is_not_looked_at_here(root: Path) -> None:
    run = Run(root, "--look", "--repository=a/b")
    assert (run.code, "--look goes with --image or --check" in run.said) == (2, True)


# --- images


def test_of_an_archive_that_is_not_compressed_only_the_headers_are_fetched(
    registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "_WALK_AHEAD", 4096)
    monkeypatch.setattr("kaito_presets.headers.FIRST_BYTES", 4096)
    layer = tar({"big.bin": bytes(3_000_000), **TINY}, "workspace/weights")
    registry.push("me/tiny:1", (GZIP, archive(bin=b"busybox"), {}), (TAR, layer, {}))
    assert look_at(registry)["bytes"] == SIZE
    assert fetched(registry) < 100_000


@pytest.mark.parametrize("place", ["workspace/weights", "data"])
def test_a_compressed_archive_is_read_through(registry: RegistryServer, place: str) -> None:
    registry.push("me/tiny:1", (GZIP, gzip.compress(tar(TINY, place)), {}))
    assert look_at(registry)["bytes"] == SIZE


def test_an_archive_of_an_artifact_loses_its_directory(registry: RegistryServer) -> None:
    notes = {"org.opencontainers.image.title": "model", "io.deis.oras.content.unpack": "true"}
    for layer in (tar(TINY, "model"), gzip.compress(tar(TINY, "model")), gzip.compress(tar(TINY, "."))):
        registry.push("me/tiny:1", ("application/vnd.cncf.model.weight.v1.tar", layer, notes))
        assert look_at(registry)["bytes"] == SIZE


def test_an_image_of_a_layout_on_disk_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[Any] = [(f"data/{name}", content) for name, content in TINY.items()]
    for kind in (GZIP, TAR):
        layout = make_layout(tmp_path / kind[-4:], entries, media_type=kind)
        monkeypatch.setenv("KAITO_IMAGE_MAP", json.dumps({"me/tiny:1": f"oci:{layout}"}))
        assert look.at_image("me/tiny:1", EXPECT) == {"bytes": SIZE, "files": 1, "quantization": None}


def test_a_later_layer_wins(registry: RegistryServer) -> None:
    above = gzip.compress(tar({"config.json": TINY["config.json"]}))
    registry.push("me/tiny:1", (TAR, tar(LLAMA), {}), (GZIP, above, {}))
    assert look_at(registry)["bytes"] == SIZE
    registry.push("me/tiny:2", (TAR, tar(TINY), {}), (TAR, tar({"config.json": LLAMA["config.json"]}), {}))
    with pytest.raises(Unfit, match=NOT_OURS):
        look_at(registry, "me/tiny:2")


# --- what cannot be looked at


def test_a_compressed_layer_that_is_too_long_is_left_to_the_pull(
    registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "MOST_FETCHED", 40_000)
    monkeypatch.setattr(look, "_READ_AHEAD", 1000)
    registry.push("me/tiny:1", (GZIP, gzip.compress(tar(TINY)), {}))
    with pytest.raises(Unseen, match=r"can't be looked at before it is pulled: its layer .*compressed"):
        look_at(registry)
    assert fetched(registry) <= 40_000


def test_of_such_a_layer_config_json_is_compared_unless_it_may_be_overwritten(
    registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "MOST_FETCHED", 40_000)
    monkeypatch.setattr(look, "_READ_AHEAD", 1000)
    wrong = gzip.compress(tar(LLAMA))
    registry.push("me/tiny:1", (GZIP, wrong, {}))
    with pytest.raises(Unfit, match=NOT_OURS):
        look_at(registry)
    registry.push("me/tiny:2", (GZIP, wrong, {}), (GZIP, gzip.compress(tar(TINY)), {}))
    with pytest.raises(Unseen):
        look_at(registry, "me/tiny:2")
    monkeypatch.setattr(look, "_GLANCE", 5000)
    unknown = gzip.compress(tar({"a.bin": bytes(range(256)) * 400, **TINY}), compresslevel=0)
    registry.push("me/tiny:3", (TAR, tar({"config.json": LLAMA["config.json"]}), {}), (GZIP, unknown, {}))
    with pytest.raises(Unseen):
        look_at(registry, "me/tiny:3")


def test_what_may_be_fetched_may_be_fetched_to_the_last_byte() -> None:
    budget = Budget(10)
    budget.take(10)
    with pytest.raises(Unseen, match="more than 0 MiB"):
        budget.take(1)


def test_a_header_that_is_longer_than_headers_are_is_not_asked_for() -> None:
    def never(start: int, length: int) -> bytes:
        raise AssertionError

    window = Window(never, 10 * LONGEST_READ, 1)
    with pytest.raises(Unseen, match="longer than headers are"):
        window.read(LONGEST_READ + 1)


@pytest.mark.parametrize("cut", [0, 4, 7, 8, 15, 23])
def test_a_gguf_file_that_ends_too_early_tells_nothing(cut: int) -> None:
    assert numbers((b"GGUF" + struct.pack("<IQQ", 3, 0, 1))[:cut]) == {}


def test_a_registry_without_parts_is_left_to_the_pull(registry: RegistryServer) -> None:
    registry.whole = True
    layer = tar({"a.bin": bytes(3_000_000), **TINY})
    registry.push("me/tiny:1", (TAR, layer, {}))
    with pytest.raises(Unseen, match="gives layers whole alone"):
        look_at(registry)


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_an_archive_that_is_compressed_otherwise_is_left_to_the_pull(
    registry: RegistryServer, compress: Any
) -> None:
    notes = {"org.opencontainers.image.title": "model", "io.deis.oras.content.unpack": "true"}
    registry.push("me/tiny:1", ("application/octet-stream", compress(tar(TINY, "model")), notes))
    with pytest.raises(Unseen, match="not with gzip"):
        look_at(registry)


def test_a_small_file_that_unpacks_to_endless_is_not_read_to_its_end(
    registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "_MOST_UNPACKED", 1_000_000)
    registry.push("me/tiny:1", (GZIP, gzip.compress(tar({"a.bin": bytes(5_000_000), **TINY})), {}))
    with pytest.raises(Unseen, match="it unpacks to more than"):
        look_at(registry)


def test_too_many_files_and_too_many_headers_are_left_to_the_pull(
    registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push("me/tiny:1", (GZIP, gzip.compress(tar(TINY)), {}))
    monkeypatch.setattr(look, "_MOST_FILES", 3)
    with pytest.raises(Unseen, match="holds more than 3 files"):
        look_at(registry)
    monkeypatch.setattr(look, "_MOST_KEPT", 1000)
    with pytest.raises(Unseen, match="more headers than are kept"):
        look_at(registry)


# --- what the pull would refuse


def link(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ((TAR, tar({"x": b"1"}, "etc"), {}), "no files under /workspace/weights or /data"),
        ((TAR, link("data/model.safetensors"), {}), "link or a device"),
        ((TAR, tar({"../../x": b"1"}), {}), "leads out of /data"),
        (("x", b"1", {"org.opencontainers.image.title": "../a"}), "leads out of it"),
        (("application/vnd.oci.image.layer.v1.tar+zstd", b"1", {}), "compressed with zstd"),
        (("application/x-unknown", b"1", {}), "has a layer of type application/x-unknown"),
        ((TAR, b"no archive" * 100, {}), "can't be unpacked"),
        ((GZIP, b"no archive" * 100, {}), "can't be unpacked"),
        ((GZIP, archive(a=b"x" * 10_000)[:60], {}), "can't be unpacked"),
        ((TAR, tar({"config.json": TINY["config.json"]}), {}), "There are no .safetensors files in"),
    ],
)
def test_what_a_pull_would_refuse_does_not_fit(registry: RegistryServer, layer: Any, says: str) -> None:
    registry.push("me/tiny:1", layer)
    with pytest.raises(Unfit, match=says):
        look_at(registry)


@pytest.mark.parametrize(
    "layers",
    ["x", [None], ["x"], [{"size": 1}], [{"digest": 1}], [{"digest": "d", "size": "1"}]]
    + [[{"digest": "d", "size": size}] for size in (-1, True, 1.5, {})],
)
def test_a_manifest_that_is_none_is_told_in_a_sentence(layers: Any) -> None:
    with pytest.raises(BadImage, match="manifest"):
        manifest_of({"layers": layers}, dict)


# --- what the registry does


def test_a_broken_connection_is_tried_again(
    registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    registry.push("me/tiny:1", *file_layers(TINY))
    registry.break_after = [10]
    registry.fail_with = [503]
    assert look_at(registry)["bytes"] == SIZE
    assert pauses == [0.5, 1.0]


# --- what is told


def model(**files: bytes) -> dict[str, bytes]:
    return {"config.json": TINY["config.json"], **files}


def header(size: int, **tensors: list[int]) -> bytes:
    raw = json.dumps(
        {name: {"dtype": "U8", "shape": shape, "data_offsets": [0, size]} for name, shape in tensors.items()}
    ).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(size)


def told(registry: RegistryServer, files: dict[str, bytes], expected: Any, **options: Any) -> dict[str, Any]:
    registry.push("me/made:1", *file_layers(files))
    found = look.at_image(f"{registry.host}/me/made:1", expected, **options)
    del found["digest"]
    return found


def test_only_what_loads_is_counted(registry: RegistryServer) -> None:
    one, two = header(100, a=[100]), header(50, b=[50])
    index = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).encode()
    files = {
        "model-00001-of-00001.safetensors": one,
        "model.safetensors.index.json": index,
        "consolidated.safetensors": two,
        "adapter_model.safetensors": two,
        "original/model.safetensors": one,
        "training_args.bin": bytes(1000),
    }
    config = json.dumps({"quantization_config": {"quant_method": "GPTQ", "bits": 4}}).encode()
    files["config.json"] = config
    assert told(registry, files, {}) == {"bytes": len(one), "files": 1, "quantization": "gptq"}
    assert told(registry, files, {}, mistral=True)["bytes"] == len(two)
    del files["model.safetensors.index.json"]
    assert told(registry, files, {})["bytes"] == len(one)
    del files["model-00001-of-00001.safetensors"]
    assert told(registry, files, {})["bytes"] == len(two)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(*, layers: int, version: int = 3) -> bytes:
    words = struct.pack("<IQ", 8, 3) + text("a") + text("b") + text("c")
    pairs = [
        (text("general.architecture"), struct.pack("<I", 8) + text("phi3")),
        (text("tokenizer.scores"), struct.pack("<IIQ", 9, 6, 2) + bytes(8)),
        (text("tokenizer.words"), struct.pack("<I", 9) + words),
        (text("phi3.block_count"), struct.pack("<II", 4, layers)),
        (text("phi3.embedding_length"), struct.pack("<IQ", 10, 128)),
        (text("long"), struct.pack("<IIQ", 9, 8, 1 << 60)),
    ]
    return (
        b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + b"".join(key + value for key, value in pairs)
    )


def test_a_gguf_file_tells_its_dimensions(registry: RegistryServer) -> None:
    fits = gguf(layers=2)
    assert told(registry, {"tiny.gguf": fits}, EXPECT) == {
        "bytes": len(fits), "files": 1, "quantization": "gguf",
    }  # fmt: skip
    with pytest.raises(Unfit, match="num_hidden_layers is 3, not 2"):
        told(registry, {"tiny.gguf": gguf(layers=3)}, EXPECT)
    with pytest.raises(Unfit, match=r"tiny\.gguf is not a GGUF file"):
        told(registry, {"tiny.gguf": b"<html>"}, EXPECT)
    assert told(registry, {"tiny.gguf": gguf(layers=3, version=1)}, EXPECT)["quantization"] == "gguf"
    assert told(registry, {"tiny.gguf": gguf(layers=2)[:60]}, EXPECT)["bytes"] == 60


# --- a registry that is not ours


class Debian:
    """Debian's docker-registry on loopback."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        settings = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": True}, "level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.host},
        }
        (folder / "config.yml").write_text(json.dumps(settings))
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                self._ask("GET", "/v2/")
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("docker-registry does not start")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def push(self, name: str, tag: str, layer: tuple[str, bytes, dict[str, str]]) -> str:
        """Puts an image of one layer in; its manifest's digest."""
        kind, content, notes = layer
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", **self._blob(name, b"{}")}
        layers = [{"mediaType": kind, "annotations": notes, **self._blob(name, content)}]
        body = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        ).encode()
        said = self._ask("PUT", f"/v2/{name}/manifests/{tag}", body, MANIFEST)
        return str(said["Docker-Content-Digest"])

    def _blob(self, name: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = urlsplit(str(self._ask("POST", f"/v2/{name}/blobs/uploads/", b"")["Location"]))
        self._ask("PUT", f"{place.path}?{place.query}&digest={digest}", content)
        return {"digest": digest, "size": len(content)}

    def _ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/octet-stream"
    ) -> Message:
        url, headers = f"http://{self.host}{path}", {"Content-Type": kind}
        with urlopen(Request(url, data=body, method=method, headers=headers), timeout=30) as answer:
            found: Message = answer.headers
            return found


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry (Debian) is not here")
def test_debians_registry_gives_parts_and_the_digest_names_the_same_image(tmp_path: Path) -> None:
    debian = Debian(tmp_path)
    try:
        for kind, content in ((TAR, tar(TINY)), (GZIP, gzip.compress(tar(TINY)))):
            digest = debian.push("me/tiny", "1", (kind, content, {}))
            told = {"bytes": SIZE, "files": 1, "quantization": None, "digest": digest}
            assert look.at_image(f"{debian.host}/me/tiny:1", EXPECT) == told
            assert look.at_image(f"{debian.host}/me/tiny@{digest}", EXPECT) == told
        with pytest.raises(NotThere):
            look.at_image(f"{debian.host}/me/none:1", EXPECT)
    finally:
        debian.stop()
