"""A Workspace as YAML with comments: what each part is for, and what one may write there. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kaito.catalog import Preset
from kaito.cli.new.sources import Adapter

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. preset: None for a model that only the hub knows, which `model` names."""

    name: str
    model: str
    preset: Preset | None
    instance_type: str | None = None
    weights: Object | None = None
    secret: str | None = None
    adapters: Sequence[Adapter] = ()


def workspace_yaml(wish: Wish) -> str:
    """The manifest, ready to be applied."""
    return "\n".join((*_head(wish), *_resource(wish), *_inference(wish))) + "\n"


def _head(wish: Wish) -> Iterator[str]:
    yield from (f"# {line}" for line in _about(wish))
    yield "#"
    yield "#   kaito plan -f FILE       what it needs and costs, before anything is bought"
    yield "#   kubectl apply -f FILE"
    yield f"#   kaito chat {wish.name}"
    yield from ("apiVersion: kaito.sh/v1beta1", "kind: Workspace", "metadata:", f"  name: {wish.name}")


def _about(wish: Wish) -> Iterator[str]:
    preset = wish.preset
    if preset is None:
        yield f"{wish.model} is not in the catalogue: the operator asks the Hugging Face hub what it is."
        return
    said = [f"licence {preset.licence}" if preset.licence else "licence not recorded"]
    if preset.weights_gib is not None:
        said.append(f"{preset.weights_gib:g} GiB of weights")
    if preset.context_tokens is not None:
        said.append(f"a context of at most {preset.context_tokens:,} tokens")
    yield f"{preset.name}: {', '.join(said)}."
    if wish.weights is None and preset.repo is not None:
        commit = (
            f"commit {preset.revision[:12]}"
            if preset.revision
            else "the newest commit when it is first served"
        )
        yield f"Weights: {preset.repo}, {commit}."


def _resource(wish: Wish) -> Iterator[str]:
    yield from ("resource:", "  labelSelector:")
    yield "    matchLabels:  # labels of the nodes: new ones get them; nodes that are there already need them"
    yield f"      apps: {wish.name}"
    if wish.instance_type is not None:
        yield f"  instanceType: {_text(wish.instance_type)}  # machine size of the nodes; cannot change"
    else:
        yield "  # instanceType: a machine size; without one the cheapest that fits is chosen, and the status says why"
    yield "  # count: nodes; without it as many as the model needs"


def _inference(wish: Wish) -> Iterator[str]:
    name = wish.preset.name if wish.preset is not None else wish.model
    yield from ("inference:", "  preset:", f"    name: {_text(name)}")
    if wish.weights is not None:
        yield from _weights(wish.weights, name)
    if wish.secret is not None:
        yield "    presetOptions:"
        yield f"      # kubectl create secret generic {wish.secret} --from-literal=HF_TOKEN=TOKEN"
        yield f"      modelAccessSecret: {_text(wish.secret)}"
    yield "  # config: a ConfigMap whose key inference_config.yaml has settings, such as vllm: {max-model-len: 8192}"
    if not wish.adapters:
        yield "  # adapters: LoRA adapters; see kaito new --help"
        return
    yield "  adapters:  # the model's name answers with all of them, an adapter's name with that one, base with none"
    for each in wish.adapters:
        yield from _adapter(each)


def _weights(weights: Object, preset: str) -> Iterator[str]:
    yield f"    weights:  # in place of the preset's own; checked to be those of a {preset}"
    for key, value in weights.items():
        if key == "volumeSource":
            yield "      volumeSource:  # config.json, the tokenizer's files and *.safetensors at its top"
            yield "        persistentVolumeClaim:"
            yield f"          claimName: {_text(value['persistentVolumeClaim']['claimName'])}"
        else:
            yield f"      {key}: {_text(value)}{_note(key)}"
    if "huggingFace" in weights and "revision" not in weights:
        yield "      # revision: a commit; without it the newest when the Workspace is made, kept from then on"
    if "huggingFace" in weights or "image" in weights:
        yield "      # storageClassName: where the files go, such as a class of NVMe disks; else the node's own disk"


def _note(key: str) -> str:
    return {
        "image": "  # files under /workspace/weights or /data, or an artifact whose layers are files",
        "path": "  # on every node: config.json, the tokenizer's files and *.safetensors",
    }.get(key, "")


def _adapter(adapter: Adapter) -> Iterator[str]:
    if adapter.source is None:
        yield "    - adapterRef:  # an Adapter that is there already"
        yield f"        name: {_text(adapter.name)}"
    else:
        yield "    - source:"
        yield f"        name: {_text(adapter.name)}"
        if "image" in adapter.source:
            yield f"        image: {_text(adapter.source['image'])}"
        else:
            claim = adapter.source["volumeSource"]["persistentVolumeClaim"]["claimName"]
            yield "        volumeSource:"
            yield "          persistentVolumeClaim:"
            yield f"            claimName: {_text(claim)}"
    yield f'      strength: "{adapter.strength}"'


def _text(value: str) -> str:
    """The value as YAML: as it is where that is plainly text, else in quotes."""
    plain = value[:1].isalpha() and all(each.isalnum() or each in "-_./:@" for each in value)
    plain = plain and value.lower() not in ("yes", "no", "true", "false", "on", "off", "null", "y", "n")
    return value if plain and not value.endswith(":") else json.dumps(value)
