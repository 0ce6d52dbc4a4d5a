"""`inference.preset.weights`: the user's own weights for a preset's architecture, and where they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from kaito.api import sentences
from kaito.api.parts import NAME_LIMIT, Image, PullSecrets
from kaito.runtime.crd import Object, Rule, Schemaless

HUB_ID: Final = "^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"
"""`organisation/model`, as a regular expression of CEL and of Python."""
HUB_ID_LIMIT: Final = 200
REVISION: Final = "^[A-Za-z0-9][A-Za-z0-9._/-]*$"
"""A commit, tag or branch."""
UPWARDS: Final = "(^|/)[.][.](/|$)"
"""What a path of a node may not hold."""
PATH_LIMIT: Final = 1024

_SOURCES: Final = " + ".join(
    f"({each} ? 1 : 0)"
    for each in (
        "has(self.image) && self.image != ''",
        "has(self.huggingFace)",
        "has(self.volumeSource)",
        "has(self.path)",
    )
)
_FETCHED: Final = "(has(self.image) && self.image != '') || has(self.huggingFace)"


class Weights(Object):
    """Weights of the preset's architecture, from somewhere else than the preset's own: say, your own fine-tuning."""

    image: Image | None = None
    """Image or OCI artifact that holds the files, pulled before the server starts."""
    image_pull_secrets: PullSecrets | None = None
    """Secrets of the namespace with which the image is pulled."""
    hugging_face: (
        Annotated[
            str, Field(max_length=HUB_ID_LIMIT), Rule(f"self.matches('{HUB_ID}')", sentences.WEIGHTS_HUB_ID)
        ]
        | None
    ) = None
    """Repository of the Hugging Face hub, such as my-organisation/my-phi-3, downloaded before the server starts."""
    revision: (
        Annotated[
            str, Field(max_length=NAME_LIMIT), Rule(f"self.matches('{REVISION}')", sentences.WEIGHTS_REVISION)
        ]
        | None
    ) = None
    """Commit of that repository; unset: the newest when the Workspace is first served."""
    volume_source: Schemaless | None = None
    """A volume of the pod (`persistentVolumeClaim`, …) with the files in it, without its name; only read."""
    path: (
        Annotated[
            str,
            Field(max_length=PATH_LIMIT),
            Rule(
                f"self.startsWith('/') && size(self) > 1 && !self.matches('{UPWARDS}')",
                sentences.WEIGHTS_PATH,
            ),
        ]
        | None
    ) = None
    """Directory of the nodes that holds the files; only read."""
    storage_class_name: Annotated[str, Field(min_length=1, max_length=NAME_LIMIT)] | None = None
    """Storage class of the volume that what is pulled or downloaded goes to, such as one of local NVMe disks; unset:
    the node's own disk."""

    validations = (
        Rule(f"{_SOURCES} == 1", sentences.WEIGHTS_ONE_SOURCE),
        Rule("!has(self.revision) || has(self.huggingFace)", sentences.WEIGHTS_REVISION_ALONE, ".revision"),
        Rule(
            f"!has(self.storageClassName) || {_FETCHED}",
            sentences.WEIGHTS_STORAGE_ALONE,
            ".storageClassName",
        ),
    )


def weights_problems(weights: Weights, path: str) -> Iterator[tuple[str, str]]:
    """What the CEL rules demand, of weights that are stored already; they stand at `path`."""
    fetched = bool(weights.image) + (weights.hugging_face is not None)
    if fetched + (weights.volume_source is not None) + (weights.path is not None) != 1:
        yield path, sentences.WEIGHTS_ONE_SOURCE
    if weights.hugging_face is not None and not re.fullmatch(HUB_ID, weights.hugging_face):
        yield f"{path}.huggingFace", sentences.WEIGHTS_HUB_ID
    if weights.revision is not None:
        if weights.hugging_face is None:
            yield f"{path}.revision", sentences.WEIGHTS_REVISION_ALONE
        if not re.fullmatch(REVISION, weights.revision):
            yield f"{path}.revision", sentences.WEIGHTS_REVISION
    if weights.path is not None and (
        len(weights.path) < 2 or weights.path[0] != "/" or _upwards(weights.path)
    ):
        yield f"{path}.path", sentences.WEIGHTS_PATH
    if weights.storage_class_name is not None and not fetched:
        yield f"{path}.storageClassName", sentences.WEIGHTS_STORAGE_ALONE


def _upwards(path: str) -> bool:
    return re.search(UPWARDS, path) is not None
