"""Other KAITO operators and provisioners in the cluster: two that write the same objects undo one another's work.

`rules` tells from Deployments, Leases and webhook configurations who else is there, `check` looks at the start and
refuses, `newcomers` notices one that is installed later, `rights` are what this takes.
"""

from kaito.cli.beside.check import BesideCheck, add_check
from kaito.cli.beside.newcomers import watch_newcomers
from kaito.cli.beside.rules import Installation

__all__ = ["BesideCheck", "Installation", "add_check", "watch_newcomers"]
