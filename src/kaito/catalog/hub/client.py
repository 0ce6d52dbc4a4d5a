"""Asks a Hugging Face hub about one model: what it is, and its config.json at that very commit.

Two requests for a model; a third where it is in Mistral's own layout. The token goes to the hub alone, never along with
a redirect to another host.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import aiohttp

from kaito.catalog.hub.errors import ACCESS_DENIED, NOT_FOUND, UNREACHABLE, HubError, unsupported
from kaito.catalog.hub.files import weight_files
from kaito.catalog.hub.gguf import only_gguf
from kaito.catalog.hub.model import Answers, is_hub_id, preset_of, sizes_of, true_id
from kaito.catalog.hub.shape import parse_json, quantised_by
from kaito.catalog.hub.tensors import FIRST_BYTES, MOST_FILES, Held, header_length, shapes
from kaito.catalog.models import Preset
from kaito.runtime.clock import Clock

ENDPOINT: Final = "https://huggingface.co"
ENDPOINT_VARIABLE: Final = "HF_ENDPOINT"
TOKEN_VARIABLE: Final = "HF_TOKEN"
TIMEOUT: Final = 30.0
"""Seconds for one answer. Go KAITO."""
MOST_INFO: Final = 32 * 2**20
"""Bytes of the hub's answer about a repository; one with ten thousand files has 3 MiB."""
MOST_CONFIG: Final = 4 * 2**20
LONGEST_WAIT: Final = 3600.0
"""Seconds for which a hub may send us away."""
USER_AGENT: Final = "kaito"


class HubClient:
    """`endpoint`: where the hub is, without a slash at its end. ValueError, with a sentence, for no URL."""

    def __init__(self, endpoint: str, clock: Clock) -> None:
        self.endpoint = endpoint.strip().rstrip("/")
        if not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{ENDPOINT_VARIABLE} is {endpoint!r}; write a URL such as {ENDPOINT}")
        if "@" in self.endpoint:  # it stands in every message that speaks of the hub
            raise ValueError(
                f"{ENDPOINT_VARIABLE} holds a user or a password; write the URL alone, such as {ENDPOINT}"
            )
        self._clock = clock

    @classmethod
    def of_environment(cls, clock: Clock, environment: Mapping[str, str] = os.environ) -> HubClient:
        """The hub that HF_ENDPOINT names, or huggingface.co. Raises ValueError."""
        return cls(environment.get(ENDPOINT_VARIABLE) or ENDPOINT, clock)

    async def preset(self, id: str, revision: str | None = None, token: str | None = None) -> Preset:
        """The model as an entry of the catalogue, always with its commit. revision: a commit, branch or tag; None: the
        newest. Raises HubError."""
        if not is_hub_id(id):
            raise HubError(NOT_FOUND, f"{id!r} is no model's id; they look like org/name")
        async with self._session(token) as session:
            info = parse_json(await self._info(session, id, revision, token), f"the hub's answer about {id}")
            commit = str(info.get("sha") or revision or "main")
            id = true_id(info, id)
            sizes = sizes_of(info, id)
            if only_gguf(sizes):
                return preset_of(id, Answers(info, {}))
            files = weight_files(sizes, id)
            name = "params.json" if files.mistral and "config.json" not in sizes else "config.json"
            config = parse_json(await self._file(session, id, commit, name, token), f"{name} of {id}")
        return preset_of(id, Answers(info, config, name))

    async def held(self, id: str, revision: str | None = None, token: str | None = None) -> Held:
        """What is in the repository at that commit, branch or tag, told from config.json and the beginnings of its
        weight files. Raises HubError, also where it has none that are safe to open."""
        async with self._session(token) as session:
            info = parse_json(await self._info(session, id, revision, token), f"the hub's answer about {id}")
            commit = str(info.get("sha") or revision or "main")
            everywhere = sizes_of(info, id)
            sizes = {name: size for name, size in everywhere.items() if "/" not in name}
            files = [
                name for name in sizes if name.endswith(".safetensors") and not name.startswith("adapter")
            ]
            if not files and any(name.endswith(".gguf") for name in everywhere):
                return Held(commit, {}, {})
            if not files:
                raise unsupported(
                    f"{id} has no *.safetensors at its top; save the whole model there (a LoRA adapter belongs in "
                    "inference.adapters)"
                )
            size = weight_files(sizes, id).size
            if "config.json" not in sizes:
                return Held(commit, {}, {}, size)  # Mistral's own layout
            config = parse_json(
                await self._file(session, id, commit, "config.json", token), f"config.json of {id}"
            )
            tensors: dict[str, tuple[int, ...]] = {}
            for name in sorted(files) if len(files) <= MOST_FILES else ():
                tensors |= await self._shapes(session, id, commit, name, token)
        return Held(commit, config, tensors, size, quantised_by(config))

    async def _shapes(
        self, session: aiohttp.ClientSession, id: str, commit: str, name: str, token: str | None
    ) -> dict[str, tuple[int, ...]]:
        """The tensors of a file, of which only the beginning is read."""
        path, what = f"/{quote(id)}/resolve/{quote(commit, safe='')}/{quote(name)}", f"{name} of {id}"
        start = await self._get(session, path, what, id, token, FIRST_BYTES, beginning=True)
        length = header_length(start, what)
        if length > len(start):
            start = await self._get(session, path, what, id, token, length, beginning=True)
        return shapes(start[8:length], what)

    async def revision(self, id: str, token: str | None = None) -> str:
        """The newest commit. Raises HubError."""
        async with self._session(token) as session:
            info = parse_json(await self._info(session, id, None, token), f"the hub's answer about {id}")
        commit = info.get("sha")
        if not isinstance(commit, str) or len(commit) != 40:
            raise HubError(NOT_FOUND, f"the hub does not say at which commit {id} is")
        return commit

    def _session(self, token: str | None) -> aiohttp.ClientSession:
        headers = {"User-Agent": USER_AGENT, **({"Authorization": f"Bearer {token}"} if token else {})}
        return aiohttp.ClientSession(
            headers=headers, trust_env=True, timeout=aiohttp.ClientTimeout(total=None, sock_connect=None)
        )

    async def _info(
        self, session: aiohttp.ClientSession, id: str, revision: str | None, token: str | None
    ) -> bytes:
        where = f"/revision/{quote(revision, safe='')}" if revision is not None else ""
        what = id if revision is None else f"{id} at {revision}"
        return await self._get(
            session, f"/api/models/{quote(id)}{where}?blobs=true", what, id, token, MOST_INFO
        )

    async def _file(
        self, session: aiohttp.ClientSession, id: str, commit: str, name: str, token: str | None
    ) -> bytes:
        path = f"/{quote(id)}/resolve/{quote(commit, safe='')}/{quote(name)}"
        return await self._get(session, path, f"{name} of {id}", id, token, MOST_CONFIG)

    async def _get(
        self,
        session: aiohttp.ClientSession,
        path: str,
        what: str,
        id: str,
        token: str | None,
        most: int,
        *,
        beginning: bool = False,
    ) -> bytes:
        """All of it, at most that many bytes; or as many bytes of the beginning as there are."""
        headers = {"Range": f"bytes=0-{most - 1}"} if beginning else {}
        try:
            async with (
                self._clock.timeout(TIMEOUT),
                session.get(self.endpoint + path, headers=headers) as response,
            ):
                if response.status in (200, 206) and beginning:
                    return await _start(response, most)
                if response.status == 200:
                    return await _body(response, what, most)
                raise self._refusal(response, what, id, token)
        except TimeoutError:
            raise HubError(
                UNREACHABLE, f"the hub {self.endpoint} did not answer within {TIMEOUT:g} s about {what}"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error)[:200] or type(error).__name__
            raise HubError(
                UNREACHABLE,
                f"the hub {self.endpoint} cannot be reached ({why}); {ENDPOINT_VARIABLE} names another, and models of "
                "the catalogue need none",
            ) from None

    def _refusal(self, response: aiohttp.ClientResponse, what: str, id: str, token: str | None) -> HubError:
        status = response.status
        if status in (401, 403):
            return HubError(ACCESS_DENIED, self._denied(id, token, response))
        if status == 404:
            return HubError(NOT_FOUND, f"the hub {self.endpoint} has no {what}")
        text = response.headers.get("Retry-After", "")
        wait = min(float(text), LONGEST_WAIT) if text.isascii() and text.isdigit() else None
        if status == 429:
            return HubError(
                UNREACHABLE,
                f"the hub {self.endpoint} has had too many questions (HTTP 429) and is asked about {what} again later",
                retry_after=wait,
            )
        return HubError(
            UNREACHABLE, f"the hub {self.endpoint} answered HTTP {status} about {what}", retry_after=wait
        )

    def _denied(self, id: str, token: str | None, response: aiohttp.ClientResponse) -> str:
        """The hub also denies what is not there, to those who might not see it."""
        missing = response.headers.get("X-Error-Code") == "RepoNotFound"
        if token is None:
            text = f"{id} is gated, private or not there: the hub wants a token"
            return f"{text}; there may be no such model" if missing else text
        return (
            f"the token may not read {id} (HTTP {response.status}): accept its licence at {self.endpoint}/{id} with "
            "the account of the token, and let the token read gated repositories"
        )


async def _start(response: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) >= most:
            break
    return bytes(body[:most])


async def _body(response: aiohttp.ClientResponse, what: str, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > most:
            raise HubError(UNREACHABLE, f"the hub's answer about {what} is larger than {most // 2**20} MiB")
    return bytes(body)
