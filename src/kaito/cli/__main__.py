"""The `kaito` command, and `python -m kaito.cli`: Ctrl-C ends it without a traceback even while it still loads."""

import sys

_EXTRAS = ("jinja2", "pydantic", "typer", "yaml")
"""What the command imports and the distribution without extras does not bring."""


def main() -> None:
    try:
        try:
            from kaito.cli.main import main as run
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRAS:
                raise
            sys.exit(
                f"kaito: the command needs {error.name}, and only kaito.runtime is installed. Install an extra: "
                "kaito[local] for `kaito local`, kaito[testing] for its API server alone, kaito[operator] for the rest."
            )
        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
