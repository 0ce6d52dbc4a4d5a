"""Where the weights of a Workspace come from: what its fields, its preset and this operator's flags say together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.api.labels import USE_LOCAL_WEIGHTS_ANNOTATION
from kaito.catalog import Preset, one_machine
from kaito.controllers.workspace.config import OneMachine, WorkspaceConfig
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import key_of
from kaito.controllers.workspace.model import Object, annotations_of

LOCAL_MODELS: Final = "/opt/kaito/models"
"""Directory of the nodes where `kaito.sh/use-local-weights` looks for a directory with the preset's name, in lower case
and with - for slashes; as Go KAITO has it."""
TOKEN_KEY: Final = "HF_TOKEN"
"""Key of the Secret that `presetOptions.modelAccessSecret` names."""
_SLASHES: Final = re.compile(r"[/\\]")
COMMIT: Final = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Baked:
    """In the image that serves."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the Hugging Face hub, downloaded before the server starts."""

    repository: str
    revision: str | None
    """None: whatever the branch main holds."""
    secret: str | None = None
    """The Secret that has the token."""
    storage_class: str | None = None
    own: bool = False
    """Whether the Workspace names it, rather than its preset."""

    @property
    def pinned(self) -> bool:
        """Whether the same files come whenever they are downloaded."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image or OCI artifact, pulled before the server starts."""

    image: str
    secrets: tuple[str, ...] = ()
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the pod; `source` is a Kubernetes volume without its name."""

    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodePath:
    """A directory of the nodes."""

    path: str
    own: bool = False
    """Whether the Workspace names it, rather than where the preset's own weights are kept."""


BAKED: Final = Baked()
WeightsSource = Baked | Hub | Pulled | Volume | NodePath


def weights_source(workspace: Object, preset: Preset | None, config: WorkspaceConfig) -> WeightsSource:
    """What `inference.preset.weights` names, else the annotation for local weights, else what the preset has.

    `presetOptions.image` says what runs; unless the Workspace names weights beside it, they are in it.
    """
    written = (workspace.get("inference") or {}).get("preset") or {}
    options = written.get("presetOptions") or {}
    own = written.get("weights") or {}
    secret = options.get("modelAccessSecret") or None
    if own:
        return _named(own, secret)
    if preset is None:
        return BAKED
    if annotations_of(workspace).get(USE_LOCAL_WEIGHTS_ANNOTATION) == "true":
        return NodePath(local_path(written["name"]))
    if options.get("image") or preset.repo is None:
        return BAKED
    if config.machine is not None:
        return _on_one_machine(preset, config.machine, secret)
    if config.stand_in_weights or not downloaded(preset):
        return BAKED
    return Hub(preset.repo, preset.revision, secret)


def _on_one_machine(preset: Preset, machine: OneMachine, secret: str | None) -> WeightsSource:
    """Nothing there unpacks images: what the machine does not hold is downloaded, the publisher's GGUF files first."""
    if preset.name in machine.held or preset.repo is None:
        return BAKED
    if preset.gguf_repo is not None:
        return Hub(preset.gguf_repo, None, secret)
    return Hub(preset.repo, preset.revision, secret)


def own_weights(workspace: Object) -> WeightsSource | None:
    """Where the Workspace says that its own weights are; None where it names none."""
    written = (workspace.get("inference") or {}).get("preset") or {}
    own = written.get("weights") or {}
    options = written.get("presetOptions") or {}
    return _named(own, options.get("modelAccessSecret") or None) if own else None


def weights_key(source: WeightsSource) -> str:
    """What is found out of weights is remembered for this: the place that is named, not how it is reached."""
    match source:
        case Hub():
            return key_of({"id": source.repository, "revision": source.revision})
        case Pulled(image):
            return key_of({"image": image})
        case Volume(volume):
            return key_of({"volume": dict(volume)})
        case NodePath(path):
            return key_of({"path": path})
        case Baked():
            return key_of({})


def weights_problem(workspace: Object, preset: Preset, config: WorkspaceConfig) -> Problem | None:
    """Why the preset's weights cannot be had the way the Workspace says."""
    source = weights_source(workspace, preset, config)
    options = ((workspace.get("inference") or {}).get("preset") or {}).get("presetOptions") or {}
    if isinstance(source, Baked) and preset.private and not options.get("image"):
        text = (
            f"{preset.name} may not be published as an image; say where your own copy of its weights is, with image, "
            "huggingFace, volumeSource or path"
        )
        return Problem.at("inference.preset.weights", "InvalidSpec", text)
    if isinstance(source, Baked) and downloaded(preset) and not options.get("image"):
        text = (
            f"{preset.name} is downloaded when it is served, and this operator serves the stand-in weights "
            f"{config.stand_in_weights} alone; name weights of your own"
        )
        return Problem.at("inference.preset.weights", "InvalidSpec", text)
    if config.machine is not None and (too_much := _refused(source, preset, config.machine)) is not None:
        return too_much
    if isinstance(source, Hub) and not source.own and preset.gated and source.secret is None:
        text = (
            f"the hub gives {preset.name} only to accounts that accepted its licence; write the name of a Secret whose "
            f"key {TOKEN_KEY} holds such an account's token"
        )
        return Problem.at("inference.preset.presetOptions.modelAccessSecret", "InvalidSpec", text)
    return None


def _refused(source: WeightsSource, preset: Preset, machine: OneMachine) -> Problem | None:
    """Why the only machine cannot serve the model's own safetensors; of other weights its engine says so."""
    if not isinstance(source, Hub) or source.own or source.repository != preset.repo:
        return None
    text = one_machine.refusal(preset, machine.memory_gib, on_gpu=machine.on_gpu)
    return Problem.at("inference.preset.name", "UnsupportedModel", text) if text is not None else None


def _named(own: Mapping[str, Any], secret: str | None) -> WeightsSource:
    storage = own.get("storageClassName") or None
    if own.get("image"):
        return Pulled(own["image"], tuple(own.get("imagePullSecrets") or ()), storage)
    if own.get("huggingFace"):
        return Hub(own["huggingFace"], own.get("revision") or None, secret, storage, own=True)
    if own.get("volumeSource") is not None:
        return Volume(own["volumeSource"])
    return NodePath(own["path"], own=True)


def downloaded(preset: Preset) -> bool:
    """Whether a preset's weights are in no image of its own."""
    return preset.download or preset.image is not None


def local_path(name: str) -> str:
    """Where a node has the weights of the preset that a Workspace names so, if its administrator put them there."""
    return f"{LOCAL_MODELS}/{_SLASHES.sub('-', name.lower())}"
