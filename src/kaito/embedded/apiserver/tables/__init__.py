"""Server-side printing: the rows and columns that `kubectl get` shows."""
