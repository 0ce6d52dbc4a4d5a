"""All benches one after another, and a table of their limits. See `bench.runtime`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from bench.runtime import report
from bench.runtime.common import ROOT, Row, peers, versions

BENCHES = (
    "sync",
    "footprint",
    "noop",
    "work_queue",
    "latency",
    "stalls",
    "contention",
    "selection",
    "day",
)


def measured(bench: str, *, quick: bool) -> Row:
    """One bench's answer; where it broke, one without numbers. What it says on the way is shown as it comes."""
    command = [sys.executable, "-m", f"bench.runtime.{bench}", *(["--quick"] if quick else [])]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    try:
        row: Row = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        row = {"bench": bench, "broken": f"exit status {done.returncode}", "limits": []}
    return {**row, "wall_seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer runs: about 3 minutes")
    parser.add_argument("--only", default=",".join(BENCHES), help=f"comma list of {', '.join(BENCHES)}")
    parser.add_argument("--out", type=Path, help="where the JSON goes; default: standard output")
    chosen = parser.parse_args()
    wanted = [name for name in chosen.only.split(",") if name]
    if unknown := sorted(set(wanted) - set(BENCHES)):
        parser.error(f"--only: {', '.join(unknown)}: write a comma list of {', '.join(BENCHES)}")
    peers()
    found, answers, text = versions(), [], ""
    for bench in wanted:
        print(f"{bench} …", file=sys.stderr, flush=True)
        answers.append(measured(bench, quick=chosen.quick))
        print(f"  {answers[-1]['wall_seconds']:.0f} s", file=sys.stderr, flush=True)
        text = json.dumps({"quick": chosen.quick, "versions": found, "benches": answers}, indent=1)
        if chosen.out is not None:  # also what there is so far
            chosen.out.parent.mkdir(parents=True, exist_ok=True)
            chosen.out.write_text(text + "\n")
    if chosen.out is None:
        print(text)
    print(report.text(answers), file=sys.stderr)
    kept = all("broken" not in answer and all(row["met"] for row in answer["limits"]) for answer in answers)
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
