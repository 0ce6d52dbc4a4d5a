"""A small client of a Hugging Face-like hub: lists the files of a repository and reads them from any offset.

Standard library only. The token (HF_TOKEN) goes to the hub itself and never along with a redirect to another host.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

DEFAULT_ENDPOINT = "https://huggingface.co"
#: Seconds without a byte after which a connection counts as dead.
TIMEOUT_SECONDS = 30.0
#: Seconds at most that the hub may ask to be left alone for.
LONGEST_PAUSE = 600.0
_NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="next"')


class HubError(Exception):
    """The hub did not give what was asked for. str() is a sentence. `temporary`: trying again may help."""

    def __init__(self, message: str, *, temporary: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository. size in bytes. `sha256` for large files, `git_sha1` (of the git blob) for small."""

    path: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def place(self) -> str:
        """Where it is put. Publishers have GGUF files of many parts in directories; servers look at the top alone."""
        return PurePosixPath(self.path).name if self.path.lower().endswith(".gguf") else self.path


class Hub:
    """`endpoint` default: HF_ENDPOINT, else huggingface.co. `token` default: HF_TOKEN."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        if not self.endpoint.startswith(("http://", "https://")):
            raise HubError(f"HF_ENDPOINT is {self.endpoint!r}; write a URL such as {DEFAULT_ENDPOINT}.")
        if "@" in self.endpoint:  # it stands in every sentence that speaks of the hub
            raise HubError(
                f"HF_ENDPOINT holds a user or a password; write the URL alone, such as {DEFAULT_ENDPOINT}."
            )
        self._token = _header(token or os.environ.get("HF_TOKEN") or "") or None

    def commit(self, repository: str, revision: str) -> str:
        """The commit that a tag or branch means now; one that is a commit already is not asked for."""
        if re.fullmatch("[0-9a-f]{40}", revision):
            return revision
        where = f"{urllib.parse.quote(repository)}/revision/{urllib.parse.quote(revision, safe='')}"
        with self._open(f"{self.endpoint}/api/models/{where}", repository) as response:
            try:
                found = json.loads(response.read())["sha"]
            except (ValueError, KeyError, TypeError) as error:
                raise HubError(f"The hub does not say which commit {revision} of {repository} is.") from error
        return str(found)

    def files(self, repository: str, revision: str) -> list[RemoteFile]:
        """All files of a repository, sorted by path. Raises HubError."""
        where = f"{urllib.parse.quote(repository)}/tree/{urllib.parse.quote(revision, safe='')}"
        url: str | None = f"{self.endpoint}/api/models/{where}?recursive=true"
        found: list[RemoteFile] = []
        while url:
            with self._open(url, repository) as response:
                page = self._page(response.read(), repository)
                next_page = _NEXT_PAGE.search(response.headers.get("Link", ""))
            found += [_remote_file(entry) for entry in page if entry.get("type") == "file"]
            url = next_page[1] if next_page else None
        return sorted(found, key=lambda file: file.path)

    @staticmethod
    def _page(raw: bytes, repository: str) -> list[dict[str, Any]]:
        try:
            page = json.loads(raw)
        except ValueError as error:
            raise HubError(f"The hub's list of files of {repository} is not JSON.") from error
        if not isinstance(page, list):
            raise HubError(f"The hub's list of files of {repository} has an unknown shape.")
        return page

    def open(
        self, repository: str, revision: str, path: str, offset: int = 0
    ) -> AbstractContextManager[http.client.HTTPResponse]:
        """The content of a file from `offset` on. Status 206 if the hub honoured it, 200 for the whole file."""
        where = f"{urllib.parse.quote(revision, safe='')}/{urllib.parse.quote(path)}"
        url = f"{self.endpoint}/{urllib.parse.quote(repository)}/resolve/{where}"
        return self._open(url, repository, {"Range": f"bytes={offset}-"} if offset else {})

    def _open(
        self, url: str, repository: str, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "kaito-presets", **(headers or {})})
        if self._token and url.startswith(self.endpoint + "/"):
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error, repository) from error
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise HubError(f"The hub {self.endpoint} can't be reached: {reason}.", temporary=True) from error
        return response

    def _refusal(self, error: urllib.error.HTTPError, repository: str) -> HubError:
        if error.code in (401, 403):
            return HubError(
                f"The hub does not let you read {repository} (HTTP {error.code}). If it asks for a licence to be "
                f"accepted, do so at {self.endpoint}/{repository} and set HF_TOKEN to a token of that account."
            )
        if error.code == 404:
            return HubError(
                f"The hub {self.endpoint} has no repository {repository}, or not this file or revision."
            )
        text = error.headers.get("Retry-After", "")
        return HubError(
            f"The hub answered HTTP {error.code} for {repository}.",
            temporary=error.code == 429 or error.code >= 500,
            retry_after=min(float(text), LONGEST_PAUSE) if text.isdecimal() else None,
        )


def _header(token: str) -> str:
    """The token without what a file or a shell has put around it. Raises HubError, which does not tell it: what cannot
    be sent in a header would otherwise be shown by whoever finds that out."""
    found = token.strip()
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise HubError("HF_TOKEN holds what no token has: spaces, line breaks or characters beyond ASCII.")
    return found


def _remote_file(entry: dict[str, Any]) -> RemoteFile:
    path = str(entry["path"])
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise HubError(f"The hub lists a file named {path!r}, which leads out of the repository.")
    large = entry.get("lfs")
    if large:
        return RemoteFile(path, int(large["size"]), sha256=str(large["oid"]).removeprefix("sha256:"))
    return RemoteFile(path, int(entry["size"]), git_sha1=entry.get("oid"))
