"""The bill of materials: everything is in it, and the same contents give the same bytes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from cyclonedx.model.bom import Bom

from hack.images.engine import Base
from hack.images.sbom import debian_packages, write_sbom
from hack.images.wheelhouse import Wheel, read_wheel

STATUS = """Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4+deb12u11
Conffiles:
 /etc/issue 1: 2
Description: files
 Status: install ok installed

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: hold ok installed
Architecture: all
Version: 2025b-0+deb12u1
"""
BASE = Base("debian", "3.11.2", "x86_64", STATUS)
EPOCH = 1700000000


def wheel(folder: Path, name: str, version: str, *more: str) -> Wheel:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = "\n".join([f"Name: {name}", f"Version: {version}", *more, "", "A text."])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), metadata)
    return read_wheel(path)


def bill(folder: Path, base: Base = BASE) -> str:
    wheels = [wheel(folder, "Some_Thing", "1.0", "License-Expression: MIT"), wheel(folder, "other", "2")]
    return write_sbom("kaito/operator", "0.1.0", wheels, base, EPOCH)


def test_names_python_packages_debian_packages_and_the_interpreter(tmp_path: Path) -> None:
    components = {each["purl"]: each for each in json.loads(bill(tmp_path))["components"]}
    assert set(components) == {
        "pkg:pypi/some-thing@1.0",
        "pkg:pypi/other@2",
        "pkg:deb/debian/base-files@12.4%2Bdeb12u11?arch=amd64",
        "pkg:deb/debian/tzdata@2025b-0%2Bdeb12u1?arch=all",
        "pkg:generic/python@3.11.2",
    }
    thing = components["pkg:pypi/some-thing@1.0"]
    content = (tmp_path / "Some_Thing-1.0-py3-none-any.whl").read_bytes()
    assert thing["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]
    assert thing["licenses"] == [{"license": {"name": "MIT"}}]


def test_packages_that_were_removed_are_not_in_it() -> None:
    assert [each["Package"] for each in debian_packages(STATUS)] == ["base-files", "tzdata"]
    assert list(debian_packages("")) == []


def test_the_same_contents_give_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    assert bill(tmp_path) == bill(tmp_path)
    newer = Base("debian", "3.11.3", "x86_64", STATUS)
    assert bill(tmp_path) != bill(tmp_path, newer)
    assert json.loads(bill(tmp_path))["serialNumber"] != json.loads(bill(tmp_path, newer))["serialNumber"]


def test_the_format_s_own_library_reads_it(tmp_path: Path) -> None:
    text = json.loads(bill(tmp_path))
    assert text["bomFormat"] == "CycloneDX"
    read = Bom.from_json(text)  # type: ignore[attr-defined]
    assert {each.name for each in read.components} >= {"Some_Thing", "other", "python", "tzdata"}
    assert read.metadata.component.name == "kaito/operator"
    assert read.metadata.timestamp.timestamp() == EPOCH
