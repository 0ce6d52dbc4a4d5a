"""`kaito models`: the models that a Workspace may name."""
