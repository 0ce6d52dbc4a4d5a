"""docs/decisions: every page is in the index under its number, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"


def test_the_index_names_every_page_once_in_order() -> None:
    pages = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    index = re.findall(
        r"^\| \[(\d{3})\]\(([\w.-]+)\) \|", (DECISIONS / "README.md").read_text(), re.MULTILINE
    )
    assert [name for _, name in index] == pages
    assert all(name.startswith(f"{number}-") for number, name in index)


def test_every_page_begins_with_its_number() -> None:
    for path in DECISIONS.glob("[0-9]*.md"):
        assert path.read_text().startswith(f"# {path.name[:3]}"), path.name


def test_links_between_pages_lead_somewhere() -> None:
    for path in DECISIONS.glob("*.md"):
        for link in re.findall(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
