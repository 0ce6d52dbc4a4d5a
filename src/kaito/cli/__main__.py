"""The `kaito` command, and `python -m kaito.cli`: Ctrl-C ends it without a traceback even while it still loads."""

import sys


def main() -> None:
    try:
        from kaito.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
