"""What scripts say on a machine that lacks something, instead of failing somewhere in the middle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import prerequisites
from cluster.places import NotInside, Places

ROOT = Path(__file__).resolve().parents[2]


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def packages(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Runs the script with no other programs than those of the folder and a shell."""
    for tool in ("sh", "env"):
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    script = ROOT / "hack/debian-packages.sh"
    command = [str(folder / "sh"), str(script), *names]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": str(folder)})


INSTALLED = 'for name; do :; done; [ "$name" = there ] && printf "install ok installed"'


def test_nothing_is_said_where_all_is_there(tmp_path: Path) -> None:
    program(tmp_path, "dpkg-query", INSTALLED)
    done = packages(tmp_path, "there")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_root_the_missing_ones_are_named(tmp_path: Path) -> None:
    program(tmp_path, "dpkg-query", INSTALLED)
    program(tmp_path, "id", "echo 1000")
    done = packages(tmp_path, "one", "there", "two")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "missing are: one two. As root: apt-get install --no-install-recommends one two\n"
    )


def test_on_another_system_all_are_named(tmp_path: Path) -> None:
    done = packages(tmp_path, "one", "two")
    assert done.returncode == 1
    assert "no dpkg. Needed are what Debian calls: one two" in done.stderr


class TestCluster:
    def test_it_needs_linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(prerequisites.Missing, match=r"needs Linux \(this is darwin\)"):
            prerequisites.check()

    def test_it_needs_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(prerequisites.Missing, match="needs root"):
            prerequisites.check()

    def test_missing_packages_are_named_together(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(prerequisites, "CNI_PLUGINS", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(prerequisites.Missing) as caught:
            prerequisites.check()
        names = "buildah containerd containernetworking-plugins curl debootstrap docker-registry iproute2 iptables runc"
        assert f"Debian packages are missing: {names} util-linux." in str(caught.value)

    def test_outside_of_its_namespaces_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KAITO_CLUSTER_FOLDER", raising=False)
        with pytest.raises(NotInside, match=r"python -m cluster\.enter"):
            Places.here()
