"""Draws a dashboard from what Prometheus answers, as SVG: for pictures in the docs on machines without a Grafana.

It looks like one, and is none: no menus, a legend of a few lines, the light colours. Under every picture is written
that this script drew it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from hack.dashboards.model import COLUMNS, Dashboard, Panel, Row, placed
from hack.dashboards.prometheus import Series
from hack.dashboards.scales import shown, ticks

COLUMN = 50.0
"""Pixels of a column of the grid."""
UNIT = 26.0
"""Pixels of a line of the grid."""
GAP = 6.0
COLORS = (
    "#56a64b",
    "#3274d9",
    "#e0752d",
    "#8f3bb8",
    "#e0b400",
    "#c4162a",
    "#37872d",
    "#1f60c4",
    "#b877d9",
    "#fa6400",
)
NAMED = {
    "green": "#37872d",
    "yellow": "#cc9d00",
    "orange": "#fa6400",
    "red": "#c4162a",
    "blue": "#1f60c4",
    "gray": "#8e9297",
}
MARGIN = 58
"""Pixels left of a plot, for the names of values."""
MOST_LEGENDS = 6
"""Names under a panel; the largest series are named."""


@dataclass(frozen=True)
class Line:
    """One series with its name in the legend."""

    name: str
    points: Points
    labels: Mapping[str, str]

    @property
    def peak(self) -> float:
        return max((value for _, value in self.points if math.isfinite(value)), default=-1.0)

    @property
    def last(self) -> float:
        return next((value for _, value in reversed(self.points) if math.isfinite(value)), math.nan)


@dataclass(frozen=True)
class Frame:
    """Where something is drawn, in pixels, and which time it shows, in seconds since 1970."""

    x: float
    y: float
    width: float
    height: float
    start: float
    end: float

    def across(self, time: float) -> float:
        return self.x + (time - self.start) / (self.end - self.start) * self.width

    def up(self, value: float, top: float) -> float:
        return self.y + self.height * (1 - min(value / top, 1.0))


Points = Sequence[tuple[float, float]]
Answers = Mapping[str, Sequence[Line]]
"""Lines by title of the panel."""


def lines_of(panel: Panel, answers: Sequence[Sequence[Series]]) -> list[Line]:
    """What the answers to a panel's queries are called."""
    found = []
    for query, answer in zip(panel.queries, answers, strict=True):
        for series in answer:
            name = query.legend
            for label, value in series.labels.items():
                name = name.replace(f"{{{{{label}}}}}", value)
            if series.finite:
                found.append(Line(name, series.points, series.labels))
    return found


def dashboard(board: Dashboard, rows: Sequence[Row], answers: Answers, start: float, end: float) -> str:
    """The picture of some of a dashboard's rows."""
    places = list(placed(rows))
    height = max(top + high for _, _, top, _, high in places) * UNIT + 44
    width = COLUMNS * COLUMN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="Inter, Helvetica, Arial, sans-serif" font-size="11" fill="#24292e">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#f4f5f5"/>',
        _text(GAP + 4, 26, board.title, size=17, weight="600"),
        _text(width - GAP - 4, 26, _span(start, end), anchor="end", color="#6e7278"),
    ]
    for thing, left, top, wide, high in places:
        x, y = left * COLUMN + GAP / 2, 40 + top * UNIT
        if isinstance(thing, Row):
            parts.append(_text(x + 4, y + 18, f"▾ {thing.title}", size=13, weight="600"))
            continue
        frame = Frame(x, y, wide * COLUMN - GAP, high * UNIT - GAP, start, end)
        parts.append(_panel(thing, answers[thing.title], frame))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _span(start: float, end: float) -> str:
    first, last = (datetime.fromtimestamp(each, UTC) for each in (start, end))
    return f"{first:%H:%M:%S} to {last:%H:%M:%S} UTC"


def _panel(panel: Panel, lines: Sequence[Line], frame: Frame) -> str:
    box = f'<rect x="{frame.x:.0f}" y="{frame.y:.0f}" width="{frame.width:.0f}" height="{frame.height:.0f}" rx="2" '
    box += 'fill="#fff" stroke="#e0e2e5"/>'
    title = _text(frame.x + 8, frame.y + 17, panel.title, size=12, weight="600")
    inner = Frame(frame.x + 8, frame.y + 26, frame.width - 16, frame.height - 34, frame.start, frame.end)
    draw = {"timeseries": _timeseries, "stat": _stat, "heatmap": _heatmap, "table": _table}[panel.kind]
    body = (
        draw(panel, lines, inner)
        if lines
        else _text(
            inner.x + inner.width / 2,
            inner.y + inner.height / 2,
            "No data",
            anchor="middle",
            color="#6e7278",
            size=14,
        )
    )
    return "\n".join((box, title, body))


# --- time series ------------------------------------------------------------------------------------------------


def _timeseries(panel: Panel, lines: Sequence[Line], frame: Frame) -> str:
    ranked = sorted(lines, key=lambda line: -line.peak)
    named = ranked[:MOST_LEGENDS]
    legend, lines_used = _legend(panel, named, len(lines) - len(named), frame)
    plot = Frame(
        frame.x + 46,
        frame.y + 4,
        frame.width - 54,
        frame.height - 24 - 14 * lines_used,
        frame.start,
        frame.end,
    )
    layers = _stack(lines) if panel.stacked else [(line, line.points, ()) for line in lines]
    peak = max((value for _, points, _ in layers for _, value in points if math.isfinite(value)), default=1.0)
    marks = ticks(peak or 1.0, panel.unit)
    parts = [_grid(panel, plot, marks)]
    for line, points, below in reversed(layers) if panel.stacked else layers:
        parts.append(_path(plot, points, below, marks[-1], _color(panel, line, ranked), filled=panel.stacked))
    parts += [_threshold(plot, value, marks[-1], NAMED[name]) for value, name in panel.thresholds]
    return "\n".join([*parts, legend])


def _color(panel: Panel, line: Line, ranked: Sequence[Line]) -> str:
    fixed = dict(panel.colors).get(line.name)
    return NAMED[fixed] if fixed else COLORS[[id(each) for each in ranked].index(id(line)) % len(COLORS)]


def _stack(lines: Sequence[Line]) -> list[tuple[Line, Points, Points]]:
    """Each line on top of those before it: (line, its upper edge, its lower edge)."""
    total: dict[float, float] = {}
    layers: list[tuple[Line, Points, Points]] = []
    for line in lines:
        edge, below = [], []
        for time, value in line.points:
            below.append((time, total.get(time, 0.0)))
            total[time] = total.get(time, 0.0) + (value if math.isfinite(value) else 0.0)
            edge.append((time, total[time]))
        layers.append((line, edge, below))
    return layers


def _grid(panel: Panel, plot: Frame, marks: Sequence[float]) -> str:
    parts = []
    for value in marks:
        y = plot.up(value, marks[-1])
        parts.append(_rule(plot.x, y, plot.x + plot.width, y, "#e9edf2"))
        parts.append(
            _text(plot.x - 5, y + 4, _mark(value, panel.unit), anchor="end", color="#6e7278", size=10)
        )
    for i in range(1, 5):
        time = plot.start + (plot.end - plot.start) * i / 5
        label = f"{datetime.fromtimestamp(time, UTC):%H:%M:%S}"
        x, y = plot.across(time), plot.y + plot.height + 13
        parts.append(_rule(x, plot.y, x, plot.y + plot.height, "#e9edf2"))
        parts.append(_text(x, y, label, anchor="middle", color="#6e7278", size=10))
    return "\n".join(parts)


def _mark(value: float, unit: str) -> str:
    """A value beside an axis: what is counted is in the legend."""
    return shown(value, "short" if unit in ("ops", "reqps") else unit)


def _path(
    plot: Frame,
    points: Points,
    below: Points,
    top: float,
    color: str,
    *,
    filled: bool,
) -> str:
    """A line, broken where there is no number; with the area down to `below`."""
    parts = []
    edge = [_place(plot, time, value, top) for time, value in points if math.isfinite(value)]
    if filled and edge:
        floor = [_place(plot, time, value, top) for time, value in reversed(below)]
        parts.append(f'<path d="M{" ".join([*edge, *floor])}Z" fill="{color}" fill-opacity="0.3"/>')
    step = min((b[0] - a[0] for a, b in pairwise(points)), default=1.0)
    drawn, before = "", -math.inf
    for time, value in points:
        if math.isfinite(value):
            drawn += ("M" if time - before > 1.5 * step else " ") + _place(plot, time, value, top)
            before = time
    if drawn:
        parts.append(f'<path d="{drawn}" fill="none" stroke="{color}" stroke-width="1.3"/>')
    return "".join(parts)


def _place(plot: Frame, time: float, value: float, top: float) -> str:
    return f"{plot.across(time):.1f},{plot.up(value, top):.1f}"


def _threshold(plot: Frame, value: float, top: float, color: str) -> str:
    if value > top:
        return ""
    y = plot.up(value, top)
    return _rule(plot.x, y, plot.x + plot.width, y, color, dashed=True)


def _legend(panel: Panel, lines: Sequence[Line], left_out: int, frame: Frame) -> tuple[str, int]:
    """Names and last values in as many lines as they take, and how many that are."""
    names = [
        (f"{line.name or panel.title}  {shown(line.last, panel.unit)}", _color(panel, line, lines))
        for line in lines
    ]
    if left_out:
        names.append((f"and {left_out} more", "#c7d0d9"))
    rows: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for name, color in names:
        wide = 16 + len(name) * 5.6
        if used + wide > frame.width and rows[-1]:
            rows.append([])
            used = 0.0
        rows[-1].append((name, color))
        used += wide
    parts = []
    for i, row in enumerate(rows):
        x, y = frame.x, frame.y + frame.height - 14 * (len(rows) - 1 - i)
        for name, color in row:
            parts.append(f'<rect x="{x:.0f}" y="{y - 6:.0f}" width="9" height="3" fill="{color}"/>')
            parts.append(_text(x + 12, y, name, size=10))
            x += 16 + len(name) * 5.6
    return "\n".join(parts), len(rows)


# --- the other kinds --------------------------------------------------------------------------------------------


def _stat(panel: Panel, lines: Sequence[Line], frame: Frame) -> str:
    parts = []
    share = frame.width / len(lines)
    for i, line in enumerate(lines):
        value = line.peak if panel.calculation == "max" else line.last
        color = _colored(panel, value)
        low = 16 if line.name else 22
        part = Frame(
            frame.x + i * share, frame.y + frame.height - low, share - 4, low, frame.start, frame.end
        )
        top = max(line.peak, 1e-9)
        floor = [(time, 0.0) for time, value_ in line.points if math.isfinite(value_)]
        parts.append(_path(part, line.points, floor, top, color, filled=True))
        middle, height = part.x + part.width / 2, max(0.0, frame.height / 2 - 40)
        parts.append(
            _text(
                middle, frame.y + height + 24, shown(value, panel.unit), anchor="middle", color=color, size=24
            )
        )
        if len(lines) > 1 or line.name:
            parts.append(
                _text(middle, frame.y + height + 39, line.name, anchor="middle", size=10, color="#6e7278")
            )
    return "\n".join(parts)


def _colored(panel: Panel, value: float) -> str:
    found = panel.base
    for limit, color in panel.thresholds:
        if value >= limit:
            found = color
    return NAMED[found]


def _heatmap(panel: Panel, lines: Sequence[Line], frame: Frame) -> str:
    """Buckets are cumulative: a cell is what a bucket has beyond the one below it."""
    buckets = sorted(lines, key=lambda line: float(line.labels["le"]))
    cells: list[tuple[int, float, float]] = []
    below: dict[float, float] = {}
    for i, bucket in enumerate(buckets):
        values = dict(bucket.points)
        cells += [(i, time, value - below.get(time, 0.0)) for time, value in values.items()]
        below = values
    filled = [cell for cell in cells if cell[2] > 0.01]
    if not filled:
        return ""
    first, last = min(cell[0] for cell in filled), max(cell[0] for cell in filled)
    plot = Frame(
        frame.x + MARGIN, frame.y + 4, frame.width - MARGIN - 8, frame.height - 24, frame.start, frame.end
    )
    high, peak = plot.height / (last - first + 1), max(cell[2] for cell in filled)
    step = min(b - a for a, b in pairwise(sorted(below)))
    wide = step / (plot.end - plot.start) * plot.width
    parts = []
    for i in range(first, last + 1):
        y = plot.y + plot.height - (i - first + 0.5) * high + 4
        parts.append(
            _text(plot.x - 5, y, _bound(buckets[i], panel.unit), anchor="end", color="#6e7278", size=10)
        )
    for i, time, value in filled:
        x, y = plot.across(time) - wide, plot.y + plot.height - (i - first + 1) * high
        parts.append(
            f'<rect x="{max(x, plot.x):.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high - 1:.1f}" '
            f'fill="#e0752d" fill-opacity="{0.15 + 0.85 * value / peak:.2f}"/>'
        )
    return "\n".join(parts)


def _bound(bucket: Line, unit: str) -> str:
    le = bucket.labels["le"]
    return "longer" if le == "+Inf" else f"≤ {shown(float(le), unit)}"


def _table(panel: Panel, lines: Sequence[Line], frame: Frame) -> str:
    rows = [[heading for _, heading in panel.columns]]
    rows += sorted([line.labels.get(label, "") for label, _ in panel.columns] for line in lines)
    longest = [max(len(row[i]) for row in rows) + 2 for i in range(len(panel.columns))]
    parts = []
    for number, row in enumerate(rows):
        y, x = frame.y + 14 + 20 * number, frame.x
        for i, cell in enumerate(row):
            parts.append(_text(x, y, cell, weight="600" if number == 0 else "400"))
            x += frame.width * longest[i] / sum(longest)
        parts.append(_rule(frame.x, y + 6, frame.x + frame.width, y + 6, "#e9edf2"))
    return "\n".join(parts)


# --- shapes -----------------------------------------------------------------------------------------------------


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    color: str = "",
    size: int = 0,
    weight: str = "400",
) -> str:
    given = f' text-anchor="{anchor}"' if anchor != "start" else ""
    given += f' fill="{color}"' if color else ""
    given += f' font-size="{size}"' if size else ""
    given += f' font-weight="{weight}"' if weight != "400" else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{given}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, color: str, *, dashed: bool = False) -> str:
    given = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path d="M{x1:.1f},{y1:.1f} {x2:.1f},{y2:.1f}" stroke="{color}"{given}/>'
