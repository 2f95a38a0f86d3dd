"""A dashboard's parts, as data."""

from dataclasses import dataclass
from enum import StrEnum


class Marker(StrEnum):
    """Why a panel may be empty in a healthy run."""

    FAILURE_ONLY = "failure-only"
    GPU_ONLY = "gpu-only"
    CLUSTER_ONLY = "cluster-only"


class Shape(StrEnum):
    TIME = "time"
    BARS = "stacked bars over time"
    STAT = "stat"
    GAUGE = "bar gauge"
    TABLE = "table"
    STATES = "state timeline"


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: str
    """Of Grafana's."""
    queries: tuple[Query, ...]
    runbook: str
    """A page of docs/how-to/runbooks."""
    shape: Shape = Shape.TIME
    width: int = 12
    """Of 24."""
    height: int = 8
    marker: Marker | None = None
    states: tuple[str, ...] = ()
    """Names of the values 1, 2, … of a state timeline."""


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


F = 'federation_namespace=~"$namespace",federation=~"$federation"'
S = f'{F},site=~"$site"'
FEDERATION_LEGEND = "{{federation_namespace}}/{{federation}}"


def coded(metric: str, selector: str, phases: tuple[str, ...], by: str) -> str:
    """The phase as its place in the list, counted from 1: a state timeline draws numbers."""
    terms = (
        f'{number} * {metric}{{{selector},phase="{phase}"}}' for number, phase in enumerate(phases, start=1)
    )
    return f"max by ({by}) ({' or '.join(terms)})"


def query(expr: str, legend: str = "{{site}}") -> tuple[Query, ...]:
    return (Query(expr, legend),)
