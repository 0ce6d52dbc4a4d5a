"""Real weights for a machine without a cluster: what to fetch from a model hub, whether it fits, and fetching it.

    plan = make_plan(Hub(), Source("org/model", gguf_repository="org/model-gguf"), cache_directory)
    print(plan.summary())
    check_fit(plan)                     # raises DoesNotFit with a sentence
    directory = download(plan, Hub(), show_progress)

The directory is then what an inference container finds at /workspace/weights.
"""

from kaito_presets.weights.fetch import Progress, download
from kaito_presets.weights.hub import Hub, HubError, RemoteFile
from kaito_presets.weights.plan import DoesNotFit, Plan, Source, check_fit, make_plan

__all__ = [
    "DoesNotFit",
    "Hub",
    "HubError",
    "Plan",
    "Progress",
    "RemoteFile",
    "Source",
    "check_fit",
    "download",
    "make_plan",
]
