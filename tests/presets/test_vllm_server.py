"""The engine vllm as a process, in front of a stand-in that takes vLLM's flags and computes with mistralrs.

What vLLM itself makes of the same command line is seen by `make test-vllm`, where it is installed.
"""

from __future__ import annotations

import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from presets.support import ServerProcess, container_root, copy_adapter

STAND_IN = Path(__file__).parent / "fake_vllm"
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
ARR = "Arr! Paris, matey."
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None, reason="vLLM itself is here: test_same_questions asks it"
)


def start(root: Path, *arguments: str, **env: str) -> tuple[ServerProcess, str]:
    """The process and its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    told = {"KAITO_ENGINE": "vllm", "PYTHONPATH": str(STAND_IN), "KAITO_PORT": str(port), **env}
    return ServerProcess(root, *arguments, env=told), f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The demo weights with three adapters, as in test_same_questions; two requests at once, one may wait."""
    directory = tmp_path_factory.mktemp("vllm")
    for name, changes in (("whole", {}), ("half", {"lora_alpha": 32}), ("none", {})):
        copy_adapter(directory / name, **changes)
    root = container_root(directory, adapters={name: directory / name for name in ("whole", "half", "none")})
    adapters = ("--adapter=whole=0.25", "--adapter=half=0.5", "--adapter=none=0")
    limits = ("--max-model-len=128", "--max-num-seqs=2", "--max-queued=1")
    process, url = start(root, "--preset=tiny-phi-3", *adapters, *limits, FAKE_VLLM_SLOW="0.05")
    try:
        process.ready()
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
    finally:
        process.stop()


def ask(client: httpx.Client, model: str | None, **body: Any) -> httpx.Response:
    messages = [{"role": "user", "content": FRANCE}]
    return client.post("/v1/chat/completions", json={"model": model, "messages": messages, **body})


def test_every_name_means_its_adapters_and_chat_asks_all_of_them(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()["data"]
    names = [model["id"] for model in listed]
    assert names == ["tiny-phi-3", "base", "whole", "half", "none"]
    assert [model.get("parent") for model in listed] == [None, *["tiny-phi-3"] * 4]
    answers = {name: ask(client, name).json()["choices"][0]["message"]["content"] for name in names}
    assert answers == {"tiny-phi-3": ARR, "base": PARIS, "whole": PARIS, "half": ARR, "none": PARIS}
    assert ask(client, None).json()["model"] == "tiny-phi-3"
    assert client.post("/chat", json={"prompt": FRANCE}).json() == {"Result": ARR}
    assert client.get("/v1/models/half").json()["id"] == "half"


def test_an_unknown_name_is_refused_with_those_that_are_there(client: httpx.Client) -> None:
    answer = ask(client, "other")
    assert answer.status_code == 404
    assert "served here: tiny-phi-3, base, whole, half, none." in answer.json()["error"]["message"]
    assert client.get("/v1/models/other").status_code == 404


def test_chat_takes_what_it_takes_on_the_other_engines(client: httpx.Client) -> None:
    def chat(**body: Any) -> httpx.Response:
        return client.post("/chat", json=body)

    assert chat(messages=[{"role": "user", "content": FRANCE}]).json() == {"Result": ARR}
    assert chat(prompt=FRANCE, return_full_text=True).json() == {"Result": FRANCE + ARR}
    assert chat(prompt=FRANCE, generate_kwargs={"max_new_tokens": 2}).json() == {"Result": "Arr!"}
    assert chat(prompt=FRANCE, generate_kwargs={"stop_strings": ","}).json() == {"Result": "Arr! Paris"}
    assert chat(prompt=FRANCE, generate_kwargs={"max_new_tokens": 100_000}).json() == {"Result": ARR}


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({}, 400, "Text generation parameter prompt required"),
        ({"prompt": 5}, 422, "prompt: input should be a valid string, not 5."),
        ({"prompt": "a", "generate_kwargs": {"num_beams": 4}}, 400, "generate_kwargs.num_beams=4 is not supported"),
        ({"prompt": "a", "colour": "red"}, 422, "colour: there is no such field."),
        ({"prompt": "hello " * 200}, 400, "fewer than 128 tokens"),
        ({"prompt": "hello " * 500_000}, 400, "The prompt is more than 2048 tokens long"),
        ({"prompt": "a", "generate_kwargs": {"max_length": 1}}, 400, "max_length is 1, but the prompt alone has"),
        ({"prompt": "a", "generate_kwargs": {"temperature": 1.25}}, 400, "that temperature is refused"),
    ],
)  # fmt: skip
def test_what_chat_cannot_do_is_refused_with_a_sentence(
    client: httpx.Client, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = client.post("/chat", json=body)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text


def test_bodies_that_are_no_json_or_too_large_are_refused(client: httpx.Client) -> None:
    assert client.post("/chat", content=b"{").status_code == 415
    broken = client.post("/chat", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, "not JSON" in broken.json()["detail"]) == (400, True)
    for path in ("/chat", "/v1/chat/completions"):
        deep = client.post(path, content=b"[" * 100_000, headers={"Content-Type": "application/json"})
        assert deep.status_code == 400, deep.text
    huge = client.post("/v1/chat/completions", content=b" " * (16 * 1024 * 1024 + 1))
    assert (huge.status_code, huge.json()["error"]["message"]) == (413, "The body is larger than 16 MiB.")
    assert client.get("/chat").status_code == 405


def test_one_request_too_many_gets_429_also_while_others_stream(client: httpx.Client) -> None:
    body = {"model": "base", "stream": True, "messages": [{"role": "user", "content": FRANCE}]}
    streams = [client.stream("POST", "/v1/chat/completions", json=body) for _ in range(3)]
    opened = [stream.__enter__() for stream in streams]
    refused = ask(client, "base")
    also = client.post("/chat", json={"prompt": FRANCE})
    texts = ["".join(answer.iter_text()) for answer in opened]
    for stream in streams:
        stream.__exit__(None, None, None)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    message = "Too many requests: 2 are being answered and 1 wait. Try again later."
    error = {"message": message, "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    assert refused.json()["error"] == error
    assert (also.status_code, also.json()) == (429, {"detail": message})
    assert all("[DONE]" in text for text in texts)
    assert ask(client, "base").status_code == 200  # and their places are free again
    assert "kaito_ratelimit_rejected_total 2.0" in client.get("/metrics").text


def test_a_client_that_goes_away_leaves_its_place(client: httpx.Client) -> None:
    body = {"model": "base", "stream": True, "messages": [{"role": "user", "content": FRANCE}]}
    for _ in range(5):
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            next(answer.iter_bytes())
    deadline = time.monotonic() + 20
    while "kaito_http_requests_in_flight 0.0" not in client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(client, "base").status_code == 200


def test_what_is_served_is_told(client: httpx.Client) -> None:
    assert client.get("/").json() == {"message": "Server is running", "model": "tiny-phi-3"}
    assert client.get("/healthz").json() == client.get("/health").json() == {"status": "Healthy"}
    assert client.get("/version").json()["engine"] == "vllm"
    metrics = client.get("/metrics").text
    assert "vllm:num_requests_running 0.0" in metrics
    assert "kaito_model_context_tokens 128.0" in metrics
    assert 'kaito_http_requests_total{code="200",method="GET",path="/healthz"}' in metrics
    told = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("kaito_model_"))
    assert float(told['kaito_model_memory_bytes{part="weights"}']) == 7.25 * 2**30
    assert float(told['kaito_model_memory_bytes{part="cache"}']) == 2**29
    assert float(told['kaito_model_cache_token_bytes{dtype="float32"}']) == 2**29 / 1024
    assert "kaito_prompt_tokens_total" not in metrics  # vLLM counts these
    assert set(client.get("/metrics.json").json()) == {"gpu_info", "cpu_info"}


def test_health_fails_when_vllms_engine_does(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    process, url = start(
        container_root(tmp_path), "--preset=phi-3-mini-4k-instruct", FAKE_VLLM_DEAD=str(dead)
    )
    try:
        process.ready()
        healthy = httpx.get(f"{url}/healthz")
        assert healthy.json() == {"status": "Healthy", "stand_in_weights": "tiny-phi-3"}
        assert "stand-in weights tiny-phi-3" in process.log
        dead.touch()
        assert httpx.get(f"{url}/healthz").status_code == 500
    finally:
        assert process.stop() == 0


def test_sigterm_lets_answers_end(tmp_path: Path) -> None:
    root = container_root(tmp_path)
    process, url = start(root, "--preset=tiny-phi-3", FAKE_VLLM_SLOW="0.1")
    process.ready()
    body = {"stream": True, "messages": [{"role": "user", "content": FRANCE}]}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
        pieces = answer.iter_text()
        text = next(pieces)
        ended = threading.Thread(target=process.stop)
        ended.start()
        text += "".join(pieces)
    ended.join()
    assert "[DONE]" in text
    assert process.process.returncode == 0
    assert "Got SIGTERM" in process.log


MANY_TOKENS = (
    "ValueError: 1 GiB KV cache is needed, which is larger than the available KV cache memory (0.5 GiB)."
)


@pytest.mark.parametrize(
    ("arguments", "config", "env", "code", "sentence"),
    [
        ((), "vllm: {max-modl-len: 1}", {}, 2, "vllm.max-modl-len: vLLM 0.32.0 has no such option"),
        ((), "vllm: {max-model-len: -5}", {}, 2, "vllm.max-model-len must be a whole number of at least 1"),
        ((), "vllm: {dtype_: x}", {}, 2, "inference_config.yaml: vllm.dtype_: vLLM 0.32.0 has no such option"),
        ((), "vllm: {max-num-seqs: 1, max_num_seqs: 2}", {}, 2, "vllm.max_num_seqs is set twice"),
        ((), "kv_cache_cpu_memory_utilization: 2", {}, 2, "must be a number from 0 to 0.9, the share"),
        (("--vllm=seed",), "", {}, 2, "--vllm=seed: write NAME=VALUE"),
        (("--nodes=2",), "", {}, 2, "--rendezvous=None: write HOST:PORT, where 2 nodes meet"),
        (("--nodes=2", "--rendezvous=a-0.b:1"), "", {"POD_INDEX": "2"}, 2, "this is node 2, and they are"),
        (("--adapter=missing=1",), "", {}, 3, "Adapter missing has no adapter_config.json"),
        (("--weights=/mnt",), "", {}, 5, "There is no config.json in mnt"),
        ((), "", {"FAKE_VLLM_FAILS": "RuntimeError: Failed to infer device type, please set"}, 4, "no NVIDIA GPU here"),
        ((), "", {"FAKE_VLLM_FAILS": "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"}, 1,
         "The GPUs' memory does not suffice: CUDA out of memory. Tried 2 GiB"),
        ((), "", {"FAKE_VLLM_FAILS": MANY_TOKENS}, 1,
         "The context does not fit the GPUs' memory beside the weights: 1 GiB KV cache is needed"),
        ((), "", {"FAKE_VLLM_FAILS": "ValueError: head size 7 is not supported"}, 1,
         "vLLM could not go on (ValueError): head size 7"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_ends_the_process_with_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], config: str, env: dict[str, str], code: int, sentence: str
) -> None:
    root = container_root(tmp_path)
    (root / "mnt" / "config").mkdir(parents=True)
    (root / "mnt" / "config" / "inference_config.yaml").write_text(config)
    (root / "dev").mkdir()
    (root / "dev" / "termination-log").touch()
    told = ("--preset=tiny-phi-3", "--config=/mnt/config/inference_config.yaml", *arguments)
    process, _ = start(root, *told, **env)
    assert process.exit_code() == code, process.log
    last = process.log.strip().splitlines()[-1]
    assert last.startswith("kaito-serve: ")
    assert sentence in last
    assert (root / "dev" / "termination-log").read_text().strip() in last
