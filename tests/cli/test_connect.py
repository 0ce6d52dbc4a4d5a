"""Which cluster `kaito chat` and `kaito proxy` talk to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kaito.cli.connect import choose_kubeconfig, connect
from kaito.cli.local.state import DEFAULT_DIRECTORY, LocalDirectory, RunningLock
from kaito.runtime.clock import LoopClock


def kubeconfig(path: Path, server: str) -> Path:
    name = path.name
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": name,
                "clusters": [{"name": name, "cluster": {"server": server}}],
                "users": [{"name": name, "user": {"token": "t"}}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            }
        )
    )
    return path


async def server_of(given: Path | None) -> str:
    connection, _ = connect(choose_kubeconfig(given), None, LoopClock())
    try:
        return connection.url
    finally:
        await connection.close()


async def test_the_nearest_kubeconfig_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", "http://127.0.0.1:1")
    assert await server_of(None) == "http://127.0.0.1:1"

    local = LocalDirectory(DEFAULT_DIRECTORY)
    local.prepare()
    kubeconfig(local.kubeconfig, "http://127.0.0.1:2")
    assert await server_of(None) == "http://127.0.0.1:1", "that local mode does not run"
    lock = RunningLock(local)
    assert await server_of(None) == "http://127.0.0.1:2"

    third = kubeconfig(tmp_path / "third", "http://127.0.0.1:3")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "missing"), str(third)]))
    assert await server_of(None) == "http://127.0.0.1:3"
    assert await server_of(kubeconfig(tmp_path / "fourth", "http://127.0.0.1:4")) == "http://127.0.0.1:4"
    lock.release()
