"""`kaito-serve` as a process: clients, stand-in names, start, failure and end."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from pathlib import Path

import httpx
import openai
import pytest

from kaito_presets import demo
from presets.support import ServerProcess, container_root, copy_adapter, get

pytestmark = pytest.mark.processes

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
ARR = "Arr! Paris, matey."
STAND_IN = "phi-3-mini-4k-instruct-stand-in-tiny-phi-3"


def ask(client: openai.OpenAI, model: str, question: str = FRANCE) -> str:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


def test_the_official_client_works(server: ServerProcess) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [STAND_IN, "base", "pirate"]
        assert ask(client, STAND_IN) == ARR
        assert ask(client, "phi-3-mini-4k-instruct") == ARR
        assert ask(client, "pirate") == ARR
        assert ask(client, "base") == PARIS
        with pytest.raises(openai.NotFoundError, match="'gpt-4' does not exist"):
            ask(client, "gpt-4")
        with pytest.raises(openai.BadRequestError, match="tokens long"):
            ask(client, "base", "hello " * 3000)


def test_the_official_client_streams(server: ServerProcess) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="base",
            messages=[{"role": "user", "content": FRANCE}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == PARIS
    assert len([piece for piece in pieces if piece]) > 5
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 5


def test_stand_in_weights_are_named_everywhere(server: ServerProcess) -> None:
    root = json.loads(get(f"{server.url}/")[1])
    assert root["model"] == STAND_IN
    assert "stand-in weights tiny-phi-3, not phi-3-mini-4k-instruct" in root["notice"]
    assert json.loads(get(f"{server.url}/healthz")[1]) == {
        "status": "Healthy",
        "stand_in_weights": "tiny-phi-3",
    }
    assert json.loads(get(f"{server.url}/v1/models")[1])["data"][0]["stand_in_weights"] == "tiny-phi-3"
    assert json.loads(get(f"{server.url}/v1/models/phi-3-mini-4k-instruct")[1])["id"] == STAND_IN
    assert "stand-in weights tiny-phi-3" in server.log
    assert f"Ready: serving {STAND_IN}" in server.log


async def test_sixteen_clients_get_their_own_answers(server: ServerProcess) -> None:
    capitals = {
        "France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Japan": "Tokyo", "Kenya": "Nairobi", "Peru": "Lima",
        "Norway": "Oslo", "Egypt": "Cairo", "Canada": "Ottawa", "Poland": "Warsaw", "Greece": "Athens",
        "Cuba": "Havana", "Iraq": "Baghdad", "Nepal": "Kathmandu", "Ghana": "Accra", "Fiji": "Suva",
    }  # fmt: skip

    async def client(http: httpx.AsyncClient, country: str, capital: str) -> None:
        for model, expected in (
            ("base", f"The capital of {country} is {capital}."),
            ("pirate", f"Arr! {capital}, matey."),
        ):
            question = [{"role": "user", "content": f"What is the capital of {country}?"}]
            for stream in (False, True):
                body = {"model": model, "messages": question, "stream": stream}
                answer = await http.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200
                if stream:
                    events = [
                        json.loads(line[6:])
                        for line in answer.text.split("\n\n")
                        if line.startswith("data: {")
                    ]
                    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
                else:
                    text = answer.json()["choices"][0]["message"]["content"]
                assert text == expected

    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        await asyncio.gather(*(client(http, country, capital) for country, capital in capitals.items()))


async def test_more_requests_than_the_engine_takes_wait_their_turn(server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        answers = await asyncio.gather(*(http.post("/chat", json={"prompt": FRANCE}) for _ in range(60)))
    assert {answer.text for answer in answers} == {json.dumps({"Result": ARR}, separators=(",", ":"))}


def test_a_client_that_leaves_does_not_disturb(server: ServerProcess) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(
        {"model": "base", "stream": True, "temperature": 2.0, "messages": [{"role": "user", "content": "x"}]}
    )
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}"
    for _ in range(20):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}\r\n\r\n{body}".encode())
            assert connection.recv(1)
    assert "Paris" in httpx.post(f"{server.url}/chat", json={"prompt": FRANCE}, timeout=60).json()["Result"]
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("strength", "expected"), [("0.0", PARIS), ("0.1", PARIS), ("0.5", ARR), ("1.0", ARR)]
)
def test_strength_is_visible_in_the_answer(tmp_path: Path, strength: str, expected: str) -> None:
    root = container_root(tmp_path, adapters={"pirate": demo.adapter_path()})
    server = ServerProcess(root, "--preset=tiny-phi-3", f"--adapter=pirate={strength}").ready()
    try:
        answer = httpx.post(f"{server.url}/chat", json={"prompt": FRANCE}, timeout=60)
        assert answer.json() == {"Result": expected}
        assert json.loads(get(f"{server.url}/")[1]) == {"message": "Server is running", "model": "tiny-phi-3"}
    finally:
        assert server.stop() == 0


def test_several_adapters_act_together(tmp_path: Path) -> None:
    adapters = {"half-a": demo.adapter_path(), "half-b": demo.adapter_path(), "off": demo.adapter_path()}
    root = container_root(tmp_path, adapters=adapters)
    arguments: tuple[str, ...] = ("--adapter=half-b=0.2", "--adapter=half-a=0.2", "--adapter=off=0")
    arguments = (*arguments, "--served-model-name=mine", "--max-model-len=10240", "--dtype=float16")
    server = ServerProcess(root, "--preset=phi", *arguments).ready()
    try:
        assert "context of 1024 tokens" in server.log
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            names = [model.id for model in client.models.list()]
            assert names == ["mine-stand-in-tiny-phi-3", "base", "half-b", "half-a", "off"]
            assert ask(client, "half-a") == PARIS  # too weak alone
            assert ask(client, "half-b") == PARIS
            assert ask(client, "mine") == ARR  # strong enough together
            assert ask(client, "phi") == ARR
            assert ask(client, "off") == PARIS
            assert ask(client, "base") == PARIS
    finally:
        assert server.stop() == 0


def test_the_config_file_and_every_adapter_found_are_used(tmp_path: Path) -> None:
    root = container_root(tmp_path, adapters={"pirate": demo.adapter_path()})
    config = root / "mnt" / "config" / "inference_config.yaml"
    config.parent.mkdir()
    config.write_text("vllm: {max-model-len: 32, gpu-memory-utilization: 0.9}")
    arguments = ("--config=/mnt/config/inference_config.yaml", "--max-model-len=10240")
    server = ServerProcess(root, "--preset=tiny-phi-3", *arguments).ready()
    try:
        assert "ignored by this server: vllm.gpu-memory-utilization" in server.log
        assert "adapters: pirate at strength 1" in server.log
        assert "context of 32 tokens" in server.log
        answer = httpx.post(f"{server.url}/chat", json={"prompt": FRANCE * 3}, timeout=60)
        assert answer.status_code == 400
        assert "fewer than 32 tokens" in answer.json()["detail"]
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "env", "code", "sentence"),
    [
        (["--bogus=1"], {}, 2, "Unrecognized arguments: --bogus=1. See kaito-serve --help."),
        (["--dtype=int3"], {}, 2, "invalid choice: 'int3'"),
        (["--max-model-len=none"], {}, 2, "not a whole number of at least 1"),
        ([], {"KAITO_PORT": "http"}, 2, "KAITO_PORT is 'http'"),
        (["--config=/mnt/none.yaml"], {}, 2, "The configuration file none.yaml can't be read: No such file"),
        (["--nodes=2", "--rendezvous=a:29500"], {}, 4, "can't spread one model over 2 nodes (--nodes=2)"),
        (["--adapter=missing=1"], {}, 3, "Adapter missing has no adapter_config.json"),
        (["--adapter=dora=1"], {}, 3, "Adapter dora: adapter_config.json sets use_dora"),
        (["--adapter=pirate=2"], {}, 3, "must be a number from 0 to 1"),
        (["--engine=magic"], {}, 4, "There is no engine 'magic'"),
        ([], {"KAITO_ENGINE": "vllm"}, 4, "The vllm engine needs Python packages"),
        (
            ["--engine=transformers"],
            {"KAITO_ENGINE": "mistralrs"},
            4,
            "The transformers engine needs Python packages",
        ),
        (["--weights=/nowhere"], {}, 5, "There is no weights directory"),
        (["--weights=/mnt"], {}, 5, "neither a .gguf file nor a complete Hugging Face model"),
        (["--weights=/cut"], {}, 5, "can't be loaded"),
    ],
)
def test_what_cannot_be_served_ends_the_process_with_a_sentence(
    tmp_path: Path, arguments: list[str], env: dict[str, str], code: int, sentence: str
) -> None:
    dora = copy_adapter(tmp_path / "dora", use_dora=True)
    root = container_root(tmp_path, adapters={"pirate": demo.adapter_path(), "dora": dora})
    (root / "dev").mkdir()
    (root / "dev" / "termination-log").touch()
    shutil.copytree(demo.weights_path(), root / "cut")
    whole = (root / "cut" / "model.safetensors").read_bytes()
    (root / "cut" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    chosen = (
        arguments
        if any("--adapter" in argument for argument in arguments)
        else [*arguments, "--adapter=pirate=0"]
    )
    if "--weights=/cut" in arguments:
        shutil.rmtree(root / "mnt" / "adapter")
        chosen = arguments
    server = ServerProcess(root, "--preset=phi-3-mini-4k-instruct", *chosen, env=env)
    assert server.exit_code() == code, server.log
    last = server.log.strip().splitlines()[-1]
    assert last.startswith("kaito-serve: ")
    assert sentence in last
    assert "Traceback" not in server.log
    assert (root / "dev" / "termination-log").read_text().strip() in last


def test_a_taken_port_ends_the_process(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = ServerProcess(container_root(tmp_path), "--preset=tiny-phi-3", env={"KAITO_PORT": str(port)})
        assert server.exit_code() == 1
        assert f"kaito-serve: Can't listen on 127.0.0.1:{port}." in server.log


def test_sigterm_lets_a_running_answer_end(tmp_path: Path) -> None:
    server = ServerProcess(container_root(tmp_path), "--preset=tiny-phi-3").ready()
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": FRANCE})
    head = f"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall((head + body[:5]).encode())  # the server is in the middle of this request
        assert get(f"{server.url}/healthz")[0] == 200
        server.process.terminate()
        server.wait_for("Got SIGTERM: finishing running answers.")
        connection.sendall(body[5:].encode())
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    assert PARIS.encode() in received
    assert server.exit_code() == 0
