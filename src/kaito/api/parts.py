"""Pieces that several of the custom resources share: label selectors, data sources, conditions."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from kaito.api import sentences
from kaito.api.images import LENGTH_LIMIT
from kaito.api.labels import RESERVED_LABELS
from kaito.runtime.crd import Atomic, Format, ListMap, Object, Rule, Schemaless

NAME_LIMIT: Final = 253
"""Longest name of a Kubernetes object (a DNS subdomain)."""
IMAGE_LIMIT: Final = LENGTH_LIMIT
"""Characters of an image reference."""

IMMUTABLE: Final = "self == oldSelf"
"""CEL: the value is what it was."""

Int32 = Annotated[int, Format("int32")]
Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT)]

SUBDOMAIN: Final = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""A DNS subdomain (RFC 1123), as a regular expression of CEL and of Python."""

DATA_NAME_RULE: Final = Rule(
    f"self.matches('{SUBDOMAIN}')",
    sentences.ADAPTER_NAME,
)

Image = Annotated[str, Field(max_length=IMAGE_LIMIT)]
PullSecrets = Annotated[list[str], Atomic()]


class LabelSelectorRequirement(Object):
    """One expression of a label selector."""

    key: str
    """Label key."""
    operator: str
    """In; the values of other operators cannot be written onto a node."""
    values: Annotated[list[str], Atomic()] | None = None
    """Exactly one value."""


MAX_LABELS: Final = 64
_RESERVED: Final = str(sorted(RESERVED_LABELS))
_NO_LABELS: Final = (
    "(!has(self.matchLabels) || size(self.matchLabels) == 0) && "
    "(!has(self.matchExpressions) || size(self.matchExpressions) == 0)"
)


class LabelSelector(Object):
    """Labels a node must carry. Every node that KAITO adds gets them."""

    match_labels: Annotated[dict[str, str], Field(max_length=MAX_LABELS)] | None = None
    """Labels and their values."""
    match_expressions: (
        Annotated[list[LabelSelectorRequirement], Atomic(), Field(max_length=MAX_LABELS)] | None
    ) = None
    """The same as expressions: only the operator In with one value."""

    validations = (
        Rule(
            "!has(self.matchExpressions) || self.matchExpressions.all(e, "
            "e.operator == 'In' && has(e.values) && size(e.values) == 1)",
            sentences.SELECTOR_EXPRESSION,
            field_path=".matchExpressions",
        ),
        Rule(
            f"({_NO_LABELS}) || (has(self.matchLabels) && self.matchLabels.exists(k, !(k in {_RESERVED}))) || "
            f"(has(self.matchExpressions) && self.matchExpressions.exists(e, !(e.key in {_RESERVED})))",
            sentences.SELECTOR_RESERVED,
        ),
    )

    def labels(self) -> dict[str, str]:
        """The selector as labels. Expressions that are not one value of In are left out."""
        found = dict(self.match_labels or {})
        for each in self.match_expressions or ():
            if each.operator == "In" and each.values is not None and len(each.values) == 1:
                found[each.key] = each.values[0]
        return found


_ONE_SOURCE: Final = (
    "(has(self.urls) && size(self.urls) > 0 ? 1 : 0) + (has(self.image) && self.image != '' ? 1 : 0) + "
    "(has(self.volumeSource) ? 1 : 0) == 1"
)
_IMAGE_OR_VOLUME: Final = "(has(self.image) && self.image != '') != has(self.volumeSource)"


class DataSource(Object):
    """Where training data comes from."""

    name: Annotated[str, Field(max_length=NAME_LIMIT)] | None = None
    """Name of the data set; cannot change once set."""
    urls: Annotated[list[str], Atomic(), Field(max_length=128)] | None = None
    """Files to download (http or https)."""
    volume_source: Schemaless | None = None
    """A volume of the pod (`hostPath`, `persistentVolumeClaim`, …), without its name."""
    image: Image | None = None
    """A container image that holds the data under /data."""
    image_pull_secrets: PullSecrets | None = None
    """Secrets of the namespace with which the image is pulled."""

    validations = (
        Rule(_ONE_SOURCE, sentences.ONE_SOURCE),
        Rule(
            "!has(oldSelf.name) || (has(self.name) && self.name == oldSelf.name)",
            sentences.FIXED_ONCE_SET,
            field_path=".name",
        ),
    )


class AdapterSource(Object):
    """Where the files of a LoRA adapter are: adapter_config.json and adapter_model.safetensors."""

    name: Annotated[str, Field(max_length=NAME_LIMIT), DATA_NAME_RULE] | None = None
    """The adapter's name inside the pod and in requests."""
    urls: Annotated[list[str], Atomic(), Field(max_length=128)] | None = None
    """Refused: adapters come from an image or a volume."""
    volume_source: Schemaless | None = None
    """A volume of the pod (`hostPath`, `persistentVolumeClaim`, …), without its name."""
    image: Image | None = None
    """A container image that holds the files under /data."""
    image_pull_secrets: PullSecrets | None = None
    """Secrets of the namespace with which the image is pulled."""

    validations = (
        Rule(
            "!has(self.urls) || size(self.urls) == 0",
            sentences.ADAPTER_URLS,
            field_path=".urls",
            reason="FieldValueForbidden",
        ),
        Rule(
            _IMAGE_OR_VOLUME,
            sentences.ADAPTER_IMAGE_OR_VOLUME,
        ),
    )


class DataDestination(Object):
    """Where the result of fine-tuning goes."""

    volume_source: Schemaless | None = None
    """A volume of the pod, without its name."""
    image: Image | None = None
    """The image to push; it will hold the adapter under /data."""
    image_push_secret: Annotated[str, Field(max_length=NAME_LIMIT)] | None = None
    """Secret of type kubernetes.io/dockerconfigjson with which the image is pushed."""

    validations = (
        Rule(_IMAGE_OR_VOLUME, sentences.IMAGE_OR_VOLUME),
        Rule(
            "!has(self.image) || self.image == '' || (has(self.imagePushSecret) && self.imagePushSecret != '')",
            sentences.PUSH_SECRET,
            field_path=".imagePushSecret",
            reason="FieldValueRequired",
        ),
    )


class Condition(Object):
    """`metav1.Condition`."""

    type: Annotated[str, Field(max_length=316)]
    """Name of the condition, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Why, in one CamelCase word."""
    message: Annotated[str, Field(max_length=32768)]
    """What happened and what to do."""
    last_transition_time: Annotated[str, Format("date-time")]
    """When the status last changed."""
    observed_generation: Annotated[int, Format("int64"), Field(ge=0)] | None = None
    """The metadata.generation this condition was decided from."""


Conditions = Annotated[list[Condition], ListMap("type")]
