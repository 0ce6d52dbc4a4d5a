"""What kubectl never does but others may: raw HTTP and WebSockets against the API server and the kubelet."""

from __future__ import annotations

import base64
import ssl
import struct
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest

from support.kubelet_cluster import Cluster, echo_server, shell

pytestmark = pytest.mark.processes

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that speaks to the API server as the user of the kubeconfig."""
    config = orjson.loads(cluster.kubeconfig.read_bytes())
    server = config["clusters"][0]["cluster"]
    authority = base64.b64decode(server["certificate-authority-data"]).decode()
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority))
    headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
    async with aiohttp.ClientSession(server["server"], connector=connector, headers=headers) as session:
        yield session


async def test_the_kubelet_answers_only_the_api_server(cluster: Cluster) -> None:
    assert cluster.kubelet is not None
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/exec/default/p/c?command=id", "/containerLogs/default/p/c"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer é"}):
                async with session.get(
                    f"http://127.0.0.1:{cluster.kubelet.port}{path}", headers=headers
                ) as answer:
                    assert answer.status == 401


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_methods_through_the_pod_proxy(
    cluster: Cluster, http: aiohttp.ClientSession, method: str
) -> None:
    await echo_server(cluster)
    async with http.request(
        method, f"{PODS}/echo:5000/proxy/x?a=b", data=b"q" if method == "PUT" else None
    ) as answer:
        assert answer.status == 200
        said = orjson.loads(await answer.read() or b"null")
    if method == "HEAD":
        assert said is None
    else:
        assert (said["method"], said["path"], said["length"]) == (
            method,
            "/x?a=b",
            1 if method == "PUT" else 0,
        )


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("echo/exec?command=true", 400, "speaks the WebSocket form"),
        ("echo/exec", 400, "you must specify at least one command"),
        ("echo/exec?container=zzz&command=true", 400, "container zzz is not valid for pod echo"),
        ("none/exec?command=true", 404, 'pods "none" not found'),
        ("echo/portforward", 400, "speaks the WebSocket form"),
        ("echo:81/proxy/", 503, "declares no containerPort 81"),
        ("https:echo:5000/proxy/", 501, "proxying to https ports is not implemented"),
        ("echo/log?tailLines=x", 400, "tailLines: invalid value"),
        ("echo/log?container=zzz", 400, "container zzz is not valid for pod echo"),
    ],
)
async def test_errors_are_status_objects(
    cluster: Cluster, http: aiohttp.ClientSession, path: str, status: int, message: str
) -> None:
    await echo_server(cluster)
    async with http.get(f"{PODS}/{path}") as answer:
        body = await answer.json()
    assert (answer.status, body["kind"], body["code"]) == (status, "Status", status)
    assert message in body["message"]


async def test_a_refused_upgrade_says_why(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    await cluster.run_pod("done", [shell("main", "true")], restartPolicy="Never")
    await cluster.phase("done", "Succeeded")
    with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
        await http.ws_connect(f"{PODS}/done/exec?command=true&stdout=true", protocols=("v5.channel.k8s.io",))
    assert failed.value.status == 500


async def test_port_forward_of_older_clients(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    await echo_server(cluster)
    url = f"{PODS}/echo/portforward?ports=5000"
    async with http.ws_connect(url, protocols=("v4.channel.k8s.io",)) as socket:
        assert socket.protocol == "v4.channel.k8s.io"
        heads = [await socket.receive_bytes() for _ in range(2)]
        assert heads == [bytes([0]) + struct.pack("<H", 5000), bytes([1]) + struct.pack("<H", 5000)]
        await socket.send_bytes(b"\0GET /old HTTP/1.0\r\n\r\n")
        said = b""
        async for message in socket:
            assert message.data[0] == 0
            said += message.data[1:]
    assert b'"path": "/old"' in said


async def test_exec_without_tty_keeps_streams_apart_and_closes_normally(
    cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    await cluster.run_pod("box", [shell("main", "sleep 100")], terminationGracePeriodSeconds=0)
    await cluster.ready("box")
    query = "command=sh&command=-c&command=cat;echo%20e%20>%262;exit%203&stdin=true&stdout=true&stderr=true"
    streams: dict[int, bytes] = {}
    async with http.ws_connect(f"{PODS}/box/exec?{query}", protocols=("v5.channel.k8s.io",)) as socket:
        await socket.send_bytes(b"\0in")
        await socket.send_bytes(bytes([255, 0]))  # end of stdin
        async for message in socket:
            channel = message.data[0]
            streams[channel] = streams.get(channel, b"") + message.data[1:]
        assert socket.close_code == 1000
    assert (streams[1], streams[2]) == (b"in", b"e\n")
    status = orjson.loads(streams[3])
    assert (status["reason"], status["details"]["causes"][0]["message"]) == ("NonZeroExitCode", "3")


async def test_leaving_an_exec_ends_its_program(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    await cluster.run_pod("box", [shell("main", "sleep 100")], terminationGracePeriodSeconds=0)
    await cluster.ready("box")
    assert cluster.kubelet is not None
    worker = cluster.kubelet.find("default", "box")
    assert worker is not None
    query = "command=sleep&command=1000&stdout=true"
    async with http.ws_connect(f"{PODS}/box/exec?{query}", protocols=("v5.channel.k8s.io",)):

        async def running() -> bool:
            return bool(worker.runs["main"].execs)

        await cluster.until(running, what="the program runs")

    async def ended() -> bool:
        return not worker.runs["main"].execs

    await cluster.until(ended, what="the end of the program")
