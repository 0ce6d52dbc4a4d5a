"""A server on loopback that answers like a container registry: tokens, ranges, redirects, blobs by digest."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class RegistryServer:
    """`push` puts an image or artifact in. `users` (name to password): without one of them nobody may pull."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.users: dict[str, str] = {}
        self.basic = False  # ask for the credentials themselves, not for a token
        self.break_after: list[int] = []  # for the next blobs: cut the connection after so many bytes
        self.fail_with: list[int] = []  # for the next blobs: a status
        self.corrupt = False
        self.whole = False  # no parts of blobs
        self.requests: list[tuple[str, dict[str, str]]] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.requests.append((self.path, dict(self.headers)))
                registry.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def push(self, reference: str, *layers: tuple[str, bytes, dict[str, str]], nested: bool = False) -> None:
        """`reference`: name:tag. Each layer: media type, content, annotations."""
        entries = []
        for kind, content, notes in layers:
            entries.append(
                {"mediaType": kind, "digest": self._blob(content), "size": len(content), "annotations": notes}
            )
        body = json.dumps({"schemaVersion": 2, "layers": entries}).encode()
        name, _, tag = reference.partition(":")
        if nested:
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            self.manifests[f"{name}/{digest}"] = (MANIFEST, body)
            index = {"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, "digest": digest}]}
            self.manifests[f"{name}/{tag}"] = (INDEX, json.dumps(index).encode())
        else:
            self.manifests[f"{name}/{tag}"] = (MANIFEST, body)

    def _blob(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return digest

    def blob_requests(self) -> list[str | None]:
        """The Range headers of requests that reached a blob's content."""
        return [headers.get("Range") for path, headers in self.requests if path.startswith("/storage/")]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        if path == "/token":
            self._token(request)
        elif path.startswith("/storage/"):
            self._content(request, path.removeprefix("/storage/"))
        elif not self._may(request):
            kind = "Basic" if self.basic else "Bearer"
            challenge = f'{kind} realm="http://{self.host}/token",service="registry"'
            self._send(request, 401, b"{}", {"WWW-Authenticate": challenge})
        elif "/manifests/" in path:
            name, _, version = path.removeprefix("/v2/").partition("/manifests/")
            kind, body = self.manifests.get(f"{name}/{version}", ("", b""))
            self._send(request, 200 if body else 404, body, {"Content-Type": kind})
        else:
            place = f"http://{self.host}/storage/{path.rpartition('/')[2]}"
            self._send(request, 307, b"", {"Location": place})

    def _may(self, request: BaseHTTPRequestHandler) -> bool:
        said = request.headers.get("Authorization", "")
        return not self.users or (said == "Bearer let-in" if not self.basic else self._known(said))

    def _known(self, said: str) -> bool:
        pairs = {f"{user}:{password}" for user, password in self.users.items()}
        return any(said == f"Basic {base64.b64encode(pair.encode()).decode()}" for pair in pairs)

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        if self._known(request.headers.get("Authorization", "")):
            self._send(request, 200, json.dumps({"token": "let-in"}).encode(), {})
        else:
            self._send(request, 401, b"{}", {})

    def _content(self, request: BaseHTTPRequestHandler, digest: str) -> None:
        if self.fail_with:
            self._send(request, self.fail_with.pop(0), b"", {})
            return
        content = self.blobs[digest]
        if self.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        wanted = None if self.whole else request.headers.get("Range")
        first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
        offset, content = int(first), content[: int(last) + 1] if last else content
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(content) - offset))
        request.end_headers()
        if self.break_after:
            request.wfile.write(content[offset : offset + self.break_after.pop(0)])
            request.close_connection = True
        else:
            request.wfile.write(content[offset:])

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, Any]) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
