"""Request bodies in Kubernetes' protobuf encoding, which kubectl uses for `create deployment` and the like.

Wire numbers come from the same tables as everything else about builtin types. Only reading is needed: answers are
always JSON, which every client accepts. What cannot be read faithfully is refused with a way out, never dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.kinds.typetable import Field, TypeDef
from kaito.embedded.apiserver.strategy import Object
from kaito.runtime.errors import BadRequest, UnsupportedMediaType

MAGIC = b"k8s\x00"
"""First bytes of every encoded object."""

_KINDS: dict[str, tuple[str, ...]] = {
    "v1": (
        "Binding", "ConfigMap", "Endpoints", "Event", "Namespace", "Node", "PersistentVolumeClaim", "Pod",
        "ResourceQuota", "Secret", "Service", "ServiceAccount",
    ),
    "apps/v1": ("ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"),
    "authentication.k8s.io/v1": ("SelfSubjectReview", "TokenRequest", "TokenReview"),
    "authorization.k8s.io/v1": ("SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"),
    "autoscaling/v1": ("Scale",),
    "batch/v1": ("CronJob", "Job"),
    "coordination.k8s.io/v1": ("Lease",),
    "discovery.k8s.io/v1": ("EndpointSlice",),
    "policy/v1": ("Eviction", "PodDisruptionBudget"),
    "rbac.authorization.k8s.io/v1": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    "scheduling.k8s.io/v1": ("PriorityClass",),
    "storage.k8s.io/v1": ("StorageClass",),
}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def decode_protobuf(body: bytes) -> Object:
    """The object in a body of type `application/vnd.kubernetes.protobuf`.

    Raises `UnsupportedMediaType` (415) for a kind or field this server cannot read in that form, and `BadRequest`
    for bytes that are not what they claim to be.
    """
    if not body.startswith(MAGIC):
        raise BadRequest("the body is not in Kubernetes' protobuf encoding: it does not start with k8s\\0")
    try:
        api_version, kind, raw = _envelope(body[len(MAGIC) :])
        name = _type_name(api_version, kind)
        obj = _message(raw, TABLE[name], kind)
    except (IndexError, UnicodeDecodeError, _TruncatedError) as error:
        raise BadRequest(f"the protobuf body is damaged: {error}") from error
    return {"apiVersion": api_version, "kind": kind, **obj}


class _TruncatedError(ValueError):
    pass


def _type_name(api_version: str, kind: str) -> str:
    if kind == "DeleteOptions":
        return kind
    if kind == "Event" and api_version == "events.k8s.io/v1":
        return "EventsV1Event"
    if kind not in _KINDS.get(api_version, ()):
        raise UnsupportedMediaType(
            f"this API server does not read {kind or 'objects'} of {api_version or 'no version'} in protobuf; "
            "send JSON, for example by `kubectl create … --dry-run=client -o yaml | kubectl apply -f -`"
        )
    return kind


def _envelope(data: bytes) -> tuple[str, str, bytes]:
    api_version = kind = ""
    raw = b""
    for number, _, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            for inner, _, text in _fields(value):
                if inner == 1 and isinstance(text, bytes):
                    api_version = text.decode()
                elif inner == 2 and isinstance(text, bytes):
                    kind = text.decode()
        elif number == 2 and isinstance(value, bytes):
            raw = value
        elif number == 3 and value:
            raise UnsupportedMediaType("compressed protobuf bodies are not supported")
    return api_version, kind, raw


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(number, wire type, value) of every field of a message."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise _TruncatedError(f"unknown wire type {wire}")
        if position + size > end:
            raise _TruncatedError("it ends in the middle of a field")
        yield number, wire, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise _TruncatedError("a number is too long")


class _Layout:
    """The fields of a type by wire number; embedded types under theirs."""

    __slots__ = ("fields", "inlined")

    def __init__(self) -> None:
        self.fields: dict[int, Field] = {}
        self.inlined: dict[int, _Layout] = {}

    def place(self, item: Field, wire: tuple[int, ...]) -> None:
        if len(wire) > 1:
            self.inlined.setdefault(wire[0], _Layout()).place(item, wire[1:])
        else:
            self.fields[wire[0]] = item


_layouts: dict[str, _Layout] = {}


def _layout(definition: TypeDef) -> _Layout:
    layout = _layouts.get(definition.name)
    if layout is None:
        layout = _layouts[definition.name] = _Layout()
        for item in definition.fields.values():
            if item.wire != (0,):
                layout.place(item, item.wire)
    return layout


def _message(data: bytes, definition: TypeDef, path: str) -> Object:
    result: Object = {}
    _read(data, _layout(definition), path, result)
    return result


def _read(data: bytes, layout: _Layout, path: str, result: Object) -> None:
    for number, _, value in _fields(data):
        embedded = layout.inlined.get(number)
        if embedded is not None and isinstance(value, bytes):
            _read(value, embedded, path, result)
            continue
        item = layout.fields.get(number)
        if item is None:
            raise _unreadable(path, f"field number {number}")
        here = f"{path}.{item.name}"
        if item.shape == "list":
            result.setdefault(item.name, []).append(_value(value, item, here))
        elif item.shape == "map":
            key, entry = _entry(value, item, here)
            result.setdefault(item.name, {})[key] = entry
        else:
            read = _value(value, item, here)
            if read is not None:
                result[item.name] = read


def _unreadable(path: str, what: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"this API server cannot read {what} of {path} in protobuf; send JSON, for example by "
        "`kubectl create … --dry-run=client -o yaml | kubectl apply -f -`"
    )


def _entry(value: int | bytes, item: Field, path: str) -> tuple[str, Any]:
    key, content = "", _ZERO.get(item.base)
    for number, _, part in _fields(_expect_bytes(value, path)):
        if number == 1:
            key = _expect_bytes(part, path).decode()
        elif number == 2:
            content = _value(part, item, path)
    return key, content


def _expect_bytes(value: int | bytes, path: str) -> bytes:
    if not isinstance(value, bytes):
        raise _TruncatedError(f"{path} has the wrong wire type")
    return value


def _value(value: int | bytes, item: Field, path: str) -> Any:
    if item.target is not None:
        return _message(_expect_bytes(value, path), item.target, path)
    if item.base in ("bool", "int32", "int64"):
        if not isinstance(value, int):
            raise _TruncatedError(f"{path} has the wrong wire type")
        if item.base == "bool":
            return bool(value)
        return value - (1 << 64) if value >= 1 << 63 else value
    data = _expect_bytes(value, path)
    return _SCALARS[item.base](data, path)


def _time(data: bytes, path: str) -> str | None:
    moment, _ = _moment(data)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def _microtime(data: bytes, path: str) -> str | None:
    moment, _ = _moment(data)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


def _moment(data: bytes) -> tuple[datetime | None, int]:
    seconds = nanos = 0
    for number, _, value in _fields(data):
        if isinstance(value, int):
            signed = value - (1 << 64) if value >= 1 << 63 else value
            if number == 1:
                seconds = signed
            else:
                nanos = signed
    if seconds <= 0:
        return None, 0
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000), nanos


def _quantity(data: bytes, path: str) -> str:
    for number, _, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            return value.decode()
    return "0"


def _int_or_string(data: bytes, path: str) -> int | str:
    kind, number_value, text = 0, 0, ""
    for number, _, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, int):
            number_value = value - (1 << 64) if value >= 1 << 63 else value
        elif number == 3 and isinstance(value, bytes):
            text = value.decode()
    return text if kind else number_value


def _is_empty(data: bytes) -> bool:
    """Whether a message of unknown type says nothing: zeros, empty texts, messages that say nothing."""
    try:
        return all(
            not value or (isinstance(value, bytes) and _is_empty(value)) for _, _, value in _fields(data)
        )
    except (IndexError, _TruncatedError):
        return False


def _raw(data: bytes, path: str) -> Any:
    """Untyped content: nothing, or JSON in a RawExtension."""
    if not data:
        return None
    parts = list(_fields(data))
    if len(parts) == 1 and parts[0][0] == 1 and isinstance(parts[0][2], bytes):
        try:
            return orjson.loads(parts[0][2])
        except orjson.JSONDecodeError:
            pass
    if _is_empty(data):
        return None
    raise _unreadable(path, "the content")


_SCALARS: dict[str, Callable[[bytes, str], Any]] = {
    "string": lambda data, path: data.decode(),
    "bytes": lambda data, path: base64.b64encode(data).decode(),
    "time": _time,
    "microtime": _microtime,
    "quantity": _quantity,
    "intstr": _int_or_string,
    "raw": _raw,
    "fieldsv1": _raw,
}
_ZERO: dict[str, Any] = {"string": "", "bytes": "", "quantity": "0"}
