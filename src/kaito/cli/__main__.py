"""`python -m kaito.cli`, the same as the `kaito` command."""

from kaito.cli.main import main

main()
