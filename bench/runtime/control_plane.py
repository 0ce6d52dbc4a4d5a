"""A real etcd and kube-apiserver for as long as a bench takes, with nothing else that would touch its objects.

No scheduler, no controllers, and no ServiceAccount admission (which would wait for a controller): what was written
is what is read.
"""

from __future__ import annotations

import json
import secrets
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.runtime.common import go
from kaito.api.crds import crd_manifests
from kaito.embedded.apiserver.security import kubeconfig, make_identity, write_private
from kaito.testing.backends.binaries import Binaries
from kaito.testing.backends.keys import account_keys
from kaito.testing.backends.programs import Programs, free_port

READY_WITHIN = 60.0
"""Seconds for the two programs to start, and for a CRD to be served."""


@dataclass(frozen=True)
class ControlPlane:
    """A running API server and how to reach it."""

    directory: Path
    url: str
    token: str

    @property
    def kubeconfig(self) -> str:
        return str(self.directory / "kubeconfig")

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Raises urllib.error.HTTPError for answers that are not 2xx."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        trust = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            return bytes(answer.read())

    def version(self) -> str:
        return str(json.loads(self.request("GET", "/version"))["gitVersion"])

    def install_crds(self) -> None:
        """KAITO's, as its operator installs them."""
        for crd in crd_manifests():
            self.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        _until(lambda: self.request("GET", "/apis/kaito.sh/v1beta1/workspaces"), "Workspaces are served")

    def load(self, kind: str, template: Mapping[str, Any], start: int, end: int) -> None:
        """Writes objects numbered from `start` to before `end`, each with its number for NUMBER."""
        file = self.directory / f"{kind}.json"
        file.write_text(json.dumps(template))
        flags = (
            f"--kubeconfig={self.kubeconfig}",
            f"--template={file}",
            f"--kind={kind}",
            f"--from={start}",
            f"--to={end}",
        )
        go("load", *flags)


@contextmanager
def control_plane() -> Iterator[ControlPlane]:
    """Starts both programs, and ends them with everything they wrote."""
    binaries = Binaries().find(["etcd", "kube-apiserver"])
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as folder:
        directory = Path(folder)
        port, etcd_port = free_port(), free_port()
        plane = ControlPlane(directory, f"https://127.0.0.1:{port}", secrets.token_urlsafe(24))
        _write_files(plane)
        programs = Programs(directory)
        environment = {"HOME": folder, "TMPDIR": folder}
        etcd = f"http://127.0.0.1:{etcd_port}"
        etcd_flags = (
            f"--data-dir={directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--log-level=warn",
            f"--quota-backend-bytes={8 << 30}",
        )
        api_flags = (
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={directory}",
            f"--tls-cert-file={directory / 'serving.crt'}",
            f"--tls-private-key-file={directory / 'serving.key'}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-issuer={plane.url}",
            f"--service-account-key-file={directory / 'accounts.pub'}",
            f"--service-account-signing-key-file={directory / 'accounts.key'}",
            "--endpoint-reconciler-type=none",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=2000",
        )
        try:
            programs.start("etcd", [str(binaries["etcd"]), *etcd_flags], environment)
            programs.start("kube-apiserver", [str(binaries["kube-apiserver"]), *api_flags], environment)
            _until(lambda: plane.request("GET", "/readyz"), "kube-apiserver is ready", programs)
            yield plane
        finally:
            programs.close()


def _write_files(plane: ControlPlane) -> None:
    identity = make_identity(["127.0.0.1"], datetime.now(UTC))
    signing, checking = account_keys()
    files = {
        "ca.crt": identity.ca,
        "serving.crt": identity.chain,
        "serving.key": identity.key,
        "accounts.key": signing,
        "accounts.pub": checking,
        "tokens.csv": f'{plane.token},bench,bench,"system:masters"\n'.encode(),
        "kubeconfig": kubeconfig("bench", plane.url, identity.ca, plane.token),
    }
    for name, data in files.items():
        write_private(plane.directory / name, data)


def _until(works: Any, what: str, programs: Programs | None = None) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            works()
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                words = "" if programs is None else programs.last_words()
                raise SystemExit(f"not within {READY_WITHIN:g} s: {what} ({error})\n{words}") from error
            time.sleep(0.05)
