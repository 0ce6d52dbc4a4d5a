"""Reads images and artifacts from a container registry (the OCI distribution API), every digest checked.

Standard library only. Credentials come from docker's config.json files; they go to the registry that they are for and
to the token server that it names, and never along with a redirect to where the blobs lie. A registry on this machine
is asked without TLS, as container engines do.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kaito_presets.oci import MANIFESTS, MAX_MANIFEST_BYTES, BadImage, NotThere, manifest_of

TIMEOUT_SECONDS: Final = 30.0
DOCKER_HUB: Final = "registry-1.docker.io"
_CHUNK: Final = 1024 * 1024
_REFERENCE: Final = re.compile(
    r"(?:(?P<registry>[^/@]+)/)?(?P<repository>[a-z0-9._/-]+?)(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')


class Unreachable(BadImage):
    """The registry did not answer, or said to come again: another try may help."""


class Refused(BadImage):
    """The registry does not let these credentials, or nobody without any, pull."""


class Indivisible(BadImage):
    """The registry gives blobs whole or not at all."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image reference, taken apart. `version` is a digest, or else a tag."""

    registry: str
    repository: str
    version: str

    @staticmethod
    def parse(text: str) -> Reference:
        """Raises BadImage."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise BadImage(f"{text!r} is no image reference; write REGISTRY/NAME:TAG.")
        registry, repository = match["registry"] or "", match["repository"]
        if registry and "." not in registry and ":" not in registry and registry != "localhost":
            registry, repository = "", f"{registry}/{repository}"
        if registry in ("", "docker.io", "index.docker.io"):
            registry = DOCKER_HUB
            repository = repository if "/" in repository else f"library/{repository}"
        return Reference(registry, repository, match["digest"] or match["tag"] or "latest")

    @property
    def url(self) -> str:
        """Where the repository's API is."""
        host = self.registry.rpartition(":")[0] or self.registry
        scheme = "http" if host in ("localhost", "127.0.0.1", "[::1]") else "https"
        return f"{scheme}://{self.registry}/v2/{self.repository}"


def credentials(config_files: Iterable[Path], registry: str) -> str | None:
    """`user:password` for the registry, of the first config.json that has one; None where none has.

    A file that cannot be read raises BadImage: it was mounted to be used.
    """
    names = {registry, f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/"}
    if registry == DOCKER_HUB:
        names |= {"docker.io", "index.docker.io", "https://index.docker.io/v1/"}
    for path in config_files:
        try:
            entries = json.loads(path.read_text(encoding="utf-8")).get("auths") or {}
            for name, entry in entries.items():
                if name.rstrip("/") in {each.rstrip("/") for each in names}:
                    if entry.get("auth"):
                        return base64.b64decode(entry["auth"]).decode()
                    if entry.get("username"):
                        return f"{entry['username']}:{entry.get('password', '')}"
        except (OSError, ValueError, AttributeError) as error:
            raise Refused(
                f"The pull secret {path.parent.name} holds no docker config.json; make it with kubectl create secret "
                "docker-registry."
            ) from error
    return None


class Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, user: str | None = None) -> None:
        self._reference = reference
        self._user = user
        self._authorization: str | None = None

    def manifest(self) -> dict[str, Any]:
        """The manifest of the image or artifact; of several platforms the first. Raises BadImage."""
        return self.manifest_and_digest()[0]

    def manifest_and_digest(self) -> tuple[dict[str, Any], str]:
        """The manifest, and the digest by which the same one is had again. Raises BadImage."""
        last = ""

        def read(version: str) -> dict[str, Any]:
            nonlocal last
            document, last = self._document(version)
            return document

        found = manifest_of(read(self._reference.version), lambda entry: read(str(entry.get("digest"))))
        return found, last

    def _document(self, version: str) -> tuple[dict[str, Any], str]:
        with self._open(f"manifests/{version}", {"Accept": ", ".join(MANIFESTS)}) as response:
            raw = response.read(MAX_MANIFEST_BYTES + 1)
        if len(raw) > MAX_MANIFEST_BYTES:
            raise BadImage("The registry's manifest is larger than manifests may be.")
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if version.startswith("sha256:") and digest != version:
            raise BadImage(f"The manifest {version} arrived with another digest.")
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise BadImage("The registry's manifest is not JSON.") from error
        if not isinstance(found, dict):
            raise BadImage("The registry's manifest has an unknown shape.")
        return found, digest

    def part(
        self, digest: str, start: int, length: int, *, attempts: int = 3, first_pause: float = 0.5
    ) -> bytes:
        """So many bytes of a blob, which must have them. Blocks; raises BadImage, Indivisible.

        attempts: tries. first_pause: seconds between two, doubled. A part cannot be held against the digest.
        """
        for attempt in range(1, attempts + 1):
            try:
                return self._part(digest, start, length)
            except Unreachable:
                if attempt == attempts:
                    raise
                time.sleep(first_pause * 2 ** (attempt - 1))
        raise AssertionError  # attempts is at least 1

    def _part(self, digest: str, start: int, length: int) -> bytes:
        wanted = {"Range": f"bytes={start}-{start + length - 1}"}
        with self._open(f"blobs/{digest}", wanted) as response:
            if start and response.status != 206:
                raise Indivisible(f"The registry {self._reference.registry} gives layers whole alone.")
            try:
                found = response.read(length)
            except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                raise Unreachable(f"The connection to {self._reference.registry} broke.") from error
        if len(found) < length:
            raise Unreachable(
                f"The registry {self._reference.registry} ended the transfer of {digest} early."
            )
        return found

    def fetch(
        self,
        digest: str,
        size: int,
        path: Path,
        *,
        came: Callable[[int], None] = lambda size: None,
        attempts: int = 5,
        first_pause: float = 0.5,
    ) -> None:
        """Makes `path` hold the blob, going on from PATH.partial; checked. Blocks; raises BadImage, OSError.

        came: told of bytes as they arrive. attempts: tries in a row that bring no byte. first_pause: seconds, doubled.
        """
        partial = path.with_name(path.name + ".partial")
        partial.touch()
        failures = 0
        while (have := partial.stat().st_size) < size:
            try:
                self._transfer(digest, size, partial, have, came)
            except Unreachable:
                failures = 0 if partial.stat().st_size > have else failures + 1
                if failures >= attempts:
                    raise
                time.sleep(first_pause * 2 ** max(0, failures - 1))
        with partial.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if f"sha256:{found}" != digest:
            partial.unlink()
            raise BadImage(f"The blob {digest} arrived with another digest, {found[:12]}…; pull it again.")
        partial.replace(path)

    def _transfer(
        self, digest: str, size: int, partial: Path, have: int, came: Callable[[int], None]
    ) -> None:
        with self._open(f"blobs/{digest}", {"Range": f"bytes={have}-"} if have else {}) as response:
            if have and response.status != 206:
                have = 0
            with partial.open("r+b") as out:
                out.truncate(have)
                out.seek(have)
                try:
                    while have < size and (chunk := response.read(min(_CHUNK, size - have))):
                        out.write(chunk)
                        have += len(chunk)
                        came(len(chunk))
                except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                    raise Unreachable(f"The connection to {self._reference.registry} broke.") from error
        if have < size:
            raise Unreachable(
                f"The registry {self._reference.registry} ended the transfer of {digest} early."
            )

    def _open(self, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Asks, and once more with the authorization that the first answer demands."""
        try:
            return self._ask(path, headers)
        except urllib.error.HTTPError as error:
            with error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or not challenge:
                    raise self._refusal(error.code) from error
        self._authorization = self._authorize(challenge)
        try:
            return self._ask(path, headers)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code) from error

    def _ask(self, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        request = urllib.request.Request(f"{self._reference.url}/{path}", headers=dict(headers))
        if self._authorization is not None:
            request.add_unredirected_header("Authorization", self._authorization)
        return self._send(request)

    def _send(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(
                f"The registry {self._reference.registry} can't be reached: {reason}."
            ) from error
        return response

    def _authorize(self, challenge: str) -> str:
        """The Authorization header: the credentials themselves, or a token that the named server gives for them."""
        basic = f"Basic {base64.b64encode(self._user.encode()).decode()}" if self._user else None
        if challenge.lower().startswith("basic"):
            if basic is None:
                raise self._refusal(401)
            return basic
        words = dict(_CHALLENGE.findall(challenge))
        realm = words.pop("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise BadImage(f"The registry {self._reference.registry} asks for an unknown kind of login.")
        if basic is not None and realm.startswith("http://") and self._reference.url.startswith("https://"):
            raise Refused(
                f"The registry {self._reference.registry} wants its pull secret sent to {realm}, where everybody on "
                "the way could read it; it is not sent."
            )
        words.setdefault("scope", f"repository:{self._reference.repository}:pull")
        request = urllib.request.Request(f"{realm}?{urllib.parse.urlencode(words)}")
        if basic is not None:
            request.add_unredirected_header("Authorization", basic)
        try:
            with self._send(request) as response:
                answer = json.loads(response.read(MAX_MANIFEST_BYTES))
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code) from error
        except (ValueError, KeyError, AttributeError) as error:
            raise BadImage(f"The token server of {self._reference.registry} gave no token.") from error

    def _refusal(self, status: int) -> BadImage:
        where = f"{self._reference.registry}/{self._reference.repository}"
        if status in (401, 403):
            more = "its pull secret is not accepted" if self._user else "it asks for a login"
            return Refused(
                f"The registry does not let you pull {where} (HTTP {status}): {more}; name a Secret of type "
                "kubernetes.io/dockerconfigjson in imagePullSecrets."
            )
        if status == 404:
            return NotThere(f"The registry has no {where}:{self._reference.version}.")
        kind = Unreachable if status == 429 or status >= 500 else BadImage
        return kind(f"The registry answered HTTP {status} for {where}.")
