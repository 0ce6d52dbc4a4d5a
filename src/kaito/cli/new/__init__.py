"""`kaito new`: a Workspace to begin with."""
