"""Ages as kubectl shows them: two units at most, coarser the longer they are."""

from __future__ import annotations

from datetime import datetime

from kaito.runtime.clock import parse_time

UNKNOWN = "<unknown>"
INVALID = "<invalid>"

_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def _two(major: int, unit: str, minor: int, minor_unit: str) -> str:
    return f"{major}{unit}{minor}{minor_unit}" if minor else f"{major}{unit}"


def human_duration(seconds: float) -> str:
    """119s, 5m30s, 42m, 5h12m, 30h, 3d4h, 90d, 3y20d: the ranges are kubectl's."""
    whole = int(seconds)
    if whole < -1:
        return INVALID
    whole = max(0, whole)
    minutes, hours, days = whole // _MINUTE, whole // _HOUR, whole // _DAY
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % _MINUTE, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def age(stamp: object, now: datetime, *, missing: str = UNKNOWN) -> str:
    """The time since an RFC 3339 stamp; `missing` where there is none."""
    if not stamp:
        return missing
    try:
        return human_duration((now - parse_time(str(stamp))).total_seconds())
    except ValueError:
        return INVALID
