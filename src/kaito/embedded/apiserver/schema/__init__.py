"""Structural schemas of CustomResourceDefinitions: pruning, defaults, validation and CEL rules."""
