"""The results of `bench.runtime` as a table: for the terminal, and in Markdown for bench/README.md.

    python -m bench.runtime.report bench/results/runtime-2-cores.json [--write]

`--write` puts the Markdown between the two marks in bench/README.md; without it, it is printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.runtime.common import ROOT, Row

README = ROOT / "bench/README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def text(answers: list[Row]) -> str:
    """One line for each limit."""
    lines = [f"{'measure':66} {'limit':>16} {'measured':>10} {'peer':>10} {'ratio':>7}"]
    for answer in answers:
        if "broken" in answer:
            lines.append(f"{answer['bench']}: broken: {answer['broken']}")
        for row in answer["limits"]:
            peer = "" if row["peer"] is None else _short(row["peer"])
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            missed = "" if row["met"] else "  MISSED"
            measured = _short(row["measured"])
            lines.append(
                f"{row['measure']:66} {row['limit']:>16} {measured:>10} {peer:>10} {ratio:>7}{missed}"
            )
    return "\n".join(lines)


def markdown(result: Row) -> str:
    """What was measured with, every limit, and the medians that have none."""
    versions = result["versions"]
    load = sorted(
        answer["versions"]["load_average"][0] for answer in result["benches"] if "versions" in answer
    )
    span = f"{load[0]:.1f} to {load[-1]:.1f}" if load else "unknown"
    servers = {answer.get("kube_apiserver") for answer in result["benches"]} - {None}
    parts = [
        f"`results/runtime-2-cores.json`: {versions['cores']} cores, Linux {versions['kernel']}, load average {span} "
        f"(the benches' own included), Python {versions['python']}, aiohttp {versions['aiohttp']}, msgspec "
        f"{versions['msgspec']}, Go {versions['go']}, controller-runtime {versions['controller-runtime']}, kopf "
        f"{versions['peers: kopf']}, kubernetes_asyncio {versions['peers: kubernetes_asyncio']}, kube-apiserver "
        f"{', '.join(sorted(servers)) or 'not used'}.",
        "",
        "| measure | limit | measured | peer | ratio |",
        "|---|---|---|---|---|",
    ]
    for answer in result["benches"]:
        for row in answer["limits"]:
            peer = "" if row["peer"] is None else _short(row["peer"])
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            missed = "" if row["met"] else " **missed**"
            parts.append(
                f"| {row['measure']} | {row['limit']} | {_short(row['measured'])}{missed} | {peer} | {ratio} |"
            )
    parts += ["", "Beside the limits:", "", "| bench | contender | medians |", "|---|---|---|"]
    for answer in result["benches"]:
        for contender, numbers in answer.get("median", {}).items():
            if answer["bench"] in ("sync", "footprint", "noop", "work_queue"):
                parts.append(f"| {answer['bench']} | {contender} | {_numbers(numbers)} |")
    return "\n".join(parts)


UNITS = {
    "seconds": ("", " s"),
    "idle_mib": ("idle ", " MiB"),
    "peak_mib": ("peak ", " MiB"),
    "kib_per_object": ("", " KiB per object"),
    "per_second": ("", "/s"),
    "mib": ("", " MiB"),
    "modules": ("", " modules"),
    "single_us": ("one key ", " us"),
    "many_us": ("many keys ", " us"),
    "priority_single_us": ("priority queue, one key ", " us"),
    "priority_many_us": ("many keys ", " us"),
    "classic_single_us": ("classic queue, one key ", " us"),
    "classic_many_us": ("many keys ", " us"),
}
"""What is shown of the medians, with words before and after."""


def _numbers(numbers: Row) -> str:
    return ", ".join(
        f"{before}{_short(numbers[name])}{after}"
        for name, (before, after) in UNITS.items()
        if name in numbers
    )


def _short(number: float) -> str:
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def write(result: Row) -> None:
    """Replaces what stands between the marks in bench/README.md."""
    page = README.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{markdown(result)}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true", help="into bench/README.md")
    chosen = parser.parse_args()
    result: Row = json.loads(chosen.file.read_text())
    if chosen.write:
        write(result)
    else:
        print(markdown(result))


if __name__ == "__main__":
    main()
