"""The report as a table for people and as JSON for programs."""

from __future__ import annotations

from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from kaito.cli.quota.report import Offer, Report, Row

NAMED: Final = 4
"""Models that a cell names."""


def as_json(report: Report) -> dict[str, Any]:
    """Cores are numbers; `free` may be below 0 where a limit was lowered."""
    return {
        "location": report.location,
        "quotaPage": report.quota_page,
        "families": [
            {
                **_figures(row),
                "sizes": [_size(offer) for offer in row.sizes],
                "presets": list(row.presets),
            }
            for row in report.families
        ],
        "totals": [_figures(row) for row in report.totals],
    }


def _figures(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "limit": row.limit,
        "used": row.used,
        "promised": row.promised,
        "waiting": row.waiting,
        "free": row.free,
    }


def _size(offer: Offer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": offer.name,
        "cores": offer.cores,
        "gpus": offer.gpus,
        "fits": offer.fits,
    }
    return {**found, "restricted": offer.restricted} if offer.restricted else found


def show(report: Report, console: Console) -> None:
    """Prints it. Cores are what Azure counts; a machine takes all that stand beside its size."""
    table = Table(box=box.SIMPLE_HEAD, title=f"vCPUs in {report.location}", title_justify="left")
    table.add_column("FAMILY", overflow="fold")
    for name in ("LIMIT", "USED", "PROMISED", "WAITING", "FREE"):
        table.add_column(name, justify="right")
    table.add_column("SIZES (vCPUs)", no_wrap=True)
    table.add_column("MODELS THAT FIT", overflow="fold")
    for row in (*report.families, *report.totals):
        numbers = [str(value) for value in (row.limit, row.used, row.promised, row.waiting)]
        free = f"[red]{row.free}[/red]" if row.free <= 0 else f"[green]{row.free}[/green]"
        table.add_row(
            _short(row.title), *numbers, free, _sizes(row), _presets(row), end_section=row is _last(report)
        )
    console.print(table)
    if not report.families:
        console.print(
            f"Azure offers no size with GPUs in {report.location}; `az account list-locations --output table` has the "
            "names of all regions.",
            soft_wrap=True,
            highlight=False,
        )
    console.print(f"Raise a quota: {report.quota_page}", soft_wrap=True, highlight=False)


def _short(title: str) -> str:
    """A family's name without the words that stand in each of them."""
    for word in ("Total Regional ", "Standard ", "standard", "Standard"):
        title = title.removeprefix(word)
    return title.removesuffix(" vCPUs").removesuffix(" Family") if "Family" in title else f"all {title}"


def _last(report: Report) -> Row | None:
    return report.families[-1] if report.families else None


def _sizes(row: Row) -> str:
    return "\n".join(
        f"{offer.name.removeprefix('Standard_')} ({offer.cores})"
        + (" not available" if offer.restricted else "")
        for offer in row.sizes
    )


def _presets(row: Row) -> str:
    more = len(row.presets) - NAMED
    names = [*row.presets[:NAMED], *([f"and {more} more"] if more > 0 else [])]
    return "\n".join(names) or ("" if not row.sizes else "none")
