"""The serving certificate, read again whenever its files change.

Files are looked at every ten seconds and, because that is cheap, at every TLS handshake, so a renewed certificate is
used by the first client that connects after the renewal. A pair that cannot be loaded (half written, key of another
certificate) is counted and logged, and the old pair goes on serving.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from kaito.runtime.clock import Clock
from kaito.runtime.logs import get_logger
from kaito.runtime.webhook.expiry import not_after
from kaito.runtime.webhook.metrics import WebhookMetrics

CERTIFICATE = "tls.crt"
KEY = "tls.key"
"""File names of a `kubernetes.io/tls` Secret that is mounted."""

log = get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class CertificateError(RuntimeError):
    """The certificate cannot be served; the text names the file."""


class CertificateWatcher:
    """Keeps a TLS context that always has the newest pair that can be used."""

    def __init__(
        self,
        directory: Path,
        metrics: WebhookMetrics,
        *,
        client_ca: Path | None = None,
        interval: float = 10.0,
    ) -> None:
        """`interval` is in seconds. With `client_ca` (PEM) clients must present a certificate of that authority."""
        self.certificate = directory / CERTIFICATE
        self.key = directory / KEY
        self._client_ca = client_ca
        self._interval = interval
        self._metrics = metrics
        self._seen: Stamp = ()
        self._serving = ""
        self._current: ssl.SSLContext | None = None
        self._context: ssl.SSLContext | None = None

    @property
    def client_ca(self) -> Path | None:
        """The authority whose clients are let in; None lets in everybody."""
        return self._client_ca

    @property
    def serving(self) -> str:
        """The certificate chain (PEM) that clients are shown at the moment."""
        return self._serving

    def open(self) -> ssl.SSLContext:
        """The context to listen with.

        Raises:
            CertificateError: there is no usable pair.
        """
        stamp = self._stamp()
        self._context = self._current = self._load()
        self._seen = stamp
        self._context.sni_callback = self._on_handshake
        return self._context

    async def run(self, clock: Clock) -> None:
        """Looks at the files until cancelled."""
        while True:
            await clock.sleep(self._interval)
            self.check()

    def check(self) -> None:
        """Reads the pair again if one of its files is another than before."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._current = self._load()
        except CertificateError as error:
            log.error("the new serving certificate cannot be used; the old one stays", error=error)
            return
        log.info("serving certificate read again", certificate=str(self.certificate))

    def _on_handshake(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.check()
        if self._current is not None and connection.context is not self._current:
            connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        self._metrics.certificate_reads += 1
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
            serving = self.certificate.read_text(encoding="ascii", errors="replace")
        except (OSError, ValueError) as error:
            self._metrics.certificate_errors += 1
            missing = [str(path) for path in (self.certificate, self.key) if not path.exists()]
            what = (
                f"{', '.join(missing)} not found"
                if missing
                else f"{self.certificate} and {self.key}: {error}"
            )
            raise CertificateError(
                f"serving certificate: {what}; the directory must hold {CERTIFICATE} and {KEY} in PEM, as a mounted "
                "kubernetes.io/tls Secret does"
            ) from error
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(cafile=self._client_ca)
            except OSError as error:
                self._metrics.certificate_errors += 1
                raise CertificateError(f"client CA {self._client_ca}: {error}") from error
        self._serving = serving
        self._metrics.certificate_expiry = not_after(serving) or 0.0
        return context

    def _stamp(self) -> Stamp:
        """What changes when a file is written or replaced; kubelet replaces a link, so links are followed."""
        found = []
        for path in (self.certificate, self.key):
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)
