"""Builds the images and runs them where KAITO_TEST_BASE names a base image (`make test-images`); else nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.containers import Image, buildah

ROOT = Path(__file__).parents[3]
IMAGES = ("operator", "puller", "runtime-mistralrs", "kaito-phi-3-mini-4k-instruct")
EPOCH = 1700000000

collect_ignore_glob = [] if os.environ.get("KAITO_TEST_BASE") else ["test_*.py"]


@dataclass(frozen=True)
class Build:
    """What one `make images` made."""

    out: Path

    def record(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / f"{image}.json").read_text())
        return found

    def bill(self, image: str) -> str:
        return (self.out / f"{image}.cdx.json").read_text()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's registry on a free port of the loopback interface."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}, "level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    program = shutil.which("docker-registry")
    assert program is not None, "docker-registry is missing (Debian, Ubuntu: apt-get install docker-registry)"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)  # noqa: TID251 - another program's start
        yield f"127.0.0.1:{port}/kaito"
    finally:
        process.terminate()
        process.wait()


def make_images(registry: str, out: Path) -> Build:
    command = [sys.executable, "-m", "hack.images.build", "--tool=buildah", "--push"]
    command += [f"--registry={registry}", f"--base={os.environ['KAITO_TEST_BASE']}", f"--out={out}"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return Build(out)


@pytest.fixture(scope="session")
def built(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """All images, built and pushed."""
    build = make_images(registry, tmp_path_factory.mktemp("out") / "first")
    yield build
    for image in reversed(IMAGES):
        record = build.record(image)
        for name in record.get("names", [record["name"]]):
            buildah("rmi", name)


@pytest.fixture(scope="session")
def images(built: Build) -> Iterator[dict[str, Image]]:
    """The images by their names behind the registry."""
    mounted = {image: Image.mount(built.record(image)["name"]) for image in IMAGES}
    yield mounted
    for image in mounted.values():
        image.unmount()
