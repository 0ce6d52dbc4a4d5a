"""Alerts on what users asked for."""

from __future__ import annotations

from hack.alerts.model import Alert, Group

_MEASURED = (
    'sum by (namespace, pod) (kaito_model_memory_bytes{part="weights"}) * on (namespace, pod) group_left (preset) '
    'max by (namespace, pod, preset) (kaito_model_info{stand_in=""})'
)
_PLANNED = (
    'sum by (preset_name) (kaito_workspace_gpu_memory_planned_bytes{part=~"weights|adapters"}) '
    "/ (sum by (preset_name) (kaito_workspace_gpu_memory_planned_nodes) > 0)"
)
"""Bytes of one node, by preset: what servers measured, and what nodes were counted for."""

GROUP = Group(
    "kaito-workspaces",
    "Workspaces and Adapters that do not become, or stay, what their users asked for.",
    (
        Alert(
            "KaitoWorkspaceInterrupted",
            "sum(kaito_workspace_interrupted) > 0",
            "5m",
            "critical",
            "Models that were served are not served any more.",
            "{{ $value }} Workspaces were ready before and have not been for 5 minutes.",
        ),
        Alert(
            "KaitoWorkspaceStuckPending",
            'max(kaito_workspace_phase_oldest_seconds{phase="pending"}) > 3600',
            "5m",
            "warning",
            "A Workspace has been starting for more than an hour.",
            "The Workspace that has been pending longest has been so for {{ $value | humanizeDuration }}. "
            "Its REASON says what it waits for.",
        ),
        Alert(
            "KaitoWorkspaceError",
            'sum(kaito_workspace_count{phase="error"}) > 0',
            "15m",
            "warning",
            "Workspaces wait for a person.",
            "{{ $value }} Workspaces cannot go on by themselves; the REASON of each says why.",
        ),
        Alert(
            "KaitoWorkspaceStuckDeleting",
            'max(kaito_workspace_phase_oldest_seconds{phase="deleting"}) > 1800',
            "5m",
            "warning",
            "A Workspace cannot be deleted.",
            "A Workspace has been on its way out for {{ $value | humanizeDuration }}; its machines may "
            "still cost money.",
        ),
        Alert(
            "KaitoGpuMemoryTooSmall",
            "sum by (preset_name) (kaito_workspace_gpu_memory_estimated_bytes)"
            " > sum by (preset_name) (kaito_workspace_gpu_memory_capacity_bytes)",
            "10m",
            "warning",
            "Models run on GPUs that are smaller than the catalogue's estimate.",
            "Serving {{ $labels.preset_name }} needs {{ $value | humanize1024 }}B by the catalogue, and "
            "its nodes have less. It may run out of memory with long requests.",
        ),
        Alert(
            "KaitoWeightsLargerThanPlanned",
            f"avg by (preset) ({_MEASURED}) / on (preset) "
            f'sum by (preset) (label_join({_PLANNED}, "preset", "", "preset_name")) > 1.1',
            "30m",
            "info",
            "Weights take more GPU memory than nodes were counted for.",
            "Weights of {{ $labels.preset }} take {{ $value | humanizePercentage }} of what was planned, and less is "
            "left for requests.",
        ),
        Alert(
            "KaitoAdapterUnreadable",
            'sum(kaito_adapter_count{state="failed"}) > 0',
            "30m",
            "warning",
            "Adapters cannot be read.",
            "{{ $value }} Adapters have failed for 30 minutes; Workspaces that name them are not served "
            "with them.",
        ),
    ),
)
