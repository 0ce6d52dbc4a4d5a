"""The forms a client may ask an answer in: the object, its metadata only, or a table for people.

Clients name the form in the Accept header (`application/json;as=Table;v=v1;g=meta.k8s.io`), several in order of
preference. Bodies are always JSON: every known client lists JSON beside protobuf.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from kaito.runtime.errors import NotAcceptable


class Form(StrEnum):
    OBJECT = ""
    METADATA = "PartialObjectMetadata"
    TABLE = "Table"


_JSON_TYPES = frozenset({"application/json", "*/*"})


@lru_cache(maxsize=256)
def negotiate(accept: str) -> Form:
    """The first form in an Accept header that this server can answer.

    Raises:
        NotAcceptable: there is none; the message names those that exist.
    """
    if not accept:
        return Form.OBJECT
    for item in accept.split(","):
        media, *rest = (part.strip() for part in item.split(";"))
        if media not in _JSON_TYPES:
            continue
        options = dict(part.split("=", 1) for part in rest if "=" in part)
        wanted = options.get("as", "")
        if not wanted:
            return Form.OBJECT
        if options.get("g") != "meta.k8s.io" or options.get("v") != "v1":
            continue
        if wanted == "Table":
            return Form.TABLE
        if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Form.METADATA
    raise NotAcceptable(
        "only the following media types are accepted: application/json, "
        "application/json;as=Table;v=v1;g=meta.k8s.io, "
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io, "
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    )
