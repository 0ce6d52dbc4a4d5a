"""The JSON about GPU or CPU load that `/metrics` used to be, now at `/metrics.json`.

Without any library: nvidia-smi where there is one, /proc on Linux, sysctl and vm_stat on macOS. What can't be found
out is null.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

#: Seconds over which the CPU load is measured.
SAMPLE_SECONDS = 1.0
_GIB = 1024.0**3
_MIB = 1024.0**2


def report() -> dict[str, Any]:
    """{"gpu_info": [...] or null, "cpu_info": {...} or null}; exactly one of them is set. Blocks for a second."""
    gpus = _gpus()
    return {"gpu_info": gpus, "cpu_info": None if gpus else _cpu()}


def _run(*command: str) -> str:
    """Output of a command that is part of the system; "" when it isn't there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _gpus() -> list[dict[str, Any]] | None:
    fields = "uuid,name,utilization.gpu,temperature.gpu,memory.used,memory.total"
    output = _run("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    return parse_gpus(output) or None


def parse_gpus(output: str) -> list[dict[str, Any]]:
    """Lines of nvidia-smi (memory in MiB, load in per cent, temperature in °C) in the shape of the old endpoint."""
    found = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 6:
            continue
        uuid, name, load, temperature, used, total = cells
        found.append(
            {
                "id": uuid,
                "name": name,
                "load": f"{_number(load):.2f}%",
                "temperature": f"{_number(temperature):.0f} C",
                "memory": {"used": _gb(_number(used) * _MIB), "total": _gb(_number(total) * _MIB)},
            }
        )
    return found


def _number(text: str) -> float:
    """nvidia-smi writes [N/A] for what a device does not report."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _gb(size: float) -> str:
    return f"{size / _GIB:.2f} GB"


def _cpu() -> dict[str, Any]:
    total, used = _memory()
    return {
        "load_percentage": _load(),
        "physical_cores": _physical_cores(),
        "total_cores": os.cpu_count(),
        "memory": {
            "used": None if used is None else _gb(used),
            "total": None if total is None else _gb(total),
        },
    }


def _load() -> float:
    """Per cent over the last second where /proc tells, else of the last minute, per core."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return round(min(100.0, 100.0 * os.getloadavg()[0] / (os.cpu_count() or 1)), 1)

    def ticks() -> tuple[int, int]:
        values = [int(value) for value in stat.read_text().split("\n", 1)[0].split()[1:9]]
        return sum(values), values[3] + values[4]

    before, idle_before = ticks()
    time.sleep(SAMPLE_SECONDS)
    after, idle_after = ticks()
    passed = max(1, after - before)
    return round(100.0 * (passed - (idle_after - idle_before)) / passed, 1)


def _physical_cores() -> int | None:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        cores = set(re.findall(r"physical id\s*: (\d+).*?core id\s*: (\d+)", cpuinfo.read_text(), re.DOTALL))
        return len(cores) or None
    text = _run("sysctl", "-n", "hw.physicalcpu").strip()
    return int(text) if text.isdecimal() else None


def _memory() -> tuple[float | None, float | None]:
    """(total, used) in bytes."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        kib = {
            name: int(value)
            for name, value in re.findall(r"^(\w+):\s+(\d+)", meminfo.read_text(), re.MULTILINE)
        }
        return kib["MemTotal"] * 1024.0, (kib["MemTotal"] - kib.get("MemAvailable", kib["MemFree"])) * 1024.0
    text = _run("sysctl", "-n", "hw.memsize").strip()
    total = float(text) if text.isdecimal() else None
    pages = _run("vm_stat")
    size = re.search(r"page size of (\d+) bytes", pages)
    free = sum(int(value) for value in re.findall(r"Pages (?:free|inactive|speculative):\s+(\d+)", pages))
    if total is None or size is None:
        return total, None
    return total, total - free * float(size[1])
