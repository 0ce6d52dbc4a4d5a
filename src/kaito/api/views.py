"""Read views: an object from the cache as a model, made once for each resourceVersion.

An object that does not fit its model is an answer, not an exception: `InvalidSpec` with the path, which controllers
write into a condition. So one odd object never stops the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from kaito.runtime.crd import CustomObject
from kaito.runtime.objects import CachedObject

Model = TypeVar("Model", bound=CustomObject)


@dataclass(frozen=True, slots=True)
class InvalidSpec:
    """Why an object cannot be read as its model.

    path: the field, as `inference.adapters[0].strength`. message: what is wrong and what to write.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def view(model: type[Model], obj: CachedObject) -> Model | InvalidSpec:
    """The object as `model`, or what does not fit. The result is shared: read only."""
    return obj.cached_view(_factory(model))


def parse(model: type[Model], obj: Mapping[str, Any]) -> Model | InvalidSpec:
    """The same for a plain dict."""
    parsed, problems = check(model, obj)
    return problems[0] if parsed is None or problems else parsed


def check(model: type[Model], obj: Mapping[str, Any]) -> tuple[Model | None, list[InvalidSpec]]:
    """The object as `model` (None where a field is of another type), and everything that is wrong with it."""
    try:
        parsed = model.model_validate(obj, strict=True)
    except ValidationError as error:
        return None, [
            InvalidSpec(_path(each["loc"]), _sentence(str(each["msg"]), each.get("input")))
            for each in error.errors(include_url=False, include_context=False)
        ]
    return parsed, [InvalidSpec(*each) for each in parsed.problems()]


@cache
def _factory(model: type[Model]) -> Callable[[CachedObject], Model | InvalidSpec]:
    def make(obj: CachedObject) -> Model | InvalidSpec:
        return parse(model, obj.decode())

    return make


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _sentence(message: str, value: object) -> str:
    shown = "" if isinstance(value, (dict, list)) else f" (it is {value!r})"
    return f"{message[:1].lower()}{message[1:]}{shown}"
