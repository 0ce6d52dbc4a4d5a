"""The printers of the builtin kinds, by group and kind."""

from __future__ import annotations

from kaito.embedded.apiserver.tables import cluster, network, workloads
from kaito.embedded.apiserver.tables.pods import PODS
from kaito.embedded.apiserver.tables.printer import Printer

BUILTIN: dict[tuple[str, str], Printer] = {
    ("", "Pod"): PODS,
    **workloads.PRINTERS,
    **network.PRINTERS,
    **cluster.PRINTERS,
}
