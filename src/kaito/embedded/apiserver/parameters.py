"""Query parameters and DeleteOptions as typed values; a value that is not understood is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kaito.embedded.apiserver.messages import invalid_parameter
from kaito.runtime.errors import BadRequest
from kaito.runtime.transport import Request

if TYPE_CHECKING:
    from kaito.embedded.apiserver.admission.review import Review

Params = Mapping[str, str]

STRICT: Final = "Strict"
WARN: Final = "Warn"
IGNORE: Final = "Ignore"

MAX_FIELD_MANAGER: Final = 128
"""Characters of a field manager's name, as in Kubernetes."""


def parameters(request: Request) -> dict[str, str]:
    """The query as a mapping; the first of repeated parameters counts, as in Kubernetes."""
    params: dict[str, str] = {}
    for name, value in request.query:
        params.setdefault(name, value)
    return params


def flag(params: Params, name: str) -> bool:
    """A boolean as Kubernetes reads one: present and neither "false" nor "0"."""
    value = params.get(name)
    return value is not None and value.lower() not in ("false", "0")


def _integer(params: Params, name: str) -> int | None:
    value = params.get(name, "")
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        raise BadRequest(f"query parameter {name}={value!r} is not an integer") from None


def parse_revision(text: str) -> int | None:
    """A resourceVersion: None where nothing was asked.

    Raises:
        BadRequest: it is not a number; resourceVersions are opaque, use one the server gave.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f'Invalid value: "{text}": resourceVersion must be one that this server gave, or 0')
    return int(text)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What a list or a watch asks for. Times in seconds; `limit` 0 means no paging."""

    label_selector: str = ""
    field_selector: str = ""
    revision: int | None = None
    match: str = ""
    limit: int = 0
    continue_token: str = ""
    watch: bool = False
    bookmarks: bool = False
    timeout: int | None = None
    send_initial: bool | None = None

    @staticmethod
    def parse(params: Params) -> ListOptions:
        options = ListOptions(
            label_selector=params.get("labelSelector", ""),
            field_selector=params.get("fieldSelector", ""),
            revision=parse_revision(params.get("resourceVersion", "")),
            match=params.get("resourceVersionMatch", ""),
            limit=max(0, _integer(params, "limit") or 0),
            continue_token=params.get("continue", ""),
            watch=flag(params, "watch"),
            bookmarks=flag(params, "allowWatchBookmarks"),
            timeout=_integer(params, "timeoutSeconds"),
            send_initial=flag(params, "sendInitialEvents") if "sendInitialEvents" in params else None,
        )
        _check_list(options)
        return options


def _check_list(options: ListOptions) -> None:
    def refuse(name: str, message: str) -> None:
        raise invalid_parameter("ListOptions.meta.k8s.io", name, message)

    match, revision = options.match, options.revision
    if options.watch:
        if options.continue_token:
            refuse("continue", "Forbidden: continue is forbidden for watch")
        if options.send_initial is None:
            if match:
                refuse(
                    "resourceVersionMatch",
                    "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )
        elif match != "NotOlderThan":
            refuse(
                "resourceVersionMatch",
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )
        return
    if options.send_initial is not None:
        refuse("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list")
    if not match:
        return
    if match not in ("Exact", "NotOlderThan"):
        refuse(
            "resourceVersionMatch", f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        )
    if revision is None:
        refuse(
            "resourceVersionMatch",
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        )
    if options.continue_token:
        refuse(
            "resourceVersionMatch", "Forbidden: resourceVersionMatch is forbidden when continue is provided"
        )
    if match == "Exact" and revision == 0:
        refuse(
            "resourceVersionMatch",
            'Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"',
        )


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What accompanies a create, update or patch.

    With a `review` the admission webhooks are asked; the server's own writes have none.
    """

    dry_run: bool = False
    field_validation: str = WARN
    field_manager: str = ""
    force: bool | None = None
    duplicates: tuple[str, ...] = ()
    review: Review | None = None

    @staticmethod
    def parse(params: Params, kind: str, review: Review | None = None) -> WriteOptions:
        """`kind` is the options object in error messages: CreateOptions, UpdateOptions or PatchOptions."""
        kind = f"{kind}.meta.k8s.io"
        validation = params.get("fieldValidation", "") or WARN
        if validation not in (STRICT, WARN, IGNORE):
            raise invalid_parameter(
                kind,
                "fieldValidation",
                f'Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn", ""',
            )
        manager = params.get("fieldManager", "")
        if len(manager) > MAX_FIELD_MANAGER or not manager.isprintable():
            raise invalid_parameter(
                kind,
                "fieldManager",
                f"Invalid value: may hold at most {MAX_FIELD_MANAGER} printable characters",
            )
        return WriteOptions(
            dry_run=parse_dry_run(params.get("dryRun", ""), kind),
            field_validation=validation,
            field_manager=manager,
            force=flag(params, "force") if "force" in params else None,
            review=review,
        )


def parse_dry_run(value: str, kind: str) -> bool:
    if value not in ("", "All"):
        raise invalid_parameter(kind, "dryRun", f'Unsupported value: "{value}": supported values: "All"')
    return value == "All"


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What accompanies a deletion. `propagation` "" means the kind's own default; `grace` in seconds.

    With a `review` the admission webhooks are asked.
    """

    dry_run: bool = False
    propagation: str = ""
    grace: int | None = None
    uid: str = ""
    revision: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    review: Review | None = None

    @staticmethod
    def parse(params: Params, body: Mapping[str, Any] | None, review: Review | None = None) -> DeleteOptions:
        """From the query and, where there is one, the DeleteOptions body, which wins."""
        kind = "DeleteOptions.meta.k8s.io"
        body = body or {}
        preconditions = body.get("preconditions") or {}
        propagation = body.get("propagationPolicy") or params.get("propagationPolicy", "")
        if propagation not in ("", "Background", "Foreground", "Orphan"):
            raise invalid_parameter(
                kind,
                "propagationPolicy",
                f'Unsupported value: "{propagation}": supported values: "Foreground", "Background", "Orphan", "nil"',
            )
        orphan = body.get("orphanDependents")
        if orphan is None and "orphanDependents" in params:
            orphan = flag(params, "orphanDependents")
        if orphan is not None:
            if propagation:
                raise invalid_parameter(
                    kind,
                    "propagationPolicy",
                    "Invalid value: orphanDependents and propagationPolicy cannot be both set",
                )
            propagation = "Orphan" if orphan else "Background"
        grace = body.get("gracePeriodSeconds")
        if grace is None:
            grace = _integer(params, "gracePeriodSeconds")
        if grace is not None and (not isinstance(grace, int) or grace < 0):
            # Kubernetes takes a negative grace period for the shortest orderly one.
            grace = 1
        dry_run = body.get("dryRun") or ([params["dryRun"]] if params.get("dryRun") else [])
        for value in dry_run:
            parse_dry_run(value, kind)
        return DeleteOptions(
            dry_run=bool(dry_run),
            propagation=propagation,
            grace=grace,
            uid=preconditions.get("uid") or "",
            revision=preconditions.get("resourceVersion") or "",
            review=review,
        )
