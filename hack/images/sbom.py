"""The bill of materials of an image, as CycloneDX JSON: its Python packages, the base's Debian packages and Python.

Nothing in it is of the moment: the same contents give the same bytes, so a bill inside an image changes no digest.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from hack.images.engine import Base
from hack.images.wheelhouse import Wheel

_NAMESPACE = uuid.UUID("6f1b7c5e-0f0e-5d5f-9a3d-3b6a4c1f2d10")
"""For serial numbers that follow from the contents."""


def write_sbom(image: str, version: str, wheels: Iterable[Wheel], base: Base, epoch: int) -> str:
    """The bill of the image as text."""
    root = Component(name=image, version=version, type=ComponentType.CONTAINER, bom_ref=f"image:{image}")
    bom = Bom(
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(epoch, UTC)),
        components=[*map(_python, wheels), *_debian(base.dpkg), _interpreter(base)],
    )
    bom.register_dependency(root, bom.components)
    contents = "\n".join(sorted(f"{part.purl} {[h.content for h in part.hashes]}" for part in bom.components))
    bom.serial_number = uuid.uuid5(_NAMESPACE, f"{image} {version} {epoch}\n{contents}")
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _python(wheel: Wheel) -> Component:
    purl = PackageURL("pypi", name=wheel.name.lower().replace("_", "-"), version=wheel.version)
    licence = wheel.metadata["License-Expression"] or wheel.metadata["License"]
    short = licence is not None and "\n" not in licence and len(licence) < 100
    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256())],
        licenses=[DisjunctiveLicense(name=str(licence))] if short else [],
    )


def _debian(status: str) -> Iterator[Component]:
    for package in debian_packages(status):
        qualifiers = {"arch": package["Architecture"]}
        purl = PackageURL("deb", "debian", package["Package"], package["Version"], qualifiers)
        yield Component(
            name=package["Package"],
            version=package["Version"],
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=str(purl),
        )


def _interpreter(base: Base) -> Component:
    purl = PackageURL("generic", name="python", version=base.python)
    return Component(
        name="python", version=base.python, type=ComponentType.APPLICATION, purl=purl, bom_ref=str(purl)
    )


def debian_packages(status: str) -> Iterator[dict[str, str]]:
    """The installed packages of a /var/lib/dpkg/status, each as its one-line fields."""
    for paragraph in status.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line[0].isspace() and ": " in line]
        fields = dict(line.split(": ", 1) for line in lines)
        if fields.get("Status", "").endswith(" installed"):
            yield fields
