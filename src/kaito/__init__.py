"""KAITO in Python: the Kubernetes AI toolchain operator."""

__version__ = "0.1.0"
