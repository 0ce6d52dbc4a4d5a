"""The kinds Kubernetes itself brings, as tables (fields, merge keys, wire numbers) and rules."""
