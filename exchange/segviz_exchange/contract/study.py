"""What a study leaves for its report: which federations were its rows, and where their sites' images lie.

Written by the runner (operator), read by the report (trainer).
"""

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec

INDEX = "study.json"
"""In the study's folder."""


class StudySite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A site of a row on this machine."""

    spec: SiteSpec
    data_root: str
    state: str
    """Relative to the study's folder."""


class StudyRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One federation of the study."""

    name: str
    store: str
    """Relative to the study's folder."""
    prefix: str
    sites: dict[str, StudySite]
    """Training and external sites by alias."""


class StudyIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    name: str
    """namespace/name"""
    rows: tuple[StudyRow, ...]
    """Those that have begun, in the order of the manifest."""
    planned: tuple[str, ...]
    """Names of all rows."""
    baseline: str | None
    central: str | None
    worst_cases: int
