"""Connections from kubeconfigs and service accounts."""

from __future__ import annotations

import base64
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.credentials import TokenFile
from kaito.runtime.errors import ConfigurationError, CredentialsError
from kaito.runtime.resources import NODES
from kaito.runtime.testing import VirtualClock
from runtime.sockets import make_certificates, serving


def kubeconfig(
    path: Path, server: str, *, user: Any = None, cluster: Any = None, namespace: str = ""
) -> Path:
    """One context `here` and one `there`; `here` is current."""
    context = {"cluster": "c", "user": "u", **({"namespace": namespace} if namespace else {})}
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": context},
            {"name": "there", "context": {**context, "cluster": "d"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {"server": server, **(cluster or {})}},
            {"name": "d", "cluster": {"server": "http://127.0.0.1:1"}},
        ],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


async def echo(request: web.Request) -> web.Response:
    peer = request.transport.get_extra_info("peercert") if request.transport else None
    name = peer["subject"][0][0][1] if peer else ""
    return web.json_response({"authorization": request.headers.get("Authorization", ""), "certificate": name})


async def ask(connection: Connection) -> dict[str, Any]:
    return await Client(connection.transport, clock=LoopClock()).get(NODES, "n")


async def test_token_context_and_namespace(tmp_path: Path) -> None:
    async with serving(echo) as url:
        path = kubeconfig(tmp_path / "config", url, user={"token": "secret"}, namespace="team")
        connection = Connection.from_kubeconfig(path)
        assert (connection.url, connection.context, connection.namespace) == (url, "here", "team")
        assert (await ask(connection))["authorization"] == "Bearer secret"
        assert "secret" not in repr(connection)
        await connection.close()
        other = Connection.from_kubeconfig(str(path), "there")
        assert (other.url, other.context) == ("http://127.0.0.1:1", "there")
        await other.close()


async def test_basic_authentication_and_anonymity(tmp_path: Path) -> None:
    async with serving(echo) as url:
        users: tuple[dict[str, str], ...] = ({"username": "a", "password": "b"}, {})
        answers = []
        for user in users:
            connection = Connection.from_kubeconfig(kubeconfig(tmp_path / "config", url, user=user))
            answers.append((await ask(connection))["authorization"])
            await connection.close()
    assert answers == ["Basic " + base64.b64encode(b"a:b").decode(), ""]


@pytest.mark.parametrize("inline", [True, False], ids=["data", "relative files"])
async def test_client_certificates(tmp_path: Path, inline: bool) -> None:
    certificates = make_certificates(tmp_path)

    def entry(key: str, file: Path) -> dict[str, str]:
        data = {f"{key}-data": base64.b64encode(file.read_bytes()).decode()}
        return data if inline else {key: file.name}

    async with serving(echo, certificates.server_context(ask_client=True)) as url:
        user = {
            **entry("client-certificate", certificates.client),
            **entry("client-key", certificates.client_key),
        }
        path = kubeconfig(
            tmp_path / "config", url, user=user, cluster=entry("certificate-authority", certificates.ca)
        )
        connection = Connection.from_kubeconfig(path)
        assert (await ask(connection))["certificate"] == "somebody"
        await connection.close()


async def test_https_without_a_user_and_without_verification(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    async with serving(echo, certificates.server_context()) as url:
        path = kubeconfig(tmp_path / "config", url, cluster={"insecure-skip-tls-verify": True})
        connection = Connection.from_kubeconfig(path)
        assert await ask(connection) == {"authorization": "", "certificate": ""}
        await connection.close()


async def test_server_name_and_proxy_of_a_cluster(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, host="api.cluster.example")
    authority = {"certificate-authority": "ca.crt", "tls-server-name": "api.cluster.example"}

    async def proxy(request: web.Request) -> web.Response:
        return web.json_response({"authorization": "", "certificate": f"proxied {request.raw_path}"})

    async with serving(echo, certificates.server_context()) as url, serving(proxy) as proxy_url:
        named = Connection.from_kubeconfig(kubeconfig(tmp_path / "config", url, cluster=authority))
        assert (await ask(named))["certificate"] == ""
        await named.close()
        target = "http://api.cluster.example:8001"
        path = kubeconfig(tmp_path / "config", target, cluster={"proxy-url": proxy_url})
        proxied = Connection.from_kubeconfig(path)
        assert (await ask(proxied))["certificate"] == f"proxied {target}/api/v1/nodes/n"
        await proxied.close()


async def test_a_proxy_of_the_environment(tmp_path: Path) -> None:
    async def proxy(request: web.Request) -> web.Response:
        return web.json_response({"certificate": f"proxied {request.raw_path}"})

    target = "http://api.cluster.example:8001"
    path = kubeconfig(tmp_path / "config", target)
    async with serving(proxy) as proxy_url:
        environ = {"HTTP_PROXY": proxy_url, "NO_PROXY": "other.example"}
        connection = Connection.from_kubeconfig(path, environ=environ)
        assert (await ask(connection))["certificate"] == f"proxied {target}/api/v1/nodes/n"
        await connection.close()


PLUGIN = """#!{python}
import json, os, pathlib
counter = pathlib.Path({counter!r})
number = int(counter.read_text()) + 1 if counter.exists() else 1
counter.write_text(str(number))
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
status = {{"token": f"plugin-{{number}}-" + os.environ["SUFFIX"]}}
if {expiry!r}:
    status["expirationTimestamp"] = {expiry!r}
print(json.dumps({{"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}}))
"""


def plugin(directory: Path, expiry: str = "") -> dict[str, Any]:
    script = directory / "plugin"
    script.write_text(PLUGIN.format(python=sys.executable, counter=str(directory / "count"), expiry=expiry))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(script),
            "env": [{"name": "SUFFIX", "value": "x"}],
            "interactiveMode": "Never",
        }
    }


async def test_an_exec_plugin_runs_once_and_again_after_a_refusal(tmp_path: Path) -> None:
    refuse: set[str] = set()

    async def handler(request: web.Request) -> web.Response:
        authorization = request.headers["Authorization"]
        return web.json_response(
            {"authorization": authorization}, status=401 if authorization in refuse else 200
        )

    async with serving(handler) as url:
        connection = Connection.from_kubeconfig(kubeconfig(tmp_path / "config", url, user=plugin(tmp_path)))
        seen = [(await ask(connection))["authorization"] for _ in range(2)]
        refuse.add("Bearer plugin-1-x")
        with pytest.raises(Exception, match="401"):
            await ask(connection)
        seen.append((await ask(connection))["authorization"])
        await connection.close()
    assert seen == ["Bearer plugin-1-x", "Bearer plugin-1-x", "Bearer plugin-2-x"]


async def test_an_exec_plugins_expired_token_is_renewed(tmp_path: Path) -> None:
    class Hurried(LoopClock):
        offset = 0.0

        def now(self) -> float:
            return super().now() + self.offset

    clock = Hurried()
    async with serving(echo) as url:
        user = plugin(tmp_path, expiry="2020-01-01T00:00:00Z")
        connection = Connection.from_kubeconfig(kubeconfig(tmp_path / "config", url, user=user), clock=clock)
        seen = [(await ask(connection))["authorization"]]
        clock.offset = 3600
        seen.append((await ask(connection))["authorization"])
        await connection.close()
    assert seen == ["Bearer plugin-1-x", "Bearer plugin-2-x"]


async def test_an_exec_plugin_may_hand_out_a_client_certificate(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    status = {
        "clientCertificateData": certificates.client.read_text(),
        "clientKeyData": certificates.client_key.read_text(),
    }
    api_version = "client.authentication.k8s.io/v1"
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"apiVersion": api_version, "kind": "ExecCredential", "status": status}))
    code = f"print(open({str(answer)!r}).read())"
    user = {"exec": {"apiVersion": api_version, "command": sys.executable, "args": ["-c", code]}}
    authority = {"certificate-authority": str(certificates.ca)}
    async with serving(echo, certificates.server_context(ask_client=True)) as url:
        path = kubeconfig(tmp_path / "config", url, user=user, cluster=authority)
        connection = Connection.from_kubeconfig(path)
        assert await ask(connection) == {"authorization": "", "certificate": "somebody"}
        await connection.close()


async def test_a_failing_exec_plugin_is_told_apart(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(tmp_path / "absent")}}
    connection = Connection.from_kubeconfig(kubeconfig(tmp_path / "config", "http://127.0.0.1:1", user=user))
    with pytest.raises(
        CredentialsError, match=r"plugin '.*absent' of the kubeconfig cannot be run: No such file"
    ):
        await ask(connection)
    await connection.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty or not a kubeconfig"),
        ("- a", "is empty or not a kubeconfig"),
        ("a: [", "is not YAML"),
        ("contexts: {a: b}", "contexts must be a list"),
        ("contexts: [{name: a}]", r"contexts\[0\] needs a name and a context"),
        ("contexts: []", r"has no current-context; choose one: kubectl config .* Known contexts: \(none\)"),
        (
            "{contexts: [{name: a, context: {cluster: c}}], current-context: b}",
            "has no context 'b'. Known contexts: a",
        ),
        ("{contexts: [{name: a, context: {cluster: c}}], current-context: a}", "context 'a': .*c"),
        (
            "{contexts: [{name: a, context: {cluster: c}}], current-context: a, clusters: "
            "[{name: c, cluster: {x: 1}}]}",
            "the cluster of context 'a' has no server",
        ),
        (
            "{contexts: [{name: a, context: {cluster: c}}], current-context: a, clusters: [{name: c, cluster: "
            "{server: 'https://127.0.0.1', certificate-authority: nowhere.crt}}]}",
            "nowhere.crt",
        ),
        (
            "{contexts: [{name: a, context: {cluster: c}}], current-context: a, clusters: "
            "[{name: c, cluster: {server: '127.0.0.1:6443'}}]}",
            r"server '127\.0\.0\.1:6443' is no URL; write https://HOST:PORT",
        ),
        (
            "{contexts: [{name: a, context: {cluster: c}}], current-context: a, clusters: "
            "[{name: c, cluster: {server: 'https://x', proxy-url: 'socks5://localhost'}}]}",
            "context 'a', cluster: the proxy socks5://localhost cannot be used",
        ),
        (
            "{contexts: [{name: a, context: {cluster: c, user: u}}], current-context: a, clusters: "
            "[{name: c, cluster: {server: 'https://x'}}], users: [{name: u, user: {as: admin}}]}",
            r"context 'a', user: impersonation \(as\) is not supported",
        ),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_said(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        Connection.from_kubeconfig(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_missing_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"kubeconfig not found: .*nowhere"):
        Connection.from_kubeconfig(tmp_path / "nowhere")
    path = kubeconfig(tmp_path / "config", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"has no context 'nope'\. Known contexts: here, there"):
        Connection.from_kubeconfig(path, "nope")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match=r"kubeconfig not found: .*nowhere"):
        Connection.from_default()


async def test_the_environment_names_a_list_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path = kubeconfig(tmp_path / "config", "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "absent"), str(path)]))
    connection = Connection.from_default("there")
    assert connection.context == "there"
    await connection.close()


def service_account(directory: Path, ca: Path) -> Path:
    directory.mkdir()
    (directory / "token").write_text("first\n")
    (directory / "namespace").write_text("kaito-system")
    (directory / "ca.crt").write_bytes(ca.read_bytes())
    return directory


async def test_in_cluster(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "pki")
    directory = service_account(tmp_path / "sa", certificates.ca)
    async with serving(echo, certificates.server_context()) as url:
        port = url.rpartition(":")[2]
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
        connection = Connection.in_cluster(directory=directory, environ=environ)
        assert (connection.url, connection.namespace, connection.context) == (url, "kaito-system", None)
        assert (await ask(connection))["authorization"] == "Bearer first"
        await connection.close()


def test_outside_a_cluster_the_reason_is_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no usable service account .* name a kubeconfig"):
        Connection.in_cluster(directory=tmp_path, environ={})


async def test_a_rotated_token_is_read_within_a_minute_or_after_a_refusal(
    tmp_path: Path, virtual_clock: VirtualClock
) -> None:
    file = tmp_path / "token"
    with pytest.raises(CredentialsError, match=r"token file .*: No such file"):
        await TokenFile(file, virtual_clock).current()
    file.write_text("first\n")
    credentials = TokenFile(file, virtual_clock)
    assert (await credentials.current()).header == "Bearer first"
    file.write_text("second")
    await virtual_clock.sleep(59)
    assert (await credentials.current()).header == "Bearer first"
    await virtual_clock.sleep(1)
    assert (await credentials.current()).header == "Bearer second"
    file.write_text("third")
    credentials.rejected()
    assert (await credentials.current()).header == "Bearer third"
    file.unlink()
    await virtual_clock.sleep(60)
    assert (await credentials.current()).header == "Bearer third"


async def test_a_token_file_of_a_kubeconfig_user(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    async with serving(echo) as url:
        connection = Connection.from_kubeconfig(
            kubeconfig(tmp_path / "config", url, user={"tokenFile": "token"})
        )
        assert (await ask(connection))["authorization"] == "Bearer from-file"
        await connection.close()
