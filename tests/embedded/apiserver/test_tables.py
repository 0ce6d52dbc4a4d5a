"""What `kubectl get` shows: JSONPath, ages, and the cells of builtin kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kaito.embedded.apiserver.jsonpath import JsonPathError, compile_path
from kaito.embedded.apiserver.strategy import Column
from kaito.embedded.apiserver.tables.builtin import BUILTIN
from kaito.embedded.apiserver.tables.durations import age, human_duration
from kaito.embedded.apiserver.tables.pods import pod_reason
from kaito.embedded.apiserver.tables.printer import custom_printer
from support.apiserver import Api

NOW = datetime(2026, 1, 2, 0, 0, 0, tzinfo=UTC)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

TREE: dict[str, Any] = {
    "a": {"b": [1, 2, 3], "dotted.name": "x"},
    "conditions": [
        {"type": "Ready", "status": "True", "n": 1},
        {"type": "Other", "status": "False", "n": 5},
    ],
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".a.b", [[1, 2, 3]]),
        ("{.a.b[0]}", [1]),
        ("$.a.b[-1]", [3]),
        (".a.b[1:]", [2, 3]),
        (".a.b[*]", [1, 2, 3]),
        (".a.b[7]", []),
        (".a['dotted.name']", ["x"]),
        (r".a.dotted\.name", ["x"]),
        ('.conditions[?(@.type=="Ready")].status', ["True"]),
        (".conditions[?(@.type=='Other')].status", ["False"]),
        (".conditions[?(@.n>1)].type", ["Other"]),
        (".conditions[?(@.n <= 1)].type", ["Ready"]),
        (".conditions[?(@.missing)].type", []),
        (".conditions[*].type", ["Ready", "Other"]),
        ("..status", ["True", "False"]),
        (".nothing.here", []),
    ],
)
def test_json_paths(path: str, values: list[Any]) -> None:
    assert compile_path(path)(TREE) == values


@pytest.mark.parametrize("path", [".a[", ".a[x]", ".a[?(@.b ~ 1)]", ".a[?(@.b==nope)]"])
def test_json_paths_that_are_not_understood(path: str) -> None:
    with pytest.raises(JsonPathError):
        compile_path(path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (135, "2m15s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11000, "3h3m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (50 * 3600, "2d2h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_ages_of_stamps() -> None:
    assert age("2026-01-01T23:59:00Z", NOW) == "60s"
    assert age(None, NOW) == "<unknown>"
    assert age("yesterday", NOW) == "<invalid>"


def _pod(phase: str, *states: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    statuses = [
        {"name": str(index), "state": state, "ready": "running" in state}
        for index, state in enumerate(states)
    ]
    return {
        "metadata": {"name": "p", **metadata},
        "spec": {},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (_pod("Pending"), "Pending"),
        (_pod("Pending", {"waiting": {"reason": "ErrImagePull"}}), "ErrImagePull"),
        (_pod("Running", {"running": {}}), "Running"),
        (_pod("Running", {"waiting": {"reason": "CrashLoopBackOff"}}), "CrashLoopBackOff"),
        (_pod("Failed", {"terminated": {"exitCode": 3}}), "ExitCode:3"),
        (_pod("Failed", {"terminated": {"exitCode": 137, "signal": 9}}), "Signal:9"),
        (_pod("Failed", {"terminated": {"exitCode": 1, "reason": "Error"}}), "Error"),
        (_pod("Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}}), "Completed"),
        (
            _pod("Running", {"terminated": {"exitCode": 0, "reason": "Completed"}}, {"running": {}}),
            "NotReady",
        ),
        (_pod("Running", {"running": {}}, deletionTimestamp="2026-01-01T00:00:00Z"), "Terminating"),
    ],
)
def test_the_status_of_a_pod(pod: dict[str, Any], reason: str) -> None:
    assert pod_reason(pod) == reason


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([{"running": {}}], "Init:0/2"),
        ([{"terminated": {"exitCode": 0}}, {"waiting": {"reason": "PodInitializing"}}], "Init:1/2"),
        ([{"terminated": {"exitCode": 1, "reason": "Error"}}], "Init:Error"),
        ([{"waiting": {"reason": "CrashLoopBackOff"}}], "Init:CrashLoopBackOff"),
        ([{"terminated": {"exitCode": 0}}, {"terminated": {"exitCode": 0}}], "PodInitializing"),
    ],
)
def test_the_status_of_a_pod_that_initialises(states: list[dict[str, Any]], reason: str) -> None:
    pod = _pod("Pending", {"waiting": {"reason": "PodInitializing"}})
    pod["spec"]["initContainers"] = [{"name": "a"}, {"name": "b"}]
    pod["status"]["initContainerStatuses"] = [{"name": "i", "state": state} for state in states]
    assert pod_reason(pod) == reason


def test_restarts_tell_how_long_ago() -> None:
    pod = _pod("Running", {"running": {}})
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    pod["spec"]["containers"] = [{"name": "0"}]
    pod["status"]["containerStatuses"][0] |= {
        "restartCount": 3,
        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:58:00Z"}},
    }
    assert BUILTIN["", "Pod"].cells(pod, NOW)[:5] == ["p", "1/1", "Running", "3 (2m ago)", "24h"]


def test_services_show_their_ports_and_addresses() -> None:
    service = {
        "metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.9",
            "ports": [{"port": 80}, {"port": 29500, "protocol": "TCP"}],
            "selector": {"b": "2", "a": "1"},
        },
    }
    cells = BUILTIN["", "Service"].cells(service, NOW)
    assert cells == ["s", "ClusterIP", "10.96.0.9", "<none>", "80/TCP,29500/TCP", "24h", "a=1,b=2"]


def test_a_job_shows_how_long_it_took() -> None:
    job = {
        "metadata": {"name": "j", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
        "status": {
            "succeeded": 1,
            "startTime": "2026-01-01T00:00:00Z",
            "completionTime": "2026-01-01T00:01:30Z",
            "conditions": [{"type": "Complete", "status": "True"}],
        },
    }
    assert BUILTIN["batch", "Job"].cells(job, NOW) == [
        "j",
        "Complete",
        "1/1",
        "90s",
        "24h",
        "c",
        "i",
        "<none>",
    ]


def test_events_keep_their_names_for_wide_tables() -> None:
    narrow = [each["name"] for each in BUILTIN["", "Event"].columns if not each["priority"]]
    assert narrow == ["Last Seen", "Type", "Reason", "Object", "Message"]


def test_every_printer_survives_an_almost_empty_object() -> None:
    for printer in BUILTIN.values():
        cells = printer.cells({"metadata": {"name": "x"}}, NOW)
        assert len(cells) == len(printer.columns)


def test_custom_columns_by_type() -> None:
    columns = [
        Column("Text", "string", ".a"),
        Column("Map", "string", ".m"),
        Column("Int", "integer", ".i"),
        Column("Bool", "boolean", ".b"),
        Column("Number", "number", ".n"),
        Column("When", "date", ".d"),
        Column("Missing", "string", ".x"),
    ]
    obj = {
        "metadata": {"name": "o"},
        "a": "t",
        "m": {"k": 1},
        "i": 3.0,
        "b": True,
        "n": 1.5,
        "d": "2026-01-01T00:00:00Z",
    }
    assert custom_printer(columns).cells(obj, NOW) == ["o", "t", '{"k":1}', 3, True, 1.5, "24h", None]
    wrong = {"metadata": {"name": "o"}, "i": "x", "b": "x", "n": "x", "d": 5}
    assert custom_printer(columns).cells(wrong, NOW) == ["o", None, None, None, None, None, "<invalid>", None]


async def test_rows_carry_what_was_asked_for(api: Api) -> None:
    maps = "/api/v1/namespaces/default/configmaps"
    await api.create(maps, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    for query, kind in (("", "PartialObjectMetadata"), ("?includeObject=Object", "ConfigMap")):
        table = await api.get(maps + query, accept=TABLE)
        assert table["rows"][0]["object"]["kind"] == kind
    assert (await api.get(f"{maps}?includeObject=None", accept=TABLE))["rows"][0]["object"] is None
    assert (await api.send("GET", f"{maps}?includeObject=All", accept=TABLE)).status == 400
    page = await api.get(f"{maps}/a", accept=TABLE)
    assert (page["kind"], page["rows"][0]["cells"][:2]) == ("Table", ["a", 1])
