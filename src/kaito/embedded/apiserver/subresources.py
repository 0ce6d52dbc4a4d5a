"""The subresources that are no plain status write: scale, binding, eviction, finalize."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from kaito.embedded.apiserver.admission.attributes import CREATE, UPDATE, Attributes, Gvk
from kaito.embedded.apiserver.bodies import APPLY_PATCH, body_of, decode_object, media_type
from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.deletion import Deleter
from kaito.embedded.apiserver.disruption import admit_eviction
from kaito.embedded.apiserver.messages import success_status
from kaito.embedded.apiserver.naming import metadata_of
from kaito.embedded.apiserver.parameters import DeleteOptions, WriteOptions
from kaito.embedded.apiserver.patch_verb import check_not_forced, patched
from kaito.embedded.apiserver.reading import require
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Object, Record
from kaito.embedded.apiserver.strategy import INVALID, REQUIRED, FieldError, MergeSchema, ScalePaths, invalid
from kaito.embedded.apiserver.writing import Outcome, Writer, conflict, write_options
from kaito.runtime.errors import BadRequest, UnsupportedMediaType
from kaito.runtime.resources import Resource
from kaito.runtime.selectors import SelectorError, label_selector
from kaito.runtime.transport import Request

UNIMPLEMENTED: Final = {
    "token": "service account tokens are not issued; use the credentials of the kubeconfig",
    "ephemeralcontainers": "ephemeral containers are not implemented",
    "resize": "in-place pod resize is not implemented",
    "approval": "certificate signing is not implemented",
}
"""Subresources real clusters have and this server does not, with a sentence for the user."""

_SCALE: Final = Resource("autoscaling", "v1", "scales", "Scale")
_SCHEMALESS: Final = MergeSchema("any")


def _dig(obj: Object, path: str) -> Any:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _put(obj: Object, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        obj = obj.setdefault(part, {})
    obj[last] = value


def _selector(value: Any) -> str:
    """A selector field as text: a LabelSelector, a plain map (replication controllers), or text already."""
    if isinstance(value, str):
        return value
    try:
        return str(label_selector(value)) if isinstance(value, dict) else ""
    except SelectorError:
        return ""


def scale_of(served: Served, record: Record, paths: ScalePaths) -> Object:
    """The `autoscaling/v1 Scale` of an object."""
    obj, metadata = served.view(record), record.metadata
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Object = {"replicas": _dig(obj, paths.status_replicas) or 0}
    selector = _selector(_dig(obj, paths.label_selector)) if paths.label_selector else ""
    if selector:
        status["selector"] = selector
    replicas = _dig(obj, paths.spec_replicas)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: metadata[field] for field in kept if field in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


class Subresources:
    """Reads and writes them through the same writer and deleter as everything else."""

    def __init__(self, core: Core, writer: Writer, deleter: Deleter) -> None:
        self._core = core
        self._writer = writer
        self._deleter = deleter

    def get_scale(self, served: Served, namespace: str | None, name: str) -> Object:
        return scale_of(served, require(served, namespace, name), _paths(served))

    def set_scale(
        self,
        served: Served,
        namespace: str | None,
        name: str,
        request: Request,
        options: WriteOptions,
        manager: str,
    ) -> tuple[Object, Outcome]:
        """PUT or PATCH of a Scale: only spec.replicas reaches the object."""
        paths = _paths(served)
        record = require(served, namespace, name)
        current = scale_of(served, record, paths)
        if request.method == "PUT":
            scale = decode_object(request)
            if scale.get("kind", "Scale") != "Scale":
                raise BadRequest(f"the body must be a Scale, not {scale.get('kind')}")
        else:
            media = media_type(request)
            if media == APPLY_PATCH:
                raise UnsupportedMediaType("server-side apply of scale is not implemented; use a merge patch")
            check_not_forced(options)
            scale = patched(current, media, body_of(request), _SCHEMALESS, custom=False)
        attributes = _attributes(
            served, namespace, name, UPDATE, "scale", scale, options, Gvk("autoscaling", "v1", "Scale")
        )
        attributes = replace(
            attributes,
            old_object=current,
            identity=f"{record.metadata['uid']}/{record.metadata['resourceVersion']}",
        )
        if options.review is not None:
            options.review.mutate(attributes, _no_form)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            error = FieldError(
                "spec.replicas", INVALID, "must be an integer greater than or equal to 0", replicas
            )
            raise invalid(served.resource if served.custom else _SCALE, name, [error])
        if options.review is not None:
            options.review.validate(attributes)
        new = self._writer.working_copy(served, record)
        _put(new, paths.spec_replicas, replicas)
        new["metadata"]["resourceVersion"] = metadata_of(scale).get("resourceVersion") or ""
        outcome = self._writer.change(served, record, new, options, manager, "scale")
        return scale_of(served, outcome.record, paths), outcome

    def bind(
        self,
        served: Served,
        namespace: str | None,
        name: str,
        body: Object,
        options: WriteOptions,
        manager: str,
    ) -> Object:
        """POST of a pod's binding: what a scheduler does.

        Raises:
            Conflict: the pod has a node already, or is being deleted.
        """
        target = body.get("target") or {}
        if target.get("kind", "Node") not in ("", "Node"):
            raise invalid(
                served.resource,
                name,
                [FieldError("target.kind", INVALID, "must be Node", target.get("kind"))],
            )
        if not target.get("name"):
            raise invalid(served.resource, name, [FieldError("target.name", REQUIRED)])
        if options.review is not None:
            attributes = _attributes(
                served, namespace, name, CREATE, "binding", body, options, Gvk("", "v1", "Binding")
            )
            options.review.check(attributes)
        record = require(served, namespace, name)
        if record.metadata.get("deletionTimestamp"):
            raise conflict(served, name, f"pod {name} is being deleted, cannot be assigned to a host")
        wanted = (body.get("metadata") or {}).get("uid")
        if wanted and wanted != record.metadata["uid"]:
            raise conflict(served, name, "Precondition failed: UID in the binding is not the pod's")
        node = (record.obj.get("spec") or {}).get("nodeName")
        if node:
            failed = conflict(served, name, f"pod {name} is already assigned to node {node!r}")
            failed.details["kind"] = "pods/binding"
            raise failed
        if (record.obj.get("spec") or {}).get("schedulingGates"):
            failed = conflict(served, name, f"pod {name} has non-empty .spec.schedulingGates")
            failed.details["kind"] = "pods/binding"
            raise failed
        # A binding changes what no ordinary update of a pod may change, so it goes to the store directly.
        conditions = [
            each
            for each in (record.obj.get("status") or {}).get("conditions") or []
            if each.get("type") != "PodScheduled"
        ]
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": self._core.now(),
            }
        )
        metadata = dict(record.metadata)
        annotations = (body.get("metadata") or {}).get("annotations")
        if annotations:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
        new = {
            **record.obj,
            "metadata": metadata,
            "spec": {**record.obj["spec"], "nodeName": target["name"]},
            "status": {**(record.obj.get("status") or {}), "conditions": conditions},
        }
        if not options.dry_run:
            self._core.store.put(served.collection, record.key, new)
        return {**success_status({}), "code": 201}

    def evict(
        self, served: Served, namespace: str | None, name: str, body: Object, options: WriteOptions
    ) -> Object:
        """POST of a pod's eviction: its deletion, where the disruption budgets allow it.

        Raises:
            BadRequest: the body is no Eviction of this pod.
            TooManyRequests: a budget does not allow it now.
        """
        if body.get("kind", "Eviction") != "Eviction":
            raise BadRequest(f"the body must be an Eviction, not {body.get('kind')}")
        if (body.get("metadata") or {}).get("name", name) != name:
            raise BadRequest("name in URL does not match name in Eviction object")
        if options.review is not None:
            attributes = _attributes(
                served, namespace, name, CREATE, "eviction", body, options, Gvk("policy", "v1", "Eviction")
            )
            options.review.check(attributes)
        deletion = DeleteOptions.parse({}, body.get("deleteOptions") or {})
        budgets = self._core.registry.builtin("poddisruptionbudgets.policy")
        admit_eviction(
            self._core, served, budgets, require(served, namespace, name), dry_run=deletion.dry_run
        )
        self._deleter.delete(served, namespace, name, deletion)
        return {**success_status({}), "code": 201}

    def finalize_namespace(self, served: Served, name: str, body: Object) -> Record:
        """PUT of a namespace's spec.finalizers; without any, a namespace being deleted goes."""
        record = require(served, None, name)
        revision = metadata_of(body).get("resourceVersion")
        if revision and revision != record.metadata["resourceVersion"]:
            raise conflict(served, name, "the object has been modified")
        finalizers = (body.get("spec") or {}).get("finalizers") or []
        metadata = record.metadata
        if metadata.get("deletionTimestamp") and not finalizers and not metadata.get("finalizers"):
            return self._core.remove(served, record.key)
        new = {**record.obj, "spec": {**(record.obj.get("spec") or {}), "finalizers": finalizers}}
        return self._core.store.put(served.collection, record.key, new)


def _no_form(_obj: Object) -> None:
    """What a webhook made of a Scale is read field by field."""


def _attributes(
    served: Served,
    namespace: str | None,
    name: str,
    operation: str,
    subresource: str,
    obj: Object,
    options: WriteOptions,
    kind: Gvk,
) -> Attributes:
    """A write to a subresource that has a kind of its own."""
    return Attributes(
        operation=operation,
        served=served,
        namespace=namespace or "",
        name=name,
        object=obj,
        old_object=None,
        kind=kind,
        subresource=subresource,
        options=write_options(options, operation),
        dry_run=options.dry_run,
    )


def _paths(served: Served) -> ScalePaths:
    paths = served.strategy.scale
    if paths is None:
        raise BadRequest(f"{served.resource.plural} have no scale")
    return paths
