"""Where weights and adapters are, as one word on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from kaito.api.images import InvalidImageReference, parse_image_reference
from kaito.api.weights import HUB_ID
from kaito.cli.errors import CliError

Object = dict[str, Any]

WEIGHTS_FORMS: Final = (
    "organisation/model[@revision], an image with a tag, /directory/of/the/nodes, or pvc:CLAIM"
)
ADAPTER_FORMS: Final = "NAME=IMAGE:TAG[:STRENGTH], NAME=pvc:CLAIM[:STRENGTH] or ADAPTER=adapter[:STRENGTH]"
_STRENGTH: Final = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Adapter:
    """One entry of `inference.adapters`: a source, or, with None, the Adapter object of that name."""

    name: str
    source: Object | None
    strength: str


def read_weights(text: str) -> Object:
    """`inference.preset.weights` for what was written. Raises CliError."""
    if text.startswith("/"):
        return {"path": text}
    if text.startswith("pvc:"):
        return _claim(text, "--weights", text)
    id, _, revision = text.partition("@")
    if re.fullmatch(HUB_ID, id) and not _is_host(id.partition("/")[0]) and not revision.startswith("sha256:"):
        return {"huggingFace": id, **({"revision": revision} if revision else {})}
    return {"image": _image(text, f"--weights {text}", WEIGHTS_FORMS)}


def read_adapter(text: str) -> Adapter:
    """An adapter for what was written. Raises CliError.

    The last part after a colon is the strength where an image still has its tag without it.
    """
    name, equals, rest = text.partition("=")
    if not name or not equals or not rest:
        raise CliError(f"--adapter {text}: write {ADAPTER_FORMS}.")
    place, strength = _strength(rest)
    if place == "adapter":
        return Adapter(name, None, strength)
    if place.startswith("pvc:"):
        return Adapter(name, _claim(place, "--adapter", text), strength)
    return Adapter(name, {"image": _image(place, f"--adapter {text}", ADAPTER_FORMS)}, strength)


def _strength(text: str) -> tuple[str, str]:
    head, colon, last = text.rpartition(":")
    tagged = head == "adapter" or head.startswith("pvc:") or ":" in head.rpartition("/")[2] or "@" in head
    if colon and tagged and _STRENGTH.fullmatch(last):
        if float(last) > 1:
            raise CliError(f"The strength {last} of {text} is above 1.")
        return head, last
    return text, "1.0"


def _claim(place: str, flag: str, text: str) -> Object:
    name = place.removeprefix("pvc:")
    if not name:
        raise CliError(f"{flag} {text}: write the name of a PersistentVolumeClaim after pvc:.")
    return {"volumeSource": {"persistentVolumeClaim": {"claimName": name}}}


def _image(text: str, what: str, forms: str) -> str:
    try:
        found = parse_image_reference(text)
    except InvalidImageReference as error:
        raise CliError(f"{what}: {error}. Write {forms}.") from None
    if found.tag is None and found.digest is None:
        raise CliError(f"{what}: the image has no tag. Write {forms}.")
    return text


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost"
