"""What a study leaves for its report: which runs were its rows, and what they are compared with.

Written by the runner (operator), read by the report (trainer).
"""

import msgspec

from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.run import RunHere

INDEX = "study.json"
"""In the study's folder."""


class KeptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Scores of a row and fold that ran before, perhaps elsewhere, and what its manifest says it was."""

    row: str
    fold: int
    path: str
    """Relative to the index's folder, or whole."""
    algorithm: AlgorithmName
    objective: Objective
    rounds: int
    owners: dict[str, tuple[str, ...]]
    """By organ."""


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
    under_test: str | None = None
    """The federated method that was named before it ran."""
    folds: int | None = None
    """How many there are, where cases rotate."""
    kept: tuple[KeptFile, ...] = ()
