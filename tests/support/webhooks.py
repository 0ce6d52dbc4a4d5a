"""Reviews as an API server sends them, and certificates to serve with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from kaito.runtime.clock import LoopClock
from kaito.runtime.resources import Resource
from kaito.runtime.webhook.pki import make_certificates
from kaito.runtime.webhook.terms import Certificates

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
VALIDATE = "/validate-example-com-v1-widget"
MUTATE = "/mutate-example-com-v1-widget"


def widget(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "one", "namespace": "n"},
        "spec": spec,
    }


def review(obj: dict[str, Any] | None = None, operation: str = "CREATE", **more: Any) -> bytes:
    request = {
        "uid": "u-1",
        "operation": operation,
        "kind": {"group": "example.com", "version": "v1", "kind": "Widget"},
        "resource": {"group": "example.com", "version": "v1", "resource": "widgets"},
        "name": "one",
        "namespace": "n",
        "userInfo": {"username": "ann", "groups": ["dev"]},
        "object": obj,
        "oldObject": None,
        "dryRun": False,
        **more,
    }
    return orjson.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})


def made(days: float = 30, age: float = 0) -> Certificates:
    """Certificates for `localhost`, valid for `days`, made `age` days ago by the system's clock, which TLS looks at."""
    return make_certificates(
        ("localhost",),
        LoopClock().wall() - timedelta(days=age),
        lifetime=timedelta(days=days),
        ca_lifetime=timedelta(days=3650),
    )


def write_pair(directory: Path, certificates: Certificates) -> None:
    (directory / "tls.key").write_bytes(certificates.key)
    (directory / "tls.crt").write_bytes(certificates.chain)
