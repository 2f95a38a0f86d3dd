"""What a study leaves for its report: which runs were its rows, and what they are compared with.

Written by the runner (operator), read by the report (trainer).
"""

import msgspec

from segviz_exchange.contract.run import RunHere

INDEX = "study.json"
"""In the study's folder."""


class StudyIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    name: str
    """namespace/name"""
    rows: tuple[RunHere, ...]
    """Those that have begun, in the order of the manifest."""
    planned: tuple[str, ...]
    """Names of all rows."""
    baseline: str | None
    central: str | None
    worst_cases: int
