"""Image references: Docker's grammar, and what to tell somebody whose reference is not one.

Grammar and limits are those of the distribution project's `reference` package, which container engines share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

NAME_LIMIT: Final = 255
"""Characters of registry and repository together."""
LENGTH_LIMIT: Final = 512
"""Characters of a whole reference: 255 of name, 128 of tag, a digest."""
DEFAULT_REGISTRY: Final = "docker.io"

_HOST_PART: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY: Final = re.compile(rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PART: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_PLACEHOLDER: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_HERE")


class InvalidImageReference(ValueError):
    """The text is no image reference; the message says what is wrong and what to write."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A parsed reference. `registry` and `repository` are normalised: `curl` is `docker.io`, `library/curl`."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def parse_image_reference(text: str) -> ImageReference:
    """`[registry/]repository[:tag][@digest]`. Raises `InvalidImageReference`."""
    rest, digest = _cut(text, "@")
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise _invalid(text, f"the digest {digest!r} is not of the form sha256:<hex digits>")
    head, slash, last = rest.rpartition("/")
    last, tag = _cut(last, ":")
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(text, f"the tag {tag!r} may only hold letters, digits, '_', '.' and '-'")
    registry, repository = _split(head + slash + last)
    if not _REGISTRY.fullmatch(registry):
        raise _invalid(
            text, f"the registry {registry!r} is no host name; it may hold letters, digits, '-' and '.'"
        )
    for part in repository.split("/"):
        if not _PART.fullmatch(part):
            raise _invalid(text, _part_problem(part))
    if len(registry) + 1 + len(repository) > NAME_LIMIT:
        raise _invalid(text, f"registry and repository are longer than {NAME_LIMIT} characters")
    return ImageReference(registry, repository, tag, digest)


def placeholders(text: str) -> list[str]:
    """Words such as ACR_REPO_HERE that an example left for the user to replace."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(text)))


def image_problem(text: str) -> str | None:
    """What is wrong with a reference, in one sentence: it cannot be parsed, or an example's placeholder is in it."""
    if len(text) > LENGTH_LIMIT:
        return f"an image reference has at most {LENGTH_LIMIT} characters; write REGISTRY/NAME:TAG"
    try:
        parse_image_reference(text)
    except InvalidImageReference as error:
        return str(error)
    return str(_invalid(text, "")) if placeholders(text) else None


def _cut(text: str, separator: str) -> tuple[str, str | None]:
    before, found, after = text.partition(separator)
    return before, after if found else None


def _split(name: str) -> tuple[str, str]:
    """The first part is a registry if it looks like a host: a dot, a colon, `localhost` or an upper-case letter."""
    first, slash, rest = name.partition("/")
    if slash and (any(mark in first for mark in ".:") or first == "localhost" or first != first.lower()):
        return first, rest
    return DEFAULT_REGISTRY, name if slash else f"library/{name}"


def _part_problem(part: str) -> str:
    if not part:
        return "a part of the repository's name is empty"
    if part != part.lower():
        return f"repository names are lower case, {part!r} is not"
    return f"{part!r} may only hold lower-case letters and digits, with '.', '_' or '-' between them"


def _invalid(text: str, problem: str) -> InvalidImageReference:
    found = placeholders(text)
    if not found:
        return InvalidImageReference(f'"{text}" is no image reference: {problem}; write REGISTRY/NAME:TAG')
    more = f" (and for {' and '.join(found[1:])} the name of your image, in lower case)" if found[1:] else ""
    return InvalidImageReference(
        f'"{text}" still holds the placeholder {found[0]}; write your registry\'s name{more}'
    )
