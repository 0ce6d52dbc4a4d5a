"""Warning headers: parsed, and each text logged once."""

from __future__ import annotations

import logging

import pytest
from multidict import CIMultiDict

from kaito.runtime.client import Client
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import NODES
from kaito.runtime.server_warnings import WarningLog, parse_warnings
from kaito.runtime.testing import ScriptedServer, VirtualClock
from kaito.runtime.transport import BufferedResponse


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (['299 - "v1beta1 is deprecated"'], ["v1beta1 is deprecated"]),
        (['299 - "one"', '299 kube "two"'], ["one", "two"]),
        (['299 - "one, with comma", 299 - "two"'], ["one, with comma", "two"]),
        ([r'299 - "unknown field \"spec.x\\y\""'], [r'unknown field "spec.x\y"']),
        (['299 - "dated" "Wed, 21 Oct 2015 07:28:00 GMT"'], ["dated"]),
        (['110 - "stale"'], []),
        (["nonsense"], []),
        (['299 - "broken'], []),
    ],
)
def test_parsing(values: list[str], texts: list[str]) -> None:
    headers = CIMultiDict([("warning", value) for value in values])
    assert parse_warnings(headers) == texts
    if len(values) == 1:
        assert parse_warnings({"Warning": values[0]}) == texts


def test_each_text_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    handler = WarningLog()
    with caplog.at_level(logging.WARNING):
        for text in ("a", "b", "a"):
            handler(text)
    assert [record.fields["text"] for record in caplog.records] == ["a", "b"]  # type: ignore[attr-defined]


async def test_the_client_passes_warnings_on_of_every_kind_of_answer(virtual_clock: VirtualClock) -> None:
    heard: list[str] = []
    faults = FaultScript()
    headers = {"Warning": '299 - "beware"'}
    for status in (200, 404):
        faults.add(Fault(answer=lambda status=status: BufferedResponse(status, b"{}", headers)))  # type: ignore[misc]
    faults.add(Fault(answer=lambda: BufferedResponse(200, b"", headers)))
    transport = MemoryTransport(ScriptedServer(virtual_clock).handle, virtual_clock, faults)
    client = Client(transport, clock=virtual_clock, on_warning=heard.append)
    await client.named("other").get(NODES, "n")
    with pytest.raises(Exception, match="404"):
        await client.get(NODES, "n")
    await (await client.stream("/api/v1/nodes")).close()
    assert heard == ["beware"] * 3
