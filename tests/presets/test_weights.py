"""Real weights: which files, whether they fit, and a download that resumes and verifies (against a local hub)."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito_presets import demo
from kaito_presets.weights import (
    DoesNotFit,
    Hub,
    HubError,
    Progress,
    RemoteFile,
    Source,
    check_fit,
    download,
    make_plan,
)
from kaito_presets.weights.fetch import verify
from kaito_presets.weights.plan import GIB, Plan, choose_gguf, choose_safetensors, pod_plan
from presets.hub_server import HubServer

fetch = functools.partial(download, first_pause=0.001)
BIG = random.Random(1).randbytes(700_000)
GGUF = {"README.md": b"hello", "m-q4.gguf": BIG, "m-fp16.gguf": BIG * 2}
PLAIN = {
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "model-00001-of-00002.safetensors": BIG,
    "model-00002-of-00002.safetensors": BIG[::-1],
    "model.safetensors.index.json": b"{}",
    "pytorch_model.bin": BIG,
    "original/consolidated.safetensors": BIG,
    "LICENSE": b"",
}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.repositories = {"org/m": dict(PLAIN), "org/m-gguf": dict(GGUF)}
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_a_four_bit_gguf_is_preferred(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m", gguf_repository="org/m-gguf"), tmp_path)
    assert [file.path for file in plan.files] == ["m-q4.gguf"]
    assert (plan.total, plan.missing) == (len(BIG), len(BIG))
    assert plan.memory > GIB
    assert plan.summary().startswith(
        "org/m-gguf: 1 files, 0.7 MB to download; takes 0.7 MB of disk and 1.1 GB of memory"
    )
    directory = fetch(plan, Hub(hub.url))
    assert (directory / "m-q4.gguf").read_bytes() == BIG


def test_without_gguf_the_safetensors_files_are_taken(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m"), tmp_path)
    assert [file.path for file in plan.files] == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    directory = fetch(plan, Hub(hub.url))
    assert sorted(path.name for path in directory.iterdir()) == [file.path for file in plan.files]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"], ["m-Q4_K_M.gguf"]),
        (
            ["Phi-3-mini-4k-instruct-fp16.gguf", "Phi-3-mini-4k-instruct-q4.gguf"],
            ["Phi-3-mini-4k-instruct-q4.gguf"],
        ),
        (["m.Q4_K_S.gguf", "mmproj-m.Q4_K_M.gguf"], ["m.Q4_K_S.gguf"]),
        (
            ["a/m-q4_k_m-00001-of-00002.gguf", "a/m-q4_k_m-00002-of-00002.gguf", "b/m-q4_k_m.gguf"],
            ["a/m-q4_k_m-00001-of-00002.gguf", "a/m-q4_k_m-00002-of-00002.gguf"],
        ),
        (["m-q40.gguf", "m-iq2_xs.gguf", "q4.bin"], []),
        (["m-iq2_xs.gguf", "m-Q8_0.gguf", "m-F16.gguf"], ["m-Q8_0.gguf"]),
        (["model.gguf", "mmproj-model.gguf"], ["model.gguf"]),
    ],
)
def test_choice_among_gguf_files(names: list[str], chosen: list[str]) -> None:
    assert [file.path for file in choose_gguf([RemoteFile(name, 1) for name in names])] == chosen


def test_gguf_files_in_directories_are_put_where_servers_look(hub: HubServer, tmp_path: Path) -> None:
    names = [f"Q4_K_M/m-Q4_K_M-0000{number}-of-00002.gguf" for number in (1, 2)]
    hub.repositories["org/deep"] = {name: name.encode() for name in names}
    plan = pod_plan(Hub(hub.url), "org/deep", "main", tmp_path)
    fetch(plan, Hub(hub.url))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name.removeprefix("Q4_K_M/"): name.encode() for name in names
    }
    assert pod_plan(Hub(hub.url), "org/deep", "main", tmp_path).missing == 0
    verify(plan)
    assert len(list(tmp_path.iterdir())) == 2


def test_choice_among_hugging_face_files() -> None:
    names = [
        "config.json",
        "configuration_phi3.py",
        "tokenizer.model",
        "onnx/model.safetensors",
        "sample.json",
    ]
    assert [file.path for file in choose_safetensors([RemoteFile(name, 1) for name in names])] == [
        "config.json",
        "tokenizer.model",
    ]


def test_a_broken_connection_is_resumed_where_it_broke(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m", gguf_repository="org/m-gguf"), tmp_path)
    hub.break_after = [300_000, 100_000]
    directory = fetch(plan, Hub(hub.url))
    assert (directory / "m-q4.gguf").read_bytes() == BIG
    ranges = [wanted for _, wanted in hub.file_requests()]
    assert ranges == [None, "bytes=300000-", "bytes=400000-"]


def test_another_run_goes_on_and_a_third_asks_for_nothing(hub: HubServer, tmp_path: Path) -> None:
    source = Source("org/m", gguf_repository="org/m-gguf")
    plan = make_plan(Hub(hub.url), source, tmp_path)
    hub.break_after = [300_000]
    with pytest.raises(HubError, match=r"broke|early"):
        fetch(plan, Hub(hub.url), attempts=1)
    again = make_plan(Hub(hub.url), source, tmp_path)
    assert again.present == 300_000
    assert "0.3 MB of it there already" in again.summary()
    hub.requests.clear()
    reports: list[Progress] = []
    directory = fetch(again, Hub(hub.url), reports.append)
    assert hub.file_requests() == [("m-q4.gguf", "bytes=300000-")]
    assert (directory / "m-q4.gguf").read_bytes() == BIG
    assert (reports[-1].done, reports[-1].total) == (len(BIG), len(BIG))
    hub.requests.clear()
    assert make_plan(Hub(hub.url), source, tmp_path).missing == 0
    fetch(again, Hub(hub.url))
    assert hub.file_requests() == []


def test_a_hub_that_ignores_ranges_is_read_from_the_start(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m", gguf_repository="org/m-gguf"), tmp_path)
    hub.ignore_range = True
    hub.break_after = [300_000]
    reports: list[Progress] = []
    directory = fetch(plan, Hub(hub.url), reports.append)
    assert (directory / "m-q4.gguf").read_bytes() == BIG
    assert reports[-1].done == len(BIG)
    assert [wanted for _, wanted in hub.file_requests()] == [None, "bytes=300000-"]


def test_a_wrong_checksum_is_noticed_and_tried_once_more(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m", gguf_repository="org/m-gguf"), tmp_path)
    hub.corrupt = 1
    assert (fetch(plan, Hub(hub.url)) / "m-q4.gguf").read_bytes() == BIG
    other = make_plan(Hub(hub.url), Source("org/m"), tmp_path)
    hub.corrupt = 2
    with pytest.raises(HubError, match=r"config\.json of org/m arrived with a wrong checksum, twice"):
        fetch(other, Hub(hub.url))
    assert not (other.directory / "config.json").exists()


def test_passing_failures_are_tried_again_and_lasting_ones_are_not(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m", gguf_repository="org/m-gguf"), tmp_path)
    hub.fail_with = [(503, {}), (429, {"Retry-After": "0"})]
    fetch(plan, Hub(hub.url))
    assert len(hub.file_requests()) == 3
    other = make_plan(Hub(hub.url), Source("org/m"), tmp_path)
    hub.fail_with = [(404, {})]
    with pytest.raises(HubError, match="has no repository org/m, or not this file"):
        fetch(other, Hub(hub.url))
    hub.fail_with = [(500, {})] * 5
    with pytest.raises(HubError, match="HTTP 500"):
        fetch(other, Hub(hub.url))
    assert hub.fail_with == []


def test_a_hub_cannot_ask_to_be_left_alone_for_days(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m"), tmp_path)
    hub.fail_with = [(429, {"Retry-After": "999999"})]
    with pytest.raises(HubError, match="HTTP 429") as asked:
        fetch(plan, Hub(hub.url), attempts=1)
    assert asked.value.retry_after == 600


def test_gated_and_missing_repositories(hub: HubServer, tmp_path: Path) -> None:
    hub.gated = {"org/m"}
    with pytest.raises(HubError, match=r"licence.*org/m and set HF_TOKEN"):
        make_plan(Hub(hub.url), Source("org/m"), tmp_path)
    plan = make_plan(Hub(hub.url, token="secret"), Source("org/m"), tmp_path)
    fetch(plan, Hub(hub.url, token="secret"))
    authorised = {path.split("/")[1] for path, headers in hub.requests if "Authorization" in headers}
    assert "cdn" not in authorised  # the token stays with the hub
    with pytest.raises(HubError, match="has no repository org/none"):
        make_plan(Hub(hub.url), Source("org/none"), tmp_path)
    with pytest.raises(HubError, match="has no GGUF file of 4 bits or more"):
        make_plan(Hub(hub.url, token="secret"), Source("org/m", gguf_repository="org/m"), tmp_path)
    with pytest.raises(HubError, match="has no safetensors files"):
        make_plan(Hub(hub.url), Source("org/m-gguf"), tmp_path)


def test_a_list_that_goes_on_elsewhere_does_not_take_the_token_along(hub: HubServer) -> None:
    elsewhere = HubServer()
    try:
        elsewhere.repositories = dict(hub.repositories)
        hub.pages_at = elsewhere.url
        found = Hub(hub.url, token="secret").files("org/m", "main")
        assert {file.path for file in found} == set(PLAIN)
        told = [headers.get("Authorization") for _, headers in (*hub.requests, *elsewhere.requests)]
        assert told == ["Bearer secret", None]
    finally:
        elsewhere.close()


def test_names_that_lead_elsewhere_are_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories["org/bad"] = {"../../evil.safetensors": b"x"}
    with pytest.raises(HubError, match="leads out of the repository"):
        make_plan(Hub(hub.url), Source("org/bad"), tmp_path)


def test_no_hub_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"http://127\.0\.0\.1:9 can't be reached"):
        make_plan(Hub(), Source("org/m"), tmp_path)
    with pytest.raises(HubError, match="write a URL"):
        Hub("ftp://x")


def test_a_token_from_a_file_is_sent_without_its_line_break(hub: HubServer) -> None:
    Hub(hub.url, token="secret\n").files("org/m", "main")
    assert {headers.get("Authorization") for _, headers in hub.requests} == {"Bearer secret"}


@pytest.mark.parametrize("token", ["hf_a\nb", "hf_a b", "hf_\u2013a", "hf_a\x00b", "hf_a\r\nX-More: b"])
def test_a_token_that_cannot_be_sent_is_refused_without_telling_it(token: str) -> None:
    with pytest.raises(HubError, match="HF_TOKEN holds what no token has") as refused:
        Hub("http://127.0.0.1:1", token=token)
    assert "hf_" not in str(refused.value)


def test_a_hub_with_a_password_in_its_address_is_refused_without_telling_it() -> None:
    with pytest.raises(HubError, match="holds a user or a password") as refused:
        Hub("https://me:hunter2@hub.example")
    assert "hunter2" not in str(refused.value)


def test_disk_and_memory_must_suffice(hub: HubServer, tmp_path: Path) -> None:
    plan = make_plan(Hub(hub.url), Source("org/m", gguf_repository="org/m-gguf"), tmp_path / "not" / "there")
    check_fit(plan)
    check_fit(plan, disk_free=GIB, memory_free=2 * GIB)
    with pytest.raises(
        DoesNotFit, match=r"org/m-gguf needs 538 MB of free disk and there are 100 MB in .*not/there"
    ):
        check_fit(plan, disk_free=100_000_000)
    with pytest.raises(DoesNotFit, match=r"needs 1\.1 GB of memory and 500 MB are available"):
        check_fit(plan, memory_free=500_000_000)


def test_a_gpu_takes_16_bit_numbers_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan("org/m", "main", (RemoteFile("model.safetensors", 10 * GIB),), Path(), 0)
    needed = {}
    for gpu in (False, True):
        monkeypatch.setattr("kaito_presets.weights.plan.on_gpu", lambda gpu=gpu: gpu)
        needed[gpu] = plan.memory
    assert needed == {False: 23 * GIB, True: 12 * GIB}


def test_time_left_follows_from_the_speed() -> None:
    assert Progress("a", 50, 150, 20.0).seconds_left == 5.0
    assert Progress("a", 50, 150, 0.0).seconds_left is None


async def test_what_is_downloaded_can_be_served(hub: HubServer, tmp_path: Path) -> None:
    from kaito_presets.engines import Message, Piece, Sampling, make_engine

    hub.repositories["org/tiny"] = {path.name: path.read_bytes() for path in demo.weights_path().iterdir()}
    directory = fetch(make_plan(Hub(hub.url), Source("org/tiny"), tmp_path), Hub(hub.url))
    assert not (directory / "kaito-stand-in.json").exists()
    engine = make_engine("mistralrs", directory, max_model_len=None, dtype="auto")
    engine.load({})
    question = [Message("user", "What is the capital of France?")]
    answer = engine.generate(question, Sampling(), None)
    assert (
        "".join([item.text async for item in answer if isinstance(item, Piece)])
        == "The capital of France is Paris."
    )
    await engine.close()
