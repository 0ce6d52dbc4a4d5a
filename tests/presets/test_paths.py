from __future__ import annotations

from pathlib import Path

import pytest

from kaito_presets import paths


def test_without_a_root_paths_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAITO_MOUNT_ROOT", raising=False)
    assert paths.resolve("/mnt/adapter") == Path("/mnt/adapter")


def test_a_root_prefixes_absolute_paths_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAITO_MOUNT_ROOT", "/tmp/root")
    assert paths.resolve("/mnt/adapter") == Path("/tmp/root/mnt/adapter")
    assert paths.resolve("/") == Path("/tmp/root")
    assert paths.resolve("weights") == Path("weights")
    assert paths.resolve("/mnt/../../../etc/passwd") == Path("/tmp/root/etc/passwd")
    assert paths.resolve("/..") == Path("/tmp/root")


def test_address_defaults_to_what_a_container_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAITO_BIND_HOST", raising=False)
    monkeypatch.delenv("KAITO_PORT", raising=False)
    assert (paths.bind_host(), paths.bind_port(5000)) == ("0.0.0.0", 5000)
    monkeypatch.setenv("KAITO_BIND_HOST", "127.0.0.1")
    monkeypatch.setenv("KAITO_PORT", "4711")
    assert (paths.bind_host(), paths.bind_port(5000)) == ("127.0.0.1", 4711)


@pytest.mark.parametrize("text", ["http", "-1", "65536", "5000.0"])
def test_a_bad_port_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KAITO_PORT", text)
    with pytest.raises(ValueError, match=r"KAITO_PORT is .*write a port number"):
        paths.bind_port(5000)


def test_termination_message_is_written_only_where_the_file_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAITO_MOUNT_ROOT", str(tmp_path))
    paths.termination_log("first")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "termination-log").touch()
    paths.termination_log("The adapter does not fit.")
    assert (tmp_path / "dev" / "termination-log").read_text() == "The adapter does not fit.\n"
