"""Stands in for vLLM where it is not installed: its command line and those of its routes that our own lean on.

The command line is checked with what was read off vLLM's parser, so a flag that vLLM doesn't have ends it, too. Models
are computed by mistralrs. What it answers has vLLM's shape, but only the fields that tests look at.
"""

__version__ = "0.0+stand-in"
