"""Reading a builtin object as the typed decoder of Kubernetes would, and filling in constant defaults.

Unknown fields are dropped and reported, nulls and zero values of optional fields vanish, quantities get their
canonical spelling, and a wrong JSON type is a 400 that names the field.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

import orjson

from kaito.embedded.apiserver.kinds import quantity
from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.kinds.typetable import NO_DEFAULT, Field, TypeDef
from kaito.embedded.apiserver.strategy import Object, Unreadable
from kaito.runtime.resources import Resource

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_MICROTIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
Path = tuple[Any, ...] | None
"""(parent path, name or index), or None at the root: cheap to make, turned into text only when needed."""


class _MismatchError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def dotted(path: Path, *, indices: bool = True) -> str:
    """`spec.containers[0].name`; without indices as Go's decoder prints it."""
    parts: list[Any] = []
    while path is not None:
        path, part = path
        parts.append(part)
    text = ""
    for part in reversed(parts):
        if isinstance(part, int):
            text += f"[{part}]" if indices else ""
        else:
            text += f".{part}" if text else part
    return text


def normalise(obj: Object, root: TypeDef, version: str) -> list[str]:
    """Bring `obj` into the form of `root`, in place; the paths of dropped unknown fields.

    Raises `Unreadable` for a wrong JSON type.
    """
    unknown: list[str] = []
    try:
        _object(obj, root, None, unknown)
    except _MismatchError as error:
        kind = root.name
        raise Unreadable(
            f'{kind} in version "{version}" cannot be handled as a {kind}: {error.text}'
        ) from None
    return unknown


def normalise_metadata(obj: Object, resource: Resource) -> list[str]:
    """The same for the metadata of an object whose kind is not builtin."""
    unknown: list[str] = []
    meta = obj.get("metadata")
    try:
        if meta is not None and not isinstance(meta, dict):
            raise _MismatchError("json: cannot unmarshal metadata that is not an object")
        if meta:
            _object(meta, TABLE["ObjectMeta"], (None, "metadata"), unknown)
    except _MismatchError as error:
        kind = resource.kind
        raise Unreadable(
            f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {error.text}'
        ) from None
    return unknown


def _object(value: Any, definition: TypeDef, path: Path, unknown: list[str]) -> Any:
    fields = definition.fields
    for key in list(value):
        item = fields.get(key)
        if item is None:
            if not definition.open:
                unknown.append(dotted((path, key)))
                del value[key]
            continue
        current = value[key]
        if current is None:
            del value[key]
            continue
        here = (path, key)
        if not item.shape:
            result = _single(current, item, definition, here, unknown)
        elif item.shape == "list":
            result = _list(current, item, definition, here, unknown)
        else:
            result = _map(current, item, definition, here, unknown)
        if not result and not item.keep_zero and (item.target is None or item.shape) and item.base != "raw":
            del value[key]
        elif result is not current:
            value[key] = result
    return value


def _single(value: Any, item: Field, owner: TypeDef, path: Path, unknown: list[str]) -> Any:
    if item.target is not None:
        if type(value) is not dict:
            raise _mismatch(value, owner, path, "v1." + item.base)
        return _object(value, item.target, path, unknown)
    reader = _READERS[item.base]
    try:
        return reader(value)
    except _MismatchError as error:
        raise _mismatch(value, owner, path, error.text) from None
    except ValueError as error:
        raise _MismatchError(str(error)) from None


def _list(value: Any, item: Field, owner: TypeDef, path: Path, unknown: list[str]) -> Any:
    if type(value) is not list:
        raise _mismatch(value, owner, path, f"[]{'v1.' if item.target else ''}{item.base}")
    for index, element in enumerate(value):
        if element is None:
            value[index] = {} if item.target is not None else _ZERO.get(item.base)
            continue
        result = _single(element, item, owner, (path, index), unknown)
        if result is not element:
            value[index] = result
    return value


def _map(value: Any, item: Field, owner: TypeDef, path: Path, unknown: list[str]) -> Any:
    if type(value) is not dict:
        raise _mismatch(value, owner, path, f"map[string]{item.base}")
    for key, element in value.items():
        if element is None:
            value[key] = {} if item.target is not None else _ZERO.get(item.base)
            continue
        result = _single(element, item, owner, (path, key), unknown)
        if result is not element:
            value[key] = result
    return value


def _mismatch(value: Any, owner: TypeDef, path: Path, wanted: str) -> _MismatchError:
    where = f"{owner.name}.{dotted(path, indices=False)}"
    return _MismatchError(
        f"json: cannot unmarshal {_json_type(value)} into Go struct field {where} of type {wanted}"
    )


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return f"number {value}" if isinstance(value, float) else "number"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _string(value: Any) -> Any:
    if type(value) is not str:
        raise _MismatchError("string")
    return value


def _bool(value: Any) -> Any:
    if type(value) is not bool:
        raise _MismatchError("bool")
    return value


def _integer(bits: int) -> Callable[[Any], Any]:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def read(value: Any) -> Any:
        if type(value) is not int or not low <= value <= high:
            raise _MismatchError(f"int{bits}")
        return value

    return read


def _bytes(value: Any) -> Any:
    if type(value) is not str:
        raise _MismatchError("[]uint8")
    try:
        base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except binascii.Error:
        good = re.match(r"(?:[A-Za-z0-9+/]{4})*", value)
        raise ValueError(f"illegal base64 data at input byte {good.end() if good else 0}") from None
    return value


def _time(value: Any) -> Any:
    if type(value) is not str:
        raise ValueError("json: cannot unmarshal a time that is not a string")
    if value and not _TIME.fullmatch(value):
        raise ValueError(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse it')
    return value


def _quantity(value: Any) -> Any:
    if type(value) is str or type(value) is int or type(value) is float:
        text = value if type(value) is str else orjson.dumps(value).decode()
        return quantity.canonical(text)
    raise ValueError(f"quantities must match the regular expression '{quantity.PATTERN}'")


def _int_or_string(value: Any) -> Any:
    if type(value) is not int and type(value) is not str:
        raise _MismatchError("intstr.IntOrString")
    return value


def _raw(value: Any) -> Any:
    return value


def _microtime(value: Any) -> Any:
    if type(value) is not str:
        raise ValueError("json: cannot unmarshal a time that is not a string")
    if value and not _MICROTIME.fullmatch(value):
        raise ValueError(f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse it')
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "string": _string, "bool": _bool, "int32": _integer(32), "int64": _integer(64), "bytes": _bytes,
    "time": _time, "microtime": _microtime, "quantity": _quantity, "intstr": _int_or_string, "fieldsv1": _raw,
    "raw": _raw,
}  # fmt: skip
_ZERO: dict[str, Any] = {"string": "", "bool": False, "int32": 0, "int64": 0, "bytes": "", "quantity": "0"}


def fill_defaults(value: Object, definition: TypeDef) -> None:
    """Set every constant default of the table that `value` lacks, here and below, in place."""
    for item in definition.defaults:
        if item.name not in value:
            default = item.default
            value[item.name] = {} if default is NO_DEFAULT or default == {} else default
    for item in definition.defaulted_children:
        child = value.get(item.name)
        target = item.target
        if (not child and child != {}) or target is None:
            continue
        if not item.shape:
            fill_defaults(child, target)
        else:
            for element in child if item.shape == "list" else child.values():
                fill_defaults(element, target)
