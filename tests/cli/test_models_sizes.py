"""`kaito models sizes`: the estimate for each machine size, in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from kaito.catalog import load_catalog
from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.cli.models.sizes import SizesFlags, run_sizes


def flags(model: str, **changed: Any) -> SizesFlags:
    values = {"cloud": "azure", "context": None, "sequences": 1, "runtime": None, "json": True, **changed}
    return SizesFlags(model, **values)


def asked(capsys: pytest.CaptureFixture[str], given: SizesFlags) -> Any:
    run_sizes(given)
    return json.loads(capsys.readouterr().out)


def test_json_says_what_each_size_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, flags("microsoft/phi-4", runtime="vllm"))
    first = found["sizes"][0]
    assert found["model"] == "phi-4"
    assert (first["name"], first["nodes"], first["tensorParallel"]) == ("Standard_NV72ads_A10_v5", 1, 2)
    memory = first["memory"]
    capacity = memory.pop("capacity")
    assert sum(memory.values()) == pytest.approx(capacity, abs=0.01)
    assert memory["weights"] == pytest.approx(27.31 * 1.02 / 2, abs=0.001)
    spread = {each["name"]: each["nodes"] for each in found["sizes"]}
    assert spread["Standard_NV36ads_A10_v5"] == 2
    found = asked(capsys, flags("falcon-40b"))
    refused = {each["name"]: each for each in found["refused"]}
    assert refused["Standard_NV72ads_A10_v5"]["nodes"] == 3
    assert "Standard_NC6s_v3" not in refused, "retired sizes are not spoken of"


def test_a_longer_context_and_more_requests_need_a_larger_size(capsys: pytest.CaptureFixture[str]) -> None:
    small = asked(capsys, flags("phi-3-mini-128k-instruct"))
    assert small["sizes"][0]["name"] == "Standard_NC4as_T4_v3"
    large = asked(capsys, flags("phi-3-mini-128k-instruct", context=32768, sequences=4))
    assert large["sizes"][0]["name"] == "Standard_NC24ads_A100_v4"
    assert large["sizes"][0]["context"] == 32768


def test_prices_order_the_sizes_where_all_are_known(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "cloud": "azure",
            "region": "westeurope",
            "size": sku.name,
            "per_hour": 1000 - sku.memory_gib / 2,
            "currency": "USD",
            "dated": "2026-01-02",
            "source": "http://127.0.0.1/",
        }
        for sku in load_catalog().skus
        if sku.cloud == "azure"
    ]
    Path("prices.yaml").write_text(json.dumps({"prices": rows}))
    found = asked(capsys, flags("phi-4", prices=Path("prices.yaml")))["sizes"]
    assert found[0]["name"] == "Standard_ND96isr_H200_v5"
    assert found[0]["price"]["perHour"] == 436
    run_sizes(flags("phi-4", json=False, prices=Path("prices.yaml")))
    assert "436.00 USD" in capsys.readouterr().out
    Path("prices.yaml").write_text(json.dumps({"prices": rows[:1]}))
    found = asked(capsys, flags("phi-4", prices=Path("prices.yaml")))["sizes"]
    assert found[0]["name"] == "Standard_NV72ads_A10_v5"
    Path("prices.yaml").write_text("nothing")
    with pytest.raises(CliError, match="the price file"):
        run_sizes(flags("phi-4", prices=Path("prices.yaml")))


def test_sizes_of_another_cloud(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, flags("phi-3-mini-4k-instruct", cloud="aws"))
    names = [each["name"] for each in (*found["sizes"], *found["refused"])]
    assert "p3.2xlarge" in names
    assert not any(name.startswith(("Standard_", "g5g", "g4ad", "trn", "inf")) for name in names)


def test_the_table_names_sizes_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    run_sizes(flags("gpt-oss-120b", json=False))
    out = capsys.readouterr().out
    assert "Standard_NC40ads_H100_v5" in out
    assert "CACHE is for 8,192 tokens" in out
    assert "Note: all experts are in memory" in out
    run_sizes(flags("falcon-7b", json=False))
    assert "Not Standard_NC4as_T4_v3: falcon-7b would need 2 nodes" in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        run_sizes(flags("phi-4", json=False, context=999_999))
    assert capsys.readouterr().out.count("is above the limit of phi-4") == 1, "told once of all sizes"
    run_sizes(flags("llama-2-13b", json=False))
    out = capsys.readouterr().out
    assert "Note: only the whole need of GPU memory is recorded, not its parts." in out
    assert "CACHE is for" not in out


def test_where_no_size_will_do_the_exit_status_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        run_sizes(flags("phi-4", context=20000, json=False))
    assert ended.value.exit_code == 1
    assert "a context of 20,000 tokens is above the limit of phi-4, 16,384" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (flags("phi-44"), "phi-44 is not known; nearest: phi-4"),
        (flags("phi-4", cloud="moon"), "moon"),
        (flags("phi-4", runtime="abacus"), "--runtime abacus: write transformers, vllm, mistralrs"),
    ],
)
def test_what_is_not_known_is_named(given: SizesFlags, says: str) -> None:
    with pytest.raises(CliError, match=says):
        run_sizes(given)


def test_the_command_is_there() -> None:
    runner = CliRunner()
    found = runner.invoke(app, ["models", "sizes", "Qwen/Qwen3-8B-AWQ", "--context", "4096", "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout)["sizes"][0]["context"] == 4096
    assert runner.invoke(app, ["models", "sizes", "phi-4", "--context", "0"]).exit_code == 2
