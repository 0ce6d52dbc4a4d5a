"""A hub on loopback that is asked about models: what they are, their files' sizes, their config.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from presets.hub_server import HubServer

COMMIT = "5a1b" * 10
OLDER = "01d3" * 10
TOKEN = "hf_let-me-in"

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
"""The shape of Llama 3.1 8B."""
LLAMA_FILES = {
    "config.json": 855,
    "model.safetensors.index.json": 23950,
    **{f"model-0000{number}-of-00004.safetensors": 4_015_000_000 for number in range(1, 5)},
    "original/consolidated.00.pth": 16_060_617_592,
}


@dataclass
class Model:
    """One repository. `config`: its config.json, or whatever bytes stand there."""

    config: dict[str, Any] | bytes = field(default_factory=lambda: dict(LLAMA))
    files: dict[str, int] = field(default_factory=lambda: dict(LLAMA_FILES))
    info: dict[str, Any] = field(default_factory=dict)
    revisions: tuple[str, ...] = (COMMIT, OLDER)
    """The newest first."""
    gated: bool = False
    config_name: str = "config.json"


class ModelHub(HubServer):
    """`models` by id; `refuse`: what the next answers are instead (status, headers)."""

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, Model] = {}
        self.refuse: list[tuple[int, dict[str, str]]] = []
        self.body: bytes | None = None
        """Answered about every model in the place of what it is."""

    def asked(self) -> list[str]:
        """The paths of all requests."""
        return [path for path, _ in self.requests]

    def tokens(self) -> set[str | None]:
        """What the requests had for an Authorization."""
        return {headers.get("Authorization") for _, headers in self.requests}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path).strip("/")
        about = path.startswith("api/models/")
        pieces = path.removeprefix("api/models/").split("/")
        model = self.models.get("/".join(pieces[:2]))
        if model is None and pieces[2:3] == ["tree"]:
            super().answer(request)
        elif self.refuse:
            status, headers = self.refuse.pop(0)
            self._send(request, status, b"{}", headers)
        elif model is None:
            self._send(request, 404, b'{"error":"Repository not found"}', {})
        elif model.gated and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            denied = request.headers.get("Authorization") is not None
            self._send(request, 403 if denied else 401, b'{"error":"gated"}', {"X-Error-Code": "GatedRepo"})
        elif about:
            self._about(request, "/".join(pieces[:2]), model, pieces[3] if len(pieces) > 3 else None)
        elif pieces[2] == "resolve" and pieces[4:] == [model.config_name]:
            raw = model.config if isinstance(model.config, bytes) else json.dumps(model.config).encode()
            self._send(request, 200, raw, {})
        else:
            self._send(request, 404, b'{"error":"Entry not found"}', {"X-Error-Code": "EntryNotFound"})

    def _about(self, request: BaseHTTPRequestHandler, id: str, model: Model, revision: str | None) -> None:
        commit = model.revisions[0] if revision in (None, "main") else revision
        if commit not in model.revisions:
            self._send(request, 404, b'{"error":"Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            return
        said = {
            "id": id,
            "sha": commit,
            "gated": "manual" if model.gated else False,
            "pipeline_tag": "text-generation",
            "tags": ["license:mit"],
            "siblings": [{"rfilename": name, "size": size} for name, size in model.files.items()],
            **model.info,
        }
        self._send(request, 200, json.dumps(said).encode() if self.body is None else self.body, {})
