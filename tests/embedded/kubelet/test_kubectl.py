"""logs, exec, attach, run, port-forward and the proxies, driven by a real kubectl."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from kaito.runtime.errors import ApiError
from support.apiserver import kubectl_binaries
from support.kubelet_cluster import Cluster, echo_server, shell

pytestmark = [pytest.mark.processes, pytest.mark.kubectl]


@asynccontextmanager
async def background(cluster: Cluster, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A kubectl that runs until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        cluster.program,
        *words,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(cluster.directory),
            "KUBECONFIG": str(cluster.kubeconfig),
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(params=kubectl_binaries(), ids=lambda path: path.parent.parent.name, autouse=True)
def program(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """Each test runs with each kubectl there is."""
    cluster.program = str(request.param)
    return cluster.program


async def typed(cluster: Cluster, command: str, **env: str) -> tuple[int, str]:
    """A shell command in a pseudo-terminal; exit code and all that was shown."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={
            "PATH": f"{Path(cluster.program).parent}:{os.environ['PATH']}",
            "HOME": str(cluster.directory),
            "KUBECONFIG": str(cluster.kubeconfig),
            "TERM": "xterm",
            **env,
        },
    )
    os.close(slave)
    os.set_blocking(master, False)
    shown = bytearray()
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        try:
            data = os.read(master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        shown.extend(data)
        if not data:
            loop.remove_reader(master)
            closed.set()

    loop.add_reader(master, read)
    try:
        async with cluster.clock.timeout(60):
            code = await process.wait()
            await closed.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"{command} did not end; it showed {bytes(shown)!r}") from None
    finally:
        loop.remove_reader(master)
        os.close(master)
    return code, shown.decode().replace("\r\n", "\n")


# Logs


async def test_logs(cluster: Cluster) -> None:
    await cluster.run_pod(
        "two",
        [shell("a", "for i in 1 2 3; do echo a$i; done"), shell("b", "echo b >&2")],
        restartPolicy="Never",
    )
    await cluster.phase("two", "Succeeded")
    assert (await cluster.kubectl("logs", "two", "-c", "a", "--tail=2"))[1] == "a2\na3\n"
    lines = (await cluster.kubectl("logs", "two", "--all-containers"))[1].splitlines()
    assert sorted(lines) == ["a1", "a2", "a3", "b"], "kubectl may ask for the containers in any order"
    stamped = (await cluster.kubectl("logs", "two", "-c", "b", "--timestamps"))[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z b\n", stamped)
    assert (await cluster.kubectl("logs", "two", "-c", "a", "--since=1h"))[1] == "a1\na2\na3\n"
    code, _, err = await cluster.kubectl("logs", "two", "-c", "zzz")
    assert code == 1
    assert "container zzz is not valid for pod two" in err
    code, _, err = await cluster.kubectl("logs", "two", "-c", "a", "--previous")
    assert 'previous terminated container "a" in pod "two" not found' in err
    code, _, err = await cluster.kubectl("logs", "none")
    assert 'pods "none" not found' in err


async def test_logs_follow_until_the_container_ends(cluster: Cluster) -> None:
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"
    await cluster.run_pod("count", [shell("main", script)], restartPolicy="Never")

    async def started() -> bool:
        return bool(
            (await cluster.pod("count"))["status"].get("containerStatuses", [{}])[0].get("containerID")
        )

    await cluster.until(started, what="the container starts")
    assert (await cluster.kubectl("logs", "-f", "count"))[1] == "1\n2\n3\n4\n5\n"


async def test_logs_of_a_container_that_waits(cluster: Cluster) -> None:
    await cluster.run_pod("nginx", [{"name": "main", "image": "nginx"}])
    await cluster.waiting("nginx", "ImagePullBackOff")
    code, _, err = await cluster.kubectl("logs", "nginx")
    assert code == 1
    assert 'container "main" in pod "nginx" is waiting to start: ImagePullBackOff' in err


async def test_logs_of_a_container_that_could_not_start(cluster: Cluster) -> None:
    await cluster.run_pod(
        "sh", [{"name": "main", "image": "curlimages/curl", "args": ["sh"]}], restartPolicy="Never"
    )
    await cluster.phase("sh", "Failed")
    code, _, err = await cluster.kubectl("logs", "sh")
    assert code == 1
    assert 'container "main" in pod "sh" did not start: ' in err
    assert 'exec: "sh": executable file not found' in err


# exec and attach


async def test_exec(cluster: Cluster) -> None:
    await cluster.run_pod("box", [shell("main", "sleep 100")], terminationGracePeriodSeconds=0)
    await cluster.ready("box")
    assert await cluster.kubectl("exec", "box", "--", "echo", "hi  there") == (0, "hi  there\n", "")
    code, out, err = await cluster.kubectl("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (code, out) == (7, "out\n")
    assert err.startswith("err\n")
    assert "exit code 7" in err
    code, _, err = await cluster.kubectl("exec", "box", "--", "no-such-program")
    assert code == 1
    assert 'exec: "no-such-program": executable file not found' in err
    code, _, err = await cluster.kubectl("exec", "box", "-c", "zzz", "--", "true")
    assert "container zzz is not valid for pod box" in err or "container not found" in err


async def test_exec_carries_megabytes_through_stdin_and_stdout(cluster: Cluster) -> None:
    await cluster.run_pod("box", [shell("main", "sleep 100")], terminationGracePeriodSeconds=0)
    await cluster.ready("box")
    data = os.urandom(3_000_000).hex().encode()
    code, out, err = await cluster.kubectl("exec", "-i", "box", "--", "cat", stdin=data)
    assert (code, err) == (0, "")
    assert out.encode() == data


async def test_exec_in_a_terminal(cluster: Cluster) -> None:
    await cluster.run_pod("box", [shell("main", "sleep 100")], terminationGracePeriodSeconds=0)
    await cluster.ready("box")
    # the terminal's size comes on a channel of its own, and a moment later
    sized = 'tty; while [ "$(stty size)" = "0 0" ]; do sleep 0.1; done; stty size; exit 3'
    code, shown = await typed(cluster, f"kubectl exec -it box -- sh -c '{sized}'")
    assert code == 3
    assert "/dev/" in shown
    assert "30 120" in shown


async def test_attach_sees_output_and_gives_input(cluster: Cluster) -> None:
    container = shell("main", "read line; echo got $line", stdin=True, stdinOnce=True)
    await cluster.run_pod("ask", [container], restartPolicy="Never")
    await cluster.ready("ask")
    code, out, err = await cluster.kubectl("attach", "-i", "ask", stdin=b"hello\n")
    assert (code, out) == (0, "got hello\n"), err
    await cluster.phase("ask", "Succeeded")


CURL = "kubectl run {flags} --rm --restart=Never curl --image=curlimages/curl --overrides={overrides} -- "
OVERRIDES = "'" + orjson.dumps({"spec": {"nodeName": "node-1"}}).decode() + "'"


@pytest.mark.parametrize("attempt", range(3))
async def test_run_curl_in_a_terminal(cluster: Cluster, attempt: int) -> None:
    await echo_server(cluster)
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    service = await cluster.service("echo", ports, {"app": "echo"})
    address = service["spec"]["clusterIP"]
    command = CURL.format(flags="-it", overrides=OVERRIDES) + (
        'curl -X POST http://$CLUSTERIP/chat -H "accept: application/json" -H "Content-Type: application/json" '
        '-d "{\\"prompt\\":\\"YOUR QUESTION HERE\\"}"'
    )
    code, shown = await typed(cluster, command, CLUSTERIP=address)
    assert code == 0, shown
    found = re.search(r"\{.*\}", shown)
    assert found, shown
    answer = orjson.loads(found.group())
    assert (answer["method"], answer["path"], answer["body"]) == (
        "POST",
        "/chat",
        '{"prompt":"YOUR QUESTION HERE"}',
    )
    assert 'pod "curl" deleted' in shown
    assert "proxy-authorization" not in answer["headers"]


async def test_run_curl_by_service_name_and_its_exit_code(cluster: Cluster) -> None:
    await echo_server(cluster)
    await cluster.service("echo", [{"port": 80, "targetPort": 5000}], {"app": "echo"})
    command = CURL.format(flags="-i -q", overrides=OVERRIDES)
    code, shown = await typed(cluster, command + "curl -s http://echo.default.svc.cluster.local/x")
    assert code == 0
    assert '"path": "/x"' in shown
    code, shown = await typed(cluster, command + "curl -sS -f http://nothing/x")
    assert code == 22, shown
    assert "503" in shown


# port-forward


@asynccontextmanager
async def forwarded(cluster: Cluster, what: str, ports: str) -> AsyncIterator[int]:
    async with background(cluster, "port-forward", what, ports) as process:
        assert process.stdout is not None
        async with cluster.clock.timeout(30):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
        assert found, line
        yield int(found.group(1))


async def test_port_forward(cluster: Cluster) -> None:
    await echo_server(cluster)
    body = os.urandom(1_000_000)
    async with forwarded(cluster, "pod/echo", ":5000") as port, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}"

        async def one(number: int) -> int:
            async with session.post(f"{url}/{number}", data=body) as answer:
                said = await answer.json()
                assert said["path"] == f"/{number}"
                return int(said["length"])

        assert await asyncio.gather(*map(one, range(8))) == [len(body)] * 8
        async with session.get(f"{url}/big") as answer:
            assert await answer.read() == b"".join(bytes([n]) * 100_000 for n in range(200))


async def test_port_forward_to_a_port_that_is_not_declared(cluster: Cluster) -> None:
    await echo_server(cluster)
    async with background(cluster, "port-forward", "pod/echo", ":81") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        async with cluster.clock.timeout(30):
            line = (await process.stdout.readline()).decode()
            found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            assert found, line
            reader, writer = await asyncio.open_connection("127.0.0.1", int(found.group(1)))
            assert await reader.read() == b""
            writer.close()
            said = (await process.stderr.readline()).decode()
        assert "declares no containerPort 81; on this node only declared ports work: 5000" in said


# Proxies


async def test_service_and_pod_proxy(cluster: Cluster) -> None:
    await echo_server(cluster)
    await cluster.service("echo", [{"name": "http", "port": 80, "targetPort": "http"}], {"app": "echo"})
    client = cluster.client
    for path in (
        "services/echo:http",
        "services/echo:80",
        "services/http:echo:http",
        "services/echo",
        "pods/echo:5000",
    ):
        raw = await client.request(
            "GET", f"/api/v1/namespaces/default/{path}/proxy/a%2Fb/c", query=[("q", "1 2")]
        )
        said = orjson.loads(raw)
        assert said["path"] in ("/a%2Fb/c?q=1+2", "/a%2Fb/c?q=1%202"), path
        assert "authorization" not in said["headers"]
    raw = await client.request(
        "POST", "/api/v1/namespaces/default/services/echo:80/proxy/p", body=b'{"x": 1}'
    )
    assert orjson.loads(raw)["body"] == '{"x": 1}'
    with pytest.raises(ApiError, match="no service port") as failed:
        await client.request("GET", "/api/v1/namespaces/default/services/echo:99/proxy/")
    assert failed.value.status == 503


async def test_service_proxy_without_endpoints(cluster: Cluster) -> None:
    await cluster.service("idle", [{"port": 80}], {"app": "none"})
    with pytest.raises(
        ApiError, match='no endpoints available for service "idle": none of the pods'
    ) as failed:
        await cluster.client.request("GET", "/api/v1/namespaces/default/services/idle:80/proxy/")
    assert (failed.value.status, failed.value.reason) == (503, "ServiceUnavailable")


async def test_service_proxy_streams(cluster: Cluster) -> None:
    pod = await echo_server(cluster)
    await cluster.service("echo", [{"port": 80, "targetPort": "http"}], {"app": "echo"})
    gates = cluster.directory / "kubelet/pods" / pod["metadata"]["uid"] / "volumes/tmp"
    response = await cluster.client.stream("/api/v1/namespaces/default/services/echo:80/proxy/stream")
    seen, wanted = b"", b""
    async with cluster.clock.timeout(30):
        number = 0
        async for chunk in response.chunks():
            seen += chunk
            while number < 3 and seen == (wanted + b"data: %d\n\n" % number):
                wanted = seen
                (gates / f"gate{number}").touch()  # the server waits for this: each piece came by itself
                number += 1
    await response.close()
    assert seen == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_kubectl_raw_redirects_stay_inside_the_proxy(cluster: Cluster) -> None:
    await echo_server(cluster)
    code, out, err = await cluster.kubectl(
        "get", "--raw", "/api/v1/namespaces/default/pods/echo:http/proxy/redirect"
    )
    assert code == 0, err
    assert orjson.loads(out)["path"] == "/elsewhere"
