"""What the watches show of one federation, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.manifests.manifest import Site
from segviz_operator.manifests.problem import InvalidManifest


@dataclass(frozen=True)
class Seen:
    raw: Mapping[str, Any]
    """The federation as the API server holds it."""
    jobs: tuple[JobSeen, ...]
    sites: Mapping[tuple[str, str], Site | InvalidManifest]
    """By namespace and name: those of the sites it names that there are, or why one cannot be read."""
    newer_than: float
    """Records read before this moment (monotonic) may lack what a Job wrote before it ended."""
