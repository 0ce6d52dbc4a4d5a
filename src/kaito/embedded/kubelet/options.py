"""How the kubelet is set up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kaito.embedded.kubelet.images import ImageTable


@dataclass(frozen=True, slots=True)
class KubeletOptions:
    """All the process kubelet needs to know beside the API server.

    - `directory`: where pods get their directories; made with mode 0700, kept between starts.
    - `token`: what the API server must show (its `kubelet_token`).
    - `images`: the programs that stand for images; by default only `curlimages/curl`.
    - `stop_grace`: seconds between SIGTERM and SIGKILL when the kubelet itself is stopped.
    - `environment`: where INHERITED variables and the upstream proxy are taken from; by default the process's own.
    - `service_network`: the API server's `service_cidr`.
    """

    directory: Path
    token: str
    images: ImageTable = field(default_factory=ImageTable.default)
    stop_grace: float = 3.0
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    service_network: str = "10.96.0.0/16"

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError(
                "token: the kubelet starts programs, so it needs a token that the API server shows it"
            )

    @property
    def upstream_proxy(self) -> str:
        """The HTTP proxy that this machine needs to reach the world, from the environment; "" for none."""
        names = ("https_proxy", "HTTPS_PROXY", "http_proxy")
        return next((self.environment[name] for name in names if self.environment.get(name)), "")
