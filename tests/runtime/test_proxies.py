"""Which proxy the environment means."""

from __future__ import annotations

import pytest

from kaito.runtime.errors import ConfigurationError
from kaito.runtime.proxies import check_proxy, proxy_for

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://api.example", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://api.example", {"https_proxy": PROXY}, PROXY),
        ("https://api.example", {"HTTPS_PROXY": PROXY, "https_proxy": "http://other"}, PROXY),
        ("https://api.example", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ("https://api.example", {"HTTP_PROXY": PROXY}, None),
        ("http://api.example", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://api.example", {}, None),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://localhost:6443", {"HTTPS_PROXY": PROXY}, None),
    ],
)
def test_variables(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(url, environ) == proxy


@pytest.mark.parametrize(
    ("url", "entry", "direct"),
    [
        ("https://api.example", "*", True),
        ("https://api.example", "example", True),
        ("https://api.example", ".example", True),
        ("https://api.example", "*.example", True),
        ("https://example", ".example", False),
        ("https://example", "example", True),
        ("https://badexample", "example", False),
        ("https://API.Example.", "api.example", True),
        ("https://api.example:6443", "api.example:6443", True),
        ("https://api.example:6443", "api.example:443", False),
        ("https://api.example", "api.example:443", True),
        ("https://10.0.0.1", "10.0.0.0/8", True),
        ("https://11.0.0.1", "10.0.0.0/8", False),
        ("https://10.0.0.1", "10.0.0.1", True),
        ("https://10.0.0.1:6443", "10.0.0.1:6443", True),
        ("https://10.0.0.1:6443", "10.0.0.1:1", False),
        ("https://10.0.0.1", "0.0.1", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://[fd00::1]:6443", "fd00::1", True),
        ("https://api.example", "10.0.0.0/8", False),
        ("https://api.example", "not/a/network", False),
        ("https://api.example", "", False),
    ],
)
def test_exceptions(url: str, entry: str, direct: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        environ = {"HTTPS_PROXY": PROXY, name: f"nowhere.example, {entry} ,"}
        assert proxy_for(url, environ) == (None if direct else PROXY)


@pytest.mark.parametrize("proxy", ["socks5://me:secret@proxy.example", "http://", "ftp://x"])
def test_what_cannot_be_used_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"here: the proxy .* must be an http or https URL"
    ) as caught:
        check_proxy(proxy, "here")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"\$HTTPS_PROXY"):
        proxy_for("https://api.example", {"https_proxy": proxy})
