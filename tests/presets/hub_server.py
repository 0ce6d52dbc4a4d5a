"""A server on loopback that answers like a model hub: file lists in pages, files with Range, redirects, failures."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class HubServer:
    """`repositories[name][path]` is the content; large files (over 1000 bytes) are LFS files and served by redirect."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.break_after: list[int] = []  # for the next file answers: cut the connection after so many bytes
        self.fail_with: list[tuple[int, dict[str, str]]] = []  # for the next file answers: status and headers
        self.ignore_range = False
        self.corrupt = 0  # so many of the next file answers have a wrong byte
        self.pages_at = ""  # where the second page of a list is said to be, instead of here
        self.cdn_at = ""  # where the contents of large files are said to be, instead of here
        self.gated: set[str] = set()
        self.commits = {"main": "c" * 40}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.requests.append((self.path, dict(self.headers)))
                hub.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def file_requests(self) -> list[tuple[str, str | None]]:
        """(path in the repository, Range header) of the requests that reached a file's content."""
        found = []
        for path, headers in self.requests:
            if path.startswith("/cdn/") or ("/resolve/" in path and not self._is_large(path)):
                found.append((path.split("/", 4)[-1].removeprefix("resolve/main/"), headers.get("Range")))
        return found

    def _is_large(self, path: str) -> bool:
        _, org, name, _, _, file = path.split("/", 5)
        return len(self.repositories.get(f"{org}/{name}", {}).get(file, b"")) > 1000

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        pieces = parts.path.strip("/").split("/")
        if pieces[:2] == ["api", "models"] and (len(pieces) == 4 or pieces[4] == "revision"):
            self._revision(request, f"{pieces[2]}/{pieces[3]}", pieces[5] if len(pieces) > 4 else "main")
        elif pieces[:2] == ["api", "models"]:
            self._list(request, f"{pieces[2]}/{pieces[3]}", parts.query)
        elif pieces[0] == "cdn":
            self._content(request, self.repositories[f"{pieces[1]}/{pieces[2]}"]["/".join(pieces[3:])])
        else:
            content = self.repositories.get(f"{pieces[0]}/{pieces[1]}", {}).get("/".join(pieces[4:]))
            if content is None:
                self._send(request, 404, b"", {})
            elif len(content) > 1000:
                place = f"{self.cdn_at or self.url}/cdn/{pieces[0]}/{pieces[1]}/{'/'.join(pieces[4:])}"
                self._send(request, 302, b"", {"Location": place})
            else:
                self._content(request, content)

    def _revision(self, request: BaseHTTPRequestHandler, repository: str, revision: str) -> None:
        commit = self.commits.get(revision)
        if repository not in self.repositories or commit is None:
            self._send(request, 404, b"{}", {})
        else:
            files = [
                {"rfilename": path, "size": len(content)}
                for path, content in self.repositories[repository].items()
            ]
            said = {"id": repository, "sha": commit, "siblings": files}
            self._send(request, 200, json.dumps(said).encode(), {})

    def _list(self, request: BaseHTTPRequestHandler, repository: str, query: str) -> None:
        if repository in self.gated and request.headers.get("Authorization") != "Bearer secret":
            self._send(request, 401, b"{}", {})
            return
        files = self.repositories.get(repository)
        if files is None:
            self._send(request, 404, b"{}", {})
            return
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "original", "size": 0, "oid": "0"}]
        for path, content in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
            if len(content) > 1000:
                entry["lfs"] = {
                    "oid": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 130,
                }
            entries.append(entry)
        half = len(entries) // 2
        if "cursor=2" in query:
            self._send(request, 200, json.dumps(entries[half:]).encode(), {})
        else:
            place = f"{self.pages_at or self.url}/api/models/{repository}/tree/main?recursive=true&cursor=2"
            self._send(request, 200, json.dumps(entries[:half]).encode(), {"Link": f'<{place}>; rel="next"'})

    def _content(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        if self.fail_with:
            status, headers = self.fail_with.pop(0)
            self._send(request, status, b"", headers)
            return
        if self.corrupt:
            self.corrupt -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        offset, status = 0, 200
        wanted = request.headers.get("Range")
        if wanted and not self.ignore_range:
            offset, status = int(wanted.removeprefix("bytes=").partition("-")[0]), 206
        body = content[offset:]
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.break_after:
            request.wfile.write(body[: self.break_after.pop(0)])
            request.close_connection = True
        else:
            request.wfile.write(body)

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
