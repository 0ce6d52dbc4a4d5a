"""Watch streams: initial state, events, bookmarks, time limits.

An object is encoded once per form and version, whoever watches; tables are not, because their cells hold ages.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
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

    def reopen(self) -> None:
        """Makes streams again after `close`."""
        self._closing = False

    def watch(
        self, served: Served, namespace: str | None, name: str | None, form: Form, params: Params
    ) -> WatchResponse:
        """The stream of a watch request; what it shows first is the state of this moment.

        Raises:
            ApiError: the parameters are not understood. Later failures are ERROR events in the stream.
        """
        options = ListOptions.parse({**params, "watch": "true"})
        selection = select(served, namespace, name, options)
        frames = Frames(selection, form, include_object(params), self._tables)
        try:
            initial, after = self._start(selection, options, frames)
            cursor = served.collection.cursor(after)
        except HistoryGone:
            return WatchResponse(self._refusal(frames, self._too_old(options)), lambda: None)
        except ServerTimeout as error:
            return WatchResponse(self._refusal(frames, error), lambda: None)
        self._started += 1
        now = self._clock.now()
        deadline = now + (options.timeout or DEFAULT_TIMEOUT + self._started * 97 % TIMEOUT_SPREAD)
        bookmark = now + self._bookmark_interval if options.bookmarks else None
        self._open.add(cursor)

        def release() -> None:
            self._open.discard(cursor)
            cursor.close()

        return WatchResponse(self._stream(initial, cursor, frames, options, deadline, bookmark), release)

    @staticmethod
    async def _refusal(frames: Frames, error: ApiError) -> AsyncGenerator[bytes, None]:
        yield frames.error(error)

    def _too_old(self, options: ListOptions) -> Gone:
        return Gone(f"too old resource version: {options.revision or 0} ({self._store.revision})")

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

    async def _stream(
        self,
        initial: bytes,
        cursor: Cursor,
        frames: Frames,
        options: ListOptions,
        deadline: float,
        bookmark_due: float | None,
    ) -> AsyncGenerator[bytes, None]:
        clock = self._clock
        if initial:
            yield initial
        while not self._closing:
            try:
                chunk = b"".join(map(frames.event, cursor.take()))
            except HistoryGone:
                yield frames.error(self._too_old(options))
                return
            if chunk:
                yield chunk
                continue
            if cursor.ended:
                return
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


class WatchResponse:
    """The response of a watch: holds a place in the history from the request on until it is closed or ends."""

    status = 200

    def __init__(self, frames: AsyncGenerator[bytes, None], release: Callable[[], None]) -> None:
        self.headers: Mapping[str, str] = {"Content-Type": JSON}
        self._frames = frames
        self._release = release
        self._chunks = self._until_end()

    async def _until_end(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._frames):
            try:
                async for chunk in self._frames:
                    yield chunk
            finally:
                self._release()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self._chunks])

    def chunks(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def close(self) -> None:
        self._release()
        await self._chunks.aclose()


class Frames:
    """Encodes what one watcher is to see."""

    def __init__(self, selection: Selection, form: Form, include: str, tables: Tables) -> None:
        self._selection = selection
        self._served = selection.served
        self._form = form
        self._include = include
        self._tables = tables
        self._first = True
        self._everything = selection.everything
        self._namespace = selection.namespace

    def state(self, record: Record) -> bytes:
        """An object that was there before the watch."""
        return self._frame(ADDED, record)

    def event(self, event: Event) -> bytes:
        """One write as this watcher sees it; empty where it concerns others.

        A change that takes an object into the selection is ADDED, out of it DELETED with the object's last state
        inside and the revision of the change.
        """
        type_, record = event.type, event.record
        if self._namespace is not None and record.key.namespace != self._namespace:
            return b""
        if not self._everything:
            selection = self._selection
            before = event.previous is not None and selection.matches(event.previous)
            after = type_ != DELETED and selection.matches(record)
            if not before and not after:
                return b""
            if before and not after and type_ != DELETED:
                return self._left(event)
            type_ = DELETED if not after else MODIFIED if before else ADDED
        return self._frame(type_, record)

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
        metadata: dict[str, object] = {"resourceVersion": str(revision)}
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
