"""The optional configuration file: the ConfigMap that a Workspace names in `inference.config`.

Its shape is the one of KAITO's own: settings of an engine below the engine's name, some general keys beside them.

    vllm:
      max-model-len: 8192
      dtype: float16
    max_probe_steps: 6

Which engine runs is the image's business, so the settings that mean the same in each of them are taken from whatever
engine's section they are in (the running engine's wins). The engine vllm takes all of its own section; the rest is
ignored, and said so. As in KAITO, the file beats the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kaito_presets.engines import ENGINES

DTYPES = {"auto": "auto", "half": "float16", "float": "float32"} | {
    name: name for name in ("float16", "bfloat16", "float32")
}

#: A general key of KAITO's: how much of the free memory extends the GPUs' caches.
_CACHE_SHARE = "kv_cache_cpu_memory_utilization"
#: Values of a file, each counted as often as it is meant. Those that people write have some dozens.
MOST_VALUES = 10_000
_SETTINGS = ("max_model_len", "max_num_seqs", "max_queued", "dtype", "served_model_name")


class BadConfig(ValueError):
    """The file can't be used. str() is a sentence with the key's path."""


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What a file sets (None: nothing), and the paths of the keys that have no effect here."""

    max_model_len: int | None = None
    dtype: str | None = None
    served_model_name: str | None = None
    ignored: list[str] = field(default_factory=list)
    max_num_seqs: int | None = None
    max_queued: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """What the running engine's section sets beside these, where the engine takes it: vllm."""
    kv_cache_share: float = 0.0


def read_config(path: Path, engine: str) -> FileSettings:
    """Raises BadConfig."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"The configuration file {path.name} can't be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 1})" if place else ""
        raise BadConfig(f"The configuration file {path.name} is not YAML{where}.") from error
    except RecursionError as error:
        raise BadConfig(f"The configuration file {path.name} is nested too deeply.") from error
    if not _is_small(document):
        raise BadConfig(
            f"The configuration file {path.name} stands for more than {MOST_VALUES} values; write fewer aliases (*)."
        )
    if document is None:
        return FileSettings()
    if not isinstance(document, dict):
        raise BadConfig(
            f"The configuration file {path.name} must be a mapping (vllm: {{max-model-len: 4096}})."
        )
    found: dict[str, Any] = {}
    options: dict[str, Any] = {}
    seen: set[str] = set()
    ignored = []
    sections = sorted((name for name in document if name in ENGINES), key=lambda name: name == engine)
    for section in sections:
        values = document[section] or {}
        if not isinstance(values, dict):
            raise BadConfig(f"{path.name}: {section} must be a mapping of settings.")
        for key, value in values.items():
            setting = str(key).replace("-", "_")
            if setting in _SETTINGS:
                if section == engine and setting in seen:
                    raise BadConfig(f"{path.name}: {section}.{key} is set twice; keep one of the two.")
                seen |= {setting} if section == engine else set()
                found[setting] = _checked(setting, value, f"{path.name}: {section}.{key}")
            elif section == engine == "vllm":
                options[str(key)] = value
            else:
                ignored.append(f"{section}.{key}")
    general = [str(key) for key in document if key not in ENGINES]
    if engine == "vllm" and _CACHE_SHARE in general:
        general.remove(_CACHE_SHARE)
        found["kv_cache_share"] = _share(document[_CACHE_SHARE], f"{path.name}: {_CACHE_SHARE}")
    return FileSettings(**found, ignored=ignored + general, options=options)


def _is_small(document: object) -> bool:
    """Whether it is no more than a settings file can be. A few lines of aliases can stand for gigabytes."""
    found, left = 0, [document]
    while left and found <= MOST_VALUES:
        value = left.pop()
        found += 1
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | set | tuple):
            left += value
    return found <= MOST_VALUES


def _share(value: object, where: str) -> float:
    try:
        share = float(str(value)) if not isinstance(value, bool) else -1.0
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 0.9:
        raise BadConfig(
            f"{where} must be a number from 0 to 0.9, the share of the free memory, not {value!r}."
        )
    return share


def _checked(setting: str, value: object, where: str) -> int | str | None:
    if setting.startswith("max_"):
        if value == "auto" and setting == "max_model_len":
            return None
        text = str(value)
        if isinstance(value, bool) or not text.isdecimal() or int(text) < 1:
            auto = ", or auto," if setting == "max_model_len" else ","
            raise BadConfig(f"{where} must be a whole number of at least 1{auto} not {value!r}.")
        return int(text)
    if setting == "dtype":
        if not isinstance(value, str) or value not in DTYPES:
            raise BadConfig(f"{where} must be one of {', '.join(sorted(DTYPES))}, not {value!r}.")
        return DTYPES[str(value)]
    if not isinstance(value, str) or not value:
        raise BadConfig(f"{where} must be a name, not {value!r}.")
    return value
