"""Which images can run here, as data.

There is no container engine: an image is a name for programs of this machine. The table is passed in; what it does
not name cannot be pulled, and the message says what can.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from shutil import which
from typing import Final

ANY_COMMAND: Final = "*"


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """Programs that stand for the images whose repository matches.

    - `match`: shell pattern on the repository, without tag and digest, e.g. `*/kaito-*`. A reference without a
      registry is tried as written, with `docker.io/` and with `docker.io/library/` in front.
    - `commands`: command name (last component of the container's `command[0]`) → argv that takes its place.
      The key `*` lets any other command of this machine's PATH run as it is.
    - `default_command`: what runs when the container names no command; its args follow, and it is left out when
      the first of them is itself a command (as the entrypoint of `curlimages/curl` does).
    - `env`: the image's own environment. `contents`: container path → directory or file of this machine.
    - `stand_in`: name of the stand-in weights this image serves, for the pod's annotation; "" when they are real.
    """

    match: str
    commands: Mapping[str, Sequence[str]]
    default_command: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    stand_in: str = ""


class CommandRefused(Exception):
    """The image cannot run this command; the text is for the user."""


def curl_argv() -> tuple[str, ...]:
    """The system's curl, else the small one in Python."""
    system = which("curl")
    return (system,) if system else (sys.executable, "-I", str(Path(__file__).with_name("curl.py")))


def curl_image() -> ImageEntry:
    """`curlimages/curl`, of which only the command `curl` exists here."""
    return ImageEntry("docker.io/curlimages/curl", {"curl": curl_argv()}, default_command="curl")


def repository(reference: str) -> str:
    """A reference without its tag and digest: `localhost:5000/kaito-x:0.1@sha256:…` → `localhost:5000/kaito-x`."""
    name = reference.partition("@")[0]
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


def candidates(reference: str) -> list[str]:
    """The names under which a reference is looked up."""
    name = repository(reference)
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return [name]
    return [name, f"docker.io/{name}"] + ([] if slash else [f"docker.io/library/{name}"])


@dataclass(frozen=True, slots=True)
class ImageTable:
    """All images this machine can run; the first entry that matches wins.

    `advice`: what to do about an image that is not among them, without a full stop; "" when there is nothing.
    """

    entries: tuple[ImageEntry, ...]
    advice: str = ""

    @classmethod
    def default(cls, *more: ImageEntry, advice: str = "") -> ImageTable:
        """`more`, then the images known by themselves (`curlimages/curl`)."""
        return cls((*more, curl_image()), advice)

    def find(self, reference: str) -> ImageEntry | None:
        names = candidates(reference)
        return next((e for e in self.entries if any(fnmatchcase(n, e.match) for n in names)), None)

    def refusal(self) -> str:
        """Why any other image cannot be pulled and what to do, then which can."""
        known = ", ".join(entry.match.removeprefix("docker.io/") for entry in self.entries)
        advice = f"{self.advice}; " if self.advice else ""
        return f"this node has no container engine; {advice}it knows only: {known}"


def argv_for(entry: ImageEntry, command: Sequence[str], args: Sequence[str]) -> list[str]:
    """The argv of a container with this `command` and `args`. Raises CommandRefused."""
    if command:
        words = [*command, *args]
    elif args and (_known(entry, args[0]) or (entry.default_command and which(args[0]))):
        # Some program, not an argument of the default one: run as such, or refused by name.
        words = list(args)
    elif entry.default_command:
        words = [entry.default_command, *args]
    elif args:
        words = list(args)
    else:
        raise CommandRefused("no command specified, and the image has none of its own here")
    return translate(entry, words)


def _known(entry: ImageEntry, word: str) -> bool:
    return not word.startswith("-") and PurePosixPath(word).name in entry.commands


def translate(entry: ImageEntry, words: Sequence[str]) -> list[str]:
    """`words` with the command replaced by the program that stands for it. Raises CommandRefused."""
    prefix = entry.commands.get(PurePosixPath(words[0]).name)
    if prefix is not None:
        return [*prefix, *words[1:]]
    if ANY_COMMAND in entry.commands:
        return list(words)
    known = ", ".join(sorted(entry.commands)) or "none"
    raise CommandRefused(
        f'exec: "{words[0]}": executable file not found: images are not unpacked here; '
        f"the commands of this one are: {known}"
    )
