"""To whom a pull secret is told."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from kaito_presets import puller
from kaito_presets.oci import BadImage
from kaito_presets.registry import Reference, Registry


def challenging(realm: str, seen: list[urllib.request.Request]) -> Any:
    """An opener that asks everybody for a token of `realm`, and notes who asked."""

    def urlopen(request: urllib.request.Request, timeout: float) -> Any:
        seen.append(request)
        headers = Message()
        headers["WWW-Authenticate"] = f'Bearer realm="{realm}",service="registry"'
        raise urllib.error.HTTPError(request.full_url, 401, "Unauthorized", headers, None)

    return urlopen


def test_a_pull_secret_is_not_sent_in_clear_because_a_registry_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[urllib.request.Request] = []
    monkeypatch.setattr(urllib.request, "urlopen", challenging("http://token.example.com/token", seen))
    registry = Registry(Reference.parse("registry.example.com/ours/model:1"), "user:secret")
    with pytest.raises(BadImage, match=r"http://token\.example\.com/token") as refused:
        registry.manifest()
    assert "secret sent" in str(refused.value)
    assert "user:secret" not in str(refused.value)
    assert [request.host for request in seen] == ["registry.example.com"]


def test_it_is_sent_to_the_token_server_that_the_registry_names(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[urllib.request.Request] = []
    monkeypatch.setattr(urllib.request, "urlopen", challenging("https://token.example.com/token", seen))
    registry = Registry(Reference.parse("registry.example.com/ours/model:1"), "user:secret")
    with pytest.raises(BadImage, match="its pull secret is not accepted"):
        registry.manifest()
    assert [request.host for request in seen] == ["registry.example.com", "token.example.com"]
    assert seen[1].unredirected_hdrs["Authorization"].startswith("Basic ")


def test_a_user_who_may_not_look_for_credentials_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mount root, as on a developer's machine: /root is somebody else's."""

    def refused(path: Path, pattern: str) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "glob", refused)
    assert puller.registry_of("registry.example/me/tiny:1")._user is None
