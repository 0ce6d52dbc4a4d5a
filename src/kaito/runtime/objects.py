"""Objects as bytes.

An informer that keeps decoded trees of 5,000 pods spends most of its time and memory on fields that nobody
reads. Here an object is its raw JSON plus a small struct of the metadata that caches, indexes and owner
look-ups need. Whoever needs the rest calls `decode()` and gets a fresh dict, so no caller can damage the
cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any, TypeVar, cast

import msgspec
import orjson

from kaito.runtime.errors import MalformedObject
from kaito.runtime.resources import ObjectKey, Resource

T = TypeVar("T")


class OwnerReference(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`metadata.ownerReferences[]`."""

    uid: str = ""
    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(msgspec.Struct, rename="camel", gc=False):
    """The part of `metadata` that the runtime itself reads. Times are RFC 3339 text, as on the wire."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    source: bytes = msgspec.field(default=b"", name="~source")
    """JSON of the object that this is the metadata of."""
    read_annotations: dict[str, str] | None = msgspec.field(default=None, name="~annotations")
    """The annotations, once somebody has asked for them."""

    @property
    def annotations(self) -> dict[str, str]:
        """Read from the JSON when first asked for: most objects' never are, and they are large."""
        if self.read_annotations is None:
            self.read_annotations = _annotations(self.source)
        return self.read_annotations

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(intern(self.namespace) if self.namespace else None, self.name)

    @property
    def controller(self) -> OwnerReference | None:
        """The one owner that manages this object, if any."""
        return next((ref for ref in self.owner_references if ref.controller), None)


class _Annotated(msgspec.Struct, gc=False):
    annotations: dict[str, str] | None = None


class _AnnotatedObject(msgspec.Struct, gc=False):
    metadata: _Annotated


_decode_annotations = msgspec.json.Decoder(_AnnotatedObject).decode


def _annotations(raw: bytes) -> dict[str, str]:
    try:
        return _decode_annotations(raw).metadata.annotations or {}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}  # not a map of strings: no server lets that in


_NO_FIELDS = msgspec.Raw(b"")


class ReceivedMeta(ObjectMeta, rename="camel", gc=False):
    """As it came from the server: also where the managed fields lie."""

    managed_fields: msgspec.Raw = _NO_FIELDS


class Envelope(msgspec.Struct, gc=False):
    """What is read of an object before it is known to be one."""

    metadata: ReceivedMeta
    kind: str = ""

    def cut_managed_fields(self, raw: bytes) -> bytes:
        """The object's JSON without `metadata.managedFields`, which is what is left to keep of the bytes it was
        decoded from. They are a fifth to a half of many objects, and nobody but the server needs them: an update
        without them leaves them as they are.
        """
        fields, self.metadata.managed_fields = self.metadata.managed_fields, _NO_FIELDS
        value = bytes(fields)
        if not value:
            return raw
        start = raw.find(_MANAGED_FIELDS)
        while start >= 0:
            end = start + len(_MANAGED_FIELDS)
            end += raw[end : end + 1] == b" "
            if raw.startswith(value, end):
                return _without(raw, start, end + len(value))
            start = raw.find(_MANAGED_FIELDS, end)
        return raw

    def forget_managed_fields(self) -> None:
        """Let go of the buffer in which they lie."""
        self.metadata.managed_fields = _NO_FIELDS


_MANAGED_FIELDS = b'"managedFields":'
quick_envelope = msgspec.json.Decoder(Envelope).decode
"""`decode_envelope` for objects as servers write them. Raises msgspec's errors for all others."""


def _without(raw: bytes, start: int, end: int) -> bytes:
    """JSON without one member of an object, and without the comma before or else after it."""
    before = start
    while raw[before - 1 : before].isspace():
        before -= 1
    if raw[before - 1 : before] == b",":
        return raw[: before - 1] + raw[end:]
    while raw[end : end + 1].isspace():
        end += 1
    return raw[:start] + raw[end + (raw[end : end + 1] == b",") :]


def decode_envelope(raw: bytes | msgspec.Raw) -> Envelope:
    """Kind and metadata of a JSON object; the name may be missing. Raises MalformedObject."""
    try:
        return quick_envelope(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _lenient_envelope(bytes(raw))


def _lenient_envelope(raw: bytes) -> Envelope:
    """The same for objects with nulls where the fast path expects maps and lists."""
    try:
        tree = orjson.loads(raw)
        metadata = {key: value for key, value in tree["metadata"].items() if value is not None}
        metadata.pop("managedFields", None)
        return Envelope(msgspec.convert(metadata, ReceivedMeta), str(tree.get("kind") or ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MalformedObject(f"not a Kubernetes object: {error}") from error


def decode_meta(raw: bytes) -> ObjectMeta:
    """Read only the metadata of a JSON object.

    Raises MalformedObject when there is none or it has no name.
    """
    envelope = decode_envelope(raw)
    envelope.forget_managed_fields()
    envelope.metadata.source = raw
    if not envelope.metadata.name:
        raise MalformedObject("not a Kubernetes object: metadata.name is missing or empty")
    return envelope.metadata


def is_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is certainly older. Those that are no numbers cannot be compared."""
    try:
        return int(version) < int(than)
    except ValueError:
        return False


class Pool:
    """Lets objects share equal parts of their metadata: label values, owners and the like are few, objects many.

    Holds at most `SIZE` values; then it starts anew, so that values that never come again do not pile up.
    """

    SIZE = 4096

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def share(self, meta: ObjectMeta) -> None:
        """Replace parts by equal ones seen earlier."""
        values = self._values
        if len(values) > self.SIZE:
            values.clear()
        share = values.setdefault
        labels = meta.labels
        for label, value in labels.items():
            labels[label] = share(value, value)
        if meta.owner_references:
            meta.owner_references = share(meta.owner_references, meta.owner_references)
        if meta.finalizers:
            meta.finalizers = share(meta.finalizers, meta.finalizers)
        if meta.namespace:
            meta.namespace = intern(meta.namespace)
        meta.creation_timestamp = share(meta.creation_timestamp, meta.creation_timestamp)


class CachedObject:
    """One version of one object: metadata, raw JSON, and what has been derived from it.

    Never changed in place.
    """

    __slots__ = ("_views", "key", "meta", "raw", "resource")

    def __init__(self, raw: bytes, resource: Resource | None = None, meta: ObjectMeta | None = None) -> None:
        """`meta` saves a second parse where the caller has it. Raises MalformedObject (see `decode_meta`)."""
        self.raw = raw
        self.meta = decode_meta(raw) if meta is None else meta
        self.meta.source = raw
        self.key = self.meta.key
        self.resource = resource
        self._views: dict[Callable[[CachedObject], Any], Any] | None = None

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], resource: Resource | None = None) -> CachedObject:
        """The object that an informer would hold for this tree."""
        # A copy, because orjson's buffers are larger than what they hold (4 KB for 500 bytes) and stay so.
        return cls(bytes(memoryview(orjson.dumps(tree))), resource)

    def decode(self) -> dict[str, Any]:
        """The whole object as a fresh dict that the caller may change.

        Items of a list response carry no apiVersion and kind; they are filled in from the resource.
        """
        tree = cast("dict[str, Any]", orjson.loads(self.raw))
        if self.resource is not None and "kind" not in tree:
            tree = {"apiVersion": self.resource.api_version, "kind": self.resource.kind, **tree}
        return tree

    def cached_view(self, factory: Callable[[CachedObject], T]) -> T:
        """`factory(self)`, computed once for this version of the object and shared: treat it as read-only.

        Pass a module-level function (the view is remembered under it), not a lambda made per call.
        """
        if self._views is None:
            self._views = {}
        try:
            return cast("T", self._views[factory])
        except KeyError:
            view = self._views[factory] = factory(self)
            return view

    def __repr__(self) -> str:
        kind = self.resource.kind if self.resource else "object"
        return f"<{kind} {self.key} rv={self.meta.resource_version}>"
