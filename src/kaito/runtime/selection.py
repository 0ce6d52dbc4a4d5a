"""Which objects an informer follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaito.runtime.objects import Envelope
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.selectors import label_selector, parse_field_selector


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource. `metadata_only` asks for PartialObjectMetadata."""

    resource: Resource
    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False

    @property
    def path(self) -> str:
        """URL path of the collection."""
        return self.resource.path(self.namespace)

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        return (
            *((("labelSelector", self.label_selector),) if self.label_selector else ()),
            *((("fieldSelector", self.field_selector),) if self.field_selector else ()),
        )

    def accept(self, *, watch: bool) -> str:
        if not self.metadata_only:
            return "application/json"
        kind = "PartialObjectMetadata" if watch else "PartialObjectMetadataList"
        return f"application/json;as={kind};g=meta.k8s.io;v=v1,application/json"

    def check(self) -> None:
        """Raises SelectorError for a selector that no server would understand."""
        label_selector(self.label_selector)
        parse_field_selector(self.field_selector)

    def covers(self, resource: Resource, key: ObjectKey, labels: Mapping[str, str]) -> bool:
        """Whether an object with this key and these labels certainly is among the selected."""
        if (resource.group, resource.plural) != (self.resource.group, self.resource.plural):
            return False
        if self.namespace is not None and key.namespace != self.namespace:
            return False
        if self.label_selector and not label_selector(self.label_selector).matches(labels):
            return False
        if not self.field_selector:
            return True
        known = {"metadata.name": key.name, "metadata.namespace": key.namespace or ""}
        return all(
            each.path in known and (known[each.path] == each.value) == each.equal
            for each in parse_field_selector(self.field_selector).requirements
        )

    def misfit(self, envelope: Envelope) -> str:
        """What is wrong with an object that was sent for this selection; "" where nothing is."""
        metadata = envelope.metadata
        if envelope.kind not in ("", self.resource.kind) and not (
            self.metadata_only and envelope.kind == "PartialObjectMetadata"
        ):
            return f"expected {self.resource.kind}, got {envelope.kind}"
        if not metadata.name:
            return "object without a name"
        if not metadata.resource_version:
            return f"object {metadata.key} without a resourceVersion"
        return ""

    def __str__(self) -> str:
        """For people: `pods in team-a (app=x, spec.nodeName=n)`."""
        selectors = ", ".join(text for text in (self.label_selector, self.field_selector) if text)
        place = f" in {self.namespace}" if self.namespace else ""
        return f"{self.resource}{place}{f' ({selectors})' if selectors else ''}"
