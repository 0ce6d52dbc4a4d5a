"""How long a newcomer waits: from `kaito demo` to the first answer of `/chat`, and until the API server serves.

    python -m bench.first_answer [--runs 3]

Each run starts in an empty folder and tears everything down. JSON on standard output; exit status 1 where a limit is
missed (first answer 60 s, API server 1 s).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from kaito import __version__

FIRST_ANSWER_LIMIT = 60.0
API_SERVER_LIMIT = 1.0


def demo_seconds() -> float:
    """Seconds from start to first answer, as the demo itself tells."""
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as folder:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "kaito.cli", "demo"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        answered = 0.0
        for line in process.stdout:
            if not answered and re.match(r"First answer \d+ s", line):
                answered = time.perf_counter() - begun
        if process.wait() or not answered:
            raise SystemExit("kaito demo failed; run it by hand to see why")
        return answered


def api_server_seconds() -> float:
    """Seconds from process start to the API server's ready line, imports included."""
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as folder:
        begun = time.perf_counter()
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "kaito.embedded.processes.apiserver",
                f"--kubeconfig={Path(folder) / 'kubeconfig'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            served = time.perf_counter() - begun
            process.terminate()
        return served


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    demo = [demo_seconds() for _ in range(runs)]
    server = [api_server_seconds() for _ in range(runs)]
    result: dict[str, Any] = {
        "kaito": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "first_answer_seconds": {
            "median": statistics.median(demo),
            "runs": demo,
            "limit": FIRST_ANSWER_LIMIT,
        },
        "api_server_seconds": {
            "median": statistics.median(server),
            "runs": server,
            "limit": API_SERVER_LIMIT,
        },
    }
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    if statistics.median(demo) > FIRST_ANSWER_LIMIT or statistics.median(server) > API_SERVER_LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()
