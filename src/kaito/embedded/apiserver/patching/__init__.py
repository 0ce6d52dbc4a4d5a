"""Changing objects: the four patch types, and who owns which field (`metadata.managedFields`)."""
