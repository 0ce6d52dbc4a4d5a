"""KAITO's API: the custom resources as pydantic models, their conditions, labels and names.

The models are the source of `manifests/crd*/` (`python -m kaito.api.generate`) and give controllers a
read view of each object. Writes are built from plain dicts, never by dumping a model.
"""
