"""Talks to a Workspace's inference server through the API server's Service proxy.

That path needs nothing but a kubeconfig, so `kaito chat` and `kaito proxy` work from a laptop against any cluster: no
port-forward that breaks, no address that must be routable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from kaito.api.resources import WORKSPACES
from kaito.cli.errors import CliError
from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, NotFound, from_status
from kaito.runtime.resources import SERVICES
from kaito.runtime.transport import Request, Response, Transport

ANSWER_TIMEOUT_SECONDS = 600.0
"""A long answer of a large model on few GPUs takes minutes."""


@dataclass(frozen=True)
class InferenceService:
    """The Service of one Workspace, reached through the API server."""

    transport: Transport
    namespace: str
    name: str
    user_agent: str
    note: str = ""
    """What the user should know before asking: why the Workspace is not ready although it answers."""

    def path(self, path: str) -> str:
        """The API server's path that leads to `path` of the server."""
        return f"{SERVICES.path(self.namespace, self.name + ':80', 'proxy')}/{path.lstrip('/')}"

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        query: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        stream: bool = False,
    ) -> Response:
        request = Request(
            method=method,
            path=self.path(path),
            query=query,
            headers={"User-Agent": self.user_agent, **dict(headers)},
            body=body,
        )
        return await self.transport.send(
            request, timeout=None if stream else ANSWER_TIMEOUT_SECONDS, stream=stream
        )

    async def chat(self, prompt: str) -> str:
        """The answer of `POST /chat`, as the first users of KAITO call it.

        Raises:
            CliError: the server refused; with its own words.
        """
        response = await self.send(
            "POST",
            "/chat",
            headers=(("Content-Type", "application/json"), ("Accept", "application/json")),
            body=orjson.dumps({"prompt": prompt}),
        )
        body = await response.read()
        if response.status != 200:
            raise CliError(f"POST /chat answered {response.status}: {_words(response.status, body)}")
        answer = orjson.loads(body)
        return str(answer["Result"])

    async def stream_chat(self, messages: list[dict[str, str]]) -> AsyncIterator[str]:
        """The pieces of a streamed `POST /v1/chat/completions`.

        Raises:
            CliError: the server refused; with its own words.
        """
        response = await self.send(
            "POST",
            "/v1/chat/completions",
            headers=(("Content-Type", "application/json"), ("Accept", "text/event-stream")),
            body=orjson.dumps({"messages": messages, "stream": True, "model": await self.model()}),
            stream=True,
        )
        try:
            if response.status != 200:
                body = b"".join([chunk async for chunk in response.chunks()])
                raise CliError(f"The server answered {response.status}: {_words(response.status, body)}")
            pending = b""
            async for chunk in response.chunks():
                pending += chunk
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    piece = _piece(line)
                    if piece is None:
                        return
                    if piece:
                        yield piece
        finally:
            await response.close()

    async def model(self) -> str:
        """The id of the first served model."""
        return str((await self._first_model())["id"])

    async def is_stand_in(self) -> bool:
        """Whether small stand-in weights answer; they were taught single questions, not conversations."""
        return bool((await self._first_model()).get("stand_in_weights"))

    async def _first_model(self) -> dict[str, Any]:
        response = await self.send("GET", "/v1/models")
        body = await response.read()
        if response.status != 200:
            raise CliError(f"GET /v1/models answered {response.status}: {_words(response.status, body)}")
        try:
            first: dict[str, Any] = orjson.loads(body)["data"][0]
            if "id" in first:
                return first
        except (orjson.JSONDecodeError, LookupError, TypeError):
            pass
        raise CliError(
            f"{self.name} does not speak the OpenAI API: GET /v1/models did not list a model but answered "
            f"{body[:100].decode(errors='replace')!r}. Ask it in its own way: kubectl port-forward "
            f"-n {self.namespace} svc/{self.name} 8080:80"
        )


def _piece(line: bytes) -> str | None:
    """The text in one line of a server-sent event stream; None at its end."""
    if not line.startswith(b"data:"):
        return ""
    data = line[5:].strip()
    if data == b"[DONE]":
        return None
    event = orjson.loads(data)
    if "error" in event:
        raise CliError(f"The server stopped answering: {event['error'].get('message', event['error'])}")
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def _words(status: int, body: bytes) -> str:
    """What an error body says, whether it is the inference server's or the API server's Status."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:500].decode(errors="replace")
    if not isinstance(data, dict):
        return str(data)
    if data.get("kind") == "Status":
        return from_status(status, body).message
    detail = data.get("detail") or data.get("error") or data
    return str(detail.get("message", detail)) if isinstance(detail, dict) else str(detail)


async def find_service(
    client: Client, transport: Transport, name: str, namespace: str, user_agent: str
) -> InferenceService:
    """The inference Service of a Workspace, after looking whether it can answer.

    A Workspace that is not ready may still be served as before an edit: then the service carries a note.

    Raises:
        CliError: there is no such Workspace, or it does not answer; says why and what to look at.
    """
    try:
        workspace = await client.get(WORKSPACES, name, namespace)
    except NotFound:
        found = [item["metadata"]["name"] for item in await client.list(WORKSPACES, namespace)]
        there = f"There are: {', '.join(sorted(found))}." if found else "There are none; apply one first."
        raise CliError(f"No Workspace {name} in namespace {namespace}. {there}") from None
    except ApiError as error:
        raise CliError(f"Cannot read Workspace {namespace}/{name}: {error.message}") from None
    conditions = workspace.get("status", {}).get("conditions", [])
    ready = next((c for c in conditions if c["type"] == "InferenceReady"), None)
    if ready is None or ready["status"] != "True":
        ready = ready or next((c for c in conditions if c["type"] == "WorkspaceReady"), None)
        why = f"{ready['reason']}: {ready['message']}" if ready else "nothing has been reported yet"
        service = InferenceService(
            transport, namespace, name, user_agent, note=f"Not ready ({why}), but it answers."
        )
        try:
            await service.model()
        except CliError:
            raise CliError(
                f"Workspace {name} does not serve yet ({why}). Watch it: kubectl get workspace {name} "
                f"-n {namespace} -w"
            ) from None
        return service
    return InferenceService(transport, namespace, name, user_agent)
