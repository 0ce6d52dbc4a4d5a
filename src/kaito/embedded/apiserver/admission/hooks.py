"""Webhook configurations, read once per change, and which of their webhooks a request concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from kaito.embedded.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from kaito.embedded.apiserver.core import NAMESPACES, Core
from kaito.embedded.apiserver.kinds.webhooks import CONDITION_VARIABLES
from kaito.embedded.apiserver.schema.expression import Expression
from kaito.embedded.apiserver.served import Registry, Served
from kaito.embedded.apiserver.store import Collection, Event, Key, Object
from kaito.runtime.errors import Forbidden
from kaito.runtime.resources import Resource
from kaito.runtime.selectors import LabelSelector, label_selector

VALIDATING: Final = "validatingwebhookconfigurations.admissionregistration.k8s.io"
MUTATING: Final = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
CONFIGURATIONS: Final = (VALIDATING, MUTATING)

_EXEMPT_GROUP: Final = "admissionregistration.k8s.io"
"""No webhook is asked about these, so a webhook that refuses everything can be taken away."""


class Hook:
    """One webhook of a configuration. `id` is unique among all of them."""

    def __init__(self, kind: str, configuration: str, index: int, spec: Object) -> None:
        self.id = f"{kind}/{configuration}/{index}"
        self.name: str = spec["name"]
        self.client: Object = spec["clientConfig"]
        self.ignores_failures = spec.get("failurePolicy") == "Ignore"
        self.timeout = float(spec.get("timeoutSeconds", 10))
        self.side_effects: str = spec.get("sideEffects", "")
        self.reinvocable = spec.get("reinvocationPolicy") == "IfNeeded"
        self.equivalent = spec.get("matchPolicy") != "Exact"
        self._rules: Sequence[Object] = spec.get("rules") or ()
        self._namespaces: LabelSelector = label_selector(spec.get("namespaceSelector"))
        self._objects: LabelSelector = label_selector(spec.get("objectSelector"))
        self._conditions = [
            Expression(each["expression"], CONDITION_VARIABLES) for each in spec.get("matchConditions") or ()
        ]

    def match(self, attributes: Attributes, core: Core) -> Served | None:
        """The version of the resource to show the webhook, None if the request does not concern it."""
        if not self._match_namespace(attributes, core) or not self._match_labels(attributes):
            return None
        return self._match_rules(attributes, core.registry)

    def applies(self, request: Object) -> bool:
        """Whether all `matchConditions` hold for the `request` of a review.

        Raises:
            ConditionError: none is false but one cannot be evaluated, and the failure policy is Fail.
        """
        if not self._conditions:
            return True
        values = {
            "object": request.get("object"),
            "oldObject": request.get("oldObject"),
            "request": {
                name: value for name, value in request.items() if name not in ("object", "oldObject")
            },
        }
        failures = []
        for condition in self._conditions:
            try:
                if condition.evaluate(values) is not True:
                    return False
            except ValueError as error:
                failures.append(f"expression '{condition.text}' resulted in error: {error}")
        if failures and not self.ignores_failures:
            raise ConditionError(", ".join(failures))
        return not failures

    def _match_namespace(self, attributes: Attributes, core: Core) -> bool:
        selector = self._namespaces
        if not selector.requirements:
            return True
        is_namespace = attributes.served.resource.name == NAMESPACES
        if not attributes.namespace and not is_namespace:
            return True
        if is_namespace and not attributes.subresource and attributes.operation in (CREATE, UPDATE):
            return selector.matches(_labels(attributes.object))
        name = attributes.namespace or attributes.name
        record = core.store.collection(NAMESPACES).get(Key("", name))
        return record is not None and selector.matches(record.metadata.get("labels") or {})

    def _match_labels(self, attributes: Attributes) -> bool:
        selector = self._objects
        if not selector.requirements:
            return True
        present = [each for each in (attributes.object, attributes.old_object) if each is not None]
        return any(selector.matches(_labels(each)) for each in present)

    def _match_rules(self, attributes: Attributes, registry: Registry) -> Served | None:
        served = attributes.served
        if any(_matches(rule, attributes, served.resource) for rule in self._rules):
            return served
        if not self.equivalent:
            return None
        for other in registry.all():
            is_other = other is not served and other.collection is served.collection
            if is_other and any(_matches(rule, attributes, other.resource) for rule in self._rules):
                return other
        return None


class ConditionError(Exception):
    """A match condition that cannot be evaluated, so that nobody knows whether to ask the webhook."""


def _labels(obj: Object | None) -> Mapping[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def _matches(rule: Object, attributes: Attributes, resource: Resource) -> bool:
    scope = rule.get("scope", "*")
    # A namespace counts as cluster-scoped, whatever request it is.
    if scope != "*" and (scope == "Namespaced") is not resource.namespaced:
        return False
    return (
        _listed(rule["operations"], attributes.operation)
        and _listed(rule["apiGroups"], resource.group)
        and _listed(rule["apiVersions"], resource.version)
        and any(_names(each, resource.plural, attributes.subresource) for each in rule["resources"])
    )


def _listed(values: Sequence[str], wanted: str) -> bool:
    return "*" in values or wanted in values


def _names(pattern: str, plural: str, subresource: str) -> bool:
    """`pods`, `pods/status`, `pods/*`, `*/status`, `*` (everything but subresources) and `*/*`."""
    wanted, slash, sub = pattern.partition("/")
    if wanted not in ("*", plural):
        return False
    return sub in ("*", subresource) if slash else not subresource


class Hooks:
    """All webhooks of the stored configurations, in the order in which they are called."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._read: dict[str, list[Hook]] = {}
        core.store.on_commit(self._committed)

    @property
    def exist(self) -> bool:
        """Whether there is any configuration at all."""
        return any(self._core.store.collection(each).records for each in CONFIGURATIONS)

    def concerning(self, kind: str, attributes: Attributes) -> list[tuple[Hook, Served]]:
        """The webhooks of `kind` (VALIDATING or MUTATING) whose rules and selectors match."""
        if attributes.served.resource.group == _EXEMPT_GROUP:
            return []
        found = []
        for hook in self._all(kind):
            served = hook.match(attributes, self._core)
            if served is not None:
                found.append((hook, served))
        return found

    def _all(self, kind: str) -> list[Hook]:
        """Configurations by name, webhooks in their order within one."""
        hooks = self._read.get(kind)
        if hooks is None:
            records = sorted(
                self._core.store.collection(kind).records.values(), key=lambda each: each.key.name
            )
            hooks = self._read[kind] = [
                Hook(kind, record.key.name, index, spec)
                for record in records
                for index, spec in enumerate(record.obj.get("webhooks") or ())
            ]
        return hooks

    def _committed(self, collection: Collection, event: Event) -> None:
        self._read.pop(collection.name, None)


def unanswerable(attributes: Attributes, error: ConditionError) -> Forbidden:
    """The answer to a request of which nobody knows whether a webhook should have been asked."""
    resource = attributes.served.resource
    return Forbidden(
        f'{resource.name} "{attributes.name}" is forbidden: {error}',
        details={"name": attributes.name, "group": resource.group, "kind": resource.plural},
    )
