"""Models of the Hugging Face hub that the catalogue does not have: asked about, and made an entry of it.

`kaito.catalog.hub.client` alone goes to the network; it is imported where it is used.
"""

from kaito.catalog.hub.errors import ACCESS_DENIED, NOT_FOUND, UNREACHABLE, UNSUPPORTED, HubError
from kaito.catalog.hub.model import Answers, is_hub_id, known_architectures, preset_of

__all__ = [
    "ACCESS_DENIED",
    "NOT_FOUND",
    "UNREACHABLE",
    "UNSUPPORTED",
    "Answers",
    "HubError",
    "is_hub_id",
    "known_architectures",
    "preset_of",
]
