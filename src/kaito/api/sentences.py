"""What users are told about a Workspace or an Adapter that breaks a rule: each sentence once.

CEL in the CRD, the webhook and the conditions of the controllers say the same words. The path of the field always
stands beside a sentence, so none repeats it; a sentence says what to write.
"""

from __future__ import annotations

from typing import Final

WORKSPACE_NAME: Final = (
    "a Service gets this name, so write at most 63 lower-case letters, digits and '-', starting with a letter and "
    "ending with a letter or digit"
)

RESOURCE_MISSING: Final = (
    "write `resource: {instanceType: …, labelSelector: {matchLabels: {apps: my-model}}}` at the top level "
    "(a Workspace has no spec)"
)
TOO_MANY_NODES: Final = "no cluster has more than 5,000 nodes; write at most that many"
SELECTOR_MISSING: Final = "write for example `labelSelector: {matchLabels: {apps: my-model}}`"
SELECTOR_EXPRESSION: Final = (
    "new nodes get these labels, so write matchLabels, or the operator In with exactly one value"
)
SELECTOR_RESERVED: Final = (
    "only labels that KAITO sets itself are here, and those select nothing; write at least one label of your own, "
    "such as `apps: my-model`"
)
TYPE_AND_TYPES: Final = (
    "resource.instanceType and resource.instanceTypes exclude one another: keep instanceTypes for a list of sizes to "
    "try in order, or instanceType for the only one"
)
PARTITION_SHAPE: Final = (
    "write profile (and no count) in mode mig, count (and no profile) in mode accelerator"
)
PARTITION_PROFILE: Final = "write a MIG profile as NVIDIA names them, such as 1g.10gb"

NEITHER: Final = (
    "write `inference: {preset: {name: phi-3-mini-4k-instruct}}` to serve a model or a tuning block to fine-tune one, "
    "at the top level (a Workspace has no spec)"
)
BOTH: Final = (
    "inference and tuning exclude one another: keep one, and create a second Workspace for the other"
)
SWAPPED: Final = "inference and tuning cannot be swapped once set; create another Workspace"

PRESET_OR_TEMPLATE: Final = (
    "write preset (a model KAITO knows, such as `preset: {name: phi-3-mini-4k-instruct}`) or template (a pod template "
    "of your own)"
)
PRESET_AND_TEMPLATE: Final = "inference.preset and inference.template exclude one another: keep one"
WEIGHTS_ONE_SOURCE: Final = (
    "write exactly one of image (an image or OCI artifact with the files), huggingFace (organisation/model), "
    "volumeSource and path (a directory of the nodes)"
)
WEIGHTS_HUB_ID: Final = "write organisation/model, as the hub shows it above the model's page"
WEIGHTS_REVISION: Final = "write a commit of the repository, or the name of a tag or branch"
WEIGHTS_REVISION_ALONE: Final = (
    "only a repository of the hub has revisions; write huggingFace beside it, or leave it out"
)
WEIGHTS_PATH: Final = (
    "write the absolute path of a directory of the nodes, without `..`, such as /opt/models/my-phi-3"
)
WEIGHTS_STORAGE_ALONE: Final = (
    "only what is pulled or downloaded needs room; leave it out beside volumeSource and path"
)
ADAPTERS_WITH_TEMPLATE: Final = (
    "adapters are mounted on presets only; put them into your template, or use a preset"
)
ADAPTER_NAME_TWICE: Final = "two adapters have the same name; give each its own source.name"
ADAPTER_SOURCE_OR_REF: Final = (
    "write exactly one of source (where the adapter's files are) and adapterRef (the name of an Adapter)"
)
ADAPTER_NAME_MISSING: Final = "write source.name, the adapter's name, such as my-adapter"
ADAPTER_NAME: Final = (
    "write lower-case letters, digits, '-' and '.', starting and ending with a letter or digit"
)
ADAPTER_NAME_RESERVED: Final = (
    "requests say base for the model without adapters; give the adapter another name"
)
ADAPTER_URLS: Final = (
    "an adapter cannot be downloaded from URLs; write source.image (an image with the files under /data) or "
    "source.volumeSource"
)
ADAPTER_IMAGE_OR_VOLUME: Final = (
    "write exactly one of image (an image with the files under /data) and volumeSource"
)
ADAPTER_STRENGTH: Final = 'write a number from "0" to "1" as text, such as "0.5"'
ADAPTER_SPEC_MISSING: Final = "write `spec: {source: {image: REGISTRY/NAME:TAG}}`"
ADAPTER_SOURCE_MISSING: Final = "write `source: {image: REGISTRY/NAME:TAG}` or source.volumeSource"

TUNING_PRESET: Final = "write `preset: {name: phi-3-mini-4k-instruct}`"
TUNING_METHOD_MISSING: Final = "write `method: lora` or `method: qlora`"
TUNING_METHOD: Final = "write lora or qlora"
TUNING_INPUT: Final = "write `input: {urls: [https://…]}`, or input.image or input.volumeSource"
TUNING_OUTPUT: Final = (
    "write `output: {image: REGISTRY/NAME:TAG, imagePushSecret: SECRET}`, or output.volumeSource"
)
ONE_SOURCE: Final = "write exactly one of urls, image and volumeSource"
IMAGE_OR_VOLUME: Final = "write exactly one of image and volumeSource"
PUSH_SECRET: Final = "pushing an image needs the name of a Secret of type kubernetes.io/dockerconfigjson"
TUNES_ON_SEVERAL: Final = "fine-tuning runs on one node; write 1 or leave count out"
TUNES_ON_PART: Final = "fine-tuning needs whole GPUs; leave partition out"

FIXED: Final = "cannot change; create another Workspace"
FIXED_ONCE_SET: Final = "cannot change once set; create another Workspace"
TYPE_FIXED: Final = (
    "cannot change once set; create another Workspace, or write instanceTypes with this type among them"
)
TYPES_ONLY_GROW: Final = (
    "types may be added or reordered, not taken away, since nodes of them may run; create another Workspace"
)
TYPE_TWICE: Final = "the same type is there twice; write each once, best first"
PARTITION_FIXED: Final = "cannot be added or taken away; create another Workspace"
PRESET_TEMPLATE_SWAPPED: Final = "preset and template cannot be swapped once set; create another Workspace"
