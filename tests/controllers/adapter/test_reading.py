"""Reading adapters from directories and image layouts, with everything that may be wrong about them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest

from controllers.adapter.adapters import (
    CONFIG_NAME,
    OCI_INDEX,
    PLAIN_LAYER,
    WEIGHTS_NAME,
    Layout,
    config,
    layer,
    payload,
    safetensors,
    write_directory,
)
from kaito.controllers.adapter import oci
from kaito.controllers.adapter.directory import read_directory
from kaito.controllers.adapter.facts import Facts, Unreadable
from kaito.controllers.adapter.oci import read_layout

MODEL = "microsoft/Phi-3-mini-4k-instruct"


def facts(digest: str, content: bytes) -> Facts:
    return Facts(digest, len(content), MODEL, 2, "4", ("o_proj", "qkv_proj"), "float16")


class TestDirectory:
    def test_facts_come_from_both_files(self, tmp_path: Path) -> None:
        weights = safetensors()
        digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
        assert read_directory(write_directory(tmp_path)) == facts(digest, weights)

    def test_a_link_inside_the_directory_is_followed(self, tmp_path: Path) -> None:
        write_directory(tmp_path, {CONFIG_NAME: config(), "blob": safetensors()})
        (tmp_path / WEIGHTS_NAME).symlink_to("blob")
        assert read_directory(tmp_path).rank == 2

    def test_the_directory_itself_may_be_a_link(self, tmp_path: Path) -> None:
        write_directory(tmp_path / "real")
        (tmp_path / "link").symlink_to("real")
        assert read_directory(tmp_path / "link").rank == 2

    @pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
    def test_a_link_out_of_the_directory_is_not(self, tmp_path: Path, name: str) -> None:
        write_directory(tmp_path / "elsewhere")
        adapter = write_directory(tmp_path / "adapter")
        (adapter / name).unlink()
        (adapter / name).symlink_to(tmp_path / "elsewhere" / name)
        with pytest.raises(Unreadable, match=f"{name} is a link that leaves the adapter's directory"):
            read_directory(adapter)

    def test_a_pipe_is_refused_without_waiting_for_a_writer(self, tmp_path: Path) -> None:
        adapter = write_directory(tmp_path, {WEIGHTS_NAME: safetensors()})
        os.mkfifo(adapter / CONFIG_NAME)
        with pytest.raises(Unreadable, match="is no regular file"):
            read_directory(adapter)

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / CONFIG_NAME).symlink_to(CONFIG_NAME)
        with pytest.raises(Unreadable, match=CONFIG_NAME):
            read_directory(tmp_path)

    def test_missing_things_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable, match="/nowhere/at/all does not exist on this machine"):
            read_directory(Path("/nowhere/at/all"))
        with pytest.raises(Unreadable, match="must start with /"):
            read_directory(Path("adapter"))
        with pytest.raises(Unreadable, match=f"{CONFIG_NAME} is missing"):
            read_directory(tmp_path)
        write_directory(tmp_path, {CONFIG_NAME: config()})
        with pytest.raises(Unreadable, match=f"{WEIGHTS_NAME} is missing"):
            read_directory(tmp_path)
        with pytest.raises(Unreadable, match="is no directory"):
            read_directory(tmp_path / CONFIG_NAME)

    def test_pickled_weights_are_not_opened(self, tmp_path: Path) -> None:
        write_directory(tmp_path, {CONFIG_NAME: config(), "adapter_model.bin": b"\x80\x04"})
        with pytest.raises(
            Unreadable, match=f"may run code when it is opened; save the adapter as {WEIGHTS_NAME}"
        ):
            read_directory(tmp_path)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"{", f"{CONFIG_NAME} is not JSON"),
            (b"[" * 100_000, f"{CONFIG_NAME} is not JSON"),
            (b"[]", "must hold a JSON object"),
            (config(peft_type="IA3"), "peft_type is 'IA3'; only LORA adapters can be served"),
            (config(r=0), "r is 0; it must be the rank"),
            (config(r="8"), "r is '8'; it must be the rank"),
            (config(r=16), f"says r=16, but the matrices of {WEIGHTS_NAME} have rank 2"),
            (b" " * (1 << 20) + config(), "at most 1048576 are read"),
        ],
    )
    def test_a_bad_config_says_what_is_wrong(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        write_directory(tmp_path, {CONFIG_NAME: content, WEIGHTS_NAME: safetensors()})
        with pytest.raises(Unreadable, match=sentence):
            read_directory(tmp_path)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"", "it has only 0 bytes"),
            (b"PK\x03\x04" + bytes(60), "its header claims"),
            (struct.pack("<Q", 1 << 62) + bytes(100), "its header claims"),
            (struct.pack("<Q", 4) + b"nope", "the header is not JSON"),
            (struct.pack("<Q", 4) + b"[1] ", "the header must be a JSON object"),
            (safetensors(cut=1), "copy it again"),
            (safetensors() + b"x", "copy it again"),
            (safetensors({"model.embed.weight": ("F16", (2, 2))}), "holds no LoRA matrices"),
            (safetensors({"a.lora_A.weight": ("F16", ())}), "has no shape"),
        ],
    )
    def test_bad_weights_say_what_is_wrong(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        write_directory(tmp_path, {CONFIG_NAME: config(), WEIGHTS_NAME: content})
        with pytest.raises(Unreadable, match=sentence):
            read_directory(tmp_path)

    def test_a_header_that_lies_about_its_tensors(self, tmp_path: Path) -> None:
        header = json.dumps(
            {"a.lora_A.weight": {"dtype": "F16", "shape": [2, -1], "data_offsets": [4, 0]}}
        ).encode()
        write_directory(
            tmp_path, {CONFIG_NAME: config(), WEIGHTS_NAME: struct.pack("<Q", len(header)) + header}
        )
        with pytest.raises(Unreadable, match=r"describes .a\.lora_A\.weight. wrongly"):
            read_directory(tmp_path)

    def test_what_an_author_left_out_stays_unknown(self, tmp_path: Path) -> None:
        files = {
            CONFIG_NAME: config(base_model_name_or_path=None, lora_alpha=None),
            WEIGHTS_NAME: safetensors(),
        }
        found = read_directory(write_directory(tmp_path, files))
        assert (found.base_model, found.alpha) == (None, None)

    @pytest.mark.parametrize(
        ("alpha", "text"), [(16, "16"), (0.5, "0.5"), (10**400, None), (True, None), ("16", None)]
    )
    def test_alpha_is_a_number_that_can_be_meant(
        self, tmp_path: Path, alpha: object, text: str | None
    ) -> None:
        files = {CONFIG_NAME: config(lora_alpha=alpha), WEIGHTS_NAME: safetensors()}
        assert read_directory(write_directory(tmp_path, files)).alpha == text

    def test_texts_are_such_as_a_status_may_hold(self, tmp_path: Path) -> None:
        """Half a surrogate pair is legal JSON and no UTF-8: the status could never be written."""
        weights = safetensors({"x.\ud800.lora_A.weight": ("F16", (2, 2))})
        files = {CONFIG_NAME: config(base_model_name_or_path="a\udfffb"), WEIGHTS_NAME: weights}
        found = read_directory(write_directory(tmp_path, files))
        assert (found.base_model, found.target_modules) == ("a?b", ("?",))

    def test_ranks_may_differ_where_the_config_says_so(self, tmp_path: Path) -> None:
        files = {CONFIG_NAME: config(r=16, rank_pattern={"qkv_proj": 2}), WEIGHTS_NAME: safetensors()}
        assert read_directory(write_directory(tmp_path, files)).rank == 16


class TestLayout:
    @pytest.mark.parametrize("packed", [True, False])
    def test_facts_come_from_the_layers(self, tmp_path: Path, packed: bool) -> None:
        layout = Layout(tmp_path / "oci")
        media_type = "application/vnd.oci.image.layer.v1.tar+gzip" if packed else PLAIN_LAYER
        manifest = layout.manifest(layer(payload(), packed=packed), media_type=media_type)
        assert read_layout(layout.index(manifest)) == facts(manifest["digest"], safetensors())

    def test_paths_may_be_written_in_any_way_tools_write_them(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        files = {"./": None, f"./data/{CONFIG_NAME}": config(), f"/data/{WEIGHTS_NAME}": safetensors()}
        assert read_layout(layout.index(layout.manifest(layer(files)))).rank == 2

    def test_later_layers_replace_and_remove(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        base = layer(payload())
        newer = layer({f"data/{CONFIG_NAME}": config(base_model_name_or_path="other")})
        assert read_layout(layout.index(layout.manifest(base, newer))).base_model == "other"
        for whiteout in (f"data/.wh.{WEIGHTS_NAME}", "data/.wh..wh..opq", ".wh.data"):
            removed = layout.manifest(base, layer({whiteout: b""}))
            with pytest.raises(Unreadable, match=f"holds no .*{WEIGHTS_NAME}"):
                read_layout(layout.index(removed))

    @pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
    def test_links_in_the_image_are_not_followed(self, tmp_path: Path, name: str) -> None:
        layout = Layout(tmp_path / "oci")
        manifest = layout.manifest(layer(payload(**{f"data/{name}": "/etc/passwd"})))
        with pytest.raises(Unreadable, match=f"/data/{name} of the image is no regular file"):
            read_layout(layout.index(manifest))

    def test_files_outside_data_do_not_count(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        files = {
            CONFIG_NAME: config(),
            f"data/../{CONFIG_NAME}": config(),
            f"data/deeper/{CONFIG_NAME}": config(),
            f"data/{WEIGHTS_NAME}": safetensors(),
        }
        with pytest.raises(Unreadable, match=f"holds no /data/{CONFIG_NAME}; put the adapter's files there"):
            read_layout(layout.index(layout.manifest(layer(files))))

    def test_pickled_weights_are_not_opened(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        manifest = layout.manifest(
            layer({f"data/{CONFIG_NAME}": config(), "data/adapter_model.bin": b"\x80"})
        )
        with pytest.raises(Unreadable, match="may run code"):
            read_layout(layout.index(manifest))

    def test_of_several_images_the_tag_decides_then_the_platform(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        ref = "org.opencontainers.image.ref.name"
        one = layout.manifest(layer(payload()), annotations={ref: "1"})
        other = layer(payload(**{f"data/{CONFIG_NAME}": config(base_model_name_or_path="other")}))
        two = layout.manifest(other, annotations={ref: "2"})
        assert read_layout(layout.index(one, two), "2").base_model == "other"
        with pytest.raises(Unreadable, match="holds 2 images; keep the one that is meant"):
            read_layout(layout.path, "3")
        arm = {**one, "platform": {"os": "linux", "architecture": "arm64"}}
        amd = {**two, "platform": {"os": "linux", "architecture": "amd64"}}
        attestation = {**one, "platform": {"os": "unknown", "architecture": "unknown"}}
        nested = layout.blob(json.dumps({"manifests": [arm, amd, attestation]}).encode(), OCI_INDEX)
        assert read_layout(layout.index(nested), "3").base_model == "other"

    def test_content_must_match_its_digest(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        content = layer(payload())
        layout.index(layout.manifest(content))
        blob = layout.path / "blobs" / "sha256" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(layer(payload(), packed=False))
        with pytest.raises(Unreadable, match="does not match its digest; copy the layout again"):
            read_layout(layout.path)

    @pytest.mark.parametrize(
        "oddity",
        [
            {"annotations": ["x"]},
            {"platform": "linux"},
            {"mediaType": []},
            {"digest": ["x"]},
            {"digest": None},
        ],
    )
    def test_an_odd_descriptor_is_no_crash(self, tmp_path: Path, oddity: dict[str, object]) -> None:
        layout = Layout(tmp_path / "oci")
        one = layout.manifest(layer(payload()))
        other = layout.manifest(layer(payload(), packed=False))
        with pytest.raises(Unreadable):
            read_layout(layout.index({**one, **oddity}, other), "1")

    def test_a_digest_cannot_be_a_path(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        with pytest.raises(Unreadable, match="is not of the form sha256"):
            read_layout(layout.index({"digest": "sha256:../../../etc/passwd"}))

    def test_a_small_layer_must_not_unpack_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oci, "LAYER_LIMIT", 1 << 20)
        layout = Layout(tmp_path / "oci")
        manifest = layout.manifest(layer({"zeros": bytes(8 << 20), **payload()}))
        with pytest.raises(Unreadable, match="unpacks to more than"):
            read_layout(layout.index(manifest))

    @pytest.mark.parametrize("content", [b"not gzip at all", layer(payload())[:200]])
    def test_a_broken_layer_is_an_answer(self, tmp_path: Path, content: bytes) -> None:
        layout = Layout(tmp_path / "oci")
        with pytest.raises(Unreadable, match="is no readable tar archive"):
            read_layout(layout.index(layout.manifest(content)))

    def test_zstd_is_refused_by_name(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        manifest = layout.manifest(b"x", media_type="application/vnd.oci.image.layer.v1.tar+zstd")
        with pytest.raises(Unreadable, match="packed with zstd; build the image with gzip layers"):
            read_layout(layout.index(manifest))

    def test_what_is_no_layout_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable, match=r"index\.json is missing"):
            read_layout(tmp_path)
        (tmp_path / "index.json").write_text("{}")
        with pytest.raises(Unreadable, match="manifests are not a list"):
            read_layout(tmp_path)
        (tmp_path / "index.json").write_text('{"manifests": []}')
        with pytest.raises(Unreadable, match="holds no image"):
            read_layout(tmp_path)

    def test_indexes_do_not_nest_for_ever(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "oci")
        inner = layout.manifest(layer(payload()))
        for _ in range(6):
            inner = layout.blob(json.dumps({"manifests": [inner]}).encode(), OCI_INDEX)
        with pytest.raises(Unreadable, match="indexes within indexes"):
            read_layout(layout.index(inner))
