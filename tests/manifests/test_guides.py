"""The guides name what is there: paths, settings, components, flags of commands, exit codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from kaito.cli.main import app
from kaito.cli.uninstall import run
from support.kustomize import MANIFESTS, OVERLAYS, of_kind, render

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("install.md", "upgrade.md", "uninstall.md")


def text(guide: str) -> str:
    return (DOCS / guide).read_text(encoding="utf-8")


def commands() -> Any:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands


@pytest.mark.parametrize("guide", GUIDES)
def test_paths_and_links_lead_somewhere(guide: str) -> None:
    content = text(guide)
    paths = re.findall(r"\b((?:manifests|examples)/[\w./-]+\w)", content)
    assert paths
    for path in paths:
        assert (DOCS.parent / path).exists(), path
    for link in re.findall(r"\]\(([\w./-]+\.md)\)", content):
        assert (DOCS / link).exists(), link


def test_every_overlay_component_and_setting_is_in_the_guide() -> None:
    content = text("install.md")
    for overlay in OVERLAYS:
        assert f"`{overlay}`" in content
        (config,) = of_kind(render(overlay), "ConfigMap")
        for name in config["data"]:
            assert f"`{name}`" in content
    for component in (MANIFESTS / "components").iterdir():
        assert f"components/{component.name}" in content
    known = {each.envvar for name in ("operator", "provisioner") for each in commands()[name].params}
    table = content.partition("## Settings")[2].partition("Optional parts")[0]
    assert {*re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", table)} <= known


def test_the_example_of_ones_own_renders(tmp_path: Path) -> None:
    _, _, rest = text("install.md").partition("```yaml\n")
    body = yaml.safe_load(rest.partition("```")[0])
    (resource,) = body["resources"]
    ours = Path(*([".."] * len(tmp_path.parts[1:])), *MANIFESTS.parts[1:])
    body["resources"] = [str(ours / resource.partition("manifests/")[2])]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(body))
    (deployment,) = of_kind(render(tmp_path), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/kaito/operator:")


def test_flags_and_exit_codes_of_uninstall() -> None:
    content = text("uninstall.md")
    flags = {option for each in commands()["uninstall"].params for option in each.opts}
    used = {*re.findall(r"kaito uninstall (--[\w-]+)", content), *re.findall(r"`(--[\w-]+)`", content)}
    assert used
    assert used <= flags
    codes = {int(each) for each in re.findall(r"^\| (\d) \|", content, re.MULTILINE)}
    assert codes == {0, 1, run.NOT_CONFIRMED, run.NO_OPERATOR, run.NOT_IN_TIME}
