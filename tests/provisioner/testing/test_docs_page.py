"""docs/provisioner-testing.md: its example runs, and it names every call, rule and setting there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from kaito.provisioner.testing import Boot, Call, FakeArm, Settings
from kaito.provisioner.testing.portal import Portal

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "provisioner-testing.md").read_text()


def test_the_example_is_a_test_that_passes(tmp_path: Path) -> None:
    [example] = re.findall(r"```python test\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "test_example.py").write_text(example)
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "asyncio_mode=auto",
            str(tmp_path),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 passed" in found.stdout, found.stdout + found.stderr


def test_every_call_and_setting_is_named() -> None:
    settings = {field.name for field in dataclasses.fields(Settings)}
    boots = {field.name for field in dataclasses.fields(Boot)}
    missing = [name for name in {*get_args(Call), *settings, *boots} if f"{name}" not in PAGE]
    assert missing == []


def test_every_method_that_scripts_something_is_named() -> None:
    methods = {
        name
        for owner in (FakeArm, Portal)
        for name, _ in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_") and name != "handle"
    }
    assert [name for name in sorted(methods) if f"`{name}`" not in PAGE and f"arm.{name}(" not in PAGE] == []
