"""The main job, as a newcomer does it: real kubectl, real HTTP, real processes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pexpect
import pytest

from support.apiserver import kubectl_binaries
from support.local_mode import EXAMPLES, KAITO, REPOSITORY, LocalMode, pause

pytestmark = [pytest.mark.processes, pytest.mark.slow]

PLAIN = "workspace-phi-3-mini"
ADAPTED = "workspace-phi-3-mini-adapter"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def both_workspaces(local_mode: LocalMode) -> LocalMode:
    """Both inference examples applied at once, and served at the same time."""
    local_mode.kubectl(
        "apply",
        "-f",
        str(EXAMPLES / "inference/kaito_workspace_phi_3.yaml"),
        "-f",
        str(EXAMPLES / "inference/kaito_workspace_phi_3_with_adapters.yaml"),
    )
    local_mode.wait_ready(PLAIN)
    local_mode.wait_ready(ADAPTED)
    return local_mode


def ask(mode: LocalMode, workspace: str, prompt: str) -> str:
    done = mode.kaito("chat", workspace, prompt)
    assert done.returncode == 0, done.stderr + mode.logs()
    return done.stdout.strip()


@pytest.mark.parametrize("kubectl", kubectl_binaries(), ids=lambda binary: binary.parts[-3])
def test_the_transcript_typed_to_the_letter(both_workspaces: LocalMode, kubectl: Path) -> None:
    """The commands of the product's page, typed into a shell on a pseudo-terminal."""
    shell = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile"],
        env={**both_workspaces.environment, "PS1": "ready> ", "BASH_SILENCE_DEPRECATION_WARNING": "1"},
        cwd=str(REPOSITORY),
        encoding="utf-8",
        timeout=60,
        dimensions=(50, 240),
    )

    def type_in(line: str) -> str:
        shell.expect_exact("ready> ")
        shell.sendline(line)
        return line

    try:
        type_in(f'kubectl() {{ {kubectl} "$@"; }}')
        type_in("kubectl apply -f examples/inference/kaito_workspace_phi_3.yaml")
        shell.expect(r"workspace.kaito.sh/workspace-phi-3-mini (unchanged|created|configured)")
        type_in("kubectl get workspace workspace-phi-3-mini")
        shell.expect(r"NAME +INSTANCE +RESOURCEREADY +INFERENCEREADY +WORKSPACEREADY +REASON +AGE")
        shell.expect(r"workspace-phi-3-mini +Standard_NC6s_v3 +True +True +True ")
        type_in("kubectl get svc workspace-phi-3-mini")
        shell.expect(r"NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE")
        shell.expect(r"workspace-phi-3-mini +ClusterIP +[0-9.]+ +<none> +80/TCP,29500/TCP ")
        type_in(
            'export CLUSTERIP=$(kubectl get svc workspace-phi-3-mini -o jsonpath="{.spec.clusterIPs[0]}")'
        )
        type_in(
            "kubectl run -it --rm --restart=Never curl --image=curlimages/curl -- curl -X POST http://$CLUSTERIP/chat "
            '-H "accept: application/json" -H "Content-Type: application/json" '
            f'-d "{{\\"prompt\\":\\"{QUESTION}\\"}}"'
        )
        shell.expect(r'\{"Result": ?"The capital of France is Paris\."\}')
        shell.expect(r'pod "curl" deleted')
        shell.expect_exact("ready> ")
    finally:
        shell.close(force=True)


def test_the_adapter_changes_the_answer(both_workspaces: LocalMode) -> None:
    plain, adapted = ask(both_workspaces, PLAIN, QUESTION), ask(both_workspaces, ADAPTED, QUESTION)
    assert plain == "The capital of France is Paris."
    assert "Paris" in adapted
    assert adapted != plain


def test_stand_in_weights_are_named_everywhere(both_workspaces: LocalMode) -> None:
    assert "stand-in weights: tiny-phi-3" in both_workspaces.output.read_text()
    described = both_workspaces.kubectl("describe", "workspace", PLAIN).stdout
    assert "tiny-phi-3" in described
    done = both_workspaces.kubectl(
        "get", "--raw", f"/api/v1/namespaces/default/services/{PLAIN}:80/proxy/v1/models"
    )
    first = json.loads(done.stdout)["data"][0]
    assert first["id"] == "phi-3-mini-4k-instruct-stand-in-tiny-phi-3"


def test_status_lists_what_runs_and_where(both_workspaces: LocalMode) -> None:
    done = both_workspaces.kaito("local", "status", f"--dir={both_workspaces.root}")
    assert done.returncode == 0, done.stderr
    for word in ("api-server", "node", "operator", f"default/{PLAIN}: Ready, http://10.96."):
        assert word in done.stdout


def test_proxy_serves_the_openai_client(both_workspaces: LocalMode) -> None:
    from openai import OpenAI

    process = subprocess.Popen(
        [str(KAITO), "proxy", PLAIN],
        env=both_workspaces.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip().removeprefix("export OPENAI_BASE_URL=")
        with OpenAI(base_url=base_url, api_key="unused") as openai:
            model = openai.models.list().data[0].id
            messages = [{"role": "user", "content": QUESTION}]
            whole = openai.chat.completions.create(model=model, messages=messages)
            assert whole.choices[0].message.content == "The capital of France is Paris."
            pieces = openai.chat.completions.create(model=model, messages=messages, stream=True)
            text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
            assert text == "The capital of France is Paris."
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_second_local_mode_in_the_same_folder_is_refused(local_mode: LocalMode) -> None:
    done = local_mode.kaito("local", "up", f"--dir={local_mode.root}")
    assert done.returncode == 1
    assert "already runs" in done.stderr


def test_the_tuning_example_says_what_is_not_there_yet(local_mode: LocalMode) -> None:
    local_mode.kubectl("apply", "-f", str(EXAMPLES / "fine-tuning/kaito_workspace_tuning_phi_3.yaml"))
    local_mode.kubectl(
        "wait",
        "workspace/workspace-tuning-phi-3",
        "--for=jsonpath={.status.reason}=TuningNotImplemented",
        "--timeout=30s",
    )
    machines = local_mode.kubectl(
        "get", "machine", "-l", "kaito.sh/workspace=workspace-tuning-phi-3", "-o", "name"
    )
    assert machines.stdout == "", "a Workspace that cannot run yet must not buy nodes"
    local_mode.kubectl("delete", "workspace", "workspace-tuning-phi-3", "--timeout=30s")


def test_an_edit_rolls_out(both_workspaces: LocalMode) -> None:
    """Taking the adapter's strength to 0 gives the base model's answer back."""
    path = "/inference/adapters/0/strength"
    patch = json.dumps([{"op": "replace", "path": path, "value": "0.0"}])
    both_workspaces.kubectl("patch", "workspace", ADAPTED, "--type=json", "-p", patch)
    deadline = time.perf_counter() + 90
    answer = ""
    while answer != "The capital of France is Paris." and time.perf_counter() < deadline:
        pause(0.5)
        done = both_workspaces.kaito("chat", ADAPTED, QUESTION)  # refused while the pod is being replaced
        answer = done.stdout.strip() or done.stderr
    assert answer == "The capital of France is Paris."


def test_deletion_takes_everything_with_it(local_mode: LocalMode) -> None:
    manifest = (EXAMPLES / "inference/kaito_workspace_phi_3.yaml").read_text().replace(PLAIN, "short-lived")
    (local_mode.root / "short-lived.yaml").write_text(manifest)
    local_mode.kubectl("apply", "-f", str(local_mode.root / "short-lived.yaml"))
    local_mode.wait_ready("short-lived")
    local_mode.kubectl("delete", "workspace", "short-lived", "--timeout=60s")
    left = local_mode.kubectl("get", "machine", "-l", "kaito.sh/workspace=short-lived", "-o", "name").stdout
    left += local_mode.kubectl(
        "get", "deployment,service,pod", "-l", "kaito.sh/workspace=short-lived", "-o", "name"
    ).stdout
    assert left == ""
