"""What a Grafana dashboard is, as far as ours need it, and its JSON.

The JSON is the one of Grafana 10 and later (schema version 39), the same bytes at every run. Identity is stable: the
uid is written down, and a panel's id is made from its title, so that links to a panel survive other panels coming and
going.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

SCHEMA_VERSION = 39
COLUMNS = 24
"""Width of Grafana's grid."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RUNBOOK = "docs/runbook.md"

Kind = Literal["timeseries", "stat", "heatmap", "table"]
Color = Literal["green", "yellow", "orange", "red", "blue", "gray"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One line of a panel. `legend` is Grafana's template: `{{label}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `what` says what is shown, `bad` what a bad value means, `runbook` the heading that helps then."""

    title: str
    kind: Kind
    queries: tuple[Query, ...]
    what: str
    bad: str
    runbook: str = ""
    unit: str = "short"
    """Grafana's name: short, s, bytes, reqps, ops, percentunit, currencyUSD …"""
    thresholds: tuple[tuple[float, Color], ...] = ()
    """From this value on that colour; below the first it is green."""
    base: Color = "green"
    """The colour below the first threshold."""
    signed: bool = False
    """Whether values below 0 mean something."""
    stacked: bool = False
    calculation: Literal["lastNotNull", "max", "sum"] = "lastNotNull"
    """What a stat makes of its series."""
    width: int = 8
    height: int = 8
    colors: tuple[tuple[str, Color], ...] = ()
    """Series that always have the same colour: (name in the legend, colour)."""
    columns: tuple[tuple[str, str], ...] = ()
    """Of a table: (label, heading) in this order; the query leaves no other labels."""

    @property
    def id(self) -> int:
        return zlib.crc32(self.title.encode()) % 1_000_000 + 1

    @property
    def description(self) -> str:
        where = f"\n\nRunbook: {RUNBOOK}, “{self.runbook}”." if self.runbook else ""
        return f"{self.what}\n\n{self.bad}{where}"


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it; it can be folded."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values that `label` has on `metric`, several or all of them."""

    name: str
    label: str
    metric: str
    matchers: str = ""
    """What narrows the choice: other variables, in PromQL."""

    @property
    def query(self) -> str:
        of = f"{self.metric}{{{self.matchers}}}" if self.matchers else self.metric
        return f"label_values({of}, {self.name})"


@dataclass(frozen=True)
class Number:
    """A number that the reader types in at the top of a dashboard."""

    name: str
    label: str
    default: str


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; `uid` is its address, never to be changed."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable | Number, ...]
    rows: tuple[Row, ...]
    tags: tuple[str, ...] = field(default=("kaito",))

    @property
    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels

    def json(self) -> str:
        return json.dumps(_dashboard(self), indent=1, ensure_ascii=False) + "\n"


def stats(*panels: Panel) -> tuple[Panel, ...]:
    """Panels as a line of small ones across the whole width."""
    width = COLUMNS // len(panels)
    return tuple(_sized(panel, width, 4) for panel in panels)


def _sized(panel: Panel, width: int, height: int) -> Panel:
    return replace(panel, width=width, height=height)


def _dashboard(board: Dashboard) -> Json:
    return {
        "annotations": {"list": []},
        "description": board.description,
        "editable": True,
        "graphTooltip": 1,
        "links": [
            {
                "asDropdown": True,
                "icon": "external link",
                "includeVars": False,
                "keepTime": True,
                "tags": ["kaito"],
                "targetBlank": False,
                "title": "KAITO",
                "type": "dashboards",
            }
        ],
        "panels": list(_panels(board.rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": list(board.tags),
        "templating": {"list": [_datasource_variable(), *map(_variable, board.variables)]},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": board.title,
        "uid": board.uid,
        "version": 1,
    }


def _datasource_variable() -> Json:
    return {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }


def _variable(variable: Variable | Number) -> Json:
    if isinstance(variable, Number):
        return _number(variable)
    return {
        # Where nothing gives a series the label, "All" matches it all the same.
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": variable.query,
        "hide": 0,
        "includeAll": True,
        "label": variable.label,
        "multi": True,
        "name": variable.name,
        "options": [],
        "query": {"query": variable.query, "refId": f"Variable-{variable.name}"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }


def _number(number: Number) -> Json:
    value = {"text": number.default, "value": number.default}
    return {
        "current": {"selected": True, **value},
        "hide": 0,
        "label": number.label,
        "name": number.name,
        "options": [{"selected": True, **value}],
        "query": number.default,
        "type": "textbox",
    }


def placed(rows: Sequence[Row]) -> Iterator[tuple[Row | Panel, int, int, int, int]]:
    """Everything with its place on the grid: left, top, width, height."""
    top = 0
    for row in rows:
        yield row, 0, top, COLUMNS, 1
        top += 1
        left = line = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, line = 0, top + line, 0
            yield panel, left, top, panel.width, panel.height
            left += panel.width
            line = max(line, panel.height)
        top += line


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    for thing, left, top, width, height in placed(rows):
        place = {"h": height, "w": width, "x": left, "y": top}
        yield _heading(thing, place) if isinstance(thing, Row) else _panel(thing, place)


def _heading(row: Row, place: Json) -> Json:
    return {
        "collapsed": False,
        "gridPos": place,
        "id": zlib.crc32(f"row {row.title}".encode()) % 1_000_000 + 1_000_001,
        "panels": [],
        "title": row.title,
        "type": "row",
    }


def _panel(panel: Panel, place: Json) -> Json:
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [_fixed(*each) for each in panel.colors]},
        "gridPos": place,
        "id": panel.id,
        "options": _OPTIONS[panel.kind](panel),
        "targets": [_target(panel, query, chr(ord("A") + i)) for i, query in enumerate(panel.queries)],
        "title": panel.title,
        **({"transformations": _transformations(panel)} if panel.kind == "table" else {}),
        "type": panel.kind,
    }


def _target(panel: Panel, query: Query, ref: str) -> Json:
    now = panel.kind == "table"
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
        "instant": now,
        "legendFormat": query.legend or "__auto",
        "range": not now,
        "refId": ref,
    }


def _fixed(name: str, color: Color) -> Json:
    value = {"fixedColor": color, "mode": "fixed"}
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": value}]}


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": panel.base, "value": None}]
    steps += [{"color": color, "value": value} for value, color in panel.thresholds]
    defaults: Json = {
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "custom": {},
        "mappings": [],
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": panel.unit,
    }
    if panel.kind == "timeseries":
        if not panel.signed:
            defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 40 if panel.stacked else 8,
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }
    if panel.kind == "table":
        defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}
    return defaults


def _timeseries(panel: Panel) -> Json:
    legend = {
        "calcs": ["lastNotNull", "max"],
        "displayMode": "list",
        "placement": "bottom",
        "showLegend": True,
    }
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _reduced(panel: Panel) -> Json:
    return {"calcs": [panel.calculation], "fields": "", "values": False}


def _stat(panel: Panel) -> Json:
    return {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": _reduced(panel),
        "textMode": "auto",
        "wideLayout": True,
    }


def _heatmap(panel: Panel) -> Json:
    return {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": panel.unit},
    }


def _table(panel: Panel) -> Json:
    return {"cellHeight": "sm", "footer": {"show": False}, "showHeader": True, "sortBy": []}


_OPTIONS = {
    "timeseries": _timeseries,
    "stat": _stat,
    "heatmap": _heatmap,
    "table": _table,
}


def _transformations(panel: Panel) -> list[Json]:
    """The labels as columns under their headings, without the time and the value."""
    organize = {
        "excludeByName": {"Time": True, "Value": True},
        "indexByName": {label: i for i, (label, _) in enumerate(panel.columns)},
        "renameByName": dict(panel.columns),
    }
    return [{"id": "organize", "options": organize}]
