"""Credential plugins as processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime import exec_plugin
from kaito.runtime.clock import LoopClock
from kaito.runtime.errors import CredentialsError
from kaito.runtime.exec_plugin import ExecPlugin

V1 = "client.authentication.k8s.io/v1"


def plugin(code: str, base: Path = Path(), **config: Any) -> ExecPlugin:
    tree = {"apiVersion": V1, "command": sys.executable, "args": ["-c", code], **config}
    return ExecPlugin.from_config(tree, base=base, cluster={"server": "https://api"}, where="here")


def prints(status: Any, **more: Any) -> str:
    tree = {"apiVersion": V1, "kind": "ExecCredential", "status": status, **more}
    return f"print({json.dumps(tree)!r})"


async def test_token_and_end() -> None:
    credential = await plugin(prints({"token": "t", "expirationTimestamp": "2030-01-01T02:00:00+02:00"})).run(
        LoopClock()
    )
    assert credential.token == "t"
    assert str(credential.expires) == "2030-01-01 00:00:00+00:00"
    assert "'t'" not in repr(credential)


async def test_what_a_plugin_is_told() -> None:
    code = (
        "import json, os, sys; info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "print(json.dumps({'apiVersion': info['apiVersion'], 'status':"
        " {'token': json.dumps([info, os.environ['EXTRA'], sys.stdin.read()])}}))"
    )
    env = [{"name": "EXTRA", "value": "x"}]
    told = json.loads((await plugin(code, env=env, provideClusterInfo=True).run(LoopClock())).token or "")
    spec = {"interactive": False, "cluster": {"server": "https://api"}}
    assert told == [{"apiVersion": V1, "kind": "ExecCredential", "spec": spec}, "x", ""]
    told = json.loads((await plugin(code, env=env).run(LoopClock())).token or "")
    assert told[0]["spec"] == {"interactive": False}


async def test_a_command_with_a_slash_is_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "plugin"
    script.write_text(f"#!{sys.executable}\n{prints({'token': 'near'})}\n")
    script.chmod(0o700)
    found = plugin("", base=tmp_path, command="bin/plugin", args=None)
    assert (await found.run(LoopClock())).token == "near"


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import sys; print('log in first', file=sys.stderr); sys.exit(3)", "exit status 3: log in first"),
        ("raise SystemExit(1)", "failed with exit status 1$"),
        ("print('secret words')", "something else than JSON"),
        ("print('[]')", "no ExecCredential with a status"),
        (prints(None), "no ExecCredential with a status"),
        (prints({"token": "t"}, apiVersion="v0"), f"apiVersion 'v0', but the kubeconfig says {V1}"),
        (prints({}), "neither a token nor a client certificate"),
        (prints({"clientCertificateData": "x"}), "a client certificate without its key"),
        (
            prints({"token": "t", "expirationTimestamp": "soon"}),
            "expirationTimestamp 'soon', which is no time",
        ),
    ],
)
async def test_what_goes_wrong_is_said_without_what_was_printed(code: str, complaint: str) -> None:
    with pytest.raises(CredentialsError, match=complaint) as caught:
        await plugin(code).run(LoopClock())
    assert "secret words" not in str(caught.value)


async def test_a_missing_command_comes_with_the_hint() -> None:
    missing = plugin("", command="no-such-plugin", installHint="Get it from the vendor.")
    with pytest.raises(
        CredentialsError, match=r"'no-such-plugin' .* on the PATH\? Get it from the vendor\.$"
    ):
        await missing.run(LoopClock())


async def test_a_plugin_that_waits_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_plugin, "TIMEOUT", 0.5)
    mark = tmp_path / "ended"
    code = f"import time; time.sleep(60); open({str(mark)!r}, 'w')"
    with pytest.raises(CredentialsError, match=r"did not end within 0\.5 s; does it wait for input"):
        await plugin(code).run(LoopClock())
    assert not mark.exists()
