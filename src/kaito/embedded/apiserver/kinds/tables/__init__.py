"""Field tables of the builtin types, in the notation of `kinds.typetable`.

They are facts of the public API: names, wire numbers, merge keys, constant defaults.
"""

from kaito.embedded.apiserver.kinds.tables import (
    admission,
    apps,
    core,
    crds,
    meta,
    pods,
    podstatus,
    services,
    volumes,
)
from kaito.embedded.apiserver.kinds.typetable import TypeTable

TABLE = TypeTable(
    meta.TYPES,
    pods.TYPES,
    volumes.TYPES,
    podstatus.TYPES,
    core.TYPES,
    services.TYPES,
    apps.TYPES,
    crds.TYPES,
    admission.TYPES,
)
"""Every builtin type by name."""
