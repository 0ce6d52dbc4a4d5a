"""`kaito provisioner`: what it says about flags that cannot be, before a cluster is asked anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.cli.operator.clouds import FOR_PROVISIONER, choose
from kaito.cli.operator.config import CloudFlags
from kaito.controllers.machine import Limits
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


def test_the_deadlines_defaults_are_the_controllers() -> None:
    flags = CloudFlags(cloud_provider="existing")
    told = (flags.launch_timeout, flags.registration_timeout, flags.initialization_timeout)
    limits = Limits()
    assert told == (limits.launch_timeout, limits.registration_timeout, limits.initialization_timeout)


def test_the_deadlines_reach_the_controller() -> None:
    flags = CloudFlags(
        cloud_provider="existing", launch_timeout=1, registration_timeout=2, initialization_timeout=3
    )
    cloud = choose(flags, FOR_PROVISIONER)
    assert cloud is not None
    assert cloud.limits == Limits(1, 2, 3)


@pytest.mark.parametrize("command", ["operator", "provisioner"])
def test_a_deadline_of_no_time_is_refused(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--launch-timeout=0"])
    assert result.exit_code == 2
    assert "--launch-timeout" in result.output
