"""The roles that manifests/rbac grants, made from what each package says it asks of the API server."""
