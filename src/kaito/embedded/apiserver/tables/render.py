"""From records to a `meta.k8s.io/v1 Table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Record
from kaito.embedded.apiserver.tables.builtin import BUILTIN
from kaito.embedded.apiserver.tables.printer import Printer, custom_printer, plain_printer
from kaito.runtime.clock import Clock


class Tables:
    """Renders tables; ages are by the given clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def columns(self, served: Served) -> list[dict[str, Any]]:
        return self._printer(served).columns

    def encode(
        self,
        served: Served,
        records: Sequence[Record],
        metadata: Mapping[str, Any],
        include: str,
        *,
        headers: bool,
    ) -> bytes:
        """A Table as JSON; `include` is Metadata, Object or None, `headers` adds the column definitions."""
        printer = self._printer(served)
        now = self._clock.wall()
        rows = []
        for record in records:
            row: dict[str, Any] = {"cells": printer.cells(served.view(record), now)}
            if include == "Metadata":
                row["object"] = orjson.Fragment(record.encoded_metadata())
            elif include == "Object":
                row["object"] = orjson.Fragment(served.encoded(record))
            else:
                row["object"] = None
            rows.append(row)
        return orjson.dumps(
            {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "columnDefinitions": printer.columns if headers else None,
                "rows": rows,
            }
        )

    @staticmethod
    def _printer(served: Served) -> Printer:
        if served.printer is None:
            served.printer = _printer_for(served)
        return served.printer


def _printer_for(served: Served) -> Printer:
    strategy = served.strategy
    if served.custom or strategy.columns:
        return custom_printer(strategy.columns)
    return BUILTIN.get((strategy.resource.group, strategy.resource.kind)) or plain_printer()
