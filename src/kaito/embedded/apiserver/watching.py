"""Watch streams: initial state, events, bookmarks, time limits.

Every frame is encoded once per form and version and shared by all watchers, except tables, whose cells hold ages.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import orjson

from kaito.embedded.apiserver.forms import Form
from kaito.embedded.apiserver.messages import JSON
from kaito.embedded.apiserver.parameters import ListOptions, Params
from kaito.embedded.apiserver.reading import include_object
from kaito.embedded.apiserver.selection import Selection, select
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import ADDED, DELETED, MODIFIED, Cursor, Event, HistoryGone, Record, Store
from kaito.embedded.apiserver.tables.render import Tables
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, Gone, ServerTimeout
from kaito.runtime.transport import StreamedResponse

DEFAULT_TIMEOUT: Final = 1800
"""Seconds a watch lasts at least when the client names no limit (kube-apiserver: --min-request-timeout)."""

TIMEOUT_SPREAD: Final = 1800
"""Seconds over which those default limits are spread, so that watches do not all end at once."""

INITIAL_EVENTS_END: Final = {"k8s.io/initial-events-end": "true"}


class Watcher:
    """Makes watch streams."""

    def __init__(self, store: Store, tables: Tables, clock: Clock, bookmark_interval: float) -> None:
        self._store = store
        self._tables = tables
        self._clock = clock
        self._bookmark_interval = bookmark_interval
        self._started = 0
        self._closing = False
        self._open: set[Cursor] = set()

    @property
    def open_watches(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Ends every stream, as a server that goes down does."""
        self._closing = True
        for cursor in self._open:
            cursor.wake()

    def watch(
        self, served: Served, namespace: str | None, name: str | None, form: Form, params: Params
    ) -> StreamedResponse:
        """The stream of a watch request.

        Raises:
            ApiError: the parameters are not understood. Later failures are ERROR events in the stream.
        """
        options = ListOptions.parse({**params, "watch": "true"})
        selection = select(served, namespace, name, options)
        self._started += 1
        timeout = options.timeout or DEFAULT_TIMEOUT + self._started * 97 % TIMEOUT_SPREAD
        frames = Frames(selection, form, include_object(params), self._tables)
        stream = self._stream(selection, options, frames, self._clock.now() + timeout)
        return StreamedResponse(200, stream, {"Content-Type": JSON})

    async def _stream(
        self, selection: Selection, options: ListOptions, frames: Frames, deadline: float
    ) -> AsyncGenerator[bytes, None]:
        cursor: Cursor | None = None
        try:
            initial, after = self._start(selection, options, frames)
            cursor = selection.served.collection.cursor(after)
            self._open.add(cursor)
            if initial:
                yield initial
            async with aclosing(self._follow(cursor, options, frames, deadline)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except HistoryGone:
            yield frames.error(
                Gone(f"too old resource version: {options.revision or 0} ({self._store.revision})")
            )
        except ApiError as error:
            yield frames.error(error)
        finally:
            if cursor is not None:
                self._open.discard(cursor)
                cursor.close()

    def _start(self, selection: Selection, options: ListOptions, frames: Frames) -> tuple[bytes, int]:
        """What the stream begins with, and the revision after which events follow."""
        current = self._store.revision
        if options.revision is not None and options.revision > current:
            raise ServerTimeout(
                f"Too large resource version: {options.revision}, current: {current}",
                details={
                    "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
                },
            )
        wants_state = options.send_initial if options.send_initial is not None else not options.revision
        if not wants_state:
            # sendInitialEvents=false without a revision starts from now.
            return b"", options.revision or current
        records = selection.filter(selection.served.collection.select(selection.namespace))
        initial = b"".join([frames.state(record) for record in records])
        if options.send_initial and options.bookmarks:
            initial += frames.bookmark(current, INITIAL_EVENTS_END)
        return initial, current

    async def _follow(
        self, cursor: Cursor, options: ListOptions, frames: Frames, deadline: float
    ) -> AsyncGenerator[bytes, None]:
        clock = self._clock
        bookmark_due = clock.now() + self._bookmark_interval if options.bookmarks else None
        while not self._closing:
            chunk = b"".join(map(frames.event, cursor.take()))
            if chunk:
                yield chunk
                continue
            now = clock.now()
            if now >= deadline:
                return
            if bookmark_due is not None and now >= bookmark_due:
                bookmark_due = now + self._bookmark_interval
                yield frames.bookmark(self._store.revision, None)
                continue
            alarm = clock.call_later(min(deadline, bookmark_due or deadline) - now, cursor.wake)
            try:
                await cursor.wait()
            finally:
                alarm.cancel()


class Frames:
    """Encodes what one watcher is to see."""

    def __init__(self, selection: Selection, form: Form, include: str, tables: Tables) -> None:
        self._selection = selection
        self._served = selection.served
        self._form = form
        self._include = include
        self._tables = tables
        self._first = True

    def state(self, record: Record) -> bytes:
        """An object that was there before the watch."""
        return self._frame(ADDED, record)

    def event(self, event: Event) -> bytes:
        """One write as this watcher sees it; empty where it concerns others.

        A change that takes an object into the selection is ADDED, out of it DELETED with the object's last state
        inside and the revision of the change.
        """
        type_, record = event.type, event.record
        selection = self._selection
        if selection.namespace is not None and record.key.namespace != selection.namespace:
            return b""
        if not selection.everything:
            before = event.previous is not None and selection.matches(event.previous)
            after = type_ != DELETED and selection.matches(record)
            if not before and not after:
                return b""
            if before and not after and type_ != DELETED:
                return self._left(event)
            type_ = DELETED if not after else MODIFIED if before else ADDED
        if self._form is Form.TABLE:
            return self._frame(type_, record)
        version = self._served.resource.api_version
        key = (type_, self._form.value, version)
        data = event.frames.get(key)
        if data is None:
            data = event.frames[key] = self._frame(type_, record)
        return data

    def _left(self, event: Event) -> bytes:
        assert event.previous is not None
        last = event.previous
        obj = {**last.obj, "metadata": {**last.metadata, "resourceVersion": str(event.revision)}}
        return self._frame(DELETED, Record(last.key, obj, event.revision))

    def _frame(self, type_: str, record: Record) -> bytes:
        if self._form is Form.OBJECT:
            body = self._served.encoded(record)
        elif self._form is Form.METADATA:
            body = record.encoded_metadata()
        else:
            version = record.metadata.get("resourceVersion", "")
            body = self._tables.encode(
                self._served, [record], {"resourceVersion": version}, self._include, headers=self._first
            )
            self._first = False
        return b'{"type":"%b","object":%b}\n' % (type_.encode(), body)

    def bookmark(self, revision: int, annotations: dict[str, str] | None) -> bytes:
        resource = self._served.resource
        metadata: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        obj: dict[str, object] = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": metadata,
        }
        if self._form is Form.METADATA:
            obj = {**obj, "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        elif self._form is Form.TABLE:
            obj = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": str(revision)},
                "columnDefinitions": self._tables.columns(self._served) if self._first else None,
                # The row's object is where a client finds the annotation that ends the initial events.
                "rows": [
                    {
                        "cells": [],
                        "object": {**obj, "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"},
                    }
                ],
            }
        return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"

    def error(self, error: ApiError) -> bytes:
        return orjson.dumps({"type": "ERROR", "object": error.to_status()}) + b"\n"
