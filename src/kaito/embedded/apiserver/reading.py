"""get and list, paging and resourceVersion semantics included."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

import orjson

from kaito.embedded.apiserver.forms import Form
from kaito.embedded.apiserver.messages import JSON, json_response
from kaito.embedded.apiserver.parameters import ListOptions, Params, flag, parse_revision
from kaito.embedded.apiserver.selection import Selection, select
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import HistoryGone, Key, Record, Store
from kaito.embedded.apiserver.tables.render import Tables
from kaito.runtime.errors import BadRequest, Gone, NotFound, ServerTimeout
from kaito.runtime.transport import BufferedResponse


def not_found(served: Served, name: str) -> NotFound:
    resource = served.resource
    details = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    return NotFound(f'{resource.name} "{name}" not found', details=details)


def require(served: Served, namespace: str | None, name: str) -> Record:
    """The record at an address.

    Raises:
        NotFound: there is none.
    """
    record = served.collection.get(Key(namespace or "", name))
    if record is None:
        raise not_found(served, name)
    return record


def refuse_future(asked: int, current: int) -> NoReturn:
    """504 for a resourceVersion that has not happened; clients answer by reading again."""
    raise ServerTimeout(
        f"Too large resource version: {asked}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        retry_after=1,
    )


Records = list[Record]


class Reader:
    """Answers get and list from the store."""

    def __init__(self, store: Store, tables: Tables) -> None:
        self._store = store
        self._tables = tables

    def get(
        self, served: Served, namespace: str | None, name: str, form: Form, params: Params
    ) -> BufferedResponse:
        revision = parse_revision(params.get("resourceVersion", ""))
        if revision is not None and revision > self._store.revision:
            refuse_future(revision, self._store.revision)
        return self.show(served, require(served, namespace, name), form, params)

    def show(
        self,
        served: Served,
        record: Record,
        form: Form,
        params: Params,
        status: int = 200,
        warnings: Sequence[str] = (),
    ) -> BufferedResponse:
        """One object in the form that was asked for."""
        if form is Form.OBJECT:
            body = served.encoded(record)
        elif form is Form.METADATA:
            body = record.encoded_metadata()
        else:
            version = record.metadata.get("resourceVersion", "")
            body = self._tables.encode(
                served, [record], {"resourceVersion": version}, include_object(params), headers=True
            )
        return json_response(body, status, warnings=warnings)

    def list(self, served: Served, namespace: str | None, form: Form, params: Params) -> BufferedResponse:
        options = ListOptions.parse(params)
        selection = select(served, namespace, None, options)
        records, metadata = self._page(selection, options)
        body = self._encode(served, records, metadata, form, params)
        return BufferedResponse(200, body, {"Content-Type": JSON})

    def _encode(
        self,
        served: Served,
        records: Sequence[Record],
        metadata: dict[str, Any],
        form: Form,
        params: Params,
    ) -> bytes:
        if form is Form.TABLE:
            return self._tables.encode(served, records, metadata, include_object(params), headers=True)
        if form is Form.METADATA:
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            items = b",".join([record.encoded_metadata() for record in records])
        else:
            kind, api_version = served.strategy.list_kind, served.resource.api_version
            version = served.strategy
            if served.custom:
                # Kubernetes keeps the lists of custom resources untyped, and an untyped list always says it.
                metadata.setdefault("continue", "")
                items = b",".join([record.encoded(version) for record in records])
            else:
                items = b",".join([_untyped(record.encoded(version)) for record in records])
        head = orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})
        return b'%b,"items":[%b]}' % (head[:-1], items)

    def _page(self, selection: Selection, options: ListOptions) -> tuple[Records, dict[str, Any]]:
        """The records of one page and the list's metadata."""
        after: Key | None = None
        revision = self._store.revision
        exact = False
        if options.continue_token:
            revision, after = _read_token(options)
            exact = revision != self._store.revision
        elif options.revision is not None:
            if options.revision > self._store.revision:
                refuse_future(options.revision, self._store.revision)
            if options.match == "Exact" or (options.match == "" and options.limit and options.revision > 0):
                revision, exact = options.revision, True
        records = list(selection.filter(self._candidates(selection, revision, exact=exact)))
        if after is not None:
            records = [record for record in records if record.key > after]
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        # A list "at any version" comes from memory as a whole, as kube-apiserver's watch cache answers it.
        limit = 0 if options.revision == 0 else options.limit
        if limit and len(records) > limit:
            remaining = len(records) - limit
            records = records[:limit]
            metadata["continue"] = _token(revision, records[-1].key)
            if selection.everything:
                metadata["remainingItemCount"] = remaining
        return records, metadata

    def _candidates(self, selection: Selection, revision: int, *, exact: bool) -> Iterable[Record]:
        collection, namespace = selection.served.collection, selection.namespace
        if exact:
            try:
                return collection.snapshot(namespace, revision)
            except HistoryGone:
                raise Gone(
                    f"The resourceVersion for the provided list is too old: {revision}; list again without it"
                ) from None
        if selection.name is not None and namespace is not None:
            record = collection.get(Key(namespace, selection.name))
            return [] if record is None else [record]
        return collection.select(namespace)


_TYPE: Final = re.compile(rb'\{(?:"(?:apiVersion|kind)":"[^"]*",?)*')


def _untyped(item: bytes) -> bytes:
    """An object as an item of a builtin kind's list: Kubernetes leaves apiVersion and kind to the list there."""
    found = _TYPE.match(item)
    assert found is not None
    if found.group().count(b'":"') == 2:
        return b"{" + item[found.end() :]
    tree = orjson.loads(item)
    return orjson.dumps({name: value for name, value in tree.items() if name not in ("apiVersion", "kind")})


def include_object(params: Params) -> str:
    """Metadata | Object | None: what a table row carries beside its cells."""
    value = params.get("includeObject", "") or "Metadata"
    if value not in ("Metadata", "Object", "None"):
        raise BadRequest(f'includeObject={value}: must be one of "Metadata", "Object", "None"')
    return value


def wants_watch(params: Params) -> bool:
    return flag(params, "watch")


def _token(revision: int, last: Key) -> str:
    data = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": [last.namespace, last.name]})
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _read_token(options: ListOptions) -> tuple[int, Key]:
    if options.revision:
        raise BadRequest("specifying resource version is not allowed when using continue")
    token = options.continue_token
    try:
        data = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = data["start"]
        return int(data["rv"]), Key(str(namespace), str(name))
    except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise BadRequest("continue key is not valid: it must be the one of the page before") from None
