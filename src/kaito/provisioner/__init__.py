"""Clouds: what a provider must do (`CloudProvider`), what can go wrong (`errors`), and the providers themselves."""

from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance
from kaito.provisioner.errors import CloudError

__all__ = ["ClaimSpec", "CloudError", "CloudProvider", "Instance"]
