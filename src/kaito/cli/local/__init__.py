"""`kaito local`: a Kubernetes for one machine, with the operator in it."""
