"""One server process and one in-process application for all tests that only ask questions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from kaito_presets import demo
from kaito_presets.adapters import AdapterChoice
from kaito_presets.engines import make_engine
from kaito_presets.server.app import create_app
from kaito_presets.server.service import Service
from kaito_presets.server.settings import Settings
from presets.support import ServerProcess, container_root


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Phi-3's preset answered by the stand-in weights, with the demo adapter at full strength."""
    root = container_root(tmp_path_factory.mktemp("server"), adapters={"pirate": demo.adapter_path()})
    process = ServerProcess(root, "--preset=phi-3-mini-4k-instruct", "--adapter=pirate=1.0")
    try:
        yield process.ready()
    finally:
        process.stop()


@pytest.fixture(scope="session")
def adapters_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("adapters")
    (directory / "pirate").symlink_to(demo.adapter_path())
    return directory


@pytest.fixture(scope="session")
def client(adapters_dir: Path) -> Iterator[TestClient]:
    """The same application in this process, under the weights' own name."""
    settings = Settings(
        "tiny-phi-3", None, demo.weights_path(), adapters_dir, (AdapterChoice("pirate", 0.0),)
    )
    engine = make_engine("mistralrs", settings.weights, max_model_len=None, dtype="float32")
    failures: list[Exception] = []
    with TestClient(create_app(Service(settings, engine), failures.append)) as client:
        deadline = time.monotonic() + 60
        while client.get("/healthz").status_code != 200:
            assert not failures, failures
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield client
