"""Which records a list or a watch means: namespace, labels and fields together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from kaito.embedded.apiserver.parameters import ListOptions
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Record
from kaito.runtime.errors import BadRequest
from kaito.runtime.selectors import (
    FieldRequirement,
    LabelSelector,
    SelectorError,
    field_text,
    parse_field_selector,
    parse_label_selector,
)

_parse_labels: Callable[[str], LabelSelector] = lru_cache(maxsize=512)(parse_label_selector)


@dataclass(frozen=True, slots=True)
class Selection:
    """A predicate over records. `name` is set when a field selector asks for one object by its name."""

    served: Served
    namespace: str | None
    name: str | None
    labels: LabelSelector
    fields: tuple[FieldRequirement, ...]

    @property
    def everything(self) -> bool:
        """Whether only the namespace (or not even that) narrows it."""
        return self.name is None and not self.labels.requirements and not self.fields

    def matches(self, record: Record) -> bool:
        """Whether a record is meant; the namespace is compared too, for watches of one namespace."""
        key = record.key
        if self.namespace is not None and key.namespace != self.namespace:
            return False
        if self.name is not None and key.name != self.name:
            return False
        if self.labels.requirements and not self.labels.matches(record.labels):
            return False
        if self.fields:
            obj = self.served.view(record)
            return all((field_text(obj, each.path) == each.value) == each.equal for each in self.fields)
        return True

    def filter(self, records: Iterable[Record]) -> Iterable[Record]:
        return records if self.everything else (record for record in records if self.matches(record))


def select(served: Served, namespace: str | None, name: str | None, options: ListOptions) -> Selection:
    """The selection of a request. `name` comes from a watch of one object by its path.

    Raises:
        BadRequest: a selector does not parse, or names a field this kind cannot be selected by.
    """
    try:
        labels = _parse_labels(options.label_selector)
        requirements = parse_field_selector(options.field_selector).requirements
    except SelectorError as error:
        raise BadRequest(str(error)) from None
    fields: list[FieldRequirement] = []
    for each in requirements:
        if each.path == "metadata.name" and each.equal and name in (None, each.value):
            name = each.value
        elif each.path in ("metadata.name", "metadata.namespace") or (
            each.path in served.strategy.selectable_fields
        ):
            fields.append(each)
        else:
            known = ", ".join(("metadata.name", "metadata.namespace", *served.strategy.selectable_fields))
            raise BadRequest(
                f"field label not supported: {each.path}; {served.resource.plural} can be selected by {known}"
            )
    return Selection(served, namespace, name, labels, tuple(fields))
