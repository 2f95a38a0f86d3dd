"""What a Pod says of itself: how it ended, or why it does not run."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from segviz_exchange.process.words import plain

_LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d[T ]\S+ [A-Z]+ ")
_MESSAGE_LENGTH = 1000


@dataclass(frozen=True)
class End:
    """How a Job's Pod ended."""

    exit_code: int | None
    message: str


@dataclass(frozen=True)
class Waiting:
    """Why a Job's Pod does not run."""

    message: str = ""
    """Empty where it runs, or merely starts."""
    stuck: str = ""
    """PodMissing or PodStuck, where that has lasted too long; else empty."""


def end_of(pods: Iterable[Mapping[str, Any]], container: str) -> End | None:
    """How the newest Pod's container of that name ended: a service mesh's beside it ends as it likes."""
    for pod in sorted(pods, key=lambda each: each["metadata"]["creationTimestamp"], reverse=True):
        for each in (pod.get("status") or {}).get("containerStatuses") or ():
            ended = (each.get("state") or {}).get("terminated")
            if ended and each.get("name") == container:
                said = last_words(ended.get("message") or "")
                reason = ended.get("reason", "")
                message = said or ("" if reason in ("Error", "Completed") else reason)
                if reason == "OOMKilled":
                    message = "out of memory (OOMKilled); raise the memory limit"
                return End(ended.get("exitCode"), message)
        reason = (pod.get("status") or {}).get("reason")
        if reason:
            return End(None, f"{reason}: {pod['status'].get('message', '')}".rstrip(": "))
    return None


def waiting_reason(pods: Iterable[Mapping[str, Any]]) -> str:
    """Why a Pod does not run yet; empty where it merely starts."""
    for pod in pods:
        status = pod.get("status") or {}
        # A service mesh's sidecar is an init container that stays; ours waits for it.
        containers = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
        for container in containers:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if (reason := waiting.get("reason", "")) not in ("", "ContainerCreating", "PodInitializing"):
                return shortened(f"{reason}: {waiting.get('message', '')}".rstrip(": "))
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                reason, message = condition.get("reason", ""), condition.get("message", "")
                return shortened(f"{reason}: {message}".rstrip(": "))
    return ""


def last_words(text: str) -> str:
    """The last thing a Pod said: the last log entry, JSON or not, or the last line of a traceback."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    last = lines[-1].strip()
    try:
        entry = json.loads(last)
        last = str(entry.get("message") or entry.get("event") or last)
    except (ValueError, AttributeError):
        last = _LOG_PREFIX.sub("", last)
    return shortened(last)


def shortened(text: str) -> str:
    return plain(text, _MESSAGE_LENGTH)
