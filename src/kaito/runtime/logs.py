"""Structured logging: a constant message and fields, as JSON for machines or as a line for people.

Built on the standard library's logging, so levels, handlers and capture work as everywhere. Inside a
reconcile the fields `controller`, `namespace`, `name` and `reconcileID` come by themselves, from a context
variable that the controller sets; nobody has to pass a logger around. Fields whose name says that they hold a
secret, and bearer tokens anywhere in a text, are replaced before anything is written.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits
from typing import IO, Any, Literal

import orjson

from kaito.runtime.resources import ObjectKey

_SECRET_NAME = re.compile(
    r"(^|[_-])(token|password|passwd|secret|authorization|credentials?|api_?key|private_?key)$", re.IGNORECASE
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_HIDDEN = "***"


class ReconcileContext:
    """Which reconcile the running code belongs to. Its id is made when somebody asks for it."""

    __slots__ = ("_id", "controller", "key")

    def __init__(self, controller: str, key: ObjectKey, reconcile_id: str = "") -> None:
        self.controller = controller
        self.key = key
        self._id = reconcile_id

    @property
    def reconcile_id(self) -> str:
        """16 hexadecimal digits."""
        if not self._id:
            self._id = f"{getrandbits(64):016x}"
        return self._id


current_reconcile: ContextVar[ReconcileContext | None] = ContextVar("current_reconcile", default=None)


def reconcile_id() -> str:
    """The id of the running reconcile, for audit trails and requests; "" outside of one."""
    context = current_reconcile.get()
    return "" if context is None else context.reconcile_id


class Logger:
    """A logger whose calls take fields: `log.info("claim created", claim=name)`."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: str, **fields: Any) -> None:
        self._emit(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._emit(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._emit(logging.WARNING, message, fields)

    def error(self, message: str, *, error: BaseException | None = None, **fields: Any) -> None:
        """With `error` its text becomes the field `error`."""
        self._emit(logging.ERROR, message, fields if error is None else {**fields, "error": describe(error)})

    def panic(self, message: str, *, error: BaseException, **fields: Any) -> None:
        """An error that is a bug: logged with its traceback."""
        stack = "".join(traceback.format_exception(error))
        self._emit(logging.ERROR, message, {**fields, "error": describe(error), "stacktrace": stack})

    def _emit(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, _Message(message, fields), extra={"fields": fields}, stacklevel=3)


class _Message(str):
    """A constant message that shows its fields too where a formatter that knows nothing of them asks for its text:
    in pytest's captured logs, under `logging.basicConfig`, and where logging was never configured.
    """

    fields: Mapping[str, Any]

    def __new__(cls, text: str, fields: Mapping[str, Any]) -> _Message:
        message = super().__new__(cls, text)
        message.fields = fields
        return message

    def __str__(self) -> str:
        return _as_line(redact(str.__str__(self)), _context() | _own(self.fields))


def get_logger(name: str) -> Logger:
    """The structured logger of a module: `log = get_logger(__name__)`."""
    return Logger(logging.getLogger(name))


def describe(error: BaseException) -> str:
    """An exception as a sentence: its text, or its type where it has none; groups name their members."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(member) for member in error.exceptions)
    return str(error) or type(error).__name__


def redact(text: str) -> str:
    """`text` without bearer tokens and basic credentials."""
    return _BEARER.sub(lambda match: f"{match.group(1)} {_HIDDEN}", text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = _context() | _own(getattr(record, "fields", {}))
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = redact(describe(record.exc_info[1]))
        fields["stacktrace"] = redact("".join(traceback.format_exception(record.exc_info[1])))
    return fields


def _context() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    context = current_reconcile.get()
    if context is not None:
        fields["controller"] = context.controller
        if context.key.namespace:
            fields["namespace"] = context.key.namespace
        fields["name"] = context.key.name
        fields["reconcileID"] = context.reconcile_id
    return fields


def _own(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _clean(name, value) for name, value in fields.items()}


def _constant(record: logging.LogRecord) -> str:
    text = str.__str__(record.msg) if isinstance(record.msg, _Message) else record.getMessage()
    return redact(text)


def _clean(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name):
        return _HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, ObjectKey):
        return [_clean("", item) for item in value]
    return redact(str(value))


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts, level, logger, msg, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _constant(record),
            **_fields(record),
        }
        return orjson.dumps(line).decode()


class HumanFormatter(logging.Formatter):
    """`12:00:00 INFO  message  key=value …`, a traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        moment = datetime.fromtimestamp(record.created).astimezone()
        return _as_line(f"{moment:%H:%M:%S} {record.levelname:<7} {_constant(record)}", fields)


def _as_line(line: str, fields: dict[str, Any]) -> str:
    stack = fields.pop("stacktrace", "")
    shown = "  ".join(f"{name}={_quote(value)}" for name, value in fields.items())
    return "\n".join(part for part in (f"{line}  {shown}".rstrip(), stack.rstrip()) if part)


def _quote(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if text and not re.search(r"\s", text) else orjson.dumps(text).decode()


def configure_logging(
    format: Literal["json", "human"] = "json", level: str = "info", stream: IO[str] | None = None
) -> None:
    """Sends all logs of the process to `stream` (default stderr). Call it once, from the program's entry
    point.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if format == "json" else HumanFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
