"""Base classes of the models: how fields are named and described, and what a custom resource has at its
root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from kaito.runtime.crd.markers import QUANTITY_PATTERN, VALIDATIONS, IntOrString, PreserveUnknown, Rule, rules

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Schemaless = Annotated[dict[str, Any], PreserveUnknown()]
"""An object that the schema does not describe; kept as it is."""

Quantity = Annotated[int | str, IntOrString(QUANTITY_PATTERN)]
"""A Kubernetes quantity: `"50Gi"`, `"500m"`, `2`."""

Value = TypeVar("Value")


class Object(BaseModel):
    """A part of a custom resource.

    Python names are snake_case, wire names camelCase (say `Field(alias="providerID")` where that is not
    enough). A docstring below a field is its description. `X | None = None` is an optional field; any other
    default is also the schema's default. Unknown fields are kept, so an object written by a newer version
    still reads.
    """

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    validations: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules that stand at this object."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        if cls.validations:
            handler.resolve_ref_schema(schema)[VALIDATIONS] = rules(cls.validations)
        return schema


class Metadata(Object):
    """What a view needs of `metadata`; the schema of a CRD never describes it."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []


class CustomObject(Object):
    """The root of a custom resource: subclass it and add the blocks (`spec`, `status`, …)."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata = Metadata()

    def problems(self) -> Sequence[tuple[str, str]]:
        """Path and sentence of everything that no schema can say and is wrong with this object.

        Rules refuse such objects on writing; one stored before the rules came is still there and must be read.
        """
        return ()
