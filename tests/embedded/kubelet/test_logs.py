"""Log files: what is written, and what `kubectl logs` makes of it."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaito.embedded.kubelet import logs
from kaito.embedded.kubelet.logs import LogOptions, LogWriter, older, read_log
from kaito.runtime.testing.virtual import VirtualClock


async def show(path: Path, writer: LogWriter | None = None, **options: object) -> str:
    chosen = LogOptions(**options)  # type: ignore[arg-type]
    return b"".join([piece async for piece in read_log(path, chosen, writer)]).decode()


async def test_lines_timestamps_tail_since(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "0.log", virtual_clock)
    writer.write(1, b"one\ntwo\nth")
    await virtual_clock.sleep(2)
    since = virtual_clock.wall()
    writer.write(2, b"err\n")
    writer.write(1, b"ree\n")
    writer.close()
    assert await show(writer.path) == "one\ntwo\nerr\nthree\n"
    assert await show(writer.path, tail=2) == "err\nthree\n"
    assert await show(writer.path, tail=0) == ""
    assert await show(writer.path, since=since) == "err\nthree\n"
    assert await show(writer.path, limit_bytes=5) == "one\nt"
    stamped = (await show(writer.path, timestamps=True)).splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["one", "two", "err", "three"]
    assert datetime.fromisoformat(stamped[0].split(" ")[0]).tzinfo == UTC


async def test_output_without_a_line_end_is_not_lost(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "0.log", virtual_clock)
    writer.write(1, b"prompt> ")
    assert await show(writer.path, writer) == "prompt> "
    writer.write(1, b"answer\nlast")
    writer.close()
    assert await show(writer.path) == "prompt> answer\nlast"
    assert await show(writer.path, tail=1) == "last"
    assert await show(writer.path, tail=2) == "prompt> answer\nlast"


async def test_a_full_disk_costs_lines_and_nothing_else(
    virtual_clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    writer = LogWriter(tmp_path / "0.log", virtual_clock)
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        writer.write(1, b"lost\nlost, too")
        writer.flush()
    writer.write(1, b"kept\n")
    writer.close()
    assert await show(writer.path) == "kept\n"


async def test_follow_sees_everything_once_and_ends(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "0.log", virtual_clock)
    writer.write(1, b"0\n1\n")
    following = asyncio.create_task(show(writer.path, writer, follow=True))
    for number in range(2, 50):
        await virtual_clock.sleep(number % 3)
        writer.write(1, f"{number}\n".encode())
    writer.close()
    assert await following == "".join(f"{number}\n" for number in range(50))


async def test_files_are_cut_and_followers_go_on(
    virtual_clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_FILE", 2000)
    writer = LogWriter(tmp_path / "0.log", virtual_clock)
    following = asyncio.create_task(show(writer.path, writer, follow=True))
    for number in range(100):
        writer.write(1, f"line {number}\n".encode())
        await virtual_clock.sleep(1)
    writer.close()
    assert (await following).count("\n") == 100
    assert writer.generation > 1
    assert older(writer.path).stat().st_size <= 2000
    assert (await show(writer.path)).endswith("line 99\n")


async def test_very_long_lines_are_written_in_pieces(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "0.log", virtual_clock)
    text = b"x" * 50_000
    for start in range(0, len(text), 7000):
        writer.write(1, text[start : start + 7000])
    assert b" P " in writer.path.read_bytes(), "memory stays bounded before the line ends"
    writer.write(1, b"\n")
    writer.close()
    assert await show(writer.path) == text.decode() + "\n"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"tailLines": "-1"}, "tailLines: invalid value '-1'"),
        ({"sinceSeconds": "x"}, "sinceSeconds: invalid value 'x'"),
        ({"sinceTime": "yesterday"}, "sinceTime: "),
        ({"sinceSeconds": "5", "sinceTime": "2026-01-01T00:00:00Z"}, "at most one"),
    ],
)
def test_bad_options_are_named(query: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogOptions.of(query, datetime(2026, 1, 1, tzinfo=UTC))
