"""An asyncio controller-runtime: write Kubernetes operators in Python.

A client over a replaceable transport, informers that keep bytes instead of trees, a priority work queue,
controllers with the whole result policy in one place, and a manager that starts and stops everything in
order. Knows nothing of KAITO. The shortest complete operator is `examples/sample_operator/`.

Everything an operator usually needs can be imported from here; modules are loaded when a name is first used,
so a program pays only for what it touches. Resources of the built-in API (PODS, DEPLOYMENTS, ...) are in
`kaito.runtime.resources`, CRDs from pydantic classes in `kaito.runtime.crd`, help for tests in
`kaito.runtime.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaito.runtime.cache import CacheOptions, InformerCache
    from kaito.runtime.client import Client, PatchType
    from kaito.runtime.clock import Clock, LoopClock
    from kaito.runtime.conflicts import (
        Outcome,
        RetrySteps,
        create_or_patch,
        create_or_update,
        retry_on_conflict,
    )
    from kaito.runtime.connection import Connection
    from kaito.runtime.controller import Controller, ControllerOptions, Watch
    from kaito.runtime.discovery import Discovery, NoMatch
    from kaito.runtime.errors import (
        AlreadyExists,
        ApiError,
        Conflict,
        Forbidden,
        Gone,
        Invalid,
        NotFound,
        TransportError,
    )
    from kaito.runtime.events import EventOptions, EventRecorder
    from kaito.runtime.finalizers import FinalizerError, add_finalizer, remove_finalizer, with_finalizer
    from kaito.runtime.groups import Group
    from kaito.runtime.handlers import by_field_index, by_object, by_owner, field_index
    from kaito.runtime.informer import Informer, Lister, Registration
    from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions
    from kaito.runtime.logs import configure_logging, get_logger
    from kaito.runtime.manager import Manager, ManagerOptions
    from kaito.runtime.namespaces import NamespacesView, UnknownNamespace
    from kaito.runtime.objects import CachedObject, ObjectMeta, OwnerReference
    from kaito.runtime.owners import AlreadyOwned, controller_reference, is_controlled_by, set_controller
    from kaito.runtime.patches import merge_patch
    from kaito.runtime.predicates import (
        Predicate,
        all_of,
        annotations_changed,
        any_of,
        generation_changed,
        has_labels,
        labels_changed,
        negate,
        resource_version_changed,
    )
    from kaito.runtime.ratelimit import Bucket, ItemExponential, MaxOf
    from kaito.runtime.reflector_states import Backoff, ReflectorOptions
    from kaito.runtime.resources import ObjectKey, Resource
    from kaito.runtime.result import Result, TerminalError
    from kaito.runtime.workqueue import WorkQueue

_MODULES = {
    "cache": ("CacheOptions", "InformerCache"),
    "client": ("Client", "PatchType"),
    "clock": ("Clock", "LoopClock"),
    "conflicts": ("Outcome", "RetrySteps", "create_or_patch", "create_or_update", "retry_on_conflict"),
    "connection": ("Connection",),
    "controller": ("Controller", "ControllerOptions", "Watch"),
    "discovery": ("Discovery", "NoMatch"),
    "errors": (
        *("AlreadyExists", "ApiError", "Conflict", "Forbidden", "Gone", "Invalid", "NotFound"),
        "TransportError",
    ),
    "events": ("EventOptions", "EventRecorder"),
    "finalizers": ("FinalizerError", "add_finalizer", "remove_finalizer", "with_finalizer"),
    "groups": ("Group",),
    "handlers": ("by_field_index", "by_object", "by_owner", "field_index"),
    "informer": ("Informer", "Lister", "Registration"),
    "namespaces": ("NamespacesView", "UnknownNamespace"),
    "leader": ("LeaderElectionLost", "LeaderElectionOptions"),
    "logs": ("configure_logging", "get_logger"),
    "manager": ("Manager", "ManagerOptions"),
    "objects": ("CachedObject", "ObjectMeta", "OwnerReference"),
    "owners": ("AlreadyOwned", "controller_reference", "is_controlled_by", "set_controller"),
    "patches": ("merge_patch",),
    "predicates": (
        *("Predicate", "all_of", "annotations_changed", "any_of", "generation_changed", "has_labels"),
        *("labels_changed", "negate", "resource_version_changed"),
    ),
    "ratelimit": ("Bucket", "ItemExponential", "MaxOf"),
    "reflector_states": ("Backoff", "ReflectorOptions"),
    "resources": ("ObjectKey", "Resource"),
    "result": ("Result", "TerminalError"),
    "workqueue": ("WorkQueue",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AlreadyExists",
    "AlreadyOwned",
    "ApiError",
    "Backoff",
    "Bucket",
    "CacheOptions",
    "CachedObject",
    "Client",
    "Clock",
    "Conflict",
    "Connection",
    "Controller",
    "ControllerOptions",
    "Discovery",
    "EventOptions",
    "EventRecorder",
    "FinalizerError",
    "Forbidden",
    "Gone",
    "Group",
    "Informer",
    "InformerCache",
    "Invalid",
    "ItemExponential",
    "LeaderElectionLost",
    "LeaderElectionOptions",
    "Lister",
    "LoopClock",
    "Manager",
    "ManagerOptions",
    "MaxOf",
    "NamespacesView",
    "NoMatch",
    "NotFound",
    "ObjectKey",
    "ObjectMeta",
    "Outcome",
    "OwnerReference",
    "PatchType",
    "Predicate",
    "ReflectorOptions",
    "Registration",
    "Resource",
    "Result",
    "RetrySteps",
    "TerminalError",
    "TransportError",
    "UnknownNamespace",
    "Watch",
    "WorkQueue",
    "add_finalizer",
    "all_of",
    "annotations_changed",
    "any_of",
    "by_field_index",
    "by_object",
    "by_owner",
    "configure_logging",
    "controller_reference",
    "create_or_patch",
    "create_or_update",
    "field_index",
    "generation_changed",
    "get_logger",
    "has_labels",
    "is_controlled_by",
    "labels_changed",
    "merge_patch",
    "negate",
    "remove_finalizer",
    "resource_version_changed",
    "retry_on_conflict",
    "set_controller",
    "with_finalizer",
]


def __getattr__(name: str) -> Any:
    """Loads the module of a public name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
