"""Builds the container images of `images/`: `make images`."""
