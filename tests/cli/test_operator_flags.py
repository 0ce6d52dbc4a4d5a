"""Flags of `kaito operator`: their environment variables, and sentences about values that are none."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.cli.operator import run
from kaito.cli.operator.config import OperatorConfig

ENVIRONMENT = {
    "NODE_PROVISIONER": "nodeclaim",
    "NODE_CLASS_GROUP": "karpenter.azure.com",
    "NODE_CLASS_KIND": "AKSNodeClass",
    "NODE_CLASS_NAME": "gpu",
    "CLOUD_PROVIDER": "aws",
    "PRESET_REGISTRY_NAME": "registry.example.com/kaito",
    "LEADER_ELECT": "true",
    "LOG_FORMAT": "human",
    "KAITO_PRICES": "/etc/kaito/prices/prices.yaml",
    "LOCATION": "westeurope",
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[OperatorConfig]:
    """What the command would run with."""
    configs: list[OperatorConfig] = []

    async def keep(config: OperatorConfig) -> None:
        configs.append(config)

    monkeypatch.setattr(run, "run_operator", keep)
    return configs


def test_a_deployment_configures_it_by_environment_variables(given: list[OperatorConfig]) -> None:
    result = CliRunner().invoke(app, ["operator"], env=ENVIRONMENT)
    assert result.exit_code == 0, result.output
    (config,) = given
    assert config.node_provisioner == "nodeclaim"
    node_class = (config.node_class_group, config.node_class_kind, config.node_class_name)
    assert node_class == ("karpenter.azure.com", "AKSNodeClass", "gpu")
    assert (config.cloud, config.preset_registry) == ("aws", "registry.example.com/kaito")
    assert (config.leader_elect, config.log_format) == (True, "human")
    assert (str(config.prices), config.price_region) == (ENVIRONMENT["KAITO_PRICES"], "westeurope")


def test_a_flag_wins_over_its_variable_and_an_empty_variable_is_none(given: list[OperatorConfig]) -> None:
    flags = ["--node-class-name=mine", "--cloud=azure", "--no-leader-elect"]
    result = CliRunner().invoke(app, ["operator", *flags], env={**ENVIRONMENT, "PRESET_REGISTRY_NAME": ""})
    assert result.exit_code == 0, result.output
    (config,) = given
    assert (config.node_class_name, config.cloud, config.leader_elect) == ("mine", "azure", False)
    assert config.preset_registry is None


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--node-class-group=karpenter.azure.com"], "without a kind"),
        (["--node-class-kind=AKSNodeClass"], "without a group"),
        (
            ["--node-class-group=karpenter.azure.com/v1beta1", "--node-class-kind=AKSNodeClass"],
            "has a version",
        ),
        (["--cloud=gcp"], "use azure, aws, arc"),
        (["--prices=/nowhere/prices.yaml"], "the price file /nowhere/prices.yaml cannot be read"),
    ],
)
def test_a_value_that_is_none_is_named(flags: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["operator", *flags])
    assert isinstance(result.exception, CliError)
    assert sentence in str(result.exception)


@pytest.mark.parametrize("command", ["operator", "provisioner"])
def test_help_names_flags_in_full_where_a_terminal_has_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, [command, "--help"], terminal_width=80).output
    for flag in ("--health-probe-bind-address", "--initialization-timeout", "--existing-selector"):
        assert f"{flag} " in shown
