"""Pods of one machine download into one directory: once, one at a time, and with links into their own volumes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito_presets.weights import plan as plans
from kaito_presets.weights import pod
from kaito_presets.weights.shared import directory_of, hand_over, held, place
from presets.hub_server import HubServer

REPOSITORY, COMMIT = "me/tiny", "a" * 40
TENSORS = b"t" * 5000
FILES = {"config.json": b"{}", "model.safetensors": TENSORS}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.repositories = {REPOSITORY: dict(FILES)}
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def run(hub: HubServer, cache: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """One container."""
    output.mkdir(exist_ok=True)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "kaito_presets.weights.pod",
            f"--repository={REPOSITORY}",
            f"--revision={COMMIT}",
            f"--output={output}",
            *more,
        ],
        env={**os.environ, "HF_ENDPOINT": hub.url, "KAITO_WEIGHTS_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )


def tensors_asked(hub: HubServer) -> int:
    return sum(path.startswith("/cdn/") for path, _ in hub.requests)


def test_two_pods_share_what_one_has_downloaded(hub: HubServer, cache: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        done = run(hub, cache, tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name / "model.safetensors").read_bytes() == TENSORS
    assert tensors_asked(hub) == 1
    kept = directory_of(cache, REPOSITORY, COMMIT) / "model.safetensors"
    assert kept.samefile(tmp_path / "one" / "model.safetensors"), "they take the disk once"


def test_files_stay_where_the_directory_is_cleared_up(hub: HubServer, cache: Path, tmp_path: Path) -> None:
    assert run(hub, cache, tmp_path / "one").returncode == 0
    for path in directory_of(cache, REPOSITORY, COMMIT).iterdir():
        path.unlink()
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == TENSORS
    assert run(hub, cache, tmp_path / "two").returncode == 0
    assert tensors_asked(hub) == 2


def test_parts_of_a_download_are_handed_over_when_all_is_there(
    hub: HubServer, cache: Path, tmp_path: Path
) -> None:
    half = run(hub, cache, tmp_path / "one", "--share=1/2")
    assert half.returncode == 0, half.stderr
    assert not (tmp_path / "one" / "model.safetensors").exists()
    assert run(hub, cache, tmp_path / "one", "--share=2/2").returncode == 0
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == TENSORS


def test_a_pod_waits_for_another_that_downloads_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAITO_WEIGHTS_CACHE", str(cache))
    other = (
        "import pathlib\n"
        "from kaito_presets.weights.shared import place\n"
        f"with place(pathlib.Path('x'), {REPOSITORY!r}, {COMMIT!r}): print('has it', flush=True)\n"
    )
    with place(tmp_path / "one", REPOSITORY, COMMIT) as directory:
        assert directory == directory_of(cache, REPOSITORY, COMMIT)
        waiting = subprocess.Popen([sys.executable, "-c", other], stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        assert "waits for another pod" in waiting.stdout.readline()
        assert waiting.poll() is None
    assert waiting.communicate(timeout=30)[0] == "has it\n"


def test_another_commit_has_a_directory_of_its_own(cache: Path) -> None:
    assert directory_of(cache, "a/b", "x/y") == cache / "a--b@x--y"
    assert directory_of(cache, REPOSITORY, COMMIT) != directory_of(cache, REPOSITORY, "b" * 40)


def test_in_a_container_the_volume_itself_is_downloaded_into(tmp_path: Path) -> None:
    assert "KAITO_WEIGHTS_CACHE" not in os.environ
    with place(tmp_path, REPOSITORY, COMMIT) as directory:
        assert directory == tmp_path
    hand_over(["nothing.safetensors"], tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_links_cannot_be_made_files_are_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "m").write_bytes(TENSORS)
    for _ in range(2):  # a restarted container does it again
        hand_over(["m"], tmp_path / "kept", tmp_path / "volume")
    assert (tmp_path / "volume" / "m").is_symlink()
    assert (tmp_path / "volume" / "m").read_bytes() == TENSORS


def test_a_file_that_somebody_deletes_just_now_is_not_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(FileNotFoundError):
        hand_over(["m"], tmp_path / "kept", tmp_path / "volume")
    assert list((tmp_path / "volume").iterdir()) == []


def test_a_full_disk_is_told_with_the_directory_that_is_shared(
    hub: HubServer,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("KAITO_WEIGHTS_CACHE", str(cache))
    monkeypatch.setattr(pod, "download", full)
    with pytest.raises(SystemExit) as ended:
        pod.main([f"--repository={REPOSITORY}", f"--revision={COMMIT}", f"--output={tmp_path / 'one'}"])
    assert ended.value.code == pod.EXIT_DISK
    assert f"can't be written to {cache}: No space left on device." in capsys.readouterr().err


def test_what_takes_more_memory_than_is_free_is_not_downloaded(
    hub: HubServer,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("KAITO_WEIGHTS_CACHE", str(cache))
    monkeypatch.setattr(plans, "available_memory", lambda: 1_000_000_000)
    with pytest.raises(SystemExit) as ended:
        pod.main([f"--repository={REPOSITORY}", f"--revision={COMMIT}", f"--output={tmp_path / 'one'}"])
    assert ended.value.code == pod.EXIT_UNAVAILABLE
    assert f"{REPOSITORY} needs 1.1 GB of memory and 1.0 GB are available" in capsys.readouterr().err
    assert tensors_asked(hub) == 0


def test_what_is_held_is_told_with_its_size(tmp_path: Path) -> None:
    assert held(tmp_path / "none") == []
    for name, size in (("b--x@1", 7), ("a--x@2", 5)):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_bytes(bytes(size))
    (tmp_path / "b--x@1.lock").touch()
    (tmp_path / "b--x@1" / "has another name meanwhile").symlink_to("nowhere")
    assert held(tmp_path) == [("a--x@2", 5), ("b--x@1", 7)]
