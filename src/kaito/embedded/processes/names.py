"""Names that the local mode's processes agree on."""

from __future__ import annotations

CONTEXT = "kaito-local"
"""Name of the context in the written kubeconfig."""

KUBELET_TOKEN_VARIABLE = "KAITO_KUBELET_TOKEN"
"""Environment variable with the secret that API server and kubelet share."""
