"""Writes Argo CD's health checks, and the ConfigMap patch that holds them, from Lua here and from kaito.api.reasons."""
