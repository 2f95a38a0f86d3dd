"""What of a status is news, and is sent to the API server."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Status = dict[str, Any]

HEARTBEAT_SECONDS = 60
"""A status in which only times have moved on is written once in so long."""


def merge_patch(before: Mapping[str, Any], now: Status) -> Status | None:
    """What to send so that the status becomes `now`; nothing where no more than a heartbeat has moved."""
    if not _is_news(before, now):
        return None
    return {**{name: None for name in before if name not in now}, **now}


def _is_news(before: Mapping[str, Any], now: Status) -> bool:
    if _without_times(before) != _without_times(now):
        return True
    old, new = _newest_heartbeat(before), _newest_heartbeat(now)
    if new is None or old is None:
        return new != old
    return (new - old).total_seconds() >= HEARTBEAT_SECONDS


def _without_times(status: Mapping[str, Any]) -> Status:
    sites = [
        {name: value for name, value in site.items() if name not in ("lastHeartbeatTime", "etaSeconds")}
        for site in status.get("sites") or ()
    ]
    return {**status, "sites": sites, "etaSeconds": None}


def _newest_heartbeat(status: Mapping[str, Any]) -> datetime | None:
    times = [site["lastHeartbeatTime"] for site in status.get("sites") or () if "lastHeartbeatTime" in site]
    return max(map(datetime.fromisoformat, times), default=None)
