"""A local server that feeds both sides the same bytes at the same pace: pods, listed, streamed and changed.

    python -m bench.runtime.feed PODS EVENTS RATE

Prints its port and the size in bytes of one event on the wire; ends when its standard input closes. Every answer is
made before it listens, so that serving costs little. LIST in pages or whole; watches with the initial list or without;
each watch then gets EVENTS changes, RATE per second, each in one chunk of always the same size, and stays open.
`GET /expire` changes one pod in a hundred and ends every watch with 410 Expired. Plain HTTP/1.1, one thread per
connection.
"""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.runtime.common import ROOT
from bench.runtime.objects import served_pod

CALM = 1.0
"""Seconds between the initial list and the first change."""
LINES_PER_CHUNK = 8
MARK = {
    "type": "BOOKMARK",
    "object": {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "000000009", "annotations": {"k8s.io/initial-events-end": "true"}},
    },
}
EXPIRED = {
    "type": "ERROR",
    "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410},
}


def _dump(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Feed(socketserver.ThreadingTCPServer):
    """The pods, the changes to come, and the watches that are open."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pods: int, events: int, rate: float) -> None:
        self.rate = rate
        self.bodies = [_dump(served_pod(number, 2)) for number in range(pods)]
        self.events = [
            _chunk(
                _dump(
                    {
                        "type": "MODIFIED",
                        "object": served_pod(event % pods, 10 + event, event=f"{event:06d}"),
                    }
                )
                + b"\n"
            )
            for event in range(events)
        ]
        if len({len(event) for event in self.events}) > 1:
            raise SystemExit("the events are not all of one size")
        self.version = 9
        self.expiring = threading.Condition()
        self.expired = 0
        super().__init__(("127.0.0.1", 0), _Connection)

    def expire(self) -> None:
        """Changes one pod in a hundred, and ends all watches."""
        with self.expiring:
            self.expired += 1
            self.version += 1
            for number in range(0, len(self.bodies), 100):
                self.bodies[number] = _dump(served_pod(number, 2 + self.expired))
            self.expiring.notify_all()


class _Connection(socketserver.StreamRequestHandler):
    server: Feed

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while line := self.rfile.readline():
                while self.rfile.readline() not in (b"\r\n", b""):
                    pass
                url = urlsplit(line.split()[1].decode())
                self.answer(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
        except OSError:
            return  # the reader has what it wanted

    def answer(self, path: str, query: dict[str, str]) -> None:
        if path == "/expire":
            self.server.expire()
            self.whole(b"{}")
        elif path != "/api/v1/pods":
            self.whole(b"{}")
        elif query.get("watch") in ("1", "true"):
            self.watch(initial=query.get("sendInitialEvents") == "true")
        else:
            self.list(int(query.get("continue") or 0), int(query.get("limit") or len(self.server.bodies)))

    def whole(self, body: bytes) -> None:
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        self.wfile.write(body)

    def list(self, start: int, size: int) -> None:
        bodies, end = self.server.bodies, start + size
        metadata = {
            "resourceVersion": f"{self.server.version:09d}",
            "continue": str(end) if end < len(bodies) else "",
        }
        head = _dump({"kind": "PodList", "apiVersion": "v1", "metadata": metadata})[:-1]
        self.whole(head + b',"items":[' + b",".join(bodies[start:end]) + b"]}")

    def watch(self, *, initial: bool) -> None:
        feed = self.server
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        seen = feed.expired
        if initial:
            lines = [b'{"type":"ADDED","object":' + body + b"}\n" for body in feed.bodies]
            for start in range(0, len(lines), LINES_PER_CHUNK):
                self.wfile.write(_chunk(b"".join(lines[start : start + LINES_PER_CHUNK])))
            self.wfile.write(_chunk(_dump(MARK) + b"\n"))
        due = time.monotonic() + CALM
        for event in feed.events:
            due += 1 / feed.rate
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            self.wfile.write(event)
        with feed.expiring:
            feed.expiring.wait_for(lambda: feed.expired > seen)
        self.wfile.write(_chunk(_dump(EXPIRED) + b"\n") + b"0\r\n\r\n")


@contextmanager
def feed(pods: int, events: int = 0, rate: float = 1.0) -> Iterator[tuple[str, int]]:
    """A running feed in a process of its own: its URL and the bytes of one event."""
    command = [sys.executable, "-m", "bench.runtime.feed", str(pods), str(events), str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port, size = process.stdout.readline().split()
        yield f"http://127.0.0.1:{port}", int(size)
    finally:
        process.stdin.close()
        process.wait(30)


def main() -> None:
    pods, events, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    server = Feed(pods, events, rate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], len(server.events[0]) if server.events else 0, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
