"""The small curl that stands in where the system has none, as a program."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

import kaito.embedded.kubelet.curl as small_curl

pytestmark = pytest.mark.processes


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/fail":
            return web.Response(status=404, text="nope")
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/there"})
        if request.path == "/slow":
            await asyncio.Event().wait()
        return web.json_response(
            {
                "method": request.method,
                "path": request.path_qs,
                "body": (await request.read()).decode(),
                "type": request.headers.get("Content-Type"),
                "accept": request.headers.get("Accept"),
            }
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def curl(*words: str, stdin: bytes = b"", **env: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(small_curl.__file__),
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_seeds_command(server: str) -> None:
    code, out, err = await curl(
        *("-X", "POST", f"{server}/chat", "-H", "accept: application/json"),
        *("-H", "Content-Type: application/json", "-d", '{"prompt":"YOUR QUESTION HERE"}'),
    )
    assert (code, err) == (0, "")
    assert '"method": "POST", "path": "/chat"' in out
    assert '"type": "application/json", "accept": "application/json"' in out
    assert '\\"YOUR QUESTION HERE\\"' in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), '"method": "GET", "path": "/x"'),
        (("-I",), "HTTP/1.1 200 OK"),
        (("-i",), "Content-Type: application/json"),
        (("-d", "a=1", "--data", "b=2"), '"body": "a=1&b=2"'),
        (("-G", "-d", "a=1"), '"method": "GET", "path": "/x?a=1"'),
        (("--json", "{}"), '"type": "application/json"'),
        (("-d", "@-"), '"body": "fromstdin"'),
        (("--data-binary", "@-"), '"body": "from\\nstdin"'),
        (("-s", "-o", "/dev/null", "-w", "%{http_code}\\n"), "200\n"),
    ],
)
async def test_options(server: str, words: tuple[str, ...], expected: str) -> None:
    code, out, err = await curl(*words, f"{server}/x", stdin=b"from\nstdin")
    assert (code, err) == (0, "")
    assert expected in out


async def test_failures_have_curls_exit_codes(server: str) -> None:
    assert (await curl(f"{server}/fail"))[:2] == (0, "nope")
    code, out, err = await curl("-sS", "-f", f"{server}/fail")
    assert (code, out) == (22, "")
    assert err == "curl: (22) The requested URL returned error: 404\n"
    assert await curl("-s", "-f", f"{server}/fail") == (22, "", "")
    assert (await curl("-m", "0.2", f"{server}/slow"))[0] == 28
    assert (await curl("http://127.0.0.1:1/"))[0] == 7
    assert (await curl())[0] == 2
    assert "option no-such" in (await curl("--no-such"))[2]


async def test_redirects_only_on_request(server: str) -> None:
    assert (await curl("-w", "%{http_code}", f"{server}/moved"))[1] == "302"
    assert '"path": "/there"' in (await curl("-L", f"{server}/moved"))[1]


async def test_the_proxy_of_the_environment(server: str) -> None:
    code, out, _ = await curl("http://10.96.0.5/chat", http_proxy=server)
    assert code == 0
    assert '"path": "/chat"' in out


async def test_verbose_goes_to_standard_error(server: str) -> None:
    _, out, err = await curl("-v", f"{server}/x")
    assert "> GET /x HTTP/1.1" in err
    assert "< HTTP/1.1 200 OK" in err
    assert out.startswith("{")


async def test_output_to_a_file(server: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    code, out, _ = await curl("-o", str(path), f"{server}/x")
    assert (code, out) == (0, "")
    assert '"path": "/x"' in path.read_text()
