"""Credentials that age: renewed before their end, with exact moments."""

from __future__ import annotations

import asyncio
import base64
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kaito.runtime.clock import Clock
from kaito.runtime.credentials import CertificateFiles, ExecCredentials, TokenFile, user_credentials
from kaito.runtime.errors import ConfigurationError, CredentialsError
from kaito.runtime.exec_plugin import ExecCredential
from kaito.runtime.kubeconfig import Section
from kaito.runtime.testing import VirtualClock
from kaito.runtime.tls import TlsOptions, expiry
from runtime.sockets import make_certificates

TLS = TlsOptions("https://api.example")


def certificate(end: datetime) -> tuple[str, str]:
    """A certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1990, 1, 1, tzinfo=UTC))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), text.decode()


class FakePlugin:
    """Hands out numbered tokens and remembers when; `errors` come first."""

    def __init__(self, clock: VirtualClock, **credential: Any) -> None:
        self.clock = clock
        self.credential = credential
        self.lifetime: float | None = None
        self.at: list[float] = []
        self.failing = False
        self.duration = 0.0

    async def run(self, clock: Clock) -> ExecCredential:
        self.at.append(clock.now())
        await clock.sleep(self.duration)
        if self.failing:
            raise CredentialsError("the plugin is on strike")
        expires = clock.wall() + timedelta(seconds=self.lifetime) if self.lifetime is not None else None
        return ExecCredential(f"token-{len(self.at)}", expires=expires, **self.credential)


async def test_a_result_without_end_is_kept_for_ever(virtual_clock: VirtualClock) -> None:
    plugin = FakePlugin(virtual_clock)
    credentials = ExecCredentials(plugin, virtual_clock, TLS)
    for _ in range(3):
        assert (await credentials.current()).header == "Bearer token-1"
        await virtual_clock.sleep(86400)
    assert plugin.at == [0.0]


@pytest.mark.parametrize(("lifetime", "due"), [(3600, 3540), (100, 80), (0, 8), (-3600, 8)])
async def test_a_token_is_renewed_before_its_end(
    virtual_clock: VirtualClock, lifetime: float, due: float
) -> None:
    """An end in the past is a clock that differs: then not each request runs the plugin."""
    plugin = FakePlugin(virtual_clock)
    plugin.lifetime = lifetime
    credentials = ExecCredentials(plugin, virtual_clock, TLS)
    await credentials.current()
    await virtual_clock.sleep(due - 0.5)
    assert (await credentials.current()).header == "Bearer token-1"
    await virtual_clock.sleep(0.5)
    assert (await credentials.current()).header == "Bearer token-2"
    assert plugin.at == [0.0, due]


async def test_a_certificate_is_renewed_before_its_end(virtual_clock: VirtualClock) -> None:
    """Also where the plugin names a later end."""
    start = virtual_clock.wall()
    end = start + timedelta(days=10)
    chain, key = certificate(end)
    plugin = FakePlugin(virtual_clock, certificate=chain, key=key)
    plugin.lifetime = 1e7
    credentials = ExecCredentials(plugin, virtual_clock, TLS)
    first = await credentials.current()
    assert first.ssl_context is not None
    due = (end - start).total_seconds() - 60
    await virtual_clock.sleep(due - 1)
    assert await credentials.current() is first
    await virtual_clock.sleep(1)
    assert (await credentials.current()).header == "Bearer token-2"
    assert plugin.at == [0.0, due]


async def test_many_requests_wait_for_one_run(virtual_clock: VirtualClock) -> None:
    plugin = FakePlugin(virtual_clock)
    plugin.duration = 2.0
    credentials = ExecCredentials(plugin, virtual_clock, TLS)
    shown = await asyncio.gather(*(credentials.current() for _ in range(50)))
    assert {each.header for each in shown} == {"Bearer token-1"}
    assert plugin.at == [0.0]


async def test_a_failing_renewal_leaves_the_old_token_until_its_end(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = FakePlugin(virtual_clock)
    plugin.lifetime = 100
    credentials = ExecCredentials(plugin, virtual_clock, TLS)
    await credentials.current()
    plugin.failing = True
    await virtual_clock.sleep(80)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            assert (await credentials.current()).header == "Bearer token-1"
            await virtual_clock.sleep(2)
    with pytest.raises(CredentialsError, match="on strike"):
        await credentials.current()
    assert plugin.at == [0.0, 80.0, 90.0, 100.0]
    assert [record.msg for record in caplog.records] == [
        "credentials cannot be renewed, using the old ones to their end"
    ] * 2
    plugin.failing = False
    await virtual_clock.sleep(1)
    assert (await credentials.current()).header == "Bearer token-5"


async def test_a_failure_is_shared_by_all_who_wait(virtual_clock: VirtualClock) -> None:
    plugin = FakePlugin(virtual_clock)
    plugin.failing, plugin.duration = True, 2.0
    credentials = ExecCredentials(plugin, virtual_clock, TLS)
    answers = await asyncio.gather(*(credentials.current() for _ in range(50)), return_exceptions=True)
    assert {str(each) for each in answers} == {"the plugin is on strike"}
    assert plugin.at == [0.0]
    await virtual_clock.sleep(1)
    plugin.failing = False
    assert (await credentials.current()).header == "Bearer token-2"


async def test_refusals_renew_at_once_but_not_each_time(virtual_clock: VirtualClock) -> None:
    plugin = FakePlugin(virtual_clock)
    credentials = ExecCredentials(plugin, virtual_clock, TLS)
    await credentials.current()
    credentials.rejected()
    assert (await credentials.current()).header == "Bearer token-2"
    for _ in range(20):  # requests that were under way with the first token
        credentials.rejected()
        assert (await credentials.current()).header == "Bearer token-2"
    await virtual_clock.sleep(5)
    assert (await credentials.current()).header == "Bearer token-3"
    await virtual_clock.sleep(3600)
    credentials.rejected()
    assert (await credentials.current()).header == "Bearer token-4"
    assert plugin.at == [0.0, 0.0, 5.0, 3605.0]


async def test_a_certificate_that_does_not_fit_its_key_is_an_error(virtual_clock: VirtualClock) -> None:
    chain, _ = certificate(datetime(2030, 1, 1, tzinfo=UTC))
    _, key = certificate(datetime(2030, 1, 1, tzinfo=UTC))
    plugin = FakePlugin(virtual_clock, certificate=chain, key=key)
    with pytest.raises(CredentialsError, match=r"certificates for https://api\.example cannot be loaded"):
        await ExecCredentials(plugin, virtual_clock, TLS).current()
    assert (await ExecCredentials(plugin, virtual_clock, None).current()).ssl_context is None


async def test_certificate_files_are_followed(
    tmp_path: Path, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    files = make_certificates(tmp_path)
    section = Section({"client-certificate": "client.crt", "client-key": "client.key"}, tmp_path, "here")
    credentials = CertificateFiles(section, TLS, virtual_clock, None)
    first = (await credentials.current()).ssl_context
    await virtual_clock.sleep(60)
    assert (await credentials.current()).ssl_context is first
    chain, key = certificate(datetime(2030, 1, 1, tzinfo=UTC))
    files.client.write_text(chain)  # half of a rotation
    await virtual_clock.sleep(60)
    with caplog.at_level(logging.WARNING):
        assert (await credentials.current()).ssl_context is first
    assert "keeping the last one" in caplog.text
    files.client_key.write_text(key)
    credentials.rejected()
    second = (await credentials.current()).ssl_context
    assert second is not first
    files.client.unlink()
    await virtual_clock.sleep(60)
    assert (await credentials.current()).ssl_context is second


async def test_a_token_beside_a_certificate(tmp_path: Path, virtual_clock: VirtualClock) -> None:
    make_certificates(tmp_path)
    (tmp_path / "token").write_text("from-file")
    body = {
        "client-certificate": "client.crt",
        "client-key": "client.key",
        "tokenFile": "token",
        "token": "old",
    }
    credentials = user_credentials(
        Section(body, tmp_path, "here"), Section({}, tmp_path, "here"), "https://api", virtual_clock, TLS
    )
    assert credentials is not None
    shown = await credentials.current()
    assert shown.header == "Bearer from-file"
    assert shown.ssl_context is not None
    credentials.rejected()
    (tmp_path / "token").write_text("renewed")
    assert (await credentials.current()).header == "Bearer renewed"


async def test_the_token_in_the_kubeconfig_serves_until_the_file_can_be_read(
    tmp_path: Path, virtual_clock: VirtualClock
) -> None:
    credentials = TokenFile(tmp_path / "token", virtual_clock, initial="old")
    assert (await credentials.current()).header == "Bearer old"
    (tmp_path / "token").write_text("new\n")
    await virtual_clock.sleep(60)
    assert (await credentials.current()).header == "Bearer new"


JWT = ".".join(base64.urlsafe_b64encode(part).decode() for part in (b"{}", b"{}", b"x"))


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        ({"as": "somebody", "as-groups": ["g"]}, r"impersonation \(as, as-groups\) is not supported"),
        ({"auth-provider": {"name": "gcp"}}, r"'gcp' was removed .* \(gke-gcloud-auth-plugin\)"),
        ({"auth-provider": {"name": "azure"}}, r"'azure' was removed .* \(kubelogin\)"),
        ({"auth-provider": {"name": "oidc"}}, r"oidc has no usable id-token; log in again"),
        ({"auth-provider": {"name": "oidc"}, "exec": {"command": "x"}}, "exclude one another"),
        ({"exec": ["x"]}, "exec must be a map"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, "exec has no command"),
        ({"exec": {"command": "x", "apiVersion": "v2"}}, "'v2' of 'x' is not one of"),
        (
            {
                "exec": {
                    "command": "x",
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "interactiveMode": "Always",
                }
            },
            r"the plugin 'x' needs a terminal \(interactiveMode: Always\), which a service does not have",
        ),
        (
            {
                "exec": {
                    "command": "x",
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "interactiveMode": "Soon",
                }
            },
            "interactiveMode 'Soon' is none of",
        ),
        (
            {"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1", "args": "a"}},
            "exec args must be a list",
        ),
        (
            {
                "exec": {
                    "command": "x",
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "env": [{"value": 1}],
                }
            },
            "exec env must be a list of name and value",
        ),
        ({"client-certificate": "nowhere.crt"}, "client-certificate .*nowhere.crt: No such file"),
        ({"client-certificate-data": "?"}, "client-certificate-data is not base64"),
        ({"token": 5}, "token must be text"),
    ],
)
def test_what_cannot_be_done_is_refused(
    tmp_path: Path, virtual_clock: VirtualClock, user: dict[str, Any], complaint: str
) -> None:
    cluster = Section({}, tmp_path, "cluster")
    with pytest.raises(ConfigurationError, match=f"^here: .*{complaint}"):
        user_credentials(Section(user, tmp_path, "here"), cluster, "https://api", virtual_clock, TLS)


async def test_an_oidc_token_that_is_there_is_used(tmp_path: Path, virtual_clock: VirtualClock) -> None:
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": JWT}}}
    credentials = user_credentials(
        Section(user, tmp_path, "here"), Section({}, tmp_path, "cluster"), "https://api", virtual_clock, TLS
    )
    assert credentials is not None
    assert (await credentials.current()).header == f"Bearer {JWT}"


def test_the_end_of_a_certificate(tmp_path: Path) -> None:
    end = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    chain, _ = certificate(end)
    other, _ = certificate(datetime(2060, 1, 1, tzinfo=UTC))
    assert expiry((chain + other).encode()) == end
    assert expiry(("text before\n" + other + chain).encode()) == datetime(2060, 1, 1, tzinfo=UTC)
    for broken in (b"", b"\xff", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"):
        assert expiry(broken) is None


def test_nothing_of_a_key_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    chain, key = certificate(datetime(2030, 1, 1, tzinfo=UTC))
    TLS.context(chain.encode(), key.encode())
    with pytest.raises(ConfigurationError):
        TLS.context(chain.encode(), b"broken")
    assert list(tmp_path.iterdir()) == []
