"""`kaito local up` and `status` say which engine answers on this machine, and what it computes on."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version

import pytest

from kaito.cli.local import commands
from kaito.cli.local.commands import engine_line
from kaito_presets.engines import device


def test_the_engine_is_named_with_its_version_and_what_it_computes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "mistralrs_device", lambda: "the GPU (arm64, by Metal)")
    monkeypatch.setattr(commands, "memory_gib", lambda: 31.95)
    named = f"mistralrs {version('mistralrs')} on the GPU (arm64, by Metal)"
    assert engine_line() == f"{named}, 31.9 GiB of memory"
    monkeypatch.setattr(commands, "memory_gib", lambda: None)
    assert engine_line() == named


def test_nothing_is_said_where_no_engine_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "mistralrs_device", lambda: "")
    assert engine_line() == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert engine_line() == ""
