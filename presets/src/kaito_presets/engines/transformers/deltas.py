"""LoRA adapters beside the weights: each row of a batch gets the change of its own adapter, or none.

The weights themselves are never touched, so one copy of them answers for every adapter and for `base`, in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kaito_presets import lora
from kaito_presets.adapters import BadAdapter


class Deltas:
    """Hooks on the changed modules. `select` before every call of the model says which row has which adapter."""

    def __init__(self, model: Any, adapters: Mapping[str, Path]) -> None:
        """Raises BadAdapter for a change of something that is no plain linear layer of this model."""
        self._groups: list[tuple[str, Any]] = []
        self._device = model.device
        changes: dict[str, dict[str, tuple[Any, Any]]] = {}
        for key, directory in adapters.items():
            for module, change in lora.load(directory.parent, directory.name, None).changes.items():
                target = _linear(model, key, module)
                parameter = next(target.parameters())
                a, b = (
                    torch.from_numpy(side.T.copy()).to(parameter.device, model.dtype)
                    for side in (change.a, change.b * change.scale)
                )
                changes.setdefault(module, {})[key] = (a, b)
        for module, parts in changes.items():
            model.get_submodule(module).register_forward_hook(self._hook(parts))

    def select(self, keys: Sequence[str | None]) -> None:
        """One key for each row of the next batch; None is the base model."""
        wanted = dict.fromkeys(key for key in keys if key is not None)
        if len(wanted) == 1 and None not in keys:
            self._groups = [(key, None) for key in wanted]
            return
        self._groups = [
            (
                key,
                torch.tensor([row for row, mine in enumerate(keys) if mine == key], device=self._device),
            )
            for key in wanted
        ]

    def _hook(self, parts: Mapping[str, tuple[Any, Any]]) -> Any:
        def add(_: Any, arguments: tuple[Any, ...], output: Any) -> Any:
            (inputs, *_) = arguments
            for key, rows in self._groups:
                if key not in parts:
                    continue
                a, b = parts[key]
                if rows is None:
                    output = output + (inputs @ a) @ b
                else:
                    rows = rows.to(output.device)
                    output = output.index_add(0, rows, (inputs[rows] @ a) @ b)
            return output

        return add


def _linear(model: Any, key: str, module: str) -> Any:
    try:
        target = model.get_submodule(module)
    except AttributeError:
        target = None
    if not isinstance(target, torch.nn.Linear) or ".experts." in module:
        raise BadAdapter(
            f"Adapter {key.lstrip('/')} changes {module}, which is no plain linear layer of this model as the "
            "transformers library builds it, so it can't be applied. Train the adapter on the attention's layers."
        )
    return target
