"""Models of the hub on one machine: named in a Workspace, downloaded by its pod, answered for by their own weights.

The hub is a server on loopback that answers like the real one. Its models are the demo's tiny one as a Llama, a Qwen2
and a GGUF file, which answer alike: small enough for seconds, and wrong answers would show.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from presets.hub_server import HubServer
from presets.support import write_gguf
from support.local_mode import LocalMode, pause, start_local_mode, stop_local_mode
from support.tiny_models import ANSWER, QUESTION, repository

pytestmark = [pytest.mark.processes, pytest.mark.slow]

LLAMA, QWEN, GGUF, FALCON = "tiny/Llama-Capitals", "tiny/Qwen2-Capitals", "tiny/Capitals-GGUF", "tiny/Falcon"
WORKSPACE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: NAME}
resource: {labelSelector: {matchLabels: {apps: NAME}}}
inference: {preset: {name: PRESET}}
"""
SLOW = "tiny/Slow-GGUF"
PATIENCE = 120


class Line(HubServer):
    """A hub at the end of a slow line, while `slow`."""

    slow = True

    def _content(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        if not self.slow or len(content) < 10_000_000:
            super()._content(request, content)
            return
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        for at in range(start, len(content), 250_000):
            request.wfile.write(content[at : at + 250_000])
            pause(0.05)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    gguf = tmp_path_factory.mktemp("gguf") / "capitals-Q8_0.gguf"
    write_gguf(gguf)
    server = Line()
    server.repositories = {
        LLAMA: repository(rope_theta=..., rope_scaling=...),
        QWEN: repository("Qwen2ForCausalLM"),
        "tiny/Phi-Of-Mine": repository("Phi3ForCausalLM"),
        GGUF: {"README.md": b"Capitals.", f"Q8_0/{gguf.name}": gguf.read_bytes()},
        SLOW: {"slow-q4_0.gguf": gguf.read_bytes() + bytes(50_000_000)},
        FALCON: repository("FalconForCausalLM"),
    }
    yield server
    server.close()


@pytest.fixture(scope="module")
def mode(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMode]:
    root = tmp_path_factory.mktemp("downloads") / ".kaito"
    started = start_local_mode(root, environment={"HF_ENDPOINT": hub.url})
    yield started
    stop_local_mode(started)


def apply(mode: LocalMode, name: str, preset: str, more: str = "") -> subprocess.CompletedProcess[str]:
    file = mode.root / f"{name}.yaml"
    file.write_text(WORKSPACE.replace("NAME", name).replace("PRESET", preset + more))
    return mode.kubectl("apply", "-f", str(file), check=False)


def served(mode: LocalMode, name: str, preset: str, more: str = "") -> str:
    """The answer of a Workspace that is applied and waited for."""
    done = apply(mode, name, preset, more)
    assert done.returncode == 0, done.stderr
    mode.wait_ready(name)
    return mode.kaito("chat", name, QUESTION).stdout.strip()


def reason(mode: LocalMode, name: str, wanted: str) -> str:
    """What its first condition says once its reason is the wanted one."""
    for _ in range(PATIENCE):
        found = json.loads(mode.kubectl("get", "workspace", name, "-o", "json").stdout).get("status", {})
        if found.get("reason") == wanted:
            return str(found["conditions"][0]["message"])
        pause(0.25)
    raise AssertionError(f"{name} is {found}")


def downloads(hub: HubServer, repository: str) -> int:
    """How often the tensors of a repository were asked for."""
    return sum(
        f"/{repository}/" in path and "/cdn/" in path and "config" not in path for path, _ in hub.requests
    )


def test_a_model_of_the_hub_is_downloaded_and_answers(mode: LocalMode, hub: HubServer) -> None:
    assert served(mode, "llama", LLAMA) == ANSWER
    path = "/api/v1/namespaces/default/services/llama:80/proxy/v1/models"
    (model,) = json.loads(mode.kubectl("get", "--raw", path).stdout)["data"]
    assert model["id"] == "llama-capitals"
    assert "stand_in_weights" not in model or not model["stand_in_weights"]
    status = mode.kaito("local", "status", f"--dir={mode.root}").stdout
    assert f"{LLAMA}@{'c' * 40}: 1.7 MB" in status
    assert "tiny-phi-3 stands in for the Phi-3 presets" in status


def test_what_is_there_is_not_downloaded_again(mode: LocalMode, hub: HubServer) -> None:
    assert served(mode, "first", QWEN) == ANSWER
    before = downloads(hub, QWEN)
    assert before > 0
    mode.kubectl("delete", "workspace", "first", "--timeout=60s")
    assert served(mode, "second", QWEN) == ANSWER
    assert downloads(hub, QWEN) == before
    kept = mode.root / "weights" / f"{QWEN.replace('/', '--')}@{'c' * 40}"
    assert (kept / "model.safetensors").is_file(), "files outlive the pods"


def test_a_repository_of_gguf_files_is_served_without_naming_a_machine_size(mode: LocalMode) -> None:
    assert served(mode, "gguf", GGUF) == ANSWER


@pytest.mark.parametrize(("name", "weights"), [("mine", "tiny/Phi-Of-Mine"), ("mine-gguf", GGUF)])
def test_weights_of_ones_own_are_downloaded_for_their_preset(
    mode: LocalMode, name: str, weights: str
) -> None:
    assert served(mode, name, "tiny-phi-3", f", weights: {{huggingFace: {weights}}}") == ANSWER


def test_a_download_tells_how_far_it_is_and_goes_on_where_it_was_broken_off(
    mode: LocalMode, hub: Line
) -> None:
    assert apply(mode, "slow", SLOW).returncode == 0
    reason(mode, "slow", "WeightsFetching")
    told = mode.kubectl("get", "workspace", "slow", "-o", "jsonpath={.status.conditions}").stdout
    assert f"fetches its weights, part 2 of 4: 13 MB of the 52 MB of {SLOW} at cccccccccccc are there" in told
    mode.kubectl("delete", "workspace", "slow", "--timeout=60s")
    hub.slow = False
    before = len(hub.requests)
    assert served(mode, "again", SLOW) == ANSWER
    offsets = [headers["Range"] for _, headers in hub.requests[before:] if "Range" in headers]
    assert int(offsets[-1].removeprefix("bytes=").rstrip("-")) > 13_000_000


def test_an_architecture_that_the_engine_does_not_take_is_refused_with_those_that_it_does(
    mode: LocalMode,
) -> None:
    assert apply(mode, "falcon", FALCON).returncode == 0
    said = reason(mode, "falcon", "UnsupportedModel")
    assert "mistralrs, does not serve FalconForCausalLM" in said
    assert "it serves Llama, Mistral" in said
    assert not mode.kubectl("get", "machine", "-o", "name", "-l", "kaito.sh/workspace=falcon").stdout


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("deepseek-r1-0528", "are quantised (fp8) for GPUs"),
        ("falcon-40b", "takes about 172.4 GiB of memory"),
        ("gemma-3-27b-instruct", "does not serve Gemma3ForConditionalGeneration"),
    ],
)
def test_what_this_machine_cannot_serve_is_refused_when_it_is_applied(
    mode: LocalMode, preset: str, words: str
) -> None:
    done = apply(mode, "refused", preset)
    assert done.returncode == 1
    assert "inference.preset.name: " in done.stderr
    assert words in done.stderr


def test_a_model_that_is_not_there_is_said(mode: LocalMode, tmp_path: Path) -> None:
    assert apply(mode, "absent", "tiny/nothing").returncode == 0
    assert "has no tiny/nothing" in reason(mode, "absent", "ModelNotFound")
