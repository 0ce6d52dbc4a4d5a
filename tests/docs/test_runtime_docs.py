"""The guide is true: its pages say what the code says, and all of its code runs."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from kaito.runtime.clock import LoopClock
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import CONFIGMAPS, NAMESPACES
from kaito.runtime.webhook.certificates import VALIDATING
from kaito.testing.kube_api import KubeApi

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "runtime"
GUIDE = PAGES / "README.md"
WRITTEN = ["README.md", "from-controller-runtime.md", "from-kopf.md"]
CLOCK = LoopClock()

_BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block. `use` is the second word after the fence: "", test, kopf or file=NAME."""

    language: str
    use: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2] or "", match[3], text[: match.start()].count("\n") + 2)
        for match in _BLOCK.finditer(text)
    ]


def program(page: Path) -> str:
    """The page's own code as one module: its blocks in their order, at the lines where they stand."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and block.use in ("", "test"):
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
    return "\n".join(lines) + "\n"


def block_free_text(page: Path) -> str:
    """The page's prose."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def first_operator() -> str:
    (block,) = [block for block in blocks(GUIDE) if block.use == "file=first.py"]
    return block.text


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_options", ROOT / "hack" / "docs_options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- pages that are generated ---------------------------------------------------------------------------------


def test_generated_pages_are_fresh(generator: ModuleType) -> None:
    assert generator.stale() == [], "run `make docs`"


def test_every_option_is_on_the_page(generator: ModuleType) -> None:
    names = {cls.__name__ for cls in generator.options_classes()}
    assert names >= {
        *("ManagerOptions", "ControllerOptions", "LeaderElectionOptions", "ReflectorOptions", "Watch"),
        *("WebhookOptions", "CertificateOptions"),
    }
    page = (PAGES / "options.md").read_text(encoding="utf-8")
    assert "| `workers` | `int` | `1` |" in page
    assert all(f"## {name}\n" in page for name in names)


def test_a_field_without_a_sentence_is_an_error(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass SomeOptions:\n    size: int = 1\n"
    (tmp_path / "undocumented.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import undocumented

    monkeypatch.setattr(generator, "options_classes", lambda: [undocumented.SomeOptions])
    with pytest.raises(generator.Undocumented, match=r"SomeOptions\.size has no docstring"):
        generator.options_page()


# --- code ---------------------------------------------------------------------------------------------------------


def test_the_first_operator_is_short() -> None:
    lines = [line for line in first_operator().splitlines() if line.strip()]
    assert len(lines) <= 30
    assert blocks(GUIDE)[0].use == "file=first.py", "it opens the guide"


@asynccontextmanager
async def running(path: Path, kubeconfig: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(path), env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_first_operator_works(kube_api: KubeApi, tmp_path: Path) -> None:
    path = tmp_path / "first.py"
    path.write_text(first_operator(), encoding="utf-8")
    client = kube_api.client()
    await client.patch(NAMESPACES, kube_api.namespace, patch={"metadata": {"labels": {"greet": "world"}}})
    async with running(path, kube_api.kubeconfig) as process, CLOCK.timeout(60):
        while process.returncode is None:
            try:
                found = await client.get(CONFIGMAPS, "greeting", kube_api.namespace)
                break
            except NotFound:
                await CLOCK.sleep(0.05)
        else:
            assert process.stderr is not None
            pytest.fail((await process.stderr.read()).decode())
        assert found["data"] == {"text": "Hello, world!"}
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 0, said


async def test_the_webhooks_manifest_is_accepted(kube_api: KubeApi) -> None:
    (block,) = [block for block in blocks(GUIDE) if block.language == "yaml"]
    manifest = yaml.safe_load(block.text)
    assert manifest["webhooks"][0]["clientConfig"]["service"]["path"] in block_free_text(GUIDE)
    client = kube_api.client("guide", field_manager="guide")
    await client.create(VALIDATING, manifest)
    await client.delete(VALIDATING, manifest["metadata"]["name"])


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.slow
def test_the_code_of_a_page_runs(name: str, tmp_path: Path) -> None:
    """Its definitions are executed in their order, its tests run, as an operator's own tests would."""
    stem = name.removesuffix(".md").replace("-", "_").lower()
    path = tmp_path / f"test_{stem}.py"
    path.write_text(
        program(PAGES / name) + "\n\ndef test_definitions() -> None:\n    pass\n", encoding="utf-8"
    )
    settings = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings]
    done = subprocess.run(
        [*command, "-W", "error", "--rootdir", str(tmp_path), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_names_and_types_in_the_code_are_right(tmp_path: Path) -> None:
    """What is inside functions that nobody calls is checked as well: by mypy, with the project's settings."""
    paths = []
    for name in WRITTEN:
        path = tmp_path / f"page_{name.removesuffix('.md').replace('-', '_').lower()}.py"
        path.write_text(program(PAGES / name), encoding="utf-8")
        paths.append(str(path))
    (tmp_path / "first.py").write_text(first_operator(), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            *paths,
            str(tmp_path / "first.py"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kopf_operator_compiles() -> None:
    (block,) = [block for block in blocks(PAGES / "from-kopf.md") if block.use == "kopf"]
    code = compile(block.text, "from-kopf.md", "exec")
    assert {"apply", "ready"} <= set(code.co_names)


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    kinds = {(block.language, block.use) for name in WRITTEN for block in blocks(PAGES / name)}
    assert kinds == {
        ("python", ""),
        ("python", "test"),
        ("python", "kopf"),
        ("python", "file=first.py"),
        ("go", ""),
        ("yaml", ""),
    }


# --- prose --------------------------------------------------------------------------------------------------------


def _sources() -> str:
    folders = [ROOT / "src" / "kaito" / "runtime", ROOT / "src" / "kaito" / "testing"]
    return "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))


@pytest.mark.parametrize("name", ["from-controller-runtime.md", "from-kopf.md"])
def test_names_in_the_tables_exist(name: str) -> None:
    known = set(re.findall(r"\w+", _sources()))
    for line in (PAGES / name).read_text(encoding="utf-8").splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) < 5 or cells[2].strip() in ("here", "---"):
            continue
        for code in re.findall(r"`([^`]+)`", cells[2]):
            missing = [word for word in re.findall(r"[A-Za-z_]{4,}", code) if word not in known]
            assert not missing, f"{name}: {missing} in `{code}`"


@pytest.mark.parametrize("name", WRITTEN)
def test_metrics_that_are_named_exist(name: str) -> None:
    page = (PAGES / "metrics.md").read_text(encoding="utf-8")
    text = (PAGES / name).read_text(encoding="utf-8")
    pattern = r"`((?:kaito|informer|workqueue|controller_runtime|rest_client)_[a-z_]+[a-z])`"
    for metric in re.findall(pattern, text):
        assert f"`{metric}`" in page, metric


def test_alerts_are_about_metrics_that_exist() -> None:
    page = (PAGES / "metrics.md").read_text(encoding="utf-8")
    text = (PAGES / "deploying.md").read_text(encoding="utf-8").partition("## What to alert on")[2]
    names = set(re.findall(r"\b(?:kaito|workqueue|controller_runtime|leader_election)_[a-z_]+", text))
    assert len(names) == 9
    missing = {name for name in names if f"`{name}`" not in page}
    assert not missing


def test_links_lead_somewhere() -> None:
    for page in PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            file, _, anchor = target.partition("#")
            linked = PAGES / file if file else page
            assert linked.is_file(), f"{page.name}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{page.name}: {target}"
