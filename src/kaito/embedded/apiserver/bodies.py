"""Request bodies: which content types are read, and how.

A browser can send a form or plain text to a loopback server without asking anybody, but not JSON: so the list of
accepted types is also a defence (beside the token and the Host), and everything else is 415.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson
import yaml

from kaito.embedded.apiserver.protobuf import decode_protobuf
from kaito.runtime.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from kaito.runtime.transport import Request

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
PATCH_TYPES: Final = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)

MAX_BODY: Final = 3 * 1024 * 1024
"""Bytes a request body may have, as in kube-apiserver."""

# libyaml where it is there: ten times as fast, same result.
_YAML_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def media_type(request: Request) -> str:
    """The content type without parameters, lower-cased; "" if absent."""
    return request.header("content-type").partition(";")[0].strip().lower()


def body_of(request: Request) -> bytes:
    body = request.body or b""
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge(f"limit is {MAX_BODY} bytes, the body has {len(body)}")
    return body


def duplicate_fields(request: Request) -> list[str]:
    """Fields that a JSON body has twice, as `duplicate field "data.k"`; the last value counts."""
    body = body_of(request)
    if media_type(request) not in (JSON, "") or not body:
        return []
    found: list[str] = []

    def read(pairs: list[tuple[str, Any]]) -> Any:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            found.append("")
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=read)
        return _duplicates(json.loads(body, object_pairs_hook=_Pairs), "") if found else []
    except ValueError:
        return []


class _Pairs(list[tuple[str, Any]]):
    """The fields of an object as they stand."""


def _duplicates(value: Any, path: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, each in value:
            here = f"{path}.{name}" if path else name
            if name in seen:
                found.append(f'duplicate field "{here}"')
            seen.add(name)
            found += _duplicates(each, here)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += _duplicates(each, f"{path}[{index}]")
    return found


def parse_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None


class _JsonTypes(_YAML_LOADER):  # type: ignore[misc] # one of two loaders, chosen at import
    """YAML with JSON's types only: a timestamp stays the text it was written as."""


_JsonTypes.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _YAML_LOADER.yaml_implicit_resolvers.items()
}


def parse_yaml(body: bytes) -> Any:
    """YAML, or JSON, which is tried first because it is what clients send under a YAML type."""
    if body[:1] in (b"{", b"["):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass
    try:
        # Of several documents the first counts.
        return _text_keys(next(yaml.load_all(body, Loader=_JsonTypes), None))
    except yaml.YAMLError as error:
        raise BadRequest(f"the body is not valid YAML: {error}") from None


def _text_keys(value: Any) -> Any:
    """YAML reads `yes:` and `1:` as keys that are no text; JSON has none of those."""
    if isinstance(value, dict):
        return {_text_key(key): _text_keys(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_text_keys(each) for each in value]
    return value


def _text_key(key: Any) -> str:
    return key if isinstance(key, str) else orjson.dumps(key).decode()


def decode_object(request: Request) -> dict[str, Any]:
    """The object in the body of a POST or PUT.

    Raises:
        UnsupportedMediaType: a content type is named and is none of JSON, YAML and protobuf.
        BadRequest: it does not parse, or is not an object.
    """
    body, media = body_of(request), media_type(request)
    # kubectl's scale client names no type; kube-apiserver takes such a body for JSON.
    if media in (JSON, ""):
        value = parse_json(body)
    elif media == YAML:
        value = parse_yaml(body)
    elif media == PROTOBUF:
        value = decode_protobuf(body)
    else:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format ({media}); "
            f"accepted media types include: {JSON}, {YAML}, {PROTOBUF}"
        )
    return _mapping(value)


def decode_options(request: Request) -> dict[str, Any] | None:
    """The DeleteOptions in the body of a DELETE; None if there is no body."""
    if not body_of(request):
        return None
    options = decode_object(request)
    kind = options.get("kind", "DeleteOptions")
    if kind != "DeleteOptions":
        raise BadRequest(f"the body of a DELETE must be DeleteOptions, not {kind}")
    return options


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be an object, not {type(value).__name__}")
    return value
