"""The script that draws dashboards, and the pictures in the docs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hack.dashboards import draw
from hack.dashboards.boards import BOARDS, ROOT
from hack.dashboards.draw import lines_of
from hack.dashboards.model import Dashboard, Panel, Query, Row
from hack.dashboards.pictures import SHOWN, TARGET
from hack.dashboards.prometheus import Series
from hack.dashboards.scales import shown, ticks

MONITORING = ROOT / "docs" / "monitoring.md"
LIMIT_BYTES = 200_000


def panel(kind: str, **more: object) -> Panel:
    made = Panel("Things", "timeseries", (Query("things", "{{name}} seen"),), "What.", "Bad.")
    return type(made)(**{**vars(made), "kind": kind, **more})


def series(name: str, *values: float) -> Series:
    return Series({"name": name}, [(1000.0 + 10 * i, value) for i, value in enumerate(values)])


def drawn(one: Panel, answers: list[Series]) -> ElementTree.Element:
    board = Dashboard("uid", "Board <1>", "About.", (), (Row("Row", (one,)),))
    text = draw.dashboard(board, board.rows, {one.title: lines_of(one, [answers])}, 1000.0, 1060.0)
    return ElementTree.fromstring(text)


def texts(tree: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in tree.iter("{http://www.w3.org/2000/svg}text")]


def paths(tree: ElementTree.Element) -> list[ElementTree.Element]:
    return [
        each for each in tree.iter("{http://www.w3.org/2000/svg}path") if each.get("stroke-width") == "1.3"
    ]


def test_lines_are_named_and_end_with_their_last_value() -> None:
    tree = drawn(panel("timeseries"), [series("a", 1, 2, 3), series("b", 4, 4, 4)])
    assert {"Board <1>", "▾ Row", "Things", "a seen  3", "b seen  4"} <= set(texts(tree))
    assert len(paths(tree)) == 2


def test_a_line_is_broken_where_there_is_no_number() -> None:
    (path,) = paths(drawn(panel("timeseries"), [series("a", 1, math.nan, 3, 4)]))
    assert path.get("d", "").count("M") == 2


def test_areas_stand_on_one_another() -> None:
    one, other = paths(drawn(panel("timeseries", stacked=True), [series("a", 1, 1), series("b", 2, 2)]))
    heights = [float(re.findall(r",([\d.]+)", each.get("d", ""))[0]) for each in (one, other)]
    plot = heights[1] - heights[0]
    assert plot > 0, "the second is drawn first and higher"


def test_nothing_is_said_to_be_nothing() -> None:
    assert "No data" in texts(drawn(panel("timeseries"), []))
    assert "No data" in texts(drawn(panel("stat"), [series("a", math.nan)]))


def test_a_stat_has_the_colour_of_its_threshold() -> None:
    tree = drawn(panel("stat", thresholds=((5, "red"),)), [series("a", 1, 7)])
    (value,) = [each for each in tree.iter("{http://www.w3.org/2000/svg}text") if each.text == "7"]
    assert value.get("fill") == draw.NAMED["red"]


def test_a_heatmap_shows_what_each_bucket_adds() -> None:
    buckets = [
        Series({"le": le}, [(1000.0, count), (1010.0, count)])
        for le, count in (("0.1", 2), ("1", 2), ("+Inf", 5))
    ]
    tree = drawn(panel("heatmap", unit="s"), buckets)
    cells = [each for each in tree.iter("{http://www.w3.org/2000/svg}rect") if each.get("fill") == "#e0752d"]
    assert len(cells) == 4
    assert [text for text in texts(tree) if text.startswith("≤") or text == "longer"] == [
        "≤ 100 ms",
        "≤ 1 s",
        "longer",
    ]


def test_a_table_has_the_columns_that_were_asked_for() -> None:
    rows = [Series({"name": "a", "other": "x"}, [(1000.0, 1.0)])]
    found = texts(drawn(panel("table", columns=(("name", "Name"),)), rows))
    assert found[-2:] == ["Name", "a"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (0.0035, "s", "3.5 ms"),
        (90, "s", "1.5 min"),
        (1_048_576, "bytes", "1 MiB"),
        (0.25, "percentunit", "25 %"),
        (12_345, "short", "12.3k"),
        (3, "reqps", "3 req/s"),
        (2919.6, "currencyUSD", "$2,920"),
        (math.inf, "short", "no value"),
    ],
)
def test_values_are_written_with_their_unit(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("top", "unit", "marks"), [(1, "short", [0, 0.25, 0.5, 0.75, 1]), (7, "short", [0, 2, 4, 6, 8])]
)
def test_axes_have_round_numbers(top: float, unit: str, marks: list[float]) -> None:
    assert ticks(top, unit) == pytest.approx(marks)


@pytest.mark.parametrize("board", BOARDS, ids=[board.uid for board in BOARDS])
def test_the_pictures_in_the_docs_show_todays_panels(board: Dashboard) -> None:
    path = TARGET / f"dashboard-{board.uid.removeprefix('kaito-')}.svg"
    assert path.stat().st_size < LIMIT_BYTES
    found = texts(ElementTree.parse(path).getroot())
    wanted = [panel.title for row in board.rows[: SHOWN[board.uid]] for panel in row.panels]
    assert set(wanted) - set(found) == set(), "python -m hack.dashboards.pictures"
    assert "No data" not in found


def test_every_picture_says_who_drew_it() -> None:
    lines = MONITORING.read_text(encoding="utf-8").splitlines()
    images = [i for i, line in enumerate(lines) if line.startswith("![")]
    assert len(images) == len(BOARDS)
    for i in images:
        target = re.search(r"\((\S+)\)", lines[i])
        assert target is not None
        assert Path(MONITORING.parent, target[1]).exists()
        assert lines[i + 2].startswith("*Drawn by `hack/dashboards`")
