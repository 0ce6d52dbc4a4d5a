"""Structural schemas of CustomResourceDefinitions: pruning, defaults, validation and CEL rules."""

from kaito.embedded.apiserver.schema import quick_cel as quick_cel
