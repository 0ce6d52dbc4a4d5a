"""What a scrape shows of a client's requests."""

from __future__ import annotations

from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound, TooManyRequests
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import CONFIGMAPS, NODES
from kaito.runtime.rest_metrics import RestMetrics
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock


async def test_sizes_and_retries(virtual_clock: VirtualClock) -> None:
    metrics = RestMetrics()
    server = ScriptedServer(
        virtual_clock,
        [
            Exchange(error=TooManyRequests("later", retry_after=1)),
            Exchange(error=NotFound("it is gone")),
            Exchange("POST", body={"data": "x" * 1000}, status=201),
            Exchange(stream=[b"x" * 5000]),
        ],
    )
    client = Client(
        MemoryTransport(server.handle, virtual_clock), clock=virtual_clock, observer=metrics.observer("host")
    )
    assert await client.delete(NODES, "n") is None
    body = {"metadata": {"namespace": "ns"}}
    await client.create(CONFIGMAPS, body)
    await (await client.stream("/api/v1/nodes")).close()
    assert metrics.requests == {
        ("429", "DELETE", "host"): 1,
        ("404", "DELETE", "host"): 1,
        ("201", "POST", "host"): 1,
        ("200", "GET", "host"): 1,
    }
    assert metrics.retries == {("404", "DELETE", "host"): 1}
    assert metrics.request_sizes["POST", "host"].sum == len(b'{"metadata":{"namespace":"ns"}}')
    assert metrics.response_sizes["POST", "host"].sum == len(b'{"data":""}') + 1000
    assert ("GET", "host") not in metrics.response_sizes

    families = {family.name: family for family in metrics.collect()}
    assert sorted(families) == [
        "rest_client_request_duration_seconds",
        "rest_client_request_retries",
        "rest_client_request_size_bytes",
        "rest_client_requests",
        "rest_client_response_size_bytes",
    ]
    (retry,) = families["rest_client_request_retries"].samples
    assert (retry.name, retry.labels) == (
        "rest_client_request_retries_total",
        {"code": "404", "verb": "DELETE", "host": "host"},
    )
    buckets = {
        sample.labels["le"]: sample.value
        for sample in families["rest_client_response_size_bytes"].samples
        if sample.name.endswith("_bucket") and sample.labels["verb"] == "POST"
    }
    assert (buckets["512.0"], buckets["1024.0"], buckets["16777216.0"], buckets["+Inf"]) == (0, 1, 1, 1)
