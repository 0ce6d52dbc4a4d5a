"""The OpenAPI v2 document in the protobuf form that client-go asks for.

Field numbers are those of gnostic's OpenAPIv2.proto. Only what `swagger` writes can be encoded; anything else is a
KeyError here, not a document that lacks it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

_Encode = Callable[[int, Any], bytes]
"""The bytes of a field with this number and value; of several where the field is repeated."""


def encode_swagger(document: Mapping[str, Any]) -> bytes:
    """The document as an `openapi.v2.Document` message."""
    return _message(_DOCUMENT, document)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _integer(number: int, value: int) -> bytes:
    """Also true and false; negative ones as 64-bit two's complement."""
    return _varint(number << 3) + _varint(value & (1 << 64) - 1)


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _any(number: int, value: Any) -> bytes:
    """Any value, as YAML text."""
    return _bytes(number, _bytes(2, orjson.dumps(value) + b"\n"))


def _each(encode: _Encode) -> _Encode:
    return lambda number, values: b"".join(encode(number, value) for value in values)


def _in(wrapper: int, encode: _Encode) -> _Encode:
    """The value is field `wrapper` of a message of its own."""
    return lambda number, value: _bytes(number, encode(wrapper, value))


def _named(wrapper: int, encode: _Encode) -> _Encode:
    """A map: a message whose repeated field `wrapper` has pairs of name and value."""

    def pairs(number: int, value: Mapping[str, Any]) -> bytes:
        found = (_bytes(wrapper, _text(1, name) + encode(2, each)) for name, each in value.items())
        return _bytes(number, b"".join(found))

    return pairs


_Fields = dict[str, tuple[int, _Encode]]
_EXTENSIONS: Final = "x-"
"""Stands in a table for every field whose name starts so."""


def _extension(number: int, pair: tuple[str, Any]) -> bytes:
    return _bytes(number, _text(1, pair[0]) + _any(2, pair[1]))


def _message(fields: _Fields, value: Mapping[str, Any]) -> bytes:
    out = []
    for name, each in value.items():
        if name.startswith(_EXTENSIONS):
            number, encode = fields[_EXTENSIONS]
            out.append(encode(number, (name, each)))
        else:
            number, encode = fields[name]
            out.append(encode(number, each))
    return b"".join(out)


def _of(fields: _Fields) -> _Encode:
    return lambda number, value: _bytes(number, _message(fields, value))


def _schema(number: int, value: Mapping[str, Any]) -> bytes:
    """Schemas hold schemas."""
    return _bytes(number, _message(_SCHEMA, value))


def _additional(number: int, value: Any) -> bytes:
    inner = _integer(2, value) if isinstance(value, bool) else _schema(1, value)
    return _bytes(number, inner)


def _types(number: int, value: str) -> bytes:
    return _bytes(number, _text(1, value))


_SCHEMA: Final[_Fields] = {
    "$ref": (1, _text),
    "format": (2, _text),
    "title": (3, _text),
    "description": (4, _text),
    "default": (5, _any),
    "multipleOf": (6, _double),
    "maximum": (7, _double),
    "exclusiveMaximum": (8, _integer),
    "minimum": (9, _double),
    "exclusiveMinimum": (10, _integer),
    "maxLength": (11, _integer),
    "minLength": (12, _integer),
    "pattern": (13, _text),
    "maxItems": (14, _integer),
    "minItems": (15, _integer),
    "uniqueItems": (16, _integer),
    "maxProperties": (17, _integer),
    "minProperties": (18, _integer),
    "required": (19, _each(_text)),
    "enum": (20, _each(_any)),
    "additionalProperties": (21, _additional),
    "type": (22, _types),
    "items": (23, _in(1, _schema)),
    "properties": (25, _named(1, _schema)),
    _EXTENSIONS: (31, _extension),
}
_BODY: Final[_Fields] = {
    "name": (2, _text),
    "in": (3, _text),
    "required": (4, _integer),
    "schema": (5, _schema),
}
_QUERY: Final[_Fields] = {
    "required": (1, _integer),
    "in": (2, _text),
    "name": (4, _text),
    "type": (6, _text),
    "uniqueItems": (20, _integer),
}
_PATH: Final[_Fields] = {
    "required": (1, _integer),
    "in": (2, _text),
    "name": (4, _text),
    "type": (5, _text),
    "uniqueItems": (18, _integer),
}


def _parameter(number: int, value: Mapping[str, Any]) -> bytes:
    """A choice within a choice within a choice: by what it is a parameter of."""
    if value["in"] == "body":
        chosen = _of(_BODY)(1, value)
    else:
        chosen = _bytes(2, _of(_QUERY)(3, value) if value["in"] == "query" else _of(_PATH)(4, value))
    return _bytes(number, _bytes(1, chosen))


_RESPONSE: Final[_Fields] = {"description": (1, _text), "schema": (2, _in(1, _schema))}
_OPERATION: Final[_Fields] = {
    "operationId": (5, _text),
    "produces": (6, _each(_text)),
    "consumes": (7, _each(_text)),
    "parameters": (8, _each(_parameter)),
    "responses": (9, _named(1, _in(1, _of(_RESPONSE)))),
    _EXTENSIONS: (13, _extension),
}
_PATH_ITEM: Final[_Fields] = {
    "get": (2, _of(_OPERATION)),
    "put": (3, _of(_OPERATION)),
    "post": (4, _of(_OPERATION)),
    "delete": (5, _of(_OPERATION)),
    "patch": (8, _of(_OPERATION)),
    "parameters": (9, _each(_parameter)),
}
_INFO: Final[_Fields] = {"title": (1, _text), "version": (2, _text)}
_DOCUMENT: Final[_Fields] = {
    "swagger": (1, _text),
    "info": (2, _of(_INFO)),
    "paths": (8, _named(2, _of(_PATH_ITEM))),
    "definitions": (9, _named(1, _schema)),
}
