"""`kaito provisioner`: what it says about flags that cannot be, before a cluster is asked anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.provisioner.existing import SELECTOR


def kubeconfig(folder: Path) -> Path:
    """One that names a server nobody asks."""
    cluster = {"server": "https://127.0.0.1:1"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--cloud-provider=gcp"], "--cloud-provider=gcp: write existing or aks."),
        (["--existing-selector=a=b=c"], "--existing-selector=a=b=c: "),
        (["--log-format=xml"], "--log-format=xml: write json or human."),
        (["--metrics-bind-address=nowhere"], "--metrics-bind-address or --health-probe-bind-address: "),
    ],
)
def test_a_value_that_is_none_is_named(tmp_path: Path, flags: list[str], sentence: str) -> None:
    where = ["--kubeconfig", str(kubeconfig(tmp_path)), "--context=here"]
    result = CliRunner().invoke(app, ["provisioner", *where, *flags])
    assert isinstance(result.exception, CliError)
    assert str(result.exception).startswith(sentence)


def test_outside_a_cluster_it_wants_to_know_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = CliRunner().invoke(app, ["provisioner"])
    assert isinstance(result.exception, CliError)
    assert "`kaito provisioner --context NAME`" in str(result.exception)


def test_the_selectors_default_is_the_providers() -> None:
    command = next(each for each in app.registered_commands if each.callback.__name__ == "provisioner")  # type: ignore[union-attr]
    assert command.callback is not None
    assert command.callback.__defaults__ is not None
    assert SELECTOR in command.callback.__defaults__
